/* SPDX-License-Identifier: Apache-2.0
 *
 * The vector loops of recurrent layers, part of the list in loops.h. Bodies: gates_body.h.
 */
#ifndef EFL_NN_GATES_H
#define EFL_NN_GATES_H

#define EFL_GATES(X)                                                                                         \
    /* acc [rows] <- sum over k of w [rows][k] * x [k] */                                                    \
    X(dot_rows, void, (int32_t *acc, const int8_t *w, const int8_t *x, size_t rows, size_t k))               \
    /* y [n] in Q0.15 <- logistic of x in Q3.12; y may be x */                                               \
    X(sigmoid_i16, void, (int16_t *y, const int16_t *x, size_t n))                                           \
    /* y [n] in Q0.15 <- tanh of x with whole = 0..6 bits before the point; y may be x */                    \
    X(tanh_i16, void, (int16_t *y, const int16_t *x, size_t n, int32_t whole))

#endif
