/* SPDX-License-Identifier: Apache-2.0
 * The `gemmlowp` rule of every operator that rounds; see fixed.h.
 */
#include "nn/fixed.h"

#include "nn/plan.h"

static int8_t bounded(int32_t v, int32_t lo, int32_t hi)
{
    return (int8_t)(v < lo ? lo : v > hi ? hi : v);
}

void efl_fwd_requant_fixed(int8_t *y, const int32_t *acc, int32_t rows, int32_t cols, int32_t column,
                           const efl_fwd_job *job)
{
    const int32_t n = job->n_fixed, first = column % n;
    for (int32_t i = 0; i < rows; i++, y += job->ldy, acc += EFL_NR)
        for (int32_t j = 0, c = first; j < cols; j++, c = c + 1 == n ? 0 : c + 1)
            y[j] = bounded(efl_fixed_times(acc[j], job->fixed[c]) + job->zero, job->lo, job->hi);
}

void efl_mean_i8_fwd_fixed(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq)
{
    const int32_t c = d->ci, pixels = d->hi * d->wi;
    for (int32_t s = 0; s < d->n; s++, x += pixels * c)
        for (int32_t j = 0; j < c; j++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < pixels; i++) sum += x[i * c + j] - rq->x_zero;
            *y++ = bounded(efl_fixed_times(sum, rq->fixed[0]) + rq->y_zero, rq->lo, rq->hi);
        }
}

void efl_requant_i8_fwd_fixed(int8_t *y, const int8_t *x, size_t n, const efl_requant_params *rq)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bounded(efl_fixed_times(x[i] - rq->x_zero, rq->fixed[0]) + rq->y_zero, -128, 127);
}

void efl_combine_i8_fwd_fixed(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_binary *p,
                              int32_t y_zero, int32_t lo, int32_t hi)
{
    const efl_fixed *f = p->fixed;
    for (size_t i = 0; i < n; i++) {
        const int32_t va = a[i] - p->a_zero, vb = b[i] - p->b_zero; /* |v| <= 255 */
        int32_t v;
        if (p->rule == EFL_BINARY_LINEAR) { /* below 2^28 each; m halves the larger */
            const int32_t wide_a = efl_fixed_times(va * (1 << 20), f[0]);
            const int32_t wide_b = efl_fixed_times(vb * (1 << 20), f[1]);
            v = efl_fixed_times((p->minus_a ? -wide_a : wide_a) + (p->minus_b ? -wide_b : wide_b), f[2]);
        } else {
            v = efl_fixed_times(va * vb, f[0]);
        }
        y[i] = bounded(v + y_zero, lo, hi);
    }
}

int efl_fixed_run(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n)
{
    const int8_t *x = efl_plan_source(plan, op->in0, input);
    const efl_dims d = efl_op_dims(op, n);
    const efl_tensor *in = &plan->tensors[op->in0], *out = &plan->tensors[op->out];
    int8_t *y = efl_plan_tensor(plan, op->out);
    const efl_requant_params rq = {
        .fixed = op->fixed, .n_mult = 1, .x_zero = in->zero, .y_zero = out->zero, .lo = op->lo, .hi = op->hi};
    const size_t elements = (size_t)n * (size_t)in->size;
    switch (op->kind) {
    case EFL_OP_MEAN:
        efl_mean_i8_fwd_fixed(y, x, &d, &rq);
        return 1;
    case EFL_OP_REQUANT:
        efl_requant_i8_fwd_fixed(y, x, elements, &rq);
        return 1;
    case EFL_OP_ADD: {
        const efl_binary sum = {.rule = EFL_BINARY_LINEAR,
                                .a_zero = in->zero,
                                .b_zero = plan->tensors[op->in1].zero,
                                .fixed = op->fixed};
        efl_combine_i8_fwd_fixed(y, x, efl_plan_source(plan, op->in1, input), elements, &sum, out->zero,
                                 op->lo, op->hi);
        return 1;
    }
    default:
        return 0;
    }
}

static int32_t count(const efl_plan *plan, const efl_op *op)
{
    if (op->param >= 0) return plan->params[op->param].n_scales;
    const int sum =
        op->kind == EFL_OP_ADD || (op->kind == EFL_OP_BINARY && op->binary->rule == EFL_BINARY_LINEAR);
    return sum ? 3 : 1;
}

efl_status efl_fixed_check(const efl_plan *plan, const efl_op *op)
{
    const efl_fixed *f = op->kind == EFL_OP_BINARY ? op->binary->fixed : op->fixed;
    for (int32_t i = 0; f && i < count(plan, op); i++)
        if (f[i].m < 0 || f[i].shift < -31 || f[i].shift > 30) return EFL_E_SCALE;
    return EFL_OK;
}
