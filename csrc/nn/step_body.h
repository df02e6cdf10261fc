/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the loops in step_loops.h, as in loops_body.h.
 */
#include <string.h>

#include "nn/loops.h"
#include "nn/step_loops.h"

void EFL_FN(mask_top)(uint8_t *top, int8_t *e, const int8_t *y, size_t n, size_t c, int32_t lo, int32_t hi)
{
    /* lo and hi may be one outside int8 (no bound): compare in int8 with one bound folded in */
    const int8_t first = (int8_t)(lo + 1), last = (int8_t)(hi - 1);
    if (y)
        for (size_t i = 0; i < n * c; i++)
            e[i] = (int8_t)(e[i] & -(int8_t)((y[i] >= first) & (y[i] <= last)));
    for (size_t i = 0; i < n; i++, e += c)
        for (size_t j = 0; j < c; j++) {
            const uint8_t m = (uint8_t)(e[j] < 0 ? -e[j] : e[j]);
            top[j] = m > top[j] ? m : top[j];
        }
}

void EFL_FN(shift_i32)(int8_t *dst, const int32_t *x, size_t n, int32_t s)
{
    const int32_t half = s > 0 ? (1 << (s - 1)) - 1 : 0, odd = s > 0 ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        int32_t v = (x[i] + half + ((x[i] >> s) & odd)) >> s;
        v = v < -127 ? -127 : v;
        v = v > 127 ? 127 : v;
        dst[i] = (int8_t)v;
    }
}

void EFL_FN(split_i32)(int8_t *high, uint8_t *low, const int32_t *x, size_t n, int32_t s)
{
    const int32_t mask = (int32_t)((1u << s) - 1);
    for (size_t i = 0; i < n; i++) {
        const int32_t v = (x[i] >> s) | ((x[i] & mask) != 0);
        high[i] = (int8_t)(v >> 8);
        low[i] = (uint8_t)v;
    }
}

void EFL_FN(join_shift)(int8_t *e, const uint8_t *low, size_t n, int32_t s)
{
    s = s > 14 ? 14 : s; /* 0 from a shift of 12 on */
    const int32_t half = s > 0 ? (1 << (s - 1)) - 1 : 0, odd = s > 0 ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t x = 256 * e[i] + low[i];
        int32_t v = (x + half + ((x >> s) & odd)) >> s;
        v = v < -127 ? -127 : v;
        v = v > 127 ? 127 : v;
        e[i] = (int8_t)v;
    }
}

uint32_t EFL_FN(merge_i8)(int8_t *dst, const int8_t *const *in, const int32_t *up, int32_t n_in, size_t n,
                          int32_t s)
{
    int32_t sum[512];
    uint32_t most = 0;
    for (size_t from = 0; from < n; from += 512) {
        const size_t part = n - from < 512 ? n - from : 512;
        memset(sum, 0, sizeof sum);
        for (int32_t j = 0; j < n_in; j++) EFL_FN(add_error)(sum, in[j] + from, part, up[j]);
        if (dst) {
            EFL_FN(shift_i32)(dst + from, sum, part, s);
            continue;
        }
        const uint32_t top = EFL_FN(absmax_i32)(sum, part);
        most = top > most ? top : most;
    }
    return most;
}

uint64_t EFL_FN(sum2_i8)(const int8_t *q, size_t n)
{
    uint64_t total = 0;
    for (size_t from = 0; from < n; from += 65536) { /* 65536 * 128^2 = 2^30 */
        const size_t to = n - from > 65536 ? from + 65536 : n;
        int32_t part = 0;
        for (size_t i = from; i < to; i++) part += q[i] * q[i];
        total += (uint32_t)part;
    }
    return total;
}

uint64_t EFL_FN(step_apply)(int8_t *q, int8_t *r, const int16_t *v, size_t n, int32_t s, int32_t qmin)
{
    s = s > 16 ? 16 : s; /* 0 from a shift of 16 on */
    const int32_t half = s > 0 ? (1 << (s - 1)) - 1 : 0, odd = s > 0 ? 1 : 0;
    const int32_t lo = 256 * qmin - 128, hi = 32639; /* 256 * 127 + 127 */
    uint64_t clamped = 0;
    for (size_t from = 0; from < n; from += 65536) {
        const size_t to = n - from > 65536 ? from + 65536 : n;
        int32_t over = 0;
        for (size_t i = from; i < to; i++) {
            const int32_t step = (v[i] + half + ((v[i] >> s) & odd)) >> s;
            int32_t t = 256 * q[i] + r[i] - step;
            over += (t < lo) | (t > hi);
            t = t < lo ? lo : t;
            t = t > hi ? hi : t;
            const int32_t whole = (t + 128) >> 8;
            q[i] = (int8_t)whole;
            r[i] = (int8_t)(t - 256 * whole);
        }
        clamped += (uint32_t)over;
    }
    return clamped;
}
