/* Two-dimensional convolution (cross-correlation, as PyTorch has it) with stride and zero padding.
 */
#include "gemm.h"
#include "window.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    if (attributes->outputs < 1 || attributes->outputs > AR_MAX_DIM)
        return ar_error(ADVROB_E_RANGE, "conv2d: %d output channels, expected 1 to %d",
                        attributes->outputs, AR_MAX_DIM);
    out->c = attributes->outputs;
    int32_t status = ar_window_infer("conv2d", attributes, in, out);
    if (status < 0) return status;
    int64_t fan_in = (int64_t)in->c * attributes->kernel[0] * attributes->kernel[1];
    if (fan_in > AR_MAX_VALUES)
        return ar_error(ADVROB_E_LIMIT, "conv2d: a window of %lld values, expected at most %d",
                        (long long)fan_in, AR_MAX_VALUES);
    return ADVROB_OK;
}

static void parameters(const ar_attributes *attributes, const ar_shape *in,
                       ar_parameter_shape shapes[AR_MAX_PARAMETERS]) {
    int32_t fan_in = in->c * attributes->kernel[0] * attributes->kernel[1];
    shapes[0] = (ar_parameter_shape){
        4, {attributes->outputs, in->c, attributes->kernel[0], attributes->kernel[1]}, fan_in};
    shapes[1] = (ar_parameter_shape){attributes->bias ? 1 : 0, {attributes->outputs}, fan_in};
}

static int64_t macs(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out) {
    return ar_shape_count(*out) * in->c * attributes->kernel[0] * attributes->kernel[1];
}

const ar_op ar_op_conv2d = {
    .name = "conv2d",
    .help = "convolution with weight [out, in, kh, kw] and bias",
    .inputs = 1,
    .prune = AR_PRUNE_PRODUCES,
    .fuses_relu = true,
    .fuses_gate = true,
    .infer = infer,
    .parameters = parameters,
    .macs = macs,
    .prepare = ar_gemm_prepare,
    .pack = ar_gemm_pack,
    .forward = ar_gemm_forward,
    .backward = ar_gemm_backward,
    .gradient = ar_gemm_gradient,
};
