/* Images and datasets out of the counter rng, and small nets. Include support.h and golden.h first.
 */
#ifndef TEST_IMAGES_H
#define TEST_IMAGES_H

#include "data/data.h"
#include "model/model.h"

/* Uniform in [0, 1): n images of `image` values each. Freed by the caller. */
static inline float *draw_images(int64_t n, int64_t image, int64_t seed) {
    float *x = malloc(sizeof(float) * (size_t)(n * image));
    ar_rng rng;
    assert_non_null(x);
    ar_rng_init(&rng, seed, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < n * image; i++)
        x[i] = ar_rng_uniform(&rng);
    return x;
}

/* Labels in [0, classes). Freed by the caller. */
static inline int32_t *draw_labels(int64_t n, int32_t classes, int64_t seed) {
    int32_t *y = malloc(sizeof(int32_t) * (size_t)n);
    ar_rng rng;
    assert_non_null(y);
    ar_rng_init(&rng, seed, AR_RNG_TEST, 1, 0, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = (int32_t)ar_rng_below(&rng, (uint32_t)classes);
    return y;
}

static inline advrob_dataset *test_dataset_of(advrob_context *ctx, int64_t n, ar_shape shape,
                                              int32_t classes, const float *x, const int32_t *y) {
    const int32_t extents[3] = {shape.c, shape.h, shape.w};
    ar_images *store = NULL;
    advrob_dataset *data = NULL;
    test_ok(ar_images_create(ctx, ADVROB_F32, n, extents, classes, &store));
    memcpy(store->pixels, x, sizeof(float) * (size_t)(n * ar_shape_count(shape)));
    memcpy(store->labels, y, sizeof(int32_t) * (size_t)n);
    test_ok(ar_dataset_create(ctx, store, &data));
    return data;
}

/* A task that can be learnt: one random image a class (the same for every seed), plus noise of
 * uniform +-noise, kept in [0, 1]. */
static inline advrob_dataset *test_dataset(advrob_context *ctx, int64_t n, ar_shape shape,
                                           int32_t classes, double noise, int64_t seed) {
    int64_t size = ar_shape_count(shape);
    float *prototypes = draw_images(classes, size, 77), *x = draw_images(n, size, seed);
    int32_t *y = draw_labels(n, classes, seed);
    for (int64_t i = 0; i < n * size; i++) {
        double moved =
            (double)prototypes[y[i / size] * size + i % size] + noise * (2 * (double)x[i] - 1);
        x[i] = (float)fmin(fmax(moved, 0), 1);
    }
    advrob_dataset *data = test_dataset_of(ctx, n, shape, classes, x, y);
    free(prototypes);
    free(x);
    free(y);
    return data;
}

static inline advrob_model *test_zoo(advrob_context *ctx, const char *name) {
    advrob_model *model = NULL;
    test_ok(ar_zoo_build(ctx, name, NULL, &model));
    return model;
}

#endif
