/* Whole batches in tiles, cut at batch norms. */
#include "program.h"

#include <string.h>

#include "op/norm.h"

/* Channels of a cut that one piece combines. */
#define COMBINE_CHANNELS 16

/* A batch norm of one group. */
typedef struct cut {
    ar_channel *channels;
    ar_real *mean, *scale, *dy_mean, *slope;
} cut;

struct ar_tiles {
    ar_program *program;
    ar_arena arena;
    int32_t mode, lanes, groups, cut_count;
    bool batch_statistics;
    int32_t most, tiles;       /* of a group: at the largest batch; of the batch at work */
    int64_t n;                 /* images of a group */
    ar_workspace **workspaces; /* [groups][most] */
    ar_workspace **used;       /* [groups][tiles] */
    ar_draws *draws;           /* [most] */
    cut *cuts;                 /* [groups][cut_count] */
    ar_norm *norms;            /* [groups][cut_count] */
    double *sums;              /* [groups][most][stride] */
    int64_t stride;
    int32_t *stops; /* steps at which tiles wait for each other on their way back, rising */
    int32_t stop_count;
    ar_real *scratch; /* of weight gradients, [workers][scratch_size] */
    int64_t scratch_size;
};

static const ar_node *cut_node(const ar_tiles *t, int32_t k) {
    const ar_program *program = t->program;
    return &program->model->nodes[program->steps[program->cuts[k]].node];
}

static int32_t take(ar_tiles *t, size_t count, size_t size, void **block) {
    return ar_arena_alloc(&t->arena, count, size, "batch room", block);
}

static int32_t make_cut(ar_tiles *t, int32_t group, int32_t k) {
    int32_t status = ADVROB_OK;
    const ar_program *program = t->program;
    size_t channels = (size_t)cut_node(t, k)->shape.c;
    cut *c = &t->cuts[group * t->cut_count + k];
    void *block;
    AR_TRY(take(t, channels, sizeof(ar_channel), &block));
    c->channels = block;
    AR_TRY(take(t, 4 * channels, sizeof(ar_real), &block));
    c->mean = block;
    c->scale = c->mean + channels;
    c->dy_mean = c->scale + channels;
    c->slope = c->dy_mean + channels;
    t->norms[group * t->cut_count + k] = (ar_norm){
        .mean = c->mean,
        .scale = c->scale,
        .shift = program->steps[program->cuts[k]].statistics.shift,
        .dy_mean = c->dy_mean,
        .slope = c->slope,
    };
out:
    return status;
}

static int32_t allocate(ar_tiles *t) {
    int32_t status = ADVROB_OK;
    size_t all = (size_t)t->groups * (size_t)t->most, cuts = (size_t)t->groups * t->cut_count;
    void *block;
    AR_TRY(take(t, all, sizeof(ar_workspace *), &block));
    t->workspaces = block;
    AR_TRY(take(t, all, sizeof(ar_workspace *), &block));
    t->used = block;
    AR_TRY(take(t, (size_t)t->most, sizeof(ar_draws), &block));
    t->draws = block;
    AR_TRY(take(t, cuts, sizeof(cut), &block));
    t->cuts = block;
    AR_TRY(take(t, cuts, sizeof(ar_norm), &block));
    t->norms = block;
    for (int32_t k = 0; k < t->cut_count; k++) {
        int64_t values = (int64_t)cut_node(t, k)->shape.c * 2 * t->lanes;
        if (values > t->stride) t->stride = values;
        for (int32_t group = 0; group < t->groups; group++)
            AR_TRY(make_cut(t, group, k));
    }
    AR_TRY(take(t, all * (size_t)t->stride, sizeof(double), &block));
    t->sums = block;
    AR_TRY(take(t, (size_t)t->program->count, sizeof(int32_t), &block));
    t->stops = block;
    for (int32_t s = 0; s < t->program->count; s++)
        if (t->program->steps[s].cut >= 0 ||
            (t->mode == AR_RUN_TRAIN && ar_step_stops(t->program, s)))
            t->stops[t->stop_count++] = s;
    if (t->mode == AR_RUN_TRAIN) {
        size_t workers = (size_t)ar_workers(t->program->model->ctx);
        t->scratch_size = ar_run_gradient_scratch(t->program);
        AR_TRY(take(t, workers * (size_t)t->scratch_size, sizeof(ar_real), &block));
        t->scratch = block;
    }
    for (size_t i = 0; i < all; i++)
        AR_TRY(ar_workspace_take(t->program, t->mode, t->lanes, &t->workspaces[i]));
out:
    return status;
}

