/* Attacks: registry, creation, and the way from a batch to tiles. */
#include "attack.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#define AR_ATTACK(name) &ar_attack_##name,
static const ar_attack *const attacks[] = {
#include "attacks.inc"
};
#undef AR_ATTACK

/* Images of one piece of work at most, and pieces of a large job at least. A piece has many tiles
 * of the target, so that one whose samples fall one by one still fills tiles; the same for every
 * number of threads. */
#define PIECE 256
#define PIECES 16

int32_t ar_attack_count(void) {
    return (int32_t)(sizeof attacks / sizeof attacks[0]);
}

const ar_attack *ar_attack_at(int32_t index) {
    return index >= 0 && index < ar_attack_count() ? attacks[index] : NULL;
}

static const char *name_at(int32_t index) {
    return attacks[index]->name;
}

int32_t ar_attack_find(const char *name, const ar_attack **out) {
    int32_t index;
    int32_t status = ar_find_name("attack", name, ar_attack_count(), name_at, &index);
    if (status >= 0) *out = attacks[index];
    return status;
}

int32_t ar_attack_create(advrob_context *ctx, const char *name, const advrob_options *options,
                         advrob_attack **out) {
    int32_t status = ADVROB_OK;
    advrob_attack *attack = NULL;
    const ar_attack *kind = NULL;
    void *block = NULL;
    char who[80];
    AR_TRY(ar_attack_find(name, &kind));
    ar_format(who, sizeof who, "attack %s", kind->name);
    ar_option_scope scope = {"", kind->options};
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *attack, "attack", &block));
    attack = block;
    attack->ctx = ctx;
    attack->references = 1;
    attack->kind = kind;
    ar_context_retain(ctx);
    ar_arena_init(&attack->arena, &ctx->memory);
    AR_TRY(ar_arena_alloc(&attack->arena, 1, kind->options->size, "attack", &attack->options));
    AR_TRY(ar_options_read(options, who, "", kind->options, &attack->arena, attack->options));
    attack->loss = ar_loss_find(kind->loss(attack->options));
    attack->seed = kind->seed != NULL ? kind->seed(attack->options) : 0;
    if (attack->seed < 0) attack->seed = ctx->seed;
    *out = attack;
    attack = NULL;
out:
    ar_attack_release(attack);
    return status;
}

void ar_attack_release(advrob_attack *attack) {
    if (attack == NULL || --attack->references > 0) return;
    advrob_context *ctx = attack->ctx;
    ar_arena_free(&attack->arena);
    ar_free(&ctx->memory, attack);
    ar_context_release(ctx);
}

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

typedef struct attack_job {
    ar_attack_watch watch;
    const advrob_attack *attack;
    advrob_target *target;
    int64_t n;
    int32_t piece;
    const float *x;
    const int32_t *y;
    const int64_t *ids;
    float *adversarial; /* NULL: rooms have their own */
    int32_t *predictions;
    double *losses;
    const ar_attack_rooms *rooms;
} attack_job;

/* Predictions and losses from exactly what is returned. */
static int32_t recompute(attack_job *job, ar_attack_tile *tile, int64_t first) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->target;
    int64_t size = ar_shape_count(target->shape), classes = target->classes;
    int32_t block = ar_target_tile(target, tile->n);
    ar_attack_room *room = tile->room;
    if (job->predictions == NULL && job->losses == NULL) return ADVROB_OK;
    for (int32_t i = 0; i < tile->n; i += block) {
        int32_t n = tile->n - i < block ? tile->n - i : block;
        AR_TRY(
            target->forward(target, room->session, n, tile->adversarial + i * size, room->logits));
        for (int32_t k = 0; k < n; k++) {
            const float *z = room->logits + k * classes;
            if (job->predictions != NULL)
                job->predictions[first + i + k] = ar_argmax(target->classes, z);
            if (job->losses != NULL)
                job->losses[first + i + k] =
                    job->attack->loss->sample(target->classes, z, tile->y[i + k], NULL);
        }
    }
out:
    return status;
}

