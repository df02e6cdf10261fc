/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent layers on every instruction set of this machine: both activations on every int16 input against
 * sums made by the NumPy oracle, and LSTM and SVDF with buffers of exactly the documented size, so that ASan
 * sees one byte too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "core/kernels.h"
#include "edgefl.h"
#include "nn/recurrent.h"

static uint32_t sum_of(const int16_t *y, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum = sum * 31 + (uint16_t)y[i];
    return sum;
}

/* All 65536 inputs of each activation; the sums are tests/oracle/lstm.py's. */
static void check_activations(void)
{
    static const uint32_t tanh_sums[7] = {0x2b0f4c04, 0x868826ec, 0x824e96e8, 0xbe9ec41f,
                                          0x2b01e85f, 0xd405c09f, 0x6a40c69f};
    int16_t *x = exactly(65536 * sizeof *x), *y = exactly(65536 * sizeof *y);
    for (int32_t i = 0; i < 65536; i++) x[i] = (int16_t)(i - 32768);
    efl_kernels()->sigmoid_i16(y, x, 65536);
    CHECK(sum_of(y, 65536) == 0x501fcb74);
    for (int32_t whole = 0; whole < 7; whole++) {
        efl_kernels()->tanh_i16(y, x, 65536, whole);
        CHECK(sum_of(y, 65536) == tanh_sums[whole]);
    }
    free(x), free(y);
}

static efl_fixed random_multiplier(int32_t lo, int32_t hi)
{
    const efl_fixed f = {pick(1 << 30, INT32_MAX), pick(lo, hi)};
    return f;
}

static efl_lstm random_numbers(int32_t steps)
{
    efl_lstm m = {.cell_bits = pick(9, 15), .clip = pick(0, 1) * pick(1, 32767), .truncate = steps};
    for (int i = 0; i < 4; i++) m.in[i] = random_multiplier(-12, 1), m.back[i] = random_multiplier(-12, 1);
    m.out = random_multiplier(-24, -20);
    return m;
}

/* The same outputs on every instruction set, with and without saving; the saved h is what y says. */
static void check_lstm(void)
{
    const efl_dims d = {
        .n = pick(1, 4), .hi = 1, .wi = pick(1, 6), .ci = pick(1, 40), .ho = 1, .co = pick(1, 20)};
    efl_dims dims = d;
    dims.wo = d.wi;
    dims.kh = dims.kw = dims.sh = dims.sw = dims.dh = dims.dw = dims.groups = dims.mult = 1;
    CHECK(efl_dims_check(&dims, EFL_OP_LSTM) == EFL_OK);
    const efl_lstm m = random_numbers(d.wi);
    const size_t n_x = (size_t)(d.n * d.wi * d.ci), n_y = (size_t)(d.n * d.wi * d.co);
    int8_t *x = bytes_in(n_x, -128, 127), *first = NULL;
    efl_param p[8] = {0};
    for (int i = 0; i < 8; i++) {
        p[i].co = d.co, p[i].len = d.co * (i < 4 ? d.ci : d.co);
        p[i].q = bytes_in((size_t)p[i].len, -128, 127);
        p[i].b = exactly((size_t)d.co * sizeof(int32_t));
        for (int32_t c = 0; c < d.co; c++) p[i].b[c] = pick(-5000, 5000);
    }
    const int32_t x_zero = pick(-128, 127), y_zero = pick(-128, 127);
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) continue;
        for (int keep = 0; keep < 2; keep++) {
            int8_t *y = exactly(n_y);
            void *scratch = exactly(efl_lstm_i8_fwd_scratch_bytes(&dims, keep));
            int16_t *saved = keep ? exactly(efl_lstm_saved_bytes(&dims)) : NULL;
            CHECK(efl_lstm_saved_bytes(&dims) == EFL_LSTM_BYTES * n_y);
            efl_lstm_i8_fwd(y, saved, x, p, &dims, &m, x_zero, y_zero, scratch);
            CHECK(!first || memcmp(first, y, n_y) == 0);
            if (first)
                free(y);
            else
                first = y;
            free(scratch), free(saved);
        }
    }
    for (int i = 0; i < 8; i++) free(p[i].q), free(p[i].b);
    free(x), free(first);
}

