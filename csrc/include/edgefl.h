/* SPDX-License-Identifier: Apache-2.0
 *
 * edgefl C core: the only public header.
 *
 * Contract: every function here, training included, gives bit-identical results on every instruction set.
 * Nothing allocates, reads a clock, a file or entropy, or sets errno; the caller owns all memory and every kernel
 * that needs scratch has a *_scratch_bytes() twin. Pointers must not be null unless said so.
 * Everything between the two cdef marks is parsed by cffi as it is: plain C declarations, no preprocessor there
 * except `#define NAME integer`.
 */
#ifndef EDGEFL_H
#define EDGEFL_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
/* cdef begin */

/* ---------------------------------------------------------------- status: csrc/core/status.c */

typedef int32_t efl_status;

#define EFL_OK 0
/* 10..19: arguments */
#define EFL_E_SHAPE 10 /* a dimension is 0, negative or above its limit, or shapes do not fit each other */
#define EFL_E_RANGE 11 /* a number is outside its documented range */
#define EFL_E_NULL 12  /* a pointer that must be given is null */
#define EFL_E_SIZE 13  /* a buffer or scratch area is too small */
/* 20..29: models */
#define EFL_E_OP 20    /* an operator kind that this build does not know */
#define EFL_E_SCALE 21 /* a scale is not finite, not positive, or a requantisation scale is 256 or more */
/* 30..39: secret data */
#define EFL_E_AUTH 30 /* a share, tag or canary does not check */

/* One line for each code, without a newline; never null. */
const char *efl_status_text(efl_status status);

/* ---------------------------------------------------------------- instruction sets: csrc/core/init.c */

#define EFL_ISA_REF 0 /* scalar C */
#define EFL_ISA_AVX2 1
#define EFL_ISA_AVX512VNNI 2 /* with F, BW, DQ and VL */
#define EFL_ISA_NEON 3
#define EFL_ISA_COUNT 4

/* Choose the fastest kernels of this machine; without it the scalar ones run. */
void efl_init(void);
/* Bit 1 << EFL_ISA_* for each set that runs here. */
uint32_t efl_isa_supported(void);
int32_t efl_isa_current(void);
const char *efl_isa_name(int32_t isa);
/* For tests: use these kernels from now on. EFL_E_RANGE if they do not run here. Not while a call is running. */
efl_status efl_isa_select(int32_t isa);

/* ---------------------------------------------------------------- secagg section (csrc/secagg)
 * A ring vector is uint16 (width W = 16) or uint32 (W = 32) [n], n <= EFL_RING_MAX, numbers mod 2^W.
 * Time depends on lengths, widths and signs only, never on seeds or vectors.
 */

#define EFL_RING_MAX 268435456 /* 2^28 coordinates */

/* out [out_bytes] <- ChaCha20 key stream (RFC 8439) of key [32], nonce [12], from block `counter` on.
 * EFL_E_RANGE if the 32-bit block counter would wrap. */
efl_status efl_chacha20_stream(uint8_t *out, size_t out_bytes, const uint8_t *nonce, uint32_t counter,
                               const uint8_t *key);

/* ring [n_ring] += or -= PRG(seed) for each of seeds [n_seeds][32] with its signs [n_seeds] in {-1, +1}, mod
 * 2^W. PRG(seed) is the ChaCha20 stream of that key, nonce 0, counter 0, as little-endian W-bit words. */
efl_status efl_mask_expand(void *ring, const int8_t *signs, size_t n_ring, size_t n_seeds, uint32_t width,
                           const uint8_t *seeds);

/* payload [ceil(n*bits/8)] <- the low `bits` (1..W) bits of each coordinate, least significant first, zero
 * padding. */
efl_status efl_ring_pack(uint8_t *payload, const void *ring, size_t payload_bytes, size_t n, uint32_t width,
                         uint32_t bits);

/* The reverse, written (values 0 .. 2^bits - 1) or added mod 2^W. EFL_E_SIZE for any other payload_bytes,
 * EFL_E_RANGE for a non-zero padding bit; ring is untouched then. A long payload may come in pieces of a
 * multiple of 8 coordinates. */
efl_status efl_ring_unpack(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n, uint32_t width,
                           uint32_t bits);
efl_status efl_ring_unpack_add(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n,
                               uint32_t width, uint32_t bits);

/* sum [n] += term [n] mod 2^W. */
efl_status efl_ring_add(void *sum, const void *term, size_t n, uint32_t width);

/* out [n] int64 <- the low `bits` (1..W) bits of each coordinate as a two's complement number. */
efl_status efl_ring_unwrap_i64(int64_t *out, const void *ring, size_t n, uint32_t width, uint32_t bits);

/* ---------------------------------------------------------------- dp section (csrc/dp) */

#define EFL_SCALE_MAX 1048576             /* S <= 2^20 */
#define EFL_VALUE_BITS_MAX 24             /* b <= 24 */
#define EFL_NORM2_MAX 4611686018427387904 /* D^2 <= 2^62 */

typedef struct {
    uint32_t clip;      /* C, in the delta's units, at least 1 */
    uint32_t scale;     /* S: norm C becomes S, 1 .. EFL_SCALE_MAX */
    uint32_t bits;      /* b: |q_i| <= 2^(b-1) - 1, 2 .. EFL_VALUE_BITS_MAX */
    uint64_t norm2_max; /* D^2, at most EFL_NORM2_MAX */
} efl_encode_params;

/* norm <- the smallest integer N with N^2 >= sum x_i^2; x [n] int32, any values, n <= EFL_RING_MAX. */
efl_status efl_delta_norm_i32(uint64_t *norm, const int32_t *x, size_t n);

/* q [n] int32 <- x [n] int32 clipped to norm C, times S/C, rounded stochastically from seed [32], saturated
 * to b bits, with sum q_i^2 <= D^2 exactly: up to 32 tries, then S shrinks by 1 - 2^-8, at most 64 times.
 * EFL_E_RANGE if the parameters are out of range or the bound cannot be met; q holds zeros then. */
efl_status efl_delta_encode_i32(int32_t *q, const int32_t *x, size_t n, const efl_encode_params *p,
                                const uint8_t *seed);

/* ---------------------------------------------------------------- nn section (csrc/core, csrc/nn, csrc/arch) */

/* cdef end */
#ifdef __cplusplus
}
#endif
#endif
