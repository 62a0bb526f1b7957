/* Average pooling; padding counts in the divisor, as PyTorch's default has it. */
#include "window.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    out->c = in->c;
    return ar_window_infer("avg_pool", attributes, in, out);
}

static void forward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->avg_pool(&pool);
}

static void backward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->avg_pool_backward(&pool);
}

const ar_op ar_op_avg_pool = {
    .name = "avg_pool",
    .help = "mean of a window",
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .infer = infer,
    .prepare = ar_window_pool_lists,
    .forward = forward,
    .backward = backward,
};
