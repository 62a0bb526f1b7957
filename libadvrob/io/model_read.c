/* Reading a model file; model_file.h describes it.
 *
 * Nothing that the graph says is believed: a node is added, and its parameters allocated, only
 * after the tensors for them were found in the file with the shapes that the node implies. So a
 * short text cannot ask for more memory than its file brings along. */
#include <math.h>
#include <string.h>

#include "io.h"
#include "model_file.h"

#define QUOTE 96
/* Values in a graph: mean and std of most channels, most nodes with all fields, and room. */
#define MAX_VALUES 300000

typedef struct reader {
    advrob_context *ctx;
    const char *name; /* for messages */
    const ar_safetensors *file;
    bool *used; /* [tensors]: belongs to something */
    ar_arena arena;
    ar_json *graph;
    advrob_model *model;
} reader;

/* Errors */

/* A failure below, told with file and place; what is wrong with a file is E_FORMAT to its reader.
 */
static int32_t within(const reader *r, const char *where, int32_t status) {
    if (status >= 0 || status == ADVROB_E_NOMEM) return status;
    bool kept = status == ADVROB_E_LIMIT || status == ADVROB_E_NONFINITE;
    return ar_error(kept ? status : ADVROB_E_FORMAT, "%.200s: %s: %s", r->name, where,
                    ar_message());
}

static void describe(char *text, size_t size, const ar_json *value) {
    if (value == NULL) {
        ar_copy_text(text, size, "missing");
    } else if (value->kind == AR_JSON_NUMBER && value->integer) {
        ar_format(text, size, "%lld", (long long)value->whole);
    } else if (value->kind == AR_JSON_NUMBER) {
        ar_format(text, size, "%g", value->number);
    } else if (value->kind == AR_JSON_STRING) {
        ar_json_quote(text, size, value->text);
    } else if (value->kind == AR_JSON_ARRAY) {
        ar_format(text, size, "a list of %zu", value->count);
    } else if (value->kind == AR_JSON_OBJECT) {
        ar_copy_text(text, size, "an object");
    } else {
        ar_copy_text(text, size,
                     value->kind == AR_JSON_NULL ? "null"
                     : value->truth              ? "true"
                                                 : "false");
    }
}

static int32_t unexpected(const reader *r, const char *where, const char *key, const ar_json *value,
                          const char *wanted) {
    char got[QUOTE];
    describe(got, sizeof got, value);
    return ar_error(ADVROB_E_FORMAT, "%.200s: %s: \"%s\" is %s, expected %s", r->name, where, key,
                    got, wanted);
}

/* Fields */

static bool is_integer(const ar_json *value, int32_t low, int32_t high) {
    return value != NULL && value->kind == AR_JSON_NUMBER && value->integer &&
           value->whole >= low && value->whole <= high;
}

/* An integer in [low, high]. */
static int32_t get_integer(const reader *r, const char *where, const ar_json *object,
                           const char *key, int32_t low, int32_t high, int32_t *out) {
    const ar_json *value = ar_json_get(object, key);
    char wanted[QUOTE];
    if (is_integer(value, low, high)) {
        *out = (int32_t)value->whole;
        return ADVROB_OK;
    }
    ar_format(wanted, sizeof wanted, "an integer of %d to %d", low, high);
    return unexpected(r, where, key, value, wanted);
}

/* `count` integers of at least `low`. */
static int32_t get_integers(const reader *r, const char *where, const ar_json *object,
                            const char *key, int32_t low, int32_t count, int32_t *out) {
    const ar_json *value = ar_json_get(object, key);
    char wanted[QUOTE], got[QUOTE];
    ar_format(wanted, sizeof wanted, "a list of %d integers of %d to %d", count, low, INT32_MAX);
    if (value == NULL || value->kind != AR_JSON_ARRAY || value->count != (size_t)count)
        return unexpected(r, where, key, value, wanted);
    for (int32_t i = 0; i < count; i++) {
        if (!is_integer(&value->items[i], low, INT32_MAX)) {
            describe(got, sizeof got, &value->items[i]);
            return ar_error(ADVROB_E_FORMAT, "%.200s: %s: \"%s\" has %s, expected %s", r->name,
                            where, key, got, wanted);
        }
        out[i] = (int32_t)value->items[i].whole;
    }
    return ADVROB_OK;
}

