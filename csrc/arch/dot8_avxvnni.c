/* SPDX-License-Identifier: Apache-2.0
 * The int8 matrix kernel with AVX-VNNI, VEX encoded (Alder Lake, Zen 5 and later).
 */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,avxvnni")))
#define DPBUSD _mm256_dpbusd_avx_epi32
#define NAME efl_dot8_avxvnni
#include "arch/dot8_vnni256.h"
#else
typedef int efl_dot8_avxvnni_elsewhere; /* ISO C wants a declaration */
#endif
