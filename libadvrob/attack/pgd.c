/* PGD (Madry et al. 2018, arXiv 1706.06083, equation 1 and section 2.1):
 *   x <- project(x + step * sign(gradient of the loss)), in l2 the gradient divided by its norm.
 * Per sample: a fooled sample may stop at once, restarts keep each sample's own worst. */
#include <math.h>
#include <string.h>

#include "attack.h"

typedef struct pgd_options {
    ar_attack_common common;
    double step;
    int64_t steps, random_start, restarts, clip, early_stop;
} pgd_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_F64(pgd_options, step, 2.0 / 255, 0, 1e6, "step size, in pixels"),
    AR_I64(pgd_options, steps, 20, 1, 1000000, "gradient steps"),
    AR_I64(pgd_options, random_start, 1, 0, 1, "start at a random point of the ball"),
    AR_I64(pgd_options, restarts, 1, 1, 10000, "runs, of which each sample's worst is kept"),
    AR_ATTACK_LOSS,
    AR_ATTACK_NORM,
    AR_I64(pgd_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_I64(pgd_options, early_stop, 0, 0, 1, "stop a sample once it is fooled"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(pgd_options, entries);

static float *velocity(const ar_attack_tile *tile, int32_t i) {
    return ar_attack_state(tile, tile->room->slot[i]);
}

/* Puts the room's samples at their starting points. */
static void start(const ar_attack_tile *tile, const ar_pgd_settings *s, int32_t live) {
    const ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    if (s->start == AR_START_IMAGE) return;
    for (int32_t i = 0; i < live; i++) {
        float *x = room->x + i * size, *low = room->low + i * size, *high = room->high + i * size;
        ar_rng rng;
        ar_attack_rng(tile, i, 0, &rng);
        if (s->start == AR_START_SIGN) {
            float normal;
            for (int64_t k = 0; k < size; k++) {
                double unit = tile->target->unit[k / ar_shape_pixels(tile->target->shape)];
                normal = (float)ar_rng_normal(&rng);
                double d = s->start_radius * unit * ((normal > 0) - (normal < 0));
                x[k] = fminf(fmaxf((float)((double)x[k] + d), low[k]), high[k]);
            }
        } else if (tile->attack->norm == AR_NORM_LINF) {
            ar_ball_random(tile->target, &rng, s->epsilon, low, high, x);
        } else {
            ar_ball_random_l2(tile->target, &rng, s->epsilon, low, high, x);
        }
    }
    ar_attack_settle(tile, 0, live);
}

/* The block's gradient becomes what momentum makes of it; the norms are those of gradients by the
 * pixel. */
static void gather_speed(const ar_attack_tile *tile, double momentum, int32_t first, int32_t n) {
    int64_t size = ar_shape_count(tile->target->shape);
    const int32_t pixels = ar_shape_pixels(tile->target->shape);
    for (int32_t i = 0; i < n; i++) {
        float *g = tile->room->gradient + i * size, *v = velocity(tile, first + i);
        double sum = 0;
        for (int64_t k = 0; k < size; k++)
            sum += fabs((double)g[k]) * tile->target->unit[k / pixels];
        for (int64_t k = 0; k < size; k++) {
            double fresh = sum > 0 ? (double)g[k] / sum : 0;
            g[k] = v[k] = (float)(momentum * (double)v[k] + fresh);
        }
    }
}

/* Loss, gradient and step of the room's samples [first, first + n), one block of the target. */
static int32_t step_block(const ar_attack_tile *tile, const ar_pgd_settings *s, int32_t first,
                          int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    advrob_target *target = tile->target;
    int64_t size = ar_shape_count(target->shape), classes = target->classes, at = first * size;
    AR_TRY(ar_attack_ascend(tile, tile->attack->loss, first, n));
    for (int32_t i = 0; i < n && s->early_stop; i++)
        if (ar_attack_fooled(tile, first + i, room->logits + i * classes))
            ar_attack_keep(tile, first + i, true);
    if (s->momentum > 0) gather_speed(tile, s->momentum, first, n);
    if (tile->attack->norm == AR_NORM_LINF) {
        ar_ball_step(target, n, s->step, room->gradient, room->low + at, room->high + at,
                     room->x + at);
    } else {
        for (int32_t i = 0; i < n; i++)
            ar_ball_step_l2(target, s->step, room->gradient + i * size, room->low + at + i * size,
                            room->high + at + i * size, room->x + at + i * size);
    }
    ar_attack_settle(tile, first, n);
out:
    return status;
}

int32_t ar_pgd_tile(const ar_attack_tile *tile, const ar_pgd_settings *s) {
    int32_t status = ADVROB_OK;
    int32_t live = ar_attack_fill(tile, s->clip), block = ar_attack_block(tile);
    start(tile, s, live);
    for (int64_t k = 0; k < s->steps && live > 0; k++) {
        AR_TRY(ar_attack_tick(tile));
        for (int32_t first = 0; first < live; first += block)
            AR_TRY(step_block(tile, s, first, live - first < block ? live - first : block));
        if (s->early_stop) live = ar_attack_drop(tile, live);
    }
    for (int32_t i = 0; i < live; i++)
        ar_attack_keep(tile, i, true);
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    const pgd_options *o = tile->attack->options;
    ar_pgd_settings settings = {.epsilon = o->common.epsilon,
                                .step = o->step,
                                .steps = o->steps,
                                .start = o->random_start ? AR_START_UNIFORM : AR_START_IMAGE,
                                .clip = o->clip != 0,
                                .early_stop = o->early_stop != 0};
    return ar_pgd_tile(tile, &settings);
}

static int32_t runs(const void *options, int32_t classes, int32_t *count) {
    (void)classes;
    *count = (int32_t)((const pgd_options *)options)->restarts;
    return ADVROB_OK;
}

static bool exhaustive(const void *options) {
    return !((const pgd_options *)options)->early_stop;
}

const ar_attack ar_attack_pgd = {
    .name = "pgd",
    .help = "projected gradient descent",
    .options = &table,
    .needs_gradient = true,
    .runs = runs,
    .exhaustive = exhaustive,
    .tile = run,
};
