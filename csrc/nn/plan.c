/* SPDX-License-Identifier: Apache-2.0
 *
 * Running a list of operators: check once, then forward. The list is flat data made by the caller; nothing
 * here decides where a tensor lies or what trains.
 */
#include "nn/plan.h"

#include <string.h>

#include "core/threads.h"
#include "nn/fixed.h"
#include "nn/recurrent.h"
#include "nn/sgd.h"
#include "nn/uint8.h"

int32_t efl_plan_threads(const efl_plan *plan)
{
    return plan->threads > 1 ? plan->threads : 1;
}

efl_dims efl_op_dims(const efl_op *op, int32_t n)
{
    efl_dims d = op->dims;
    d.n = n;
    return d;
}

int8_t *efl_plan_tensor(const efl_plan *plan, int32_t t)
{
    return plan->arena + plan->tensors[t].offset;
}

const int8_t *efl_plan_source(const efl_plan *plan, int32_t t, const int8_t *input)
{
    return t == plan->input ? input : efl_plan_tensor(plan, t);
}

int64_t efl_plan_scratch_bytes(const efl_plan *plan)
{
    size_t most = 0;
    for (int32_t i = 0; i < plan->n_ops; i++) {
        const efl_op *op = &plan->ops[i];
        const efl_dims d = efl_op_dims(op, plan->n_max);
        if (efl_dims_check(&d, op->kind) != EFL_OK) return 0;
        const size_t forward = efl_is_recurrent(op) ? efl_recurrent_scratch_bytes(plan, op)
                                                    : efl_layer_scratch_bytes(plan, op),
                     backward = efl_backward_scratch_bytes(plan, op);
        most = forward > most ? forward : most;
        most = backward > most ? backward : most;
    }
    const size_t loss = efl_loss_scratch_bytes(plan);
    return (int64_t)(loss > most ? loss : most);
}

static int inside(const efl_plan *plan, int64_t offset, int32_t size)
{
    return offset >= 0 && offset + (int64_t)size * plan->n_max <= plan->arena_bytes;
}

static int tensor_ok(const efl_plan *plan, int32_t t, int64_t size)
{
    return t >= 0 && t < plan->n_tensors && plan->tensors[t].size == size &&
           (t == plan->input || inside(plan, plan->tensors[t].offset, plan->tensors[t].size));
}

static efl_status param_check(const efl_plan *plan, const efl_op *op)
{
    const int wanted = op->kind == EFL_OP_CONV2D || op->kind == EFL_OP_DWCONV2D || op->kind == EFL_OP_DENSE;
    if (!wanted) return op->param == -1 && !op->packed ? EFL_OK : EFL_E_RANGE;
    if (op->packed && op->packed_bytes < efl_op_packed_bytes(op)) return EFL_E_SIZE;
    if (op->param < 0 || op->param >= plan->n_params) return EFL_E_RANGE;
    const efl_param *p = &plan->params[op->param];
    const efl_dims *d = &op->dims;
    const int64_t len = op->kind == EFL_OP_DENSE      ? (int64_t)d->co * d->hi * d->wi * d->ci
                        : op->kind == EFL_OP_DWCONV2D ? (int64_t)d->kh * d->kw * d->co
                                                      : (int64_t)d->co * d->kh * d->kw * (d->ci / d->groups);
    if (p->co != d->co || p->len != len || (p->n_scales != 1 && p->n_scales != p->co) || p->qmin < -128)
        return EFL_E_SHAPE;
    /* (x - z)*q and z_w*(x - z) are summed apart: 32768 * (255*128 + 128*255) < 2^31 */
    if (p->q_zero != d->w_zero) return EFL_E_RANGE;
    if (p->q_zero < -128 || p->q_zero > 127 || (p->q_zero && len / d->co > EFL_TERMS_MAX / 2))
        return EFL_E_RANGE;
    if (!p->q || !p->b || !p->scales || !p->mult || (p->train_w && !p->keys && !p->r) ||
        (p->train_b && !p->keys && !p->rb) || (!p->acc_b && p->acc_w) ||
        (p->acc_b && p->train_w && !p->acc_w))
        return EFL_E_NULL;
    for (int32_t i = 0; i < p->n_scales; i++)
        if (!(p->scales[i] > 0.0f) || !(p->mult[i] > 0.0f) || !(p->mult[i] < 256.0f)) return EFL_E_SCALE;
    if ((p->train_w || p->train_b) && !p->acc_b && efl_sgd_needs_sums(op, plan->n_max)) return EFL_E_NULL;
    return p->train_w && d->ho * (int64_t)d->wo > EFL_TERMS_MAX ? EFL_E_SHAPE : EFL_OK;
}

