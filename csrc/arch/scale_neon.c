/* SPDX-License-Identifier: Apache-2.0
 *
 * Scaled errors on aarch64, whose vcvtn rounds to nearest even. armv7's NEON has no such conversion and
 * flushes subnormals: there the scalar form serves.
 */
#if defined(__ARM_NEON)
#include <arm_neon.h>

#include "nn/scale.h"

#if defined(__aarch64__)

static inline int32x4_t rounded(float32x4_t v, float32x4_t lo, float32x4_t hi)
{
    return vcvtnq_s32_f32(vminq_f32(vmaxq_f32(v, lo), hi));
}

static inline int8x16_t narrow(const int32x4_t q[4])
{
    const int16x8_t a = vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1]));
    const int16x8_t b = vcombine_s16(vqmovn_s32(q[2]), vqmovn_s32(q[3]));
    return vcombine_s8(vqmovn_s16(a), vqmovn_s16(b));
}

void efl_scale_cols_neon(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p)
{
    const size_t whole = c / 16 * 16;
    const float32x4_t lo = vdupq_n_f32(-127.0f), hi = vdupq_n_f32(127.0f);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < whole; j += 16) {
            const int8x16_t x = vld1q_s8(e + i * c + j);
            const int16x8_t half[2] = {vmovl_s8(vget_low_s8(x)), vmovl_s8(vget_high_s8(x))};
            int32x4_t q[4];
            for (int k = 0; k < 4; k++) {
                const int16x4_t part = k & 1 ? vget_high_s16(half[k / 2]) : vget_low_s16(half[k / 2]);
                const float32x4_t v =
                    vmulq_f32(vcvtq_f32_s32(vmovl_s16(part)), vld1q_f32(s + j + 4 * (size_t)k));
                q[k] = rounded(vmulq_n_f32(v, p), lo, hi);
            }
            vst1q_s8(dst + i * c + j, narrow(q));
        }
    if (whole < c)
        for (size_t i = 0; i < n; i++)
            efl_scale_cols_ref(dst + i * c + whole, e + i * c + whole, 1, c - whole, s + whole, p);
}

#else

void efl_scale_cols_neon(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p)
{
    efl_scale_cols_ref(dst, e, n, c, s, p);
}

#endif
#else
typedef int efl_scale_neon_elsewhere; /* ISO C wants a declaration */
#endif
