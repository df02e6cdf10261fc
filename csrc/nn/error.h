/* SPDX-License-Identifier: Apache-2.0
 * What error tensors offer inside the core; the rest is public.
 */
#ifndef EFL_NN_ERROR_H
#define EFL_NN_ERROR_H
#include "edgefl.h"

#define EFL_ERROR_TINY INT32_MIN

/* For E' = e * s (n_s = 1: one scale for all), top [c] the largest |e| of each column: scale [c] <- s * 2^-k,
 * k the exponent of to8(E'), which is returned; EFL_ERROR_TINY if all of E' is below 2^-60. */
int32_t efl_error_scales(float *scale, const uint8_t *top, size_t c, const float *s, size_t n_s);

/* int32 [n], in units of s * 2^k, -> int8 with its own exponent: to8((float)x * s), |x| < 2^31. */
void efl_error_from_scaled(efl_error *out, const int32_t *x, size_t n, float s, int32_t k);

/* efl_error_merge on up to `workers` threads. */
void efl_error_merge_on(efl_error *out, const efl_error *in, int32_t n_in, size_t n, int32_t workers);

#endif
