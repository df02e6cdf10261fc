/* SPDX-License-Identifier: Apache-2.0
 *
 * Moving values without changing them: concatenation, splits, slices, gather, transpose, nearest-neighbour
 * resize, padding of any axis. Every part of the result copies runs of neighbours; a table for each axis says
 * where in the input they start. Backward: the error goes the same way back, summed in int32 where an element
 * was read more than once.
 */
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/plan.h"

/* Offsets of one run: at in the input, to in the result. */
typedef void each_run(void *dst, const int8_t *src, int32_t at, int32_t to, int32_t run);

static void copy_run(void *dst, const int8_t *src, int32_t at, int32_t to, int32_t run)
{
    memcpy((int8_t *)dst + to, src + at, (size_t)run);
}

static void return_run(void *dst, const int8_t *src, int32_t at, int32_t to, int32_t run)
{
    memcpy((int8_t *)dst + at, src + to, (size_t)run);
}

static void add_run(void *dst, const int8_t *src, int32_t at, int32_t to, int32_t run)
{
    efl_kernels()->add_error((int32_t *)dst + at, src + to, (size_t)run, 0);
}

static inline void walk(void *dst, const int8_t *src, const efl_move_part *p, each_run *each)
{
    const int32_t *n = p->n, *y = p->y;
    const int32_t *a0 = p->at, *a1 = a0 + n[0], *a2 = a1 + n[1], *a3 = a2 + n[2];
    for (int32_t i = 0; i < n[0]; i++)
        for (int32_t j = 0; j < n[1]; j++)
            for (int32_t k = 0; k < n[2]; k++) {
                const int32_t at = a0[i] + a1[j] + a2[k];
                const int32_t to = p->y_start + i * y[0] + j * y[1] + k * y[2];
                for (int32_t l = 0; l < n[3]; l++) each(dst, src, at + a3[l], to + l * y[3], p->run);
            }
}

/* Runs of one element, as of a transpose: without a call for each. */
static void copy_single(int8_t *dst, const int8_t *src, const efl_move_part *p)
{
    const int32_t *n = p->n, *y = p->y;
    const int32_t *a0 = p->at, *a1 = a0 + n[0], *a2 = a1 + n[1], *a3 = a2 + n[2];
    for (int32_t i = 0; i < n[0]; i++)
        for (int32_t j = 0; j < n[1]; j++)
            for (int32_t k = 0; k < n[2]; k++) {
                const int8_t *from = src + a0[i] + a1[j] + a2[k];
                int8_t *to = dst + p->y_start + i * y[0] + j * y[1] + k * y[2];
                for (int32_t l = 0; l < n[3]; l++) to[l * y[3]] = from[a3[l]];
            }
}

void efl_move_i8_fwd(int8_t *y, const int8_t *x, const efl_move_part *p)
{
    if (p->run == 1)
        copy_single(y, x, p);
    else
        walk(y, x, p, copy_run);
}

void efl_move_i8_bwd_x(int8_t *dx, const int8_t *e, const efl_move_part *p)
{
    walk(dx, e, p, return_run);
}

void efl_move_i8_bwd_x_sums(int32_t *dx, const int8_t *e, const efl_move_part *p)
{
    walk(dx, e, p, add_run);
}

/* Whether every run lies inside an input of x_size and a result of y_size elements. */
static efl_status part_check(const efl_move_part *p, int64_t x_size, int64_t y_size)
{
    if (!p->at) return EFL_E_NULL;
    if (p->run < 1 || p->y_start < 0) return EFL_E_SHAPE;
    int64_t low = 0, high = 0, last = p->y_start, count = p->run;
    const int32_t *at = p->at;
    for (int axis = 0; axis < EFL_AXES; axis++) {
        const int32_t n = p->n[axis];
        if (n < 1 || n > y_size || p->y[axis] < 0) return EFL_E_SHAPE;
        int32_t least = at[0], most = at[0];
        for (int32_t i = 1; i < n; i++) {
            least = at[i] < least ? at[i] : least;
            most = at[i] > most ? at[i] : most;
        }
        low += least;
        high += most;
        last += (int64_t)(n - 1) * p->y[axis];
        count *= n;
        at += n;
        if (count > y_size) return EFL_E_SHAPE;
    }
    return low >= 0 && high + p->run <= x_size && last + p->run <= y_size ? EFL_OK : EFL_E_SIZE;
}

efl_status efl_move_check(const efl_plan *plan, const efl_op *op)
{
    const efl_move *m = op->move;
    if (!m || !m->parts) return EFL_E_NULL;
    if (m->n_parts < 1 || m->fill < -129 || m->fill > 127 || m->parts[0].in != op->in0 || op->edge0 >= 0)
        return EFL_E_RANGE;
    for (int32_t i = 0; i < m->n_parts; i++) {
        const efl_move_part *p = &m->parts[i];
        if (p->in < 0 || p->in >= plan->n_tensors || p->edge < -1 || p->edge >= plan->n_edges)
            return EFL_E_RANGE;
        const efl_status fits = part_check(p, plan->tensors[p->in].size, plan->tensors[op->out].size);
        if (fits != EFL_OK) return fits;
    }
    return EFL_OK;
}

void efl_move_run(const efl_plan *plan, const efl_op *op, const int8_t *input, int32_t samples)
{
    const efl_move *m = op->move;
    const int32_t size = plan->tensors[op->out].size;
    int8_t *y = efl_plan_tensor(plan, op->out);
    if (m->fill >= -128) memset(y, m->fill, (size_t)samples * (size_t)size);
    for (int32_t i = 0; i < m->n_parts; i++) {
        const efl_move_part *p = &m->parts[i];
        const int8_t *x = efl_plan_source(plan, p->in, input);
        const int32_t step = plan->tensors[p->in].size;
        for (int32_t s = 0; s < samples; s++) efl_move_i8_fwd(y + s * size, x + s * step, p);
    }
}

void efl_move_through(const efl_plan *plan, const efl_op *op, const efl_move_part *p, const efl_error *e,
                      efl_error *dx, int32_t samples)
{
    const int32_t step = plan->tensors[p->in].size, size = plan->tensors[op->out].size;
    const size_t n = (size_t)samples * (size_t)step;
    if (p->once) {
        int8_t bits = 0;
        memset(dx->e, 0, n);
        for (int32_t s = 0; s < samples; s++) efl_move_i8_bwd_x(dx->e + s * step, e->e + s * size, p);
        for (size_t i = 0; i < n; i++) bits |= dx->e[i];
        dx->k = e->k;
        dx->live = bits != 0;
        return;
    }
    int32_t *sums = plan->scratch; /* an element is read at most 2^24 times: 127 * 2^24 < 2^31 */
    memset(sums, 0, n * sizeof(int32_t));
    for (int32_t s = 0; s < samples; s++) efl_move_i8_bwd_x_sums(sums + s * step, e->e + s * size, p);
    efl_error_from_i32(dx, sums, n, e->k);
}
