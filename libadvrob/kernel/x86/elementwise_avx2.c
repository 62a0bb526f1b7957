/* The elementwise slots, compiled for AVX2. Most are the common bodies; those with mask bits and
 * transposes, where compilers do badly, are intrinsics that give the same bits. */
#include "kernel/c/elementwise.h"
#include "kernel/x86/avx2.h"

/* All bits of the lanes below n, which may be negative or above 8. */
INLINE __m256i below(int32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

/* Returns the mask. NaN passes: max_ps returns its second operand then. */
INLINE uint32_t relu8(const float *x, float *y) {
    const __m256 zero = _mm256_setzero_ps();
    __m256 v = _mm256_loadu_ps(x);
    _mm256_storeu_ps(y, _mm256_max_ps(zero, v));
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_GT_OQ));
}

void ar_relu_f32_avx2(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask) {
    if (mask == NULL) {
        ar_ew_relu(n, x, y, NULL);
        return;
    }
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) { /* one store of 4 mask bytes: stores are the limit */
        uint32_t bits = 0;
        UNROLL
        for (int32_t j = 0; j < 4; j++)
            bits |= relu8(x + i + j * 8, y + i + j * 8) << (j * 8);
        memcpy(mask + i / 8, &bits, sizeof bits);
    }
    for (; i < n; i += 8)
        mask[i / 8] = (uint8_t)relu8(x + i, y + i);
}

void ar_gate_f32_avx2(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y,
                      bool accumulate) {
    int64_t i = 0;
    if (accumulate)
        for (; i + 8 <= n; i += 8) {
            __m256 v = _mm256_and_ps(_mm256_loadu_ps(x + i), ar_expand(mask[i / 8]));
            _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), v));
        }
    else
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(y + i, _mm256_and_ps(_mm256_loadu_ps(x + i), ar_expand(mask[i / 8])));
    if (i < n) ar_ew_gate8(i, (int32_t)(n - i), x, mask, y, accumulate);
}

void ar_quantize_f32_avx2(const ar_quant_call *call) {
    const __m256 scale = _mm256_set1_ps(call->scale), zero = _mm256_set1_ps(call->zero);
    const __m256 low = _mm256_set1_ps(call->low), high = _mm256_set1_ps(call->high);
    int64_t i = 0;
    for (; i + 8 <= call->n; i += 8) {
        __m256 q = _mm256_div_ps(_mm256_loadu_ps(call->x + i), scale);
        q = _mm256_round_ps(q, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        q = _mm256_add_ps(q, zero);
        if (call->mask != NULL) {
            __m256 out =
                _mm256_or_ps(_mm256_cmp_ps(low, q, _CMP_GT_OQ), _mm256_cmp_ps(high, q, _CMP_LT_OQ));
            int32_t kept = ~_mm256_movemask_ps(out);
            int32_t old = call->fresh ? 255 : call->mask[i / 8];
            call->mask[i / 8] = (uint8_t)(old & kept);
        }
        q = _mm256_min_ps(high, _mm256_max_ps(low, q)); /* NaN passes */
        _mm256_storeu_ps(call->y + i, _mm256_mul_ps(_mm256_sub_ps(q, zero), scale));
    }
    if (i < call->n) ar_ew_quantize_run(*call, i, (int32_t)(call->n - i));
}

/* ---- tiles in and out: transposes of 8 images by 8 pixels ---- */

void ar_load_f32_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                      const float *x, const ar_real *scale, const ar_real *shift, ar_real *tile) {
    const ptrdiff_t image = (ptrdiff_t)channels * pixels, step = (ptrdiff_t)channels * lanes;
    for (int32_t c = 0; c < channels; c++) {
        const __m256 factor = _mm256_set1_ps(scale == NULL ? 1 : scale[c]);
        const __m256 add = _mm256_set1_ps(shift == NULL ? 0 : shift[c]);
        for (int32_t p = 0; p < pixels; p += 8) {
            const __m256i inside = below(pixels - p);
            for (int32_t l = 0; l < lanes; l += 8) {
                const __m256 live = _mm256_castsi256_ps(below(count - l));
                const float *in = x + l * image + (ptrdiff_t)c * pixels + p;
                float *out = tile + p * step + (ptrdiff_t)c * lanes + l;
                __m256 r[8];
                UNROLL
                for (int32_t i = 0; i < 8; i++)
                    r[i] = l + i < count ? _mm256_maskload_ps(in + i * image, inside)
                                         : _mm256_setzero_ps();
                ar_transpose(r, r);
                UNROLL
                for (int32_t i = 0; i < 8; i++) {
                    __m256 v = _mm256_add_ps(_mm256_mul_ps(r[i], factor), add);
                    if (p + i < pixels) _mm256_storeu_ps(out + i * step, _mm256_and_ps(v, live));
                }
            }
        }
    }
}

