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

static advrob_engine *make_engine(const char *net, float *x) {
    advrob_model *model = test_zoo(ctx, net), *quantized = NULL;
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
    static const char *const nets[] = {"tiny", "tiny_residual", "lenet5", "resnet20"};
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

static void test_damaged(void **state) {
    (void)state;
    size_t size = 0;
    advrob_engine *engine = make_engine("tiny", NULL);
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

static void fit_checksum(uint8_t *data, size_t size) {
    uint32_t crc = (uint32_t)crc32_z(0, data + HEADER, size - HEADER);
    for (int32_t k = 0; k < 4; k++)
        data[12 + k] = (uint8_t)(crc >> (8 * k));
}

/* Numbers that mean something else, under a checksum that fits: an engine or an error, no more
 * memory than the file's own engine takes many times over. */
static void test_changed(void **state) {
    (void)state;
    static const uint8_t values[] = {0, 1, 4, 127, 128, 255};
    size_t size = 0, taken = 0;
    advrob_engine *engine = make_engine("tiny_residual", NULL);
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
    print_message("%d changed files are engines too\n", (int)taken);
    assert_true(taken > 0); /* another weight is a weight */
    ar_free(&ctx->memory, data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_changed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
