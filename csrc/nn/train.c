/* SPDX-License-Identifier: Apache-2.0
 *
 * One micro-batch of training: forward, loss, then each operator backwards: collect its error,
 * mask it, hand it on, and update its parameters, in that order (the error meets the weights from before the
 * step).
 */
#include <string.h>

#include "nn/conv_bwd.h"
#include "nn/error.h"
#include "nn/narrow.h"
#include "nn/plan.h"
#include "nn/recurrent.h"
#include "nn/round.h"
#include "nn/scratch.h"
#include "nn/sgd.h"
#include "nn/uint8.h"

#include "core/kernels.h"

typedef struct {
    uint8_t *top;    /* [co] the largest |e| of each channel */
    float *scale;    /* [co] weight scales times a power of two */
    uint8_t *scaled; /* depthwise: one sample of errors times them */
    void *narrow;
    void *kernel;
} layout;

static int has_weights(const efl_op *op)
{
    return op->kind == EFL_OP_CONV2D || op->kind == EFL_OP_DWCONV2D || op->kind == EFL_OP_DENSE;
}

/* Dims of one call of the kernel: a dense layer does all samples at once. */
static efl_dims kernel_dims(const efl_op *op, const efl_dims *d)
{
    efl_dims one = op->kind == EFL_OP_DENSE ? efl_dense_as_conv(d) : *d;
    one.n = 1;
    return one;
}

static int sums_dx(const efl_op *op)
{
    return has_weights(op) || op->kind == EFL_OP_AVGPOOL || op->kind == EFL_OP_MAXPOOL ||
           op->kind == EFL_OP_MEAN;
}

static size_t take(layout *l, const efl_op *op, const efl_param *p, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int weighted = has_weights(op), zeroed = p && p->q_zero;
    const int whole = zeroed || op->kind == EFL_OP_DWCONV2D; /* a sample's errors are scaled at once */
    const efl_dims one = kernel_dims(op, d);
    const size_t co = (size_t)d->co, size = (size_t)(one.hi * one.wi * one.ci);
    l->top = efl_scratch_take(&s, co);
    l->scale = efl_scratch_take(&s, weighted ? co * sizeof(float) : 0);
    l->scaled = efl_scratch_take(&s, whole ? (size_t)(one.ho * one.wo) * co : 0);
    const int wanted = op->edge0 >= 0;
    l->narrow = efl_scratch_take(
        &s, wanted && sums_dx(op) ? efl_narrow_bytes(size, op->kind == EFL_OP_DENSE ? 1 : d->n) : 0);
    l->kernel = efl_scratch_take(&s, !wanted || !weighted ? 0
                                     : zeroed             ? efl_zeroed_bwd_x_scratch_bytes(op->kind, &one)
                                     : whole              ? efl_dwconv2d_i8_bwd_x_scratch_bytes(&one)
                                                          : efl_bwd_x_bytes(&one));
    return s.used;
}

size_t efl_backward_scratch_bytes(const efl_plan *plan, const efl_op *op)
{
    if (!op->n_edges) return 0;
    if (op->kind == EFL_OP_LSTM) return efl_lstm_backward_bytes(plan, op);
    const efl_dims d = efl_op_dims(op, plan->n_max);
    const efl_param *p = op->param >= 0 ? &plan->params[op->param] : NULL;
    layout l;
    size_t pass = take(&l, op, p, &d, NULL);
    const size_t elementwise = efl_through_bytes(plan, op);
    pass = elementwise > pass ? elementwise : pass;
    const size_t update = p && (p->train_w || p->train_b) ? efl_sgd_scratch_bytes(op, p, plan->n_max) : 0;
    return pass > update ? pass : update;
}

static efl_error edge_error(const efl_plan *plan, int32_t edge)
{
    const efl_edge *at = &plan->edges[edge];
    const efl_error e = {plan->arena + at->offset, at->k, at->live};
    return e;
}

static void edge_store(const efl_plan *plan, int32_t edge, const efl_error *e)
{
    plan->edges[edge].k = e->k;
    plan->edges[edge].live = e->live;
}

