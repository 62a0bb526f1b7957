/* Two-dimensional convolution (cross-correlation, as PyTorch has it) with stride and zero padding.
 */
#include "border.h"
#include "gemm.h"
#include "window.h"
#include "winograd.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    if (attributes->outputs < 1 || attributes->outputs > AR_MAX_DIM)
        return ar_error(ADVROB_E_RANGE, "conv2d: %d output channels, expected 1 to %d",
                        attributes->outputs, AR_MAX_DIM);
    if (attributes->groups < 1 || in->c % attributes->groups != 0 ||
        attributes->outputs % attributes->groups != 0)
        return ar_error(ADVROB_E_SHAPE,
                        "conv2d: %d input and %d output channels in %d groups, expected multiples "
                        "of the groups",
                        in->c, attributes->outputs, attributes->groups);
    out->c = attributes->outputs;
    int32_t status = ar_window_infer("conv2d", attributes, in, out);
    if (status < 0) return status;
    int64_t fan_in =
        (int64_t)in->c / attributes->groups * attributes->kernel[0] * attributes->kernel[1];
    if (fan_in > AR_MAX_VALUES)
        return ar_error(ADVROB_E_LIMIT, "conv2d: a window of %lld values, expected at most %d",
                        (long long)fan_in, AR_MAX_VALUES);
    return ADVROB_OK;
}

static void parameters(const ar_attributes *attributes, const ar_shape *in,
                       ar_parameter_shape shapes[AR_MAX_PARAMETERS]) {
    int32_t channels = in->c / attributes->groups;
    int32_t fan_in = channels * attributes->kernel[0] * attributes->kernel[1];
    shapes[0] = (ar_parameter_shape){
        4, {attributes->outputs, channels, attributes->kernel[0], attributes->kernel[1]}, fan_in};
    shapes[1] = (ar_parameter_shape){attributes->bias ? 1 : 0, {attributes->outputs}, fan_in};
    if (!attributes->border_bias) return;
    ar_shape out = {attributes->outputs};
    int32_t count[2];
    (void)ar_window_infer("conv2d", attributes, in, &out); /* which has passed before */
    ar_border_count(attributes, in, &out, count);
    shapes[AR_BORDER_BIAS] =
        (ar_parameter_shape){3, {attributes->outputs, count[0], count[1]}, fan_in, true, 0};
}

static int64_t macs(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out) {
    return ar_shape_count(*out) * (in->c / attributes->groups) * attributes->kernel[0] *
           attributes->kernel[1];
}

/* How a layer's passes run, forward and backward: by Winograd with a tile of this size, or, 0, as a
 * gemm. With a border bias its sums with the bias stand behind the packed weights. */
typedef struct conv_plan {
    int32_t tile[2];
    const void *lists;
    ar_border border; /* without one: no classes */
} conv_plan;

static int32_t prepare(const ar_op_setup *setup, const void **prepared) {
    int32_t status = ADVROB_OK;
    void *block;
    AR_TRY(ar_arena_alloc(setup->arena, 1, sizeof(conv_plan), "layer", &block));
    conv_plan *plan = block;
    for (int32_t backward = 0; backward < 2; backward++)
        plan->tile[backward] = ar_winograd_tile(setup, backward);
    AR_TRY(ar_gemm_prepare(setup, plan->tile[0] == 0, plan->tile[1] == 0, &plan->lists));
    if (setup->attributes->border_bias) AR_TRY(ar_border_prepare(setup, &plan->border));
    *prepared = plan;
out:
    return status;
}

/* Values of the packed weights of a direction. */
static int64_t weight_count(const conv_plan *plan, const ar_attributes *a, const ar_shape *in,
                            int32_t backward) {
    int64_t taps = (int64_t)a->kernel[0] * a->kernel[1], points = plan->tile[backward] + 2;
    return (plan->tile[backward] == 0 ? taps : points * points) * in->c / a->groups * a->outputs;
}

static void packed_count(const ar_op_setup *setup, const void *prepared, int64_t count[2]) {
    const conv_plan *plan = prepared;
    for (int32_t i = 0; i < 2; i++)
        count[i] = weight_count(plan, setup->attributes, &setup->in[0], i);
    count[0] += (int64_t)plan->border.classes * setup->out.c;
}

