/* attack: one attack a file, its descriptor at the end. Others include this header alone.
 *
 * An attack is single-threaded code on one tile of images; tiles.c cuts the batch into tiles and
 * gives each worker its own session on the target; attack.c runs what has several runs (restarts,
 * targets, a list of attacks) one after the other on the samples that still hold. A new attack is
 * one file and one line in attacks.inc. */
#ifndef AR_ATTACK_H
#define AR_ATTACK_H

#include <advrob/attack.h>

#include "model/oracle.h"
#include "op/loss.h"

/* ---- What an attack is ---- */

enum { AR_NORM_LINF, AR_NORM_L2 };

/* What the options of every attack begin with; an attack lists those that it has. Distances are in
 * pixels: epsilon * target->unit[c] in channel c. */
typedef struct ar_attack_common {
    double epsilon;
    int64_t targeted, transfer, eot, first_sample, seed;
    const char *norm, *loss;
} ar_attack_common;

#define AR_ATTACK_EPSILON \
    AR_F64(ar_attack_common, epsilon, 8.0 / 255, 0, 1e6, "radius of the ball, in pixels")
/* Of attacks that look for the nearest adversarial image. */
#define AR_ATTACK_FARTHEST \
    AR_F64(ar_attack_common, epsilon, 1e6, 0, 1e6, "largest distance of an answer, in pixels")
#define AR_ATTACK_NORM AR_STR(ar_attack_common, norm, "linf", "linf|l2", "norm of the ball")
#define AR_ATTACK_LOSS AR_STR(ar_attack_common, loss, "ce", "ce|margin|dlr", "loss that is raised")
#define AR_ATTACK_TARGETED \
    AR_I64(ar_attack_common, targeted, 0, 0, 1, "towards given classes, not merely away")
#define AR_ATTACK_TRANSFER \
    AR_I64(ar_attack_common, transfer, 0, 0, 1, \
           "run on the target's source; only its answers are tried on the target")
#define AR_ATTACK_EOT \
    AR_I64(ar_attack_common, eot, 1, 1, 10000, \
           "passes whose mean is one gradient, for targets that answer at random")
#define AR_ATTACK_DRAWS \
    AR_I64(ar_attack_common, first_sample, 0, 0, 9e15, \
           "number of the first sample, for its random draws"), \
        AR_I64(ar_attack_common, seed, -1, -1, 9e15, "seed; -1: the context's")

typedef struct ar_attack_tile ar_attack_tile;
typedef struct ar_attack_list ar_attack_list;

typedef struct ar_attack {
    const char *name, *help;
    const ar_option_table *options; /* of a struct that begins with ar_attack_common */
    bool needs_gradient;
    const char *loss; /* that is reported; NULL: the option's */
    int32_t norm;     /* where it is no option */
    /* Runs of which each sample's worst is kept; NULL: one. A fooled sample skips those that are
     * left, unless the attack is exhaustive. */
    int32_t (*runs)(const void *options, int32_t classes, int32_t *count);
    bool (*exhaustive)(const void *options);
    /* Bytes of what the attack keeps of a sample (ar_attack_state), a multiple of 8; all zeros when
     * a run begins. */
    size_t (*state)(const void *options, const advrob_target *target);
    /* Either: one run on a tile. Or: adds the attacks that are run one after the other, each on the
     * samples that hold against those before. */
    int32_t (*tile)(const ar_attack_tile *tile);
    int32_t (*members)(const void *options, int32_t classes, ar_attack_list *list);
} ar_attack;

struct advrob_attack {
    advrob_context *ctx;
    _Atomic int32_t references;
    const ar_attack *kind;
    const ar_loss *loss;
    int32_t norm;
    int64_t seed;
    ar_arena arena;
    void *options; /* the kind's option struct */
    const ar_attack_common *common;
};

int32_t ar_attack_count(void);
const ar_attack *ar_attack_at(int32_t index);
/* E_UNKNOWN with the nearest name. */
int32_t ar_attack_find(const char *name, const ar_attack **out);

int32_t ar_attack_create(advrob_context *ctx, const char *name, const advrob_options *options,
                         advrob_attack **out);
void ar_attack_release(advrob_attack *attack); /* NULL is fine */

/* ---- Running one ---- */

/* How one sample's attack went. */
typedef struct ar_attack_record {
    int64_t forwards, backwards; /* passes, without the one that checks the answer */
    int32_t prediction;
    int32_t member, run; /* that gave the answer: place in a list of attacks, restart or target */
    bool fooled;
    double loss, linf, l2; /* at the answer; distances in pixels */
} ar_attack_record;

typedef struct ar_attack_call {
    const char *what; /* the job's name for the progress hook; NULL: silence */
    int64_t n;
    const float *x;
    const int32_t *y;
    const int32_t *targets; /* of targeted attacks; else NULL */
    const int64_t *ids;     /* NULL: the option "first_sample" plus the position */
    const ar_loss *loss;    /* NULL: the attack's own */
    /* Each may be NULL. */
    float *adversarial;
    int32_t *predictions;
    double *losses;
    ar_attack_record *records;
    /* Called after each run (restart, target, member of a list) with its samples, by their ids;
     * false ends the attack there. NULL: not called. Needs `ids` and `records`. */
    bool (*after)(void *arg, int32_t run, int64_t n, const int64_t *ids,
                  const ar_attack_record *records);
    void *after_arg;
} ar_attack_call;

