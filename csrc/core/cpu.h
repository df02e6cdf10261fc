/* SPDX-License-Identifier: Apache-2.0
 * What this processor and its operating system can run.
 */
#ifndef EFL_CORE_CPU_H
#define EFL_CORE_CPU_H
#include <stdint.h>

/* Bit 1 << EFL_ISA_* for each instruction set usable here; EFL_ISA_REF always is. */
uint32_t efl_cpu_isas(void);

#endif
