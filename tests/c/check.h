/* SPDX-License-Identifier: Apache-2.0
 * What the C tests of the operators share: a check that names the kernels, random numbers from a fixed start,
 * blocks of exactly the size asked for.
 */
#ifndef EFL_TESTS_CHECK_H
#define EFL_TESTS_CHECK_H
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

static uint64_t rng = 88172645463325252u;

static inline int32_t pick(int32_t lo, int32_t hi)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return lo + (int32_t)((rng >> 20) % (uint64_t)(hi - lo + 1));
}

static inline void *exactly(size_t bytes)
{
    void *block = malloc(bytes ? bytes : 1);
    CHECK(block);
    memset(block, 0x5a, bytes);
    return block;
}

static inline int8_t *bytes_in(size_t n, int32_t lo, int32_t hi)
{
    int8_t *x = exactly(n);
    for (size_t i = 0; i < n; i++) x[i] = (int8_t)pick(lo, hi);
    return x;
}

#endif
