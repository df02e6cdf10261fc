/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel with 256-bit VNNI, 4 rows by 16 columns in 8 registers. The including file defines
 * TARGET, DPBUSD and NAME, as for fwd_vnni256.h. Image bytes hold value + 128 (flip 0x80).
 */
#include <immintrin.h>
#include <string.h>

#include "nn/dot8.h"

#define ROWS 4

static inline TARGET __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline TARGET __m256i four(const uint8_t *p)
{
    int32_t all;
    memcpy(&all, p, 4);
    return _mm256_set1_epi32(all);
}

static inline TARGET void rows_by_16(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t,
                                     int first, int32_t col)
{
    __m256i c[ROWS][2];
    for (int i = 0; i < ROWS; i++) {
        const int32_t *start = (t->init ? t->init : out[first + i]) + col;
        c[i][0] = load(start);
        c[i][1] = load(start + 8);
    }
    const int8_t *b = t->panel + 4 * col;
    const ptrdiff_t wide = (ptrdiff_t)t->nv * 64, step = t->step, end = step * t->groups;
    for (int32_t r = 0; r < t->n_runs; r++) {
        const ptrdiff_t from = t->offs[r];
        const uint8_t *a0 = rows[first] + from, *a1 = rows[first + 1] + from, *a2 = rows[first + 2] + from;
        const uint8_t *a3 = rows[first + 3] + from;
        for (ptrdiff_t at = 0; at < end; at += step, b += wide) {
            const __m256i b0 = load(b), b1 = load(b + 32);
            const __m256i x[ROWS] = {four(a0 + at), four(a1 + at), four(a2 + at), four(a3 + at)};
            for (int i = 0; i < ROWS; i++) {
                c[i][0] = DPBUSD(c[i][0], x[i], b0);
                c[i][1] = DPBUSD(c[i][1], x[i], b1);
            }
        }
    }
    __m256i top = _mm256_setzero_si256();
    for (int i = 0; i < ROWS; i++)
        for (int h = 0; h < 2; h++) {
            _mm256_storeu_si256((__m256i *)(out[first + i] + col + 8 * h), c[i][h]);
            top = _mm256_max_epi32(top, _mm256_abs_epi32(c[i][h]));
        }
    if (t->top) _mm256_storeu_si256((__m256i *)t->top, _mm256_max_epi32(top, load(t->top)));
}

TARGET void NAME(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    for (int32_t col = 0; col < t->nv * EFL_DOT_COLS; col += EFL_DOT_COLS)
        for (int first = 0; first < EFL_DOT_ROWS; first += ROWS) rows_by_16(out, rows, t, first, col);
}
