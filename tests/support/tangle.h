/* Nets and images for tests of graphs. The tangle is a net with all that is awkward: values that
 * are used two and three times, an addition of a value to itself, ReLUs that no step can fuse, two
 * users of the input, a dead branch. Include support.h and golden.h first. */
#ifndef TEST_TANGLE_H
#define TEST_TANGLE_H

#include "model/model.h"

static inline int32_t tangle_node(advrob_model *model, const char *op, int32_t a, int32_t b,
                                  const ar_attributes *attributes) {
    char name[16];
    int32_t inputs[AR_MAX_INPUTS] = {a, b}, at = 0;
    snprintf(name, sizeof name, "n%d", model->node_count);
    test_ok(ar_model_add(model, op, name, inputs, attributes, &at));
    return at;
}

/* Input 2 x 8 x 8, 5 classes, every operator; `dead`: with nodes that nothing depends on. */
static inline advrob_model *tangle_build(advrob_context *ctx, bool dead) {
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, 4, true};
    const ar_attributes pool = {{2, 2}, {2, 2}, {0, 0}, 0, false};
    const ar_attributes wide = {{3, 3}, {2, 2}, {1, 1}, 0, false};
    const ar_attributes hidden = {.outputs = 7, .bias = true}, last = {.outputs = 5};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){2, 8, 8}, &m));
    ar_copy_text(m->zoo, sizeof m->zoo, "tangle");
    int32_t a = tangle_node(m, "relu", tangle_node(m, "conv2d", 0, 0, &conv), 0, NULL);
    int32_t b = tangle_node(m, "relu", tangle_node(m, "conv2d", a, 0, &conv), 0, NULL);
    int32_t c = tangle_node(m, "add", b, a, NULL);
    int32_t d = tangle_node(m, "relu", tangle_node(m, "add", c, a, NULL), 0, NULL);
    int32_t e = tangle_node(m, "max_pool", d, 0, &pool);
    int32_t f = tangle_node(m, "add", e, e, NULL);
    int32_t g = tangle_node(m, "add", tangle_node(m, "avg_pool", d, 0, &pool), f, NULL);
    int32_t h = tangle_node(m, "avg_pool", g, 0, &wide);
    int32_t i = tangle_node(m, "conv2d", 0, 0, &conv);
    i = tangle_node(m, "add", i, tangle_node(m, "conv2d", a, 0, &conv), NULL);
    if (dead) tangle_node(m, "relu", tangle_node(m, "conv2d", g, 0, &conv), 0, NULL);
    int32_t j = tangle_node(m, "global_avg_pool", i, 0, NULL);
    j = tangle_node(m, "linear", j, 0, &hidden);
    int32_t k = tangle_node(m, "linear", tangle_node(m, "flatten", h, 0, NULL), 0, &hidden);
    k = tangle_node(m, "relu", k, 0, NULL);
    tangle_node(m, "linear", tangle_node(m, "add", j, k, NULL), 0, &last);
    test_ok(ar_model_initialise(m, "he", 3));
    return m;
}

/* Border biases begin as zeros: numbers that matter. */
static inline void tangle_borders(advrob_model *m) {
    for (int32_t i = 0; i < m->parameter_count; i++)
        for (int64_t k = 0; k < m->parameters[i].count; k++)
            if (m->parameters[i].role == AR_BORDER_BIAS)
                m->slab[m->parameters[i].offset + k] = (ar_real)(k % 11 - 5) / 16;
    ar_model_changed(m);
}

/* Input 1 x 52 x 21, 5 classes: layers of odd sizes and the poolings behind them, of windows `rows`
 * high and `stride` apart. */
