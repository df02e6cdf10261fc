/* SPDX-License-Identifier: Apache-2.0
 * Scaled errors in plain C; see scale.h.
 */
#include "nn/scale.h"

#include "nn/round.h"

void efl_scale_cols_ref(int8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, float p)
{
    for (size_t i = 0; i < n; i++, e += c, dst += c)
        for (size_t j = 0; j < c; j++) {
            float v = (float)e[j] * s[j];
            v = v * p;
            v = v < -127.0f ? -127.0f : v;
            v = v > 127.0f ? 127.0f : v;
            dst[j] = (int8_t)(int32_t)efl_rne(v);
        }
}
