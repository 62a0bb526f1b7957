/* The gemm slot through any CBLAS, for machines without a vector level of ours. A call stays below
 * the size from which OpenBLAS would wake threads of its own, so results and load stay ours. */
#include "kernel/c/elementwise.h"
#include "kernel/levels.h"

#include <cblas.h>

/* OpenBLAS takes one thread up to 262144 multiply-adds; half of that leaves room. */
#define LARGEST_CALL 131072

static void start(const ar_gemm *call, int64_t at, int32_t p, int32_t first, int32_t width) {
    const ar_real *bias = call->bias;
    const ar_real *residual = call->residual == NULL ? NULL : call->residual + at;
    ar_real *y = call->y + at;
    if (call->bias_class != NULL) bias += (int64_t)call->bias_class[p] * ar_gemm_stride(call);
    for (int32_t o = 0; o < width; o++) {
        ar_real value = bias == NULL ? 0 : bias[first + o];
        for (int32_t i = o * call->lanes; i < (o + 1) * call->lanes; i++)
            y[i] = residual == NULL ? value : residual[i] + value;
    }
}

void ar_gemm_f32_cblas(const ar_gemm *call) {
    const int32_t lanes = call->lanes;
    const ar_span blocks =
        ar_span_of(call->blocks, ar_block_count(call->outputs, AR_GEMM_BLOCK_CBLAS));
    for (int32_t b = blocks.begin; b < blocks.end; b++) {
        int32_t first = ar_block_first(call->outputs, AR_GEMM_BLOCK_CBLAS, b);
        int32_t width = ar_block_first(call->outputs, AR_GEMM_BLOCK_CBLAS, b + 1) - first;
        int32_t depth = LARGEST_CALL / (width * lanes);
        const ar_real *w = call->w + (int64_t)call->rows * first;
        for (int32_t p = 0; p < call->pixels; p++) {
            int64_t at = ((int64_t)p * ar_gemm_stride(call) + first) * lanes;
            ar_real *y = call->y + at;
            start(call, at, p, first, width);
            for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
                const ar_segment *s = call->segments + i;
                for (int32_t k = 0; k < s->k; k += depth) {
                    int32_t part = s->k - k < depth ? s->k - k : depth;
                    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, width, lanes, part, 1.0f,
                                w + (int64_t)(s->w + k) * width, width,
                                call->x + (int64_t)(s->x + k) * lanes, lanes, 1.0f, y, lanes);
                }
            }
            int64_t n = (int64_t)width * lanes;
            if (call->relu) ar_ew_relu(n, y, y, call->mask == NULL ? NULL : call->mask + at / 8);
            if (call->gate != NULL) ar_ew_gate(n, y, call->gate + at / 8, y, false);
        }
    }
}
