/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, backward-x: each input pixel reads some runs of the widened, padded error image and meets
 * panels of 16 packed weight columns (gemm.h). A stride splits the input pixels into stride_h * stride_w
 * phases, each with the taps that reach it, so no product with a zero is ever formed.
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

/* For one axis: the taps that reach input positions at `phase` + i*stride, and where in the error map they
 * read. Tap t reads position i + shift(t); taps run downwards, so that the reads run upwards. */
static int32_t tap_phase(int32_t tap, int32_t dilation, int32_t pad, int32_t stride)
{
    const int32_t at = (tap * dilation - pad) % stride;
    return at < 0 ? at + stride : at;
}
static int32_t tap_shift(int32_t tap, int32_t dilation, int32_t pad, int32_t stride)
{
    return (tap_phase(tap, dilation, pad, stride) + pad - tap * dilation) / stride;
}
static int32_t phase_len(int32_t n, int32_t first, int32_t stride)
{
    return first < n ? (n - first + stride - 1) / stride : 0;
}

/* Zero rows in front of the error map and its length with zeros behind, so that every read lies inside. */
static void padded_axis(int32_t *front, int32_t *length, int32_t n_in, int32_t n_out, int32_t taps,
                        int32_t dilation, int32_t pad, int32_t stride)
{
    int32_t lo = 0, hi = n_out - 1;
    for (int32_t t = 0; t < taps; t++) {
        const int32_t shift = tap_shift(t, dilation, pad, stride);
        const int32_t last = shift + phase_len(n_in, tap_phase(t, dilation, pad, stride), stride) - 1;
        lo = shift < lo ? shift : lo;
        hi = last > hi ? last : hi;
    }
    *front = -lo;
    *length = hi - lo + 1;
}

typedef struct {
    phase *phases; /* [sh * sw] */
    int16_t *image;
    size_t image_n;
    int32_t top, left, h, w;
} bwd_x_layout;

static int32_t count_taps(int32_t taps, int32_t dilation, int32_t pad, int32_t stride, int32_t at)
{
    int32_t n = 0;
    for (int32_t t = 0; t < taps; t++) n += tap_phase(t, dilation, pad, stride) == at;
    return n;
}

static size_t bwd_x_take(bwd_x_layout *l, const efl_dims *d, void *scratch)
{
    efl_scratch s = {scratch, 0};
    padded_axis(&l->top, &l->h, d->hi, d->ho, d->kh, d->dh, d->pt, d->sh);
    padded_axis(&l->left, &l->w, d->wi, d->wo, d->kw, d->dw, d->pl, d->sw);
    l->image_n = (size_t)l->h * (size_t)l->w * (size_t)d->co + 4 * EFL_NR;
    l->image = efl_scratch_take(&s, l->image_n * sizeof(int16_t));
    l->phases = efl_scratch_take(&s, (size_t)(d->sh * d->sw) * sizeof(phase));
    const int32_t cog = d->co / d->groups;
    for (int32_t i = 0; i < d->sh * d->sw; i++) {
        const int32_t py = i / d->sw, px = i % d->sw;
        const int32_t ny = count_taps(d->kh, d->dh, d->pt, d->sh, py);
        const int32_t nx = count_taps(d->kw, d->dw, d->pl, d->sw, px);
        phase p = {0};
        p.n_pixels = phase_len(d->hi, py, d->sh) * phase_len(d->wi, px, d->sw);
        p.n_runs = joined(d, d->sw) ? ny : ny * nx;
        p.run = joined(d, d->sw) ? d->kw * d->co : cog;
        phase_take(&p, &s, d->groups, d->ci / d->groups);
        if (scratch) l->phases[i] = p;
    }
    return s.used;
}

size_t efl_conv2d_i8_bwd_x_scratch_bytes(const efl_dims *d)
{
    bwd_x_layout l;
    return bwd_x_take(&l, d, NULL);
}

/* One run element pair of a panel: columns are input channels, contiguous in w. */
static void put_element(int16_t *dst, const int8_t *w, int32_t cols)
{
    for (int32_t j = 0; j < cols; j++) dst[2 * j] = w[j];
}

