/* Graphs: what they refuse, limits of memory, copies and frozen models. */
#include "support/support.h"

#include "model/oracle.h"
#include "model/program.h"
#include "support/golden.h"

#include "support/tangle.h"

static void test_memory_limit(void **state) {
    (void)state;
    advrob_context *ctx = test_context(2);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = test_net(ctx, "tiny");
    float *x = test_images(40, 64, 2), before[400], after[400];
    ar_program *program;
    advrob_target *target;
    int32_t failures = 0;
    for (uint64_t room = 0; room < 400000; room += 3000) {
        advrob_model *copy = NULL;
        ctx->memory.limit = ctx->memory.used + room;
        int32_t status = ar_model_clone(model, &copy);
        if (status == ADVROB_OK) status = ar_model_program(copy, false, &program);
        if (status == ADVROB_OK) status = ar_program_forward(program, 40, x, before);
        if (status != ADVROB_OK) {
            assert_int_equal(status, ADVROB_E_NOMEM);
            failures++;
        }
        ar_model_release(copy);
    }
    ctx->memory.limit = 0;
    assert_true(failures > 3 && failures < 130);
    test_ok(ar_model_program(model, false, &program));
    test_ok(ar_program_forward(program, 40, x, before));
    test_ok(ar_target_from_model(model, &target));
    ctx->memory.limit = ctx->memory.used + 3000;
    int32_t y[40] = {0};
    float dx[40 * 64];
    assert_int_equal(ar_target_loss_gradient(target, "ce", 40, x, y, NULL, dx), ADVROB_E_NOMEM);
    ctx->memory.limit = 0;
    test_ok(ar_target_loss_gradient(target, "ce", 40, x, y, NULL, dx));
    test_ok(ar_target_forward(target, 40, x, after));
    assert_memory_equal(before, after, sizeof before);
    ar_target_release(target);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* A net with quantization records. */
static advrob_model *recorded_net(advrob_context *ctx) {
    advrob_model *model = test_net(ctx, "tiny");
    const ar_real scales[4] = {1, 0.5, 0.25, 0.125};
    test_ok(ar_quant_set(model, &model->nodes[0].output, 8, 0, 255, 0, scales + 3, 1));
    test_ok(ar_quant_set(model, &model->nodes[1].weights, 8, -127, 127, 0, scales, 4));
    return model;
}

static void test_clone_and_freeze(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = recorded_net(ctx), *copy = NULL;
    advrob_target *one, *two;
    test_ok(ar_model_clone(model, &copy));
    assert_true(ar_model_digest(copy) == ar_model_digest(model));
    copy->slab[1] += 1;
    assert_true(ar_model_digest(copy) != ar_model_digest(model));
    copy->slab[1] = model->slab[1];
    copy->nodes[0].output.scales[0] *= 2;
    assert_true(ar_model_digest(copy) != ar_model_digest(model));
    test_ok(ar_target_from_model(model, &one));
    test_ok(ar_target_from_model(model, &two));
    uint64_t digest = ar_model_digest(model);
    assert_int_equal(ar_model_check_unfrozen(model), ADVROB_E_BUSY);
    assert_int_equal(ar_model_initialise(model, "he", 1), ADVROB_E_BUSY);
    assert_true(ar_model_digest(model) == digest);
    ar_target_retain(one);
    ar_target_release(one);
    ar_target_release(two);
    assert_int_equal(ar_model_check_unfrozen(model), ADVROB_E_BUSY);
    ar_target_release(one);
    test_ok(ar_model_check_unfrozen(model));
    test_ok(ar_model_initialise(model, "he", 1));
    test_ok(ar_target_from_model(copy, &one)); /* a target keeps its model alive */
    ar_model_release(copy);
    float *x = test_images(2, 64, 1), logits[2 * 10];
    test_ok(ar_target_forward(one, 2, x, logits));
    ar_target_release(one);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* What a graph refuses, with the model as it was afterwards. */
static void test_refusals(void **state) {
    (void)state;
    const struct {
        const char *op;
        ar_shape in;
        ar_attributes a;
        int32_t status;
    } wrong[] = {
        {"none", {1, 4, 4}, {.outputs = 1}, ADVROB_E_UNKNOWN},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {3, 3}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {-1, 1}, {1, 1}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{-3, 3}, {1, 1}, {1, 1}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{5, 5}, {1, 1}, {0, 0}, 1, true}, ADVROB_E_SHAPE},
        {"conv2d", {1, 9, 9}, {{3, 3}, {1, 1}, {5, 5}, 1, .dilation = {2, 2}}, ADVROB_E_RANGE},
        {"conv2d", {1, 9, 9}, {{3, 3}, {1, 1}, {0, 0}, 1, .dilation = {1, -1}}, ADVROB_E_RANGE},
        {"conv2d", {1, 9, 9}, {{3, 3}, {1, 1}, {0, 0}, 1, .dilation = {1025, 1}}, ADVROB_E_RANGE},
        {"conv2d", {1, 9, 9}, {{3, 3}, {1, 1}, {0, 0}, 1, .dilation = {1, 5}}, ADVROB_E_SHAPE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {1, 1}, 0, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {1, 1}, 65537, true}, ADVROB_E_RANGE},
        {"conv2d", {65536, 1, 1}, {{1024, 1024}, {1, 1}, {1023, 1023}, 1, true}, ADVROB_E_LIMIT},
        {"conv2d", {1, 8192, 8192}, {{3, 3}, {1, 1}, {1, 1}, 2, true}, ADVROB_E_SHAPE},
        {"linear", {4, 4, 4}, {.outputs = 2}, ADVROB_E_SHAPE},
        {"linear", {4, 1, 1}, {.outputs = 0}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{3, 3}, {1, 1}, {0, 0}, 2, true}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{1, 1}, {2, 1}, {0, 0}, 2, true}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{1, 1}, {1, 1}, {0, 1}, 2, true}, ADVROB_E_RANGE},
        {"conv2d", {6, 9, 9}, {.outputs = 6, .groups = -1}, ADVROB_E_SHAPE},
        {"conv2d", {6, 9, 9}, {.outputs = 6, .groups = 4}, ADVROB_E_SHAPE},
        {"conv2d", {6, 9, 9}, {.outputs = 7, .groups = 3}, ADVROB_E_SHAPE},
        {"conv2d", {6, 9, 9}, {.outputs = 6, .groups = INT32_MAX}, ADVROB_E_SHAPE},
        {"linear", {4, 1, 1}, {.outputs = 2, .groups = 2}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {.outputs = 2, .dilation = {2, 1}}, ADVROB_E_RANGE},
        {"max_pool", {1, 9, 9}, {{2, 2}, {1, 1}, .dilation = {1, 2}}, ADVROB_E_RANGE},
        {"avg_pool", {1, 9, 9}, {{2, 2}, {1, 1}, .dilation = {2, 2}}, ADVROB_E_RANGE},
        {"max_pool", {1, 40, 40}, {{16, 16}, {1, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"max_pool", {1, 4, 4}, {{65536, 65536}, {1, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"avg_pool", {1, 4, 4}, {{2, 2}, {2000, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"flatten", {3, 200, 200}, {.outputs = 0}, ADVROB_E_SHAPE},
    };
    advrob_context *ctx = test_context(1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        advrob_model *model = NULL;
        const int32_t inputs[AR_MAX_INPUTS] = {0, 0};
        test_ok(ar_model_create(ctx, wrong[i].in, &model));
        uint64_t digest = ar_model_digest(model);
        int32_t status = ar_model_add(model, wrong[i].op, "a", inputs, &wrong[i].a, NULL);
        if (status != wrong[i].status)
            fail_msg("refusal %d: %s, expected %s (%s)", (int)i, ar_status_name(status),
                     ar_status_name(wrong[i].status), ar_message());
        assert_true(ar_model_digest(model) == digest && model->node_count == 1);
        ar_model_release(model);
    }
    ar_context_release(ctx);
}

static void test_bad_nodes_and_records(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    advrob_model *model = test_net(ctx, "tiny_residual");
    const int32_t self[2] = {model->node_count, 0}, below[2] = {-1, 0}, odd[2] = {0, 1};
    const ar_real scales[2] = {1, 0};
    const double mean[3] = {0, 0, 0}, std[2] = {1, -1};
    assert_int_equal(ar_model_add(model, "relu", "x", self, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "x", below, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "conv1", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "a b", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "add", "x", odd, NULL, NULL), ADVROB_E_SHAPE);
    ar_quant *q = &model->nodes[2].output;
    assert_int_equal(ar_quant_set(model, q, 17, 0, 1, 0, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 3, 3, 3, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 0, 15, 16, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 0, 15, 0, scales, 2), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, NAN, 15, 0, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(q->bits, 0);
    assert_int_equal(ar_model_set_normalisation(model, mean, 3, std, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_model_set_normalisation(model, mean, 2, std, 2), ADVROB_E_RANGE);
    test_ok(ar_model_check_finite(model));
    model->slab[7] = NAN;
    assert_int_equal(ar_model_check_finite(model), ADVROB_E_NONFINITE);
    assert_non_null(strstr(ar_message(), model->parameters[0].name));
    ar_model_release(model);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_clone_and_freeze),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bad_nodes_and_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
