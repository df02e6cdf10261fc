/* SPDX-License-Identifier: Apache-2.0
 *
 * What prepares and finishes the int8 matrix kernel, with NEON. On aarch64 vcvtn rounds to nearest even;
 * armv7 has no such conversion and flushes subnormals: there the scalar forms serve for what is float.
 */
#if defined(__ARM_NEON)
#include <arm_neon.h>

#include "nn/dot8.h"

void efl_zip4_neon(uint8_t *dst, size_t dst_step, int32_t *sums, const int8_t *src, size_t pitch,
                   size_t groups, size_t c, uint8_t flip)
{
    const size_t whole = c / 8 * 8;
    const int8x8_t flips = vdup_n_s8((int8_t)flip);
    for (size_t j = 0; j < whole; j += 8) {
        int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
        for (size_t g = 0; g < groups; g++) {
            const int8_t *from = src + 4 * g * pitch + j;
            int8x8x4_t rows = {
                {vld1_s8(from), vld1_s8(from + pitch), vld1_s8(from + 2 * pitch), vld1_s8(from + 3 * pitch)}};
            const int16x8_t sum =
                vaddq_s16(vaddl_s8(rows.val[0], rows.val[1]), vaddl_s8(rows.val[2], rows.val[3]));
            low = vaddw_s16(low, vget_low_s16(sum));
            high = vaddw_s16(high, vget_high_s16(sum));
            for (int r = 0; r < 4; r++) rows.val[r] = veor_s8(rows.val[r], flips);
            vst4_s8((int8_t *)dst + g * dst_step + 4 * j, rows);
        }
        if (!sums) continue;
        vst1q_s32(sums + j, vaddq_s32(vld1q_s32(sums + j), low));
        vst1q_s32(sums + j + 4, vaddq_s32(vld1q_s32(sums + j + 4), high));
    }
    if (whole < c)
        efl_zip4_ref(dst + 4 * whole, dst_step, sums ? sums + whole : NULL, src + whole, pitch, groups,
                     c - whole, flip);
}

#if defined(__aarch64__)

static inline int16x4_t scaled(int16x4_t e, const float *s)
{
    const float32x4_t v = vmulq_f32(vcvtq_f32_s32(vmovl_s16(e)), vld1q_f32(s));
    return vqmovn_s32(vcvtnq_s32_f32(v));
}

void efl_scale8_neon(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip)
{
    const size_t whole = c / 8 * 8;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < whole; j += 8) {
            const int16x8_t q = vmovl_s8(vld1_s8(e + i * c + j));
            const int16x8_t v =
                vcombine_s16(scaled(vget_low_s16(q), s + j), scaled(vget_high_s16(q), s + j + 4));
            const int8x8_t held = vmax_s8(vqmovn_s16(v), vdup_n_s8(-127));
            vst1_s8((int8_t *)dst + i * c + j, veor_s8(held, vdup_n_s8((int8_t)flip)));
        }
    if (whole < c)
        for (size_t i = 0; i < n; i++)
            efl_scale8_ref(dst + i * c + whole, e + i * c + whole, 1, c - whole, s + whole, flip);
}

/* 4 columns of a tile. */
static inline uint32_t step_columns(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                                    int32_t rows, const int32_t *fix, const float *f)
{
    const int32x4_t b = vld1q_s32(fix);
    const float32x4_t by = vld1q_f32(f), hi = vdupq_n_f32(32767.0f), lo = vdupq_n_f32(-32767.0f);
    uint32x4_t over = vdupq_n_u32(0);
    int64x2_t total = vdupq_n_s64(0);
    for (int32_t i = 0; i < rows; i++, tile += ldt) {
        const float32x4_t t = vmulq_f32(vcvtq_f32_s32(vsubq_s32(vld1q_s32(tile), b)), by);
        const float32x4_t held = vminq_f32(vmaxq_f32(t, lo), hi);
        over = vsubq_u32(over, vmvnq_u32(vceqq_f32(t, held)));
        const int16x4_t q = vmovn_s32(vcvtnq_s32_f32(held));
        total = vpadalq_s32(total, vmull_s16(q, q));
        v[i] = vget_lane_s16(q, 0);
        v[ldv + (size_t)i] = vget_lane_s16(q, 1);
        v[2 * ldv + (size_t)i] = vget_lane_s16(q, 2);
        v[3 * ldv + (size_t)i] = vget_lane_s16(q, 3);
    }
    *sum2 += (uint64_t)vaddvq_s64(total);
    return vaddvq_u32(over);
}

uint32_t efl_step_tile_neon(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                            int32_t rows, int32_t cols, const int32_t *fix, const float *f)
{
    uint32_t saturated = 0;
    int32_t j = 0;
    for (; j + 4 <= cols; j += 4)
        saturated += step_columns(v + (size_t)j * ldv, ldv, sum2, tile + j, ldt, rows, fix + j, f + j);
    if (j < cols)
        saturated +=
            efl_step_tile_ref(v + (size_t)j * ldv, ldv, sum2, tile + j, ldt, rows, cols - j, fix + j, f + j);
    return saturated;
}

#else

void efl_scale8_neon(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip)
{
    efl_scale8_ref(dst, e, n, c, s, flip);
}

uint32_t efl_step_tile_neon(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                            int32_t rows, int32_t cols, const int32_t *fix, const float *f)
{
    return efl_step_tile_ref(v, ldv, sum2, tile, ldt, rows, cols, fix, f);
}

#endif
#else
typedef int efl_train_neon_elsewhere; /* ISO C wants a declaration */
#endif
