/* What the tests of the model file share: a context with its folder, nets with odd numbers, and
 * files made by hand from a graph's text and a list of tensors. */
#ifndef MODEL_SUPPORT_H
#define MODEL_SUPPORT_H

#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/safetensors.h"
#include "model/model.h"

#define MIB ((uint64_t)1 << 20)

static test_allocator allocator;
static test_guard guard;
static advrob_context *ctx;
static char folder[256], path[512];

static inline int set_up(void **state) {
    (void)state;
    memset(&allocator, 0, sizeof allocator);
    guard = test_guard_begin();
    ctx = test_context_with(&allocator, 1);
    ctx->memory.limit = 256 * MIB;
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
    test_guard_check(&guard);
    return 0;
}

/* Fails the test with the message unless `status` is OK. */
static inline void good(int32_t status) {
    if (status != ADVROB_OK) fail_msg("%s: %s", ar_status_name(status), ar_message());
}

/* The last message is one line that begins with the file's name. */
static inline void check_message(const char *file) {
    const char *message = ar_message();
    if (strncmp(message, file, strlen(file)) != 0 || strchr(message, '\n') != NULL)
        fail_msg("message \"%s\", expected one line that begins with %s", message, file);
}

/* ---- Models ---- */

static inline void set_record(advrob_model *m, ar_quant *record, int32_t bits, int32_t count) {
    ar_real scales[64];
    assert_true(count <= 64);
    for (int32_t i = 0; i < count; i++)
        scales[i] = (ar_real)(1.0 / (3 + i));
    good(ar_quant_set(m, record, bits, bits == 1 ? -1 : -127, bits == 1 ? 1 : 128,
                      bits == 1 ? 0 : 3, scales, count));
}

/* A net of the zoo with numbers that are no short decimals, and with records where asked for. */
static inline advrob_model *zoo_model(const char *name, bool quantized) {
    advrob_model *m = NULL;
    good(ar_zoo_build(ctx, name, NULL, &m));
    for (int32_t c = 0; c < m->nodes[0].shape.c; c++) {
        m->mean[c] = (ar_real)(0.1307 + c / 7.0);
        m->std[c] = (ar_real)(1 / (3.0 + c));
    }
    m->low[0] = -1 / 3.0;
    m->high[0] = 1.1;
    if (!quantized) return m;
    set_record(m, &m->nodes[0].output, 8, 1);
    for (int32_t i = 1; i < m->node_count; i++) {
        ar_node *node = &m->nodes[i];
        if (i % 2 == 0) set_record(m, &node->output, 5, 1);
        if (node->weight < 0) continue;
        int64_t outputs = m->parameters[node->weight].shape[0];
        set_record(m, &node->weights, i % 3 == 0 ? 1 : 16,
                   i % 2 == 0 || outputs > 64 ? 1 : (int32_t)outputs);
    }
    return m;
}

static inline void same_record(const ar_quant *a, const ar_quant *b) {
    assert_int_equal(a->bits, b->bits);
    if (a->bits == 0) return;
    assert_true(a->low == b->low && a->high == b->high && a->zero == b->zero);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->scales, b->scales, sizeof(ar_real) * (size_t)a->count);
}

static inline void same_model(const advrob_model *a, const advrob_model *b) {
    size_t channels = (size_t)a->nodes[0].shape.c;
    assert_true(ar_model_digest(a) == ar_model_digest(b));
    assert_string_equal(a->zoo, b->zoo);
    assert_memory_equal(a->low, b->low, 3 * sizeof(double) * channels); /* and high, and unit */
    assert_memory_equal(a->mean, b->mean, sizeof(ar_real) * channels);
    assert_memory_equal(a->std, b->std, sizeof(ar_real) * channels);
    assert_int_equal(a->node_count, b->node_count);
    for (int32_t i = 0; i < a->node_count; i++) {
        const ar_attributes *x = &a->nodes[i].attributes, *y = &b->nodes[i].attributes;
        assert_string_equal(a->nodes[i].name, b->nodes[i].name);
        assert_true(a->nodes[i].op == b->nodes[i].op);
        if (i > 0) {
            assert_memory_equal(x->kernel, y->kernel, sizeof x->kernel);
            assert_memory_equal(x->stride, y->stride, sizeof x->stride);
            assert_memory_equal(x->padding, y->padding, sizeof x->padding);
            assert_memory_equal(x->dilation, y->dilation, sizeof x->dilation);
            assert_int_equal(x->groups, y->groups);
            assert_int_equal(x->outputs, y->outputs);
            assert_true(x->bias == y->bias && x->border_bias == y->border_bias);
        }
        same_record(&a->nodes[i].output, &b->nodes[i].output);
        same_record(&a->nodes[i].weights, &b->nodes[i].weights);
    }
    assert_int_equal(a->parameter_count, b->parameter_count);
    assert_int_equal(a->slab_count, b->slab_count);
}

