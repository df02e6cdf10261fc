/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20 key stream: the scalar kernel, key set-up and the public stream function.
 * It refuses streams that would run past the 32-bit block counter; there is no XOR: only key stream leaves.
 * In: key, nonce, counter -> out: bytes.  Invariant: time depends on lengths alone.  Source: RFC 8439
 * section 2.
 */
#include "secagg/chacha20.h"

#include <string.h>

#include "edgefl.h"
#include "core/kernels.h"

static uint32_t rotl(uint32_t x, unsigned n)
{
    return (x << n) | (x >> (32u - n));
}

static void quarter_round(uint32_t x[16], unsigned a, unsigned b, unsigned c, unsigned d)
{
    x[a] += x[b], x[d] = rotl(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = rotl(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = rotl(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = rotl(x[b] ^ x[c], 7);
}

void efl_wipe(void *secret, size_t secret_bytes)
{
    memset(secret, 0, secret_bytes);
    __asm__ __volatile__("" : : "r"(secret) : "memory");
}

void efl_chacha20_init(uint32_t state[16], const uint8_t *key, const uint8_t *nonce, uint32_t counter)
{
    static const uint32_t sigma[4] = {0x61707865u, 0x3320646eu, 0x79622d32u,
                                      0x6b206574u}; /* "expand 32-byte k" */
    memcpy(state, sigma, 16);
    memcpy(state + 4, key, 32);
    state[12] = counter;
    memcpy(state + 13, nonce, 12);
}

void efl_chacha20_blocks_ref(uint8_t *out, const uint32_t state[16], size_t n_blocks)
{
    uint32_t x[16];
    for (size_t block = 0; block < n_blocks; block++) {
        const uint32_t counter = state[12] + (uint32_t)block;
        memcpy(x, state, sizeof x);
        x[12] = counter;
        for (int round = 0; round < 10; round++) {
            quarter_round(x, 0, 4, 8, 12);
            quarter_round(x, 1, 5, 9, 13);
            quarter_round(x, 2, 6, 10, 14);
            quarter_round(x, 3, 7, 11, 15);
            quarter_round(x, 0, 5, 10, 15);
            quarter_round(x, 1, 6, 11, 12);
            quarter_round(x, 2, 7, 8, 13);
            quarter_round(x, 3, 4, 9, 14);
        }
        for (int i = 0; i < 16; i++) {
            x[i] += i == 12 ? counter : state[i];
        }
        memcpy(out + block * EFL_CHACHA20_BLOCK_BYTES, x, sizeof x);
    }
    efl_wipe(x, sizeof x);
}

efl_status efl_chacha20_stream(uint8_t *out, size_t out_bytes, const uint8_t *nonce, uint32_t counter,
                               const uint8_t *key)
{
    if (!out || !nonce || !key) {
        return EFL_E_NULL;
    }
    const size_t whole = out_bytes / EFL_CHACHA20_BLOCK_BYTES;
    const size_t tail = out_bytes % EFL_CHACHA20_BLOCK_BYTES;
    if ((uint64_t)whole + (tail != 0) > (UINT64_C(1) << 32) - counter) {
        return EFL_E_RANGE;
    }
    uint32_t state[16];
    efl_chacha20_init(state, key, nonce, counter);
    efl_kernels()->chacha20_blocks(out, state, whole);
    if (tail) {
        uint8_t last[EFL_CHACHA20_BLOCK_BYTES];
        state[12] += (uint32_t)whole;
        efl_chacha20_blocks_ref(last, state, 1);
        memcpy(out + whole * EFL_CHACHA20_BLOCK_BYTES, last, tail);
        efl_wipe(last, sizeof last);
    }
    efl_wipe(state, sizeof state);
    return EFL_OK;
}
