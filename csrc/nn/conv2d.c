/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, forward. A block of output rows at a time: its input rows are copied into a small padded image
 * in the form that the kernels want (fwd.h), each pixel reads runs of it in place, and int8 comes out.
 */
#include "nn/conv2d.h"

#include "core/kernels.h"
#include "nn/conv.h"
#include "nn/fixed.h"
#include "nn/packed.h"

/* Bytes of the image and pixels of one block, unless a single row needs more: both stay in the first cache.
 */
#define IMAGE_BYTES 8192
#define BLOCK_PIXELS 256

typedef struct {
    int32_t n_runs, run, groups; /* groups of 4 elements in a run */
    int32_t parts;               /* 2: a second set of runs takes the weights' zero point off */
    int32_t columns;             /* of one group of channels, rounded up */
    int32_t w, step, reach;      /* image: width, rows from output row to output row, rows of one */
} geometry;

static geometry geometry_of(const efl_dims *d)
{
    geometry g;
    const int32_t cig = d->ci / d->groups;
    g.w = efl_image_w(d);
    g.step = d->kh == 1 ? 1 : d->sh; /* rows that no tap reads are left out */
    g.reach = (d->kh - 1) * d->dh + 1;
    const int joined = d->groups == 1 && d->dw == 1; /* pixels of a kernel row lie side by side */
    if (joined && d->dh == 1 && g.w == d->kw) {      /* so do its rows */
        g.n_runs = 1;
        g.run = d->kh * d->kw * cig;
    } else {
        g.n_runs = joined ? d->kh : d->kh * d->kw;
        g.run = joined ? d->kw * cig : cig;
    }
    g.groups = (g.run + 3) / 4;
    g.parts = d->w_zero ? 2 : 1;
    g.columns = (d->co / d->groups + EFL_NR - 1) / EFL_NR * EFL_NR;
    return g;
}

static size_t take_packed(efl_packed *p, const geometry *g, const efl_dims *d, const void *packed)
{
    return efl_packed_take(p, packed, (size_t)d->groups * (size_t)g->columns,
                           (size_t)g->parts * (size_t)g->n_runs * (size_t)g->groups);
}

size_t efl_conv2d_i8_packed_bytes(const efl_dims *d)
{
    const geometry g = geometry_of(d);
    efl_packed p;
    return take_packed(&p, &g, d, NULL);
}

void efl_conv2d_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq)
{
    const geometry g = geometry_of(d);
    efl_packed p;
    take_packed(&p, &g, d, packed);
    const int32_t cog = d->co / d->groups;
    for (int32_t group = 0; group < d->groups; group++)
        for (int32_t c = 0; c < cog; c += EFL_NR)
            efl_packed_fold(&p, (size_t)(group * g.columns + c), group * cog + c,
                            cog - c < EFL_NR ? cog - c : EFL_NR, b, rq);
}

/* As efl_fwd_pack_fn, for weights whose channels lie side by side: element t of channel j at w[t * co + j].
 */
static void pack_columns(int8_t *panel, int32_t *sums, const int8_t *w, size_t co, const geometry *g,
                         int32_t cols)
{
    memset(panel, 0, (size_t)g->n_runs * (size_t)g->groups * EFL_NR * 4);
    memset(sums, 0, EFL_NR * sizeof(int32_t));
    for (int32_t r = 0; r < g->n_runs; r++, panel += g->groups * EFL_NR * 4)
        for (int32_t t = 0; t < g->run; t++, w += co)
            for (int32_t j = 0; j < cols; j++) {
                panel[(t / 4 * EFL_NR + j) * 4 + t % 4] = w[j];
                sums[j] += w[j];
            }
}

