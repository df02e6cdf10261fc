/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: efl_plan_check must refuse whatever could make a run leave its memory. The input's bytes
 * build a small sound plan (a chain with branches, and its backward pass), then overwrite some of its
 * numbers. Memory is allocated exactly as the plan says it is, so that AddressSanitizer sees every byte
 * beyond it; a plan that passes the check is packed, run and trained. Refuses (leaves out) plans that would
 * take long or need more than a few MB: those are no mistakes.
 */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "edgefl.h"

enum { MAX_OPS = 6, MAX_TENSORS = MAX_OPS + 1, MAX_PARAMS = 8 * MAX_OPS, MAX_EDGES = 2 * MAX_OPS + 1 };
enum { MAX_BYTES = 1 << 22, MAX_WORK = 1 << 21, POOL_BYTES = 1 << 25, MAX_FIELDS = 1024 };

typedef struct {
    int32_t h, w, c;
} shape;

typedef struct {
    const uint8_t *p;
    size_t n;
    uint32_t state; /* of the filler */
    efl_op ops[MAX_OPS];
    efl_tensor tensors[MAX_TENSORS];
    shape shapes[MAX_TENSORS];
    efl_param params[MAX_PARAMS];
    efl_edge edges[MAX_EDGES];
    efl_binary binary[MAX_OPS];
    efl_table table[MAX_OPS];
    efl_lstm lstm[MAX_OPS];
    efl_svdf svdf[MAX_OPS];
    efl_move move[MAX_OPS];
    efl_move_part parts[MAX_OPS];
    int32_t offsets[MAX_OPS][4 * 16];
    efl_head head;
    efl_plan plan;
    int64_t arena;
    int32_t *fields[MAX_FIELDS];
    int32_t n_fields;
    int64_t used; /* of the pool */
    int failed;   /* something was too large to allocate */
} world;

/* Made once: these calls are slow. */
static uint32_t isas, table[256];
static double powers[256];

static uint32_t take(world *w, uint32_t below)
{
    if (w->n == 0) return 0;
    w->n--;
    return *w->p++ % below;
}

/* Blocks lie here, in poisoned ground: AddressSanitizer's own malloc would take most of the time. */
static _Alignas(64) uint8_t pool[POOL_BYTES];

/* Exactly as long as asked for; the first bytes are noise. */
static void *block(world *w, int64_t bytes)
{
    if (bytes < 0 || bytes > MAX_BYTES || w->used + bytes + 128 > POOL_BYTES) {
        w->failed = 1;
        return NULL;
    }
    uint8_t *p = pool + w->used;
    w->used += (bytes + 127) / 64 * 64; /* at least 64 poisoned bytes between two blocks */
    ASAN_UNPOISON_MEMORY_REGION(p, (size_t)bytes);
    memset(p, 0x2b, (size_t)bytes);
    for (int64_t i = 0; i < bytes && i < 2048; i++) {
        w->state = w->state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(w->state >> 24);
    }
    return p;
}

static float *floats(world *w, int64_t n)
{
    float *p = block(w, n * (int64_t)sizeof(float));
    for (int64_t i = 0; p && i < n; i++) p[i] = 0.001f * (float)(1 + i % 7);
    return p;
}

static int32_t size_of(shape s)
{
    return s.h * s.w * s.c;
}

static int64_t place(world *w, int64_t bytes)
{
    const int64_t at = (w->arena + 7) / 8 * 8;
    w->arena = at + bytes;
    return at;
}

static void window(world *w, efl_dims *d)
{
    d->kh = 1 + (int32_t)take(w, 3);
    d->kw = 1 + (int32_t)take(w, 3);
    d->sh = 1 + (int32_t)take(w, 2);
    d->sw = 1 + (int32_t)take(w, 2);
    d->dh = d->dw = 1 + (int32_t)take(w, 2);
    const int same = (int)take(w, 2);
    const int32_t reach_h = (d->kh - 1) * d->dh + 1, reach_w = (d->kw - 1) * d->dw + 1;
    if (same || reach_h > d->hi || reach_w > d->wi) {
        d->ho = (d->hi + d->sh - 1) / d->sh;
        d->wo = (d->wi + d->sw - 1) / d->sw;
        const int32_t ph = (d->ho - 1) * d->sh + reach_h - d->hi, pw = (d->wo - 1) * d->sw + reach_w - d->wi;
        d->pt = ph > 0 ? ph / 2 : 0;
        d->pl = pw > 0 ? pw / 2 : 0;
    } else {
        d->ho = (d->hi - reach_h) / d->sh + 1;
        d->wo = (d->wi - reach_w) / d->sw + 1;
    }
}

