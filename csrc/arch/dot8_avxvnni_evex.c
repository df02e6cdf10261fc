/* SPDX-License-Identifier: Apache-2.0
 * The same in EVEX encoding, for machines that have AVX512-VNNI only: so the same text is tested.
 */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,avx512f,avx512vl,avx512vnni")))
#define DPBUSD _mm256_dpbusd_epi32
#define NAME efl_dot8_avxvnni_evex
#include "arch/dot8_vnni256.h"
#else
typedef int efl_dot8_avxvnni_evex_elsewhere; /* ISO C wants a declaration */
#endif
