/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel of the backward passes and what prepares its operands.
 *
 * A tile is EFL_DOT_ROWS rows by nv * 16 columns of int32. Each row reads groups of four neighbouring bytes
 * of a packed image; the columns are packed weights (or errors) [run][group][column][4]. Image bytes are
 * stored as value ^ flip: flip is 0x80 where the machine multiplies unsigned by signed bytes (VNNI), so the
 * image then holds value + 128, and init takes 128 * (sum of the column) back; elsewhere it is 0. Sums of at
 * most EFL_TERMS_MAX products fit in int32 with the flip too: 65536 * 255 * 128 = 2139095040 < 2^31.
 */
#ifndef EFL_NN_DOT8_H
#define EFL_NN_DOT8_H
#include <stddef.h>
#include <stdint.h>

#define EFL_DOT_ROWS 8 /* 8 x 2 chains hide the latency; 12 and 16 rows measured 1..14 % slower on Zen 4 */
#define EFL_DOT_COLS 16

typedef struct {
    const int8_t *panel; /* [n_runs][groups][nv * 16][4] */
    const int32_t *offs; /* [n_runs] bytes from a row's start */
    const int32_t *init; /* [nv * 16] where the sums start; null: at what out holds */
    int32_t *top;        /* [16] lanes of the running maximum of |sum|; or null */
    int32_t n_runs, groups;
    int32_t step; /* bytes from group to group of a row */
    int32_t nv;   /* 1 or 2 */
} efl_dot8;

/* out[i] [nv * 16] <- init + sum over runs and groups of four products of rows[i] and the panel; rows and out
 * have EFL_DOT_ROWS pointers, which may repeat. Sums wrap. */
typedef void efl_dot8_fn(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *d);

/* dst [groups] at distance dst_step: [c][4] <- four rows of src [4 * groups][c] at distance pitch side by
 * side, each byte ^ flip. sums [c] (or null) += the rows of src. */
typedef void efl_zip4_fn(uint8_t *dst, size_t dst_step, int32_t *sums, const int8_t *src, size_t pitch,
                         size_t groups, size_t c, uint8_t flip);

/* dst [n][c] <- clamp(rne(e * s[c])) to +-127, ^ flip; |e * s| <= 2^8. */
typedef void efl_scale8_fn(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip);

/* v [cols] at distance ldv: [rows <= 16] <- rne(clamp((tile - fix[col]) * f[col], +-32767)) of tile
 * [16][ldt], transposed. Returns how many saturated; *sum2 += sum of v^2. */
typedef uint32_t efl_step_tile_fn(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                                  int32_t rows, int32_t cols, const int32_t *fix, const float *f);

efl_dot8_fn efl_dot8_ref, efl_dot8_avx2, efl_dot8_avx512vnni, efl_dot8_avxvnni, efl_dot8_avxvnni_evex;
efl_dot8_fn efl_dot8_neon, efl_dot8_dotprod, efl_dot8_i8mm;
efl_zip4_fn efl_zip4_ref, efl_zip4_avx2, efl_zip4_avx512, efl_zip4_neon;
efl_scale8_fn efl_scale8_ref, efl_scale8_avx2, efl_scale8_avx512, efl_scale8_neon;
efl_step_tile_fn efl_step_tile_ref, efl_step_tile_avx2, efl_step_tile_avx512, efl_step_tile_neon;

#endif
