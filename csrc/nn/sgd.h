/* SPDX-License-Identifier: Apache-2.0
 * The int8 weight step of one operator.
 */
#ifndef EFL_NN_SGD_H
#define EFL_NN_SGD_H
#include "edgefl.h"

/* Scratch for efl_sgd_update: v, a tile of dW, per-channel factors and the kernel's own area. */
size_t efl_sgd_scratch_bytes(const efl_op *op, const efl_param *p, int32_t n, int32_t workers);

/* Add the gradient of n samples with error e (of the operator's output) and input x, then, if this is the
 * batch's last micro-batch, step. x_tensor is the input's quantisation. */
void efl_sgd_update(const efl_op *op, efl_param *p, const efl_error *e, const int8_t *x,
                    const efl_tensor *x_tensor, int32_t n, const efl_step *step, int32_t workers,
                    void *scratch);

/* True if a call of n samples needs the int64 sums although it is the only one of its batch. */
int efl_sgd_needs_sums(const efl_op *op, int32_t n);

#endif
