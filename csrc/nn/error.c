/* SPDX-License-Identifier: Apache-2.0
 *
 * Error tensors: int8 with one power of two for all. The exponent is taken from the largest value, so that it
 * lands in 64..127; every loss of bits is a round to nearest even.
 */
#include <string.h>

#include "core/kernels.h"
#include "core/threads.h"
#include "nn/error.h"
#include "nn/round.h"

#define TINY 8.673617379884035e-19f /* 2^-60: smaller errors are zero */

static void set_zero(efl_error *out, size_t n)
{
    memset(out->e, 0, n);
    out->k = 0;
    out->live = 0;
}

void efl_error_from_f32(efl_error *out, const float *x, size_t n)
{
    float top = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float a = x[i] < 0.0f ? -x[i] : x[i];
        top = a > top ? a : top;
    }
    if (top < TINY) {
        set_zero(out, n);
        return;
    }
    out->k = efl_ceil_log2_f32(top) - 7;
    out->live = 1;
    const float p = efl_scale2(1.0f, -out->k);
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * p;
        v = v < -127.0f ? -127.0f : v > 127.0f ? 127.0f : v;
        out->e[i] = (int8_t)(int32_t)efl_rne(v);
    }
}

void efl_error_from_i32(efl_error *out, const int32_t *x, size_t n, int32_t k)
{
    const uint32_t top = efl_kernels()->absmax_i32(x, n);
    if (top == 0) {
        set_zero(out, n);
        return;
    }
    const int32_t own = efl_ceil_log2_u32(top) - 7, shift = own > 0 ? own : 0;
    efl_kernels()->shift_i32(out->e, x, n, shift);
    out->k = k + shift;
    out->live = 1;
}

void efl_error_from_scaled(efl_error *out, const int32_t *x, size_t n, float s, int32_t k)
{
    /* rounding is monotone: the largest x gives the largest product; |x| < 2^31 */
    const float top = (float)(int32_t)efl_kernels()->absmax_i32(x, n) * s;
    if (top < TINY) {
        set_zero(out, n);
        return;
    }
    const int32_t own = efl_ceil_log2_f32(top) - 7;
    efl_kernels()->scale_i32(out->e, x, n, s, efl_scale2(1.0f, -own));
    out->k = k + own;
    out->live = 1;
}

int32_t efl_error_scales(float *scale, const uint8_t *top, size_t c, const float *s, size_t n_s)
{
    float m = 0.0f; /* rounding is monotone: the largest e of a channel gives its largest product */
    for (size_t j = 0; j < c; j++) {
        const float v = (float)top[j] * s[n_s == 1 ? 0 : j];
        m = v > m ? v : m;
    }
    if (m < TINY) return EFL_ERROR_TINY;
    const int32_t k = efl_ceil_log2_f32(m) - 7;
    /* a power of two commutes with rounding; where it does not, below 2^-126, the product rounds to 0 anyway
     */
    for (size_t j = 0; j < c; j++) scale[j] = s[n_s == 1 ? 0 : j] * efl_scale2(1.0f, -k);
    return k;
}

#define TASK 16384 /* elements of a task */

typedef struct {
    int8_t *out;
    const int8_t *in[EFL_FAN_OUT_MAX];
    int32_t up[EFL_FAN_OUT_MAX];
    int32_t n_in, shift;
    size_t n;
    uint32_t top[EFL_THREADS_MAX]; /* workers */
} merge;

/* One part of the largest sum, or, if m->out is set, of the result. */
static void merge_part(void *context, int32_t task, int32_t worker)
{
    merge *m = context;
    const size_t from = (size_t)task * TASK, part = m->n - from < TASK ? m->n - from : TASK;
    const int8_t *in[EFL_FAN_OUT_MAX];
    for (int32_t j = 0; j < m->n_in; j++) in[j] = m->in[j] + from;
    const uint32_t top =
        efl_kernels()->merge_i8(m->out ? m->out + from : NULL, in, m->up, m->n_in, part, m->shift);
    m->top[worker] = top > m->top[worker] ? top : m->top[worker];
}

void efl_error_merge_on(efl_error *out, const efl_error *in, int32_t n_in, size_t n, int32_t workers)
{
    int32_t low = 0, high = 0;
    merge m = {.n = n};
    for (int32_t j = 0; j < n_in; j++) { /* what is all zero has no exponent */
        if (!in[j].live) continue;
        low = !m.n_in || in[j].k < low ? in[j].k : low;
        high = !m.n_in || in[j].k > high ? in[j].k : high;
        m.in[m.n_in] = in[j].e;
        m.up[m.n_in++] = in[j].k;
    }
    low = low > high - 20 ? low : high - 20;
    for (int32_t j = 0; j < m.n_in; j++) m.up[j] -= low;
    const int32_t tasks = (int32_t)((n + TASK - 1) / TASK);
    if (m.n_in) efl_parallel(tasks, workers, merge_part, &m);
    uint32_t top = 0;
    for (int32_t w = 0; w < EFL_THREADS_MAX; w++) top = m.top[w] > top ? m.top[w] : top;
    if (top == 0) {
        set_zero(out, n);
        return;
    }
    const int32_t own = efl_ceil_log2_u32(top) - 7;
    m.shift = own > 0 ? own : 0;
    m.out = out->e;
    efl_parallel(tasks, workers, merge_part, &m);
    out->k = low + m.shift;
    out->live = 1;
}

void efl_error_merge(efl_error *out, const efl_error *in, int32_t n_in, size_t n)
{
    efl_error_merge_on(out, in, n_in, n, 1);
}
