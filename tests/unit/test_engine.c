/* Integer engines: every net of the zoo that can be lowered against the simulation that it was
 * lowered from; the same bits for any batch, thread and CPU level; targets on them; no allocation
 * once it runs; and what is refused. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "op/loss.h"
#include "support/engine_scene.h"

/* ---- against the simulation ---- */

/* A float sum that lies at the edge of a code falls on either side; what follows moves by a step.
 * Most logits are the same up to float's rounding. */
static void check_net(advrob_context *ctx, const char *net, const char *words) {
    scene s;
    open_scene(&s, ctx, net, words);
    const int32_t classes = ar_model_classes(s.quantized);
    float *a = malloc(sizeof(float) * (size_t)(IMAGES * classes)),
          *b = malloc(sizeof(float) * (size_t)(IMAGES * classes));
    advrob_target *simulated = NULL;
    double off = 0, largest = 0, sum = 0;
    int32_t same = 0;
    test_ok(ar_target_from_model(s.quantized, &simulated));
    test_ok(ar_target_forward(simulated, IMAGES, s.x, a));
    test_ok(advrob_engine_run(s.engine, IMAGES, s.x, b));
    for (int64_t i = 0; i < IMAGES * classes; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        largest = fmax(largest, fabs((double)a[i]));
        off = fmax(off, d);
        sum += d;
    }
    for (int64_t i = 0; i < IMAGES; i++)
        same += ar_argmax(classes, a + i * classes) == ar_argmax(classes, b + i * classes);
    print_message("%s %s: off by %.2g of %.3g, on average %.2g; %d of %d alike\n", net, words, off,
                  largest, sum / (IMAGES * classes), same, IMAGES);
    assert_true(off <= 0.03 * largest && sum / (IMAGES * classes) <= 0.01 * largest);
    assert_true(same >= IMAGES - 2);
    ar_target_release(simulated);
    free(a);
    free(b);
    close_scene(&s);
}

static void test_nets(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny",   "tiny_residual", "conv_small", "mlp",
                                       "lenet5", "vgg_small",     "resnet20",   "resnet20_conv"};
    static const char *const words[] = {"", "activation_bits=7", "weight_granularity=tensor"};
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2, ar_cpu_detect());
    for (size_t n = 0; n < (TEST_SANITIZED ? 5 : sizeof nets / sizeof nets[0]); n++)
        for (size_t w = 0; w < sizeof words / sizeof words[0] && !(TEST_SANITIZED && w > 0); w++)
            check_net(ctx, nets[n], words[w]);
    if (!TEST_SANITIZED) /* the largest net of the zoo: 11 million weights */
        check_net(ctx, "resnet18_cifar10", "activation_bits=7 images=8");
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A filter of next to nothing with a bias that is none, and one of zeros: the scale has a floor, so
 * that the bias fits. */
static void test_small_filters(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1, ar_cpu_detect());
    for (int32_t channels = 0; channels < 2; channels++) {
        advrob_model *model = test_zoo(ctx, "tiny"), *quantized = NULL;
        advrob_options *options =
            test_options(channels ? "weight_granularity=channel" : "weight_granularity=tensor");
        advrob_compressor *quant = NULL;
        advrob_engine *engine = NULL;
        advrob_target *simulated = NULL;
        test_ok(ar_model_initialise(model, "he", 5));
        const ar_node *conv = &model->nodes[ar_model_find_node(model, "conv2")];
        const ar_parameter *w = &model->parameters[conv->weight],
                           *b = &model->parameters[conv->bias];
        const int64_t per = w->count / w->shape[0];
        for (int64_t i = 0; i < (channels ? 2 * per : w->count); i++)
            model->slab[w->offset + i] = i < per ? 1e-20f : 0;
        for (int32_t o = 0; o < 3; o++)
            model->slab[b->offset + o] = 3.0f - (float)o;
        ar_model_changed(model);
        advrob_dataset *data =
            test_dataset(ctx, IMAGES, model->nodes[0].shape, ar_model_classes(model), 0.3, 3);
        float *x = malloc(sizeof(float) * IMAGES * (size_t)ar_shape_count(model->nodes[0].shape));
        float wanted[IMAGES * CLASSES], logits[IMAGES * CLASSES];
        test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, x, NULL));
        test_ok(advrob_compressor_create(ctx, "quant_ptq", options, &quant));
        test_ok(advrob_compressor_run(quant, model, data, &quantized));
        test_ok(advrob_engine_create(quantized, NULL, &engine));
        test_ok(ar_target_from_model(quantized, &simulated));
        test_ok(ar_target_forward(simulated, IMAGES, x, wanted));
        test_ok(advrob_engine_run(engine, IMAGES, x, logits));
        for (int32_t i = 0; i < IMAGES * engine->classes; i++)
            assert_true(fabs((double)logits[i] - (double)wanted[i]) <= 0.05);
        free(x);
        ar_target_release(simulated);
        advrob_engine_destroy(engine);
        advrob_compressor_destroy(quant);
        ar_options_destroy(options);
        ar_dataset_release(data);
        ar_model_release(quantized);
        ar_model_release(model);
    }
    ar_context_release(ctx);
}

