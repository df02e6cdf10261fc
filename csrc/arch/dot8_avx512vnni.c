/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel with AVX512-VNNI: vpdpbusd multiplies four unsigned image bytes by four signed panel
 * bytes and adds, 16 columns a register, so image bytes hold value + 128 (flip 0x80).
 * Measured on Zen 4: 97 % (nv = 1) and 99 % (nv = 2) of the multiplier's peak on operands in L1.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "nn/dot8.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

static inline TARGET __m512i four(const uint8_t *p)
{
    int32_t all;
    memcpy(&all, p, 4);
    return _mm512_set1_epi32(all);
}

#define EACH_ROW(do)                                                                                         \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7)
#define FROM(i) const uint8_t *a##i = rows[i] + from;
#define START(sum, i, col) __m512i sum##i = _mm512_loadu_si512((t->init ? t->init : out[i]) + (col));
#define STORE(sum, i, col)                                                                                   \
    _mm512_storeu_si512(out[i] + (col), sum##i);                                                             \
    top = _mm512_max_epi32(top, _mm512_abs_epi32(sum##i));

#define START1(i) START(c, i, 0)
#define STORE1(i) STORE(c, i, 0)
#define DOT1(i) c##i = _mm512_dpbusd_epi32(c##i, four(a##i + at), b0);

static inline TARGET __m512i one_column(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    EACH_ROW(START1)
    const int8_t *b = t->panel;
    for (int32_t r = 0; r < t->n_runs; r++) {
        const ptrdiff_t from = t->offs[r], step = t->step, end = step * t->groups;
        EACH_ROW(FROM)
        for (ptrdiff_t at = 0; at < end; at += step, b += 64) {
            const __m512i b0 = _mm512_loadu_si512(b);
            EACH_ROW(DOT1)
        }
    }
    __m512i top = _mm512_setzero_si512();
    EACH_ROW(STORE1)
    return top;
}

#define START2(i) START(c, i, 0) START(d, i, EFL_DOT_COLS)
#define STORE2(i) STORE(c, i, 0) STORE(d, i, EFL_DOT_COLS)
#define DOT2(i)                                                                                              \
    {                                                                                                        \
        const __m512i a = four(a##i + at);                                                                   \
        c##i = _mm512_dpbusd_epi32(c##i, a, b0);                                                             \
        d##i = _mm512_dpbusd_epi32(d##i, a, b1);                                                             \
    }

static inline TARGET __m512i two_columns(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    EACH_ROW(START2)
    const int8_t *b = t->panel;
    for (int32_t r = 0; r < t->n_runs; r++) {
        const ptrdiff_t from = t->offs[r], step = t->step, end = step * t->groups;
        EACH_ROW(FROM)
        for (ptrdiff_t at = 0; at < end; at += step, b += 128) {
            const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
            EACH_ROW(DOT2)
        }
    }
    __m512i top = _mm512_setzero_si512();
    EACH_ROW(STORE2)
    return top;
}

TARGET void efl_dot8_avx512vnni(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    const __m512i top = t->nv == 1 ? one_column(out, rows, t) : two_columns(out, rows, t);
    if (t->top) _mm512_storeu_si512(t->top, _mm512_max_epi32(top, _mm512_loadu_si512(t->top)));
}
#else
typedef int efl_dot8_avx512vnni_elsewhere; /* ISO C wants a declaration */
#endif
