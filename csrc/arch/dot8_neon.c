/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel with NEON (armv7 and aarch64): SMULL and SMLAL on bytes of two groups, then SADALP.
 * One of the two factors is an error in -127..127, so the two products fit int16: 2 * 127 * 128 = 32512.
 */
#if defined(__ARM_NEON)
#include <arm_neon.h>
#include <string.h>

#include "nn/dot8.h"

#if defined(__aarch64__)
#define ROWS 4
#else
#define ROWS 2 /* armv7 has 16 registers */
#endif

static inline int8x8_t four(const uint8_t *p)
{
    int32_t all;
    memcpy(&all, p, 4);
    return vreinterpret_s8_s32(vdup_n_s32(all));
}

static inline int32x4_t add_pairs(int32x4_t a, int32x4_t b)
{
#if defined(__aarch64__)
    return vpaddq_s32(a, b);
#else
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)),
                        vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

/* Rows first.. (ROWS of them) by 8 columns from col on: a register holds two columns of two partial sums. */
static void rows_by_8(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t, int first,
                      int32_t col)
{
    int32x4_t c[ROWS][4];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 4; j++) c[i][j] = vdupq_n_s32(0);
    const int8_t *b = t->panel + 4 * col;
    const ptrdiff_t wide = (ptrdiff_t)t->nv * 64, step = t->step;
    for (int32_t r = 0; r < t->n_runs; r++) {
        ptrdiff_t at = t->offs[r];
        int32_t g = 0;
        for (; g + 2 <= t->groups; g += 2, at += 2 * step, b += 2 * wide) {
            int8x8_t x0[ROWS], x1[ROWS];
            for (int i = 0; i < ROWS; i++) {
                x0[i] = four(rows[first + i] + at);
                x1[i] = four(rows[first + i] + at + step);
            }
            for (int j = 0; j < 4; j++) {
                const int8x8_t w0 = vld1_s8(b + 8 * j), w1 = vld1_s8(b + wide + 8 * j);
                for (int i = 0; i < ROWS; i++)
                    c[i][j] = vpadalq_s16(c[i][j], vmlal_s8(vmull_s8(x0[i], w0), x1[i], w1));
            }
        }
        if (g == t->groups) continue;
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < ROWS; i++)
                c[i][j] = vpadalq_s16(c[i][j], vmull_s8(four(rows[first + i] + at), vld1_s8(b + 8 * j)));
        b += wide;
    }
    for (int i = 0; i < ROWS; i++) {
        int32_t *to = out[first + i] + col;
        const int32_t *start = t->init ? t->init + col : to;
        for (int h = 0; h < 2; h++) {
            const int32x4_t sum =
                vaddq_s32(add_pairs(c[i][2 * h], c[i][2 * h + 1]), vld1q_s32(start + 4 * h));
            vst1q_s32(to + 4 * h, sum);
            if (t->top) vst1q_s32(t->top + 4 * h, vmaxq_s32(vld1q_s32(t->top + 4 * h), vabsq_s32(sum)));
        }
    }
}

void efl_dot8_neon(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    for (int32_t col = 0; col < t->nv * EFL_DOT_COLS; col += 8)
        for (int first = 0; first < EFL_DOT_ROWS; first += ROWS) rows_by_8(out, rows, t, first, col);
}
#else
typedef int efl_dot8_neon_elsewhere; /* ISO C wants a declaration */
#endif
