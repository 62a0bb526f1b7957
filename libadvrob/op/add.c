/* Sum of two values of one shape: the join of a residual block. */
#include "op.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    (void)attributes;
    if (!ar_shape_equal(in[0], in[1]))
        return ar_error(ADVROB_E_SHAPE,
                        "add: shapes %d x %d x %d and %d x %d x %d, expected equal ones", in[0].c,
                        in[0].h, in[0].w, in[1].c, in[1].h, in[1].w);
    *out = in[0];
    return ADVROB_OK;
}

static void forward(const ar_op_call *call) {
    call->kernels->add(ar_shape_count(call->out) * call->lanes, call->x[0], call->x[1], call->y);
}

static void backward(const ar_op_call *call) {
    int64_t n = ar_shape_count(call->out) * call->lanes;
    for (int32_t i = 0; i < 2; i++)
        if (call->dx[i] != NULL)
            ar_op_hand_on(call->kernels, n, call->dy, call->dx[i], call->accumulate[i]);
}

const ar_op ar_op_add = {
    .name = "add",
    .help = "sum of two values",
    .options = &ar_op_no_options,
    .inputs = 2,
    .prune = AR_PRUNE_TIES,
    .infer = infer,
    .forward = forward,
    .backward = backward,
};
