/* SPDX-License-Identifier: Apache-2.0
 * What surrounds the forward kernels, with NEON: four rows into one image, and weights into panels.
 */
#if defined(__aarch64__) || defined(__ARM_NEON)
#include "arch/fwd_neon.h"

void efl_fwd_weave_neon(void *image, const int8_t *const *rows, size_t n)
{
    int8_t *to = image;
    if (n < 16) {
        efl_fwd_weave_ref(image, rows, n);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        i = i + 16 > n ? n - 16 : i; /* the last vector may lie over the one before it */
        const int8x16x4_t all = {
            {vld1q_s8(rows[0] + i), vld1q_s8(rows[1] + i), vld1q_s8(rows[2] + i), vld1q_s8(rows[3] + i)}};
        vst4q_s8(to + 4 * i, all);
    }
}

/* Four groups of four channels, 16 bytes each: a transpose of 4 x 4 words. */
EFL_INLINE void put16(int8_t *to, const int8_t *w, size_t ldw)
{
    const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w)), b = vreinterpretq_s32_s8(vld1q_s8(w + ldw));
    const int32x4_t c = vreinterpretq_s32_s8(vld1q_s8(w + 2 * ldw)),
                    d = vreinterpretq_s32_s8(vld1q_s8(w + 3 * ldw));
    const int32x4x2_t ab = vtrnq_s32(a, b), cd = vtrnq_s32(c, d);
    const int32x4_t group[4] = {vcombine_s32(vget_low_s32(ab.val[0]), vget_low_s32(cd.val[0])),
                                vcombine_s32(vget_low_s32(ab.val[1]), vget_low_s32(cd.val[1])),
                                vcombine_s32(vget_high_s32(ab.val[0]), vget_high_s32(cd.val[0])),
                                vcombine_s32(vget_high_s32(ab.val[1]), vget_high_s32(cd.val[1]))};
    EFL_UNROLL
    for (int g = 0; g < 4; g++) vst1q_s8(to + 64 * g, vreinterpretq_s8_s32(group[g]));
}

/* One channel's run from element t on. */
static void put_rest(int8_t *to, const int8_t *w, int32_t t, int32_t run)
{
    for (to += 16 * t; t < run; t += 4, to += 64) memcpy(to, w + t, (size_t)(run - t < 4 ? run - t : 4));
}

void efl_fwd_pack_neon(int8_t *panel, int32_t *sums, const int8_t *w, size_t ldw, int32_t n_runs, int32_t run,
                       int32_t cols)
{
    const size_t step = (size_t)((run + 3) / 4) * 64, total = (size_t)n_runs * step;
    if (cols < EFL_NR || run % 4) memset(panel, 0, total);
    for (int32_t r = 0; r < n_runs; r++, w += run) {
        int8_t *to = panel + (size_t)r * step;
        int32_t j = 0;
        for (; j + 4 <= cols; j += 4) {
            const int8_t *from = w + (size_t)j * ldw;
            int32_t t = 0;
            for (; t + 16 <= run; t += 16) put16(to + 4 * j + 16 * t, from + t, ldw);
            if (t < run)
                for (int32_t i = 0; i < 4; i++) put_rest(to + 4 * (j + i), from + (size_t)i * ldw, t, run);
        }
        for (; j < cols; j++) put_rest(to + 4 * j, w + (size_t)j * ldw, 0, run);
    }
    int32x4_t s[4];
    EFL_UNROLL
    for (int j = 0; j < 4; j++) s[j] = vdupq_n_s32(0);
    for (size_t i = 0; i < total; i += 64) {
        EFL_UNROLL
        for (int j = 0; j < 4; j++)
            s[j] = vpadalq_s16(s[j], vpaddlq_s8(vld1q_s8(panel + i + 16 * (size_t)j)));
    }
    EFL_UNROLL
    for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * j, s[j]);
}
#else
typedef int efl_fwd_rows_neon_elsewhere; /* ISO C wants a declaration */
#endif
