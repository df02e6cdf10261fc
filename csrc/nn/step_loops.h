/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops over errors and weights that a training step spends its time in. One list, as in loops.h; the bodies
 * in step_body.h serve every instruction set that has no form of its own (arch/step_avx512.c).
 */
#ifndef EFL_NN_STEP_LOOPS_H
#define EFL_NN_STEP_LOOPS_H
#include <stddef.h>
#include <stdint.h>

/* X(name, return type, arguments) */
#define EFL_STEP_LOOPS(X)                                                                                    \
    /* e [n][c] <- 0 where y <= lo or y >= hi (y null: nowhere); top [c] <- max(top, |e| of each column)     \
     */                                                                                                      \
    X(mask_top, void,                                                                                        \
      (uint8_t *top, int8_t *e, const int8_t *y, size_t n, size_t c, int32_t lo, int32_t hi))                \
    /* dst [n] <- clamp(rne-shift(x, s)) to +-127, 0 <= s <= 30, |x| <= 2^(s + 7) */                         \
    X(shift_i32, void, (int8_t *dst, const int32_t *x, size_t n, int32_t s))                                 \
    /* 256*high + low <- x >> s, with the last bit set if a bit fell out; below 2^15 in size, 0 <= s <= 30   \
     */                                                                                                      \
    X(split_i32, void, (int8_t *high, uint8_t *low, const int32_t *x, size_t n, int32_t s))                  \
    /* e [n] <- clamp(rne-shift(256*e + low, s)) to +-127, |256*e + low| <= 2^10 */                          \
    X(join_shift, void, (int8_t *e, const uint8_t *low, size_t n, int32_t s))                                \
    /* sums of n_in errors, each * 2^up (negative: rne-shift), below 2^31: the largest size of a sum, or, if \
     * dst is given, dst <- clamp(rne-shift(sum, s)) to +-127 and 0; |sum| <= 2^(s + 7) then */              \
    X(merge_i8, uint32_t,                                                                                    \
      (int8_t *dst, const int8_t *const *in, const int32_t *up, int32_t n_in, size_t n, int32_t s))          \
    /* sum of q^2 */                                                                                         \
    X(sum2_i8, uint64_t, (const int8_t *q, size_t n))                                                        \
    /* t = 256q + r - rne-shift(v, s), clamped to 256*qmin - 128 .. 32639; q <- (t + 128) >> 8, r <- t -     \
     * 256q; returns how many were clamped */                                                                \
    X(step_apply, uint64_t, (int8_t *q, int8_t *r, const int16_t *v, size_t n, int32_t s, int32_t qmin))

#define EFL_STEP_LOOP_TYPE(name, ret, args)                                                                  \
    typedef ret efl_##name##_fn args;                                                                        \
    efl_##name##_fn efl_##name##_ref, efl_##name##_avx2, efl_##name##_avx512;
EFL_STEP_LOOPS(EFL_STEP_LOOP_TYPE)

#endif
