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
#include "core/threads.h"

typedef struct {
    int32_t workers;
    uint8_t *tops;   /* [workers][co] the largest |e| of each channel; the first are those of all */
    float *scale;    /* [co] weight scales times a power of two */
    uint8_t *scaled; /* [workers] one sample of errors times them, where the kernel wants that */
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

static int32_t parts_of(const efl_op *op, int32_t n)
{
    return op->kind == EFL_OP_DENSE ? 1 : n;
}

static size_t scaled_bytes(const efl_dims *one)
{
    return efl_scratch_round((size_t)(one->ho * one->wo) * (size_t)one->co);
}

static int sums_dx(const efl_op *op)
{
    return has_weights(op) || op->kind == EFL_OP_AVGPOOL || op->kind == EFL_OP_MAXPOOL ||
           op->kind == EFL_OP_MEAN;
}

static size_t kernel_bytes(const efl_op *op, int zeroed, const efl_dims *d, int32_t workers)
{
    const size_t each = (size_t)workers;
    if (zeroed) return each * efl_scratch_round(efl_zeroed_bwd_x_scratch_bytes(op->kind, d));
    if (op->kind == EFL_OP_DWCONV2D) return each * efl_scratch_round(efl_dwconv2d_i8_bwd_x_scratch_bytes(d));
    return efl_bwd_x_bytes(d, workers);
}

static size_t take(layout *l, const efl_op *op, const efl_param *p, const efl_dims *d, int32_t workers,
                   void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int weighted = has_weights(op), zeroed = p && p->q_zero;
    const int whole = zeroed || op->kind == EFL_OP_DWCONV2D; /* a sample's errors are scaled at once */
    const efl_dims one = kernel_dims(op, d);
    const size_t co = (size_t)d->co, size = (size_t)(one.hi * one.wi * one.ci), each = (size_t)workers;
    l->workers = workers;
    l->tops = efl_scratch_take(&s, each * efl_scratch_round(co));
    l->scale = efl_scratch_take(&s, weighted ? co * sizeof(float) : 0);
    l->scaled = efl_scratch_take(&s, whole ? each * scaled_bytes(&one) : 0);
    const int wanted = op->edge0 >= 0;
    l->narrow =
        efl_scratch_take(&s, wanted && sums_dx(op) ? efl_narrow_bytes(size, parts_of(op, d->n), workers) : 0);
    l->kernel = efl_scratch_take(&s, wanted && weighted ? kernel_bytes(op, zeroed, &one, workers) : 0);
    return s.used;
}

size_t efl_backward_scratch_bytes(const efl_plan *plan, const efl_op *op)
{
    if (!op->n_edges) return 0;
    if (op->kind == EFL_OP_LSTM) return efl_lstm_backward_bytes(plan, op);
    const efl_dims d = efl_op_dims(op, plan->n_max);
    const efl_param *p = op->param >= 0 ? &plan->params[op->param] : NULL;
    layout l;
    size_t pass = take(&l, op, p, &d, efl_plan_threads(plan), NULL);
    const size_t elementwise = efl_through_bytes(plan, op);
    pass = elementwise > pass ? elementwise : pass;
    const size_t update = p && (p->train_w || p->train_b)
                              ? efl_sgd_scratch_bytes(op, p, plan->n_max, efl_plan_threads(plan))
                              : 0;
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
        efl_error_merge_on(&sum, in, op->n_edges, elements, efl_plan_threads(plan));
    }
    return sum;
}

static int32_t any(const int8_t *e, size_t n)
{
    int8_t bits = 0;
    for (size_t i = 0; i < n; i++) bits |= e[i];
    return bits != 0;
}

/* One operator's dX on its way through the samples. */
typedef struct {
    const layout *l;
    const efl_op *op;
    const efl_param *p;
    const int8_t *e, *x;
    int8_t *dx;
    efl_dims one;
    size_t out; /* errors of a part */
    efl_narrow narrow;
    efl_bwd_x pass;
} journey;

static void weights_part(void *context, int32_t i, int32_t worker)
{
    const journey *j = context;
    const efl_dims *d = &j->one;
    const int8_t *from = j->e + (size_t)i * j->out;
    int32_t *sums = efl_narrow_sums(&j->narrow, worker);
    if (!j->p->q_zero && j->op->kind != EFL_OP_DWCONV2D) {
        efl_narrow_put(&j->narrow, j->dx, i, efl_bwd_x_sample(&j->pass, sums, from, j->l->scale, worker),
                       worker);
        return;
    }
    uint8_t *scaled = j->l->scaled + (size_t)worker * scaled_bytes(d);
    uint8_t *area = (uint8_t *)j->l->kernel + (size_t)worker * kernel_bytes(j->op, j->p->q_zero != 0, d, 1);
    efl_kernels()->scale8(scaled, from, (size_t)(d->ho * d->wo), (size_t)d->co, j->l->scale, 0);
    if (j->p->q_zero)
        efl_zeroed_bwd_x(sums, (const int8_t *)scaled, j->op->kind, j->p, d, area);
    else
        efl_dwconv2d_i8_bwd_x(sums, (const int8_t *)scaled, j->p->q, d, area);
    efl_narrow_put(&j->narrow, j->dx, i, efl_kernels()->absmax_i32(sums, j->narrow.size), worker);
}