typedef struct {
    int8_t q[8][400], r[8][400], rb[8][20];
    int32_t b[8][20];
    float scale[8];
    int64_t acc_w[8][400], acc_b[8][20];
    efl_param params[8];
} weights;

static weights *random_weights(int32_t ci, int32_t co, int trained)
{
    weights *w = exactly(sizeof *w);
    memset(w, 0, sizeof *w);
    for (int i = 0; i < 8; i++) {
        const int32_t k = i < 4 ? ci : co;
        w->scale[i] = 0.004f;
        for (int32_t j = 0; j < co * k; j++) w->q[i][j] = (int8_t)pick(-127, 127);
        w->params[i] = (efl_param){.q = w->q[i],
                                   .r = w->r[i],
                                   .b = w->b[i],
                                   .rb = w->rb[i],
                                   .scales = &w->scale[i],
                                   .mult = &w->scale[i],
                                   .acc_w = w->acc_w[i],
                                   .acc_b = w->acc_b[i],
                                   .n_scales = 1,
                                   .co = co,
                                   .len = co * k,
                                   .qmin = -127,
                                   .train_w = trained,
                                   .train_b = trained && i < 4,
                                   .rate = 1.0f};
    }
    return w;
}

/* Forward and backward of one LSTM within a plan, two micro-batches; the trained numbers of the first
 * instruction set go to `first`, those of the others must be the same. */
static void check_backward_here(const efl_dims *d, const efl_lstm *m, const weights *start, const int8_t *x,
                                const int8_t *e, weights **first, int8_t **first_dx)
{
    weights *w = exactly(sizeof *w);
    memcpy(w, start, sizeof *w);
    for (int i = 0; i < 8; i++) {
        efl_param *p = &w->params[i];
        p->q = w->q[i], p->r = w->r[i], p->b = w->b[i], p->rb = w->rb[i], p->scales = &w->scale[i];
        p->mult = p->scales, p->acc_w = w->acc_w[i], p->acc_b = w->acc_b[i];
    }
    const int32_t n_x = d->wi * d->ci, n_y = d->wi * d->co;
    const int64_t saved = (d->n * n_y + 63) / 64 * 64;
    const efl_tensor tensors[2] = {{0, n_x, -5, 0.02f}, {0, n_y, 3, 0.008f}};
    efl_edge edges[2] = {{.offset = 0}, {.offset = 0}};
    const efl_op op = {.kind = EFL_OP_LSTM,
                       .in0 = 0,
                       .in1 = -1,
                       .out = 1,
                       .param = 0,
                       .edges = 0,
                       .n_edges = 1,
                       .edge0 = 1,
                       .edge1 = -1,
                       .mask_lo = -129,
                       .mask_hi = 128,
                       .lo = -128,
                       .hi = 127,
                       .dims = *d,
                       .lstm = m,
                       .state = saved};
    efl_plan plan = {.tensors = tensors,
                     .ops = &op,
                     .params = w->params,
                     .edges = edges,
                     .n_tensors = 2,
                     .n_ops = 1,
                     .n_params = 8,
                     .n_edges = 2,
                     .n_max = d->n,
                     .input = 0,
                     .arena_bytes = saved + (int64_t)efl_lstm_saved_bytes(d)};
    plan.arena = exactly((size_t)plan.arena_bytes);
    CHECK(efl_recurrent_check(&plan, &op) == EFL_OK);
    const size_t forward = efl_recurrent_scratch_bytes(&plan, &op),
                 back = efl_lstm_backward_bytes(&plan, &op);
    int8_t *dx = exactly((size_t)(d->n * n_x)), *error = exactly((size_t)(d->n * n_y));
    for (int32_t part = 0; part < 2; part++) {
        const int32_t n = part ? d->n : (d->n + 1) / 2;
        plan.scratch = exactly(forward);
        efl_recurrent_run(&plan, &op, x, n);
        free(plan.scratch);
        memcpy(error, e, (size_t)(n * n_y));
        efl_error given = {error, -9, 1}, found = {dx, 0, 0};
        const efl_step step = {.lr = 0.5f, .n = d->n + (d->n + 1) / 2, .cap = 100, .last = part};
        plan.scratch = exactly(back);
        efl_lstm_backward(&plan, &op, part ? &found : NULL, &given, x, n, &step);
        free(plan.scratch);
    }
    for (int i = 0; *first && i < 8; i++) {
        CHECK(memcmp(w->q[i], (*first)->q[i], sizeof w->q[i]) == 0);
        CHECK(memcmp(w->r[i], (*first)->r[i], sizeof w->r[i]) == 0);
        CHECK(memcmp(w->b[i], (*first)->b[i], sizeof w->b[i]) == 0);
    }
    CHECK(!*first_dx || memcmp(dx, *first_dx, (size_t)(d->n * n_x)) == 0);
    CHECK(w->params[0].steps == w->params[0].train_w && w->params[7].clamped >= 0);
    free(plan.arena), free(error);
    if (*first)
        free(w), free(dx);
    else
        *first = w, *first_dx = dx;
}