/* The error of an operator's output: the sum over all who read it; it then lies in the first edge. */
static efl_error collect(const efl_plan *plan, const efl_op *op, size_t elements)
{
    efl_error sum = edge_error(plan, op->edges);
    if (op->n_edges > 1) {
        efl_error in[EFL_FAN_OUT_MAX];
        for (int32_t j = 0; j < op->n_edges; j++) in[j] = edge_error(plan, op->edges + j);
        efl_error_merge(&sum, in, op->n_edges, elements);
    }
    return sum;
}

static int32_t any(const int8_t *e, size_t n)
{
    int8_t bits = 0;
    for (size_t i = 0; i < n; i++) bits |= e[i];
    return bits != 0;
}

/* Error of the input of an operator with weights. l->top holds the channels' largest |e|. */
static void through_weights(const efl_op *op, const efl_param *p, const efl_error *e, efl_error *dx,
                            const efl_dims *d, const layout *l)
{
    const int32_t k = efl_error_scales(l->scale, l->top, (size_t)d->co, p->scales, (size_t)p->n_scales);
    const efl_dims one = kernel_dims(op, d);
    const int32_t parts = op->kind == EFL_OP_DENSE ? 1 : d->n;
    const size_t out = (size_t)(one.ho * one.wo * one.co), pixels = (size_t)(one.ho * one.wo);
    efl_narrow narrow;
    efl_narrow_begin(&narrow, (size_t)(one.hi * one.wi * one.ci), parts, l->narrow);
    efl_bwd_x pass;
    const int whole = op->kind == EFL_OP_DWCONV2D || p->q_zero, live = k != EFL_ERROR_TINY;
    if (live && !whole) efl_bwd_x_begin(&pass, p->q, &one, l->kernel);
    for (int32_t i = 0; i < parts && live; i++) {
        const int8_t *from = e->e + (size_t)i * out;
        if (whole) {
            efl_kernels()->scale8(l->scaled, from, pixels, (size_t)one.co, l->scale, 0);
            if (p->q_zero)
                efl_zeroed_bwd_x(narrow.sums, (const int8_t *)l->scaled, op->kind, p, &one, l->kernel);
            else
                efl_dwconv2d_i8_bwd_x(narrow.sums, (const int8_t *)l->scaled, p->q, &one, l->kernel);
            efl_narrow_put(&narrow, dx->e, efl_kernels()->absmax_i32(narrow.sums, narrow.size));
        } else {
            efl_narrow_put(&narrow, dx->e, efl_bwd_x_sample(&pass, narrow.sums, from, l->scale));
        }
    }
    efl_narrow_end(&narrow, dx, e->k + k);
}

static void through_pool(const efl_op *op, const int8_t *x, const efl_error *e, efl_error *dx,
                         const efl_dims *d, const layout *l)
{
    const efl_dims one = kernel_dims(op, d);
    const size_t in = (size_t)(d->hi * d->wi * d->ci), out = (size_t)(d->ho * d->wo * d->co);
    const int32_t window = op->kind == EFL_OP_MEAN ? d->hi * d->wi : d->kh * d->kw;
    efl_narrow narrow;
    efl_narrow_begin(&narrow, in, d->n, l->narrow);
    for (int32_t i = 0; i < d->n; i++) {
        const int8_t *from = e->e + (size_t)i * out;
        if (op->kind == EFL_OP_MAXPOOL)
            efl_maxpool_i8_bwd_x(narrow.sums, from, x + (size_t)i * in, &one);
        else if (op->kind == EFL_OP_AVGPOOL)
            efl_avgpool_i8_bwd_x(narrow.sums, from, &one);
        else
            efl_mean_i8_bwd_x(narrow.sums, from, &one);
        efl_narrow_put(&narrow, dx->e, efl_kernels()->absmax_i32(narrow.sums, in));
    }
    const int32_t extra = op->kind == EFL_OP_MAXPOOL ? 0 : 15 + efl_ceil_log2_u32((uint32_t)window);
    efl_narrow_end(&narrow, dx, e->k - extra);
}

/* Hand the error e of the result of a MOVE to its inputs, which may be many. */
static void propagate_move(const efl_plan *plan, const efl_op *op, const efl_error *e, int32_t n)
{
    for (int32_t i = 0; i < op->move->n_parts; i++) {
        const efl_move_part *p = &op->move->parts[i];
        if (p->edge < 0) continue;
        efl_error dx = edge_error(plan, p->edge);
        if (e->live) {
            efl_move_through(plan, op, p, e, &dx, n);
        } else {
            memset(dx.e, 0, (size_t)n * (size_t)plan->tensors[p->in].size);
            dx.live = 0;
        }
        edge_store(plan, p->edge, &dx);
    }
}