/* Numbers of one weight tensor; its arrays come when all numbers are final. Returns its zero point. */
static int32_t weights(world *w, int32_t co, int32_t len, int train)
{
    efl_param *p = &w->params[w->plan.n_params++];
    p->co = co;
    p->len = len;
    p->n_scales = take(w, 2) ? co : 1;
    p->qmin = -127;
    p->q_zero = take(w, 4) ? 0 : (int32_t)take(w, 256) - 128;
    p->train_w = train && take(w, 2);
    p->train_b = train && take(w, 2);
    p->rate = 1.0f;
    return p->q_zero;
}

static const int32_t KINDS[] = {EFL_OP_CONV2D,  EFL_OP_DWCONV2D, EFL_OP_DENSE,   EFL_OP_AVGPOOL,
                                EFL_OP_MAXPOOL, EFL_OP_MEAN,     EFL_OP_ADD,     EFL_OP_SOFTMAX,
                                EFL_OP_COPY,    EFL_OP_PAD,      EFL_OP_REQUANT, EFL_OP_BINARY,
                                EFL_OP_TABLE,   EFL_OP_LSTM,     EFL_OP_SVDF,    EFL_OP_MOVE};

static void special(world *w, int32_t i, int train)
{
    efl_op *op = &w->ops[i];
    efl_dims *d = &op->dims;
    const int32_t in = d->hi * d->wi * d->ci;
    switch (op->kind) {
    case EFL_OP_CONV2D:
        window(w, d);
        d->groups = d->ci % 2 == 0 && take(w, 2) ? 2 : 1;
        d->co = d->groups * (1 + (int32_t)take(w, 9));
        op->param = w->plan.n_params;
        d->w_zero = weights(w, d->co, d->co * d->kh * d->kw * (d->ci / d->groups), train);
        break;
    case EFL_OP_DWCONV2D:
        window(w, d);
        d->mult = 1 + (int32_t)take(w, 2);
        d->co = d->ci * d->mult;
        op->param = w->plan.n_params;
        d->w_zero = weights(w, d->co, d->kh * d->kw * d->co, train);
        break;
    case EFL_OP_DENSE:
        d->ho = d->wo = 1;
        d->co = 1 + (int32_t)take(w, 40);
        op->param = w->plan.n_params;
        d->w_zero = weights(w, d->co, d->co * in, train);
        break;
    case EFL_OP_AVGPOOL:
    case EFL_OP_MAXPOOL:
        window(w, d);
        if (d->dh > 1) { /* pools have no dilation: the sizes of a 1x1 window with stride 1 */
            d->kh = d->kw = d->sh = d->sw = d->dh = d->dw = 1;
            d->pt = d->pl = 0;
            d->ho = d->hi;
            d->wo = d->wi;
        }
        break;
    case EFL_OP_MEAN:
        d->ho = d->wo = 1;
        break;
    case EFL_OP_PAD:
        d->pt = (int32_t)take(w, 3);
        d->pl = (int32_t)take(w, 3);
        d->ho = d->hi + d->pt + (int32_t)take(w, 3);
        d->wo = d->wi + d->pl + (int32_t)take(w, 3);
        break;
    case EFL_OP_BINARY: {
        efl_binary *b = &w->binary[i];
        b->rule = (int32_t)take(w, 4);
        b->a_size = in;
        b->b_size = take(w, 2) ? in : d->ci;
        const int32_t n[4] = {1, d->hi, d->wi, d->ci}, s[4] = {0, d->wi * d->ci, d->ci, 1};
        for (int k = 0; k < 4; k++) {
            b->n[k] = n[k];
            b->a[k] = s[k];
            b->b[k] = b->b_size == in || k == 3 ? s[k] : 0;
        }
        b->a_scale = b->b_scale = b->scale = 0.01f;
        op->binary = b;
        break;
    }
    case EFL_OP_TABLE:
        w->table[i].n_tables = take(w, 2) ? 1 : d->ci;
        w->table[i].k = -14;
        op->table = &w->table[i];
        break;
    case EFL_OP_LSTM:
        d->wi *= d->hi;
        d->hi = 1;
        d->ho = 1;
        d->wo = d->wi;
        d->co = 1 + (int32_t)take(w, 5);
        op->param = w->plan.n_params;
        for (int k = 0; k < 8; k++) weights(w, d->co, d->co * (k < 4 ? d->ci : d->co), train);
        for (int k = 0; k < 8; k++) w->params[op->param + k].n_scales = 1;
        const efl_fixed f = {1 << 30, -4};
        for (int k = 0; k < 4; k++) w->lstm[i].in[k] = w->lstm[i].back[k] = f;
        w->lstm[i].out = f;
        w->lstm[i].cell_bits = 9 + (int32_t)take(w, 7);
        w->lstm[i].truncate = d->wi;
        op->lstm = &w->lstm[i];
        op->state = train ? place(w, (int64_t)w->plan.n_max * d->wi * d->co * EFL_LSTM_BYTES) : -1;
        break;
    case EFL_OP_SVDF:
        d->ci = in;
        d->hi = d->wi = d->ho = d->wo = 1;
        d->co = 1 + (int32_t)take(w, 5);
        w->svdf[i].rank = 1 + (int32_t)take(w, 2);
        w->svdf[i].filters = d->co * w->svdf[i].rank;
        w->svdf[i].memory = 1 + (int32_t)take(w, 6);
        w->svdf[i].memory_lo = -32768;
        w->svdf[i].memory_hi = 32767;
        w->svdf[i].in = w->svdf[i].out = (efl_fixed){1 << 30, -4};
        op->svdf = &w->svdf[i];
        op->state = place(w, (int64_t)w->svdf[i].filters * w->svdf[i].memory * 2);
        break;
    case EFL_OP_MOVE: { /* channels in reverse order */
        efl_move_part *m = &w->parts[i];
        const int32_t rows = d->hi * d->wi;
        m->in = op->in0;
        m->edge = -1;
        for (int k = 0; k < 4; k++) m->n[k] = 1;
        m->n[2] = rows > 16 ? 16 : rows;
        m->n[3] = d->ci > 16 ? 16 : d->ci;
        m->y[2] = d->ci;
        m->y[3] = 1;
        m->run = 1;
        m->once = 1;
        int32_t *at = w->offsets[i];
        at[0] = at[1] = 0;
        for (int32_t k = 0; k < m->n[2]; k++) at[2 + k] = k * d->ci;
        for (int32_t k = 0; k < m->n[3]; k++) at[2 + m->n[2] + k] = d->ci - 1 - k;
        w->move[i].parts = m;
        w->move[i].n_parts = 1;
        w->move[i].fill = 0;
        op->move = &w->move[i];
        break;
    }
    default:
        break;
    }
}

