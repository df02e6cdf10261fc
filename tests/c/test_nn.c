/* SPDX-License-Identifier: Apache-2.0
 *
 * Every operator's passes against plain loops written from the formulas, and a small network in training, on
 * every instruction set of this machine; buffers of exactly the documented size, so that ASan sees one byte
 * too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "edgefl.h"

static efl_dims random_dims(int32_t kind)
{
    efl_dims d = {0};
    d.n = pick(1, 3);
    d.groups = kind == EFL_OP_CONV2D && pick(0, 3) == 0 ? pick(2, 3) : 1;
    d.mult = kind == EFL_OP_DWCONV2D && pick(0, 2) == 0 ? pick(2, 3) : 1;
    d.ci = pick(1, 9) * d.groups;
    d.co = kind == EFL_OP_DWCONV2D ? d.ci * d.mult : pick(1, 20) * d.groups;
    d.kh = pick(1, 3), d.kw = pick(1, 5), d.sh = pick(1, 3), d.sw = pick(1, 3), d.dh = pick(1, 2),
    d.dw = pick(1, 2);
    const int32_t rh = (d.kh - 1) * d.dh + 1, rw = (d.kw - 1) * d.dw + 1;
    d.pt = pick(0, rh - 1), d.pl = pick(0, rw - 1);
    d.hi = pick(rh, rh + 6), d.wi = pick(rw, rw + 9);
    d.ho = (d.hi + d.pt - rh) / d.sh + 1;
    d.wo = (d.wi + d.pl - rw) / d.sw + 1;
    if (kind == EFL_OP_DENSE) {
        d.kh = d.kw = d.sh = d.sw = d.dh = d.dw = d.ho = d.wo = 1;
        d.pt = d.pl = 0;
    }
    return d;
}

static size_t size_in(const efl_dims *d)
{
    return (size_t)(d->n * d->hi * d->wi * d->ci);
}
static size_t size_out(const efl_dims *d)
{
    return (size_t)(d->n * d->ho * d->wo * d->co);
}
static size_t size_w(const efl_dims *d, int32_t kind)
{
    const int32_t per = kind == EFL_OP_DENSE      ? d->hi * d->wi * d->ci
                        : kind == EFL_OP_DWCONV2D ? d->kh * d->kw
                                                  : d->kh * d->kw * (d->ci / d->groups);
    return (size_t)(per * d->co);
}

/* One product of an operator: calls visit(x index or -1, weight index, y index) for all of them. */
typedef void visitor(void *state, int64_t x, int64_t w, int64_t y);

static void each_product(const efl_dims *d, int32_t kind, visitor *visit, void *state)
{
    if (kind == EFL_OP_DENSE) {
        const int32_t k = d->hi * d->wi * d->ci;
        for (int32_t s = 0; s < d->n; s++)
            for (int32_t o = 0; o < d->co; o++)
                for (int32_t i = 0; i < k; i++) visit(state, s * k + i, o * k + i, s * d->co + o);
        return;
    }
    const int32_t cig = kind == EFL_OP_DWCONV2D ? 1 : d->ci / d->groups, cog = d->co / d->groups;
    for (int32_t s = 0; s < d->n; s++)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++)
                for (int32_t o = 0; o < d->co; o++)
                    for (int32_t ky = 0; ky < d->kh; ky++)
                        for (int32_t kx = 0; kx < d->kw; kx++)
                            for (int32_t c = 0; c < cig; c++) {
                                const int32_t iy = oy * d->sh - d->pt + ky * d->dh;
                                const int32_t ix = ox * d->sw - d->pl + kx * d->dw;
                                const int in = iy >= 0 && iy < d->hi && ix >= 0 && ix < d->wi;
                                const int32_t ic = kind == EFL_OP_DWCONV2D ? o / d->mult : o / cog * cig + c;
                                const int64_t w = kind == EFL_OP_DWCONV2D
                                                      ? (ky * d->kw + kx) * d->co + o
                                                      : ((o * d->kh + ky) * d->kw + kx) * cig + c;
                                visit(state, in ? ((s * d->hi + iy) * d->wi + ix) * d->ci + ic : -1, w,
                                      ((s * d->ho + oy) * d->wo + ox) * d->co + o);
                            }
}

typedef struct {
    const int8_t *x, *w, *e;
    int32_t x_zero;
    int32_t *acc, *dx, *dw;
} sums;

