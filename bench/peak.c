/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine's int8 unit can do at most, for bench/engine.py: independent chains of dot-product
 * instructions on registers, nothing loaded, nothing stored. No GEMM can exceed it. Each function runs
 * `rounds` rounds and returns seconds; peak_macs() says how many int8 multiply-adds a round of its twin
 * holds. Built by bench/peak.py with the host's compiler; returns 0 where the CPU lacks the instructions.
 */
#include <stdint.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A dependent chain that only the clock and a second core can speed up: two of them at once show whether the
 * machine has two cores to give. */
double peak_spin(int64_t rounds)
{
    const double start = now();
    uint64_t x = 1;
    for (int64_t i = 0; i < rounds; i++) __asm__ volatile("imul %0, %0" : "+r"(x));
    return now() - start;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define CHAINS 16 /* latency 4..5, two ports: 10 would do, 16 leave no doubt */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static double vnni(int64_t rounds)
{
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
#define DECLARE(i) __m512i c##i = _mm512_set1_epi32(i);
    EACH(DECLARE)
    const double start = now();
    for (int64_t n = 0; n < rounds; n++) {
        /* in assembly, so that no compiler merges chains or moves them out of the loop */
#define STEP(i) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(c##i) : "v"(a), "v"(b));
        EACH(STEP)
    }
    return now() - start;
}

__attribute__((target("avx2"))) static double madd(int64_t rounds)
{
    const __m256i a = _mm256_set1_epi16(3);
#define DECLARE2(i) __m256i c##i = _mm256_set1_epi32(i);
    EACH(DECLARE2)
    const double start = now();
    for (int64_t n = 0; n < rounds; n++) {
        /* widened to int16: vpmaddwd, then an add, as an exact AVX2 kernel must */
#define STEP2(i)                                                                                             \
    do {                                                                                                     \
        __m256i p;                                                                                           \
        __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(c##i), "=&x"(p) : "x"(a));        \
    } while (0);
        STEP2(0)
        STEP2(1) STEP2(2) STEP2(3) STEP2(4) STEP2(5) STEP2(6) STEP2(7) STEP2(8) STEP2(9) STEP2(10) STEP2(11)
    }
    return now() - start;
}

double peak_vnni(int64_t rounds)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") ? vnni(rounds) : 0;
}
double peak_avx2(int64_t rounds)
{
    return __builtin_cpu_supports("avx2") ? madd(rounds) : 0;
}
int64_t peak_vnni_macs(void)
{
    return CHAINS * 64;
}
int64_t peak_avx2_macs(void)
{
    return 12 * 16;
}
#endif
