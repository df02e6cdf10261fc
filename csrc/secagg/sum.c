/* SPDX-License-Identifier: Apache-2.0
 *
 * Ring sums: add or subtract two vectors mod 2^W; at the end, once, read the low M bits as signed integers.
 * In: ring [n] of W bits -> out: ring [n], or int64 [n] in -2^(M-1) .. 2^(M-1) - 1.
 * Invariant: a sum mod 2^W holds the sum mod 2^M in its low bits, since 2^M divides 2^W.
 */
#include "edgefl.h"

static efl_status check(const void *a, const void *b, size_t n, uint32_t width)
{
    if (!a || !b) {
        return EFL_E_NULL;
    }
    if (n > EFL_RING_MAX) {
        return EFL_E_SHAPE;
    }
    return width == 16 || width == 32 ? EFL_OK : EFL_E_RANGE;
}

efl_status efl_ring_add(void *sum, const void *term, size_t n, uint32_t width)
{
    const efl_status status = check(sum, term, n, width);
    if (status != EFL_OK) {
        return status;
    }
    if (width == 16) {
        uint16_t *s = sum;
        const uint16_t *t = term;
        for (size_t i = 0; i < n; i++) s[i] = (uint16_t)(s[i] + t[i]);
    } else {
        uint32_t *s = sum;
        const uint32_t *t = term;
        for (size_t i = 0; i < n; i++) s[i] += t[i];
    }
    return EFL_OK;
}

efl_status efl_ring_unwrap_i64(int64_t *out, const void *ring, size_t n, uint32_t width, uint32_t bits)
{
    const efl_status status = check(out, ring, n, width);
    if (status != EFL_OK) {
        return status;
    }
    if (bits < 1 || bits > width) {
        return EFL_E_RANGE;
    }
    const uint32_t mask = UINT32_MAX >> (32 - bits);
    const int64_t sign = INT64_C(1) << (bits - 1);
    for (size_t i = 0; i < n; i++) {
        const uint32_t word = width == 16 ? ((const uint16_t *)ring)[i] : ((const uint32_t *)ring)[i];
        out[i] = ((int64_t)(word & mask) ^ sign) - sign;
    }
    return EFL_OK;
}
