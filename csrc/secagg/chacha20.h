/* SPDX-License-Identifier: Apache-2.0
 *
 * ChaCha20 block kernels (RFC 8439 section 2.3): one function type, one name for each ISA.
 * In: state = constants, key (8 words), counter, nonce (3 words).  Out: n_blocks * 64 key stream bytes.
 * Invariant: every kernel writes the same bytes; no branch or address depends on the state.
 */
#ifndef EFL_SECAGG_CHACHA20_H
#define EFL_SECAGG_CHACHA20_H
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "key streams are read as little-endian words in place: big-endian targets are not supported"
#endif

#define EFL_CHACHA20_BLOCK_BYTES 64u

/* out [n_blocks * 64] bytes, any alignment   state [16] words, not changed; the counter (word 12) wraps at
 * 2^32 */
typedef void efl_chacha20_blocks_fn(uint8_t *out, const uint32_t state[16], size_t n_blocks);

efl_chacha20_blocks_fn efl_chacha20_blocks_ref;
efl_chacha20_blocks_fn efl_chacha20_blocks_avx2;
efl_chacha20_blocks_fn efl_chacha20_blocks_avx512;
efl_chacha20_blocks_fn efl_chacha20_blocks_neon;

/* state [16] <- key [32] bytes, nonce [12] bytes, block counter. */
void efl_chacha20_init(uint32_t state[16], const uint8_t *key, const uint8_t *nonce, uint32_t counter);

/* Overwrite secrets; the barrier keeps the compiler from dropping the store. */
void efl_wipe(void *secret, size_t secret_bytes);

#endif
