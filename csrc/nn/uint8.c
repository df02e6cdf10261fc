/* SPDX-License-Identifier: Apache-2.0
 *
 * What only models that were uint8 in the file need: weights with a zero point, and an average pool that
 * rounds half up. One plain path for all shapes; a window at a time. Never allocates.
 * A weight is q - z, so a sum of (x - z_x)*(q - z) is that of (x - z_x)*q less z times that of x - z_x; the
 * sum of e*(q - z) is that of e*q less z times that of e. Weight gradients do not depend on z. The forward
 * pass here serves z = -128 only; the packed kernels take any other zero point off themselves (packed.h).
 */
#include "nn/uint8.h"

#include <string.h>

#include "nn/conv_bwd.h"
#include "nn/fixed.h"
#include "nn/round.h"

static efl_dims as_conv(const efl_op *op, const efl_dims *d)
{
    return op->kind == EFL_OP_DENSE ? efl_dense_as_conv(d) : *d;
}

/* Element of the map under tap (ky, kx) of the window at (oy, ox), or -1 outside it. */
static int32_t under(const efl_dims *d, int32_t oy, int32_t ox, int32_t ky, int32_t kx)
{
    const int32_t iy = oy * d->sh - d->pt + ky * d->dh, ix = ox * d->sw - d->pl + kx * d->dw;
    return iy < 0 || iy >= d->hi || ix < 0 || ix >= d->wi ? -1 : (iy * d->wi + ix) * d->ci;
}

/* The reader keeps 255 * (128 + |z|) * terms + |b| below 2^31; a hostile plan wraps. */
static int8_t requantise(int32_t sum, int32_t c, const int32_t *b, const efl_requant_params *rq)
{
    const int32_t acc = (int32_t)((uint32_t)sum + (uint32_t)b[c]), scale = rq->n_mult == 1 ? 0 : c;
    if (rq->fixed) {
        const int32_t q = efl_fixed_times(acc, rq->fixed[scale]) + rq->y_zero;
        return (int8_t)(q < rq->lo ? rq->lo : q > rq->hi ? rq->hi : q);
    }
    const float lo = (float)(rq->lo - rq->y_zero), hi = (float)(rq->hi - rq->y_zero);
    float v = (float)acc * rq->mult[scale];
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    return (int8_t)((int32_t)efl_rne(v) + rq->y_zero);
}

/* window [kh][kw][depth] <- x - zero from channel `first` on, 0 outside the map; returns their sum. */
static int32_t gather(int16_t *window, const int8_t *x, const efl_dims *d, int32_t oy, int32_t ox,
                      int32_t first, int32_t depth, int32_t zero)
{
    int32_t sum = 0;
    for (int32_t ky = 0; ky < d->kh; ky++)
        for (int32_t kx = 0; kx < d->kw; kx++, window += depth) {
            const int32_t at = under(d, oy, ox, ky, kx);
            if (at < 0) {
                memset(window, 0, (size_t)depth * sizeof *window);
                continue;
            }
            for (int32_t c = 0; c < depth; c++) {
                window[c] = (int16_t)(x[at + first + c] - zero);
                sum += window[c];
            }
        }
    return sum;
}

static int32_t dot(const int16_t *x, const int8_t *q, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) sum += x[i] * q[i];
    return sum;
}

static void conv_pixel(int8_t *y, const int8_t *x, const efl_param *p, const efl_dims *d, int32_t oy,
                       int32_t ox, const efl_requant_params *rq, int16_t *window)
{
    const int32_t depth = d->ci / d->groups, outs = d->co / d->groups, terms = d->kh * d->kw * depth;
    for (int32_t g = 0; g < d->groups; g++) {
        const int32_t sum = gather(window, x, d, oy, ox, g * depth, depth, rq->x_zero);
        for (int32_t c = g * outs; c < (g + 1) * outs; c++) {
            const int32_t acc = dot(window, p->q + (size_t)c * (size_t)terms, terms) - p->q_zero * sum;
            y[c] = requantise(acc, c, p->b, rq);
        }
    }
}

static void dwconv_pixel(int8_t *y, const int8_t *x, const efl_param *p, const efl_dims *d, int32_t oy,
                         int32_t ox, const efl_requant_params *rq, int32_t *acc)
{
    memset(acc, 0, (size_t)d->co * sizeof *acc);
    const int8_t *q = p->q;
    for (int32_t ky = 0; ky < d->kh; ky++)
        for (int32_t kx = 0; kx < d->kw; kx++, q += d->co) {
            const int32_t at = under(d, oy, ox, ky, kx);
            if (at < 0) continue;
            if (d->mult == 1)
                for (int32_t c = 0; c < d->co; c++) acc[c] += (x[at + c] - rq->x_zero) * (q[c] - p->q_zero);
            else
                for (int32_t c = 0; c < d->co; c++)
                    acc[c] += (x[at + c / d->mult] - rq->x_zero) * (q[c] - p->q_zero);
        }
    for (int32_t c = 0; c < d->co; c++) y[c] = requantise(acc[c], c, p->b, rq);
}

size_t efl_zeroed_fwd_scratch_bytes(const efl_op *op)
{
    const efl_dims d = as_conv(op, &op->dims);
    return op->kind == EFL_OP_DWCONV2D ? (size_t)d.co * sizeof(int32_t)
                                       : (size_t)(d.kh * d.kw * (d.ci / d.groups)) * sizeof(int16_t);
}

