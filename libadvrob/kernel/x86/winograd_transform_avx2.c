/* Winograd's transforms of input and products, one axis after the other. Whatever lies between the
 * two passes is small enough for L1. */
#include "kernel/x86/winograd_avx2.h"

#define CHUNK 8 /* channels at once */
#define OUTPUTS AR_GEMM_BLOCK_AVX2

INLINE __m256 times(float a, __m256 b, __m256 c) {
    return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c);
}

INLINE __m256 scaled(float a, __m256 b) {
    return _mm256_mul_ps(_mm256_set1_ps(a), b);
}

INLINE __m256 plus(__m256 a, __m256 b) {
    return _mm256_add_ps(a, b);
}

INLINE __m256 minus(__m256 a, __m256 b) {
    return _mm256_sub_ps(a, b);
}

/* B' d: a row holds the coefficients of the product of (x - q) over the other points q. */
INLINE void to_points(const int32_t n, const __m256 *d, __m256 *t) {
    if (n == 6) {
        __m256 a = times(-4, d[2], d[4]), b = times(-4, d[1], d[3]);
        __m256 c = minus(d[4], d[2]), e = minus(d[3], d[1]);
        t[0] = times(4, d[0], times(-5, d[2], d[4]));
        t[1] = plus(a, b);
        t[2] = minus(a, b);
        t[3] = times(4, d[1], times(-5, d[3], d[5]));
        t[4] = times(2, e, c);
        t[5] = times(-2, e, c);
    } else if (n == 5) {
        __m256 a = minus(d[3], d[1]);
        t[0] = times(2, minus(d[0], d[2]), a);
        t[1] = times(-2, d[1], minus(d[3], d[2]));
        t[2] = times(2, d[1], times(-3, d[2], d[3]));
        t[3] = times(-2, a, minus(d[4], d[2]));
        t[4] = a;
    } else {
        t[0] = minus(d[2], d[0]);
        t[1] = plus(d[2], d[1]);
        t[2] = minus(d[2], d[1]);
        t[3] = minus(d[3], d[1]);
    }
}

/* A' t, with a point's denominator, the product of (p - q) over the other finite points q. */
INLINE void from_points(const int32_t n, const __m256 *t, __m256 *y) {
    if (n == 6) {
        __m256 sum = scaled(-1.0f / 6, plus(t[1], t[2])), sum2 = plus(t[4], t[5]);
        __m256 odd = scaled(-1.0f / 6, minus(t[1], t[2])), odd2 = minus(t[4], t[5]);
        y[0] = times(1.0f / 4, t[0], times(1.0f / 24, sum2, sum));
        y[1] = times(1.0f / 12, odd2, odd);
        y[2] = times(1.0f / 6, sum2, sum);
        y[3] = plus(t[3], times(1.0f / 3, odd2, odd));
    } else if (n == 5) {
        __m256 a = scaled(-1.0f / 2, t[1]), b = scaled(1.0f / 6, t[2]);
        y[0] = times(1.0f / 2, t[0], times(1.0f / 6, t[4], minus(a, b)));
        y[1] = times(1.0f / 3, t[4], plus(a, b));
        y[2] = plus(t[3], times(2.0f / 3, t[4], minus(a, b)));
    } else {
        y[0] = times(1.0f / 2, plus(t[1], t[2]), minus(_mm256_setzero_ps(), t[0]));
        y[1] = times(1.0f / 2, minus(t[1], t[2]), t[3]);
    }
}

/* One axis of the input, `count` vectors: n values each from in[i], to n places `stride` apart. */
INLINE void input_pass(const int32_t n, const float *const *in, float *out, ptrdiff_t stride,
                       int32_t count, int32_t step) {
    for (int32_t v = 0; v < count; v++) {
        __m256 d[WINOGRAD_POINTS], t[WINOGRAD_POINTS];
        UNROLL
        for (int32_t i = 0; i < n; i++)
            d[i] = _mm256_loadu_ps(in[i] + v * 8);
        to_points(n, d, t);
        UNROLL
        for (int32_t i = 0; i < n; i++)
            _mm256_storeu_ps(out + i * stride + v * step, t[i]);
    }
}

static void input_axis(int32_t n, const float *const *in, float *out, ptrdiff_t stride,
                       int32_t count, int32_t step) {
    if (n == 6)
        input_pass(6, in, out, stride, count, step);
    else if (n == 5)
        input_pass(5, in, out, stride, count, step);
    else
        input_pass(4, in, out, stride, count, step);
}

void ar_winograd_input_avx2(const ar_winograd *call, const winograd_tile *tile, float *v,
                            ptrdiff_t plane) {
    static const float zero[CHUNK * AR_MAX_LANES] __attribute__((aligned(64)));
    const int32_t points = call->m + 2, lanes = call->lanes, vectors = lanes / 8;
    const int32_t top = tile->at[0] - call->padding[0], left = tile->at[1] - call->padding[1];
    const ptrdiff_t pixel = (ptrdiff_t)call->channels * lanes;
    float between[WINOGRAD_POINTS][WINOGRAD_POINTS][CHUNK * AR_MAX_LANES]
        __attribute__((aligned(64)));

    for (int32_t c = 0; c < call->channels; c += CHUNK) {
        int32_t n = call->channels - c < CHUNK ? call->channels - c : CHUNK;
        const float *in[WINOGRAD_POINTS];
        for (int32_t j = 0; j < tile->points[1]; j++) {
            for (int32_t i = 0; i < tile->points[0]; i++) {
                int32_t y = top + i, x = left + j;
                bool inside = y >= 0 && y < call->h && x >= 0 && x < call->w;
                in[i] = inside
                            ? call->x + ((ptrdiff_t)y * call->w + x) * pixel + (ptrdiff_t)c * lanes
                            : zero;
            }
            input_axis(tile->points[0], in, between[0][j], WINOGRAD_POINTS * CHUNK * AR_MAX_LANES,
                       n * vectors, 8);
        }
        for (int32_t i = 0; i < tile->points[0]; i++) {
            for (int32_t j = 0; j < tile->points[1]; j++)
                in[j] = between[i][j];
            input_axis(tile->points[1], in, v + i * points * plane + (ptrdiff_t)c * 16, plane,
                       n * vectors, 16 / vectors);
        }
    }
}

