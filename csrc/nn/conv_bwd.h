/* SPDX-License-Identifier: Apache-2.0
 *
 * The two backward passes of a convolution as the training step runs them: prepared once for a micro-batch,
 * then sample by sample (dX), or handed on in tiles (dW).
 */
#ifndef EFL_NN_CONV_BWD_H
#define EFL_NN_CONV_BWD_H
#include "edgefl.h"
#include "nn/dot8.h"

/* A dense layer as a 1x1 convolution over one row of n pixels, each a whole sample. */
efl_dims efl_dense_as_conv(const efl_dims *d);

typedef struct {
    efl_dims d;
    struct efl_bwd_x_phase *phases; /* [sh * sw] */
    uint8_t *images;                /* [workers] one sample of errors [h][w][co], zeros around it */
    int32_t *tiles;                 /* [workers] for columns that do not fill a register */
    int32_t *tops;                  /* [workers][16] */
    size_t image_n;
    int32_t top, left, h, w;
} efl_bwd_x;

/* Pack the weights w; scratch has the size that the twin says. */
void efl_bwd_x_begin(efl_bwd_x *l, const int8_t *w, const efl_dims *d, int32_t workers, void *scratch);
size_t efl_bwd_x_bytes(const efl_dims *d, int32_t workers);
/* dx [hi,wi,ci] <- sums of e' * w, e' = clamp(rne(e * scale[co])) to +-127, of one sample e [ho,wo,co].
 * Returns the largest |dx|. The second form spreads the sample over all workers. */
uint32_t efl_bwd_x_sample(const efl_bwd_x *l, int32_t *dx, const int8_t *e, const float *scale,
                          int32_t worker);
uint32_t efl_bwd_x_shared(const efl_bwd_x *l, int32_t *dx, const int8_t *e, const float *scale,
                          int32_t workers);

/* A part of A: rows k.. (in the weights' order [kh,kw,ci]) by output channels c... */
typedef struct {
    const int32_t *sums; /* [16][ld], rows and cols of them valid: A + fix[col] */
    const int32_t *fix;  /* [cols] */
    const int32_t *b;    /* [cols] sum of e */
    int32_t ld, k, rows, c, cols;
} efl_bwd_w_tile;

typedef void efl_bwd_w_sink(void *context, const efl_bwd_w_tile *tile, int32_t worker);

/* Hand every tile of A = sum e*(x - x_zero), of d->n samples with at most 65536 pixels in all, to the sink;
 * on several workers at once, up to sink_workers. */
void efl_bwd_w_run(const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero, efl_bwd_w_sink *sink,
                   void *context, int32_t workers, int32_t sink_workers, void *scratch);
size_t efl_bwd_w_bytes(const efl_dims *d, int32_t workers);

#endif
