/* A fine-tuning run: epochs of steps through an objective, validation, what is kept, and when it
 * ends.
 *
 * A run can stop after any whole step and go on from there. So what is done between two steps and
 * after an epoch hangs on the state alone (run.h), is not done twice, and changes the state only
 * when it has succeeded: then a run that was stopped in the middle of it simply does it again. */
#include <math.h>
#include <string.h>

#include "run.h"

bool ar_tuning_has_checkpoint(const ar_tuning *t) {
    return t->options->checkpoint[0] != 0;
}

void ar_tuning_put_weights(ar_tuning *t, const ar_real *weights) {
    if (weights != t->model->slab) memcpy(t->model->slab, weights, t->slab_bytes);
    ar_model_changed(t->model);
    (void)ar_model_update_programs(t->model); /* who runs them next meets the same error */
}

void ar_tuning_settle_clocks(ar_tuning *t) {
    double clock = ar_clock(), cpu_clock = ar_cpu_clock();
    t->sums.seconds += clock - t->clock;
    t->sums.epoch_seconds += clock - t->clock;
    t->sums.epoch_cpu += cpu_clock - t->cpu_clock;
    t->clock = clock;
    t->cpu_clock = cpu_clock;
}

/* Setting up */

static int32_t check_data(const ar_tuning *t, const advrob_dataset *data, const char *what) {
    ar_shape in = t->model->nodes[0].shape;
    const int32_t shape[3] = {in.c, in.h, in.w};
    if (data->count < 1) return ar_error(ADVROB_E_INVALID, "there are no %s images", what);
    return ar_dataset_check(data, what, "the model", shape, ar_model_classes(t->model));
}

/* Options that mean nothing without validation images. */
static int32_t check_validation(const ar_tuning *t) {
    const ar_finetune_values *o = t->options;
    const char *name = o->patience > 0                   ? "patience"
                       : o->best_path[0] != 0            ? "best_path"
                       : strcmp(o->select, "clean") != 0 ? "select"
                                                         : NULL;
    if (t->valid != NULL || name == NULL) return ADVROB_OK;
    return ar_error(ADVROB_E_INVALID, "option \"%s\" needs validation images, there are none",
                    name);
}

/* Batch norms need more than one value: told before the first step, not at a last small batch. */
static int32_t check_batches(const ar_tuning *t) {
    const ar_finetune_values *o = t->options;
    ar_program *program = NULL;
    int64_t last = t->train->count % o->batch_size;
    bool batch = strcmp(o->statistics, "batch") == 0 ||
                 (t->finetune->attack != NULL && strcmp(o->attack_statistics, "batch") == 0);
    if (!batch || (last != 1 && o->batch_size > 1)) return ADVROB_OK;
    int32_t status = ar_model_program(t->model, true, &program);
    if (status >= 0) status = ar_tiles_check(program, 1);
    if (status == ADVROB_E_INVALID)
        return ar_error(status, "batch_size %lld leaves one of %lld images alone: %s",
                        (long long)o->batch_size, (long long)t->train->count, ar_message());
    return status;
}

static int32_t check(const ar_tuning *t) {
    int32_t status = ADVROB_OK;
    if (t->model->slab_count == 0)
        AR_FAIL(ADVROB_E_INVALID, "the model has no parameters, there is nothing to train");
    AR_TRY(ar_model_check_unfrozen(t->model));
    AR_TRY(ar_model_check_finite(t->model));
    AR_TRY(check_data(t, t->train, "training"));
    AR_TRY(ar_augment_check(&t->finetune->augment, t->train->images->shape[1],
                            t->train->images->shape[2]));
    if (t->valid != NULL) AR_TRY(check_data(t, t->valid, "validation"));
    AR_TRY(check_validation(t));
    AR_TRY(check_batches(t));
out:
    return status;
}

static int32_t allocate_history(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    void *block;
    AR_TRY(ar_calloc(&t->ctx->memory, 1, sizeof(advrob_history), "history", &block));
    t->history = block;
    t->history->ctx = t->ctx;
    ar_context_retain(t->ctx);
    AR_TRY(ar_calloc(&t->ctx->memory, (size_t)t->options->epochs * AR_HISTORY_COLUMNS,
                     sizeof(double), "history", &block));
    t->history->values = block;
out:
    return status;
}

