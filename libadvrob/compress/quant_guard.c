/* Guarded quantization: the worst layers stay in float until a score (clean accuracy, robust
 * accuracy, what the caller gives) is within "max_drop" of the float model's. How bad a layer is,
 * is found with that layer alone quantized: by the noise that it brings into the logits of the
 * calibration images (the lowest SQNR first), or by the score itself. */
#include <math.h>
#include <string.h>

#include "quant.h"
#include "quant_table.h"

/* Images that go through at a time. */
#define IMAGES 64

typedef struct guard {
    const ar_ptq *ptq;
    double reference; /* the float model's score */
    float *x, *clean, *noisy;
} guard;

/* The caller may put targets on the model, but not change it. */
static int32_t score(const ar_ptq *ptq, advrob_model *model, double *out) {
    const ar_compression *job = ptq->job;
    if (job->score == NULL)
        return job->accuracy(model, ptq->judged, ptq->options->score_epsilon, out);
    const uint64_t version = model->version;
    uint64_t state = ar_fp_outside();
    *out = NAN;
    int32_t code = job->score(job->score_user, model, out);
    ar_fp_inside(state);
    if (code != 0)
        return ar_error(ADVROB_E_CALLBACK, "quant_ptq: the score callback returned %d", code);
    if (!isfinite(*out))
        return ar_error(ADVROB_E_NONFINITE,
                        "quant_ptq: the score callback gave %g, expected a finite number", *out);
    if (model->version != version || model->references != 1 || model->frozen > 0)
        return ar_error(ADVROB_E_INVALID,
                        "quant_ptq: the score callback changed the model, or left a target on it");
    return ADVROB_OK;
}

static int32_t logits(const guard *g, advrob_model *model, float *out) {
    int32_t status = ADVROB_OK;
    const ar_ptq *ptq = g->ptq;
    const int32_t classes = ar_model_classes(model);
    ar_program *program;
    AR_TRY(ar_model_program(model, false, &program));
    for (int64_t first = 0; first < ptq->images; first += IMAGES) {
        const int64_t n = ptq->images - first < IMAGES ? ptq->images - first : IMAGES;
        AR_TRY(ar_dataset_gather(ptq->job->calibration, first, NULL, n, g->x, NULL));
        AR_TRY(ar_program_forward(program, n, g->x, out + first * classes));
    }
out:
    return status;
}

static int32_t prepare(guard *g, ar_arena *arena) {
    int32_t status = ADVROB_OK;
    advrob_model *base = g->ptq->base;
    const size_t size = (size_t)ar_shape_count(base->nodes[0].shape);
    const size_t count = (size_t)g->ptq->images * (size_t)ar_model_classes(base);
    void *block;
    AR_TRY(ar_arena_alloc(arena, IMAGES * size, sizeof(float), "images", &block));
    g->x = block;
    AR_TRY(ar_arena_alloc(arena, count, sizeof(float), "logits", &block));
    g->clean = block;
    AR_TRY(ar_arena_alloc(arena, count, sizeof(float), "logits", &block));
    g->noisy = block;
    AR_TRY(logits(g, base, g->clean));
out:
    return status;
}

/* How good the net is with layer i alone quantized: the higher, the better. */
static int32_t rate(const guard *g, int32_t i, bool *is_float, double *out) {
    int32_t status = ADVROB_OK;
    const ar_ptq *ptq = g->ptq;
    advrob_model *model = NULL;
    for (int32_t k = 0; k < ptq->base->node_count; k++)
        is_float[k] = k != i;
    AR_TRY(ar_ptq_make(ptq, is_float, false, &model));
    if (strcmp(ptq->options->guard_order, "score") == 0) {
        AR_TRY(score(ptq, model, out));
        goto out;
    }
    AR_TRY(logits(g, model, g->noisy));
    ar_sqnr noise = {0, 0};
    for (int64_t k = 0; k < ptq->images * ar_model_classes(model); k++)
        ar_sqnr_add(&noise, (double)g->clean[k], (double)g->noisy[k]);
    *out = ar_sqnr_decibels(&noise);
out:
    ar_model_release(model);
    return status;
}

/* The layers that are not in float yet, the worst first; ties in their order. */
static int32_t rank(guard *g, const bool *is_float, ar_arena *arena, int32_t *order,
                    int32_t *count) {
    int32_t status = ADVROB_OK;
    const advrob_model *base = g->ptq->base;
    const size_t nodes = (size_t)base->node_count;
    void *alone, *rated;
    AR_TRY(ar_arena_alloc(arena, nodes, sizeof(bool), "layers", &alone));
    AR_TRY(ar_arena_alloc(arena, nodes, sizeof(double), "layers", &rated));
    double *rating = rated;
    *count = 0;
    for (int32_t i = 0; i < base->node_count; i++) {
        if (!ar_ptq_layer(&base->nodes[i]) || is_float[i]) continue;
        AR_TRY(ar_cancelled(g->ptq->job->ctx));
        AR_TRY(rate(g, i, alone, &rating[i]));
        int32_t at = (*count)++;
        for (; at > 0 && rating[order[at - 1]] > rating[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
out:
    return status;
}

int32_t ar_ptq_guard(const ar_ptq *ptq, bool *is_float, advrob_model **out) {
    int32_t status = ADVROB_OK, count, next = 0;
    const ar_ptq_options *o = ptq->options;
    guard g = {.ptq = ptq};
    advrob_model *model = NULL;
    ar_arena arena;
    void *order;
    double now;
    ar_arena_init(&arena, &ptq->job->ctx->memory);
    AR_TRY(score(ptq, ptq->base, &g.reference));
    AR_TRY(ar_ptq_make(ptq, is_float, o->bias_correction != 0, &model));
    AR_TRY(score(ptq, model, &now));
    if (g.reference - now > o->max_drop) {
        AR_TRY(prepare(&g, &arena));
        AR_TRY(
            ar_arena_alloc(&arena, (size_t)model->node_count, sizeof(int32_t), "layers", &order));
        AR_TRY(rank(&g, is_float, &arena, order, &count));
        while (g.reference - now > o->max_drop && next < count) {
            is_float[((int32_t *)order)[next++]] = true;
            ar_model_release(model);
            model = NULL;
            AR_TRY(ar_cancelled(ptq->job->ctx));
            AR_TRY(ar_ptq_make(ptq, is_float, o->bias_correction != 0, &model));
            AR_TRY(score(ptq, model, &now));
        }
    }
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    ar_arena_free(&arena);
    return status;
}
