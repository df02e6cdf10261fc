/* SPDX-License-Identifier: Apache-2.0
 * Limits of every operator's shapes; operators that only move or rescale bytes: pad and requant.
 */
#include <string.h>

#include "edgefl.h"

#define SIZE_MAX_ELEMENTS (1 << 30)

static int axis_fits(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation,
                     int32_t before)
{
    const int64_t reach = (int64_t)(kernel - 1) * dilation + 1;
    /* every window has at least one tap inside the map */
    return before >= 0 && before < reach && (int64_t)(out - 1) * stride - before < in;
}

static int sizes_fit(const efl_dims *d)
{
    const int32_t all[] = {d->n,  d->hi, d->wi, d->ci, d->ho, d->wo,     d->co,  d->kh,
                           d->kw, d->sh, d->sw, d->dh, d->dw, d->groups, d->mult};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] < 1 || all[i] > EFL_TERMS_MAX) return 0;
    const int64_t h = (int64_t)(d->ho - 1) * d->sh + (int64_t)(d->kh - 1) * d->dh + d->hi + d->pt;
    const int64_t w = (int64_t)(d->wo - 1) * d->sw + (int64_t)(d->kw - 1) * d->dw + d->wi + d->pl;
    if (h > EFL_TERMS_MAX || w > EFL_TERMS_MAX || h * w > SIZE_MAX_ELEMENTS) return 0;
    const int64_t c = d->ci > d->co ? d->ci : d->co;
    return h * w * c <= SIZE_MAX_ELEMENTS && (int64_t)d->n * d->hi * d->wi * d->ci <= SIZE_MAX_ELEMENTS &&
           (int64_t)d->n * d->ho * d->wo * d->co <= SIZE_MAX_ELEMENTS;
}

efl_status efl_dims_check(const efl_dims *d, int32_t kind)
{
    if (!d) return EFL_E_NULL;
    const int free_shape = kind == EFL_OP_BINARY || kind == EFL_OP_MOVE,
              known = free_shape || kind == EFL_OP_TABLE || kind == EFL_OP_LSTM ||
                      kind == EFL_OP_SVDF; /* checked with its own parameters */
    if ((kind < EFL_OP_CONV2D || kind > EFL_OP_REQUANT) && !known) return EFL_E_OP;
    if (!sizes_fit(d) || d->sh * (int64_t)d->sw > 1024) return EFL_E_SHAPE;
    const int64_t taps = (int64_t)d->kh * d->kw, in = (int64_t)d->hi * d->wi * d->ci;
    const int same = d->hi == d->ho && d->wi == d->wo && d->ci == d->co;
    const int windows = axis_fits(d->hi, d->ho, d->kh, d->sh, d->dh, d->pt) &&
                        axis_fits(d->wi, d->wo, d->kw, d->sw, d->dw, d->pl);
    int fits = 0;
    switch (kind) {
    case EFL_OP_CONV2D:
        fits = windows && d->ci % d->groups == 0 && d->co % d->groups == 0 && taps * d->ci <= EFL_TERMS_MAX &&
               taps * d->co <= EFL_TERMS_MAX;
        break;
    case EFL_OP_DWCONV2D:
        fits = windows && d->co == (int64_t)d->ci * d->mult && taps * d->mult <= EFL_TERMS_MAX;
        break;
    case EFL_OP_DENSE:
        fits = in <= EFL_TERMS_MAX && d->ho == 1 && d->wo == 1 && in * d->co <= SIZE_MAX_ELEMENTS &&
               in * d->n <= SIZE_MAX_ELEMENTS;
        break;
    case EFL_OP_AVGPOOL: /* 127 * 2^(15 + c) in int32 */
        fits = windows && d->ci == d->co && d->dh == 1 && d->dw == 1 && taps <= EFL_TERMS_MAX;
        break;
    case EFL_OP_MAXPOOL:
        fits = windows && d->ci == d->co && d->dh == 1 && d->dw == 1;
        break;
    case EFL_OP_MEAN:
        fits = d->ho == 1 && d->wo == 1 && d->ci == d->co && (int64_t)d->hi * d->wi <= EFL_TERMS_MAX;
        break;
    case EFL_OP_PAD:
        fits = d->ci == d->co && d->pt >= 0 && d->pl >= 0 && d->ho - d->pt >= d->hi && d->wo - d->pl >= d->wi;
        break;
    case EFL_OP_COPY:
        fits = in == (int64_t)d->ho * d->wo * d->co;
        break;
    case EFL_OP_LSTM:
        fits = d->hi == 1 && d->ho == 1 && d->wi == d->wo && d->ci <= EFL_TERMS_MAX / 2 &&
               d->co <= EFL_TERMS_MAX / 4 && (int64_t)d->n * d->wi * d->co <= SIZE_MAX_ELEMENTS / 8;
        break;
    case EFL_OP_SVDF:
        fits = d->hi == 1 && d->wi == 1 && d->ho == 1 && d->wo == 1 && d->ci <= EFL_TERMS_MAX / 2;
        break;
    default: /* ADD, SOFTMAX, REQUANT, TABLE */
        fits = same || free_shape;
    }
    return fits ? EFL_OK : EFL_E_SHAPE;
}

void efl_pad_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t zero)
{
    const size_t c = (size_t)d->ci, row = (size_t)d->wi * c, out = (size_t)d->wo * c;
    memset(y, zero, (size_t)d->n * (size_t)d->ho * out);
    for (int32_t s = 0; s < d->n; s++, y += (size_t)d->ho * out)
        for (int32_t iy = 0; iy < d->hi; iy++, x += row)
            memcpy(y + (size_t)(iy + d->pt) * out + (size_t)d->pl * c, x, row);
}

void efl_pad_i8_bwd_x(int8_t *dx, const int8_t *e, const efl_dims *d)
{
    const size_t c = (size_t)d->ci, row = (size_t)d->wi * c, out = (size_t)d->wo * c;
    for (int32_t s = 0; s < d->n; s++, e += (size_t)d->ho * out)
        for (int32_t iy = 0; iy < d->hi; iy++, dx += row)
            memmove(dx, e + (size_t)(iy + d->pt) * out + (size_t)d->pl * c, row);
}

void efl_requant_i8_fwd(int8_t *y, const int8_t *x, size_t n, int32_t mult, int32_t x_zero, int32_t y_zero)
{
    for (size_t i = 0; i < n; i++) {
        /* |x - z| <= 255, mult <= 2^15: below 2^23 */
        const int32_t v = (((x[i] - x_zero) * mult + 128) >> 8) + y_zero;
        y[i] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
    }
}
