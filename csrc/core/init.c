/* SPDX-License-Identifier: Apache-2.0
 *
 * Picks one const kernel table, the widest that this machine runs; efl_isa_select overrides it for tests.
 */
#include "core/cpu.h"
#include "core/kernels.h"
#include "edgefl.h"

/* Rows of the other architecture hold scalar kernels: they are never chosen, but have a name. */
#if defined(__x86_64__)
#define X86(kernel, scalar) kernel
#else
#define X86(kernel, scalar) scalar
#endif
#if defined(__ARM_NEON)
#define ARM(kernel, scalar) kernel
#else
#define ARM(kernel, scalar) scalar
#endif

static const efl_kernel_table tables[EFL_ISA_COUNT] = {
    [EFL_ISA_REF] = {.name = "ref", .chacha20_blocks = efl_chacha20_blocks_ref},
    [EFL_ISA_AVX2] = {.name = "avx2",
                      .chacha20_blocks = X86(efl_chacha20_blocks_avx2, efl_chacha20_blocks_ref)},
    [EFL_ISA_AVX512VNNI] = {.name = "avx512vnni",
                            .chacha20_blocks = X86(efl_chacha20_blocks_avx512, efl_chacha20_blocks_ref)},
    [EFL_ISA_NEON] = {.name = "neon",
                      .chacha20_blocks = ARM(efl_chacha20_blocks_neon, efl_chacha20_blocks_ref)},
};

static const efl_kernel_table *chosen = &tables[EFL_ISA_REF];

const efl_kernel_table *efl_kernels(void)
{
    return chosen;
}

uint32_t efl_isa_supported(void)
{
    return efl_cpu_isas();
}

int32_t efl_isa_current(void)
{
    return (int32_t)(chosen - tables);
}

const char *efl_isa_name(int32_t isa)
{
    return isa >= 0 && isa < EFL_ISA_COUNT ? tables[isa].name : "unknown";
}

efl_status efl_isa_select(int32_t isa)
{
    if (isa < 0 || isa >= EFL_ISA_COUNT || !(efl_cpu_isas() >> isa & 1u)) return EFL_E_RANGE;
    chosen = &tables[isa];
    return EFL_OK;
}

void efl_init(void)
{
    const uint32_t isas = efl_cpu_isas();
    for (int32_t isa = EFL_ISA_COUNT - 1; isa > 0; isa--)
        if (isas >> isa & 1u) {
            chosen = &tables[isa];
            return;
        }
}
