/* Weights of Winograd in AVX2: a vector is one tap of 8 filters, in the order they are packed in.
 */
#include "kernel/x86/winograd_avx2.h"

#include <string.h>

#define BLOCK AR_GEMM_BLOCK_AVX2
#define LANES 8
#define RUN 16 /* channels at once: whole cache lines of each point */

#define TAPS 9

/* Values at 0, 1, -1, infinity, 2, -2 of a + b x + c x^2. */
INLINE void values(const int32_t n, __m256 a, __m256 b, __m256 c, __m256 *t) {
    __m256 even = _mm256_add_ps(a, c);
    t[0] = a;
    t[1] = _mm256_add_ps(even, b);
    t[2] = _mm256_sub_ps(even, b);
    t[3] = c;
    if (n == 6) {
        __m256 two = _mm256_add_ps(b, b);
        even = _mm256_fmadd_ps(_mm256_set1_ps(4), c, a);
        t[4] = _mm256_add_ps(even, two);
        t[5] = _mm256_sub_ps(even, two);
    }
}

/* Taps of 8 filters. */
INLINE void taps(const float *w, const int64_t *offset, bool turn, __m256 *t) {
    __m256 rows[LANES];
    float last[LANES];
    UNROLL
    for (int32_t j = 0; j < LANES; j++) {
        rows[j] = _mm256_loadu_ps(w + offset[j]);
        last[j] = w[offset[j] + TAPS - 1];
    }
    ar_transpose(rows, t);
    t[TAPS - 1] =
        _mm256_setr_ps(last[0], last[1], last[2], last[3], last[4], last[5], last[6], last[7]);
    if (!turn) return;
    UNROLL
    for (int32_t i = 0; i < TAPS / 2; i++) {
        __m256 swap = t[i];
        t[i] = t[TAPS - 1 - i];
        t[TAPS - 1 - i] = swap;
    }
}

/* 8 filters at all points, points `stride` apart. */
INLINE void eight(const int32_t n, const float *w, const int64_t *offset, bool turn, float *to,
                  ptrdiff_t stride) {
    __m256 t[TAPS], rows[3][WINOGRAD_POINTS], row[WINOGRAD_POINTS];
    taps(w, offset, turn, t);
    UNROLL
    for (int32_t i = 0; i < 3; i++)
        values(n, t[i], t[3 + i], t[6 + i], rows[i]);
    UNROLL
    for (int32_t i = 0; i < n; i++) {
        values(n, rows[0][i], rows[1][i], rows[2][i], row);
        UNROLL
        for (int32_t j = 0; j < n; j++)
            _mm256_storeu_ps(to + (i * n + j) * stride, row[j]);
    }
}

/* A block is a list of filters, [channel][output]; their places repeat every RUN channels. They go
 * through a buffer: points are pages apart, and a core remembers few pages that it stores to. */
INLINE void block(const ar_winograd_pack *call, const int32_t n, const float *w, int32_t width,
                  float *packed) {
    const int32_t all = call->channels * width;
    int64_t offset[RUN * BLOCK];
    float buffer[WINOGRAD_POINTS * WINOGRAD_POINTS][RUN * BLOCK] __attribute__((aligned(64)));
    for (int32_t i = 0; i < RUN * width; i++)
        offset[i] = i / width * call->channel_stride + i % width * call->output_stride;
    for (int32_t c = 0; c < call->channels; c += RUN, w += RUN * call->channel_stride) {
        const int32_t count = (call->channels - c < RUN ? call->channels - c : RUN) * width;
        for (int32_t i = count; i < (count + 7) / 8 * 8; i++)
            offset[i] = 0; /* lanes beyond */
        for (int32_t i = 0; i < count; i += LANES)
            eight(n, w, offset + i, call->turn, buffer[0] + i, RUN * BLOCK);
        for (int32_t i = 0; i < n * n; i++) {
            float *to = packed + (ptrdiff_t)i * all + c * width;
            if (count == RUN * width)
                for (int32_t k = 0; k < RUN * width; k += 8)
                    _mm256_storeu_ps(to + k, _mm256_load_ps(buffer[i] + k));
            else
                memcpy(to, buffer[i], (size_t)count * sizeof(float));
        }
    }
}

void ar_winograd_pack_f32_avx2(const ar_winograd_pack *call) {
    const int32_t n = call->m + 2, blocks = ar_block_count(call->outputs, BLOCK);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t o = ar_block_first(call->outputs, BLOCK, b);
        int32_t width = ar_block_first(call->outputs, BLOCK, b + 1) - o;
        float *packed = call->packed + (ptrdiff_t)n * n * call->channels * o;
        const float *w = call->weights + o * call->output_stride;
        if (n == 6)
            block(call, 6, w, width, packed);
        else
            block(call, 4, w, width, packed);
    }
}