static int32_t get_number(const reader *r, const char *where, const ar_json *object,
                          const char *key, double *out) {
    const ar_json *value = ar_json_get(object, key);
    if (value == NULL || value->kind != AR_JSON_NUMBER)
        return unexpected(r, where, key, value, "a number");
    *out = value->number;
    return ADVROB_OK;
}

/* `count` numbers, in the arena. */
static int32_t get_numbers(reader *r, const char *where, const ar_json *object, const char *key,
                           size_t count, double **out) {
    int32_t status = ADVROB_OK;
    const ar_json *value = ar_json_get(object, key);
    char wanted[QUOTE];
    void *block;
    bool good = value != NULL && value->kind == AR_JSON_ARRAY && value->count == count;
    for (size_t i = 0; good && i < count; i++)
        good = value->items[i].kind == AR_JSON_NUMBER;
    if (!good) {
        ar_format(wanted, sizeof wanted, "a list of %zu numbers", count);
        AR_TRY(unexpected(r, where, key, value, wanted));
    }
    AR_TRY(ar_arena_alloc(&r->arena, count, sizeof(double), key, &block));
    *out = block;
    for (size_t i = 0; i < count; i++)
        (*out)[i] = value->items[i].number;
out:
    return status;
}

/* A text that fits into AR_NAME_SIZE bytes. */
static int32_t get_name(const reader *r, const char *where, const ar_json *object, const char *key,
                        const char **out) {
    const ar_json *value = ar_json_get(object, key);
    if (value == NULL || value->kind != AR_JSON_STRING || value->length >= AR_NAME_SIZE)
        return unexpected(r, where, key, value, "a text of at most 63 bytes");
    *out = value->text;
    return ADVROB_OK;
}

/* Tensors */

static int32_t take_tensor(reader *r, const char *where, const char *name, const ar_stored **out) {
    const ar_stored *tensor = ar_safetensors_find(r->file, name);
    char quoted[QUOTE];
    if (tensor == NULL) {
        ar_json_quote(quoted, sizeof quoted, name);
        return ar_error(ADVROB_E_FORMAT, "%.200s: %s: no tensor %s", r->name, where, quoted);
    }
    r->used[tensor - r->file->tensors] = true;
    *out = tensor;
    return ADVROB_OK;
}

/* Takes a node's parameters, of exactly the shapes that the node implies. */
static int32_t take_parameters(reader *r, const char *where, const ar_op *op, const char *name,
                               const ar_attributes *attributes, const ar_shape *in) {
    int32_t status = ADVROB_OK;
    ar_parameter_shape shapes[AR_MAX_PARAMETERS] = {{0}};
    char full[AR_TENSOR_NAME_SIZE];
    const ar_stored *tensor = NULL;
    if (op->parameters == NULL) return ADVROB_OK;
    op->parameters(attributes, in, shapes);
    for (int32_t i = 0; i < AR_MAX_PARAMETERS; i++) {
        if (shapes[i].rank == 0) continue;
        ar_format(full, sizeof full, "%s%s", name, ar_parameter_suffix[i]);
        AR_TRY(take_tensor(r, where, full, &tensor));
        AR_TRY(ar_stored_check(tensor, r->name, ADVROB_E_FORMAT, shapes[i].rank, shapes[i].shape));
    }
out:
    return status;
}

