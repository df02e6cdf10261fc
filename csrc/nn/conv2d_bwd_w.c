/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, backward-w: A[k, co] = sum over pixels of x[pixel + tap, ci] * e[pixel, co] with the matrix
 * kernel of dot8.h, whose groups of four are neighbouring pixels of a map row. The input is packed once for
 * each distinct shift of such a group, so that every tap reads in place; padding holds the zero point. A
 * block of rows or samples whose packed input fits BLOCK_BYTES is summed in registers; several blocks add up
 * in tiles of at most TILE_BYTES.
 */
#include <string.h>

#include "core/kernels.h"
#include "core/threads.h"
#include "nn/conv_bwd.h"
#include "nn/scratch.h"

#define BLOCK_BYTES 65536
#define TILE_BYTES 81920
#define SINK_ROWS 16

typedef struct {
    const efl_dims *d;
    int32_t *copy, *ahead; /* [kw] which packed copy a tap reads, and how many groups further on */
    int8_t *blank;         /* [width][ci] a map row of padding */
    int32_t *from;         /* [k rounded up] where a row's first group lies in x */
    int32_t *fix;          /* [columns] sums of e times the zero point */
    uint8_t *areas;        /* [workers] each an area of area_n bytes */
    size_t x_row, x_sample, area_n;
    int32_t copies, width, x_groups, e_groups;
    int32_t k, samples, rows; /* of a block */
    int32_t columns;          /* of a tile: a part of one group's channels */
    int32_t blocks, parts;    /* parts of a sample, blocks of samples or parts */
} layout;

/* What a worker needs for one block, and its sums so far. */
typedef struct {
    int8_t *row;   /* [width][ci] a padded map row */
    uint8_t *x;    /* [samples][slots][copies][x_groups][ci][4] */
    uint8_t *e;    /* [column blocks][samples][rows][e_groups][nv * 16][4] */
    int32_t *offs; /* [samples * rows] */
    int32_t *tile; /* [column blocks][k rounded up][nv * 16], or SINK_ROWS of them */
    int32_t *b;    /* [columns] sums of e */
    int32_t *used; /* the sums hold something */
} area;

static int32_t round_up(int32_t n, int32_t to)
{
    return (n + to - 1) / to * to;
}

/* Map rows are packed one by one where a tap has one row only. */
static int32_t slots(const efl_dims *d, int32_t rows)
{
    return d->kh == 1 ? rows : (rows - 1) * d->sh + (d->kh - 1) * d->dh + 1;
}

/* Tap kx starts at column kx*dw of the padded map: group kx*dw / (4*sw) of the copy shifted by the rest. */
static int32_t find_copies(layout *l, const efl_dims *d, int32_t *most_ahead)
{
    int32_t copies = 0;
    *most_ahead = (d->kw - 1) * d->dw / (4 * d->sw);
    for (int32_t kx = 0; kx < d->kw; kx++) {
        const int32_t shift = kx * d->dw % (4 * d->sw);
        int32_t same = kx;
        for (int32_t i = 0; i < kx && same == kx; i++)
            if (i * d->dw % (4 * d->sw) == shift) same = i;
        if (l->copy) {
            l->copy[kx] = same == kx ? copies : l->copy[same];
            l->ahead[kx] = kx * d->dw / (4 * d->sw);
        }
        copies += same == kx;
    }
    return copies;
}

static size_t take_area(area *a, const layout *l, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const size_t runs = (size_t)l->samples * (size_t)l->rows, n_cols = (size_t)l->columns;
    const size_t rows = l->blocks == 1 ? SINK_ROWS : (size_t)round_up(l->k, SINK_ROWS);
    const size_t cols = l->blocks == 1 ? 2 * EFL_DOT_COLS : n_cols;
    a->row = efl_scratch_take(&s, (size_t)l->width * (size_t)l->d->ci);
    a->x = efl_scratch_take(&s, (size_t)l->samples * l->x_sample);
    a->e = efl_scratch_take(&s, runs * (size_t)l->e_groups * 4 * n_cols);
    a->offs = efl_scratch_take(&s, runs * sizeof(int32_t));
    a->tile = efl_scratch_take(&s, rows * cols * sizeof(int32_t));
    a->b = efl_scratch_take(&s, n_cols * sizeof(int32_t));
    a->used = efl_scratch_take(&s, sizeof(int32_t));
    return s.used;
}

static area area_of(const layout *l, int32_t worker)
{
    area a;
    take_area(&a, l, l->areas + (size_t)worker * l->area_n);
    return a;
}

