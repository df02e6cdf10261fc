/* SPDX-License-Identifier: Apache-2.0
 *
 * Times the core's own int8 matrix kernels on the calls that a real training step makes: the calls are
 * written down while a step runs, then made again back to back, with the same shapes, strides and addresses.
 * So all that surrounds them (packing, rounding of errors, the update) is left out and nothing is idealised;
 * the forward kernel keeps its rounding to int8, which happens in registers. Built with the core by
 * bench/gemm_share.py, which compiles csrc/core/init.c with efl_kernels named efl_kernels_plain. One thread.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/kernels.h"

const efl_kernel_table *efl_kernels_plain(void);

#define CALLS_MAX 200000
#define STACK_BYTES (1 << 20) /* of the step's own frames, more than it uses */
#define KEPT_BYTES ((size_t)1 << 28)

typedef struct {
    efl_dot8 d;
    int32_t *out[EFL_DOT_ROWS];
    const uint8_t *rows[EFL_DOT_ROWS];
} dot_call;

static efl_kernel_table table;
static int recording;
static efl_fwd_job *jobs;
static dot_call *dots;
static size_t n_jobs, n_dots;
/* Frames are gone when a call is made again: what lay on the stack moves to `shadow`, at the same distances.
 */
static char *shadow, *stack_top, *kept_bytes;
static size_t n_kept;

static void *lasting(const void *p)
{
    char *at = (char *)(uintptr_t)p;
    const int on_stack = at < stack_top && at >= stack_top - STACK_BYTES;
    return on_stack ? shadow + STACK_BYTES - (stack_top - at) : at;
}

/* A copy of what scratch memory holds now: the step fills the same place again for its next operator. */
static void *kept(const void *p, size_t bytes)
{
    if (!p || n_kept + bytes > KEPT_BYTES) return NULL;
    char *to = kept_bytes + n_kept;
    memcpy(to, p, bytes);
    n_kept += (bytes + 63) / 64 * 64;
    return to;
}

static void spy_gemm(const efl_fwd_job *job)
{
    const size_t columns = ((size_t)job->cols + EFL_NR - 1) / EFL_NR * EFL_NR;
    if (n_jobs < CALLS_MAX) {
        efl_fwd_job j = *job;
        j.y = lasting(j.y), j.x = lasting(j.x), j.w = lasting(j.w);
        j.pixels = kept(j.pixels, (size_t)j.n_pixels * sizeof(int32_t));
        j.offs = kept(j.offs, (size_t)j.n_runs * sizeof(int32_t));
        j.sums = kept(j.sums, columns * sizeof(int32_t));
        j.bias = kept(j.bias, columns * sizeof(int32_t));
        j.mult = kept(j.mult, columns * sizeof(float));
        jobs[n_jobs++] = j;
    }
    efl_kernels_plain()->fwd.gemm(job);
}

static void spy_dot(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *d)
{
    if (n_dots < CALLS_MAX) {
        dot_call *c = &dots[n_dots++];
        c->d = *d;
        c->d.panel = lasting(d->panel), c->d.top = lasting(d->top);
        c->d.offs = kept(d->offs, (size_t)d->n_runs * sizeof(int32_t));
        c->d.init = kept(d->init, (size_t)d->nv * EFL_DOT_COLS * sizeof(int32_t));
        for (int i = 0; i < EFL_DOT_ROWS; i++) c->out[i] = lasting(out[i]), c->rows[i] = lasting(rows[i]);
    }
    efl_kernels_plain()->dot8(out, rows, d);
}

const efl_kernel_table *efl_kernels(void)
{
    return recording ? &table : efl_kernels_plain();
}

/* 1: write down every call from now on (the earlier ones are forgotten); 0: stop. 0 if memory is short. */
int32_t probe_record(int32_t on)
{
    char here;
    if (!jobs) {
        jobs = calloc(CALLS_MAX, sizeof *jobs);
        dots = calloc(CALLS_MAX, sizeof *dots);
        shadow = calloc(2, STACK_BYTES);
        kept_bytes = malloc(KEPT_BYTES);
        if (!jobs || !dots || !shadow || !kept_bytes) return 0;
    }
    recording = on;
    if (!on) return 1;
    stack_top = &here;
    n_jobs = n_dots = n_kept = 0;
    table = *efl_kernels_plain();
    table.fwd.gemm = spy_gemm;
    table.dot8 = spy_dot;
    return 1;
}

int64_t probe_calls(void)
{
    return n_jobs < CALLS_MAX && n_dots < CALLS_MAX && n_kept < KEPT_BYTES - 4096 ? (int64_t)(n_jobs + n_dots)
                                                                                  : -1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of all forward calls, and of all backward ones. */
double probe_forward(void)
{
    const efl_fwd_kernels *k = &efl_kernels_plain()->fwd;
    const double start = now();
    for (size_t i = 0; i < n_jobs; i++) k->gemm(&jobs[i]);
    return now() - start;
}
double probe_backward(void)
{
    efl_dot8_fn *dot8 = efl_kernels_plain()->dot8;
    const double start = now();
    for (size_t i = 0; i < n_dots; i++) dot8(dots[i].out, dots[i].rows, &dots[i].d);
    return now() - start;
}