static void pool_part(void *context, int32_t i, int32_t worker)
{
    const journey *j = context;
    const int8_t *from = j->e + (size_t)i * j->out;
    int32_t *sums = efl_narrow_sums(&j->narrow, worker);
    if (j->op->kind == EFL_OP_MAXPOOL)
        efl_maxpool_i8_bwd_x(sums, from, j->x + (size_t)i * j->narrow.size, &j->one);
    else if (j->op->kind == EFL_OP_AVGPOOL)
        efl_avgpool_i8_bwd_x(sums, from, &j->one);
    else
        efl_mean_i8_bwd_x(sums, from, &j->one);
    efl_narrow_put(&j->narrow, j->dx, i, efl_kernels()->absmax_i32(sums, j->narrow.size), worker);
}

/* Error of the input of an operator whose backward pass forms sums; p is null for pools. l->tops holds the
 * channels' largest |e|. */
static void through_sums(const efl_op *op, const efl_param *p, const int8_t *x, const efl_error *e,
                         efl_error *dx, const efl_dims *d, const layout *l)
{
    journey j = {.l = l, .op = op, .p = p, .e = e->e, .x = x, .dx = dx->e, .one = kernel_dims(op, d)};
    const int32_t parts = parts_of(op, d->n), workers = l->workers;
    j.out = (size_t)(j.one.ho * j.one.wo * j.one.co);
    efl_narrow_begin(&j.narrow, (size_t)(j.one.hi * j.one.wi * j.one.ci), parts, workers, l->narrow);
    int32_t k = 0;
    if (p) {
        k = efl_error_scales(l->scale, l->tops, (size_t)d->co, p->scales, (size_t)p->n_scales);
        const int packed = !p->q_zero && op->kind != EFL_OP_DWCONV2D, live = k != EFL_ERROR_TINY;
        if (live && packed) efl_bwd_x_begin(&j.pass, p->q, &j.one, workers, l->kernel);
        if (live && packed && parts == 1)
            j.narrow.tops[0] = efl_bwd_x_shared(&j.pass, j.narrow.sums, e->e, l->scale, workers);
        else if (live)
            efl_parallel(parts, workers, weights_part, &j);
    } else {
        efl_parallel(parts, workers, pool_part, &j);
        const int32_t window = op->kind == EFL_OP_MEAN ? d->hi * d->wi : d->kh * d->kw;
        if (op->kind != EFL_OP_MAXPOOL) k = -15 - efl_ceil_log2_u32((uint32_t)window);
    }
    efl_narrow_end(&j.narrow, dx, e->k + k, workers);
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
        else if (sums_dx(op))
            through_sums(op, has_weights(op) ? &plan->params[op->param] : NULL, x, e, &dx, &d, l);
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

/* Rows [n][c] of an error, masked where y is given. */
typedef struct {
    const layout *l;
    const efl_op *op;
    int8_t *e;
    const int8_t *y;
    size_t n, c;
} masking;

#define MASK_BYTES 16384 /* of a task */

static void mask_part(void *context, int32_t task, int32_t worker)
{
    const masking *m = context;
    const size_t rows = MASK_BYTES / m->c + 1, from = (size_t)task * rows;
    uint8_t *top = m->l->tops + (size_t)worker * efl_scratch_round(m->c);
    efl_kernels()->mask_top(top, m->e + from * m->c, m->y ? m->y + from * m->c : NULL,
                            m->n - from < rows ? m->n - from : rows, m->c, m->op->mask_lo, m->op->mask_hi);
}

/* Mask, and find the largest |e| of each column; returns whether any is left. */
static int mask_all(const masking *m)
{
    const layout *l = m->l;
    const size_t stride = efl_scratch_round(m->c), rows = MASK_BYTES / m->c + 1;
    memset(l->tops, 0, (size_t)l->workers * stride);
    efl_parallel((int32_t)((m->n + rows - 1) / rows), l->workers, mask_part, (void *)m);
    uint8_t any_left = 0;
    for (size_t j = 0; j < m->c; j++) {
        for (size_t w = 1; w < (size_t)l->workers; w++) {
            const uint8_t more = l->tops[w * stride + j];
            l->tops[j] = more > l->tops[j] ? more : l->tops[j];
        }
        any_left |= l->tops[j];
    }
    return any_left != 0;
}

static void backward(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t n,
                     const efl_step *step)
{
    const efl_dims d = efl_op_dims(op, n);
    const size_t elements = (size_t)n * (size_t)plan->tensors[op->out].size;
    const size_t co = has_weights(op) ? (size_t)d.co : 1;
    layout l;
    take(&l, op, op->param >= 0 ? &plan->params[op->param] : NULL, &d, efl_plan_threads(plan), plan->scratch);
    efl_error e = collect(plan, op, elements);
    const int masked = op->mask_lo > -129 || op->mask_hi < 128;
    if (e.live && (masked || has_weights(op))) {
        const masking m = {&l, op, e.e, masked ? efl_plan_tensor(plan, op->out) : NULL, elements / co, co};
        e.live = mask_all(&m);
    }
    if (op->kind == EFL_OP_MOVE)
        propagate_move(plan, op, &e, n);
    else
        propagate(plan, op, &e, input, n, &l);
    efl_param *p = op->param >= 0 ? &plan->params[op->param] : NULL;
    if (p && (p->train_w || p->train_b))
        efl_sgd_update(op, p, &e, efl_plan_source(plan, op->in0, input), &plan->tensors[op->in0], n, step,
                       efl_plan_threads(plan), plan->scratch);
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
