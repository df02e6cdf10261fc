/* SPDX-License-Identifier: Apache-2.0
 *
 * Forward pass of SVDF: each frame gives every filter one number, its memory keeps the last ones, and a unit
 * is the weighted sum of the memories of its filters. Bit for bit what TFLite's integer kernel computes. The
 * samples of a call, and of the calls after it, are consecutive frames. Formulas: docs/training.md, "SVDF".
 */
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/fixed.h"
#include "nn/scratch.h"

typedef struct {
    int8_t *features; /* [ci][columns] transposed */
    int32_t *sums;    /* [columns] */
    int32_t *offset;  /* [filters] zero point times the row sums */
    size_t columns;   /* filters rounded up to 16 */
} layout;

static size_t take(layout *l, const efl_dims *d, const efl_svdf *m, void *scratch)
{
    efl_scratch s = {scratch, 0};
    l->columns = ((size_t)m->filters + 15) / 16 * 16;
    l->features = efl_scratch_take(&s, (size_t)d->ci * l->columns);
    l->sums = efl_scratch_take(&s, l->columns * sizeof(int32_t));
    l->offset = efl_scratch_take(&s, (size_t)m->filters * sizeof(int32_t));
    return s.used;
}

size_t efl_svdf_i8_fwd_scratch_bytes(const efl_dims *d, const efl_svdf *m)
{
    layout l;
    return take(&l, d, m, NULL);
}

void efl_svdf_i8_fwd(int8_t *y, int16_t *memory, const int8_t *x, const efl_dims *d, const efl_svdf *m,
                     int32_t x_zero, int32_t y_zero, void *scratch)
{
    layout l;
    take(&l, d, m, scratch);
    const size_t k = (size_t)d->ci, filters = (size_t)m->filters, deep = (size_t)m->memory;
    memset(l.features, 0, k * l.columns);
    for (size_t f = 0; f < filters; f++) {
        l.offset[f] = 0;
        for (size_t i = 0; i < k; i++) {
            l.features[i * l.columns + f] = m->feature[f * k + i];
            l.offset[f] += x_zero * m->feature[f * k + i];
        }
    }
    for (int32_t s = 0; s < d->n; s++, x += k, y += d->co) {
        memmove(memory, memory + 1, (filters * deep - 1) * sizeof(int16_t));
        efl_kernels()->dot_cols(l.sums, l.features, x, k, l.columns);
        for (int32_t u = 0; u < d->co; u++) {
            uint32_t sum = (uint32_t)m->bias[u];
            for (int32_t r = 0; r < m->rank; r++) {
                const size_t f = (size_t)u * (size_t)m->rank + (size_t)r;
                int16_t *past = memory + f * deep;
                const int32_t v = efl_fixed_times(l.sums[f] - l.offset[f], m->in);
                past[deep - 1] = (int16_t)(v < m->memory_lo   ? m->memory_lo
                                           : v > m->memory_hi ? m->memory_hi
                                                              : v);
                for (size_t i = 0; i < deep; i++) sum += (uint32_t)(past[i] * m->time[f * deep + i]);
            }
            const int64_t v = (int64_t)efl_fixed_times((int32_t)sum, m->out) + y_zero;
            y[u] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
        }
    }
}
