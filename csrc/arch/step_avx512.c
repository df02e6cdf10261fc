/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of a training step with AVX-512 (F, BW, DQ, VL).
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "nn/step_loops.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

static inline TARGET __mmask64 first64(size_t n)
{
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}
static inline TARGET __mmask32 first32(size_t n)
{
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
}
static inline TARGET __mmask16 first16(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1);
}

typedef struct {
    __m512i first, last; /* y inside them keeps its error */
} bounds;

/* 64 errors, masked in place if y is given; returns their sizes. */
static inline TARGET __m512i sizes(int8_t *e, const int8_t *y, __mmask64 in, const bounds *b)
{
    __m512i v = _mm512_maskz_loadu_epi8(in, e);
    if (y) {
        const __m512i out = _mm512_maskz_loadu_epi8(in, y);
        const __mmask64 keep = _mm512_cmp_epi8_mask(out, b->first, _MM_CMPINT_NLT) &
                               _mm512_cmp_epi8_mask(out, b->last, _MM_CMPINT_LE);
        v = _mm512_maskz_mov_epi8(keep, v);
        _mm512_mask_storeu_epi8(e, in, v);
    }
    return _mm512_abs_epi8(v);
}

TARGET void efl_mask_top_avx512(uint8_t *top, int8_t *e, const int8_t *y, size_t n, size_t c, int32_t lo,
                                int32_t hi)
{
    const bounds b = {_mm512_set1_epi8((char)(lo + 1)), _mm512_set1_epi8((char)(hi - 1))};
    if (64 % c == 0) { /* a register holds whole rows */
        const size_t total = n * c;
        __m512i most = _mm512_setzero_si512();
        for (size_t i = 0; i < total; i += 64)
            most = _mm512_max_epu8(most, sizes(e + i, y ? y + i : NULL, first64(total - i), &b));
        uint8_t all[64];
        _mm512_storeu_si512(all, most);
        for (size_t w = 32; w >= c; w /= 2)
            for (size_t j = 0; j < w; j++) all[j] = all[j] > all[j + w] ? all[j] : all[j + w];
        memcpy(top, all, c);
        return;
    }
    for (size_t j = 0; j < c; j += 64) {
        const __mmask64 in = first64(c - j);
        __m512i most = _mm512_setzero_si512();
        for (size_t i = j; i < n * c; i += c)
            most = _mm512_max_epu8(most, sizes(e + i, y ? y + i : NULL, in, &b));
        _mm512_mask_storeu_epi8(top + j, in, most);
    }
}

TARGET void efl_shift_i32_avx512(int8_t *dst, const int32_t *x, size_t n, int32_t s)
{
    const __m512i half = _mm512_set1_epi32(s > 0 ? (1 << (s - 1)) - 1 : 0);
    const __m512i odd = _mm512_set1_epi32(s > 0), least = _mm512_set1_epi32(-127);
    const __m128i by = _mm_cvtsi32_si128(s);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = first16(n - i);
        const __m512i v = _mm512_maskz_loadu_epi32(in, x + i);
        const __m512i up = _mm512_add_epi32(half, _mm512_and_si512(_mm512_sra_epi32(v, by), odd));
        const __m512i w = _mm512_sra_epi32(_mm512_add_epi32(v, up), by);
        _mm_mask_storeu_epi8(dst + i, in, _mm512_cvtsepi32_epi8(_mm512_max_epi32(w, least)));
    }
}

TARGET void efl_split_i32_avx512(int8_t *high, uint8_t *low, const int32_t *x, size_t n, int32_t s)
{
    const __m512i rest = _mm512_set1_epi32((int32_t)((1u << s) - 1)), one = _mm512_set1_epi32(1);
    const __m128i by = _mm_cvtsi32_si128(s);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = first16(n - i);
        const __m512i v = _mm512_maskz_loadu_epi32(in, x + i);
        __m512i w = _mm512_sra_epi32(v, by);
        w = _mm512_mask_or_epi32(w, _mm512_test_epi32_mask(v, rest), w, one);
        _mm_mask_storeu_epi8(low + i, in, _mm512_cvtepi32_epi8(w));
        _mm_mask_storeu_epi8(high + i, in, _mm512_cvtepi32_epi8(_mm512_srai_epi32(w, 8)));
    }
}

