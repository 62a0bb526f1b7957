/* Layers in groups and depthwise ones as parts of a model: sizes counted by hand, files, folding,
 * pruning, quantization, and what profiles say of them. The executor's tests run the same net. */
#include "support/support.h"

#include <math.h>

#include <advrob/compress.h>
#include <advrob/dataset.h>

#include "io/io.h"
#include "model/program.h"
#include "support/golden.h"
#include "support/prune.h"
#include "support/tangle.h"
#include "tolerance.h"

enum { IMAGES = 5, CLASSES = 5, GROUPS = 3, C = 2 * GROUPS, H = 8, W = 7 };

static advrob_context *open_context(void) {
    return test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
}

static void logits_of(advrob_model *model, const float *x, float *out) {
    ar_program *program;
    test_ok(ar_model_program(model, false, &program));
    test_ok(ar_program_forward(program, IMAGES, x, out));
}

static double off(const float *a, const float *b) {
    double worst = 0, largest = 0;
    for (int32_t i = 0; i < IMAGES * CLASSES; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static void test_sizes(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    advrob_model *m = grouped_build(ctx, GROUPS, H, W);
    /* weights of: first, deep, wide (two channels a group), more, last; biases and norms */
    int64_t weights = C * 2 * 9 + C * 9 + C * 2 * 9 + 2 * C * 9 + CLASSES * 2 * C;
    assert_int_equal(ar_model_trained(m), weights + C + C + 2 * C + CLASSES + 4 * C);
    int64_t half = 4 * 3, quarter = 2 * 2, whole = H * W;
    assert_int_equal(ar_model_macs(m), whole * C * 2 * 9 + whole * C * 9 + half * C * 2 * 9 +
                                           quarter * 2 * C * 9 + CLASSES * 2 * C);
    for (int32_t i = 0; i < m->parameter_count; i++)
        if (m->parameters[i].rank == 4) {
            const ar_attributes *a = &m->nodes[m->parameters[i].node].attributes;
            assert_int_equal(m->parameters[i].fan_in, m->parameters[i].shape[1] * 9);
            assert_int_equal(m->parameters[i].shape[1], a->groups == 1 ? 2 : C / a->groups);
        }
    ar_model_release(m);
    ar_context_release(ctx);
}

static void test_file(void **state) {
    (void)state;
    char folder[256], path[512];
    advrob_context *ctx = open_context();
    advrob_model *m = grouped_build(ctx, GROUPS, H, W), *back = NULL;
    float *x = test_images(IMAGES, 2 * H * W, 2), out[2][IMAGES * CLASSES];
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    test_ok(ar_model_file_save(m, path));
    test_ok(ar_model_file_load(ctx, path, &back));
    assert_true(ar_model_digest(m) == ar_model_digest(back));
    logits_of(m, x, out[0]);
    logits_of(back, x, out[1]);
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    free(x);
    test_folder_remove(folder);
    ar_model_release(m);
    ar_model_release(back);
    ar_context_release(ctx);
}

static void test_folded(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t t = 0; t < count; t++) {
        advrob_context *ctx = test_context_at(NULL, 1, tables[t]);
        advrob_model *m = grouped_build(ctx, GROUPS, H, W), *folded = NULL;
        float *x = test_images(IMAGES, 2 * H * W, 2), out[3][IMAGES * CLASSES];
        ar_program *plain = NULL;
        test_ok(ar_program_create(m, ar_model_output(m), true, &plain));
        test_ok(ar_program_forward(plain, IMAGES, x, out[0]));
        logits_of(m, x, out[1]);
        test_ok(ar_model_fold(m, &folded));
        logits_of(folded, x, out[2]);
        assert_true(off(out[1], out[0]) <= TOLERANCE_LOGITS);
        assert_memory_equal(out[1], out[2], sizeof out[1]);
        free(x);
        ar_program_destroy(plain);
        ar_model_release(m);
        ar_model_release(folded);
        ar_context_release(ctx);
    }
}

static void test_compressed(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    advrob_model *m = grouped_build(ctx, GROUPS, H, W), *same = NULL, *quantized = NULL;
    float *x = test_images(IMAGES, 2 * H * W, 2), out[3][IMAGES * CLASSES];
    const int32_t labels[IMAGES] = {0, 1, 2, 3, 4};
    advrob_dataset *images = NULL;
    test_ok(
        advrob_dataset_from_memory(ctx, ADVROB_F32, x, labels, IMAGES, 2, H, W, CLASSES, &images));
    char *plan = test_plan(m, "prune_l1", "sparsity=0.5", NULL);
    test_ok(test_compress(m, "prune_l1", "", NULL, &same));
    advrob_model *masked = test_masked_net(m, plan);
    assert_true(same->slab_count < m->slab_count);
    assert_true(test_same_logits(same, masked, IMAGES, 3) < TOLERANCE_PRUNED);
    ar_model_release(masked);
    advrob_text_destroy(ctx, plan);
    test_ok(test_compress(m, "quant_ptq", "", images, &quantized));
    for (int32_t i = 1; i < quantized->node_count; i++) {
        const ar_node *node = &quantized->nodes[i];
        if (node->weight >= 0) assert_int_equal(node->weights.count, node->shape.c);
    }
    logits_of(m, x, out[0]);
    logits_of(quantized, x, out[1]);
    assert_true(off(out[1], out[0]) < 0.1 && off(out[1], out[0]) > 0);
    free(x);
    advrob_dataset_destroy(images);
    ar_model_release(m);
    ar_model_release(same);
    ar_model_release(quantized);
    ar_context_release(ctx);
}

/* Multiply-adds of taps that exist, by an axis's length: 3 taps, 1 of padding. */
static void test_work(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    advrob_model *m = grouped_build(ctx, GROUPS, H, W);
    ar_program *program;
    int32_t deep = 0, grouped = 0;
    test_ok(ar_model_program(m, false, &program));
    for (int32_t s = 0; s < program->count; s++) {
        const ar_step *step = &program->steps[s];
        const ar_node *node = &m->nodes[step->node];
        if (strcmp(node->op->name, "conv2d") != 0 || node->attributes.groups == 1) continue;
        bool is_deep = node->attributes.groups == C;
        for (int32_t pass = 0; pass < AR_PASSES; pass++) {
            ar_op_work work = node->op->work(&step->setup, step->prepared, pass);
            const char *gemm = pass == AR_PASS_WEIGHT_GRADIENT ? "wgrad" : "gemm";
            assert_string_equal(work.kernel, is_deep ? "depthwise" : gemm);
            if (is_deep && node->attributes.stride[0] == 1)
                assert_int_equal(work.multiply_adds, (3 * H - 2) * (3 * W - 2) * C);
        }
        deep += is_deep;
        grouped += !is_deep;
    }
    assert_true(deep == 2 && grouped == 1);
    ar_model_release(m);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),  cmocka_unit_test(test_file),
        cmocka_unit_test(test_folded), cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
