/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20 with one block in each vector lane; included by exactly one csrc/arch/chacha20_<isa>.c, which
 * defines
 * - vec, LANES: a vector of LANES uint32
 * - v_set1, v_iota: broadcast; {0, 1, 2, ...}
 * - v_add, v_xor: lane-wise
 * - v_rotl16, v_rotl12, v_rotl8, v_rotl7: lane-wise rotations
 * - v_store(out, x): transposes x [16] (vector i = word i of each block) to LANES * 64 bytes
 * Invariant: the bytes of efl_chacha20_blocks_ref; no branch or address depends on the state.
 */
#define V_QUARTER_ROUND(a, b, c, d)                                                                          \
    do {                                                                                                     \
        (a) = v_add(a, b), (d) = v_rotl16(v_xor(d, a));                                                      \
        (c) = v_add(c, d), (b) = v_rotl12(v_xor(b, c));                                                      \
        (a) = v_add(a, b), (d) = v_rotl8(v_xor(d, a));                                                       \
        (c) = v_add(c, d), (b) = v_rotl7(v_xor(b, c));                                                       \
    } while (0)

static inline void chacha20_lanes(uint8_t *out, const uint32_t state[16], size_t n_blocks)
{
    uint32_t next[16];
    vec x[16];
    memcpy(next, state, sizeof next);
    for (; n_blocks >= LANES; n_blocks -= LANES, out += LANES * EFL_CHACHA20_BLOCK_BYTES) {
        const vec counter = v_add(v_set1(next[12]), v_iota());
        for (int i = 0; i < 16; i++) {
            x[i] = i == 12 ? counter : v_set1(next[i]);
        }
        for (int round = 0; round < 10; round++) {
            V_QUARTER_ROUND(x[0], x[4], x[8], x[12]);
            V_QUARTER_ROUND(x[1], x[5], x[9], x[13]);
            V_QUARTER_ROUND(x[2], x[6], x[10], x[14]);
            V_QUARTER_ROUND(x[3], x[7], x[11], x[15]);
            V_QUARTER_ROUND(x[0], x[5], x[10], x[15]);
            V_QUARTER_ROUND(x[1], x[6], x[11], x[12]);
            V_QUARTER_ROUND(x[2], x[7], x[8], x[13]);
            V_QUARTER_ROUND(x[3], x[4], x[9], x[14]);
        }
        for (int i = 0; i < 16; i++) {
            x[i] = v_add(x[i], i == 12 ? counter : v_set1(next[i]));
        }
        v_store(out, x);
        next[12] += LANES;
    }
    efl_wipe(x, sizeof x);
    efl_chacha20_blocks_ref(out, next, n_blocks);
    efl_wipe(next, sizeof next);
}
