/* SPDX-License-Identifier: Apache-2.0
 * Sums to errors, sample by sample; see narrow.h.
 */
#include "nn/narrow.h"

#include <string.h>

#include "core/kernels.h"
#include "nn/round.h"
#include "nn/scratch.h"

static size_t take(efl_narrow *w, size_t size, int32_t n, void *scratch)
{
    efl_scratch s = {scratch, 0};
    w->size = size;
    w->n = n;
    w->done = 0;
    w->top = 0;
    w->sums = efl_scratch_take(&s, size * sizeof(int32_t));
    w->low = efl_scratch_take(&s, n > 1 ? (size_t)n * size : 0);
    w->shifts = efl_scratch_take(&s, n > 1 ? (size_t)n * sizeof(int32_t) : 0);
    return s.used;
}

size_t efl_narrow_bytes(size_t size, int32_t n)
{
    efl_narrow w;
    return take(&w, size, n, NULL);
}

void efl_narrow_begin(efl_narrow *w, size_t size, int32_t n, void *scratch)
{
    take(w, size, n, scratch);
}

/* Of sums up to top: how far they have to go to fit int8. */
static int32_t shift_of(uint32_t top)
{
    const int32_t own = efl_ceil_log2_u32(top) - 7;
    return top && own > 0 ? own : 0;
}

void efl_narrow_put(efl_narrow *w, int8_t *e, uint32_t top)
{
    w->top = top > w->top ? top : w->top;
    if (w->n == 1) return;
    const size_t at = (size_t)w->done * w->size;
    const int32_t own = shift_of(top);
    w->shifts[w->done++] = own > 2 ? own - 2 : 0; /* sums fit 9 bits and a sign then */
    efl_kernels()->split_i32(e + at, w->low + at, w->sums, w->size, w->shifts[w->done - 1]);
}

void efl_narrow_end(efl_narrow *w, efl_error *out, int32_t k)
{
    const efl_kernel_table *kernels = efl_kernels();
    if (w->top == 0) {
        memset(out->e, 0, (size_t)w->n * w->size);
        out->k = 0;
        out->live = 0;
        return;
    }
    const int32_t shift = shift_of(w->top);
    if (w->n == 1)
        kernels->shift_i32(out->e, w->sums, w->size, shift);
    else
        for (int32_t i = 0; i < w->n; i++)
            kernels->join_shift(out->e + (size_t)i * w->size, w->low + (size_t)i * w->size, w->size,
                                shift - w->shifts[i]);
    out->k = k + shift;
    out->live = 1;
}
