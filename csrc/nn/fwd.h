/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward kernels of convolution, dense and depthwise layers: int8 sums in registers, rounded to int8
 * before they leave them.
 *
 * Weights are packed in panels of EFL_NR columns: [n_runs][groups][EFL_NR][4] int8, four neighbours of the
 * reduction axis side by side. A run is a stretch of the image that a pixel reads in one piece; its length is
 * rounded up to 4 with zero weights, so up to 3 elements too many are read. The panels are the same for every
 * instruction set. What differs is the image: int8 as it is, or with its sign bit flipped (x + 128 as uint8,
 * because VNNI multiplies uint8 by int8), or int16 (AVX2). Zero points meet the sums of the weights:
 *     sum (x - z) q = sum x q - z sum q = sum (x + 128) q - (z + 128) sum q,
 * so the bias carries -z sum q, a flipped image takes off 128 sum q, and padding holds z. All sums wrap
 * modulo 2^32; the result is below 65536 * 255 * 128 < 2^31 and so exact whatever the parts do.
 */
#ifndef EFL_NN_FWD_H
#define EFL_NN_FWD_H
#include <stddef.h>
#include <stdint.h>

#include "edgefl.h"

#define EFL_NR 16 /* columns of a panel */

/* Pixels of one block, and the columns of one group of channels. Offsets count elements of the image. */
typedef struct efl_fwd_job efl_fwd_job;

/* y <- sums acc [rows][EFL_NR], complete with bias, of `cols` columns from `column` on; for rounding rules
 * that no kernel has built in. */
typedef void efl_fwd_requant_fn(int8_t *y, const int32_t *acc, int32_t rows, int32_t cols, int32_t column,
                                const efl_fwd_job *job);

struct efl_fwd_job {
    int8_t *y;  /* first pixel, first column */
    size_t ldy; /* from pixel to pixel */
    const void *x;
    const int32_t *pixels; /* [n_pixels] where the runs of a pixel start */
    const int32_t *offs;   /* [n_runs] */
    const int8_t *w;       /* [cols / EFL_NR rounded up] panels */
    const int32_t *sums;   /* [cols rounded up] of the weights of a column, and so on: */
    const int32_t *bias;
    const float *mult;
    int32_t n_pixels, n_runs, groups, cols;
    int32_t extreme; /* some weight is -128 */
    int32_t lo, hi, zero;
    efl_fwd_requant_fn *requant; /* null: XNNPACK's rule (efl_requant_params) */
    const efl_fixed *fixed;      /* of that function; mult is not read then */
    int32_t n_fixed;
};

/* gemm: column c of pixel p <- sum over runs r, groups g, i < 4 of x[pixels[p] + offs[r] + 4 g + i] *
 * w[c][r][g][i].  depth: groups is 1, and each column has an x of its own: x[pixels[p] + offs[r] + 4 c + i].
 */
typedef void efl_fwd_tile_fn(const efl_fwd_job *job);

/* One panel <- the weights of cols <= EFL_NR channels, each n_runs * run elements, ldw from channel to
 * channel; sums [EFL_NR] <- theirs, 0 for a missing channel. */
typedef void efl_fwd_pack_fn(int8_t *panel, int32_t *sums, const int8_t *w, size_t ldw, int32_t n_runs,
                             int32_t run, int32_t cols);

/* Image [n] <- x [n].  weave: image [n][4] <- rows [4][n]. */
typedef void efl_fwd_load_fn(void *image, const int8_t *x, size_t n);
typedef void efl_fwd_weave_fn(void *image, const int8_t *const *rows, size_t n);

typedef struct {
    efl_fwd_tile_fn *gemm, *depth;
    efl_fwd_pack_fn *pack;
    efl_fwd_load_fn *load;
    efl_fwd_weave_fn *weave;
    int32_t x_bytes; /* of an image element: 1 or 2 */
    int32_t flip;    /* 0x80: the image's sign bits are flipped; 0: not */
} efl_fwd_kernels;

/* Every instruction set has these five, its own or another's (core/init.c). */
#define EFL_FWD(isa)                                                                                         \
    efl_fwd_tile_fn efl_fwd_gemm_##isa, efl_fwd_depth_##isa;                                                 \
    efl_fwd_pack_fn efl_fwd_pack_##isa;                                                                      \
    efl_fwd_load_fn efl_fwd_load_##isa;                                                                      \
    efl_fwd_weave_fn efl_fwd_weave_##isa;
EFL_FWD(ref)
EFL_FWD(avx2)
EFL_FWD(avx512vnni)
EFL_FWD(avxvnni)
EFL_FWD(avxvnni_evex)
EFL_FWD(neon)
EFL_FWD(dotprod)
EFL_FWD(i8mm)

/* Elements that may be read, never used, behind an image. */
#define EFL_FWD_SLACK 64

/* image [n] <- value, as an image of these kernels holds it. */
void efl_fwd_fill(const efl_fwd_kernels *k, void *image, size_t n, int32_t value);

#endif
