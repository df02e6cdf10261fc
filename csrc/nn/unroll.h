/* SPDX-License-Identifier: Apache-2.0
 * EFL_UNROLL before a loop of a few constant steps: its array of vectors must become registers.
 * EFL_INLINE for a kernel body whose sizes are constant in every caller.
 */
#ifndef EFL_NN_UNROLL_H
#define EFL_NN_UNROLL_H

#if defined(__clang__)
#define EFL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EFL_UNROLL _Pragma("GCC unroll 16")
#endif
#define EFL_INLINE static inline __attribute__((always_inline))

#endif