static void add_products(void *state, int64_t x, int64_t w, int64_t y)
{
    sums *s = state;
    if (x < 0) return; /* padding holds the zero point: x - zero = 0 */
    s->acc[y] += (s->x[x] - s->x_zero) * s->w[w];
    s->dx[x] += s->e[y] * s->w[w];
    s->dw[w] += s->e[y] * (s->x[x] - s->x_zero);
}

static int8_t requantised(int32_t acc, float mult, const efl_requant_params *rq)
{
    const double v = (double)((float)acc * mult);
    double whole = (double)(int64_t)(v < 0 ? v - 0.5 : v + 0.5); /* half away, then fix ties to even */
    if ((v - (double)(int64_t)v == 0.5 || v - (double)(int64_t)v == -0.5) && (int64_t)whole % 2 != 0)
        whole += v < 0 ? 1 : -1;
    const double lo = rq->lo - rq->y_zero, hi = rq->hi - rq->y_zero;
    return (int8_t)((whole < lo ? lo : whole > hi ? hi : whole) + rq->y_zero);
}

static void check_passes(int32_t kind, int32_t isa)
{
    const efl_dims d = random_dims(kind);
    CHECK(efl_dims_check(&d, kind) == EFL_OK);
    const size_t n_w = size_w(&d, kind), co = (size_t)d.co;
    sums s = {bytes_in(size_in(&d), -128, 127),
              bytes_in(n_w, -128, 127),
              bytes_in(size_out(&d), -127, 127),
              pick(-128, 127),
              NULL,
              NULL,
              NULL};
    s.acc = calloc(size_out(&d), 4), s.dx = calloc(size_in(&d), 4), s.dw = calloc(n_w, 4);
    CHECK(s.acc && s.dx && s.dw);
    each_product(&d, kind, add_products, &s);
    float *mult = exactly(co * sizeof(float));
    int32_t *bias = exactly(co * sizeof(int32_t));
    for (size_t c = 0; c < co; c++) mult[c] = (float)pick(1, 1000) / 65536.0f, bias[c] = pick(-5000, 5000);
    const efl_requant_params rq = {.mult = mult,
                                   .n_mult = pick(0, 1) ? 1 : d.co,
                                   .x_zero = s.x_zero,
                                   .y_zero = pick(-128, 127),
                                   .lo = pick(-128, -1),
                                   .hi = pick(0, 127)};
    CHECK(efl_isa_select(isa) == EFL_OK);

    int8_t *y = exactly(size_out(&d));
    int32_t *dx = exactly(size_in(&d) * 4), *dw = exactly(n_w * 4);
    size_t bytes[3];
    void *scratch[3], *packed;
    if (kind == EFL_OP_CONV2D) {
        bytes[0] = efl_conv2d_i8_fwd_scratch_bytes(&d), bytes[1] = efl_conv2d_i8_bwd_x_scratch_bytes(&d);
        bytes[2] = efl_conv2d_i8_bwd_w_scratch_bytes(&d);
    } else if (kind == EFL_OP_DWCONV2D) {
        bytes[0] = efl_dwconv2d_i8_fwd_scratch_bytes(&d), bytes[1] = efl_dwconv2d_i8_bwd_x_scratch_bytes(&d);
        bytes[2] = efl_dwconv2d_i8_bwd_w_scratch_bytes(&d);
    } else {
        bytes[0] = efl_dense_i8_fwd_scratch_bytes(&d), bytes[1] = efl_dense_i8_bwd_x_scratch_bytes(&d);
        bytes[2] = efl_dense_i8_bwd_w_scratch_bytes(&d);
    }
    for (int i = 0; i < 3; i++) scratch[i] = exactly(bytes[i]);
    if (kind == EFL_OP_CONV2D) {
        packed = exactly(efl_conv2d_i8_packed_bytes(&d));
        efl_conv2d_i8_pack(packed, s.w, bias, &d, &rq);
        efl_conv2d_i8_fwd(y, s.x, packed, &d, &rq, scratch[0]);
        efl_conv2d_i8_bwd_x(dx, s.e, s.w, &d, scratch[1]);
        efl_conv2d_i8_bwd_w(dw, s.e, s.x, &d, s.x_zero, scratch[2]);
    } else if (kind == EFL_OP_DWCONV2D) {
        packed = exactly(efl_dwconv2d_i8_packed_bytes(&d));
        efl_dwconv2d_i8_pack(packed, s.w, bias, &d, &rq);
        efl_dwconv2d_i8_fwd(y, s.x, packed, &d, &rq, scratch[0]);
        efl_dwconv2d_i8_bwd_x(dx, s.e, s.w, &d, scratch[1]);
        efl_dwconv2d_i8_bwd_w(dw, s.e, s.x, &d, s.x_zero, scratch[2]);
    } else {
        packed = exactly(efl_dense_i8_packed_bytes(&d));
        efl_dense_i8_pack(packed, s.w, bias, &d, &rq);
        efl_dense_i8_fwd(y, s.x, packed, &d, &rq, scratch[0]);
        efl_dense_i8_bwd_x(dx, s.e, s.w, &d, scratch[1]);
        efl_dense_i8_bwd_w(dw, s.e, s.x, &d, s.x_zero, scratch[2]);
    }
    for (size_t i = 0; i < size_out(&d); i++)
        CHECK(y[i] == requantised(s.acc[i] + bias[i % co], mult[rq.n_mult == 1 ? 0 : i % co], &rq));
    CHECK(memcmp(dx, s.dx, size_in(&d) * 4) == 0);
    CHECK(memcmp(dw, s.dw, n_w * 4) == 0);
    for (int i = 0; i < 3; i++) free(scratch[i]);
    free(packed), free((void *)s.x), free((void *)s.w), free((void *)s.e);
    free(s.acc), free(s.dx), free(s.dw), free(mult), free(bias), free(y), free(dx), free(dw);
}

