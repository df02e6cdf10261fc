/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops over vectors that every operator shares, one list: it makes the types here, the table's members
 * (core/kernels.h) and each table's rows (core/init.c). loops_body.h is their source, compiled once for every
 * instruction set; add_i8 alone is written out (add.c, arch/add_*.c). It rounds the same everywhere: single
 * float32 operations, no contraction. float32 -> int32 is "add and subtract 1.5 * 2^23": round to nearest
 * even for |x| <= 2^22, so clamp first.
 */
#ifndef EFL_NN_LOOPS_H
#define EFL_NN_LOOPS_H
#include <stddef.h>
#include <stdint.h>

#include "edgefl.h"
#include "nn/gates.h"

/* X(name, return type, arguments) */
#define EFL_LOOPS(X)                                                                                         \
    /* dst [n] <- src [n] - zero */                                                                          \
    X(widen, void, (int16_t *dst, const int8_t *src, size_t n, int32_t zero))                                \
    /* the largest |x[i]|, |x| < 2^31 */                                                                     \
    X(absmax_i32, uint32_t, (const int32_t *x, size_t n))                                                    \
    /* sum [c] += rows of e [n][c] */                                                                        \
    X(sum_cols, void, (int32_t *sum, const int8_t *e, size_t n, size_t c))                                   \
    /* v [n] <- rne(clamp(a * f[i], +-32767)); returns how many saturated; *sum2 += sum of v^2 */            \
    X(step_size, uint64_t, (int16_t *v, uint64_t *sum2, const int32_t *a, const float *f, size_t n))         \
    /* dst [n] += a * b */                                                                                   \
    X(mul_add, void, (int32_t *dst, const int16_t *a, const int16_t *b, size_t n))                           \
    /* sum [n] += e * 2^up, or for a negative up rne-shift(e, -up) */                                        \
    X(add_error, void, (int32_t *sum, const int8_t *e, size_t n, int32_t up))                                \
    /* dx [n] += e where x equals top and done is 0; done <- -1 there */                                     \
    X(route_max, void,                                                                                       \
      (int32_t *dx, int8_t *done, const int8_t *e, const int8_t *x, const int8_t *top, size_t n))            \
    /* dst [n] <- max(dst, a) */                                                                             \
    X(max_i8, void, (int8_t *dst, const int8_t *a, size_t n))                                                \
    /* y [n] <- clamp(((m0*a + m1*b + bias) >> shift) + zero) */                                             \
    X(add_i8, void, (int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p))        \
    /* y [n] <- rne(clamp((a - a_zero)*(b - b_zero)*scale)) + y_zero */                                      \
    X(mul_i8, void, (int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_mul_params *p))        \
    /* y [n] <- the smaller of a and b, or the larger; then clamp */                                         \
    X(min_i8, void, (int8_t *y, const int8_t *a, const int8_t *b, size_t n, int32_t lo, int32_t hi))         \
    X(max2_i8, void, (int8_t *y, const int8_t *a, const int8_t *b, size_t n, int32_t lo, int32_t hi))        \
    /* dst [n] <- clamp(rne((float)x * s * p)) to +-127, one product after the other */                      \
    X(scale_i32, void, (int8_t *dst, const int32_t *x, size_t n, float s, float p))                          \
    /* dx [n] += e * (x - zero) */                                                                           \
    X(mul_error, void, (int32_t *dx, const int8_t *e, const int8_t *x, size_t n, int32_t zero))              \
    /* dx [n] += e where low <= high, or, if `strict`, where low < high */                                   \
    X(route_error, void,                                                                                     \
      (int32_t *dx, const int8_t *e, const int8_t *low, const int8_t *high, size_t n, int32_t strict))       \
    EFL_GATES(X)

#define EFL_LOOP_TYPE(name, ret, args)                                                                       \
    typedef ret efl_##name##_fn args;                                                                        \
    efl_##name##_fn efl_##name##_ref, efl_##name##_avx2, efl_##name##_avx512;
EFL_LOOPS(EFL_LOOP_TYPE)

#endif
