/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel with SMMLA (Armv8.6 i8mm): 2 rows x 8 bytes times 2 columns x 8 bytes in one
 * instruction. Two groups of the panel are zipped into that order while loading: 8 zips serve 16 SMMLA.
 */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#include "nn/dot8.h"

#if defined(__clang__)
#define TARGET __attribute__((target("i8mm")))
#else
#define TARGET __attribute__((target("+i8mm")))
#endif

#define PAIRS 2

/* Two groups (the second zero if null) of two rows: [row][8]. */
TARGET static inline int8x16_t two_rows(const uint8_t *a, const uint8_t *b, ptrdiff_t at, ptrdiff_t next,
                                        int both)
{
    int32_t bytes[4] = {0, 0, 0, 0};
    memcpy(bytes, a + at, 4);
    memcpy(bytes + 2, b + at, 4);
    if (both) {
        memcpy(bytes + 1, a + at + next, 4);
        memcpy(bytes + 3, b + at + next, 4);
    }
    return vreinterpretq_s8_s32(vld1q_s32(bytes));
}

TARGET static inline void add_groups(int32x4_t c[PAIRS][8], const int8x16_t x[PAIRS], const int8_t *b,
                                     ptrdiff_t wide, int both)
{
    for (int j = 0; j < 4; j++) {
        const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(b + 16 * j));
        const int32x4_t second = both ? vreinterpretq_s32_s8(vld1q_s8(b + wide + 16 * j)) : vdupq_n_s32(0);
        const int8x16_t left = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        const int8x16_t right = vreinterpretq_s8_s32(vzip2q_s32(first, second));
        for (int i = 0; i < PAIRS; i++) {
            c[i][2 * j] = vmmlaq_s32(c[i][2 * j], x[i], left);
            c[i][2 * j + 1] = vmmlaq_s32(c[i][2 * j + 1], x[i], right);
        }
    }
}

TARGET static void rows_by_16(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t, int first,
                              int32_t col)
{
    int32x4_t c[PAIRS][8]; /* 2 rows x 2 columns each */
    for (int i = 0; i < PAIRS; i++)
        for (int j = 0; j < 8; j++) c[i][j] = vdupq_n_s32(0);
    const int8_t *b = t->panel + 4 * col;
    const ptrdiff_t wide = (ptrdiff_t)t->nv * 64, step = t->step;
    for (int32_t r = 0; r < t->n_runs; r++) {
        ptrdiff_t at = t->offs[r];
        for (int32_t g = 0; g < t->groups; g += 2, at += 2 * step) {
            const int both = g + 1 < t->groups;
            int8x16_t x[PAIRS];
            for (int i = 0; i < PAIRS; i++)
                x[i] = two_rows(rows[first + 2 * i], rows[first + 2 * i + 1], at, step, both);
            add_groups(c, x, b, wide, both);
            b += both ? 2 * wide : wide;
        }
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        int32_t *to = out[first + i] + col;
        const int32_t *start = t->init ? t->init + col : to;
        for (int j = 0; j < 4; j++) {
            const int64x2_t a = vreinterpretq_s64_s32(c[i / 2][2 * j]),
                            z = vreinterpretq_s64_s32(c[i / 2][2 * j + 1]);
            const int32x4_t row = vreinterpretq_s32_s64(i & 1 ? vzip2q_s64(a, z) : vzip1q_s64(a, z));
            const int32x4_t sum = vaddq_s32(row, vld1q_s32(start + 4 * j));
            vst1q_s32(to + 4 * j, sum);
            if (t->top) vst1q_s32(t->top + 4 * j, vmaxq_s32(vld1q_s32(t->top + 4 * j), vabsq_s32(sum)));
        }
    }
}

TARGET void efl_dot8_i8mm(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    for (int32_t col = 0; col < t->nv * EFL_DOT_COLS; col += EFL_DOT_COLS)
        for (int first = 0; first < EFL_DOT_ROWS; first += 2 * PAIRS) rows_by_16(out, rows, t, first, col);
}
#else
typedef int efl_dot8_i8mm_elsewhere; /* ISO C wants a declaration */
#endif
