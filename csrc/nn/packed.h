/* SPDX-License-Identifier: Apache-2.0
 *
 * Where things lie in a packed image of weights (edgefl.h, "packed"): panels, the sums of each column, the
 * folded bias, the multipliers. Columns are rounded up to EFL_NR in every group of channels.
 */
#ifndef EFL_NN_PACKED_H
#define EFL_NN_PACKED_H
#include "nn/fwd.h"
#include "nn/scratch.h"

typedef struct {
    int8_t *w;
    int32_t *sums, *bias;
    float *mult;
    int32_t *extreme; /* [1] whether any weight is -128 */
} efl_packed;

/* `columns` is a multiple of EFL_NR; steps are groups of 4 weights a column. */
static inline size_t efl_packed_take(efl_packed *p, const void *packed, size_t columns, size_t steps)
{
    efl_scratch s = {(uint8_t *)(uintptr_t)packed, 0};
    p->w = efl_scratch_take(&s, columns * steps * 4);
    p->sums = efl_scratch_take(&s, columns * sizeof(int32_t));
    p->bias = efl_scratch_take(&s, columns * sizeof(int32_t));
    p->mult = efl_scratch_take(&s, columns * sizeof(float));
    p->extreme = efl_scratch_take(&s, sizeof(int32_t));
    return s.used;
}

/* Runs that take z off every weight of cols columns: sum x (q - z) = sum x q + sum x (-z), z > -128. */
static inline void efl_packed_zero(int8_t *panel, int32_t *sums, int32_t n_runs, int32_t run, int32_t cols,
                                   int32_t z)
{
    const int32_t groups = (run + 3) / 4;
    for (int32_t r = 0; r < n_runs; r++)
        for (int32_t g = 0; g < groups; g++)
            for (int32_t j = 0; j < EFL_NR; j++, panel += 4)
                for (int32_t t = 0; t < 4; t++) panel[t] = (int8_t)(j < cols && 4 * g + t < run ? -z : 0);
    for (int32_t j = 0; j < cols; j++) sums[j] -= n_runs * run * z;
}

static inline int32_t efl_packed_extreme(const int8_t *w, size_t n)
{
    int8_t least = 0;
    for (size_t i = 0; i < n; i++) least = w[i] < least ? w[i] : least;
    return least == -128;
}

/* bias and mult of `cols` columns from `at` on, the channels from c on; the rest of the panel is inert. */
static inline void efl_packed_fold(const efl_packed *p, size_t at, int32_t c, int32_t cols, const int32_t *b,
                                   const efl_requant_params *rq)
{
    for (int32_t j = 0; j < EFL_NR; j++) {
        const size_t i = at + (size_t)j;
        const uint32_t folded =
            (uint32_t)(j < cols ? b[c + j] : 0) - (uint32_t)rq->x_zero * (uint32_t)p->sums[i];
        p->bias[i] = (int32_t)folded;
        p->mult[i] = rq->mult[rq->n_mult == 1 || j >= cols ? 0 : c + j];
    }
}

#endif