static inline advrob_model *pooled_build(advrob_context *ctx, int32_t rows, int32_t stride) {
    const ar_attributes conv[3] = {{{3, 3}, {1, 1}, {1, 1}, 13, true, .border_bias = true},
                                   {{3, 3}, {1, 1}, {1, 1}, 14, true, .border_bias = true},
                                   {{3, 3}, {1, 1}, {1, 1}, 12, false}};
    const ar_attributes largest = {{rows, 2}, {stride, 2}, {0, 0}, 0, false};
    const ar_attributes mean = {{rows, 3}, {stride, 2}, {0, 1}, 0, false};
    const ar_attributes wide = {{3, 3}, {2, 2}, {1, 1}, 0, false}; /* windows overlap */
    const ar_attributes last = {.outputs = 5, .bias = true};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){1, 52, 21}, &m));
    ar_copy_text(m->zoo, sizeof m->zoo, "pooled");
    int32_t at = tangle_node(m, "relu", tangle_node(m, "conv2d", 0, 0, &conv[0]), 0, NULL);
    at = tangle_node(m, "max_pool", at, 0, &largest);
    at = tangle_node(m, "avg_pool", tangle_node(m, "conv2d", at, 0, &conv[1]), 0, &mean);
    at = tangle_node(m, "relu", tangle_node(m, "conv2d", at, 0, &conv[2]), 0, NULL);
    at = tangle_node(m, "max_pool", at, 0, &wide);
    at = tangle_node(m, "global_avg_pool", at, 0, NULL);
    tangle_node(m, "linear", at, 0, &last);
    test_ok(ar_model_initialise(m, "he", 4));
    tangle_borders(m);
    return m;
}

/* Input 2 x h x w, 5 classes: layers in `groups` groups of two channels, depthwise ones and a
 * dilated one, with batch norms, a border bias, a pooling that follows its layer, and a sum. */
static inline advrob_model *grouped_build(advrob_context *ctx, int32_t groups, int32_t h,
                                          int32_t w) {
    const int32_t c = 2 * groups;
    const ar_attributes first = {{3, 3}, {1, 1}, {1, 1}, c, false};
    const ar_attributes deep = {{3, 3}, {1, 1}, {1, 1}, c, true, .border_bias = true, .groups = c};
    const ar_attributes wide = {{3, 3},          {1, 1}, {2, 2}, c, true, .dilation = {2, 2},
                                .groups = groups};
    const ar_attributes more = {{3, 3}, {2, 2}, {1, 1}, 2 * c, true, .groups = c};
    const ar_attributes pool = {{2, 2}, {2, 2}, {0, 0}, 0, false};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    const ar_attributes last = {.outputs = 5, .bias = true};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){2, h, w}, &m));
    ar_copy_text(m->zoo, sizeof m->zoo, "grouped");
    int32_t at = tangle_node(m, "batch_norm", tangle_node(m, "conv2d", 0, 0, &first), 0, &norm);
    at = tangle_node(m, "conv2d", tangle_node(m, "relu", at, 0, NULL), 0, &deep);
    at = tangle_node(m, "relu", tangle_node(m, "batch_norm", at, 0, &norm), 0, NULL);
    int32_t half = tangle_node(m, "max_pool", at, 0, &pool);
    at = tangle_node(m, "add", tangle_node(m, "conv2d", half, 0, &wide), half, NULL);
    at = tangle_node(m, "conv2d", tangle_node(m, "relu", at, 0, NULL), 0, &more);
    at = tangle_node(m, "global_avg_pool", tangle_node(m, "relu", at, 0, NULL), 0, NULL);
    tangle_node(m, "linear", at, 0, &last);
    test_ok(ar_model_initialise(m, "he", 6));
    for (int32_t i = 0; i < m->parameter_count; i++)
        for (int64_t k = 0; k < m->parameters[i].count; k++) {
            ar_real *value = &m->slab[m->parameters[i].offset + k];
            if (m->parameters[i].role == AR_RUNNING_VAR) *value = (ar_real)(k % 5 + 1) / 3;
            if (m->parameters[i].role == AR_RUNNING_MEAN) *value = (ar_real)(k % 5 - 2) / 7;
        }
    tangle_borders(m);
    return m;
}

/* A net of the zoo, the tangle with its dead branch, "pooled" with windows of 2, or "grouped". */
static inline advrob_model *test_net(advrob_context *ctx, const char *name) {
    advrob_model *model = NULL;
    if (strcmp(name, "tangle") == 0) return tangle_build(ctx, true);
    if (strcmp(name, "pooled") == 0) return pooled_build(ctx, 2, 2);
    if (strcmp(name, "grouped") == 0) return grouped_build(ctx, 8, 26, 21);
    test_ok(ar_zoo_build(ctx, name, NULL, &model));
    return model;
}

/* Pixels in [0, 1); freed by the caller. */
static inline float *test_images(int64_t n, int64_t image, int64_t seed) {
    float *x = malloc(sizeof(float) * (size_t)(n * image));
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < n * image; i++)
        x[i] = ar_rng_uniform(&rng);
    return x;
}

#endif
