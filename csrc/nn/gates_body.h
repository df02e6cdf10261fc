/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the loops in gates.h; loops_body.h includes them with EFL_FN set. Logistic and tanh are the int16
 * fixed-point functions that TFLite's built-in LSTM uses: exp of the fraction below a quarter by its Taylor
 * series at -1/8, the rest by a product of exp(-2^j), then three Newton steps for the division. All int32
 * lanes, no branch depends on data.
 */
#include "nn/round.h"

/* Rejected: 64 columns at a time, 15 % slower with AVX512. */
void EFL_FN(dot_cols)(int32_t *acc, const int8_t *w, const int8_t *x, size_t k, size_t n)
{
    for (size_t c = 0; c < n; c += 16) {
        int32_t sum[16] = {0};
        for (size_t i = 0; i < k; i++)
            for (int j = 0; j < 16; j++) sum[j] += w[i * n + c + (size_t)j] * x[i];
        memcpy(acc + c, sum, sizeof sum);
    }
}

/* Q0.15 product, half up; only -1 * -1 saturates. */
static inline int32_t EFL_FN(mul15)(int32_t a, int32_t b)
{
    const int32_t v = (a * b + (1 << 14)) >> 15;
    return v > 32767 ? 32767 : v;
}

/* exp(x) in Q0.15 for -32768 <= x <= 0 with `whole` = 1..7 bits before the point. */
static inline int32_t EFL_FN(exp_negative)(int32_t x, int32_t whole)
{
    static const int32_t powers[6] = {25520, 19875, 12055, 4435, 600, 11}; /* exp(-2^j), j = -2..3 */
    const int32_t fraction = 15 - whole, quarter = 1 << (fraction - 2);
    const int32_t low = (x & (quarter - 1)) - quarter, rest = low - x;
    const int32_t a = efl_sat16(low * (1 << whole)) + (1 << 12); /* around -1/8 */
    const int32_t a2 = EFL_FN(mul15)(a, a), a3 = EFL_FN(mul15)(a2, a), a4 = EFL_FN(mul15)(a2, a2);
    const int32_t tail = efl_away_shift(EFL_FN(mul15)(efl_away_shift(a4, 2) + a3, 10923) + a2, 1);
    int32_t y = efl_sat16(28918 + EFL_FN(mul15)(28918, a + tail)); /* exp(-1/8) */
    for (int j = -2; j < 4; j++) {
        const int32_t bit = whole > j ? 1 << (fraction + j) : 0;
        y = rest & bit ? EFL_FN(mul15)(y, powers[j + 2]) : y;
    }
    y = whole < 5 || rest < 16 << fraction ? y : 0; /* exp(-16) is 0 */
    return x == 0 ? 32767 : y;
}

/* 2 / (1 + a) in Q2.13 for a in Q0.15, 0 <= a: Newton's method from 48/17 - 32/17 d, d = (1 + a) / 2. */
static inline int32_t EFL_FN(two_over_one_plus)(int32_t a)
{
    const int32_t d = (a + 32767 + 1) >> 1;
    int32_t x = 23130 + EFL_FN(mul15)(d, -15420);
    for (int i = 0; i < 3; i++) x += efl_sat16(EFL_FN(mul15)(x, 8192 - EFL_FN(mul15)(d, x)) * 4);
    return x;
}

void EFL_FN(sigmoid_i16)(int16_t *y, const int16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t v = x[i];
        const int32_t half = EFL_FN(two_over_one_plus)(EFL_FN(exp_negative)(v > 0 ? -v : v, 3));
        const int32_t s = efl_sat16(half * 2); /* half of it, in Q0.15 */
        y[i] = (int16_t)(v > 0 ? s : v < 0 ? 32767 - s : 16384);
    }
}

static inline void EFL_FN(tanh_of)(int16_t *y, const int16_t *x, size_t n, int32_t whole)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t v = x[i];
        const int32_t e = EFL_FN(exp_negative)(v > 0 ? -v : v, whole + 1); /* exp(-2|x|) */
        const int32_t t = efl_sat16((EFL_FN(two_over_one_plus)(e) - 8192) * 4);
        y[i] = (int16_t)(v > 0 ? t : v < 0 ? -t : 0);
    }
}

/* One loop for each format: with a constant shift it vectorises, 8 times faster. */
void EFL_FN(tanh_i16)(int16_t *y, const int16_t *x, size_t n, int32_t whole)
{
    switch (whole) {
    case 0:
        EFL_FN(tanh_of)(y, x, n, 0);
        break;
    case 1:
        EFL_FN(tanh_of)(y, x, n, 1);
        break;
    case 2:
        EFL_FN(tanh_of)(y, x, n, 2);
        break;
    case 3:
        EFL_FN(tanh_of)(y, x, n, 3);
        break;
    case 4:
        EFL_FN(tanh_of)(y, x, n, 4);
        break;
    case 5:
        EFL_FN(tanh_of)(y, x, n, 5);
        break;
    default:
        EFL_FN(tanh_of)(y, x, n, 6);
    }
}

/* ---------------------------------------------------------------- backward; products stay below 2^30 */

/* x / 2^s, round to nearest even, |x| <= 2^30, 0 <= s <= 31. */
static inline int32_t EFL_FN(even_shift)(int32_t x, int32_t s)
{
    const int32_t half = s > 0 ? (1 << (s - 1)) - 1 : 0, odd = s > 0 ? 1 : 0;
    return (x + half + ((x >> s) & odd)) >> s;
}

void EFL_FN(times_sigmoid_slope)(int32_t *x, const int16_t *d, const int16_t *a, const int16_t *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t slope = EFL_FN(even_shift)(s[i] * (32768 - s[i]), 15); /* at most 2^13 */
        x[i] = d[i] * EFL_FN(even_shift)(a[i] * slope, 15);
    }
}

void EFL_FN(times_tanh_slope)(int32_t *x, const int16_t *d, const int16_t *a, const int16_t *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t slope = 32768 - EFL_FN(even_shift)(t[i] * t[i], 15);
        x[i] = d[i] * EFL_FN(even_shift)(a[i] * slope, 15);
    }
}

void EFL_FN(join_cell)(int32_t *x, const int16_t *d, const int16_t *f, size_t n, int32_t sx, int32_t sd)
{
    for (size_t i = 0; i < n; i++) x[i] = EFL_FN(even_shift)(x[i], sx) + EFL_FN(even_shift)(d[i] * f[i], sd);
}

int32_t EFL_FN(narrow_cell)(int16_t *d, const int32_t *x, const int16_t *c, size_t n, int32_t s, int32_t clip)
{
    const int32_t bound = clip ? clip : 65536;
    int32_t any = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t v = EFL_FN(even_shift)(x[i], s);
        v = v < -32767 ? -32767 : v > 32767 ? 32767 : v;
        v = c[i] == bound || c[i] == -bound ? 0 : v;
        any |= v;
        d[i] = (int16_t)v;
    }
    return any != 0;
}
