/* SPDX-License-Identifier: Apache-2.0
 *
 * Backward through the operators on single elements: int32 sums in scratch, then an int8 error with its own
 * exponent. In: the masked error of the result and the saved operands. Out: the error of one operand, in real
 * units of the loss.
 */
#include <string.h>

#include "core/kernels.h"
#include "nn/error.h"
#include "nn/plan.h"

size_t efl_through_bytes(const efl_plan *plan, const efl_op *op)
{
    if (op->kind == EFL_OP_TABLE)
        return (size_t)plan->n_max * (size_t)plan->tensors[op->in0].size * sizeof(int32_t);
    if (op->kind == EFL_OP_MOVE) {
        size_t sums = 0;
        for (int32_t i = 0; op->move && i < op->move->n_parts; i++) {
            const efl_move_part *p = &op->move->parts[i];
            if (p->edge < 0 || p->once || p->in < 0 || p->in >= plan->n_tensors) continue;
            const size_t size = (size_t)plan->tensors[p->in].size;
            sums = size > sums ? size : sums;
        }
        return (size_t)plan->n_max * sums * sizeof(int32_t);
    }
    if (op->kind != EFL_OP_BINARY || !op->binary) return 0;
    const int32_t a = op->binary->a_size, b = op->binary->b_size;
    const size_t most = (size_t)(op->edge1 >= 0 && b > a ? b : a);
    return (size_t)plan->n_max * most * sizeof(int32_t);
}

void efl_binary_through(const efl_plan *plan, const efl_op *op, const efl_error *e, efl_error *dx,
                        int32_t second, const int8_t *input, int32_t samples)
{
    const efl_binary *p = op->binary;
    const int8_t *a = efl_plan_source(plan, op->in0, input);
    const int8_t *b = op->in1 >= 0 ? efl_plan_source(plan, op->in1, input) : p->constant;
    const size_t n = (size_t)samples * (size_t)(second ? p->b_size : p->a_size);
    efl_binary_i8_bwd_x(plan->scratch, e->e, a, b, samples, p, second);
    if (p->rule == EFL_BINARY_MUL) {
        efl_error_from_scaled(dx, plan->scratch, n, second ? p->a_scale : p->b_scale, e->k);
        return;
    }
    efl_error_from_i32(dx, plan->scratch, n, e->k);
    if (second ? p->minus_b : p->minus_a) /* in -127..127, so its negative is too */
        for (size_t i = 0; i < n; i++) dx->e[i] = (int8_t)-dx->e[i];
}

void efl_table_through(const efl_plan *plan, const efl_op *op, const efl_error *e, efl_error *dx,
                       const int8_t *input, int32_t samples)
{
    const size_t n = (size_t)samples * (size_t)plan->tensors[op->in0].size;
    efl_table_i8_bwd_x(plan->scratch, e->e, efl_plan_source(plan, op->in0, input), n, op->table);
    efl_error_from_i32(dx, plan->scratch, n, e->k + op->table->k);
}
