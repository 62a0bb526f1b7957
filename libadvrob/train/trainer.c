/* One training step: branches forward in tiles, the objective's loss, branches backward, weight
 * gradients in pieces of outputs, one update. Every sum has a fixed order, whatever thread runs
 * what. */
#include <math.h>
#include <string.h>

#include "op/loss.h"
#include "train.h"

/* Values of the slab that one piece of the update handles. */
#define UPDATE_PIECE 65536

struct ar_trainer {
    advrob_model *model;
    ar_program *program;
    const ar_optimizer *optimizer;
    ar_arena arena;
    int32_t lanes, branches, tiles; /* tiles of one branch at the largest batch */
    ar_workspace **workspaces;      /* [branches * tiles] */
    float *inputs[AR_MAX_BRANCHES], *logits[AR_MAX_BRANCHES], *dlogits[AR_MAX_BRANCHES];
    float *dx[AR_MAX_BRANCHES];
    double *losses;
    ar_real *gradient, *scratch, *state, *backup;
};

static int32_t array(ar_trainer *t, size_t count, size_t size, void **block) {
    return ar_arena_alloc(&t->arena, count, size, "training room", block);
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
    AR_TRY(array(t, slab, sizeof(ar_real), &block));
    t->scratch = block;
    AR_TRY(array(t, slab, sizeof(ar_real), &block));
    t->backup = block;
    AR_TRY(array(t, slab * (size_t)t->optimizer->state, sizeof(ar_real), &block));
    t->state = block;
    AR_TRY(array(t, (size_t)(t->branches * t->tiles), sizeof(ar_workspace *), &block));
    t->workspaces = block;
    for (int32_t i = 0; i < t->branches * t->tiles; i++)
        AR_TRY(ar_workspace_take(t->program, AR_RUN_TRAIN, t->lanes, &t->workspaces[i]));
out:
    return status;
}

int32_t ar_trainer_create(advrob_model *model, const ar_optimizer *optimizer, int64_t batch,
                          int32_t branches, bool batch_statistics, ar_trainer **out) {
    int32_t status = ADVROB_OK;
    ar_trainer *trainer = NULL;
    ar_program *program = NULL;
    void *block = NULL;
    (void)batch_statistics;
    AR_TRY(ar_model_program(model, &program));
    AR_TRY(ar_calloc(&model->ctx->memory, 1, sizeof *trainer, "trainer", &block));
    trainer = block;
    trainer->model = model;
    trainer->program = program;
    trainer->optimizer = optimizer;
    trainer->branches = branches;
    trainer->lanes = ar_tile_lanes(batch);
    trainer->tiles = (int32_t)((batch + trainer->lanes - 1) / trainer->lanes);
    ar_arena_init(&trainer->arena, &model->ctx->memory);
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
    if (trainer->workspaces != NULL)
        for (int32_t i = 0; i < trainer->branches * trainer->tiles; i++)
            ar_workspace_give(trainer->workspaces[i]);
    ar_arena_free(&trainer->arena);
    ar_free(memory, trainer);
}

ar_real *ar_trainer_state(ar_trainer *trainer, int64_t *count) {
    *count = trainer->model->slab_count * trainer->optimizer->state;
    return trainer->state;
}

typedef struct step_job {
    ar_trainer *trainer;
    const ar_objective *objective;
    const ar_optimizer_settings *settings;
    const ar_batch *batch;
    int32_t tiles;          /* of one branch of this batch */
    ar_workspace *used[64]; /* those of all branches, in order */
} step_job;

/* The part of the batch that piece p (branch-major) is about. */
static int32_t locate(const step_job *job, int64_t piece, int32_t *branch, int64_t *first) {
    int32_t tile = (int32_t)(piece % job->tiles);
    *branch = (int32_t)(piece / job->tiles);
    *first = (int64_t)tile * job->trainer->lanes;
    int64_t left = job->batch->n - *first;
    return (int32_t)(left < job->trainer->lanes ? left : job->trainer->lanes);
}

