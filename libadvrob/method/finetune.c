/* Fine-tuning: epochs of batches through an objective, validation, history. */
#include <math.h>
#include <string.h>

#include "method.h"

typedef struct finetune_options {
    int64_t epochs, batch_size, seed;
    double lr, momentum, weight_decay, gamma, warmup;
    ar_f64_array milestones;
    const char *optimizer, *schedule, *keep;
} finetune_options;

static const ar_option entries[] = {
    AR_I64(finetune_options, epochs, 3, 1, 100000, "passes over the training images"),
    AR_I64(finetune_options, batch_size, 64, 1, 512, "images per step"),
    AR_F64(finetune_options, lr, 0.01, 0, 1e6, "learning rate"),
    AR_F64(finetune_options, momentum, 0.9, 0, 1, "momentum"),
    AR_F64(finetune_options, weight_decay, 0, 0, 1e6, "weight decay"),
    AR_STR(finetune_options, optimizer, "sgd", "sgd", "optimizer"),
    AR_STR(finetune_options, schedule, "constant", "constant|step|cosine|ssfd",
           "course of the learning rate"),
    AR_F64_ARRAY(finetune_options, milestones, 0, 1e6,
                 "epochs at which \"step\" multiplies by gamma"),
    AR_F64(finetune_options, gamma, 0.1, 0, 1, "factor of \"step\""),
    AR_F64(finetune_options, warmup, 0.25, 0.01, 0.99, "share of the run in which \"ssfd\" rises"),
    AR_STR(finetune_options, keep, "best", "best|last",
           "with validation images: which epoch's weights the model ends with"),
    AR_I64(finetune_options, seed, -1, -1, 9e15, "seed of order and attack; -1: the context's"),
};
const ar_option_table ar_finetune_options = AR_TABLE(finetune_options, entries);

struct advrob_finetune {
    advrob_context *ctx;
    _Atomic int32_t references;
    const ar_method *method;
    advrob_attack *attack;
    ar_arena arena;
    finetune_options options;
    int64_t seed;
};

#define AR_METHOD(name) &ar_method_##name,
static const ar_method *const methods[] = {
#include "methods.inc"
};
#undef AR_METHOD

int32_t ar_method_count(void) {
    return (int32_t)(sizeof methods / sizeof methods[0]);
}

const ar_method *ar_method_at(int32_t index) {
    return index >= 0 && index < ar_method_count() ? methods[index] : NULL;
}

static const char *name_at(int32_t index) {
    return methods[index]->name;
}

int32_t ar_method_find(const char *name, const ar_method **out) {
    int32_t index;
    int32_t status = ar_find_name("fine-tune method", name, ar_method_count(), name_at, &index);
    if (status >= 0) *out = methods[index];
    return status;
}

int32_t ar_method_mean_ce(void *self, const ar_batch *batch, const float *const *logits,
                          double *losses, float *const *dlogits) {
    const ar_objective_room *room = self;
    ar_loss_batch(&ar_loss_ce, batch->n, room->classes, logits[0], batch->y, room->scratch, losses,
                  dlogits[0], false, 1.0 / (double)batch->n);
    return ADVROB_OK;
}

static int32_t create_attack(advrob_finetune *finetune, const advrob_options *options) {
    advrob_options *part = NULL;
    if (finetune->method->attack == NULL) return ADVROB_OK;
    int32_t status = ADVROB_OK;
    AR_TRY(ar_options_part(options, "attack.", &finetune->ctx->memory, &part));
    AR_TRY(ar_attack_create(finetune->ctx, finetune->method->attack, part, &finetune->attack));
    /* The order of images and the attack's draws hang on one seed unless the attack has its own. */
    if (finetune->attack->kind->seed(finetune->attack->options) < 0)
        finetune->attack->seed = finetune->seed;
out:
    ar_options_destroy(part);
    return status;
}

int32_t ar_finetune_create(advrob_context *ctx, const char *name, const advrob_options *options,
                           advrob_finetune **out) {
    int32_t status = ADVROB_OK;
    advrob_finetune *finetune = NULL;
    const ar_method *method = NULL;
    const ar_attack *attack = NULL;
    void *block = NULL;
    char who[80];
    AR_TRY(ar_method_find(name, &method));
    if (method->attack != NULL) AR_TRY(ar_attack_find(method->attack, &attack));
    ar_format(who, sizeof who, "fine-tune method %s", method->name);
    ar_option_scope scopes[2] = {{"", &ar_finetune_options},
                                 {"attack.", attack != NULL ? attack->options : NULL}};
    AR_TRY(ar_options_check(options, who, scopes, attack != NULL ? 2 : 1));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *finetune, "fine-tune method", &block));
    finetune = block;
    finetune->ctx = ctx;
    finetune->references = 1;
    finetune->method = method;
    ar_context_retain(ctx);
    ar_arena_init(&finetune->arena, &ctx->memory);
    AR_TRY(ar_options_read(options, who, "", &ar_finetune_options, &finetune->arena,
                           &finetune->options));
    finetune->seed = finetune->options.seed >= 0 ? finetune->options.seed : ctx->seed;
    AR_TRY(create_attack(finetune, options));
    *out = finetune;
    finetune = NULL;