static int32_t allocate(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    void *block;
    size_t batch = (size_t)t->options->batch_size;
    AR_TRY(ar_arena_alloc(&t->arena, (size_t)t->train->count, sizeof(int64_t), "order", &block));
    t->order = block;
    AR_TRY(ar_arena_alloc(&t->arena, batch, sizeof(int64_t), "batch", &block));
    t->ids = block;
    AR_TRY(ar_arena_alloc(&t->arena, batch * (size_t)t->room.size, sizeof(float), "batch", &block));
    t->x = block;
    AR_TRY(ar_arena_alloc(&t->arena, batch, sizeof(int32_t), "batch", &block));
    t->y = block;
    AR_TRY(ar_arena_alloc(&t->arena, (size_t)t->room.classes, sizeof(double), "batch", &block));
    t->room.scratch = block;
    AR_TRY(ar_arena_alloc(&t->arena, 1, t->slab_bytes, "best weights", &block));
    t->best = block;
    AR_TRY(allocate_history(t));
out:
    return status;
}

static int32_t create_targets(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    const ar_finetune_values *o = t->options;
    AR_TRY(ar_target_from_model(t->model, &t->target));
    t->room.attack = t->finetune->attack;
    if (t->room.attack != NULL && strcmp(o->attack_statistics, "batch") == 0) {
        AR_TRY(ar_target_from_model_batch(t->model, o->batch_size, &t->room.target));
    } else {
        t->room.target = t->target;
        ar_target_retain(t->target);
    }
    if (t->room.attack != NULL)
        AR_TRY(ar_attack_rooms_create(t->room.attack, t->room.target, o->batch_size,
                                      &t->room.attack_rooms));
out:
    return status;
}

static int32_t create_trainer(ar_tuning *t) {
    const ar_method *method = t->finetune->method;
    const ar_finetune_values *o = t->options;
    t->objective = (ar_objective){.self = &t->room,
                                  .branches = method->branches,
                                  .prepare = method->prepare,
                                  .loss = method->loss};
    return ar_trainer_create(t->model, t->optimizer, o->batch_size, method->branches,
                             strcmp(o->statistics, "batch") == 0, &t->trainer);
}

static int32_t set_up(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    const ar_finetune_values *o = t->options;
    t->room.size = ar_shape_count(t->model->nodes[0].shape);
    t->room.classes = ar_model_classes(t->model);
    t->slab_bytes = sizeof(ar_real) * (size_t)t->model->slab_count;
    t->steps = (t->train->count + o->batch_size - 1) / o->batch_size;
    t->optimizer = ar_optimizer_find(o->optimizer);
    t->schedule = ar_schedule_find(o->schedule);
    t->schedule_settings =
        (ar_schedule_settings){o->lr, (double)o->epochs, o->gamma, o->warmup, o->milestones};
    t->sums = (ar_tuning_sums){.fgsm = NAN, .pgd = NAN, .best_score = -1};
    t->counts.checked = -1;
    AR_TRY(check(t));
    AR_TRY(allocate(t));
    AR_TRY(create_targets(t));
    AR_TRY(create_trainer(t));
    AR_TRY(ar_alarm_allocate(t));
    AR_TRY(ar_checkpoint_open(t));
out:
    return status;
}

/* A step */

static int32_t run_step(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    ar_tuning_counts *c = &t->counts;
    const ar_finetune_values *o = t->options;
    int64_t first = c->step * o->batch_size, n = t->train->count - first;
    if (n > o->batch_size) n = o->batch_size;
    for (int64_t i = 0; i < n; i++)
        t->ids[i] = c->epoch * t->train->count + t->order[first + i];
    AR_TRY(ar_dataset_gather(t->train, 0, t->order + first, n, t->x, t->y));
    ar_augment_images(&t->finetune->augment, t->finetune->seed, t->ids, n, t->train->images->shape,
                      t->x);
    ar_batch batch = {n, t->x, t->y, t->ids, c->epoch, c->step, t->finetune->seed};
    double lr = t->schedule->rate(&t->schedule_settings,
                                  (double)c->epoch + (double)c->step / (double)t->steps);
    ar_optimizer_settings settings = {lr, o->momentum, o->weight_decay};
    ar_step_result result;
    AR_TRY(ar_trainer_step(t->trainer, &t->objective, &batch, &settings, &result));
    t->sums.lr = lr;
    t->sums.loss += result.loss * (double)n;
    c->correct += result.correct;
    c->step++;
    c->done++;
    AR_TRY(ar_progress(t->ctx, "train", c->done, o->epochs * t->steps,
                       t->sums.loss / (double)(first + n)));
out:
    return status;
}