/* Quantization record `key` of a node, if there is one, with 1 or `channels` scales. */
static int32_t read_quant(reader *r, const char *where, const ar_json *object, const char *key,
                          const char *node, const char *suffix, int64_t channels,
                          ar_quant *record) {
    int32_t status = ADVROB_OK, bits = 0;
    const ar_json *value = ar_json_get(object, key);
    double low = 0, high = 0, zero = 0;
    char full[AR_TENSOR_NAME_SIZE];
    const ar_stored *tensor = NULL;
    void *block;
    if (value == NULL) return ADVROB_OK;
    if (value->kind != AR_JSON_OBJECT) AR_TRY(unexpected(r, where, key, value, "an object"));
    if (channels == 0)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: %s: \"%s\" for a node without weights", r->name, where,
                key);
    AR_TRY(get_integer(r, where, value, "bits", 1, 16, &bits));
    AR_TRY(get_number(r, where, value, "low", &low));
    AR_TRY(get_number(r, where, value, "high", &high));
    AR_TRY(get_number(r, where, value, "zero", &zero));
    ar_format(full, sizeof full, "%s%s", node, suffix);
    AR_TRY(take_tensor(r, where, full, &tensor));
    if (tensor->rank != 1 || tensor->count != 1)
        AR_TRY(ar_stored_check(tensor, r->name, ADVROB_E_FORMAT, 1, &channels));
    AR_TRY(ar_arena_alloc(&r->arena, (size_t)tensor->count, sizeof(ar_real), full, &block));
    AR_TRY(ar_stored_copy(tensor, r->name, block));
    AR_TRY(within(
        r, where,
        ar_quant_set(r->model, record, bits, low, high, zero, block, (int32_t)tensor->count)));
out:
    return status;
}

/* Nodes */

/* Inputs by name: earlier nodes, so that the graph has no cycle. */
static int32_t read_inputs(const reader *r, const char *where, const ar_json *node, const ar_op *op,
                           int32_t inputs[AR_MAX_INPUTS], ar_shape in[AR_MAX_INPUTS]) {
    const ar_json *value = ar_json_get(node, "inputs");
    char wanted[QUOTE], got[QUOTE];
    ar_format(wanted, sizeof wanted, "a list of %d names of earlier nodes", op->inputs);
    if (value == NULL || value->kind != AR_JSON_ARRAY || value->count != (size_t)op->inputs)
        return unexpected(r, where, "inputs", value, wanted);
    for (int32_t i = 0; i < op->inputs; i++) {
        const ar_json *item = &value->items[i];
        inputs[i] = item->kind == AR_JSON_STRING ? ar_model_find_node(r->model, item->text) : -1;
        if (inputs[i] < 0) {
            describe(got, sizeof got, item);
            return ar_error(ADVROB_E_FORMAT, "%.200s: %s: \"inputs\" has %s, expected %s", r->name,
                            where, got, wanted);
        }
        in[i] = r->model->nodes[inputs[i]].shape;
    }
    return ADVROB_OK;
}

/* true or false; left out it is false. */
static int32_t get_bool(const reader *r, const char *where, const ar_json *object, const char *key,
                        bool *out) {
    const ar_json *value = ar_json_get(object, key);
    if (value != NULL && value->kind != AR_JSON_BOOL)
        return unexpected(r, where, key, value, "true or false");
    *out = value != NULL && value->truth;
    return ADVROB_OK;
}

