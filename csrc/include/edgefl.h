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

/* ---------------------------------------------------------------- secagg, dp and ota section (csrc/secagg, csrc/dp) */

/* ---------------------------------------------------------------- nn section (csrc/core, csrc/nn, csrc/arch) */

/* cdef end */
#ifdef __cplusplus
}
#endif
#endif
