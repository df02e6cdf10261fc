/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix kernels with AVX512-VNNI: vpdpwssd multiplies int16 pairs and adds, 16 columns a register; even
 * and odd pairs go to two sets of sums, because one set of 6 would wait for its own latency.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "nn/gemm.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

static inline TARGET __m512i pair(const int16_t *p)
{
    int32_t both;
    memcpy(&both, p, 4);
    return _mm512_set1_epi32(both);
}

static inline TARGET void store(int32_t *acc, const __m512i c[2][EFL_MR])
{
    for (int i = 0; i < EFL_MR; i++)
        _mm512_storeu_si512(acc + i * EFL_NR, _mm512_add_epi32(c[0][i], c[1][i]));
}

#define ROWS6(set, b, at, step)                                                                              \
    do {                                                                                                     \
        c[set][0] = _mm512_dpwssd_epi32(c[set][0], b, pair(at(0, step)));                                    \
        c[set][1] = _mm512_dpwssd_epi32(c[set][1], b, pair(at(1, step)));                                    \
        c[set][2] = _mm512_dpwssd_epi32(c[set][2], b, pair(at(2, step)));                                    \
        c[set][3] = _mm512_dpwssd_epi32(c[set][3], b, pair(at(3, step)));                                    \
        c[set][4] = _mm512_dpwssd_epi32(c[set][4], b, pair(at(4, step)));                                    \
        c[set][5] = _mm512_dpwssd_epi32(c[set][5], b, pair(at(5, step)));                                    \
    } while (0)

TARGET void efl_gemm_dot_avx512vnni(int32_t *acc, const int16_t *const *rows, const int32_t *offs,
                                    const int16_t *panel, int32_t n_runs, int32_t pairs)
{
#define AT(i, p) (a##i + 2 * (p))
    __m512i c[2][EFL_MR];
    for (int i = 0; i < EFL_MR; i++) c[0][i] = c[1][i] = _mm512_setzero_si512();
    for (int32_t r = 0; r < n_runs; r++) {
        const int16_t *a0 = rows[0] + offs[r], *a1 = rows[1] + offs[r], *a2 = rows[2] + offs[r];
        const int16_t *a3 = rows[3] + offs[r], *a4 = rows[4] + offs[r], *a5 = rows[5] + offs[r];
        int32_t p = 0;
        for (; p + 2 <= pairs; p += 2, panel += 4 * EFL_NR) {
            const __m512i b0 = _mm512_loadu_si512(panel), b1 = _mm512_loadu_si512(panel + 2 * EFL_NR);
            ROWS6(0, b0, AT, p);
            ROWS6(1, b1, AT, p + 1);
        }
        if (p < pairs) {
            const __m512i b0 = _mm512_loadu_si512(panel);
            panel += 2 * EFL_NR;
            ROWS6(0, b0, AT, p);
        }
    }
    store(acc, (const __m512i(*)[EFL_MR])c);
#undef AT
}

/* Columns x0[0..15] and x1[0..15] as 16 int16 pairs in order. */
static inline TARGET __m512i zip(const int16_t *x0, const int16_t *x1)
{
    const __m512i lo = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x0));
    const __m512i hi = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x1));
    return _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16));
}

TARGET void efl_gemm_outer_avx512vnni(int32_t *acc, const int16_t *e, const int16_t *x,
                                      const efl_outer_walk *walk)
{
#define AT(i, s) (ep + (s) * walk->e_pair + 2 * i)
    __m512i c[2][EFL_MR];
    for (int i = 0; i < EFL_MR; i++) c[0][i] = c[1][i] = _mm512_setzero_si512();
    const ptrdiff_t next = walk->x_pixel;
    for (int32_t row = 0; row < walk->rows; row++) {
        const int16_t *ep = e + row * walk->e_row;
        const int16_t *xp = x + row * walk->x_row;
        int32_t p = 0;
        for (; p + 2 <= walk->pairs; p += 2, ep += 2 * walk->e_pair, xp += 4 * next) {
            const __m512i b0 = zip(xp, xp + next), b1 = zip(xp + 2 * next, xp + 3 * next);
            ROWS6(0, b0, AT, 0);
            ROWS6(1, b1, AT, 1);
        }
        if (p < walk->pairs) {
            const __m512i b0 = zip(xp, xp + next);
            ROWS6(0, b0, AT, 0);
        }
    }
    store(acc, (const __m512i(*)[EFL_MR])c);
#undef AT
}
#else
typedef int efl_gemm_avx512vnni_elsewhere; /* ISO C wants a declaration */
#endif