static void add_op(world *w, int train)
{
    const int32_t i = w->plan.n_ops++, t = w->plan.n_tensors;
    efl_op *op = &w->ops[i];
    const int32_t source = take(w, 4) ? t - 1 : (int32_t)take(w, (uint32_t)t);
    const shape s = w->shapes[source];
    op->kind = KINDS[take(w, sizeof KINDS / sizeof *KINDS)];
    op->in0 = source;
    op->in1 = -1;
    op->out = t;
    op->param = op->edge0 = op->edge1 = -1;
    op->state = -1;
    op->lo = -128;
    op->hi = 127;
    op->mask_lo = take(w, 2) ? -128 : -129;
    op->mask_hi = 128;
    op->u8 = (int32_t)take(w, 2);
    op->ratio = 0.5f;
    op->add = (efl_add_params){1 << 19, 1 << 19, 1 << 19, 20, 0, -128, 127};
    if (op->kind == EFL_OP_REQUANT) op->add.m0 = 300;
    efl_dims *d = &op->dims;
    *d = (efl_dims){1, s.h, s.w, s.c, s.h, s.w, s.c, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1};
    special(w, i, train);
    for (int32_t k = 0; op->kind == EFL_OP_ADD || (op->kind == EFL_OP_BINARY && k < t); k++)
        if (k == t - 1 || (take(w, 2) && size_of(w->shapes[k]) == size_of(s))) {
            const int32_t fit = size_of(w->shapes[k]) == size_of(s) ? k : source;
            if (op->kind == EFL_OP_ADD || w->binary[i].b_size == size_of(s)) op->in1 = fit;
            break;
        }
    const shape made = {d->ho, d->wo, d->co};
    w->shapes[t] = made;
    w->tensors[t] = (efl_tensor){place(w, (int64_t)size_of(made) * w->plan.n_max), size_of(made),
                                 (int32_t)take(w, 256) - 128, 0.05f};
    w->plan.n_tensors++;
}

