/* SPDX-License-Identifier: Apache-2.0
 *
 * From the int32 sums of each sample to the int8 error of a micro-batch. The exponent needs the largest sum
 * of all samples; until it is known, a sample waits as 16 bits at a shift of its own, the lost bits or-ed
 * into the last one. That shift is at least two below the final one, so rounding comes out as from the sums.
 */
#ifndef EFL_NN_NARROW_H
#define EFL_NN_NARROW_H
#include "edgefl.h"

typedef struct {
    int32_t *sums;   /* [workers][stride] of one sample, [size] of them used */
    uint8_t *low;    /* [n][size]; the upper bytes wait in the error itself */
    int32_t *shifts; /* [n] */
    uint32_t *tops;  /* [n] */
    size_t size, stride;
    int32_t n;
} efl_narrow;

size_t efl_narrow_bytes(size_t size, int32_t n, int32_t workers);
void efl_narrow_begin(efl_narrow *w, size_t size, int32_t n, int32_t workers, void *scratch);
/* Where a worker writes the sums of a sample. */
int32_t *efl_narrow_sums(const efl_narrow *w, int32_t worker);
/* The worker's sums are those of sample i, |sums| <= top < 2^31. */
void efl_narrow_put(const efl_narrow *w, int8_t *e, int32_t i, uint32_t top, int32_t worker);
/* All samples are put: out <- the error, sums being in units of 2^k. */
void efl_narrow_end(const efl_narrow *w, efl_error *out, int32_t k, int32_t workers);

#endif
