/* Global average pooling: the mean of each channel; average pooling with one window. */
#include "window.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    (void)attributes;
    *out = (ar_shape){in->c, 1, 1};
    return ADVROB_OK;
}

static int32_t prepare(const ar_op_setup *setup, const void **prepared) {
    ar_op_setup own = *setup;
    ar_attributes whole = *setup->attributes;
    whole.kernel[0] = setup->in[0].h;
    whole.kernel[1] = setup->in[0].w;
    whole.stride[0] = whole.stride[1] = 1;
    whole.padding[0] = whole.padding[1] = 0;
    whole.dilation[0] = whole.dilation[1] = 1;
    own.attributes = &whole;
    return ar_window_pool_lists(&own, prepared);
}

const ar_op ar_op_global_avg_pool = {
    .name = "global_avg_pool",
    .help = "mean of each channel",
    .options = &ar_op_no_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .infer = infer,
    .prepare = prepare,
    .forward = ar_window_avg_forward,
    .backward = ar_window_avg_backward,
};