static void check_pools(void)
{
    efl_dims d = random_dims(EFL_OP_DWCONV2D);
    d.dh = d.dw = d.mult = 1;
    d.co = d.ci;
    d.pt = pick(0, d.kh - 1), d.pl = pick(0, d.kw - 1);
    d.ho = (d.hi + d.pt - d.kh) / d.sh + 1, d.wo = (d.wi + d.pl - d.kw) / d.sw + 1;
    CHECK(efl_dims_check(&d, EFL_OP_AVGPOOL) == EFL_OK && efl_dims_check(&d, EFL_OP_MAXPOOL) == EFL_OK);
    int8_t *x = bytes_in(size_in(&d), -128, 127), *e = bytes_in(size_out(&d), -127, 127);
    int8_t *top = exactly(size_out(&d)), *mean = exactly(size_out(&d));
    int32_t *dx = exactly(size_in(&d) * 4);
    efl_maxpool_i8_fwd(top, x, &d, -128, 127);
    efl_avgpool_i8_fwd(mean, x, &d, -128, 127);
    int64_t sum = 0, back = 0;
    for (int32_t s = 0, o = 0; s < d.n; s++)
        for (int32_t oy = 0; oy < d.ho; oy++)
            for (int32_t ox = 0; ox < d.wo; ox++)
                for (int32_t c = 0; c < d.ci; c++, o++) {
                    int32_t total = 0, count = 0, best = -128;
                    for (int32_t ky = 0; ky < d.kh; ky++)
                        for (int32_t kx = 0; kx < d.kw; kx++) {
                            const int32_t iy = oy * d.sh - d.pt + ky, ix = ox * d.sw - d.pl + kx;
                            if (iy < 0 || iy >= d.hi || ix < 0 || ix >= d.wi) continue;
                            const int32_t v = x[((s * d.hi + iy) * d.wi + ix) * d.ci + c];
                            total += v, count++, best = v > best ? v : best;
                        }
                    const int32_t half = total > 0 ? count / 2 : -(count / 2);
                    CHECK(top[o] == best && mean[o] == (total + half) / count);
                    sum += e[o];
                }
    efl_maxpool_i8_bwd_x(dx, e, x, &d);
    for (size_t i = 0; i < size_in(&d); i++) back += dx[i];
    CHECK(sum == back);
    efl_avgpool_i8_bwd_x(dx, e, &d);
    d.ho = d.wo = 1;
    efl_mean_i8_bwd_x(dx, e, &d);
    free(x), free(e), free(top), free(mean), free(dx);
}

/* ---------------------------------------------------------------- a small network in training */

enum { N = 6, H = 6, W = 5, C = 4, CLASSES = 3, BATCH = 9 };

