/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of a training step with AVX-512 (F, BW, DQ, VL).
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "arch/pack_avx512.h"
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
/* Masked stores cost several cycles each on Zen 4, so whole registers go without. */
static inline TARGET void store64(void *p, size_t n, __m512i v)
{
    if (n >= 64)
        _mm512_storeu_si512(p, v);
    else
        _mm512_mask_storeu_epi8(p, first64(n), v);
}
typedef struct {
    __m512i first, last; /* y inside them keeps its error */
} bounds;

/* Up to 64 errors, masked in place if y is given; returns their sizes. */
static inline TARGET __m512i sizes(int8_t *e, const int8_t *y, size_t n, const bounds *b)
{
    const __mmask64 in = first64(n);
    __m512i v = _mm512_maskz_loadu_epi8(in, e);
    if (y) {
        const __m512i out = _mm512_maskz_loadu_epi8(in, y);
        const __mmask64 keep = _mm512_cmp_epi8_mask(out, b->first, _MM_CMPINT_NLT) &
                               _mm512_cmp_epi8_mask(out, b->last, _MM_CMPINT_LE);
        v = _mm512_maskz_mov_epi8(keep, v);
        store64(e, n, v);
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
            most = _mm512_max_epu8(most, sizes(e + i, y ? y + i : NULL, total - i, &b));
        uint8_t all[64];
        _mm512_storeu_si512(all, most);
        for (size_t w = 32; w >= c; w /= 2)
            for (size_t j = 0; j < w; j++) all[j] = all[j] > all[j + w] ? all[j] : all[j + w];
        for (size_t j = 0; j < c; j++) top[j] = top[j] > all[j] ? top[j] : all[j];
        return;
    }
    for (size_t j = 0; j < c; j += 64) {
        __m512i most = _mm512_maskz_loadu_epi8(first64(c - j), top + j);
        for (size_t i = j; i < n * c; i += c)
            most = _mm512_max_epu8(most, sizes(e + i, y ? y + i : NULL, c - j, &b));
        store64(top + j, c - j, most);
    }
}

TARGET void efl_shift_i32_avx512(int8_t *dst, const int32_t *x, size_t n, int32_t s)
{
    size_t i = 0;
    if (s <= 17) { /* |x| <= 2^24: exact in float32, whose conversion rounds to nearest even */
        const __m512 down = _mm512_set1_ps(1.0f / (float)(1 << s));
        for (; i + 64 <= n; i += 64) {
            __m512i v[4];
            for (int j = 0; j < 4; j++)
                v[j] = _mm512_cvtps_epi32(
                    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(x + i + 16 * j)), down));
            _mm512_storeu_si512(dst + i, _mm512_max_epi8(efl_pack_i32(v), _mm512_set1_epi8(-127)));
        }
    }
    if (i < n) efl_shift_i32_avx2(dst + i, x + i, n - i, s);
}

TARGET void efl_split_i32_avx512(int8_t *high, uint8_t *low, const int32_t *x, size_t n, int32_t s)
{
    const __m512i rest = _mm512_set1_epi32((int32_t)((1u << s) - 1)), one = _mm512_set1_epi32(1);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bottom = _mm512_set1_epi16(0xff);
    const __m128i by = _mm_cvtsi32_si128(s);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i v[4];
        for (int j = 0; j < 4; j++) {
            const __m512i w = _mm512_loadu_si512(x + i + 16 * j), down = _mm512_sra_epi32(w, by);
            v[j] = _mm512_mask_or_epi32(down, _mm512_test_epi32_mask(w, rest), down, one);
        }
        const __m512i a = _mm512_packs_epi32(v[0], v[1]), b = _mm512_packs_epi32(v[2], v[3]);
        const __m512i l = _mm512_packus_epi16(_mm512_and_si512(a, bottom), _mm512_and_si512(b, bottom));
        const __m512i h = _mm512_packs_epi16(_mm512_srai_epi16(a, 8), _mm512_srai_epi16(b, 8));
        _mm512_storeu_si512(low + i, _mm512_permutexvar_epi32(order, l));
        _mm512_storeu_si512(high + i, _mm512_permutexvar_epi32(order, h));
    }
    if (i < n) efl_split_i32_avx2(high + i, low + i, x + i, n - i, s);
}

