/* SPDX-License-Identifier: Apache-2.0
 *
 * What prepares and finishes the backward passes' matrix products, with AVX-512 (F, BW, DQ, VL). cvtps rounds
 * to nearest even, the default mode of the control register, which nothing in this library changes.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "arch/pack_avx512.h"
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

/* Of 16 columns: rows to columns by neighbours, then dwords, then quarters of a register. */
static inline TARGET void store_columns(int16_t *v, size_t ldv, const __m512i pair[8], int32_t rows,
                                        int32_t cols)
{
    const __m512i zip =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    __m512i a[8], part[2][4]; /* part [h][j]: rows 8h.. of column j of each four */
    for (int i = 0; i < 8; i++) a[i] = _mm512_shuffle_epi8(pair[i], zip);
    for (int h = 0; h < 2; h++) {
        const __m512i lo0 = _mm512_unpacklo_epi32(a[4 * h], a[4 * h + 1]);
        const __m512i lo1 = _mm512_unpacklo_epi32(a[4 * h + 2], a[4 * h + 3]);
        const __m512i hi0 = _mm512_unpackhi_epi32(a[4 * h], a[4 * h + 1]);
        const __m512i hi1 = _mm512_unpackhi_epi32(a[4 * h + 2], a[4 * h + 3]);
        part[h][0] = _mm512_unpacklo_epi64(lo0, lo1);
        part[h][1] = _mm512_unpackhi_epi64(lo0, lo1);
        part[h][2] = _mm512_unpacklo_epi64(hi0, hi1);
        part[h][3] = _mm512_unpackhi_epi64(hi0, hi1);
    }
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const __mmask16 down = (__mmask16)((1u << rows) - 1);
    for (int32_t j = 0; j < 4; j++)
        for (int32_t q = 0; q < 2; q++) { /* columns 8q + j and 8q + 4 + j */
            const __m512i both = _mm512_permutex2var_epi64(part[0][j], q ? second : first, part[1][j]);
            const __m256i column[2] = {_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1)};
            for (int32_t k = 0; k < 2; k++) {
                const int32_t c = 8 * q + 4 * k + j;
                if (c >= cols) continue;
                if (rows == 16)
                    _mm256_storeu_si256((__m256i *)(v + (size_t)c * ldv), column[k]);
                else
                    _mm256_mask_storeu_epi16(v + (size_t)c * ldv, down, column[k]);
            }
        }
}

typedef struct {
    __mmask16 in;
    __m512i fix;
    __m512 f;
} columns16;

static inline TARGET __m512 unclamped(const int32_t *row, const columns16 *c)
{
    return _mm512_maskz_mul_ps(c->in, _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(row), c->fix)),
                               c->f);
}

/* 16 columns at most. Clamping from above is done in float32, since the conversion of what is too large gives
 * -2^31; from below by the saturating pack. */
static inline TARGET uint32_t step_block(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile,
                                         size_t ldt, int32_t rows, int32_t cols, const int32_t *fix,
                                         const float *f)
{
    const __mmask16 in = (__mmask16)((1u << cols) - 1);
    const columns16 by = {in, _mm512_maskz_loadu_epi32(in, fix), _mm512_maskz_loadu_ps(in, f)};
    const __m512 most = _mm512_set1_ps(32767.0f);
    __m512 top = _mm512_setzero_ps();
    __m512i pair[8], total = _mm512_setzero_si512();
    for (int i = 0; i < 8; i++) {
        __m512i whole[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int h = 0; h < 2; h++) {
            if (2 * i + h >= rows) continue;
            const __m512 t = unclamped(tile + (size_t)(2 * i + h) * ldt, &by);
            top = _mm512_max_ps(top, _mm512_abs_ps(t));
            whole[h] = _mm512_cvtps_epi32(_mm512_min_ps(t, most));
        }
        pair[i] = _mm512_max_epi16(_mm512_packs_epi32(whole[0], whole[1]), _mm512_set1_epi16(-32767));
        const __m512i square = _mm512_madd_epi16(pair[i], pair[i]); /* 2 * 32767^2 < 2^31 */
        total = _mm512_add_epi64(total, _mm512_srli_epi64(square, 32));
        total = _mm512_add_epi64(total, _mm512_and_si512(square, _mm512_set1_epi64(0xffffffff)));
    }
    *sum2 += (uint64_t)_mm512_reduce_add_epi64(total);
    store_columns(v, ldv, pair, rows, cols);
    uint32_t saturated = 0;
    if (_mm512_cmp_ps_mask(top, most, _CMP_GT_OQ))
        for (int32_t i = 0; i < rows; i++) {
            const __m512 t = _mm512_abs_ps(unclamped(tile + (size_t)i * ldt, &by));
            saturated += (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(t, most, _CMP_GT_OQ));
        }
    return saturated;
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
