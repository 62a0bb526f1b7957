/* Exact simulation: the model's answers are its engine's to the bit - for any batch and CPU level,
 * after training, copying and a file - and so are attacks on it; what is refused. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "model/program.h"
#include "support/engine_scene.h"

/* ---- the same bits ---- */

static void expect_engine(advrob_model *model, const float *x, int64_t n) {
    const size_t bytes = sizeof(float) * (size_t)(n * ar_model_classes(model));
    float *a = malloc(bytes), *b = malloc(bytes);
    advrob_engine *engine = NULL;
    test_ok(advrob_engine_create(model, NULL, &engine));
    test_ok(advrob_engine_run(engine, n, x, a));
    test_ok(advrob_model_forward(model, n, x, b));
    assert_memory_equal(a, b, bytes);
    advrob_engine_destroy(engine);
    free(a);
    free(b);
}

static void test_bits(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "conv_small", "lenet5",
                                       "mlp",  "vgg_small",     "resnet20"};
    static const char *const words[] = {"simulate=exact", "simulate=exact activation_bits=7"};
    static test_allocator allocator;
    for (int32_t level = AR_CPU_PORTABLE; level <= ar_cpu_detect(); level++)
        for (size_t n = 0; n < (TEST_SANITIZED ? 2 : sizeof nets / sizeof nets[0]); n++)
            for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
                if (level == AR_CPU_PORTABLE && n > 3) continue; /* slow */
                scene s;
                advrob_context *ctx = open_context(&allocator, 2, level);
                open_scene(&s, ctx, nets[n], words[w]);
                expect_engine(s.quantized, s.x, IMAGES);
                expect_engine(s.quantized, s.x, 1);
                expect_engine(s.quantized, s.x + s.size, 7);
                close_scene(&s);
                ar_context_release(ctx);
            }
    test_allocator_check(&allocator);
}

/* Any node's output, where it ends a group, is a code times its scale; and that of the simulation
 * in floats but for sums at the edge of a code. */
static void test_nodes(void **state) {
    (void)state;
    scene s, simulated;
    advrob_context *ctx = open_context(NULL, 1, ar_cpu_detect());
    open_scene(&s, ctx, "tiny_residual", "simulate=exact");
    open_scene(&simulated, ctx, "tiny_residual", "");
    int32_t points = 0;
    for (int32_t i = 0; i < s.quantized->node_count; i++) {
        const ar_node *node = &s.quantized->nodes[i];
        advrob_tensor *a = NULL, *b = NULL;
        int64_t off = 0, count = IMAGES * ar_shape_count(node->shape);
        if (node->output.bits == 0) continue;
        test_ok(advrob_model_node_output(s.quantized, node->name, IMAGES, s.x, &a));
        test_ok(advrob_model_node_output(simulated.quantized, node->name, IMAGES, s.x, &b));
        const float *exact = a->data, *floats = b->data;
        for (int64_t k = 0; k < count; k++) {
            const double code = (double)exact[k] / (double)node->output.scales[0];
            assert_true(fabs(code - rint(code)) < 1e-4);
            off += exact[k] != floats[k];
        }
        print_message("%s: %d of %d codes differ\n", node->name, (int)off, (int)count);
        assert_true(off <= count / 50);
        points++;
        ar_tensor_destroy(a);
        ar_tensor_destroy(b);
    }
    assert_true(points >= 4);
    close_scene(&s);
    close_scene(&simulated);
    ar_context_release(ctx);
}

/* ---- training, files ---- */

static void test_training(void **state) {
    (void)state;
    scene s;
    advrob_finetune *method = NULL;
    advrob_history *history = NULL;
    advrob_model *loaded = NULL;
    advrob_context *ctx = open_context(NULL, 2, ar_cpu_detect());
    open_scene(&s, ctx, "tiny_residual", "simulate=exact");
    const uint64_t before = ar_model_digest(s.quantized);
    char folder[64], path[96];
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/net.safetensors", folder);
    advrob_options *options =
        test_options("epochs=2 batch_size=16 lr=0.01 attack.epsilon=0.05 attack.steps=2");
    advrob_dataset *data = test_dataset(ctx, IMAGES, s.quantized->nodes[0].shape,
                                        ar_model_classes(s.quantized), 0.3, 3);
    test_ok(advrob_finetune_create(ctx, "pgd_at", options, &method));
    test_ok(advrob_finetune_run(method, s.quantized, data, NULL, &history));
    assert_true(ar_model_digest(s.quantized) != before);
    expect_engine(s.quantized, s.x, IMAGES);
    test_ok(advrob_model_save(s.quantized, path));
    test_ok(advrob_model_load(ctx, path, NULL, &loaded));
    assert_true(loaded->exact && ar_model_digest(loaded) == ar_model_digest(s.quantized));
    expect_engine(loaded, s.x, IMAGES);
    advrob_model_destroy(loaded);
    advrob_history_destroy(history);
    advrob_finetune_destroy(method);
    advrob_dataset_destroy(data);
    ar_options_destroy(options);
    test_folder_remove(folder);
    close_scene(&s);
    ar_context_release(ctx);
}

