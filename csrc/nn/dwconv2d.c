/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, forward, vectorised over channels. For some output rows at a time, the input rows of
 * four taps above each other are woven into one image, [co][4] a pixel, so that one dot product of four
 * serves a column of the kernel. A depth multiplier is resolved while weaving: each input channel is
 * repeated.
 *
 * A single input channel makes it an ordinary convolution, whose kernels multiply whole rows of taps.
 * Maps of 1, 2, 4 or 8 channels without stride are seen as fewer pixels of 16 channels: the weights repeat.
 */
#include "core/kernels.h"
#include "nn/conv.h"
#include "nn/conv2d.h"
#include "nn/fixed.h"
#include "nn/packed.h"

#define IMAGE_BYTES 8192
#define BLOCK_PIXELS 256

typedef struct {
    int32_t w;       /* of the image */
    int32_t fours;   /* kernel rows / 4 rounded up */
    int32_t taps;    /* fours * kw, twice that if the weights have a zero point to take off (packed.h) */
    int32_t columns; /* co rounded up */
    int32_t flat;    /* a row is one run of numbers, 16 at a time */
} geometry;

static geometry geometry_of(const efl_dims *d)
{
    geometry g;
    g.w = efl_image_w(d);
    g.fours = (d->kh + 3) / 4;
    g.taps = g.fours * d->kw * (d->w_zero ? 2 : 1);
    g.columns = (d->co + EFL_NR - 1) / EFL_NR * EFL_NR;
    g.flat = d->sw == 1 && d->co < EFL_NR && EFL_NR % d->co == 0;
    return g;
}

static int is_conv(const efl_dims *d)
{
    return d->ci == 1 && d->mult > 1;
}

static efl_dims as_conv(const efl_dims *d)
{
    efl_dims c = *d;
    c.mult = 1;
    return c;
}

static size_t take_packed(efl_packed *p, const geometry *g, const void *packed)
{
    return efl_packed_take(p, packed, (size_t)g->columns, (size_t)g->taps);
}

size_t efl_dwconv2d_i8_packed_bytes(const efl_dims *d)
{
    if (is_conv(d)) {
        const efl_dims c = as_conv(d);
        return efl_conv2d_i8_packed_bytes(&c);
    }
    const geometry g = geometry_of(d);
    efl_packed p;
    return take_packed(&p, &g, NULL);
}

/* Channel of a column; -1 for none. */
static int32_t channel(const geometry *g, const efl_dims *d, int32_t column)
{
    return column < d->co ? column : g->flat ? column % d->co : -1;
}

void efl_dwconv2d_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq)
{
    if (is_conv(d)) {
        const efl_dims c = as_conv(d);
        efl_conv2d_i8_fold(packed, b, &c, rq);
        return;
    }
    const geometry g = geometry_of(d);
    efl_packed p;
    take_packed(&p, &g, packed);
    for (int32_t j = 0; j < g.columns; j++) {
        const int32_t c = channel(&g, d, j);
        const uint32_t folded = (uint32_t)(c < 0 ? 0 : b[c]) - (uint32_t)rq->x_zero * (uint32_t)p.sums[j];
        p.bias[j] = (int32_t)folded;
        p.mult[j] = rq->mult[c < 0 || rq->n_mult == 1 ? 0 : c];
    }
}

