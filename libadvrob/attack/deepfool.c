/* DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, algorithm 2): the sum of steps to the
 * nearest of the linearised boundaries, a little overshot, until the answer changes. Every iterate
 * is brought into box and ball, and checked as it would be returned. */
#include <math.h>
#include <string.h>

#include "attack.h"

typedef struct deepfool_options {
    ar_attack_common common;
    double overshoot;
    int64_t steps, candidates;
} deepfool_options;

static const ar_option entries[] = {
    AR_ATTACK_FARTHEST,
    AR_STR(ar_attack_common, norm, "l2", "l2|linf", "norm of the distance"),
    AR_I64(deepfool_options, steps, 50, 1, 1000000, "steps at most"),
    AR_F64(deepfool_options, overshoot, 0.02, 0, 10, "part of the way that is gone beyond"),
    AR_I64(deepfool_options, candidates, 10, 2, 100000,
           "classes of the largest logits that are looked at, the label's with them"),
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(deepfool_options, entries);

/* Added to each step's length, in pixels, as the authors' code does, against standing still; and
 * what a nearly flat function may ask for. */
#define MORE 1e-4
#define LONGEST 1e6

/* What is kept of a sample: this, float total[size], float slope[size], int32_t others[]. */
typedef struct deepfool_state {
    double distance; /* to the nearest boundary of this step, in pixels; infinite: none */
    double norm;     /* of that boundary's slope */
} deepfool_state;

static deepfool_state *state_of(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

/* The sum of the steps, without the overshoot. */
static float *total_of(deepfool_state *state) {
    return (float *)(state + 1);
}

/* Of the nearest boundary of this step. */
static float *slope_of(deepfool_state *state, int64_t size) {
    return total_of(state) + size;
}

static int32_t *others_of(deepfool_state *state, int64_t size) {
    return (int32_t *)(slope_of(state, size) + size);
}

static int32_t others(const void *options, const advrob_target *target) {
    const deepfool_options *o = options;
    return (o->candidates < target->classes ? (int32_t)o->candidates : target->classes) - 1;
}

static size_t state_size(const void *options, const advrob_target *target) {
    size_t size = (size_t)ar_shape_count(target->shape);
    size_t bytes = sizeof(deepfool_state) + 2 * size * sizeof(float) +
                   (size_t)others(options, target) * sizeof(int32_t);
    return (bytes + 7) / 8 * 8;
}

/* The `count` classes other than y of the largest logits, the first of equal ones first. */
static void choose(int32_t classes, const float *z, int32_t y, int32_t count, int32_t *chosen) {
    for (int32_t n = 0; n < count; n++) {
        int32_t best = -1;
        for (int32_t k = 0; k < classes; k++) {
            bool taken = k == y;
            for (int32_t j = 0; j < n && !taken; j++)
                taken = chosen[j] == k;
            if (!taken && (best < 0 || z[k] > z[best])) best = k;
        }
        chosen[n] = best;
    }
}

/* The size of a slope by pixel in the dual norm: l2 of l2, l1 of l-inf. */
static double dual_norm(const ar_attack_tile *tile, const float *g) {
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    bool linf = tile->attack->norm == AR_NORM_LINF;
    double sum = 0;
    for (int64_t k = 0; k < size; k++) {
        double slope = (double)g[k] * target->unit[k / pixels];
        sum += linf ? fabs(slope) : slope * slope;
    }
    return linf ? sum : sqrt(sum);
}

/* The boundary to candidate number `rank`, for the block's samples that are not done. */
static int32_t look(const ar_attack_tile *tile, int32_t rank, int32_t first, int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    int64_t classes = tile->target->classes, size = ar_shape_count(tile->target->shape);
    memset(room->dlogits, 0, sizeof(float) * (size_t)(n * classes));
    for (int32_t i = 0; i < n; i++) {
        if (room->done[room->slot[first + i]]) continue;
        room->dlogits[i * classes + others_of(state_of(tile, first + i), size)[rank]] = 1;
        room->dlogits[i * classes + room->y[first + i]] = -1;
    }
    AR_TRY(ar_attack_backward(tile, first, n));
    for (int32_t i = 0; i < n; i++) {
        if (room->done[room->slot[first + i]]) continue;
        deepfool_state *state = state_of(tile, first + i);
        const float *z = room->logits + i * classes, *g = room->gradient + i * size;
        double gap = (double)z[others_of(state, size)[rank]] - (double)z[room->y[first + i]];
        double norm = dual_norm(tile, g);
        if (!(norm > 0) || !(fabs(gap) / norm < state->distance)) continue;
        state->distance = fabs(gap) / norm;
        state->norm = norm;
        memcpy(slope_of(state, size), g, sizeof(float) * (size_t)size);
    }
out:
    return status;
}

/* Sample i of the room goes to its nearest boundary. */
static void step(const ar_attack_tile *tile, int32_t i) {
    const deepfool_options *o = tile->attack->options;
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    deepfool_state *state = state_of(tile, i);
    const float *from = tile->x + tile->room->slot[i] * size, *slope = slope_of(state, size);
    const float *low = tile->room->low + i * size, *high = tile->room->high + i * size;
    float *total = total_of(state), *x = tile->room->x + i * size;
    double length = fmin(state->distance + MORE, LONGEST);
    for (int64_t k = 0; k < size; k++) {
        double g = slope[k], unit = target->unit[k / pixels];
        double way = tile->attack->norm == AR_NORM_LINF ? (double)((g > 0) - (g < 0))
                                                        : g * unit / state->norm;
        total[k] = (float)((double)total[k] + length * way * unit);
        double moved = (double)from[k] + (1 + o->overshoot) * (double)total[k];
        x[k] = fminf(fmaxf((float)moved, low[k]), high[k]);
    }
    ar_attack_settle(tile, i, 1);
}

/* Checks a block; unless it is the `last` time, what is not fooled goes a step. */
static int32_t step_block(const ar_attack_tile *tile, bool initial, bool last, int32_t first,
                          int32_t n) {
    int32_t status = ADVROB_OK, classes = tile->target->classes, left = 0;
    ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    int32_t count = others(tile->attack->options, tile->target);
    AR_TRY(ar_attack_forward(tile, first, n));
    for (int32_t i = first; i < first + n; i++) {
        const float *z = room->logits + (int64_t)(i - first) * classes;
        deepfool_state *state = state_of(tile, i);
        if (initial) choose(classes, z, room->y[i], count, others_of(state, size));
        state->distance = INFINITY;
        if (ar_attack_fooled(tile, i, z))
            ar_attack_keep(tile, i, true);
        else
            left++;
    }
    if (last || left == 0) goto out;
    for (int32_t rank = 0; rank < count; rank++)
        AR_TRY(look(tile, rank, first, n));
    for (int32_t i = first; i < first + n; i++) {
        if (room->done[room->slot[i]]) continue;
        if (state_of(tile, i)->distance < INFINITY)
            step(tile, i);
        else
            room->done[room->slot[i]] = true; /* flat: there is nowhere to go */
    }
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    const deepfool_options *o = tile->attack->options;
    int32_t live = ar_attack_fill(tile, true), block = ar_attack_block(tile);
    for (int64_t k = 0; k <= o->steps && live > 0; k++) {
        AR_TRY(ar_attack_tick(tile));
        for (int32_t first = 0; first < live; first += block)
            AR_TRY(step_block(tile, k == 0, k == o->steps, first,
                              live - first < block ? live - first : block));
        live = ar_attack_drop(tile, live);
    }
out:
    return status;
}

const ar_attack ar_attack_deepfool = {
    .name = "deepfool",
    .help = "DeepFool: steps to the nearest linearised boundary",
    .options = &table,
    .needs_gradient = true,
    .loss = "margin",
    .state = state_size,
    .tile = run,
};
