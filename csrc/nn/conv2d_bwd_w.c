/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, backward-w: the outer product of neighbouring error pixels with the widened input, in blocks
 * of 6 output channels by 16 elements of a kernel run, summed over pixels in registers and over samples in
 * dw.
 */
#include "nn/conv.h"

typedef struct {
    int16_t *image, *pairs;
    size_t image_n, pairs_n;
    int32_t n_runs, run, per_row;
} bwd_w_layout;

static size_t bwd_w_take(bwd_w_layout *l, const efl_dims *d, int32_t n_channels, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int32_t cig = d->ci / d->groups, whole_row = d->groups == 1 && d->dw == 1;
    l->n_runs = whole_row ? d->kh : d->kh * d->kw;
    l->per_row = whole_row ? 1 : d->kw;
    l->run = whole_row ? d->kw * cig : cig;
    l->image_n = (size_t)efl_image_h(d) * (size_t)efl_image_w(d) * (size_t)d->ci + efl_image_slack(d);
    l->image = efl_scratch_take(&s, l->image_n * sizeof(int16_t));
    l->pairs_n = (size_t)d->ho * (size_t)((d->wo + 1) / 2) * (size_t)n_channels * 2 + 2 * EFL_MR;
    l->pairs = efl_scratch_take(&s, l->pairs_n * sizeof(int16_t));
    return s.used;
}

size_t efl_conv2d_i8_bwd_w_scratch_bytes(const efl_dims *d, int32_t n_channels)
{
    bwd_w_layout l;
    return bwd_w_take(&l, d, n_channels, NULL);
}

/* Errors of channels first.. of one sample, two pixels of a row side by side. */
static void load_pairs(int16_t *pairs, const int8_t *e, const efl_dims *d, int32_t first, int32_t n_channels)
{
    const size_t row = (size_t)((d->wo + 1) / 2) * (size_t)n_channels * 2;
    for (int32_t oy = 0; oy < d->ho; oy++)
        efl_kernels()->pair_rows(pairs + (size_t)oy * row,
                                 e + (size_t)oy * (size_t)d->wo * (size_t)d->co + first, (size_t)d->wo,
                                 (size_t)n_channels, (size_t)d->co);
}

static void add_block(int32_t *dw, const int32_t *acc, int32_t rows, int32_t cols, size_t k)
{
    for (int32_t i = 0; i < rows; i++, dw += k, acc += EFL_NR)
        if (cols == EFL_NR)
            for (int32_t j = 0; j < EFL_NR; j++) dw[j] += acc[j];
        else
            for (int32_t j = 0; j < cols; j++) dw[j] += acc[j];
}

void efl_conv2d_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                         int32_t first, int32_t n_channels, void *scratch)
{
    bwd_w_layout l;
    bwd_w_take(&l, d, n_channels, scratch);
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups, wp = efl_image_w(d);
    const size_t k = (size_t)l.n_runs * (size_t)l.run;
    const efl_outer_walk walk = {
        .rows = d->ho,
        .pairs = (d->wo + 1) / 2,
        .e_row = (ptrdiff_t)((d->wo + 1) / 2) * n_channels * 2,
        .e_pair = (ptrdiff_t)n_channels * 2,
        .x_row = (ptrdiff_t)d->sh * wp * d->ci,
        .x_pixel = (ptrdiff_t)d->sw * d->ci,
    };
    memset(dw, 0, (size_t)n_channels * k * sizeof(int32_t));
    memset(l.image, 0, l.image_n * sizeof(int16_t));
    memset(l.pairs, 0, l.pairs_n * sizeof(int16_t));
    for (int32_t s = 0; s < d->n; s++) {
        efl_image_load(l.image, x, d, x_zero);
        load_pairs(l.pairs, e, d, first, n_channels);
        for (int32_t c = 0; c < n_channels;) {
            const int32_t g = (first + c) / cog, group_end = (g + 1) * cog - first;
            const int32_t stop = group_end < n_channels ? group_end : n_channels;
            const int32_t rows = stop - c < EFL_MR ? stop - c : EFL_MR;
            for (int32_t r = 0; r < l.n_runs; r++) {
                const int16_t *at =
                    l.image + (r / l.per_row * d->dh * wp + r % l.per_row * d->dw) * d->ci + g * cig;
                for (int32_t t = 0; t < l.run; t += EFL_NR) {
                    int32_t acc[EFL_MR * EFL_NR];
                    efl_kernels()->gemm_outer(acc, l.pairs + 2 * c, at + t, &walk);
                    add_block(dw + (size_t)c * k + (size_t)r * (size_t)l.run + (size_t)t, acc, rows,
                              l.run - t < EFL_NR ? l.run - t : EFL_NR, k);
                }
            }
            c += rows;
        }
        x += (size_t)d->hi * (size_t)d->wi * (size_t)d->ci;
        e += (size_t)d->ho * (size_t)d->wo * (size_t)d->co;
    }
}