void efl_dwconv2d_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                          const efl_requant_params *rq)
{
    if (is_conv(d)) {
        const efl_dims c = as_conv(d);
        efl_conv2d_i8_pack_columns(packed, w, b, &c, rq);
        return;
    }
    const geometry g = geometry_of(d);
    efl_packed p;
    take_packed(&p, &g, packed);
    const size_t panel = (size_t)g.taps * EFL_NR * 4;
    memset(p.w, 0, (size_t)(g.columns / EFL_NR) * panel);
    for (int32_t j = 0; j < g.columns; j++) {
        const int32_t c = channel(&g, d, j);
        p.sums[j] = 0;
        if (c < 0) continue;
        int8_t *to = p.w + (size_t)(j / EFL_NR) * panel + j % EFL_NR * 4;
        for (int32_t ky = 0; ky < d->kh; ky++)
            for (int32_t kx = 0; kx < d->kw; kx++) {
                const int8_t q = w[(size_t)(ky * d->kw + kx) * (size_t)d->co + (size_t)c];
                const int32_t at = (ky / 4 * d->kw + kx) * EFL_NR * 4 + ky % 4;
                to[at] = q;
                if (d->w_zero) to[at + g.fours * d->kw * EFL_NR * 4] = (int8_t)-d->w_zero;
                p.sums[j] += q - d->w_zero;
            }
    }
    *p.extreme = efl_packed_extreme(w, (size_t)(d->kh * d->kw) * (size_t)d->co);
    efl_dwconv2d_i8_fold(packed, b, d, rq);
}

/* ---------------------------------------------------------------- blocks of rows */

typedef struct {
    int32_t *offs;    /* [taps] */
    int32_t *pixels;  /* [rows * wo] of a block */
    int8_t *margin;   /* [wi * co] a row of zero points */
    int8_t *repeated; /* [4][wi * co] rows with repeated channels, if there is a multiplier */
    void *image;      /* [rows][fours][w][co][4] */
} area;

static int32_t row_elements(const geometry *g, const efl_dims *d)
{
    return g->fours * g->w * d->co * 4;
}

static int32_t block_rows(const geometry *g, const efl_dims *d, int32_t x_bytes)
{
    if (g->flat) return 1;
    int32_t rows = IMAGE_BYTES / x_bytes / row_elements(g, d);
    rows = rows < BLOCK_PIXELS / d->wo ? rows : BLOCK_PIXELS / d->wo;
    rows = rows < d->ho ? rows : d->ho;
    return rows > 1 ? rows : 1;
}

static size_t take(area *a, const geometry *g, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const size_t row = (size_t)d->wi * (size_t)d->co, elements = (size_t)row_elements(g, d);
    const size_t narrow = (size_t)block_rows(g, d, 1) * elements + EFL_FWD_SLACK;
    const size_t wide = 2 * ((size_t)block_rows(g, d, 2) * elements + EFL_FWD_SLACK);
    a->offs = efl_scratch_take(&s, (size_t)g->taps * sizeof(int32_t));
    a->pixels = efl_scratch_take(&s, (size_t)block_rows(g, d, 1) * (size_t)d->wo * sizeof(int32_t));
    a->margin = efl_scratch_take(&s, row);
    a->repeated = efl_scratch_take(&s, d->mult > 1 ? 4 * row : 0);
    a->image = efl_scratch_take(&s, narrow > wide ? narrow : wide);
    return s.used;
}

size_t efl_dwconv2d_i8_fwd_scratch_bytes(const efl_dims *d)
{
    if (is_conv(d)) {
        const efl_dims c = as_conv(d);
        return efl_conv2d_i8_fwd_scratch_bytes(&c);
    }
    const geometry g = geometry_of(d);
    area a;
    return take(&a, &g, d, NULL);
}

static void walk(const area *a, const geometry *g, const efl_dims *d, int32_t rows)
{
    for (int32_t i = 0; i < g->taps; i++) {
        const int32_t t = i % (g->fours * d->kw);
        a->offs[i] = (t / d->kw * g->w + t % d->kw * d->dw) * d->co * 4;
    }
    int32_t *at = a->pixels;
    if (g->flat)
        for (int32_t i = 0; i * EFL_NR < d->wo * d->co; i++) *at++ = i * EFL_NR * 4;
    else
        for (int32_t i = 0; i < rows; i++)
            for (int32_t ox = 0; ox < d->wo; ox++) *at++ = i * row_elements(g, d) + ox * d->sw * d->co * 4;
}

