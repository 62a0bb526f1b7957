/* One run of an attack: the way from a batch to tiles, and what an attack does with its tile. */
#include "attack.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

/* Images of one piece of work at most, and pieces of a large job at least. A piece has many tiles
 * of the target, so that one whose samples fall one by one still fills tiles; the same for every
 * number of threads. */
#define PIECE 256
#define PIECES 16

/* How far a run is, and whether it is to stop; shared by its workers. */
typedef struct ar_attack_watch {
    advrob_context *ctx;
    const char *what; /* for progress; NULL: silent */
    pthread_t caller;
    double last; /* when the hook was called; of the caller's thread */
    int64_t n;
    _Atomic int64_t done; /* images */
    _Atomic bool stopped;
} ar_attack_watch;

/* Seconds between two calls of the hook from within a tile. */
#define TICK_SECONDS 20e-3

static int32_t stopped(void) {
    return ar_error(ADVROB_E_CANCELLED, "attack: cancelled by the progress hook");
}

static int32_t tell(ar_attack_watch *watch) {
    if (watch->stopped) return stopped();
    watch->last = ar_clock();
    int32_t status = ar_progress(watch->ctx, watch->what, watch->done, watch->n, NAN);
    if (status < 0) watch->stopped = true; /* tiles that are under way stop too */
    return status;
}

int32_t ar_attack_tick(const ar_attack_tile *tile) {
    ar_attack_watch *watch = tile->watch;
    int32_t status = ar_cancelled(watch->ctx);
    if (status < 0) return status;
    if (watch->stopped) return stopped();
    if (watch->what == NULL || !pthread_equal(watch->caller, pthread_self())) return ADVROB_OK;
    return ar_clock() - watch->last < TICK_SECONDS ? ADVROB_OK : tell(watch);
}

/* ---- What an attack does with its tile ---- */

static float *image(float *images, const ar_attack_tile *tile, int64_t i) {
    return images + i * ar_shape_count(tile->target->shape);
}

static const float *original(const ar_attack_tile *tile, int64_t slot) {
    return tile->x + slot * ar_shape_count(tile->target->shape);
}

static size_t image_bytes(const ar_attack_tile *tile) {
    return sizeof(float) * (size_t)ar_shape_count(tile->target->shape);
}

static void box(const ar_attack_tile *tile, const float *x, bool clip, float *lo, float *hi) {
    if (tile->attack->norm == AR_NORM_LINF)
        ar_ball_bounds(tile->target, x, tile->attack->common->epsilon, clip, lo, hi);
    else
        ar_ball_box(tile->target, x, clip, lo, hi);
}

int32_t ar_attack_fill(const ar_attack_tile *tile, bool clip) {
    ar_attack_room *room = tile->room;
    for (int32_t i = 0; i < tile->n; i++) {
        memcpy(image(room->x, tile, i), original(tile, i), image_bytes(tile));
        box(tile, original(tile, i), clip, image(room->low, tile, i), image(room->high, tile, i));
        room->y[i] = tile->y[i];
        room->target[i] = tile->targets != NULL ? tile->targets[i] : -1;
        room->slot[i] = i;
        room->done[i] = false;
    }
    return tile->n;
}

int32_t ar_attack_drop(const ar_attack_tile *tile, int32_t live) {
    ar_attack_room *room = tile->room;
    for (int32_t i = 0; i < live;) {
        if (!room->done[room->slot[i]]) {
            i++;
            continue;
        }
        live--;
        memcpy(image(room->x, tile, i), image(room->x, tile, live), image_bytes(tile));
        memcpy(image(room->low, tile, i), image(room->low, tile, live), image_bytes(tile));
        memcpy(image(room->high, tile, i), image(room->high, tile, live), image_bytes(tile));
        room->y[i] = room->y[live];
        room->target[i] = room->target[live];
        room->slot[i] = room->slot[live];
    }
    return live;
}

int32_t ar_attack_block(const ar_attack_tile *tile) {
    return ar_target_tile(tile->target, tile->n);
}

void *ar_attack_state(const ar_attack_tile *tile, int32_t slot) {
    const ar_attack *kind = tile->attack->kind;
    return tile->room->state + (size_t)slot * kind->state(tile->attack->options, tile->target);
}

void ar_attack_rng(const ar_attack_tile *tile, int32_t slot, int32_t step, ar_rng *rng) {
    ar_rng_init(rng, tile->attack->seed, AR_RNG_ATTACK, tile->ids[slot], tile->run, step);
}

