/* SPDX-License-Identifier: Apache-2.0
 *
 * LSTM and SVDF as operators of a plan: checks, scratch, forward call. Both keep int16 numbers in the arena:
 * an LSTM that trains saves its gates for the backward pass, an SVDF keeps its memory from call to call.
 */
#include "nn/recurrent.h"

#include "nn/lstm.h"
#include "nn/plan.h"

int16_t *efl_recurrent_state(const efl_plan *plan, const efl_op *op)
{
    return op->state < 0 ? NULL : (int16_t *)(void *)(plan->arena + op->state);
}

static int holds(const efl_plan *plan, int64_t offset, int64_t bytes)
{
    return offset >= 0 && offset % 2 == 0 && bytes <= plan->arena_bytes - offset;
}

static int multiplier_ok(efl_fixed f)
{
    return f.m >= 0 && f.shift >= -31 && f.shift <= 30;
}

static efl_status gate_check(const efl_param *p, const efl_dims *d, int32_t k)
{
    if (p->co != d->co || p->len != (int64_t)d->co * k || p->n_scales != 1 || p->qmin < -128)
        return EFL_E_SHAPE;
    if (!p->q || !p->b || !p->scales || (p->train_w && !p->keys && !p->r) ||
        (p->train_b && !p->keys && !p->rb) || ((p->train_w || p->train_b) && !p->acc_b) ||
        (p->train_w && !p->acc_w))
        return EFL_E_NULL;
    return p->scales[0] > 0.0f ? EFL_OK : EFL_E_SCALE;
}

static efl_status lstm_check(const efl_plan *plan, const efl_op *op)
{
    const efl_lstm *m = op->lstm;
    const efl_dims d = efl_op_dims(op, plan->n_max);
    if (!m) return EFL_E_NULL;
    if (m->cell_bits < 9 || m->cell_bits > 15 || m->clip < 0 || m->clip > 32767 || m->truncate < 1 ||
        m->truncate > d.wi || op->param < 0 || op->param > plan->n_params - 2 * EFL_GATE_N)
        return EFL_E_RANGE;
    for (int i = 0; i < EFL_GATE_N; i++)
        if (!multiplier_ok(m->in[i]) || !multiplier_ok(m->back[i])) return EFL_E_SCALE;
    if (!multiplier_ok(m->out)) return EFL_E_SCALE;
    for (int i = 0; i < 2 * EFL_GATE_N; i++) {
        const efl_status status = gate_check(&plan->params[op->param + i], &d, i < EFL_GATE_N ? d.ci : d.co);
        if (status != EFL_OK) return status;
    }
    if (op->state < 0) return op->n_edges ? EFL_E_NULL : EFL_OK;
    return holds(plan, op->state, (int64_t)efl_lstm_saved_bytes(&d)) ? EFL_OK : EFL_E_SIZE;
}

static efl_status svdf_check(const efl_plan *plan, const efl_op *op)
{
    const efl_svdf *m = op->svdf;
    if (!m || !m->feature || !m->time || !m->bias) return EFL_E_NULL;
    if (op->n_edges || op->param != -1) return EFL_E_OP;
    if (m->rank < 1 || m->filters < 1 || m->memory < 1 || m->memory > EFL_TERMS_MAX ||
        m->filters > EFL_TERMS_MAX || m->filters != (int64_t)op->dims.co * m->rank || m->memory_lo < -32768 ||
        m->memory_hi > 32767 || m->memory_lo > m->memory_hi)
        return EFL_E_SHAPE;
    if (!multiplier_ok(m->in) || !multiplier_ok(m->out)) return EFL_E_SCALE;
    return holds(plan, op->state, (int64_t)m->filters * m->memory * (int64_t)sizeof(int16_t)) ? EFL_OK
                                                                                              : EFL_E_SIZE;
}

efl_status efl_recurrent_check(const efl_plan *plan, const efl_op *op)
{
    return op->kind == EFL_OP_LSTM ? lstm_check(plan, op) : svdf_check(plan, op);
}

size_t efl_recurrent_scratch_bytes(const efl_plan *plan, const efl_op *op)
{
    const efl_dims d = efl_op_dims(op, plan->n_max);
    if (op->kind == EFL_OP_LSTM) return efl_lstm_i8_fwd_scratch_bytes(&d, op->state >= 0);
    return op->svdf ? efl_svdf_i8_fwd_scratch_bytes(&d, op->svdf) : 0;
}

void efl_recurrent_run(const efl_plan *plan, const efl_op *op, const int8_t *x, int32_t n)
{
    const efl_dims d = efl_op_dims(op, n);
    const int32_t x_zero = plan->tensors[op->in0].zero, y_zero = plan->tensors[op->out].zero;
    int8_t *y = efl_plan_tensor(plan, op->out);
    if (op->kind == EFL_OP_LSTM)
        efl_lstm_i8_fwd(y, efl_recurrent_state(plan, op), x, &plan->params[op->param], &d, op->lstm, x_zero,
                        y_zero, plan->scratch);
    else
        efl_svdf_i8_fwd(y, efl_recurrent_state(plan, op), x, &d, op->svdf, x_zero, y_zero, plan->scratch);
}