/* Errors of all tensors but the input, unless something has no backward pass. */
static void connect(world *w)
{
    efl_plan *p = &w->plan;
    const int32_t last = p->n_ops - 1;
    for (int32_t i = 0; i <= last; i++)
        if (w->ops[i].kind == EFL_OP_SOFTMAX || w->ops[i].kind == EFL_OP_SVDF ||
            w->ops[i].kind == EFL_OP_LSTM)
            return;
    for (int32_t t = 1; t < p->n_tensors; t++) {
        efl_op *maker = &w->ops[t - 1];
        maker->edges = p->n_edges;
        const int64_t bytes = (int64_t)w->tensors[t].size * p->n_max;
        for (int32_t i = t; i <= last; i++)
            for (int k = 0; k < 2; k++) {
                if ((k ? w->ops[i].in1 : w->ops[i].in0) != t) continue;
                if (w->ops[i].kind == EFL_OP_MOVE)
                    w->parts[i].edge = p->n_edges;
                else if (k)
                    w->ops[i].edge1 = p->n_edges;
                else
                    w->ops[i].edge0 = p->n_edges;
                w->edges[p->n_edges++].offset = place(w, bytes);
            }
        if (t == last + 1) {
            w->head = (efl_head){t, p->n_edges, w->shapes[t].h, w->shapes[t].w, w->shapes[t].c, NULL};
            w->edges[p->n_edges++].offset = place(w, bytes);
            p->loss.kind =
                w->head.h == 1 && w->head.w == 1 && take(w, 2) ? EFL_LOSS_SOFTMAX_CE : EFL_LOSS_MSE;
            p->loss.n_heads = 1;
            p->loss.heads = &w->head;
        }
        maker->n_edges = p->n_edges - maker->edges;
    }
}

static void field(world *w, int32_t *first, size_t n)
{
    for (size_t i = 0; i < n && w->n_fields < MAX_FIELDS; i++) w->fields[w->n_fields++] = first + i;
}

/* Overwrite up to eight numbers; pointers and array lengths stay the caller's. */
static void spoil(world *w)
{
    static const int32_t values[] = {0,    1,   -1,   2,     3,     127,        128,        -128,
                                     -129, 255, 4096, 65535, 65536, 1073741824, 2147483647, -2147483647};
    for (int32_t i = 0; i < w->plan.n_ops; i++) {
        efl_op *op = &w->ops[i];
        field(w, &op->kind, 13);
        field(w, &op->u8, 1);
        field(w, &op->add.shift, 1);
        field(w, (int32_t *)&op->dims, sizeof op->dims / 4);
        field(w, (int32_t *)&op->state, 2);
        field(w, &w->binary[i].rule, 15);
        field(w, &w->table[i].n_tables, 1);
        field(w, &w->lstm[i].cell_bits, 3);
        field(w, &w->svdf[i].filters, 5);
        field(w, &w->parts[i].in, 13);
        field(w, &w->move[i].fill, 1);
        field(w, w->offsets[i], 8);
    }
    for (int32_t i = 0; i < w->plan.n_tensors; i++) field(w, (int32_t *)&w->tensors[i], 4);
    for (int32_t i = 0; i < w->plan.n_params; i++) field(w, &w->params[i].n_scales, 7);
    for (int32_t i = 0; i < w->plan.n_edges; i++) field(w, (int32_t *)&w->edges[i], 2);
    field(w, &w->head.tensor, 5);
    field(w, &w->plan.n_max, 2);
    field(w, (int32_t *)&w->plan.arena_bytes, 1);
    for (uint32_t k = take(w, 9); k; k--) {
        const uint32_t at = take(w, 256) * 256 + take(w, 256);
        int32_t *to = w->fields[at % (uint32_t)w->n_fields];
        const uint32_t how = take(w, 4);
        const int32_t v = values[take(w, sizeof values / sizeof *values)];
        const uint32_t old = (uint32_t)*to;
        *to = how == 0 ? v
                       : (int32_t)(how == 1   ? old + (uint32_t)v
                                   : how == 2 ? old - (uint32_t)v
                                              : old * 2u);
    }
}

