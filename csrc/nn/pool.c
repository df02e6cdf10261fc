/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pool (integer, half away from zero), max pool and mean over the map, forward and backward. Only
 * elements inside the map count. Backward of the two averages works in units of 2^-(15 + c), c = ceil(log2 of
 * the window).
 */
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"
#include "nn/plan.h"
#include "nn/round.h"

/* The part [from, to) of a window that lies inside an axis of n. */
typedef struct {
    int32_t from, to;
} span;

static span inside(int32_t out, int32_t stride, int32_t pad, int32_t kernel, int32_t n)
{
    const int32_t at = out * stride - pad;
    const span s = {at < 0 ? 0 : at, at + kernel > n ? n : at + kernel};
    return s;
}

/* Channels at a time, so that their sums or marks fit on the stack. */
#define STRIPE 256

/* sum [n] <- over rows r and columns q of the map x, channels from c0 on. */
static void sum_window(int32_t *sum, const int8_t *x, const efl_dims *d, span r, span q, int32_t c0,
                       int32_t n)
{
    const efl_kernel_table *k = efl_kernels();
    const int32_t c = d->ci, cols = q.to - q.from;
    memset(sum, 0, (size_t)n * sizeof(int32_t));
    if (n == c && cols == d->wi) {
        k->sum_cols(sum, x + r.from * d->wi * c, (size_t)((r.to - r.from) * cols), (size_t)c);
        return;
    }
    for (int32_t iy = r.from; iy < r.to; iy++) {
        const int8_t *row = x + (iy * d->wi + q.from) * c + c0;
        if (n == c)
            k->sum_cols(sum, row, (size_t)cols, (size_t)c);
        else
            for (int32_t ix = 0; ix < cols; ix++) k->sum_cols(sum, row + ix * c, 1, (size_t)n);
    }
}

static int8_t clamp_i8(int32_t v, int32_t lo, int32_t hi)
{
    return (int8_t)(v < lo ? lo : v > hi ? hi : v);
}

void efl_avgpool_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi)
{
    const int32_t c = d->ci;
    for (int32_t s = 0; s < d->n; s++, x += d->hi * d->wi * c)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, y += c) {
                const span r = inside(oy, d->sh, d->pt, d->kh, d->hi),
                           q = inside(ox, d->sw, d->pl, d->kw, d->wi);
                const int32_t count = (r.to - r.from) * (q.to - q.from);
                for (int32_t c0 = 0; c0 < c; c0 += STRIPE) {
                    const int32_t n = c - c0 < STRIPE ? c - c0 : STRIPE;
                    int32_t sum[STRIPE];
                    sum_window(sum, x, d, r, q, c0, n);
                    for (int32_t j = 0; j < n; j++)
                        y[c0 + j] =
                            clamp_i8((sum[j] > 0 ? sum[j] + count / 2 : sum[j] - count / 2) / count, lo, hi);
                }
            }
}

/* rne(2^(15 + c) / count) */
static int32_t share(int32_t window_log2, int32_t count)
{
    const int64_t one = (int64_t)1 << (15 + window_log2);
    const int64_t whole = one / count, rest = one % count;
    return (int32_t)(whole + (2 * rest > count || (2 * rest == count && (whole & 1))));
}

int efl_avgpool_bwd_fits(const efl_dims *d)
{
    int32_t least = d->kh * d->kw; /* elements of the emptiest window: a corner */
    for (int32_t y = 0; y < 2; y++)
        for (int32_t x = 0; x < 2; x++) {
            const span r = inside(y ? d->ho - 1 : 0, d->sh, d->pt, d->kh, d->hi);
            const span q = inside(x ? d->wo - 1 : 0, d->sw, d->pl, d->kw, d->wi);
            const int32_t count = (r.to - r.from) * (q.to - q.from);
            least = count < least ? count : least;
        }
    const int64_t windows = (int64_t)((d->kh + d->sh - 1) / d->sh) * ((d->kw + d->sw - 1) / d->sw);
    return windows * 127 * share(efl_ceil_log2_u32((uint32_t)(d->kh * d->kw)), least) < 2130000000;
}

