/* SPDX-License-Identifier: Apache-2.0
 *
 * Masks, packing, sums and encoding as a plain program for ASan, UBSan and emulated ARM: every kernel that
 * the machine runs against the scalar one and RFC 8439, buffers of exactly the documented size, refusals.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgefl.h"

#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s (kernels: %s)\n", __FILE__, __LINE__, #what,                          \
                    efl_isa_name(efl_isa_current()));                                                        \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static const uint8_t no_nonce[12];
static uint8_t seeds[3][32];
static uint64_t rng = 88172645463325252u;

static uint32_t next_random(void)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return (uint32_t)(rng >> 16);
}

/* A block of exactly this size, so that ASan sees one byte too many. */
static void *exactly(size_t bytes)
{
    void *block = malloc(bytes ? bytes : 1);
    CHECK(block);
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)block)[i] = (uint8_t)next_random();
    return block;
}

static void check_rfc8439(void)
{
    static const uint8_t nonce[12] = {0, 0, 0, 9, 0, 0, 0, 0x4a};
    static const uint8_t expected[16] = {0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15,
                                         0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20, 0x71, 0xc4};
    uint8_t key[32], out[64];
    for (int i = 0; i < 32; i++) key[i] = (uint8_t)i;
    CHECK(efl_chacha20_stream(out, sizeof out, nonce, 1, key) == EFL_OK);
    CHECK(memcmp(out, expected, sizeof expected) == 0);
    CHECK(efl_chacha20_stream(out, 64, nonce, UINT32_MAX, key) == EFL_OK);
    CHECK(efl_chacha20_stream(out, 65, nonce, UINT32_MAX, key) == EFL_E_RANGE);
    CHECK(efl_chacha20_stream(NULL, 64, nonce, 0, key) == EFL_E_NULL);
}

static void check_stream(int32_t isa)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 255, 256, 512, 1023, 1024, 1025, 4096, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *a = exactly(sizes[i]), *b = exactly(sizes[i]);
        CHECK(efl_isa_select(EFL_ISA_REF) == EFL_OK);
        CHECK(efl_chacha20_stream(a, sizes[i], no_nonce, 4294967000u - 100u, seeds[0]) == EFL_OK);
        CHECK(efl_isa_select(isa) == EFL_OK);
        CHECK(efl_chacha20_stream(b, sizes[i], no_nonce, 4294967000u - 100u, seeds[0]) == EFL_OK);
        CHECK(memcmp(a, b, sizes[i]) == 0);
        free(a);
        free(b);
    }
}

static void check_masks(uint32_t width, size_t n)
{
    static const int8_t signs[3] = {1, -1, 1}, opposite[3] = {-1, 1, -1};
    const size_t bytes = n * width / 8;
    uint8_t *ring = exactly(bytes), *start = exactly(bytes), *stream = exactly(bytes);
    memcpy(ring, start, bytes);
    CHECK(efl_mask_expand(ring, signs, n, 1, width, seeds[0]) == EFL_OK);
    CHECK(efl_chacha20_stream(stream, bytes, no_nonce, 0, seeds[0]) == EFL_OK);
    CHECK(efl_ring_add(start, stream, n, width) == EFL_OK);
    CHECK(memcmp(ring, start, bytes) == 0);
    CHECK(efl_mask_expand(ring, signs, n, 3, width, seeds[0]) == EFL_OK);
    CHECK(efl_mask_expand(ring, opposite, n, 3, width, seeds[0]) == EFL_OK);
    CHECK(memcmp(ring, start, bytes) == 0);
    free(ring);
    free(start);
    free(stream);
}

static void check_packing(uint32_t width, uint32_t bits, size_t n)
{
    const size_t bytes = n * width / 8, payload_bytes = (n * bits + 7) / 8;
    uint8_t *ring = exactly(bytes), *back = exactly(bytes), *payload = exactly(payload_bytes);
    int64_t *a = exactly(8 * n), *b = exactly(8 * n);
    CHECK(efl_ring_pack(payload, ring, payload_bytes, n, width, bits) == EFL_OK);
    CHECK(efl_ring_unpack(back, payload, payload_bytes, n, width, bits) == EFL_OK);
    CHECK(efl_ring_unwrap_i64(a, ring, n, width, bits) == EFL_OK);
    CHECK(efl_ring_unwrap_i64(b, back, n, width, bits) == EFL_OK);
    CHECK(memcmp(a, b, 8 * n) == 0);
    memset(back, 0, bytes);
    CHECK(efl_ring_unpack_add(back, payload, payload_bytes, n, width, bits) == EFL_OK);
    CHECK(efl_ring_unwrap_i64(b, back, n, width, bits) == EFL_OK);
    CHECK(memcmp(a, b, 8 * n) == 0);
    CHECK(efl_ring_unpack(back, payload, payload_bytes + 1, n, width, bits) == EFL_E_SIZE);
    if (n * bits % 8) {
        payload[payload_bytes - 1] |= 0x80;
        CHECK(efl_ring_unpack(back, payload, payload_bytes, n, width, bits) == EFL_E_RANGE);
        CHECK(efl_ring_unpack_add(back, payload, payload_bytes, n, width, bits) == EFL_E_RANGE);
    }
    free(ring);
    free(back);
    free(payload);
    free(a);
    free(b);
}

