/* Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 to 3): random search by
 * squares, kept where the margin falls; needs logits alone. The constants are those of AutoAttack
 * (pyautoattack 0.2.0, square.py), but every sample draws its own squares. Images need not be
 * square nor larger than a pixel. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attack.h"

typedef struct square_options {
    ar_attack_common common;
    double p_init;
    int64_t queries, restarts, rescale;
} square_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_ATTACK_NORM,
    AR_I64(square_options, queries, 5000, 0, 100000000, "squares that a run tries"),
    AR_F64(square_options, p_init, 0.8, 0, 1, "share of the pixels that the first squares have"),
    AR_I64(square_options, rescale, 0, 0, 1,
           "stretch the schedule of sizes, made for 10000 queries, to those there are"),
    AR_I64(square_options, restarts, 1, 1, 10000, "runs, of which each sample's worst is kept"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(square_options, entries);

typedef struct window {
    int32_t top, left, side;
} window;

/* What a sample keeps. Its best image so far is its answer in the tile; in the room it has the
 * image that is tried. */
typedef struct search {
    ar_rng rng;
    window window;      /* that is tried */
    double clean, best; /* losses: of the image itself, of the best */
} search;

static search *search_of(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

/* Images of sample i of the room. */
typedef struct images {
    const float *from;
    float *low, *high, *tried, *best;
} images;

static images images_of(const ar_attack_tile *tile, int32_t i) {
    const ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    return (images){.from = tile->x + room->slot[i] * size,
                    .low = room->low + i * size,
                    .high = room->high + i * size,
                    .tried = room->x + i * size,
                    .best = tile->adversarial + room->slot[i] * size};
}

static bool heads(ar_rng *rng) {
    return ar_rng_u32(rng) >> 31 != 0;
}

/* As published, a square never reaches the last row and column unless it fills them all. */
static int32_t origin(ar_rng *rng, int32_t extent, int32_t side) {
    return (int32_t)ar_rng_below(rng, (uint32_t)(extent > side ? extent - side : 1));
}

static window draw_window(const ar_attack_tile *tile, ar_rng *rng, int32_t side) {
    window w = {.side = side};
    w.top = origin(rng, tile->target->shape.h, side);
    w.left = origin(rng, tile->target->shape.w, side);
    return w;
}

static int32_t shorter(ar_shape shape) {
    return shape.h < shape.w ? shape.h : shape.w;
}

/* Side of the squares of query k. */
static int32_t side_at(const ar_attack_tile *tile, int64_t k) {
    static const int64_t halved[] = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000};
    const square_options *o = tile->attack->options;
    const ar_shape shape = tile->target->shape;
    const bool l2 = tile->attack->norm == AR_NORM_L2;
    double p = o->p_init;
    if (o->rescale) k = (int64_t)((double)k / (double)o->queries * 10000);
    for (size_t i = 0; i < sizeof halved / sizeof halved[0] && k > halved[i]; i++)
        p /= 2;
    int32_t side = (int32_t)rint(sqrt(p * shape.h * shape.w)), least = l2 ? 3 : 1;
    if (side < least) side = least;
    if (l2) side |= 1;
    return side < shorter(shape) ? side : shorter(shape);
}

/* ---- l-inf: all values of a square lie at one end of the ball ---- */

/* Stripes of one column each. The ends are brought onto the lattice once. */
static void start_linf(const ar_attack_tile *tile, int32_t i) {
    const ar_shape shape = tile->target->shape;
    images at = images_of(tile, i);
    ar_ball_snap(tile->target, AR_NORM_LINF, at.from, at.low, at.high, at.low);
    ar_ball_snap(tile->target, AR_NORM_LINF, at.from, at.low, at.high, at.high);
    for (int32_t c = 0; c < shape.c; c++)
        for (int32_t column = 0; column < shape.w; column++) {
            const float *end = heads(&search_of(tile, i)->rng) ? at.high : at.low;
            for (int32_t h = 0; h < shape.h; h++) {
                int64_t k = ((int64_t)c * shape.h + h) * shape.w + column;
                at.tried[k] = end[k];
            }
        }
}

/* One channel's values within a window. */
static void copy_window(const ar_attack_tile *tile, window w, int32_t c, const float *from,
                        float *to) {
    const ar_shape shape = tile->target->shape;
    for (int32_t h = w.top; h < w.top + w.side; h++) {
        int64_t row = ((int64_t)c * shape.h + h) * shape.w + w.left;
        memcpy(to + row, from + row, sizeof(float) * (size_t)w.side);
    }
}

static void propose_linf(const ar_attack_tile *tile, int32_t i, int32_t side) {
    images at = images_of(tile, i);
    search *s = search_of(tile, i);
    s->window = draw_window(tile, &s->rng, side);
    for (int32_t c = 0; c < tile->target->shape.c; c++)
        copy_window(tile, s->window, c, heads(&s->rng) ? at.high : at.low, at.tried);
}

