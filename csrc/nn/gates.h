/* SPDX-License-Identifier: Apache-2.0
 *
 * The vector loops of recurrent layers, part of the list in loops.h. Bodies: gates_body.h.
 */
#ifndef EFL_NN_GATES_H
#define EFL_NN_GATES_H

#define EFL_GATES(X)                                                                                         \
    /* acc [n] <- sum over k of x [k] * w [k][n], n a multiple of 16 */                                      \
    X(dot_cols, void, (int32_t *acc, const int8_t *w, const int8_t *x, size_t k, size_t n))                  \
    /* y [n] in Q0.15 <- logistic of x in Q3.12; y may be x */                                               \
    X(sigmoid_i16, void, (int16_t *y, const int16_t *x, size_t n))                                           \
    /* y [n] in Q0.15 <- tanh of x with whole = 0..6 bits before the point; y may be x */                    \
    X(tanh_i16, void, (int16_t *y, const int16_t *x, size_t n, int32_t whole))                               \
    /* x [n] <- d * (a * s(1-s)), s the value of a logistic, and d * (a * (1-t^2)), t that of a tanh */      \
    X(times_sigmoid_slope, void,                                                                             \
      (int32_t *x, const int16_t *d, const int16_t *a, const int16_t *s, size_t n))                          \
    X(times_tanh_slope, void, (int32_t *x, const int16_t *d, const int16_t *a, const int16_t *t, size_t n))  \
    /* x [n] <- rne-shift(x, sx) + rne-shift(d * f, sd), shifts of 0..31 */                                  \
    X(join_cell, void, (int32_t *x, const int16_t *d, const int16_t *f, size_t n, int32_t sx, int32_t sd))   \
    /* d [n] <- rne-shift(x, s) within +-32767, 0 where |c| is clip (0: nowhere); returns whether any is not \
     * 0 */                                                                                                  \
    X(narrow_cell, int32_t,                                                                                  \
      (int16_t *d, const int32_t *x, const int16_t *c, size_t n, int32_t s, int32_t clip))

#endif
