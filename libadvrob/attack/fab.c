/* FAB-T, the targeted fast adaptive boundary attack (Croce and Hein 2020, arXiv 1907.02044,
 * algorithm 1, with the targets of AutoAttack, arXiv 2003.01690): steps to the linearised boundary
 * towards one class, drawn towards the image, and back again once over it. Looks for the nearest
 * adversarial image; one that lies outside the ball is no answer. */
#include <math.h>

#include "attack.h"

typedef struct fab_options {
    ar_attack_common common;
    double alpha_max, extrapolation, backward_step;
    int64_t targets, steps, restarts;
} fab_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_ATTACK_NORM,
    AR_I64(fab_options, targets, 0, 0, 100000,
           "classes aimed at one after another, by falling logit; 0: 9, or all there are"),
    AR_I64(fab_options, steps, 100, 1, 1000000, "steps"),
    AR_I64(fab_options, restarts, 1, 1, 10000, "runs for a target; all but the first start apart"),
    AR_F64(fab_options, alpha_max, 0.1, 0, 1, "largest share of the step from the image itself"),
    AR_F64(fab_options, extrapolation, 1.05, 1, 10, "step past the boundary (the paper's eta)"),
    AR_F64(fab_options, backward_step, 0.9, 0, 1,
           "part of the way from the image that is kept once over the boundary (beta)"),
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(fab_options, entries);

/* Distances below this count as this: the images on both sides may lie on the boundary. */
#define LEAST_DISTANCE 1e-8

typedef struct fab_state {
    double nearest; /* distance of the adversarial images so far */
} fab_state;

