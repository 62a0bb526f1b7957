/* ReLU on its own; after a convolution or linear layer the planner fuses it away. */
#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    (void)attributes;
    *out = *in;
    return ADVROB_OK;
}

static size_t state_size(const ar_shape *out, int32_t lanes) {
    return (size_t)ar_shape_count(*out) * (size_t)lanes / 8;
}

static void forward(const ar_op_call *call) {
    call->kernels->relu(ar_shape_count(call->out) * call->lanes, call->x[0], call->y, call->state);
}

static void backward(const ar_op_call *call) {
    call->kernels->gate(ar_shape_count(call->out) * call->lanes, call->dy, call->state, call->dx[0],
                        call->accumulate[0]);
}

const ar_op ar_op_relu = {
    .name = "relu",
    .help = "max(x, 0)",
    .options = &ar_op_no_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .infer = infer,
    .state_size = state_size,
    .forward = forward,
    .backward = backward,
};
