/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 weight step (docs/training.md): A = sum e*(x - z), B = sum e; u = lr/N * A * 2^k * s_x / s_c in
 * weight steps; v = 256u rounded; a cap on the norm of v; then q + r/256 moves by -v/256. With one
 * micro-batch a batch, A exists as tiles and v as int16; with several, A and B are summed in int64 at the
 * larger of the exponents.
 */
#include "nn/sgd.h"

#include <string.h>

#include "core/kernels.h"
#include "nn/conv_bwd.h"
#include "nn/round.h"
#include "nn/scratch.h"
#include "nn/uint8.h"

#define BIAS_LIMIT (1 << 30)

typedef struct {
    int16_t *v;    /* [len] */
    int32_t *vb;   /* [co] */
    int64_t *b;    /* [co] sum of e */
    int32_t *b32;  /* [co] the same, of at most 65536 pixels */
    float *f;      /* [co] factor of A */
    int32_t *taps; /* [taps][co] A of a depthwise convolution */
    int64_t *sum;  /* [len] A of several parts of a micro-batch; null: one part */
    void *kernel;
    int32_t k; /* weights of a channel (depthwise: taps) */
    int32_t workers;
} layout;

static int32_t pixels(const efl_op *op)
{
    return op->kind == EFL_OP_DENSE ? 1 : op->dims.ho * op->dims.wo;
}

/* Samples of which the int32 sums cannot overflow. */
static int32_t chunk(const efl_op *op, int32_t n)
{
    const int32_t most = EFL_TERMS_MAX / pixels(op);
    return n < most ? n : most;
}

int efl_sgd_needs_sums(const efl_op *op, int32_t n)
{
    return chunk(op, n) < n;
}

static efl_dims conv_dims(const efl_op *op, int32_t n)
{
    efl_dims d = op->dims;
    d.n = n;
    return op->kind == EFL_OP_DENSE ? efl_dense_as_conv(&d) : d;
}

static size_t take(layout *l, const efl_op *op, const efl_param *p, int32_t n, int32_t workers, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int depthwise = op->kind == EFL_OP_DWCONV2D;
    const size_t co = (size_t)p->co, len = p->train_w ? (size_t)p->len : 0;
    l->k = p->len / p->co;
    l->workers = workers;
    l->v = efl_scratch_take(&s, len * sizeof(int16_t));
    l->vb = efl_scratch_take(&s, co * sizeof(int32_t));
    l->b = efl_scratch_take(&s, co * sizeof(int64_t));
    l->b32 = efl_scratch_take(&s, co * sizeof(int32_t));
    l->f = efl_scratch_take(&s, co * sizeof(float));
    l->taps = efl_scratch_take(&s, depthwise ? len * sizeof(int32_t) : 0);
    l->sum = chunk(op, n) < n ? efl_scratch_take(&s, len * sizeof(int64_t)) : NULL;
    l->kernel = efl_scratch_take(&s, 0);
    if (len) {
        const efl_dims d = conv_dims(op, chunk(op, n));
        s.used += depthwise ? efl_dwconv2d_i8_bwd_w_scratch_bytes(&d) : efl_bwd_w_bytes(&d, workers);
    }
    return s.used;
}

size_t efl_sgd_scratch_bytes(const efl_op *op, const efl_param *p, int32_t n, int32_t workers)
{
    layout l;
    return take(&l, op, p, n, workers, NULL);
}

static float scale_of(const efl_param *p, int32_t c)
{
    return p->scales[p->n_scales == 1 ? 0 : c];
}

static int frozen(const efl_param *p, int32_t c)
{
    return p->dead && p->dead[c];
}

/* Factor of A (weights) or B (bias) of channel c: lr/N in units of 1/256 LSB. A factor above 1e30 saturates
 * every non-zero sum as infinity would, but 0 times it stays 0. */
static float factor(const efl_param *p, int32_t c, float s_x, const efl_step *step, int32_t k, int weights)
{
    float f = step->lr / (float)step->n;
    if (weights) {
        f = f * p->rate;
        f = f * s_x;
    } else {
        f = f / s_x;
    }
    f = f / scale_of(p, c);
    f = efl_scale2(f, k + 8 > 250 ? 250 : k + 8 < -250 ? -250 : k + 8);
    return f > 1e30f ? 1e30f : f;
}