static size_t take(layout *l, const efl_dims *d, int32_t workers, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int32_t cog = d->co / d->groups, cols = round_up(cog, EFL_DOT_COLS);
    l->d = d;
    l->k = d->kh * d->kw * (d->ci / d->groups);
    l->copy = efl_scratch_take(&s, (size_t)d->kw * sizeof(int32_t));
    l->ahead = efl_scratch_take(&s, (size_t)d->kw * sizeof(int32_t));
    int32_t ahead;
    l->copies = find_copies(l, d, &ahead);
    l->e_groups = (d->wo + 3) / 4;
    l->x_groups = l->e_groups + ahead;
    l->width = 4 * d->sw * l->x_groups + 4 * d->sw;
    l->x_row = (size_t)l->copies * (size_t)l->x_groups * (size_t)d->ci * 4;
    l->samples = l->rows = 1;
    if ((size_t)slots(d, d->ho) * l->x_row <= BLOCK_BYTES) {
        l->rows = d->ho;
        const size_t fit = BLOCK_BYTES / ((size_t)slots(d, d->ho) * l->x_row);
        l->samples = fit < (size_t)d->n ? (int32_t)fit : d->n;
    } else {
        while (l->rows < d->ho && (size_t)slots(d, l->rows + 1) * l->x_row <= BLOCK_BYTES) l->rows++;
    }
    l->x_sample = (size_t)slots(d, l->rows) * l->x_row;
    l->parts = (d->ho + l->rows - 1) / l->rows;
    l->blocks = (d->n + l->samples - 1) / l->samples * l->parts;
    const int32_t k_up = round_up(l->k, SINK_ROWS);
    int32_t fit = TILE_BYTES / (int32_t)sizeof(int32_t) / k_up / (2 * EFL_DOT_COLS) * 2 * EFL_DOT_COLS;
    fit = fit < 2 * EFL_DOT_COLS ? 2 * EFL_DOT_COLS : fit;
    l->columns = l->blocks == 1 || cols < fit ? cols : fit;
    l->blank = efl_scratch_take(&s, (size_t)l->width * (size_t)d->ci);
    l->from = efl_scratch_take(&s, (size_t)k_up * sizeof(int32_t));
    l->fix = efl_scratch_take(&s, (size_t)l->columns * sizeof(int32_t));
    area a;
    l->area_n = take_area(&a, l, NULL);
    l->areas = efl_scratch_take(&s, (size_t)workers * l->area_n);
    return s.used;
}

size_t efl_bwd_w_bytes(const efl_dims *d, int32_t workers)
{
    layout l;
    const size_t all = take(&l, d, workers, NULL);
    if (l.blocks == 1 || l.parts > 1) return all;
    /* Fewer samples make one block, and that holds all columns at once. */
    efl_dims few = *d;
    few.n = l.samples;
    const size_t one = take(&l, &few, workers, NULL);
    return one > all ? one : all;
}

/* Rows of the packed input that output rows oy0.. of one sample x read. */
static void pack_x(const layout *l, int8_t *padded, uint8_t *to, const int8_t *x, int32_t oy0, int32_t rows)
{
    const efl_dims *d = l->d;
    const efl_kernel_table *k = efl_kernels();
    const size_t ci = (size_t)d->ci, pitch = (size_t)d->sw * ci;
    const int32_t room = l->width - d->pl, inside = d->wi < room ? d->wi : room;
    for (int32_t slot = 0; slot < slots(d, rows); slot++, to += l->x_row) {
        const int32_t iy = oy0 * d->sh + (d->kh == 1 ? slot * d->sh : slot) - d->pt;
        const int8_t *row = l->blank;
        if (iy >= 0 && iy < d->hi) {
            memcpy(padded + (size_t)d->pl * ci, x + (size_t)iy * (size_t)d->wi * ci, (size_t)inside * ci);
            row = padded;
        }
        for (int32_t kx = 0, copy = 0; kx < d->kw && copy < l->copies; kx++) {
            if (l->copy[kx] != copy) continue;
            k->zip4(to + (size_t)copy * (size_t)l->x_groups * ci * 4, ci * 4, NULL,
                    row + (size_t)(kx * d->dw % (4 * d->sw)) * ci, pitch, (size_t)l->x_groups, ci, k->flip);
            copy++;
        }
    }
}

/* Pixels of columns c.. (n of them, nv * 16 wide) from e on, rows * e_groups groups, zeros after a row's end.
 */
