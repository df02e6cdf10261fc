/* SPDX-License-Identifier: Apache-2.0
 *
 * Constant time of masks, packing and sums: run under valgrind, which reports a branch or an address that
 * depends on bytes marked undefined. Seeds, vectors and key streams are secret here; lengths, widths and
 * signs are public. valgrind hides AVX-512 from the program, so the scalar and AVX2 kernels are what this
 * shows. `ct_secagg leak` branches on a secret: the run must fail, or the check proves nothing.
 */
#include <stdio.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "edgefl.h"

#define N 1000u

static uint8_t seeds[2][32], nonce[12], stream[200];
static uint8_t ring[4 * N], term[4 * N], payload[4 * N];
static int64_t out[N];

int main(int argc, char **argv)
{
    static const int8_t signs[2] = {1, -1};
    const int leak = argc > 1 && strcmp(argv[1], "leak") == 0;
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) {
            continue;
        }
        for (uint32_t width = 16; width <= 32; width += 16) {
            for (uint32_t bits = 1; bits <= width; bits++) {
                (void)VALGRIND_MAKE_MEM_UNDEFINED(seeds, sizeof seeds);
                (void)VALGRIND_MAKE_MEM_UNDEFINED(ring, sizeof ring);
                (void)VALGRIND_MAKE_MEM_UNDEFINED(term, sizeof term);
                int bad = efl_chacha20_stream(stream, sizeof stream, nonce, 0, seeds[0]) != EFL_OK;
                bad |= efl_mask_expand(ring, signs, N, 2, width, seeds[0]) != EFL_OK;
                bad |= efl_ring_add(ring, term, N, width) != EFL_OK;
                bad |= efl_ring_unwrap_i64(out, ring, N, width, bits) != EFL_OK;
                /* N is a multiple of 8: no padding bits, whose check would branch on the (public) payload. */
                bad |= efl_ring_pack(payload, ring, N * bits / 8, N, width, bits) != EFL_OK;
                bad |= efl_ring_unpack_add(term, payload, N * bits / 8, N, width, bits) != EFL_OK;
                if (bad || (leak && ring[0] == 7)) {
                    puts("failed");
                    return 1;
                }
            }
        }
        printf("constant time: %s\n", efl_isa_name(isa));
    }
    return 0;
}