/* Whether time or steps are used up. One step is always made, so that there is a row. */
static bool is_over_budget(ar_tuning *t) {
    const ar_finetune_values *o = t->options;
    if (t->counts.done == 0) return false;
    if (o->max_steps > 0 && t->counts.done >= o->max_steps) return true;
    if (o->minutes <= 0) return false;
    ar_tuning_settle_clocks(t);
    return t->sums.seconds >= 60 * o->minutes;
}

/* What may be due before the next step: the alarm's check, the end of the budget, a checkpoint. */
static int32_t between_steps(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    ar_tuning_counts *c = &t->counts;
    const ar_finetune_values *o = t->options;
    bool last = c->step == t->steps && c->epoch == o->epochs - 1;
    if (c->ended != AR_RUNNING) goto out;
    AR_TRY(ar_alarm_check(t));
    if (c->ended != AR_RUNNING) goto out;
    if (!last && is_over_budget(t)) {
        c->ended = AR_BUDGET;
        c->closed = c->step == 0; /* the last epoch has its row */
    } else if (c->step < t->steps && c->done > 0 && o->checkpoint_minutes > 0 &&
               ar_clock() - t->written >= 60 * o->checkpoint_minutes) {
        ar_checkpoint_try(t);
    }
out:
    return status;
}

/* After an epoch */

/* Accuracies on the validation images; NaN for those that are not asked for. */
static int32_t validate(ar_tuning *t, double *clean, double *robust, double *score) {
    int32_t status = ADVROB_OK;
    const advrob_attack *attack = t->finetune->valid;
    const char *select = t->options->select;
    bool attacked = strcmp(select, "clean") != 0;
    int64_t right, held;
    *clean = *robust = *score = NAN;
    if (t->valid == NULL) return ADVROB_OK;
    AR_TRY(ar_evaluate(t->target, t->valid, attacked ? attack : NULL, 512, &right, &held));
    *score = *clean = (double)right / (double)t->valid->count;
    if (attacked) *score = *robust = (double)held / (double)t->valid->count;
    if (strcmp(select, "sum") == 0) *score = *clean + *robust;
out:
    return status;
}

/* Writes `weights` as a model file; a failure is a warning, and the file is owed. */
static void save_model(ar_tuning *t, const char *path, ar_real *weights, int64_t *owed) {
    ar_real *slab = t->model->slab;
    if (path[0] == 0) return;
    t->model->slab = weights; /* all else of the file is the model's */
    *owed = ar_model_file_save(t->model, path) < 0;
    t->model->slab = slab;
    if (*owed)
        ar_log(t->ctx, ADVROB_LOG_WARNING, "the model was not written, the run goes on: %s",
               ar_message());
}

static void remember_best(ar_tuning *t, double score) {
    if (t->valid == NULL) return;
    t->counts.worse++;
    if (!(score > t->sums.best_score)) return;
    t->counts.worse = 0;
    t->sums.best_score = score;
    memcpy(t->best, t->model->slab, t->slab_bytes);
    save_model(t, t->options->best_path, t->best, &t->counts.best_owed);
}

static void add_row(ar_tuning *t, double clean, double robust) {
    ar_tuning_counts *c = &t->counts;
    int64_t seen = c->step * t->options->batch_size;
    double count = (double)(seen < t->train->count ? seen : t->train->count);
    ar_tuning_settle_clocks(t);
    const double row[AR_HISTORY_COLUMNS] = {(double)c->epoch + 1,
                                            t->sums.lr,
                                            t->sums.loss / count,
                                            (double)c->correct / count,
                                            clean,
                                            t->sums.epoch_seconds,
                                            (double)c->done,
                                            robust,
                                            t->sums.fgsm,
                                            t->sums.pgd,
                                            t->sums.epoch_cpu};
    memcpy(t->history->values + c->rows * AR_HISTORY_COLUMNS, row, sizeof row);
    t->history->rows = (int32_t)++c->rows;
}

static void begin_epoch(ar_tuning *t) {
    t->counts.epoch++;
    t->counts.step = t->counts.correct = 0;
    t->sums.loss = t->sums.epoch_seconds = t->sums.epoch_cpu = 0;
    t->sums.fgsm = t->sums.pgd = NAN;
}

