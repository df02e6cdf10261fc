/* SPDX-License-Identifier: Apache-2.0
 * The forward kernels in plain C; see fwd.h.
 */
#include "nn/fwd.h"

#include <string.h>

#include "nn/round.h"

void efl_fwd_fill(const efl_fwd_kernels *k, void *image, size_t n, int32_t value)
{
    if (k->x_bytes == 1) {
        memset(image, value ^ k->flip, n);
        return;
    }
    int16_t *wide = image;
    for (size_t i = 0; i < n; i++) wide[i] = (int16_t)value;
}

void efl_fwd_load_ref(void *image, const int8_t *x, size_t n)
{
    memcpy(image, x, n);
}

void efl_fwd_weave_ref(void *image, const int8_t *const *rows, size_t n)
{
    int8_t *to = image;
    for (size_t i = 0; i < n; i++, to += 4)
        for (int t = 0; t < 4; t++) to[t] = rows[t][i];
}

void efl_fwd_pack_ref(int8_t *panel, int32_t *sums, const int8_t *w, size_t ldw, int32_t n_runs, int32_t run,
                      int32_t cols)
{
    const int32_t groups = (run + 3) / 4;
    memset(panel, 0, (size_t)n_runs * (size_t)groups * EFL_NR * 4);
    memset(sums, 0, EFL_NR * sizeof(int32_t));
    for (int32_t j = 0; j < cols; j++, w += ldw)
        for (int32_t r = 0; r < n_runs; r++)
            for (int32_t t = 0; t < run; t++) {
                const int8_t q = w[r * run + t];
                panel[((r * groups + t / 4) * EFL_NR + j) * 4 + t % 4] = q;
                sums[j] += q;
            }
}

/* XNNPACK's rule: one float32 product, clamped while it is a float, rounded to nearest even. */
static void requant(int8_t *y, const int32_t *acc, int32_t cols, int32_t column, const efl_fwd_job *job)
{
    const float lo = (float)(job->lo - job->zero), hi = (float)(job->hi - job->zero);
    for (int32_t j = 0; j < cols; j++) {
        float v = (float)acc[j] * job->mult[column + j];
        v = v < lo ? lo : v;
        v = v > hi ? hi : v;
        y[j] = (int8_t)((int32_t)efl_rne(v) + job->zero);
    }
}

static void pixel(const efl_fwd_job *job, int32_t p, int32_t column, const int8_t *w, int32_t depth)
{
    uint32_t acc[EFL_NR]; /* unsigned: wraps */
    for (int32_t j = 0; j < EFL_NR; j++) acc[j] = (uint32_t)job->bias[column + j];
    const int8_t *x = (const int8_t *)job->x + job->pixels[p] + depth * column;
    for (int32_t r = 0; r < job->n_runs; r++)
        for (int32_t g = 0; g < job->groups; g++)
            for (int32_t j = 0; j < EFL_NR; j++, w += 4) {
                const int8_t *at = x + job->offs[r] + 4 * g + depth * j;
                acc[j] += (uint32_t)(at[0] * w[0] + at[1] * w[1] + at[2] * w[2] + at[3] * w[3]);
            }
    int32_t whole[EFL_NR];
    memcpy(whole, acc, sizeof whole);
    const int32_t cols = job->cols - column < EFL_NR ? job->cols - column : EFL_NR;
    int8_t *y = job->y + (size_t)p * job->ldy + column;
    if (job->requant)
        job->requant(y, whole, 1, cols, column, job);
    else
        requant(y, whole, cols, column, job);
}

static void tiles(const efl_fwd_job *job, int32_t depth)
{
    const size_t panel = (size_t)job->n_runs * (size_t)job->groups * EFL_NR * 4;
    const int8_t *w = job->w;
    for (int32_t c = 0; c < job->cols; c += EFL_NR, w += panel)
        for (int32_t p = 0; p < job->n_pixels; p++) pixel(job, p, c, w, depth);
}

void efl_fwd_gemm_ref(const efl_fwd_job *job)
{
    tiles(job, 0);
}

void efl_fwd_depth_ref(const efl_fwd_job *job)
{
    tiles(job, 4);
}