/* ---- bits ---- */

static void test_bits(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny_residual", "lenet5", "resnet20"};
    for (size_t n = 0; n < (TEST_SANITIZED ? 1 : sizeof nets / sizeof nets[0]); n++) {
        float wanted[IMAGES * CLASSES], logits[IMAGES * CLASSES];
        for (int32_t level = 0; level <= ar_cpu_detect(); level++)
            for (int32_t threads = 1; threads <= 3; threads += 2) {
                scene s;
                advrob_context *ctx = open_context(NULL, threads, level);
                /* Made at the CPU's own level: float ranges differ by roundings. */
                ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
                open_scene(&s, ctx, nets[n], "activation_bits=7");
                const int32_t classes = s.engine->classes;
                advrob_engine_destroy(s.engine);
                ctx->kernels = ar_kernels_get(level, false);
                test_ok(advrob_engine_create(s.quantized, NULL, &s.engine));
                if (level == 0 && threads == 1) {
                    test_ok(advrob_engine_run(s.engine, IMAGES, s.x, wanted));
                    for (int64_t i = 1; i < classes; i++)
                        assert_true(wanted[i] != wanted[0]);
                }
                static const int64_t batches[] = {1, 7, 8, 9, 16, 33, IMAGES};
                for (size_t b = level == 0 ? 5 : 0; b < sizeof batches / sizeof batches[0]; b++) {
                    memset(logits, 0xff, sizeof logits);
                    for (int64_t at = 0; at < IMAGES; at += batches[b]) {
                        int64_t count = IMAGES - at < batches[b] ? IMAGES - at : batches[b];
                        test_ok(advrob_engine_run(s.engine, count, s.x + at * s.size,
                                                  logits + at * classes));
                    }
                    assert_memory_equal(logits, wanted, sizeof(float) * (size_t)(IMAGES * classes));
                }
                close_scene(&s);
                ar_context_release(ctx);
            }
    }
}

/* Pixels beyond the box have the codes of its ends, also where there are fewer than 256. */
static void test_beyond(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1, ar_cpu_detect());
    static const char *const words[] = {"activation_bits=4", "activation_bits=8"};
    for (size_t w = 0; w < 2; w++) {
        scene s;
        float wanted[IMAGES * CLASSES], logits[IMAGES * CLASSES];
        open_scene(&s, ctx, "tiny", words[w]);
        const size_t bytes = sizeof(float) * IMAGES * (size_t)s.engine->classes;
        for (int64_t i = 0; i < IMAGES * s.size; i++)
            s.x[i] = 3 * s.x[i] - 1;
        test_ok(advrob_engine_run(s.engine, IMAGES, s.x, logits));
        for (int64_t i = 0; i < IMAGES * s.size; i++)
            s.x[i] = fminf(fmaxf(s.x[i], 0), 1);
        test_ok(advrob_engine_run(s.engine, IMAGES, s.x, wanted));
        assert_memory_equal(logits, wanted, bytes);
        close_scene(&s);
    }
    ar_context_release(ctx);
}

/* Bytes are the pixels that they stand for. */
static void test_bytes(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "resnet20"};
    advrob_context *ctx = open_context(NULL, 2, ar_cpu_detect());
    for (size_t n = 0; n < (TEST_SANITIZED ? 1 : sizeof nets / sizeof nets[0]); n++) {
        scene s;
        open_scene(&s, ctx, nets[n], "");
        float wanted[IMAGES * CLASSES], logits[IMAGES * CLASSES];
        const size_t bytes = sizeof(float) * IMAGES * (size_t)s.engine->classes;
        uint8_t *x = malloc((size_t)(IMAGES * s.size));
        for (int64_t i = 0; i < IMAGES * s.size; i++)
            x[i] = (uint8_t)rintf(s.x[i] * 255);
        test_ok(advrob_engine_run(s.engine, IMAGES, s.x, wanted));
        test_ok(advrob_engine_run_u8(s.engine, IMAGES, x, logits));
        assert_memory_equal(logits, wanted, bytes);
        test_ok(advrob_engine_run_u8(s.engine, 5, x, logits));
        assert_memory_equal(logits, wanted, bytes / IMAGES * 5);
        assert_int_equal(advrob_engine_run_u8(s.engine, 0, x, logits), ADVROB_E_RANGE);
        free(x);
        close_scene(&s);
    }
    ar_context_release(ctx);
}

