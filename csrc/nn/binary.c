/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators of two operands with broadcasting: ADD, SUB, MUL, MINIMUM, MAXIMUM, forward and backward. An
 * operand that is repeated gets the sum of the errors of all its uses. Repeated elements and short rows are
 * spread over a tile first, so that one vector loop serves every case.
 */
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/plan.h"

#define ROW 512 /* elements at a time where an operand is spread */

/* How many of the innermost rows go at once: the operands' rows are put side by side if they are short. */
static int32_t rows_at_once(const efl_binary *p)
{
    return p->n[3] > ROW / 2 ? 1 : ROW / p->n[3];
}

/* Elements from.. of `rows` rows from row k on, side by side: where they lie, or spread over `tile`. */
static const int8_t *side_by_side(int8_t *tile, const int8_t *p, const int32_t *n, const int32_t *stride,
                                  int32_t k, int32_t rows, int32_t from, size_t part)
{
    const int8_t *at = p + k * stride[2] + from * stride[3];
    if (stride[3] && (rows == 1 || stride[2] == n[3])) return at;
    for (int32_t r = 0; r < rows; r++, at += stride[2])
        if (stride[3])
            memcpy(tile + (size_t)r * part, at, part);
        else
            memset(tile + (size_t)r * part, *at, part);
    return tile;
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
    const int32_t *n = p->n, *sa = p->a, *sb = p->b, most = rows_at_once(p);
    const int32_t length = most > 1 || (sa[3] && sb[3]) ? n[3] : ROW;
    int8_t tile_a[ROW], tile_b[ROW];
    for (int32_t s = 0; s < samples; s++, a += p->a_size, b += p->constant ? 0 : p->b_size)
        for (int32_t i = 0; i < n[0]; i++)
            for (int32_t j = 0; j < n[1]; j++) {
                const int8_t *plane_a = a + i * sa[0] + j * sa[1], *plane_b = b + i * sb[0] + j * sb[1];
                for (int32_t k = 0; k < n[2]; k += most)
                    for (int32_t x = 0; x < n[3]; x += length) {
                        const int32_t rows = n[2] - k < most ? n[2] - k : most;
                        const size_t part = (size_t)(n[3] - x < length ? n[3] - x : length);
                        const int8_t *row_a = side_by_side(tile_a, plane_a, n, sa, k, rows, x, part);
                        const int8_t *row_b = side_by_side(tile_b, plane_b, n, sb, k, rows, x, part);
                        combine(y, row_a, row_b, part * (size_t)rows, p, linear, &mul);
                        y += part * (size_t)rows;
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
    const int32_t whole = to[3] && to[2] == n[3]; /* the sums lie side by side, too */
    const int32_t most = whole ? rows_at_once(p) : 1, length = most > 1 ? n[3] : ROW;
    int8_t tile_a[ROW], tile_b[ROW];
    int32_t sums[ROW];
    memset(dx, 0, (size_t)samples * (size_t)size * sizeof(int32_t));
    for (int32_t s = 0; s < samples; s++, dx += size, a += p->a_size, b += p->constant ? 0 : p->b_size)
        for (int32_t i = 0; i < n[0]; i++)
            for (int32_t j = 0; j < n[1]; j++) {
                const int8_t *plane_a = a + i * sa[0] + j * sa[1], *plane_b = b + i * sb[0] + j * sb[1];
                for (int32_t k = 0; k < n[2]; k += most)
                    for (int32_t x = 0; x < n[3]; x += length) {
                        const int32_t rows = n[2] - k < most ? n[2] - k : most;
                        const size_t part = (size_t)(n[3] - x < length ? n[3] - x : length);
                        const size_t count = part * (size_t)rows;
                        const int8_t *row_a = side_by_side(tile_a, plane_a, n, sa, k, rows, x, part);
                        const int8_t *row_b = side_by_side(tile_b, plane_b, n, sb, k, rows, x, part);
                        int32_t *at = dx + i * to[0] + j * to[1] + k * to[2] + x * to[3];
                        if (to[3]) {
                            share(at, e, row_a, row_b, count, p, second);
                        } else {
                            memset(sums, 0, count * sizeof(int32_t));
                            share(sums, e, row_a, row_b, count, p, second);
                            for (size_t t = 0; t < count; t++) *at += sums[t];
                        }
                        e += count;
                    }
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
