/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax without libm: the logits are int8, so exp takes 256 values a model, computed once in float64 by a
 * series (13 terms, |r| < ln 2: the rest is below 2^-52). The losses use the same table.
 */
#include <string.h>

#include "edgefl.h"
#include "nn/round.h"

static double two_to(int32_t p)
{
    const uint64_t bits = (uint64_t)(p + 1023) << 52;
    double two;
    memcpy(&two, &bits, 8);
    return two;
}

void efl_softmax_tables(double *powers, uint32_t *table, float scale, float beta)
{
    for (int d = 0; d < 256; d++) {
        double t = (double)d * (double)scale;
        t = t * (double)beta;
        if (t > 700.0) { /* below 2^-1009 */
            if (powers) powers[d] = 0.0;
            if (table) table[d] = 0;
            continue;
        }
        const int32_t n = (int32_t)(t * 1.4426950408889634);
        const double r = t - n * 0.6931471805599453;
        double p = 1.0;
        for (int i = 13; i >= 1; i--) p = 1.0 - r * p / i;
        if (powers) powers[d] = p * two_to(-n);
        if (table) table[d] = n > 24 ? 0 : (uint32_t)efl_rne_double(p * two_to(24 - n));
    }
}

static int32_t first_max(const int8_t *x, int32_t c)
{
    int32_t best = 0;
    for (int32_t j = 1; j < c; j++) best = x[j] > x[best] ? j : best;
    return best;
}

void efl_softmax_i8_fwd(int8_t *y, const int8_t *x, int32_t n, int32_t c, const double *powers)
{
    for (int32_t i = 0; i < n; i++, x += c, y += c) {
        const int32_t top = x[first_max(x, c)];
        double sum = 0.0;
        for (int32_t j = 0; j < c; j++) sum += powers[top - x[j]];
        for (int32_t j = 0; j < c; j++) {
            const double p = efl_rne_double(256.0 * (powers[top - x[j]] / sum)) - 128.0;
            y[j] = (int8_t)(p > 127.0 ? 127.0 : p);
        }
    }
}
