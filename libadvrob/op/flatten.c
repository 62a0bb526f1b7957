/* Flatten: [c][h][w] becomes one row of features in PyTorch's order (channel slowest). Inside a
 * tile the channel is faster than the pixel, so this is a transposition. */
#include <string.h>

#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    (void)attributes;
    int64_t count = ar_shape_count(*in);
    if (count > AR_MAX_DIM)
        return ar_error(ADVROB_E_SHAPE, "flatten: %lld features, expected at most %d",
                        (long long)count, AR_MAX_DIM);
    *out = (ar_shape){(int32_t)count, 1, 1};
    return ADVROB_OK;
}

static void forward(const ar_op_call *call) {
    int32_t pixels = ar_shape_pixels(call->in[0]), channels = call->in[0].c, lanes = call->lanes;
    for (int32_t p = 0; p < pixels; p++)
        for (int32_t c = 0; c < channels; c++)
            memcpy(call->y + ((size_t)c * pixels + p) * lanes,
                   call->x[0] + ((size_t)p * channels + c) * lanes, sizeof(ar_real) * lanes);
}

static void backward(const ar_op_call *call) {
    int32_t pixels = ar_shape_pixels(call->in[0]), channels = call->in[0].c, lanes = call->lanes;
    for (int32_t p = 0; p < pixels; p++)
        for (int32_t c = 0; c < channels; c++) {
            const ar_real *from = call->dy + ((size_t)c * pixels + p) * lanes;
            ar_real *to = call->dx[0] + ((size_t)p * channels + c) * lanes;
            for (int32_t l = 0; l < lanes; l++)
                to[l] = call->accumulate[0] ? to[l] + from[l] : from[l];
        }
}

const ar_op ar_op_flatten = {
    .name = "flatten",
    .help = "an image as one row of features",
    .options = &ar_op_no_options,
    .inputs = 1,
    .prune = AR_PRUNE_SPREADS,
    .infer = infer,
    .forward = forward,
    .backward = backward,
};