/* One worker's room, for tiles of `tile` images; all arrays are [tile][values of one image] or
 * [tile][classes]. */
typedef struct ar_attack_room {
    void *session;
    bool open;
    /* Of the samples that are still attacked, side by side: */
    float *x, *low, *high; /* iterates and their box */
    int32_t *y, *target; /* labels; classes that the loss aims at, -1: none; an attack may choose */
    int32_t *slot;       /* their places in the tile */
    /* Of one block of them, as the target takes it: */
    float *gradient, *logits, *dlogits, *sum;
    double *loss, *scratch; /* scratch: [classes] */
    /* Of the tile's samples: */
    bool *done;
    char *state; /* [tile][state_size] */
    int64_t *ids, *forwards, *backwards;
    float *answer; /* adversarial images that the caller does not want */
} ar_attack_room;

/* The rooms of all workers, for runs of at most the n that they were made for. */
typedef struct ar_attack_rooms {
    ar_arena arena;
    ar_attack_room *rooms; /* [workers] */
    size_t state_size;
    int32_t piece, status;
} ar_attack_rooms;

/* rooms: NULL: made for this run. E_RANGE and E_NONFINITE name a label or pixel that the target
 * does not take; E_INVALID targets that are missing, too many, or the label. */
int32_t ar_attack_run(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                      const ar_attack_call *call);

/* Of how many runs an attack on `classes` classes consists, and the name of the attack that makes a
 * run: a member of its list, or itself. */
int32_t ar_attack_count_runs(const advrob_attack *attack, int32_t classes, int32_t *count);
int32_t ar_attack_run_name(const advrob_attack *attack, int32_t classes, int32_t run,
                           const char **name);

/* Rooms that serve many runs on one target, one after another: a training step then allocates
 * nothing. free is fine on rooms that are all zeros, and twice. */
int32_t ar_attack_rooms_create(const advrob_attack *attack, advrob_target *target, int64_t n,
                               ar_attack_rooms *rooms);
void ar_attack_rooms_free(ar_attack_rooms *rooms);

/* tiles.c: run number `run` of an attack that has tiles. */
int32_t ar_attack_tiles(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                        const ar_attack_call *call, int32_t run);

/* A list of attacks, as `members` makes it. */
enum { AR_MOST_MEMBERS = 64 };
struct ar_attack_list {
    advrob_context *ctx;
    const ar_attack_common *common; /* of the attack that has the list */
    advrob_attack *attacks[AR_MOST_MEMBERS];
    int32_t count;
};
/* How many classes are aimed at: `wanted`, or, with 0, the usual number as far as there are so many
 * besides the label. E_RANGE: more than that are wanted. */
int32_t ar_attack_aims(const char *name, int64_t wanted, int32_t usual, int32_t classes,
                       int32_t *count);
/* Adds attack `name` with `options` ("steps=50 loss=ce") beside epsilon, norm, seed, first_sample
 * and eot of the list, where it has them. */
int32_t ar_attack_list_add(ar_attack_list *list, const char *name, const char *options);

/* ---- One tile's job ---- */

struct ar_attack_watch; /* tiles.c */

/* The attack writes `adversarial`, which begins as x and is brought into the ball, the box and onto
 * the lattice afterwards; predictions and losses are recomputed from it. */
struct ar_attack_tile {
    const advrob_attack *attack;
    advrob_target *target;
    ar_attack_room *room;
    int32_t n, run;
    const float *x;         /* [n, c, h, w] */
    const int32_t *y;       /* [n] */
    const int32_t *targets; /* [n] or NULL */
    const int64_t *ids;     /* [n]: what each sample's random numbers are drawn by */
    float *adversarial;     /* [n, c, h, w] */
    struct ar_attack_watch *watch;
};

/* Called before every step: E_CANCELLED when the run is to stop. On the caller's thread it also
 * keeps the progress hook informed, however long a tile takes. */
int32_t ar_attack_tick(const ar_attack_tile *tile);

/* The tile's samples into the room, at their images, in the box (l2) or in ball and box; how many.
 * `clip`: whether there is a box. */
int32_t ar_attack_fill(const ar_attack_tile *tile, bool clip);
/* Closes the gaps of samples whose place in the tile is `done`; how many are left. */
int32_t ar_attack_drop(const ar_attack_tile *tile, int32_t live);
/* Images of one block: what forward and the others below take at once. */
int32_t ar_attack_block(const ar_attack_tile *tile);
/* What the attack keeps of the sample at a place of the tile. */
void *ar_attack_state(const ar_attack_tile *tile, int32_t slot);
/* A stream of the sample at a place of the tile. */
void ar_attack_rng(const ar_attack_tile *tile, int32_t slot, int32_t step, ar_rng *rng);