static efl_status op_check(const efl_plan *plan, const efl_op *op)
{
    efl_dims d = efl_op_dims(op, plan->n_max);
    const efl_status shapes = efl_dims_check(&d, op->kind);
    if (shapes != EFL_OK) return shapes;
    const int64_t in = (int64_t)d.hi * d.wi * d.ci, out = (int64_t)d.ho * d.wo * d.co;
    const int two = op->kind == EFL_OP_ADD || (op->kind == EFL_OP_BINARY && op->in1 >= 0);
    if (!tensor_ok(plan, op->in0, in) || !tensor_ok(plan, op->out, out) || op->out == plan->input ||
        (two && (op->in1 < 0 || op->in1 >= plan->n_tensors)))
        return EFL_E_SIZE;
    const int32_t second = two ? plan->tensors[op->in1].size : 0;
    if (two && (!tensor_ok(plan, op->in1, second) || (op->kind == EFL_OP_ADD && second != in)))
        return EFL_E_SIZE;
    if (op->lo < -128 || op->hi > 127 || op->lo > op->hi || op->mask_lo < -129 || op->mask_hi > 128 ||
        op->edge0 < -1 || op->edge0 >= plan->n_edges || op->edge1 < -1 || op->edge1 >= plan->n_edges ||
        op->n_edges < 0 || op->n_edges > EFL_FAN_OUT_MAX || op->edges < 0 ||
        op->edges > plan->n_edges - op->n_edges)
        return EFL_E_RANGE;
    for (int32_t i = 0; i < op->n_edges; i++)
        if (!inside(plan, plan->edges[op->edges + i].offset, (int32_t)out)) return EFL_E_SIZE;
    if ((op->edge0 >= 0 && !inside(plan, plan->edges[op->edge0].offset, (int32_t)in)) ||
        (op->edge1 >= 0 && (!two || !inside(plan, plan->edges[op->edge1].offset, second))))
        return EFL_E_SIZE;
    if ((op->kind == EFL_OP_SOFTMAX && !op->powers) || (op->kind == EFL_OP_SOFTMAX && op->n_edges))
        return EFL_E_NULL;
    if (op->kind == EFL_OP_BINARY) {
        const efl_status fits = efl_binary_check(op, (int32_t)in, second, (int32_t)out);
        if (fits != EFL_OK) return fits;
    }
    if (op->kind == EFL_OP_TABLE) {
        const efl_status fits = efl_table_check(op);
        if (fits != EFL_OK) return fits;
    }
    if (op->kind == EFL_OP_MOVE) {
        const efl_status fits = efl_move_check(plan, op);
        if (fits != EFL_OK) return fits;
        for (int32_t i = 0; i < op->move->n_parts; i++) {
            const efl_move_part *p = &op->move->parts[i];
            const int32_t size = plan->tensors[p->in].size;
            if (!tensor_ok(plan, p->in, size) ||
                (p->edge >= 0 && !inside(plan, plan->edges[p->edge].offset, size)))
                return EFL_E_SIZE;
        }
    }
    if (op->kind == EFL_OP_ADD && (op->add.shift < 1 || op->add.shift > 30)) return EFL_E_SCALE;
    if (op->kind == EFL_OP_AVGPOOL && op->edge0 >= 0 && !efl_avgpool_bwd_fits(&d)) return EFL_E_SHAPE;
    if (efl_is_recurrent(op)) return efl_recurrent_check(plan, op);
    const efl_status params = param_check(plan, op);
    return params != EFL_OK ? params : efl_fixed_check(plan, op);
}

efl_status efl_plan_check(const efl_plan *plan)
{
    if (!plan || !plan->tensors || !plan->ops || !plan->arena || (plan->n_params && !plan->params) ||
        (plan->n_edges && !plan->edges))
        return EFL_E_NULL;
    if (plan->n_max < 1 || plan->n_ops < 1 || plan->input < -1 || plan->input >= plan->n_tensors ||
        plan->threads < 0 || plan->threads > EFL_THREADS_MAX)
        return EFL_E_RANGE;
    for (int32_t t = 0; t < plan->n_tensors; t++)
        if (plan->tensors[t].size < 1 || plan->tensors[t].zero < -128 || plan->tensors[t].zero > 127 ||
            !(plan->tensors[t].scale > 0.0f))
            return EFL_E_RANGE;
    for (int32_t i = 0; i < plan->n_ops; i++) {
        const efl_status status = op_check(plan, &plan->ops[i]);
        if (status != EFL_OK) return status;
    }
    const efl_status loss = efl_loss_check(plan);
    if (loss != EFL_OK) return loss;
    const int64_t scratch = efl_plan_scratch_bytes(plan);
    return plan->scratch_bytes < scratch || (scratch && !plan->scratch) ? EFL_E_SIZE : EFL_OK;
}

