/* train: optimizers, schedules, and the step that takes an objective. It knows no attack. Others
 * include this header alone.
 *
 * An objective gets a batch and answers with branches (inputs to send through the net), per-sample
 * losses and the gradient of the batch's loss by each branch's logits. Standard training has one
 * branch, the batch; adversarial training one, the perturbed batch; TRADES would have both, with a
 * loss that couples them; free adversarial training asks for the inputs' gradient of the same
 * backward pass. */
#ifndef AR_TRAIN_H
#define AR_TRAIN_H

#include "data/data.h"
#include "model/program.h"

#define AR_MAX_BRANCHES 2

typedef struct ar_batch {
    int64_t n;
    const float *x;     /* [n, c, h, w] pixels */
    const int32_t *y;   /* [n] */
    const int64_t *ids; /* [n]: number of each sample's visit: epoch * dataset size + position */
    int64_t epoch, step;
    int64_t seed; /* of what training draws by itself: dropout */
} ar_batch;

typedef struct ar_objective {
    void *self;
    int32_t branches;
    bool input_gradient; /* `after` wants the gradient by the inputs */
    /* Writes branch b's pixels to inputs[b] [n, c, h, w]. */
    int32_t (*prepare)(void *self, const ar_batch *batch, float *const *inputs);
    /* From each branch's logits [n, classes]: losses [n], and dlogits[b], the gradient of the
     * batch's loss (the mean of `losses`). */
    int32_t (*loss)(void *self, const ar_batch *batch, const float *const *logits, double *losses,
                    float *const *dlogits);
    /* After the step; dx[b] [n, c, h, w] if input_gradient. NULL: nothing to do. */
    int32_t (*after)(void *self, const ar_batch *batch, const float *const *dx);
} ar_objective;

/* Optimizers, one a file; `state` values are kept per parameter value. */
typedef struct ar_optimizer_settings {
    double lr, momentum, weight_decay;
} ar_optimizer_settings;

typedef struct ar_optimizer {
    const char *name, *help;
    int32_t state;
    void (*update)(const ar_kernels *kernels, const ar_optimizer_settings *settings, int64_t n,
                   ar_real *weights, ar_real *state, const ar_real *gradient);
    /* Whether `update` would leave finite values only. */
    bool (*stays_finite)(const ar_optimizer_settings *settings, int64_t n, const ar_real *weights,
                         const ar_real *state, const ar_real *gradient);
} ar_optimizer;

int32_t ar_optimizer_count(void);
const ar_optimizer *ar_optimizer_at(int32_t index);
const ar_optimizer *ar_optimizer_find(const char *name);

/* Learning rate schedules. position: training done so far, in epochs (3.5 = middle of the fourth).
 */
typedef struct ar_schedule_settings {
    double lr, epochs, gamma, warmup;
    ar_f64_array milestones;
} ar_schedule_settings;

typedef struct ar_schedule {
    const char *name, *help;
    double (*rate)(const ar_schedule_settings *settings, double position);
} ar_schedule;

int32_t ar_schedule_count(void);
const ar_schedule *ar_schedule_at(int32_t index);
const ar_schedule *ar_schedule_find(const char *name);

/* Room and state of a training run on one model. */
typedef struct ar_trainer ar_trainer;

typedef struct ar_step_result {
    double loss;     /* mean over the batch */
    int64_t correct; /* samples whose last branch is classified right */
} ar_step_result;

/* The largest batch is fixed here. The model's parameters are the trainer's to change.
 * batch_statistics: batch norms normalise by the batch, and move their running statistics; without,
 * by the running statistics, which stay. */
int32_t ar_trainer_create(advrob_model *model, const ar_optimizer *optimizer, int64_t batch,
                          int32_t branches, bool batch_statistics, ar_trainer **out);
void ar_trainer_destroy(ar_trainer *trainer); /* NULL is fine */
/* The optimizer's state, [*count]: with the model's slab all that a step hands on to the next one.
 * A checkpoint reads it and puts it back. */
ar_real *ar_trainer_state(ar_trainer *trainer, int64_t *count);

/* One step. On any failure, a loss or gradient that is not finite included, weights and optimizer
 * state are those from before the step; but a failure of `after` comes behind it. */
int32_t ar_trainer_step(ar_trainer *trainer, const ar_objective *objective, const ar_batch *batch,
                        const ar_optimizer_settings *settings, ar_step_result *result);

#define AR_OPTIMIZER(name) extern const ar_optimizer ar_optimizer_##name;
#include "optimizers.inc"
#undef AR_OPTIMIZER

#endif