static fab_state *state_of(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

static const float *original(const ar_attack_tile *tile, int32_t i) {
    return tile->x + tile->room->slot[i] * ar_shape_count(tile->target->shape);
}

/* ---- Projection onto a hyperplane within a box ---- */

/* The way from an image to a plane, and its length in pixels. */
typedef struct projection {
    double side, multiplier, length;
} projection;

/* Channel c of the room's sample i with the plane's gradient g: pixels move by the unit (l-inf), or
 * by |g| unit^2 (l2), for each 1 of the multiplier. */
static ar_plane plane_of(const ar_attack_tile *tile, int32_t i, const float *g, int32_t c) {
    const ar_shape shape = tile->target->shape;
    const double unit = tile->target->unit[c];
    const int64_t pixels = ar_shape_pixels(shape), at = c * pixels;
    const int64_t box = i * ar_shape_count(shape) + at;
    const bool linf = tile->attack->norm == AR_NORM_LINF;
    return (ar_plane){.n = pixels,
                      .g = g + at,
                      .low = tile->room->low + box,
                      .high = tile->room->high + box,
                      .pace = linf ? unit : 0,
                      .pace_slope = linf ? 0 : unit * unit};
}

static ar_plane_way way_of(const ar_attack_tile *tile, const projection *to, const float *x,
                           int32_t c) {
    return (ar_plane_way){x + c * ar_shape_pixels(tile->target->shape), to->side, to->multiplier};
}

/* The way that brings x, at signed height `gap`, onto the plane where gap + g * change is zero. The
 * height that a multiplier wins is concave and piecewise linear in it, so that Newton's method from
 * 0 rises to the exact answer in a few passes: pixels that have no room left only ever join the
 * others. Out of reach in the box, the answer is the box's corner. */
static projection project(const ar_attack_tile *tile, int32_t i, const float *g, const float *x,
                          double gap) {
    const ar_kernels *kernels = tile->target->ctx->kernels;
    const int32_t channels = tile->target->shape.c;
    projection to = {.side = gap >= 0 ? -1 : 1};
    double largest = 0, squares = 0;
    for (;;) {
        double won = 0, rate = 0;
        for (int32_t c = 0; c < channels; c++) {
            ar_plane plane = plane_of(tile, i, g, c);
            ar_plane_way way = way_of(tile, &to, x, c);
            kernels->plane_height(&plane, &way, &won, &rate);
        }
        if (!(rate > 0) && won < fabs(gap)) to.multiplier = INFINITY;
        if (!(rate > 0)) break;
        double next = (fabs(gap) - won) / rate;
        if (!(next > to.multiplier)) break;
        to.multiplier = next;
    }
    for (int32_t c = 0; c < channels; c++) {
        ar_plane plane = plane_of(tile, i, g, c);
        ar_plane_way way = way_of(tile, &to, x, c);
        double unit = tile->target->unit[c], most = 0, sum = 0;
        kernels->plane_length(&plane, &way, &most, &sum);
        largest = fmax(largest, most / unit);
        squares += sum / (unit * unit);
    }
    to.length = tile->attack->norm == AR_NORM_LINF ? largest : sqrt(squares);
    return to;
}

/* ---- Steps ---- */

static void clip(const float *low, const float *high, int64_t i, double value, float *x) {
    x[i] = fminf(fmaxf((float)value, low[i]), high[i]);
}

/* g * (to - from), in 4 sums. */
static double rise(int64_t n, const float *g, const float *from, const float *to) {
    double sums[4] = {0};
    for (int64_t k = 0; k < n; k++)
        sums[k % 4] += (double)g[k] * ((double)to[k] - (double)from[k]);
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

/* Sample i of the room, `gap` away from winning, with its gradient g: one step. */
static void step(const ar_attack_tile *tile, int32_t i, double gap, const float *g) {
    const fab_options *o = tile->attack->options;
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    float *x = tile->room->x + i * size;
    const float *from = original(tile, i);
    projection here = project(tile, i, g, x, gap);
    projection there = project(tile, i, g, from, gap + rise(size, g, x, from));
    double a = fmax(here.length, LEAST_DISTANCE), b = fmax(there.length, LEAST_DISTANCE);
    double alpha = fmin(a / (a + b), o->alpha_max);
    for (int32_t c = 0; c < target->shape.c; c++) {
        ar_plane plane = plane_of(tile, i, g, c);
        ar_plane_way one = way_of(tile, &here, x, c), two = way_of(tile, &there, from, c);
        target->ctx->kernels->plane_step(&plane, &one, &two, o->extrapolation, alpha,
                                         x + c * pixels);
    }
    ar_ball_snap(target, AR_NORM_LINF, from, tile->room->low + i * size,
                 tile->room->high + i * size, x);
}

/* Within the ball to the bit, as ar_ball_bounds and ar_ball_project have it. */
static bool inside(const ar_attack_tile *tile, const float *from, const float *x) {
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    double epsilon = tile->attack->common->epsilon;
    if (tile->attack->norm != AR_NORM_LINF)
        return ar_ball_distance(target, tile->attack->norm, from, x) <= epsilon;
    for (int64_t k = 0; k < size; k++)
        if (fabs((double)x[k] - (double)from[k]) > epsilon * target->unit[k / pixels]) return false;
    return true;
}

/* Sample i of the room is adversarial: remembered if it is the nearest, and some of the way back.
 */
static void return_from(const ar_attack_tile *tile, int32_t i) {
    const fab_options *o = tile->attack->options;
    int64_t size = ar_shape_count(tile->target->shape);
    const float *from = original(tile, i);
    float *x = tile->room->x + i * size;
    const float *low = tile->room->low + i * size, *high = tile->room->high + i * size;
    fab_state *state = state_of(tile, i);
    double distance = ar_ball_distance(tile->target, tile->attack->norm, from, x);
    if (distance < state->nearest) {
        state->nearest = distance;
        if (inside(tile, from, x)) ar_attack_keep(tile, i, false);
    }
    for (int64_t k = 0; k < size; k++)
        clip(low, high, k, (double)from[k] + o->backward_step * ((double)x[k] - (double)from[k]),
             x);
    ar_ball_snap(tile->target, AR_NORM_LINF, from, low, high, x);
}

static int32_t step_block(const ar_attack_tile *tile, int32_t first, int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    int64_t classes = tile->target->classes, size = ar_shape_count(tile->target->shape);
    AR_TRY(ar_attack_forward(tile, first, n));
    for (int32_t i = 0; i < n; i++) {
        float *d = room->dlogits + i * classes;
        for (int64_t k = 0; k < classes; k++)
            d[k] = 0;
        d[room->target[first + i]] = 1;
        d[room->y[first + i]] = -1;
    }
    AR_TRY(ar_attack_backward(tile, first, n));
    for (int32_t i = 0; i < n; i++) {
        const float *z = room->logits + i * classes;
        double gap = (double)z[room->target[first + i]] - (double)z[room->y[first + i]];
        step(tile, first + i, gap, room->gradient + i * size);
    }
    AR_TRY(ar_attack_forward(tile, first, n));
    for (int32_t i = 0; i < n; i++)
        if (ar_attack_fooled(tile, first + i, room->logits + i * classes))
            return_from(tile, first + i);
out:
    return status;
}

/* ---- Starts ---- */

/* The class other than y whose logit has `rank` larger ones among those classes. */
static int32_t class_at(int32_t classes, const float *z, int32_t y, int64_t rank) {
    for (int32_t k = 0; k < classes; k++) {
        int64_t larger = 0;
        for (int32_t j = 0; j < classes; j++)
            larger += j != y && (z[j] > z[k] || (z[j] == z[k] && j < k));
        if (k != y && larger == rank) return k;
    }
    return y == 0 ? 1 : 0;
}

/* Chooses the targets and leaves out what is wrong already; how many samples are left. */
static int32_t aim(const ar_attack_tile *tile, int32_t *live) {
    int32_t status = ADVROB_OK, classes = tile->target->classes;
    const fab_options *o = tile->attack->options;
    ar_attack_room *room = tile->room;
    int32_t block = ar_attack_block(tile), most = *live;
    for (int32_t first = 0; first < most; first += block) {
        int32_t n = most - first < block ? most - first : block;
        AR_TRY(ar_attack_forward(tile, first, n));
        for (int32_t i = 0; i < n; i++) {
            const float *z = room->logits + (int64_t)i * classes;
            if (ar_attack_fooled(tile, first + i, z)) ar_attack_keep(tile, first + i, true);
            room->target[first + i] =
                class_at(classes, z, room->y[first + i], tile->run / o->restarts);
            state_of(tile, first + i)->nearest = INFINITY;
        }
    }
    *live = ar_attack_drop(tile, most);
out:
    return status;
}

/* Half of epsilon away from the image, in a random direction, within the box. */
static void start_apart(const ar_attack_tile *tile, int32_t i) {
    const advrob_target *target = tile->target;
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    bool linf = tile->attack->norm == AR_NORM_LINF;
    float *x = tile->room->x + i * size;
    const float *low = tile->room->low + i * size, *high = tile->room->high + i * size;
    ar_rng rng, again;
    double length = 0;
    ar_attack_rng(tile, tile->room->slot[i], 0, &rng);
    again = rng; /* the direction is drawn twice, so that it needs no room */
    for (int64_t k = 0; k < size; k++) {
        double d = linf ? 2 * (double)ar_rng_uniform(&rng) - 1 : (double)ar_rng_normal(&rng);
        length = linf ? fmax(length, fabs(d)) : length + d * d;
    }
    if (!linf) length = sqrt(length);
    for (int64_t k = 0; k < size && length > 0; k++) {
        double d = linf ? 2 * (double)ar_rng_uniform(&again) - 1 : (double)ar_rng_normal(&again);
        double radius = tile->attack->common->epsilon / 2 * target->unit[k / pixels];
        clip(low, high, k, (double)x[k] + radius * d / length, x);
    }
    ar_ball_snap(target, AR_NORM_LINF, original(tile, i), low, high, x);
}

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    const fab_options *o = tile->attack->options;
    ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    int32_t live = ar_attack_fill(tile, true), block = ar_attack_block(tile);
    for (int32_t i = 0; i < live; i++) /* the way may lead outside the ball */
        ar_ball_box(tile->target, original(tile, i), true, room->low + i * size,
                    room->high + i * size);
    AR_TRY(aim(tile, &live));
    for (int32_t i = 0; i < live && tile->run % o->restarts > 0; i++)
        start_apart(tile, i);
    for (int32_t first = 0; first < live; first += block)
        for (int64_t k = 0; k < o->steps; k++) {
            AR_TRY(ar_attack_tick(tile));
            AR_TRY(step_block(tile, first, live - first < block ? live - first : block));
        }
out:
    return status;
}

static int32_t runs(const void *options, int32_t classes, int32_t *count) {
    const fab_options *o = options;
    int32_t status = ar_attack_aims("fab", o->targets, 9, classes, count);
    if (status >= 0) *count *= (int32_t)o->restarts;
    return status;
}

static size_t state_size(const void *options, const advrob_target *target) {
    (void)options;
    (void)target;
    return sizeof(fab_state);
}

const ar_attack ar_attack_fab = {
    .name = "fab",
    .help = "targeted fast adaptive boundary attack (FAB-T)",
    .options = &table,
    .needs_gradient = true,
    .loss = "margin",
    .runs = runs,
    .state = state_size,
    .tile = run,
};
