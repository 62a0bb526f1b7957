/* The depthwise slots in plain C: the definition that vector levels are tested against. */
#include "kernel/c/elementwise.h"
#include "kernel/c/lanes.h"
#include "kernel/levels.h"

/* Output o of pixel p, 8 lanes. Product and sum are rounded apart, as the gemm's. */
static void output(const ar_depthwise *call, int32_t p, int32_t o, int32_t lane) {
    const ar_gemm *g = &call->gemm;
    const int64_t stride = ar_gemm_stride(g), lanes = g->lanes;
    const ar_real *x = g->x + (int64_t)(o / call->outputs * call->channels) * lanes + lane;
    int64_t at = (p * stride + o) * lanes + lane;
    ar_real sum[8] = {0};
    vector a[2];
    if (g->residual != NULL) memcpy(sum, g->residual + at, sizeof sum);
    for (int32_t l = 0; l < 8 && g->bias != NULL; l++)
        sum[l] += g->bias[(g->bias_class == NULL ? 0 : g->bias_class[p] * stride) + o];
    memcpy(a, sum, sizeof a);
    for (int32_t i = g->first[p]; i < g->first[p + 1]; i++) {
        const ar_segment *s = g->segments + i;
        for (int32_t k = 0; k < s->k; k++) {
            ar_real w = g->w[(int64_t)(s->w + k) * g->outputs + o];
            vector value[2];
            memcpy(value, x + (s->x + k) * lanes, sizeof value);
            a[0] += w * value[0];
            a[1] += w * value[1];
        }
    }
    memcpy(sum, a, sizeof sum);
    if (g->relu) ar_ew_relu(8, sum, sum, g->mask == NULL ? NULL : g->mask + at / 8);
    if (g->gate != NULL) ar_ew_gate(8, sum, g->gate + at / 8, sum, false);
    memcpy(g->y + at, sum, sizeof sum);
}

void ar_depthwise_f32_c(const ar_depthwise *call) {
    for (int32_t p = 0; p < call->gemm.pixels; p++)
        for (int32_t o = 0; o < call->gemm.outputs; o++)
            for (int32_t lane = 0; lane < call->gemm.lanes; lane += 8)
                output(call, p, o, lane);
}

static ar_real tap_sum(const ar_wgrad *call, int32_t tap, int32_t o) {
    const int64_t lanes = call->lanes, channel = o / (call->outputs / call->channels);
    ar_real sums[8];
    vector a[2] = {{0}};
    for (int32_t tile = 0; tile < call->tiles; tile++)
        for (int32_t i = call->first[tap]; i < call->first[tap + 1]; i++) {
            const ar_real *x = call->x[tile] + (call->pairs[i].x + channel) * lanes;
            const ar_real *dy =
                call->dy[tile] + ((int64_t)call->pairs[i].y * call->outputs + o) * lanes;
            for (int32_t l = 0; l < lanes; l += 8) {
                vector value[2], gradient[2];
                memcpy(value, x + l, sizeof value);
                memcpy(gradient, dy + l, sizeof gradient);
                a[0] += gradient[0] * value[0];
                a[1] += gradient[1] * value[1];
            }
        }
    memcpy(sums, a, sizeof sums);
    return sum8(sums);
}

void ar_depthwise_wgrad_f32_c(const ar_wgrad *call) {
    for (int32_t o = call->begin; o < call->end; o++) {
        for (int32_t tap = 0; tap < call->taps; tap++)
            call->dw[(int64_t)o * call->taps + tap] = tap_sum(call, tap, o);
        if (call->db != NULL) call->db[o] = bias_sum(call, o);
    }
}
