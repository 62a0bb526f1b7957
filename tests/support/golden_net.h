/* The nets of tests/golden/nets with their parameters. Include support.h and golden.h first. */
#ifndef TEST_GOLDEN_NET_H
#define TEST_GOLDEN_NET_H

#include "model/model.h"

static inline void golden_node(advrob_model *model, const char *op, const char *name,
                               int32_t outputs, int32_t kernel, int32_t stride) {
    ar_attributes a = {.kernel = {kernel, kernel},
                       .stride = {stride, stride},
                       .padding = {kernel / 2, kernel / 2},
                       .outputs = outputs,
                       .bias = true};
    int32_t inputs[AR_MAX_INPUTS] = {ar_model_output(model)};
    test_ok(ar_model_add(model, op, name, inputs, outputs > 0 ? &a : NULL, NULL));
}

/* Copies parameters "<prefix>.<name>" of the file into a slab of the model's layout. */
static inline void golden_slab(const advrob_model *model, const ar_safetensors *file,
                               const char *prefix, ar_real *slab) {
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        char name[128];
        int64_t count = 0;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        ar_real *values = golden_get(file, name, &count);
        assert_int_equal(count, p->count);
        memcpy(slab + p->offset, values, sizeof(ar_real) * (size_t)count);
        free(values);
    }
}

/* "tiny", or "eight_layer_conv" in the small widths of its file. */
static inline advrob_model *golden_net(advrob_context *ctx, const char *net,
                                       const ar_safetensors *file) {
    static const int32_t widths[6] = {4, 4, 8, 8, 16, 16};
    advrob_model *model = NULL;
    char name[32];
    const double half = 0.5;
    if (strcmp(net, "tiny") == 0) {
        test_ok(ar_zoo_build(ctx, net, NULL, &model));
    } else {
        test_ok(ar_model_create(ctx, (ar_shape){1, 28, 28}, &model));
        for (int32_t i = 1; i <= 6; i++) {
            snprintf(name, sizeof name, "conv%d", i);
            golden_node(model, "conv2d", name, widths[i - 1], 3, 2 - i % 2);
            snprintf(name, sizeof name, "relu%d", i);
            golden_node(model, "relu", name, 0, 0, 0);
        }
        golden_node(model, "flatten", "flatten", 0, 0, 0);
        golden_node(model, "linear", "fc1", 16, 1, 1);
        golden_node(model, "relu", "relu7", 0, 0, 0);
        golden_node(model, "linear", "fc2", 10, 1, 1);
        test_ok(ar_model_set_normalisation(model, &half, 1, &half, 1));
    }
    golden_slab(model, file, "param", model->slab);
    ar_model_changed(model);
    return model;
}

#endif