TARGET void efl_join_shift_avx512(int8_t *e, const uint8_t *low, size_t n, int32_t s)
{
    s = s > 14 ? 14 : s; /* 0 from a shift of 12 on */
    const __m512i half = _mm512_set1_epi16((int16_t)(s > 0 ? (1 << (s - 1)) - 1 : 0));
    const __m512i odd = _mm512_set1_epi16(s > 0), least = _mm512_set1_epi16(-127);
    const __m128i by = _mm_cvtsi32_si128(s);
    for (size_t i = 0; i < n; i += 32) {
        const __mmask32 in = first32(n - i);
        const __m512i top = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(in, e + i));
        const __m512i rest = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(in, low + i));
        const __m512i v = _mm512_or_si512(_mm512_slli_epi16(top, 8), rest);
        const __m512i up = _mm512_add_epi16(half, _mm512_and_si512(_mm512_sra_epi16(v, by), odd));
        const __m512i w = _mm512_sra_epi16(_mm512_add_epi16(v, up), by);
        _mm256_mask_storeu_epi8(e + i, in, _mm512_cvtsepi16_epi8(_mm512_max_epi16(w, least)));
    }
}

TARGET uint64_t efl_sum2_i8_avx512(const int8_t *q, size_t n)
{
    uint64_t total = 0;
    for (size_t from = 0; from < n; from += 65536) { /* 65536 * 128^2 = 2^30 */
        const size_t to = n - from > 65536 ? from + 65536 : n;
        __m512i part = _mm512_setzero_si512();
        for (size_t i = from; i < to; i += 32) {
            const __m512i v = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(first32(to - i), q + i));
            part = _mm512_add_epi32(part, _mm512_madd_epi16(v, v));
        }
        total += (uint32_t)_mm512_reduce_add_epi32(part);
    }
    return total;
}

/* Saturating int16 arithmetic on w = t + 128, which lies in 256*qmin .. 32767: its bytes are q and r + 128.
 */
TARGET uint64_t efl_step_apply_avx512(int8_t *q, int8_t *r, const int16_t *v, size_t n, int32_t s,
                                      int32_t qmin)
{
    const __m512i least = _mm512_set1_epi16((int16_t)(256 * qmin)), bytes = _mm512_set1_epi16(0xff);
    const __m256i mid = _mm256_set1_epi8((char)0x80);
    const __m512i rest = _mm512_set1_epi16((int16_t)(s < 16 ? (1u << s) - 1 : 0));
    const __m512i half = _mm512_set1_epi16((int16_t)(s > 0 && s < 16 ? (1u << (s - 1)) : 0x7fff));
    const __m128i by = _mm_cvtsi32_si128(s);
    uint64_t clamped = 0;
    for (size_t i = 0; i < n; i += 32) {
        const __mmask32 in = first32(n - i);
        const __m512i size = _mm512_maskz_loadu_epi16(in, v + i);
        /* rne-shift without a carry out of 16 bits: up where the lost bits + odd exceed a half */
        const __m512i down = _mm512_sra_epi16(size, by);
        const __m512i odd = _mm512_and_si512(down, _mm512_set1_epi16(1));
        const __mmask32 up =
            _mm512_cmpgt_epu16_mask(_mm512_add_epi16(_mm512_and_si512(size, rest), odd), half);
        __m512i step = _mm512_mask_sub_epi16(down, up, down, _mm512_set1_epi16(-1));
        if (s >= 16) step = _mm512_setzero_si512();
        const __m512i high = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(in, q + i));
        const __m512i low = _mm512_cvtepu8_epi16(_mm256_xor_si256(_mm256_maskz_loadu_epi8(in, r + i), mid));
        const __m512i w = _mm512_or_si512(_mm512_slli_epi16(high, 8), low);
        const __m512i held = _mm512_max_epi16(_mm512_subs_epi16(w, step), least);
        clamped +=
            (uint64_t)__builtin_popcount(_mm512_mask_cmpneq_epi16_mask(in, held, _mm512_sub_epi16(w, step)));
        _mm256_mask_storeu_epi8(q + i, in, _mm512_cvtepi16_epi8(_mm512_srai_epi16(held, 8)));
        _mm256_mask_storeu_epi8(r + i, in,
                                _mm256_xor_si256(_mm512_cvtepi16_epi8(_mm512_and_si512(held, bytes)), mid));
    }
    return clamped;
}
#else
typedef int efl_step_avx512_elsewhere; /* ISO C wants a declaration */
#endif
