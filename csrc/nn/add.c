/* SPDX-License-Identifier: Apache-2.0
 * Addition of two maps; its backward pass hands the error to both inputs (train.c).
 */
#include "core/kernels.h"

void efl_add_i8_fwd(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p)
{
    efl_kernels()->add_i8(y, a, b, n, p);
}

void efl_add_i8_ref(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p)
{
    const int32_t m0 = p->m0, m1 = p->m1, bias = p->bias, shift = p->shift, zero = p->zero, lo = p->lo,
                  hi = p->hi;
    for (size_t i = 0; i < n; i++) {
        /* m < 2^21 and |a| <= 128: below 2^29 each, bias below 2^30 */
        int32_t v = ((m0 * a[i] + m1 * b[i] + bias) >> shift) + zero;
        v = v < lo ? lo : v;
        v = v > hi ? hi : v;
        y[i] = (int8_t)v;
    }
}