static void pack_e(const layout *l, uint8_t *to, int32_t *b, const int8_t *e, int32_t rows, int32_t n,
                   int32_t nv)
{
    const efl_kernel_table *k = efl_kernels();
    const size_t co = (size_t)l->d->co, step = (size_t)nv * 4 * EFL_DOT_COLS, wo = (size_t)l->d->wo;
    const size_t groups = (size_t)rows * (size_t)l->e_groups, whole = wo / 4;
    if (n < nv * EFL_DOT_COLS) memset(to, 0, groups * step);
    if (wo % 4 == 0) {
        k->zip4(to, step, b, e, co, groups, (size_t)n, 0);
        return;
    }
    for (int32_t oy = 0; oy < rows; oy++, to += (size_t)l->e_groups * step, e += wo * co) {
        k->zip4(to, step, b, e, co, whole, (size_t)n, 0);
        int8_t rest[4][2 * EFL_DOT_COLS] = {{0}};
        for (size_t i = 0; i < wo % 4; i++) memcpy(rest[i], e + (4 * whole + i) * co, (size_t)n);
        k->zip4(to + whole * step, step, b, rest[0], 2 * EFL_DOT_COLS, 1, (size_t)n, 0);
    }
}

/* Where row k of a tile starts in x. */
static void find_rows(const layout *l, int32_t group)
{
    const efl_dims *d = l->d;
    const int32_t cig = d->ci / d->groups;
    int32_t *at = l->from;
    for (int32_t ky = 0; ky < d->kh; ky++)
        for (int32_t kx = 0; kx < d->kw; kx++) {
            const size_t slot = (size_t)(ky * d->dh) * l->x_row;
            const size_t first = (size_t)(l->copy[kx] * l->x_groups + l->ahead[kx]) * (size_t)d->ci * 4;
            for (int32_t c = 0; c < cig; c++) *at++ = (int32_t)(slot + first) + (group * cig + c) * 4;
        }
    for (int32_t k = l->k; k < round_up(l->k, SINK_ROWS); k++) *at++ = l->from[l->k - 1];
}

/* Sixteen rows from k on of one block of columns; out has nv * 16 a row. */
static void sum_rows(const layout *l, const area *a, int32_t *out, int32_t k, const efl_dot8 *dot)
{
    const int32_t width = dot->nv * EFL_DOT_COLS;
    for (int32_t h = 0; h < SINK_ROWS && k + h < round_up(l->k, EFL_DOT_ROWS); h += EFL_DOT_ROWS) {
        const uint8_t *rows[EFL_DOT_ROWS];
        int32_t *to[EFL_DOT_ROWS];
        for (int i = 0; i < EFL_DOT_ROWS; i++) {
            rows[i] = a->x + l->from[k + h + i];
            to[i] = out + (h + i) * width;
        }
        efl_kernels()->dot8(to, rows, dot);
    }
}

/* One part of a group's channels, first.. (n of them). */
typedef struct {
    const layout *l;
    const int8_t *e, *x;
    efl_bwd_w_sink *sink;
    void *context;
    int32_t x_zero, first, n, workers;
} job;

static const int32_t zeros[2 * EFL_DOT_COLS] = {0};

/* Registers of the column block from c on, and how many of its columns are real. */
static int32_t block_width(const job *j, int32_t c, int32_t *used)
{
    const int32_t nv = round_up(j->n, EFL_DOT_COLS) - c > EFL_DOT_COLS ? 2 : 1;
    *used = j->n - c < nv * EFL_DOT_COLS ? j->n - c : nv * EFL_DOT_COLS;
    return nv;
}

/* Pack block number `block`; returns its runs. */
static int32_t load_block(const job *j, const area *a, int32_t block)
{
    const layout *l = j->l;
    const efl_dims *d = l->d;
    const int32_t s = block / l->parts * l->samples, oy = block % l->parts * l->rows;
    const int32_t samples = d->n - s < l->samples ? d->n - s : l->samples;
    const int32_t rows = d->ho - oy < l->rows ? d->ho - oy : l->rows;
    const size_t x_size = (size_t)(d->hi * d->wi * d->ci);
    for (int32_t i = 0; i < samples; i++) {
        pack_x(l, a->row, a->x + (size_t)i * l->x_sample, j->x + (size_t)(s + i) * x_size, oy, rows);
        for (int32_t r = 0; r < rows; r++)
            a->offs[i * rows + r] =
                (int32_t)((size_t)i * l->x_sample + (size_t)(d->kh == 1 ? r : r * d->sh) * l->x_row);
    }
    const size_t e_row = (size_t)(d->wo * d->co);
    const int8_t *from = j->e + ((size_t)s * (size_t)d->ho + (size_t)oy) * e_row + j->first;
    for (int32_t c = 0, nv, used; c < j->n; c += nv * EFL_DOT_COLS) {
        nv = block_width(j, c, &used);
        uint8_t *panel = a->e + (size_t)(samples * rows) * (size_t)l->e_groups * 4 * (size_t)c;
        pack_e(l, panel, a->b + c, from + c, samples * rows, used, nv);
    }
    return samples * rows;
}

static efl_dot8 panel_of(const job *j, const area *a, int32_t runs, int32_t c, int32_t nv)
{
    const layout *l = j->l;
    const efl_dot8 dot = {
        .panel = (const int8_t *)a->e + (size_t)runs * (size_t)l->e_groups * 4 * (size_t)c,
        .offs = a->offs,
        .init = zeros,
        .n_runs = runs,
        .groups = l->e_groups,
        .step = l->d->ci * 4,
        .nv = nv,
    };
    return dot;
}

