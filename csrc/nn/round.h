/* SPDX-License-Identifier: Apache-2.0
 *
 * The rounding rules, each in one place and without libm.
 */
#ifndef EFL_NN_ROUND_H
#define EFL_NN_ROUND_H
#include <stdint.h>
#include <string.h>

/* Round to nearest even for |x| <= 2^22: above 2^23 a float32 has no fraction bits. No FMA, no fast-math. */
static inline float efl_rne(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    return (x + magic) - magic;
}

/* The same for double, |x| <= 2^51. */
static inline double efl_rne_double(double x)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    return (x + magic) - magic;
}

/* x / 2^s, round to nearest even, |x| <= 2^62; shifts of 63 or more give 0. */
static inline int64_t efl_rne_shift(int64_t x, int32_t s)
{
    if (s <= 0) return x;
    if (s >= 63) return 0;
    return (x + ((int64_t)1 << (s - 1)) - 1 + ((x >> s) & 1)) >> s;
}

/* x / 2^s, half away from zero, 0 <= s <= 30, |x| < 2^30. */
static inline int32_t efl_away_shift(int32_t x, int32_t s)
{
    return s > 0 ? (x + (1 << (s - 1)) - (x < 0)) >> s : x;
}

static inline int32_t efl_sat16(int32_t x)
{
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
}

/* The smallest c with x <= 2^c, x > 0. */
static inline int32_t efl_ceil_log2_u32(uint32_t x)
{
    int32_t c = 0;
    while (c < 32 && ((uint64_t)1 << c) < x) c++;
    return c;
}

/* ceil(log2 x) of a positive normal float32, from its bits. */
static inline int32_t efl_ceil_log2_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (int32_t)(bits >> 23) - 127 + ((bits & 0x7fffffu) != 0);
}

/* x * 2^p, exact unless the result leaves the normal range; -250 <= p <= 250. */
static inline float efl_scale2(float x, int32_t p)
{
    const int32_t first = p > 126 ? 126 : p < -126 ? -126 : p;
    const int32_t parts[2] = {first, p - first};
    for (int i = 0; i < 2; i++) {
        const uint32_t bits = (uint32_t)(parts[i] + 127) << 23;
        float two;
        memcpy(&two, &bits, 4);
        x = x * two;
    }
    return x;
}

#endif