/* Integers know no dropped values. */
static int32_t check_integers(const ar_program *program, int32_t mode) {
    const advrob_model *model = program->model;
    for (int32_t i = 1; i < model->node_count && model->exact && mode == AR_RUN_TRAIN; i++)
        if (model->nodes[i].attributes.rate > 0)
            return ar_error(ADVROB_E_UNSUPPORTED,
                            "training in exact integers: node %s drops %g of its values, expected "
                            "a net without dropout",
                            model->nodes[i].name, model->nodes[i].attributes.rate);
    return ADVROB_OK;
}

int32_t ar_tiles_create(ar_program *program, int32_t mode, bool batch_statistics, int64_t batch,
                        int32_t groups, ar_tiles **out) {
    int32_t status = ADVROB_OK;
    ar_tiles *tiles = NULL;
    void *block = NULL;
    AR_TRY(check_integers(program, mode));
    AR_TRY(ar_calloc(&program->model->ctx->memory, 1, sizeof *tiles, "batch room", &block));
    tiles = block;
    tiles->program = program;
    tiles->mode = mode;
    tiles->lanes = ar_tile_lanes(batch);
    tiles->groups = groups;
    tiles->cut_count = program->cut_count;
    tiles->batch_statistics = batch_statistics;
    tiles->most = (int32_t)((batch + tiles->lanes - 1) / tiles->lanes);
    ar_arena_init(&tiles->arena, &program->model->ctx->memory);
    AR_TRY(allocate(tiles));
    *out = tiles;
    tiles = NULL;
out:
    ar_tiles_destroy(tiles);
    return status;
}

void ar_tiles_destroy(ar_tiles *tiles) {
    if (tiles == NULL) return;
    ar_memory *memory = &tiles->program->model->ctx->memory;
    for (int32_t i = 0; tiles->workspaces != NULL && i < tiles->groups * tiles->most; i++)
        ar_workspace_give(tiles->workspaces[i]);
    ar_arena_free(&tiles->arena);
    ar_free(memory, tiles);
}

/* One pass of all tiles over the steps between two cuts. */
typedef struct segment_job {
    ar_tiles *tiles;
    int32_t segment; /* before cut `segment`; the last one ends the net */
    const float *const *in;
    float *const *out;
} segment_job;

/* Group and first image of a piece, which is a tile. */
static int64_t locate(const ar_tiles *t, int64_t piece, int32_t *group, int32_t *count) {
    int64_t first = piece % t->tiles * t->lanes, left = t->n - first;
    *group = (int32_t)(piece / t->tiles);
    *count = (int32_t)(left < t->lanes ? left : t->lanes);
    return first;
}

/* Cuts of the forward pass: none where running statistics are used. */
static int32_t forward_cuts(const ar_tiles *t) {
    return t->batch_statistics ? t->cut_count : 0;
}

static double *sums_of(const ar_tiles *t, int64_t piece) {
    return t->sums + piece * t->stride;
}

static void add_up(const ar_tiles *t, int64_t piece, int32_t k, const ar_real *a) {
    ar_workspace *workspace = t->used[piece];
    const ar_node *node = cut_node(t, k);
    const ar_real *x = ar_workspace_value(workspace, node->inputs[0]);
    double start = ar_run_start(workspace);
    t->program->kernels->channel_sums(t->lanes, node->shape.c, ar_shape_pixels(node->shape),
                                      a != NULL ? a : x, x, sums_of(t, piece));
    ar_run_stop(workspace, a == NULL ? AR_PASS_FORWARD : AR_PASS_INPUT_GRADIENT,
                t->program->cuts[k], start);
}

