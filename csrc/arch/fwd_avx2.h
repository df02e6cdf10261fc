/* SPDX-License-Identifier: Apache-2.0
 * Parts of the forward kernels that AVX2 and 256-bit VNNI share: rounding one pixel's 16 sums.
 */
#ifndef EFL_ARCH_FWD_AVX2_H
#define EFL_ARCH_FWD_AVX2_H
#include <immintrin.h>
#include <string.h>

#include "nn/fwd.h"
#include "nn/unroll.h"

#define EFL_AVX2 __attribute__((target("avx2")))

typedef struct {
    __m256 hi;
    __m256i zero;
    __m128i lo;
} efl_fwd_clamp;

EFL_INLINE EFL_AVX2 efl_fwd_clamp efl_fwd_clamp_of(const efl_fwd_job *job)
{
    efl_fwd_clamp c;
    c.hi = _mm256_set1_ps((float)(job->hi - job->zero));
    c.zero = _mm256_set1_epi16((int16_t)job->zero);
    c.lo = _mm_set1_epi8((int8_t)job->lo);
    return c;
}

/* Two lines of 8 sums -> 16 int8. The lower clamp follows in int8: a float below it rounds to a number below
 * it, or saturates. */
EFL_INLINE EFL_AVX2 __m128i efl_fwd_rounded(const efl_fwd_clamp *c, __m256i s0, __m256i s1, __m256 m0,
                                            __m256 m1)
{
    const __m256 v0 = _mm256_mul_ps(_mm256_cvtepi32_ps(s0), m0),
                 v1 = _mm256_mul_ps(_mm256_cvtepi32_ps(s1), m1);
    const __m256i q0 = _mm256_cvtps_epi32(_mm256_min_ps(v0, c->hi));
    const __m256i q1 = _mm256_cvtps_epi32(_mm256_min_ps(v1, c->hi));
    const __m256i w = _mm256_permute4x64_epi64(_mm256_adds_epi16(_mm256_packs_epi32(q0, q1), c->zero), 0xd8);
    return _mm_max_epi8(_mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)), c->lo);
}

/* One pixel's 16 columns, or as many as there are. */
EFL_INLINE EFL_AVX2 void efl_fwd_store16(const efl_fwd_job *job, const efl_fwd_clamp *c, __m256i s0,
                                         __m256i s1, int32_t pixel, int32_t column)
{
    const int32_t left = job->cols - column, cols = left < EFL_NR ? left : EFL_NR;
    int8_t *y = job->y + (size_t)pixel * job->ldy + column;
    if (job->requant) {
        int32_t sums[EFL_NR];
        _mm256_storeu_si256((__m256i *)sums, s0);
        _mm256_storeu_si256((__m256i *)(sums + 8), s1);
        job->requant(y, sums, 1, cols, column, job);
        return;
    }
    const __m128i bytes = efl_fwd_rounded(c, s0, s1, _mm256_loadu_ps(job->mult + column),
                                          _mm256_loadu_ps(job->mult + column + 8));
    if (cols == EFL_NR) {
        _mm_storeu_si128((__m128i *)y, bytes);
    } else if (cols == 8) {
        _mm_storel_epi64((__m128i *)y, bytes);
    } else {
        int8_t line[EFL_NR];
        _mm_storeu_si128((__m128i *)line, bytes);
        memcpy(y, line, (size_t)cols);
    }
}

#endif
