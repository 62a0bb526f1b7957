/* Targets: a model or the caller's callbacks as something that answers with logits and gradients.
 */
#include "oracle.h"

#include <math.h>
#include <string.h>

#include "op/loss.h"
#include "program.h"

int32_t ar_target_new(advrob_context *ctx, advrob_target **out) {
    void *block;
    int32_t status = ar_calloc(&ctx->memory, 1, sizeof(advrob_target), "target", &block);
    if (status < 0) return status;
    *out = block;
    (*out)->ctx = ctx;
    (*out)->references = 1;
    ar_context_retain(ctx);
    return ADVROB_OK;
}

void ar_target_retain(advrob_target *target) {
    target->references++;
}

void ar_target_release(advrob_target *target) {
    if (target == NULL || --target->references > 0) return;
    advrob_context *ctx = target->ctx;
    if (target->destroy != NULL) target->destroy(target);
    ar_target_release(target->source);
    ar_free(&ctx->memory, target);
    ar_context_release(ctx);
}

/* A model. A session is a workspace of one tile. */

static int32_t model_open(advrob_target *target, void **session) {
    ar_workspace *workspace = NULL;
    int32_t status = ar_workspace_take(target->program, AR_RUN_INPUT_GRADIENT,
                                       target->preferred_batch, &workspace);
    *session = workspace;
    return status;
}

static void model_close(advrob_target *target, void *session) {
    (void)target;
    ar_workspace_give(session);
}

static int32_t model_forward(advrob_target *target, void *session, int32_t n, const float *x,
                             float *logits) {
    (void)target;
    ar_run_forward(session, n, x, logits);
    return ADVROB_OK;
}

static int32_t model_backward(advrob_target *target, void *session, int32_t n, const float *x,
                              const float *dlogits, float *dx) {
    (void)target;
    (void)n;
    (void)x;
    ar_run_backward(session, dlogits, dx);
    return ADVROB_OK;
}

static void model_destroy(advrob_target *target) {
    target->model->frozen--;
    ar_model_release(target->model);
}

static int32_t new_model_target(advrob_model *model, bool batch_statistics, advrob_target **out) {
    int32_t status = ADVROB_OK;
    advrob_target *target = NULL;
    ar_program *program = NULL;
    AR_TRY(ar_model_program(model, batch_statistics, &program));
    AR_TRY(ar_target_new(model->ctx, &target));
    ar_model_retain(model);
    model->frozen++;
    target->model = model;
    target->program = program;
    target->shape = model->nodes[0].shape;
    target->classes = ar_model_classes(model);
    target->low = model->low;
    target->high = model->high;
    target->unit = model->unit;
    target->concurrent = target->has_backward = true;
    target->preferred_batch = AR_MAX_LANES;
    target->open = model_open;
    target->close = model_close;
    target->forward = model_forward;
    target->backward = model_backward;
    target->destroy = model_destroy;
    *out = target;
out:
    return status;
}

int32_t ar_target_from_model(advrob_model *model, advrob_target **out) {
    return new_model_target(model, false, out);
}

/* A model whose batch norms normalise by the batch. The one session is the target's own room. */

static int32_t batch_open(advrob_target *target, void **session) {
    *session = target->tiles;
    return ADVROB_OK;
}

static void batch_close(advrob_target *target, void *session) {
    (void)target;
    (void)session;
}

static int32_t batch_forward(advrob_target *target, void *session, int32_t n, const float *x,
                             float *logits) {
    (void)target;
    return ar_tiles_forward(session, n, &x, NULL, &logits);
}

static int32_t batch_backward(advrob_target *target, void *session, int32_t n, const float *x,
                              const float *dlogits, float *dx) {
    (void)target;
    (void)n;
    (void)x;
    return ar_tiles_backward(session, &dlogits, &dx, NULL);
}

static void batch_destroy(advrob_target *target) {
    ar_tiles_destroy(target->tiles);
    model_destroy(target);
}

