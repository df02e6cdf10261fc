/* SPDX-License-Identifier: Apache-2.0
 *
 * Scaled errors with AVX2. cvtps rounds to nearest even, the default mode of the control register, which
 * nothing in this library changes.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "nn/scale.h"

#define TARGET __attribute__((target("avx2")))

static inline TARGET __m256i rounded(__m256 v, __m256 lo, __m256 hi)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi));
}

/* 16 int32 in int8 range, in order, as 16 bytes. */
static inline TARGET __m128i narrow(__m256i a, __m256i b)
{
    const __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

TARGET void efl_scale_cols_avx2(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p)
{
    const size_t whole = c / 16 * 16;
    const __m256 lo = _mm256_set1_ps(-127.0f), hi = _mm256_set1_ps(127.0f), pp = _mm256_set1_ps(p);
    for (size_t j = 0; j < whole; j += 16) {
        const __m256 s0 = _mm256_loadu_ps(s + j), s1 = _mm256_loadu_ps(s + j + 8);
        for (size_t i = 0; i < n; i++) {
            const __m128i q = _mm_loadu_si128((const __m128i *)(e + i * c + j));
            const __m256 v0 = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), s0);
            const __m256 v1 =
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))), s1);
            const __m256i q0 = rounded(_mm256_mul_ps(v0, pp), lo, hi),
                          q1 = rounded(_mm256_mul_ps(v1, pp), lo, hi);
            _mm_storeu_si128((__m128i *)(dst + i * c + j), narrow(q0, q1));
        }
    }
    if (whole == c) return;
    for (size_t i = 0; i < n; i++)
        for (size_t j = whole; j < c; j++) {
            const __m128 v =
                _mm_mul_ss(_mm_mul_ss(_mm_set_ss((float)e[i * c + j]), _mm_set_ss(s[j])), _mm_set_ss(p));
            const __m128 top = _mm_min_ss(_mm_max_ss(v, _mm_set_ss(-127.0f)), _mm_set_ss(127.0f));
            dst[i * c + j] = (int8_t)_mm_cvtss_si32(top);
        }
}
#else
typedef int efl_scale_avx2_elsewhere; /* ISO C wants a declaration */
#endif