/* Task: add one block to the worker's sums. */
static void add_block(void *context, int32_t block, int32_t worker)
{
    const job *j = context;
    const layout *l = j->l;
    const area a = area_of(l, worker);
    const int32_t runs = load_block(j, &a, block), k_up = round_up(l->k, SINK_ROWS);
    for (int32_t c = 0, nv, used; c < j->n; c += nv * EFL_DOT_COLS) {
        nv = block_width(j, c, &used);
        efl_dot8 dot = panel_of(j, &a, runs, c, nv);
        if (*a.used) dot.init = NULL;
        for (int32_t k = 0; k < l->k; k += SINK_ROWS)
            sum_rows(l, &a, a.tile + c * k_up + k * nv * EFL_DOT_COLS, k, &dot);
    }
    *a.used = 1;
}

/* Task: sixteen rows of one column block, summed now (a single block) or by add_block, to the sink. */
static void finish_rows(void *context, int32_t task, int32_t worker)
{
    const job *j = context;
    const layout *l = j->l;
    const int32_t k_up = round_up(l->k, SINK_ROWS), per_block = k_up / SINK_ROWS;
    const int32_t c = task / per_block * 2 * EFL_DOT_COLS, k = task % per_block * SINK_ROWS;
    int32_t used;
    const int32_t nv = block_width(j, c, &used), width = nv * EFL_DOT_COLS;
    const area first = area_of(l, 0);
    int32_t *sums = first.tile + c * k_up + k * width;
    if (l->blocks == 1) {
        sums = area_of(l, worker).tile;
        const efl_dot8 dot = panel_of(j, &first, l->samples * l->rows, c, nv);
        sum_rows(l, &first, sums, k, &dot);
    } else {
        int32_t *own = sums;
        for (int32_t w = 0; w < j->workers; w++) {
            const area a = area_of(l, w);
            const int32_t *more = a.tile + c * k_up + k * width;
            if (w == 0 && !*a.used) memset(own, 0, (size_t)(SINK_ROWS * width) * sizeof(int32_t));
            if (w == 0 || !*a.used) continue;
            for (int32_t i = 0; i < SINK_ROWS * width; i++) own[i] += more[i];
        }
    }
    const efl_bwd_w_tile done = {.sums = sums,
                                 .ld = width,
                                 .k = k,
                                 .rows = l->k - k < SINK_ROWS ? l->k - k : SINK_ROWS,
                                 .c = j->first + c,
                                 .cols = used,
                                 .fix = l->fix + c,
                                 .b = first.b + c};
    j->sink(j->context, &done, worker);
}

static void run_columns(job *j, int32_t sink_workers)
{
    const layout *l = j->l;
    const int32_t cols = round_up(j->n, EFL_DOT_COLS);
    for (int32_t w = 0; w < j->workers; w++) {
        const area a = area_of(l, w);
        memset(a.b, 0, (size_t)cols * sizeof(int32_t));
        *a.used = 0;
    }
    const area first = area_of(l, 0);
    if (l->blocks == 1)
        load_block(j, &first, 0);
    else
        efl_parallel(l->blocks, j->workers, add_block, j);
    for (int32_t c = 0; c < cols; c++) {
        for (int32_t w = 1; w < j->workers; w++) first.b[c] += area_of(l, w).b[c];
        l->fix[c] = (j->x_zero + efl_kernels()->flip) * first.b[c];
    }
    const int32_t column_blocks = (j->n + 2 * EFL_DOT_COLS - 1) / (2 * EFL_DOT_COLS);
    efl_parallel(column_blocks * (round_up(l->k, SINK_ROWS) / SINK_ROWS), sink_workers, finish_rows, j);
}

void efl_bwd_w_run(const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero, efl_bwd_w_sink *sink,
                   void *context, int32_t workers, int32_t sink_workers, void *scratch)
{
    layout l;
    take(&l, d, workers, scratch);
    memset(l.blank, x_zero, (size_t)l.width * (size_t)d->ci);
    for (int32_t w = 0; w < workers; w++) memset(area_of(&l, w).row, x_zero, (size_t)l.width * (size_t)d->ci);
    const int32_t cog = d->co / d->groups;
    for (int32_t g = 0; g < d->groups; g++) {
        find_rows(&l, g);
        for (int32_t c = 0; c < cog; c += l.columns) {
            job j = {&l,      e,      x,           sink,
                     context, x_zero, g * cog + c, cog - c < l.columns ? cog - c : l.columns,
                     workers};
            run_columns(&j, sink_workers);
        }
    }
}