out:
    ar_finetune_release(finetune);
    return status;
}

void ar_finetune_release(advrob_finetune *finetune) {
    if (finetune == NULL || --finetune->references > 0) return;
    advrob_context *ctx = finetune->ctx;
    ar_attack_release(finetune->attack);
    ar_arena_free(&finetune->arena);
    ar_free(&ctx->memory, finetune);
    ar_context_release(ctx);
}

/* A run. */
typedef struct run {
    const advrob_finetune *finetune;
    const finetune_options *options;
    advrob_model *model;
    const advrob_dataset *train, *valid;
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
    ar_real *best;
    double best_accuracy, loss_sum;
    advrob_history *history;
} run;

static int32_t check_data(const run *r, const advrob_dataset *data, const char *what) {
    ar_shape in = r->model->nodes[0].shape;
    const int32_t shape[3] = {in.c, in.h, in.w};
    if (data->count < 1) return ar_error(ADVROB_E_INVALID, "there are no %s images", what);
    return ar_dataset_check(data, what, "the model", shape, ar_model_classes(r->model));
}

static int32_t allocate(run *r) {
    int32_t status = ADVROB_OK;
    void *block;
    size_t batch = (size_t)r->options->batch_size;
    AR_TRY(ar_arena_alloc(&r->arena, (size_t)r->train->count, sizeof(int64_t), "order", &block));
    r->order = block;
    AR_TRY(ar_arena_alloc(&r->arena, batch, sizeof(int64_t), "batch", &block));
    r->ids = block;
    AR_TRY(ar_arena_alloc(&r->arena, batch * (size_t)r->room.size, sizeof(float), "batch", &block));
    r->x = block;
    AR_TRY(ar_arena_alloc(&r->arena, batch, sizeof(int32_t), "batch", &block));
    r->y = block;
    AR_TRY(ar_arena_alloc(&r->arena, (size_t)r->room.classes, sizeof(double), "batch", &block));
    r->room.scratch = block;
    AR_TRY(ar_arena_alloc(&r->arena, (size_t)r->model->slab_count, sizeof(ar_real), "best weights",
                          &block));
    r->best = block;
    AR_TRY(ar_calloc(&r->model->ctx->memory, 1, sizeof(advrob_history), "history", &block));
    r->history = block;
    r->history->ctx = r->model->ctx;
    ar_context_retain(r->model->ctx);
    AR_TRY(ar_calloc(&r->model->ctx->memory, (size_t)r->options->epochs * AR_HISTORY_COLUMNS,
                     sizeof(double), "history", &block));
    r->history->values = block;
out:
    return status;
}

static int32_t set_up(run *r) {
    int32_t status = ADVROB_OK;
    const ar_method *method = r->finetune->method;
    r->room.size = ar_shape_count(r->model->nodes[0].shape);
    r->room.classes = ar_model_classes(r->model);
    r->steps = (r->train->count + r->options->batch_size - 1) / r->options->batch_size;
    r->optimizer = ar_optimizer_find(r->options->optimizer);
    r->schedule = ar_schedule_find(r->options->schedule);
    r->schedule_settings =
        (ar_schedule_settings){r->options->lr, (double)r->options->epochs, r->options->gamma,
                               r->options->warmup, r->options->milestones};
    AR_TRY(ar_model_check_unfrozen(r->model));
    AR_TRY(ar_model_check_finite(r->model));
    AR_TRY(check_data(r, r->train, "training"));
    if (r->valid != NULL) AR_TRY(check_data(r, r->valid, "validation"));
    AR_TRY(allocate(r));
    AR_TRY(ar_target_from_model(r->model, &r->room.target));
    r->room.attack = r->finetune->attack;
    if (r->room.attack != NULL)
        AR_TRY(
            ar_attack_rooms_create(r->room.target, r->options->batch_size, &r->room.attack_rooms));
    r->objective = (ar_objective){.self = &r->room,
                                  .branches = method->branches,
                                  .prepare = method->prepare,
                                  .loss = method->loss};
    AR_TRY(ar_trainer_create(r->model, r->optimizer, r->options->batch_size, method->branches, true,
                             &r->trainer));
out:
    return status;
}