static inline uint8_t *read_bytes(const char *file, size_t *size) {
    uint8_t *data;
    good(ar_file_read(ctx, file, 256 * MIB, &data, size));
    return data;
}

/* Parses a copy of exactly the given size, so that a sanitizer sees a read past it. */
static inline int32_t parse(const uint8_t *data, size_t size, advrob_model **out) {
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size > 0) memcpy(copy, data, size);
    *out = NULL;
    int32_t status = ar_model_file_parse(ctx, "t", copy, size, out);
    free(copy); /* the model must not point into it */
    assert_true((status == ADVROB_OK) == (*out != NULL));
    return status;
}

/* ---- Files made by hand ---- */

typedef struct part {
    const char *name, *dtype, *shape;
    size_t bytes;
    float fill;
} part;

#define MOST_PARTS 12

/* In a graph, ' stands for ". */
typedef struct sketch {
    const char *format, *version, *graph; /* NULL: left out */
    part parts[MOST_PARTS];
    int32_t count;
} sketch;

static const char graph_text[] =
    "{'input':[1,2,2],'mean':[0.5],'std':[0.25],'box':[0,1],'zoo':'z','nodes':["
    "{'name':'c','op':'conv2d','inputs':['input'],'kernel':[1,1],'stride':[1,1],"
    "'padding':[0,0],'outputs':2,'bias':true,"
    "'output':{'bits':8,'low':-128,'high':127,'zero':5}},"
    "{'name':'f','op':'flatten','inputs':['c']},"
    "{'name':'l','op':'linear','inputs':['f'],'outputs':3,'bias':true,"
    "'weights':{'bits':4,'low':-7,'high':7,'zero':0}}],"
    "'input_quantization':{'bits':8,'low':0,'high':255,'zero':3}}";

static const sketch whole = {"advrob",
                             "1",
                             graph_text,
                             {{"c.weight", "F32", "[2,1,1,1]", 8, 0.5f},
                              {"c.bias", "F32", "[2]", 8, 0.25f},
                              {"l.weight", "F32", "[3,8]", 96, -1},
                              {"l.bias", "F32", "[3]", 12, 2},
                              {"c.output_scales", "F32", "[1]", 4, 0.125f},
                              {"l.weight_scales", "F32", "[3]", 12, 0.5f},
                              {"input.output_scales", "F32", "[1]", 4, 1}},
                             7};

static inline uint8_t *draw(const sketch *s, size_t *size) {
    const char *keys[] = {"format", "version", "graph"};
    char *graph = s->graph != NULL ? strdup(s->graph) : NULL;
    const char *values[] = {s->format, s->version, graph};
    for (char *c = graph; c != NULL && (c = strchr(c, '\'')) != NULL;)
        *c = '"';
    ar_buffer b;
    size_t end = 0;
    bool first = true;
    ar_buffer_init(&b, &ctx->memory);
    ar_buffer_add(&b, "{\"__metadata__\":{");
    for (int32_t i = 0; i < 3; i++) {
        if (values[i] == NULL) continue;
        ar_buffer_add(&b, "%s\"%s\":", first ? "" : ",", keys[i]);
        ar_json_write_string(&b, values[i]);
        first = false;
    }
    ar_buffer_add(&b, "}");
    for (int32_t i = 0; i < s->count; i++) {
        const part *p = &s->parts[i];
        ar_buffer_add(&b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                      p->name, p->dtype, p->shape, end, end + p->bytes);
        end += p->bytes;
    }
    ar_buffer_add(&b, "}");
    good(ar_buffer_status(&b));
    *size = 8 + b.length + end;
    uint8_t *data = malloc(*size), *at = data + 8 + b.length;
    assert_non_null(data);
    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t)(b.length >> 8 * i);
    memcpy(data + 8, b.data, b.length);
    for (int32_t i = 0; i < s->count; i++)
        for (size_t k = 0; k < s->parts[i].bytes; k += 4, at += 4)
            memcpy(at, &s->parts[i].fill, 4);
    ar_buffer_free(&b);
    free(graph);
    return data;
}

#endif
