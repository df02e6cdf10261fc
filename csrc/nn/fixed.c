/* SPDX-License-Identifier: Apache-2.0
 * The `gemmlowp` rule of every operator that rounds; see fixed.h.
 */
#include "nn/fixed.h"

#include "nn/plan.h"

static int8_t bounded(int32_t v, int32_t lo, int32_t hi)
{
    return (int8_t)(v < lo ? lo : v > hi ? hi : v);
}

/* Strides of the weights: [co][kh][kw][c] for convolution and dense layers, [kh][kw][co] for depthwise. */
typedef struct {
    int32_t channel, tap, depth;
} weight_walk;

/* Sum over the taps of one output channel at one output pixel; x is the sample at its first input channel. */
static int32_t dot(const int8_t *x, const int8_t *w, const efl_dims *d, weight_walk walk, int32_t oy,
                   int32_t ox, int32_t zero)
{
    int32_t sum = 0;
    for (int32_t ky = 0; ky < d->kh; ky++) {
        const int32_t iy = oy * d->sh - d->pt + ky * d->dh;
        if (iy < 0 || iy >= d->hi) continue; /* padding is the zero point: it adds nothing */
        for (int32_t kx = 0; kx < d->kw; kx++) {
            const int32_t ix = ox * d->sw - d->pl + kx * d->dw;
            if (ix < 0 || ix >= d->wi) continue;
            const int8_t *xp = x + (iy * d->wi + ix) * d->ci, *wp = w + (ky * d->kw + kx) * walk.tap;
            for (int32_t c = 0; c < walk.depth; c++) sum += (xp[c] - zero) * wp[c];
        }
    }
    return sum;
}

void efl_weighted_i8_fwd_fixed(int8_t *y, const int8_t *x, const int8_t *w, const int32_t *b,
                               const efl_dims *dims, int32_t kind, const efl_requant_params *rq)
{
    efl_dims d = *dims;
    if (kind == EFL_OP_DENSE) { /* one pixel, one tap */
        d.ci = d.hi * d.wi * d.ci;
        d.hi = d.wi = d.ho = d.wo = d.kh = d.kw = d.sh = d.sw = d.dh = d.dw = d.groups = 1;
        d.pt = d.pl = 0;
    }
    const int depthwise = kind == EFL_OP_DWCONV2D;
    const int32_t depth = depthwise ? 1 : d.ci / d.groups;
    const int32_t together = depthwise ? d.mult : d.co / d.groups; /* output channels of one input group */
    const weight_walk walk = {depthwise ? 1 : d.kh * d.kw * depth, depthwise ? d.co : depth, depth};
    for (int32_t s = 0; s < d.n; s++, x += d.hi * d.wi * d.ci)
        for (int32_t oy = 0; oy < d.ho; oy++)
            for (int32_t ox = 0; ox < d.wo; ox++)
                for (int32_t c = 0; c < d.co; c++) {
                    const int8_t *from = x + c / together * depth;
                    const int32_t sum = dot(from, w + c * walk.channel, &d, walk, oy, ox, rq->x_zero);
                    /* unsigned: a bias from a file may overflow, as it does in the interpreters */
                    const int32_t acc = (int32_t)((uint32_t)sum + (uint32_t)b[c]);
                    const int32_t v = efl_fixed_times(acc, rq->fixed[rq->n_mult == 1 ? 0 : c]);
                    *y++ = bounded(v + rq->y_zero, rq->lo, rq->hi);
                }
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
    const efl_param *p = op->param >= 0 ? &plan->params[op->param] : NULL;
    int8_t *y = efl_plan_tensor(plan, op->out);
    const efl_requant_params rq = {.fixed = op->fixed,
                                   .n_mult = p ? p->n_scales : 1,
                                   .x_zero = in->zero,
                                   .y_zero = out->zero,
                                   .lo = op->lo,
                                   .hi = op->hi};
    const size_t elements = (size_t)n * (size_t)in->size;
    switch (op->kind) {
    case EFL_OP_CONV2D:
    case EFL_OP_DWCONV2D:
    case EFL_OP_DENSE:
        efl_weighted_i8_fwd_fixed(y, x, p->q, p->b, &d, op->kind, &rq);
        return 1;
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
