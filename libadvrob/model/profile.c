/* What each pass of each step costs on one thread, beside what the core could do. A batch goes the
 * way that it goes in an attack, tile after tile in one workspace, or in training, all tiles side
 * by side; so caches are as warm as they are there. */
#include <math.h>
#include <string.h>

#include "program.h"

/* The peak is the best of so many runs, spread over the rounds; each of about 0.2 ms. */
#define PEAK_RUNS 20
#define PEAK_ROUNDS 100000

typedef struct profile_room {
    ar_profile *profile;
    int64_t batch;
    ar_workspace *workspace; /* up to the input gradient */
    ar_tiles *tiles;         /* in training */
    ar_draws draws;
    float *x, *logits, *dlogits, *dx;
    ar_real *gradient;
    double *seconds; /* of one round, [AR_PASSES][steps] */
    double total[AR_PASSES];
} profile_room;

static int32_t take(ar_arena *arena, size_t count, size_t size, void **block) {
    return ar_arena_alloc(arena, count, size, "profile", block);
}

static int32_t take_floats(ar_arena *arena, int64_t batch, ar_shape shape, float **out) {
    void *block;
    size_t count;
    if (!ar_mul((size_t)batch, (size_t)ar_shape_count(shape), &count))
        return ar_error(ADVROB_E_OVERFLOW, "profile: a batch of %lld images does not fit",
                        (long long)batch);
    int32_t status = take(arena, count, sizeof(float), &block);
    if (status >= 0) *out = block;
    return status;
}

static int32_t take_training(profile_room *room, ar_arena *arena) {
    int32_t status = ADVROB_OK;
    ar_program *program = room->profile->program;
    size_t slab = (size_t)program->model->slab_count;
    void *block;
    AR_TRY(take(arena, slab, sizeof(ar_real), &block));
    room->gradient = block;
    AR_TRY(take(arena, (size_t)room->batch, sizeof(int64_t), &block));
    room->draws.ids = block;
    AR_TRY(ar_tiles_create(program, AR_RUN_TRAIN, true, room->batch, 1, &room->tiles));
out:
    return status;
}

static int32_t take_room(profile_room *room, ar_arena *arena) {
    int32_t status = ADVROB_OK;
    ar_profile *profile = room->profile;
    ar_program *program = profile->program;
    const advrob_model *model = program->model;
    ar_shape in = model->nodes[0].shape, out = model->nodes[program->output].shape;
    size_t steps = (size_t)program->count;
    ar_rng rng;
    void *block;
    AR_TRY(take_floats(arena, room->batch, in, &room->x));
    AR_TRY(take_floats(arena, room->batch, in, &room->dx));
    AR_TRY(take_floats(arena, room->batch, out, &room->logits));
    AR_TRY(take_floats(arena, room->batch, out, &room->dlogits));
    AR_TRY(take(arena, AR_PASSES * steps, sizeof(double), &block));
    room->seconds = block;
    AR_TRY(take(arena, AR_PASSES * steps, sizeof(double), &block));
    for (int32_t pass = 0; pass < AR_PASSES; pass++)
        profile->seconds[pass] = (double *)block + (size_t)pass * steps;
    if (profile->passes == AR_PASSES)
        AR_TRY(take_training(room, arena));
    else
        AR_TRY(ar_workspace_take(program,
                                 profile->passes == 1 ? AR_RUN_FORWARD : AR_RUN_INPUT_GRADIENT,
                                 ar_tile_lanes(room->batch), &room->workspace));
    ar_model_noise(model, room->batch, room->x);
    ar_rng_init(&rng, 0, AR_RNG_SYNTHETIC, 1, 0, 0);
    for (int64_t i = 0; i < room->batch * ar_shape_count(out); i++)
        room->dlogits[i] = ar_rng_uniform(&rng) - 0.5f;
out:
    return status;
}

static void attack_round(profile_room *room) {
    ar_workspace *workspace = room->workspace;
    const ar_program *program = workspace->program;
    const ar_node *nodes = program->model->nodes;
    int64_t in = ar_shape_count(nodes[0].shape);
    int64_t out = ar_shape_count(nodes[program->output].shape);
    workspace->seconds = room->seconds;
    for (int64_t first = 0; first < room->batch; first += workspace->lanes) {
        int64_t left = room->batch - first;
        int32_t count = (int32_t)(left < workspace->lanes ? left : workspace->lanes);
        double start = ar_clock();
        ar_run_forward(workspace, count, room->x + first * in, room->logits + first * out);
        double middle = ar_clock();
        room->total[AR_PASS_FORWARD] += middle - start;
        if (room->profile->passes == 1) continue;
        ar_run_backward(workspace, room->dlogits + first * out, room->dx + first * in);
        room->total[AR_PASS_INPUT_GRADIENT] += ar_clock() - middle;
    }
}

