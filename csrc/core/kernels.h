/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of kernels that differ by instruction set; everything else is plain C. One table is chosen once,
 * at efl_init; before it the scalar one serves. All tables give the same bits.
 */
#ifndef EFL_CORE_KERNELS_H
#define EFL_CORE_KERNELS_H
#include "nn/dot8.h"
#include "nn/fwd.h"
#include "nn/loops.h"
#include "nn/scale.h"
#include "nn/step_loops.h"
#include "secagg/chacha20.h"

typedef struct {
    const char *name;
    efl_chacha20_blocks_fn *chacha20_blocks;
    efl_fwd_kernels fwd;
    efl_scale_cols_fn *scale_cols;
    efl_dot8_fn *dot8;
    efl_zip4_fn *zip4;
    efl_scale8_fn *scale8;
    efl_step_tile_fn *step_tile;
    uint8_t flip; /* of the image that dot8 reads: 0 or 0x80 */
#define EFL_LOOP_MEMBER(loop, ret, args) efl_##loop##_fn *loop;
    EFL_LOOPS(EFL_LOOP_MEMBER)
    EFL_STEP_LOOPS(EFL_LOOP_MEMBER)
#undef EFL_LOOP_MEMBER
} efl_kernel_table;

/* The chosen table; never null. */
const efl_kernel_table *efl_kernels(void);

#endif
