/* SPDX-License-Identifier: Apache-2.0
 * Requantisation in plain C; see requant.h.
 */
#include "nn/requant.h"

#include <string.h>

#include "nn/gemm.h"
#include "nn/round.h"

void efl_requant_ref(int8_t *y, size_t ldy, const int32_t *acc, int32_t rows, int32_t cols,
                     const int32_t *bias, const float *mult, int32_t lo, int32_t hi, int32_t zero)
{
    const float flo = (float)(lo - zero), fhi = (float)(hi - zero);
    for (int32_t i = 0; i < rows; i++, acc += EFL_NR, y += ldy) {
        int8_t line[EFL_NR];
        for (int j = 0; j < EFL_NR; j++) {
            /* unsigned: a bias from a file may overflow, as it does in the interpreters */
            const int32_t sum = (int32_t)((uint32_t)acc[j] + (uint32_t)bias[j]);
            float v = (float)sum * mult[j];
            v = v < flo ? flo : v;
            v = v > fhi ? fhi : v;
            line[j] = (int8_t)((int32_t)efl_rne(v) + zero);
        }
        memcpy(y, line, (size_t)cols);
    }
}

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