int32_t ar_target_from_model_batch(advrob_model *model, int64_t batch, advrob_target **out) {
    int32_t status = ADVROB_OK;
    advrob_target *target = NULL;
    AR_TRY(new_model_target(model, true, &target));
    AR_TRY(ar_tiles_create(target->program, AR_RUN_BATCH_GRADIENT, true, batch, 1, &target->tiles));
    target->concurrent = false;
    target->preferred_batch = (int32_t)batch;
    target->open = batch_open;
    target->close = batch_close;
    target->forward = batch_forward;
    target->backward = batch_backward;
    target->destroy = batch_destroy;
    *out = target;
    target = NULL;
out:
    ar_target_release(target);
    return status;
}

/* The caller's functions. */

static int32_t callback_open(advrob_target *target, void **session) {
    (void)target;
    *session = NULL;
    return ADVROB_OK;
}

static void callback_close(advrob_target *target, void *session) {
    (void)target;
    (void)session;
}

static int32_t check_answer(const char *what, int64_t count, const float *values) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return ar_error(ADVROB_E_NONFINITE, "the %s callback gave %g at position %lld", what,
                            (double)values[i], (long long)i);
    return ADVROB_OK;
}

static int32_t callback_forward(advrob_target *target, void *session, int32_t n, const float *x,
                                float *logits) {
    (void)session;
    uint64_t state = ar_fp_outside();
    int32_t code = target->callback_forward(target->user, n, x, logits);
    ar_fp_inside(state);
    if (code != 0) return ar_error(ADVROB_E_CALLBACK, "the forward callback returned %d", code);
    return check_answer("forward", (int64_t)n * target->classes, logits);
}

static int32_t callback_backward(advrob_target *target, void *session, int32_t n, const float *x,
                                 const float *dlogits, float *dx) {
    (void)session;
    uint64_t state = ar_fp_outside();
    int32_t code = target->callback_backward(target->user, n, x, dlogits, dx);
    ar_fp_inside(state);
    if (code != 0) return ar_error(ADVROB_E_CALLBACK, "the backward callback returned %d", code);
    return check_answer("backward", n * ar_shape_count(target->shape), dx);
}

static void callback_destroy(advrob_target *target) {
    ar_free(&target->ctx->memory, target->low);
}

int32_t ar_target_set_box(advrob_target *target, const double *low, const double *high,
                          const double *unit) {
    size_t channels = (size_t)target->shape.c;
    if (target->model != NULL)
        return ar_error(ADVROB_E_INVALID,
                        "the target stands on a model: its box is the model's, set it there");
    int32_t status = ar_check_box(channels, low, high, unit);
    if (status < 0) return status;
    memcpy(target->low, low, sizeof(double) * channels);
    memcpy(target->high, high, sizeof(double) * channels);
    memcpy(target->unit, unit, sizeof(double) * channels);
    return ADVROB_OK;
}

int32_t ar_target_set_lattice(advrob_target *target, int32_t steps) {
    if (steps < 0 || steps > 65535)
        return ar_error(ADVROB_E_RANGE, "target: a lattice of %d steps, expected 0 to 65535",
                        steps);
    target->lattice = steps;
    return ADVROB_OK;
}

static int32_t check_source(const advrob_target *target, const advrob_target *source) {
    size_t channels = (size_t)target->shape.c * sizeof(double);
    if (source == target || source->source != NULL)
        return ar_error(ADVROB_E_INVALID, "target: the source %s",
                        source == target ? "is the target itself" : "has a source of its own");
    if (memcmp(&source->shape, &target->shape, sizeof target->shape) != 0 ||
        source->classes != target->classes)
        return ar_error(ADVROB_E_SHAPE,
                        "target: the source takes %d x %d x %d and has %d classes, the target %d x "
                        "%d x %d and %d",
                        source->shape.c, source->shape.h, source->shape.w, source->classes,
                        target->shape.c, target->shape.h, target->shape.w, target->classes);
    if (memcmp(source->low, target->low, channels) != 0 ||
        memcmp(source->high, target->high, channels) != 0 ||
        memcmp(source->unit, target->unit, channels) != 0)
        return ar_error(ADVROB_E_INVALID,
                        "target: the source has another box or unit than the target");
    return ADVROB_OK;
}

