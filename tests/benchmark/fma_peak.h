/* The FMA peak of one core: what registers alone can do, measured in the run whose figures are set
 * against it. Never a number from a data sheet: clocks and neighbours differ from run to run. */
#ifndef FMA_PEAK_H
#define FMA_PEAK_H

#include <stdint.h>
#include <time.h>

static inline double fma_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
/* 10 independent chains of FMAs on 8 floats, GFLOP/s. Assembly: nothing to hoist or to fold. */
__attribute__((target("avx2,fma"))) static inline double fma_peak_try(void) {
    const int64_t n = 1000000;
    double t = fma_now();
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
    return (double)n * 10 * 8 * 2 / (fma_now() - t) * 1e-9;
}
#else
static inline double fma_peak_try(void) {
    return 0;
}
#endif

/* The best of `tries` of about 2 ms each, GFLOP/s; 0 where nobody wrote the loop. */
static inline double fma_peak(int32_t tries) {
    double best = 0;
    for (int32_t i = 0; i < tries; i++) {
        double one = fma_peak_try();
        if (one > best) best = one;
    }
    return best;
}

#endif
