/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, backward-x: each input pixel reads some runs of the packed, padded error image and meets
 * panels of packed weight columns (dot8.h). A stride splits the input pixels into stride_h * stride_w phases,
 * each with the taps that reach it, so no product with a zero is ever formed.
 */
#include "nn/conv_bwd.h"

#include <string.h>

#include "core/kernels.h"
#include "core/threads.h"
#include "nn/scratch.h"

#define TILE (EFL_DOT_ROWS * 2 * EFL_DOT_COLS)

/* Pixels with the same taps. */
typedef struct efl_bwd_x_phase {
    uint8_t *panels;    /* [column blocks][n_runs][groups][nv * 16][4] */
    int32_t *offs;      /* [n_runs] bytes of the image */
    int32_t *init;      /* [columns] */
    int32_t rows, cols; /* pixels */
    int32_t n_runs, groups;
} phase;

/* For one axis: the taps that reach input positions at `phase` + i*stride, and where in the error map they
 * read. Tap t reads position i + shift(t); taps run downwards, so that the reads run upwards. */
static int32_t tap_phase(int32_t tap, int32_t dilation, int32_t pad, int32_t stride)
{
    const int32_t at = (tap * dilation - pad) % stride;
    return at < 0 ? at + stride : at;
}
static int32_t tap_shift(int32_t tap, int32_t dilation, int32_t pad, int32_t stride)
{
    return (tap_phase(tap, dilation, pad, stride) + pad - tap * dilation) / stride;
}
static int32_t phase_len(int32_t n, int32_t first, int32_t stride)
{
    return first < n ? (n - first + stride - 1) / stride : 0;
}
static int32_t count_taps(int32_t taps, int32_t dilation, int32_t pad, int32_t stride, int32_t at)
{
    int32_t n = 0;
    for (int32_t t = 0; t < taps; t++) n += tap_phase(t, dilation, pad, stride) == at;
    return n;
}

/* Zero rows in front of the error map and its length with zeros behind, so that every read lies inside. */
static void padded_axis(int32_t *front, int32_t *length, int32_t n_in, int32_t n_out, int32_t taps,
                        int32_t dilation, int32_t pad, int32_t stride)
{
    int32_t lo = 0, hi = n_out - 1;
    for (int32_t t = 0; t < taps; t++) {
        const int32_t shift = tap_shift(t, dilation, pad, stride);
        const int32_t last = shift + phase_len(n_in, tap_phase(t, dilation, pad, stride), stride) - 1;
        lo = shift < lo ? shift : lo;
        hi = last > hi ? last : hi;
    }
    *front = -lo;
    *length = hi - lo + 1;
}

/* A kernel row is one run where its pixels lie side by side and no group of four crosses two taps. */
static int joined(const efl_dims *d)
{
    return d->groups == 1 && d->dw == 1 && d->sw == 1 && d->co % 4 == 0;
}

/* Columns of one group, rounded up. */
static int32_t columns(const efl_dims *d)
{
    return (d->ci / d->groups + EFL_DOT_COLS - 1) / EFL_DOT_COLS * EFL_DOT_COLS;
}

static size_t take(efl_bwd_x *l, const efl_dims *d, int32_t workers, void *scratch)
{
    efl_scratch s = {scratch, 0};
    l->d = *d;
    padded_axis(&l->top, &l->h, d->hi, d->ho, d->kh, d->dh, d->pt, d->sh);
    padded_axis(&l->left, &l->w, d->wi, d->wo, d->kw, d->dw, d->pl, d->sw);
    l->image_n = ((size_t)l->h * (size_t)l->w * (size_t)d->co + 4 + 63) / 64 * 64;
    l->images = efl_scratch_take(&s, (size_t)workers * l->image_n);
    l->tiles = efl_scratch_take(&s, (size_t)workers * TILE * sizeof(int32_t));
    l->tops = efl_scratch_take(&s, (size_t)workers * EFL_DOT_COLS * sizeof(int32_t));
    l->phases = efl_scratch_take(&s, (size_t)(d->sh * d->sw) * sizeof(phase));
    const size_t cols = (size_t)columns(d) * (size_t)d->groups;
    for (int32_t i = 0; i < d->sh * d->sw; i++) {
        const int32_t py = i / d->sw, px = i % d->sw;
        const int32_t ny = count_taps(d->kh, d->dh, d->pt, d->sh, py);
        const int32_t nx = count_taps(d->kw, d->dw, d->pl, d->sw, px);
        phase p = {0};
        p.rows = phase_len(d->hi, py, d->sh);
        p.cols = phase_len(d->wi, px, d->sw);
        p.n_runs = joined(d) ? ny : ny * nx;
        p.groups = joined(d) ? d->kw * d->co / 4 : (d->co / d->groups + 3) / 4;
        p.panels = efl_scratch_take(&s, (size_t)p.n_runs * (size_t)p.groups * 4 * cols);
        p.offs = efl_scratch_take(&s, (size_t)p.n_runs * sizeof(int32_t));
        p.init = efl_scratch_take(&s, cols * sizeof(int32_t));
        if (scratch) l->phases[i] = p;
    }
    return s.used;
}

