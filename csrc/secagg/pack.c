/* SPDX-License-Identifier: Apache-2.0
 *
 * M-bit packing of ring vectors: coordinate i takes bits i*M .. i*M + M - 1 of the payload, least significant
 * first. In: ring [n] of W bits <-> payload of exactly ceil(n*M/8) bytes.
 * Packing keeps the low M bits of each coordinate. Unpacking refuses another length and non-zero bits after
 * the last coordinate, before it writes anything. Adding while unpacking saves the hub a second vector.
 * Invariant: one payload for each vector, and the reverse.
 */
#include <string.h>

#include "edgefl.h"

static efl_status check(const void *ring, const void *payload, size_t payload_bytes, size_t n, uint32_t width,
                        uint32_t bits)
{
    if (!ring || !payload) {
        return EFL_E_NULL;
    }
    if (n > EFL_RING_MAX) {
        return EFL_E_SHAPE;
    }
    if ((width != 16 && width != 32) || bits < 1 || bits > width) {
        return EFL_E_RANGE;
    }
    /* 2^28 * 32 < 2^34: size_t may be 32 bits. */
    return payload_bytes == ((uint64_t)n * bits + 7) / 8 ? EFL_OK : EFL_E_SIZE;
}

/* What unpacking refuses: wrong arguments, and non-zero bits after the last coordinate. */
static efl_status check_payload(const void *ring, const uint8_t *payload, size_t payload_bytes, size_t n,
                                uint32_t width, uint32_t bits)
{
    const efl_status status = check(ring, payload, payload_bytes, n, width, bits);
    if (status != EFL_OK) {
        return status;
    }
    const unsigned used = (unsigned)((uint64_t)n * bits % 8);
    return used && payload[payload_bytes - 1] >> used ? EFL_E_RANGE : EFL_OK;
}

/* Read coordinates in order; fill is the number of valid bits in acc, below 64 at all times (31 + 32). */
typedef struct {
    const uint8_t *next, *end;
    uint64_t acc;
    unsigned fill, bits;
    uint32_t mask;
} bit_reader;

static inline uint32_t read_bits(bit_reader *r)
{
    if (r->fill < r->bits) {
        uint32_t word = 0;
        if (r->end - r->next >= 4) {
            memcpy(&word, r->next, 4);
            r->next += 4;
        } else {
            memcpy(&word, r->next, (size_t)(r->end - r->next));
            r->next = r->end;
        }
        r->acc |= (uint64_t)word << r->fill;
        r->fill += 32;
    }
    const uint32_t value = (uint32_t)r->acc & r->mask;
    r->acc >>= r->bits;
    r->fill -= r->bits;
    return value;
}

static uint32_t low_mask(uint32_t bits)
{
    return UINT32_MAX >> (32 - bits);
}

efl_status efl_ring_pack(uint8_t *payload, const void *ring, size_t payload_bytes, size_t n, uint32_t width,
                         uint32_t bits)
{
    const efl_status status = check(ring, payload, payload_bytes, n, width, bits);
    if (status != EFL_OK) {
        return status;
    }
    if (bits == width) {
        memcpy(payload, ring, payload_bytes);
        return EFL_OK;
    }
    const uint32_t mask = low_mask(bits);
    uint64_t acc = 0;
    unsigned fill = 0; /* below 32 before each coordinate, so below 64 after it */
    for (size_t i = 0; i < n; i++) {
        const uint32_t word = width == 16 ? ((const uint16_t *)ring)[i] : ((const uint32_t *)ring)[i];
        acc |= (uint64_t)(word & mask) << fill;
        fill += bits;
        if (fill >= 32) {
            const uint32_t low = (uint32_t)acc;
            memcpy(payload, &low, 4);
            payload += 4;
            acc >>= 32;
            fill -= 32;
        }
    }
    for (; fill > 0; fill = fill > 8 ? fill - 8 : 0) {
        *payload++ = (uint8_t)acc;
        acc >>= 8;
    }
    return EFL_OK;
}

efl_status efl_ring_unpack(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n, uint32_t width,
                           uint32_t bits)
{
    const efl_status status = check_payload(ring, payload, payload_bytes, n, width, bits);
    if (status != EFL_OK) {
        return status;
    }
    bit_reader r = {payload, payload + payload_bytes, 0, 0, bits, low_mask(bits)};
    if (width == 16) {
        for (size_t i = 0; i < n; i++) ((uint16_t *)ring)[i] = (uint16_t)read_bits(&r);
    } else {
        for (size_t i = 0; i < n; i++) ((uint32_t *)ring)[i] = read_bits(&r);
    }
    return EFL_OK;
}

efl_status efl_ring_unpack_add(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n,
                               uint32_t width, uint32_t bits)
{
    const efl_status status = check_payload(ring, payload, payload_bytes, n, width, bits);
    if (status != EFL_OK) {
        return status;
    }
    bit_reader r = {payload, payload + payload_bytes, 0, 0, bits, low_mask(bits)};
    if (width == 16) {
        uint16_t *sum = ring;
        if (bits == 16) { /* the common case: 8 times as fast as the bit reader */
            for (size_t i = 0; i < n; i++) {
                uint16_t word;
                memcpy(&word, payload + 2 * i, 2);
                sum[i] = (uint16_t)(sum[i] + word);
            }
            return EFL_OK;
        }
        for (size_t i = 0; i < n; i++) sum[i] = (uint16_t)(sum[i] + read_bits(&r));
    } else {
        uint32_t *sum = ring;
        for (size_t i = 0; i < n; i++) sum[i] += read_bits(&r);
    }
    return EFL_OK;
}