int32_t ar_attack_forward(const ar_attack_tile *tile, int32_t first, int32_t n) {
    ar_attack_room *room = tile->room;
    for (int32_t i = first; i < first + n; i++)
        room->forwards[room->slot[i]]++;
    return tile->target->forward(tile->target, room->session, n, image(room->x, tile, first),
                                 room->logits);
}

int32_t ar_attack_backward(const ar_attack_tile *tile, int32_t first, int32_t n) {
    ar_attack_room *room = tile->room;
    for (int32_t i = first; i < first + n; i++)
        room->backwards[room->slot[i]] += !room->done[room->slot[i]];
    return tile->target->backward(tile->target, room->session, n, image(room->x, tile, first),
                                  room->dlogits, room->gradient);
}

/* Logits, losses and gradient of one pass. */
static int32_t pass(const ar_attack_tile *tile, const ar_loss *loss, int32_t first, int32_t n,
                    bool scaled) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    AR_TRY(ar_attack_forward(tile, first, n));
    ar_loss_batch(loss, n, tile->target->classes, room->logits, room->y + first,
                  room->target + first, room->scratch, room->loss, room->dlogits, scaled, 1);
    AR_TRY(ar_attack_backward(tile, first, n));
out:
    return status;
}

int32_t ar_attack_ascend(const ar_attack_tile *tile, const ar_loss *loss, int32_t first,
                         int32_t n) {
    int32_t status = ADVROB_OK;
    ar_attack_room *room = tile->room;
    const int64_t passes = tile->attack->common->eot, classes = tile->target->classes;
    const int64_t size = n * ar_shape_count(tile->target->shape), values = n * (classes + 1);
    if (passes <= 1) return pass(tile, loss, first, n, true);
    /* Sums: of the gradient, then of logits and losses. */
    float *sum = room->sum, *rows = room->sum + size;
    memset(sum, 0, sizeof(float) * (size_t)(size + values));
    for (int64_t k = 0; k < passes; k++) {
        AR_TRY(pass(tile, loss, first, n, false));
        for (int64_t i = 0; i < size; i++)
            sum[i] += room->gradient[i];
        for (int64_t i = 0; i < n * classes; i++)
            rows[i] += room->logits[i];
        for (int64_t i = 0; i < n; i++)
            rows[n * classes + i] += (float)room->loss[i];
    }
    memcpy(room->gradient, sum, sizeof(float) * (size_t)size);
    for (int64_t i = 0; i < n * classes; i++)
        room->logits[i] = rows[i] / (float)passes;
    for (int64_t i = 0; i < n; i++)
        room->loss[i] = (double)rows[n * classes + i] / (double)passes;
out:
    return status;
}

void ar_attack_settle(const ar_attack_tile *tile, int32_t first, int32_t n) {
    ar_attack_room *room = tile->room;
    const advrob_attack *attack = tile->attack;
    for (int32_t i = first; i < first + n; i++) {
        const float *from = original(tile, room->slot[i]);
        const float *lo = image(room->low, tile, i), *hi = image(room->high, tile, i);
        float *x = image(room->x, tile, i);
        if (attack->norm != AR_NORM_LINF)
            ar_ball_project(tile->target, attack->norm, attack->common->epsilon, from, lo, hi, x);
        ar_ball_snap(tile->target, attack->norm, from, lo, hi, x);
    }
}

static bool fooled(const advrob_target *target, const float *z, int32_t y, int32_t aim) {
    int32_t answer = ar_argmax(target->classes, z);
    return aim >= 0 ? answer == aim : answer != y;
}

bool ar_attack_fooled(const ar_attack_tile *tile, int32_t i, const float *z) {
    int32_t slot = tile->room->slot[i];
    return fooled(tile->target, z, tile->y[slot], tile->targets != NULL ? tile->targets[slot] : -1);
}

void ar_attack_keep(const ar_attack_tile *tile, int32_t i, bool done) {
    ar_attack_room *room = tile->room;
    int32_t slot = room->slot[i];
    memcpy(image(tile->adversarial, tile, slot), image(room->x, tile, i), image_bytes(tile));
    room->done[slot] = done;
}

/* ---- From a batch to tiles ---- */

typedef struct attack_job {
    ar_attack_watch watch;
    const advrob_attack *attack;
    advrob_target *target;
    const ar_attack_call *call;
    const ar_loss *loss;
    int32_t piece, run;
    const ar_attack_rooms *rooms;
} attack_job;

/* The answers of l2 attacks may leave the ball, and those of all the lattice. Whoever takes
 * unclipped steps has a wider box. */
