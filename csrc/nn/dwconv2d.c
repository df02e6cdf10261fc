/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, forward, vectorised over channels. A depth multiplier is resolved while
 * widening: each input channel is repeated, so that everything else sees co channels.
 */
#include "nn/conv.h"

typedef struct {
    int32_t cp; /* co rounded up to EFL_NR */
    int32_t h, w, taps;
    int16_t *image;   /* [h][w][cp] */
    int16_t *weights; /* [taps][cp] */
    int32_t *offs;    /* [taps] elements of the image */
    int32_t *bias;    /* [cp] */
    float *mult;
    size_t image_n;
} layout;

static size_t take(layout *l, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    l->cp = (d->co + EFL_NR - 1) / EFL_NR * EFL_NR;
    l->w = efl_image_w(d);
    l->h = efl_image_h(d) > d->pt + d->hi ? efl_image_h(d) : d->pt + d->hi;
    l->taps = d->kh * d->kw;
    const size_t cp = (size_t)l->cp, taps = (size_t)l->taps;
    l->image_n = (size_t)l->h * (size_t)l->w * cp;
    l->image = efl_scratch_take(&s, l->image_n * sizeof(int16_t));
    l->weights = efl_scratch_take(&s, taps * cp * sizeof(int16_t));
    l->offs = efl_scratch_take(&s, taps * sizeof(int32_t));
    l->bias = efl_scratch_take(&s, cp * sizeof(int32_t));
    l->mult = efl_scratch_take(&s, cp * sizeof(float));
    return s.used;
}

size_t efl_dwconv2d_i8_fwd_scratch_bytes(const efl_dims *d)
{
    layout l;
    return take(&l, d, NULL);
}

static void prepare(const layout *l, const efl_dims *d, const int8_t *w)
{
    const size_t co = (size_t)d->co, cp = (size_t)l->cp;
    for (int32_t t = 0; t < l->taps; t++) l->offs[t] = (t / d->kw * d->dh * l->w + t % d->kw * d->dw) * l->cp;
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

void efl_dwconv2d_i8_fwd(int8_t *y, const int8_t *x, const int8_t *w, const int32_t *b, const efl_dims *d,
                         const efl_requant_params *rq, void *scratch)
{
    const efl_kernel_table *k = efl_kernels();
    layout l;
    take(&l, d, scratch);
    prepare(&l, d, w);
    memset(l.image, 0, l.image_n * sizeof(int16_t));
    for (int32_t c = 0; c < l.cp; c++) {
        l.bias[c] = c < d->co ? b[c] : 0;
        l.mult[c] = rq->mult[rq->n_mult == 1 || c >= d->co ? 0 : c];
    }
    for (int32_t s = 0; s < d->n; s++, x += (size_t)d->hi * (size_t)d->wi * (size_t)d->ci) {
        load_image(&l, x, d, rq->x_zero);
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, y += d->co)
                for (int32_t c = 0; c < d->co; c += EFL_NR) {
                    int32_t acc[EFL_NR];
                    k->taps_dot(acc, l.image + pixel_at(&l, d, oy, ox) + c, l.offs, l.weights + c,
                                (size_t)l.cp, l.taps);
                    k->requant(y + c, 0, acc, 1, d->co - c < EFL_NR ? d->co - c : EFL_NR, l.bias + c,
                               l.mult + c, rq->lo, rq->hi, rq->y_zero);
                }
    }
}
