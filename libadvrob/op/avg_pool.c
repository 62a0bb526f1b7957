/* Average pooling; padding counts in the divisor, as PyTorch's default has it. */
#include "window.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    return ar_window_pool_infer("avg_pool", attributes, in, out);
}

const ar_op ar_op_avg_pool = {
    .name = "avg_pool",
    .help = "mean of a window",
    .options = &ar_op_pool_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .pools = true,
    .infer = infer,
    .prepare = ar_window_pool_lists,
    .forward = ar_window_avg_forward,
    .backward = ar_window_avg_backward,
};
