/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels with AVX512-VNNI: vpdpbusd multiplies four bytes of a pixel by four weights of each of
 * 16 columns. Tiles of up to 8 pixels x 2 panels; a single panel alternates between two sets of sums, because
 * 8 chains would wait for their own latency.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "nn/fwd.h"
#include "nn/unroll.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

EFL_INLINE TARGET __m512i four(const uint8_t *x)
{
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return _mm512_set1_epi32(bytes);
}

/* Sums before the first product: the bias without 128 times the weights. */
EFL_INLINE TARGET __m512i start(const efl_fwd_job *job, int32_t column)
{
    const __m512i sums = _mm512_loadu_si512(job->sums + column);
    return _mm512_sub_epi32(_mm512_loadu_si512(job->bias + column), _mm512_slli_epi32(sums, 7));
}

/* Rounding of one line of 16 sums. The lower clamp may follow in int8: a float below it rounds to a number
 * below it, or saturates. */
EFL_INLINE TARGET __m512i rounded(__m512i acc, __m512 mult, __m512 hi)
{
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), mult), hi));
}

/* Four lines of 16 int32 -> 64 int8 in order, zero added, not below lo. */
EFL_INLINE TARGET __m512i narrow(const __m512i *v, __m512i zero, __m512i lo)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero);
    const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero);
    return _mm512_permutexvar_epi32(order, _mm512_max_epi8(_mm512_packs_epi16(a, b), lo));
}

static TARGET __attribute__((noinline)) void spill(const efl_fwd_job *job, const __m512i *acc, int32_t pixel,
                                                   int32_t column, int32_t rows, int32_t panels)
{
    for (int32_t p = 0; p < panels; p++, column += EFL_NR) {
        int32_t sums[8 * EFL_NR];
        for (int32_t i = 0; i < rows; i++) _mm512_storeu_si512(sums + i * EFL_NR, acc[i * panels + p]);
        const int32_t cols = job->cols - column < EFL_NR ? job->cols - column : EFL_NR;
        job->requant(job->y + (size_t)pixel * job->ldy + column, sums, rows, cols, column, job);
    }
}

/* acc [rows][panels] -> int8 of pixels `pixel`.. */
EFL_INLINE TARGET void finish(const efl_fwd_job *job, const __m512i *acc, int32_t pixel, int32_t column,
                              const int rows, const int panels)
{
    if (job->requant) {
        spill(job, acc, pixel, column, rows, panels);
        return;
    }
    const __m512 hi = _mm512_set1_ps((float)(job->hi - job->zero));
    const __m512i zero = _mm512_set1_epi16((int16_t)job->zero), lo = _mm512_set1_epi8((int8_t)job->lo);
    __m512 mult[2];
    mult[0] = _mm512_loadu_ps(job->mult + column);
    mult[1] = panels > 1 ? _mm512_loadu_ps(job->mult + column + EFL_NR) : mult[0];
    int8_t *y = job->y + (size_t)pixel * job->ldy + column;
    const size_t ldy = job->ldy;
    const int32_t left = job->cols - column;
    const int full = left >= EFL_NR * panels, lines = rows * panels;
    EFL_UNROLL
    for (int i = 0; i < lines; i += 4) {
        __m512i v[4];
        EFL_UNROLL
        for (int j = 0; j < 4; j++)
            v[j] = i + j < lines ? rounded(acc[i + j], mult[panels > 1 ? j & 1 : 0], hi) : v[0];
        const __m512i bytes = narrow(v, zero, lo);
        if (full && panels == 2) {
            _mm256_storeu_si256((__m256i *)y, _mm512_castsi512_si256(bytes));
            if (lines > 2) _mm256_storeu_si256((__m256i *)(y + ldy), _mm512_extracti64x4_epi64(bytes, 1));
            y += 2 * ldy;
        } else if (full && ldy == EFL_NR && lines >= 4) {
            _mm512_storeu_si512(y, bytes);
            y += 4 * EFL_NR;
        } else {
            const __m128i part[4] = {_mm512_castsi512_si128(bytes), _mm512_extracti32x4_epi32(bytes, 1),
                                     _mm512_extracti32x4_epi32(bytes, 2),
                                     _mm512_extracti32x4_epi32(bytes, 3)};
            EFL_UNROLL
            for (int j = 0; j < 4; j++) {
                if (i + j >= lines) continue;
                const int32_t cols = left - j % panels * EFL_NR;
                int8_t *to = y + (size_t)(j / panels) * ldy + j % panels * EFL_NR;
                if (cols >= EFL_NR)
                    _mm_storeu_si128((__m128i *)to, part[j]);
                else if (cols == 8)
                    _mm_storel_epi64((__m128i *)to, part[j]);
                else
                    _mm_mask_storeu_epi8(to, (__mmask16)((1u << cols) - 1u), part[j]);
            }
            y += (size_t)(4 / panels) * ldy;
        }
    }
}