static int32_t forward_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    const ar_trainer *t = job->trainer;
    int32_t branch;
    int64_t first;
    int32_t n = locate(job, piece, &branch, &first);
    (void)worker;
    ar_run_forward(job->used[piece], n,
                   t->inputs[branch] + first * ar_shape_count(t->model->nodes[0].shape),
                   t->logits[branch] + first * ar_model_classes(t->model));
    return ADVROB_OK;
}

static int32_t backward_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    const ar_trainer *t = job->trainer;
    int32_t branch;
    int64_t first;
    (void)locate(job, piece, &branch, &first);
    (void)worker;
    float *dx = t->dx[branch] + first * ar_shape_count(t->model->nodes[0].shape);
    ar_run_backward(job->used[piece], t->dlogits[branch] + first * ar_model_classes(t->model),
                    job->objective->input_gradient ? dx : NULL);
    return ADVROB_OK;
}

static int32_t gradient_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    (void)worker;
    ar_run_gradient_piece(job->used, job->tiles * job->trainer->branches, piece,
                          job->trainer->scratch, job->trainer->gradient);
    return ADVROB_OK;
}

static int32_t update_piece(void *arg, int64_t piece, int32_t worker) {
    const step_job *job = arg;
    ar_trainer *t = job->trainer;
    int64_t first = piece * UPDATE_PIECE, n = t->model->slab_count - first;
    (void)worker;
    if (n > UPDATE_PIECE) n = UPDATE_PIECE;
    t->optimizer->update(t->program->kernels, job->settings, n, t->model->slab + first,
                         t->state + first * t->optimizer->state, t->gradient + first);
    return ADVROB_OK;
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

static int32_t apply_update(step_job *job) {
    int32_t status = ADVROB_OK;
    ar_trainer *t = job->trainer;
    advrob_context *ctx = t->model->ctx;
    size_t bytes = sizeof(ar_real) * (size_t)t->model->slab_count;
    memcpy(t->backup, t->model->slab, bytes);
    AR_TRY(ar_parallel(ctx, (t->model->slab_count + UPDATE_PIECE - 1) / UPDATE_PIECE, update_piece,
                       NULL, job));
    AR_TRY(ar_model_check_finite(t->model));
    ar_model_changed(t->model);
    AR_TRY(ar_program_update(t->program));
out:
    if (status < 0) {
        memcpy(t->model->slab, t->backup, bytes);
        ar_model_changed(t->model);
    }
    return status;
}

int32_t ar_trainer_step(ar_trainer *t, const ar_objective *objective, const ar_batch *batch,
                        const ar_optimizer_settings *settings, ar_step_result *result) {
    int32_t status = ADVROB_OK;
    advrob_context *ctx = t->model->ctx;
    int32_t classes = ar_model_classes(t->model), last = t->branches - 1;
    step_job job = {.trainer = t, .objective = objective, .settings = settings, .batch = batch};
    job.tiles = (int32_t)((batch->n + t->lanes - 1) / t->lanes);
    for (int32_t b = 0; b < t->branches; b++)
        for (int32_t i = 0; i < job.tiles; i++)
            job.used[b * job.tiles + i] = t->workspaces[b * t->tiles + i];
    AR_TRY(objective->prepare(objective->self, batch, t->inputs));
    AR_TRY(ar_parallel(ctx, job.tiles * t->branches, forward_piece, NULL, &job));
    AR_TRY(objective->loss(objective->self, batch, (const float *const *)t->logits, t->losses,
                           t->dlogits));
    AR_TRY(check_losses(&job));
    AR_TRY(ar_parallel(ctx, job.tiles * t->branches, backward_piece, NULL, &job));
    AR_TRY(ar_parallel(ctx, ar_run_gradient_pieces(t->program), gradient_piece, NULL, &job));
    AR_TRY(check_gradient(&job));
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
