/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel with SDOT (Armv8.2 dotprod): four products a column and instruction, 4 rows by 16
 * columns.
 */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "nn/dot8.h"

#if defined(__clang__)
#define TARGET __attribute__((target("dotprod")))
#else
#define TARGET __attribute__((target("+dotprod")))
#endif

#define ROWS 4

TARGET static void rows_by_16(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t, int first,
                              int32_t col)
{
    int32x4_t c[ROWS][4];
    for (int i = 0; i < ROWS; i++) {
        const int32_t *start = (t->init ? t->init : out[first + i]) + col;
        for (int j = 0; j < 4; j++) c[i][j] = vld1q_s32(start + 4 * j);
    }
    const int8_t *b = t->panel + 4 * col;
    const ptrdiff_t wide = (ptrdiff_t)t->nv * 64;
    for (int32_t r = 0; r < t->n_runs; r++) {
        ptrdiff_t at = t->offs[r];
        for (int32_t g = 0; g < t->groups; g++, at += t->step, b += wide) {
            int8x16_t x[ROWS];
            for (int i = 0; i < ROWS; i++)
                x[i] = vreinterpretq_s8_s32(vld1q_dup_s32((const void *)(rows[first + i] + at)));
            for (int j = 0; j < 4; j++) {
                const int8x16_t w = vld1q_s8(b + 16 * j);
                for (int i = 0; i < ROWS; i++) c[i][j] = vdotq_s32(c[i][j], w, x[i]);
            }
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 4; j++) {
            vst1q_s32(out[first + i] + col + 4 * j, c[i][j]);
            if (t->top) vst1q_s32(t->top + 4 * j, vmaxq_s32(vld1q_s32(t->top + 4 * j), vabsq_s32(c[i][j])));
        }
}

TARGET void efl_dot8_dotprod(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    for (int32_t col = 0; col < t->nv * EFL_DOT_COLS; col += EFL_DOT_COLS)
        for (int first = 0; first < EFL_DOT_ROWS; first += ROWS) rows_by_16(out, rows, t, first, col);
}
#else
typedef int efl_dot8_dotprod_elsewhere; /* ISO C wants a declaration */
#endif
