/* SPDX-License-Identifier: Apache-2.0
 *
 * Clip, scale, round and saturate a delta, with the exact norm check on the integers that are sent.
 * In: x [n] int32, clip C, scale S, bits b, bound D^2, 32 seed bytes -> out: q [n] int32 with sum q_i^2 <=
 * D^2. Stochastic rounding from ChaCha20 (key seed, nonce = try number); integer arithmetic only, so the
 * result is a function of the inputs on every machine.  Refuses parameters outside the bounds in edgefl.h,
 * and gives up rather than return a vector over the bound.  Source: secure-aggregation design, section 4,
 * steps 1 to 3.
 */
#include <string.h>

#include "secagg/chacha20.h"
#include "edgefl.h"
#include "core/kernels.h"

#define CHUNK 1024u  /* 4 KB of key stream */
#define FRACTION 40u /* bits after the point of a scaled coordinate */
#define TRIES 32u    /* a try fails with probability at most 1/2 (Cantelli), so 32 fail with 2^-32 */
#define SHRINKS 64u  /* (1 - 2^-8)^64 = 0.78: a bound that needs more than that does not fit C and S */

/* One try. Returns 1 and fills q if sum q_i^2 <= norm2_max, else 0 (q partly written). */
static int round_once(int32_t *q, const int32_t *x, size_t n, int64_t factor, int32_t q_max,
                      uint64_t norm2_max, uint32_t state[16])
{
    uint32_t noise[CHUNK];
    uint64_t norm2 = 0;
    for (size_t at = 0; at < n && norm2 <= norm2_max; at += CHUNK) {
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        efl_kernels()->chacha20_blocks((uint8_t *)noise, state, (m + 15) / 16);
        state[12] += CHUNK / 16;
        for (size_t i = 0; i < m; i++) {
            /* |x| <= norm, so |x * factor| <= S * 2^40 <= 2^60; adding u < 2^40 and flooring rounds up with
             * probability equal to the fraction, to 2^-32. */
            const int64_t scaled = (int64_t)x[at + i] * factor + ((int64_t)noise[i] << (FRACTION - 32));
            int32_t rounded = (int32_t)(scaled >> FRACTION);
            rounded = rounded > q_max ? q_max : rounded;
            rounded = rounded < -q_max ? -q_max : rounded;
            q[at + i] = rounded;
            /* q^2 < 2^46: 1024 of them on top of a checked sum below 2^62 fit 64 bits. */
            norm2 += (uint64_t)((int64_t)rounded * rounded);
        }
    }
    efl_wipe(noise, sizeof noise);
    return norm2 <= norm2_max;
}

efl_status efl_delta_encode_i32(int32_t *q, const int32_t *x, size_t n, const efl_encode_params *p,
                                const uint8_t *seed)
{
    if (!p || !seed || (n && (!q || !x))) {
        return EFL_E_NULL;
    }
    if (n > EFL_RING_MAX) {
        return EFL_E_SHAPE;
    }
    if (p->clip < 1 || p->scale < 1 || p->scale > EFL_SCALE_MAX || p->bits < 2 ||
        p->bits > EFL_VALUE_BITS_MAX || p->norm2_max > EFL_NORM2_MAX) {
        return EFL_E_RANGE;
    }
    uint64_t norm;
    const efl_status status = efl_delta_norm_i32(&norm, x, n);
    if (status != EFL_OK) {
        return status;
    }
    /* S / max(C, |x|) in 2^-40, floored: the scaled norm never exceeds S. 2^20 * 2^40 fits. */
    uint64_t factor = ((uint64_t)p->scale << FRACTION) / (norm > p->clip ? norm : p->clip);
    const int32_t q_max = (int32_t)((UINT32_C(1) << (p->bits - 1)) - 1);
    uint32_t tries = 0;
    for (uint32_t shrink = 0; shrink < SHRINKS; shrink++) {
        for (uint32_t try = 0; try < TRIES; try++, tries++) {
            uint8_t nonce[12] = {0};
            uint32_t state[16];
            memcpy(nonce, &tries, sizeof tries);
            efl_chacha20_init(state, seed, nonce, 0);
            const int done = round_once(q, x, n, (int64_t)factor, q_max, p->norm2_max, state);
            efl_wipe(state, sizeof state);
            if (done) {
                return EFL_OK;
            }
        }
        factor -= factor >> 8;
    }
    efl_wipe(q, n * sizeof *q);
    return EFL_E_RANGE;
}
