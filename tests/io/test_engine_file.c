/* The engine's file: what comes back is the engine, to the bit; and no other bytes are taken for
 * one: every cut, every flipped bit, every changed byte under a checksum that fits. */
#include "support/support.h"

#include <advrob/advrob.h>
#include <stdio.h>
#include <zlib.h>

#include "engine/engine.h"
#include "support/golden.h"

#include "support/images.h"

enum { IMAGES = 9, CLASSES = 10, HEADER = 24 };

static advrob_context *ctx;
static test_allocator allocator;
static char folder[256], path[300];

static int32_t node(advrob_model *model, const char *op, int32_t a, int32_t b,
                    const ar_attributes *attributes) {
    char name[16];
    int32_t inputs[AR_MAX_INPUTS] = {a, b}, at = 0;
    snprintf(name, sizeof name, "n%d", model->node_count);
    test_ok(ar_model_add(model, op, name, inputs, attributes, &at));
    return at;
}

/* The kinds of layers that no zoo net has: layer 1 a mean, 2 a maximum with more padding than half
 * its window, 3 joins them, 4 a sum. */
static advrob_model *joined(void) {
    const ar_attributes conv = {.kernel = {3, 3}, .padding = {1, 1}, .outputs = 5, .bias = true};
    const ar_attributes mean = {.kernel = {3, 4}, .stride = {2, 1}, .padding = {1, 1}};
    const ar_attributes most = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 2}};
    const ar_attributes last = {.outputs = 4};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){1, 6, 5}, &m));
    const int32_t at = node(m, "relu", node(m, "conv2d", 0, 0, &conv), 0, NULL);
    const int32_t a = node(m, "avg_pool", at, 0, &mean), b = node(m, "max_pool", at, 0, &most);
    const int32_t c = node(m, "concat", a, b, NULL);
    node(m, "linear", node(m, "flatten", node(m, "add", c, c, NULL), 0, NULL), 0, &last);
    return m;
}

static advrob_engine *make_engine(const char *net, float *x) {
    advrob_model *model = strcmp(net, "joined") == 0 ? joined() : test_zoo(ctx, net);
    advrob_model *quantized = NULL;
    advrob_compressor *quant = NULL;
    advrob_engine *engine = NULL;
    const double mean = 0.5, std = 0.25;
    test_ok(ar_model_initialise(model, "he", 5));
    test_ok(ar_model_set_normalisation(model, &mean, 1, &std, 1));
    advrob_dataset *data =
        test_dataset(ctx, IMAGES, model->nodes[0].shape, ar_model_classes(model), 0.3, 3);
    if (x != NULL) test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, x, NULL));
    test_ok(advrob_compressor_create(ctx, "quant_ptq", NULL, &quant));
    test_ok(advrob_compressor_run(quant, model, data, &quantized));
    test_ok(advrob_engine_create(quantized, NULL, &engine));
    advrob_compressor_destroy(quant);
    ar_dataset_release(data);
    ar_model_release(quantized);
    ar_model_release(model);
    return engine;
}

static uint8_t *read_all(size_t *size) {
    uint8_t *data = NULL;
    test_ok(ar_file_read(ctx, path, 1 << 28, &data, size));
    return data;
}

static int set_up(void **state) {
    (void)state;
    ctx = test_context_at(&allocator, 1, ar_kernels_get(ar_cpu_detect(), false));
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/engine.advrob", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_context_release(ctx);
    test_folder_remove(folder);
    test_allocator_check(&allocator);
    return 0;
}

static void test_round_trip(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "lenet5", "resnet20", "joined"};
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        float *x = malloc(sizeof(float) * IMAGES * 3 * 32 * 32);
        float before[IMAGES * CLASSES], after[IMAGES * CLASSES];
        size_t size = 0, again = 0;
        advrob_engine *engine = make_engine(nets[n], x), *loaded = NULL;
        const size_t bytes = sizeof(float) * IMAGES * (size_t)engine->classes;
        test_ok(advrob_engine_save(engine, path));
        test_ok(advrob_engine_run(engine, IMAGES, x, before));
        test_ok(advrob_engine_load(ctx, path, &loaded));
        uint8_t *first = read_all(&size);
        test_ok(advrob_engine_save(loaded, path));
        uint8_t *second = read_all(&again);
        assert_int_equal(size, again);
        assert_memory_equal(first, second, size);
        for (int32_t level = 0; level <= ar_cpu_detect(); level++) {
            advrob_engine_destroy(loaded);
            ctx->kernels = ar_kernels_get(level, false);
            test_ok(advrob_engine_load(ctx, path, &loaded));
            test_ok(advrob_engine_run(loaded, IMAGES, x, after));
            assert_memory_equal(before, after, bytes);
        }
        print_message("%s: %d bytes\n", nets[n], (int)size);
        ar_free(&ctx->memory, first);
        ar_free(&ctx->memory, second);
        advrob_engine_destroy(engine);
        advrob_engine_destroy(loaded);
        free(x);
    }
}