/* One axis of the products, as input_pass. */
INLINE void output_pass(const int32_t n, const float *in, ptrdiff_t from, float *out,
                        ptrdiff_t stride, int32_t count, int32_t step) {
    for (int32_t v = 0; v < count; v++) {
        __m256 t[WINOGRAD_POINTS], y[WINOGRAD_POINTS - 2];
        UNROLL
        for (int32_t i = 0; i < n; i++)
            t[i] = _mm256_loadu_ps(in + i * from + v * step);
        from_points(n, t, y);
        UNROLL
        for (int32_t i = 0; i < n - 2; i++)
            _mm256_storeu_ps(out + i * stride + v * 8, y[i]);
    }
}

/* NaN passes: max_ps returns its second operand then. */
INLINE void finish(const ar_winograd *call, float *y, int64_t at, __m256 bias, __m256 a) {
    if (call->residual != NULL) bias = plus(_mm256_loadu_ps(call->residual + at), bias);
    a = plus(bias, a);
    if (call->relu) {
        if (call->mask != NULL) {
            __m256 above = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ);
            call->mask[at / 8] = (uint8_t)_mm256_movemask_ps(above);
        }
        a = _mm256_max_ps(_mm256_setzero_ps(), a);
    }
    if (call->gate != NULL) a = _mm256_and_ps(a, ar_expand(call->gate[at / 8]));
    _mm256_storeu_ps(y, a);
}

/* The other axis of one row of outputs, from value `at` of the whole output, which goes to y;
 * classes: of its pixels, or NULL. */
INLINE void output_row(const ar_winograd *call, const int32_t n, int32_t valid, int32_t o,
                       int32_t count, const float *in, float *y, int64_t at,
                       const int32_t *classes) {
    const int32_t vectors = call->lanes / 8;
    const int64_t stride = (int64_t)call->outputs * call->lanes;
    for (int32_t v = 0; v < count; v++, at += 8, y += 8) {
        __m256 bias = call->bias != NULL ? _mm256_broadcast_ss(call->bias + o + v / vectors)
                                         : _mm256_setzero_ps();
        __m256 t[WINOGRAD_POINTS], sums[WINOGRAD_POINTS - 2];
        UNROLL
        for (int32_t i = 0; i < n; i++)
            t[i] = _mm256_loadu_ps(in + i * OUTPUTS * AR_MAX_LANES + v * 8);
        from_points(n, t, sums);
        UNROLL
        for (int32_t i = 0; i < n - 2; i++) {
            if (i >= valid) continue;
            if (classes != NULL)
                bias = _mm256_broadcast_ss(call->bias + (ptrdiff_t)classes[i] * call->outputs + o +
                                           v / vectors);
            finish(call, y + i * stride, at + i * stride, bias, sums[i]);
        }
    }
}

void ar_winograd_output_avx2(const ar_winograd *call, const winograd_tile *tile, int32_t o,
                             int32_t width, const float *m) {
    const int32_t points = call->m + 2, lanes = call->lanes, count = width * (lanes / 8);
    const int32_t out_w = ar_winograd_out(call, 1), step = lanes == 16 ? 8 : 16;
    const ptrdiff_t column = (ptrdiff_t)width * AR_MAX_LANES, row = points * column;
    const int32_t stride = WINOGRAD_POINTS * OUTPUTS * AR_MAX_LANES;
    float between[WINOGRAD_POINTS - 2][WINOGRAD_POINTS][OUTPUTS * AR_MAX_LANES]
        __attribute__((aligned(64)));

    for (int32_t j = 0; j < tile->points[1]; j++) {
        const float *in = m + j * column;
        if (tile->points[0] == 6)
            output_pass(6, in, row, between[0][j], stride, count, step);
        else if (tile->points[0] == 5)
            output_pass(5, in, row, between[0][j], stride, count, step);
        else
            output_pass(4, in, row, between[0][j], stride, count, step);
    }
    for (int32_t i = 0; i < tile->valid[0]; i++) {
        int64_t at = (int64_t)(tile->at[0] + i) * out_w + tile->at[1];
        const int32_t *classes = call->bias_class == NULL ? NULL : call->bias_class + at;
        at = (at * call->outputs + o) * lanes;
        float *y = call->y + at - (int64_t)call->top * out_w * call->outputs * lanes;
        if (tile->points[1] == 6)
            output_row(call, 6, tile->valid[1], o, count, between[i][0], y, at, classes);
        else if (tile->points[1] == 5)
            output_row(call, 5, tile->valid[1], o, count, between[i][0], y, at, classes);
        else
            output_row(call, 4, tile->valid[1], o, count, between[i][0], y, at, classes);
    }
}
