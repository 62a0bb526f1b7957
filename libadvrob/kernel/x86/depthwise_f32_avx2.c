/* The depthwise slot in AVX2 and FMA. A weight is broadcast and meets several neighbouring pixels,
 * one output after the other: x is read in the order in which it lies, and the rows that a pixel's
 * taps share stay in L1. Chains are the gemm's, so bits are those of a gemm a group. */
#include "kernel/x86/gemm_avx2.h"

/* 8 chains hide the 4 cycles of an FMA in two units. */
#define UNITS 8

/* All outputs of `count` pixels from p, which are alike; w: rows of `outputs`. */
INLINE void pixels_do(const ar_depthwise *given, int32_t p, const int32_t count,
                      const int32_t vectors) {
    const ar_gemm copy = given->gemm, *g = &copy; /* whose fields no mask byte can change */
    const int32_t lanes = vectors * 8, begin = g->first[p], end = g->first[p + 1];
    const float *bias = g->bias;
    ptrdiff_t offset[UNITS] = {0};
    int32_t c = 0, left = given->outputs; /* of the group's */
    for (int32_t q = 1; q < count && begin < end; q++) {
        const ar_segment *other = g->segments + g->first[p + q];
        offset[q] = ((ptrdiff_t)other->x - g->segments[begin].x) * lanes;
    }
    if (g->bias_class != NULL) bias += (ptrdiff_t)g->bias_class[p] * g->stride;
    for (int32_t o = 0; o < g->outputs; o++) {
        const int64_t at = ((int64_t)p * g->stride + o) * lanes;
        const int64_t pixel = (int64_t)g->stride * lanes;
        const float *x = g->x + (ptrdiff_t)c * lanes;
        __m256 a[UNITS];
        UNROLL
        for (int32_t u = 0; u < count * vectors; u++) {
            a[u] = bias != NULL ? _mm256_broadcast_ss(bias + o) : _mm256_setzero_ps();
            if (g->residual != NULL) {
                const float *from = g->residual + at + u / vectors * pixel + u % vectors * 8;
                a[u] = _mm256_add_ps(_mm256_loadu_ps(from), a[u]);
            }
        }
        for (int32_t i = begin; i < end; i++) {
            const float *from = x + (ptrdiff_t)g->segments[i].x * lanes;
            const float *w = g->w + (ptrdiff_t)g->segments[i].w * g->outputs + o;
            for (int32_t k = g->segments[i].k; k > 0; k--, from += lanes, w += g->outputs) {
                const __m256 weight = _mm256_broadcast_ss(w);
                UNROLL
                for (int32_t u = 0; u < count * vectors; u++)
                    a[u] = _mm256_fmadd_ps(
                        weight, _mm256_loadu_ps(from + offset[u / vectors] + u % vectors * 8),
                        a[u]);
            }
        }
        UNROLL
        for (int32_t u = 0; u < count * vectors; u++)
            ar_gemm_finish(g, at + u / vectors * pixel + u % vectors * 8, a[u]);
        if (--left == 0) {
            left = given->outputs;
            c += given->channels;
        }
    }
}

INLINE void sweep(const ar_depthwise *call, const int32_t vectors) {
    const int32_t most = UNITS / vectors, pixels = call->gemm.pixels;
    for (int32_t p = 0, n; p < pixels; p += n) {
        for (n = 1; n < most && p + n < pixels; n++)
            if (!ar_gemm_alike(&call->gemm, p + n - 1)) break;
        if (n == most) {
            pixels_do(call, p, most, vectors);
        } else if (n >= most / 2) {
            n = most / 2;
            pixels_do(call, p, most / 2, vectors);
        } else {
            n = 1;
            pixels_do(call, p, 1, vectors);
        }
    }
}

void ar_depthwise_f32_avx2(const ar_depthwise *given) {
    ar_depthwise call = *given;
    call.gemm.stride = ar_gemm_stride(&given->gemm);
    if (call.gemm.lanes == 16)
        sweep(&call, 2);
    else
        sweep(&call, 1);
}
