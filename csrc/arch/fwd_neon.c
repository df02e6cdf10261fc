/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels with NEON (armv7 and aarch64): SMULL and SMLAL take two groups of four products a
 * column into int16, SADALP adds them to int32. 2 * 127 * 128 fits in int16, 2 * 128 * 128 does not: layers
 * that hold a weight of -128 take one group at a time. Half a panel a tile, 4 pixels where there are 32
 * registers, else 2.
 */
#if defined(__aarch64__) || defined(__ARM_NEON)
#include "arch/fwd_neon.h"

#if defined(__aarch64__)
#define ROWS 4
#else
#define ROWS 2
#endif

EFL_INLINE int16x8_t mul_low(int8x16_t x, int8x16_t w)
{
    return vmull_s8(vget_low_s8(x), vget_low_s8(w));
}
EFL_INLINE int16x8_t mul_high(int8x16_t x, int8x16_t w)
{
    return vmull_s8(vget_high_s8(x), vget_high_s8(w));
}
EFL_INLINE int16x8_t add_low(int16x8_t sum, int8x16_t x, int8x16_t w)
{
    return vmlal_s8(sum, vget_low_s8(x), vget_low_s8(w));
}
EFL_INLINE int16x8_t add_high(int16x8_t sum, int8x16_t x, int8x16_t w)
{
    return vmlal_s8(sum, vget_high_s8(x), vget_high_s8(w));
}

/* acc [4], two columns each, += x0 * w0 (and x1 * w1); x and w hold four columns a register. */
EFL_INLINE void add_one(int32x4_t *acc, const int8x16_t *x, const int8x16_t *w)
{
    acc[0] = vpadalq_s16(acc[0], mul_low(x[0], w[0]));
    acc[1] = vpadalq_s16(acc[1], mul_high(x[0], w[0]));
    acc[2] = vpadalq_s16(acc[2], mul_low(x[1], w[1]));
    acc[3] = vpadalq_s16(acc[3], mul_high(x[1], w[1]));
}
EFL_INLINE void add_two(int32x4_t *acc, const int8x16_t *x0, const int8x16_t *w0, const int8x16_t *x1,
                        const int8x16_t *w1)
{
    acc[0] = vpadalq_s16(acc[0], add_low(mul_low(x0[0], w0[0]), x1[0], w1[0]));
    acc[1] = vpadalq_s16(acc[1], add_high(mul_high(x0[0], w0[0]), x1[0], w1[0]));
    acc[2] = vpadalq_s16(acc[2], add_low(mul_low(x0[1], w0[1]), x1[1], w1[1]));
    acc[3] = vpadalq_s16(acc[3], add_high(mul_high(x0[1], w0[1]), x1[1], w1[1]));
}

EFL_INLINE void load2(int8x16_t *to, const int8_t *from)
{
    to[0] = vld1q_s8(from);
    to[1] = vld1q_s8(from + 16);
}

EFL_INLINE int32x4_t joined(int32x4_t a, int32x4_t b)
{
#if defined(__aarch64__)
    return vpaddq_s32(a, b);
#else
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)),
                        vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

EFL_INLINE void finish(const efl_fwd_job *job, int32x4_t acc[][4], int32_t pixel, int32_t column,
                       const int rows)
{
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    EFL_UNROLL
    for (int i = 0; i < rows; i++)
        efl_fwd_store8(job, &clamp, joined(acc[i][0], acc[i][1]), joined(acc[i][2], acc[i][3]), pixel + i,
                       column);
}

/* w: the half panel's first group. */
EFL_INLINE void gemm_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                          const int rows)
{
    const int8_t *a[ROWS];
    int32x4_t acc[ROWS][4];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const int8_t *)job->x + job->pixels[pixel + i];
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = vdupq_n_s32(0);
    }
    for (int32_t r = 0; r < job->n_runs; r++) {
        ptrdiff_t k = job->offs[r];
        const ptrdiff_t end = k + 4 * job->groups;
        int8x16_t w0[2], w1[2];
        for (; !job->extreme && k + 8 <= end; k += 8, w += 128) {
            load2(w0, w);
            load2(w1, w + 64);
            EFL_UNROLL
            for (int i = 0; i < rows; i++) {
                const int8x16_t v0 = efl_fwd_four(a[i] + k), v1 = efl_fwd_four(a[i] + k + 4);
                const int8x16_t x0[2] = {v0, v0}, x1[2] = {v1, v1};
                add_two(acc[i], x0, w0, x1, w1);
            }
        }
        for (; k < end; k += 4, w += 64) {
            load2(w0, w);
            EFL_UNROLL
            for (int i = 0; i < rows; i++) {
                const int8x16_t v0 = efl_fwd_four(a[i] + k);
                const int8x16_t x0[2] = {v0, v0};
                add_one(acc[i], x0, w0);
            }
        }
    }
    finish(job, acc, pixel, column, rows);
}

EFL_INLINE void depth_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                           const int rows)
{
    const int8_t *a[ROWS];
    int32x4_t acc[ROWS][4];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const int8_t *)job->x + job->pixels[pixel + i] + 4 * column;
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = vdupq_n_s32(0);
    }
    int8x16_t w0[2], w1[2], x0[2], x1[2];
    int32_t r = 0;
    for (; !job->extreme && r + 2 <= job->n_runs; r += 2, w += 128) {
        load2(w0, w);
        load2(w1, w + 64);
        EFL_UNROLL
        for (int i = 0; i < rows; i++) {
            load2(x0, a[i] + job->offs[r]);
            load2(x1, a[i] + job->offs[r + 1]);
            add_two(acc[i], x0, w0, x1, w1);
        }
    }
    for (; r < job->n_runs; r++, w += 64) {
        load2(w0, w);
        EFL_UNROLL
        for (int i = 0; i < rows; i++) {
            load2(x0, a[i] + job->offs[r]);
            add_one(acc[i], x0, w0);
        }
    }
    finish(job, acc, pixel, column, rows);
}

#define EACH_TILE(tile)                                                                                      \
    do {                                                                                                     \
        const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;                         \
        for (int32_t c = 0; c < job->cols; c += 8) {                                                         \
            const int8_t *w = job->w + (size_t)(c / EFL_NR) * panel + c % EFL_NR * 4;                        \
            int32_t p = 0;                                                                                   \
            for (; p + ROWS <= job->n_pixels; p += ROWS) tile(job, w, p, c, ROWS);                           \
            if (ROWS > 2 && job->n_pixels - p >= 2) tile(job, w, p, c, 2), p += 2;                           \
            if (job->n_pixels - p >= 1) tile(job, w, p, c, 1);                                               \
        }                                                                                                    \
    } while (0)

void efl_fwd_gemm_neon(const efl_fwd_job *job)
{
    EACH_TILE(gemm_tile);
}

void efl_fwd_depth_neon(const efl_fwd_job *job)
{
    EACH_TILE(depth_tile);
}
#else
typedef int efl_fwd_neon_elsewhere; /* ISO C wants a declaration */
#endif