/* Parses a copy that lies at the end of its block, so that a byte read behind it is noticed. */
static int32_t parse(const uint8_t *data, size_t size) {
    advrob_engine *engine = NULL;
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, data, size);
    int32_t status = ar_engine_parse(ctx, "bytes", copy, size, &engine);
    assert_true((status >= 0) == (engine != NULL));
    if (status < 0 && strstr(ar_message(), "bytes") == NULL && status == ADVROB_E_FORMAT)
        fail_msg("the file is not named: %s", ar_message());
    advrob_engine_destroy(engine);
    free(copy);
    return status;
}

static void damage(const char *net) {
    size_t size = 0;
    advrob_engine *engine = make_engine(net, NULL);
    test_ok(advrob_engine_save(engine, path));
    advrob_engine_destroy(engine);
    uint8_t *data = read_all(&size);
    test_ok(parse(data, size));
    for (size_t cut = 0; cut < size; cut += cut < 2000 ? 1 : 37)
        assert_int_equal(parse(data, cut), ADVROB_E_FORMAT);
    for (size_t i = 0; i < size; i += i < 2000 ? 1 : 37)
        for (int32_t bit = 0; bit < 8; bit++) {
            data[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(parse(data, size), ADVROB_E_FORMAT);
            data[i] ^= (uint8_t)(1 << bit);
        }
    data[8] = 2;
    assert_int_equal(parse(data, size), ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "version 2"));
    ar_free(&ctx->memory, data);
}

static void test_damaged(void **state) {
    (void)state;
    if (!TEST_SANITIZED) damage("tiny");
    damage("joined");
}

static void fit_checksum(uint8_t *data, size_t size) {
    uint32_t crc = (uint32_t)crc32_z(0, data + HEADER, size - HEADER);
    for (int32_t k = 0; k < 4; k++)
        data[12 + k] = (uint8_t)(crc >> (8 * k));
}

/* Numbers that mean something else, under a checksum that fits: an engine or an error, no more
 * memory than the file's own engine takes many times over. */
static void change(const char *net) {
    static const uint8_t values[] = {0, 1, 4, 127, 128, 255};
    size_t size = 0, taken = 0;
    advrob_engine *engine = make_engine(net, NULL);
    test_ok(advrob_engine_save(engine, path));
    advrob_engine_destroy(engine);
    uint8_t *data = read_all(&size);
    ctx->memory.limit = 64 << 20;
    for (size_t i = HEADER; i < size; i += i < 1200 ? 1 : 29)
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t old = data[i];
            data[i] = values[v];
            fit_checksum(data, size);
            taken += parse(data, size) >= 0;
            data[i] = old;
        }
    ctx->memory.limit = 0;
    print_message("%s: %d changed files are engines too\n", net, (int)taken);
    assert_true(taken > 0); /* another weight is a weight */
    ar_free(&ctx->memory, data);
}

static void test_changed(void **state) {
    (void)state;
    change("tiny_residual");
    change("joined");
}

/* Files whose layers do not fit each other are refused by what does not fit. */
static void test_layers_that_do_not_fit(void **state) {
    (void)state;
    advrob_engine *engine = make_engine("joined", NULL), *loaded = NULL;
    ar_engine_layer *mean = &engine->layers[1], *most = &engine->layers[2];
    ar_engine_layer *joins = &engine->layers[3], *sum = &engine->layers[4];
    assert_int_equal(mean->kind, AR_LAYER_AVG_POOL);
    assert_int_equal(most->kind, AR_LAYER_MAX_POOL);
    assert_int_equal(joins->kind, AR_LAYER_CONCAT);
    assert_int_equal(sum->kind, AR_LAYER_ADD);
    const struct {
        int32_t *number, value;
        const char *says;
    } edits[] = {
        {&mean->kind, AR_LAYER_KINDS, "layer 1: the kind is 6"},
        {&mean->window.dilation[1], 2, "layer 1: a pooling's dilation is 2, expected 1"},
        {&mean->window.padding[0], 3, "layer 1: height has kernel 3"},
        {&mean->high, 256, "layer 1: the lowest code is"},
        {&mean->low, -1, "layer 1: the lowest code is -1"},
        {&joins->residual, -1, "layer 3: the residual is -1, expected a value made before"},
        {&joins->residual, 1, "layer 3: the height of what is joined is 6"},
        {&joins->residual, 4, "layer 3: the residual is 4, expected a value made before"},
        {&joins->out.c, 9, "layer 3: the output's number of values"},
        {&joins->low, 256, "layer 3: the lowest code is 256"},
        {&sum->residual, 2, "layer 4: the residual is 2, expected a value of the output's shape"},
        {&engine->values[3].high, 254, "a value's largest code is 254, expected the input's"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        const int32_t old = *edits[i].number;
        *edits[i].number = edits[i].value;
        test_ok(advrob_engine_save(engine, path));
        *edits[i].number = old;
        if (advrob_engine_load(ctx, path, &loaded) != ADVROB_E_FORMAT ||
            strstr(ar_message(), edits[i].says) == NULL)
            fail_msg("%s; expected \"%s\"", ar_message(), edits[i].says);
        assert_null(loaded);
    }
    advrob_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_layers_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
