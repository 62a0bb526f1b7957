/* Nets and images to quantize, and the values of a node. Include support.h and golden.h first. */
#ifndef TEST_QUANTIZED_H
#define TEST_QUANTIZED_H

#include "model/program.h"
#include "support/images.h"
#include "support/integers.h"

static inline advrob_context *test_quant_context(test_allocator *allocator, int32_t threads) {
    return test_context_with_integers(allocator, threads, ar_cpu_detect());
}

static inline advrob_model *test_quant_net(advrob_context *ctx, const char *name) {
    const double mean = 0.5, std = 0.3;
    advrob_model *model = test_zoo(ctx, name);
    test_ok(ar_model_initialise(model, "pytorch", 5));
    test_ok(ar_model_set_normalisation(model, &mean, 1, &std, 1));
    return model;
}

static inline advrob_dataset *test_quant_images(const advrob_model *model, int64_t n,
                                                int64_t seed) {
    return test_dataset(model->ctx, n, model->nodes[0].shape, ar_model_classes(model), 0.2, seed);
}

/* How many layers have quantized weights. */
static inline int32_t test_quant_layers(const advrob_model *model) {
    int32_t count = 0;
    for (int32_t i = 1; i < model->node_count; i++)
        count += model->nodes[i].weights.bits > 0;
    return count;
}

/* What a node holds on the first images of a dataset. */
typedef struct test_values {
    int64_t count;
    float *v; /* [images, c, h, w]; freed by the caller */
    double low, high;
} test_values;

static inline test_values test_values_of(advrob_model *model, int32_t node,
                                         const advrob_dataset *data, int64_t n) {
    test_values r = {
        .count = n * ar_shape_count(model->nodes[node].shape), .low = INFINITY, .high = -INFINITY};
    float *x = malloc(sizeof(float) * (size_t)(n * ar_shape_count(model->nodes[0].shape)));
    ar_program *program;
    r.v = malloc(sizeof(float) * (size_t)r.count);
    assert_true(x != NULL && r.v != NULL);
    test_ok(ar_dataset_gather(data, 0, NULL, n, x, NULL));
    test_ok(ar_program_create(model, node, false, &program));
    test_ok(ar_program_forward(program, n, x, r.v));
    ar_program_destroy(program);
    for (int64_t i = 0; i < r.count; i++) {
        r.low = fmin(r.low, (double)r.v[i]);
        r.high = fmax(r.high, (double)r.v[i]);
    }
    free(x);
    return r;
}

#endif