static void check_backward(void)
{
    efl_dims d = {.n = pick(1, 4), .hi = 1, .wi = pick(1, 6), .ci = pick(1, 20), .ho = 1, .co = pick(1, 20)};
    d.wo = d.wi;
    d.kh = d.kw = d.sh = d.sw = d.dh = d.dw = d.groups = d.mult = 1;
    efl_lstm m = random_numbers(pick(1, d.wi));
    for (int i = 0; i < 4; i++) m.in[i].shift = m.back[i].shift = -3;
    weights *start = random_weights(d.ci, d.co, pick(0, 3) > 0), *first = NULL;
    int8_t *x = bytes_in((size_t)(d.n * d.wi * d.ci), -128, 127), *first_dx = NULL;
    int8_t *e = bytes_in((size_t)(d.n * d.wi * d.co), -127, 127);
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++)
        if (efl_isa_select(isa) == EFL_OK) check_backward_here(&d, &m, start, x, e, &first, &first_dx);
    free(start), free(first), free(first_dx), free(x), free(e);
}

static void check_svdf(void)
{
    efl_svdf m = {.rank = pick(1, 3), .memory = pick(1, 9), .memory_lo = -32768, .memory_hi = 32767};
    efl_dims d = {.n = pick(1, 4), .ci = pick(1, 40), .co = pick(1, 9)};
    d.hi = d.wi = d.ho = d.wo = d.kh = d.kw = d.sh = d.sw = d.dh = d.dw = d.groups = d.mult = 1;
    CHECK(efl_dims_check(&d, EFL_OP_SVDF) == EFL_OK);
    m.filters = d.co * m.rank;
    m.in = random_multiplier(-12, 0), m.out = random_multiplier(-12, 0);
    const size_t kept = (size_t)(m.filters * m.memory), n_y = (size_t)(d.n * d.co);
    int16_t *time = exactly(kept * sizeof *time);
    int32_t *bias = exactly((size_t)d.co * sizeof *bias);
    for (size_t i = 0; i < kept; i++) time[i] = (int16_t)pick(-32768, 32767);
    for (int32_t i = 0; i < d.co; i++) bias[i] = pick(-5000, 5000);
    int8_t *feature = bytes_in((size_t)(m.filters * d.ci), -128, 127), *first = NULL;
    int8_t *x = bytes_in((size_t)(d.n * d.ci), -128, 127);
    m.feature = feature, m.time = time, m.bias = bias;
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) continue;
        int8_t *y = exactly(n_y);
        int16_t *memory = exactly(kept * sizeof *memory);
        memset(memory, 0, kept * sizeof *memory);
        void *scratch = exactly(efl_svdf_i8_fwd_scratch_bytes(&d, &m));
        efl_svdf_i8_fwd(y, memory, x, &d, &m, -7, 3, scratch);
        CHECK(!first || memcmp(first, y, n_y) == 0);
        if (first)
            free(y);
        else
            first = y;
        free(memory), free(scratch);
    }
    free(time), free(bias), free(feature), free(x), free(first);
}

int main(void)
{
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++)
        if (efl_isa_select(isa) == EFL_OK) check_activations();
    for (int i = 0; i < 60; i++) check_lstm(), check_backward(), check_svdf();
    return 0;
}
