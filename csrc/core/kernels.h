/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of kernels that differ by instruction set; everything else is plain C. One table is chosen once,
 * at efl_init; before it the scalar one serves. All tables give the same bits.
 */
#ifndef EFL_CORE_KERNELS_H
#define EFL_CORE_KERNELS_H
#include "secagg/chacha20.h"

typedef struct {
    const char *name;
    efl_chacha20_blocks_fn *chacha20_blocks;
} efl_kernel_table;

/* The chosen table; never null. */
const efl_kernel_table *efl_kernels(void);

#endif
