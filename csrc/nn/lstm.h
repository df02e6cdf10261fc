/* SPDX-License-Identifier: Apache-2.0
 * What the two passes of the LSTM share. Gates are numbered as the file lists them: input, forget, cell,
 * output.
 */
#ifndef EFL_NN_LSTM_H
#define EFL_NN_LSTM_H
#include "edgefl.h"

enum { EFL_GATE_I, EFL_GATE_F, EFL_GATE_G, EFL_GATE_O, EFL_GATE_N };

/* Of one time step, int16 [6][n*co]: the four gates after their activation (Q0.15), the cell, and tanh of it
 * (Q0.15). */
#define EFL_LSTM_CELL 4
#define EFL_LSTM_TANH 5
#define EFL_LSTM_PARTS 6

#endif
