/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass of one convolution of ResNet8, so many times: what bench/arm_counts.py counts the instructions of.
 * Arguments: hi=wi, ci, co, kernel, stride, pass (0 forward, 1 dX, 2 dW), repeats, kernels (EFL_ISA_*).
 * Prints nothing; exit code 2 where the CPU lacks the kernels.
 */
#include <stdlib.h>
#include <string.h>

#include "edgefl.h"

static void *filled(size_t bytes, unsigned seed)
{
    int8_t *p = calloc(1, bytes + 256);
    for (size_t i = 0; p && i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (int8_t)((int)(seed >> 24) - 128);
        if (p[i] == -128) p[i] = -127;
    }
    return p;
}

int main(int argc, char **argv)
{
    if (argc != 9) return 1;
    const int32_t side = atoi(argv[1]), ci = atoi(argv[2]), co = atoi(argv[3]), k = atoi(argv[4]),
                  stride = atoi(argv[5]), pass = atoi(argv[6]), repeats = atoi(argv[7]);
    if (efl_isa_select(atoi(argv[8])) != EFL_OK) return 2;
    const int32_t out = (side + stride - 1) / stride, reach = (out - 1) * stride + k - side;
    const int32_t before = reach > 0 ? reach / 2 : 0;
    const efl_dims d = {.n = 1,
                        .hi = side,
                        .wi = side,
                        .ci = ci,
                        .ho = out,
                        .wo = out,
                        .co = co,
                        .kh = k,
                        .kw = k,
                        .sh = stride,
                        .sw = stride,
                        .dh = 1,
                        .dw = 1,
                        .pt = before,
                        .pl = before,
                        .groups = 1,
                        .mult = 1};
    const size_t n_x = (size_t)(side * side * ci), n_y = (size_t)(out * out * co);
    const size_t n_w = (size_t)(co * k * k * ci);
    int8_t *x = filled(n_x, 1), *y = filled(n_y, 2), *w = filled(n_w, 3);
    int32_t *b = filled((size_t)co * 4, 4), *dx = filled(n_x * 4, 5), *dw = filled(n_w * 4, 6);
    float *mult = calloc((size_t)co, sizeof *mult);
    void *packed = filled(efl_conv2d_i8_packed_bytes(&d), 7);
    size_t most = efl_conv2d_i8_fwd_scratch_bytes(&d);
    const size_t others[] = {efl_conv2d_i8_bwd_x_scratch_bytes(&d), efl_conv2d_i8_bwd_w_scratch_bytes(&d)};
    for (int i = 0; i < 2; i++) most = others[i] > most ? others[i] : most;
    void *scratch = filled(most, 8);
    if (!x || !y || !w || !b || !dx || !dw || !mult || !packed || !scratch) return 1;
    for (int32_t c = 0; c < co; c++) mult[c] = 0.001f;
    const efl_requant_params rq = {
        .mult = mult, .n_mult = co, .x_zero = -128, .y_zero = -128, .lo = -128, .hi = 127};
    efl_conv2d_i8_pack(packed, w, b, &d, &rq);
    for (int32_t i = 0; i < repeats; i++) {
        if (pass == 0) efl_conv2d_i8_fwd(y, x, packed, &d, &rq, scratch);
        if (pass == 1) efl_conv2d_i8_bwd_x(dx, y, w, &d, scratch);
        if (pass == 2) efl_conv2d_i8_bwd_w(dw, y, x, &d, -128, scratch);
    }
    return 0;
}