EFL_INLINE TARGET void gemm_tile(const efl_fwd_job *job, const int8_t *w0, size_t panel, int32_t pixel,
                                 int32_t column, const int rows, const int panels)
{
    const uint8_t *x = job->x, *a[8];
    __m512i acc[16], odd[8];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = x + job->pixels[pixel + i];
        acc[i * panels] = start(job, column);
        if (panels == 2)
            acc[i * panels + 1] = start(job, column + EFL_NR);
        else
            odd[i] = _mm512_setzero_si512();
    }
    const int8_t *w1 = w0 + panel;
    for (int32_t r = 0; r < job->n_runs; r++) {
        const ptrdiff_t off = job->offs[r], end = off + 4 * job->groups;
        ptrdiff_t k = off;
        if (panels == 2) {
            for (; k < end; k += 4, w0 += 64, w1 += 64) {
                const __m512i b0 = _mm512_loadu_si512(w0), b1 = _mm512_loadu_si512(w1);
                EFL_UNROLL
                for (int i = 0; i < rows; i++) {
                    const __m512i v = four(a[i] + k);
                    acc[2 * i] = _mm512_dpbusd_epi32(acc[2 * i], v, b0);
                    acc[2 * i + 1] = _mm512_dpbusd_epi32(acc[2 * i + 1], v, b1);
                }
            }
        } else {
            for (; k + 8 <= end; k += 8, w0 += 128) {
                const __m512i b0 = _mm512_loadu_si512(w0), b1 = _mm512_loadu_si512(w0 + 64);
                EFL_UNROLL
                for (int i = 0; i < rows; i++) {
                    acc[i] = _mm512_dpbusd_epi32(acc[i], four(a[i] + k), b0);
                    odd[i] = _mm512_dpbusd_epi32(odd[i], four(a[i] + k + 4), b1);
                }
            }
            if (k < end) {
                const __m512i b0 = _mm512_loadu_si512(w0);
                w0 += 64;
                EFL_UNROLL
                for (int i = 0; i < rows; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], four(a[i] + k), b0);
            }
        }
    }
    if (panels == 1) {
        EFL_UNROLL
        for (int i = 0; i < rows; i++) acc[i] = _mm512_add_epi32(acc[i], odd[i]);
    }
    finish(job, acc, pixel, column, rows, panels);
}

EFL_INLINE TARGET void depth_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                  const int rows)
{
    const uint8_t *x = (const uint8_t *)job->x + 4 * column, *a[8];
    __m512i acc[8];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = x + job->pixels[pixel + i];
        acc[i] = start(job, column);
    }
    for (int32_t r = 0; r < job->n_runs; r++, w += 64) {
        const __m512i b = _mm512_loadu_si512(w);
        const ptrdiff_t k = job->offs[r];
        EFL_UNROLL
        for (int i = 0; i < rows; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], _mm512_loadu_si512(a[i] + k), b);
    }
    finish(job, acc, pixel, column, rows, 1);
}

