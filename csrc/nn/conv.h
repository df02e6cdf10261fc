/* SPDX-License-Identifier: Apache-2.0
 * What the convolution passes share: a widened, padded image of one sample.
 */
#ifndef EFL_NN_CONV_H
#define EFL_NN_CONV_H
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/scratch.h"

/* Elements that may be read, never used, behind an image: an odd run, a pair's missing pixel, a block's tail.
 */
static inline size_t efl_image_slack(const efl_dims *d)
{
    return (size_t)d->sw * (size_t)d->ci + 4 * EFL_NR;
}

/* Padded width and height that the taps of a convolution reach; rows keep their whole input. */
static inline int32_t efl_image_w(const efl_dims *d)
{
    const int32_t reach = (d->wo - 1) * d->sw + (d->kw - 1) * d->dw + 1;
    return reach > d->pl + d->wi ? reach : d->pl + d->wi;
}
static inline int32_t efl_image_h(const efl_dims *d)
{
    return (d->ho - 1) * d->sh + (d->kh - 1) * d->dh + 1;
}

/* image [image_h][image_w][c] <- sample x [hi][wi][c] minus its zero point; the padding must be zero already.
 */
static inline void efl_image_load(int16_t *image, const int8_t *x, const efl_dims *d, int32_t zero)
{
    const size_t c = (size_t)d->ci, wi = (size_t)d->wi, wp = (size_t)efl_image_w(d);
    const int32_t reach = efl_image_h(d) - d->pt;
    const size_t rows = (size_t)(d->hi < reach ? d->hi : reach > 0 ? reach : 0);
    int16_t *at = image + ((size_t)d->pt * wp + (size_t)d->pl) * c;
    if (wp == wi)
        efl_kernels()->widen(at, x, rows * wi * c, zero);
    else
        for (size_t row = 0; row < rows; row++)
            efl_kernels()->widen(at + row * wp * c, x + row * wi * c, wi * c, zero);
}

#endif