static void pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                 const efl_requant_params *rq, int columns)
{
    const geometry g = geometry_of(d);
    efl_packed p;
    take_packed(&p, &g, d, packed);
    const int32_t cog = d->co / d->groups;
    const size_t k = (size_t)g.n_runs * (size_t)g.run;
    const size_t part = (size_t)g.n_runs * (size_t)g.groups * EFL_NR * 4, panel_n = (size_t)g.parts * part;
    for (int32_t group = 0; group < d->groups; group++)
        for (int32_t c = 0; c < cog; c += EFL_NR) {
            const size_t at = (size_t)(group * g.columns + c);
            const int32_t cols = cog - c < EFL_NR ? cog - c : EFL_NR;
            int8_t *panel = p.w + at / EFL_NR * panel_n;
            if (columns)
                pack_columns(panel, p.sums + at, w + c, (size_t)d->co, &g, cols);
            else
                efl_kernels()->fwd.pack(panel, p.sums + at, w + (size_t)(group * cog + c) * k, k, g.n_runs,
                                        g.run, cols);
            if (g.parts == 2) efl_packed_zero(panel + part, p.sums + at, g.n_runs, g.run, cols, d->w_zero);
        }
    *p.extreme = efl_packed_extreme(w, (size_t)d->co * k);
    efl_conv2d_i8_fold(packed, b, d, rq);
}

void efl_conv2d_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                        const efl_requant_params *rq)
{
    pack(packed, w, b, d, rq, 0);
}

void efl_conv2d_i8_pack_columns(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                                const efl_requant_params *rq)
{
    pack(packed, w, b, d, rq, 1);
}

/* ---------------------------------------------------------------- blocks of rows */

static int32_t image_rows(const geometry *g, int32_t rows)
{
    return (rows - 1) * g->step + g->reach;
}

/* Output rows of a block. */
static int32_t block_rows(const geometry *g, const efl_dims *d, int32_t x_bytes)
{
    const int32_t fit = IMAGE_BYTES / x_bytes / (g->w * d->ci); /* image rows */
    int32_t rows = fit < g->reach ? 1 : (fit - g->reach) / g->step + 1;
    const int32_t most = BLOCK_PIXELS / d->wo > 1 ? BLOCK_PIXELS / d->wo : 1;
    rows = rows < most ? rows : most;
    return rows < d->ho ? rows : d->ho;
}

typedef struct {
    int32_t *offs;   /* [n_runs] */
    int32_t *pixels; /* [rows * wo] of a block */
    void *image;
} area;

static size_t take(area *a, const geometry *g, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const size_t row = (size_t)g->w * (size_t)d->ci;
    const size_t narrow = (size_t)image_rows(g, block_rows(g, d, 1)) * row + EFL_FWD_SLACK;
    const size_t wide = 2 * ((size_t)image_rows(g, block_rows(g, d, 2)) * row + EFL_FWD_SLACK);
    a->offs = efl_scratch_take(&s, (size_t)g->parts * (size_t)g->n_runs * sizeof(int32_t));
    a->pixels = efl_scratch_take(&s, (size_t)block_rows(g, d, 1) * (size_t)d->wo * sizeof(int32_t));
    a->image = efl_scratch_take(&s, narrow > wide ? narrow : wide);
    return s.used;
}

size_t efl_conv2d_i8_fwd_scratch_bytes(const efl_dims *d)
{
    const geometry g = geometry_of(d);
    area a;
    return take(&a, &g, d, NULL);
}

static void walk(const area *a, const geometry *g, const efl_dims *d, int32_t rows)
{
    const int32_t per_row = g->n_runs > d->kh ? d->kw : 1;
    for (int32_t i = 0; i < g->parts * g->n_runs; i++) {
        const int32_t r = i % g->n_runs;
        a->offs[i] = (r / per_row * d->dh * g->w + r % per_row * d->dw) * d->ci;
    }
    int32_t *at = a->pixels;
    for (int32_t i = 0; i < rows; i++)
        for (int32_t ox = 0; ox < d->wo; ox++) *at++ = (i * g->step * g->w + ox * d->sw) * d->ci;
}

