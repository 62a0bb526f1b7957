/* The integer slots beside qgemm, in AVX2: what happens to codes between layers, and images to
 * codes, whose double arithmetic is the portable kernel's four at a time. */
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

/* 8 sums of codes, in ints that only want their ends. */
INLINE __m256i sum8(const ar_qadd *call, int64_t i, __m256 high) {
    const __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(call->a + i)));
    const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(call->b + i)));
    const __m256 x = _mm256_cvtepi32_ps(_mm256_sub_epi32(a, _mm256_set1_epi32(call->a_zero)));
    const __m256 y = _mm256_cvtepi32_ps(_mm256_sub_epi32(b, _mm256_set1_epi32(call->b_zero)));
    const __m256 v = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(call->a_scale)),
                                   _mm256_mul_ps(y, _mm256_set1_ps(call->b_scale)));
    return _mm256_cvtps_epi32(_mm256_min_ps(high, v)); /* a NaN stays one and is low */
}

void ar_qadd_avx2(const ar_qadd *given) {
    const ar_qadd copy = *given, *call = &copy; /* whose fields a byte of y cannot change */
    const __m256 high = _mm256_set1_ps((float)(call->high - call->zero));
    const __m256i low = _mm256_set1_epi8((int8_t)call->low);
    const __m256i zero = _mm256_set1_epi16((int16_t)call->zero);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t i = 0; i < call->n; i += 32) {
        __m256i front = _mm256_packs_epi32(sum8(call, i, high), sum8(call, i + 8, high));
        __m256i back = _mm256_packs_epi32(sum8(call, i + 16, high), sum8(call, i + 24, high));
        front = _mm256_adds_epi16(front, zero);
        back = _mm256_adds_epi16(back, zero);
        const __m256i codes = _mm256_max_epu8(_mm256_packus_epi16(front, back), low);
        _mm256_storeu_si256((void *)(call->y + i), _mm256_permutevar8x32_epi32(codes, order));
    }
}

/* Quad j of y: of each of its 4 channels the byte of x that `kept` lets through, or of `others`. */
static uint32_t pad_bytes(const ar_qpad *call, int32_t j, uint32_t *others) {
    uint32_t kept = 0;
    *others = 0;
    for (int32_t i = 0; i < 4; i++) {
        const int32_t c = j * 4 + i, k = c - call->before;
        if (k >= 0 && k < call->channels)
            kept |= UINT32_C(255) << 8 * i;
        else if (c < call->channels_out)
            *others |= (uint32_t)call->fill << 8 * i;
    }
    return kept;
}

/* A quad of y is the end of one of x's and the begin of the next. */
void ar_qpad_avx2(const ar_qpad *given) {
    const ar_qpad copy = *given, *call = &copy;
    const int32_t from = call->channels / 4 + (call->channels % 4 != 0);
    const int32_t to = call->channels_out / 4 + (call->channels_out % 4 != 0);
    const int32_t size = call->lanes * 4, shift = call->before % 4 * 8;
    const __m128i up = _mm_cvtsi32_si128(shift), down = _mm_cvtsi32_si128(32 - shift);
    for (int32_t j = 0; j < to; j++) {
        uint32_t fill;
        const __m256i kept = _mm256_set1_epi32((int32_t)pad_bytes(call, j, &fill));
        const __m256i others = _mm256_set1_epi32((int32_t)fill);
        const int32_t k = j - call->before / 4;
        for (int32_t p = 0; p < call->pixels; p++)
            for (int32_t i = 0; i < size; i += 32) {
                const int64_t at = ((int64_t)p * from + k) * size + i;
                __m256i quad = _mm256_setzero_si256();
                if (k >= 0 && k < from)
                    quad = _mm256_sll_epi32(_mm256_loadu_si256((const void *)(call->x + at)), up);
                if (k > 0 && k <= from) {
                    const __m256i before = _mm256_loadu_si256((const void *)(call->x + at - size));
                    quad = _mm256_or_si256(quad, _mm256_srl_epi32(before, down));
                }
                quad = _mm256_or_si256(_mm256_and_si256(quad, kept), others);
                _mm256_storeu_si256((void *)(call->y + ((int64_t)p * to + j) * size + i), quad);
            }
    }
}

/* Of one channel, which is the usual case: a quad is 4 pixels' first bytes. */
void ar_qrows_avx2(const ar_qrows *given) {
    const ar_qrows copy = *given, *call = &copy;
    const int32_t size = call->lanes * 4;
    if (call->channels != 1) {
        ar_qrows_c(call);
        return;
    }
    uint8_t *y = call->y;
    for (int32_t place = 0; place < call->places; place++)
        for (int32_t row = 0; row < call->h; row++)
            for (int32_t tap = 0; tap < call->quads * 4; tap += 4, y += size) {
                const int32_t column = place * call->stride - call->padding + tap;
                const int64_t at = ((int64_t)row * call->w + column) * size;
                for (int32_t i = 0; i < size; i += 32) {
                    __m256i quad = _mm256_setzero_si256();
                    for (int32_t t = 0; t < 4 && tap + t < call->taps; t++) {
                        if (column + t < 0 || column + t >= call->w) continue;
                        const __m256i v =
                            _mm256_loadu_si256((const void *)(call->x + at + t * size + i));
                        quad = _mm256_or_si256(quad, _mm256_sll_epi32(v, _mm_cvtsi32_si128(8 * t)));
                    }
                    _mm256_storeu_si256((void *)(y + i), quad);
                }
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
