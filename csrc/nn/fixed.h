/* SPDX-License-Identifier: Apache-2.0
 *
 * The `gemmlowp` rule: requantisation in integers, as TFLite Micro, CMSIS-NN and the interpreters' reference
 * kernels do it, chosen for a whole plan. Sums of products come from the kernels of every instruction set;
 * the rounding is plain C, so the bits are the same. Source: docs/training.md, "Forward".
 */
#ifndef EFL_NN_FIXED_H
#define EFL_NN_FIXED_H
#include "edgefl.h"
#include "nn/fwd.h"

/* x * m * 2^(shift - 31): high half of the doubled product, ties upward, then a rounding shift, half away
 * from zero. x << shift must fit in int32 for a positive shift; it wraps where a file says otherwise. */
static inline int32_t efl_fixed_times(int32_t x, efl_fixed f)
{
    const int32_t up = f.shift > 0 ? f.shift : 0, down = f.shift < 0 ? -f.shift : 0;
    const int64_t product = (int64_t)(int32_t)((uint32_t)x << up) * f.m;
    const int32_t high = (int32_t)((product + (1 << 30)) >> 31); /* m < 2^31: the sum stays below 2^62 */
    const int32_t mask = (int32_t)((1u << down) - 1u);           /* down <= 31 */
    return (high >> down) + ((high & mask) > (mask >> 1) + (high < 0));
}

/* For jobs of the forward kernels; fixed [n_fixed] starts at the job's first column and repeats. */
efl_fwd_requant_fn efl_fwd_requant_fixed;
/* Run an operator without weights by this rule; 0 if it does not round (the ordinary kernel serves it). */
int efl_fixed_run(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n);
/* Every multiplier is in range. Call it after the operator's other checks. */
efl_status efl_fixed_check(const efl_plan *plan, const efl_op *op);

#endif