static void check_encode(size_t n, int32_t extreme)
{
    int32_t *x = exactly(4 * n), *q = exactly(4 * n), *scalar = exactly(4 * n);
    for (size_t i = 0; i < n; i++) {
        x[i] = extreme ? extreme : (int32_t)(next_random() % 4001) - 2000;
    }
    const uint64_t bound =
        UINT64_C(1000) * 1000 + n + 2000 * (n / 10 + 40); /* above (S + sqrt n)^2 for n < 10^5 */
    const efl_encode_params p = {.clip = 30000, .scale = 1000, .bits = 12, .norm2_max = bound};
    const int32_t isa = efl_isa_current();
    CHECK(efl_delta_encode_i32(q, x, n, &p, seeds[1]) == EFL_OK);
    CHECK(efl_isa_select(EFL_ISA_REF) == EFL_OK);
    CHECK(efl_delta_encode_i32(scalar, x, n, &p, seeds[1]) == EFL_OK);
    CHECK(efl_isa_select(isa) == EFL_OK);
    CHECK(memcmp(q, scalar, 4 * n) == 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        CHECK(q[i] >= -2047 && q[i] <= 2047);
        sum += (uint64_t)((int64_t)q[i] * q[i]);
    }
    CHECK(sum <= bound);
    free(x);
    free(q);
    free(scalar);
}

static void check_refusals(void)
{
    uint16_t ring[8] = {0};
    uint8_t payload[16];
    int32_t x[4] = {1000, 1000, 1000, 1000}, q[4];
    uint64_t norm;
    const int8_t wrong_sign = 2, sign = 1;
    CHECK(efl_mask_expand(ring, &wrong_sign, 8, 1, 16, seeds[0]) == EFL_E_RANGE);
    CHECK(efl_mask_expand(ring, &sign, 8, 1, 24, seeds[0]) == EFL_E_RANGE);
    CHECK(efl_mask_expand(ring, &sign, (size_t)EFL_RING_MAX + 1, 1, 16, seeds[0]) == EFL_E_SHAPE);
    CHECK(efl_ring_pack(payload, ring, 16, 8, 16, 17) == EFL_E_RANGE);
    CHECK(efl_ring_pack(payload, ring, 16, 8, 16, 0) == EFL_E_RANGE);
    CHECK(efl_ring_pack(payload, NULL, 16, 8, 16, 16) == EFL_E_NULL);
    CHECK(efl_ring_add(ring, NULL, 8, 16) == EFL_E_NULL);
    for (int i = 0; i < 8; i++) CHECK(ring[i] == 0);
    efl_encode_params p = {.clip = 1000, .scale = 1000, .bits = 12, .norm2_max = 10};
    CHECK(efl_delta_encode_i32(q, x, 4, &p, seeds[0]) == EFL_E_RANGE);
    for (int i = 0; i < 4; i++) CHECK(q[i] == 0);
    p = (efl_encode_params){.clip = 0, .scale = 1000, .bits = 12, .norm2_max = 1u << 30};
    CHECK(efl_delta_encode_i32(q, x, 4, &p, seeds[0]) == EFL_E_RANGE);
    p.clip = 1, p.scale = EFL_SCALE_MAX + 1;
    CHECK(efl_delta_encode_i32(q, x, 4, &p, seeds[0]) == EFL_E_RANGE);
    p.scale = 1, p.bits = 1;
    CHECK(efl_delta_encode_i32(q, x, 4, &p, seeds[0]) == EFL_E_RANGE);
    CHECK(efl_delta_norm_i32(&norm, x, 4) == EFL_OK && norm == 2000);
    CHECK(efl_delta_norm_i32(NULL, x, 4) == EFL_E_NULL);
}

int main(void)
{
    static const size_t lengths[] = {1, 2, 7, 15, 16, 17, 100, 1023, 2049, 4101};
    for (size_t i = 0; i < sizeof seeds; i++) ((uint8_t *)seeds)[i] = (uint8_t)next_random();
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) {
            continue;
        }
        check_rfc8439();
        check_stream(isa);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            check_masks(16, lengths[i]);
            check_masks(32, lengths[i]);
            for (uint32_t bits = 1; bits <= 32; bits++) {
                if (bits <= 16) {
                    check_packing(16, bits, lengths[i]);
                }
                check_packing(32, bits, lengths[i]);
            }
            check_encode(lengths[i], 0);
            check_encode(lengths[i], INT32_MIN);
            check_encode(lengths[i], INT32_MAX);
        }
        check_refusals();
        printf("secagg: %s ok\n", efl_isa_name(isa));
    }
    return 0;
}
