/* SPDX-License-Identifier: Apache-2.0
 * What forward (plan.c) and backward (train.c) share.
 */
#ifndef EFL_NN_PLAN_H
#define EFL_NN_PLAN_H
#include "edgefl.h"
#include "nn/gemm.h"

efl_dims efl_op_dims(const efl_op *op, int32_t n);
int8_t *efl_plan_tensor(const efl_plan *plan, int32_t t);
/* 0 for an operator without a backward pass. */
size_t efl_backward_scratch_bytes(const efl_plan *plan, const efl_op *op);
/* True if the int32 sums of this pool's backward pass cannot overflow. */
int efl_avgpool_bwd_fits(const efl_dims *d);

#endif