int32_t ar_target_set_source(advrob_target *target, advrob_target *source) {
    int32_t status = source != NULL ? check_source(target, source) : ADVROB_OK;
    if (status < 0) return status;
    if (source != NULL) ar_target_retain(source);
    ar_target_release(target->source);
    target->source = source;
    return ADVROB_OK;
}

int32_t ar_target_from_callbacks(advrob_context *ctx, ar_shape shape, int32_t classes, double low,
                                 double high, advrob_forward_fn forward,
                                 advrob_backward_fn backward, void *user, advrob_target **out) {
    int32_t status = ADVROB_OK;
    const double one = 1;
    advrob_target *target = NULL;
    void *block;
    AR_TRY(ar_shape_check("target", shape));
    if (classes < 2 || classes > AR_MAX_DIM)
        AR_FAIL(ADVROB_E_RANGE, "target: %d classes, expected 2 to %d", classes, AR_MAX_DIM);
    AR_TRY(ar_check_box(1, &low, &high, &one));
    if (forward == NULL) AR_FAIL(ADVROB_E_INVALID, "target: the forward callback is NULL");
    AR_TRY(ar_target_new(ctx, &target));
    target->destroy = callback_destroy;
    AR_TRY(ar_calloc(&ctx->memory, 3 * (size_t)shape.c, sizeof(double), "target", &block));
    target->low = block;
    target->high = target->low + shape.c;
    target->unit = target->high + shape.c;
    for (int32_t c = 0; c < shape.c; c++) {
        target->low[c] = low;
        target->high[c] = high;
        target->unit[c] = 1;
    }
    target->shape = shape;
    target->classes = classes;
    target->has_backward = backward != NULL;
    target->open = callback_open;
    target->close = callback_close;
    target->forward = callback_forward;
    target->backward = callback_backward;
    target->callback_forward = forward;
    target->callback_backward = backward;
    target->user = user;
    *out = target;
    target = NULL;
out:
    ar_target_release(target);
    return status;
}

/* Jobs over many images. */

int32_t ar_target_tile(const advrob_target *target, int64_t n) {
    enum { WHOLE_BATCH = 4096 }; /* of a callback target; more images come in several calls */
    if (target->preferred_batch > 0) return target->preferred_batch;
    return n < 1 ? 1 : n < WHOLE_BATCH ? (int32_t)n : WHOLE_BATCH;
}

int32_t ar_target_parallel(advrob_target *target, int64_t pieces, ar_piece_fn piece,
                           ar_poll_fn poll, void *arg) {
    int32_t status = ADVROB_OK;
    if (target->concurrent) return ar_parallel(target->ctx, pieces, piece, poll, arg);
    for (int64_t i = 0; i < pieces; i++) {
        AR_TRY(ar_cancelled(target->ctx));
        AR_TRY(piece(arg, i, 0));
        if (poll != NULL) AR_TRY(poll(arg, i + 1));
    }
out:
    return status;
}

int32_t ar_target_check_labels(const advrob_target *target, int64_t n, const int32_t *y) {
    for (int64_t i = 0; i < n; i++)
        if (y[i] < 0 || y[i] >= target->classes)
            return ar_error(ADVROB_E_RANGE, "label %lld is %d, expected 0 to %d", (long long)i,
                            y[i], target->classes - 1);
    return ADVROB_OK;
}

int32_t ar_target_check_pixels(const advrob_target *target, int64_t n, const float *x) {
    int64_t size = ar_shape_count(target->shape), pixels = ar_shape_pixels(target->shape);
    for (int64_t i = 0; i < n * size; i++) {
        int64_t c = i / pixels % target->shape.c;
        /* What a caller normalised in float may lie beside its bound by a rounding or two. */
        double slack = 1e-6 * (target->high[c] - target->low[c]);
        if ((double)x[i] >= target->low[c] - slack && (double)x[i] <= target->high[c] + slack)
            continue;
        return ar_error(isfinite(x[i]) ? ADVROB_E_RANGE : ADVROB_E_NONFINITE,
                        "image %lld, pixel %lld is %g, expected a value in [%g, %g]",
                        (long long)(i / size), (long long)(i % size), (double)x[i], target->low[c],
                        target->high[c]);
    }
    return ADVROB_OK;
}

