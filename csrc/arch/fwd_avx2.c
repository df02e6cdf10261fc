/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels with AVX2. The image is int16: vpmaddwd multiplies four elements of a pixel by the
 * widened weights of four columns (vpmaddubsw would saturate), two sums a column that meet at the end.
 * 6 pixels x 8 columns, or depthwise 3 x 16, in 12 registers.
 */
#if defined(__x86_64__)
#include "arch/fwd_avx2.h"

#define TARGET EFL_AVX2

EFL_INLINE TARGET __m256i weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
}

EFL_INLINE TARGET __m256i four(const int16_t *x)
{
    int64_t all;
    memcpy(&all, x, 8);
    return _mm256_set1_epi64x(all);
}

EFL_INLINE TARGET __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* The sums of eight columns from their two halves, four columns each. */
EFL_INLINE TARGET __m256i joined(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);
}

static TARGET __attribute__((noinline)) void spill(const efl_fwd_job *job, __m256i sums, int32_t pixel,
                                                   int32_t column, int32_t cols)
{
    int32_t line[EFL_NR];
    _mm256_storeu_si256((__m256i *)line, sums);
    job->requant(job->y + (size_t)pixel * job->ldy + column, line, 1, cols, column, job);
}

EFL_INLINE TARGET void put8(int8_t *y, __m128i bytes, int32_t cols)
{
    if (cols == 8) {
        _mm_storel_epi64((__m128i *)y, bytes);
        return;
    }
    int8_t line[8];
    _mm_storel_epi64((__m128i *)line, bytes);
    memcpy(y, line, (size_t)cols);
}

/* rows pixels x 8 columns: half a panel, so that 6 rows fit the registers. w is the half's first group. */
EFL_INLINE TARGET void gemm_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                 const int rows)
{
    const int16_t *a[6];
    __m256i acc[12];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const int16_t *)job->x + job->pixels[pixel + i];
        acc[2 * i] = acc[2 * i + 1] = _mm256_setzero_si256();
    }
    for (int32_t r = 0; r < job->n_runs; r++) {
        const ptrdiff_t off = job->offs[r], end = off + 4 * job->groups;
        for (ptrdiff_t k = off; k < end; k += 4, w += 64) {
            const __m256i b0 = weights(w), b1 = weights(w + 16);
            EFL_UNROLL
            for (int i = 0; i < rows; i++) {
                const __m256i v = four(a[i] + k);
                acc[2 * i] = _mm256_add_epi32(acc[2 * i], _mm256_madd_epi16(v, b0));
                acc[2 * i + 1] = _mm256_add_epi32(acc[2 * i + 1], _mm256_madd_epi16(v, b1));
            }
        }
    }
    const int32_t cols = job->cols - column < 8 ? job->cols - column : 8;
    const __m256i bias = load32(job->bias + column);
    const __m256 mult = _mm256_loadu_ps(job->mult + column);
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    int8_t *y = job->y + (size_t)pixel * job->ldy + column;
    EFL_UNROLL
    for (int i = 0; i < rows; i += 2, y += 2 * job->ldy) {
        const int last = i + 1 < rows ? i + 1 : i;
        const __m256i s0 = _mm256_add_epi32(joined(acc[2 * i], acc[2 * i + 1]), bias);
        const __m256i s1 = _mm256_add_epi32(joined(acc[2 * last], acc[2 * last + 1]), bias);
        if (job->requant) {
            spill(job, s0, pixel + i, column, cols);
            if (last > i) spill(job, s1, pixel + last, column, cols);
            continue;
        }
        const __m128i bytes = efl_fwd_rounded(&clamp, s0, s1, mult, mult);
        put8(y, bytes, cols);
        if (last > i) put8(y + job->ldy, _mm_srli_si128(bytes, 8), cols);
    }
}

EFL_INLINE TARGET void depth_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                  const int rows)
{
    const int16_t *a[3];
    __m256i acc[12];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) a[i] = (const int16_t *)job->x + job->pixels[pixel + i] + 4 * column;
    EFL_UNROLL
    for (int i = 0; i < 4 * rows; i++) acc[i] = _mm256_setzero_si256();
    for (int32_t r = 0; r < job->n_runs; r++, w += 64) {
        const ptrdiff_t k = job->offs[r];
        EFL_UNROLL
        for (int j = 0; j < 4; j++) {
            const __m256i b = weights(w + 16 * j);
            EFL_UNROLL
            for (int i = 0; i < rows; i++) {
                const __m256i v = load32(a[i] + k + 16 * j);
                acc[4 * i + j] = _mm256_add_epi32(acc[4 * i + j], _mm256_madd_epi16(v, b));
            }
        }
    }
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    const __m256i bias0 = load32(job->bias + column), bias1 = load32(job->bias + column + 8);
    EFL_UNROLL
    for (int i = 0; i < rows; i++)
        efl_fwd_store16(job, &clamp, _mm256_add_epi32(joined(acc[4 * i], acc[4 * i + 1]), bias0),
                        _mm256_add_epi32(joined(acc[4 * i + 2], acc[4 * i + 3]), bias1), pixel + i, column);
}

TARGET void efl_fwd_gemm_avx2(const efl_fwd_job *job)
{
    const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;
    const int32_t n = job->n_pixels;
    for (int32_t c = 0; c < job->cols; c += 8) {
        const int8_t *w = job->w + (size_t)(c / EFL_NR) * panel + c % EFL_NR * 4;
        int32_t p = 0;
        for (; p + 6 <= n; p += 6) gemm_tile(job, w, p, c, 6);
        if (n - p >= 4) gemm_tile(job, w, p, c, 4), p += 4;
        if (n - p >= 2) gemm_tile(job, w, p, c, 2), p += 2;
        if (n - p >= 1) gemm_tile(job, w, p, c, 1);
    }
}

TARGET void efl_fwd_depth_avx2(const efl_fwd_job *job)
{
    const size_t panel = (size_t)job->n_runs * EFL_NR * 4;
    const int8_t *w = job->w;
    for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel) {
        int32_t p = 0;
        for (; p + 3 <= job->n_pixels; p += 3) depth_tile(job, w, p, c, 3);
        if (job->n_pixels - p == 2) depth_tile(job, w, p, c, 2);
        if (job->n_pixels - p == 1) depth_tile(job, w, p, c, 1);
    }
}
#else
typedef int efl_fwd_avx2_elsewhere; /* ISO C wants a declaration */
#endif