static void test_steady(void **state) {
    (void)state;
    scene s;
    int64_t fixed = 0, room = 0;
    float logits[IMAGES * CLASSES];
    advrob_context *ctx = open_context(NULL, 2, ar_cpu_detect());
    open_scene(&s, ctx, TEST_SANITIZED ? "lenet5" : "resnet20", "");
    test_ok(advrob_engine_memory(s.engine, &fixed, &room));
    const uint64_t before = ctx->memory.used;
    test_ok(advrob_engine_run(s.engine, IMAGES, s.x, logits));
    test_ok(advrob_engine_run(s.engine, IMAGES, s.x, logits));
    const uint64_t calls = ctx->memory.calls, rooms = ctx->memory.used - before;
    print_message("%d bytes, %d a room\n", (int)fixed, (int)room);
    /* One or two rooms, each with a line of its own and the allocator's. */
    assert_true(rooms >= (uint64_t)room && rooms <= 2 * ((uint64_t)room + 512));
    for (int32_t i = 0; i < 5; i++)
        test_ok(advrob_engine_run(s.engine, IMAGES - i, s.x, logits));
    assert_true(ctx->memory.calls <= calls + 1); /* the second room, if it came late */
    close_scene(&s);
    ar_context_release(ctx);
}

/* ---- targets ---- */

static int32_t attack(advrob_target *target, const scene *s, const char *name, const char *words,
                      float *moved, int32_t *predictions) {
    advrob_options *options = test_options(words);
    advrob_attack *made = NULL;
    test_ok(advrob_attack_create(s->ctx, name, options, &made));
    int32_t status = advrob_attack_run(made, target, IMAGES, s->x, s->y, moved, predictions, NULL);
    advrob_attack_destroy(made);
    ar_options_destroy(options);
    return status;
}

static void test_targets(void **state) {
    (void)state;
    static test_allocator allocator;
    scene s, other;
    advrob_target *blind = NULL, *seeing = NULL, *source = NULL;
    advrob_context *ctx = open_context(&allocator, 2, ar_cpu_detect());
    open_scene(&s, ctx, "tiny", "");
    open_scene(&other, ctx, "conv_small", "");
    float *moved = malloc(sizeof(float) * (size_t)(IMAGES * s.size));
    float logits[IMAGES * CLASSES];
    int32_t predictions[IMAGES], fooled = 0;
    test_ok(advrob_target_from_engine(s.engine, NULL, &blind));
    test_ok(advrob_target_from_engine(s.engine, s.quantized, &seeing));
    assert_int_equal(advrob_target_from_engine(s.engine, other.quantized, &source), ADVROB_E_SHAPE);
    /* The engine lives as long as its targets; the model is frozen. */
    advrob_engine *engine = s.engine;
    ar_engine_retain(engine);
    advrob_engine_destroy(s.engine);
    s.engine = engine;
    assert_int_equal(ar_model_check_unfrozen(s.quantized), ADVROB_E_BUSY);
    test_ok(advrob_engine_run(engine, IMAGES, s.x, logits));
    for (int32_t i = 0; i < IMAGES; i++)
        s.y[i] = ar_argmax(CLASSES, logits + i * CLASSES);
    assert_int_equal(attack(blind, &s, "pgd", "epsilon=0.1", moved, predictions),
                     ADVROB_E_UNSUPPORTED);
    const struct {
        advrob_target *target;
        const char *name, *words;
    } runs[] = {{blind, "square", "epsilon=0.2 queries=200"},
                {seeing, "pgd", "epsilon=0.2 step=0.05 steps=10"},
                {blind, "pgd", "epsilon=0.2 step=0.05 steps=10 transfer=1"}};
    test_ok(ar_target_from_model(s.quantized, &source));
    test_ok(advrob_target_set_source(blind, source));
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++) {
        test_ok(attack(runs[r].target, &s, runs[r].name, runs[r].words, moved, predictions));
        test_ok(advrob_engine_run(engine, IMAGES, moved, logits));
        fooled = 0;
        for (int32_t i = 0; i < IMAGES; i++) {
            assert_int_equal(predictions[i], ar_argmax(CLASSES, logits + i * CLASSES));
            fooled += predictions[i] != s.y[i];
        }
        print_message("%s %s: %d of %d\n", runs[r].name, runs[r].words, fooled, IMAGES);
        assert_true(fooled > IMAGES / 2);
    }
    ar_target_release(source);
    ar_target_release(blind);
    ar_target_release(seeing);
    test_ok(ar_model_check_unfrozen(s.quantized));
    free(moved);
    close_scene(&s);
    close_scene(&other);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- what is refused ---- */

