/* Building a net by options: its frame, and nodes that name their inputs. */
#include <math.h>
#include <string.h>

#include "model.h"

typedef struct frame_options {
    ar_f64_array mean, std, low, high, epsilon_unit;
} frame_options;

static const ar_option entries[] = {
    AR_F64_ARRAY(frame_options, mean, -1e6, 1e6, "mean of the pixels, one value or one a channel"),
    AR_F64_ARRAY(frame_options, std, 1e-9, 1e6, "deviation of the pixels, likewise"),
    AR_F64_ARRAY(frame_options, low, -1e6, 0, "lowest valid value, likewise; 0"),
    AR_F64_ARRAY(frame_options, high, 1e-6, 1e6, "highest valid value, likewise; 1"),
    AR_F64_ARRAY(frame_options, epsilon_unit, 1e-9, 1e6,
                 "what 1 of an attack's epsilon is in such values, likewise; 1"),
};
const ar_option_table ar_frame_table = AR_TABLE(frame_options, entries);

/* The values of the channels from an option with one for each, or for all; none: they stay. */
static int32_t fill(const char *what, const ar_f64_array *values, size_t channels, double *out) {
    if (values->count > 1 && values->count != channels)
        return ar_error(ADVROB_E_RANGE,
                        "%s: %zu values, expected 1 or one for each of %zu channels", what,
                        values->count, channels);
    for (size_t c = 0; c < channels && values->count > 0; c++)
        out[c] = values->values[values->count == 1 ? 0 : c];
    return ADVROB_OK;
}

int32_t ar_model_set_box(advrob_model *model, const ar_f64_array *low, const ar_f64_array *high,
                         const ar_f64_array *unit) {
    int32_t status = ADVROB_OK;
    size_t channels = (size_t)model->nodes[0].shape.c;
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, 3 * channels, sizeof(double), "box", &block));
    double *box = block;
    memcpy(box, model->low, 3 * channels * sizeof(double));
    AR_TRY(fill("low", low, channels, box));
    AR_TRY(fill("high", high, channels, box + channels));
    AR_TRY(fill("unit", unit, channels, box + 2 * channels));
    AR_TRY(ar_check_box(channels, box, box + channels, box + 2 * channels));
    memcpy(model->low, box, 3 * channels * sizeof(double));
    model->version++;
out:
    ar_free(&model->ctx->memory, block);
    return status;
}

int32_t ar_model_read_frame(advrob_model *model, const char *who, const advrob_options *options,
                            ar_arena *arena) {
    int32_t status = ADVROB_OK;
    frame_options o;
    AR_TRY(ar_options_read(options, who, "", &ar_frame_table, arena, &o));
    AR_TRY(
        ar_model_set_normalisation(model, o.mean.values, o.mean.count, o.std.values, o.std.count));
    AR_TRY(ar_model_set_box(model, &o.low, &o.high, &o.epsilon_unit));
out:
    return status;
}

int32_t ar_model_begin(advrob_context *ctx, ar_shape input, const advrob_options *options,
                       advrob_model **out) {
    static const char who[] = "model";
    int32_t status = ADVROB_OK;
    advrob_model *model = NULL;
    ar_arena arena;
    ar_option_scope scope = {"", &ar_frame_table};
    ar_arena_init(&arena, &ctx->memory);
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_model_create(ctx, input, &model));
    AR_TRY(ar_model_read_frame(model, who, options, &arena));
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    ar_arena_free(&arena);
    return status;
}

static int32_t find_input(const advrob_model *model, const char *name, const char *input,
                          int32_t *out) {
    const char *names[AR_MAX_NODES];
    *out = ar_model_find_node(model, input);
    if (*out >= 0) return ADVROB_OK;
    for (int32_t i = 0; i < model->node_count; i++)
        names[i] = model->nodes[i].name;
    const char *near = ar_nearest(input, names, model->node_count);
    if (near == NULL)
        return ar_error(ADVROB_E_UNKNOWN, "node %s: the model has no node \"%s\"", name, input);
    return ar_error(ADVROB_E_UNKNOWN, "node %s: the model has no node \"%s\"; did you mean \"%s\"?",
                    name, input, near);
}

static const char *op_name_at(int32_t index) {
    return ar_op_at(index)->name;
}

int32_t ar_model_add_named(advrob_model *model, const char *op_name, const char *name,
                           const char *const *inputs, int32_t count,
                           const advrob_options *options) {
    int32_t status = ADVROB_OK, numbers[AR_MAX_INPUTS] = {0}, index = 0;
    char who[AR_NAME_SIZE + 8];
    ar_attributes attributes;
    ar_arena arena;
    ar_arena_init(&arena, &model->ctx->memory);
    AR_TRY(ar_model_check_unfrozen(model));
    AR_TRY(ar_find_name("operator", op_name, ar_op_count(), op_name_at, &index));
    const ar_op *op = ar_op_at(index);
    if (count != op->inputs)
        AR_FAIL(ADVROB_E_INVALID, "node %s: %d inputs, expected %d as %s takes", name, count,
                op->inputs, op->name);
    for (int32_t i = 0; i < count; i++)
        AR_TRY(find_input(model, name, inputs[i], &numbers[i]));
    ar_format(who, sizeof who, "node %s", name);
    AR_TRY(ar_op_read_options(op, who, options, &arena, &attributes));
    AR_TRY(ar_model_add(model, op->name, name, numbers, &attributes, NULL));
out:
    ar_arena_free(&arena);
    return status;
}
