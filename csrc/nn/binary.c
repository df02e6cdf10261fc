/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators of two operands with broadcasting: ADD, SUB, MUL, MINIMUM, MAXIMUM, forward and backward. An
 * operand that is repeated gets the sum of the errors of all its uses. A repeated element is spread over a
 * short row first, so that one vector loop serves every case.
 */
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/plan.h"

#define ROW 256 /* elements of a row at a time */

/* n elements from p on: themselves, or the one element in all of them. */
static const int8_t *row(int8_t *spread, const int8_t *p, int32_t stride, size_t n)
{
    if (stride) return p;
    memset(spread, *p, n);
    return spread;
}

static void combine(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_binary *p,
                    const efl_add_params *linear, const efl_mul_params *mul)
{
    const efl_kernel_table *k = efl_kernels();
    const int32_t rule = p->rule;
    if (p->fixed)
        efl_combine_i8_fwd_fixed(y, a, b, n, p, mul->y_zero, mul->lo, mul->hi);
    else if (rule == EFL_BINARY_LINEAR)
        k->add_i8(y, a, b, n, linear);
    else if (rule == EFL_BINARY_MUL)
        k->mul_i8(y, a, b, n, mul);
    else if (rule == EFL_BINARY_MIN)
        k->min_i8(y, a, b, n, mul->lo, mul->hi);
    else
        k->max2_i8(y, a, b, n, mul->lo, mul->hi);
}

void efl_binary_i8_fwd(int8_t *y, const int8_t *a, const int8_t *b, int32_t samples, const efl_binary *p,
                       const efl_add_params *linear, int32_t y_zero, int32_t lo, int32_t hi)
{
    const efl_mul_params mul = {p->scale, p->a_zero, p->b_zero, y_zero, lo, hi};
    const int32_t *n = p->n, *sa = p->a, *sb = p->b;
    int8_t wide_a[ROW], wide_b[ROW];
    for (int32_t s = 0; s < samples; s++, a += p->a_size, b += p->constant ? 0 : p->b_size)
        for (int32_t i = 0; i < n[0]; i++)
            for (int32_t j = 0; j < n[1]; j++)
                for (int32_t k = 0; k < n[2]; k++) {
                    const int8_t *at_a = a + i * sa[0] + j * sa[1] + k * sa[2];
                    const int8_t *at_b = b + i * sb[0] + j * sb[1] + k * sb[2];
                    const int32_t most = sa[3] && sb[3] ? n[3] : ROW;
                    for (int32_t x = 0; x < n[3]; x += most) {
                        const size_t part = (size_t)(n[3] - x < most ? n[3] - x : most);
                        combine(y, row(wide_a, at_a + x * sa[3], sa[3], part),
                                row(wide_b, at_b + x * sb[3], sb[3], part), part, p, linear, &mul);
                        y += part;
                    }
                }
}

/* sums [n] += the error's share of one operand. */
static void share(int32_t *sums, const int8_t *e, const int8_t *a, const int8_t *b, size_t n,
                  const efl_binary *p, int32_t second)
{
    const efl_kernel_table *k = efl_kernels();
    if (p->rule == EFL_BINARY_LINEAR)
        k->add_error(sums, e, n, 0);
    else if (p->rule == EFL_BINARY_MUL)
        k->mul_error(sums, e, second ? a : b, n, second ? p->a_zero : p->b_zero);
    else if ((p->rule == EFL_BINARY_MIN) == !second) /* min: a <= b or b < a; max: b <= a or a < b */
        k->route_error(sums, e, a, b, n, second);
    else
        k->route_error(sums, e, b, a, n, second);
}

void efl_binary_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *a, const int8_t *b, int32_t samples,
                         const efl_binary *p, int32_t second)
{
    const int32_t *n = p->n, *sa = p->a, *sb = p->b, *to = second ? p->b : p->a;
    const int32_t size = second ? p->b_size : p->a_size;
    int8_t wide_a[ROW], wide_b[ROW];
    int32_t sums[ROW];
    memset(dx, 0, (size_t)samples * (size_t)size * sizeof(int32_t));
    for (int32_t s = 0; s < samples; s++, dx += size, a += p->a_size, b += p->constant ? 0 : p->b_size)
        for (int32_t i = 0; i < n[0]; i++)
            for (int32_t j = 0; j < n[1]; j++)
                for (int32_t k = 0; k < n[2]; k++)
                    for (int32_t x = 0; x < n[3]; x += ROW) {
                        const size_t part = (size_t)(n[3] - x < ROW ? n[3] - x : ROW);
                        const int8_t *ra =
                            row(wide_a, a + i * sa[0] + j * sa[1] + k * sa[2] + x * sa[3], sa[3], part);
                        const int8_t *rb =
                            row(wide_b, b + i * sb[0] + j * sb[1] + k * sb[2] + x * sb[3], sb[3], part);
                        int32_t *at = dx + i * to[0] + j * to[1] + k * to[2] + x * to[3];
                        if (to[3]) {
                            share(at, e, ra, rb, part, p, second);
                        } else {
                            memset(sums, 0, sizeof sums);
                            share(sums, e, ra, rb, part, p, second);
                            for (size_t t = 0; t < part; t++) *at += sums[t];
                        }
                        e += part;
                    }
}

/* The largest offset that strides reach, or -1 if one is out of range. */
static int64_t reach(const int32_t *n, const int32_t *stride)
{
    int64_t far = 0;
    for (int i = 0; i < EFL_AXES; i++) {
        if (stride[i] < 0 || n[i] < 1) return -1;
        far += (int64_t)(n[i] - 1) * stride[i];
    }
    return far;
}

efl_status efl_binary_check(const efl_op *op, int32_t a_size, int32_t b_size, int32_t y_size)
{
    const efl_binary *p = op->binary;
    if (!p || (op->in1 < 0 && !p->constant)) return EFL_E_NULL;
    if (p->rule < EFL_BINARY_LINEAR || p->rule > EFL_BINARY_MAX) return EFL_E_RANGE;
    if (p->fixed && p->rule > EFL_BINARY_MUL) return EFL_E_RANGE; /* comparisons do not round */
    if (p->a_size != a_size || p->b_size < 1 || (op->in1 >= 0 && (p->b_size != b_size || p->constant)))
        return EFL_E_SIZE;
    int64_t size = 1;
    for (int i = 0; i < EFL_AXES; i++) {
        if (p->n[i] < 1) return EFL_E_SHAPE;
        size *= p->n[i];
        if (size > y_size) return EFL_E_SHAPE;
    }
    const int64_t far_a = reach(p->n, p->a), far_b = reach(p->n, p->b);
    if (size != y_size || far_a < 0 || far_a >= p->a_size || far_b < 0 || far_b >= p->b_size || p->a[3] > 1 ||
        p->b[3] > 1)
        return EFL_E_SHAPE;
    if (p->rule == EFL_BINARY_LINEAR && (op->add.shift < 1 || op->add.shift > 30)) return EFL_E_SCALE;
    if (p->rule == EFL_BINARY_MUL && !(p->scale > 0.0f && p->scale < 256.0f)) return EFL_E_SCALE;
    /* 65536 * 127 * 255 < 2^31 */
    const int64_t fewest = (op->edge1 >= 0 && p->b_size < p->a_size) ? p->b_size : p->a_size;
    return (op->edge0 >= 0 || op->edge1 >= 0) && size > fewest * EFL_TERMS_MAX ? EFL_E_SHAPE : EFL_OK;
}
