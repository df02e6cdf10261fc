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
/* What op keeps in the arena, or null. */
int16_t *efl_recurrent_state(const efl_plan *plan, const efl_op *op);
/* Back-propagation through time of an LSTM: from the error e of its output that of its input (dx; null: not
 * wanted), the sums of its eight parameters and, if step->last, their step. */
void efl_lstm_backward(const efl_plan *plan, const efl_op *op, efl_error *dx, const efl_error *e,
                       const int8_t *x, int32_t n, const efl_step *step);
size_t efl_lstm_backward_bytes(const efl_plan *plan, const efl_op *op);
void efl_recurrent_run(const efl_plan *plan, const efl_op *op, const int8_t *x, int32_t n);

#endif
