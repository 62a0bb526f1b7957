/* PGD in the l-inf ball (Madry et al. 2018, arXiv 1706.06083, equation 1 and section 2.1):
 *   x <- project(x + step * sign(gradient of the loss)).
 * Per sample: a fooled sample may stop at once, restarts keep each sample's own worst. */
#include <string.h>

#include "attack.h"

typedef struct pgd_options {
    double epsilon, step;
    int64_t steps, random_start, restarts, clip, early_stop, first_sample, seed;
    const char *loss;
} pgd_options;

static const ar_option entries[] = {
    AR_F64(pgd_options, epsilon, 8.0 / 255, 0, 1e6, "radius of the l-inf ball, in pixels"),
    AR_F64(pgd_options, step, 2.0 / 255, 0, 1e6, "step size, in pixels"),
    AR_I64(pgd_options, steps, 20, 1, 1000000, "gradient steps"),
    AR_I64(pgd_options, random_start, 1, 0, 1, "start at a random point of the ball"),
    AR_I64(pgd_options, restarts, 1, 1, 10000, "runs, of which each sample's worst is kept"),
    AR_STR(pgd_options, loss, "ce", "ce|margin", "loss that is raised"),
    AR_I64(pgd_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_I64(pgd_options, early_stop, 0, 0, 1, "stop a sample once it is fooled"),
    AR_I64(pgd_options, first_sample, 0, 0, 9e15,
           "number of the first sample, for its random draws"),
    AR_I64(pgd_options, seed, -1, -1, 9e15, "seed; -1: the context's"),
};
static const ar_option_table table = AR_TABLE(pgd_options, entries);

/* One sample's place in the room moves from slot `from` to slot `to`. */
static void move(ar_attack_room *room, int64_t size, int32_t from, int32_t to) {
    size_t bytes = sizeof(float) * (size_t)size;
    memcpy(room->x + to * size, room->x + from * size, bytes);
    memcpy(room->low + to * size, room->low + from * size, bytes);
    memcpy(room->high + to * size, room->high + from * size, bytes);
    room->y[to] = room->y[from];
    room->slot[to] = room->slot[from];
}

/* Fills the room with the samples that are not done yet, at their starting points. */
static int32_t start(const ar_attack_tile *tile, const ar_pgd_settings *s, int32_t restart) {
    const ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    int32_t live = 0;
    for (int32_t i = 0; i < tile->n; i++) {
        if (room->done[i]) continue;
        float *x = room->x + live * size, *low = room->low + live * size;
        float *high = room->high + live * size;
        memcpy(x, tile->x + i * size, sizeof(float) * (size_t)size);
        ar_ball_bounds(tile->target, x, s->epsilon, s->clip, low, high);
        if (s->random_start) {
            ar_rng rng;
            ar_rng_init(&rng, tile->attack->seed, AR_RNG_ATTACK, tile->ids[i], restart, 0);
            ar_ball_random(tile->target, &rng, s->epsilon, low, high, x);
        }
        room->y[live] = tile->y[i];
        room->slot[live++] = i;
    }
    return live;
}

/* Loss, gradient and step of the room's samples [first, first + n), one block of the target. */
static int32_t step_block(const ar_attack_tile *tile, const ar_pgd_settings *s, int32_t first,
                          int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    advrob_target *target = tile->target;
    int64_t size = ar_shape_count(target->shape), classes = target->classes;
    float *x = room->x + first * size;
    AR_TRY(target->forward(target, room->session, n, x, room->logits));
    ar_loss_batch(tile->attack->loss, n, target->classes, room->logits, room->y + first,
                  room->scratch, NULL, room->dlogits, true, 1);
    if (s->early_stop)
        for (int32_t i = 0; i < n; i++) {
            int32_t slot = room->slot[first + i];
            if (ar_argmax(target->classes, room->logits + i * classes) == room->y[first + i])
                continue;
            room->done[slot] = true;
            memcpy(tile->adversarial + slot * size, x + i * size, sizeof(float) * (size_t)size);
        }
    AR_TRY(target->backward(target, room->session, n, x, room->dlogits, room->gradient));
    ar_ball_step(target, n, s->step, room->gradient, room->low + first * size,
                 room->high + first * size, x);
out:
    return status;
}

/* Keeps the end points: all of a first run; later only those that are worse than what is kept. */
static int32_t keep(const ar_attack_tile *tile, const ar_pgd_settings *s, int32_t restart,
                    int32_t first, int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    advrob_target *target = tile->target;
    int64_t size = ar_shape_count(target->shape), classes = target->classes;
    if (s->restarts > 1)
        AR_TRY(target->forward(target, room->session, n, room->x + first * size, room->logits));
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = room->slot[first + i], y = room->y[first + i];
        if (s->restarts > 1) {
            const float *z = room->logits + i * classes;
            double loss = tile->attack->loss->sample(target->classes, z, y, NULL);
            bool fooled = ar_argmax(target->classes, z) != y;
            /* A fooled sample outranks any loss. */
            bool worse = fooled != room->fooled[slot] ? fooled : loss > room->loss[slot];
            if (restart > 0 && !worse) continue;
            room->loss[slot] = loss;
            room->fooled[slot] = fooled;
            room->done[slot] = room->done[slot] || (fooled && s->early_stop);
        }
        memcpy(tile->adversarial + slot * size, room->x + (first + i) * size,
               sizeof(float) * (size_t)size);
    }
out:
    return status;
}

int32_t ar_pgd_tile(const ar_attack_tile *tile, const ar_pgd_settings *s) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    int64_t size = ar_shape_count(tile->target->shape);
    int32_t block = ar_target_tile(tile->target, tile->n);
    for (int32_t i = 0; i < tile->n; i++)
        room->done[i] = false;
    for (int32_t restart = 0; restart < s->restarts; restart++) {
        int32_t live = start(tile, s, restart);
        for (int64_t k = 0; k < s->steps && live > 0; k++) {
            AR_TRY(ar_attack_tick(tile));
            for (int32_t first = 0; first < live; first += block)
                AR_TRY(step_block(tile, s, first, live - first < block ? live - first : block));
            for (int32_t i = 0; i < live && s->early_stop;) {
                if (room->done[room->slot[i]])
                    move(room, size, --live, i);
                else
                    i++;
            }
        }
        for (int32_t first = 0; first < live; first += block)
            AR_TRY(keep(tile, s, restart, first, live - first < block ? live - first : block));
    }
out:
    return status;
}

static int32_t run(const ar_attack_tile *tile) {
    const pgd_options *o = tile->attack->options;
    ar_pgd_settings settings = {.epsilon = o->epsilon,
                                .step = o->step,
                                .steps = o->steps,
                                .restarts = o->restarts,
                                .random_start = o->random_start != 0,
                                .clip = o->clip != 0,
                                .early_stop = o->early_stop != 0};
    return ar_pgd_tile(tile, &settings);
}

static const char *loss(const void *options) {
    return ((const pgd_options *)options)->loss;
}

static int64_t seed(const void *options) {
    return ((const pgd_options *)options)->seed;
}

static int64_t first_sample(const void *options) {
    return ((const pgd_options *)options)->first_sample;
}

const ar_attack ar_attack_pgd = {
    .name = "pgd",
    .help = "projected gradient descent in the l-inf ball",
    .options = &table,
    .needs_gradient = true,
    .loss = loss,
    .seed = seed,
    .first_sample = first_sample,
    .tile = run,
};
