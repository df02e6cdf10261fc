/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20, AVX-512F: sixteen blocks at once, rotations are one instruction, all 16 state vectors stay in
 * registers.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "secagg/chacha20.h"

#pragma GCC push_options
#pragma GCC target("avx512f")

typedef __m512i vec;
#define LANES 16u

static inline vec v_set1(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}
static inline vec v_iota(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
static inline vec v_add(vec a, vec b)
{
    return _mm512_add_epi32(a, b);
}
static inline vec v_xor(vec a, vec b)
{
    return _mm512_xor_si512(a, b);
}
static inline vec v_rotl16(vec x)
{
    return _mm512_rol_epi32(x, 16);
}
static inline vec v_rotl12(vec x)
{
    return _mm512_rol_epi32(x, 12);
}
static inline vec v_rotl8(vec x)
{
    return _mm512_rol_epi32(x, 8);
}
static inline vec v_rotl7(vec x)
{
    return _mm512_rol_epi32(x, 7);
}

/* r [4]: words w..w+3 of blocks i, i + 4, i + 8, i + 12 in the four quarters of r[i]. */
static inline void transpose_4(vec r[4], const vec x[4])
{
    const vec ab_lo = _mm512_unpacklo_epi32(x[0], x[1]), ab_hi = _mm512_unpackhi_epi32(x[0], x[1]);
    const vec cd_lo = _mm512_unpacklo_epi32(x[2], x[3]), cd_hi = _mm512_unpackhi_epi32(x[2], x[3]);
    r[0] = _mm512_unpacklo_epi64(ab_lo, cd_lo), r[1] = _mm512_unpackhi_epi64(ab_lo, cd_lo);
    r[2] = _mm512_unpacklo_epi64(ab_hi, cd_hi), r[3] = _mm512_unpackhi_epi64(ab_hi, cd_hi);
}

static inline void v_store(uint8_t *out, const vec x[16])
{
    vec r[4][4];
    for (int w = 0; w < 4; w++) {
        transpose_4(r[w], x + 4 * w);
    }
    for (int i = 0; i < 4; i++) {
        /* quarters 0 and 1 (then 2 and 3) of words 0..7 and 8..15, then joined to whole blocks */
        const vec a = _mm512_shuffle_i32x4(r[0][i], r[1][i], 0x44),
                  b = _mm512_shuffle_i32x4(r[2][i], r[3][i], 0x44);
        const vec c = _mm512_shuffle_i32x4(r[0][i], r[1][i], 0xee),
                  d = _mm512_shuffle_i32x4(r[2][i], r[3][i], 0xee);
        uint8_t *block = out + 64 * i;
        _mm512_storeu_si512(block, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(block + 256, _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(block + 512, _mm512_shuffle_i32x4(c, d, 0x88));
        _mm512_storeu_si512(block + 768, _mm512_shuffle_i32x4(c, d, 0xdd));
    }
}

#include "secagg/chacha20_lanes.h"

void efl_chacha20_blocks_avx512(uint8_t *out, const uint32_t state[16], size_t n_blocks)
{
    chacha20_lanes(out, state, n_blocks);
}

#pragma GCC pop_options
#endif
