/* Batch norm: the same bits for any number of threads and size of tiles, running statistics,
 * folding, re-estimation, pruning, targets with the batch's statistics; and dropout. PyTorch's
 * figures are compared in golden/, gradients in op/test_whole_batch. */
#include "support/support.h"

#include "compress/compress.h"
#include "io/io.h"
#include "method/method.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"
#include "tolerance.h"

#include <unistd.h>

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

static advrob_dataset *task(advrob_context *ctx, int64_t n) {
    return test_dataset(ctx, n, (ar_shape){1, 8, 8}, 10, 0.3, 3);
}

/* tiny_batch_norm, its statistics and scales away from 0 and 1. */
static advrob_model *moved_net(advrob_context *ctx) {
    advrob_model *model = test_zoo(ctx, "tiny_batch_norm");
    ar_rng rng;
    ar_rng_init(&rng, 9, AR_RNG_TEST, 2, 0, 0);
    for (int32_t p = 0; p < model->parameter_count; p++)
        for (int64_t i = 0; i < model->parameters[p].count && model->parameters[p].rank == 1; i++)
            model->slab[model->parameters[p].offset + i] += 0.5f * ar_rng_uniform(&rng);
    ar_model_changed(model);
    return model;
}

static size_t slab_bytes(const advrob_model *model) {
    return sizeof(ar_real) * (size_t)model->slab_count;
}

static const ar_parameter *find(const advrob_model *model, const char *name) {
    int32_t index = ar_model_find_parameter(model, name);
    if (index < 0) fail_msg("no parameter %s", name);
    return &model->parameters[index];
}

/* ---- the same bits ---- */