size_t efl_bwd_x_bytes(const efl_dims *d, int32_t workers)
{
    efl_bwd_x l;
    return take(&l, d, workers, NULL);
}

/* Columns [cog][n] of one tap (rows of w at distance pitch) to groups of four from dst on. */
static void pack_tap(uint8_t *dst, size_t step, int32_t *sums, const int8_t *w, size_t pitch, int32_t cog,
                     int32_t n)
{
    const efl_kernel_table *k = efl_kernels();
    const int32_t whole = cog / 4;
    k->zip4(dst, step, sums, w, pitch, (size_t)whole, (size_t)n, 0);
    if (cog % 4 == 0) return;
    int8_t rest[4][2 * EFL_DOT_COLS] = {{0}};
    for (int32_t i = 0; i < cog % 4; i++) memcpy(rest[i], w + (size_t)(4 * whole + i) * pitch, (size_t)n);
    k->zip4(dst + (size_t)whole * step, step, sums, rest[0], 2 * EFL_DOT_COLS, 1, (size_t)n, 0);
}

/* Panels of the columns c0.. of group g, nv * 16 wide. */
static void pack_block(const phase *p, const efl_dims *d, const int8_t *w, int32_t py, int32_t px, int32_t g,
                       int32_t c0, int32_t nv, int32_t place)
{
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups;
    const int32_t n = cig - c0 < nv * EFL_DOT_COLS ? cig - c0 : nv * EFL_DOT_COLS;
    const size_t pitch = (size_t)(d->kh * d->kw) * (size_t)cig, step = (size_t)nv * 4 * EFL_DOT_COLS;
    const size_t run = (size_t)p->groups * step;
    uint8_t *dst = p->panels + (size_t)p->n_runs * (size_t)p->groups * 4 * (size_t)place;
    int32_t *init = p->init + place;
    if (n < nv * EFL_DOT_COLS) memset(dst, 0, (size_t)p->n_runs * run);
    memset(init, 0, (size_t)nv * EFL_DOT_COLS * sizeof(int32_t));
    const int8_t *from = w + (size_t)(g * cog) * pitch + (size_t)c0;
    for (int32_t ky = d->kh - 1; ky >= 0; ky--) {
        if (tap_phase(ky, d->dh, d->pt, d->sh) != py) continue;
        for (int32_t kx = d->kw - 1; kx >= 0; kx--) {
            if (tap_phase(kx, d->dw, d->pl, d->sw) != px) continue;
            pack_tap(dst, step, init, from + (size_t)(ky * d->kw + kx) * (size_t)cig, pitch, cog, n);
            dst += joined(d) ? (size_t)cog / 4 * step : run;
        }
    }
    const int32_t flip = efl_kernels()->flip; /* 65536 * 128 * 128 = 2^30 */
    for (int32_t j = 0; j < nv * EFL_DOT_COLS; j++) init[j] *= -flip;
}

static void find_runs(const efl_bwd_x *l, const phase *p, int32_t py, int32_t px)
{
    const efl_dims *d = &l->d;
    int32_t *offs = p->offs;
    for (int32_t ky = d->kh - 1; ky >= 0; ky--) {
        if (tap_phase(ky, d->dh, d->pt, d->sh) != py) continue;
        const int32_t row = (l->top + tap_shift(ky, d->dh, d->pt, d->sh)) * l->w + l->left;
        for (int32_t kx = d->kw - 1; kx >= 0; kx--) {
            if (tap_phase(kx, d->dw, d->pl, d->sw) != px) continue;
            *offs++ = (row + tap_shift(kx, d->dw, d->pl, d->sw)) * d->co;
            if (joined(d)) break; /* the other taps of the row follow in memory */
        }
    }
}

