/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels with 256-bit VNNI. The including file defines TARGET, DPBUSD and EFL_FN: the same text
 * makes the VEX form (AVX-VNNI) and the EVEX form (AVX512-VNNI with VL), which machines without AVX-VNNI can
 * run. 6 pixels x 16 columns in 12 registers.
 */
#include "arch/fwd_avx2.h"

EFL_INLINE TARGET __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

EFL_INLINE TARGET __m256i four(const uint8_t *x)
{
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return _mm256_set1_epi32(bytes);
}

/* Sums before the first product: the bias without 128 times the weights. */
EFL_INLINE TARGET __m256i start(const efl_fwd_job *job, int32_t column)
{
    return _mm256_sub_epi32(load32(job->bias + column), _mm256_slli_epi32(load32(job->sums + column), 7));
}

EFL_INLINE TARGET void finish(const efl_fwd_job *job, const __m256i *acc, int32_t pixel, int32_t column,
                              const int rows)
{
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    EFL_UNROLL
    for (int i = 0; i < rows; i++)
        efl_fwd_store16(job, &clamp, acc[2 * i], acc[2 * i + 1], pixel + i, column);
}

EFL_INLINE TARGET void gemm_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                 const int rows)
{
    const uint8_t *a[6];
    __m256i acc[12];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const uint8_t *)job->x + job->pixels[pixel + i];
        acc[2 * i] = start(job, column);
        acc[2 * i + 1] = start(job, column + 8);
    }
    for (int32_t r = 0; r < job->n_runs; r++) {
        const ptrdiff_t off = job->offs[r], end = off + 4 * job->groups;
        for (ptrdiff_t k = off; k < end; k += 4, w += 64) {
            const __m256i b0 = load32(w), b1 = load32(w + 32);
            EFL_UNROLL
            for (int i = 0; i < rows; i++) {
                const __m256i v = four(a[i] + k);
                acc[2 * i] = DPBUSD(acc[2 * i], v, b0);
                acc[2 * i + 1] = DPBUSD(acc[2 * i + 1], v, b1);
            }
        }
    }
    finish(job, acc, pixel, column, rows);
}

EFL_INLINE TARGET void depth_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                  const int rows)
{
    const uint8_t *a[6];
    __m256i acc[12];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const uint8_t *)job->x + job->pixels[pixel + i] + 4 * column;
        acc[2 * i] = start(job, column);
        acc[2 * i + 1] = start(job, column + 8);
    }
    for (int32_t r = 0; r < job->n_runs; r++, w += 64) {
        const __m256i b0 = load32(w), b1 = load32(w + 32);
        const ptrdiff_t k = job->offs[r];
        EFL_UNROLL
        for (int i = 0; i < rows; i++) {
            acc[2 * i] = DPBUSD(acc[2 * i], load32(a[i] + k), b0);
            acc[2 * i + 1] = DPBUSD(acc[2 * i + 1], load32(a[i] + k + 32), b1);
        }
    }
    finish(job, acc, pixel, column, rows);
}

#define EACH_TILE(tile)                                                                                      \
    do {                                                                                                     \
        const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;                         \
        const int8_t *w = job->w;                                                                            \
        for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel) {                                        \
            int32_t p = 0;                                                                                   \
            for (; p + 6 <= job->n_pixels; p += 6) tile(job, w, p, c, 6);                                    \
            if (job->n_pixels - p >= 4) tile(job, w, p, c, 4), p += 4;                                       \
            if (job->n_pixels - p >= 2) tile(job, w, p, c, 2), p += 2;                                       \
            if (job->n_pixels - p >= 1) tile(job, w, p, c, 1);                                               \
        }                                                                                                    \
    } while (0)

TARGET void EFL_FN(gemm)(const efl_fwd_job *job)
{
    EACH_TILE(gemm_tile);
}

TARGET void EFL_FN(depth)(const efl_fwd_job *job)
{
    EACH_TILE(depth_tile);
}