static void sum_bias(const layout *l, const efl_op *op, const efl_error *e, int32_t n, size_t co)
{
    const size_t per = (size_t)pixels(op), total = (size_t)n * per;
    for (size_t from = 0; from < total; from += EFL_TERMS_MAX) {
        const size_t rows = total - from < EFL_TERMS_MAX ? total - from : EFL_TERMS_MAX;
        memset(l->b32, 0, co * sizeof(int32_t));
        efl_kernels()->sum_cols(l->b32, e->e + from * co, rows, co);
        for (size_t c = 0; c < co; c++) l->b[c] += l->b32[c];
    }
}

/* The weight pass of a convolution gives B too. */
static void take_bias(const layout *l, const efl_bwd_w_tile *t)
{
    if (t->k == 0)
        for (int32_t j = 0; j < t->cols; j++) l->b[t->c + j] += t->b[j];
}

/* ---------------------------------------------------------------- sums over micro-batches */

static int sums_are_zero(const efl_param *p)
{
    int64_t bits = 0;
    if (p->train_w)
        for (int32_t i = 0; i < p->len; i++) bits |= p->acc_w[i];
    for (int32_t c = 0; c < p->co; c++) bits |= p->acc_b[c];
    return bits == 0;
}

/* Bring the running sums and a new pair with exponent k to the larger exponent; returns the shift of the new
 * one. */
static int32_t join(efl_param *p, int32_t k)
{
    if (!p->acc_live || sums_are_zero(p)) {
        p->acc_live = 1;
        p->acc_k = k;
        return 0;
    }
    if (k <= p->acc_k) return p->acc_k - k;
    const int32_t s = k - p->acc_k;
    if (p->train_w)
        for (int32_t i = 0; i < p->len; i++) p->acc_w[i] = efl_rne_shift(p->acc_w[i], s);
    for (int32_t c = 0; c < p->co; c++) p->acc_b[c] = efl_rne_shift(p->acc_b[c], s);
    p->acc_k = k;
    return 0;
}

/* Add a [n] of one pair (A, B) with exponent k. An all-zero pair is left out, so nothing is joined before its
 * first non-zero number; *shift is -1 until then. */
static void add(efl_param *p, int32_t *shift, int64_t *acc, const int64_t *a, size_t n, int32_t k)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] == 0) continue;
        if (*shift < 0) *shift = join(p, k);
        acc[i] += efl_rne_shift(a[i], *shift);
    }
}

typedef struct {
    const layout *l;
    efl_param *p;
    int32_t shift, k;
} adder;

static void add_tile(void *context, const efl_bwd_w_tile *t, int32_t worker)
{
    (void)worker;
    adder *a = context;
    const size_t k = (size_t)a->l->k;
    take_bias(a->l, t);
    for (int32_t j = 0; j < t->cols; j++) {
        const size_t at = (size_t)(t->c + j) * k + (size_t)t->k;
        int64_t column[16];
        for (int32_t i = 0; i < t->rows; i++) column[i] = t->sums[i * t->ld + j] - t->fix[j];
        if (a->l->sum)
            for (int32_t i = 0; i < t->rows; i++) a->l->sum[at + (size_t)i] += column[i];
        else
            add(a->p, &a->shift, a->p->acc_w + at, column, (size_t)t->rows, a->k);
    }
}

static void add_weights(const layout *l, const efl_op *op, adder *a, const efl_error *e, const int8_t *x,
                        int32_t x_zero, int32_t n)
{
    efl_param *p = a->p;
    const int32_t part = chunk(op, n);
    const size_t x_size = (size_t)(op->dims.hi * op->dims.wi * op->dims.ci);
    const size_t e_size = (size_t)pixels(op) * (size_t)p->co, len = (size_t)p->len;
    if (l->sum) memset(l->sum, 0, len * sizeof(int64_t));
    for (int32_t from = 0; from < n; from += part) {
        const efl_dims d = conv_dims(op, n - from < part ? n - from : part);
        const int8_t *e_from = e->e + (size_t)from * e_size, *x_from = x + (size_t)from * x_size;
        if (op->kind != EFL_OP_DWCONV2D) {
            efl_bwd_w_run(e_from, x_from, &d, x_zero, add_tile, a, l->workers, 1, l->kernel);
            continue;
        }
        efl_dwconv2d_i8_bwd_w(l->taps, e_from, x_from, &d, x_zero, l->kernel);
        for (size_t i = 0; i < len; i++) {
            const int64_t one = l->taps[i];
            if (l->sum)
                l->sum[i] += one;
            else
                add(p, &a->shift, p->acc_w + i, &one, 1, e->k);
        }
    }
    if (l->sum) add(p, &a->shift, p->acc_w, l->sum, len, e->k);
}