/* ---- l2: the mass of one window moves into another, shaped as two bumps ---- */

/* A tent of norm `norm`: at distance d from its middle, the sum of 1 / (k + 1)^2 from k = d on. */
static void make_bump(int32_t rows, int32_t columns, double norm, float *out) {
    const int32_t row = rows / 2, column = columns / 2, last = row > column ? row : column;
    double squares = 0;
    for (int32_t pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < rows * columns; i++) {
            int32_t down = abs(i / columns - row), across = abs(i % columns - column);
            double height = 0;
            for (int32_t k = down > across ? down : across; k <= last; k++)
                height += 1 / ((double)(k + 1) * (k + 1));
            if (pass == 0)
                squares += height * height;
            else
                out[i] = (float)(norm * height / sqrt(squares));
        }
}

/* A rise over a fall, [side, side] of norm 1, in the place of the gradients that nobody needs. */
static void make_bumps(const ar_attack_tile *tile, int32_t side) {
    float *out = tile->room->gradient;
    const double norm = side > 1 ? sqrt(0.5) : 1;
    make_bump(side / 2, side, norm, out);
    make_bump(side - side / 2, side, -norm, out + side / 2 * side);
}

static double bump_at(const ar_attack_tile *tile, int32_t side, bool flip, int32_t h, int32_t w) {
    return (double)tile->room->gradient[flip ? w * side + h : h * side + w];
}

static bool within(window w, int32_t row, int32_t column) {
    return row >= w.top && row < w.top + w.side && column >= w.left && column < w.left + w.side;
}

/* Displacements in pixels become the image at that direction and distance epsilon. */
static void place(const ar_attack_tile *tile, int32_t i) {
    const advrob_target *target = tile->target;
    int64_t size = ar_shape_count(target->shape), pixels = ar_shape_pixels(target->shape);
    images at = images_of(tile, i);
    double squares = 0;
    for (int64_t k = 0; k < size; k++)
        squares += (double)at.tried[k] * (double)at.tried[k];
    double factor = tile->attack->common->epsilon / (sqrt(squares) + 1e-12);
    for (int64_t k = 0; k < size; k++) {
        double moved = (double)at.from[k] + factor * (double)at.tried[k] * target->unit[k / pixels];
        at.tried[k] = fminf(fmaxf((float)moved, at.low[k]), at.high[k]);
    }
    ar_attack_settle(tile, i, 1);
}

/* A grid of bumps; make_bumps has made them. */
static void start_l2(const ar_attack_tile *tile, int32_t i, int32_t side) {
    const ar_shape shape = tile->target->shape;
    images at = images_of(tile, i);
    ar_rng *rng = &search_of(tile, i)->rng;
    const int32_t rows = shape.h / side, columns = shape.w / side;
    const int32_t top = (shape.h - rows * side) / 2, left = (shape.w - columns * side) / 2;
    memset(at.tried, 0, sizeof(float) * (size_t)ar_shape_count(shape));
    for (int32_t cell = 0; cell < rows * columns; cell++) {
        bool flip = heads(rng);
        int32_t down = top + cell / columns * side, across = left + cell % columns * side;
        for (int32_t c = 0; c < shape.c; c++) {
            double sign = heads(rng) ? 1 : -1;
            for (int32_t k = 0; k < side * side; k++) {
                int32_t h = k / side, w = k % side;
                at.tried[((int64_t)c * shape.h + down + h) * shape.w + across + w] =
                    (float)(sign * bump_at(tile, side, flip, h, w));
            }
        }
    }
    place(tile, i);
}

/* One channel's window becomes `norm` long, in the direction of bumps plus what was there. */
static void reshape(const ar_attack_tile *tile, window w, double sign, bool flip, double norm,
                    float *channel) {
    const int32_t width = tile->target->shape.w, side = w.side;
    double old = 0, fresh = 0;
    for (int32_t pass = 0; pass < 3; pass++)
        for (int32_t k = 0; k < side * side; k++) {
            float *d = channel + (int64_t)(w.top + k / side) * width + w.left + k % side;
            if (pass == 1)
                *d = (float)(sign * bump_at(tile, side, flip, k / side, k % side) +
                             (double)*d / (sqrt(old) + 1e-12));
            if (pass == 2) *d = (float)((double)*d * norm / (sqrt(fresh) + 1e-12));
            double square = (double)*d * (double)*d;
            if (pass == 0) old += square;
            if (pass == 1) fresh += square;
        }
}