/* One row of the image: the input rows of output row oy of sample x. */
static void weave(const area *a, const geometry *g, uint8_t *to, const int8_t *x, const efl_dims *d,
                  int32_t oy)
{
    const efl_fwd_kernels *k = &efl_kernels()->fwd;
    const size_t row = (size_t)d->wi * (size_t)d->co, mult = (size_t)d->mult;
    to += (size_t)(d->pl * d->co * 4) * (size_t)k->x_bytes;
    for (int32_t four = 0; four < g->fours; four++) {
        const int8_t *rows[4];
        for (int32_t t = 0; t < 4; t++) {
            const int32_t ky = four * 4 + t, iy = oy * d->sh - d->pt + ky * d->dh;
            rows[t] = a->margin;
            if (ky >= d->kh || iy < 0 || iy >= d->hi) continue;
            rows[t] = x + (size_t)iy * (size_t)d->wi * (size_t)d->ci;
            if (mult == 1) continue;
            int8_t *copy = a->repeated + (size_t)t * row;
            for (size_t i = 0; i < row; i++) copy[i] = rows[t][i / mult];
            rows[t] = copy;
        }
        k->weave(to, rows, row);
        to += (size_t)(g->w * d->co * 4) * (size_t)k->x_bytes;
    }
}

void efl_dwconv2d_i8_fwd_rows(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                              const efl_requant_params *rq, int32_t first, int32_t last, void *scratch)
{
    if (is_conv(d)) {
        const efl_dims c = as_conv(d);
        efl_conv2d_i8_fwd_rows(y, x, packed, &c, rq, first, last, scratch);
        return;
    }
    const efl_fwd_kernels *k = &efl_kernels()->fwd;
    const geometry g = geometry_of(d);
    efl_packed p;
    area a;
    take_packed(&p, &g, packed);
    take(&a, &g, d, scratch);
    const int32_t block = block_rows(&g, d, k->x_bytes), elements = row_elements(&g, d);
    walk(&a, &g, d, block);
    memset(a.margin, rq->x_zero, (size_t)d->wi * (size_t)d->co);
    efl_fwd_fill(k, a.image, (size_t)block * (size_t)elements, rq->x_zero);
    const size_t in = (size_t)d->hi * (size_t)d->wi * (size_t)d->ci, out = (size_t)d->wo * (size_t)d->co;
    for (int32_t at = first; at < last;) {
        const int32_t sample = at / d->ho, oy = at % d->ho;
        int32_t rows = d->ho - oy < block ? d->ho - oy : block;
        rows = last - at < rows ? last - at : rows;
        for (int32_t i = 0; i < rows; i++)
            weave(&a, &g, (uint8_t *)a.image + (size_t)(i * elements) * (size_t)k->x_bytes,
                  x + (size_t)sample * in, d, oy + i);
        efl_fwd_job job = {.y = y + (size_t)at * out,
                           .ldy = (size_t)d->co,
                           .x = a.image,
                           .pixels = a.pixels,
                           .offs = a.offs,
                           .w = p.w,
                           .sums = p.sums,
                           .bias = p.bias,
                           .mult = p.mult,
                           .n_pixels = rows * d->wo,
                           .n_runs = g.taps,
                           .groups = 1,
                           .cols = d->co,
                           .extreme = *p.extreme,
                           .lo = rq->lo,
                           .hi = rq->hi,
                           .zero = rq->y_zero,
                           .requant = rq->fixed ? efl_fwd_requant_fixed : NULL,
                           .fixed = rq->fixed,
                           .n_fixed = rq->n_mult};
        if (g.flat) {
            job.ldy = EFL_NR;
            job.cols = EFL_NR;
            job.n_pixels = (int32_t)out / EFL_NR;
            if (job.n_pixels) k->depth(&job);
            job.pixels += job.n_pixels;
            job.y += (size_t)job.n_pixels * EFL_NR;
            job.cols = (int32_t)out % EFL_NR;
            job.n_pixels = 1;
            if (job.cols) k->depth(&job);
        } else {
            k->depth(&job);
        }
        at += rows;
    }
}

void efl_dwconv2d_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                         const efl_requant_params *rq, void *scratch)
{
    efl_dwconv2d_i8_fwd_rows(y, x, packed, d, rq, 0, d->n * d->ho, scratch);
}