static void add_micro_batch(const layout *l, const efl_op *op, efl_param *p, const efl_error *e,
                            const int8_t *x, int32_t x_zero, int32_t n)
{
    adder a = {l, p, -1, e->k};
    if (p->train_w && e->live) add_weights(l, op, &a, e, x, x_zero, n);
    add(p, &a.shift, p->acc_b, l->b, (size_t)p->co, e->k);
}
/* ---------------------------------------------------------------- step sizes */

typedef struct {
    const layout *l;
    struct {
        uint64_t sum2, saturated;
    } of[EFL_THREADS_MAX]; /* workers */
} sizer;

static void size_tile(void *context, const efl_bwd_w_tile *t, int32_t worker)
{
    sizer *s = context;
    const size_t k = (size_t)s->l->k;
    take_bias(s->l, t);
    s->of[worker].saturated +=
        efl_kernels()->step_tile(s->l->v + (size_t)t->c * k + (size_t)t->k, k, &s->of[worker].sum2, t->sums,
                                 (size_t)t->ld, t->rows, t->cols, t->fix, s->l->f + t->c);
}

static uint64_t sizes_from_tiles(const layout *l, const efl_op *op, const efl_error *e, const int8_t *x,
                                 int32_t x_zero, int32_t n, uint64_t *sum2)
{
    const efl_dims d = conv_dims(op, n);
    sizer s = {.l = l};
    if (op->kind != EFL_OP_DWCONV2D) {
        efl_bwd_w_run(e->e, x, &d, x_zero, size_tile, &s, l->workers, l->workers, l->kernel);
    } else {
        efl_dwconv2d_i8_bwd_w(l->taps, e->e, x, &d, x_zero, l->kernel);
        const size_t co = (size_t)d.co;
        for (size_t at = 0; at < (size_t)l->k * co; at += co)
            s.of[0].saturated += efl_kernels()->step_size(l->v + at, &s.of[0].sum2, l->taps + at, l->f, co);
    }
    uint64_t saturated = 0;
    for (int32_t w = 0; w < l->workers; w++) {
        *sum2 += s.of[w].sum2;
        saturated += s.of[w].saturated;
    }
    return saturated;
}

static uint64_t sizes_from_sums(const layout *l, const efl_op *op, const efl_param *p, uint64_t *sum2)
{
    uint64_t saturated = 0;
    for (int32_t i = 0; i < p->len; i++) {
        float v = (float)p->acc_w[i] * l->f[op->kind == EFL_OP_DWCONV2D ? i % p->co : i / l->k];
        saturated += (v > 32767.0f) | (v < -32767.0f);
        v = v < -32767.0f ? -32767.0f : v > 32767.0f ? 32767.0f : v;
        l->v[i] = (int16_t)(int32_t)efl_rne(v);
        *sum2 += (uint64_t)(l->v[i] * l->v[i]);
    }
    return saturated;
}

/* The least n with sum2(v) / 4^n <= sum2(256 (q - q_zero)) / K. */
static int32_t cap_shift(const efl_param *p, uint64_t sum2, uint64_t cap)
{
    const uint64_t sum2_q = p->q_zero ? efl_zeroed_sum2(p) : efl_kernels()->sum2_i8(p->q, (size_t)p->len);
    const uint64_t limit = (sum2_q << 16) / cap;
    int32_t n = 0;
    while (n < 32 && (sum2 >> (2 * n)) > limit) n++;
    return n;
}

/* ---------------------------------------------------------------- applying */