/* Samples of a call in parts, one part a task. */
typedef struct {
    const efl_plan *plan;
    const efl_op *op;
    const int8_t *input;
    int32_t n, parts;
} call;

static void run_samples(void *context, int32_t part, int32_t worker)
{
    (void)worker;
    const call *c = context;
    const efl_op *op = c->op;
    const efl_tensor *in = &c->plan->tensors[op->in0], *out = &c->plan->tensors[op->out];
    const int32_t first = (int32_t)((int64_t)c->n * part / c->parts);
    const int32_t n = (int32_t)((int64_t)c->n * (part + 1) / c->parts) - first;
    const efl_dims d = efl_op_dims(op, n);
    const size_t from = (size_t)first * (size_t)in->size;
    const int8_t *x = efl_plan_source(c->plan, op->in0, c->input) + from;
    int8_t *y = efl_plan_tensor(c->plan, op->out) + (size_t)first * (size_t)out->size;
    const efl_requant_params rq = {
        .mult = &op->ratio, .n_mult = 1, .x_zero = in->zero, .y_zero = out->zero, .lo = op->lo, .hi = op->hi};
    if (op->kind == EFL_OP_AVGPOOL)
        (op->u8 ? efl_avgpool_u8_fwd : efl_avgpool_i8_fwd)(y, x, &d, op->lo, op->hi);
    else if (op->kind == EFL_OP_MAXPOOL)
        efl_maxpool_i8_fwd(y, x, &d, op->lo, op->hi);
    else if (op->kind == EFL_OP_MEAN)
        (op->u8 ? efl_mean_u8_fwd : efl_mean_i8_fwd)(y, x, &d, &rq);
    else
        efl_add_i8_fwd(y, x, efl_plan_source(c->plan, op->in1, c->input) + from, (size_t)n * (size_t)in->size,
                       &op->add);
}

static void run(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n)
{
    if (op->fixed && efl_fixed_run(plan, op, input, n)) return;
    const int8_t *x = efl_plan_source(plan, op->in0, input);
    const efl_dims d = efl_op_dims(op, n);
    const efl_tensor *in = &plan->tensors[op->in0], *out = &plan->tensors[op->out];
    int8_t *y = efl_plan_tensor(plan, op->out);
    const size_t elements = (size_t)n * (size_t)in->size;
    switch (op->kind) {
    case EFL_OP_CONV2D:
    case EFL_OP_DWCONV2D:
    case EFL_OP_DENSE:
        efl_layer_forward(plan, op, y, x, n);
        break;
    case EFL_OP_AVGPOOL:
    case EFL_OP_MAXPOOL:
    case EFL_OP_MEAN:
    case EFL_OP_ADD: {
        const int32_t workers = efl_plan_threads(plan), most = workers > 1 ? 4 * workers : 1;
        call c = {plan, op, input, n, n < most ? n : most};
        efl_parallel(c.parts, workers, run_samples, &c);
        break;
    }
    case EFL_OP_BINARY: {
        const int8_t *b = op->in1 >= 0 ? efl_plan_source(plan, op->in1, input) : op->binary->constant;
        efl_binary_i8_fwd(y, x, b, n, op->binary, &op->add, out->zero, op->lo, op->hi);
        break;
    }
    case EFL_OP_TABLE:
        efl_table_i8_fwd(y, x, elements, op->table);
        break;
    case EFL_OP_MOVE:
        efl_move_run(plan, op, input, n);
        break;
    case EFL_OP_SOFTMAX:
        efl_softmax_i8_fwd(y, x, n * d.hi * d.wi, d.ci, op->powers);
        break;
    case EFL_OP_COPY:
        if (y != x) memmove(y, x, elements);
        break;
    case EFL_OP_PAD:
        efl_pad_i8_fwd(y, x, &d, in->zero);
        break;
    case EFL_OP_LSTM:
    case EFL_OP_SVDF:
        efl_recurrent_run(plan, op, x, n);
        break;
    default: /* EFL_OP_REQUANT: op_check let nothing else pass */
        efl_requant_i8_fwd(y, x, elements, op->add.m0, in->zero, out->zero);
    }
}

efl_status efl_plan_forward(const efl_plan *plan, const int8_t *x, int32_t n, int32_t first, int32_t last)
{
    if (n < 1 || n > plan->n_max || first < 0 || first > last || last > plan->n_ops) return EFL_E_RANGE;
    for (int32_t i = first; i < last; i++) run(plan, &plan->ops[i], x, n);
    return EFL_OK;
}
