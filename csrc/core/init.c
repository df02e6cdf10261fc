/* SPDX-License-Identifier: Apache-2.0
 *
 * Picks one const kernel table, the widest that this machine runs; efl_isa_select overrides it for tests.
 */
#include "core/cpu.h"
#include "core/kernels.h"
#include "edgefl.h"

static const efl_kernel_table tables[EFL_ISA_COUNT] = {
    [EFL_ISA_REF] = {.name = "ref"},
    [EFL_ISA_AVX2] = {.name = "avx2"},
    [EFL_ISA_AVX512VNNI] = {.name = "avx512vnni"},
    [EFL_ISA_NEON] = {.name = "neon"},
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
    if (isa < 0 || isa >= EFL_ISA_COUNT || !(efl_cpu_isas() >> isa & 1u))
        return EFL_E_RANGE;
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
