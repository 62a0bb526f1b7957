/* Linear layer on a flat value: y = W x + b; a convolution with one tap on one pixel. */
#include "gemm.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    if (in->h != 1 || in->w != 1)
        return ar_error(ADVROB_E_SHAPE, "linear: input %d x %d x %d, expected a flat value", in->c,
                        in->h, in->w);
    for (int32_t axis = 0; axis < 2; axis++)
        if (attributes->kernel[axis] != 1 || attributes->stride[axis] != 1 ||
            attributes->padding[axis] != 0 || attributes->dilation[axis] != 1)
            return ar_error(
                ADVROB_E_RANGE,
                "linear: kernel %d, stride %d, padding %d, dilation %d; expected 1, 1, 0, 1",
                attributes->kernel[axis], attributes->stride[axis], attributes->padding[axis],
                attributes->dilation[axis]);
    if (attributes->groups != 1)
        return ar_error(ADVROB_E_RANGE, "linear: %d groups, expected 1", attributes->groups);
    if (attributes->border_bias)
        return ar_error(ADVROB_E_INVALID, "linear: a border bias, which only conv2d can have");
    if (attributes->outputs < 1 || attributes->outputs > AR_MAX_DIM)
        return ar_error(ADVROB_E_RANGE, "linear: %d outputs, expected 1 to %d", attributes->outputs,
                        AR_MAX_DIM);
    *out = (ar_shape){attributes->outputs, 1, 1};
    return ADVROB_OK;
}

static void parameters(const ar_attributes *attributes, const ar_shape *in,
                       ar_parameter_shape shapes[AR_MAX_PARAMETERS]) {
    shapes[0] = (ar_parameter_shape){2, {attributes->outputs, in->c}, in->c};
    shapes[1] = (ar_parameter_shape){attributes->bias ? 1 : 0, {attributes->outputs}, in->c};
}

static int64_t macs(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out) {
    (void)attributes;
    return (int64_t)in->c * out->c;
}

static int32_t prepare(const ar_op_setup *setup, const void **prepared) {
    return ar_gemm_prepare(setup, true, true, prepared);
}

static void pack(const ar_op_setup *setup, const void *prepared,
                 const ar_real *const parameters[AR_MAX_PARAMETERS], ar_real *forward,
                 ar_real *backward) {
    (void)prepared;
    ar_gemm_pack_forward(setup, parameters[AR_WEIGHT], forward);
    ar_gemm_pack_backward(setup, parameters[AR_WEIGHT], backward);
}

static void absorb(const ar_attributes *attributes, const ar_shape *in, const ar_real *weight,
                   const double *constant, double *bias, double *border) {
    (void)border;
    for (int32_t o = 0; o < attributes->outputs; o++)
        for (int32_t c = 0; c < in->c; c++)
            bias[o] += constant[c] * (double)weight[(int64_t)o * in->c + c];
}

const ar_op ar_op_linear = {
    .name = "linear",
    .help = "linear layer with weight [out, in] and bias",
    .options = &ar_op_linear_options,
    .inputs = 1,
    .prune = AR_PRUNE_PRODUCES,
    .fuses_relu = true,
    .fuses_gate = true,
    .fuses_residual = true,
    .shares = true,
    .absorb = absorb,
    .infer = infer,
    .parameters = parameters,
    .macs = macs,
    .prepare = prepare,
    .pack = pack,
    .forward = ar_gemm_forward,
    .backward = ar_gemm_backward,
    .gradient = ar_gemm_gradient,
    .work = ar_gemm_work,
};