static int32_t read_attributes(const reader *r, const char *where, const ar_json *node,
                               ar_attributes *a) {
    int32_t status = ADVROB_OK;
    *a = (ar_attributes){0};
    if (ar_json_get(node, "kernel") != NULL)
        AR_TRY(get_integers(r, where, node, "kernel", 1, 2, a->kernel));
    if (ar_json_get(node, "stride") != NULL)
        AR_TRY(get_integers(r, where, node, "stride", 1, 2, a->stride));
    if (ar_json_get(node, "padding") != NULL)
        AR_TRY(get_integers(r, where, node, "padding", 0, 2, a->padding));
    if (ar_json_get(node, "dilation") != NULL)
        AR_TRY(get_integers(r, where, node, "dilation", 1, 2, a->dilation));
    if (ar_json_get(node, "groups") != NULL)
        AR_TRY(get_integer(r, where, node, "groups", 1, INT32_MAX, &a->groups));
    if (ar_json_get(node, "outputs") != NULL)
        AR_TRY(get_integer(r, where, node, "outputs", 1, INT32_MAX, &a->outputs));
    AR_TRY(get_bool(r, where, node, "bias", &a->bias));
    AR_TRY(get_bool(r, where, node, "border_bias", &a->border_bias));
    if (ar_json_get(node, "epsilon") != NULL)
        AR_TRY(get_number(r, where, node, "epsilon", &a->epsilon));
    if (ar_json_get(node, "momentum") != NULL)
        AR_TRY(get_number(r, where, node, "momentum", &a->momentum));
    if (ar_json_get(node, "rate") != NULL) AR_TRY(get_number(r, where, node, "rate", &a->rate));
    if (ar_json_get(node, "before") != NULL)
        AR_TRY(get_integer(r, where, node, "before", 0, INT32_MAX, &a->before));
    if (ar_json_get(node, "after") != NULL)
        AR_TRY(get_integer(r, where, node, "after", 0, INT32_MAX, &a->after));
    ar_op_attributes_fill(a);
out:
    return status;
}

static int32_t read_node(reader *r, size_t index, const ar_json *value) {
    int32_t status = ADVROB_OK, inputs[AR_MAX_INPUTS] = {0}, at = 0;
    char where[QUOTE + 8], quoted[QUOTE];
    const char *name = "", *op_name = "";
    ar_attributes attributes = {0};
    ar_shape in[AR_MAX_INPUTS] = {{0}}, shape = {0};
    ar_format(where, sizeof where, "node %zu", index);
    if (value->kind != AR_JSON_OBJECT) AR_TRY(unexpected(r, "graph", where, value, "an object"));
    AR_TRY(get_name(r, where, value, "name", &name));
    ar_json_quote(quoted, sizeof quoted, name);
    ar_format(where, sizeof where, "node %s", quoted);
    AR_TRY(get_name(r, where, value, "op", &op_name));
    const ar_op *op = ar_op_find(op_name);
    if (op == NULL) {
        ar_json_quote(quoted, sizeof quoted, op_name);
        AR_FAIL(ADVROB_E_UNSUPPORTED, "%.200s: %s: no operator %s in this version", r->name, where,
                quoted);
    }
    AR_TRY(read_inputs(r, where, value, op, inputs, in));
    AR_TRY(read_attributes(r, where, value, &attributes));
    AR_TRY(within(r, where, op->infer(&attributes, in, &shape)));
    AR_TRY(take_parameters(r, where, op, name, &attributes, in));
    AR_TRY(within(r, where, ar_model_add(r->model, op->name, name, inputs, &attributes, &at)));
    ar_node *node = &r->model->nodes[at];
    int64_t channels = node->weight < 0 ? 0 : r->model->parameters[node->weight].shape[0];
    AR_TRY(
        read_quant(r, where, value, "weights", name, AR_WEIGHT_SCALES, channels, &node->weights));
    AR_TRY(read_quant(r, where, value, "output", name, AR_OUTPUT_SCALES, 1, &node->output));
out:
    return status;
}

/* Makes the model's blocks as large as the file lets them become, so that adding nodes one by one
 * copies nothing. */
static int32_t reserve(reader *r, size_t nodes) {
    int32_t status = ADVROB_OK;
    advrob_model *model = r->model;
    ar_memory *memory = &r->ctx->memory;
    size_t reals = 0;
    for (int32_t i = 0; i < r->file->count; i++)
        reals += r->file->tensors[i].size / sizeof(float);
    AR_TRY(ar_regrow(memory, (void **)&model->nodes, nodes + 1, sizeof(ar_node), "nodes"));
    AR_TRY(ar_regrow(memory, (void **)&model->parameters, (size_t)r->file->count,
                     sizeof(ar_parameter), "parameters"));
    AR_TRY(ar_regrow(memory, (void **)&model->slab, reals, sizeof(ar_real), "parameters"));
out:
    return status;
}