void efl_bwd_x_begin(efl_bwd_x *l, const int8_t *w, const efl_dims *d, int32_t workers, void *scratch)
{
    take(l, d, workers, scratch);
    for (int32_t i = 0; i < d->sh * d->sw; i++) {
        const int32_t py = i / d->sw, px = i % d->sw, cols = columns(d);
        find_runs(l, &l->phases[i], py, px);
        for (int32_t g = 0; g < d->groups; g++)
            for (int32_t c = 0, nv; c < cols; c += nv * EFL_DOT_COLS) {
                nv = cols - c > EFL_DOT_COLS ? 2 : 1;
                pack_block(&l->phases[i], d, w, py, px, g, c, nv, g * cols + c);
            }
    }
    memset(l->images, efl_kernels()->flip, (size_t)workers * l->image_n);
}

/* A part of a sample's sums: pixel rows of one phase, one block of columns. */
typedef struct {
    const phase *p;
    int32_t *dx;          /* its first pixel and column */
    const uint8_t *image; /* where the first pixel's runs start */
    int32_t *tile;
    int32_t n;       /* columns */
    int32_t y, rows; /* pixel rows */
} part;

static void run_part(const efl_bwd_x *l, const part *t, const efl_dot8 *dot)
{
    const efl_dims *d = &l->d;
    const size_t to_row = (size_t)d->sh * (size_t)d->wi * (size_t)d->ci, to_col = (size_t)(d->sw * d->ci);
    const size_t from_row = (size_t)l->w * (size_t)d->co, from_col = (size_t)d->co;
    const int32_t cols = t->p->cols, pixels = t->rows * cols, width = dot->nv * EFL_DOT_COLS;
    int32_t y = t->y, x = 0;
    for (int32_t m = 0; m < pixels; m += EFL_DOT_ROWS) {
        const uint8_t *rows[EFL_DOT_ROWS];
        int32_t *to[EFL_DOT_ROWS], *out[EFL_DOT_ROWS];
        if (x + EFL_DOT_ROWS <= cols) {
            const uint8_t *from = t->image + (size_t)y * from_row + (size_t)x * from_col;
            int32_t *at = t->dx + (size_t)y * to_row + (size_t)x * to_col;
            for (int i = 0; i < EFL_DOT_ROWS; i++, from += from_col, at += to_col) rows[i] = from, to[i] = at;
            x += EFL_DOT_ROWS;
            if (x == cols) x = 0, y++;
        } else {
            for (int i = 0; i < EFL_DOT_ROWS; i++) { /* behind the last pixel: the last one again */
                rows[i] = t->image + (size_t)y * from_row + (size_t)x * from_col;
                to[i] = t->dx + (size_t)y * to_row + (size_t)x * to_col;
                const int wrap = x + 1 == cols, end = wrap && y + 1 == t->y + t->rows;
                x = end ? x : wrap ? 0 : x + 1;
                y += wrap && !end;
            }
        }
        if (t->n == width) {
            efl_kernels()->dot8(to, rows, dot);
            continue;
        }
        for (int i = 0; i < EFL_DOT_ROWS; i++) out[i] = t->tile + i * width;
        efl_kernels()->dot8(out, rows, dot);
        for (int i = 0; i < EFL_DOT_ROWS; i++) memcpy(to[i], out[i], (size_t)t->n * sizeof(int32_t));
    }
}

/* Blocks of columns of a group, two registers each. */
static int32_t column_blocks(const efl_dims *d)
{
    return (columns(d) + 2 * EFL_DOT_COLS - 1) / (2 * EFL_DOT_COLS);
}

