/* SPDX-License-Identifier: Apache-2.0
 * The vector loops for the base instruction set (on aarch64 that is NEON already).
 */
#define EFL_FN(name) efl_##name##_ref
#include "nn/loops_body.h"
#include "nn/step_body.h"
