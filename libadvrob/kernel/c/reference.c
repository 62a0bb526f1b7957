/* Portable kernels in plain C: the definition the other levels are tested against, and what runs
 * on a machine without a vector level. The same source in double serves the gradient checks. */
#include "kernel/c/elementwise.h"
#include "kernel/c/lanes.h"
#include "kernel/levels.h"

/* ---- gemm ---- */

/* Product and sum are rounded apart: without the instruction, fmaf is a call some fifty times as
 * slow. The order is the contract's. 4 outputs x 8 lanes are 8 vectors of the 16 that x86-64 and
 * aarch64 have; more would be spilled. */
static inline __attribute__((always_inline)) void gemm_sum(const ar_gemm *call, const ar_real *w,
                                                           int32_t p, int32_t lane,
                                                           const int32_t width,
                                                           ar_real sum[AR_GEMM_BLOCK_C][8]) {
    vector a[AR_GEMM_BLOCK_C][2];
    memcpy(a, sum, sizeof a);
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
        const ar_segment *s = call->segments + i;
        const ar_real *x = call->x + (int64_t)s->x * call->lanes + lane;
        const ar_real *row = w + (int64_t)s->w * width;
        for (int32_t k = 0; k < s->k; k++, x += call->lanes, row += width) {
            vector x0, x1;
            memcpy(&x0, x, sizeof x0);
            memcpy(&x1, x + 4, sizeof x1);
            for (int32_t o = 0; o < width; o++) {
                a[o][0] += row[o] * x0;
                a[o][1] += row[o] * x1;
            }
        }
    }
    memcpy(sum, a, sizeof a);
}

/* One block of outputs of one pixel, 8 lanes. */
static void gemm_block(const ar_gemm *call, const ar_real *w, int32_t p, int32_t first,
                       int32_t width, int32_t lane) {
    const int64_t stride = ar_gemm_stride(call);
    int64_t at = (p * stride + first) * call->lanes + lane;
    const ar_real *bias = call->bias;
    ar_real sum[AR_GEMM_BLOCK_C][8] = {{0}};
    if (call->bias_class != NULL) bias += call->bias_class[p] * stride;
    for (int32_t o = 0; o < width; o++)
        for (int32_t l = 0; l < 8; l++) {
            if (call->residual != NULL) sum[o][l] = call->residual[at + o * call->lanes + l];
            if (bias != NULL) sum[o][l] += bias[first + o];
        }
    if (width == 4)
        gemm_sum(call, w, p, lane, 4, sum);
    else if (width == 3)
        gemm_sum(call, w, p, lane, 3, sum);
    else if (width == 2)
        gemm_sum(call, w, p, lane, 2, sum);
    else
        gemm_sum(call, w, p, lane, 1, sum);
    for (int32_t o = 0; o < width; o++, at += call->lanes) {
        if (call->relu)
            ar_ew_relu(8, sum[o], sum[o], call->mask == NULL ? NULL : call->mask + at / 8);
        if (call->gate != NULL) ar_ew_gate(8, sum[o], call->gate + at / 8, sum[o], false);
        memcpy(call->y + at, sum[o], sizeof sum[o]);
    }
}

void ar_gemm_f32_c(const ar_gemm *call) {
    const ar_span blocks = ar_span_of(call->blocks, ar_block_count(call->outputs, AR_GEMM_BLOCK_C));
    for (int32_t b = blocks.begin; b < blocks.end; b++) {
        int32_t first = ar_block_first(call->outputs, AR_GEMM_BLOCK_C, b);
        int32_t width = ar_block_first(call->outputs, AR_GEMM_BLOCK_C, b + 1) - first;
        const ar_real *w = call->w + (int64_t)call->rows * first;
        for (int32_t p = 0; p < call->pixels; p++)
            for (int32_t lane = 0; lane < call->lanes; lane += 8)
                gemm_block(call, w, p, first, width, lane);
    }
}

/* ---- wgrad ---- */

/* A tap's gradients of output o for channels c .. c + 3. */
static inline __attribute__((always_inline)) void
wgrad_sum(const ar_wgrad *call, int32_t tap, int32_t o, int32_t c, const int32_t width) {
    const int64_t lanes = call->lanes;
    vector a[4][2] = {{{0}}};
    for (int32_t tile = 0; tile < call->tiles; tile++)
        for (int32_t i = call->first[tap]; i < call->first[tap + 1]; i++) {
            const ar_real *x = call->x[tile] + (call->pairs[i].x + call->x_first + c) * lanes;
            const ar_real *dy =
                call->dy[tile] + ((int64_t)call->pairs[i].y * call->outputs + o) * lanes;
            for (int32_t l = 0; l < lanes; l += 8) {
                vector d0, d1, x0, x1;
                memcpy(&d0, dy + l, sizeof d0);
                memcpy(&d1, dy + l + 4, sizeof d1);
                for (int32_t j = 0; j < width; j++) {
                    memcpy(&x0, x + j * lanes + l, sizeof x0);
                    memcpy(&x1, x + j * lanes + l + 4, sizeof x1);
                    a[j][0] += d0 * x0;
                    a[j][1] += d1 * x1;
                }
            }
        }
    ar_real sums[4][8];
    memcpy(sums, a, sizeof sums);
    ar_real *dw = call->dw + ((int64_t)o * call->taps + tap) * call->channels + c;
    for (int32_t j = 0; j < width; j++)
        dw[j] = sum8(sums[j]);
}

