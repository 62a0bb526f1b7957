/* One training step: branches forward in tiles, the objective's loss, branches backward, weight
 * gradients in pieces of outputs, one update. Every sum has a fixed order, whatever thread runs
 * what. */
#include <math.h>
#include <string.h>

#include "op/loss.h"
#include "train.h"

/* Most values of the slab that one piece of the update handles. */
#define UPDATE_PIECE 65536

/* Values of the slab, all trained, that one piece of the update handles. */
typedef struct update_range {
    int64_t first, count;
} update_range;

struct ar_trainer {
    advrob_model *model;
    ar_program *program;
    const ar_optimizer *optimizer;
    ar_arena arena;
    int32_t branches;
    ar_tiles *tiles; /* a group a branch */
    update_range *ranges;
    int32_t range_count;
    float *inputs[AR_MAX_BRANCHES], *logits[AR_MAX_BRANCHES], *dlogits[AR_MAX_BRANCHES];
    float *dx[AR_MAX_BRANCHES];
    double *losses;
    ar_real *gradient, *state;
    bool *updated; /* [range_count]: of the step at work */
};

static int32_t array(ar_trainer *t, size_t count, size_t size, void **block) {
    return ar_arena_alloc(&t->arena, count, size, "training room", block);
}

/* Running statistics are left out: the optimizer does not touch them. */
static int32_t make_ranges(ar_trainer *t) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = t->model;
    void *block;
    size_t most = (size_t)(model->slab_count / UPDATE_PIECE + model->parameter_count);
    AR_TRY(array(t, most, sizeof(update_range), &block));
    t->ranges = block;
    update_range open = {0, 0};
    for (int32_t p = 0; p <= model->parameter_count; p++) {
        const ar_parameter *parameter = &model->parameters[p];
        bool end = p == model->parameter_count, trained = !end && parameter->role < AR_RUNNING_MEAN;
        if (trained) {
            open.count += parameter->count;
            continue;
        }
        for (; open.count > 0; t->range_count++) {
            int64_t count = open.count < UPDATE_PIECE ? open.count : UPDATE_PIECE;
            t->ranges[t->range_count] = (update_range){open.first, count};
            open = (update_range){open.first + count, open.count - count};
        }
        if (!end) open.first = parameter->offset + parameter->count;
    }
out:
    return status;
}

static int32_t allocate(ar_trainer *t, size_t batch) {
    int32_t status = ADVROB_OK;
    void *block;
    size_t slab = (size_t)t->model->slab_count;
    size_t size = (size_t)ar_shape_count(t->model->nodes[0].shape);
    size_t classes = (size_t)ar_model_classes(t->model);
    for (int32_t b = 0; b < t->branches; b++) {
        AR_TRY(array(t, batch * size, sizeof(float), &block));
        t->inputs[b] = block;
        AR_TRY(array(t, batch * size, sizeof(float), &block));
        t->dx[b] = block;
        AR_TRY(array(t, batch * classes, sizeof(float), &block));
        t->logits[b] = block;
        AR_TRY(array(t, batch * classes, sizeof(float), &block));
        t->dlogits[b] = block;
    }
    AR_TRY(array(t, batch, sizeof(double), &block));
    t->losses = block;
    AR_TRY(array(t, slab, sizeof(ar_real), &block));
    t->gradient = block;
    AR_TRY(array(t, slab * (size_t)t->optimizer->state, sizeof(ar_real), &block));
    t->state = block;
    AR_TRY(make_ranges(t));
    AR_TRY(array(t, (size_t)t->range_count, sizeof(bool), &block));
    t->updated = block;
out:
    return status;
}

int32_t ar_trainer_create(advrob_model *model, const ar_optimizer *optimizer, int64_t batch,
                          int32_t branches, bool batch_statistics, ar_trainer **out) {
    int32_t status = ADVROB_OK;
    ar_trainer *trainer = NULL;
    ar_program *program = NULL;
    void *block = NULL;
    AR_TRY(ar_model_program(model, batch_statistics, &program));
    AR_TRY(ar_calloc(&model->ctx->memory, 1, sizeof *trainer, "trainer", &block));
    trainer = block;
    trainer->model = model;
    trainer->program = program;
    trainer->optimizer = optimizer;
    trainer->branches = branches;
    ar_arena_init(&trainer->arena, &model->ctx->memory);
    AR_TRY(
        ar_tiles_create(program, AR_RUN_TRAIN, batch_statistics, batch, branches, &trainer->tiles));
    AR_TRY(allocate(trainer, (size_t)batch));
    *out = trainer;
    trainer = NULL;
out:
    ar_trainer_destroy(trainer);
    return status;
}

void ar_trainer_destroy(ar_trainer *trainer) {
    if (trainer == NULL) return;
    ar_memory *memory = &trainer->model->ctx->memory;
    ar_tiles_destroy(trainer->tiles);
    ar_arena_free(&trainer->arena);
    ar_free(memory, trainer);
}

ar_real *ar_trainer_state(ar_trainer *trainer, int64_t *count) {
    *count = trainer->model->slab_count * trainer->optimizer->state;
    return trainer->state;
}

typedef struct step_job {
    ar_trainer *trainer;
    const ar_optimizer_settings *settings;
    const ar_batch *batch;
} step_job;

