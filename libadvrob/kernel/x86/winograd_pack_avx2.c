/* Weights of Winograd in AVX2: a vector is one tap of the outputs of a block. */
#include "kernel/x86/winograd_avx2.h"

#include <string.h>

#define BLOCK AR_GEMM_BLOCK_AVX2
#define CHUNK 8 /* channels at once, so that planes are written by whole cache lines */
#define LANES 8 /* of a vector: block's outputs, and room */
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

/* rows[j][k] to columns[k][j]. */
INLINE void transpose(const __m256 *r, __m256 *columns) {
    __m256 a[8], b[8];
    UNROLL
    for (int32_t i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int32_t i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    UNROLL
    for (int32_t i = 0; i < 4; i++) {
        columns[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        columns[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* Taps of `width` outputs of one channel; other lanes repeat the last output. */
INLINE void taps(const ar_winograd_pack *call, const float *w, int32_t width, __m256 *t) {
    __m256 rows[LANES];
    float last[LANES];
    UNROLL
    for (int32_t j = 0; j < LANES; j++) {
        const float *from = w + (j < width ? j : width - 1) * call->output_stride;
        rows[j] = _mm256_loadu_ps(from);
        last[j] = from[TAPS - 1];
    }
    transpose(rows, t);
    t[TAPS - 1] = _mm256_loadu_ps(last);
    if (!call->turn) return;
    UNROLL
    for (int32_t i = 0; i < TAPS / 2; i++) {
        __m256 swap = t[i];
        t[i] = t[TAPS - 1 - i];
        t[TAPS - 1 - i] = swap;
    }
}

INLINE void channel(const ar_winograd_pack *call, const int32_t n, const float *w, int32_t width,
                    float *to, ptrdiff_t stride) {
    __m256 t[TAPS], rows[3][WINOGRAD_POINTS], row[WINOGRAD_POINTS];
    taps(call, w, width, t);
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

/* Up to CHUNK channels of a block, over a small buffer: a vector's unused lanes spill into the next
 * channel, which is written later. */
INLINE void chunk(const ar_winograd_pack *call, const int32_t n, int32_t o, int32_t width,
                  int32_t c, float *packed) {
    float buffer[WINOGRAD_POINTS * WINOGRAD_POINTS][CHUNK * BLOCK + LANES]
        __attribute__((aligned(64)));
    const int32_t count = call->channels - c < CHUNK ? call->channels - c : CHUNK;
    for (int32_t i = 0; i < count; i++)
        channel(call, n, call->weights + o * call->output_stride + (c + i) * call->channel_stride,
                width, buffer[0] + i * width, CHUNK * BLOCK + LANES);
    for (int32_t i = 0; i < n * n; i++)
        memcpy(packed + ((ptrdiff_t)i * call->channels + c) * width, buffer[i],
               (size_t)(count * width) * sizeof(float));
}

void ar_winograd_pack_f32_avx2(const ar_winograd_pack *call) {
    const int32_t n = call->m + 2, blocks = ar_block_count(call->outputs, BLOCK);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t o = ar_block_first(call->outputs, BLOCK, b);
        int32_t width = ar_block_first(call->outputs, BLOCK, b + 1) - o;
        float *packed = call->packed + (ptrdiff_t)n * n * call->channels * o;
        for (int32_t c = 0; c < call->channels; c += CHUNK)
            if (n == 6)
                chunk(call, 6, o, width, c, packed);
            else
                chunk(call, 4, o, width, c, packed);
    }
}
