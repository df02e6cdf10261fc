/* SPDX-License-Identifier: Apache-2.0
 *
 * What the losses share: probabilities from a head's table, and a logarithm without libm.
 */
#ifndef EFL_NN_LOSS_H
#define EFL_NN_LOSS_H
#include <stddef.h>
#include <stdint.h>

#include "edgefl.h"

/* The natural logarithm of a positive normal double, the same bits everywhere: x = m * 2^k with m in
 * sqrt(1/2)..sqrt(2), then twice the series of atanh((m - 1) / (m + 1)); |s| < 0.172, so 11 terms leave less
 * than 2^-60. */
double efl_log(double x);
/* -ln p, p in 0..1; below 2^-25, where the tables end, as if it were 2^-25. */
double efl_surprise(float p);

/* The sigmoid of l = q - zero in units of the head's scale, and 1 minus it, each one float32 division. */
static inline void efl_sigmoid(float *p, float *rest, const uint32_t *table, int32_t l)
{
    const uint32_t q = table[l < 0 ? -l : l]; /* at most 2^24 */
    const float sum = (float)(16777216u + q), big = 16777216.0f / sum, small = (float)q / sum;
    *p = l < 0 ? small : big;
    *rest = l < 0 ? big : small;
}

#endif
