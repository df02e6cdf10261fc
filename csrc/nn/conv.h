/* SPDX-License-Identifier: Apache-2.0
 * What the convolution passes share: the size of a padded image.
 */
#ifndef EFL_NN_CONV_H
#define EFL_NN_CONV_H
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/scratch.h"

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

#endif
