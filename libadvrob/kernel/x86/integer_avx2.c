/* The integer slots beside qgemm, in AVX2: max pooling of codes, and images to codes, whose double
 * arithmetic is the portable kernel's four at a time. */
#include "kernel/x86/avx2.h"

/* A run of `units` vectors from byte i of output pixel p. */
INLINE void pool_run(const ar_qpool *call, int32_t p, int64_t size, int64_t i,
                     const int32_t units) {
    __m256i most[4];
    UNROLL
    for (int32_t u = 0; u < units; u++)
        most[u] = _mm256_setzero_si256();
    for (int32_t k = call->first[p]; k < call->first[p + 1]; k++) {
        const uint8_t *x = call->x + call->index[k] * size + i;
        UNROLL
        for (int32_t u = 0; u < units; u++)
            most[u] = _mm256_max_epu8(most[u], _mm256_loadu_si256((const void *)(x + u * 32)));
    }
    UNROLL
    for (int32_t u = 0; u < units; u++)
        _mm256_storeu_si256((void *)(call->y + p * size + i + u * 32), most[u]);
}

void ar_qmax_pool_avx2(const ar_qpool *given) {
    const ar_qpool copy = *given, *call = &copy; /* whose fields a byte of y cannot change */
    const int64_t size = (int64_t)call->quads * call->lanes * 4;
    for (int32_t p = 0; p < call->pixels_out; p++) {
        int64_t i = 0;
        for (; i + 128 <= size; i += 128)
            pool_run(call, p, size, i, 4);
        for (; i < size; i += 32)
            pool_run(call, p, size, i, 1);
    }
}

/* Codes of 4 floats. A NaN is 0: max_pd returns its second operand then. */
INLINE __m128i codes4(__m128 x, __m256d scale, __m256d zero) {
    __m256d q = _mm256_div_pd(_mm256_cvtps_pd(x), scale);
    q = _mm256_round_pd(q, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    q = _mm256_max_pd(_mm256_add_pd(q, zero), _mm256_setzero_pd());
    return _mm256_cvttpd_epi32(_mm256_min_pd(q, _mm256_set1_pd(255)));
}

/* A quad of up to 4 channels of an image's 8 pixels from x on, of which `inside` exist. */
INLINE __m256i quad8(const float *x, int32_t channels, int32_t pixels, __m256i inside,
                     const double *scale, const double *zero) {
    __m256i quad = _mm256_setzero_si256();
    for (int32_t c = 0; c < channels; c++) {
        const __m256 v = _mm256_maskload_ps(x + (int64_t)c * pixels, inside);
        const __m256d s = _mm256_broadcast_sd(scale + c), z = _mm256_broadcast_sd(zero + c);
        const __m128i low = codes4(_mm256_castps256_ps128(v), s, z);
        const __m128i high = codes4(_mm256_extractf128_ps(v, 1), s, z);
        const __m128i shift = _mm_cvtsi32_si128(8 * c);
        quad = _mm256_or_si256(quad, _mm256_sll_epi32(_mm256_set_m128i(high, low), shift));
    }
    return quad;
}

void ar_qload_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                   const double *scale, const double *zero, uint8_t *tile) {
    const int32_t quads = channels / 4 + (channels % 4 != 0);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int32_t c = 0; c < channels; c += 4)
        for (int32_t l = 0; l < lanes; l += 8)
            for (int32_t p = 0; p < pixels; p += 8) {
                const __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(pixels - p), lane);
                __m256 rows[8];
                for (int32_t i = 0; i < 8; i++) {
                    __m256i quad = _mm256_setzero_si256();
                    if (l + i < count)
                        quad = quad8(x + ((int64_t)(l + i) * channels + c) * pixels + p,
                                     channels - c < 4 ? channels - c : 4, pixels, inside, scale + c,
                                     zero + c);
                    rows[i] = _mm256_castsi256_ps(quad);
                }
                ar_transpose(rows, rows); /* quads are moved whole, whatever floats they make */
                for (int32_t i = 0; i < 8 && p + i < pixels; i++) {
                    uint8_t *to = tile + (((int64_t)(p + i) * quads + c / 4) * lanes + l) * 4;
                    _mm256_storeu_si256((void *)to, _mm256_castps_si256(rows[i]));
                }
            }
}