/* The rows of the image that output rows oy .. oy + rows - 1 of sample x read. Their margins are filled. */
static void load(const area *a, const geometry *g, const int8_t *x, const efl_dims *d, int32_t zero,
                 int32_t oy, int32_t rows)
{
    const efl_fwd_kernels *k = &efl_kernels()->fwd;
    const size_t row = (size_t)g->w * (size_t)d->ci, in = (size_t)d->wi * (size_t)d->ci;
    const size_t left = (size_t)d->pl * (size_t)d->ci, size = (size_t)k->x_bytes;
    const int32_t skip = d->kh == 1 ? d->sh : 1, total = image_rows(g, rows);
    uint8_t *to = a->image;
    for (int32_t i = 0; i < total; i++, to += row * size) {
        const int32_t iy = oy * d->sh - d->pt + i * skip;
        if (iy < 0 || iy >= d->hi)
            efl_fwd_fill(k, to, row, zero);
        else if (row == in && skip == 1) { /* no margins: all rows at once */
            const int32_t n = d->hi - iy < total - i ? d->hi - iy : total - i;
            k->load(to, x + (size_t)iy * in, (size_t)n * in);
            i += n - 1;
            to += (size_t)(n - 1) * row * size;
        } else
            k->load(to + left * size, x + (size_t)iy * in, in);
    }
}

/* A pointwise convolution can read a map as it is if the kernels take plain int8. */
static int reads_in_place(const efl_dims *d)
{
    const efl_fwd_kernels *k = &efl_kernels()->fwd;
    return k->x_bytes == 1 && !k->flip && d->kh == 1 && d->kw == 1 && d->pt == 0 && d->pl == 0 &&
           d->groups == 1 && d->ci % 4 == 0;
}

void efl_conv2d_i8_fwd_rows(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                            const efl_requant_params *rq, int32_t first, int32_t last, void *scratch)
{
    const efl_fwd_kernels *k = &efl_kernels()->fwd;
    const geometry g = geometry_of(d);
    efl_packed p;
    area a;
    take_packed(&p, &g, d, packed);
    take(&a, &g, d, scratch);
    const int in_place = reads_in_place(d);
    const int32_t block = in_place ? block_rows(&g, d, 1) : block_rows(&g, d, k->x_bytes);
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups;
    geometry walked = g;
    if (in_place) walked.w = d->wi, walked.step = d->sh;
    walk(&a, &walked, d, block);
    if (!in_place && g.w != d->wi)
        efl_fwd_fill(k, a.image, (size_t)image_rows(&g, block) * (size_t)g.w * (size_t)d->ci, rq->x_zero);
    const size_t in = (size_t)d->hi * (size_t)d->wi * (size_t)d->ci, out = (size_t)d->wo * (size_t)d->co;
    const int32_t n_runs = g.parts * g.n_runs;
    const size_t panel = (size_t)n_runs * (size_t)g.groups * 4;
    for (int32_t at = first; at < last;) {
        const int32_t sample = at / d->ho, oy = at % d->ho;
        int32_t rows = d->ho - oy < block ? d->ho - oy : block;
        rows = last - at < rows ? last - at : rows;
        const int8_t *source = x + (size_t)sample * in;
        if (!in_place) load(&a, &g, source, d, rq->x_zero, oy, rows);
        const int8_t *image =
            in_place ? source + (size_t)(oy * d->sh) * (size_t)d->wi * (size_t)d->ci : a.image;
        for (int32_t group = 0; group < d->groups; group++) {
            const size_t column = (size_t)(group * g.columns);
            const efl_fwd_job job = {.y = y + (size_t)at * out + (size_t)(group * cog),
                                     .ldy = (size_t)d->co,
                                     .x = image + (size_t)(group * cig) * (size_t)k->x_bytes,
                                     .pixels = a.pixels,
                                     .offs = a.offs,
                                     .w = p.w + column * panel,
                                     .sums = p.sums + column,
                                     .bias = p.bias + column,
                                     .mult = p.mult + column,
                                     .n_pixels = rows * d->wo,
                                     .n_runs = n_runs,
                                     .groups = g.groups,
                                     .cols = cog,
                                     .extreme = *p.extreme,
                                     .lo = rq->lo,
                                     .hi = rq->hi,
                                     .zero = rq->y_zero,
                                     .requant = rq->fixed ? efl_fwd_requant_fixed : NULL,
                                     .fixed =
                                         rq->fixed ? rq->fixed + (rq->n_mult == 1 ? 0 : group * cog) : NULL,
                                     .n_fixed = rq->n_mult == 1 ? 1 : cog};
            k->gemm(&job);
        }
        at += rows;
    }
}

void efl_conv2d_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                       const efl_requant_params *rq, void *scratch)
{
    efl_conv2d_i8_fwd_rows(y, x, packed, d, rq, 0, d->n * d->ho, scratch);
}
