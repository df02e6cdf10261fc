/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD with AVX2. The multipliers are split, m = 2^11 h + l with 0 <= l < 2^11, so that vpmaddwd takes both
 * products of a pair; all sums stay exact in int32 (loops.h). Results may lie over an input: nothing is read
 * twice.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "nn/loops.h"

#define TARGET __attribute__((target("avx2")))

static inline TARGET __m256i pair(int32_t m0, int32_t m1)
{
    return _mm256_set1_epi32((int32_t)((uint32_t)m1 << 16 | ((uint32_t)m0 & 0xffffu)));
}

TARGET void efl_add_i8_avx2(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p)
{
    const __m256i high = pair(p->m0 >> 11, p->m1 >> 11), low = pair(p->m0 & 2047, p->m1 & 2047);
    const __m256i bias = _mm256_set1_epi32(p->bias), zero = _mm256_set1_epi16((int16_t)p->zero);
    const __m128i shift = _mm_cvtsi32_si128(p->shift);
    const __m128i lo = _mm_set1_epi8((int8_t)p->lo), hi = _mm_set1_epi8((int8_t)p->hi);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i va = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + i)));
        const __m256i vb = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + i)));
        const __m256i ab[2] = {_mm256_unpacklo_epi16(va, vb), _mm256_unpackhi_epi16(va, vb)};
        __m256i v[2];
        for (int j = 0; j < 2; j++) {
            const __m256i top = _mm256_slli_epi32(_mm256_madd_epi16(ab[j], high), 11);
            const __m256i rest = _mm256_add_epi32(_mm256_madd_epi16(ab[j], low), bias);
            v[j] = _mm256_sra_epi32(_mm256_add_epi32(top, rest), shift);
        }
        const __m256i w = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero);
        const __m128i q = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
        _mm_storeu_si128((__m128i *)(y + i), _mm_min_epi8(_mm_max_epi8(q, lo), hi));
    }
    if (i < n) efl_add_i8_ref(y + i, a + i, b + i, n - i, p);
}
#else
typedef int efl_add_avx2_elsewhere; /* ISO C wants a declaration */
#endif
