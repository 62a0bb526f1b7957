/* What all small examples need: stop on an error, options from text, the data, a small trained net.
 */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <advrob/advrob.h>

#define DEFAULT_DATA "/usr/share/datasets/fashion-mnist"

/* Ends the program with the library's message if a call failed. */
static inline void must(int32_t status) {
    if (status == ADVROB_OK) return;
    fprintf(stderr, "error: %s\n", advrob_last_message());
    exit(1);
}

/* Options from "name=value name=value". */
static inline advrob_options *options(const char *text) {
    advrob_options *o;
    char name[64], value[256];
    int used = 0;
    must(advrob_options_create(&o));
    for (; sscanf(text, " %63[^=]=%255s%n", name, value, &used) == 2; text += used) {
        must(advrob_options_set_text(o, name, value));
    }
    return o;
}

/* The first `count` images (0: all) of the split "train" or "test" of the dataset `name`. */
static inline advrob_dataset *open_dataset(advrob_context *ctx, const char *name, const char *dir,
                                           const char *split, int64_t count) {
    advrob_dataset *data;
    advrob_options *o = options("");
    must(advrob_options_set_str(o, "split", split));
    must(advrob_options_set_i64(o, "limit", count));
    must(advrob_dataset_open(ctx, name, dir, o, &data));
    advrob_options_destroy(o);
    return data;
}

/* The same of MNIST or Fashion-MNIST, whose files have the same form. */
static inline advrob_dataset *open_data(advrob_context *ctx, const char *dir, const char *split,
                                        int64_t count) {
    return open_dataset(ctx, strstr(dir, "fashion") ? "fashion-mnist" : "mnist", dir, split, count);
}

/* Trains or fine-tunes `model` by the method `name`. */
static inline void train(advrob_context *ctx, const char *name, const char *text,
                         advrob_model *model, const advrob_dataset *images) {
    advrob_options *o = options(text);
    advrob_finetune *fit;
    must(advrob_finetune_create(ctx, name, o, &fit));
    must(advrob_finetune_run(fit, model, images, NULL, NULL));
    advrob_finetune_destroy(fit);
    advrob_options_destroy(o);
}

/* The net in the file `path`; with NULL a small one, trained on `images` for a few seconds. */
static inline advrob_model *open_net(advrob_context *ctx, const char *path,
                                     const advrob_dataset *images) {
    advrob_model *model;
    if (path != NULL) {
        must(advrob_model_load(ctx, path, NULL, &model));
        return model;
    }
    advrob_options *o = options("mean=0.5 std=0.5 seed=1");
    must(advrob_model_build(ctx, "conv_small", o, &model));
    advrob_options_destroy(o);
    fprintf(stderr, "training a small net ...\n");
    train(ctx, "standard", "epochs=4 batch_size=64 lr=0.05 momentum=0.9", model, images);
    return model;
}

/* The compressed copy of `model` that the compressor `name` makes. */
static inline advrob_model *compress(advrob_context *ctx, const char *name, const char *text,
                                     const advrob_model *model, const advrob_dataset *images) {
    advrob_options *o = options(text);
    advrob_compressor *compressor;
    advrob_model *small;
    must(advrob_compressor_create(ctx, name, o, &compressor));
    must(advrob_compressor_run(compressor, model, images, &small));
    advrob_compressor_destroy(compressor);
    advrob_options_destroy(o);
    return small;
}

#endif