void ar_wgrad_f32_c(const ar_wgrad *call) {
    for (int32_t tap = 0; tap < call->taps; tap++)
        for (int32_t o = call->begin; o < call->end; o++) {
            int32_t c = 0;
            for (; c + 4 <= call->channels; c += 4)
                wgrad_sum(call, tap, o, c, 4);
            for (; c < call->channels; c++)
                wgrad_sum(call, tap, o, c, 1);
        }
    if (call->db == NULL) return;
    for (int32_t o = call->begin; o < call->end; o++)
        call->db[o] = bias_sum(call, o);
}

/* ---- elementwise ---- */

void ar_max_pool_f32_c(const ar_pool_call *call) {
    ar_ew_max_pool(call);
}

void ar_max_pool_backward_f32_c(const ar_pool_call *call) {
    ar_ew_max_pool_backward(call);
}

void ar_avg_pool_f32_c(const ar_pool_call *call) {
    ar_ew_avg_pool(call);
}

void ar_avg_pool_backward_f32_c(const ar_pool_call *call) {
    ar_ew_avg_pool_backward(call);
}

void ar_relu_f32_c(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask) {
    ar_ew_relu(n, x, y, mask);
}

void ar_gate_f32_c(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y, bool accumulate) {
    ar_ew_gate(n, x, mask, y, accumulate);
}

void ar_add_f32_c(int64_t n, const ar_real *a, const ar_real *b, ar_real *y) {
    ar_ew_add(n, a, b, y);
}

void ar_norm_f32_c(const ar_norm_call *call) {
    ar_ew_norm(call);
}

void ar_norm_backward_f32_c(const ar_norm_call *call) {
    ar_ew_norm_backward(call);
}

void ar_channel_sums_f32_c(int32_t lanes, int32_t channels, int32_t pixels, const ar_real *a,
                           const ar_real *b, double *sums) {
    ar_ew_channel_sums(lanes, channels, pixels, a, b, sums);
}

void ar_quantize_f32_c(const ar_quant_call *call) {
    ar_ew_quantize(call);
}

void ar_step_f32_c(const ar_step_call *call) {
    ar_ew_step(call);
}

void ar_plane_height_f32_c(const ar_plane *plane, const ar_plane_way *way, double *won,
                           double *rate) {
    ar_ew_plane_height(plane, way, won, rate);
}

void ar_plane_length_f32_c(const ar_plane *plane, const ar_plane_way *way, double *largest,
                           double *squares) {
    ar_ew_plane_length(plane, way, largest, squares);
}

void ar_plane_step_f32_c(const ar_plane *plane, const ar_plane_way *a, const ar_plane_way *b,
                         double past, double share, float *x) {
    ar_ew_plane_step(plane, a, b, past, share, x);
}

void ar_load_f32_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                   const ar_real *scale, const ar_real *shift, ar_real *tile) {
    ar_ew_load(lanes, count, channels, pixels, x, scale, shift, tile);
}

void ar_store_f32_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                    const ar_real *tile, const ar_real *scale, float *x) {
    ar_ew_store(lanes, count, channels, pixels, tile, scale, x);
}

void ar_sgd_f32_c(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                  ar_real momentum, ar_real decay) {
    ar_ew_sgd(n, w, v, g, rate, momentum, decay);
}

/* ---- the peak ---- */

/* 12 vectors and the 2 constants fit the 16 registers; products and sums of 8 would already keep
 * two units of 4 cycles busy. */
int64_t ar_fma_f32_c(int64_t rounds, ar_real *sum) {
    enum { CHAINS = 12 };
    const vector half = {0.5f, 0.5f, 0.5f, 0.5f}, one = {1, 1, 1, 1};
    vector a[CHAINS];
    for (int32_t i = 0; i < CHAINS; i++)
        a[i] = half * (ar_real)i;
    for (int64_t n = 0; n < rounds; n++)
        for (int32_t i = 0; i < CHAINS; i++)
            a[i] = a[i] * half + one;
    for (int32_t i = 1; i < CHAINS; i++)
        a[0] += a[i];
    *sum = a[0][0] + a[0][1] + a[0][2] + a[0][3];
    return rounds * CHAINS * 4;
}
