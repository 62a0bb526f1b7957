/* The deployed half of a program: an engine from its file says what is in an image.
 *
 *     quantize DATA model.safetensors engine.advrob     makes such a file
 *     classify engine.advrob [data folder [image]] */
#include "common.h"

int main(int argc, char **argv) {
    const char *dir = argc > 2 ? argv[2] : DEFAULT_DATA;
    const int64_t image = argc > 3 ? atoll(argv[3]) : 0;
    advrob_context *ctx;
    advrob_engine *engine;
    int64_t fixed, room;
    int32_t shape[3], label, best = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: classify ENGINE [DATA [IMAGE]]\n");
        return 2;
    }
    must(advrob_context_create(NULL, &ctx));
    must(advrob_engine_load(ctx, argv[1], &engine));
    must(advrob_engine_shape(engine, shape));
    must(advrob_engine_memory(engine, &fixed, &room));
    const int32_t classes = advrob_engine_classes(engine);

    advrob_dataset *test = open_data(ctx, dir, "test", image + 1);
    float *x = malloc(sizeof(float) * (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2]);
    float *logits = malloc(sizeof(float) * (size_t)classes);
    if (x == NULL || logits == NULL) return 1;
    must(advrob_dataset_read(test, image, 1, x, &label));
    must(advrob_engine_run(engine, 1, x, logits));
    for (int32_t k = 1; k < classes; k++)
        if (logits[k] > logits[best]) best = k;
    printf("image %lld: class %d (labelled %d), logit %.3f; %lld kB of program, %lld kB to run\n",
           (long long)image, best, label, (double)logits[best], (long long)fixed / 1000,
           (long long)room / 1000);

    free(x);
    free(logits);
    advrob_dataset_destroy(test);
    advrob_engine_destroy(engine);
    advrob_context_destroy(ctx);
    return 0;
}