/* Also after a part of an epoch, if the run ends there. */
static int32_t end_epoch(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    ar_tuning_counts *c = &t->counts;
    const ar_finetune_values *o = t->options;
    double clean, robust, score;
    AR_TRY(validate(t, &clean, &robust, &score));
    remember_best(t, score);
    add_row(t, clean, robust);
    save_model(t, o->last_path, t->model->slab, &c->last_owed);
    if (c->ended == AR_RUNNING && c->epoch == o->epochs - 1)
        c->ended = AR_FINISHED;
    else if (c->ended == AR_RUNNING && o->patience > 0 && c->worse >= o->patience)
        c->ended = AR_PATIENCE;
    c->closed = c->ended != AR_RUNNING;
    if (c->closed) return ADVROB_OK;
    begin_epoch(t);
    ar_checkpoint_try(t);
out:
    return status;
}

static int32_t run_epoch(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    const ar_tuning_counts *c = &t->counts;
    ar_shuffle(t->finetune->seed, AR_RNG_SHUFFLE, c->epoch, t->train->count, t->order);
    for (;;) {
        AR_TRY(between_steps(t));
        if (c->ended != AR_RUNNING || c->step == t->steps) break;
        AR_TRY(run_step(t));
    }
    if (!c->closed) AR_TRY(end_epoch(t));
out:
    return status;
}

/* The end of a run */

/* What still has to be written; a failure is now the run's. */
static int32_t write_last(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    ar_tuning_counts *c = &t->counts;
    if (c->best_owed) save_model(t, t->options->best_path, t->best, &c->best_owed);
    if (c->last_owed) save_model(t, t->options->last_path, t->model->slab, &c->last_owed);
    if (ar_tuning_has_checkpoint(t)) AR_TRY(ar_checkpoint_write(t));
    if (c->best_owed || c->last_owed)
        AR_FAIL(ADVROB_E_IO, "%s: the model was not written; the log tells why",
                c->best_owed ? t->options->best_path : t->options->last_path);
out:
    return status;
}

/* After a failure: the model holds the last good weights, and a cancelled run can go on. */
static void give_up(ar_tuning *t, int32_t status) {
    char message[AR_MESSAGE_SIZE];
    ar_copy_text(message, sizeof message, ar_message());
    if (status == ADVROB_E_NONFINITE) ar_alarm_roll_back(t);
    if (status == ADVROB_E_CANCELLED) ar_checkpoint_try(t);
    (void)ar_error_restore(status, message);
}

/* The model ends with the epoch that is kept. An alarm that rolled back has chosen already. */
static void conclude(ar_tuning *t) {
    static const char *const ends[AR_ENDS] = {"", "finished", "budget", "patience", "alarm"};
    bool rolled_back = t->counts.ended == AR_ALARM && t->silent != NULL;
    t->history->ended = ends[t->counts.ended];
    if (t->valid == NULL || strcmp(t->options->keep, "best") != 0 || rolled_back) return;
    memcpy(t->model->slab, t->best, t->slab_bytes);
    ar_model_changed(t->model);
}

static int32_t train(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    bool owes = t->counts.closed == 0 || t->counts.best_owed || t->counts.last_owed;
    while (!t->counts.closed && status >= 0)
        status = run_epoch(t);
    if (status < 0) {
        give_up(t, status);
        return status;
    }
    if (owes) status = write_last(t);
    conclude(t);
    return status;
}

int32_t ar_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                        const advrob_dataset *data, const advrob_dataset *valid,
                        advrob_history **history) {
    int32_t status = ADVROB_OK;
    ar_tuning t = {.finetune = finetune,
                   .options = &finetune->options,
                   .ctx = model->ctx,
                   .model = model,
                   .train = data,
                   .valid = valid,
                   .clock = ar_clock(),
                   .cpu_clock = ar_cpu_clock()};
    ar_arena_init(&t.arena, &t.ctx->memory);
    ar_buffer_init(&t.fingerprint, &t.ctx->memory);
    AR_TRY(set_up(&t));
    status = train(&t);
    bool whole = status >= 0 || (status == ADVROB_E_IO && t.counts.closed); /* all but a file */
    if (history != NULL && whole) {
        *history = t.history;
        t.history = NULL;
    }
out:
    ar_trainer_destroy(t.trainer);
    ar_checkpoint_close(&t);
    ar_alarm_free(&t);
    ar_attack_rooms_free(&t.room.attack_rooms);
    ar_target_release(t.room.target);
    ar_target_release(t.target);
    ar_history_release(t.history);
    ar_arena_free(&t.arena);
    return status;
}