static void apply_weights(const layout *l, efl_param *p)
{
    if (!p->keys) {
        p->clamped += (int64_t)efl_kernels()->step_apply(p->q, p->r, l->v, (size_t)p->len, p->shift, p->qmin);
        return;
    }
    static const uint8_t nonce[12] = {0};
    uint8_t dice[1024];
    for (int32_t i = 0; i < p->len; i++) {
        if (i % 1024 == 0) efl_chacha20_stream(dice, sizeof dice, nonce, (uint32_t)i / 64, p->keys);
        int32_t t = 256 * p->q[i] - (int32_t)efl_rne_shift(l->v[i], p->shift) + dice[i % 1024];
        const int32_t lo = 256 * p->qmin, hi = 32767;
        p->clamped += (t < lo) | (t > hi);
        t = t < lo ? lo : t > hi ? hi : t;
        p->q[i] = (int8_t)(t >> 8);
    }
}

static void apply_bias(const layout *l, efl_param *p)
{
    static const uint8_t nonce[12] = {0};
    uint8_t dice[64];
    for (int32_t c = 0; c < p->co; c++) {
        if (p->keys && c % 64 == 0)
            efl_chacha20_stream(dice, sizeof dice, nonce, (uint32_t)c / 64, p->keys + 32);
        if (frozen(p, c)) continue;
        const int32_t v = (int32_t)efl_rne_shift(l->vb[c], p->shift);
        int32_t whole;
        if (p->keys) {
            whole = (dice[c % 64] - v) >> 8;
        } else {
            const int32_t t = p->rb[c] - v;
            whole = (t + 128) >> 8;
            p->rb[c] = (int8_t)(t - 256 * whole);
        }
        const int64_t b = (int64_t)p->b[c] + whole;
        p->b[c] = (int32_t)(b > BIAS_LIMIT ? BIAS_LIMIT : b < -BIAS_LIMIT ? -BIAS_LIMIT : b);
    }
}

static void bias_sizes(const layout *l, efl_param *p, const int64_t *b, float s_x, const efl_step *step,
                       int32_t k)
{
    for (int32_t c = 0; c < p->co; c++) {
        float v = (float)b[c] * factor(p, c, s_x, step, k, 0);
        p->saturated_b += (v > 32767.0f) | (v < -32767.0f);
        v = v < -32767.0f ? -32767.0f : v > 32767.0f ? 32767.0f : v;
        l->vb[c] = (int32_t)efl_rne(v);
    }
}

void efl_sgd_update(const efl_op *op, efl_param *p, const efl_error *e, const int8_t *x,
                    const efl_tensor *x_tensor, int32_t n, const efl_step *step, int32_t workers,
                    void *scratch)
{
    layout l;
    take(&l, op, p, n, workers, scratch);
    memset(l.b, 0, (size_t)p->co * sizeof(int64_t));
    if (e->live && (!p->train_w || op->kind == EFL_OP_DWCONV2D)) sum_bias(&l, op, e, n, (size_t)p->co);
    if (p->acc_b) add_micro_batch(&l, op, p, e, x, x_tensor->zero, n);
    if (!step->last) return;
    p->steps++;
    p->shift = 0;
    const int32_t live = p->acc_b ? p->acc_live : e->live, k = p->acc_b ? p->acc_k : e->k;
    if (live) {
        if (p->train_w) {
            uint64_t sum2 = 0;
            for (int32_t c = 0; c < p->co; c++)
                l.f[c] = frozen(p, c) ? 0.0f : factor(p, c, x_tensor->scale, step, k, 1);
            p->saturated_w += (int64_t)(p->acc_b ? sizes_from_sums(&l, op, p, &sum2)
                                                 : sizes_from_tiles(&l, op, e, x, x_tensor->zero, n, &sum2));
            p->shift = cap_shift(p, sum2, step->cap);
            p->capped += p->shift > 0;
            p->moved += sum2 > 0;
        }
        if (p->train_b) bias_sizes(&l, p, p->acc_b ? p->acc_b : l.b, x_tensor->scale, step, k);
        if (p->train_w) apply_weights(&l, p);
        if (p->train_b) apply_bias(&l, p);
    }
    if (p->acc_b) {
        if (p->train_w) memset(p->acc_w, 0, (size_t)p->len * sizeof(int64_t));
        memset(p->acc_b, 0, (size_t)p->co * sizeof(int64_t));
        p->acc_live = 0;
    }
}
