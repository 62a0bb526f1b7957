/* The FMA peak of the calling thread: what registers alone can do, measured in the run whose
 * figures are set against it. Never a number from a data sheet: clocks and neighbours differ from
 * run to run. */
#ifndef TESTS_BENCHMARK_FMA_PEAK_H
#define TESTS_BENCHMARK_FMA_PEAK_H

#include "kernel/kernel.h"

/* One try of about 2 ms, GFLOP/s. */
static inline double fma_peak_try(void) {
    ar_real sum;
    double start = ar_clock();
    int64_t done = ar_kernels_get(ar_cpu_detect(), false)->fma(1000000, &sum);
    return 2e-9 * (double)done / (ar_clock() - start); /* a multiply-add is two */
}

/* The best of 40. */
static inline double fma_peak(void) {
    double best = 0;
    for (int32_t i = 0; i < 40; i++) {
        double one = fma_peak_try();
        if (one > best) best = one;
    }
    return best;
}

#endif
