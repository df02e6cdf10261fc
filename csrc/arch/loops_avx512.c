/* SPDX-License-Identifier: Apache-2.0
 * The vector loops compiled for AVX-512 (F, BW, DQ, VL), without FMA.
 */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))),                  \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#define EFL_FN(name) efl_##name##_avx512
#include "nn/loops_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int efl_loops_avx512_elsewhere; /* ISO C wants a declaration */
#endif
