/* The zoo's registry, its options, and the helpers that its nets are written with. */
#include "zoo.h"

#include <string.h>

#define AR_ZOO(name) &ar_zoo_##name,
static const ar_zoo_net *const nets[] = {
#include "zoo.inc"
};
#undef AR_ZOO

typedef struct zoo_options {
    int64_t classes, seed;
    const char *init, *weights;
} zoo_options;

static const ar_option entries[] = {
    AR_I64(zoo_options, classes, 0, 0, 65536, "number of classes; 0: the net's own"),
    AR_I64(zoo_options, seed, -1, -1, 9e15, "seed of the initial weights; -1: the context's"),
    AR_STR(zoo_options, init, "he", "he|pytorch", "distribution of the initial weights"),
    AR_STR(zoo_options, weights, "", NULL, "safetensors file with the weights"),
};
const ar_option_table ar_zoo_options = AR_TABLE(zoo_options, entries);

int32_t ar_zoo_count(void) {
    return (int32_t)(sizeof nets / sizeof nets[0]);
}

const ar_zoo_net *ar_zoo_at(int32_t index) {
    return index >= 0 && index < ar_zoo_count() ? nets[index] : NULL;
}

static const char *name_at(int32_t index) {
    return nets[index]->name;
}

static int32_t find(const char *name, const ar_zoo_net **out) {
    int32_t index;
    int32_t status = ar_find_name("model", name, ar_zoo_count(), name_at, &index);
    if (status >= 0) *out = nets[index];
    return status;
}

int32_t ar_zoo_build(advrob_context *ctx, const char *name, const advrob_options *options,
                     advrob_model **out) {
    int32_t status = ADVROB_OK;
    const ar_zoo_net *net = NULL;
    advrob_model *model = NULL;
    zoo_options o;
    ar_arena arena;
    char who[AR_NAME_SIZE + 8];
    const ar_option_scope scopes[] = {{"", &ar_frame_table}, {"", &ar_zoo_options}};
    ar_arena_init(&arena, &ctx->memory);
    AR_TRY(find(name, &net));
    ar_format(who, sizeof who, "model %s", net->name);
    AR_TRY(ar_options_check(options, who, scopes, 2));
    AR_TRY(ar_options_read(options, who, "", &ar_zoo_options, &arena, &o));
    AR_TRY(ar_model_create(ctx, net->input, &model));
    ar_copy_text(model->zoo, sizeof model->zoo, net->name);
    AR_TRY(net->build(model, o.classes > 0 ? (int32_t)o.classes : net->classes));
    AR_TRY(ar_model_read_frame(model, who, options, &arena));
    AR_TRY(ar_model_initialise(model, o.init, o.seed >= 0 ? o.seed : ctx->seed));
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    ar_arena_free(&arena);
    return status;
}

int32_t ar_zoo_weights(const advrob_options *options, ar_arena *arena, const char **path) {
    zoo_options o;
    int32_t status = ar_options_read(options, "model", "", &ar_zoo_options, arena, &o);
    if (status >= 0) *path = o.weights;
    return status;
}

static int32_t add_conv(advrob_model *model, const char *name, int32_t outputs, int32_t kernel,
                        int32_t stride, int32_t padding, bool bias, int32_t *at) {
    ar_attributes a = {.kernel = {kernel, kernel},
                       .stride = {stride, stride},
                       .padding = {padding, padding},
                       .outputs = outputs,
                       .bias = bias};
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, "conv2d", name, inputs, &a, at);
}

int32_t ar_zoo_conv(advrob_model *model, const char *name, int32_t outputs, int32_t kernel,
                    int32_t stride, int32_t padding, int32_t *at) {
    return add_conv(model, name, outputs, kernel, stride, padding, true, at);
}

int32_t ar_zoo_plain_conv(advrob_model *model, const char *name, int32_t outputs, int32_t kernel,
                          int32_t stride, int32_t padding, int32_t *at) {
    return add_conv(model, name, outputs, kernel, stride, padding, false, at);
}

int32_t ar_zoo_batch_norm(advrob_model *model, const char *name, int32_t *at) {
    ar_attributes a = {.epsilon = 1e-5, .momentum = 0.1};
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, "batch_norm", name, inputs, &a, at);
}

int32_t ar_zoo_dropout(advrob_model *model, const char *name, double rate, int32_t *at) {
    ar_attributes a = {.rate = rate};
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, "dropout", name, inputs, &a, at);
}

int32_t ar_zoo_linear(advrob_model *model, const char *name, int32_t outputs, int32_t *at) {
    ar_attributes a = {.outputs = outputs, .bias = true};
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, "linear", name, inputs, &a, at);
}

int32_t ar_zoo_max_pool(advrob_model *model, const char *name, int32_t size, int32_t *at) {
    ar_attributes a = {.kernel = {size, size}, .stride = {size, size}};
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, "max_pool", name, inputs, &a, at);
}

int32_t ar_zoo_relu(advrob_model *model, const char *name, int32_t *at) {
    return ar_zoo_plain(model, "relu", name, at);
}

int32_t ar_zoo_plain(advrob_model *model, const char *op, const char *name, int32_t *at) {
    int32_t inputs[AR_MAX_INPUTS] = {*at};
    return ar_model_add(model, op, name, inputs, NULL, at);
}

int32_t ar_zoo_add(advrob_model *model, const char *name, int32_t other, int32_t *at) {
    int32_t inputs[AR_MAX_INPUTS] = {*at, other};
    return ar_model_add(model, "add", name, inputs, NULL, at);
}

const char *ar_zoo_join(char name[AR_NAME_SIZE], const char *block, const char *part) {
    ar_format(name, AR_NAME_SIZE, "%s.%s", block, part);
    return name;
}