/* ---- attacks ---- */

/* The engine with this model's gradients answers as the model alone does: every step is the same.
 */
static void test_attacks(void **state) {
    (void)state;
    scene s;
    advrob_context *ctx = open_context(NULL, 2, ar_cpu_detect());
    open_scene(&s, ctx, "tiny_residual", "simulate=exact activation_bits=7");
    const size_t bytes = sizeof(float) * (size_t)(IMAGES * s.size);
    float *moved[2] = {malloc(bytes), malloc(bytes)};
    advrob_target *targets[2];
    advrob_attack *pgd = NULL;
    advrob_options *options = test_options("epsilon=0.1 step=0.02 steps=8 restarts=2");
    test_ok(advrob_attack_create(ctx, "pgd", options, &pgd));
    test_ok(advrob_target_from_model(s.quantized, &targets[0]));
    test_ok(advrob_target_from_engine(s.engine, s.quantized, &targets[1]));
    for (int32_t i = 0; i < 2; i++) {
        test_ok(advrob_attack_run(pgd, targets[i], IMAGES, s.x, s.y, moved[i], NULL, NULL));
        advrob_target_destroy(targets[i]);
        assert_true(memcmp(moved[i], s.x, bytes) != 0);
    }
    assert_memory_equal(moved[0], moved[1], bytes);
    advrob_attack_destroy(pgd);
    ar_options_destroy(options);
    free(moved[0]);
    free(moved[1]);
    close_scene(&s);
    ar_context_release(ctx);
}

/* ---- what is refused ---- */

static void refused(advrob_context *ctx, const char *net, const char *words, const char *says) {
    advrob_model *model = test_zoo(ctx, net), *quantized = NULL;
    advrob_options *options = test_options(words);
    advrob_compressor *quant = NULL;
    advrob_dataset *data =
        test_dataset(ctx, IMAGES, model->nodes[0].shape, ar_model_classes(model), 0.3, 3);
    test_ok(advrob_compressor_create(ctx, "quant_ptq", options, &quant));
    const int32_t status = advrob_compressor_run(quant, model, data, &quantized);
    if (status != ADVROB_E_UNSUPPORTED || strstr(ar_message(), says) == NULL)
        fail_msg("%s %s: %d, %s; expected \"%s\"", net, words, status, ar_message(), says);
    assert_null(quantized);
    advrob_compressor_destroy(quant);
    ar_dataset_release(data);
    ar_options_destroy(options);
    ar_model_release(model);
}

static void test_refused(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1, ar_cpu_detect());
    refused(ctx, "tiny", "simulate=exact weight_bits=16", "has weights of no 2 to 8 bits");
    refused(ctx, "tiny", "simulate=exact activation_bits=16", "has codes that are no bytes");
    refused(ctx, "tiny", "simulate=exact input=0", "node input");
    ctx->integers = NULL;
    refused(ctx, "tiny", "simulate=exact", "no integer engine");
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A net with dropout answers, but is not trained. */
static void test_dropout(void **state) {
    (void)state;
    scene s;
    ar_tiles *tiles = NULL;
    ar_program *program = NULL;
    advrob_context *ctx = open_context(NULL, 1, ar_cpu_detect());
    open_scene(&s, ctx, "tiny_residual", "simulate=exact");
    s.quantized->nodes[ar_model_find_node(s.quantized, "relu1")].attributes.rate = 0.5;
    test_ok(ar_model_program(s.quantized, false, &program));
    assert_int_equal(ar_tiles_create(program, AR_RUN_TRAIN, false, 4, 1, &tiles),
                     ADVROB_E_UNSUPPORTED);
    assert_non_null(strstr(ar_message(), "node relu1 drops 0.5"));
    close_scene(&s);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),     cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_training), cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