TARGET void efl_fwd_gemm_avx512vnni(const efl_fwd_job *job)
{
    const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;
    const int8_t *w = job->w;
    const int32_t n = job->n_pixels;
    int32_t c = 0, p;
    for (; job->cols - c > EFL_NR; c += 2 * EFL_NR, w += 2 * panel) {
        for (p = 0; p + 8 <= n; p += 8) gemm_tile(job, w, panel, p, c, 8, 2);
        if (n - p >= 4) gemm_tile(job, w, panel, p, c, 4, 2), p += 4;
        if (n - p >= 2) gemm_tile(job, w, panel, p, c, 2, 2), p += 2;
        if (n - p >= 1) gemm_tile(job, w, panel, p, c, 1, 2);
    }
    if (c >= job->cols) return;
    for (p = 0; p + 8 <= n; p += 8) gemm_tile(job, w, panel, p, c, 8, 1);
    if (n - p >= 4) gemm_tile(job, w, panel, p, c, 4, 1), p += 4;
    if (n - p >= 2) gemm_tile(job, w, panel, p, c, 2, 1), p += 2;
    if (n - p >= 1) gemm_tile(job, w, panel, p, c, 1, 1);
}

TARGET void efl_fwd_depth_avx512vnni(const efl_fwd_job *job)
{
    const size_t panel = (size_t)job->n_runs * EFL_NR * 4;
    const int8_t *w = job->w;
    const int32_t n = job->n_pixels;
    for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel) {
        int32_t p = 0;
        for (; p + 8 <= n; p += 8) depth_tile(job, w, p, c, 8);
        if (n - p >= 4) depth_tile(job, w, p, c, 4), p += 4;
        if (n - p >= 2) depth_tile(job, w, p, c, 2), p += 2;
        if (n - p >= 1) depth_tile(job, w, p, c, 1);
    }
}

TARGET void efl_fwd_load_avx512vnni(void *image, const int8_t *x, size_t n)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    uint8_t *to = image;
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(x + i), flip));
    if (i < n) {
        const __mmask64 rest = ~(__mmask64)0 >> (64 - (n - i));
        _mm512_mask_storeu_epi8(to + i, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x + i), flip));
    }
}

/* 16 bytes of each of four rows, one row a lane -> [16][4]: gather dwords, then transpose 4 x 4 bytes. */
EFL_INLINE TARGET __m512i weave16(__m128i r0, __m128i r1, __m128i r2, __m128i r3)
{
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i low = _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(r0), r1, 1));
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(r2), r3, 1);
    const __m512i all = _mm512_inserti64x4(low, high, 1);
    const __m512i woven = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(gather, all), bytes);
    return _mm512_xor_si512(woven, _mm512_set1_epi8(-128));
}

TARGET void efl_fwd_weave_avx512vnni(void *image, const int8_t *const *rows, size_t n)
{
    uint8_t *to = image;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_si512(to + 4 * i, weave16(_mm_loadu_si128((const __m128i *)(rows[0] + i)),
                                                _mm_loadu_si128((const __m128i *)(rows[1] + i)),
                                                _mm_loadu_si128((const __m128i *)(rows[2] + i)),
                                                _mm_loadu_si128((const __m128i *)(rows[3] + i))));
    if (i < n) {
        const __mmask16 rest = (__mmask16)((1u << (n - i)) - 1u);
        const __m512i last =
            weave16(_mm_maskz_loadu_epi8(rest, rows[0] + i), _mm_maskz_loadu_epi8(rest, rows[1] + i),
                    _mm_maskz_loadu_epi8(rest, rows[2] + i), _mm_maskz_loadu_epi8(rest, rows[3] + i));
        _mm512_mask_storeu_epi32(to + 4 * i, rest, last);
    }
}
#else
typedef int efl_fwd_avx512vnni_elsewhere; /* ISO C wants a declaration */
#endif
