/* Random graphs in integers: convolutions, sums, concatenations, poolings of both kinds, zero
 * channels and values that are used again, against the simulation that they were lowered from; the
 * same bits at every level and from the file. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "support/generator.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/integers.h"
#include "support/options.h"

enum { GRAPHS = TEST_SANITIZED ? 12 : 80, IMAGES = 24, CLASSES = 6 };

static struct { int32_t means, joins, sums, alike, logits; } seen;

static int32_t add_conv(generator *g, int32_t from, int32_t outputs) {
    const int32_t kernel = 1 + 2 * below(g, 2);
    const ar_attributes conv = {.kernel = {kernel, kernel},
                                .padding = {kernel / 2, kernel / 2},
                                .outputs = outputs,
                                .bias = below(g, 2) != 0};
    const int32_t at = add(g, "conv2d", from, 0, &conv);
    return below(g, 2) ? add(g, "relu", at, 0, NULL) : at;
}

/* Windows of any size that fit, padded by less than they are high. */
static int32_t add_pool(generator *g, int32_t from) {
    const ar_shape in = shape_of(g, from);
    ar_attributes pool = {0};
    for (int32_t axis = 0; axis < 2; axis++) {
        const int32_t extent = axis == 0 ? in.h : in.w;
        pool.kernel[axis] = 1 + below(g, extent < 4 ? extent : 4);
        pool.padding[axis] = below(g, pool.kernel[axis]);
        pool.stride[axis] = extent > 3 ? 1 + below(g, 2) : 1;
    }
    const bool mean = below(g, 3) > 0;
    seen.means += mean;
    return add(g, mean ? "avg_pool" : "max_pool", from, 0, &pool);
}

/* Whether a ReLU reads a value: nothing else may, since it becomes a floor of the layer before. */
static bool is_cut(const generator *g, int32_t value) {
    for (int32_t i = value + 1; i < g->model->node_count; i++)
        if (g->model->nodes[i].op == ar_op_find("relu") && g->model->nodes[i].inputs[0] == value)
            return true;
    return false;
}

/* An earlier value of this height and width, and with `channels` of as many of those; -1: none. */
static int32_t match(generator *g, int32_t from, bool channels) {
    const ar_shape want = shape_of(g, from);
    for (int32_t attempt = 0; attempt < 10; attempt++) {
        const int32_t other = below(g, g->model->node_count);
        const ar_shape s = shape_of(g, other);
        if (s.h == want.h && s.w == want.w && (!channels || s.c == want.c) && !is_cut(g, other))
            return other;
    }
    return -1;
}

static int32_t add_any(generator *g, int32_t from) {
    int32_t other;
    switch (below(g, 8)) {
    case 0:
    case 1:
        return add_pool(g, from);
    case 2:
    case 3:
        other = match(g, from, false);
        if (other < 0 || shape_of(g, other).c + shape_of(g, from).c > 40) break;
        seen.joins++;
        other = add(g, "concat", from, other, NULL);
        return below(g, 3) == 0 ? add(g, "relu", other, 0, NULL) : other;
    case 4:
        other = match(g, from, true);
        if (other < 0) break;
        seen.sums++;
        return add(g, "add", from, other, NULL);
    case 5: {
        const ar_attributes pad = {.before = below(g, 3), .after = 1 + below(g, 3)};
        return add(g, "pad_channels", from, 0, &pad);
    }
    default:
        break;
    }
    return add_conv(g, from, 2 + below(g, 9));
}

static advrob_model *draw(advrob_context *ctx, int32_t number) {
    generator g = {0};
    ar_rng_init(&g.rng, 77, AR_RNG_TEST, number, 0, 0);
    const ar_shape input = {1 + below(&g, 5), 5 + below(&g, 6), 5 + below(&g, 6)};
    const ar_attributes last = {.outputs = CLASSES, .bias = true};
    test_ok(ar_model_create(ctx, input, &g.model));
    int32_t at = below(&g, 4) == 0 ? 0 : add_conv(&g, 0, 3 + below(&g, 6));
    for (int32_t i = 2 + below(&g, 8); i > 0; i--)
        at = add_any(&g, at);
    const bool mean = below(&g, 3) == 0;
    at = add(&g, mean ? "global_avg_pool" : "flatten", at, 0, NULL);
    add(&g, "linear", at, 0, &last);
    test_ok(ar_model_initialise(g.model, "he", number + 1));
    return g.model;
}

/* Logits of the file's engine at every level are the engine's own. */
static void check_file(advrob_context *ctx, const advrob_engine *engine, const char *path,
                       const float *x, const float *wanted) {
    float logits[IMAGES * CLASSES];
    test_ok(advrob_engine_save(engine, path));
    for (int32_t level = 0; level <= ar_cpu_detect(); level++) {
        advrob_engine *loaded = NULL;
        ctx->kernels = ar_kernels_get(level, false);
        test_ok(advrob_engine_load(ctx, path, &loaded));
        test_ok(advrob_engine_run(loaded, IMAGES, x, logits));
        assert_memory_equal(logits, wanted, sizeof logits);
        advrob_engine_destroy(loaded);
    }
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
}