/* conv 3x3 RELU -> t1; depthwise 3x3 on t1 -> t2; t1 + t2 -> t3; max pool 2x2 -> t4; mean -> t5; dense -> t6
 */
typedef struct {
    efl_tensor tensors[7];
    efl_op ops[6];
    efl_param params[3];
    efl_edge edges[7];
    int8_t q[3][108], r[3][108], rb[3][4];
    int32_t b[3][4];
    float scales[3], mult[3];
    int64_t acc_w[3][108], acc_b[3][4];
    uint8_t keys[64];
    uint32_t table[256];
    efl_head head;
    efl_plan plan;
} network;

static efl_dims map_dims(int32_t hi, int32_t wi, int32_t ci, int32_t ho, int32_t wo, int32_t co)
{
    const efl_dims d = {1, hi, wi, ci, ho, wo, co, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0};
    return d;
}

static void network_make(network *net, int sums_wanted, int stochastic, int32_t threads)
{
    memset(net, 0, sizeof *net);
    rng = 42;
    const int32_t sizes[7] = {H * W * 3, H * W * C, H * W * C, H * W * C, 3 * 2 * C, C, CLASSES};
    const int32_t lens[3] = {C * 27, 9 * C, CLASSES * C}, outs[3] = {C, C, CLASSES};
    int64_t at = 0;
    for (int t = 0; t < 7; t++) {
        const efl_tensor tensor = {at, sizes[t], t == 1 ? -128 : 3, 0.05f};
        net->tensors[t] = tensor;
        at += t ? N * sizes[t] : 0;
    }
    const int32_t kinds[6] = {EFL_OP_CONV2D,  EFL_OP_DWCONV2D, EFL_OP_ADD,
                              EFL_OP_MAXPOOL, EFL_OP_MEAN,     EFL_OP_DENSE};
    const int32_t shapes[7][3] = {{H, W, 3}, {H, W, C}, {H, W, C},      {H, W, C},
                                  {3, 2, C}, {1, 1, C}, {1, 1, CLASSES}};
    for (int i = 0; i < 6; i++) {
        efl_op *op = &net->ops[i];
        const int32_t *in = shapes[i], *out = shapes[i + 1];
        const efl_op blank = {.kind = kinds[i],
                              .in0 = i,
                              .in1 = -1,
                              .out = i + 1,
                              .param = -1,
                              .edge0 = -1,
                              .edge1 = -1,
                              .mask_lo = -129,
                              .mask_hi = 128,
                              .lo = -128,
                              .hi = 127,
                              .ratio = 0.17f};
        *op = blank;
        op->dims = map_dims(in[0], in[1], in[2], out[0], out[1], out[2]);
        if (i < 2) op->dims.kh = op->dims.kw = 3, op->dims.pt = op->dims.pl = 1;
        if (i == 3) op->dims.kh = op->dims.kw = op->dims.sh = op->dims.sw = 2;
    }
    net->ops[0].mask_lo = -128;
    net->ops[2].in1 = 1;
    const efl_add_params add = {1 << 20, 1 << 20, (1 << 19) + (1 << 20) * 125, 20, 3, -128, 127};
    net->ops[2].add = add;
    net->ops[2].in0 = 2;
    const int32_t owner[3] = {0, 1, 5};
    for (int i = 0; i < 3; i++) {
        efl_param *p = &net->params[i];
        net->ops[owner[i]].param = i;
        for (int j = 0; j < lens[i]; j++)
            net->q[i][j] = (int8_t)pick(-127, 127), net->r[i][j] = (int8_t)pick(-128, 127);
        net->scales[i] = 0.004f, net->mult[i] = 0.004f;
        p->q = net->q[i], p->b = net->b[i], p->scales = &net->scales[i], p->mult = &net->mult[i];
        if (stochastic)
            p->keys = net->keys;
        else
            p->r = net->r[i], p->rb = net->rb[i];
        if (sums_wanted) p->acc_w = net->acc_w[i], p->acc_b = net->acc_b[i];
        p->n_scales = 1, p->co = outs[i], p->len = lens[i], p->qmin = -127, p->rate = 1.0f;
        p->train_w = p->train_b = 1;
    }
    /* edges by tensor: t1 has two readers */
    const int32_t first[7] = {0, 0, 2, 3, 4, 5, 6}, count[7] = {0, 2, 1, 1, 1, 1, 1};
    for (int i = 0; i < 6; i++) net->ops[i].edges = first[i + 1], net->ops[i].n_edges = count[i + 1];
    net->ops[1].edge0 = 0, net->ops[2].edge1 = 1, net->ops[2].edge0 = 2, net->ops[3].edge0 = 3;
    net->ops[4].edge0 = 4, net->ops[5].edge0 = 5;
    for (int t = 1; t < 7; t++)
        for (int j = 0; j < count[t]; j++) net->edges[first[t] + j].offset = at, at += N * sizes[t];
    efl_softmax_tables(NULL, net->table, 0.05f, 1.0f);
    const efl_head head = {.tensor = 6, .edge = 6, .h = 1, .w = 1, .c = CLASSES, .table = net->table};
    net->head = head;
    const efl_plan plan = {.tensors = net->tensors,
                           .ops = net->ops,
                           .params = net->params,
                           .edges = net->edges,
                           .n_tensors = 7,
                           .n_ops = 6,
                           .n_params = 3,
                           .n_edges = 7,
                           .n_max = N,
                           .threads = threads,
                           .input = 0,
                           .arena_bytes = at,
                           .loss = {.kind = EFL_LOSS_SOFTMAX_CE, .n_heads = 1, .heads = &net->head}};
    net->plan = plan;
    net->plan.arena = exactly((size_t)at);
    net->plan.scratch_bytes = efl_plan_scratch_bytes(&net->plan);
    CHECK(net->plan.scratch_bytes > 0);
    net->plan.scratch = exactly((size_t)net->plan.scratch_bytes);
    CHECK(efl_plan_check(&net->plan) == EFL_OK);
}