void ar_store_f32_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                       const ar_real *tile, const ar_real *scale, float *x) {
    const ptrdiff_t image = (ptrdiff_t)channels * pixels, step = (ptrdiff_t)channels * lanes;
    for (int32_t c = 0; c < channels; c++) {
        const __m256 factor = _mm256_set1_ps(scale == NULL ? 1 : scale[c]);
        for (int32_t p = 0; p < pixels; p += 8) {
            const __m256i inside = below(pixels - p);
            for (int32_t l = 0; l < count; l += 8) {
                const float *in = tile + p * step + (ptrdiff_t)c * lanes + l;
                float *out = x + l * image + (ptrdiff_t)c * pixels + p;
                __m256 r[8];
                UNROLL
                for (int32_t i = 0; i < 8; i++)
                    r[i] = p + i < pixels ? _mm256_mul_ps(_mm256_loadu_ps(in + i * step), factor)
                                          : _mm256_setzero_ps();
                ar_transpose(r, r);
                UNROLL
                for (int32_t i = 0; i < 8; i++)
                    if (l + i < count) _mm256_maskstore_ps(out + i * image, inside, r[i]);
            }
        }
    }
}

/* ---- the common bodies ---- */

void ar_max_pool_f32_avx2(const ar_pool_call *call) {
    ar_ew_max_pool(call);
}

void ar_max_pool_backward_f32_avx2(const ar_pool_call *call) {
    ar_ew_max_pool_backward(call);
}

void ar_avg_pool_f32_avx2(const ar_pool_call *call) {
    ar_ew_avg_pool(call);
}

void ar_avg_pool_backward_f32_avx2(const ar_pool_call *call) {
    ar_ew_avg_pool_backward(call);
}

void ar_add_f32_avx2(int64_t n, const ar_real *a, const ar_real *b, ar_real *y) {
    ar_ew_add(n, a, b, y);
}

void ar_step_f32_avx2(const ar_step_call *call) {
    ar_ew_step(call);
}

INLINE __m256d doubles(const float *x) {
    return _mm256_cvtps_pd(_mm_loadu_ps(x));
}

void ar_plane_height_f32_avx2(const ar_plane *plane, const ar_plane_way *way, double *won,
                              double *rate) {
    const ar_plane p = *plane;
    const __m256d sign = _mm256_set1_pd(-0.0), zero = _mm256_setzero_pd();
    const __m256d side = _mm256_set1_pd(way->side), multiplier = _mm256_set1_pd(way->multiplier);
    const __m256d pace = _mm256_set1_pd(p.pace), pace_slope = _mm256_set1_pd(p.pace_slope);
    __m256d ends[2] = {zero, zero}, rates[2] = {zero, zero};
    double all_ends[8], all_rates[8];
    int64_t i = 0;
    for (; i + 8 <= p.n; i += 8) {
        UNROLL
        for (int32_t h = 0; h < 2; h++) {
            const int64_t k = i + 4 * h;
            const __m256d g = doubles(p.g + k), x = doubles(way->x + k);
            const __m256d up = _mm256_cmp_pd(_mm256_mul_pd(side, g), zero, _CMP_GT_OQ);
            const __m256d room = _mm256_blendv_pd(_mm256_sub_pd(x, doubles(p.low + k)),
                                                  _mm256_sub_pd(doubles(p.high + k), x), up);
            const __m256d slope = _mm256_andnot_pd(sign, g);
            const __m256d step = _mm256_add_pd(pace, _mm256_mul_pd(pace_slope, slope));
            const __m256d full = _mm256_cmp_pd(_mm256_mul_pd(multiplier, step), room, _CMP_GE_OQ);
            ends[h] = _mm256_add_pd(ends[h], _mm256_and_pd(full, _mm256_mul_pd(slope, room)));
            rates[h] = _mm256_add_pd(rates[h], _mm256_andnot_pd(full, _mm256_mul_pd(slope, step)));
        }
    }
    for (int32_t h = 0; h < 2; h++) {
        _mm256_storeu_pd(all_ends + 4 * h, ends[h]);
        _mm256_storeu_pd(all_rates + 4 * h, rates[h]);
    }
    ar_ew_plane_height_run(plane, way, i, (int32_t)(p.n - i), all_ends, all_rates);
    ar_ew_plane_sum(all_ends, won);
    ar_ew_plane_sum(all_rates, rate);
}

void ar_plane_length_f32_avx2(const ar_plane *plane, const ar_plane_way *way, double *largest,
                              double *squares) {
    ar_ew_plane_length(plane, way, largest, squares);
}

void ar_plane_step_f32_avx2(const ar_plane *plane, const ar_plane_way *a, const ar_plane_way *b,
                            double past, double share, float *x) {
    ar_ew_plane_step(plane, a, b, past, share, x);
}

void ar_sgd_f32_avx2(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                     ar_real momentum, ar_real decay) {
    ar_ew_sgd(n, w, v, g, rate, momentum, decay);
}
