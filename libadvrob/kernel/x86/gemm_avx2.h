/* What gemm and depthwise share in AVX2. */
#ifndef AR_KERNEL_GEMM_AVX2_H
#define AR_KERNEL_GEMM_AVX2_H

#include "kernel/x86/avx2.h"

/* ReLU, gate and store of 8 values of y from `at` on. NaN passes: max_ps returns its second operand
 * then. */
INLINE void ar_gemm_finish(const ar_gemm *call, int64_t at, __m256 a) {
    if (call->relu) {
        if (call->mask != NULL) {
            __m256 above = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ);
            call->mask[at / 8] = (uint8_t)_mm256_movemask_ps(above);
        }
        a = _mm256_max_ps(_mm256_setzero_ps(), a);
    }
    if (call->gate != NULL) a = _mm256_and_ps(a, ar_expand(call->gate[at / 8]));
    _mm256_storeu_ps(call->y + at, a);
}

/* The lists of pixels p and p + 1 differ by one constant offset of x, and their bias is one. */
INLINE bool ar_gemm_alike(const ar_gemm *call, int32_t p) {
    const ar_segment *s = call->segments + call->first[p];
    const ar_segment *t = call->segments + call->first[p + 1];
    int32_t n = call->first[p + 1] - call->first[p];
    if (call->first[p + 2] - call->first[p + 1] != n) return false;
    if (call->bias_class != NULL && call->bias_class[p] != call->bias_class[p + 1]) return false;
    for (int32_t i = 0; i < n; i++)
        if (s[i].w != t[i].w || s[i].k != t[i].k || t[i].x - s[i].x != t[0].x - s[0].x)
            return false;
    return true;
}

#endif
