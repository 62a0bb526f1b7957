/* Max pooling: the first of equal maxima takes the gradient, as in PyTorch. */
#include "window.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    int32_t status = ar_window_pool_infer("max_pool", attributes, in, out);
    if (status < 0) return status;
    if (attributes->kernel[0] * attributes->kernel[1] > 255)
        return ar_error(ADVROB_E_RANGE, "max_pool: kernel %d x %d, expected at most 255 taps",
                        attributes->kernel[0], attributes->kernel[1]);
    return ADVROB_OK;
}

static size_t state_size(const ar_shape *out, int32_t lanes) {
    return (size_t)ar_shape_count(*out) * (size_t)lanes;
}

static void forward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->max_pool(&pool);
}

static void backward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->max_pool_backward(&pool);
}

const ar_op ar_op_max_pool = {
    .name = "max_pool",
    .help = "largest value of a window",
    .options = &ar_op_pool_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .pools = true,
    .infer = infer,
    .prepare = ar_window_pool_lists,
    .state_size = state_size,
    .forward = forward,
    .backward = backward,
};
