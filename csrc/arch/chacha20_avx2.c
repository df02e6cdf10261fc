/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20, AVX2: eight blocks at once; rotations by 16 and 8 are byte shuffles.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "secagg/chacha20.h"

#pragma GCC push_options
#pragma GCC target("avx2")

typedef __m256i vec;
#define LANES 8u

static inline vec v_set1(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}
static inline vec v_iota(void)
{
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}
static inline vec v_add(vec a, vec b)
{
    return _mm256_add_epi32(a, b);
}
static inline vec v_xor(vec a, vec b)
{
    return _mm256_xor_si256(a, b);
}
static inline vec v_rotl12(vec x)
{
    return _mm256_or_si256(_mm256_slli_epi32(x, 12), _mm256_srli_epi32(x, 20));
}
static inline vec v_rotl7(vec x)
{
    return _mm256_or_si256(_mm256_slli_epi32(x, 7), _mm256_srli_epi32(x, 25));
}

static inline vec v_rotl16(vec x)
{
    return _mm256_shuffle_epi8(x, _mm256_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3,
                                                   0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
}

static inline vec v_rotl8(vec x)
{
    return _mm256_shuffle_epi8(x, _mm256_setr_epi8(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0,
                                                   1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
}

/* r [4]: words w..w+3 of block i in the low half of r[i], of block i + 4 in the high half. */
static inline void transpose_4(vec r[4], const vec x[4])
{
    const vec ab_lo = _mm256_unpacklo_epi32(x[0], x[1]), ab_hi = _mm256_unpackhi_epi32(x[0], x[1]);
    const vec cd_lo = _mm256_unpacklo_epi32(x[2], x[3]), cd_hi = _mm256_unpackhi_epi32(x[2], x[3]);
    r[0] = _mm256_unpacklo_epi64(ab_lo, cd_lo), r[1] = _mm256_unpackhi_epi64(ab_lo, cd_lo);
    r[2] = _mm256_unpacklo_epi64(ab_hi, cd_hi), r[3] = _mm256_unpackhi_epi64(ab_hi, cd_hi);
}

static inline void v_store(uint8_t *out, const vec x[16])
{
    for (int half = 0; half < 2; half++) {
        vec lo[4], hi[4];
        transpose_4(lo, x + 8 * half);
        transpose_4(hi, x + 8 * half + 4);
        for (int i = 0; i < 4; i++) {
            uint8_t *block = out + 64 * i + 32 * half;
            _mm256_storeu_si256((vec *)(void *)block, _mm256_permute2x128_si256(lo[i], hi[i], 0x20));
            _mm256_storeu_si256((vec *)(void *)(block + 256), _mm256_permute2x128_si256(lo[i], hi[i], 0x31));
        }
    }
}

#include "secagg/chacha20_lanes.h"

void efl_chacha20_blocks_avx2(uint8_t *out, const uint32_t state[16], size_t n_blocks)
{
    chacha20_lanes(out, state, n_blocks);
}

#pragma GCC pop_options
#endif
