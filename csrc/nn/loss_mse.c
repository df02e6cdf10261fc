/* SPDX-License-Identifier: Apache-2.0
 *
 * Mean squared error in real units, for regression and autoencoders: the error of an output is
 * 2 * (y - target) / outputs. The target is float32, or int8 with its own scale and zero point.
 */
#include "nn/loss.h"

#define TARGET_MAX 1e9f /* larger ones could leave float32's range on the way to a weight */

efl_status efl_mse_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                      const efl_loss *loss, int32_t head, const efl_target *target, int32_t n)
{
    (void)loss, (void)head;
    const int32_t outputs = t->size;
    const size_t all = (size_t)n * (size_t)outputs;
    if (!target->values && !target->stored) return EFL_E_NULL;
    int good = !target->stored || (target->scale > 0.0f && target->scale <= TARGET_MAX);
    for (size_t i = 0; target->values && i < all; i++)
        good &= target->values[i] >= -TARGET_MAX && target->values[i] <= TARGET_MAX;
    if (!good || !(t->scale <= TARGET_MAX)) return EFL_E_RANGE;
    for (int32_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * (size_t)outputs;
        double sum = 0.0;
        for (size_t j = at; j < at + (size_t)outputs; j++) {
            const float want = target->values ? target->values[j]
                                              : (float)(target->stored[j] - target->zero) * target->scale;
            const float value = (float)(y[j] - t->zero) * t->scale, off = value - want;
            sum += (double)off * (double)off;
            error[j] = 2.0f * off / (float)outputs;
        }
        seen->loss += sum / outputs;
    }
    return EFL_OK;
}
