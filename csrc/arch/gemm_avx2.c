/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix kernels with AVX2: vpmaddwd on int16 pairs (vpmaddubsw would saturate). 6 x 16 sums in 12
 * registers.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "nn/gemm.h"

#define TARGET __attribute__((target("avx2")))

static inline TARGET __m256i pair(const int16_t *p)
{
    int32_t both;
    memcpy(&both, p, 4);
    return _mm256_set1_epi32(both);
}

static inline TARGET __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

#define MADD(i, a)                                                                                           \
    do {                                                                                                     \
        const __m256i s = (a);                                                                               \
        c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(s, b0));                                       \
        c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(s, b1));                                       \
    } while (0)

TARGET void efl_gemm_dot_avx2(int32_t *acc, const int16_t *const *rows, const int32_t *offs,
                              const int16_t *panel, int32_t n_runs, int32_t pairs)
{
    __m256i c[EFL_MR][2];
    for (int i = 0; i < EFL_MR; i++) c[i][0] = c[i][1] = _mm256_setzero_si256();
    for (int32_t r = 0; r < n_runs; r++) {
        const int16_t *a0 = rows[0] + offs[r], *a1 = rows[1] + offs[r], *a2 = rows[2] + offs[r];
        const int16_t *a3 = rows[3] + offs[r], *a4 = rows[4] + offs[r], *a5 = rows[5] + offs[r];
        for (int32_t p = 0; p < 2 * pairs; p += 2, panel += 2 * EFL_NR) {
            const __m256i b0 = load(panel), b1 = load(panel + EFL_NR);
            MADD(0, pair(a0 + p));
            MADD(1, pair(a1 + p));
            MADD(2, pair(a2 + p));
            MADD(3, pair(a3 + p));
            MADD(4, pair(a4 + p));
            MADD(5, pair(a5 + p));
        }
    }
    for (int i = 0; i < EFL_MR; i++) {
        _mm256_storeu_si256((__m256i *)(acc + i * EFL_NR), c[i][0]);
        _mm256_storeu_si256((__m256i *)(acc + i * EFL_NR + 8), c[i][1]);
    }
}

TARGET void efl_gemm_outer_avx2(int32_t *acc, const int16_t *e, const int16_t *x, const efl_outer_walk *walk)
{
    __m256i c[EFL_MR][2];
    for (int i = 0; i < EFL_MR; i++) c[i][0] = c[i][1] = _mm256_setzero_si256();
    for (int32_t row = 0; row < walk->rows; row++) {
        const int16_t *ep = e + row * walk->e_row;
        const int16_t *xp = x + row * walk->x_row;
        for (int32_t p = 0; p < walk->pairs; p++, ep += walk->e_pair, xp += 2 * walk->x_pixel) {
            const __m256i x0 = load(xp), x1 = load(xp + walk->x_pixel);
            const __m256i b0 = _mm256_unpacklo_epi16(x0, x1); /* columns 0-3, 8-11 */
            const __m256i b1 = _mm256_unpackhi_epi16(x0, x1); /* columns 4-7, 12-15 */
            MADD(0, pair(ep));
            MADD(1, pair(ep + 2));
            MADD(2, pair(ep + 4));
            MADD(3, pair(ep + 6));
            MADD(4, pair(ep + 8));
            MADD(5, pair(ep + 10));
        }
    }
    for (int i = 0; i < EFL_MR; i++) {
        _mm256_storeu_si256((__m256i *)(acc + i * EFL_NR), _mm256_permute2x128_si256(c[i][0], c[i][1], 0x20));
        _mm256_storeu_si256((__m256i *)(acc + i * EFL_NR + 8),
                            _mm256_permute2x128_si256(c[i][0], c[i][1], 0x31));
    }
}
#else
typedef int efl_gemm_avx2_elsewhere; /* ISO C wants a declaration */
#endif
