/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax and softmax cross-entropy without libm: the logits are int8, so exp takes 256 values a model,
 * computed once in float64 by a series (13 terms, |r| < ln 2: the rest is below 2^-52).
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

efl_status efl_softmax_ce_i8(efl_error *out, float *p_label, int32_t *hits, const int8_t *logits,
                             const int32_t *labels, const float *weights, const uint32_t *table, int32_t n,
                             int32_t c, float *scratch)
{
    for (int32_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= c) return EFL_E_RANGE;
    *hits = 0;
    for (int32_t i = 0; i < n; i++) {
        const int8_t *l = logits + (size_t)i * (size_t)c;
        float *error = scratch + (size_t)i * (size_t)c;
        const int32_t best = first_max(l, c), label = labels[i];
        int64_t sum = 0; /* c * 2^24 */
        for (int32_t j = 0; j < c; j++) sum += table[l[best] - l[j]];
        for (int32_t j = 0; j < c; j++) {
            const float p = (float)table[l[best] - l[j]] / (float)sum;
            error[j] = p - (j == label ? 1.0f : 0.0f);
            if (weights) error[j] = error[j] * weights[label];
            if (j == label) p_label[i] = p;
        }
        *hits += best == label;
    }
    efl_error_from_f32(out, scratch, (size_t)n * (size_t)c);
    return EFL_OK;
}
