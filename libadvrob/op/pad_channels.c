/* Channels of zeros before and after those of the input: the shortcut of a residual block that
 * grows without weights (He et al. 2016, arXiv 1512.03385, section 3.3, option A). */
#include <string.h>

#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    const int32_t most = AR_MAX_DIM - in->c;
    if (attributes->before < 0 || attributes->after < 0 || attributes->before > most ||
        attributes->after > most - attributes->before)
        return ar_error(
            ADVROB_E_RANGE,
            "pad_channels: %d channels before and %d after, expected 0 or more, at most "
            "%d together",
            attributes->before, attributes->after, most);
    *out = *in;
    out->c += attributes->before + attributes->after;
    return ADVROB_OK;
}

static void forward(const ar_op_call *call) {
    size_t from = (size_t)call->in[0].c * (size_t)call->lanes;
    size_t to = (size_t)call->out.c * (size_t)call->lanes;
    size_t before = (size_t)call->attributes->before * (size_t)call->lanes;
    for (int32_t p = 0; p < ar_shape_pixels(call->out); p++) {
        ar_real *y = call->y + (size_t)p * to;
        memset(y, 0, sizeof(ar_real) * before);
        memcpy(y + before, call->x[0] + (size_t)p * from, sizeof(ar_real) * from);
        memset(y + before + from, 0, sizeof(ar_real) * (to - from - before));
    }
}

static void backward(const ar_op_call *call) {
    int64_t from = (int64_t)call->in[0].c * call->lanes, to = (int64_t)call->out.c * call->lanes;
    int64_t before = (int64_t)call->attributes->before * call->lanes;
    for (int32_t p = 0; p < ar_shape_pixels(call->out); p++)
        ar_op_hand_on(call->kernels, from, call->dy + p * to + before, call->dx[0] + p * from,
                      call->accumulate[0]);
}

const ar_op ar_op_pad_channels = {
    .name = "pad_channels",
    .help = "the input between channels of zeros",
    .options = &ar_op_pad_options,
    .inputs = 1,
    .prune = AR_PRUNE_PADS,
    .infer = infer,
    .forward = forward,
    .backward = backward,
};