static int32_t read_nodes(reader *r) {
    int32_t status = ADVROB_OK;
    const ar_json *nodes = ar_json_get(r->graph, "nodes");
    if (nodes == NULL || nodes->kind != AR_JSON_ARRAY || nodes->count == 0)
        AR_TRY(unexpected(r, "graph", "nodes", nodes, "a list of at least one node"));
    if (nodes->count >= AR_MAX_NODES)
        AR_FAIL(ADVROB_E_LIMIT, "%.200s: graph: %zu nodes, expected at most %d", r->name,
                nodes->count, AR_MAX_NODES - 1);
    AR_TRY(reserve(r, nodes->count));
    for (size_t i = 0; i < nodes->count; i++)
        AR_TRY(read_node(r, i + 1, &nodes->items[i]));
    AR_TRY(read_quant(r, "graph", r->graph, "input_quantization", r->model->nodes[0].name,
                      AR_OUTPUT_SCALES, 1, &r->model->nodes[0].output));
out:
    return status;
}

/* The whole file */

/* Metadata: what file this is, and its graph as a tree. */
static int32_t read_metadata(reader *r) {
    int32_t status = ADVROB_OK;
    const char *format = ar_safetensors_metadata(r->file, "format");
    const char *version = ar_safetensors_metadata(r->file, "version");
    const char *graph = ar_safetensors_metadata(r->file, "graph");
    char quoted[QUOTE];
    int64_t number;
    if (format == NULL || strcmp(format, AR_MODEL_FORMAT) != 0 || version == NULL || graph == NULL)
        AR_FAIL(ADVROB_E_FORMAT,
                "%.200s: not a model file: its metadata lacks format \"" AR_MODEL_FORMAT
                "\", a version or a graph (bare weights are loaded into a model that stands)",
                r->name);
    ar_json_quote(quoted, sizeof quoted, version);
    if (!ar_parse_i64(version, strlen(version), &number) || number < 1)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: version %s, expected \"%d\"", r->name, quoted,
                AR_MODEL_VERSION);
    if (number > AR_MODEL_VERSION)
        AR_FAIL(ADVROB_E_UNSUPPORTED, "%.200s: version %s, this library reads up to \"%d\"",
                r->name, quoted, AR_MODEL_VERSION);
    status = ar_json_parse("graph", graph, strlen(graph), MAX_VALUES, &r->arena, &r->graph);
    if (status == ADVROB_E_FORMAT) AR_FAIL(status, "%.200s: %s", r->name, ar_message());
    AR_TRY(status);
    if (r->graph->kind != AR_JSON_OBJECT)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: graph: not an object, expected one", r->name);
out:
    return status;
}

/* "box" for all channels, or "low", "high" and "unit" by channel. */
static int32_t read_box(reader *r, size_t channels) {
    static const char *const keys[3] = {"low", "high", "unit"};
    int32_t status = ADVROB_OK;
    double *values[3], one = 1;
    ar_f64_array arrays[3];
    if (ar_json_get(r->graph, "low") == NULL) {
        AR_TRY(get_numbers(r, "graph", r->graph, "box", 2, &values[0]));
        for (int32_t i = 0; i < 3; i++)
            arrays[i] = (ar_f64_array){i < 2 ? &values[0][i] : &one, 1};
    } else {
        for (int32_t i = 0; i < 3; i++) {
            AR_TRY(get_numbers(r, "graph", r->graph, keys[i], channels, &values[i]));
            arrays[i] = (ar_f64_array){values[i], channels};
        }
    }
    AR_TRY(within(r, "graph", ar_model_set_box(r->model, &arrays[0], &arrays[1], &arrays[2])));
out:
    return status;
}