typedef struct target_job {
    advrob_target *target;
    const ar_loss *loss; /* NULL: logits only */
    int64_t n;
    int32_t tile;
    const float *x;
    const int32_t *y;
    float *logits, *dx;
    double *losses;
    void **sessions; /* [workers], opened on first use */
    float *rows;     /* [workers][2][tile * classes]: logits and their gradient */
    double *scratch; /* [workers][classes] */
    bool *open;      /* [workers] */
} target_job;

static int32_t target_piece(void *arg, int64_t piece, int32_t worker) {
    int32_t status = ADVROB_OK;
    target_job *job = arg;
    advrob_target *target = job->target;
    int64_t first = piece * job->tile, count = job->n - first;
    int64_t size = ar_shape_count(target->shape), classes = target->classes;
    if (count > job->tile) count = job->tile;
    if (!job->open[worker]) {
        AR_TRY(target->open(target, &job->sessions[worker]));
        job->open[worker] = true;
    }
    void *session = job->sessions[worker];
    float *rows = job->rows + (int64_t)worker * 2 * job->tile * classes;
    float *logits = job->logits != NULL ? job->logits + first * classes : rows;
    AR_TRY(target->forward(target, session, (int32_t)count, job->x + first * size, logits));
    if (job->loss == NULL) goto out;
    float *dlogits = rows + job->tile * classes;
    ar_loss_batch(job->loss, count, target->classes, logits, job->y + first, NULL,
                  job->scratch + worker * classes, job->losses ? job->losses + first : NULL,
                  dlogits, false, 1);
    if (job->dx != NULL)
        AR_TRY(target->backward(target, session, (int32_t)count, job->x + first * size, dlogits,
                                job->dx + first * size));
out:
    return status;
}

static int32_t run_job(target_job *job) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->target;
    ar_memory *memory = &target->ctx->memory;
    size_t workers = target->concurrent ? (size_t)ar_workers(target->ctx) : 1;
    size_t classes = (size_t)target->classes;
    ar_arena arena;
    void *block;
    job->tile = ar_target_tile(target, job->n);
    ar_arena_init(&arena, memory);
    AR_TRY(ar_arena_alloc(&arena, workers, sizeof(void *), "sessions", &block));
    job->sessions = block;
    AR_TRY(ar_arena_alloc(&arena, workers, sizeof(bool), "sessions", &block));
    job->open = block;
    AR_TRY(ar_arena_alloc(&arena, workers * 2 * (size_t)job->tile * classes, sizeof(float),
                          "logits", &block));
    job->rows = block;
    AR_TRY(ar_arena_alloc(&arena, workers * classes, sizeof(double), "logits", &block));
    job->scratch = block;
    AR_TRY(
        ar_target_parallel(target, (job->n + job->tile - 1) / job->tile, target_piece, NULL, job));
out:
    if (job->open != NULL)
        for (size_t i = 0; i < workers; i++)
            if (job->open[i]) target->close(target, job->sessions[i]);
    ar_arena_free(&arena);
    return status;
}

int32_t ar_target_forward(advrob_target *target, int64_t n, const float *x, float *logits) {
    target_job job = {.target = target, .n = n, .x = x, .logits = logits};
    return run_job(&job);
}

static const char *loss_name(int32_t index) {
    return ar_loss_at(index)->name;
}

int32_t ar_target_loss_gradient(advrob_target *target, const char *loss, int64_t n, const float *x,
                                const int32_t *y, double *losses, float *dx) {
    int32_t status = ADVROB_OK;
    int32_t index = 0;
    target_job job = {.target = target, .n = n, .x = x, .y = y, .losses = losses, .dx = dx};
    AR_TRY(ar_find_name("loss", loss, ar_loss_count(), loss_name, &index));
    job.loss = ar_loss_at(index);
    if (dx != NULL && !target->has_backward)
        AR_FAIL(ADVROB_E_UNSUPPORTED, "the target gives no gradient");
    AR_TRY(ar_target_check_labels(target, n, y));
    AR_TRY(run_job(&job));
out:
    return status;
}
