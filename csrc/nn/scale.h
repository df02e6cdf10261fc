/* SPDX-License-Identifier: Apache-2.0
 *
 * From int8 errors to scaled int8 errors, each rounded to nearest even: a scalar form, and forms that use the
 * machine's own conversion.
 */
#ifndef EFL_NN_SCALE_H
#define EFL_NN_SCALE_H
#include <stddef.h>
#include <stdint.h>

/* dst [n][c] <- clamp(rne(e * s[c] * p)) to +-127, p a power of two; e in -127..127. */
typedef void efl_scale_cols_fn(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p);

efl_scale_cols_fn efl_scale_cols_ref, efl_scale_cols_avx2, efl_scale_cols_neon;

#endif
