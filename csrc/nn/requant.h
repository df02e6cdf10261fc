/* SPDX-License-Identifier: Apache-2.0
 *
 * From int32 sums to int8, and from int8 errors to scaled int8 errors: the two places where a float32 is
 * rounded for every element. Each has a scalar form and one that uses the machine's own round-to-nearest-even
 * conversion.
 */
#ifndef EFL_NN_REQUANT_H
#define EFL_NN_REQUANT_H
#include <stddef.h>
#include <stdint.h>

/* y rows [rows][cols <= EFL_NR] at distance ldy <- clamp(rne((acc + bias) * mult)) + zero, acc
 * [rows][EFL_NR]; bias and mult have EFL_NR elements, lo and hi include the fused activation. */
typedef void efl_requant_fn(int8_t *y, size_t ldy, const int32_t *acc, int32_t rows, int32_t cols,
                            const int32_t *bias, const float *mult, int32_t lo, int32_t hi, int32_t zero);

/* dst [n][c] <- clamp(rne(e * s[c] * p)) to +-127, p a power of two; e in -127..127. */
typedef void efl_scale_cols_fn(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p);

efl_requant_fn efl_requant_ref, efl_requant_avx2, efl_requant_neon;
efl_scale_cols_fn efl_scale_cols_ref, efl_scale_cols_avx2, efl_scale_cols_neon;

#endif