static int32_t forward_piece(void *arg, int64_t piece, int32_t worker) {
    const segment_job *job = arg;
    const ar_tiles *t = job->tiles;
    const ar_program *program = t->program;
    const ar_node *nodes = program->model->nodes;
    ar_workspace *workspace = t->used[piece];
    int32_t group, count, k = job->segment, cuts = forward_cuts(t);
    int64_t first = locate(t, piece, &group, &count);
    (void)worker;
    if (k == 0)
        ar_run_load(workspace, count, job->in[group] + first * ar_shape_count(nodes[0].shape));
    ar_run_steps(workspace, k == 0 ? 0 : program->cuts[k - 1],
                 k == cuts ? program->count : program->cuts[k]);
    if (k < cuts)
        add_up(t, piece, k, NULL);
    else
        ar_run_store(workspace,
                     job->out[group] + first * ar_shape_count(nodes[program->output].shape));
    return ADVROB_OK;
}

/* The cut's sums of one channel over a group's images, in their order. */
static void combine(const ar_tiles *t, int32_t group, int32_t channel, double sums[2]) {
    sums[0] = sums[1] = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const double *tile = sums_of(t, group * t->tiles + i / t->lanes);
        const double *own = tile + (int64_t)channel * 2 * t->lanes + i % t->lanes;
        sums[0] += own[0];
        sums[1] += own[t->lanes];
    }
}

/* Values of one channel in a group. */
static double channel_count(const ar_tiles *t, const ar_node *node) {
    return (double)t->n * ar_shape_pixels(node->shape);
}

static int64_t combine_pieces(const ar_tiles *t, int32_t k) {
    int32_t channels = cut_node(t, k)->shape.c;
    return (int64_t)t->groups * ((channels + COMBINE_CHANNELS - 1) / COMBINE_CHANNELS);
}

/* Group and channels [*begin, *end) of a piece. */
static int32_t combine_range(const ar_tiles *t, int32_t k, int64_t piece, int32_t *begin,
                             int32_t *end) {
    int32_t channels = cut_node(t, k)->shape.c;
    int64_t blocks = (channels + COMBINE_CHANNELS - 1) / COMBINE_CHANNELS;
    *begin = (int32_t)(piece % blocks) * COMBINE_CHANNELS;
    *end = *begin + COMBINE_CHANNELS < channels ? *begin + COMBINE_CHANNELS : channels;
    return (int32_t)(piece / blocks);
}

static int32_t forward_combine(void *arg, int64_t piece, int32_t worker) {
    const segment_job *job = arg;
    const ar_tiles *t = job->tiles;
    const ar_node *node = cut_node(t, job->segment);
    const ar_real *weight =
        t->program->effective + t->program->model->parameters[node->weight].offset;
    int32_t begin, end, group = combine_range(t, job->segment, piece, &begin, &end);
    const cut *own = &t->cuts[group * t->cut_count + job->segment];
    (void)worker;
    for (int32_t c = begin; c < end; c++) {
        double sums[2];
        combine(t, group, c, sums);
        ar_norm_statistics(channel_count(t, node), sums[0], sums[1], &own->channels[c]);
        own->mean[c] = (ar_real)own->channels[c].mean;
        own->scale[c] =
            (ar_real)ar_norm_scale(&node->attributes, weight[c], own->channels[c].variance);
    }
    return ADVROB_OK;
}

int32_t ar_tiles_check(const ar_program *program, int64_t n) {
    for (int32_t k = 0; n < 2 && k < program->cut_count; k++) {
        const ar_node *node = &program->model->nodes[program->steps[program->cuts[k]].node];
        if (n * ar_shape_pixels(node->shape) < 2)
            return ar_error(ADVROB_E_INVALID,
                            "node %s: a batch of one image has one value a channel, expected more "
                            "to normalise by",
                            node->name);
    }
    return ADVROB_OK;
}

int32_t ar_tiles_forward(ar_tiles *t, int64_t n, const float *const *x, const ar_draws *draws,
                         float *const *out) {
    int32_t status = ADVROB_OK;
    advrob_context *ctx = t->program->model->ctx;
    segment_job job = {.tiles = t, .in = x, .out = out};
    t->n = n;
    t->tiles = (int32_t)((n + t->lanes - 1) / t->lanes);
    if (t->batch_statistics) AR_TRY(ar_tiles_check(t->program, n));
    for (int32_t i = 0; i < t->tiles && draws != NULL; i++)
        t->draws[i] = (ar_draws){draws->seed, draws->ids + (int64_t)i * t->lanes};
    for (int32_t group = 0; group < t->groups; group++)
        for (int32_t i = 0; i < t->tiles; i++) {
            ar_workspace *workspace = t->workspaces[group * t->most + i];
            workspace->norms = t->batch_statistics ? t->norms + group * t->cut_count : NULL;
            workspace->draws = draws != NULL ? &t->draws[i] : NULL;
            t->used[group * t->tiles + i] = workspace;
        }
    for (; job.segment <= forward_cuts(t); job.segment++) {
        AR_TRY(ar_parallel(ctx, (int64_t)t->groups * t->tiles, forward_piece, NULL, &job));
        if (job.segment < forward_cuts(t))
            AR_TRY(ar_parallel(ctx, combine_pieces(t, job.segment), forward_combine, NULL, &job));
    }
out:
    return status;
}

