/* A fine-tuning run from the inside: what finetune.c (options), run.c (the run), checkpoint.c and
 * alarm.c share. Private to method. */
#ifndef AR_METHOD_RUN_H
#define AR_METHOD_RUN_H

#include "io/io.h"
#include "io/safetensors.h"

#include "method.h"

/* The options of every method. */
typedef struct ar_finetune_values {
    int64_t epochs, batch_size, seed, resume, patience, max_steps, alarm_images, alarm_steps;
    double lr, momentum, weight_decay, gamma, warmup, checkpoint_minutes, minutes;
    ar_f64_array milestones;
    const char *optimizer, *schedule, *keep, *select, *checkpoint, *best_path, *last_path;
    const char *statistics, *attack_statistics, *alarm;
} ar_finetune_values;

struct advrob_finetune {
    advrob_context *ctx;
    _Atomic int32_t references;
    const ar_method *method;
    advrob_attack *attack;     /* of the training; NULL: none */
    advrob_attack *valid;      /* of the validation */
    advrob_attack *fgsm, *pgd; /* of the alarm; NULL: none */
    ar_arena arena;
    ar_finetune_values options;
    ar_augment augment;
    int64_t seed;
};

/* How a run ended. */
enum { AR_RUNNING, AR_FINISHED, AR_BUDGET, AR_PATIENCE, AR_ALARM, AR_ENDS };

/* Where a run stands, in whole steps: with weights, optimizer state, best and silent weights,
 * history rows and the sentence of the alarm all that it needs to go on to the same bits. Nothing
 * stands here for random numbers: every draw is a pure function of seed, epoch, step and sample.
 * Both structs are tensors of the checkpoint: no holes, and a new field raises its version. */
typedef struct ar_tuning_counts {
    int64_t sequence;    /* of the checkpoint that was written last */
    int64_t epoch, step; /* the next step; step = steps of an epoch: it is yet to be validated */
    int64_t done;        /* steps in all */
    int64_t correct;     /* in this epoch */
    int64_t rows;
    int64_t worse;                /* epochs since the best score */
    int64_t checked;              /* `done` at the alarm's last check */
    int64_t ended;                /* AR_RUNNING, AR_FINISHED, ... */
    int64_t closed;               /* the last row stands; nothing is left to do */
    int64_t best_owed, last_owed; /* model files that could not be written */
} ar_tuning_counts;

typedef struct ar_tuning_sums {
    double loss, lr;   /* of this epoch */
    double fgsm, pgd;  /* the epoch's last check; NaN: none yet */
    double best_score; /* of the validation; -1: none yet */
    double best_pgd;   /* of all checks */
    double seconds;    /* of the run */
    double epoch_seconds, epoch_cpu;
} ar_tuning_sums;

typedef struct ar_tuning {
    const advrob_finetune *finetune;
    const ar_finetune_values *options;
    advrob_context *ctx;
    advrob_model *model;
    const advrob_dataset *train, *valid;
    advrob_target *target; /* with running statistics: validation and alarm */
    ar_objective_room room;
    ar_objective objective;
    ar_trainer *trainer;
    const ar_optimizer *optimizer;
    const ar_schedule *schedule;
    ar_schedule_settings schedule_settings;
    ar_arena arena;
    int64_t *order, *ids, steps; /* steps of one epoch */
    float *x;
    int32_t *y;
    size_t slab_bytes;
    ar_real *best;   /* [slab]: weights of the best epoch */
    ar_real *silent; /* [slab]: of the last silent check; NULL unless the alarm rolls back */
    advrob_history *history;
    ar_tuning_counts counts;
    ar_tuning_sums sums;
    double clock, cpu_clock; /* up to when `sums` has counted */
    /* The alarm's images. */
    int64_t alarm_count; /* 0: no alarm */
    float *alarm_x;
    int32_t *alarm_y, *predictions;
    ar_attack_rooms alarm_rooms;
    /* The checkpoint: what tells this run from others, and the file that is written next. */
    char model_digest[17], train_digest[17], valid_digest[17];
    ar_buffer fingerprint; /* the options as text */
    int32_t slot;
    double written; /* when */
} ar_tuning;

/* Makes `weights` the model's. */
void ar_tuning_put_weights(ar_tuning *t, const ar_real *weights);
/* Brings the times in `sums` up to now. */
void ar_tuning_settle_clocks(ar_tuning *t);
/* Whether the run writes checkpoints. */
bool ar_tuning_has_checkpoint(const ar_tuning *t);

/* The value of an attack's option, whichever attack it is; false if it has none of that name. */
bool ar_attack_option(const advrob_attack *attack, const char *name, int32_t type, void *value);

/* alarm.c */
int32_t ar_alarm_create(advrob_finetune *finetune);
int32_t ar_alarm_allocate(ar_tuning *t);
void ar_alarm_free(ar_tuning *t);
/* Checks if a check is due at this step; a check that was made is not made again. With "stop" and
 * "rollback" it may end the run. */
int32_t ar_alarm_check(ar_tuning *t);
/* With "rollback": the weights of the last silent check, as training met a number that is not
 * finite. */
void ar_alarm_roll_back(ar_tuning *t);

/* checkpoint.c */
/* Takes the run's fingerprint and goes on from its newest checkpoint if there is one. */
int32_t ar_checkpoint_open(ar_tuning *t);
void ar_checkpoint_close(ar_tuning *t);
/* Writes the next of the two files. */
int32_t ar_checkpoint_write(ar_tuning *t);
/* The same while the run goes on: a failure is a warning. */
void ar_checkpoint_try(ar_tuning *t);
/* Whether a file that was read is a whole checkpoint: E_FORMAT; and its number. */
int32_t ar_checkpoint_check(const char *path, const ar_safetensors *file, int64_t *sequence);

#endif
