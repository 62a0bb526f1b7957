/* Models. */
#include <math.h>
#include <string.h>

#include "api.h"

/* A model from the zoo, then its weights from a file if the option names one. */
static int32_t build(advrob_context *ctx, const char *name, const advrob_options *options,
                     advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *model = NULL;
    const char *weights = NULL;
    ar_arena arena;
    ar_arena_init(&arena, &ctx->memory);
    AR_TRY(ar_zoo_build(ctx, name, options, &model));
    AR_TRY(ar_zoo_weights(options, &arena, &weights));
    if (weights[0] != 0) AR_TRY(ar_model_weights_load(model, weights));
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    ar_arena_free(&arena);
    return status;
}

int32_t advrob_model_build(advrob_context *ctx, const char *name, const advrob_options *options,
                           advrob_model **out) {
    AR_API_PRESENT(name);
    AR_API_PRESENT(out);
    AR_API(ctx, build(ctx, name, options, out));
}

int32_t advrob_model_begin(advrob_context *ctx, int32_t channels, int32_t height, int32_t width,
                           const advrob_options *options, advrob_model **out) {
    ar_shape shape = {channels, height, width};
    AR_API_PRESENT(out);
    AR_API(ctx, ar_model_begin(ctx, shape, options, out));
}

int32_t advrob_model_add(advrob_model *model, const char *op, const char *name,
                         const char *const *inputs, int32_t count, const advrob_options *options) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(op);
    AR_API_PRESENT(name);
    AR_API_PRESENT(inputs);
    for (int32_t i = 0; i < count; i++)
        AR_API_PRESENT(inputs[i]);
    AR_API(model->ctx, ar_model_add_named(model, op, name, inputs, count, options));
}

static int32_t initialise(advrob_model *model, const char *how, int64_t seed) {
    if (strcmp(how, "he") != 0 && strcmp(how, "pytorch") != 0)
        return ar_error(ADVROB_E_RANGE, "initialisation \"%s\", expected \"he\" or \"pytorch\"",
                        how);
    return ar_model_initialise(model, how, seed >= 0 ? seed : model->ctx->seed);
}

int32_t advrob_model_initialise(advrob_model *model, const char *how, int64_t seed) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(how);
    AR_API(model->ctx, initialise(model, how, seed));
}

static int32_t load(advrob_context *ctx, const char *path, const advrob_options *options,
                    advrob_model **out) {
    int32_t status = ar_options_check(options, "model file", NULL, 0);
    return status < 0 ? status : ar_model_file_load(ctx, path, out);
}

int32_t advrob_model_load(advrob_context *ctx, const char *path, const advrob_options *options,
                          advrob_model **out) {
    AR_API_PRESENT(path);
    AR_API_PRESENT(out);
    AR_API(ctx, load(ctx, path, options, out));
}

int32_t advrob_model_save(const advrob_model *model, const char *path) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(path);
    AR_API(model->ctx, ar_model_file_save(model, path));
}

int32_t advrob_model_load_weights(advrob_model *model, const char *path) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(path);
    AR_API(model->ctx, ar_model_weights_load(model, path));
}

int32_t advrob_model_clone(const advrob_model *model, advrob_model **out) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(out);
    AR_API(model->ctx, ar_model_clone(model, out));
}

void advrob_model_destroy(advrob_model *model) {
    ar_model_release(model);
}

int32_t advrob_model_input_shape(const advrob_model *model, int32_t *shape) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(shape);
    shape[0] = model->nodes[0].shape.c;
    shape[1] = model->nodes[0].shape.h;
    shape[2] = model->nodes[0].shape.w;
    return ADVROB_OK;
}

int32_t advrob_model_box(const advrob_model *model, double *low, double *high, double *unit) {
    AR_API_PRESENT(model);
    const size_t bytes = sizeof(double) * (size_t)model->nodes[0].shape.c;
    if (low != NULL) memcpy(low, model->low, bytes);
    if (high != NULL) memcpy(high, model->high, bytes);
    if (unit != NULL) memcpy(unit, model->unit, bytes);
    return ADVROB_OK;
}

