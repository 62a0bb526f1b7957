/* Pruning in steps, and plans.
 *
 * A plan is a text of one line a layer with filters, "conv1: 2 of 8 go: 3 5", or "fc: stays" for
 * one whose outputs cannot go; lines that begin with '#' are comments. It can be printed, edited,
 * saved and handed to the compressor prune_plan. */
#include <math.h>
#include <string.h>

#include "prune.h"

/* Which channels of the net before any step are still there: [nodes][channels now]. */
typedef struct origins {
    int32_t **of;
} origins;

static int32_t origins_create(const advrob_model *model, ar_arena *arena, origins *out) {
    int32_t status = ADVROB_OK;
    void *block;
    AR_TRY(ar_arena_alloc(arena, (size_t)model->node_count, sizeof(int32_t *), "pruning", &block));
    out->of = block;
    for (int32_t i = 0; i < model->node_count; i++) {
        int32_t channels = model->nodes[i].shape.c;
        AR_TRY(ar_arena_alloc(arena, (size_t)channels, sizeof(int32_t), "pruning", &block));
        out->of[i] = block;
        for (int32_t c = 0; c < channels; c++)
            out->of[i][c] = c;
    }
out:
    return status;
}

static void origins_drop(const origins *o, const ar_channels *ch, const bool *gone) {
    for (int32_t i = 0; i < ch->model->node_count; i++) {
        int32_t kept = 0;
        for (int32_t c = 0; c < ch->model->nodes[i].shape.c; c++)
            if (!ar_channel_gone(ch, gone, i, c)) o->of[i][kept++] = o->of[i][c];
    }
}

/* The share of the sparsity that step k of n reaches (cubic: Zhu and Gupta 2017, arXiv 1710.01878,
 * equation 1, from 0). */
static double progress(const ar_prune_options *o, int64_t step) {
    double left = 1 - (double)step / (double)o->steps;
    return strcmp(o->schedule, "cubic") == 0 ? 1 - left * left * left : 1 - left;
}

/* One step from `from`; *out is the smaller net. */
static int32_t take_step(const ar_compression *job, ar_rate_fn rate, const ar_channels *origin,
                         const advrob_model *from, double sparsity, const origins *places,
                         advrob_model **out) {
    int32_t status = ADVROB_OK;
    const ar_prune_options *o = job->options;
    ar_arena arena;
    ar_channels channels;
    void *block;
    ar_arena_init(&arena, &job->ctx->memory);
    AR_TRY(ar_channels_find(from, o->linear != 0, &arena, &channels));
    ar_compression now = *job;
    now.model = from;
    ar_rating rating = {&now, &channels, strcmp(o->scope, "global") == 0, &arena};
    AR_TRY(ar_arena_alloc(&arena, (size_t)channels.cells, sizeof(double), "pruning", &block));
    double *scores = block;
    for (int32_t cell = 0; cell < channels.cells; cell++)
        scores[cell] = NAN;
    AR_TRY(rate(&rating, scores));
    AR_TRY(ar_arena_alloc(&arena, (size_t)channels.classes, sizeof(bool), "pruning", &block));
    bool *gone = block;
    AR_TRY(ar_prune_select(&rating, origin, scores, sparsity, gone));
    origins_drop(places, &channels, gone);
    AR_TRY(ar_channels_remove(&channels, gone, out));
out:
    ar_arena_free(&arena);
    return status;
}

/* The caller may train the net, but not take it apart. */
static int32_t call_back(const ar_compression *job, int64_t step, advrob_model *model) {
    const ar_prune_options *o = job->options;
    int32_t nodes = model->node_count;
    uint64_t state = ar_fp_outside();
    int32_t code = job->step(job->step_user, step, o->steps, model);
    ar_fp_inside(state);
    if (code != 0)
        return ar_error(ADVROB_E_CALLBACK, "the callback of pruning step %lld returned %d",
                        (long long)step, code);
    if (model->node_count != nodes || model->references != 1 || model->frozen > 0)
        return ar_error(ADVROB_E_INVALID,
                        "the callback of pruning step %lld added nodes to the model, or left a "
                        "target on it",
                        (long long)step);
    return ar_model_check_finite(model);
}

/* All steps. `tuned`: the caller's callback sees the net between them. */
static int32_t prune(const ar_compression *job, ar_rate_fn rate, bool tuned,
                     const ar_channels *origin, const origins *places, advrob_model **out) {
    int32_t status = ADVROB_OK;
    const ar_prune_options *o = job->options;
    advrob_model *small = NULL, *next = NULL;
    for (int64_t step = 1; step <= o->steps; step++) {
        AR_TRY(ar_cancelled(job->ctx));
        AR_TRY(take_step(job, rate, origin, small == NULL ? job->model : small,
                         o->sparsity * progress(o, step), places, &next));
        ar_model_release(small);
        small = next;
        next = NULL;
        if (tuned && job->step != NULL) AR_TRY(call_back(job, step, small));
    }
    *out = small;
    small = NULL;
out:
    ar_model_release(small);
    return status;
}

static int32_t begin(const ar_compression *job, ar_arena *arena, ar_channels *origin,
                     origins *places) {
    const ar_prune_options *o = job->options;
    int32_t status = ADVROB_OK;
    AR_TRY(ar_channels_find(job->model, o->linear != 0, arena, origin));
    AR_TRY(origins_create(job->model, arena, places));
out:
    return status;
}

int32_t ar_prune_run(const ar_compression *job, ar_rate_fn rate, advrob_model **out) {
    int32_t status = ADVROB_OK;
    ar_arena arena;
    ar_channels origin;
    origins places;
    ar_arena_init(&arena, &job->ctx->memory);
    AR_TRY(begin(job, &arena, &origin, &places));
    AR_TRY(prune(job, rate, true, &origin, &places, out));
out:
    ar_arena_free(&arena);
    return status;
}

int32_t ar_prune_write_plan(const ar_compression *job, ar_rate_fn rate, ar_buffer *text) {
    int32_t status = ADVROB_OK;
    ar_arena arena;
    ar_channels origin;
    origins places;
    advrob_model *small = NULL;
    void *block;
    ar_arena_init(&arena, &job->ctx->memory);
    AR_TRY(begin(job, &arena, &origin, &places));
    AR_TRY(prune(job, rate, false, &origin, &places, &small));
    AR_TRY(ar_arena_alloc(&arena, (size_t)origin.classes, sizeof(bool), "pruning", &block));
    bool *gone = block;
    memset(gone, 1, sizeof(bool) * (size_t)origin.classes);
    for (int32_t i = 0; i < small->node_count; i++)
        for (int32_t c = 0; c < small->nodes[i].shape.c; c++)
            gone[origin.class_of[origin.first[i] + places.of[i][c]]] = false;
    AR_TRY(ar_plan_print(&origin, gone, text));
out:
    ar_model_release(small);
    ar_arena_free(&arena);
    return status;
}

int32_t ar_rate_filters(const ar_rating *rating, double (*of)(double weight), double *scores) {
    const ar_channels *ch = rating->channels;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        if (!ar_has_filters(node)) continue;
        const ar_parameter *weight = &ch->model->parameters[node->weight];
        const ar_real *w = ch->model->slab + weight->offset;
        int64_t count = weight->count / weight->shape[0];
        for (int32_t c = 0; c < node->shape.c; c++) {
            double sum = 0;
            for (int64_t k = 0; k < count; k++)
                sum += of((double)w[c * count + k]);
            scores[ch->first[i] + c] = rating->mean ? sum / (double)count : sum;
        }
    }
    return ADVROB_OK;
}
