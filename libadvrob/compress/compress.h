/* compress: one compressor a file, its descriptor at the end. Others include this header and
 * quant_table.h (what quantization did to each layer).
 *
 * A compressor never edits the model that it is given: it makes a new one. */
#ifndef AR_COMPRESS_H
#define AR_COMPRESS_H

#include <advrob/compress.h>

#include "data/data.h"
#include "model/program.h"

/* Hands the gradient of the mean loss of each batch of `batch` images, of the first `images` of
 * `data`, to `each`: in the slab's layout. compress knows no loss: the method layer gives this. */
typedef int32_t (*ar_gradients_fn)(const advrob_model *model, const advrob_dataset *data,
                                   int64_t images, int64_t batch,
                                   void (*each)(void *arg, const ar_real *gradient), void *arg);

/* Share of the images of `data` that the model gets right; epsilon above 0: under PGD, too. It
 * knows attacks, so the method layer gives it as well. */
typedef int32_t (*ar_accuracy_fn)(advrob_model *model, const advrob_dataset *data, double epsilon,
                                  double *accuracy);

/* One run: options, the model, and calibration images (NULL if none were given). */
typedef struct ar_compression {
    advrob_context *ctx;
    const void *options;
    const advrob_model *model;
    const advrob_dataset *calibration;
    ar_gradients_fn gradients;
    ar_accuracy_fn accuracy;
    advrob_compress_step_fn step; /* the caller's, after each step; NULL: none */
    void *step_user;
    advrob_compress_score_fn score; /* the caller's, of guarded quantization; NULL: none */
    void *score_user;
} ar_compression;

struct ar_rating; /* prune.h */

typedef struct ar_compressor {
    const char *name, *help;
    const ar_option_table *options;
    bool needs_calibration;
    int32_t (*run)(const ar_compression *job, advrob_model **out);
    int32_t (*plan)(const ar_compression *job, ar_buffer *text);
    /* A pruning criterion has this instead of the two above (prune.h). */
    int32_t (*rate)(const struct ar_rating *rating, double *scores);
} ar_compressor;

struct advrob_compressor {
    advrob_context *ctx;
    _Atomic int32_t references;
    const ar_compressor *kind;
    ar_arena arena;
    void *options;
    ar_gradients_fn gradients;
    ar_accuracy_fn accuracy;
    advrob_compress_step_fn step;
    void *step_user;
    advrob_compress_score_fn score;
    void *score_user;
};

int32_t ar_compressor_count(void);
const ar_compressor *ar_compressor_at(int32_t index);

int32_t ar_compressor_create(advrob_context *ctx, const char *name, const advrob_options *options,
                             ar_gradients_fn gradients, ar_accuracy_fn accuracy,
                             advrob_compressor **out);
void ar_compressor_release(advrob_compressor *compressor); /* NULL is fine */
int32_t ar_compressor_run(const advrob_compressor *compressor, const advrob_model *model,
                          const advrob_dataset *calibration, advrob_model **out);
int32_t ar_compressor_plan(const advrob_compressor *compressor, const advrob_model *model,
                           const advrob_dataset *calibration, ar_buffer *text);

#define AR_COMPRESSOR(name) extern const ar_compressor ar_compressor_##name;
#include "compressors.inc"
#undef AR_COMPRESSOR

#endif