static void give_memory(world *w)
{
    efl_plan *p = &w->plan;
    for (int32_t i = 0; i < p->n_params; i++) {
        efl_param *q = &w->params[i];
        q->q = block(w, q->len);
        q->b = block(w, (int64_t)q->co * 4);
        for (int32_t c = 0; q->b && c < q->co; c++) q->b[c] %= 1 << 20;
        q->scales = floats(w, q->n_scales);
        q->mult = floats(w, q->n_scales);
        q->r = q->train_w ? block(w, q->len) : NULL;
        q->rb = q->train_b ? block(w, q->co) : NULL;
        if (q->train_w || q->train_b) {
            q->acc_b = block(w, (int64_t)q->co * 8);
            if (q->acc_b) memset(q->acc_b, 0, (size_t)q->co * 8);
            q->acc_w = q->train_w ? block(w, (int64_t)q->len * 8) : NULL;
            if (q->acc_w) memset(q->acc_w, 0, (size_t)q->len * 8);
        }
    }
    for (int32_t i = 0; i < p->n_ops; i++) {
        efl_op *op = &w->ops[i];
        op->powers = powers;
        if (op->binary && op->in1 < 0) w->binary[i].constant = block(w, w->binary[i].b_size);
        if (op->table) {
            w->table[i].values = block(w, 256 * (int64_t)w->table[i].n_tables);
            w->table[i].slopes = block(w, 512 * (int64_t)w->table[i].n_tables);
        }
        if (op->svdf) {
            w->svdf[i].feature = block(w, (int64_t)w->svdf[i].filters * op->dims.ci);
            w->svdf[i].time = block(w, (int64_t)w->svdf[i].filters * w->svdf[i].memory * 2);
            w->svdf[i].bias = block(w, (int64_t)op->dims.co * 4);
        }
        if (op->move) {
            int64_t n = 0;
            for (int k = 0; k < 4; k++) n += w->parts[i].n[k] > 0 ? w->parts[i].n[k] : 0;
            int32_t *at = block(w, n * 4);
            if (at && n > 0 && n <= 64) memcpy(at, w->offsets[i], (size_t)n * 4);
            w->parts[i].at = at;
        }
    }
    if (p->loss.n_heads) {
        w->head.table = table;
    }
    p->arena = block(w, p->arena_bytes);
    if (p->arena) memset(p->arena, 0, (size_t)p->arena_bytes);
}

static int light(const efl_plan *p)
{
    double work = 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const efl_dims *d = &p->ops[i].dims;
        const double in = (double)d->hi * d->wi * d->ci, out = (double)d->ho * d->wo * d->co;
        double one = in + out * (double)d->kh * d->kw * (p->ops[i].kind == EFL_OP_CONV2D ? d->ci : 1);
        if (p->ops[i].kind == EFL_OP_DENSE) one = in * d->co;
        if (p->ops[i].kind == EFL_OP_LSTM) one = 8.0 * d->wi * d->co * (d->ci + d->co);
        if (p->ops[i].svdf) one += in * p->ops[i].svdf->filters;
        work += one * p->n_max;
    }
    return work < MAX_WORK;
}

