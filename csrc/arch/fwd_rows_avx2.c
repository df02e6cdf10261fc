/* SPDX-License-Identifier: Apache-2.0
 *
 * What surrounds the forward kernels, with AVX2: rows into images (int16, or bytes with flipped sign) and
 * weights into panels. A row's last vector may lie over the one before it.
 */
#if defined(__x86_64__)
#include "arch/fwd_avx2.h"

#define TARGET EFL_AVX2

EFL_INLINE TARGET __m128i load16(const int8_t *x)
{
    return _mm_loadu_si128((const __m128i *)x);
}

TARGET void efl_fwd_load_avx2(void *image, const int8_t *x, size_t n)
{
    int16_t *to = image;
    if (n < 16) {
        for (size_t i = 0; i < n; i++) to[i] = x[i];
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        i = i + 16 > n ? n - 16 : i;
        _mm256_storeu_si256((__m256i *)(to + i), _mm256_cvtepi8_epi16(load16(x + i)));
    }
}

TARGET void efl_fwd_load_avxvnni(void *image, const int8_t *x, size_t n)
{
    const __m128i flip = _mm_set1_epi8(-128);
    uint8_t *to = image;
    if (n < 16) {
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(x[i] ^ -128);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        i = i + 16 > n ? n - 16 : i;
        _mm_storeu_si128((__m128i *)(to + i), _mm_xor_si128(load16(x + i), flip));
    }
}

/* [4 parts][4 columns][4] <- 16 elements of four rows. */
EFL_INLINE TARGET void transpose(__m128i *part, const int8_t *const *rows, size_t i)
{
    const __m128i r0 = load16(rows[0] + i), r1 = load16(rows[1] + i);
    const __m128i r2 = load16(rows[2] + i), r3 = load16(rows[3] + i);
    const __m128i a = _mm_unpacklo_epi8(r0, r1), b = _mm_unpackhi_epi8(r0, r1);
    const __m128i c = _mm_unpacklo_epi8(r2, r3), d = _mm_unpackhi_epi8(r2, r3);
    part[0] = _mm_unpacklo_epi16(a, c);
    part[1] = _mm_unpackhi_epi16(a, c);
    part[2] = _mm_unpacklo_epi16(b, d);
    part[3] = _mm_unpackhi_epi16(b, d);
}

TARGET void efl_fwd_weave_avx2(void *image, const int8_t *const *rows, size_t n)
{
    int16_t *to = image;
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            for (int t = 0; t < 4; t++) to[4 * i + (size_t)t] = rows[t][i];
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        __m128i part[4];
        i = i + 16 > n ? n - 16 : i;
        transpose(part, rows, i);
        EFL_UNROLL
        for (int t = 0; t < 4; t++)
            _mm256_storeu_si256((__m256i *)(to + 4 * i + 16 * t), _mm256_cvtepi8_epi16(part[t]));
    }
}

TARGET void efl_fwd_weave_avxvnni(void *image, const int8_t *const *rows, size_t n)
{
    const __m128i flip = _mm_set1_epi8(-128);
    uint8_t *to = image;
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            for (int t = 0; t < 4; t++) to[4 * i + (size_t)t] = (uint8_t)(rows[t][i] ^ -128);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        __m128i part[4];
        i = i + 16 > n ? n - 16 : i;
        transpose(part, rows, i);
        EFL_UNROLL
        for (int t = 0; t < 4; t++)
            _mm_storeu_si128((__m128i *)(to + 4 * i + 16 * t), _mm_xor_si128(part[t], flip));
    }
}

/* ---------------------------------------------------------------- weights */

/* Four groups of four channels, 16 bytes each: a transpose of 4 x 4 dwords. */
EFL_INLINE TARGET void put16(int8_t *to, const int8_t *w, size_t ldw)
{
    const __m128i a = load16(w), b = load16(w + ldw), c = load16(w + 2 * ldw), d = load16(w + 3 * ldw);
    const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
    const __m128i ef = _mm_unpackhi_epi32(a, b), gh = _mm_unpackhi_epi32(c, d);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(to + 64), _mm_unpackhi_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(to + 128), _mm_unpacklo_epi64(ef, gh));
    _mm_storeu_si128((__m128i *)(to + 192), _mm_unpackhi_epi64(ef, gh));
}

/* One channel's run from element t on. */
static void put_rest(int8_t *to, const int8_t *w, int32_t t, int32_t run)
{
    for (to += 16 * t; t < run; t += 4, to += 64) memcpy(to, w + t, (size_t)(run - t < 4 ? run - t : 4));
}

/* A byte pair times 1 + 1 stays within +-256: vpmaddubsw cannot saturate here. */
EFL_INLINE TARGET __m256i add_fours(__m256i sum, const int8_t *panel)
{
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_loadu_si256((const __m256i *)panel));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

TARGET void efl_fwd_pack_avx2(int8_t *panel, int32_t *sums, const int8_t *w, size_t ldw, int32_t n_runs,
                              int32_t run, int32_t cols)
{
    const size_t step = (size_t)((run + 3) / 4) * 64, total = (size_t)n_runs * step;
    if (cols < EFL_NR || run % 4) memset(panel, 0, total);
    for (int32_t r = 0; r < n_runs; r++, w += run) {
        int8_t *to = panel + (size_t)r * step;
        int32_t j = 0;
        for (; j + 4 <= cols; j += 4) {
            const int8_t *from = w + (size_t)j * ldw;
            int32_t t = 0;
            for (; t + 16 <= run; t += 16) put16(to + 4 * j + 16 * t, from + t, ldw);
            if (t < run)
                for (int32_t i = 0; i < 4; i++) put_rest(to + 4 * (j + i), from + (size_t)i * ldw, t, run);
        }
        for (; j < cols; j++) put_rest(to + 4 * j, w + (size_t)j * ldw, 0, run);
    }
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
    for (size_t i = 0; i < total; i += 64) {
        s0 = add_fours(s0, panel + i);
        s1 = add_fours(s1, panel + i + 32);
    }
    _mm256_storeu_si256((__m256i *)sums, s0);
    _mm256_storeu_si256((__m256i *)(sums + 8), s1);
}
#else
typedef int efl_fwd_rows_avx2_elsewhere; /* ISO C wants a declaration */
#endif
