/* Batch norm's slots for AVX2, with the same bits as the common bodies. A compiler does badly at
 * them: lanes are few and known only at run time, and sums kept in arrays go through memory. */
#include "kernel/x86/avx2.h"

#include <string.h>

/* Returns the mask. NaN passes: max_ps returns its second operand then. */
INLINE uint32_t norm8(const float *x, float *y, __m256 mean, __m256 scale, __m256 shift,
                      const bool relu) {
    const __m256 zero = _mm256_setzero_ps();
    __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x), mean), scale);
    v = _mm256_add_ps(v, shift);
    _mm256_storeu_ps(y, relu ? _mm256_max_ps(zero, v) : v);
    return relu ? (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_GT_OQ)) : 0;
}

/* One channel of one pixel. */
INLINE uint32_t norm_channel(const ar_norm_call *call, const int32_t lanes, int32_t c,
                             const float *x, float *y, const bool relu) {
    const __m256 mean = _mm256_broadcast_ss(call->mean + c);
    const __m256 scale = _mm256_broadcast_ss(call->scale + c);
    const __m256 shift = _mm256_broadcast_ss(call->shift + c);
    uint32_t bits = norm8(x, y, mean, scale, shift, relu);
    if (lanes == 16) bits |= norm8(x + 8, y + 8, mean, scale, shift, relu) << 8;
    return bits;
}

INLINE void norm(const ar_norm_call *call, const int32_t lanes, const bool relu,
                 const bool masked) {
    const int32_t group = 32 / lanes; /* channels whose mask bits make one store of 4 bytes */
    const float *x = call->x;
    float *y = call->y;
    uint8_t *mask = call->mask;
    for (int32_t p = 0; p < call->pixels; p++) {
        int32_t c = 0;
        for (; c + group <= call->channels; c += group, x += 32, y += 32) {
            uint32_t bits = 0;
            UNROLL
            for (int32_t i = 0; i < group; i++)
                bits |= norm_channel(call, lanes, c + i, x + i * lanes, y + i * lanes, relu)
                        << (i * lanes);
            if (!masked) continue;
            memcpy(mask, &bits, 4);
            mask += 4;
        }
        for (; c < call->channels; c++, x += lanes, y += lanes) {
            uint32_t bits = norm_channel(call, lanes, c, x, y, relu);
            if (!masked) continue;
            memcpy(mask, &bits, lanes / 8);
            mask += lanes / 8;
        }
    }
}

void ar_norm_f32_avx2(const ar_norm_call *call) {
    const bool masked = call->relu && call->mask != NULL;
    if (call->lanes == 16) {
        if (masked)
            norm(call, 16, true, true);
        else if (call->relu)
            norm(call, 16, true, false);
        else
            norm(call, 16, false, false);
    } else {
        if (masked)
            norm(call, 8, true, true);
        else if (call->relu)
            norm(call, 8, true, false);
        else
            norm(call, 8, false, false);
    }
}

/* ---- backward ---- */

INLINE void norm_backward(const ar_norm_call *call, const int32_t lanes, const bool whole,
                          const bool accumulate) {
    const float *x = call->x, *dy = call->dy;
    float *dx = call->dx;
    int64_t at = 0;
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t c = 0; c < call->channels; c++) {
            const __m256 scale = _mm256_broadcast_ss(call->scale + c);
            const __m256 mean = whole ? _mm256_broadcast_ss(call->mean + c) : scale;
            const __m256 dy_mean = whole ? _mm256_broadcast_ss(call->dy_mean + c) : scale;
            const __m256 slope = whole ? _mm256_broadcast_ss(call->slope + c) : scale;
            UNROLL
            for (int32_t l = 0; l < lanes; l += 8, at += 8) {
                __m256 v = _mm256_loadu_ps(dy + at);
                if (whole) {
                    __m256 d = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + at), mean), slope);
                    v = _mm256_sub_ps(_mm256_sub_ps(v, dy_mean), d);
                }
                v = _mm256_mul_ps(v, scale);
                if (accumulate) v = _mm256_add_ps(_mm256_loadu_ps(dx + at), v);
                _mm256_storeu_ps(dx + at, v);
            }
        }
}

INLINE void norm_backward_lanes(const ar_norm_call *call, const int32_t lanes) {
    if (call->dy_mean != NULL) {
        if (call->accumulate)
            norm_backward(call, lanes, true, true);
        else
            norm_backward(call, lanes, true, false);
    } else {
        if (call->accumulate)
            norm_backward(call, lanes, false, true);
        else
            norm_backward(call, lanes, false, false);
    }
}

void ar_norm_backward_f32_avx2(const ar_norm_call *call) {
    if (call->lanes == 16)
        norm_backward_lanes(call, 16);
    else
        norm_backward_lanes(call, 8);
}

/* ---- sums by channel ---- */

/* Adds `count` pixels to the sums. Channels are the inner loop, so that memory is read in its own
 * order, and some pixels at a time, so that the sums are not loaded and stored for each. A product
 * of two floats is exact in double: fused or not, the bits are the same. */
INLINE void sums_add(const int32_t lanes, int32_t channels, const int32_t count, const float *a,
                     const float *b, const bool squares, double *sums) {
    const int64_t row = (int64_t)channels * lanes;
    for (int32_t c = 0; c < channels; c++, a += lanes, b += lanes, sums += 2 * lanes) {
        UNROLL
        for (int32_t l = 0; l < lanes; l += 4) {
            __m256d first = _mm256_loadu_pd(sums + l), second = _mm256_loadu_pd(sums + lanes + l);
            UNROLL
            for (int32_t p = 0; p < count; p++) {
                const __m256d u = _mm256_cvtps_pd(_mm_loadu_ps(a + p * row + l));
                const __m256d v = squares ? u : _mm256_cvtps_pd(_mm_loadu_ps(b + p * row + l));
                first = _mm256_add_pd(first, u);
                second = _mm256_fmadd_pd(u, v, second);
            }
            _mm256_storeu_pd(sums + l, first);
            _mm256_storeu_pd(sums + lanes + l, second);
        }
    }
}

INLINE void sums(const int32_t lanes, int32_t channels, int32_t pixels, const float *a,
                 const float *b, const bool squares, double *out) {
    const int64_t row = (int64_t)channels * lanes;
    int32_t p = 0;
    memset(out, 0, sizeof *out * 2 * (size_t)row);
    for (; p + 4 <= pixels; p += 4)
        sums_add(lanes, channels, 4, a + p * row, b + p * row, squares, out);
    for (; p < pixels; p++)
        sums_add(lanes, channels, 1, a + p * row, b + p * row, squares, out);
}

void ar_channel_sums_f32_avx2(int32_t lanes, int32_t channels, int32_t pixels, const ar_real *a,
                              const ar_real *b, double *out) {
    if (lanes == 16) {
        if (a == b)
            sums(16, channels, pixels, a, a, true, out);
        else
            sums(16, channels, pixels, a, b, false, out);
    } else {
        if (a == b)
            sums(8, channels, pixels, a, a, true, out);
        else
            sums(8, channels, pixels, a, b, false, out);
    }
}