/* What lies in the arena lies apart: the check does not ask for that, and memcpy minds (it stays inside). */
static int apart(const efl_plan *p)
{
    int64_t from[MAX_TENSORS + MAX_EDGES], to[MAX_TENSORS + MAX_EDGES];
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_tensors; i++, n++) {
        from[n] = p->tensors[i].offset;
        to[n] = i == p->input ? from[n] : from[n] + (int64_t)p->tensors[i].size * p->n_max;
    }
    for (int32_t t = 1; t < p->n_tensors; t++)
        for (int32_t i = 0; i < p->ops[t - 1].n_edges; i++, n++) {
            from[n] = p->edges[p->ops[t - 1].edges + i].offset;
            to[n] = from[n] + (int64_t)p->tensors[t].size * p->n_max;
            if (n == MAX_TENSORS + MAX_EDGES - 1) return 0;
        }
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < i; j++)
            if (from[i] < to[j] && from[j] < to[i]) return 0;
    return 1;
}

static void run(world *w)
{
    efl_plan *p = &w->plan;
    for (int32_t i = 0; i < p->n_ops; i++) {
        efl_op *op = &w->ops[i];
        const int weighted = op->kind >= EFL_OP_CONV2D && op->kind <= EFL_OP_DENSE;
        if (!weighted || p->params[op->param].train_w || !take(w, 2)) continue;
        op->packed_bytes = efl_op_packed_bytes(op);
        op->packed = block(w, op->packed_bytes);
    }
    p->scratch_bytes = efl_plan_scratch_bytes(p);
    p->scratch = block(w, p->scratch_bytes);
    if (w->failed || efl_plan_check(p) != EFL_OK) return;
    efl_plan_pack(p);
    const int32_t n = 1 + (int32_t)take(w, (uint32_t)p->n_max);
    const int8_t *x = p->input >= 0 ? block(w, (int64_t)n * p->tensors[p->input].size) : NULL;
    if (w->failed || efl_plan_forward(p, x, n, 0, p->n_ops) != EFL_OK || !p->loss.n_heads) return;
    int32_t *labels = block(w, (int64_t)n * 4);
    const int8_t *stored = block(w, (int64_t)n * w->head.h * w->head.w * w->head.c);
    if (w->failed) return;
    for (int32_t i = 0; i < n; i++) labels[i] = i % w->head.c;
    const efl_target target = {.labels = labels, .stored = stored, .scale = 0.05f, .zero = 3};
    const efl_step step = {0.01f, n, 100, 1};
    efl_outcome seen;
    efl_plan_train(p, &seen, x, &target, n, &step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static world it;
    world *w = &it;
    memset(w, 0, sizeof *w);
    w->p = data;
    w->n = size;
    w->state = (uint32_t)size;
    efl_plan *p = &w->plan;
    p->ops = w->ops;
    p->tensors = w->tensors;
    p->params = w->params;
    p->edges = w->edges;
    p->n_max = 1 + (int32_t)take(w, 3);
    const int train = (int)take(w, 2);
    w->shapes[0] = (shape){1 + (int32_t)take(w, 7), 1 + (int32_t)take(w, 7), 1 + (int32_t)take(w, 20)};
    w->tensors[0] = (efl_tensor){0, size_of(w->shapes[0]), 3, 0.05f};
    if (take(w, 4) == 0) {
        p->input = -1;
        w->tensors[0].offset = place(w, (int64_t)w->tensors[0].size * p->n_max);
    }
    p->n_tensors = 1;
    uint32_t isa = take(w, EFL_ISA_COUNT);
    if (!isas) {
        isas = efl_isa_supported();
        ASAN_POISON_MEMORY_REGION(pool, POOL_BYTES);
        efl_softmax_tables(powers, table, 0.05f, 1.0f);
    }
    while (!(isas >> isa & 1)) isa--;
    efl_isa_select((int32_t)isa);
    for (uint32_t k = 1 + take(w, MAX_OPS); k; k--) add_op(w, train);
    if (train) connect(w);
    p->arena_bytes = w->arena ? w->arena : 8;
    spoil(w);
    give_memory(w);
    /* As a caller would that does not trust the plan: check first, with scratch promised. */
    static uint8_t promise[8];
    p->scratch = promise;
    p->scratch_bytes = INT64_MAX;
    if (!w->failed && efl_plan_check(p) == EFL_OK && light(p) && apart(p)) run(w);
    ASAN_POISON_MEMORY_REGION(pool, (size_t)w->used);
    return 0;
}
