/* The peak of a core's FMA units: 10 chains hide 4 cycles in 2 units, and no round trip to memory.
 */
#include "kernel/x86/avx2.h"

int64_t ar_fma_f32_avx2(int64_t rounds, ar_real *sum) {
    enum { CHAINS = 10 };
    const __m256 half = _mm256_set1_ps(0.5f), one = _mm256_set1_ps(1);
    __m256 a[CHAINS];
    float ends[8];
    UNROLL
    for (int32_t i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int64_t n = 0; n < rounds; n++) {
        UNROLL
        for (int32_t i = 0; i < CHAINS; i++)
            a[i] = _mm256_fmadd_ps(a[i], half, one);
    }
    UNROLL
    for (int32_t i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    _mm256_storeu_ps(ends, a[0]);
    *sum = 0;
    for (int32_t l = 0; l < 8; l++)
        *sum += ends[l];
    return rounds * CHAINS * 8;
}
