/* Each hot kernel reaches a share of the FMA peak measured beside it, so that a compiler that keeps
 * accumulators in memory, which costs a factor of 2 to 4, is caught. Thresholds are about half of
 * what kernels reach, and of many short tries the best counts: a busy machine passes. */
#include "benchmark/conv_rates.h"
#include "benchmark/fma_peak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TRIES 60
#define LEAST 12
#define ENOUGH 1.3 /* of the threshold: no further try */

typedef struct goal {
    layer shape;
    double forward, backward, gradient; /* shares of the peak */
} goal;

static const goal goals[] = {
    {{"3x3", 32, 64, 14, 3, 1, 1}, 0.50, 0.50, 0.45},
    {{"3x3 by 2", 64, 64, 14, 3, 2, 1}, 0.50, 0.50, 0.42},
    {{"pruned", 27, 51, 14, 3, 1, 1}, 0.50, 0.50, 0.40},
    {{"first layer", 1, 32, 28, 3, 1, 1}, 0.20, 0.25, 0.18},
    {{"linear", 128, 120, 4, 4, 1, 0}, 0.45, 0.40, 0.20},
};

static double rate(const ar_kernels *k, const layer *a, int32_t what) {
    return what < 2 ? gemm_rate(k, a, what == 1, 1e-3) : wgrad_rate(k, a, 2, 1e-3);
}

/* NULL: not built, or not on this CPU. */
static const ar_kernels *avx2(void) {
    const ar_kernels *k = ar_kernels_get(AR_CPU_AVX2, false);
    if (strcmp(k->name, "avx2") != 0) return NULL;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return k;
#endif
    return NULL;
}

static void test_shares(void **unused) {
    (void)unused;
    const ar_kernels *k = avx2();
    if (k == NULL) skip();
    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++)
        for (int32_t what = 0; what < 3; what++) {
            static const char *const names[] = {"forward", "input gradient", "weight gradient"};
            const goal *g = &goals[i];
            double wanted = what == 0 ? g->forward : what == 1 ? g->backward : g->gradient;
            double best = 0, peak = 0;
            for (int32_t j = 0; j < TRIES && (j < LEAST || best < wanted * ENOUGH * peak); j++) {
                double one = fma_peak_try(), got = rate(k, &g->shape, what);
                if (one > peak) peak = one;
                if (got > best) best = got;
            }
            best /= peak;
            print_message("%-12s %-16s %3.0f %% of the FMA peak, at least %.0f\n", g->shape.name,
                          names[what], 100 * best, 100 * wanted);
            if (best < wanted)
                fail_msg("%s, %s: %.0f %% of the FMA peak", g->shape.name, names[what], 100 * best);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shares)};
    return cmocka_run_group_tests_name("kernel speed", tests, NULL, NULL);
}
