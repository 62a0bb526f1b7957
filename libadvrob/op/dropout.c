/* Dropout (Srivastava et al. 2014, JMLR 15, section 4) in the form that scales in training: x / (1
 * - rate) or 0. Outside training, attacks within training included, the identity. */
#include <string.h>

#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    if (!(attributes->rate >= 0 && attributes->rate < 1))
        return ar_error(ADVROB_E_RANGE, "dropout: rate %g, expected 0 to less than 1",
                        attributes->rate);
    *out = *in;
    return ADVROB_OK;
}

/* The bits of what was kept. */
static size_t state_size(const ar_shape *out, int32_t lanes) {
    return (size_t)ar_shape_count(*out) * (size_t)lanes / 8;
}

/* Draws in the order (channel, pixel) of each image alone: whatever tile it lies in. */
static void draw(const ar_op_call *call) {
    int32_t pixels = ar_shape_pixels(call->out), channels = call->out.c;
    float rate = (float)call->attributes->rate;
    memset(call->state, 0, state_size(&call->out, call->lanes));
    for (int32_t l = 0; l < call->count; l++) {
        ar_rng rng;
        ar_rng_init(&rng, call->draws->seed, AR_RNG_DROPOUT, call->draws->ids[l], call->node, 0);
        for (int32_t c = 0; c < channels; c++)
            for (int32_t p = 0; p < pixels; p++) {
                int64_t at = ((int64_t)p * channels + c) * call->lanes + l;
                if (ar_rng_uniform(&rng) >= rate) call->state[at / 8] |= (uint8_t)(1 << (at % 8));
            }
    }
}

static void forward(const ar_op_call *call) {
    int64_t n = ar_shape_count(call->out) * call->lanes;
    ar_real factor = (ar_real)(1 / (1 - call->attributes->rate));
    if (call->draws == NULL) {
        memcpy(call->y, call->x[0], sizeof(ar_real) * (size_t)n);
        return;
    }
    draw(call);
    call->kernels->gate(n, call->x[0], call->state, call->y, false);
    for (int64_t i = 0; i < n; i++)
        call->y[i] *= factor;
}

static void backward(const ar_op_call *call) {
    int64_t n = ar_shape_count(call->out) * call->lanes;
    ar_real factor = (ar_real)(1 / (1 - call->attributes->rate)), *dx = call->dx[0];
    for (int64_t i = 0; i < n; i++) {
        bool kept = call->draws == NULL || (call->state[i / 8] >> (i % 8) & 1) != 0;
        ar_real d = !kept ? 0 : call->draws == NULL ? call->dy[i] : call->dy[i] * factor;
        dx[i] = call->accumulate[0] ? dx[i] + d : d;
    }
}

const ar_op ar_op_dropout = {
    .name = "dropout",
    .help = "sets a share of the values to 0 in training",
    .options = &ar_op_dropout_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .infer = infer,
    .state_size = state_size,
    .forward = forward,
    .backward = backward,
};