/* A block of the room's samples, [first, first + n): */
/* logits */
int32_t ar_attack_forward(const ar_attack_tile *tile, int32_t first, int32_t n);
/* gradient, from dlogits, after forward; as often as wanted. It is counted for samples that are not
 * done: those that are may still be in the block. */
int32_t ar_attack_backward(const ar_attack_tile *tile, int32_t first, int32_t n);
/* logits, losses and the gradient of `loss`, whose size means nothing: each sample's own power of
 * two, unless the option "eot" makes it a mean */
int32_t ar_attack_ascend(const ar_attack_tile *tile, const ar_loss *loss, int32_t first, int32_t n);
/* Iterates back into the ball (l2; the box is their own business) and onto the lattice. */
void ar_attack_settle(const ar_attack_tile *tile, int32_t first, int32_t n);
/* Whether logits z mean that sample i of the room is fooled: wrong, or what the caller's targets
 * ask for; whatever the loss aims at. */
bool ar_attack_fooled(const ar_attack_tile *tile, int32_t i, const float *z);
/* Sample i of the room as it stands becomes the answer; drop() takes it out if it is done. */
void ar_attack_keep(const ar_attack_tile *tile, int32_t i, bool done);

/* ---- ball.c: geometry of one image x in float, exact ---- */

/* The box around x: the target's where `clip`, and in l-inf the ball of epsilon, rounded inward:
 * any value between lo and hi is within the radius of x exactly. */
void ar_ball_bounds(const advrob_target *target, const float *x, double epsilon, bool clip,
                    float *lo, float *hi);
void ar_ball_box(const advrob_target *target, const float *x, bool clip, float *lo, float *hi);
/* Uniform in the ball around `from`, kept within [lo, hi]: in l-inf each value by itself, in l2 a
 * normal direction and a radius of U^(1/d). */
void ar_ball_random(const advrob_target *target, ar_rng *rng, double epsilon, const float *lo,
                    const float *hi, float *x);
void ar_ball_random_l2(const advrob_target *target, ar_rng *rng, double epsilon, const float *lo,
                       const float *hi, float *x);
/* A signed step of n images by `step` units, kept within [lo, hi]. */
void ar_ball_step(const advrob_target *target, int64_t n, double step, const float *g,
                  const float *lo, const float *hi, float *x);
/* A step of length `step` along the gradient of one image; none along 0. */
void ar_ball_step_l2(const advrob_target *target, double step, const float *g, const float *lo,
                     const float *hi, float *x);
/* The nearest image within [lo, hi] and, in l2, within epsilon of `from`, which lies there. What
 * lies there already stays to the bit. */
void ar_ball_project(const advrob_target *target, int32_t norm, double epsilon, const float *from,
                     const float *lo, const float *hi, float *x);
/* Onto the target's lattice of pixel values, if it has one: the nearest within [lo, hi], in l2 the
 * nearest towards `from`, which may lie beside the lattice and then stays where nothing else
 * fits. */
void ar_ball_snap(const advrob_target *target, int32_t norm, const float *from, const float *lo,
                  const float *hi, float *x);
/* In pixels. */
double ar_ball_distance(const advrob_target *target, int32_t norm, const float *from,
                        const float *x);

/* pgd.c: what the attacks by signed or normalised gradient steps share. */
enum { AR_START_IMAGE, AR_START_UNIFORM, AR_START_SIGN };
typedef struct ar_pgd_settings {
    double epsilon, step;
    double start_radius; /* of AR_START_SIGN: x + start_radius * sign(normal) */
    double momentum;     /* > 0: of gradients divided by their l1 norm */
    int64_t steps;
    int32_t start;
    bool clip, early_stop;
} ar_pgd_settings;
int32_t ar_pgd_tile(const ar_attack_tile *tile, const ar_pgd_settings *settings);

/* apgd.c: what apgd and apgd_t share. */
typedef struct ar_apgd_settings {
    const ar_loss *loss;
    double epsilon, rho; /* rho: share of steps that must raise the loss */
    int64_t steps;
    bool random_start, early_stop;
} ar_apgd_settings;
/* What is kept of a sample; images follow. */
typedef struct ar_apgd_state {
    double step, loss, best, checked, fooled_loss; /* losses: last, largest, that at a checkpoint */
    int64_t rises;                                 /* of the loss, since the last checkpoint */
    bool reduced, fooled; /* whether the last checkpoint halved the step; ever fooled */
} ar_apgd_state;
size_t ar_apgd_state_size(const advrob_target *target);
/* Looks at the images: what is fooled already is done, and with rank >= 0 the others' losses aim at
 * the class that has, of those that are not the label, the largest logit but `rank`. */
int32_t ar_apgd_look(const ar_attack_tile *tile, int32_t rank, int32_t *live);
int32_t ar_apgd_tile(const ar_attack_tile *tile, const ar_apgd_settings *settings, int32_t live);

#define AR_ATTACK(name) extern const ar_attack ar_attack_##name;
#include "attacks.inc"
#undef AR_ATTACK

#endif
