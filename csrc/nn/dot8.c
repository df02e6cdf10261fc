/* SPDX-License-Identifier: Apache-2.0
 * The int8 kernels in plain C; see dot8.h. The image holds plain values here: flip is 0.
 */
#include "nn/dot8.h"

#include "nn/round.h"

void efl_dot8_ref(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *d)
{
    const int32_t cols = d->nv * EFL_DOT_COLS;
    for (int i = 0; i < EFL_DOT_ROWS; i++) {
        int32_t sum[2 * EFL_DOT_COLS];
        for (int32_t j = 0; j < cols; j++) sum[j] = d->init ? d->init[j] : out[i][j];
        const int8_t *b = d->panel;
        for (int32_t r = 0; r < d->n_runs; r++) {
            const int8_t *a = (const int8_t *)rows[i] + d->offs[r];
            for (int32_t g = 0; g < d->groups; g++, a += d->step)
                for (int32_t j = 0; j < cols; j++, b += 4)
                    sum[j] += a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
        }
        for (int32_t j = 0; j < cols; j++) {
            out[i][j] = sum[j];
            const int32_t size = sum[j] < 0 ? -sum[j] : sum[j];
            if (d->top && size > d->top[j % EFL_DOT_COLS]) d->top[j % EFL_DOT_COLS] = size;
        }
    }
}

void efl_zip4_ref(uint8_t *dst, size_t dst_step, int32_t *sums, const int8_t *src, size_t pitch,
                  size_t groups, size_t c, uint8_t flip)
{
    for (size_t g = 0; g < groups; g++, dst += dst_step, src += 4 * pitch)
        for (size_t j = 0; j < c; j++) {
            const int8_t four[4] = {src[j], src[j + pitch], src[j + 2 * pitch], src[j + 3 * pitch]};
            for (size_t r = 0; r < 4; r++) dst[4 * j + r] = (uint8_t)((uint8_t)four[r] ^ flip);
            if (sums) sums[j] += four[0] + four[1] + four[2] + four[3];
        }
}

void efl_scale8_ref(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip)
{
    for (size_t i = 0; i < n; i++, e += c, dst += c)
        for (size_t j = 0; j < c; j++) {
            float v = (float)e[j] * s[j];
            v = v < -127.0f ? -127.0f : v;
            v = v > 127.0f ? 127.0f : v;
            dst[j] = (uint8_t)((uint8_t)(int8_t)(int32_t)efl_rne(v) ^ flip);
        }
}

uint32_t efl_step_tile_ref(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                           int32_t rows, int32_t cols, const int32_t *fix, const float *f)
{
    uint32_t saturated = 0;
    uint64_t total = 0; /* 256 * 32767^2 < 2^38 */
    for (int32_t i = 0; i < rows; i++, tile += ldt)
        for (int32_t j = 0; j < cols; j++) {
            float t = (float)(tile[j] - fix[j]) * f[j];
            saturated += (t > 32767.0f) | (t < -32767.0f);
            t = t < -32767.0f ? -32767.0f : t;
            t = t > 32767.0f ? 32767.0f : t;
            const int32_t step = (int32_t)efl_rne(t);
            v[(size_t)j * ldv + (size_t)i] = (int16_t)step;
            total += (uint32_t)(step * step);
        }
    *sum2 += total;
    return saturated;
}