static int32_t run_step(run *r, int64_t epoch, int64_t step, double *lr, double *loss,
                        int64_t *correct) {
    int32_t status = ADVROB_OK;
    int64_t size = r->options->batch_size, n = r->train->count - step * size;
    if (n > size) n = size;
    const int64_t *order = r->order + step * size;
    for (int64_t i = 0; i < n; i++)
        r->ids[i] = epoch * r->train->count + order[i];
    AR_TRY(ar_dataset_gather(r->train, 0, order, n, r->x, r->y));
    ar_batch batch = {n, r->x, r->y, r->ids, epoch, step};
    *lr = r->schedule->rate(&r->schedule_settings, (double)epoch + (double)step / (double)r->steps);
    ar_optimizer_settings settings = {*lr, r->options->momentum, r->options->weight_decay};
    ar_step_result result;
    AR_TRY(ar_trainer_step(r->trainer, &r->objective, &batch, &settings, &result));
    *loss += result.loss * (double)n;
    *correct += result.correct;
    AR_TRY(ar_progress(r->model->ctx, "train", epoch * r->steps + step + 1,
                       r->options->epochs * r->steps, *loss / (double)(step * size + n)));
out:
    return status;
}

/* Validation accuracy after an epoch; remembers the best weights. */
static int32_t validate(run *r, double *accuracy) {
    int32_t status = ADVROB_OK;
    ar_evaluation result;
    *accuracy = NAN;
    if (r->valid == NULL) return ADVROB_OK;
    AR_TRY(ar_evaluate(r->room.target, r->valid, NULL, 0, 512, &result));
    *accuracy = (double)result.clean / (double)result.images;
    if (*accuracy > r->best_accuracy) {
        r->best_accuracy = *accuracy;
        memcpy(r->best, r->model->slab, sizeof(ar_real) * (size_t)r->model->slab_count);
    }
out:
    return status;
}

static int32_t run_epoch(run *r, int64_t epoch) {
    int32_t status = ADVROB_OK;
    double start = ar_clock(), lr = 0, loss = 0, accuracy;
    int64_t correct = 0;
    ar_shuffle(r->finetune->seed, AR_RNG_SHUFFLE, epoch, r->train->count, r->order);
    for (int64_t step = 0; step < r->steps; step++)
        AR_TRY(run_step(r, epoch, step, &lr, &loss, &correct));
    AR_TRY(validate(r, &accuracy));
    double count = (double)r->train->count;
    const double row[AR_HISTORY_COLUMNS] = {(double)epoch + 1,       lr,       loss / count,
                                            (double)correct / count, accuracy, ar_clock() - start};
    memcpy(r->history->values + epoch * AR_HISTORY_COLUMNS, row, sizeof row);
    r->history->rows++;
out:
    return status;
}

int32_t ar_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                        const advrob_dataset *train, const advrob_dataset *valid,
                        advrob_history **history) {
    int32_t status = ADVROB_OK;
    run r = {.finetune = finetune,
             .options = &finetune->options,
             .model = model,
             .train = train,
             .valid = valid,
             .best_accuracy = -1};
    ar_arena_init(&r.arena, &model->ctx->memory);
    AR_TRY(set_up(&r));
    for (int64_t epoch = 0; epoch < r.options->epochs; epoch++)
        AR_TRY(run_epoch(&r, epoch));
    if (valid != NULL && strcmp(r.options->keep, "best") == 0) {
        memcpy(model->slab, r.best, sizeof(ar_real) * (size_t)model->slab_count);
        ar_model_changed(model);
    }
    if (history != NULL) {
        *history = r.history;
        r.history = NULL;
    }
out:
    ar_trainer_destroy(r.trainer);
    ar_attack_rooms_free(&r.room.attack_rooms);
    ar_target_release(r.room.target);
    ar_history_release(r.history);
    ar_arena_free(&r.arena);
    return status;
}

int32_t ar_history_get(const advrob_history *history, int32_t row, const char *column,
                       double *value) {
    static const char *const columns[AR_HISTORY_COLUMNS] = {
        "epoch", "lr", "loss", "accuracy", "valid_accuracy", "seconds"};
    if (row < 0 || row >= history->rows)
        return ar_error(ADVROB_E_UNKNOWN, "history row %d, expected 0 to %d", row,
                        history->rows - 1);
    for (int32_t i = 0; i < AR_HISTORY_COLUMNS; i++)
        if (strcmp(columns[i], column) == 0) {
            *value = history->values[row * AR_HISTORY_COLUMNS + i];
            return ADVROB_OK;
        }
    const char *near = ar_nearest(column, columns, AR_HISTORY_COLUMNS);
    return ar_error(ADVROB_E_UNKNOWN, "no history column \"%s\"; did you mean \"%s\"?", column,
                    near != NULL ? near : "loss");
}

void ar_history_release(advrob_history *history) {
    if (history == NULL) return;
    advrob_context *ctx = history->ctx;
    ar_free(&ctx->memory, history->values);
    ar_free(&ctx->memory, history);
    ar_context_release(ctx);
}
