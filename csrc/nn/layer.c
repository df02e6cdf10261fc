/* SPDX-License-Identifier: Apache-2.0
 *
 * Forward pass of the operators with weights within a plan: where their packed weights come from. An operator
 * that brings memory for them is packed once (efl_plan_pack) and only folds a bias that trains; any other is
 * packed into scratch at each call, because its weights may have moved. Weights with a zero point are not
 * packed.
 */
#include "core/threads.h"
#include "nn/plan.h"
#include "nn/scratch.h"
#include "nn/uint8.h"

static int has_weights(const efl_op *op)
{
    return op->kind == EFL_OP_CONV2D || op->kind == EFL_OP_DWCONV2D || op->kind == EFL_OP_DENSE;
}

/* Weights whose zero point has no negative in int8 cannot be packed with it (packed.h). */
static int one_by_one(const efl_op *op)
{
    return op->dims.w_zero == -128;
}

int64_t efl_op_packed_bytes(const efl_op *op)
{
    const efl_dims d = efl_op_dims(op, 1);
    if (!has_weights(op) || one_by_one(op) || efl_dims_check(&d, op->kind) != EFL_OK) return 0;
    return (int64_t)(op->kind == EFL_OP_CONV2D     ? efl_conv2d_i8_packed_bytes(&d)
                     : op->kind == EFL_OP_DWCONV2D ? efl_dwconv2d_i8_packed_bytes(&d)
                                                   : efl_dense_i8_packed_bytes(&d));
}

static efl_requant_params requant_params(const efl_plan *plan, const efl_op *op)
{
    const efl_param *p = &plan->params[op->param];
    const efl_requant_params rq = {.mult = p->mult,
                                   .fixed = op->fixed,
                                   .n_mult = p->n_scales,
                                   .x_zero = plan->tensors[op->in0].zero,
                                   .y_zero = plan->tensors[op->out].zero,
                                   .lo = op->lo,
                                   .hi = op->hi};
    return rq;
}

static void pack(const efl_plan *plan, const efl_op *op, void *packed)
{
    const efl_dims d = efl_op_dims(op, 1);
    const efl_param *p = &plan->params[op->param];
    const efl_requant_params rq = requant_params(plan, op);
    if (op->kind == EFL_OP_CONV2D)
        efl_conv2d_i8_pack(packed, p->q, p->b, &d, &rq);
    else if (op->kind == EFL_OP_DWCONV2D)
        efl_dwconv2d_i8_pack(packed, p->q, p->b, &d, &rq);
    else
        efl_dense_i8_pack(packed, p->q, p->b, &d, &rq);
}

static void fold(const efl_plan *plan, const efl_op *op)
{
    const efl_dims d = efl_op_dims(op, 1);
    const efl_requant_params rq = requant_params(plan, op);
    const int32_t *b = plan->params[op->param].b;
    if (op->kind == EFL_OP_CONV2D)
        efl_conv2d_i8_fold(op->packed, b, &d, &rq);
    else if (op->kind == EFL_OP_DWCONV2D)
        efl_dwconv2d_i8_fold(op->packed, b, &d, &rq);
    else
        efl_dense_i8_fold(op->packed, b, &d, &rq);
}

void efl_plan_pack(const efl_plan *plan)
{
    for (int32_t i = 0; i < plan->n_ops; i++)
        if (plan->ops[i].packed && !one_by_one(&plan->ops[i])) pack(plan, &plan->ops[i], plan->ops[i].packed);
}

typedef struct {
    void *packed;
    uint8_t *kernels; /* [workers] areas of kernel_n bytes */
    size_t kernel_n;
} layout;

static size_t take(layout *l, const efl_op *op, const efl_dims *d, int32_t workers, void *scratch)
{
    efl_scratch s = {scratch, 0};
    l->packed = op->packed;
    if (!op->packed) l->packed = efl_scratch_take(&s, (size_t)efl_op_packed_bytes(op));
    l->kernel_n = efl_scratch_round(op->kind == EFL_OP_CONV2D     ? efl_conv2d_i8_fwd_scratch_bytes(d)
                                    : op->kind == EFL_OP_DWCONV2D ? efl_dwconv2d_i8_fwd_scratch_bytes(d)
                                                                  : efl_dense_i8_fwd_scratch_bytes(d));
    l->kernels = efl_scratch_take(&s, (size_t)workers * l->kernel_n);
    return s.used;
}

size_t efl_layer_scratch_bytes(const efl_plan *plan, const efl_op *op)
{
    const efl_dims d = efl_op_dims(op, plan->n_max);
    layout l;
    if (!has_weights(op) || op->param < 0) return 0;
    return one_by_one(op) ? efl_zeroed_fwd_scratch_bytes(op) : take(&l, op, &d, efl_plan_threads(plan), NULL);
}

/* Samples of a call in parts, one part a task. */
typedef struct {
    const efl_op *op;
    const efl_requant_params *rq;
    const layout *l;
    int8_t *y;
    const int8_t *x;
    int32_t n, parts;
} call;

static void run_samples(void *context, int32_t part, int32_t worker)
{
    const call *c = context;
    const int32_t first = (int32_t)((int64_t)c->n * part / c->parts);
    const int32_t last = (int32_t)((int64_t)c->n * (part + 1) / c->parts);
    const efl_dims d = efl_op_dims(c->op, last - first);
    int8_t *y = c->y + (size_t)first * (size_t)(d.ho * d.wo * d.co);
    const int8_t *x = c->x + (size_t)first * (size_t)(d.hi * d.wi * d.ci);
    void *kernel = c->l->kernels + (size_t)worker * c->l->kernel_n;
    if (c->op->kind == EFL_OP_CONV2D)
        efl_conv2d_i8_fwd(y, x, c->l->packed, &d, c->rq, kernel);
    else if (c->op->kind == EFL_OP_DWCONV2D)
        efl_dwconv2d_i8_fwd(y, x, c->l->packed, &d, c->rq, kernel);
    else
        efl_dense_i8_fwd(y, x, c->l->packed, &d, c->rq, kernel);
}

void efl_layer_forward(const efl_plan *plan, const efl_op *op, int8_t *y, const int8_t *x, int32_t n)
{
    const efl_dims d = efl_op_dims(op, n);
    const efl_requant_params rq = requant_params(plan, op);
    const efl_param *p = &plan->params[op->param];
    if (one_by_one(op)) {
        efl_zeroed_fwd(y, x, op, p, &d, &rq, plan->scratch);
        return;
    }
    const int32_t workers = efl_plan_threads(plan);
    layout l;
    take(&l, op, &d, workers, plan->scratch);
    if (!op->packed)
        pack(plan, op, l.packed);
    else if (p->train_b)
        fold(plan, op);
    const int32_t most = op->kind == EFL_OP_DENSE ? workers : 4 * workers; /* a dense layer likes many rows */
    call c = {op, &rq, &l, y, x, n, workers == 1 ? 1 : n < most ? n : most};
    efl_parallel(c.parts, workers, run_samples, &c);
}
