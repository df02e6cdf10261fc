/* SPDX-License-Identifier: Apache-2.0
 * What only models that were uint8 in the file need; see uint8.c.
 */
#ifndef EFL_NN_UINT8_H
#define EFL_NN_UINT8_H
#include "edgefl.h"

/* Convolution, depthwise and dense with weights q - q_zero; shapes as in efl_conv2d_i8_fwd and its siblings.
 */
size_t efl_zeroed_fwd_scratch_bytes(const efl_op *op);
void efl_zeroed_fwd(int8_t *y, const int8_t *x, const efl_op *op, const efl_param *p, const efl_dims *d,
                    const efl_requant_params *rq, void *scratch);
/* kind: a depthwise convolution, or anything in the shape of a convolution. */
size_t efl_zeroed_bwd_x_scratch_bytes(int32_t kind, const efl_dims *d);
void efl_zeroed_bwd_x(int32_t *dx, const int8_t *e, int32_t kind, const efl_param *p, const efl_dims *d,
                      void *scratch);

/* Sum of (q - q_zero)^2. */
uint64_t efl_zeroed_sum2(const efl_param *p);

/* Average pool that rounds half up, half away from zero in uint8; mean whose float sums are those of uint8.
 */
void efl_mean_u8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq);
void efl_avgpool_u8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi);

#endif