void efl_avgpool_i8_bwd_x(int32_t *dx, const int8_t *e, const efl_dims *d)
{
    const int32_t c = d->ci, log2 = efl_ceil_log2_u32((uint32_t)(d->kh * d->kw));
    memset(dx, 0, (size_t)d->n * (size_t)(d->hi * d->wi * c) * sizeof(int32_t));
    for (int32_t s = 0; s < d->n; s++, dx += d->hi * d->wi * c)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, e += c) {
                const span r = inside(oy, d->sh, d->pt, d->kh, d->hi),
                           q = inside(ox, d->sw, d->pl, d->kw, d->wi);
                const int32_t part = share(log2, (r.to - r.from) * (q.to - q.from));
                for (int32_t iy = r.from; iy < r.to; iy++)
                    for (int32_t ix = q.from; ix < q.to; ix++) {
                        int32_t *to = dx + (iy * d->wi + ix) * c;
                        for (int32_t j = 0; j < c; j++) to[j] += e[j] * part;
                    }
            }
}

void efl_maxpool_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi)
{
    const efl_kernel_table *k = efl_kernels();
    const int32_t c = d->ci;
    for (int32_t s = 0; s < d->n; s++, x += d->hi * d->wi * c)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, y += c) {
                const span r = inside(oy, d->sh, d->pt, d->kh, d->hi),
                           q = inside(ox, d->sw, d->pl, d->kw, d->wi);
                memset(y, lo, (size_t)c);
                for (int32_t iy = r.from; iy < r.to; iy++)
                    for (int32_t ix = q.from; ix < q.to; ix++)
                        k->max_i8(y, x + (iy * d->wi + ix) * c, (size_t)c);
                if (hi < 127)
                    for (int32_t j = 0; j < c; j++) y[j] = clamp_i8(y[j], lo, hi);
            }
}

void efl_maxpool_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *x, const efl_dims *d)
{
    const efl_kernel_table *k = efl_kernels();
    const int32_t c = d->ci;
    int8_t top[STRIPE], done[STRIPE];
    memset(dx, 0, (size_t)d->n * (size_t)(d->hi * d->wi * c) * sizeof(int32_t));
    for (int32_t s = 0; s < d->n; s++, dx += d->hi * d->wi * c, x += d->hi * d->wi * c)
        for (int32_t oy = 0; oy < d->ho; oy++)
            for (int32_t ox = 0; ox < d->wo; ox++, e += c) {
                const span r = inside(oy, d->sh, d->pt, d->kh, d->hi),
                           q = inside(ox, d->sw, d->pl, d->kw, d->wi);
                for (int32_t c0 = 0; c0 < c; c0 += STRIPE) {
                    const size_t n = (size_t)(c - c0 < STRIPE ? c - c0 : STRIPE);
                    memset(top, -128, n);
                    memset(done, 0, n);
                    for (int32_t iy = r.from; iy < r.to; iy++)
                        for (int32_t ix = q.from; ix < q.to; ix++)
                            k->max_i8(top, x + (iy * d->wi + ix) * c + c0, n);
                    for (int32_t iy = r.from; iy < r.to; iy++) /* the first maximum in row-major order */
                        for (int32_t ix = q.from; ix < q.to; ix++) {
                            const int32_t at = (iy * d->wi + ix) * c + c0;
                            k->route_max(dx + at, done, e + c0, x + at, top, n);
                        }
                }
            }
}

void efl_mean_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq)
{
    const int32_t c = d->ci, pixels = d->hi * d->wi;
    const float lo = (float)rq->lo, hi = (float)rq->hi;
    /* The zero points enter as XNNPACK adds them, which decides ties: 0 of 89 600 outputs differ. */
    const float bias = (float)rq->y_zero - (float)(pixels * rq->x_zero) * rq->mult[0];
    const span rows = {0, d->hi}, cols = {0, d->wi};
    for (int32_t s = 0; s < d->n; s++, x += pixels * c, y += c)
        for (int32_t c0 = 0; c0 < c; c0 += STRIPE) {
            const int32_t n = c - c0 < STRIPE ? c - c0 : STRIPE;
            int32_t sum[STRIPE];
            sum_window(sum, x, d, rows, cols, c0, n);
            for (int32_t j = 0; j < n; j++) {
                float v = (float)sum[j] * rq->mult[0] + bias;
                v = v < lo ? lo : v > hi ? hi : v;
                y[c0 + j] = (int8_t)efl_rne(v);
            }
        }
}

void efl_mean_i8_bwd_x(int32_t *dx, const int8_t *e, const efl_dims *d)
{
    const int32_t c = d->ci, pixels = d->hi * d->wi;
    const int32_t part = share(efl_ceil_log2_u32((uint32_t)pixels), pixels);
    for (int32_t s = 0; s < d->n; s++, e += c)
        for (int32_t i = 0; i < pixels; i++, dx += c)
            for (int32_t j = 0; j < c; j++) dx[j] = e[j] * part;
}