static void pack(const ar_op_setup *setup, const void *prepared,
                 const ar_real *const parameters[AR_MAX_PARAMETERS], ar_real *forward,
                 ar_real *backward) {
    const conv_plan *plan = prepared;
    const ar_real *weight = parameters[AR_WEIGHT];
    if (plan->tile[0] > 0)
        ar_winograd_pack_weight(setup, plan->tile[0], false, weight, forward);
    else
        ar_gemm_pack_forward(setup, weight, forward);
    if (plan->tile[1] > 0)
        ar_winograd_pack_weight(setup, plan->tile[1], true, weight, backward);
    else
        ar_gemm_pack_backward(setup, weight, backward);
    if (plan->border.classes > 0)
        ar_border_pack(&plan->border, setup->out.c, parameters[AR_BIAS], parameters[AR_BORDER_BIAS],
                       forward + weight_count(plan, setup->attributes, &setup->in[0], 0));
}

static size_t scratch_size(const ar_op_setup *setup, const void *prepared, int32_t lanes,
                           bool backward) {
    const conv_plan *plan = prepared;
    int32_t tile = plan->tile[backward];
    return tile == 0 ? 0 : ar_winograd_scratch_size(setup, tile, lanes, backward);
}

/* The call as the gemm's functions want it. */
static ar_op_call as_gemm(const ar_op_call *call) {
    ar_op_call gemm = *call;
    gemm.prepared = ((const conv_plan *)call->prepared)->lists;
    return gemm;
}

static void forward(const ar_op_call *call) {
    const conv_plan *plan = call->prepared;
    ar_op_call own = *call;
    if (plan->border.classes > 0) {
        own.bias = call->weight + weight_count(plan, call->attributes, &call->in[0], 0);
        own.bias_class = plan->border.of;
    }
    if (plan->tile[0] > 0) {
        ar_winograd_forward(&own, plan->tile[0]);
    } else {
        ar_op_call gemm = as_gemm(&own);
        ar_gemm_forward(&gemm);
    }
}

static void backward(const ar_op_call *call) {
    const conv_plan *plan = call->prepared;
    if (plan->tile[1] > 0) {
        ar_winograd_backward(call, plan->tile[1]);
    } else {
        ar_op_call gemm = as_gemm(call);
        ar_gemm_backward(&gemm);
    }
}

static void gradient(const ar_op_gradient *call) {
    const conv_plan *plan = call->prepared;
    ar_op_gradient gemm = *call;
    gemm.prepared = plan->lists;
    ar_gemm_gradient(&gemm);
    if (call->dborder != NULL) ar_border_gradient(&plan->border, call);
}

static int32_t row_step(const ar_op_setup *setup, const void *prepared) {
    const conv_plan *plan = prepared;
    (void)setup;
    return plan->tile[0] == 0 ? 1 : plan->tile[0];
}

/* Winograd's way counts as what it stands for, so that layers can be compared. */
static ar_op_work work(const ar_op_setup *setup, const void *prepared, int32_t pass) {
    const conv_plan *plan = prepared;
    ar_op_work work = ar_gemm_work(setup, plan->lists, pass);
    int32_t tile = pass == AR_PASS_WEIGHT_GRADIENT ? 0 : plan->tile[pass];
    if (tile > 0) work.kernel = tile == 4 ? "winograd 4x4" : "winograd 2x2";
    return work;
}

const ar_op ar_op_conv2d = {
    .name = "conv2d",
    .help = "convolution with weight [out, in / groups, kh, kw] and bias",
    .options = &ar_op_conv_options,
    .inputs = 1,
    .prune = AR_PRUNE_PRODUCES,
    .fuses_relu = true,
    .fuses_gate = true,
    .fuses_residual = true,
    .shares = true,
    .absorb = ar_border_absorb,
    .infer = infer,
    .parameters = parameters,
    .macs = macs,
    .prepare = prepare,
    .packed_count = packed_count,
    .pack = pack,
    .row_step = row_step,
    .scratch_size = scratch_size,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .work = work,
};
