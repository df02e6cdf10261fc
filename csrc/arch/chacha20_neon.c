/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20, NEON: four blocks at once; the rotation by 16 is one REV32, the others shift and shift-insert.
 */
#if defined(__ARM_NEON)
#include <arm_neon.h>
#include <string.h>

#include "secagg/chacha20.h"

typedef uint32x4_t vec;
#define LANES 4u

static inline vec v_set1(uint32_t x)
{
    return vdupq_n_u32(x);
}
static inline vec v_add(vec a, vec b)
{
    return vaddq_u32(a, b);
}
static inline vec v_xor(vec a, vec b)
{
    return veorq_u32(a, b);
}
static inline vec v_rotl16(vec x)
{
    return vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)));
}
static inline vec v_rotl12(vec x)
{
    return vsriq_n_u32(vshlq_n_u32(x, 12), x, 20);
}
static inline vec v_rotl8(vec x)
{
    return vsriq_n_u32(vshlq_n_u32(x, 8), x, 24);
}
static inline vec v_rotl7(vec x)
{
    return vsriq_n_u32(vshlq_n_u32(x, 7), x, 25);
}

static inline vec v_iota(void)
{
    static const uint32_t lane[4] = {0, 1, 2, 3};
    return vld1q_u32(lane);
}

static inline void v_store(uint8_t *out, const vec x[16])
{
    for (int w = 0; w < 16; w += 4) {
        const uint32x4x2_t ab = vtrnq_u32(x[w], x[w + 1]), cd = vtrnq_u32(x[w + 2], x[w + 3]);
        const vec block[4] = {
            vcombine_u32(vget_low_u32(ab.val[0]), vget_low_u32(cd.val[0])),
            vcombine_u32(vget_low_u32(ab.val[1]), vget_low_u32(cd.val[1])),
            vcombine_u32(vget_high_u32(ab.val[0]), vget_high_u32(cd.val[0])),
            vcombine_u32(vget_high_u32(ab.val[1]), vget_high_u32(cd.val[1])),
        };
        for (int i = 0; i < 4; i++) {
            vst1q_u8(out + 64 * i + 4 * w, vreinterpretq_u8_u32(block[i]));
        }
    }
}

#include "secagg/chacha20_lanes.h"

void efl_chacha20_blocks_neon(uint8_t *out, const uint32_t state[16], size_t n_blocks)
{
    chacha20_lanes(out, state, n_blocks);
}
#endif
