/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, forward: each pixel reads some runs of a widened, padded image and meets panels of 16 packed
 * weight columns (gemm.h).
 */
#include "nn/conv.h"

static size_t ceil_div(int32_t a, int32_t b)
{
    return (size_t)((a + b - 1) / b);
}

/* Pixels with the same taps. Offsets are elements of the image. */
typedef struct {
    int16_t *panels;  /* [groups][columns / EFL_NR][n_runs][pairs][EFL_NR][2] */
    int32_t *offs;    /* [n_runs] */
    int32_t *pixels;  /* [n_pixels rounded up to EFL_MR] where a pixel's runs start; the last repeats */
    int32_t *targets; /* [n_pixels] pixel index in the result */
    int32_t n_pixels, n_runs, run, pairs;
} phase;

static void phase_take(phase *p, efl_scratch *s, int32_t groups, int32_t columns)
{
    p->pairs = (p->run + 1) / 2;
    const size_t panel = (size_t)p->n_runs * (size_t)p->pairs * 2 * EFL_NR;
    p->panels = efl_scratch_take(s, (size_t)groups * ceil_div(columns, EFL_NR) * panel * sizeof(int16_t));
    p->offs = efl_scratch_take(s, (size_t)p->n_runs * sizeof(int32_t));
    p->pixels = efl_scratch_take(s, ((size_t)p->n_pixels + EFL_MR) * sizeof(int32_t));
    p->targets = efl_scratch_take(s, (size_t)p->n_pixels * sizeof(int32_t));
}

static void phase_repeat_last(phase *p)
{
    for (int32_t i = p->n_pixels; i < p->n_pixels + EFL_MR; i++)
        p->pixels[i] = p->n_pixels ? p->pixels[p->n_pixels - 1] : 0;
}

/* Runs in memory order: the whole kernel row where its pixels lie side by side, else tap by tap. */
static int joined(const efl_dims *d, int32_t stride)
{
    return d->groups == 1 && d->dw == 1 && stride == 1;
}

typedef struct {
    phase p;
    int16_t *image;
    size_t image_n;
    int32_t *bias; /* [co rounded up] and its multipliers, so that requant always has 16 */
    float *mult;
} fwd_layout;

static size_t fwd_take(fwd_layout *l, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    const int32_t cig = d->ci / d->groups;
    l->p.n_pixels = d->ho * d->wo;
    l->p.n_runs = joined(d, 1) ? d->kh : d->kh * d->kw;
    l->p.run = joined(d, 1) ? d->kw * cig : cig;
    phase_take(&l->p, &s, d->groups, d->co / d->groups);
    l->image_n = (size_t)efl_image_h(d) * (size_t)efl_image_w(d) * (size_t)d->ci + efl_image_slack(d);
    l->image = efl_scratch_take(&s, l->image_n * sizeof(int16_t));
    l->bias = efl_scratch_take(&s, ((size_t)d->co + EFL_NR) * sizeof(int32_t));
    l->mult = efl_scratch_take(&s, ((size_t)d->co + EFL_NR) * sizeof(float));
    return s.used;
}

size_t efl_conv2d_i8_fwd_scratch_bytes(const efl_dims *d)
{
    fwd_layout l;
    return fwd_take(&l, d, NULL);
}

/* Weights are [co][runs in memory order]. */
static void fwd_pack(const phase *p, const int8_t *w, const efl_dims *d)
{
    const int32_t cog = d->co / d->groups;
    const size_t k = (size_t)p->n_runs * (size_t)p->run;
    int16_t *dst = p->panels;
    for (int32_t g = 0; g < d->groups; g++)
        for (int32_t c0 = 0; c0 < cog; c0 += EFL_NR) {
            const int32_t cols = cog - c0 < EFL_NR ? cog - c0 : EFL_NR;
            const size_t panel = (size_t)p->n_runs * (size_t)p->pairs * 2 * EFL_NR;
            if (cols < EFL_NR || (p->run & 1)) memset(dst, 0, panel * sizeof(int16_t));
            for (int32_t j = 0; j < cols; j++) {
                const int8_t *src = w + (size_t)(g * cog + c0 + j) * k;
                int16_t *at = dst + 2 * j;
                for (int32_t r = 0; r < p->n_runs; r++, src += p->run) {
                    int32_t t = 0;
                    for (; t + 1 < p->run; t += 2, at += 2 * EFL_NR) {
                        at[0] = src[t];
                        at[1] = src[t + 1];
                    }
                    if (t < p->run) {
                        at[0] = src[t];
                        at += 2 * EFL_NR;
                    }
                }
            }
            dst += panel;
        }
}

static void fwd_walk(const phase *p, const efl_dims *d)
{
    const int32_t wp = efl_image_w(d), per_row = joined(d, 1) ? 1 : d->kw;
    for (int32_t r = 0; r < p->n_runs; r++)
        p->offs[r] = (r / per_row * d->dh * wp + r % per_row * d->dw) * d->ci;
    int32_t m = 0;
    for (int32_t oy = 0; oy < d->ho; oy++)
        for (int32_t ox = 0; ox < d->wo; ox++) p->pixels[m++] = (oy * d->sh * wp + ox * d->sw) * d->ci;
}

void efl_conv2d_i8_fwd(int8_t *y, const int8_t *x, const int8_t *w, const int32_t *b, const efl_dims *d,
                       const efl_requant_params *rq, void *scratch)
{
    const efl_kernel_table *k = efl_kernels();
    fwd_layout l;
    fwd_take(&l, d, scratch);
    phase *p = &l.p;
    fwd_pack(p, w, d);
    fwd_walk(p, d);
    phase_repeat_last(p);
    memset(l.image, 0, l.image_n * sizeof(int16_t));
    for (int32_t c = 0; c < d->co + EFL_NR; c++) {
        l.bias[c] = c < d->co ? b[c] : 0;
        l.mult[c] = rq->mult[rq->n_mult == 1 || c >= d->co ? 0 : c];
    }
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups;
    const size_t panel = (size_t)p->n_runs * (size_t)p->pairs * 2 * EFL_NR;
    for (int32_t s = 0; s < d->n; s++) {
        efl_image_load(l.image, x, d, rq->x_zero);
        const int16_t *b16 = p->panels;
        for (int32_t g = 0; g < d->groups; g++)
            for (int32_t c0 = 0; c0 < cog; c0 += EFL_NR, b16 += panel) {
                const int32_t c = g * cog + c0, cols = cog - c0 < EFL_NR ? cog - c0 : EFL_NR;
                for (int32_t m = 0; m < p->n_pixels; m += EFL_MR) {
                    int32_t acc[EFL_MR * EFL_NR];
                    const int16_t *rows[EFL_MR];
                    for (int i = 0; i < EFL_MR; i++) rows[i] = l.image + p->pixels[m + i] + g * cig;
                    k->gemm_dot(acc, rows, p->offs, b16, p->n_runs, p->pairs);
                    const int32_t n_rows = p->n_pixels - m < EFL_MR ? p->n_pixels - m : EFL_MR;
                    k->requant(y + (size_t)m * (size_t)d->co + (size_t)c, (size_t)d->co, acc, n_rows, cols,
                               l.bias + c, l.mult + c, rq->lo, rq->hi, rq->y_zero);
                }
            }
        x += (size_t)d->hi * (size_t)d->wi * (size_t)d->ci;
        y += (size_t)p->n_pixels * (size_t)d->co;
    }
}