static void settle_answers(ar_attack_tile *tile) {
    ar_attack_room *room = tile->room;
    const advrob_attack *attack = tile->attack;
    if (attack->norm == AR_NORM_LINF && tile->target->lattice == 0) return;
    for (int32_t i = 0; i < tile->n; i++) {
        const float *from = original(tile, i);
        float *x = image(tile->adversarial, tile, i);
        ar_ball_box(tile->target, from, false, room->low, room->high);
        if (attack->norm != AR_NORM_LINF)
            ar_ball_project(tile->target, attack->norm, attack->common->epsilon, from, room->low,
                            room->high, x);
        else
            ar_ball_bounds(tile->target, from, attack->common->epsilon, false, room->low,
                           room->high);
        ar_ball_snap(tile->target, attack->norm, from, room->low, room->high, x);
    }
}

static void write_record(const attack_job *job, const ar_attack_tile *tile, int32_t i,
                         const float *z, double loss, ar_attack_record *record) {
    const float *from = original(tile, i), *x = image(tile->adversarial, tile, i);
    *record = (ar_attack_record){
        .forwards = tile->room->forwards[i],
        .backwards = tile->room->backwards[i],
        .prediction = ar_argmax(job->target->classes, z),
        .run = job->run,
        .fooled = fooled(job->target, z, tile->y[i], tile->targets != NULL ? tile->targets[i] : -1),
        .loss = loss,
        .linf = ar_ball_distance(job->target, AR_NORM_LINF, from, x),
        .l2 = ar_ball_distance(job->target, AR_NORM_L2, from, x),
    };
}

/* Predictions and losses from exactly what is returned. */
static int32_t recompute(attack_job *job, ar_attack_tile *tile, int64_t first) {
    int32_t status = ADVROB_OK;
    const ar_attack_call *call = job->call;
    advrob_target *target = job->target;
    int64_t classes = target->classes;
    int32_t block = ar_attack_block(tile);
    ar_attack_room *room = tile->room;
    if (call->predictions == NULL && call->losses == NULL && call->records == NULL)
        return ADVROB_OK;
    for (int32_t i = 0; i < tile->n; i += block) {
        int32_t n = tile->n - i < block ? tile->n - i : block;
        AR_TRY(target->forward(target, room->session, n, image(tile->adversarial, tile, i),
                               room->logits));
        for (int32_t k = i; k < i + n; k++) {
            const float *z = room->logits + (k - i) * classes;
            int32_t aim = tile->targets != NULL ? tile->targets[k] : -1;
            double loss = job->loss->sample(target->classes, z, tile->y[k], aim, NULL);
            if (call->predictions != NULL)
                call->predictions[first + k] = ar_argmax(target->classes, z);
            if (call->losses != NULL) call->losses[first + k] = loss;
            if (call->records != NULL)
                write_record(job, tile, k, z, loss, &call->records[first + k]);
        }
    }
out:
    return status;
}

static int32_t run_piece(void *arg, int64_t piece, int32_t worker) {
    int32_t status = ADVROB_OK;
    attack_job *job = arg;
    const ar_attack_call *call = job->call;
    int64_t first = piece * job->piece, n = call->n - first;
    int64_t size = ar_shape_count(job->target->shape);
    ar_attack_room *room = &job->rooms->rooms[worker];
    if (n > job->piece) n = job->piece;
    if (!room->open) {
        AR_TRY(job->target->open(job->target, &room->session));
        room->open = true;
    }
    ar_attack_tile tile = {
        .attack = job->attack,
        .target = job->target,
        .room = room,
        .n = (int32_t)n,
        .run = job->run,
        .x = call->x + first * size,
        .y = call->y + first,
        .targets = call->targets != NULL ? call->targets + first : NULL,
        .ids = room->ids,
        .adversarial = call->adversarial != NULL ? call->adversarial + first * size : room->answer,
        .watch = &job->watch,
    };
    const ar_attack *kind = job->attack->kind;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = job->attack->common->first_sample + first + i;
        room->ids[i] = call->ids != NULL ? call->ids[first + i] : id;
        room->forwards[i] = room->backwards[i] = 0;
    }
    if (kind->state != NULL)
        memset(room->state, 0, (size_t)n * kind->state(job->attack->options, job->target));
    memcpy(tile.adversarial, tile.x, sizeof(float) * (size_t)(n * size));
    AR_TRY(kind->tile(&tile));
    settle_answers(&tile);
    AR_TRY(recompute(job, &tile, first));
    job->watch.done += n;
out:
    return status;
}

/* A block of the arena, or NULL once anything has failed: rooms->status then says why. */
static void *take(ar_attack_rooms *rooms, size_t count, size_t size) {
    void *block = NULL;
    if (rooms->status >= 0)
        rooms->status = ar_arena_alloc(&rooms->arena, count, size, "attack room", &block);
    return block;
}

