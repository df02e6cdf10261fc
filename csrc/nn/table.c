/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators on one value at a time, by a table of the 256 int8 inputs: one for all elements or one for each
 * channel. Backward: the error times the slope of the input, int16 * 2^k.
 */
#include "edgefl.h"
#include "nn/plan.h"

void efl_table_i8_fwd(int8_t *y, const int8_t *x, size_t n, const efl_table *t)
{
    const int8_t *at = t->values + 128;
    if (t->n_tables == 1) {
        for (size_t i = 0; i < n; i++) y[i] = at[x[i]];
        return;
    }
    const size_t c = (size_t)t->n_tables;
    for (size_t i = 0; i < n; i += c)
        for (size_t j = 0; j < c; j++) y[i + j] = at[256 * (ptrdiff_t)j + x[i + j]];
}

void efl_table_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *x, size_t n, const efl_table *t)
{
    const int16_t *at = t->slopes + 128; /* |e * slope| <= 127 * 2^15 */
    const size_t c = (size_t)t->n_tables;
    for (size_t i = 0; i < n; i += c)
        for (size_t j = 0; j < c; j++) dx[i + j] = e[i + j] * at[256 * (ptrdiff_t)j + x[i + j]];
}

efl_status efl_table_check(const efl_op *op)
{
    const efl_table *t = op->table;
    if (!t || !t->values || !t->slopes) return EFL_E_NULL;
    return t->n_tables == 1 || t->n_tables == op->dims.ci ? EFL_OK : EFL_E_SHAPE;
}
