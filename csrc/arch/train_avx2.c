/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 matrix kernel and what prepares and finishes it with AVX2: bytes widened on the way to vpmaddwd
 * (vpmaddubsw would saturate), so a register holds four columns of two partial sums; plain values, flip is 0.
 * cvtps rounds to nearest even, the default mode of the control register, which nothing in this library
 * changes.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "arch/transpose_avx2.h"
#include "nn/dot8.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((target("avx2"), always_inline))

INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE __m256i widen(const void *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
INLINE __m256i four(const uint8_t *p)
{
    int32_t all;
    memcpy(&all, p, 4);
    return _mm256_cvtepi8_epi16(_mm_set1_epi32(all));
}

/* Rows first.. (n of them) by 16 columns from col on. */
INLINE void rows_by_16(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t, const int first,
                       const int n, const int32_t col)
{
    __m256i c[3][4];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < 4; j++) c[i][j] = _mm256_setzero_si256();
    const int8_t *b = t->panel + 4 * col;
    const ptrdiff_t wide = (ptrdiff_t)t->nv * 64, step = t->step, end = step * t->groups;
    for (int32_t r = 0; r < t->n_runs; r++) {
        const ptrdiff_t from = t->offs[r];
        for (ptrdiff_t at = from; at < from + end; at += step, b += wide) {
            __m256i a[3];
            for (int i = 0; i < n; i++) a[i] = four(rows[first + i] + at);
            for (int j = 0; j < 4; j++) {
                const __m256i w = widen(b + 16 * j);
                for (int i = 0; i < n; i++) c[i][j] = _mm256_add_epi32(c[i][j], _mm256_madd_epi16(a[i], w));
            }
        }
    }
    __m256i top = _mm256_setzero_si256();
    for (int i = 0; i < n; i++) {
        int32_t *to = out[first + i] + col;
        const int32_t *start = t->init ? t->init + col : to;
        for (int h = 0; h < 2; h++) { /* add the partial sums: columns 0 1 4 5 | 2 3 6 7 */
            const __m256i mixed = _mm256_hadd_epi32(c[i][2 * h], c[i][2 * h + 1]);
            const __m256i sum = _mm256_add_epi32(_mm256_permute4x64_epi64(mixed, 0xd8), load(start + 8 * h));
            _mm256_storeu_si256((__m256i *)(to + 8 * h), sum);
            top = _mm256_max_epi32(top, _mm256_abs_epi32(sum));
        }
    }
    if (t->top) _mm256_storeu_si256((__m256i *)t->top, _mm256_max_epi32(top, load(t->top)));
}

TARGET void efl_dot8_avx2(int32_t *const *out, const uint8_t *const *rows, const efl_dot8 *t)
{
    for (int32_t col = 0; col < t->nv * EFL_DOT_COLS; col += EFL_DOT_COLS) {
        rows_by_16(out, rows, t, 0, 3, col);
        rows_by_16(out, rows, t, 3, 3, col);
        rows_by_16(out, rows, t, 6, 2, col);
    }
}

INLINE void zip16(uint8_t *dst, __m256i *sums, const int8_t *src, size_t pitch, __m128i flips)
{
    const __m128i r0 = _mm_loadu_si128((const __m128i *)src);
    const __m128i r1 = _mm_loadu_si128((const __m128i *)(src + pitch));
    const __m128i r2 = _mm_loadu_si128((const __m128i *)(src + 2 * pitch));
    const __m128i r3 = _mm_loadu_si128((const __m128i *)(src + 3 * pitch));
    const __m128i lo01 = _mm_unpacklo_epi8(r0, r1), hi01 = _mm_unpackhi_epi8(r0, r1);
    const __m128i lo23 = _mm_unpacklo_epi8(r2, r3), hi23 = _mm_unpackhi_epi8(r2, r3);
    const __m128i z[4] = {_mm_unpacklo_epi16(lo01, lo23), _mm_unpackhi_epi16(lo01, lo23),
                          _mm_unpacklo_epi16(hi01, hi23), _mm_unpackhi_epi16(hi01, hi23)};
    for (int i = 0; i < 4; i++) _mm_storeu_si128((__m128i *)(dst + 16 * i), _mm_xor_si128(z[i], flips));
    for (int i = 0; i < 2; i++) { /* pairs fit int16, then four int32 */
        const __m256i both = _mm256_set_m128i(z[2 * i + 1], z[2 * i]);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), both);
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}

