/* SPDX-License-Identifier: Apache-2.0
 *
 * Exact L2 norm of an integer delta, rounded up.
 * In: x [n] int32 -> out: the smallest integer N with N^2 >= sum x_i^2.  No floating point, no overflow.
 * Source: secure-aggregation design, section 4, step 1.
 */
#include "edgefl.h"

/* A number as hi * 2^32 + lo, lo below 2^32. */
typedef struct {
    uint64_t hi, lo;
} wide;

static int square_is_below(uint64_t root, wide limit)
{
    /* root = a*2^32 + b below 2^46: a*a*2^32 + 2ab below 2^60 + 2^47, b*b below 2^64. */
    const uint64_t a = root >> 32, b = root & UINT32_MAX;
    const uint64_t bb = b * b;
    const uint64_t hi = (a * a << 32) + 2 * a * b + (bb >> 32), lo = bb & UINT32_MAX;
    return hi < limit.hi || (hi == limit.hi && lo < limit.lo);
}

efl_status efl_delta_norm_i32(uint64_t *norm, const int32_t *x, size_t n)
{
    if (!norm || (n && !x)) {
        return EFL_E_NULL;
    }
    if (n > EFL_RING_MAX) {
        return EFL_E_SHAPE;
    }
    /* |x| <= 2^31, so x^2 <= 2^62: 2^28 low halves stay below 2^60, 2^28 high halves (<= 2^30) below 2^59. */
    wide sum = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const uint64_t square = (uint64_t)((int64_t)x[i] * x[i]);
        sum.hi += square >> 32;
        sum.lo += square & UINT32_MAX;
    }
    sum.hi += sum.lo >> 32;
    sum.lo &= UINT32_MAX;
    /* sum <= 2^90, so the root is at most 2^45: set its bits from the top while root^2 < sum, then go one up.
     */
    uint64_t below = 0;
    if (sum.hi | sum.lo) {
        for (uint64_t bit = UINT64_C(1) << 45; bit; bit >>= 1) {
            if (square_is_below(below | bit, sum)) {
                below |= bit;
            }
        }
        below += 1;
    }
    *norm = below;
    return EFL_OK;
}
