/* Batch norm (Ioffe and Szegedy 2015, arXiv 1502.03167) with PyTorch's parameters. A tile only
 * shifts and scales; the statistics of a batch are found at the cut (model/tiles.c). */
#include <math.h>

#include "norm.h"

static int32_t infer(const ar_attributes *attributes, const ar_shape *in, ar_shape *out) {
    if (!(attributes->epsilon > 0 && attributes->epsilon <= 1))
        return ar_error(ADVROB_E_RANGE, "batch_norm: epsilon %g, expected more than 0, at most 1",
                        attributes->epsilon);
    if (!(attributes->momentum >= 0 && attributes->momentum <= 1))
        return ar_error(ADVROB_E_RANGE, "batch_norm: momentum %g, expected 0 to 1",
                        attributes->momentum);
    *out = *in;
    return ADVROB_OK;
}

static void parameters(const ar_attributes *attributes, const ar_shape *in,
                       ar_parameter_shape shapes[AR_MAX_PARAMETERS]) {
    (void)attributes;
    for (int32_t i = 0; i <= AR_RUNNING_VAR; i++) {
        bool one = i == AR_WEIGHT || i == AR_RUNNING_VAR;
        shapes[i] = (ar_parameter_shape){1, {in->c}, 1, true, one ? 1 : 0};
    }
}

void ar_norm_statistics(double count, double sum, double squares, ar_channel *channel) {
    channel->mean = sum / count;
    channel->variance = fmax(squares / count - channel->mean * channel->mean, 0);
}

void ar_norm_gradient(const ar_attributes *attributes, double sum, double products,
                      ar_channel *channel) {
    channel->dbias = sum;
    channel->dweight =
        (products - channel->mean * sum) / sqrt(channel->variance + attributes->epsilon);
}

double ar_norm_scale(const ar_attributes *attributes, ar_real weight, double variance) {
    return (double)weight / sqrt(variance + attributes->epsilon);
}

void ar_norm_backward_terms(const ar_attributes *attributes, double count,
                            const ar_channel *channel, ar_real *dy_mean, ar_real *slope) {
    *dy_mean = (ar_real)(channel->dbias / count);
    *slope = (ar_real)(channel->dweight / count / sqrt(channel->variance + attributes->epsilon));
}

void ar_norm_fold_rows(const ar_attributes *attributes,
                       const ar_real *const values[AR_MAX_PARAMETERS], int64_t channels,
                       int64_t per, const ar_real *rows, ar_real *new_rows) {
    for (int64_t c = 0; c < channels; c++) {
        double scale =
            ar_norm_scale(attributes, values[AR_WEIGHT][c], (double)values[AR_RUNNING_VAR][c]);
        for (int64_t k = c * per; k < (c + 1) * per; k++)
            new_rows[k] = (ar_real)((double)rows[k] * scale);
    }
}

void ar_norm_fold(const ar_attributes *attributes, const ar_real *const values[AR_MAX_PARAMETERS],
                  int64_t channels, int64_t per, const ar_real *weight, const ar_real *bias,
                  ar_real *new_weight, ar_real *new_bias) {
    ar_norm_fold_rows(attributes, values, channels, per, weight, new_weight);
    for (int64_t c = 0; c < channels; c++) {
        double scale =
            ar_norm_scale(attributes, values[AR_WEIGHT][c], (double)values[AR_RUNNING_VAR][c]);
        double shifted = (bias == NULL ? 0 : (double)bias[c]) - (double)values[AR_RUNNING_MEAN][c];
        new_bias[c] = (ar_real)(shifted * scale + (double)values[AR_BIAS][c]);
    }
}

void ar_norm_move(const ar_attributes *attributes, double count, const ar_channel *channel,
                  ar_real *mean, ar_real *variance) {
    double share = attributes->momentum, unbiased = channel->variance * count / (count - 1);
    *mean = (ar_real)((1 - share) * (double)*mean + share * channel->mean);
    *variance = (ar_real)((1 - share) * (double)*variance + share * unbiased);
}

/* Frozen statistics: the scale. Mean and shift are used as they are. */
static void pack(const ar_op_setup *setup, const void *prepared,
                 const ar_real *const values[AR_MAX_PARAMETERS], ar_real *forward,
                 ar_real *backward) {
    (void)prepared;
    for (int32_t c = 0; c < setup->in[0].c; c++)
        forward[c] = backward[c] = (ar_real)ar_norm_scale(setup->attributes, values[AR_WEIGHT][c],
                                                          (double)values[AR_RUNNING_VAR][c]);
}

static ar_norm_call make_call(const ar_op_call *call) {
    return (ar_norm_call){.lanes = call->lanes,
                          .channels = call->out.c,
                          .pixels = ar_shape_pixels(call->out),
                          .mean = call->norm->mean,
                          .scale = call->norm->scale,
                          .shift = call->norm->shift,
                          .dy_mean = call->norm->dy_mean,
                          .slope = call->norm->slope,
                          .x = call->x[0]};
}

static void forward(const ar_op_call *call) {
    ar_norm_call norm = make_call(call);
    norm.y = call->y;
    norm.relu = call->relu;
    norm.mask = call->state;
    call->kernels->norm(&norm);
}

/* A lane without an image must hand on no gradient: weight gradients are sums over all lanes. */
static void clear_empty_lanes(const ar_op_call *call) {
    int64_t values = ar_shape_count(call->in[0]);
    for (int64_t i = 0; i < values; i++)
        for (int32_t l = call->count; l < call->lanes; l++)
            call->dx[0][i * call->lanes + l] = 0;
}

static void backward(const ar_op_call *call) {
    ar_norm_call norm = make_call(call);
    norm.dy = call->dy;
    norm.dx = call->dx[0];
    norm.accumulate = call->accumulate[0];
    call->kernels->norm_backward(&norm);
    if (norm.dy_mean != NULL && call->count < call->lanes) clear_empty_lanes(call);
}

const ar_op ar_op_batch_norm = {
    .name = "batch_norm",
    .help = "normalisation by channel, by running or by the batch's statistics",
    .options = &ar_op_norm_options,
    .inputs = 1,
    .prune = AR_PRUNE_KEEPS,
    .fuses_relu = true,
    .whole_batch = true,
    .infer = infer,
    .parameters = parameters,
    .pack = pack,
    .forward = forward,
    .backward = backward,
};
