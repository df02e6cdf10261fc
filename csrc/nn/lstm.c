/* SPDX-License-Identifier: Apache-2.0
 *
 * Forward pass of an LSTM over a sequence, int8 input and hidden state, int16 cell: bit for bit what TFLite's
 * built-in integer kernel computes (8x8_16, no CIFG, peephole, projection or layer norm). Every sample starts
 * from a zero state. Formulas: docs/training.md, "LSTM".
 */
#include "nn/lstm.h"

#include <string.h>

#include "core/kernels.h"
#include "nn/fixed.h"
#include "nn/round.h"
#include "nn/scratch.h"

typedef struct {
    int32_t *bias[2 * EFL_GATE_N]; /* [co] each, with the zero point's share */
    int8_t *in, *back;             /* [ci][columns], [co][columns] the weights of all gates, transposed */
    int32_t *sums;                 /* [columns] of one sample: the gates side by side */
    int16_t *step;                 /* one time step where none is kept */
    size_t columns;                /* 4 * co rounded up to 16 */
} layout;

static size_t take(layout *l, const efl_dims *d, int32_t keep, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const size_t co = (size_t)d->co, step = EFL_LSTM_PARTS * (size_t)d->n * co;
    l->columns = (EFL_GATE_N * co + 15) / 16 * 16;
    for (int i = 0; i < 2 * EFL_GATE_N; i++) l->bias[i] = efl_scratch_take(&s, co * sizeof(int32_t));
    l->in = efl_scratch_take(&s, (size_t)d->ci * l->columns);
    l->back = efl_scratch_take(&s, co * l->columns);
    l->sums = efl_scratch_take(&s, l->columns * sizeof(int32_t));
    l->step = efl_scratch_take(&s, keep ? 0 : step * sizeof(int16_t));
    return s.used;
}

size_t efl_lstm_i8_fwd_scratch_bytes(const efl_dims *d, int32_t keep)
{
    layout l;
    return take(&l, d, keep, NULL);
}

size_t efl_lstm_saved_bytes(const efl_dims *d)
{
    return EFL_LSTM_PARTS * (size_t)d->n * (size_t)d->wi * (size_t)d->co * sizeof(int16_t);
}

/* bias [co] <- b - zero * (row sums of q): sums of q*x then stand for q*(x - zero). */
static void fold_bias(int32_t *bias, const efl_param *p, size_t k, int32_t zero, int32_t with_b)
{
    const int8_t *q = p->q;
    for (int32_t c = 0; c < p->co; c++, q += k) {
        int32_t sum = 0;
        for (size_t i = 0; i < k; i++) sum += q[i];
        bias[c] = (int32_t)((with_b ? (uint32_t)p->b[c] : 0u) - (uint32_t)zero * (uint32_t)sum);
    }
}

/* w [k][columns] <- the weights [co][k] of four gates. */
static void transpose(int8_t *w, const efl_param *p, size_t k, size_t columns)
{
    const size_t co = (size_t)p->co;
    memset(w, 0, k * columns);
    for (size_t g = 0; g < EFL_GATE_N; g++)
        for (size_t c = 0; c < co; c++)
            for (size_t i = 0; i < k; i++) w[i * columns + g * co + c] = p[g].q[c * k + i];
}

/* gate [co] <- or += the requantised sums, saturating at int16 each time. */
static void add_gate(int16_t *gate, const int32_t *sums, const int32_t *bias, int32_t co, efl_fixed f,
                     int32_t first)
{
    for (int32_t c = 0; c < co; c++) {
        const int32_t v = efl_fixed_times((int32_t)((uint32_t)sums[c] + (uint32_t)bias[c]), f);
        const int64_t sum = (int64_t)v + (first ? 0 : gate[c]);
        gate[c] = (int16_t)(sum < -32768 ? -32768 : sum > 32767 ? 32767 : sum);
    }
}

/* c <- f*c + i*g, before the first step c is 0. */
static void update_cell(int16_t *cell, const int16_t *before, const int16_t *step, size_t n,
                        const efl_lstm *m)
{
    const int16_t *in = step + EFL_GATE_I * n, *forget = step + EFL_GATE_F * n, *g = step + EFL_GATE_G * n;
    const int32_t shift = 30 - m->cell_bits; /* 15..21 */
    for (size_t i = 0; i < n; i++) {
        const int32_t kept = before ? efl_away_shift(forget[i] * before[i], 15) : 0;
        int32_t c = efl_sat16(kept + efl_away_shift(in[i] * g[i], shift));
        if (m->clip) c = c < -m->clip ? -m->clip : c > m->clip ? m->clip : c;
        cell[i] = (int16_t)c;
    }
}

void efl_lstm_i8_fwd(int8_t *y, int16_t *saved, const int8_t *x, const efl_param *p, const efl_dims *d,
                     const efl_lstm *m, int32_t x_zero, int32_t y_zero, void *scratch)
{
    const efl_kernel_table *kernels = efl_kernels();
    layout l;
    take(&l, d, saved != NULL, scratch);
    const size_t co = (size_t)d->co, k = (size_t)d->ci, steps = (size_t)d->wi, n = (size_t)d->n;
    const size_t wide = n * co;
    for (int g = 0; g < EFL_GATE_N; g++) {
        fold_bias(l.bias[g], &p[g], k, x_zero, 1);
        fold_bias(l.bias[EFL_GATE_N + g], &p[EFL_GATE_N + g], co, y_zero, 0);
    }
    transpose(l.in, p, k, l.columns);
    transpose(l.back, p + EFL_GATE_N, co, l.columns);
    const int16_t *before = NULL; /* the cell one step earlier */
    for (size_t t = 0; t < steps; t++) {
        int16_t *step = saved ? saved + t * EFL_LSTM_PARTS * wide : l.step;
        for (size_t s = 0; s < n; s++) {
            int16_t *gates = step + s * co;
            kernels->dot_cols(l.sums, l.in, x + (s * steps + t) * k, k, l.columns);
            for (size_t g = 0; g < EFL_GATE_N; g++)
                add_gate(gates + g * wide, l.sums + g * co, l.bias[g], d->co, m->in[g], 1);
            if (t == 0) continue; /* the state is zero */
            kernels->dot_cols(l.sums, l.back, y + (s * steps + t - 1) * co, co, l.columns);
            for (size_t g = 0; g < EFL_GATE_N; g++)
                add_gate(gates + g * wide, l.sums + g * co, l.bias[EFL_GATE_N + g], d->co, m->back[g], 0);
        }
        for (size_t g = 0; g < EFL_GATE_N; g++) {
            int16_t *gates = step + g * wide;
            if (g == EFL_GATE_G)
                kernels->tanh_i16(gates, gates, wide, 3);
            else
                kernels->sigmoid_i16(gates, gates, wide);
        }
        int16_t *cell = step + EFL_LSTM_CELL * wide, *squashed = step + EFL_LSTM_TANH * wide;
        update_cell(cell, before, step, wide, m);
        kernels->tanh_i16(squashed, cell, wide, 15 - m->cell_bits);
        const int16_t *out = step + EFL_GATE_O * wide;
        for (size_t s = 0; s < n; s++)
            for (size_t c = 0; c < co; c++) {
                const int32_t h = out[s * co + c] * squashed[s * co + c]; /* below 2^30 */
                const int64_t v = (int64_t)efl_fixed_times(h, m->out) + y_zero;
                y[(s * steps + t) * co + c] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
            }
        before = cell;
    }
}
