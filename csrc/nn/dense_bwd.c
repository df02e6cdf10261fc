/* SPDX-License-Identifier: Apache-2.0
 * Dense layer, backward: a 1x1 convolution over one row of n pixels, each a whole sample.
 */
#include "nn/conv_bwd.h"

efl_dims efl_dense_as_conv(const efl_dims *d)
{
    const efl_dims c = {.n = 1,
                        .hi = 1,
                        .wi = d->n,
                        .ci = d->hi * d->wi * d->ci,
                        .ho = 1,
                        .wo = d->n,
                        .co = d->co,
                        .kh = 1,
                        .kw = 1,
                        .sh = 1,
                        .sw = 1,
                        .dh = 1,
                        .dw = 1,
                        .pt = 0,
                        .pl = 0,
                        .groups = 1,
                        .mult = 1};
    return c;
}

void efl_dense_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch)
{
    const efl_dims c = efl_dense_as_conv(d);
    efl_conv2d_i8_bwd_x(dx, e, w, &c, scratch);
}

void efl_dense_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                        void *scratch)
{
    const efl_dims c = efl_dense_as_conv(d);
    efl_conv2d_i8_bwd_w(dw, e, x, &c, x_zero, scratch);
}

size_t efl_dense_i8_bwd_x_scratch_bytes(const efl_dims *d)
{
    const efl_dims c = efl_dense_as_conv(d);
    return efl_conv2d_i8_bwd_x_scratch_bytes(&c);
}

size_t efl_dense_i8_bwd_w_scratch_bytes(const efl_dims *d)
{
    const efl_dims c = efl_dense_as_conv(d);
    return efl_conv2d_i8_bwd_w_scratch_bytes(&c);
}
