/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix kernels with NEON (armv7 and aarch64): SMLAL by lane on int16, exact for every int8 weight, -128
 * included. Eight columns at a time, so that armv7's 16 registers hold the sums of 6 rows.
 */
#if defined(__aarch64__) || defined(__ARM_NEON)
#include <arm_neon.h>
#include <string.h>

#include "nn/gemm.h"

static inline int16x4_t pair(const int16_t *p)
{
    int32_t both;
    memcpy(&both, p, 4);
    return vreinterpret_s16_s32(vdup_n_s32(both));
}

#define MLAL(i, a)                                                                                           \
    do {                                                                                                     \
        const int16x4_t s = (a);                                                                             \
        c[i][0] = vmlal_lane_s16(c[i][0], vget_low_s16(b0), s, 0);                                           \
        c[i][1] = vmlal_lane_s16(c[i][1], vget_high_s16(b0), s, 0);                                          \
        c[i][0] = vmlal_lane_s16(c[i][0], vget_low_s16(b1), s, 1);                                           \
        c[i][1] = vmlal_lane_s16(c[i][1], vget_high_s16(b1), s, 1);                                          \
    } while (0)

static inline void store(int32_t *acc, int32x4_t c[EFL_MR][2])
{
    for (int i = 0; i < EFL_MR; i++) {
        vst1q_s32(acc + i * EFL_NR, c[i][0]);
        vst1q_s32(acc + i * EFL_NR + 4, c[i][1]);
    }
}

void efl_gemm_dot_neon(int32_t *acc, const int16_t *const *rows, const int32_t *offs, const int16_t *panel,
                       int32_t n_runs, int32_t pairs)
{
    for (int half = 0; half < 2; half++) {
        int32x4_t c[EFL_MR][2];
        for (int i = 0; i < EFL_MR; i++) c[i][0] = c[i][1] = vdupq_n_s32(0);
        const int16_t *b = panel + half * EFL_NR;
        for (int32_t r = 0; r < n_runs; r++)
            for (int32_t p = 0; p < pairs; p++, b += 2 * EFL_NR) {
                const int16x8x2_t both = vld2q_s16(b); /* even and odd elements of 8 columns */
                const int16x8_t b0 = both.val[0], b1 = both.val[1];
                const ptrdiff_t at = offs[r] + 2 * p;
                MLAL(0, pair(rows[0] + at));
                MLAL(1, pair(rows[1] + at));
                MLAL(2, pair(rows[2] + at));
                MLAL(3, pair(rows[3] + at));
                MLAL(4, pair(rows[4] + at));
                MLAL(5, pair(rows[5] + at));
            }
        store(acc + half * 8, c);
    }
}

void efl_gemm_outer_neon(int32_t *acc, const int16_t *e, const int16_t *x, const efl_outer_walk *walk)
{
    for (int half = 0; half < 2; half++) {
        int32x4_t c[EFL_MR][2];
        for (int i = 0; i < EFL_MR; i++) c[i][0] = c[i][1] = vdupq_n_s32(0);
        for (int32_t row = 0; row < walk->rows; row++) {
            const int16_t *ep = e + row * walk->e_row;
            const int16_t *xp = x + row * walk->x_row + half * 8;
            for (int32_t p = 0; p < walk->pairs; p++, ep += walk->e_pair, xp += 2 * walk->x_pixel) {
                const int16x8_t b0 = vld1q_s16(xp), b1 = vld1q_s16(xp + walk->x_pixel);
                MLAL(0, pair(ep));
                MLAL(1, pair(ep + 2));
                MLAL(2, pair(ep + 4));
                MLAL(3, pair(ep + 6));
                MLAL(4, pair(ep + 8));
                MLAL(5, pair(ep + 10));
            }
        }
        store(acc + half * 8, c);
    }
}
#else
typedef int efl_gemm_neon_elsewhere; /* ISO C wants a declaration */
#endif
