/* Training and fine-tuning: "standard" on clean images, "pgd_at" on PGD examples (Madry et al.
 * 2018).
 *
 *     advrob_options_set_i64(o, "epochs", 3);
 *     advrob_options_set_f64(o, "lr", 0.01);
 *     advrob_options_set_f64(o, "attack.epsilon", 0.05);
 *     advrob_options_set_str(o, "checkpoint", "run.checkpoint");
 *     advrob_finetune_create(ctx, "pgd_at", o, &fit);
 *     advrob_finetune_run(fit, model, train, NULL, NULL);
 *
 * The result is a function of model, data, seed and options: the same bits for any number of
 * threads, and whether the run was stopped and resumed on the way or not. Pruned and quantized
 * models are trained by the same call.
 *
 * Options of every method, besides the attack's as "attack.*" (advrob_option_at lists all, with
 * ranges):
 *   epochs, batch_size, seed; lr, momentum, weight_decay, optimizer; schedule with milestones,
 *   gamma, warmup.
 *   augment.crop, augment.flip: what is done to the training images at each visit, in this order,
 * in every method before its attack: augment.crop > 0 puts so many black pixels (0) on each side of
 *   the image and crops it to its size again at a random place (4 for CIFAR-10 in He et al. 2016,
 *   arXiv 1512.03385, section 4.2); augment.flip = 1 mirrors it left and right with probability
 *   1/2. The draw is a function of seed, epoch and image. Neither validation images nor the alarm's
 *   are changed.
 *   statistics (batch|frozen), attack_statistics (frozen|batch): what batch norms normalise by in
 *   training, and in the attack of the training.
 *   keep (best|last): the epoch that the model ends with. select (clean|robust|sum): the accuracy
 *   on the validation images that says which is best; robust: under PGD with the options "valid.*".
 *   best_path, last_path: model files, written when an epoch is the best so far, and after each.
 *   patience: epochs without a better one after which the run ends. minutes, max_steps: time and
 *   steps after which it ends; the steps may end within an epoch, which is then validated there.
 *   checkpoint: a path; the run can go on from the files PATH.0 and PATH.1, written in turn every
 *   checkpoint_minutes, after each epoch, at the end, and when the run is cancelled. resume (1):
 *   go on from them if they are there.
 *   alarm (off|warn|stop|rollback), alarm_images, alarm_steps: at catastrophic overfitting, in
 *   methods with an attack; see docs/fine-tuning.md. */
#ifndef ADVROB_FINETUNE_H
#define ADVROB_FINETUNE_H

#include <advrob/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_finetune advrob_finetune;
typedef struct advrob_history advrob_history;

/* Errors: E_UNKNOWN, E_RANGE, E_INVALID (attack_statistics "batch" with "attack.early_stop"). */
ADVROB_API int32_t advrob_finetune_create(advrob_context *ctx, const char *name,
                                          const advrob_options *options, advrob_finetune **out);
ADVROB_API void advrob_finetune_destroy(advrob_finetune *finetune);

/* Trains `model` in place on `train`. With `valid` (may be NULL) the accuracy on it is measured
 * after each epoch, and the model ends as the best epoch, or as the last with "keep" = "last".
 * `history` may be NULL; otherwise a row per epoch, owned by the caller.
 *
 * With a checkpoint, `model` is the one that the run began with, and the same call goes on where
 * the run stopped; a run that is finished gives its model and history at once.
 *
 * Errors: E_SHAPE (data and model), E_NONFINITE (loss, gradient or weight, named; the model then
 * holds the last good weights, with "alarm" = "rollback" those of the alarm's last silent check),
 * E_CANCELLED (the model holds the last whole step), E_BUSY, E_RANGE ("augment.crop" is not smaller
 * than the images), E_INVALID (an option that needs
 * validation images; batch norms by the batch and a batch of one value; a checkpoint of another
 * run, which says what differs), E_FORMAT (there are checkpoints and none is whole), E_IO (the last
 * checkpoint or a model file was not written; model and history are the finished ones). */
ADVROB_API int32_t advrob_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                                       const advrob_dataset *train, const advrob_dataset *valid,
                                       advrob_history **history);

/* The history: one row per epoch, the last of them for a part of one if the run ended there.
 * Columns: "epoch", "steps" (done by then in all), "lr" (of the last step), "loss" and "accuracy"
 * (on the training examples as trained on), "valid_accuracy" and "valid_robust_accuracy" (NaN when
 * not measured), "fgsm_accuracy" and "pgd_accuracy" (the alarm's last check in the epoch; NaN:
 * none), "seconds", "cpu_seconds" (of all threads of the process). */
ADVROB_API int32_t advrob_history_rows(const advrob_history *history);
ADVROB_API int32_t advrob_history_get(const advrob_history *history, int32_t row,
                                      const char *column, double *value);
/* name: "ended": *text is "finished", "budget", "patience" or "alarm"; "alarm": "" or what the
 * alarm said. The history owns the text. E_UNKNOWN for another name. */
ADVROB_API int32_t advrob_history_get_str(const advrob_history *history, const char *name,
                                          const char **text);
ADVROB_API void advrob_history_destroy(advrob_history *history);

#ifdef __cplusplus
}
#endif

#endif
