/* SPDX-License-Identifier: Apache-2.0
 * ADD with AVX512-VNNI; see add_avx2.c. 64 numbers a turn.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "nn/loops.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

static inline TARGET __m512i pair(int32_t m0, int32_t m1)
{
    return _mm512_set1_epi32((int32_t)((uint32_t)m1 << 16 | ((uint32_t)m0 & 0xffffu)));
}

typedef struct {
    __m512i high, low, bias, zero, lo, hi;
    __m128i shift;
} terms;

/* 32 numbers, int16 in the order of unpack. */
static inline TARGET __m512i half(__m256i a, __m256i b, const terms *t)
{
    const __m512i va = _mm512_cvtepi8_epi16(a), vb = _mm512_cvtepi8_epi16(b);
    const __m512i ab[2] = {_mm512_unpacklo_epi16(va, vb), _mm512_unpackhi_epi16(va, vb)};
    __m512i v[2];
    for (int j = 0; j < 2; j++) {
        const __m512i top = _mm512_slli_epi32(_mm512_madd_epi16(ab[j], t->high), 11);
        v[j] = _mm512_sra_epi32(_mm512_add_epi32(top, _mm512_dpwssd_epi32(t->bias, ab[j], t->low)), t->shift);
    }
    return _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), t->zero);
}

static inline TARGET __m512i sum64(__m512i a, __m512i b, const terms *t)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i w0 = half(_mm512_castsi512_si256(a), _mm512_castsi512_si256(b), t);
    const __m512i w1 = half(_mm512_extracti64x4_epi64(a, 1), _mm512_extracti64x4_epi64(b, 1), t);
    const __m512i q = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(w0, w1));
    return _mm512_min_epi8(_mm512_max_epi8(q, t->lo), t->hi);
}

TARGET void efl_add_i8_avx512(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p)
{
    const terms t = {pair(p->m0 >> 11, p->m1 >> 11),  pair(p->m0 & 2047, p->m1 & 2047),
                     _mm512_set1_epi32(p->bias),      _mm512_set1_epi16((int16_t)p->zero),
                     _mm512_set1_epi8((int8_t)p->lo), _mm512_set1_epi8((int8_t)p->hi),
                     _mm_cvtsi32_si128(p->shift)};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(y + i, sum64(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i), &t));
    if (i < n) {
        const __mmask64 rest = ~(__mmask64)0 >> (64 - (n - i));
        _mm512_mask_storeu_epi8(
            y + i, rest,
            sum64(_mm512_maskz_loadu_epi8(rest, a + i), _mm512_maskz_loadu_epi8(rest, b + i), &t));
    }
}
#else
typedef int efl_add_avx512_elsewhere; /* ISO C wants a declaration */
#endif
