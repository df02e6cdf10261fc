/* SPDX-License-Identifier: Apache-2.0
 * 16 x 16 int16 in registers, rows to columns.
 */
#ifndef EFL_ARCH_TRANSPOSE_AVX2_H
#define EFL_ARCH_TRANSPOSE_AVX2_H
#include <immintrin.h>

/* Neighbours side by side, then dwords, then their pairs and halves. */
static inline __attribute__((target("avx2"))) void efl_transpose_i16(__m256i *r)
{
    __m256i a[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);     /* columns 0-3, 8-11 */
        a[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]); /* columns 4-7, 12-15 */
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm256_unpacklo_epi32(a[i + h], a[i + 2 + h]);     /* 4h, 4h+1, and +8 */
            r[i + 2 * h + 1] = _mm256_unpackhi_epi32(a[i + h], a[i + 2 + h]); /* 4h+2, 4h+3, and +8 */
        }
    for (int i = 0; i < 16; i += 8)
        for (int h = 0; h < 4; h++) {
            a[i + 2 * h] = _mm256_unpacklo_epi64(r[i + h], r[i + 4 + h]);     /* column 2h, 2h+8 */
            a[i + 2 * h + 1] = _mm256_unpackhi_epi64(r[i + h], r[i + 4 + h]); /* column 2h+1, 2h+9 */
        }
    for (int h = 0; h < 8; h++) {
        r[h] = _mm256_permute2x128_si256(a[h], a[8 + h], 0x20);
        r[8 + h] = _mm256_permute2x128_si256(a[h], a[8 + h], 0x31);
    }
}

#endif
