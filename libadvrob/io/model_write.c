/* Writing a model file; model_file.h describes it. */
#include <math.h>
#include <string.h>

#include "io.h"
#include "model_file.h"

typedef struct writer {
    const advrob_model *model;
    ar_arena arena;
    ar_buffer graph;
    ar_stored *tensors;
    int32_t count;
} writer;

/* The graph */

/* "name": with a comma before all but the first member. */
static void write_key(ar_buffer *b, const char *key) {
    if (b->length > 0 && b->data[b->length - 1] != '{') ar_buffer_bytes(b, ",", 1);
    ar_buffer_add(b, "\"%s\":", key);
}

static void write_text(ar_buffer *b, const char *key, const char *text) {
    write_key(b, key);
    ar_json_write_string(b, text);
}

static void write_number(ar_buffer *b, const char *key, double value) {
    write_key(b, key);
    ar_json_write_f64(b, value);
}

static void write_reals(ar_buffer *b, const char *key, const ar_real *values, int32_t count) {
    write_key(b, key);
    ar_buffer_bytes(b, "[", 1);
    for (int32_t i = 0; i < count; i++) {
        if (i > 0) ar_buffer_bytes(b, ",", 1);
        ar_json_write_f64(b, (double)values[i]);
    }
    ar_buffer_bytes(b, "]", 1);
}

/* Left out when it is what a reader takes for granted. */
static void write_pair(ar_buffer *b, const char *key, const int32_t pair[2], int32_t usual) {
    if (pair[0] == usual && pair[1] == usual) return;
    write_key(b, key);
    ar_buffer_add(b, "[%d,%d]", pair[0], pair[1]);
}

static void write_quant(ar_buffer *b, const char *key, const ar_quant *record) {
    if (record->bits == 0) return;
    write_key(b, key);
    ar_buffer_add(b, "{\"bits\":%d", record->bits);
    write_number(b, "low", record->low);
    write_number(b, "high", record->high);
    write_number(b, "zero", record->zero);
    ar_buffer_bytes(b, "}", 1);
}

static void write_node(ar_buffer *b, const advrob_model *model, const ar_node *node) {
    const ar_attributes *a = &node->attributes;
    ar_buffer_add(b, "{");
    write_text(b, "name", node->name);
    write_text(b, "op", node->op->name);
    write_key(b, "inputs");
    ar_buffer_bytes(b, "[", 1);
    for (int32_t i = 0; i < ar_node_inputs(node); i++) {
        if (i > 0) ar_buffer_bytes(b, ",", 1);
        ar_json_write_string(b, model->nodes[node->inputs[i]].name);
    }
    ar_buffer_bytes(b, "]", 1);
    write_pair(b, "kernel", a->kernel, 1);
    write_pair(b, "stride", a->stride, 1);
    write_pair(b, "padding", a->padding, 0);
    write_pair(b, "dilation", a->dilation, 1);
    if (a->groups != 1) write_number(b, "groups", a->groups);
    if (a->outputs != 0) write_number(b, "outputs", a->outputs);
    if ((node->op->parameters != NULL && !node->op->whole_batch) || a->bias) {
        write_key(b, "bias");
        ar_buffer_add(b, "%s", a->bias ? "true" : "false");
    }
    if (a->border_bias) {
        write_key(b, "border_bias");
        ar_buffer_add(b, "true");
    }
    if (a->epsilon != 0) write_number(b, "epsilon", a->epsilon);
    if (a->momentum != 0) write_number(b, "momentum", a->momentum);
    if (a->rate != 0) write_number(b, "rate", a->rate);
    if (a->before != 0) write_number(b, "before", a->before);
    if (a->after != 0) write_number(b, "after", a->after);
    write_quant(b, "weights", &node->weights);
    write_quant(b, "output", &node->output);
    ar_buffer_bytes(b, "}", 1);
}

static void write_doubles(ar_buffer *b, const char *key, const double *values, int32_t count) {
    write_key(b, key);
    for (int32_t i = 0; i < count; i++) {
        ar_buffer_bytes(b, i == 0 ? "[" : ",", 1);
        ar_json_write_f64(b, values[i]);
    }
    ar_buffer_bytes(b, "]", 1);
}

/* The box: one for all channels where they have the same. */
static void write_box(ar_buffer *b, const advrob_model *model) {
    int32_t channels = model->nodes[0].shape.c;
    const double all[2] = {model->low[0], model->high[0]};
    if (ar_model_one_box(model)) {
        write_doubles(b, "box", all, 2);
        return;
    }
    write_doubles(b, "low", model->low, channels);
    write_doubles(b, "high", model->high, channels);
    write_doubles(b, "unit", model->unit, channels);
}