TARGET void efl_zip4_avx2(uint8_t *dst, size_t dst_step, int32_t *sums, const int8_t *src, size_t pitch,
                          size_t groups, size_t c, uint8_t flip)
{
    const size_t whole = c / 16 * 16;
    for (size_t j = 0; j < whole; j += 16) {
        __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (size_t g = 0; g < groups; g++)
            zip16(dst + g * dst_step + 4 * j, sum, src + 4 * g * pitch + j, pitch, _mm_set1_epi8((char)flip));
        if (!sums) continue;
        for (size_t h = 0; h < 2; h++)
            _mm256_storeu_si256((__m256i *)(sums + j + 8 * h),
                                _mm256_add_epi32(sum[h], load(sums + j + 8 * h)));
    }
    if (whole < c)
        efl_zip4_ref(dst + 4 * whole, dst_step, sums ? sums + whole : NULL, src + whole, pitch, groups,
                     c - whole, flip);
}

INLINE __m256i scaled(__m128i q, __m256 s)
{
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), s);
    return _mm256_max_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(-127));
}

TARGET void efl_scale8_avx2(uint8_t *dst, const int8_t *e, size_t n, size_t c, const float *s, uint8_t flip)
{
    const size_t whole = c / 16 * 16;
    for (size_t j = 0; j < whole; j += 16) {
        const __m256 s0 = _mm256_loadu_ps(s + j), s1 = _mm256_loadu_ps(s + j + 8);
        for (size_t i = 0; i < n; i++) {
            const __m128i q = _mm_loadu_si128((const __m128i *)(e + i * c + j));
            const __m256i mixed = _mm256_packs_epi32(scaled(q, s0), scaled(_mm_srli_si128(q, 8), s1));
            const __m256i w = _mm256_permute4x64_epi64(mixed, 0xd8);
            const __m128i b = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
            _mm_storeu_si128((__m128i *)(dst + i * c + j), _mm_xor_si128(b, _mm_set1_epi8((char)flip)));
        }
    }
    if (whole < c)
        for (size_t i = 0; i < n; i++)
            efl_scale8_ref(dst + i * c + whole, e + i * c + whole, 1, c - whole, s + whole, flip);
}

INLINE __m256 held(const int32_t *tile, const int32_t *fix, const float *f, uint32_t *saturated)
{
    const __m256 t =
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(load(tile), load(fix))), _mm256_loadu_ps(f));
    const __m256 h = _mm256_min_ps(_mm256_max_ps(t, _mm256_set1_ps(-32767.0f)), _mm256_set1_ps(32767.0f));
    *saturated +=
        (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(t, h, _CMP_NEQ_OQ)));
    return h;
}

/* 16 columns. */
INLINE uint32_t step_block(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                           int32_t rows, const int32_t *fix, const float *f)
{
    __m256i r[16], total = _mm256_setzero_si256();
    uint32_t saturated = 0;
    for (int32_t i = 0; i < 16; i++, tile += ldt) {
        r[i] = _mm256_setzero_si256();
        if (i >= rows) continue;
        const __m256i a = _mm256_cvtps_epi32(held(tile, fix, f, &saturated));
        const __m256i b = _mm256_cvtps_epi32(held(tile + 8, fix + 8, f + 8, &saturated));
        r[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
        const __m256i square = _mm256_madd_epi16(r[i], r[i]); /* 2 * 32767^2 < 2^31 */
        total = _mm256_add_epi64(total, _mm256_srli_epi64(square, 32));
        total = _mm256_add_epi64(total, _mm256_and_si256(square, _mm256_set1_epi64x(0xffffffff)));
    }
    uint64_t parts[4];
    _mm256_storeu_si256((__m256i *)parts, total);
    *sum2 += parts[0] + parts[1] + parts[2] + parts[3];
    efl_transpose_i16(r);
    for (int32_t j = 0; j < 16; j++) {
        int16_t column[16];
        _mm256_storeu_si256((__m256i *)(rows == 16 ? v + (size_t)j * ldv : column), r[j]);
        if (rows < 16) memcpy(v + (size_t)j * ldv, column, (size_t)rows * sizeof(int16_t));
    }
    return saturated;
}

TARGET uint32_t efl_step_tile_avx2(int16_t *v, size_t ldv, uint64_t *sum2, const int32_t *tile, size_t ldt,
                                   int32_t rows, int32_t cols, const int32_t *fix, const float *f)
{
    uint32_t saturated = 0;
    int32_t j = 0;
    for (; j + 16 <= cols; j += 16)
        saturated += step_block(v + (size_t)j * ldv, ldv, sum2, tile + j, ldt, rows, fix + j, f + j);
    if (j < cols)
        saturated +=
            efl_step_tile_ref(v + (size_t)j * ldv, ldv, sum2, tile + j, ldt, rows, cols - j, fix + j, f + j);
    return saturated;
}
#else
typedef int efl_train_avx2_elsewhere; /* ISO C wants a declaration */
#endif
