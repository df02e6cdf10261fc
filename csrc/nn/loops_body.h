/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the loops in loops.h. The including file defines EFL_FN(name), the name with its instruction set.
 * Written so that compilers vectorise them; no branch depends on data.
 */
#include <string.h>

#include "nn/loops.h"
#include "nn/gates_body.h"
#include "nn/round.h"

void EFL_FN(widen)(int16_t *dst, const int8_t *src, size_t n, int32_t zero)
{
    for (size_t i = 0; i < n; i++) dst[i] = (int16_t)(src[i] - zero);
}

uint32_t EFL_FN(absmax_i32)(const int32_t *x, size_t n)
{
    int32_t hi = 0, lo = 0;
    for (size_t i = 0; i < n; i++) {
        hi = x[i] > hi ? x[i] : hi;
        lo = x[i] < lo ? x[i] : lo;
    }
    const uint32_t minus = 0u - (uint32_t)lo;
    return (uint32_t)hi > minus ? (uint32_t)hi : minus;
}

void EFL_FN(sum_cols)(int32_t *sum, const int8_t *e, size_t n, size_t c)
{
    for (size_t i = 0; i < n; i++, e += c)
        for (size_t j = 0; j < c; j++) sum[j] += e[j];
}

uint64_t EFL_FN(step_size)(int16_t *v, uint64_t *sum2, const int32_t *a, const float *f, size_t n)
{
    uint64_t saturated = 0, total = 0;
    for (size_t from = 0; from < n; from += 4096) { /* 4096 * 32767^2 < 2^42; counts in int32 */
        const size_t to = n - from > 4096 ? from + 4096 : n;
        int32_t over = 0;
        for (size_t i = from; i < to; i++) {
            float t = (float)a[i] * f[i];
            over += (t > 32767.0f) | (t < -32767.0f);
            t = t < -32767.0f ? -32767.0f : t;
            t = t > 32767.0f ? 32767.0f : t;
            v[i] = (int16_t)(int32_t)efl_rne(t);
        }
        for (size_t i = from; i < to; i++) total += (uint32_t)(v[i] * v[i]);
        saturated += (uint32_t)over;
    }
    *sum2 += total;
    return saturated;
}

void EFL_FN(mul_add)(int32_t *dst, const int16_t *a, const int16_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] += a[i] * b[i];
}

void EFL_FN(add_error)(int32_t *sum, const int8_t *e, size_t n, int32_t up)
{
    if (up >= 0) {
        for (size_t i = 0; i < n; i++) sum[i] += e[i] * (1 << up);
        return;
    }
    const int32_t s = up < -30 ? 30 : -up; /* |e| < 2^7: 0 from a shift of 8 on */
    const int32_t half = (1 << (s - 1)) - 1;
    for (size_t i = 0; i < n; i++) sum[i] += (e[i] + half + ((e[i] >> s) & 1)) >> s;
}

void EFL_FN(route_max)(int32_t *dx, int8_t *done, const int8_t *e, const int8_t *x, const int8_t *top,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int8_t here = (int8_t)(-(x[i] == top[i]) & ~done[i]);
        dx[i] += e[i] & here;
        done[i] |= here;
    }
}

void EFL_FN(max_i8)(int8_t *dst, const int8_t *a, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = a[i] > dst[i] ? a[i] : dst[i];
}

void EFL_FN(mul_i8)(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_mul_params *p)
{
    const int32_t za = p->a_zero, zb = p->b_zero, zero = p->y_zero;
    const float scale = p->scale, lo = (float)(p->lo - zero), hi = (float)(p->hi - zero);
    for (size_t i = 0; i < n; i++) {
        float v = (float)((a[i] - za) * (b[i] - zb)) * scale; /* |product| <= 255^2 */
        v = v < lo ? lo : v;
        v = v > hi ? hi : v;
        y[i] = (int8_t)((int32_t)efl_rne(v) + zero);
    }
}

void EFL_FN(min_i8)(int8_t *y, const int8_t *a, const int8_t *b, size_t n, int32_t lo, int32_t hi)
{
    const int8_t first = (int8_t)lo, last = (int8_t)hi;
    for (size_t i = 0; i < n; i++) {
        int8_t v = a[i] < b[i] ? a[i] : b[i];
        v = v < first ? first : v;
        y[i] = v > last ? last : v;
    }
}

void EFL_FN(max2_i8)(int8_t *y, const int8_t *a, const int8_t *b, size_t n, int32_t lo, int32_t hi)
{
    const int8_t first = (int8_t)lo, last = (int8_t)hi;
    for (size_t i = 0; i < n; i++) {
        int8_t v = a[i] > b[i] ? a[i] : b[i];
        v = v < first ? first : v;
        y[i] = v > last ? last : v;
    }
}

void EFL_FN(scale_i32)(int8_t *dst, const int32_t *x, size_t n, float s, float p)
{
    for (size_t i = 0; i < n; i++) {
        float v = (float)x[i] * s;
        v = v * p;
        v = v < -127.0f ? -127.0f : v;
        v = v > 127.0f ? 127.0f : v;
        dst[i] = (int8_t)(int32_t)efl_rne(v);
    }
}

void EFL_FN(mul_error)(int32_t *dx, const int8_t *e, const int8_t *x, size_t n, int32_t zero)
{
    for (size_t i = 0; i < n; i++) dx[i] += e[i] * (x[i] - zero);
}

void EFL_FN(route_error)(int32_t *dx, const int8_t *e, const int8_t *low, const int8_t *high, size_t n,
                         int32_t strict)
{
    const int32_t margin = strict ? 1 : 0;
    for (size_t i = 0; i < n; i++) dx[i] += low[i] + margin <= high[i] ? e[i] : 0;
}
