/* SPDX-License-Identifier: Apache-2.0
 *
 * Back-propagation through time: the steps from last to first, all samples of a step together. Errors are
 * int8 with an exponent for each step and gate, that of the cell int16. Every step adds to the int64 sums of
 * the eight parameters as a micro-batch of its own, through the dense layer's kernels; the weights move once,
 * after the last. Formulas: docs/training.md, "LSTM, backward".
 */
#include "nn/lstm.h"

#include <string.h>

#include "core/kernels.h"
#include "nn/plan.h"
#include "nn/recurrent.h"
#include "nn/round.h"
#include "nn/scratch.h"
#include "nn/sgd.h"

#define TINY 8.673617379884035e-19f /* 2^-60, as in error.c */

typedef struct {
    int8_t *own, *back, *h;       /* [wide] error of h: of the output, of the step after, their sum */
    int8_t *gates[EFL_GATE_N];    /* [wide] */
    int8_t *scaled;               /* [wide] one gate's error times its weight scale */
    int16_t *h16, *cell, *before; /* [wide] error of h, of the cell; the cell before the first step */
    int32_t *x;                   /* [wide] products before they get their exponent */
    int8_t *in;                   /* [n][widest input] of one step */
    int32_t *sums, *part;         /* the same size: errors of it */
    float *scale;                 /* [co] */
    int32_t *k, *live;            /* [steps] of the input's error */
    void *kernel;
} layout;

/* One call: what its helpers share. */
typedef struct {
    const efl_plan *plan;
    efl_param *p; /* [8] */
    const efl_lstm *m;
    const efl_step *step;
    const int16_t *saved;
    efl_dims d;
    size_t wide; /* n * co */
    layout l;
} pass;

/* A gate's weights as a dense layer of k inputs. */
static efl_op as_dense(const efl_dims *d, int32_t k)
{
    efl_op op = {.kind = EFL_OP_DENSE};
    op.dims = *d;
    op.dims.wi = op.dims.wo = 1;
    op.dims.ci = k;
    return op;
}

