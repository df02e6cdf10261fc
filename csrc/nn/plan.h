/* SPDX-License-Identifier: Apache-2.0
 * What forward (plan.c) and backward (train.c) share.
 */
#ifndef EFL_NN_PLAN_H
#define EFL_NN_PLAN_H
#include "edgefl.h"

/* Workers that a call may use, at least 1. */
int32_t efl_plan_threads(const efl_plan *plan);
efl_dims efl_op_dims(const efl_op *op, int32_t n);
int8_t *efl_plan_tensor(const efl_plan *plan, int32_t t);
/* The same for a tensor that is read: the model's input lies where the caller has it. */
const int8_t *efl_plan_source(const efl_plan *plan, int32_t t, const int8_t *input);
efl_status efl_table_check(const efl_op *op);
/* Whether a MOVE stays inside its tensors. */
efl_status efl_move_check(const efl_plan *plan, const efl_op *op);
void efl_move_run(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t samples);
/* Error of one input of a MOVE. */
void efl_move_through(const efl_plan *plan, const efl_op *op, const efl_move_part *p, const efl_error *e,
                      efl_error *dx, int32_t samples);
/* Forward pass of an operator with weights, and the scratch it needs; 0 for other operators. */
size_t efl_layer_scratch_bytes(const efl_plan *plan, const efl_op *op);
void efl_layer_forward(const efl_plan *plan, const efl_op *op, int8_t *y, const int8_t *x, int32_t n);
/* Whether the parameters of a BINARY fit tensors of these sizes. */
efl_status efl_binary_check(const efl_op *op, int32_t a_size, int32_t b_size, int32_t y_size);
/* 0 for an operator without a backward pass. */
size_t efl_backward_scratch_bytes(const efl_plan *plan, const efl_op *op);
/* Scratch of backward passes in through.c; 0 for other operators. */
size_t efl_through_bytes(const efl_plan *plan, const efl_op *op);
/* Error of the input of a TABLE. */
void efl_table_through(const efl_plan *plan, const efl_op *op, const efl_error *e, efl_error *dx,
                       const int8_t *input, int32_t samples);
/* Error of one operand of a BINARY from the error e of its result. */
void efl_binary_through(const efl_plan *plan, const efl_op *op, const efl_error *e, efl_error *dx,
                        int32_t second, const int8_t *input, int32_t samples);
/* True if the int32 sums of this pool's backward pass cannot overflow. */
int efl_avgpool_bwd_fits(const efl_dims *d);

/* csrc/nn/loss.c: everything of a loss that could read or write outside its memory. */
efl_status efl_loss_check(const efl_plan *plan);
size_t efl_loss_scratch_bytes(const efl_plan *plan);

#endif
