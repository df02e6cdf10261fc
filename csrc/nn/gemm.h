/* SPDX-License-Identifier: Apache-2.0
 *
 * The two int16 matrix kernels that convolution and dense layers consist of, and the rules of their operands.
 *
 * int8 values are widened to int16 with their zero point subtracted (|x - z| <= 255, |e| <= 127, |q| <= 128),
 * so padding is 0 and nothing needs a correction afterwards. Sums of at most EFL_TERMS_MAX products fit in
 * int32: 65536 * 255 * 128 = 2139095040 < 2^31.
 *
 * Rejected: an im2col buffer (each pixel reads runs of the widened image in place instead).
 */
#ifndef EFL_NN_GEMM_H
#define EFL_NN_GEMM_H
#include <stddef.h>
#include <stdint.h>

#include "edgefl.h"

#define EFL_MR 6
#define EFL_NR 16

/* acc [EFL_MR][EFL_NR] <- for each row i: sum over runs r and elements t of rows[i][offs[r] + t] * panel[..],
 * where panel is [n_runs][pairs][EFL_NR][2]: element 2p and 2p+1 of a run side by side for each of 16
 * columns. A run of odd length reads one element too many against a zero weight: rows must be readable there.
 */
typedef void efl_gemm_dot_fn(int32_t *acc, const int16_t *const *rows, const int32_t *offs,
                             const int16_t *panel, int32_t n_runs, int32_t pairs);

/* Pixels of a map, two neighbours at a time, as the outer product walks them (units: elements). */
typedef struct {
    int32_t rows, pairs;      /* map rows, pairs of pixels in a row (an odd last one has e = 0) */
    ptrdiff_t e_row, e_pair;  /* e is [rows][pairs][channels][2] */
    ptrdiff_t x_row, x_pixel; /* x is the widened image */
} efl_outer_walk;

/* acc [EFL_MR][EFL_NR] <- sum over pixels m of e[m][i] * x[m][j], i < EFL_MR, j < EFL_NR; both must be
 * readable that far, whatever lies there. */
typedef void efl_gemm_outer_fn(int32_t *acc, const int16_t *e, const int16_t *x, const efl_outer_walk *walk);

efl_gemm_dot_fn efl_gemm_dot_ref, efl_gemm_dot_avx2, efl_gemm_dot_avx512vnni, efl_gemm_dot_neon;
efl_gemm_outer_fn efl_gemm_outer_ref, efl_gemm_outer_avx2, efl_gemm_outer_avx512vnni, efl_gemm_outer_neon;

#endif
