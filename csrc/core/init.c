/* SPDX-License-Identifier: Apache-2.0
 *
 * Picks one const kernel table, the widest that this machine runs; efl_isa_select overrides it for tests.
 */
#include "core/cpu.h"
#include "core/kernels.h"
#include "edgefl.h"

#define LOOP_REF(loop, ret, args) .loop = efl_##loop##_ref,
#define LOOP_AVX2(loop, ret, args) .loop = efl_##loop##_avx2,
#define LOOP_AVX512(loop, ret, args) .loop = efl_##loop##_avx512,
#define LOOPS(which) EFL_LOOPS(which) EFL_STEP_LOOPS(which)
#define SCALE(isa) .scale_cols = efl_scale_cols_##isa
#define TRAIN(dot_isa, isa)                                                                                  \
    .dot8 = efl_dot8_##dot_isa, .zip4 = efl_zip4_##isa, .scale8 = efl_scale8_##isa,                          \
    .step_tile = efl_step_tile_##isa
#define FORWARD(isa, pack_isa, rows_isa, bytes, sign)                                                        \
    .fwd = {efl_fwd_gemm_##isa,                                                                              \
            efl_fwd_depth_##isa,                                                                             \
            efl_fwd_pack_##pack_isa,                                                                         \
            efl_fwd_load_##rows_isa,                                                                         \
            efl_fwd_weave_##rows_isa,                                                                        \
            bytes,                                                                                           \
            sign}
#define CHACHA20(isa) .chacha20_blocks = efl_chacha20_blocks_##isa

static const efl_kernel_table tables[EFL_ISA_COUNT + 1] = {
    [EFL_ISA_REF] = {.name = "ref",
                     FORWARD(ref, ref, ref, 1, 0),
                     SCALE(ref),
                     TRAIN(ref, ref),
                     CHACHA20(ref),
                     LOOPS(LOOP_REF)},
#if defined(__x86_64__)
    [EFL_ISA_AVX2] = {.name = "avx2",
                      FORWARD(avx2, avx2, avx2, 2, 0),
                      SCALE(avx2),
                      TRAIN(avx2, avx2),
                      CHACHA20(avx2),
                      LOOPS(LOOP_AVX2)},
    [EFL_ISA_AVX512VNNI] = {.name = "avx512vnni",
                            FORWARD(avx512vnni, avx2, avx512vnni, 1, 0x80),
                            SCALE(avx2),
                            TRAIN(avx512vnni, avx512),
                            .flip = 0x80,
                            CHACHA20(avx512),
                            LOOPS(LOOP_AVX512)},
#define AVXVNNI(isa)                                                                                         \
    {.name = "avxvnni",                                                                                      \
     FORWARD(isa, avx2, avxvnni, 1, 0x80),                                                                   \
     SCALE(avx2),                                                                                            \
     TRAIN(isa, avx2),                                                                                       \
     .flip = 0x80,                                                                                           \
     CHACHA20(avx2),                                                                                         \
     LOOPS(LOOP_AVX2)}
    [EFL_ISA_AVXVNNI] = AVXVNNI(avxvnni),
    [EFL_ISA_AVXVNNI_EVEX] = AVXVNNI(avxvnni_evex),
#endif
#if defined(__ARM_NEON)
#define ARM(isa, gemm_isa, depth_isa)                                                                        \
    {.name = isa,                                                                                            \
     .fwd = {efl_fwd_gemm_##gemm_isa, efl_fwd_depth_##depth_isa, efl_fwd_pack_neon, efl_fwd_load_ref,        \
             efl_fwd_weave_neon, 1, 0},                                                                      \
     SCALE(neon),                                                                                            \
     TRAIN(gemm_isa, neon),                                                                                  \
     CHACHA20(neon),                                                                                         \
     LOOPS(LOOP_REF)} /* the compiler's own NEON */
    [EFL_ISA_NEON] = ARM("neon", neon, neon),
#if defined(__aarch64__)
    [EFL_ISA_DOTPROD] = ARM("dotprod", dotprod, dotprod),
    [EFL_ISA_I8MM] = ARM("i8mm", i8mm, dotprod),
#endif
#endif
};

static const efl_kernel_table *chosen = &tables[EFL_ISA_REF];

const efl_kernel_table *efl_kernels(void)
{
    return chosen;
}

uint32_t efl_isa_supported(void)
{
    uint32_t isas = 0;
    for (uint32_t isa = 0; isa <= EFL_ISA_COUNT; isa++) isas |= tables[isa].name ? 1u << isa : 0u;
    isas &= efl_cpu_isas();
    if (isas >> EFL_ISA_AVXVNNI_EVEX & 1u) isas |= 1u << EFL_ISA_AVXVNNI;
    return isas & ((1u << EFL_ISA_COUNT) - 1u);
}

int32_t efl_isa_current(void)
{
    return chosen == &tables[EFL_ISA_AVXVNNI_EVEX] ? EFL_ISA_AVXVNNI : (int32_t)(chosen - tables);
}

const char *efl_isa_name(int32_t isa)
{
    static const char *const names[EFL_ISA_COUNT] = {"ref",     "avx2",    "avx512vnni", "neon",
                                                     "avxvnni", "dotprod", "i8mm"};
    return isa >= 0 && isa < EFL_ISA_COUNT ? names[isa] : "unknown";
}

efl_status efl_isa_select(int32_t isa)
{
    if (isa < 0 || isa >= EFL_ISA_COUNT || !(efl_isa_supported() >> isa & 1u)) return EFL_E_RANGE;
    if (isa == EFL_ISA_AVXVNNI && !(efl_cpu_isas() >> isa & 1u)) isa = EFL_ISA_AVXVNNI_EVEX;
    chosen = &tables[isa];
    return EFL_OK;
}

void efl_init(void)
{
    static const int32_t best_first[] = {EFL_ISA_AVX512VNNI, EFL_ISA_AVXVNNI, EFL_ISA_AVX2,
                                         EFL_ISA_I8MM,       EFL_ISA_DOTPROD, EFL_ISA_NEON};
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++)
        if (efl_isa_select(best_first[i]) == EFL_OK) return;
}