static void check_graph(advrob_context *ctx, int32_t number, const char *path) {
    advrob_options *options = test_options(number % 2 ? "activation_bits=7" : "");
    advrob_model *model = draw(ctx, number), *quantized = NULL;
    advrob_compressor *quant = NULL;
    advrob_engine *engine = NULL;
    advrob_target *simulated = NULL;
    float a[IMAGES * CLASSES], b[IMAGES * CLASSES];
    double off = 0, largest = 0, sum = 0;
    const ar_shape input = model->nodes[0].shape;
    advrob_dataset *data = test_dataset(ctx, IMAGES, input, CLASSES, 0.3, 3);
    float *x = malloc(sizeof(float) * IMAGES * (size_t)ar_shape_count(input));
    test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, x, NULL));
    test_ok(advrob_compressor_create(ctx, "quant_ptq", options, &quant));
    test_ok(advrob_compressor_run(quant, model, data, &quantized));
    test_ok(advrob_engine_create(quantized, NULL, &engine));
    test_ok(ar_target_from_model(quantized, &simulated));
    test_ok(ar_target_forward(simulated, IMAGES, x, a));
    test_ok(advrob_engine_run(engine, IMAGES, x, b));
    for (int32_t i = 0; i < IMAGES * CLASSES; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        largest = fmax(largest, fabs((double)a[i]));
        off = fmax(off, d);
        sum += d;
        seen.alike += d <= 1e-5 * fabs((double)a[i]) + 1e-6;
        seen.logits++;
    }
    if (!(off <= 0.03 * largest && sum / (IMAGES * CLASSES) <= 0.01 * largest))
        fail_msg("graph %d: off by %g of %g, on average %g", number, off, largest,
                 sum / (IMAGES * CLASSES));
    check_file(ctx, engine, path, x, b);
    ar_target_release(simulated);
    quantized->exact = true; /* the same graph in the engine's integers */
    ar_model_restructured(quantized);
    test_ok(ar_target_from_model(quantized, &simulated));
    test_ok(ar_target_forward(simulated, IMAGES, x, a));
    assert_memory_equal(a, b, sizeof a);
    free(x);
    ar_target_release(simulated);
    advrob_engine_destroy(engine);
    advrob_compressor_destroy(quant);
    ar_options_destroy(options);
    ar_dataset_release(data);
    ar_model_release(quantized);
    ar_model_release(model);
}

static void test_graphs(void **state) {
    (void)state;
    static test_allocator allocator;
    char folder[256], path[300];
    advrob_context *ctx = test_context_with_integers(&allocator, 2, ar_cpu_detect());
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/engine.advrob", folder);
    for (int32_t i = 0; i < GRAPHS; i++)
        check_graph(ctx, i, path);
    print_message("%d means, %d concatenations, %d sums; %d of %d logits alike\n", seen.means,
                  seen.joins, seen.sums, seen.alike, seen.logits);
    assert_true(seen.means >= GRAPHS / 2 && seen.joins >= GRAPHS / 2 && seen.sums > 0);
    assert_true(seen.alike >= seen.logits * 3 / 4);
    ar_context_release(ctx);
    test_folder_remove(folder);
    test_allocator_check(&allocator);
}

/* Without a quantization point of its own, a concatenation passes codes of one scale on. */
static void test_equal_scales(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    for (int32_t number = 0; number < 2; number++) {
        advrob_model *quantized = NULL;
        advrob_compressor *quant = NULL;
        advrob_engine *engine = NULL;
        advrob_target *simulated = NULL;
        generator g = {0};
        const ar_attributes pool = {.kernel = {2, 2}, .stride = {1, 1}, .padding = {1, 1}};
        const ar_attributes last = {.outputs = CLASSES}, crop = {.kernel = {2, 2}};
        float x[IMAGES * 50], a[IMAGES * CLASSES], b[IMAGES * CLASSES];
        ar_rng_init(&g.rng, 5, AR_RNG_TEST, number, 0, 0);
        test_ok(ar_model_create(ctx, (ar_shape){2, 5, 5}, &g.model));
        int32_t at = add_conv(&g, 0, 3);
        int32_t most = add(&g, "max_pool", add(&g, "max_pool", at, 0, &pool), 0, &crop);
        at = number == 0 ? at : add_conv(&g, at, 3);
        at = add(&g, "flatten", add(&g, "concat", most, at, NULL), 0, NULL);
        add(&g, "linear", at, 0, &last);
        test_ok(ar_model_initialise(g.model, "he", 9));
        advrob_dataset *data = test_dataset(ctx, IMAGES, (ar_shape){2, 5, 5}, CLASSES, 0.3, 3);
        test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, x, NULL));
        test_ok(advrob_compressor_create(ctx, "quant_ptq", NULL, &quant));
        test_ok(advrob_compressor_run(quant, g.model, data, &quantized));
        for (int32_t i = 1; i < quantized->node_count; i++)
            if (quantized->nodes[i].op == ar_op_find("concat")) quantized->nodes[i].output.bits = 0;
        ar_model_restructured(quantized);
        if (number == 0) {
            test_ok(advrob_engine_create(quantized, NULL, &engine));
            test_ok(ar_target_from_model(quantized, &simulated));
            test_ok(ar_target_forward(simulated, IMAGES, x, a));
            test_ok(advrob_engine_run(engine, IMAGES, x, b));
            for (int32_t i = 0; i < IMAGES * CLASSES; i++)
                assert_true(fabs((double)a[i] - (double)b[i]) <= 0.02);
        } else {
            assert_int_equal(advrob_engine_create(quantized, NULL, &engine), ADVROB_E_UNSUPPORTED);
            assert_non_null(strstr(ar_message(), "joins codes of two scales"));
        }
        ar_target_release(simulated);
        advrob_engine_destroy(engine);
        advrob_compressor_destroy(quant);
        ar_dataset_release(data);
        ar_model_release(quantized);
        ar_model_release(g.model);
    }
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_equal_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