/* Creates the model with all but its nodes. */
static int32_t read_frame(reader *r) {
    int32_t status = ADVROB_OK, input[3] = {0};
    double *mean = NULL, *std = NULL;
    const char *zoo = "";
    AR_TRY(get_integers(r, "graph", r->graph, "input", 1, 3, input));
    ar_shape shape = {input[0], input[1], input[2]};
    size_t channels = (size_t)shape.c;
    /* Before the model: that the text lists them vouches for the number of channels. */
    AR_TRY(get_numbers(r, "graph", r->graph, "mean", channels, &mean));
    AR_TRY(get_numbers(r, "graph", r->graph, "std", channels, &std));
    AR_TRY(within(r, "graph", ar_model_create(r->ctx, shape, &r->model)));
    AR_TRY(within(r, "graph", ar_model_set_normalisation(r->model, mean, channels, std, channels)));
    AR_TRY(read_box(r, channels));
    if (ar_json_get(r->graph, "zoo") != NULL) AR_TRY(get_name(r, "graph", r->graph, "zoo", &zoo));
    ar_copy_text(r->model->zoo, sizeof r->model->zoo, zoo);
    AR_TRY(get_bool(r, "graph", r->graph, "exact", &r->model->exact));
out:
    return status;
}

static int32_t read_values(reader *r) {
    int32_t status = ADVROB_OK;
    char quoted[QUOTE];
    for (int32_t i = 0; i < r->file->count; i++) {
        if (r->used[i]) continue;
        ar_json_quote(quoted, sizeof quoted, r->file->tensors[i].name);
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: tensor %s belongs to no node of the graph", r->name,
                quoted);
    }
    for (int32_t i = 0; i < r->model->parameter_count; i++) {
        const ar_parameter *p = &r->model->parameters[i];
        AR_TRY(ar_stored_copy(ar_safetensors_find(r->file, p->name), r->name,
                              r->model->slab + p->offset));
    }
    AR_TRY(within(r, "values", ar_model_check_finite(r->model)));
out:
    return status;
}

static int32_t build(advrob_context *ctx, const char *name, const ar_safetensors *file,
                     advrob_model **out) {
    int32_t status = ADVROB_OK;
    void *block;
    reader r = {.ctx = ctx, .name = name, .file = file};
    ar_arena_init(&r.arena, &ctx->memory);
    AR_TRY(read_metadata(&r));
    AR_TRY(
        ar_arena_alloc(&r.arena, (size_t)file->count, sizeof(bool), "a table of tensors", &block));
    r.used = block;
    AR_TRY(read_frame(&r));
    AR_TRY(read_nodes(&r));
    AR_TRY(read_values(&r));
    *out = r.model;
    r.model = NULL;
out:
    ar_model_release(r.model);
    ar_arena_free(&r.arena);
    return status;
}

/* A size that does not fit is a fault of the file. */
static int32_t as_format(int32_t status) {
    return status == ADVROB_E_OVERFLOW ? ADVROB_E_FORMAT : status;
}

int32_t ar_model_file_load(advrob_context *ctx, const char *path, struct advrob_model **out) {
    int32_t status = ADVROB_OK;
    ar_safetensors file;
    AR_TRY(as_format(ar_safetensors_read(ctx, path, &file)));
    status = build(ctx, path, &file, out);
    ar_safetensors_free(ctx, &file);
out:
    return status;
}

int32_t ar_model_file_parse(advrob_context *ctx, const char *name, const uint8_t *data, size_t size,
                            struct advrob_model **out) {
    int32_t status = ADVROB_OK;
    ar_safetensors file;
    AR_TRY(as_format(ar_safetensors_parse(ctx, name, data, size, &file)));
    status = build(ctx, name, &file, out);
    ar_safetensors_free(ctx, &file);
out:
    return status;
}
