/* The l2 attack of Carlini and Wagner (2017, arXiv 1608.04644, section VI.A): Adam on
 *   |x - x0|^2 + c * max(margin + confidence, 0),  x = box(tanh(w)),
 * with a search for the least c that succeeds. Samples share nothing: each has its own c, its own
 * place in the search and its own early end. The nearest iterate that won is the answer, unless it
 * lies beyond epsilon. */
#include <math.h>
#include <string.h>

#include "attack.h"

typedef struct cw_options {
    ar_attack_common common;
    double confidence, learning_rate, initial_constant;
    int64_t steps, search_steps, abort_early;
} cw_options;

static const ar_option entries[] = {
    AR_ATTACK_FARTHEST,
    AR_F64(cw_options, confidence, 0, 0, 1e6, "margin by which an answer must win"),
    AR_I64(cw_options, steps, 10000, 1, 10000000, "steps for each constant"),
    AR_I64(cw_options, search_steps, 9, 1, 1000, "constants that are tried"),
    AR_F64(cw_options, initial_constant, 1e-3, 1e-10, 1e9, "first weight of the margin"),
    AR_F64(cw_options, learning_rate, 1e-2, 0, 1e6, "Adam's step size"),
    AR_I64(cw_options, abort_early, 1, 0, 1,
           "leave a constant when a tenth of its steps won nothing"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(cw_options, entries);

#define BETA1 0.9
#define BETA2 0.999
#define TINY 1e-8
#define SHRINK 0.999999 /* so that pixels at the ends of the box have a finite w */
#define HIGHEST 1e10    /* constant, before any succeeded */
#define PROGRESS 0.9999 /* of the loss, after a tenth of the steps */
#define REPEAT_FROM 10  /* constants, of which the last repeats the least that succeeded */

/* What is kept of a sample: this, float start[size], w[size], mean[size], square[size]. */
typedef struct cw_state {
    double constant, lower, upper;
    double loss;    /* at the last look */
    double nearest; /* of the answers so far */
    int64_t step, search;
    int64_t found; /* whether this constant succeeded */
} cw_state;

static cw_state *state_of(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

static float *start_of(cw_state *state) {
    return (float *)(state + 1);
}

static size_t state_size(const void *options, const advrob_target *target) {
    (void)options;
    return sizeof(cw_state) + 4 * sizeof(float) * (size_t)ar_shape_count(target->shape);
}

static const float *original(const ar_attack_tile *tile, int32_t i) {
    return tile->x + tile->room->slot[i] * ar_shape_count(tile->target->shape);
}

/* tanh, and 1 - tanh^2 without cancellation. */
static inline double squash(double w, double *slope) {
    double e = exp(-2 * fabs(w)), sum = 1 + e;
    *slope = 4 * e / (sum * sum);
    return copysign((1 - e) / sum, w);
}

/* The search begins (again) at the image, with the state's constant. */
static void restart(const ar_attack_tile *tile, int32_t i) {
    int64_t size = ar_shape_count(tile->target->shape);
    cw_state *state = state_of(tile, i);
    float *start = start_of(state);
    memcpy(start + size, start, sizeof(float) * (size_t)size);
    memset(start + 2 * size, 0, 2 * sizeof(float) * (size_t)size);
    state->step = 0;
    state->found = 0;
    state->loss = INFINITY;
}

/* The image that w stands for. */
static void show(const ar_attack_tile *tile, int32_t i) {
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    const float *w = start_of(state_of(tile, i)) + size;
    const float *low = tile->room->low + i * size, *high = tile->room->high + i * size;
    float *x = tile->room->x + i * size;
    for (int64_t k = 0; k < size; k++) {
        double bottom = target->low[k / pixels], half = (target->high[k / pixels] - bottom) / 2;
        double slope, value = bottom + half * (squash((double)w[k], &slope) + 1);
        x[k] = fminf(fmaxf((float)value, low[k]), high[k]);
    }
    ar_ball_snap(target, AR_NORM_LINF, original(tile, i), low, high, x);
}

static void begin(const ar_attack_tile *tile, int32_t i) {
    const cw_options *o = tile->attack->options;
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    const float *from = original(tile, i);
    cw_state *state = state_of(tile, i);
    *state = (cw_state){.constant = o->initial_constant, .upper = HIGHEST, .nearest = INFINITY};
    for (int64_t k = 0; k < size; k++) {
        double low = target->low[k / pixels], half = (target->high[k / pixels] - low) / 2;
        double at = half > 0 ? ((double)from[k] - low) / half - 1 : 0;
        start_of(state)[k] = (float)atanh(SHRINK * fmin(fmax(at, -1), 1));
    }
    restart(tile, i);
    show(tile, i);
}

/* By how much the sample does not win yet, and the two classes between which that is decided. */
static double shortfall(const ar_attack_tile *tile, int32_t i, const float *z, int32_t *winner,
                        int32_t *loser) {
    int32_t classes = tile->target->classes, aim = tile->room->target[i];
    int32_t own = aim >= 0 ? aim : tile->room->y[i], other = own == 0 ? 1 : 0;
    for (int32_t k = 0; k < classes; k++)
        if (k != own && z[k] > z[other]) other = k;
    *winner = aim >= 0 ? own : other;
    *loser = aim >= 0 ? other : own;
    return (double)z[*loser] - (double)z[*winner];
}

/* The constant was tried: the next one, or the end. */
static void next_constant(const ar_attack_tile *tile, int32_t i) {
    const cw_options *o = tile->attack->options;
    cw_state *state = state_of(tile, i);
    if (state->found)
        state->upper = fmin(state->upper, state->constant);
    else
        state->lower = fmax(state->lower, state->constant);
    if (state->upper < HIGHEST)
        state->constant = (state->lower + state->upper) / 2;
    else
        state->constant *= 10;
    if (++state->search == o->search_steps) tile->room->done[tile->room->slot[i]] = true;
    if (state->search == o->search_steps - 1 && o->search_steps >= REPEAT_FROM)
        state->constant = state->upper;
    restart(tile, i);
}

/* Adam's step of w, by the gradient of the margin (0 where it is won) at the image. */
static void adam(const ar_attack_tile *tile, int32_t i, const float *g) {
    const cw_options *o = tile->attack->options;
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    cw_state *state = state_of(tile, i);
    float *w = start_of(state) + size, *mean = w + size, *square = mean + size;
    const float *x = tile->room->x + i * size, *from = original(tile, i);
    double t = (double)state->step + 1;
    double rate = o->learning_rate / (1 - pow(BETA1, t)), scale = 1 / sqrt(1 - pow(BETA2, t));
    for (int64_t k = 0; k < size; k++) {
        double unit = target->unit[k / pixels], slope;
        double half = (target->high[k / pixels] - target->low[k / pixels]) / 2;
        squash((double)w[k], &slope);
        double away = 2 * ((double)x[k] - (double)from[k]) / (unit * unit);
        double d = (away + state->constant * (double)g[k]) * half * slope;
        double m = BETA1 * (double)mean[k] + (1 - BETA1) * d;
        double s = BETA2 * (double)square[k] + (1 - BETA2) * d * d;
        mean[k] = (float)m;
        square[k] = (float)s;
        w[k] = (float)((double)w[k] - rate * m / (sqrt(s) * scale + TINY));
    }
}

/* Sample i of the room after a pass at its iterate. */
static void advance(const ar_attack_tile *tile, int32_t i, const float *z, const float *g) {
    const cw_options *o = tile->attack->options;
    int64_t size = ar_shape_count(tile->target->shape), tenth = o->steps / 10;
    cw_state *state = state_of(tile, i);
    int32_t winner, loser;
    double missing = fmax(shortfall(tile, i, z, &winner, &loser) + o->confidence, 0);
    double distance =
        ar_ball_distance(tile->target, AR_NORM_L2, original(tile, i), tile->room->x + i * size);
    double loss = distance * distance + state->constant * missing;
    if (missing == 0 && ar_attack_fooled(tile, i, z)) {
        state->found = 1;
        if (distance < state->nearest) {
            state->nearest = distance;
            if (distance <= o->common.epsilon) ar_attack_keep(tile, i, false);
        }
    }
    bool look = o->abort_early && state->step % (tenth > 1 ? tenth : 1) == 0;
    bool stuck = look && loss > PROGRESS * state->loss;
    if (look) state->loss = loss;
    if (!stuck) adam(tile, i, g);
    if (stuck || ++state->step == o->steps) next_constant(tile, i);
    show(tile, i);
}

static int32_t step_block(const ar_attack_tile *tile, int32_t first, int32_t n) {
    int32_t status = ADVROB_OK, winner, loser;
    const cw_options *o = tile->attack->options;
    ar_attack_room *room = tile->room;
    int64_t classes = tile->target->classes, size = ar_shape_count(tile->target->shape);
    AR_TRY(ar_attack_forward(tile, first, n));
    memset(room->dlogits, 0, sizeof(float) * (size_t)(n * classes));
    for (int32_t i = 0; i < n; i++) {
        const float *z = room->logits + i * classes;
        if (shortfall(tile, first + i, z, &winner, &loser) + o->confidence <= 0) continue;
        room->dlogits[i * classes + loser] = 1;
        room->dlogits[i * classes + winner] = -1;
    }
    AR_TRY(ar_attack_backward(tile, first, n));
    for (int32_t i = 0; i < n; i++)
        advance(tile, first + i, room->logits + i * classes, room->gradient + i * size);
out:
    return status;
}

/* What is fooled as it is, is its own answer. */
static int32_t leave_out(const ar_attack_tile *tile, int32_t *live) {
    int32_t status = ADVROB_OK, winner, loser;
    const cw_options *o = tile->attack->options;
    int32_t block = ar_attack_block(tile), most = *live;
    for (int32_t first = 0; first < most; first += block) {
        int32_t n = most - first < block ? most - first : block;
        AR_TRY(ar_attack_forward(tile, first, n));
        for (int32_t i = first; i < first + n; i++) {
            const float *z = tile->room->logits + (int64_t)(i - first) * tile->target->classes;
            bool wins = shortfall(tile, i, z, &winner, &loser) + o->confidence <= 0;
            if (wins && ar_attack_fooled(tile, i, z)) ar_attack_keep(tile, i, true);
        }
    }
    *live = ar_attack_drop(tile, most);
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    int32_t live = ar_attack_fill(tile, true), block = ar_attack_block(tile);
    AR_TRY(leave_out(tile, &live));
    for (int32_t i = 0; i < live; i++)
        begin(tile, i);
    while (live > 0) {
        AR_TRY(ar_attack_tick(tile));
        for (int32_t first = 0; first < live; first += block)
            AR_TRY(step_block(tile, first, live - first < block ? live - first : block));
        live = ar_attack_drop(tile, live);
    }
out:
    return status;
}

const ar_attack ar_attack_carlini_wagner = {
    .name = "carlini_wagner",
    .help = "l2 attack of Carlini and Wagner",
    .options = &table,
    .needs_gradient = true,
    .loss = "margin",
    .norm = AR_NORM_L2,
    .state = state_size,
    .tile = run,
};