static void make_room(ar_attack_rooms *rooms, ar_attack_room *room, const advrob_attack *attack,
                      const advrob_target *target) {
    size_t n = (size_t)rooms->piece, size = (size_t)ar_shape_count(target->shape);
    size_t classes = (size_t)target->classes, block = (size_t)ar_target_tile(target, rooms->piece);
    room->x = take(rooms, n * size, sizeof(float));
    room->low = take(rooms, n * size, sizeof(float));
    room->high = take(rooms, n * size, sizeof(float));
    room->answer = take(rooms, n * size, sizeof(float));
    room->gradient = take(rooms, block * size, sizeof(float));
    room->logits = take(rooms, block * classes, sizeof(float));
    room->dlogits = take(rooms, block * classes, sizeof(float));
    if (attack->common->eot > 1)
        room->sum = take(rooms, block * (size + classes + 1), sizeof(float));
    room->loss = take(rooms, block, sizeof(double));
    room->scratch = take(rooms, classes, sizeof(double));
    room->y = take(rooms, n, sizeof(int32_t));
    room->target = take(rooms, n, sizeof(int32_t));
    room->slot = take(rooms, n, sizeof(int32_t));
    room->done = take(rooms, n, sizeof(bool));
    room->ids = take(rooms, n, sizeof(int64_t));
    room->forwards = take(rooms, n, sizeof(int64_t));
    room->backwards = take(rooms, n, sizeof(int64_t));
    if (rooms->state_size > 0) room->state = take(rooms, n, rooms->state_size);
}

/* Images of one piece: whole tiles. */
static int32_t piece_size(const advrob_target *target, int64_t n) {
    int64_t tile = ar_target_tile(target, n), tiles = n / PIECES / tile;
    if (!target->concurrent || tiles < 1) return (int32_t)tile;
    return (int32_t)((tiles * tile < PIECE ? tiles : PIECE / tile) * tile);
}

int32_t ar_attack_rooms_create(const advrob_attack *attack, advrob_target *target, int64_t n,
                               ar_attack_rooms *rooms) {
    size_t workers = target->concurrent ? (size_t)ar_workers(target->ctx) : 1;
    *rooms = (ar_attack_rooms){.piece = piece_size(target, n)};
    if (attack->kind->state != NULL)
        rooms->state_size = attack->kind->state(attack->options, target);
    ar_arena_init(&rooms->arena, &target->ctx->memory);
    rooms->rooms = take(rooms, workers, sizeof(ar_attack_room));
    for (size_t i = 0; i < workers && rooms->status >= 0; i++)
        make_room(rooms, &rooms->rooms[i], attack, target);
    if (rooms->status < 0) ar_attack_rooms_free(rooms);
    return rooms->status;
}

void ar_attack_rooms_free(ar_attack_rooms *rooms) {
    if (rooms->rooms == NULL) return;
    ar_arena_free(&rooms->arena);
    rooms->rooms = NULL;
}

static int32_t poll(void *arg, int64_t done) {
    attack_job *job = arg;
    (void)done; /* of pieces */
    return tell(&job->watch);
}

int32_t ar_attack_tiles(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                        const ar_attack_call *call, int32_t run) {
    int32_t status = ADVROB_OK;
    int32_t workers = target->concurrent ? ar_workers(target->ctx) : 1;
    ar_attack_rooms own = {.rooms = NULL};
    attack_job job = {.watch = {.ctx = target->ctx,
                                .what = call->what,
                                .caller = pthread_self(),
                                .last = ar_clock(),
                                .n = call->n},
                      .attack = attack,
                      .target = target,
                      .call = call,
                      .loss = call->loss != NULL ? call->loss : attack->loss,
                      .run = run};
    if (rooms == NULL) {
        AR_TRY(ar_attack_rooms_create(attack, target, call->n, &own));
        rooms = &own;
    }
    job.rooms = rooms;
    job.piece = piece_size(target, call->n);
    if (job.piece > rooms->piece) job.piece = rooms->piece;
    AR_TRY(ar_target_parallel(target, (call->n + job.piece - 1) / job.piece, run_piece,
                              call->what != NULL ? poll : NULL, &job));
out:
    for (int32_t i = 0; job.rooms != NULL && i < workers; i++) {
        ar_attack_room *room = &job.rooms->rooms[i];
        if (room->open) target->close(target, room->session);
        room->open = false;
    }
    ar_attack_rooms_free(&own);
    return status;
}
