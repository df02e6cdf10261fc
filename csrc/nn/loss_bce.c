/* SPDX-License-Identifier: Apache-2.0
 *
 * Binary cross-entropy of each output on its own (several labels a sample): the error of an output is
 * (p - target) * its weight / outputs, p the sigmoid of the logit.
 */
#include "nn/loss.h"

efl_status efl_bce_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                      const efl_loss *loss, int32_t head, const efl_target *target, int32_t n)
{
    const int32_t outputs = t->size, c = loss->heads[head].c;
    const float *want = target->values;
    if (!want) return EFL_E_NULL;
    int good = 1;
    for (size_t i = 0; i < (size_t)n * (size_t)outputs; i++) good &= want[i] >= 0.0f && want[i] <= 1.0f;
    if (!good) return EFL_E_RANGE;
    for (int32_t i = 0; i < n; i++, y += outputs, error += outputs, want += outputs) {
        double sum = 0.0;
        for (int32_t j = 0; j < outputs; j++) {
            const int32_t l = y[j] - t->zero;
            float p, rest;
            efl_sigmoid(&p, &rest, loss->heads[head].table, l);
            sum += (double)want[j] * efl_surprise(p) + (1.0 - (double)want[j]) * efl_surprise(rest);
            seen->hits += (l > 0) == (want[j] > 0.5f);
            float e = p - want[j];
            if (loss->weights) e = e * loss->weights[j % c];
            error[j] = e / (float)outputs;
        }
        seen->loss += sum / outputs;
    }
    seen->terms += (int64_t)n * outputs;
    return EFL_OK;
}
