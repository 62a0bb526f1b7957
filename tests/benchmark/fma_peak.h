/* The FMA peak of the calling thread, measured: what shares of a peak are shares of. */
#ifndef TESTS_BENCHMARK_FMA_PEAK_H
#define TESTS_BENCHMARK_FMA_PEAK_H

#include <stdint.h>
#include <time.h>

static inline double fma_peak_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
/* 10 independent chains of FMAs on 8 floats, GFLOP/s. Assembly: nothing to hoist or to fold. */
__attribute__((target("avx2,fma"))) static inline double fma_peak_try(void) {
    const int64_t n = 1000000;
    double t = fma_peak_now();
    int64_t i = n;
    __asm__ volatile("vxorps %%ymm10, %%ymm10, %%ymm10\n"
                     "1:\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm0\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm1\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm2\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm3\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm4\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm5\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm6\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm7\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm8\n"
                     "vfmadd231ps %%ymm10, %%ymm10, %%ymm9\n"
                     "dec %0\n"
                     "jnz 1b\n"
                     : "+r"(i)
                     :
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "cc");
    return (double)n * 10 * 8 * 2 / (fma_peak_now() - t) * 1e-9;
}
#else
static inline double fma_peak_try(void) {
    return 0;
}
#endif

static inline double fma_peak(void) {
    double best = 0;
    for (int32_t i = 0; i < 40; i++) {
        double one = fma_peak_try();
        if (one > best) best = one;
    }
    return best;
}

#endif
