/* SPDX-License-Identifier: Apache-2.0
 *
 * What prepares and finishes the backward passes' matrix products, with AVX-512 (F, BW, DQ, VL). cvtps rounds
 * to nearest even, the default mode of the control register, which nothing in this library changes.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "arch/pack_avx512.h"
#include "arch/transpose_avx2.h"
#include "nn/dot8.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* Four rows of 16 bytes as [16][4]: dwords to lanes of four channels, then 4x4 bytes within each lane. */
static inline TARGET __m512i zip(__m512i all)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i turn =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, all), turn);
}

/* Masked stores cost several cycles each on Zen 4, so whole registers go without. */
static inline TARGET __m128i bytes(const int8_t *p, __mmask16 in)
{
    return in == 0xffff ? _mm_loadu_si128((const __m128i *)p) : _mm_maskz_loadu_epi8(in, p);
}

static inline TARGET __m512i rows(const int8_t *p, size_t pitch, __mmask16 in)
{
    __m512i all = _mm512_castsi128_si512(bytes(p, in));
    all = _mm512_inserti32x4(all, bytes(p + pitch, in), 1);
    all = _mm512_inserti32x4(all, bytes(p + 2 * pitch, in), 2);
    return _mm512_inserti32x4(all, bytes(p + 3 * pitch, in), 3);
}

TARGET void efl_zip4_avx512(uint8_t *dst, size_t dst_step, int32_t *sums, const int8_t *src, size_t pitch,
                            size_t groups, size_t c, uint8_t flip)
{
    const __m512i flips = _mm512_set1_epi8((char)flip), ones = _mm512_set1_epi8(1);
    for (size_t j = 0; j < c; j += 16) {
        const size_t left = c - j < 16 ? c - j : 16;
        const __mmask16 in = (__mmask16)((1u << left) - 1);
        const __mmask64 to = left == 16 ? ~(__mmask64)0 : ((__mmask64)1 << (4 * left)) - 1;
        __m512i sum = _mm512_setzero_si512();
        const int8_t *from = src + j;
        uint8_t *at = dst + 4 * j;
        for (size_t g = 0; g < groups; g++, from += 4 * pitch, at += dst_step) {
            const __m512i z =
                zip(pitch == 16 && left == 16 ? _mm512_loadu_si512(from) : rows(from, pitch, in));
            sum = _mm512_dpbusd_epi32(sum, ones, z);
            if (left == 16)
                _mm512_storeu_si512(at, _mm512_xor_si512(z, flips));
            else
                _mm512_mask_storeu_epi8(at, to, _mm512_xor_si512(z, flips));
        }
        if (sums)
            _mm512_mask_storeu_epi32(sums + j, in,
                                     _mm512_add_epi32(sum, _mm512_maskz_loadu_epi32(in, sums + j)));
    }
}

static inline TARGET __m512i scaled(const int8_t *e, __m512 s)
{
    const __m128i q = _mm_loadu_si128((const __m128i *)e);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), s));
}

/* 64 bytes at a time where whole rows fill them. Returns how many were done. */
static inline TARGET size_t scale_blocks(uint8_t *dst, const int8_t *e, size_t total, size_t c,
                                         const float *s, uint8_t flip)
{
    if (c % 16 || 64 % c) return 0;
    __m512 by[4];
    for (size_t j = 0; j < 4; j++) by[j] = _mm512_loadu_ps(s + 16 * j % c);
    size_t i = 0;
    for (; i + 64 <= total; i += 64) {
        __m512i v[4];
        for (size_t j = 0; j < 4; j++) v[j] = scaled(e + i + 16 * j, by[j]);
        const __m512i held = _mm512_max_epi8(efl_pack_i32(v), _mm512_set1_epi8(-127));
        _mm512_storeu_si512(dst + i, _mm512_xor_si512(held, _mm512_set1_epi8((char)flip)));
    }
    return i;
}

TARGET void efl_scale8_avx512(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip)
{
    const size_t done = scale_blocks(dst, e, n * c, c, s, flip);
    dst += done, e += done, n -= done / c;
    const __m512i lowest = _mm512_set1_epi32(-127);
    const __m128i flips = _mm_set1_epi8((char)flip);
    for (size_t j = 0; j < c; j += 16) {
        const __mmask16 in = (__mmask16)(c - j < 16 ? (1u << (c - j)) - 1 : 0xffffu);
        const __m512 scale = _mm512_maskz_loadu_ps(in, s + j);
        for (size_t i = 0; i < n; i++) {
            const __m128i q = bytes(e + i * c + j, in);
            const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale);
            const __m512i whole = _mm512_max_epi32(_mm512_cvtps_epi32(v), lowest);
            const __m128i b = _mm_xor_si128(_mm512_cvtsepi32_epi8(whole), flips);
            if (in == 0xffff)
                _mm_storeu_si128((__m128i *)(dst + i * c + j), b);
            else
                _mm_mask_storeu_epi8(dst + i * c + j, in, b);
        }
    }
}

static inline TARGET uint32_t step_block(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile,
                                         size_t ldt, int32_t rows, int32_t cols, const int32_t *fix,
                                         const float *f)
{
    const __mmask16 in = (__mmask16)((1u << cols) - 1), down = (__mmask16)((1u << rows) - 1);
    const __m512i b = _mm512_maskz_loadu_epi32(in, fix);
    const __m512 factor = _mm512_maskz_loadu_ps(in, f);
    const __m512 lo = _mm512_set1_ps(-32767.0f), hi = _mm512_set1_ps(32767.0f);
    __m256i r[16];
    __m512i total = _mm512_setzero_si512(), over = _mm512_setzero_si512();
    for (int32_t i = 0; i < 16; i++) {
        if (i >= rows) {
            r[i] = _mm256_setzero_si256();
            continue;
        }
        const __m512i a = _mm512_sub_epi32(_mm512_loadu_si512(tile + (size_t)i * ldt), b);
        const __m512 t = _mm512_maskz_mul_ps(in, _mm512_cvtepi32_ps(a), factor);
        const __m512 held = _mm512_min_ps(_mm512_max_ps(t, lo), hi);
        over =
            _mm512_mask_add_epi32(over, _mm512_cmp_ps_mask(t, held, _CMP_NEQ_OQ), over, _mm512_set1_epi32(1));
        r[i] = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(held));
        /* v^2 < 2^30: even and odd neighbours apart in 64 bits */
        const __m512i wide = _mm512_cvtepu32_epi64(_mm256_madd_epi16(r[i], r[i]));
        total = _mm512_add_epi64(total, wide);
    }
    *sum2 += (uint64_t)_mm512_reduce_add_epi64(total);
    efl_transpose_i16(r);
    for (int32_t j = 0; j < cols; j++)
        if (rows == 16)
            _mm256_storeu_si256((__m256i *)(v + (size_t)j * ldv), r[j]);
        else
            _mm256_mask_storeu_epi16(v + (size_t)j * ldv, down, r[j]);
    return (uint32_t)_mm512_reduce_add_epi32(over);
}

TARGET uint32_t efl_step_tile_avx512(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                                     int32_t rows, int32_t cols, const int32_t *fix, const float *f)
{
    uint32_t saturated = 0;
    for (int32_t j = 0; j < cols; j += 16)
        saturated += step_block(v + (size_t)j * ldv, ldv, sum2, tile + j, ldt, rows,
                                cols - j < 16 ? cols - j : 16, fix + j, f + j);
    return saturated;
}
#else
typedef int efl_train_avx512_elsewhere; /* ISO C wants a declaration */
#endif
