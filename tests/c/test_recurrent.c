/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent layers on every instruction set of this machine: both activations on every int16 input against
 * sums made by the NumPy oracle, and LSTM and SVDF with buffers of exactly the documented size, so that ASan
 * sees one byte too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernels.h"
#include "edgefl.h"

#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s (kernels: %s)\n", __FILE__, __LINE__, #what,                          \
                    efl_isa_name(efl_isa_current()));                                                        \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static uint64_t rng = 88172645463325252u;

static int32_t pick(int32_t lo, int32_t hi)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return lo + (int32_t)((rng >> 20) % (uint64_t)(hi - lo + 1));
}

static void *exactly(size_t bytes)
{
    void *block = malloc(bytes ? bytes : 1);
    CHECK(block);
    memset(block, 0x5a, bytes);
    return block;
}

static int8_t *bytes_in(size_t n, int32_t lo, int32_t hi)
{
    int8_t *x = exactly(n);
    for (size_t i = 0; i < n; i++) x[i] = (int8_t)pick(lo, hi);
    return x;
}

static uint32_t sum_of(const int16_t *y, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum = sum * 31 + (uint16_t)y[i];
    return sum;
}

/* All 65536 inputs of each activation; the sums are tests/oracle/lstm.py's. */
static void check_activations(void)
{
    static const uint32_t tanh_sums[7] = {0x2b0f4c04, 0x868826ec, 0x824e96e8, 0xbe9ec41f,
                                          0x2b01e85f, 0xd405c09f, 0x6a40c69f};
    int16_t *x = exactly(65536 * sizeof *x), *y = exactly(65536 * sizeof *y);
    for (int32_t i = 0; i < 65536; i++) x[i] = (int16_t)(i - 32768);
    efl_kernels()->sigmoid_i16(y, x, 65536);
    CHECK(sum_of(y, 65536) == 0x501fcb74);
    for (int32_t whole = 0; whole < 7; whole++) {
        efl_kernels()->tanh_i16(y, x, 65536, whole);
        CHECK(sum_of(y, 65536) == tanh_sums[whole]);
    }
    free(x), free(y);
}

static efl_fixed random_multiplier(int32_t lo, int32_t hi)
{
    const efl_fixed f = {pick(1 << 30, INT32_MAX), pick(lo, hi)};
    return f;
}

static efl_lstm random_numbers(int32_t steps)
{
    efl_lstm m = {.cell_bits = pick(9, 15), .clip = pick(0, 1) * pick(1, 32767), .truncate = steps};
    for (int i = 0; i < 4; i++) m.in[i] = random_multiplier(-12, 1), m.back[i] = random_multiplier(-12, 1);
    m.out = random_multiplier(-24, -20);
    return m;
}

/* The same outputs on every instruction set, with and without saving; the saved h is what y says. */
static void check_lstm(void)
{
    const efl_dims d = {
        .n = pick(1, 4), .hi = 1, .wi = pick(1, 6), .ci = pick(1, 40), .ho = 1, .co = pick(1, 20)};
    efl_dims dims = d;
    dims.wo = d.wi;
    dims.kh = dims.kw = dims.sh = dims.sw = dims.dh = dims.dw = dims.groups = dims.mult = 1;
    CHECK(efl_dims_check(&dims, EFL_OP_LSTM) == EFL_OK);
    const efl_lstm m = random_numbers(d.wi);
    const size_t n_x = (size_t)(d.n * d.wi * d.ci), n_y = (size_t)(d.n * d.wi * d.co);
    int8_t *x = bytes_in(n_x, -128, 127), *first = NULL;
    efl_param p[8] = {0};
    for (int i = 0; i < 8; i++) {
        p[i].co = d.co, p[i].len = d.co * (i < 4 ? d.ci : d.co);
        p[i].q = bytes_in((size_t)p[i].len, -128, 127);
        p[i].b = exactly((size_t)d.co * sizeof(int32_t));
        for (int32_t c = 0; c < d.co; c++) p[i].b[c] = pick(-5000, 5000);
    }
    const int32_t x_zero = pick(-128, 127), y_zero = pick(-128, 127);
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) continue;
        for (int keep = 0; keep < 2; keep++) {
            int8_t *y = exactly(n_y);
            void *scratch = exactly(efl_lstm_i8_fwd_scratch_bytes(&dims, keep));
            int16_t *saved = keep ? exactly(efl_lstm_saved_bytes(&dims)) : NULL;
            CHECK(efl_lstm_saved_bytes(&dims) == EFL_LSTM_BYTES * n_y);
            efl_lstm_i8_fwd(y, saved, x, p, &dims, &m, x_zero, y_zero, scratch);
            CHECK(!first || memcmp(first, y, n_y) == 0);
            if (first)
                free(y);
            else
                first = y;
            free(scratch), free(saved);
        }
    }
    for (int i = 0; i < 8; i++) free(p[i].q), free(p[i].b);
    free(x), free(first);
}

static void check_svdf(void)
{
    efl_svdf m = {.rank = pick(1, 3), .memory = pick(1, 9), .memory_lo = -32768, .memory_hi = 32767};
    efl_dims d = {.n = pick(1, 4), .ci = pick(1, 40), .co = pick(1, 9)};
    d.hi = d.wi = d.ho = d.wo = d.kh = d.kw = d.sh = d.sw = d.dh = d.dw = d.groups = d.mult = 1;
    CHECK(efl_dims_check(&d, EFL_OP_SVDF) == EFL_OK);
    m.filters = d.co * m.rank;
    m.in = random_multiplier(-12, 0), m.out = random_multiplier(-12, 0);
    const size_t kept = (size_t)(m.filters * m.memory), n_y = (size_t)(d.n * d.co);
    int16_t *time = exactly(kept * sizeof *time);
    int32_t *bias = exactly((size_t)d.co * sizeof *bias);
    for (size_t i = 0; i < kept; i++) time[i] = (int16_t)pick(-32768, 32767);
    for (int32_t i = 0; i < d.co; i++) bias[i] = pick(-5000, 5000);
    int8_t *feature = bytes_in((size_t)(m.filters * d.ci), -128, 127), *first = NULL;
    int8_t *x = bytes_in((size_t)(d.n * d.ci), -128, 127);
    m.feature = feature, m.time = time, m.bias = bias;
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++) {
        if (efl_isa_select(isa) != EFL_OK) continue;
        int8_t *y = exactly(n_y);
        int16_t *memory = exactly(kept * sizeof *memory);
        memset(memory, 0, kept * sizeof *memory);
        void *scratch = exactly(efl_svdf_i8_fwd_scratch_bytes(&d, &m));
        efl_svdf_i8_fwd(y, memory, x, &d, &m, -7, 3, scratch);
        CHECK(!first || memcmp(first, y, n_y) == 0);
        if (first)
            free(y);
        else
            first = y;
        free(memory), free(scratch);
    }
    free(time), free(bias), free(feature), free(x), free(first);
}

int main(void)
{
    for (int32_t isa = 0; isa < EFL_ISA_COUNT; isa++)
        if (efl_isa_select(isa) == EFL_OK) check_activations();
    for (int i = 0; i < 60; i++) check_lstm(), check_svdf();
    return 0;
}
