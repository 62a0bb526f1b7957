/* The depthwise slots in AVX2 and FMA. A weight is broadcast and meets several neighbouring pixels,
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

/* ---- weight gradient ---- */

#define OUTPUTS 4 /* two loads an FMA: 4 chains keep up */

/* Sums of the 8 lanes, in the order of all levels. */
INLINE float sum8(__m256 a) {
    __m128 s = _mm256_castps256_ps128(a), t = _mm256_extractf128_ps(a, 1);
    s = _mm_add_ps(s, _mm_movehl_ps(s, s)); /* 0 + 2, 1 + 3 */
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return (_mm_cvtss_f32(s) + _mm_cvtss_f32(_mm_movehdup_ps(s))) +
           (_mm_cvtss_f32(t) + _mm_cvtss_f32(_mm_movehdup_ps(t)));
}

/* What a tile adds to `outputs` outputs from o of a tap. */
INLINE void tap_do(const ar_wgrad *call, int32_t tile, int32_t tap, int32_t o,
                   const int32_t outputs, const int32_t vectors) {
    const int32_t lanes = vectors * 8, multiple = call->outputs / call->channels;
    const float *x = call->x[tile], *dy = call->dy[tile] + (ptrdiff_t)o * lanes;
    ptrdiff_t channel[OUTPUTS];
    __m256 a[OUTPUTS];
    UNROLL
    for (int32_t j = 0; j < outputs; j++) {
        channel[j] = (ptrdiff_t)((o + j) / multiple) * lanes;
        a[j] = _mm256_setzero_ps();
    }
    for (int32_t i = call->first[tap]; i < call->first[tap + 1]; i++) {
        const float *xs = x + (ptrdiff_t)call->pairs[i].x * lanes;
        const float *ds = dy + (ptrdiff_t)call->pairs[i].y * call->outputs * lanes;
        UNROLL
        for (int32_t u = 0; u < outputs * vectors; u++) {
            const int32_t j = u / vectors, v = u % vectors * 8;
            a[j] = _mm256_fmadd_ps(_mm256_loadu_ps(ds + j * lanes + v),
                                   _mm256_loadu_ps(xs + channel[j] + v), a[j]);
        }
    }
    UNROLL
    for (int32_t j = 0; j < outputs; j++) {
        float *to = call->dw + (int64_t)(o + j) * call->taps + tap;
        *to = tile == 0 ? sum8(a[j]) : *to + sum8(a[j]);
    }
}

INLINE void bias_do(const ar_wgrad *call, int32_t tile, int32_t o, const int32_t outputs,
                    const int32_t vectors) {
    const ptrdiff_t lanes = vectors * 8;
    const float *dy = call->dy[tile] + o * lanes;
    __m256 a[OUTPUTS];
    UNROLL
    for (int32_t j = 0; j < outputs; j++)
        a[j] = _mm256_setzero_ps();
    for (int32_t p = 0; p < call->pixels; p++, dy += call->outputs * lanes)
        UNROLL
    for (int32_t u = 0; u < outputs * vectors; u++)
        a[u / vectors] = _mm256_add_ps(a[u / vectors],
                                       _mm256_loadu_ps(dy + u / vectors * lanes + u % vectors * 8));
    UNROLL
    for (int32_t j = 0; j < outputs; j++)
        call->db[o + j] = tile == 0 ? sum8(a[j]) : call->db[o + j] + sum8(a[j]);
}

/* A few outputs of a tile at a time: their x and dy stay in the cache for all taps. */
INLINE void outputs_do(const ar_wgrad *call, int32_t tile, int32_t o, const int32_t outputs,
                       const int32_t vectors) {
    for (int32_t tap = 0; tap < call->taps; tap++)
        tap_do(call, tile, tap, o, outputs, vectors);
    if (call->db != NULL) bias_do(call, tile, o, outputs, vectors);
}

INLINE void tile_do(const ar_wgrad *call, int32_t tile, const int32_t vectors) {
    int32_t o = call->begin;
    for (; o + OUTPUTS <= call->end; o += OUTPUTS)
        outputs_do(call, tile, o, OUTPUTS, vectors);
    for (; o < call->end; o++)
        outputs_do(call, tile, o, 1, vectors);
}

void ar_depthwise_wgrad_f32_avx2(const ar_wgrad *call) {
    for (int32_t tile = 0; tile < call->tiles; tile++)
        if (call->lanes == 16)
            tile_do(call, tile, 2);
        else
            tile_do(call, tile, 1);
}
