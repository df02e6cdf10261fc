/* SPDX-License-Identifier: Apache-2.0
 *
 * Rounding that the ARM forward kernels share. vcvtn rounds to nearest even; armv7 has no such conversion and
 * adds 1.5 * 2^23 instead. That it flushes subnormals changes nothing: they round to 0.
 */
#ifndef EFL_ARCH_FWD_NEON_H
#define EFL_ARCH_FWD_NEON_H
#include <arm_neon.h>
#include <string.h>

#include "nn/fwd.h"
#include "nn/unroll.h"

typedef struct {
    float32x4_t lo, hi;
    int32x4_t zero;
} efl_fwd_clamp;

EFL_INLINE efl_fwd_clamp efl_fwd_clamp_of(const efl_fwd_job *job)
{
    const efl_fwd_clamp c = {vdupq_n_f32((float)(job->lo - job->zero)),
                             vdupq_n_f32((float)(job->hi - job->zero)), vdupq_n_s32(job->zero)};
    return c;
}

EFL_INLINE int16x4_t efl_fwd_rounded(const efl_fwd_clamp *c, int32x4_t sum, float32x4_t mult)
{
    const float32x4_t v = vminq_f32(vmaxq_f32(vmulq_f32(vcvtq_f32_s32(sum), mult), c->lo), c->hi);
#if defined(__aarch64__)
    const int32x4_t whole = vcvtnq_s32_f32(v);
#else
    const float32x4_t magic = vdupq_n_f32(12582912.0f); /* 1.5 * 2^23 */
    const int32x4_t whole = vcvtq_s32_f32(vsubq_f32(vaddq_f32(v, magic), magic));
#endif
    return vmovn_s32(vaddq_s32(whole, c->zero));
}

/* 8 columns of a pixel, or as many as there are, from sums without their bias. */
EFL_INLINE void efl_fwd_store8(const efl_fwd_job *job, const efl_fwd_clamp *c, int32x4_t s0, int32x4_t s1,
                               int32_t pixel, int32_t column)
{
    const int32_t left = job->cols - column, cols = left < 8 ? left : 8;
    int8_t *y = job->y + (size_t)pixel * job->ldy + column;
    if (cols <= 0) return;
    s0 = vaddq_s32(s0, vld1q_s32(job->bias + column));
    s1 = vaddq_s32(s1, vld1q_s32(job->bias + column + 4));
    if (job->requant) {
        int32_t sums[EFL_NR];
        vst1q_s32(sums, s0);
        vst1q_s32(sums + 4, s1);
        job->requant(y, sums, 1, cols, column, job);
        return;
    }
    const int8x8_t bytes = vmovn_s16(vcombine_s16(efl_fwd_rounded(c, s0, vld1q_f32(job->mult + column)),
                                                  efl_fwd_rounded(c, s1, vld1q_f32(job->mult + column + 4))));
    if (cols == 8) {
        vst1_s8(y, bytes);
    } else {
        int8_t line[8];
        vst1_s8(line, bytes);
        memcpy(y, line, (size_t)cols);
    }
}

/* Four bytes, four times. */
EFL_INLINE int8x16_t efl_fwd_four(const int8_t *x)
{
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(bytes));
}

#endif
