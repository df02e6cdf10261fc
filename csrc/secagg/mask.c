/* SPDX-License-Identifier: Apache-2.0
 *
 * Mask expansion: ring += or -= the key streams of any number of seeds, mod 2^W.
 * Each seed is one ChaCha20 stream (nonce 0, counter 0) over the whole vector, read as little-endian W-bit
 * words. In: ring [n_ring], seeds, signs -> out: ring.
 * Refuses W outside {16, 32} and signs outside {-1, +1}.
 * Invariant: time depends on n_ring, n_seeds and signs, never on seeds or ring.
 * Source: secure-aggregation design, 1.4.
 */
#include <string.h>

#include "secagg/chacha20.h"
#include "edgefl.h"
#include "core/kernels.h"

/* Key stream and ring block stay in L1 together while all seeds pass over them. */
#define MASK_BLOCK_BYTES 4096u

static void add_u16(uint16_t *ring, const uint16_t *stream, size_t n, int sign)
{
    if (sign > 0) {
        for (size_t i = 0; i < n; i++) ring[i] = (uint16_t)(ring[i] + stream[i]);
    } else {
        for (size_t i = 0; i < n; i++) ring[i] = (uint16_t)(ring[i] - stream[i]);
    }
}

static void add_u32(uint32_t *ring, const uint32_t *stream, size_t n, int sign)
{
    if (sign > 0) {
        for (size_t i = 0; i < n; i++) ring[i] += stream[i];
    } else {
        for (size_t i = 0; i < n; i++) ring[i] -= stream[i];
    }
}

efl_status efl_mask_expand(void *ring, const int8_t *signs, size_t n_ring, size_t n_seeds, uint32_t width,
                           const uint8_t *seeds)
{
    static const uint8_t nonce[12] = {0};
    union {
        uint8_t bytes[MASK_BLOCK_BYTES];
        uint16_t u16[MASK_BLOCK_BYTES / 2];
        uint32_t u32[MASK_BLOCK_BYTES / 4];
    } stream __attribute__((aligned(64)));
    uint32_t state[16];

    if (!ring || (n_seeds && (!signs || !seeds))) {
        return EFL_E_NULL;
    }
    if (n_ring > EFL_RING_MAX) {
        return EFL_E_SHAPE;
    }
    if (width != 16 && width != 32) {
        return EFL_E_RANGE;
    }
    for (size_t s = 0; s < n_seeds; s++) {
        if (signs[s] != 1 && signs[s] != -1) {
            return EFL_E_RANGE;
        }
    }
    const size_t block_words = MASK_BLOCK_BYTES * 8 / width;
    for (size_t at = 0; at < n_ring; at += block_words) {
        const size_t n = n_ring - at < block_words ? n_ring - at : block_words;
        const size_t n_blocks = (n * width / 8 + EFL_CHACHA20_BLOCK_BYTES - 1) / EFL_CHACHA20_BLOCK_BYTES;
        /* 2^28 words of 4 bytes are 2^24 blocks: the counter cannot wrap. Divide first: at * width does not
         * fit a size_t of 32 bits, and the stream would start again. */
        const uint32_t counter = (uint32_t)(at / (EFL_CHACHA20_BLOCK_BYTES * 8 / width));
        for (size_t s = 0; s < n_seeds; s++) {
            efl_chacha20_init(state, seeds + 32 * s, nonce, counter);
            efl_kernels()->chacha20_blocks(stream.bytes, state, n_blocks);
            if (width == 16) {
                add_u16((uint16_t *)ring + at, stream.u16, n, signs[s]);
            } else {
                add_u32((uint32_t *)ring + at, stream.u32, n, signs[s]);
            }
        }
    }
    efl_wipe(&stream, sizeof stream);
    efl_wipe(state, sizeof state);
    return EFL_OK;
}
