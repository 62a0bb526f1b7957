/* The deployed half of a program: an engine from its file says what is in an image of 8-bit pixels.
 * It needs no more than the inference-only library (-Dcomponents=engine).
 *
 *     quantize DATA model.safetensors engine.advrob     makes such a file
 *     classify engine.advrob pixels [offset]
 *
 * pixels: a file with one byte a pixel, [channels, height, width], as cameras write them; image k
 * of MNIST's uncompressed files begins at 16 + 784 k. */
#include <stdio.h>
#include <stdlib.h>

#include <advrob/engine.h>

/* Ends the program with the library's message if a call failed. */
static void must(int32_t status) {
    if (status == ADVROB_OK) return;
    fprintf(stderr, "error: %s\n", advrob_last_message());
    exit(1);
}

int main(int argc, char **argv) {
    advrob_context *ctx;
    advrob_engine *engine;
    int64_t fixed, room;
    int32_t shape[3], best = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: classify ENGINE PIXELS [OFFSET]\n");
        return 2;
    }
    must(advrob_context_create(NULL, &ctx));
    must(advrob_engine_load(ctx, argv[1], &engine));
    must(advrob_engine_shape(engine, shape));
    must(advrob_engine_memory(engine, &fixed, &room));
    const int32_t classes = advrob_engine_classes(engine);
    const size_t size = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    uint8_t *pixels = malloc(size);
    float *logits = malloc(sizeof(float) * (size_t)classes);
    FILE *file = fopen(argv[2], "rb");
    if (pixels == NULL || logits == NULL || file == NULL ||
        fseek(file, argc > 3 ? atol(argv[3]) : 0, SEEK_SET) != 0 ||
        fread(pixels, 1, size, file) != size) {
        fprintf(stderr, "error: %s has no image of %zu bytes there\n", argv[2], size);
        return 1;
    }
    must(advrob_engine_run_u8(engine, 1, pixels, logits));
    for (int32_t k = 1; k < classes; k++)
        if (logits[k] > logits[best]) best = k;
    printf("class %d, logit %.9g; %lld kB of program, %lld kB to run\n", best, (double)logits[best],
           (long long)fixed / 1000, (long long)room / 1000);

    fclose(file);
    free(pixels);
    free(logits);
    advrob_engine_destroy(engine);
    advrob_context_destroy(ctx);
    return 0;
}