/* The way back from one stop to the one below, and beside it the weight gradients of the first. */
typedef struct backward_job {
    ar_tiles *tiles;
    int32_t stop; /* from this one, to behind the one before; stop_count: from the end of the net */
    int32_t pieces; /* of weight gradients, which come first: they are the longest */
    const float *const *dout;
    float *const *dx;
    ar_real *gradient;
} backward_job;

static int32_t backward_tile(const backward_job *job, int64_t tile) {
    const ar_tiles *t = job->tiles;
    const ar_program *program = t->program;
    const ar_node *nodes = program->model->nodes;
    ar_workspace *workspace = t->used[tile];
    int32_t group, count, k = job->stop;
    int64_t first = locate(t, tile, &group, &count);
    bool end = k == t->stop_count;
    if (end)
        ar_run_load_gradient(workspace, job->dout[group] +
                                            first * ar_shape_count(nodes[program->output].shape));
    ar_run_steps_backward(workspace, k == 0 ? 0 : t->stops[k - 1] + 1,
                          end ? program->count : t->stops[k] + 1, !end, job->dx != NULL);
    if (k > 0) {
        const ar_step *below = &program->steps[t->stops[k - 1]];
        ar_run_gate(workspace, t->stops[k - 1]);
        if (below->cut >= 0)
            add_up(t, tile, below->cut, ar_workspace_gradient(workspace, below->value));
    } else if (job->dx != NULL) {
        ar_run_store_gradient(workspace, job->dx[group] + first * ar_shape_count(nodes[0].shape));
    }
    return ADVROB_OK;
}

static int32_t backward_piece(void *arg, int64_t piece, int32_t worker) {
    const backward_job *job = arg;
    const ar_tiles *t = job->tiles;
    if (piece >= job->pieces) return backward_tile(job, piece - job->pieces);
    ar_run_gradient_piece(t->used, t->groups * t->tiles, t->stops[job->stop], piece,
                          t->scratch + worker * t->scratch_size, job->gradient);
    return ADVROB_OK;
}

static int32_t backward_combine(void *arg, int64_t piece, int32_t worker) {
    const segment_job *job = arg;
    const ar_tiles *t = job->tiles;
    const ar_node *node = cut_node(t, job->segment);
    const ar_parameter *parameters = t->program->model->parameters;
    const ar_real *effective = t->program->effective;
    int32_t begin, end, group = combine_range(t, job->segment, piece, &begin, &end);
    const cut *own = &t->cuts[group * t->cut_count + job->segment];
    (void)worker;
    for (int32_t c = begin; c < end; c++) {
        ar_channel *channel = &own->channels[c];
        double sums[2];
        combine(t, group, c, sums);
        if (!t->batch_statistics) {
            channel->mean = (double)effective[parameters[node->running_mean].offset + c];
            channel->variance = (double)effective[parameters[node->running_var].offset + c];
        }
        ar_norm_gradient(&node->attributes, sums[0], sums[1], channel);
        ar_norm_backward_terms(&node->attributes, channel_count(t, node), channel, &own->dy_mean[c],
                               &own->slope[c]);
    }
    return ADVROB_OK;
}