static void test_threads(void **state) {
    (void)state;
    ar_real *first = NULL;
    for (int32_t threads = 1; threads <= 3; threads++) {
        static test_allocator allocator;
        advrob_context *ctx = open_context(&allocator, threads);
        advrob_dataset *data = task(ctx, 70);
        advrob_model *model = test_zoo(ctx, "tiny_batch_norm");
        training t = {"standard", NULL, data, 32, 3, 0.05, 0.9, 5e-4, 1};
        test_ok(training_run(&t, model, 100, NULL, NULL));
        if (first == NULL) {
            first = malloc(slab_bytes(model));
            memcpy(first, model->slab, slab_bytes(model));
        }
        assert_memory_equal(first, model->slab, slab_bytes(model));
        ar_model_release(model);
        ar_dataset_release(data);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
    free(first);
}

typedef struct pass {
    float logits[8 * 10], dx[8 * 64];
    ar_real gradient[1024];
} pass;

static void run_pass(advrob_model *model, int64_t room, const float *x, pass *p) {
    ar_program *program = NULL;
    ar_tiles *tiles = NULL;
    float dout[8 * 10], *logits = p->logits, *dx = p->dx;
    const float *const_dout = dout;
    int64_t ids[8] = {4, 8, 15, 16, 23, 42, 7, 9};
    const ar_draws draws = {3, ids};
    assert_true(model->slab_count <= 1024);
    for (int32_t i = 0; i < 80; i++)
        dout[i] = (float)(i % 5 - 2) / 4;
    test_ok(ar_model_program(model, true, &program));
    test_ok(ar_tiles_create(program, AR_RUN_TRAIN, true, room, 1, &tiles));
    test_ok(ar_tiles_forward(tiles, 8, &x, &draws, &logits));
    test_ok(ar_tiles_backward(tiles, &const_dout, &dx, p->gradient));
    ar_tiles_destroy(tiles);
}

static void test_tiles(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_model *model = moved_net(ctx);
    float *x = draw_images(8, 64, 5);
    static pass narrow, wide; /* tiles of 8 and of 16 */
    run_pass(model, 8, x, &narrow);
    run_pass(model, 64, x, &wide);
    assert_memory_equal(narrow.logits, wide.logits, sizeof narrow.logits);
    assert_memory_equal(narrow.dx, wide.dx, sizeof narrow.dx);
    assert_memory_equal(narrow.gradient, wide.gradient, slab_bytes(model));
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- statistics ---- */

/* Mean and unbiased variance of a channel of a node's output, plainly. */
static void plain_statistics(const advrob_model *model, const char *node, const float *x, int64_t n,
                             int32_t channel, double *mean, double *variance) {
    advrob_tensor *out = NULL;
    test_ok(advrob_model_node_output(model, node, n, x, &out));
    int64_t pixels = out->shape[2] * out->shape[3], c = out->shape[1];
    const float *values = out->data;
    *mean = *variance = 0;
    for (int64_t i = 0; i < n * pixels; i++)
        *mean += (double)values[(i / pixels * c + channel) * pixels + i % pixels];
    *mean /= (double)(n * pixels);
    for (int64_t i = 0; i < n * pixels; i++) {
        double d = (double)values[(i / pixels * c + channel) * pixels + i % pixels] - *mean;
        *variance += d * d;
    }
    *variance /= (double)(n * pixels - 1);
    ar_tensor_destroy(out);
}

static int32_t compress(const advrob_model *model, const char *name, const char *text,
                        const advrob_dataset *data, advrob_model **out) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    test_ok(advrob_compressor_create(model->ctx, name, options, &compressor));
    ar_options_destroy(options);
    int32_t status = advrob_compressor_run(compressor, model, data, out);
    advrob_compressor_destroy(compressor);
    return status;
}

/* One training step moves the first norm's statistics as the plain ones say, and weight decay
 * leaves them alone; frozen, none moves. */
static void test_running_statistics(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_dataset *data = task(ctx, 20);
    advrob_model *model = moved_net(ctx), *before = NULL;
    float *x = malloc(sizeof(float) * 20 * 64);
    test_ok(ar_model_clone(model, &before));
    test_ok(ar_dataset_gather(data, 0, NULL, 20, x, NULL));
    training t = {"standard", NULL, data, 20, 1, 0.05, 0.9, 0.5, 1};
    test_ok(training_run(&t, model, 1, NULL, NULL));
    const ar_parameter *mean = find(model, "bn1.running_mean"),
                       *var = find(model, "bn1.running_var");
    for (int32_t c = 0; c < 4; c++) {
        double m, v;
        plain_statistics(before, "conv1", x, 20, c, &m, &v);
        double want_m = 0.9 * (double)before->slab[mean->offset + c] + 0.1 * m;
        double want_v = 0.9 * (double)before->slab[var->offset + c] + 0.1 * v;
        assert_true(fabs((double)model->slab[mean->offset + c] - want_m) < 1e-6);
        assert_true(fabs((double)model->slab[var->offset + c] - want_v) < 1e-6);
    }
    free(x);
    ar_model_release(before);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_frozen_training(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_model *model = moved_net(ctx);
    ar_trainer *trainer = NULL;
    ar_objective_room room = {.size = 64, .classes = 10};
    const ar_method *method = NULL;
    double scratch[10];
    float *x = draw_images(20, 64, 2), weight = model->slab[0];
    int32_t *y = draw_labels(20, 10, 2), moved = 0;
    int64_t ids[20] = {0};
    ar_real kept[1024];
    ar_step_result result;
    memcpy(kept, model->slab, slab_bytes(model));
    test_ok(ar_method_find("standard", &method));
    room.scratch = scratch;
    ar_objective objective = {
        .self = &room, .branches = 1, .prepare = method->prepare, .loss = method->loss};
    ar_optimizer_settings settings = {0.1, 0, 0.1};
    ar_batch batch = {20, x, y, ids, 0, 0, 1};
    test_ok(ar_trainer_create(model, ar_optimizer_find("sgd"), 20, 1, false, &trainer));
    test_ok(ar_trainer_step(trainer, &objective, &batch, &settings, &result));
    for (int32_t p = 0; p < model->parameter_count; p++)
        for (int64_t i = 0; i < model->parameters[p].count; i++) {
            int64_t at = model->parameters[p].offset + i;
            if (model->parameters[p].role >= AR_RUNNING_MEAN)
                assert_true(model->slab[at] == kept[at]);
            else
                moved += model->slab[at] != kept[at];
        }
    assert_true(moved > 300 && model->slab[0] != weight);
    ar_trainer_destroy(trainer);
    free(x);
    free(y);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A failed step leaves the running statistics too. */
static void test_failed_step(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_dataset *data = task(ctx, 40);
    advrob_model *model = moved_net(ctx);
    ar_real *weights = malloc(slab_bytes(model) * 8);
    int64_t done = 0;
    training t = {"standard", NULL, data, 20, 4, 1e37, 0.9, 0, 1};
    int32_t status = training_run(&t, model, 8, &done, weights);
    assert_int_equal(status, ADVROB_E_NONFINITE);
    assert_true(done >= 1 && done < 8);
    assert_memory_equal(model->slab, weights + (done - 1) * model->slab_count, slab_bytes(model));
    free(weights);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_reestimate(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_dataset *data = task(ctx, 50);
    advrob_model *model = moved_net(ctx), *fresh = NULL, *none = NULL, *small = NULL;
    float *x = malloc(sizeof(float) * 40 * 64);
    test_ok(ar_dataset_gather(data, 0, NULL, 40, x, NULL));
    test_ok(compress(model, "reestimate_batch_norm", "images=40 batch_size=20", data, &fresh));
    for (int32_t c = 0; c < 4; c++) {
        double m[2], v[2];
        for (int32_t b = 0; b < 2; b++)
            plain_statistics(model, "conv1", x + b * 20 * 64, 20, c, &m[b], &v[b]);
        double got_m = (double)fresh->slab[find(fresh, "bn1.running_mean")->offset + c];
        double got_v = (double)fresh->slab[find(fresh, "bn1.running_var")->offset + c];
        assert_true(fabs(got_m - (m[0] + m[1]) / 2) < 1e-6);
        assert_true(fabs(got_v - (v[0] + v[1]) / 2) < 1e-6);
    }
    /* All else is as it was. */
    for (int32_t p = 0; p < model->parameter_count; p++)
        if (model->parameters[p].role < AR_RUNNING_MEAN)
            assert_memory_equal(model->slab + model->parameters[p].offset,
                                fresh->slab + model->parameters[p].offset,
                                sizeof(ar_real) * (size_t)model->parameters[p].count);
    small = test_zoo(ctx, "tiny");
    advrob_dataset *other = test_dataset(ctx, 20, (ar_shape){1, 8, 8}, 10, 0.3, 3);
    assert_int_equal(compress(small, "reestimate_batch_norm", "", other, &none), ADVROB_E_INVALID);
    free(x);
    ar_dataset_release(other);
    ar_model_release(small);
    ar_model_release(fresh);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- folding, quantization, pruning, files ---- */

static double compare_logits(const advrob_model *a, const advrob_model *b) {
    float *x = draw_images(20, ar_shape_count(a->nodes[0].shape), 4), one[200], other[200];
    double largest = 0, off = 0;
    assert_true(ar_model_classes(a) <= 10);
    test_ok(advrob_model_forward(a, 20, x, one));
    test_ok(advrob_model_forward(b, 20, x, other));
    for (int32_t i = 0; i < 20 * ar_model_classes(a); i++) {
        largest = fmax(largest, fabs((double)one[i]));
        off = fmax(off, fabs((double)one[i] - (double)other[i]));
    }
    free(x);
    return off / largest;
}

static void test_fold(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_dataset *data = task(ctx, 40);
    advrob_model *model = moved_net(ctx), *folded = NULL, *quantized = NULL, *refused = NULL;
    test_ok(compress(model, "fold_batch_norm", "", NULL, &folded));
    /* bn3 stands behind a ReLU: it stays. */
    assert_true(ar_model_find_node(folded, "bn1") < 0 && ar_model_find_node(folded, "bn2") < 0 &&
                ar_model_find_node(folded, "bn3") >= 0);
    assert_true(ar_model_find_parameter(folded, "conv1.bias") >= 0);
    assert_true(compare_logits(model, folded) < TOLERANCE_OP);
    test_ok(compress(model, "quant_ptq", "weight_bits=16 activation_bits=16", data, &quantized));
    assert_true(ar_model_find_node(quantized, "bn1") < 0 && ar_model_quantized(quantized));
    /* What could not be folded ends in a quantization point too. */
    assert_int_equal(quantized->nodes[ar_model_find_node(quantized, "bn3")].output.bits, 16);
    assert_true(compare_logits(model, quantized) < 5e-3);
    assert_int_equal(compress(quantized, "fold_batch_norm", "", NULL, &refused),
                     ADVROB_E_UNSUPPORTED);
    ar_model_release(quantized);
    ar_model_release(folded);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* The result stays the result where nodes that nothing uses lie between a layer and its batch norm;
 * a layer with another user keeps its norm. */
static void test_fold_order(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    const ar_attributes head = {.outputs = 4}, aux = {.outputs = 5, .bias = true};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    for (int32_t twice = 0; twice < 2; twice++) {
        advrob_model *model = NULL, *folded = NULL;
        int32_t at[AR_MAX_INPUTS] = {0}, flat = 0, layer = 0, other = 0;
        test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &model));
        test_ok(ar_model_add(model, "flatten", "flatten", at, NULL, &flat));
        at[0] = flat;
        test_ok(ar_model_add(model, "linear", "head", at, &head, &layer));
        test_ok(ar_model_add(model, "linear", "aux", at, &aux, &other));
        at[0] = layer;
        test_ok(ar_model_add(model, "batch_norm", "bn", at, &norm, at));
        at[1] = layer;
        if (twice) test_ok(ar_model_add(model, "add", "sum", at, NULL, at));
        test_ok(ar_model_initialise(model, "pytorch", 5));
        for (int32_t c = 0; c < 4; c++) {
            model->slab[find(model, "bn.running_mean")->offset + c] = (float)(c - 2) / 8;
            model->slab[find(model, "bn.bias")->offset + c] = (float)c / 4;
        }
        ar_model_changed(model);
        test_ok(ar_model_fold(model, &folded));
        assert_int_equal(ar_model_classes(folded), 4);
        assert_true((ar_model_find_node(folded, "bn") < 0) == (twice == 0));
        assert_true(compare_logits(model, folded) < TOLERANCE_OP);
        ar_model_release(folded);
        ar_model_release(model);
    }
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_file(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    advrob_model *model = moved_net(ctx), *loaded = NULL;
    char path[] = "/tmp/advrob-bn-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    test_ok(ar_model_file_save(model, path));
    test_ok(ar_model_file_load(ctx, path, &loaded));
    assert_true(ar_model_digest(model) == ar_model_digest(loaded));
    assert_memory_equal(model->slab, loaded->slab, slab_bytes(model));
    model->slab[find(model, "bn2.running_var")->offset + 1] = -1;
    test_ok(ar_model_file_save(loaded, path));
    assert_int_equal(ar_model_file_save(model, path), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "bn2.running_var: value 1 is -1"));
    unlink(path);
    ar_model_release(loaded);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A net whose first convolution loses filters; masked: those filters are 0, and what their batch
 * norms make of that stays. */
static void test_prune(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, 8, false};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1},
                        last = {.outputs = 3, .bias = true};
    advrob_model *model = NULL, *small = NULL;
    int32_t at[AR_MAX_INPUTS] = {0};
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &model));
    test_ok(ar_model_add(model, "conv2d", "conv", at, &conv, at));
    test_ok(ar_model_add(model, "batch_norm", "bn", at, &norm, at));
    test_ok(ar_model_add(model, "relu", "relu", at, NULL, at));
    test_ok(ar_model_add(model, "flatten", "flatten", at, NULL, at));
    test_ok(ar_model_add(model, "linear", "fc", at, &last, at));
    test_ok(ar_model_initialise(model, "pytorch", 5));
    for (int32_t c = 0; c < 8; c++) {
        model->slab[find(model, "bn.running_mean")->offset + c] = (float)(c - 3) / 8;
        model->slab[find(model, "bn.bias")->offset + c] = (float)(c % 3) / 4;
        for (int32_t k = 0; k < 18 && c % 2 == 1; k++) /* the odd filters are the small ones */
            model->slab[find(model, "conv.weight")->offset + c * 18 + k] *= 0.01f;
    }
    ar_model_changed(model);
    test_ok(compress(model, "prune_l1", "sparsity=0.5", NULL, &small));
    assert_int_equal(small->nodes[1].shape.c, 4);
    assert_int_equal(find(small, "bn.running_var")->count, 4);
    for (int32_t c = 1; c < 8; c += 2)
        memset(model->slab + find(model, "conv.weight")->offset + c * 18, 0, 18 * sizeof(ar_real));
    ar_model_changed(model);
    assert_true(compare_logits(model, small) < TOLERANCE_PRUNED);
    ar_model_release(small);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- targets ---- */

/* A target with the batch's statistics gives what training's forward pass gives, less dropout; and
 * its model is frozen, its statistics unmoved. */
static void test_batch_target(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_model *model = moved_net(ctx);
    advrob_target *batch = NULL, *frozen = NULL;
    float *x = draw_images(20, 64, 6), whole[200], part[200], running[200], dx[20 * 64];
    int32_t *y = draw_labels(20, 10, 6);
    uint64_t digest = ar_model_digest(model);
    test_ok(ar_target_from_model_batch(model, 32, &batch));
    test_ok(ar_target_from_model(model, &frozen));
    assert_true(!batch->concurrent && batch->has_backward);
    test_ok(ar_target_forward(batch, 20, x, whole));
    test_ok(ar_target_forward(batch, 10, x, part));
    test_ok(ar_target_forward(frozen, 20, x, running));
    assert_true(memcmp(whole, part, sizeof(float) * 100) != 0); /* batch mates matter */
    assert_true(memcmp(whole, running, sizeof whole) != 0);
    test_ok(ar_target_loss_gradient(batch, "ce", 20, x, y, NULL, dx));
    assert_int_equal(ar_model_check_unfrozen(model), ADVROB_E_BUSY);
    assert_true(ar_model_digest(model) == digest);
    ar_target_release(frozen);
    ar_target_release(batch);
    test_ok(ar_model_check_unfrozen(model));
    free(x);
    free(y);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* One value a channel cannot be normalised by itself. */
static void test_single_value(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    const ar_attributes hidden = {.outputs = 4, .bias = true}, last = {.outputs = 3, .bias = true};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    advrob_model *model = NULL;
    advrob_target *target = NULL;
    float x[72] = {0}, logits[6];
    int32_t at[AR_MAX_INPUTS] = {0};
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &model));
    test_ok(ar_model_add(model, "flatten", "flatten", at, NULL, at));
    test_ok(ar_model_add(model, "linear", "hidden", at, &hidden, at));
    test_ok(ar_model_add(model, "batch_norm", "norm", at, &norm, at));
    test_ok(ar_model_add(model, "linear", "fc", at, &last, at));
    test_ok(ar_model_initialise(model, "he", 1));
    test_ok(ar_target_from_model_batch(model, 2, &target));
    assert_int_equal(ar_target_forward(target, 1, x, logits), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "node norm"));
    ar_target_release(target);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A run in which that would happen at its last batch is refused before its first step; so is an
 * attack that would take images out of its batch. */
static void test_refused_runs(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    const ar_attributes layer = {.outputs = 3, .bias = true};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    advrob_model *model = NULL;
    advrob_finetune *fit = NULL;
    int32_t at[AR_MAX_INPUTS] = {0};
    test_ok(ar_model_create(ctx, (ar_shape){1, 8, 8}, &model));
    test_ok(ar_model_add(model, "flatten", "flatten", at, NULL, at));
    test_ok(ar_model_add(model, "linear", "fc", at, &layer, at));
    test_ok(ar_model_add(model, "batch_norm", "norm", at, &norm, at));
    test_ok(ar_model_initialise(model, "he", 1));
    uint64_t digest = ar_model_digest(model);
    advrob_dataset *data = test_dataset(ctx, 9, (ar_shape){1, 8, 8}, 3, 0.3, 3);
    assert_int_equal(finetune_run(model, "standard", "epochs=1 batch_size=4", data, NULL, NULL),
                     ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "batch_size 4 leaves one of 9 images alone: node norm"));
    assert_true(ar_model_digest(model) == digest);
    test_ok(finetune_run(model, "standard", "epochs=1 batch_size=4 statistics=frozen", data, NULL,
                         NULL));
    test_ok(finetune_run(model, "pgd_at",
                         "epochs=1 batch_size=3 attack_statistics=batch attack.steps=2", data, NULL,
                         NULL));
    advrob_options *options = test_options("attack_statistics=batch attack.early_stop=1");
    assert_int_equal(advrob_finetune_create(ctx, "pgd_at", options, &fit), ADVROB_E_INVALID);
    ar_options_destroy(options);
    ar_dataset_release(data);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- dropout ---- */

static void test_dropout(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    const ar_attributes half = {.rate = 0.25}, wrong = {.rate = 1};
    enum { N = 20, SIZE = 2 * 30 * 30 };
    advrob_model *model = NULL;
    ar_program *program = NULL;
    ar_tiles *tiles = NULL;
    int32_t at[AR_MAX_INPUTS] = {0}, kept = 0;
    int64_t ids[N], swapped[N];
    test_ok(ar_model_create(ctx, (ar_shape){2, 30, 30}, &model));
    assert_int_equal(ar_model_add(model, "dropout", "wrong", at, &wrong, at), ADVROB_E_RANGE);
    test_ok(ar_model_add(model, "dropout", "drop", at, &half, at));
    float *x = malloc(sizeof(float) * N * SIZE), *y = malloc(sizeof(float) * N * SIZE);
    float *z = malloc(sizeof(float) * N * SIZE);
    for (int32_t i = 0; i < N * SIZE; i++)
        x[i] = 0.5f;
    for (int32_t i = 0; i < N; i++) {
        ids[i] = 100 + i;
        swapped[i] = 100 + (i ^ 1);
    }
    test_ok(ar_model_program(model, true, &program));
    test_ok(ar_tiles_create(program, AR_RUN_TRAIN, true, N, 1, &tiles));
    const float *in = x;
    test_ok(ar_tiles_forward(tiles, N, &in, &(ar_draws){1, ids}, &y));
    for (int32_t i = 0; i < N * SIZE; i++) {
        kept += y[i] != 0;
        assert_true(y[i] == 0 || y[i] == 0.5f * (float)(1 / 0.75));
    }
    double share = (double)kept / (N * SIZE); /* deviation 0.0023 */
    assert_true(fabs(share - 0.75) < 0.01);
    /* An image's draws hang on its id alone, not on its place. */
    test_ok(ar_tiles_forward(tiles, N, &in, &(ar_draws){1, swapped}, &z));
    for (int32_t i = 0; i < N; i++)
        assert_memory_equal(y + i * SIZE, z + (i ^ 1) * SIZE, sizeof(float) * SIZE);
    assert_true(memcmp(y, z, sizeof(float) * SIZE) != 0);
    /* Without draws it is the identity. */
    test_ok(ar_tiles_forward(tiles, N, &in, NULL, &z));
    assert_memory_equal(x, z, sizeof(float) * N * SIZE);
    ar_tiles_destroy(tiles);
    free(x);
    free(y);
    free(z);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_frozen_training),
        cmocka_unit_test(test_failed_step),
        cmocka_unit_test(test_reestimate),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_fold_order),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_prune),
        cmocka_unit_test(test_batch_target),
        cmocka_unit_test(test_single_value),
        cmocka_unit_test(test_refused_runs),
        cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
