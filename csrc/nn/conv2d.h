/* SPDX-License-Identifier: Apache-2.0
 * Parts of the forward passes, for each other and for callers that share a layer among threads: `first` and
 * `last` count output rows over all samples, row r is row r % ho of sample r / ho. Each thread needs scratch
 * of its own.
 */
#ifndef EFL_NN_CONV2D_H
#define EFL_NN_CONV2D_H
#include "edgefl.h"

void efl_conv2d_i8_fwd_rows(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                            const efl_requant_params *rq, int32_t first, int32_t last, void *scratch);
void efl_dwconv2d_i8_fwd_rows(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                              const efl_requant_params *rq, int32_t first, int32_t last, void *scratch);

/* efl_conv2d_i8_pack for an ungrouped convolution whose weights are [kh,kw,ci,co]. */
void efl_conv2d_i8_pack_columns(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                                const efl_requant_params *rq);

#endif
