/* SPDX-License-Identifier: Apache-2.0
 * The public forms of a convolution's backward passes: all samples, errors without a scale, all of A.
 */
#include "nn/conv_bwd.h"
#include "nn/scratch.h"

static float *take_ones(efl_scratch *s, const efl_dims *d)
{
    return efl_scratch_take(s, (size_t)d->co * sizeof(float));
}

size_t efl_conv2d_i8_bwd_x_scratch_bytes(const efl_dims *d)
{
    efl_scratch s = {NULL, 0};
    take_ones(&s, d);
    return s.used + efl_bwd_x_bytes(d, 1);
}

void efl_conv2d_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    float *ones = take_ones(&s, d);
    for (int32_t c = 0; c < d->co; c++) ones[c] = 1.0f;
    efl_bwd_x l;
    efl_bwd_x_begin(&l, w, d, 1, efl_scratch_take(&s, 0));
    for (int32_t i = 0; i < d->n; i++)
        efl_bwd_x_sample(&l, dx + (size_t)i * (size_t)(d->hi * d->wi * d->ci),
                         e + (size_t)i * (size_t)(d->ho * d->wo * d->co), ones, 0);
}

typedef struct {
    int32_t *dw;
    int32_t k;
} whole;

static void store(void *context, const efl_bwd_w_tile *t, int32_t worker)
{
    (void)worker;
    const whole *to = context;
    for (int32_t i = 0; i < t->rows; i++)
        for (int32_t j = 0; j < t->cols; j++)
            to->dw[(size_t)(t->c + j) * (size_t)to->k + (size_t)(t->k + i)] =
                t->sums[i * t->ld + j] - t->fix[j];
}

size_t efl_conv2d_i8_bwd_w_scratch_bytes(const efl_dims *d)
{
    return efl_bwd_w_bytes(d, 1);
}

void efl_conv2d_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                         void *scratch)
{
    whole to = {dw, d->kh * d->kw * (d->ci / d->groups)};
    efl_bwd_w_run(e, x, d, x_zero, store, &to, 1, 1, scratch);
}