void efl_zeroed_fwd(int8_t *y, const int8_t *x, const efl_op *op, const efl_param *p, const efl_dims *dims,
                    const efl_requant_params *rq, void *scratch)
{
    const efl_dims d = as_conv(op, dims);
    for (int32_t s = 0; s < d.n; s++, x += d.hi * d.wi * d.ci)
        for (int32_t oy = 0; oy < d.ho; oy++)
            for (int32_t ox = 0; ox < d.wo; ox++, y += d.co)
                if (op->kind == EFL_OP_DWCONV2D)
                    dwconv_pixel(y, x, p, &d, oy, ox, rq, scratch);
                else
                    conv_pixel(y, x, p, &d, oy, ox, rq, scratch);
}

static void conv_pixel_back(int32_t *dx, const int8_t *e, const efl_param *p, const efl_dims *d, int32_t oy,
                            int32_t ox, int32_t *window)
{
    const int32_t depth = d->ci / d->groups, outs = d->co / d->groups, terms = d->kh * d->kw * depth;
    for (int32_t g = 0; g < d->groups; g++) {
        int32_t sum = 0;
        for (int32_t c = g * outs; c < (g + 1) * outs; c++) sum += e[c];
        for (int32_t i = 0; i < terms; i++) window[i] = -p->q_zero * sum;
        for (int32_t c = g * outs; c < (g + 1) * outs; c++) {
            const int8_t *q = p->q + (size_t)c * (size_t)terms;
            if (e[c])
                for (int32_t i = 0; i < terms; i++) window[i] += e[c] * q[i];
        }
        const int32_t *part = window;
        for (int32_t ky = 0; ky < d->kh; ky++)
            for (int32_t kx = 0; kx < d->kw; kx++, part += depth) {
                const int32_t at = under(d, oy, ox, ky, kx);
                for (int32_t c = 0; at >= 0 && c < depth; c++) dx[at + g * depth + c] += part[c];
            }
    }
}

static void dwconv_pixel_back(int32_t *dx, const int8_t *e, const efl_param *p, const efl_dims *d, int32_t oy,
                              int32_t ox)
{
    const int8_t *q = p->q;
    for (int32_t ky = 0; ky < d->kh; ky++)
        for (int32_t kx = 0; kx < d->kw; kx++, q += d->co) {
            const int32_t at = under(d, oy, ox, ky, kx);
            for (int32_t c = 0; at >= 0 && c < d->co; c++) dx[at + c / d->mult] += e[c] * (q[c] - p->q_zero);
        }
}

size_t efl_zeroed_bwd_x_scratch_bytes(int32_t kind, const efl_dims *d)
{
    return kind == EFL_OP_DWCONV2D ? 0 : (size_t)(d->kh * d->kw * (d->ci / d->groups)) * sizeof(int32_t);
}

/* |e * (q - z)| <= 127 * 255 and at most 65536 products a sum: 65536 * 127 * 255 < 2^31. */
void efl_zeroed_bwd_x(int32_t *dx, const int8_t *e, int32_t kind, const efl_param *p, const efl_dims *d,
                      void *scratch)
{
    const size_t in = (size_t)(d->hi * d->wi * d->ci);
    memset(dx, 0, (size_t)d->n * in * sizeof *dx);
    for (int32_t s = 0; s < d->n; s++, dx += in)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, e += d->co)
                if (kind == EFL_OP_DWCONV2D)
                    dwconv_pixel_back(dx, e, p, d, oy, ox);
                else
                    conv_pixel_back(dx, e, p, d, oy, ox, scratch);
}

uint64_t efl_zeroed_sum2(const efl_param *p)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < p->len; i++) {
        const int32_t w = p->q[i] - p->q_zero;
        sum += (uint64_t)(w * w);
    }
    return sum;
}

void efl_avgpool_u8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi)
{
    for (int32_t s = 0; s < d->n; s++, x += d->hi * d->wi * d->ci)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++)
                for (int32_t c = 0; c < d->ci; c++) {
                    int32_t sum = 0, count = 0;
                    for (int32_t ky = 0; ky < d->kh; ky++)
                        for (int32_t kx = 0; kx < d->kw; kx++) {
                            const int32_t at = under(d, oy, ox, ky, kx);
                            if (at < 0) continue;
                            sum += x[at + c] + 128; /* at least 0: the division rounds down */
                            count++;
                        }
                    const int32_t v = (sum + count / 2) / count - 128;
                    *y++ = (int8_t)(v < lo ? lo : v > hi ? hi : v);
                }
}

void efl_mean_u8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq)
{
    const int32_t pixels = d->hi * d->wi;
    const float s = rq->mult[0], bias = (float)(rq->y_zero + 128) - (float)(pixels * (rq->x_zero + 128)) * s;
    for (int32_t n = 0; n < d->n; n++, x += pixels * d->ci)
        for (int32_t c = 0; c < d->ci; c++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < pixels; i++) sum += x[i * d->ci + c] + 128;
            float v = (float)sum * s + bias;
            v = v < (float)(rq->lo + 128) ? (float)(rq->lo + 128) : v;
            v = v > (float)(rq->hi + 128) ? (float)(rq->hi + 128) : v;
            *y++ = (int8_t)((int32_t)efl_rne(v) - 128);
        }
}
