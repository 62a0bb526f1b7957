/* The qgemm slot in AVX2: blocks of 4 outputs by vectors of 8 lanes, one int32 each. Codes that are
 * narrow take vpmaddubsw, whose sums of two products saturate at 16 bits, and are widened at once;
 * others are widened to 16 bits before, and vpmaddwd is exact for all of them.
 *
 * Integers do not round, so the order of sums is free; the epilogue is the contract's, step by
 * step, and so are its bits. */
#include "kernel/x86/avx2.h"

#include <string.h>

enum { BLOCK = 4 }; /* outputs of a block, channels of a quad */

/* Pixels that go through a panel's weights before the next panel: the weights then stay in L1 and
 * the pixels' input in L2. */
#define GROUP 28

static int32_t blocks_of(int32_t outputs) {
    return outputs / BLOCK + (outputs % BLOCK != 0);
}

/* Bytes of a quad of weights. */
INLINE int32_t quad_size(const bool narrow) {
    return narrow ? 4 : 8;
}

/* [block][row][output]: narrow 4 bytes; or else 16 bits each of channels 0, 2 and of 1, 3, as the
 * even and odd bytes of the codes are widened. */
size_t ar_qgemm_size_avx2(int32_t outputs, int32_t rows, bool narrow) {
    return (size_t)blocks_of(outputs) * BLOCK * (size_t)rows * (size_t)quad_size(narrow);
}

void ar_qgemm_pack_avx2(int32_t outputs, int32_t rows, bool narrow, const int8_t *w, void *packed) {
    static const int32_t order[4] = {0, 2, 1, 3};
    int8_t *bytes = packed;
    int16_t *words = packed;
    for (int32_t b = 0; b < outputs; b += BLOCK)
        for (int32_t r = 0; r < rows; r++)
            for (int32_t o = b; o < b + BLOCK; o++)
                for (int32_t c = 0; c < 4; c++) {
                    const int64_t quad = ((int64_t)o * rows + r) * 4;
                    if (narrow)
                        *bytes++ = o < outputs ? w[quad + c] : 0;
                    else
                        *words++ = o < outputs ? w[quad + order[c]] : 0;
                }
}

/* The codes of 4 outputs and 8 lanes as they lie in y. */
INLINE __m256i requantise(const ar_qgemm *call, int32_t o, int64_t at, const __m256i *a,
                          const int32_t step) {
    __m256i codes = _mm256_setzero_si256(), other = codes;
    if (call->residual != NULL) other = _mm256_loadu_si256((const void *)(call->residual + at));
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++) {
        const __m256 scale = _mm256_broadcast_ss(call->scale + o + j);
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(a[j * step]), scale);
        if (call->residual != NULL) {
            __m256i r = _mm256_and_si256(_mm256_srli_epi32(other, 8 * j), _mm256_set1_epi32(255));
            r = _mm256_sub_epi32(r, _mm256_set1_epi32(call->residual_zero));
            v = _mm256_add_ps(
                v, _mm256_mul_ps(_mm256_cvtepi32_ps(r), _mm256_set1_ps(call->residual_scale)));
        }
        v = _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        v = _mm256_add_ps(v, _mm256_set1_ps((float)call->zero));
        /* Clamped while a float, which any value fits; a NaN is low. */
        v = _mm256_max_ps(v, _mm256_set1_ps((float)call->low));
        v = _mm256_min_ps(v, _mm256_set1_ps((float)call->high));
        codes = _mm256_or_si256(codes, _mm256_slli_epi32(_mm256_cvtps_epi32(v), 8 * j));
    }
    if (o + BLOCK > call->outputs)
        codes = _mm256_and_si256(
            codes, _mm256_set1_epi32((int32_t)(UINT32_MAX >> 8 * (o + BLOCK - call->outputs))));
    return codes;
}

INLINE __m256i load(const uint8_t *x) {
    return _mm256_loadu_si256((const void *)x);
}

INLINE __m256i broadcast(const int8_t *w) {
    int32_t quad;
    memcpy(&quad, w, sizeof quad);
    return _mm256_set1_epi32(quad);
}

/* `width` blocks of outputs from o by `units` vectors of 8 lanes, from vector `from` on, of pixel
 * p. */