TARGET void efl_join_shift_avx512(int8_t *e, const uint8_t *low, size_t n, int32_t s)
{
    s = s > 14 ? 14 : s; /* 0 from a shift of 12 on */
    const __m512i half = _mm512_set1_epi16((int16_t)(s > 0 ? (1 << (s - 1)) - 1 : 0));
    const __m512i odd = _mm512_set1_epi16(s > 0);
    const __m128i by = _mm_cvtsi32_si128(s);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i l = _mm512_loadu_si512(low + i), h = _mm512_loadu_si512(e + i);
        __m512i v[2] = {_mm512_unpacklo_epi8(l, h), _mm512_unpackhi_epi8(l, h)};
        for (int j = 0; j < 2; j++) {
            const __m512i up = _mm512_add_epi16(half, _mm512_and_si512(_mm512_sra_epi16(v[j], by), odd));
            v[j] = _mm512_sra_epi16(_mm512_add_epi16(v[j], up), by);
        }
        _mm512_storeu_si512(e + i, _mm512_max_epi8(_mm512_packs_epi16(v[0], v[1]), _mm512_set1_epi8(-127)));
    }
    if (i < n) efl_join_shift_avx2(e + i, low + i, n - i, s);
}

/* Sums that fit int16, 64 at a time in two registers (bytes of a lane: the lower eight, the upper eight). */
static inline TARGET void sum_64(__m512i v[2], const int8_t *const *in, const int32_t *up, int32_t n_in,
                                 size_t at)
{
    v[0] = v[1] = _mm512_setzero_si512();
    for (int32_t j = 0; j < n_in; j++) {
        const __m512i e = _mm512_loadu_si512(in[j] + at), zero = _mm512_setzero_si512();
        const __m128i down = _mm_cvtsi32_si128(8 - up[j]); /* e in the upper byte, then e * 2^up */
        v[0] = _mm512_add_epi16(v[0], _mm512_sra_epi16(_mm512_unpacklo_epi8(zero, e), down));
        v[1] = _mm512_add_epi16(v[1], _mm512_sra_epi16(_mm512_unpackhi_epi8(zero, e), down));
    }
}

TARGET uint32_t efl_merge_i8_avx512(int8_t *dst, const int8_t *const *in, const int32_t *up, int32_t n_in,
                                    size_t n, int32_t s)
{
    int32_t bound = 0, narrow = s <= 8;
    for (int32_t j = 0; j < n_in; j++) {
        narrow &= up[j] >= 0 && up[j] <= 8;
        if (narrow) bound += 127 << up[j];
    }
    if (!narrow || bound > 32512) return efl_merge_i8_avx2(dst, in, up, n_in, n, s); /* + half fits then */
    const __m512i half = _mm512_set1_epi16((int16_t)(s > 0 ? (1 << (s - 1)) - 1 : 0));
    const __m512i odd = _mm512_set1_epi16(s > 0);
    const __m128i by = _mm_cvtsi32_si128(s);
    __m512i most = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i v[2];
        sum_64(v, in, up, n_in, i);
        if (!dst) {
            const __m512i top = _mm512_max_epi16(_mm512_abs_epi16(v[0]), _mm512_abs_epi16(v[1]));
            most = _mm512_max_epi16(most, top);
            continue;
        }
        for (int j = 0; j < 2; j++) {
            const __m512i more = _mm512_add_epi16(half, _mm512_and_si512(_mm512_sra_epi16(v[j], by), odd));
            v[j] = _mm512_sra_epi16(_mm512_add_epi16(v[j], more), by);
        }
        const __m512i held = _mm512_max_epi8(_mm512_packs_epi16(v[0], v[1]), _mm512_set1_epi8(-127));
        _mm512_storeu_si512(dst + i, held);
    }
    const __m512i wide =
        _mm512_max_epi32(_mm512_srli_epi32(most, 16), _mm512_and_si512(most, _mm512_set1_epi32(0xffff)));
    uint32_t top = (uint32_t)_mm512_reduce_max_epi32(wide);
    if (i < n) {
        const int8_t *rest[16];
        for (int32_t j = 0; j < n_in; j++) rest[j] = in[j] + i;
        const uint32_t last = efl_merge_i8_avx2(dst ? dst + i : NULL, rest, up, n_in, n - i, s);
        top = last > top ? last : top;
    }
    return top;
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

