/* The gemm slot in AVX2 and FMA: a block of up to 6 outputs by 2 vectors of 8 lanes in 12
 * accumulators, which with 2 vectors of x and a broadcast weight fill the 16 registers.
 *
 * Each output of each lane is one chain of FMAs in the contract's order: which pixels or outputs
 * are computed side by side never changes a bit. */
#include "kernel/x86/gemm_avx2.h"

/* Pixels that go through a block of weights before the next block: the weights (up to 28 KB) then
 * stay in L1 and the pixels' input in L2. */
#define GROUP 28

/* y's elements of output o + j and unit u; units are the vectors of the pixels from p on. */
INLINE int64_t place(const ar_gemm *call, int32_t p, int32_t o, int32_t j, int32_t u,
                     const int32_t vectors) {
    return (((int64_t)(p + u / vectors) * call->stride + o + j) * vectors + u % vectors) * 8;
}

/* `width` outputs from o of `units` units of the `count` pixels from p, which are alike; the first
 * is unit `from`. */
INLINE void block(const ar_gemm *given, const float *w, int32_t o, int32_t p, const int32_t width,
                  const int32_t count, const int32_t from, const int32_t units,
                  const int32_t vectors) {
    const ar_gemm copy = *given, *call = &copy; /* whose fields a byte of the mask cannot change */
    const int32_t lanes = vectors * 8;
    const int32_t begin = call->first[p], end = call->first[p + 1];
    const float *bias = call->bias;
    __m256 a[12];
    ptrdiff_t offset[8] = {0};

    if (begin < end)
        for (int32_t q = 1; q < count; q++) {
            const ar_segment *other = call->segments + call->first[p + q];
            offset[q] = ((ptrdiff_t)other->x - call->segments[begin].x) * lanes;
        }
    if (call->bias_class != NULL) bias += (ptrdiff_t)call->bias_class[p] * call->stride;
    UNROLL
    for (int32_t i = 0; i < width * units; i++) {
        a[i] = bias != NULL ? _mm256_broadcast_ss(bias + o + i / units) : _mm256_setzero_ps();
        if (call->residual != NULL)
            a[i] = _mm256_add_ps(_mm256_loadu_ps(call->residual + place(call, p, o, i / units,
                                                                        from + i % units, vectors)),
                                 a[i]);
    }
    for (int32_t i = begin; i < end; i++) {
        const float *x = call->x + (ptrdiff_t)call->segments[i].x * lanes;
        const float *row = w + (ptrdiff_t)call->segments[i].w * width;
        for (int32_t k = call->segments[i].k; k > 0; k--, x += lanes, row += width) {
            if (width >= units) { /* keep the shorter side in registers */
                __m256 v[3];
                UNROLL
                for (int32_t u = 0; u < units && u < 3; u++)
                    v[u] = _mm256_loadu_ps(x + offset[(from + u) / vectors] +
                                           (from + u) % vectors * 8);
                UNROLL
                for (int32_t j = 0; j < width * units; j++)
                    a[j] =
                        _mm256_fmadd_ps(_mm256_broadcast_ss(row + j / units), v[j % units], a[j]);
            } else {
                __m256 v[4];
                UNROLL
                for (int32_t j = 0; j < width; j++)
                    v[j] = _mm256_broadcast_ss(row + j);
                UNROLL
                for (int32_t j = 0; j < width * units; j++) {
                    int32_t u = from + j / width, at = j % width * units + j / width;
                    __m256 value = _mm256_loadu_ps(x + offset[u / vectors] + u % vectors * 8);
                    a[at] = _mm256_fmadd_ps(v[j % width], value, a[at]);
                }
            }
        }
    }
    UNROLL
    for (int32_t i = 0; i < width * units; i++) {
        int64_t at = place(call, p, o, i / units, from + i % units, vectors);
        ar_gemm_finish(call, at, a[i]);
    }
}

/* One block of outputs for the n pixels of a group; `count` at once where their lists allow, in as
 * few blocks as 12 accumulators allow. */
INLINE void panel(const ar_gemm *call, const float *w, int32_t o, int32_t p, int32_t n,
                  const uint8_t *run, const int32_t width, const int32_t count,
                  const int32_t vectors) {
    const int32_t units = count * vectors, blocks = (width * units + 11) / 12;
    for (int32_t i = 0; i < n;) {
        if (count > 1 && run[i] >= count) {
            UNROLL
            for (int32_t b = 0; b < blocks; b++)
                block(call, w, o, p + i, width, count, b * units / blocks, units / blocks, vectors);
            i += count;
        } else {
            block(call, w, o, p + i, width, 1, 0, vectors, vectors);
            i++;
        }
    }
}

/* An FMA takes 4 cycles and two start in each: narrow blocks need several pixels for 8 chains, and
 * 12 leave room for what else the ports do. */
static void panel16(const ar_gemm *call, const float *w, int32_t o, int32_t width, int32_t p,
                    int32_t n, const uint8_t *run) {
    switch (width) {
    case 1:
        panel(call, w, o, p, n, run, 1, 4, 2);
        break;
    case 2:
        panel(call, w, o, p, n, run, 2, 3, 2);
        break;
    case 3:
        panel(call, w, o, p, n, run, 3, 2, 2);
        break;
    case 4:
        panel(call, w, o, p, n, run, 4, 3, 2);
        break;
    case 5:
        panel(call, w, o, p, n, run, 5, 1, 2);
        break;
    default:
        panel(call, w, o, p, n, run, 6, 1, 2);
        break;
    }
}

static void panel8(const ar_gemm *call, const float *w, int32_t o, int32_t width, int32_t p,
                   int32_t n, const uint8_t *run) {
    switch (width) {
    case 1:
        panel(call, w, o, p, n, run, 1, 8, 1);
        break;
    case 2:
        panel(call, w, o, p, n, run, 2, 6, 1);
        break;
    case 3:
        panel(call, w, o, p, n, run, 3, 4, 1);
        break;
    case 4:
        panel(call, w, o, p, n, run, 4, 3, 1);
        break;
    case 5:
        panel(call, w, o, p, n, run, 5, 2, 1);
        break;
    default:
        panel(call, w, o, p, n, run, 6, 2, 1);
        break;
    }
}

void ar_gemm_f32_avx2(const ar_gemm *given) {
    ar_gemm whole = *given;
    const ar_gemm *call = &whole;
    whole.stride = ar_gemm_stride(given);
    const ar_span blocks =
        ar_span_of(call->blocks, ar_block_count(call->outputs, AR_GEMM_BLOCK_AVX2));
    uint8_t run[GROUP]; /* pixels from here on, this one included, that are alike */

    for (int32_t p = 0; p < call->pixels; p += GROUP) {
        int32_t n = call->pixels - p < GROUP ? call->pixels - p : GROUP;
        run[n - 1] = 1;
        for (int32_t i = n - 2; i >= 0; i--)
            run[i] = ar_gemm_alike(call, p + i) ? (uint8_t)(run[i + 1] + 1) : 1;
        for (int32_t b = blocks.begin; b < blocks.end; b++) {
            int32_t o = ar_block_first(call->outputs, AR_GEMM_BLOCK_AVX2, b);
            int32_t width = ar_block_first(call->outputs, AR_GEMM_BLOCK_AVX2, b + 1) - o;
            const float *w = call->w + (int64_t)call->rows * o;
            if (call->lanes == 16)
                panel16(call, w, o, width, p, n, run);
            else
                panel8(call, w, o, width, p, n, run);
        }
    }
}
