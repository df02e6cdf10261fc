/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels with SDOT (Armv8.2 dotprod: Cortex-A55, A75 and later): four products a column and
 * instruction, 4 pixels x 16 columns.
 */
#if defined(__aarch64__)
#include "arch/fwd_neon.h"

#if defined(__clang__)
#define TARGET __attribute__((target("dotprod")))
#else
#define TARGET __attribute__((target("+dotprod")))
#endif

#define ROWS 4

EFL_INLINE TARGET void finish(const efl_fwd_job *job, int32x4_t acc[][4], int32_t pixel, int32_t column,
                              const int rows)
{
    const efl_fwd_clamp clamp = efl_fwd_clamp_of(job);
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        efl_fwd_store8(job, &clamp, acc[i][0], acc[i][1], pixel + i, column);
        efl_fwd_store8(job, &clamp, acc[i][2], acc[i][3], pixel + i, column + 8);
    }
}

/* One group of 16 columns against lane `lane` of each pixel's 16 bytes. */
#define GROUP(lane)                                                                                          \
    do {                                                                                                     \
        EFL_UNROLL                                                                                           \
        for (int j = 0; j < 4; j++) {                                                                        \
            const int8x16_t b = vld1q_s8(w + 64 * (lane) + 16 * j);                                          \
            EFL_UNROLL                                                                                       \
            for (int i = 0; i < rows; i++) acc[i][j] = vdotq_laneq_s32(acc[i][j], b, x[i], lane);            \
        }                                                                                                    \
    } while (0)

EFL_INLINE TARGET void gemm_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
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
        int8x16_t x[ROWS];
        for (; k + 16 <= end; k += 16, w += 256) {
            EFL_UNROLL
            for (int i = 0; i < rows; i++) x[i] = vld1q_s8(a[i] + k);
            GROUP(0);
            GROUP(1);
            GROUP(2);
            GROUP(3);
        }
        for (; k < end; k += 4, w += 64) {
            EFL_UNROLL
            for (int i = 0; i < rows; i++) x[i] = efl_fwd_four(a[i] + k);
            GROUP(0);
        }
    }
    finish(job, acc, pixel, column, rows);
}

EFL_INLINE TARGET void depth_tile(const efl_fwd_job *job, const int8_t *w, int32_t pixel, int32_t column,
                                  const int rows)
{
    const int8_t *a[ROWS];
    int32x4_t acc[ROWS][4];
    EFL_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = (const int8_t *)job->x + job->pixels[pixel + i] + 4 * column;
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = vdupq_n_s32(0);
    }
    for (int32_t r = 0; r < job->n_runs; r++, w += 64) {
        EFL_UNROLL
        for (int j = 0; j < 4; j++) {
            const int8x16_t b = vld1q_s8(w + 16 * j);
            EFL_UNROLL
            for (int i = 0; i < rows; i++)
                acc[i][j] = vdotq_s32(acc[i][j], b, vld1q_s8(a[i] + job->offs[r] + 16 * j));
        }
    }
    finish(job, acc, pixel, column, rows);
}

#define EACH_TILE(tile)                                                                                      \
    do {                                                                                                     \
        const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;                         \
        const int8_t *w = job->w;                                                                            \
        for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel) {                                        \
            int32_t p = 0;                                                                                   \
            for (; p + ROWS <= job->n_pixels; p += ROWS) tile(job, w, p, c, ROWS);                           \
            if (job->n_pixels - p >= 2) tile(job, w, p, c, 2), p += 2;                                       \
            if (job->n_pixels - p >= 1) tile(job, w, p, c, 1);                                               \
        }                                                                                                    \
    } while (0)

TARGET void efl_fwd_gemm_dotprod(const efl_fwd_job *job)
{
    EACH_TILE(gemm_tile);
}

TARGET void efl_fwd_depth_dotprod(const efl_fwd_job *job)
{
    EACH_TILE(depth_tile);
}
#else
typedef int efl_fwd_dotprod_elsewhere; /* ISO C wants a declaration */
#endif
