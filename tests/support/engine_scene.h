/* A zoo net with random parameters, quantized, with its engine and images as 8 bits hold them.
 * Include support.h first. */
#ifndef TEST_ENGINE_SCENE_H
#define TEST_ENGINE_SCENE_H

#include "support/golden.h"
#include "support/integers.h"

#include "support/images.h"
#include "support/options.h"

enum { IMAGES = 40, CLASSES = 10 };

typedef struct scene {
    advrob_context *ctx;
    advrob_model *quantized;
    advrob_engine *engine;
    int64_t size;
    float *x;
    int32_t *y;
} scene;

static inline advrob_context *open_context(test_allocator *allocator, int32_t threads,
                                           int32_t level) {
    return test_context_with_integers(allocator, threads, level);
}

/* A net with random parameters that are not tiny, so that its logits differ. */
static inline void open_scene(scene *s, advrob_context *ctx, const char *net, const char *words) {
    static const double mean[] = {0.5, 0.4, 0.3}, std[] = {0.3, 0.2, 0.5};
    advrob_options *options = test_options(words);
    advrob_compressor *quant = NULL;
    advrob_model *model = test_zoo(ctx, net);
    const size_t channels = (size_t)model->nodes[0].shape.c;
    test_ok(ar_model_initialise(model, "he", 5));
    test_ok(ar_model_set_normalisation(model, mean, channels, std, channels));
    *s = (scene){.ctx = ctx, .size = ar_shape_count(model->nodes[0].shape)};
    advrob_dataset *data =
        test_dataset(ctx, IMAGES, model->nodes[0].shape, ar_model_classes(model), 0.3, 3);
    s->x = malloc(sizeof(float) * (size_t)(IMAGES * s->size));
    s->y = malloc(sizeof(int32_t) * IMAGES);
    test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, s->x, s->y));
    for (int64_t i = 0; i < IMAGES * s->size; i++) /* as 8 bits hold it */
        s->x[i] = rintf(s->x[i] * 255) / 255;
    test_ok(advrob_compressor_create(ctx, "quant_ptq", options, &quant));
    test_ok(advrob_compressor_run(quant, model, data, &s->quantized));
    test_ok(advrob_engine_create(s->quantized, NULL, &s->engine));
    advrob_compressor_destroy(quant);
    ar_options_destroy(options);
    ar_dataset_release(data);
    ar_model_release(model);
}

static inline void close_scene(scene *s) {
    advrob_engine_destroy(s->engine);
    ar_model_release(s->quantized);
    free(s->x);
    free(s->y);
}

#endif
