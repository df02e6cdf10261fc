/* SPDX-License-Identifier: Apache-2.0
 * The vector loops compiled for AVX2, without FMA.
 */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define EFL_FN(name) efl_##name##_avx2
#include "nn/loops_body.h"
#include "nn/step_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int efl_loops_avx2_elsewhere; /* ISO C wants a declaration */
#endif