static void network_free(network *net)
{
    free(net->plan.arena), free(net->plan.scratch);
}

static void network_train(network *net, int32_t isa, int sums_wanted, int stochastic, int32_t threads)
{
    network_make(net, sums_wanted, stochastic, threads);
    CHECK(efl_threads_set(threads) == EFL_OK);
    CHECK(efl_isa_select(isa) == EFL_OK);
    int8_t *x = bytes_in((size_t)(BATCH * H * W * 3), -128, 127);
    int32_t *labels = exactly(BATCH * sizeof(int32_t));
    efl_outcome seen = {0};
    for (int i = 0; i < BATCH; i++) labels[i] = i % CLASSES;
    for (int32_t round = 0; round < 4; round++) {
        efl_step step = {0.5f, BATCH, 100, 0};
        efl_target target = {.labels = labels};
        if (sums_wanted) CHECK(efl_plan_train(&net->plan, &seen, x, &target, N, &step) == EFL_OK);
        step.last = 1;
        const int32_t done = sums_wanted ? N : 0, left = sums_wanted ? BATCH - N : N;
        target.labels += done;
        CHECK(efl_plan_train(&net->plan, &seen, x + done * H * W * 3, &target, left, &step) == EFL_OK);
        CHECK(seen.hits >= 0 && seen.hits <= left && seen.terms == left && seen.loss > 0.0);
    }
    for (int i = 0; i < 3; i++) CHECK(net->params[i].steps == 4 && net->params[i].moved == 4);
    labels[0] = CLASSES;
    const efl_step step = {0.5f, BATCH, 100, 1};
    const efl_target bad = {.labels = labels};
    CHECK(efl_plan_train(&net->plan, &seen, x, &bad, 1, &step) == EFL_E_RANGE);
    CHECK(efl_plan_train(&net->plan, &seen, x, &bad, N + 1, &step) == EFL_E_RANGE);
    free(x), free(labels);
}

/* FNV-1a over what training changes. */
static uint64_t fingerprint(const network *net)
{
    uint64_t hash = 14695981039346656037u;
    const void *parts[4] = {net->q, net->r, net->b, net->rb};
    const size_t sizes[4] = {sizeof net->q, sizeof net->r, sizeof net->b, sizeof net->rb};
    for (int i = 0; i < 4; i++)
        for (size_t j = 0; j < sizes[i]; j++) hash = (hash ^ ((const uint8_t *)parts[i])[j]) * 1099511628211u;
    return hash;
}

/* The same numbers on every architecture, not only on every instruction set of one. */
static const uint64_t expected[4] = {0x6b983723a7a690fcu, 0x23c74611124268d0u, 0x8f63dfe6113eb83eu,
                                     0x546f612e508b7ba5u};

