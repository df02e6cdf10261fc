/* SPDX-License-Identifier: Apache-2.0
 * The forward kernels with AVX-VNNI, VEX encoded (Alder Lake, Zen 5 and later).
 */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,avxvnni")))
#define DPBUSD _mm256_dpbusd_avx_epi32
#define EFL_FN(name) efl_fwd_##name##_avxvnni
#include "arch/fwd_vnni256.h"
#else
typedef int efl_fwd_avxvnni_elsewhere; /* ISO C wants a declaration */
#endif
