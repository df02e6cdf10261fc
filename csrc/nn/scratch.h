/* SPDX-License-Identifier: Apache-2.0
 *
 * Carving a scratch area. One layout function serves a kernel and its *_scratch_bytes() twin: with base =
 * null it only counts.
 */
#ifndef EFL_NN_SCRATCH_H
#define EFL_NN_SCRATCH_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *base;
    size_t used;
} efl_scratch;

static inline size_t efl_scratch_round(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* The next `bytes`, on a multiple of 64 from the base; null while counting. */
static inline void *efl_scratch_take(efl_scratch *s, size_t bytes)
{
    void *p = s->base ? s->base + s->used : NULL;
    s->used += efl_scratch_round(bytes);
    return p;
}

#endif