/* Walk and panels of phase (py, px). */
static void bwd_x_prepare(const bwd_x_layout *l, const phase *p, const int8_t *w, const efl_dims *d,
                          int32_t py, int32_t px)
{
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups, whole_row = joined(d, d->sw);
    const size_t panel = (size_t)p->n_runs * (size_t)p->pairs * 2 * EFL_NR;
    memset(p->panels, 0, panel * (size_t)d->groups * ceil_div(cig, EFL_NR) * sizeof(int16_t));
    int32_t r = 0;
    for (int32_t ky = d->kh - 1; ky >= 0; ky--) {
        if (tap_phase(ky, d->dh, d->pt, d->sh) != py) continue;
        const int32_t row = l->top + tap_shift(ky, d->dh, d->pt, d->sh);
        for (int32_t kx = d->kw - 1; kx >= 0; kx--) {
            if (tap_phase(kx, d->dw, d->pl, d->sw) != px) continue;
            /* in a joined run, tap kx starts at element (kw - 1 - kx) * co */
            const int32_t from = whole_row ? (d->kw - 1 - kx) * d->co : 0;
            if (from == 0) p->offs[r] = (row * l->w + l->left + tap_shift(kx, d->dw, d->pl, d->sw)) * d->co;
            for (int32_t g = 0; g < d->groups; g++)
                for (int32_t c = 0; c < cog; c++) {
                    const int8_t *src =
                        w +
                        (((size_t)(g * cog + c) * (size_t)d->kh + (size_t)ky) * (size_t)d->kw + (size_t)kx) *
                            (size_t)cig;
                    int16_t *dst = p->panels + (size_t)g * ceil_div(cig, EFL_NR) * panel;
                    dst += ((size_t)r * (size_t)p->pairs + (size_t)((from + c) / 2)) * 2 * EFL_NR;
                    dst += (from + c) % 2;
                    for (int32_t c0 = 0; c0 < cig; c0 += EFL_NR, dst += panel)
                        put_element(dst, src + c0, cig - c0 < EFL_NR ? cig - c0 : EFL_NR);
                }
            r += !whole_row;
        }
        r += whole_row;
    }
    int32_t m = 0;
    for (int32_t iy = py; iy < d->hi; iy += d->sh)
        for (int32_t ix = px; ix < d->wi; ix += d->sw, m++) {
            p->pixels[m] = (iy / d->sh * l->w + ix / d->sw) * d->co;
            p->targets[m] = iy * d->wi + ix;
        }
}

static void put_rows(int32_t *dx, const int32_t *acc, const int32_t *targets, int32_t rows, int32_t ci,
                     int32_t cols)
{
    for (int32_t i = 0; i < rows; i++) {
        int32_t *to = dx + (size_t)targets[i] * (size_t)ci;
        if (cols == EFL_NR)
            memcpy(to, acc + i * EFL_NR, EFL_NR * sizeof(int32_t));
        else
            memcpy(to, acc + i * EFL_NR, (size_t)cols * sizeof(int32_t));
    }
}

void efl_conv2d_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch)
{
    const efl_kernel_table *k = efl_kernels();
    bwd_x_layout l;
    bwd_x_take(&l, d, scratch);
    for (int32_t i = 0; i < d->sh * d->sw; i++) {
        bwd_x_prepare(&l, &l.phases[i], w, d, i / d->sw, i % d->sw);
        phase_repeat_last(&l.phases[i]);
    }
    memset(l.image, 0, l.image_n * sizeof(int16_t));
    const int32_t cig = d->ci / d->groups, cog = d->co / d->groups;
    const size_t row = (size_t)d->wo * (size_t)d->co;
    for (int32_t s = 0; s < d->n; s++) {
        int16_t *at = l.image + ((size_t)l.top * (size_t)l.w + (size_t)l.left) * (size_t)d->co;
        for (int32_t oy = 0; oy < d->ho; oy++, at += (size_t)l.w * (size_t)d->co, e += row)
            k->widen(at, e, row, 0);
        for (int32_t i = 0; i < d->sh * d->sw; i++) {
            const phase *p = &l.phases[i];
            const size_t panel = (size_t)p->n_runs * (size_t)p->pairs * 2 * EFL_NR;
            const int16_t *b16 = p->panels;
            for (int32_t g = 0; g < d->groups; g++)
                for (int32_t c0 = 0; c0 < cig; c0 += EFL_NR, b16 += panel)
                    for (int32_t m = 0; m < p->n_pixels; m += EFL_MR) {
                        int32_t acc[EFL_MR * EFL_NR];
                        const int16_t *rows[EFL_MR];
                        for (int j = 0; j < EFL_MR; j++) rows[j] = l.image + p->pixels[m + j] + g * cog;
                        k->gemm_dot(acc, rows, p->offs, b16, p->n_runs, p->pairs);
                        put_rows(dx + g * cig + c0, acc, p->targets + m,
                                 p->n_pixels - m < EFL_MR ? p->n_pixels - m : EFL_MR, d->ci,
                                 cig - c0 < EFL_NR ? cig - c0 : EFL_NR);
                    }
        }
        dx += (size_t)d->hi * (size_t)d->wi * (size_t)d->ci;
    }
}
