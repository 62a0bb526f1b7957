/* Training and fine-tuning: "standard" on clean images, "pgd_at" on PGD examples (Madry et al.
 * 2018).
 *
 *     advrob_options_set_i64(o, "epochs", 3);
 *     advrob_options_set_f64(o, "lr", 0.01);
 *     advrob_options_set_f64(o, "attack.epsilon", 0.05);
 *     advrob_finetune_create(ctx, "pgd_at", o, &fit);
 *     advrob_finetune_run(fit, model, train, NULL, NULL);
 *
 * The result is a function of model, data, seed and options: the same bits for any number of
 * threads. Pruned and quantized models are trained by the same call. */
#ifndef ADVROB_FINETUNE_H
#define ADVROB_FINETUNE_H

#include <advrob/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_finetune advrob_finetune;
typedef struct advrob_history advrob_history;

/* Errors: E_UNKNOWN, E_RANGE. */
ADVROB_API int32_t advrob_finetune_create(advrob_context *ctx, const char *name,
                                          const advrob_options *options, advrob_finetune **out);
ADVROB_API void advrob_finetune_destroy(advrob_finetune *finetune);

/* Trains `model` in place on `train`. With `valid` (may be NULL) the clean accuracy on it is
 * measured after each epoch, and the model ends as the best epoch, or as the last with
 * "keep" = "last". `history` may be NULL; otherwise a row per epoch, owned by the caller.
 * Errors: E_SHAPE (data and model), E_NONFINITE (loss, gradient or weight, named; the model then
 * holds the last good weights), E_CANCELLED (the model holds the last whole step), E_BUSY. */
ADVROB_API int32_t advrob_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                                       const advrob_dataset *train, const advrob_dataset *valid,
                                       advrob_history **history);

/* The history: one row per epoch with the columns "epoch", "lr", "loss", "accuracy" (on the
 * training examples as trained on), "valid_accuracy" (NaN without validation), "seconds". */
ADVROB_API int32_t advrob_history_rows(const advrob_history *history);
ADVROB_API int32_t advrob_history_get(const advrob_history *history, int32_t row,
                                      const char *column, double *value);
ADVROB_API void advrob_history_destroy(advrob_history *history);

#ifdef __cplusplus
}
#endif

#endif