static int32_t write_graph(writer *w) {
    const advrob_model *model = w->model;
    ar_buffer *b = &w->graph;
    ar_shape input = model->nodes[0].shape;
    ar_buffer_add(b, "{\"input\":[%d,%d,%d]", input.c, input.h, input.w);
    write_reals(b, "mean", model->mean, input.c);
    write_reals(b, "std", model->std, input.c);
    write_box(b, model);
    if (model->zoo[0] != 0) write_text(b, "zoo", model->zoo);
    if (model->exact) ar_buffer_add(b, ",\"exact\":true");
    write_key(b, "nodes");
    ar_buffer_bytes(b, "[", 1);
    for (int32_t i = 1; i < model->node_count; i++) {
        if (i > 1) ar_buffer_bytes(b, ",", 1);
        write_node(b, model, &model->nodes[i]);
    }
    ar_buffer_bytes(b, "]", 1);
    write_quant(b, "input_quantization", &model->nodes[0].output);
    ar_buffer_bytes(b, "}", 1);
    return ar_buffer_status(b);
}

/* Tensors */

static int32_t add_tensor(writer *w, const char *name, int32_t rank, const int64_t *shape,
                          const ar_real *values, int64_t count) {
    int32_t status = ADVROB_OK;
    void *block;
    ar_stored *tensor = &w->tensors[w->count];
    tensor->name = name;
    tensor->dtype = "F32";
    tensor->rank = rank;
    memcpy(tensor->shape, shape, sizeof(int64_t) * (size_t)rank);
    tensor->count = count;
    tensor->size = sizeof(float) * (size_t)count;
    tensor->data = (const uint8_t *)values;
    if (sizeof(ar_real) != sizeof(float)) {
        AR_TRY(ar_arena_alloc(&w->arena, (size_t)count, sizeof(float), name, &block));
        float *narrow = block;
        for (int64_t i = 0; i < count; i++)
            narrow[i] = (float)values[i];
        tensor->data = block;
    }
    w->count++;
out:
    return status;
}

static int32_t add_scales(writer *w, const ar_node *node, const char *suffix,
                          const ar_quant *record) {
    int32_t status = ADVROB_OK;
    char text[AR_TENSOR_NAME_SIZE];
    const char *name;
    int64_t count = record->count;
    if (record->bits == 0) return ADVROB_OK;
    ar_format(text, sizeof text, "%s%s", node->name, suffix);
    AR_TRY(ar_arena_copy(&w->arena, text, &name));
    AR_TRY(add_tensor(w, name, 1, &count, record->scales, count));
out:
    return status;
}

static int32_t add_tensors(writer *w) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = w->model;
    void *block;
    size_t most = (size_t)model->parameter_count + 2 * (size_t)model->node_count;
    AR_TRY(ar_arena_alloc(&w->arena, most, sizeof(ar_stored), "a table of tensors", &block));
    w->tensors = block;
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        AR_TRY(add_tensor(w, p->name, p->rank, p->shape, model->slab + p->offset, p->count));
    }
    for (int32_t i = 0; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        AR_TRY(add_scales(w, node, AR_OUTPUT_SCALES, &node->output));
        AR_TRY(add_scales(w, node, AR_WEIGHT_SCALES, &node->weights));
    }
out:
    return status;
}

/* What is saved can be loaded: the reader refuses these. */
static int32_t check(const advrob_model *model, const char *path) {
    if (model->node_count < 2)
        return ar_error(ADVROB_E_INVALID, "%.200s: a model without nodes, expected at least one",
                        path);
    int32_t status =
        ar_check_box((size_t)model->nodes[0].shape.c, model->low, model->high, model->unit);
    if (status >= 0) status = ar_model_check_finite(model);
    if (status < 0) return ar_error(status, "%.200s: %s", path, ar_message());
    return ADVROB_OK;
}

int32_t ar_model_file_save(const struct advrob_model *model, const char *path) {
    static const char *const keys[] = {"format", "version", "graph"};
    int32_t status = ADVROB_OK;
    char version[16];
    writer w = {.model = model};
    ar_arena_init(&w.arena, &model->ctx->memory);
    ar_buffer_init(&w.graph, &model->ctx->memory);
    AR_TRY(check(model, path));
    AR_TRY(write_graph(&w));
    AR_TRY(add_tensors(&w));
    ar_format(version, sizeof version, "%d", AR_MODEL_VERSION);
    const char *values[] = {AR_MODEL_FORMAT, version, w.graph.data};
    AR_TRY(ar_safetensors_write(model->ctx, path, w.tensors, w.count, keys, values, 3));
out:
    ar_buffer_free(&w.graph);
    ar_arena_free(&w.arena);
    return status;
}