static void check_network(int32_t isa)
{
    static network ref, other;
    for (int mode = 0; mode < 4; mode++) {
        network_train(&ref, EFL_ISA_REF, mode & 1, mode & 2, 1);
        network_train(&other, isa, mode & 1, mode & 2, 3);
        CHECK(memcmp(ref.q, other.q, sizeof ref.q) == 0 && memcmp(ref.r, other.r, sizeof ref.r) == 0);
        CHECK(memcmp(ref.b, other.b, sizeof ref.b) == 0 && memcmp(ref.rb, other.rb, sizeof ref.rb) == 0);
        CHECK(fingerprint(&ref) == expected[mode]);
        network_free(&ref), network_free(&other);
    }
}

/* A plan that could touch foreign memory is refused. */
static void check_refusals(void)
{
    static network net;
    network_make(&net, 0, 0, 1);
    efl_plan *plan = &net.plan;
#define REFUSES(field, bad, status)                                                                          \
    do {                                                                                                     \
        const __typeof__(field) good = field;                                                                \
        field = bad;                                                                                         \
        CHECK(efl_plan_check(plan) == (status));                                                             \
        field = good;                                                                                        \
    } while (0)
    REFUSES(plan->arena_bytes, plan->arena_bytes - 1, EFL_E_SIZE);
    REFUSES(plan->scratch_bytes, plan->scratch_bytes - 1, EFL_E_SIZE);
    REFUSES(plan->n_max, 0, EFL_E_RANGE);
    REFUSES(plan->threads, EFL_THREADS_MAX + 1, EFL_E_RANGE);
    REFUSES(net.tensors[3].offset, -1, EFL_E_SIZE);
    REFUSES(net.tensors[3].size, 1, EFL_E_SIZE);
    REFUSES(net.ops[0].in0, 7, EFL_E_SIZE);
    REFUSES(net.ops[0].kind, 99, EFL_E_OP);
    REFUSES(net.ops[0].dims.wo, W + 9, EFL_E_SHAPE);
    REFUSES(net.ops[0].dims.ci, 2147483647, EFL_E_SHAPE);
    REFUSES(net.ops[2].in1, -1, EFL_E_SIZE);
    REFUSES(net.ops[3].edge0, 7, EFL_E_RANGE);
    REFUSES(net.edges[3].offset, plan->arena_bytes, EFL_E_SIZE);
    REFUSES(net.params[0].len, 107, EFL_E_SHAPE);
    REFUSES(net.params[0].r, NULL, EFL_E_NULL);
    REFUSES(net.mult[1], 256.0f, EFL_E_SCALE);
    REFUSES(net.head.tensor, 7, EFL_E_SIZE);
    REFUSES(net.head.edge, 7, EFL_E_SIZE);
    REFUSES(net.head.c, CLASSES + 1, EFL_E_SIZE);
    REFUSES(net.head.table, NULL, EFL_E_NULL);
    REFUSES(plan->loss.kind, 9, EFL_E_RANGE);
    REFUSES(plan->loss.n_heads, 2, EFL_E_RANGE);
    REFUSES(plan->loss.kind, EFL_LOSS_GRID, EFL_E_NULL);
    CHECK(efl_plan_check(plan) == EFL_OK && efl_plan_check(NULL) == EFL_E_NULL);
    network_free(&net);
}

static void check_errors(void)
{
    int8_t out[4];
    efl_error e = {out, 9, 9};
    const float tiny[4] = {1e-30f, 0.0f, -1e-32f, 0.0f};
    efl_error_from_f32(&e, tiny, 4);
    CHECK(!e.live && e.k == 0 && out[0] == 0);
    const float some[4] = {1.0f, -0.5f, 0.00390625f, 0.01171875f};
    efl_error_from_f32(&e, some, 4);
    CHECK(e.live && e.k == -7 && out[0] == 127 && out[1] == -64 && out[2] == 0 && out[3] == 2);
    const int32_t sums_[4] = {300, -300, 2, 6};
    efl_error_from_i32(&e, sums_, 4, -3);
    CHECK(e.live && e.k == -1 && out[0] == 75 && out[1] == -75 && out[2] == 0 && out[3] == 2);
}

