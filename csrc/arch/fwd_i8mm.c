/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward matrix kernel with SMMLA (Armv8.6 i8mm): 2 pixels x 8 elements times 2 columns x 8 elements in
 * one instruction. Two groups of the panel are zipped into that order while loading: 8 zips serve 24 SMMLA of
 * a tile of 6 pixels, and the panels stay the same for every instruction set.
 */
#if defined(__aarch64__)
#include "arch/fwd_neon.h"

#if defined(__clang__)
#define TARGET __attribute__((target("i8mm")))
#else
#define TARGET __attribute__((target("+i8mm")))
#endif

#define PAIRS 3

/* 8 bytes of two pixels side by side; only the first 4 count if `half`. */
EFL_INLINE TARGET int8x16_t two_pixels(const int8_t *a, const int8_t *b, const int half)
{
    if (!half) return vcombine_s8(vld1_s8(a), vld1_s8(b));
    int32_t bytes[4] = {0, 0, 0, 0};
    memcpy(bytes, a, 4);
    memcpy(bytes + 2, b, 4);
    return vreinterpretq_s8_s32(vld1q_s32(bytes));
}

/* acc [pairs][8]: 2 pixels x 2 columns each, += 8 elements (4 if half). */
EFL_INLINE TARGET void add_groups(int32x4_t acc[][8], const int8_t *const *a, ptrdiff_t k, const int8_t *w,
                                  const int pairs, const int half)
{
    int8x16_t x[PAIRS];
    EFL_UNROLL
    for (int i = 0; i < pairs; i++) x[i] = two_pixels(a[2 * i] + k, a[2 * i + 1] + k, half);
    EFL_UNROLL
    for (int j = 0; j < 4; j++) {
        const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(w + 16 * j));
        const int32x4_t second = half ? vdupq_n_s32(0) : vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * j));
        const int8x16_t left = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        const int8x16_t right = vreinterpretq_s8_s32(vzip2q_s32(first, second));
        EFL_UNROLL
        for (int i = 0; i < pairs; i++) {
            acc[i][2 * j] = vmmlaq_s32(acc[i][2 * j], x[i], left);
            acc[i][2 * j + 1] = vmmlaq_s32(acc[i][2 * j + 1], x[i], right);
        }
    }
}

/* Four columns of the first or second pixel of a pair. */
EFL_INLINE TARGET int32x4_t row_of(const int32x4_t *acc, const int second)
{
    return second ? vcombine_s32(vget_high_s32(acc[0]), vget_high_s32(acc[1]))
                  : vcombine_s32(vget_low_s32(acc[0]), vget_low_s32(acc[1]));
}

/* `rows` pixels in pairs; an odd last one is its own partner. */
EFL_INLINE TARGET void tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                            const int rows)
{
    const int pairs = (rows + 1) / 2;
    const int8_t *a[2 * PAIRS];
    int32x4_t acc[PAIRS][8];
    EFL_UNROLL
    for (int i = 0; i < 2 * pairs; i++)
        a[i] = (const int8_t *)job->x + job->pixels[pixel + (i < rows ? i : rows - 1)];
    EFL_UNROLL
    for (int i = 0; i < pairs; i++) {
        EFL_UNROLL
        for (int j = 0; j < 8; j++) acc[i][j] = vdupq_n_s32(0);
    }
    for (int32_t r = 0; r < job->n_runs; r++) {
        ptrdiff_t k = job->offs[r];
        const ptrdiff_t end = k + 4 * job->groups;
        for (; k + 8 <= end; k += 8, w += 128) add_groups(acc, a, k, w, pairs, 0);
        if (k < end) {
            add_groups(acc, a, k, w, pairs, 1);
            w += 64;
        }
    }
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        EFL_UNROLL
        for (int h = 0; h < 2; h++)
            efl_fwd_store8(job, &clamp, row_of(acc[i / 2] + 4 * h, i % 2),
                           row_of(acc[i / 2] + 4 * h + 2, i % 2), pixel + i, column + 8 * h);
    }
}

TARGET void efl_fwd_gemm_i8mm(const efl_fwd_job *job)
{
    const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;
    const int8_t *w = job->w;
    for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel) {
        int32_t p = 0;
        for (; p + 6 <= job->n_pixels; p += 6) tile(job, w, p, c, 6);
        if (job->n_pixels - p >= 4) tile(job, w, p, c, 4), p += 4;
        if (job->n_pixels - p >= 2) tile(job, w, p, c, 2), p += 2;
        if (job->n_pixels - p >= 1) tile(job, w, p, c, 1);
    }
}
#else
typedef int efl_fwd_i8mm_elsewhere; /* ISO C wants a declaration */
#endif