int32_t advrob_model_classes(const advrob_model *model) {
    return model == NULL ? 0 : ar_model_classes(model);
}

int64_t advrob_model_parameter_total(const advrob_model *model) {
    return model == NULL ? 0 : ar_model_trained(model);
}

int64_t advrob_model_macs(const advrob_model *model) {
    return model == NULL ? 0 : ar_model_macs(model);
}

int64_t advrob_model_bytes(const advrob_model *model) {
    return model == NULL ? 0 : model->slab_count * (int64_t)sizeof(ar_real);
}

int32_t advrob_model_parameter_count(const advrob_model *model) {
    return model == NULL ? 0 : model->parameter_count;
}

const char *advrob_model_parameter_name_at(const advrob_model *model, int32_t index) {
    if (model == NULL || index < 0 || index >= model->parameter_count) return NULL;
    return model->parameters[index].name;
}

static int32_t find(const advrob_model *model, const char *name, const ar_parameter **out) {
    int32_t index = ar_model_find_parameter(model, name);
    if (index < 0) return ar_error(ADVROB_E_UNKNOWN, "the model has no parameter \"%s\"", name);
    *out = &model->parameters[index];
    return ADVROB_OK;
}

static int32_t get_parameter(const advrob_model *model, const char *name, advrob_tensor **out) {
    const ar_parameter *parameter = NULL;
    int32_t status = find(model, name, &parameter);
    if (status < 0) return status;
    status = ar_tensor_create(model->ctx, ADVROB_F32, parameter->rank, parameter->shape, out);
    if (status < 0) return status;
    float *values = (*out)->data;
    for (int64_t i = 0; i < parameter->count; i++)
        values[i] = (float)model->slab[parameter->offset + i];
    return ADVROB_OK;
}

int32_t advrob_model_get_parameter(const advrob_model *model, const char *name,
                                   advrob_tensor **out) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(name);
    AR_API_PRESENT(out);
    AR_API(model->ctx, get_parameter(model, name, out));
}

static int32_t set_parameter(advrob_model *model, const char *name, const advrob_tensor *value) {
    int32_t status = ADVROB_OK;
    const ar_parameter *parameter = NULL;
    AR_TRY(ar_model_check_unfrozen(model));
    AR_TRY(find(model, name, &parameter));
    bool fits = value->dtype == ADVROB_F32 && value->rank == parameter->rank;
    for (int32_t i = 0; fits && i < value->rank; i++)
        fits = value->shape[i] == parameter->shape[i];
    if (!fits)
        AR_FAIL(ADVROB_E_SHAPE, "parameter %s: expected a float32 tensor of its own shape", name);
    const float *values = value->data;
    for (int64_t i = 0; i < value->count; i++)
        AR_TRY(ar_parameter_check(parameter, i, (double)values[i]));
    for (int64_t i = 0; i < value->count; i++)
        model->slab[parameter->offset + i] = values[i];
    ar_model_changed(model);
out:
    return status;
}

int32_t advrob_model_set_parameter(advrob_model *model, const char *name,
                                   const advrob_tensor *value) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(name);
    AR_API_PRESENT(value);
    AR_API(model->ctx, set_parameter(model, name, value));
}

int32_t advrob_model_node_count(const advrob_model *model) {
    return model == NULL ? 0 : model->node_count;
}

const char *advrob_model_node_name_at(const advrob_model *model, int32_t index) {
    if (model == NULL || index < 0 || index >= model->node_count) return NULL;
    return model->nodes[index].name;
}