static int32_t update_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    ar_trainer *t = job->trainer;
    int64_t first = t->ranges[piece].first;
    (void)worker;
    if (t->updated[piece]) return ADVROB_OK;
    t->optimizer->update(t->program->kernels, job->settings, t->ranges[piece].count,
                         t->model->slab + first, t->state + first * t->optimizer->state,
                         t->gradient + first);
    t->updated[piece] = true;
    return ADVROB_OK;
}

/* The parameter that value i of the slab belongs to. */
static const ar_parameter *parameter_at(const advrob_model *model, int64_t i) {
    int32_t p = 0;
    while (i >= model->parameters[p].offset + model->parameters[p].count)
        p++;
    return &model->parameters[p];
}

static int32_t check_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    const ar_trainer *t = job->trainer;
    const ar_optimizer *o = t->optimizer;
    int64_t first = t->ranges[piece].first, count = t->ranges[piece].count;
    (void)worker;
    if (o->stays_finite(job->settings, count, t->model->slab + first, t->state + first * o->state,
                        t->gradient + first))
        return ADVROB_OK;
    while (count > 1) { /* which one */
        int64_t half = count / 2;
        if (o->stays_finite(job->settings, half, t->model->slab + first,
                            t->state + first * o->state, t->gradient + first)) {
            first += half;
            count -= half;
        } else {
            count = half;
        }
    }
    const ar_parameter *parameter = parameter_at(t->model, first);
    return ar_error(ADVROB_E_NONFINITE,
                    "parameter %s: value %lld is not finite after batch %lld of epoch %lld",
                    parameter->name, (long long)(first - parameter->offset),
                    (long long)job->batch->step, (long long)job->batch->epoch + 1);
}

static int32_t check_losses(const step_job *job) {
    for (int64_t i = 0; i < job->batch->n; i++)
        if (!isfinite(job->trainer->losses[i]))
            return ar_error(ADVROB_E_NONFINITE,
                            "the loss of sample %lld of batch %lld in epoch %lld is %g",
                            (long long)i, (long long)job->batch->step,
                            (long long)job->batch->epoch + 1, job->trainer->losses[i]);
    return ADVROB_OK;
}

static int32_t check_gradient(const step_job *job) {
    const ar_trainer *t = job->trainer;
    for (int32_t p = 0; p < t->model->parameter_count; p++) {
        const ar_parameter *parameter = &t->model->parameters[p];
        const ar_real *g = t->gradient + parameter->offset;
        double sum = 0; /* one value that is not finite makes the sum so */
        for (int64_t i = 0; i < parameter->count; i++)
            sum += (double)g[i] * 0;
        if (sum != 0 || isnan(sum))
            return ar_error(
                ADVROB_E_NONFINITE, "the gradient of %s in batch %lld of epoch %lld is not finite",
                parameter->name, (long long)job->batch->step, (long long)job->batch->epoch + 1);
    }
    return ADVROB_OK;
}

/* All that can go wrong is found before the first value is changed; from then on the step is
 * finished, cancelled or not. */
static int32_t apply_update(step_job *job) {
    int32_t status = ADVROB_OK;
    ar_trainer *t = job->trainer;
    advrob_context *ctx = t->model->ctx;
    status = ar_parallel(ctx, t->range_count, check_piece, NULL, job);
    if (status == ADVROB_E_NONFINITE)
        (void)check_gradient(job); /* if it is the cause, it is told */
    AR_TRY(status);
    AR_TRY(ar_tiles_check_statistics(t->tiles, t->model->slab));
    memset(t->updated, 0, sizeof(bool) * (size_t)t->range_count);
    if (ar_parallel(ctx, t->range_count, update_piece, NULL, job) < 0)
        for (int32_t i = 0; i < t->range_count; i++)
            update_piece(job, i, 0);
    ar_tiles_move_statistics(t->tiles, t->model->slab);
    ar_model_changed(t->model);
    AR_TRY(ar_model_update_programs(t->model));
out:
    return status;
}

int32_t ar_trainer_step(ar_trainer *t, const ar_objective *objective, const ar_batch *batch,
                        const ar_optimizer_settings *settings, ar_step_result *result) {
    int32_t status = ADVROB_OK;
    int32_t classes = ar_model_classes(t->model), last = t->branches - 1;
    const ar_draws draws = {batch->seed, batch->ids};
    step_job job = {.trainer = t, .settings = settings, .batch = batch};
    AR_TRY(objective->prepare(objective->self, batch, t->inputs));
    AR_TRY(
        ar_tiles_forward(t->tiles, batch->n, (const float *const *)t->inputs, &draws, t->logits));
    AR_TRY(objective->loss(objective->self, batch, (const float *const *)t->logits, t->losses,
                           t->dlogits));
    AR_TRY(check_losses(&job));
    AR_TRY(ar_tiles_backward(t->tiles, (const float *const *)t->dlogits,
                             objective->input_gradient ? t->dx : NULL, t->gradient));
    AR_TRY(apply_update(&job));
    if (objective->after != NULL)
        AR_TRY(objective->after(objective->self, batch, (const float *const *)t->dx));
    *result = (ar_step_result){0, 0};
    for (int64_t i = 0; i < batch->n; i++) {
        result->loss += t->losses[i] / (double)batch->n;
        result->correct += ar_argmax(classes, t->logits[last] + i * classes) == batch->y[i];
    }
out:
    return status;
}