static int32_t training_round(profile_room *room) {
    int32_t status = ADVROB_OK;
    const float *x = room->x, *dlogits = room->dlogits;
    int32_t lanes = ar_tile_lanes(room->batch);
    int32_t steps = room->profile->program->count;
    double start = ar_clock();
    AR_TRY(ar_tiles_forward(room->tiles, room->batch, &x, &room->draws, &room->logits));
    double middle = ar_clock();
    room->total[AR_PASS_FORWARD] = middle - start;
    AR_TRY(ar_tiles_backward(room->tiles, &dlogits, NULL, room->gradient));
    room->total[AR_PASS_INPUT_GRADIENT] = ar_clock() - middle;
    for (int32_t s = 0; s < steps; s++) /* layer by layer on the way back */
        room->total[AR_PASS_WEIGHT_GRADIENT] += room->seconds[AR_PASS_WEIGHT_GRADIENT * steps + s];
    room->total[AR_PASS_INPUT_GRADIENT] -= room->total[AR_PASS_WEIGHT_GRADIENT];
    /* The tiles are there from the first round on, which only warms up. */
    for (int32_t i = 0; i * (int64_t)lanes < room->batch; i++)
        ar_tiles_workspace(room->tiles, 0, i)->seconds = room->seconds;
out:
    return status;
}

static int32_t one_round(void *arg, int64_t piece, int32_t worker) {
    profile_room *room = arg;
    size_t steps = (size_t)room->profile->program->count;
    (void)piece;
    (void)worker;
    memset(room->seconds, 0, AR_PASSES * steps * sizeof(double));
    memset(room->total, 0, sizeof room->total);
    if (room->tiles != NULL) return training_round(room);
    attack_round(room);
    return ADVROB_OK;
}

static void keep_best(const profile_room *room, bool first) {
    ar_profile *profile = room->profile;
    int32_t steps = profile->program->count;
    for (int32_t pass = 0; pass < profile->passes; pass++) {
        double *best = profile->seconds[pass];
        const double *own = room->seconds + (int64_t)pass * steps;
        for (int32_t s = 0; s < steps; s++)
            best[s] = first ? own[s] : fmin(best[s], own[s]);
        profile->total[pass] =
            first ? room->total[pass] : fmin(profile->total[pass], room->total[pass]);
    }
}

static double measure_peak(const ar_kernels *kernels) {
    ar_real sum;
    double start = ar_clock();
    int64_t done = kernels->fma(PEAK_ROUNDS, &sum);
    return (double)done / (ar_clock() - start);
}

int32_t ar_profile_run(advrob_model *model, int32_t passes, int64_t batch, int32_t repeats,
                       ar_arena *arena, ar_profile *out) {
    int32_t status = ADVROB_OK;
    profile_room room = {.profile = out, .batch = batch};
    *out = (ar_profile){.passes = passes};
    AR_TRY(ar_model_program(model, passes == AR_PASSES, &out->program));
    AR_TRY(take_room(&room, arena));
    for (int32_t i = 0; i <= repeats || i < PEAK_RUNS; i++) { /* the first round warms up */
        AR_TRY(ar_cancelled(model->ctx));
        if (i < PEAK_RUNS) out->peak = fmax(out->peak, measure_peak(model->ctx->kernels));
        if (i > repeats) continue;
        AR_TRY(ar_serial(one_round, &room));
        if (i > 0) keep_best(&room, i == 1);
    }
out:
    ar_workspace_give(room.workspace);
    ar_tiles_destroy(room.tiles);
    return status;
}

bool ar_profile_work(const ar_profile *profile, int32_t s, int32_t pass, ar_op_work *work) {
    const ar_step *step = &profile->program->steps[s];
    const ar_op *op = profile->program->model->nodes[step->node].op;
    bool wanted = profile->passes < AR_PASSES; /* the gradient by the model's input */
    for (int32_t k = 0; k < step->input_count; k++)
        wanted = wanted || step->inputs[k] != 0;
    if (!step->used || (pass == AR_PASS_FORWARD && ar_step_follows(profile->program, s)) ||
        (pass == AR_PASS_INPUT_GRADIENT && !wanted) ||
        (pass == AR_PASS_WEIGHT_GRADIENT && op->gradient == NULL))
        return false;
    *work = (ar_op_work){.kernel = op->name};
    if (op->work != NULL) *work = op->work(&step->setup, step->prepared, pass);
    return true;
}
