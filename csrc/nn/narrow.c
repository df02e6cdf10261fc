/* SPDX-License-Identifier: Apache-2.0
 * Sums to errors, sample by sample; see narrow.h.
 */
#include "nn/narrow.h"

#include <string.h>

#include "core/kernels.h"
#include "core/threads.h"
#include "nn/round.h"
#include "nn/scratch.h"

static size_t take(efl_narrow *w, size_t size, int32_t n, int32_t workers, void *scratch)
{
    efl_scratch s = {scratch, 0};
    w->size = size;
    w->stride = (size + 15) / 16 * 16;
    w->n = n;
    w->sums = efl_scratch_take(&s, (size_t)workers * w->stride * sizeof(int32_t));
    w->low = efl_scratch_take(&s, n > 1 ? (size_t)n * size : 0);
    w->shifts = efl_scratch_take(&s, (size_t)n * sizeof(int32_t));
    w->tops = efl_scratch_take(&s, (size_t)n * sizeof(uint32_t));
    return s.used;
}

size_t efl_narrow_bytes(size_t size, int32_t n, int32_t workers)
{
    efl_narrow w;
    return take(&w, size, n, workers, NULL);
}

void efl_narrow_begin(efl_narrow *w, size_t size, int32_t n, int32_t workers, void *scratch)
{
    take(w, size, n, workers, scratch);
    memset(w->tops, 0, (size_t)n * sizeof(uint32_t));
}

int32_t *efl_narrow_sums(const efl_narrow *w, int32_t worker)
{
    return w->sums + (size_t)worker * w->stride;
}

/* Of sums up to top: how far they have to go to fit int8. */
static int32_t shift_of(uint32_t top)
{
    const int32_t own = efl_ceil_log2_u32(top) - 7;
    return top && own > 0 ? own : 0;
}

void efl_narrow_put(const efl_narrow *w, int8_t *e, int32_t i, uint32_t top, int32_t worker)
{
    w->tops[i] = top;
    if (w->n == 1) return;
    const size_t at = (size_t)i * w->size;
    const int32_t own = shift_of(top);
    w->shifts[i] = own > 2 ? own - 2 : 0; /* sums fit 9 bits and a sign then */
    efl_kernels()->split_i32(e + at, w->low + at, efl_narrow_sums(w, worker), w->size, w->shifts[i]);
}

typedef struct {
    const efl_narrow *w;
    int8_t *e;
    int32_t shift;
} finish;

static void finish_sample(void *context, int32_t i, int32_t worker)
{
    (void)worker;
    const finish *f = context;
    const efl_narrow *w = f->w;
    const size_t at = (size_t)i * w->size;
    if (w->n == 1)
        efl_kernels()->shift_i32(f->e, w->sums, w->size, f->shift);
    else
        efl_kernels()->join_shift(f->e + at, w->low + at, w->size, f->shift - w->shifts[i]);
}

void efl_narrow_end(const efl_narrow *w, efl_error *out, int32_t k, int32_t workers)
{
    uint32_t top = 0;
    for (int32_t i = 0; i < w->n; i++) top = w->tops[i] > top ? w->tops[i] : top;
    if (top == 0) {
        memset(out->e, 0, (size_t)w->n * w->size);
        out->k = 0;
        out->live = 0;
        return;
    }
    finish f = {w, out->e, shift_of(top)};
    efl_parallel(w->n, workers, finish_sample, &f);
    out->k = k + f.shift;
    out->live = 1;
}
