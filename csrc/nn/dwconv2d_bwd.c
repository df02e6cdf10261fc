/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, backward, vectorised over channels. A depth multiplier is resolved while
 * widening: each input channel is repeated, so that everything else sees co channels.
 */
#include "nn/conv.h"

typedef struct {
    int32_t cp; /* co rounded up to EFL_NR */
    int32_t h, w, taps;
    int16_t *image;   /* [h][w][cp] */
    int16_t *weights; /* [taps][cp] */
    int16_t *pixel;   /* [cp] one error pixel */
    int32_t *offs;    /* [taps] elements of the image */
    int32_t *sums;    /* int32 image or weight sums */
    size_t image_n, sums_n;
} layout;

enum pass { BWD_X, BWD_W };

static size_t take(layout *l, const efl_dims *d, enum pass pass, void *scratch)
{
    efl_scratch s = {scratch, 0};
    l->cp = (d->co + EFL_NR - 1) / EFL_NR * EFL_NR;
    l->w = efl_image_w(d);
    l->h = efl_image_h(d) > d->pt + d->hi ? efl_image_h(d) : d->pt + d->hi;
    l->taps = d->kh * d->kw;
    const size_t cp = (size_t)l->cp, taps = (size_t)l->taps;
    const size_t map = (size_t)l->h * (size_t)l->w * cp;
    l->image_n = pass == BWD_X ? 0 : map;
    l->sums_n = pass == BWD_X ? map : taps * cp;
    l->image = efl_scratch_take(&s, l->image_n * sizeof(int16_t));
    l->weights = efl_scratch_take(&s, (pass == BWD_W ? 0 : taps * cp) * sizeof(int16_t));
    l->pixel = efl_scratch_take(&s, cp * sizeof(int16_t));
    l->offs = efl_scratch_take(&s, taps * sizeof(int32_t));
    l->sums = efl_scratch_take(&s, l->sums_n * sizeof(int32_t));
    return s.used;
}

size_t efl_dwconv2d_i8_bwd_x_scratch_bytes(const efl_dims *d)
{
    layout l;
    return take(&l, d, BWD_X, NULL);
}
size_t efl_dwconv2d_i8_bwd_w_scratch_bytes(const efl_dims *d)
{
    layout l;
    return take(&l, d, BWD_W, NULL);
}

static void prepare(const layout *l, const efl_dims *d, const int8_t *w)
{
    const size_t co = (size_t)d->co, cp = (size_t)l->cp;
    for (int32_t t = 0; t < l->taps; t++) l->offs[t] = (t / d->kw * d->dh * l->w + t % d->kw * d->dw) * l->cp;
    if (!w) return;
    memset(l->weights, 0, (size_t)l->taps * cp * sizeof(int16_t));
    for (size_t t = 0; t < (size_t)l->taps; t++) efl_kernels()->widen(l->weights + t * cp, w + t * co, co, 0);
}

static void load_image(const layout *l, const int8_t *x, const efl_dims *d, int32_t zero)
{
    const size_t ci = (size_t)d->ci, m = (size_t)d->mult;
    for (int32_t iy = 0; iy < d->hi; iy++)
        for (int32_t ix = 0; ix < d->wi; ix++, x += ci) {
            int16_t *at =
                l->image + ((size_t)(iy + d->pt) * (size_t)l->w + (size_t)(ix + d->pl)) * (size_t)l->cp;
            if (m == 1)
                efl_kernels()->widen(at, x, ci, zero);
            else
                for (size_t c = 0; c < ci * m; c++) at[c] = (int16_t)(x[c / m] - zero);
        }
}

static size_t pixel_at(const layout *l, const efl_dims *d, int32_t oy, int32_t ox)
{
    return ((size_t)(oy * d->sh) * (size_t)l->w + (size_t)(ox * d->sw)) * (size_t)l->cp;
}

void efl_dwconv2d_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch)
{
    const efl_kernel_table *k = efl_kernels();
    layout l;
    take(&l, d, BWD_X, scratch);
    prepare(&l, d, w);
    memset(l.pixel, 0, (size_t)l.cp * sizeof(int16_t));
    for (int32_t s = 0; s < d->n; s++) {
        memset(l.sums, 0, l.sums_n * sizeof(int32_t));
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, e += d->co) {
                k->widen(l.pixel, e, (size_t)d->co, 0);
                for (int32_t t = 0; t < l.taps; t++)
                    k->mul_add(l.sums + pixel_at(&l, d, oy, ox) + l.offs[t], l.pixel, l.weights + t * l.cp,
                               (size_t)l.cp);
            }
        for (int32_t iy = 0; iy < d->hi; iy++)
            for (int32_t ix = 0; ix < d->wi; ix++, dx += d->ci) {
                const int32_t *from = l.sums + ((iy + d->pt) * l.w + ix + d->pl) * l.cp;
                if (d->mult == 1) {
                    memcpy(dx, from, (size_t)d->ci * sizeof(int32_t));
                    continue;
                }
                for (int32_t c = 0; c < d->ci; c++) {
                    dx[c] = 0;
                    for (int32_t m = 0; m < d->mult; m++) dx[c] += from[c * d->mult + m];
                }
            }
    }
}

void efl_dwconv2d_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                           void *scratch)
{
    const efl_kernel_table *k = efl_kernels();
    layout l;
    take(&l, d, BWD_W, scratch);
    prepare(&l, d, NULL);
    memset(l.image, 0, l.image_n * sizeof(int16_t));
    memset(l.sums, 0, l.sums_n * sizeof(int32_t));
    memset(l.pixel, 0, (size_t)l.cp * sizeof(int16_t));
    for (int32_t s = 0; s < d->n; s++, x += (size_t)d->hi * (size_t)d->wi * (size_t)d->ci) {
        load_image(&l, x, d, x_zero);
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, e += d->co) {
                k->widen(l.pixel, e, (size_t)d->co, 0);
                for (int32_t t = 0; t < l.taps; t++)
                    k->mul_add(l.sums + t * l.cp, l.pixel, l.image + pixel_at(&l, d, oy, ox) + l.offs[t],
                               (size_t)l.cp);
            }
    }
    for (int32_t t = 0; t < l.taps; t++)
        memcpy(dw + t * d->co, l.sums + t * l.cp, (size_t)d->co * sizeof(int32_t));
}