static void propose_l2(const ar_attack_tile *tile, int32_t i, int32_t side) {
    const advrob_target *target = tile->target;
    const ar_shape shape = target->shape;
    const double epsilon = tile->attack->common->epsilon;
    const int32_t pixels = ar_shape_pixels(shape);
    images at = images_of(tile, i);
    ar_rng *rng = &search_of(tile, i)->rng;
    window into = draw_window(tile, rng, side), out = draw_window(tile, rng, side);
    bool flip = heads(rng);
    double far = ar_ball_distance(target, AR_NORM_L2, at.from, at.best);
    double spare = fmax(epsilon * epsilon - far * far, 0) / shape.c;
    for (int32_t c = 0; c < shape.c; c++) {
        const float *from = at.from + (int64_t)c * pixels, *best = at.best + (int64_t)c * pixels;
        float *tried = at.tried + (int64_t)c * pixels;
        double windows = 0;
        for (int32_t k = 0; k < pixels; k++) {
            double d = ((double)best[k] - (double)from[k]) / target->unit[c];
            bool stays = within(into, k / shape.w, k % shape.w);
            bool moves = !stays && within(out, k / shape.w, k % shape.w);
            if (moves || stays) windows += d * d;
            tried[k] = moves ? 0 : (float)d;
        }
        reshape(tile, into, heads(rng) ? 1 : -1, flip, sqrt(spare + windows), tried);
    }
    place(tile, i);
}

/* ---- the search ---- */

enum { CLEAN, START, SEARCH };

/* What the logits z say of the tried image of sample i. */
static void judge(const ar_attack_tile *tile, int32_t i, const float *z, int32_t phase) {
    const int32_t slot = tile->room->slot[i];
    size_t bytes = sizeof(float) * (size_t)ar_shape_count(tile->target->shape);
    images at = images_of(tile, i);
    search *s = search_of(tile, i);
    double loss = tile->attack->loss->sample(tile->target->classes, z, tile->room->y[i],
                                             tile->room->target[i], NULL);
    bool fooled = ar_attack_fooled(tile, i, z);
    bool better = phase != SEARCH || fooled || loss > s->best;
    tile->room->done[slot] = fooled;
    if (phase == CLEAN) s->clean = loss; /* the answer is the image until there is another */
    if (better) s->best = loss;
    if (tile->attack->norm == AR_NORM_LINF && phase == SEARCH) {
        for (int32_t c = 0; c < tile->target->shape.c; c++)
            copy_window(tile, s->window, c, better ? at.tried : at.best,
                        better ? at.best : at.tried);
    } else if (better) {
        memcpy(at.best, at.tried, bytes);
    }
}

/* One query of each of the room's samples; how many are left. */
static int32_t query(const ar_attack_tile *tile, int32_t phase, int32_t side, int32_t *live) {
    int32_t status = ADVROB_OK;
    const bool l2 = tile->attack->norm == AR_NORM_L2;
    const int32_t block = ar_attack_block(tile);
    for (int32_t first = 0; first < *live; first += block) {
        int32_t n = *live - first < block ? *live - first : block;
        for (int32_t i = first; i < first + n && phase != CLEAN; i++) {
            if (phase == START)
                ar_attack_rng(tile, tile->room->slot[i], 0, &search_of(tile, i)->rng);
            if (l2)
                (phase == START ? start_l2 : propose_l2)(tile, i, side);
            else if (phase == START)
                start_linf(tile, i);
            else
                propose_linf(tile, i, side);
        }
        AR_TRY(ar_attack_forward(tile, first, n));
        for (int32_t i = 0; i < n; i++)
            judge(tile, first + i, tile->room->logits + (int64_t)i * tile->target->classes, phase);
    }
    *live = ar_attack_drop(tile, *live);
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    const square_options *o = tile->attack->options;
    const bool l2 = tile->attack->norm == AR_NORM_L2;
    int32_t live = ar_attack_fill(tile, true), side = shorter(tile->target->shape) / 5;
    if (side < 1) side = 1;
    AR_TRY(ar_attack_tick(tile));
    AR_TRY(query(tile, CLEAN, 0, &live));
    if (o->common.epsilon == 0) goto out;
    if (l2) make_bumps(tile, side);
    AR_TRY(query(tile, START, side, &live));
    for (int64_t k = 0; k < o->queries && live > 0; k++) {
        const int32_t next = side_at(tile, k);
        if (l2 && (k == 0 || next != side)) make_bumps(tile, next);
        side = next;
        AR_TRY(ar_attack_tick(tile));
        AR_TRY(query(tile, SEARCH, side, &live));
    }
    for (int32_t i = 0; i < live; i++) {
        images at = images_of(tile, i);
        if (search_of(tile, i)->clean > search_of(tile, i)->best)
            memcpy(at.best, at.from, sizeof(float) * (size_t)ar_shape_count(tile->target->shape));
    }
out:
    return status;
}

static int32_t runs(const void *options, int32_t classes, int32_t *count) {
    (void)classes;
    *count = (int32_t)((const square_options *)options)->restarts;
    return ADVROB_OK;
}

static size_t state(const void *options, const advrob_target *target) {
    (void)options;
    (void)target;
    return sizeof(search);
}

const ar_attack ar_attack_square = {
    .name = "square",
    .help = "Square Attack: random search that needs no gradients",
    .options = &table,
    .loss = "margin",
    .runs = runs,
    .state = state,
    .tile = run,
};