/* Hand the masked error e of op's output to its inputs. */
static void propagate(const efl_plan *plan, const efl_op *op, const efl_error *e, const int8_t *input,
                      int32_t n, const layout *l)
{
    const int8_t *x = efl_plan_source(plan, op->in0, input);
    const efl_dims d = efl_op_dims(op, n);
    const int32_t edges[2] = {op->edge0, op->edge1};
    for (int i = 0; i < 2; i++) {
        if (edges[i] < 0) continue;
        const size_t in = (size_t)n * (size_t)plan->tensors[i ? op->in1 : op->in0].size;
        efl_error dx = edge_error(plan, edges[i]);
        dx.k = e->k;
        dx.live = e->live;
        if (!e->live)
            memset(dx.e, 0, in);
        else if (has_weights(op))
            through_weights(op, &plan->params[op->param], e, &dx, &d, l);
        else if (sums_dx(op))
            through_pool(op, x, e, &dx, &d, l);
        else if (op->kind == EFL_OP_BINARY)
            efl_binary_through(plan, op, e, &dx, i, input, n);
        else if (op->kind == EFL_OP_TABLE)
            efl_table_through(plan, op, e, &dx, input, n);
        else if (op->kind == EFL_OP_PAD) {
            efl_pad_i8_bwd_x(dx.e, e->e, &d);
            dx.live = any(dx.e, in);
        } else if (dx.e != e->e) /* ADD, COPY, REQUANT: real units do not change */
            memmove(dx.e, e->e, in);
        edge_store(plan, edges[i], &dx);
    }
}

/* An LSTM hands its error on and updates in one pass over its steps. */
static void backward_lstm(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n,
                          const efl_step *step)
{
    const efl_error e = collect(plan, op, (size_t)n * (size_t)plan->tensors[op->out].size);
    efl_error dx = {0};
    if (op->edge0 >= 0) dx = edge_error(plan, op->edge0);
    efl_lstm_backward(plan, op, op->edge0 >= 0 ? &dx : NULL, &e, efl_plan_source(plan, op->in0, input), n,
                      step);
    if (op->edge0 >= 0) edge_store(plan, op->edge0, &dx);
}

static void backward(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n,
                     const efl_step *step)
{
    const efl_dims d = efl_op_dims(op, n);
    const size_t elements = (size_t)n * (size_t)plan->tensors[op->out].size;
    const size_t co = has_weights(op) ? (size_t)d.co : 1;
    layout l;
    take(&l, op, op->param >= 0 ? &plan->params[op->param] : NULL, &d, plan->scratch);
    efl_error e = collect(plan, op, elements);
    const int masked = op->mask_lo > -129 || op->mask_hi < 128;
    if (e.live && (masked || has_weights(op))) {
        efl_kernels()->mask_top(l.top, e.e, masked ? efl_plan_tensor(plan, op->out) : NULL, elements / co, co,
                                op->mask_lo, op->mask_hi);
        e.live = any((const int8_t *)l.top, co);
    }
    if (op->kind == EFL_OP_MOVE)
        propagate_move(plan, op, &e, n);
    else
        propagate(plan, op, &e, input, n, &l);
    efl_param *p = op->param >= 0 ? &plan->params[op->param] : NULL;
    if (p && (p->train_w || p->train_b))
        efl_sgd_update(op, p, &e, efl_plan_source(plan, op->in0, input), &plan->tensors[op->in0], n, step,
                       plan->scratch);
}

efl_status efl_plan_train(const efl_plan *plan, efl_outcome *seen, const int8_t *x, const efl_target *target,
                          int32_t n, const efl_step *step)
{
    if (step->n < n || step->cap < 1 || !(step->lr > 0.0f)) return EFL_E_RANGE;
    const efl_status status = efl_plan_score(plan, seen, x, target, n);
    if (status != EFL_OK) return status;
    for (int32_t i = plan->n_ops - 1; i >= 0; i--)
        if (plan->ops[i].n_edges)
            (plan->ops[i].kind == EFL_OP_LSTM ? backward_lstm : backward)(plan, &plan->ops[i], x, n, step);
    return EFL_OK;
}