/* Slice `slice` of `slices` of the pixel rows of a phase, for column block `block` of all groups. */
static void run_slice(const efl_bwd_x *l, int32_t *dx, const uint8_t *image, int32_t i, int32_t block,
                      int32_t slice, int32_t slices, int32_t worker)
{
    const efl_dims *d = &l->d;
    const phase *p = &l->phases[i];
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups, cols = columns(d);
    const int32_t g = block / column_blocks(d), c = block % column_blocks(d) * 2 * EFL_DOT_COLS;
    const int32_t nv = cols - c > EFL_DOT_COLS ? 2 : 1;
    const size_t place = (size_t)(g * cols + c);
    const efl_dot8 dot = {
        .panel = (const int8_t *)p->panels + (size_t)p->n_runs * (size_t)p->groups * 4 * place,
        .offs = p->offs,
        .init = p->init + place,
        .top = l->tops + worker * EFL_DOT_COLS,
        .n_runs = p->n_runs,
        .groups = p->groups,
        .step = 4,
        .nv = nv,
    };
    const int32_t first = p->rows * slice / slices, last = p->rows * (slice + 1) / slices;
    const part t = {
        .p = p,
        .dx = dx + ((size_t)(i / d->sw) * (size_t)d->wi + (size_t)(i % d->sw)) * (size_t)d->ci +
              (size_t)(g * cig + c),
        .image = image + g * cog,
        .tile = l->tiles + worker * TILE,
        .n = cig - c < nv * EFL_DOT_COLS ? cig - c : nv * EFL_DOT_COLS,
        .y = first,
        .rows = last - first,
    };
    run_part(l, &t, &dot);
}

static void load_rows(const efl_bwd_x *l, uint8_t *image, const int8_t *e, const float *scale, int32_t first,
                      int32_t last)
{
    const efl_dims *d = &l->d;
    const efl_kernel_table *k = efl_kernels();
    const size_t row = (size_t)d->wo * (size_t)d->co;
    uint8_t *at = image + ((size_t)l->top * (size_t)l->w + (size_t)l->left) * (size_t)d->co;
    for (int32_t oy = first; oy < last; oy++)
        k->scale8(at + (size_t)oy * (size_t)l->w * (size_t)d->co, e + (size_t)oy * row, (size_t)d->wo,
                  (size_t)d->co, scale, k->flip);
}

static uint32_t largest(const int32_t *tops, int32_t workers)
{
    int32_t top = 0;
    for (int32_t j = 0; j < workers * EFL_DOT_COLS; j++) top = tops[j] > top ? tops[j] : top;
    return (uint32_t)top;
}

uint32_t efl_bwd_x_sample(const efl_bwd_x *l, int32_t *dx, const int8_t *e, const float *scale,
                          int32_t worker)
{
    const efl_dims *d = &l->d;
    uint8_t *image = l->images + (size_t)worker * l->image_n;
    int32_t *top = l->tops + worker * EFL_DOT_COLS;
    memset(top, 0, EFL_DOT_COLS * sizeof(int32_t));
    load_rows(l, image, e, scale, 0, d->ho);
    for (int32_t i = 0; i < d->sh * d->sw; i++)
        for (int32_t block = 0; block < d->groups * column_blocks(d); block++)
            run_slice(l, dx, image, i, block, 0, 1, worker);
    return largest(top, 1);
}

/* ---------------------------------------------------------------- one sample on several threads */

#define SLICES 8

typedef struct {
    const efl_bwd_x *l;
    int32_t *dx;
    const int8_t *e;
    const float *scale;
} shared;

static void load_slice(void *context, int32_t task, int32_t worker)
{
    (void)worker;
    const shared *s = context;
    const int32_t ho = s->l->d.ho;
    load_rows(s->l, s->l->images, s->e, s->scale, ho * task / SLICES, ho * (task + 1) / SLICES);
}

static void sum_slice(void *context, int32_t task, int32_t worker)
{
    const shared *s = context;
    const int32_t blocks = s->l->d.groups * column_blocks(&s->l->d), rest = task / SLICES;
    run_slice(s->l, s->dx, s->l->images, rest / blocks, rest % blocks, task % SLICES, SLICES, worker);
}

uint32_t efl_bwd_x_shared(const efl_bwd_x *l, int32_t *dx, const int8_t *e, const float *scale,
                          int32_t workers)
{
    const efl_dims *d = &l->d;
    if (workers < 2) return efl_bwd_x_sample(l, dx, e, scale, 0);
    shared s = {l, dx, e, scale};
    memset(l->tops, 0, (size_t)workers * EFL_DOT_COLS * sizeof(int32_t));
    efl_parallel(SLICES, workers, load_slice, &s);
    efl_parallel(SLICES * d->sh * d->sw * d->groups * column_blocks(d), workers, sum_slice, &s);
    return largest(l->tops, workers);
}