static int32_t check_input(const advrob_model *model, int64_t n, const float *x) {
    int64_t size = ar_shape_count(model->nodes[0].shape);
    if (n < 1) return ar_error(ADVROB_E_RANGE, "%lld images, expected at least 1", (long long)n);
    for (int64_t i = 0; i < n * size; i++)
        if (!isfinite(x[i]))
            return ar_error(ADVROB_E_NONFINITE, "image %lld, pixel %lld is %g",
                            (long long)(i / size), (long long)(i % size), (double)x[i]);
    return ADVROB_OK;
}

/* The compiled form of a model is a cache behind a lock: it is no change of the model. */
static advrob_model *cached(const advrob_model *model) {
    union {
        const advrob_model *in;
        advrob_model *out;
    } same = {model};
    return same.out;
}

static int32_t forward(const advrob_model *model, int64_t n, const float *x, float *logits) {
    int32_t status = ADVROB_OK;
    ar_program *program = NULL;
    AR_TRY(check_input(model, n, x));
    AR_TRY(ar_model_program(cached(model), false, &program));
    AR_TRY(ar_program_forward(program, n, x, logits));
out:
    return status;
}

int32_t advrob_model_forward(const advrob_model *model, int64_t n, const float *x, float *logits) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(x);
    AR_API_PRESENT(logits);
    AR_API(model->ctx, forward(model, n, x, logits));
}

static int32_t node_output(const advrob_model *model, const char *name, int64_t n, const float *x,
                           advrob_tensor **out) {
    int32_t status = ADVROB_OK, node = ar_model_find_node(model, name);
    ar_program *program = NULL;
    advrob_tensor *tensor = NULL;
    if (node < 0) AR_FAIL(ADVROB_E_UNKNOWN, "the model has no node \"%s\"", name);
    AR_TRY(check_input(model, n, x));
    ar_shape shape = model->nodes[node].shape;
    const int64_t extents[4] = {n, shape.c, shape.h, shape.w};
    AR_TRY(ar_tensor_create(model->ctx, ADVROB_F32, 4, extents, &tensor));
    AR_TRY(ar_program_create(cached(model), node, false, &program));
    AR_TRY(ar_program_forward(program, n, x, tensor->data));
    *out = tensor;
    tensor = NULL;
out:
    ar_program_destroy(program);
    ar_tensor_destroy(tensor);
    return status;
}

int32_t advrob_model_node_output(const advrob_model *model, const char *name, int64_t n,
                                 const float *x, advrob_tensor **out) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(name);
    AR_API_PRESENT(x);
    AR_API_PRESENT(out);
    AR_API(model->ctx, node_output(model, name, n, x, out));
}

static int32_t summary(advrob_model *model, const char **text) {
    int32_t status = ar_model_write_summary(model);
    if (status >= 0) *text = model->summary;
    return status;
}

int32_t advrob_model_summary(advrob_model *model, const char **text) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(text);
    AR_API(model->ctx, summary(model, text));
}

int32_t advrob_model_digest(const advrob_model *model, char *buffer, size_t size) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(buffer);
    if (size < 17)
        return ar_error(ADVROB_E_INVALID, "a digest needs 17 bytes, the buffer has %zu", size);
    ar_format(buffer, size, "%016llx", (unsigned long long)ar_model_digest(model));
    return ADVROB_OK;
}

static int32_t latency(const advrob_model *model, int64_t batch, int32_t repeats,
                       double *milliseconds) {
    if (batch < 1 || batch > 65536 || repeats < 1 || repeats > 1000000)
        return ar_error(ADVROB_E_RANGE,
                        "latency: batch %lld, %d repeats; expected 1 to 65536 and 1 to 1000000",
                        (long long)batch, repeats);
    return ar_latency(cached(model), batch, repeats, milliseconds);
}

int32_t advrob_model_latency(const advrob_model *model, int64_t batch, int32_t repeats,
                             double *milliseconds) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(milliseconds);
    AR_API(model->ctx, latency(model, batch, repeats, milliseconds));
}
