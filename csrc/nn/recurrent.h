/* SPDX-License-Identifier: Apache-2.0
 * LSTM and SVDF as operators of a plan: what plan.c and train.c call.
 */
#ifndef EFL_NN_RECURRENT_H
#define EFL_NN_RECURRENT_H
#include "edgefl.h"

static inline int efl_is_recurrent(const efl_op *op)
{
    return op->kind == EFL_OP_LSTM || op->kind == EFL_OP_SVDF;
}

/* Parameters, numbers and state of one operator whose shapes are checked already. */
efl_status efl_recurrent_check(const efl_plan *plan, const efl_op *op);
size_t efl_recurrent_scratch_bytes(const efl_plan *plan, const efl_op *op);
void efl_recurrent_run(const efl_plan *plan, const efl_op *op, const int8_t *x, int32_t n);

#endif
