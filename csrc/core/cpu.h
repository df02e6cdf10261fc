/* SPDX-License-Identifier: Apache-2.0
 * What this processor and its operating system can run.
 */
#ifndef EFL_CORE_CPU_H
#define EFL_CORE_CPU_H
#include <stdint.h>

/* Stands for the EVEX encoding of the AVX-VNNI kernels. */
#define EFL_ISA_AVXVNNI_EVEX EFL_ISA_COUNT

/* Bit 1 << EFL_ISA_* for each instruction set usable here; EFL_ISA_REF always is. */
uint32_t efl_cpu_isas(void);

#endif
