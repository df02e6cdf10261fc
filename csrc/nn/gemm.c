/* SPDX-License-Identifier: Apache-2.0
 * The matrix kernels in plain C; see gemm.h.
 */
#include "nn/gemm.h"

#include <string.h>

void efl_gemm_dot_ref(int32_t *acc, const int16_t *const *rows, const int32_t *offs, const int16_t *panel,
                      int32_t n_runs, int32_t pairs)
{
    memset(acc, 0, sizeof(int32_t) * EFL_MR * EFL_NR);
    for (int32_t r = 0; r < n_runs; r++)
        for (int32_t p = 0; p < pairs; p++, panel += 2 * EFL_NR)
            for (int i = 0; i < EFL_MR; i++) {
                const int16_t *a = rows[i] + offs[r] + 2 * p;
                for (int j = 0; j < EFL_NR; j++)
                    acc[i * EFL_NR + j] += a[0] * panel[2 * j] + a[1] * panel[2 * j + 1];
            }
}

void efl_gemm_outer_ref(int32_t *acc, const int16_t *e, const int16_t *x, const efl_outer_walk *walk)
{
    memset(acc, 0, sizeof(int32_t) * EFL_MR * EFL_NR);
    for (int32_t row = 0; row < walk->rows; row++)
        for (int32_t p = 0; p < walk->pairs; p++) {
            const int16_t *ep = e + row * walk->e_row + p * walk->e_pair;
            const int16_t *x0 = x + row * walk->x_row + 2 * p * walk->x_pixel;
            const int16_t *x1 = x0 + walk->x_pixel;
            for (int i = 0; i < EFL_MR; i++)
                for (int j = 0; j < EFL_NR; j++)
                    acc[i * EFL_NR + j] += ep[2 * i] * x0[j] + ep[2 * i + 1] * x1[j];
        }
}