static void refused(advrob_model *model, int32_t code, const char *says) {
    advrob_engine *engine = NULL;
    int32_t status = advrob_engine_create(model, NULL, &engine);
    if (status != code || strstr(ar_message(), says) == NULL)
        fail_msg("%d, %s; expected %d and \"%s\"", status, ar_message(), code, says);
    assert_null(engine);
}

/* Flattened values are seen as they lie: only a linear layer knows how to read them so. */
static void test_flattened(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1, ar_cpu_detect());
    advrob_model *model = NULL, *quantized = NULL;
    advrob_compressor *quant = NULL;
    const ar_attributes conv = {
        .kernel = {1, 1}, .stride = {1, 1}, .outputs = 4, .bias = true, .groups = 1};
    const char *const ops[] = {"conv2d", "flatten", "conv2d", "linear"};
    test_ok(ar_model_create(ctx, (ar_shape){1, 4, 4}, &model));
    for (int32_t i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        int32_t inputs[AR_MAX_INPUTS] = {ar_model_output(model)};
        test_ok(ar_model_add(model, ops[i], name, inputs, &conv, NULL));
    }
    test_ok(ar_model_initialise(model, "he", 5));
    advrob_dataset *data = test_dataset(ctx, IMAGES, model->nodes[0].shape, 4, 0.3, 3);
    test_ok(advrob_compressor_create(ctx, "quant_ptq", NULL, &quant));
    test_ok(advrob_compressor_run(quant, model, data, &quantized));
    refused(quantized, ADVROB_E_UNSUPPORTED, "node n2, a conv2d, reads a flattened value");
    advrob_compressor_destroy(quant);
    ar_dataset_release(data);
    ar_model_release(quantized);
    ar_model_release(model);
    ar_context_release(ctx);
}

static void test_refused(void **state) {
    (void)state;
    scene s;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1, ar_cpu_detect());
    advrob_model *model = test_zoo(ctx, "tiny");
    refused(model, ADVROB_E_UNSUPPORTED, "node input, a input, has no quantization point");
    ar_model_release(model);
    open_scene(&s, ctx, "tiny", "");
    float logits[CLASSES];
    advrob_options *options = test_options("narrow=1");
    advrob_engine *none = NULL;
    assert_int_equal(advrob_engine_create(s.quantized, options, &none), ADVROB_E_UNKNOWN);
    assert_non_null(strstr(ar_message(), "engine: unknown option \"narrow\""));
    assert_null(none);
    ar_options_destroy(options);
    assert_int_equal(advrob_engine_run(s.engine, 0, s.x, logits), ADVROB_E_RANGE);
    ar_node *conv = &s.quantized->nodes[ar_model_find_node(s.quantized, "conv1")];
    ar_node *first = &s.quantized->nodes[0];
    ar_real *scales = conv->weights.scales;
    const ar_real scale = scales[0];
    scales[0] = 1e-30f; /* the bias is more of these than 32 bits count */
    s.quantized->slab[s.quantized->parameters[conv->bias].offset] = 1;
    refused(s.quantized, ADVROB_E_RANGE, "node conv1, output 0: a bias");
    scales[0] = scale;
    conv->weights.bits = 16;
    refused(s.quantized, ADVROB_E_UNSUPPORTED, "node conv1, a conv2d, has weights");
    conv->weights.bits = 8;
    first->output.high = 65535;
    refused(s.quantized, ADVROB_E_UNSUPPORTED, "node input");
    first->output.high = 255;
    s.quantized->mean[0] = 0.5f;
    refused(s.quantized, ADVROB_E_UNSUPPORTED, "normalises");
    s.quantized->mean[0] = 0;
    close_scene(&s);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nets),          cmocka_unit_test(test_bits),
        cmocka_unit_test(test_small_filters), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_beyond),        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_targets),       cmocka_unit_test(test_flattened),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
