/* Concatenation of the channels of two values. */
#include <string.h>

#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    (void)attributes;
    if (in[0].h != in[1].h || in[0].w != in[1].w)
        return ar_error(ADVROB_E_SHAPE,
                        "concat: images of %d x %d and %d x %d, expected equal extents", in[0].h,
                        in[0].w, in[1].h, in[1].w);
    if (in[1].c > AR_MAX_DIM - in[0].c)
        return ar_error(ADVROB_E_SHAPE, "concat: %d and %d channels, expected at most %d together",
                        in[0].c, in[1].c, AR_MAX_DIM);
    *out = in[0];
    out->c += in[1].c;
    return ADVROB_OK;
}

/* Where input k begins in an output pixel, in values of a tile. */
static int64_t place(const ar_op_call *call, int32_t k) {
    return k == 0 ? 0 : (int64_t)call->in[0].c * call->lanes;
}

static void forward(const ar_op_call *call) {
    int64_t to = (int64_t)call->out.c * call->lanes;
    for (int32_t k = 0; k < 2; k++) {
        int64_t from = (int64_t)call->in[k].c * call->lanes;
        for (int32_t p = 0; p < ar_shape_pixels(call->out); p++)
            memcpy(call->y + p * to + place(call, k), call->x[k] + p * from,
                   sizeof(ar_real) * (size_t)from);
    }
}

static void backward(const ar_op_call *call) {
    int64_t to = (int64_t)call->out.c * call->lanes;
    for (int32_t k = 0; k < 2; k++) {
        int64_t from = (int64_t)call->in[k].c * call->lanes;
        if (call->dx[k] == NULL) continue;
        for (int32_t p = 0; p < ar_shape_pixels(call->out); p++)
            ar_op_hand_on(call->kernels, from, call->dy + p * to + place(call, k),
                          call->dx[k] + p * from, call->accumulate[k]);
    }
}

const ar_op ar_op_concat = {
    .name = "concat",
    .help = "channels of two values, one behind the other",
    .options = &ar_op_no_options,
    .inputs = 2,
    .prune = AR_PRUNE_JOINS,
    .infer = infer,
    .forward = forward,
    .backward = backward,
};
