/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators on single elements and operators that move values against plain loops, and plans with them that
 * must be refused, on every instruction set of this machine; buffers of exactly the documented size, so that
 * ASan sees one byte too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "edgefl.h"

static int32_t clamp(int32_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* Nearest, ties to even, for |x| < 2^30. */
static int32_t nearest(double x)
{
    int32_t whole = (int32_t)x;
    if (x < 0 && (double)whole != x) whole--;
    const double rest = x - whole;
    return whole + (rest > 0.5 || (rest == 0.5 && (whole & 1)));
}

typedef struct {
    efl_binary p;
    efl_add_params add;
    int32_t size, y_zero, lo, hi;
} combination;

static combination random_combination(void)
{
    combination c = {0};
    efl_binary *p = &c.p;
    int32_t a = 1, b = 1;
    c.size = 1;
    for (int i = EFL_AXES - 1; i >= 0; i--) {
        p->n[i] = i == 3 && pick(0, 3) == 0 ? pick(250, 530) : pick(1, 5);
        const int32_t repeat = pick(0, 3); /* 0: a, 1: b is repeated along this axis */
        p->a[i] = p->n[i] == 1 || repeat == 0 ? 0 : a;
        p->b[i] = p->n[i] == 1 || repeat == 1 ? 0 : b;
        a *= p->a[i] ? p->n[i] : 1;
        b *= p->b[i] ? p->n[i] : 1;
        c.size *= p->n[i];
    }
    p->rule = pick(EFL_BINARY_LINEAR, EFL_BINARY_MAX);
    p->a_size = a, p->b_size = b;
    p->a_zero = pick(-128, 127), p->b_zero = pick(-128, 127);
    p->scale = 0.001f * (float)pick(1, 90);
    c.y_zero = pick(-128, 127);
    c.lo = pick(-128, 0), c.hi = pick(0, 127);
    const efl_add_params add = {
        pick(-2097151, 2097151), pick(1, 2097151), 0, pick(13, 22), c.y_zero, c.lo, c.hi};
    c.add = add;
    c.add.bias = (1 << (add.shift - 1)) - add.m0 * p->a_zero - add.m1 * p->b_zero;
    return c;
}

static int32_t combined(const combination *c, int32_t a, int32_t b)
{
    if (c->p.rule == EFL_BINARY_MIN) return clamp(a < b ? a : b, c->lo, c->hi);
    if (c->p.rule == EFL_BINARY_MAX) return clamp(a > b ? a : b, c->lo, c->hi);
    if (c->p.rule == EFL_BINARY_LINEAR)
        return clamp(
            (int32_t)(((int64_t)c->add.m0 * a + (int64_t)c->add.m1 * b + c->add.bias) >> c->add.shift) +
                c->y_zero,
            c->lo, c->hi);
    volatile float v = (float)((a - c->p.a_zero) * (b - c->p.b_zero));
    v = v * c->p.scale;
    return clamp(nearest((double)v) + c->y_zero, c->lo, c->hi);
}

static int32_t factor(const efl_binary *p, int32_t a, int32_t b, int32_t second)
{
    if (p->rule == EFL_BINARY_LINEAR) return 1;
    if (p->rule == EFL_BINARY_MUL) return second ? a - p->a_zero : b - p->b_zero;
    const int32_t first = p->rule == EFL_BINARY_MIN ? a <= b : a >= b;
    return second ? !first : first;
}

static void check_binary(void)
{
    const combination c = random_combination();
    const efl_binary *p = &c.p;
    const int32_t samples = pick(1, 3), fixed = pick(0, 3) == 0;
    efl_binary with = *p;
    int8_t *a = bytes_in((size_t)(samples * p->a_size), -128, 127);
    int8_t *b = bytes_in((size_t)((fixed ? 1 : samples) * p->b_size), -128, 127);
    int8_t *e = bytes_in((size_t)(samples * c.size), -127, 127), *y = exactly((size_t)(samples * c.size));
    with.constant = fixed ? b : NULL;
    int32_t *dx[2], *expected[2];
    const int32_t sizes[2] = {samples * p->a_size, samples * p->b_size};
    efl_binary_i8_fwd(y, a, b, samples, &with, &c.add, c.y_zero, c.lo, c.hi);
    for (int second = 0; second < 2; second++) {
        dx[second] = exactly((size_t)sizes[second] * sizeof(int32_t));
        expected[second] = calloc((size_t)sizes[second], sizeof(int32_t));
        efl_binary_i8_bwd_x(dx[second], e, a, b, samples, &with, second);
    }
    int32_t at = 0;
    for (int32_t s = 0; s < samples; s++)
        for (int32_t i = 0; i < p->n[0]; i++)
            for (int32_t j = 0; j < p->n[1]; j++)
                for (int32_t k = 0; k < p->n[2]; k++)
                    for (int32_t l = 0; l < p->n[3]; l++, at++) {
                        const int32_t ia = i * p->a[0] + j * p->a[1] + k * p->a[2] + l * p->a[3];
                        const int32_t ib = i * p->b[0] + j * p->b[1] + k * p->b[2] + l * p->b[3];
                        const int32_t va = a[s * p->a_size + ia], vb = b[(fixed ? 0 : s * p->b_size) + ib];
                        CHECK(y[at] == combined(&c, va, vb));
                        expected[0][s * p->a_size + ia] += e[at] * factor(p, va, vb, 0);
                        expected[1][s * p->b_size + ib] += e[at] * factor(p, va, vb, 1);
                    }
    for (int second = 0; second < 2; second++) {
        CHECK(memcmp(dx[second], expected[second], (size_t)sizes[second] * sizeof(int32_t)) == 0);
        free(dx[second]), free(expected[second]);
    }
    free(a), free(b), free(e), free(y);
}

static void check_table(void)
{
    const int32_t tables = pick(0, 1) ? 1 : pick(2, 9);
    const size_t n = (size_t)(tables * pick(1, 70));
    int8_t *values = bytes_in(256u * (size_t)tables, -128, 127), *x = bytes_in(n, -128, 127);
    int8_t *e = bytes_in(n, -127, 127), *y = exactly(n);
    int16_t *slopes = exactly(512u * (size_t)tables);
    int32_t *dx = exactly(n * sizeof(int32_t));
    for (int32_t i = 0; i < 256 * tables; i++) slopes[i] = (int16_t)pick(-16384, 16384);
    const efl_table t = {values, slopes, tables, 0};
    efl_table_i8_fwd(y, x, n, &t);
    efl_table_i8_bwd_x(dx, e, x, n, &t);
    for (size_t i = 0; i < n; i++) {
        const size_t at = 256 * (i % (size_t)tables) + (size_t)(x[i] + 128);
        CHECK(y[i] == values[at] && dx[i] == e[i] * slopes[at]);
    }
    efl_table_i8_fwd(x, x, n, &t); /* in place */
    CHECK(memcmp(x, y, n) == 0);
    free(values), free(x), free(e), free(y), free(slopes), free(dx);
}

static void check_move(void)
{
    efl_move_part p = {0};
    p.run = pick(0, 1) ? 1 : pick(2, 40);
    p.y_start = pick(0, 5);
    int32_t y_size = p.run, x_size = p.run, tables = 0;
    int32_t *at = exactly(EFL_AXES * 6 * sizeof(int32_t));
    for (int i = EFL_AXES - 1; i >= 0; i--) {
        p.n[i] = pick(1, 6);
        p.y[i] = y_size;
        y_size *= p.n[i];
    }
    for (int i = 0; i < EFL_AXES; i++) { /* every axis takes what it likes of 0..8 steps */
        for (int32_t j = 0; j < p.n[i]; j++) at[tables++] = pick(0, 8) * x_size;
        x_size *= 9;
    }
    int32_t *table = exactly((size_t)tables * sizeof(int32_t));
    memcpy(table, at, (size_t)tables * sizeof(int32_t));
    p.at = table;
    y_size += p.y_start;
    int8_t *x = bytes_in((size_t)x_size, -128, 127), *y = bytes_in((size_t)y_size, -127, 127);
    int8_t *e = bytes_in((size_t)y_size, -127, 127), *dx = exactly((size_t)x_size);
    int32_t *sums = calloc((size_t)x_size, sizeof(int32_t)),
            *expected = calloc((size_t)x_size, sizeof(int32_t));
    memset(dx, 0, (size_t)x_size);
    efl_move_i8_fwd(y, x, &p);
    efl_move_i8_bwd_x(dx, e, &p);
    efl_move_i8_bwd_x_sums(sums, e, &p);
    for (int32_t i = 0; i < p.n[0]; i++)
        for (int32_t j = 0; j < p.n[1]; j++)
            for (int32_t k = 0; k < p.n[2]; k++)
                for (int32_t l = 0; l < p.n[3]; l++)
                    for (int32_t r = 0; r < p.run; r++) {
                        const int32_t *t = table;
                        int32_t from = r + t[i], to = p.y_start + r + i * p.y[0];
                        from += (t += p.n[0])[j], to += j * p.y[1];
                        from += (t += p.n[1])[k], to += k * p.y[2];
                        from += (t += p.n[2])[l], to += l * p.y[3];
                        CHECK(y[to] == x[from]);
                        expected[from] += e[to];
                    }
    CHECK(memcmp(sums, expected, (size_t)x_size * sizeof(int32_t)) == 0);
    free(at), free(table), free(x), free(y), free(e), free(dx), free(sums), free(expected);
}

/* x [2,3] -> TABLE -> joined with itself, the second time upside down -> times a constant row of 3. */
static void check_refusals(void)
{
    int8_t values[256], row[3] = {1, 2, 3}, arena[256], x[6] = {1, 2, 3, 4, 5, 6};
    int16_t slopes[256] = {0};
    for (int i = 0; i < 256; i++) values[i] = (int8_t)(i - 128);
    efl_tensor tensors[4] = {{0, 6, 0, 1.0f}, {0, 6, 0, 1.0f}, {64, 12, 0, 1.0f}, {128, 12, 0, 1.0f}};
    efl_table table = {values, slopes, 1, 0};
    int32_t straight[4] = {0, 0, 0, 0}, over[5] = {0, 0, 0, 3, 0};
    efl_move_part parts[2] = {{1, -1, {1, 1, 1, 1}, {0, 0, 0, 0}, 0, 6, 1, straight},
                              {1, -1, {1, 1, 1, 2}, {0, 0, 0, 3}, 6, 3, 1, over}};
    efl_move move = {parts, 2, -129};
    efl_binary binary = {.rule = EFL_BINARY_MUL,
                         .n = {1, 1, 4, 3},
                         .a = {0, 0, 3, 1},
                         .b = {0, 0, 0, 1},
                         .a_size = 12,
                         .b_size = 3,
                         .scale = 1.0f,
                         .constant = row};
    const efl_op plain = {.in1 = -1,
                          .param = -1,
                          .edge0 = -1,
                          .edge1 = -1,
                          .mask_lo = -129,
                          .mask_hi = 128,
                          .lo = -128,
                          .hi = 127,
                          .dims = {1, 2, 3, 1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0}};
    efl_op ops[3] = {plain, plain, plain};
    ops[0].kind = EFL_OP_TABLE, ops[0].in0 = 0, ops[0].out = 1, ops[0].table = &table;
    ops[1].kind = EFL_OP_MOVE, ops[1].in0 = 1, ops[1].out = 2, ops[1].move = &move, ops[1].dims.ho = 4;
    ops[2].kind = EFL_OP_BINARY, ops[2].in0 = 2, ops[2].out = 3, ops[2].binary = &binary;
    ops[2].dims.hi = ops[2].dims.ho = 4;
    efl_plan plan = {.tensors = tensors,
                     .ops = ops,
                     .n_tensors = 4,
                     .n_ops = 3,
                     .n_max = 1,
                     .arena = arena,
                     .arena_bytes = 140};
    CHECK(efl_plan_check(&plan) == EFL_OK);
    CHECK(efl_plan_forward(&plan, x, 1, 0, 3) == EFL_OK);
    const int8_t expected[12] = {1, 4, 9, 4, 10, 18, 4, 10, 18, 1, 4, 9};
    CHECK(memcmp(arena + 128, expected, 12) == 0);
#define REFUSES(field, bad, status)                                                                          \
    do {                                                                                                     \
        const __typeof__(field) good = field;                                                                \
        field = bad;                                                                                         \
        CHECK(efl_plan_check(&plan) == (status));                                                            \
        field = good;                                                                                        \
    } while (0)
    REFUSES(table.n_tables, 2, EFL_E_SHAPE);
    REFUSES(table.values, NULL, EFL_E_NULL);
    REFUSES(over[3], 4, EFL_E_SIZE);
    REFUSES(over[3], -1, EFL_E_SIZE);
    REFUSES(parts[1].y_start, 7, EFL_E_SIZE);
    REFUSES(parts[1].y_start, -1, EFL_E_SHAPE);
    REFUSES(parts[1].run, 4, EFL_E_SIZE);
    REFUSES(parts[1].n[0], 2147483647, EFL_E_SHAPE);
    REFUSES(parts[1].n[3], 0, EFL_E_SHAPE);
    REFUSES(parts[1].in, 9, EFL_E_RANGE);
    REFUSES(parts[1].edge, 0, EFL_E_RANGE);
    REFUSES(move.fill, 128, EFL_E_RANGE);
    REFUSES(move.n_parts, 0, EFL_E_RANGE);
    REFUSES(ops[1].move, NULL, EFL_E_NULL);
    REFUSES(binary.n[2], 5, EFL_E_SHAPE);
    REFUSES(binary.a[2], 4, EFL_E_SHAPE);
    REFUSES(binary.b[2], 1, EFL_E_SHAPE);
    REFUSES(binary.a[3], 2, EFL_E_SHAPE);
    REFUSES(binary.rule, 4, EFL_E_RANGE);
    REFUSES(binary.scale, 256.0f, EFL_E_SCALE);
    REFUSES(binary.constant, NULL, EFL_E_NULL);
    REFUSES(binary.a_size, 11, EFL_E_SIZE);
    REFUSES(ops[2].in1, 1, EFL_E_SIZE);
    REFUSES(plan.arena_bytes, 139, EFL_E_SIZE);
    CHECK(efl_plan_check(&plan) == EFL_OK);
}

int main(void)
{
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (!(efl_isa_supported() >> isa & 1u)) continue;
        CHECK(efl_isa_select(isa) == EFL_OK);
        for (int i = 0; i < 300; i++) check_binary();
        for (int i = 0; i < 60; i++) check_table();
        for (int i = 0; i < 60; i++) check_move();
    }
    check_refusals();
    return 0;
}