static int32_t run_piece(void *arg, int64_t piece, int32_t worker) {
    int32_t status = ADVROB_OK;
    attack_job *job = arg;
    int64_t first = piece * job->piece, n = job->n - first;
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
        .x = job->x + first * size,
        .y = job->y + first,
        .ids = room->ids,
        .adversarial = job->adversarial != NULL ? job->adversarial + first * size : room->answer,
        .watch = &job->watch,
    };
    const ar_attack *kind = job->attack->kind;
    int64_t start = kind->first_sample != NULL ? kind->first_sample(job->attack->options) : 0;
    for (int64_t i = 0; i < n; i++)
        room->ids[i] = job->ids != NULL ? job->ids[first + i] : start + first + i;
    AR_TRY(kind->tile(&tile));
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

static void make_room(ar_attack_rooms *rooms, ar_attack_room *room, const advrob_target *target) {
    size_t n = (size_t)rooms->piece, size = (size_t)ar_shape_count(target->shape);
    size_t classes = (size_t)target->classes;
    room->x = take(rooms, n * size, sizeof(float));
    room->low = take(rooms, n * size, sizeof(float));
    room->high = take(rooms, n * size, sizeof(float));
    room->gradient = take(rooms, n * size, sizeof(float));
    room->answer = take(rooms, n * size, sizeof(float));
    room->logits = take(rooms, n * classes, sizeof(float));
    room->dlogits = take(rooms, n * classes, sizeof(float));
    room->loss = take(rooms, n, sizeof(double));
    room->scratch = take(rooms, classes, sizeof(double));
    room->y = take(rooms, n, sizeof(int32_t));
    room->slot = take(rooms, n, sizeof(int32_t));
    room->done = take(rooms, n, sizeof(bool));
    room->fooled = take(rooms, n, sizeof(bool));
    room->ids = take(rooms, n, sizeof(int64_t));
}

/* Images of one piece: whole tiles. */
static int32_t piece_size(const advrob_target *target, int64_t n) {
    int64_t tile = ar_target_tile(target, n), tiles = n / PIECES / tile;
    if (!target->concurrent || tiles < 1) return (int32_t)tile;
    return (int32_t)((tiles * tile < PIECE ? tiles : PIECE / tile) * tile);
}

int32_t ar_attack_rooms_create(advrob_target *target, int64_t n, ar_attack_rooms *rooms) {
    size_t workers = target->concurrent ? (size_t)ar_workers(target->ctx) : 1;
    *rooms = (ar_attack_rooms){.piece = piece_size(target, n)};
    ar_arena_init(&rooms->arena, &target->ctx->memory);
    rooms->rooms = take(rooms, workers, sizeof(ar_attack_room));
    for (size_t i = 0; i < workers && rooms->status >= 0; i++)
        make_room(rooms, &rooms->rooms[i], target);
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

int32_t ar_attack_run(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                      const char *what, int64_t n, const float *x, const int32_t *y,
                      const int64_t *ids, float *adversarial, int32_t *predictions,
                      double *losses) {
    int32_t status = ADVROB_OK;
    int32_t workers = target->concurrent ? ar_workers(target->ctx) : 1;
    ar_attack_rooms own = {.rooms = NULL};
    attack_job job = {.watch = {.ctx = target->ctx,
                                .what = what,
                                .caller = pthread_self(),
                                .last = ar_clock(),
                                .n = n},
                      .attack = attack,
                      .target = target,
                      .n = n,
                      .x = x,
                      .y = y,
                      .ids = ids,
                      .adversarial = adversarial,
                      .predictions = predictions,
                      .losses = losses};
    AR_TRY(ar_target_check_labels(target, n, y));
    AR_TRY(ar_target_check_pixels(target, n, x));
    if (attack->kind->needs_gradient && !target->has_backward)
        AR_FAIL(ADVROB_E_UNSUPPORTED, "attack %s needs gradients and the target gives none",
                attack->kind->name);
    if (rooms == NULL) {
        AR_TRY(ar_attack_rooms_create(target, n, &own));
        rooms = &own;
    }
    job.rooms = rooms;
    job.piece = piece_size(target, n) < rooms->piece ? piece_size(target, n) : rooms->piece;
    AR_TRY(ar_target_parallel(target, (n + job.piece - 1) / job.piece, run_piece,
                              what != NULL ? poll : NULL, &job));
out:
    for (int32_t i = 0; job.rooms != NULL && i < workers; i++) {
        ar_attack_room *room = &job.rooms->rooms[i];
        if (room->open) target->close(target, room->session);
        room->open = false;
    }
    ar_attack_rooms_free(&own);
    return status;
}