/* Of batch norms that stand alone, from the sums at their cuts. */
static void norm_gradients(const ar_tiles *t, ar_real *gradient) {
    const advrob_model *model = t->program->model;
    for (int32_t k = 0; k < t->cut_count; k++) {
        const ar_node *node = cut_node(t, k);
        ar_real *dweight = gradient + model->parameters[node->weight].offset;
        ar_real *dbias = gradient + model->parameters[node->bias].offset;
        for (int32_t c = 0; c < node->shape.c; c++) {
            double weight = 0, bias = 0;
            for (int32_t group = 0; group < t->groups; group++) {
                weight += t->cuts[group * t->cut_count + k].channels[c].dweight;
                bias += t->cuts[group * t->cut_count + k].channels[c].dbias;
            }
            dweight[c] = (ar_real)weight;
            dbias[c] = (ar_real)bias;
        }
    }
}

int32_t ar_tiles_backward(ar_tiles *t, const float *const *dout, float *const *dx,
                          ar_real *gradient) {
    int32_t status = ADVROB_OK;
    const ar_program *program = t->program;
    advrob_context *ctx = program->model->ctx;
    backward_job job = {
        .tiles = t, .stop = t->stop_count, .dout = dout, .dx = dx, .gradient = gradient};
    for (;; job.stop--) {
        bool weights = job.stop < t->stop_count && t->mode == AR_RUN_TRAIN;
        job.pieces = weights ? ar_run_gradient_pieces(program, t->stops[job.stop]) : 0;
        AR_TRY(ar_parallel(ctx, job.pieces + (int64_t)t->groups * t->tiles, backward_piece, NULL,
                           &job));
        if (job.stop == 0) break;
        segment_job sums = {.tiles = t, .segment = program->steps[t->stops[job.stop - 1]].cut};
        if (sums.segment >= 0)
            AR_TRY(
                ar_parallel(ctx, combine_pieces(t, sums.segment), backward_combine, NULL, &sums));
    }
    if (gradient != NULL) norm_gradients(t, gradient);
out:
    return status;
}

/* Running mean and variance of a channel of cut k after the batches of all groups, in order. */
static void moved_statistics(const ar_tiles *t, int32_t k, int32_t channel, const ar_real *slab,
                             ar_real moved[2]) {
    const ar_parameter *parameters = t->program->model->parameters;
    const ar_node *node = cut_node(t, k);
    moved[0] = slab[parameters[node->running_mean].offset + channel];
    moved[1] = slab[parameters[node->running_var].offset + channel];
    for (int32_t group = 0; group < t->groups; group++)
        ar_norm_move(&node->attributes, channel_count(t, node),
                     &t->cuts[group * t->cut_count + k].channels[channel], &moved[0], &moved[1]);
}

int32_t ar_tiles_check_statistics(const ar_tiles *t, const ar_real *slab) {
    int32_t status = ADVROB_OK;
    const ar_parameter *parameters = t->program->model->parameters;
    for (int32_t k = 0; k < forward_cuts(t); k++) {
        const ar_node *node = cut_node(t, k);
        const ar_parameter *mean = &parameters[node->running_mean];
        const ar_parameter *variance = &parameters[node->running_var];
        for (int32_t c = 0; c < node->shape.c; c++) {
            ar_real moved[2];
            moved_statistics(t, k, c, slab, moved);
            AR_TRY(ar_parameter_check(mean, c, (double)moved[0]));
            AR_TRY(ar_parameter_check(variance, c, (double)moved[1]));
        }
    }
out:
    return status;
}

void ar_tiles_move_statistics(const ar_tiles *t, ar_real *slab) {
    const ar_parameter *parameters = t->program->model->parameters;
    for (int32_t k = 0; k < forward_cuts(t); k++) {
        const ar_node *node = cut_node(t, k);
        for (int32_t c = 0; c < node->shape.c; c++) {
            ar_real moved[2];
            moved_statistics(t, k, c, slab, moved);
            slab[parameters[node->running_mean].offset + c] = moved[0];
            slab[parameters[node->running_var].offset + c] = moved[1];
        }
    }
}

void ar_tiles_statistics(const ar_tiles *t, int32_t group, int32_t cut_number, int32_t channel,
                         double *mean, double *variance) {
    const ar_channel *own = &t->cuts[group * t->cut_count + cut_number].channels[channel];
    double count = channel_count(t, cut_node(t, cut_number));
    *mean = own->mean;
    *variance = own->variance * count / (count - 1);
}

ar_workspace *ar_tiles_workspace(const ar_tiles *t, int32_t group, int32_t tile) {
    return t->used[group * t->tiles + tile];
}
