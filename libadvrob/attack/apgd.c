/* APGD (Croce and Hein 2020, arXiv 2003.01690, algorithm 1), as the authors' code has it where the
 * paper differs: signed steps with momentum, whose size is halved, and which go back to the best
 * point, wherever a checkpoint finds that the loss no longer climbs. A fooled sample leaves at
 * once, so it counts fewer passes than theirs; one that holds counts as many. */
#include <math.h>
#include <string.h>

#include "attack.h"

typedef struct apgd_options {
    ar_attack_common common;
    double rho;
    int64_t steps, random_start, restarts, early_stop;
} apgd_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_I64(apgd_options, steps, 100, 1, 1000000, "gradient steps"),
    AR_I64(apgd_options, random_start, 1, 0, 1, "start at a random point of the sphere"),
    AR_I64(apgd_options, restarts, 1, 1, 10000, "runs, of which each sample's worst is kept"),
    AR_F64(apgd_options, rho, 0.75, 0, 1, "share of steps that must raise the loss"),
    AR_ATTACK_LOSS,
    AR_ATTACK_NORM,
    AR_I64(apgd_options, early_stop, 1, 0, 1, "stop a sample once it is fooled"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(apgd_options, entries);

/* Shares of the steps: the first window between checkpoints, the least, and by how much each is
 * shorter than the one before (section 4.2). */
static const double FIRST = 0.22, LEAST = 0.06, SHORTER = 0.03;

/* Of the way that a step leads, and of the way that led here, its rest (equation 3). */
static const float AHEAD = 0.75f;

/* ---- A sample's state: its record, then three images ---- */

size_t ar_apgd_state_size(const advrob_target *target) {
    size_t images = 3 * sizeof(float) * (size_t)ar_shape_count(target->shape);
    return (sizeof(ar_apgd_state) + images + 63) / 64 * 64;
}

enum { BEFORE, BEST, BEST_GRADIENT }; /* the iterate before this one; where the loss was largest */

static ar_apgd_state *state_of(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

static float *kept(const ar_attack_tile *tile, ar_apgd_state *state, int32_t which) {
    return (float *)(state + 1) + which * ar_shape_count(tile->target->shape);
}

static void copy(const ar_attack_tile *tile, float *to, const float *from) {
    memcpy(to, from, sizeof(float) * (size_t)ar_shape_count(tile->target->shape));
}

static float *iterate(const ar_attack_tile *tile, int32_t i) {
    return tile->room->x + i * ar_shape_count(tile->target->shape);
}

/* ---- Starting points ---- */

/* A direction of size 1 in the norm. */
static void draw(const ar_attack_tile *tile, ar_rng *rng, float *d) {
    const int64_t size = ar_shape_count(tile->target->shape);
    const bool linf = tile->attack->norm == AR_NORM_LINF;
    double most = 0, squares = 0;
    for (int64_t k = 0; k < size; k++) {
        d[k] = linf ? 2 * (float)ar_rng_uniform(rng) - 1 : (float)ar_rng_normal(rng);
        most = fmax(most, fabs((double)d[k]));
        squares += (double)d[k] * (double)d[k];
    }
    const double length = linf ? most : sqrt(squares);
    for (int64_t k = 0; k < size && length > 0; k++)
        d[k] = (float)((double)d[k] / length);
}

/* Puts the room's samples on the sphere, cut by the box. */
static void start(const ar_attack_tile *tile, double epsilon, int32_t live) {
    const ar_attack_room *room = tile->room;
    const int64_t size = ar_shape_count(tile->target->shape);
    const int64_t pixels = ar_shape_pixels(tile->target->shape);
    for (int32_t i = 0; i < live; i++) {
        float *x = iterate(tile, i), *d = kept(tile, state_of(tile, i), BEST);
        const float *low = room->low + i * size, *high = room->high + i * size;
        ar_rng rng;
        ar_attack_rng(tile, room->slot[i], 0, &rng);
        draw(tile, &rng, d);
        for (int64_t k = 0; k < size; k++) {
            double moved = (double)x[k] + epsilon * tile->target->unit[k / pixels] * (double)d[k];
            x[k] = fminf(fmaxf((float)moved, low[k]), high[k]);
        }
    }
    ar_attack_settle(tile, 0, live);
}

/* ---- Steps, in float like the original ---- */

static float clamp(float v, float low, float high) {
    v = v > low ? v : low;
    return v < high ? v : high;
}

/* One channel: a signed step, and the momentum of the last. */
static void step_linf(int64_t n, float step, float ahead, const float *restrict g,
                      const float *restrict low, const float *restrict high, float *restrict before,
                      float *restrict x) {
    for (int64_t k = 0; k < n; k++) {
        float sign = (float)((g[k] > 0) - (g[k] < 0));
        float there = clamp(x[k] + step * sign, low[k], high[k]);
        float moved = x[k] + (there - x[k]) * ahead + (x[k] - before[k]) * (1 - ahead);
        before[k] = x[k];
        x[k] = clamp(moved, low[k], high[k]);
    }
}

/* The sum of (factor * (a - b))^2; b may be NULL. Eight sums, so that they can be made side by
 * side. */
static double squares(int64_t n, double factor, const float *a, const float *b) {
    double sums[8] = {0};
    for (int64_t first = 0; first < n; first += 8)
        for (int64_t k = first; k < n && k < first + 8; k++) {
            double d = factor * ((double)a[k] - (b != NULL ? (double)b[k] : 0));
            sums[k - first] += d * d;
        }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/* What brings a distance into the ball. */
static float shrink(double epsilon, double squared) {
    double length = sqrt(squared);
    return length > epsilon ? (float)(epsilon / length) : 1;
}

/* The same along the gradient; both points are projected. Works in g. */
static void step_l2(const ar_attack_tile *tile, double epsilon, double step, float ahead,
                    const float *from, const float *low, const float *high, float *g, float *before,
                    float *x) {
    const advrob_target *target = tile->target;
    const int64_t pixels = ar_shape_pixels(target->shape), channels = target->shape.c;
    double slope = 0, first = 0, second = 0;
    for (int64_t c = 0; c < channels; c++)
        slope += squares(pixels, target->unit[c], g + c * pixels, NULL);
    for (int64_t c = 0; c < channels; c++) {
        const int64_t at = c * pixels;
        const double unit = target->unit[c];
        /* In double: the factor of a tiny gradient may be more than a float holds. */
        const double factor = slope > 0 ? step * unit * unit / sqrt(slope) : 0;
        for (int64_t k = at; k < at + pixels; k++)
            g[k] = (float)((double)x[k] + factor * (double)g[k]);
        first += squares(pixels, 1 / unit, g + at, from + at);
    }
    for (int64_t c = 0; c < channels; c++) {
        const int64_t at = c * pixels;
        const float factor = shrink(epsilon, first);
        for (int64_t k = at; k < at + pixels; k++) {
            float there = clamp(from[k] + (g[k] - from[k]) * factor, low[k], high[k]);
            g[k] = x[k] + (there - x[k]) * ahead + (x[k] - before[k]) * (1 - ahead);
            before[k] = x[k];
        }
        second += squares(pixels, 1 / target->unit[c], g + at, from + at);
    }
    const float factor = shrink(epsilon, second);
    for (int64_t k = 0; k < channels * pixels; k++)
        x[k] = clamp(from[k] + (g[k] - from[k]) * factor, low[k], high[k]);
}

static void step(const ar_attack_tile *tile, const ar_apgd_settings *s, int32_t i, float *g,
                 bool is_first) {
    const advrob_target *target = tile->target;
    const int64_t size = ar_shape_count(target->shape), pixels = ar_shape_pixels(target->shape);
    const float ahead = is_first ? 1 : AHEAD;
    ar_apgd_state *state = state_of(tile, i);
    float *x = iterate(tile, i), *before = kept(tile, state, BEFORE);
    const float *low = tile->room->low + i * size, *high = tile->room->high + i * size;
    if (is_first) copy(tile, before, x);
    if (tile->attack->norm == AR_NORM_LINF) {
        for (int32_t c = 0; c < target->shape.c; c++) {
            const int64_t at = c * pixels;
            step_linf(pixels, (float)(state->step * target->unit[c]), ahead, g + at, low + at,
                      high + at, before + at, x + at);
        }
    } else {
        step_l2(tile, s->epsilon, state->step, ahead, tile->x + tile->room->slot[i] * size, low,
                high, g, before, x);
    }
    ar_attack_settle(tile, i, 1);
}

/* ---- What a pass tells ---- */

static void account(const ar_attack_tile *tile, const ar_apgd_settings *s, int32_t i,
                    const float *z, double loss, const float *g, bool is_first) {
    ar_apgd_state *state = state_of(tile, i);
    if (ar_attack_fooled(tile, i, z)) {
        if (s->early_stop || !state->fooled || loss > state->fooled_loss) {
            ar_attack_keep(tile, i, s->early_stop);
            state->fooled_loss = loss;
        }
        state->fooled = true;
        if (s->early_stop) return;
    }
    if (is_first) {
        state->step = 2 * s->epsilon;
        state->reduced = true;
        state->checked = loss;
    } else {
        /* The first pass has no part in this: the second is compared with 0, as in the original. */
        state->rises += loss > state->loss;
        state->loss = loss;
    }
    if (is_first || loss > state->best) {
        state->best = loss;
        copy(tile, kept(tile, state, BEST), iterate(tile, i));
        copy(tile, kept(tile, state, BEST_GRADIENT), g);
    }
}

/* Halves the step and goes back to the best point, if too few of the window's steps raised the
 * loss, or if the last window, with the same step, raised the best loss no more. */
static void check(const ar_attack_tile *tile, double rho, int64_t window, int32_t i, float *g) {
    ar_apgd_state *state = state_of(tile, i);
    bool oscillates = (float)state->rises <= (float)(rho * (double)window);
    bool stands = !state->reduced && state->checked >= state->best;
    state->reduced = oscillates || stands;
    state->checked = state->best;
    state->rises = 0;
    if (!state->reduced) return;
    state->step /= 2;
    copy(tile, iterate(tile, i), kept(tile, state, BEST)); /* where it came from stays */
    copy(tile, g, kept(tile, state, BEST_GRADIENT));
}

/* ---- A tile ---- */

typedef struct schedule {
    int64_t window, since; /* steps from one checkpoint to the next; since the last */
} schedule;

static int64_t share(double part, int64_t steps) {
    int64_t n = (int64_t)(part * (double)steps);
    return n > 1 ? n : 1;
}

/* Pass number k at one block of samples, and the step from there. */
static int32_t climb_block(const ar_attack_tile *tile, const ar_apgd_settings *s,
                           const schedule *at, int64_t k, int32_t first, int32_t n) {
    int32_t status = ADVROB_OK;
    const ar_attack_room *room = tile->room;
    const int64_t size = ar_shape_count(tile->target->shape), classes = tile->target->classes;
    AR_TRY(ar_attack_ascend(tile, s->loss, first, n));
    for (int32_t i = 0; i < n; i++) {
        float *g = room->gradient + i * size;
        account(tile, s, first + i, room->logits + i * classes, room->loss[i], g, k == 0);
        if (k == s->steps || room->done[room->slot[first + i]]) continue;
        if (at->since == at->window) check(tile, s->rho, at->window, first + i, g);
        step(tile, s, first + i, g, k == 0);
    }
out:
    return status;
}

int32_t ar_apgd_tile(const ar_attack_tile *tile, const ar_apgd_settings *s, int32_t live) {
    int32_t status = ADVROB_OK;
    const int32_t block = ar_attack_block(tile);
    schedule at = {share(FIRST, s->steps), 0};
    if (s->random_start) start(tile, s->epsilon, live);
    for (int64_t k = 0; k <= s->steps && live > 0; k++) {
        AR_TRY(ar_attack_tick(tile));
        for (int32_t first = 0; first < live; first += block)
            AR_TRY(
                climb_block(tile, s, &at, k, first, live - first < block ? live - first : block));
        live = ar_attack_drop(tile, live);
        if (at.since == at.window) {
            const int64_t next = at.window - share(SHORTER, s->steps);
            at.window = next > share(LEAST, s->steps) ? next : share(LEAST, s->steps);
            at.since = 0;
        }
        at.since++;
    }
    for (int32_t i = 0; i < live; i++) {
        ar_apgd_state *state = state_of(tile, i);
        if (state->fooled) continue;
        copy(tile, iterate(tile, i), kept(tile, state, BEST));
        ar_attack_keep(tile, i, true);
    }
out:
    return status;
}

/* The class other than y with the largest logit but `rank`; -1: there is none. */
static int32_t ranked(int32_t classes, const float *z, int32_t y, int32_t rank) {
    for (int32_t k = 0; k < classes; k++) {
        int32_t above = 0;
        for (int32_t j = 0; j < classes; j++)
            above += j != y && (z[j] > z[k] || (z[j] == z[k] && j < k));
        if (k != y && above == rank) return k;
    }
    return -1;
}

int32_t ar_apgd_look(const ar_attack_tile *tile, int32_t rank, int32_t *live) {
    int32_t status = ADVROB_OK;
    const ar_attack_room *room = tile->room;
    const int32_t block = ar_attack_block(tile), classes = tile->target->classes;
    for (int32_t first = 0; first < *live; first += block) {
        const int32_t n = *live - first < block ? *live - first : block;
        AR_TRY(ar_attack_forward(tile, first, n));
        for (int32_t i = 0; i < n; i++) {
            const float *z = room->logits + (int64_t)i * classes;
            if (rank >= 0) room->target[first + i] = ranked(classes, z, room->y[first + i], rank);
            if (ar_attack_fooled(tile, first + i, z)) ar_attack_keep(tile, first + i, true);
        }
    }
    *live = ar_attack_drop(tile, *live);
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    const apgd_options *o = tile->attack->options;
    ar_apgd_settings settings = {.loss = tile->attack->loss,
                                 .epsilon = o->common.epsilon,
                                 .rho = o->rho,
                                 .steps = o->steps,
                                 .random_start = o->random_start != 0,
                                 .early_stop = o->early_stop != 0};
    int32_t live = ar_attack_fill(tile, true);
    if (tile->run == 0 && settings.random_start && settings.early_stop)
        AR_TRY(ar_apgd_look(tile, -1, &live));
    AR_TRY(ar_apgd_tile(tile, &settings, live));
out:
    return status;
}

static size_t state_size(const void *options, const advrob_target *target) {
    (void)options;
    return ar_apgd_state_size(target);
}

static int32_t runs(const void *options, int32_t classes, int32_t *count) {
    (void)classes;
    *count = (int32_t)((const apgd_options *)options)->restarts;
    return ADVROB_OK;
}

static bool exhaustive(const void *options) {
    return !((const apgd_options *)options)->early_stop;
}

const ar_attack ar_attack_apgd = {
    .name = "apgd",
    .help = "auto-PGD: projected gradient descent that chooses its own step size",
    .options = &table,
    .needs_gradient = true,
    .runs = runs,
    .exhaustive = exhaustive,
    .state = state_size,
    .tile = run,
};
