/* SPDX-License-Identifier: Apache-2.0
 * Dense layer: a 1x1 convolution over one column of n pixels, each a whole sample.
 */
#include "edgefl.h"

static efl_dims as_conv(const efl_dims *d)
{
    const efl_dims c = {.n = 1,
                        .hi = d->n,
                        .wi = 1,
                        .ci = d->hi * d->wi * d->ci,
                        .ho = d->n,
                        .wo = 1,
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
                        .mult = 1,
                        .w_zero = d->w_zero};
    return c;
}

size_t efl_dense_i8_packed_bytes(const efl_dims *d)
{
    const efl_dims c = as_conv(d);
    return efl_conv2d_i8_packed_bytes(&c);
}

void efl_dense_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                       const efl_requant_params *rq)
{
    const efl_dims c = as_conv(d);
    efl_conv2d_i8_pack(packed, w, b, &c, rq);
}

void efl_dense_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq)
{
    const efl_dims c = as_conv(d);
    efl_conv2d_i8_fold(packed, b, &c, rq);
}

void efl_dense_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                      const efl_requant_params *rq, void *scratch)
{
    const efl_dims c = as_conv(d);
    efl_conv2d_i8_fwd(y, x, packed, &c, rq, scratch);
}

size_t efl_dense_i8_fwd_scratch_bytes(const efl_dims *d)
{
    const efl_dims c = as_conv(d);
    return efl_conv2d_i8_fwd_scratch_bytes(&c);
}