/* rne-shift of int16 without a carry out of 16 bits: up where the lost bits + odd exceed a half. */
typedef struct {
    __m512i rest, half;
    __m128i by;
} shifter;

static inline TARGET shifter make_shifter(int32_t s)
{
    s = s > 16 ? 16 : s; /* 0 from a shift of 16 on: a half that nothing exceeds */
    const shifter made = {_mm512_set1_epi16((int16_t)((1u << s) - 1)),
                          _mm512_set1_epi16((int16_t)(s ? 1u << (s - 1) : 0xffffu)), _mm_cvtsi32_si128(s)};
    return made;
}

static inline TARGET __m512i shifted(__m512i v, const shifter *s)
{
    const __m512i one = _mm512_set1_epi16(1), down = _mm512_sra_epi16(v, s->by);
    const __m512i lost = _mm512_add_epi16(_mm512_and_si512(v, s->rest), _mm512_and_si512(down, one));
    return _mm512_mask_add_epi16(down, _mm512_cmpgt_epu16_mask(lost, s->half), down, one);
}

/* Saturating int16 arithmetic on w = t + 128, which lies in 256*qmin .. 32767: its bytes are q and r + 128.
 * Rows of 64: bytes unpack and pack within lanes, so v is brought into that order. */
TARGET uint64_t efl_step_apply_avx512(int8_t *q, int8_t *r, const int16_t *v, size_t n, int32_t s,
                                      int32_t qmin)
{
    const __m512i least = _mm512_set1_epi16((int16_t)(256 * qmin)), low = _mm512_set1_epi16(0xff);
    const __m512i mid = _mm512_set1_epi8((char)0x80);
    const __m512i order[2] = {_mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13),
                              _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15)};
    const shifter by = make_shifter(s);
    uint64_t clamped = 0;
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i high = _mm512_loadu_si512(q + i);
        const __m512i rest = _mm512_xor_si512(_mm512_loadu_si512(r + i), mid);
        const __m512i v0 = _mm512_loadu_si512(v + i), v1 = _mm512_loadu_si512(v + i + 32);
        __m512i w[2] = {_mm512_unpacklo_epi8(rest, high), _mm512_unpackhi_epi8(rest, high)};
        __mmask32 over[2];
        for (int h = 0; h < 2; h++) {
            __m512i step = _mm512_permutex2var_epi64(v0, order[h], v1);
            if (s) step = shifted(step, &by);
            const __m512i wrapped = _mm512_sub_epi16(w[h], step);
            w[h] = _mm512_max_epi16(_mm512_subs_epi16(w[h], step), least);
            over[h] = _mm512_cmpneq_epi16_mask(w[h], wrapped);
        }
        if (over[0] | over[1])
            clamped += (uint64_t)(__builtin_popcount(over[0]) + __builtin_popcount(over[1]));
        _mm512_storeu_si512(q + i,
                            _mm512_packs_epi16(_mm512_srai_epi16(w[0], 8), _mm512_srai_epi16(w[1], 8)));
        const __m512i ends = _mm512_packus_epi16(_mm512_and_si512(w[0], low), _mm512_and_si512(w[1], low));
        _mm512_storeu_si512(r + i, _mm512_xor_si512(ends, mid));
    }
    return i < n ? clamped + efl_step_apply_avx2(q + i, r + i, v + i, n - i, s, qmin) : clamped;
}
#else
typedef int efl_step_avx512_elsewhere; /* ISO C wants a declaration */
#endif