static size_t kernel_bytes(const efl_dims *d, const efl_param *p, int32_t k)
{
    const efl_op op = as_dense(d, k);
    size_t most = efl_dense_i8_bwd_x_scratch_bytes(&op.dims);
    for (int g = 0; g < EFL_GATE_N; g++) {
        const size_t bytes = efl_sgd_scratch_bytes(&op, &p[g], d->n, 1);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static size_t take(layout *l, const efl_dims *d, const efl_param *p, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const size_t n = (size_t)d->n, wide = n * (size_t)d->co, steps = (size_t)d->wi;
    const size_t input = n * (size_t)(d->ci > d->co ? d->ci : d->co);
    l->own = efl_scratch_take(&s, wide);
    l->back = efl_scratch_take(&s, wide);
    l->h = efl_scratch_take(&s, wide);
    for (int g = 0; g < EFL_GATE_N; g++) l->gates[g] = efl_scratch_take(&s, wide);
    l->scaled = efl_scratch_take(&s, wide);
    l->h16 = efl_scratch_take(&s, wide * sizeof(int16_t));
    l->cell = efl_scratch_take(&s, wide * sizeof(int16_t));
    l->before = efl_scratch_take(&s, wide * sizeof(int16_t));
    l->x = efl_scratch_take(&s, wide * sizeof(int32_t));
    l->in = efl_scratch_take(&s, input);
    l->sums = efl_scratch_take(&s, input * sizeof(int32_t));
    l->part = efl_scratch_take(&s, input * sizeof(int32_t));
    l->scale = efl_scratch_take(&s, (size_t)d->co * sizeof(float));
    l->k = efl_scratch_take(&s, steps * sizeof(int32_t));
    l->live = efl_scratch_take(&s, steps * sizeof(int32_t));
    l->kernel = efl_scratch_take(&s, 0);
    const size_t in = kernel_bytes(d, p, d->ci), back = kernel_bytes(d, p + EFL_GATE_N, d->co);
    return s.used + (in > back ? in : back);
}

size_t efl_lstm_backward_bytes(const efl_plan *plan, const efl_op *op)
{
    const efl_dims d = efl_op_dims(op, plan->n_max);
    layout l;
    return take(&l, &d, &plan->params[op->param], NULL);
}

static const int16_t *part_of(const pass *c, size_t t, size_t part)
{
    return c->saved + (t * EFL_LSTM_PARTS + part) * c->wide;
}

/* dst [n][k] <- step t of src [n][steps][k]; put is the way back. */
static void get(int8_t *dst, const int8_t *src, const efl_dims *d, size_t t, size_t k)
{
    for (size_t s = 0; s < (size_t)d->n; s++) memcpy(dst + s * k, src + (s * (size_t)d->wi + t) * k, k);
}
static void put(int8_t *dst, const int8_t *src, const efl_dims *d, size_t t, size_t k)
{
    for (size_t s = 0; s < (size_t)d->n; s++) memcpy(dst + (s * (size_t)d->wi + t) * k, src + s * k, k);
}

static int32_t any(const int8_t *e, size_t n)
{
    int8_t bits = 0;
    for (size_t i = 0; i < n; i++) bits |= e[i];
    return bits != 0;
}

/* Error of the cell at step t: *k, *live hold those of the step after and get the new ones. l.h16 is the
 * error of h. */
static void cell_error(const pass *c, size_t t, const efl_error *h, int32_t *k, int32_t *live)
{
    const efl_kernel_table *kernels = efl_kernels();
    const layout *l = &c->l;
    const int32_t from_h = h->k - 15, after = *k - 15;
    int32_t top = after, sx = 0, sd = 0;
    if (!h->live && !*live) return;
    if (h->live) top = !*live || from_h > after ? from_h : after;
    if (h->live && *live) {
        sx = top - from_h < 31 ? top - from_h : 31;
        sd = top - after < 31 ? top - after : 31;
    }
    kernels->times_tanh_slope(l->x, l->h16, part_of(c, t, EFL_GATE_O), part_of(c, t, EFL_LSTM_TANH), c->wide);
    if (*live) kernels->join_cell(l->x, l->cell, part_of(c, t + 1, EFL_GATE_F), c->wide, sx, sd);
    const uint32_t most = kernels->absmax_i32(l->x, c->wide);
    const int32_t own = most ? efl_ceil_log2_u32(most) - 15 : 0, shift = own > 0 ? own : 0;
    *k = top + shift;
    *live = kernels->narrow_cell(l->cell, l->x, part_of(c, t, EFL_LSTM_CELL), c->wide, shift, c->m->clip);
}

/* Errors of the four gates before their activation. */
static void gate_errors(const pass *c, size_t t, const efl_error *h, int32_t k, int32_t live,
                        efl_error *gates)
{
    const efl_kernel_table *kernels = efl_kernels();
    const layout *l = &c->l;
    const int16_t *i = part_of(c, t, EFL_GATE_I), *f = part_of(c, t, EFL_GATE_F);
    const int16_t *g = part_of(c, t, EFL_GATE_G), *o = part_of(c, t, EFL_GATE_O);
    const int16_t *before = t ? part_of(c, t - 1, EFL_LSTM_CELL) : l->before;
    for (int n = 0; n < EFL_GATE_N; n++) {
        gates[n].e = l->gates[n];
        gates[n].k = gates[n].live = 0;
    }
    if (live) {
        kernels->times_sigmoid_slope(l->x, l->cell, g, i, c->wide);
        efl_error_from_i32(&gates[EFL_GATE_I], l->x, c->wide, k - 15);
        kernels->times_sigmoid_slope(l->x, l->cell, before, f, c->wide);
        efl_error_from_i32(&gates[EFL_GATE_F], l->x, c->wide, k - c->m->cell_bits);
        kernels->times_tanh_slope(l->x, l->cell, i, g, c->wide);
        efl_error_from_i32(&gates[EFL_GATE_G], l->x, c->wide, k - 15);
    }
    if (h->live) {
        kernels->times_sigmoid_slope(l->x, l->h16, part_of(c, t, EFL_LSTM_TANH), o, c->wide);
        efl_error_from_i32(&gates[EFL_GATE_O], l->x, c->wide, h->k - 15);
    }
}

/* The four gates' errors, times the scales of their weights, as one to8; then the error [n][k] of what these
 * weights p [4] are multiplied with. */
static void through_gates(const pass *c, efl_error *dx, const efl_error *gates, const efl_param *p, int32_t k)
{
    const efl_kernel_table *kernels = efl_kernels();
    const layout *l = &c->l;
    const efl_op op = as_dense(&c->d, k);
    const size_t size = (size_t)c->d.n * (size_t)k, co = (size_t)c->d.co;
    int32_t top = INT32_MIN;
    for (int g = 0; g < EFL_GATE_N; g++)
        if (gates[g].live && gates[g].k > top) top = gates[g].k;
    float scale[EFL_GATE_N] = {0}, most = 0.0f;
    for (int g = 0; g < EFL_GATE_N; g++) {
        if (!gates[g].live) continue;
        const int32_t down = gates[g].k - top;
        uint8_t largest = 0;
        scale[g] = efl_scale2(p[g].scales[0], down < -250 ? -250 : down);
        kernels->mask_top(&largest, gates[g].e, NULL, c->wide, 1, 0, 0);
        const float v = (float)largest * scale[g];
        most = v > most ? v : most;
    }
    if (most < TINY) {
        memset(dx->e, 0, size);
        dx->live = 0;
        return;
    }
    const int32_t own = efl_ceil_log2_f32(most) - 7;
    memset(l->sums, 0, size * sizeof(int32_t));
    for (int g = 0; g < EFL_GATE_N; g++) {
        if (!gates[g].live) continue;
        for (size_t j = 0; j < co; j++) l->scale[j] = scale[g];
        kernels->scale_cols(l->scaled, gates[g].e, (size_t)c->d.n, co, l->scale, efl_scale2(1.0f, -own));
        efl_dense_i8_bwd_x(l->part, l->scaled, p[g].q, &op.dims, l->kernel);
        for (size_t j = 0; j < size; j++) l->sums[j] += l->part[j];
    }
    efl_error_from_i32(dx, l->sums, size, top + own);
}

/* One step's share of the gradient of weights p [4], whose input of this step lies in l.in; or, with a step
 * that is the batch's last, the move of these weights. */
static void update(const pass *c, efl_param *p, const efl_error *gates, const efl_tensor *x, int32_t k,
                   const efl_step *step)
{
    const efl_op op = as_dense(&c->d, k);
    for (int g = 0; g < EFL_GATE_N; g++)
        if (p[g].train_w || p[g].train_b)
            efl_sgd_update(&op, &p[g], &gates[g], c->l.in, x, c->d.n, step, 1, c->l.kernel);
}

static int trains(const efl_param *p)
{
    int any_of = 0;
    for (int g = 0; g < EFL_GATE_N; g++) any_of |= p[g].train_w | p[g].train_b;
    return any_of;
}

/* All steps of the input's error at the largest exponent. */
static void level_steps(const pass *c, efl_error *dx)
{
    const layout *l = &c->l;
    const size_t steps = (size_t)c->d.wi, k = (size_t)c->d.ci;
    dx->live = 0;
    for (size_t t = 0; t < steps; t++)
        if (l->live[t]) {
            dx->k = !dx->live || l->k[t] > dx->k ? l->k[t] : dx->k;
            dx->live = 1;
        }
    for (size_t s = 0; s < (size_t)c->d.n; s++)
        for (size_t t = 0; t < steps; t++) {
            int8_t *e = dx->e + (s * steps + t) * k;
            const int32_t down = l->live[t] ? dx->k - l->k[t] : 0;
            for (size_t j = 0; j < k && down; j++) e[j] = (int8_t)efl_rne_shift(e[j], down);
        }
}

void efl_lstm_backward(const efl_plan *plan, const efl_op *op, efl_error *dx, const efl_error *e,
                       const int8_t *x, int32_t n, const efl_step *step)
{
    pass c = {.plan = plan, .p = &plan->params[op->param], .m = op->lstm, .step = step};
    c.d = efl_op_dims(op, n);
    c.saved = efl_recurrent_state(plan, op);
    c.wide = (size_t)n * (size_t)c.d.co;
    take(&c.l, &c.d, c.p, plan->scratch);
    const layout *l = &c.l;
    efl_param *in = c.p, *back = c.p + EFL_GATE_N;
    const efl_tensor *x_tensor = &plan->tensors[op->in0], *h_tensor = &plan->tensors[op->out];
    const int8_t *h_values = efl_plan_tensor(plan, op->out);
    const size_t steps = (size_t)c.d.wi, k = (size_t)c.d.ci, co = (size_t)c.d.co;
    efl_step add = *step;
    add.last = 0;
    memset(l->before, 0, c.wide * sizeof(int16_t));
    efl_error later = {l->back, 0, 0}, gates[EFL_GATE_N];
    int32_t cell_k = 0, cell_live = 0;
    for (size_t t = steps; t-- > 0;) {
        efl_error h = {l->h, 0, 0}, parts[2] = {{l->own, e->k, 0}, later};
        get(l->own, e->e, &c.d, t, co);
        parts[0].live = e->live && any(l->own, c.wide);
        efl_error_merge(&h, parts, 2, c.wide);
        efl_kernels()->widen(l->h16, l->h, c.wide, 0);
        cell_error(&c, t, &h, &cell_k, &cell_live);
        gate_errors(&c, t, &h, cell_k, cell_live, gates);
        if (trains(in)) {
            get(l->in, x, &c.d, t, k);
            update(&c, in, gates, x_tensor, c.d.ci, &add);
        }
        if (t > 0 && trains(back)) { /* at the first step the state is zero */
            get(l->in, h_values, &c.d, t - 1, co);
            update(&c, back, gates, h_tensor, c.d.co, &add);
        }
        if (dx) {
            efl_error one = {l->in, 0, 0};
            through_gates(&c, &one, gates, in, c.d.ci);
            put(dx->e, l->in, &c.d, t, k);
            l->k[t] = one.k, l->live[t] = one.live;
        }
        later.live = 0;
        if ((int32_t)(steps - t) % c.m->truncate == 0)
            cell_live = 0;
        else if (t > 0)
            through_gates(&c, &later, gates, back, c.d.co);
    }
    if (dx) level_steps(&c, dx);
    if (!step->last) return;
    for (int g = 0; g < EFL_GATE_N; g++) gates[g].live = 0;
    update(&c, in, gates, x_tensor, c.d.ci, step);
    update(&c, back, gates, h_tensor, c.d.co, step);
}