INLINE void panel(const ar_qgemm *call, const int8_t *w, int32_t o, int32_t p, int32_t from,
                  const int32_t width, const int32_t units, const bool narrow) {
    const int32_t lanes = call->lanes, padded = blocks_of(call->outputs) * BLOCK;
    const int32_t size = quad_size(narrow);
    const ptrdiff_t stride = (ptrdiff_t)call->rows * BLOCK * size;
    const int32_t *bias = call->bias + o;
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi16(255);
    __m256i a[12];

    if (call->bias_class != NULL) bias += (ptrdiff_t)call->bias_class[p] * padded;
    UNROLL
    for (int32_t i = 0; i < width * BLOCK * units; i++)
        a[i] = _mm256_set1_epi32(bias[i / units]);
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
        const ar_segment *s = call->segments + i;
        const uint8_t *x = call->x + (ptrdiff_t)s->x * lanes * 4 + from * 32;
        const int8_t *row = w + (ptrdiff_t)s->w * BLOCK * size;
        for (int32_t k = s->k; k > 0; k--, x += lanes * 4, row += BLOCK * size) {
            if (narrow) {
                __m256i v[2];
                UNROLL
                for (int32_t u = 0; u < units; u++)
                    v[u] = load(x + u * 32);
                UNROLL
                for (int32_t j = 0; j < width * BLOCK * units; j++) {
                    const int32_t out = j / units;
                    __m256i q = broadcast(row + out / BLOCK * stride + out % BLOCK * size);
                    q = _mm256_madd_epi16(_mm256_maddubs_epi16(v[j % units], q), ones);
                    a[j] = _mm256_add_epi32(a[j], q);
                }
            } else {
                __m256i v[2][2];
                UNROLL
                for (int32_t u = 0; u < units; u++) {
                    v[u][0] = _mm256_and_si256(load(x + u * 32), low);
                    v[u][1] = _mm256_srli_epi16(load(x + u * 32), 8);
                }
                UNROLL
                for (int32_t j = 0; j < width * BLOCK * units; j++) {
                    const int32_t out = j / units;
                    const int8_t *at = row + out / BLOCK * stride + out % BLOCK * size;
                    a[j] =
                        _mm256_add_epi32(a[j], _mm256_madd_epi16(v[j % units][0], broadcast(at)));
                    a[j] = _mm256_add_epi32(a[j],
                                            _mm256_madd_epi16(v[j % units][1], broadcast(at + 4)));
                }
            }
        }
    }
    UNROLL
    for (int32_t i = 0; i < width * units; i++) {
        const __m256i *own = a + i / units * BLOCK * units + i % units;
        const int64_t first = (int64_t)p * padded + o + i / units * BLOCK;
        const int32_t lane = (from + i % units) * 8;
        if (call->sums != NULL)
            for (int32_t j = 0; j < BLOCK; j++)
                _mm256_storeu_si256((void *)(call->sums + (first + j) * lanes + lane),
                                    own[j * units]);
        else {
            const int64_t at = first * lanes + lane * 4;
            _mm256_storeu_si256((void *)(call->y + at),
                                requantise(call, o + i / units * BLOCK, at, own, units));
        }
    }
}

/* The pixels of a group by one panel's blocks of outputs. */
static void narrow_panel(const ar_qgemm *call, const int8_t *w, int32_t o, int32_t p, int32_t n) {
    for (int32_t i = p; i < p + n; i++)
        if (call->lanes == 16)
            panel(call, w, o, i, 0, 1, 2, true);
        else
            panel(call, w, o, i, 0, 1, 1, true);
}

INLINE void exact_panel(const ar_qgemm *call, const int8_t *w, int32_t o, int32_t p, int32_t n,
                        const int32_t width) {
    for (int32_t i = p; i < p + n; i++)
        for (int32_t from = 0; from < call->lanes / 8; from++)
            panel(call, w, o, i, from, width, 1, false);
}

static void exact(const ar_qgemm *call, const int8_t *w, int32_t o, int32_t width, int32_t p,
                  int32_t n) {
    if (width == 3)
        exact_panel(call, w, o, p, n, 3);
    else if (width == 2)
        exact_panel(call, w, o, p, n, 2);
    else
        exact_panel(call, w, o, p, n, 1);
}

void ar_qgemm_avx2(const ar_qgemm *given) {
    const ar_qgemm copy = *given, *call = &copy; /* whose fields a byte of y cannot change */
    const ar_span blocks = ar_span_of(call->blocks, blocks_of(call->outputs));
    const int32_t widest = call->narrow ? 1 : 3;
    for (int32_t p = 0; p < call->pixels; p += GROUP) {
        const int32_t n = call->pixels - p < GROUP ? call->pixels - p : GROUP;
        for (int32_t b = blocks.begin, width; b < blocks.end; b += width) {
            const int8_t *w =
                (const int8_t *)call->w + (int64_t)b * BLOCK * call->rows * quad_size(call->narrow);
            width = blocks.end - b < widest ? blocks.end - b : widest;
            if (call->narrow)
                narrow_panel(call, w, b * BLOCK, p, n);
            else
                exact(call, w, b * BLOCK, width, p, n);
        }
    }
}
