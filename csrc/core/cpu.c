/* SPDX-License-Identifier: Apache-2.0
 *
 * CPU feature detection: cpuid and xgetbv on x86 (the operating system must save the wide registers too),
 * getauxval on ARM. Never reads files.
 */
#include "core/cpu.h"
#include "edgefl.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

uint32_t efl_cpu_isas(void)
{
    uint32_t isas = 1u << EFL_ISA_REF;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return isas;
    const uint64_t saved = xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return isas;
    if ((saved & 0x6) == 0x6 && (b & bit_AVX2)) isas |= 1u << EFL_ISA_AVX2;
    const uint32_t wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((saved & 0xe6) == 0xe6 && (isas & (1u << EFL_ISA_AVX2)) && (b & wide) == wide && (c & bit_AVX512VNNI))
        isas |= 1u << EFL_ISA_AVX512VNNI | 1u << EFL_ISA_AVXVNNI_EVEX;
    if ((isas & (1u << EFL_ISA_AVX2)) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVXVNNI))
        isas |= 1u << EFL_ISA_AVXVNNI;
    return isas;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

uint32_t efl_cpu_isas(void)
{
    const unsigned long dotprod = 1ul << 20, i8mm = 1ul << 13; /* HWCAP_ASIMDDP, HWCAP2_I8MM */
    uint32_t isas = 1u << EFL_ISA_REF | 1u << EFL_ISA_NEON;    /* NEON is part of the base architecture */
    if (!(getauxval(AT_HWCAP) & dotprod)) return isas;
    isas |= 1u << EFL_ISA_DOTPROD;
    return getauxval(AT_HWCAP2) & i8mm ? isas | 1u << EFL_ISA_I8MM : isas;
}

#elif defined(__arm__)
#include <sys/auxv.h>

uint32_t efl_cpu_isas(void)
{
    const unsigned long neon = 1ul << 12; /* HWCAP_NEON */
    return 1u << EFL_ISA_REF | ((getauxval(AT_HWCAP) & neon) ? 1u << EFL_ISA_NEON : 0u);
}

#else

uint32_t efl_cpu_isas(void)
{
    return 1u << EFL_ISA_REF;
}

#endif
