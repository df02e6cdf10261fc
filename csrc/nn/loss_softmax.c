/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses on the softmax of a row of logits: cross-entropy with class labels, and KL divergence to given
 * probabilities (distillation, temperature 1). Both have the error p - target.
 */
#include "nn/loss.h"

static int32_t first_max(const int8_t *x, int32_t c)
{
    int32_t best = 0;
    for (int32_t j = 1; j < c; j++) best = x[j] > x[best] ? j : best;
    return best;
}

/* p [c] <- softmax of the logits; returns the first maximum. */
static int32_t probabilities(float *p, const int8_t *y, const uint32_t *table, int32_t c)
{
    const int32_t best = first_max(y, c);
    int64_t sum = 0; /* c * 2^24 */
    for (int32_t j = 0; j < c; j++) sum += table[y[best] - y[j]];
    for (int32_t j = 0; j < c; j++) p[j] = (float)table[y[best] - y[j]] / (float)sum;
    return best;
}

efl_status efl_softmax_ce_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                             const efl_loss *loss, int32_t head, const efl_target *target, int32_t n)
{
    const int32_t c = t->size;
    if (!target->labels) return EFL_E_NULL;
    for (int32_t i = 0; i < n; i++)
        if (target->labels[i] < 0 || target->labels[i] >= c) return EFL_E_RANGE;
    for (int32_t i = 0; i < n; i++, y += c, error += c) {
        const int32_t label = target->labels[i];
        seen->hits += probabilities(error, y, loss->heads[head].table, c) == label;
        seen->loss += efl_surprise(error[label]);
        error[label] = error[label] - 1.0f;
        if (loss->weights)
            for (int32_t j = 0; j < c; j++) error[j] = error[j] * loss->weights[label];
    }
    seen->terms += n;
    return EFL_OK;
}

static int in_unit(const float *x, size_t n)
{
    int good = 1;
    for (size_t i = 0; i < n; i++) good &= x[i] >= 0.0f && x[i] <= 1.0f;
    return good;
}

efl_status efl_kl_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                     const efl_loss *loss, int32_t head, const efl_target *target, int32_t n)
{
    const int32_t c = t->size;
    const float *want = target->values;
    if (!want) return EFL_E_NULL;
    if (!in_unit(want, (size_t)n * (size_t)c)) return EFL_E_RANGE;
    for (int32_t i = 0; i < n; i++, y += c, error += c, want += c) {
        const int32_t best = probabilities(error, y, loss->heads[head].table, c);
        int32_t top = 0;
        for (int32_t j = 0; j < c; j++) {
            top = want[j] > want[top] ? j : top;
            seen->loss += (double)want[j] * (efl_surprise(error[j]) - efl_surprise(want[j]));
            error[j] = error[j] - want[j];
        }
        seen->hits += best == top;
    }
    seen->terms += n;
    return EFL_OK;
}