/* Every loss on exact buffers: errors are finite, and bad targets are refused before anything is written. */
static void check_losses(void)
{
    enum { GH = 3, GW = 4, ANCHORS = 2, DEPTH = 7, BOXES = 5, SAMPLES = 4, SIZE = GH * GW * ANCHORS * DEPTH };
    static uint32_t table[256];
    efl_softmax_tables(NULL, table, 0.1f, 1.0f);
    const efl_tensor tensor = {0, SIZE, -5, 0.1f};
    const efl_head row = {.h = 1, .w = 1, .c = SIZE, .table = table};
    const efl_head grid[2] = {{.h = GH, .w = GW, .c = ANCHORS * DEPTH, .table = table},
                              {.h = 1, .w = 1, .c = ANCHORS * DEPTH, .table = table}};
    const float anchors[8] = {0.1f, 0.2f, 0.4f, 0.3f, 0.9f, 0.9f, 0.6f, 0.5f};
    const efl_loss flat = {.n_heads = 1, .heads = &row};
    const efl_loss cells = {.n_heads = 2, .heads = grid, .anchors = anchors, .n_anchors = ANCHORS};
    int8_t *y = bytes_in(SAMPLES * SIZE, -128, 127), *stored = bytes_in(SAMPLES * SIZE, -128, 127);
    float *error = exactly(SAMPLES * SIZE * sizeof(float)), *values = exactly(SAMPLES * SIZE * sizeof(float));
    float *boxes = exactly(SAMPLES * BOXES * 5 * sizeof(float));
    int32_t labels[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) labels[i] = pick(0, SIZE - 1);
    for (int i = 0; i < SAMPLES * SIZE; i++) values[i] = (float)pick(0, 1000) / 1000.0f;
    for (int i = 0; i < SAMPLES * BOXES; i++) {
        boxes[5 * i] = (float)pick(-1, DEPTH - 6);
        for (int j = 1; j < 5; j++) boxes[5 * i + j] = (float)pick(1, 1000) / 1000.0f;
    }
    const efl_target target = {.labels = labels, .values = values},
                     same = {.stored = stored, .scale = 0.05f, .zero = 3},
                     found = {.values = boxes, .n_boxes = BOXES};
    efl_outcome seen = {0};
    for (int turn = 0; turn < 6; turn++) {
        const efl_status status =
            turn == 0   ? efl_softmax_ce_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES)
            : turn == 1 ? efl_kl_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES)
            : turn == 2 ? efl_bce_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES)
            : turn == 3 ? efl_mse_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES)
            : turn == 4 ? efl_mse_i8(error, &seen, y, &tensor, &flat, 0, &same, SAMPLES)
                        : efl_grid_i8(error, &seen, y, &tensor, &cells, 0, &found, SAMPLES);
        CHECK(status == EFL_OK && seen.hits <= seen.terms);
        for (int i = 0; i < SAMPLES * SIZE; i++) CHECK(error[i] > -200.0f && error[i] < 200.0f);
    }
    values[SAMPLES * SIZE - 1] = -1e10f;
    CHECK(efl_bce_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES) == EFL_E_RANGE);
    CHECK(efl_kl_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES) == EFL_E_RANGE);
    CHECK(efl_mse_i8(error, &seen, y, &tensor, &flat, 0, &target, SAMPLES) == EFL_E_RANGE);
    boxes[5 * (SAMPLES * BOXES - 1)] = 0.0f;
    boxes[SAMPLES * BOXES * 5 - 1] = 0.0f / boxes[5 * (SAMPLES * BOXES - 1)]; /* NaN */
    CHECK(efl_grid_i8(error, &seen, y, &tensor, &cells, 0, &found, SAMPLES) == EFL_E_RANGE);
    free(y), free(stored), free(error), free(values), free(boxes);
}

int main(void)
{
    check_losses();
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (!(efl_isa_supported() >> isa & 1u)) continue;
        for (int i = 0; i < 60; i++)
            for (int32_t kind = EFL_OP_CONV2D; kind <= EFL_OP_DENSE; kind++) check_passes(kind, isa);
        for (int i = 0; i < 40; i++) check_pools();
        check_network(isa);
    }
    CHECK(efl_threads_set(1) == EFL_OK && efl_threads_set(0) == EFL_E_RANGE);
    check_errors();
    check_refusals();
    return 0;
}
