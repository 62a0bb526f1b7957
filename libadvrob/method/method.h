/* method: fine-tune recipes, one objective a file, and evaluation. Others may also include
 * evaluate.h and masking.h. */
#ifndef AR_METHOD_H
#define AR_METHOD_H

#include <advrob/finetune.h>

#include "attack/attack.h"
#include "evaluate.h"
#include "masking.h"
#include "train/train.h"

/* A recipe: how its objective is made for a model. The options common to all recipes are
 * ar_finetune_options and, under "augment.", ar_augment_options; under "valid." those of the attack
 * that validates (AR_VALID_ATTACK); `attack` names the attack whose options are reached as
 * "attack.*". */
typedef struct ar_method {
    const char *name, *help;
    const char *attack; /* NULL: none */
    /* A target on the model and the attack, if there is one, are made by run.c. */
    int32_t branches;
    int32_t (*prepare)(void *self, const ar_batch *batch, float *const *inputs);
    int32_t (*loss)(void *self, const ar_batch *batch, const float *const *logits, double *losses,
                    float *const *dlogits);
} ar_method;

/* What an objective sees as `self`. */
typedef struct ar_objective_room {
    advrob_target *target;       /* on the model in training */
    const advrob_attack *attack; /* NULL: none */
    ar_attack_rooms attack_rooms;
    double *scratch; /* [classes] */
    int64_t size;    /* values of one image */
    int32_t classes;
} ar_objective_room;

/* gradients.c: an ar_gradients_fn (compress/compress.h) of the cross entropy, with running
 * statistics. */
int32_t ar_method_gradients(const advrob_model *model, const advrob_dataset *data, int64_t images,
                            int64_t batch, void (*each)(void *arg, const ar_real *gradient),
                            void *arg);

/* score.c: an ar_accuracy_fn (compress/compress.h): under PGD-10 where epsilon is above 0. */
int32_t ar_method_score(advrob_model *model, const advrob_dataset *data, double epsilon,
                        double *score);

int32_t ar_method_count(void);
const ar_method *ar_method_at(int32_t index);
int32_t ar_method_find(const char *name, const ar_method **out);

/* The mean cross entropy of branch 0: what standard and PGD training have in common. */
int32_t ar_method_mean_ce(void *self, const ar_batch *batch, const float *const *logits,
                          double *losses, float *const *dlogits);

extern const ar_option_table ar_finetune_options;
#define AR_VALID_ATTACK "pgd"

enum { AR_HISTORY_COLUMNS = 11 };
struct advrob_history {
    advrob_context *ctx;
    int32_t rows;
    double *values;    /* [rows][AR_HISTORY_COLUMNS] */
    const char *ended; /* static: "finished", "budget", "patience", "alarm" */
    char alarm[AR_MESSAGE_SIZE];
};

int32_t ar_finetune_create(advrob_context *ctx, const char *name, const advrob_options *options,
                           advrob_finetune **out);
void ar_finetune_release(advrob_finetune *finetune); /* NULL is fine */
int32_t ar_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                        const advrob_dataset *train, const advrob_dataset *valid,
                        advrob_history **history);
/* E_UNKNOWN for a column or row that is not there. */
int32_t ar_history_get(const advrob_history *history, int32_t row, const char *column,
                       double *value);
int32_t ar_history_get_str(const advrob_history *history, const char *name, const char **text);
void ar_history_release(advrob_history *history); /* NULL is fine */

/* Evaluation. Right answers on all images of `data`, clean and under the attack (NULL: none); only
 * images that are right when clean are attacked. Images go through in groups of `group`. */
int32_t ar_evaluate(advrob_target *target, const advrob_dataset *data, const advrob_attack *attack,
                    int64_t group, int64_t *clean, int64_t *robust);

/* Best time of `repeats` forward passes of `batch` images, in milliseconds. */
int32_t ar_latency(advrob_model *model, int64_t batch, int32_t repeats, double *milliseconds);

#define AR_METHOD(name) extern const ar_method ar_method_##name;
#include "methods.inc"
#undef AR_METHOD

#endif
