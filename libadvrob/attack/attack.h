/* attack: one attack a file, its descriptor at the end. Others include this header alone.
 *
 * An attack is single-threaded code on one tile of images; attack.c cuts the batch into tiles and
 * gives each worker its own session on the target. A new attack is one file and one line in
 * attacks.inc. */
#ifndef AR_ATTACK_H
#define AR_ATTACK_H

#include <advrob/attack.h>

#include "model/oracle.h"
#include "op/loss.h"

/* One worker's room, for tiles of `tile` images; all arrays are [tile][values of one image] or
 * [tile][classes]. */
typedef struct ar_attack_room {
    void *session;
    bool open;
    float *x, *low, *high, *gradient; /* iterates, their box, gradient */
    float *logits, *dlogits;
    double *loss, *scratch; /* [tile], [classes] */
    int32_t *y, *slot;      /* labels and original places of the images that are still attacked */
    bool *done, *fooled;
    int64_t *ids;
    float *answer; /* adversarial images that the caller does not want */
} ar_attack_room;

/* The rooms of all workers, for runs of at most the n that they were made for. */
typedef struct ar_attack_rooms {
    ar_arena arena;
    ar_attack_room *rooms; /* [workers] */
    int32_t piece, status;
} ar_attack_rooms;

struct ar_attack_watch; /* attack.c */

/* A tile's job. The attack writes `adversarial`; predictions and losses are recomputed from it. */
typedef struct ar_attack_tile {
    const advrob_attack *attack;
    advrob_target *target;
    ar_attack_room *room;
    int32_t n;
    const float *x;     /* [n, c, h, w] */
    const int32_t *y;   /* [n] */
    const int64_t *ids; /* [n]: what each sample's random numbers are drawn by */
    float *adversarial; /* [n, c, h, w] */
    struct ar_attack_watch *watch;
} ar_attack_tile;

/* Called before every step: E_CANCELLED when the run is to stop. On the caller's thread it also
 * keeps the progress hook informed, however long a tile takes. */
int32_t ar_attack_tick(const ar_attack_tile *tile);

typedef struct ar_attack {
    const char *name, *help;
    const ar_option_table *options;
    bool needs_gradient;
    /* The loss that is reported, and what attack.c needs to know of the options. */
    const char *(*loss)(const void *options);
    int64_t (*seed)(const void *options);
    int64_t (*first_sample)(const void *options);
    int32_t (*tile)(const ar_attack_tile *tile);
} ar_attack;

struct advrob_attack {
    advrob_context *ctx;
    _Atomic int32_t references;
    const ar_attack *kind;
    const ar_loss *loss;
    int64_t seed;
    ar_arena arena;
    void *options; /* the kind's option struct */
};

int32_t ar_attack_count(void);
const ar_attack *ar_attack_at(int32_t index);
/* E_UNKNOWN with the nearest name. */
int32_t ar_attack_find(const char *name, const ar_attack **out);

int32_t ar_attack_create(advrob_context *ctx, const char *name, const advrob_options *options,
                         advrob_attack **out);
void ar_attack_release(advrob_attack *attack); /* NULL is fine */

/* rooms: NULL: made for this run. what: the job's name for the progress hook, NULL for silence. ids
 * NULL: the option "first_sample" plus the position. adversarial, predictions and losses may be
 * NULL. E_RANGE and E_NONFINITE name a label or pixel that the target does not take. */
int32_t ar_attack_run(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                      const char *what, int64_t n, const float *x, const int32_t *y,
                      const int64_t *ids, float *adversarial, int32_t *predictions, double *losses);

/* Rooms that serve many runs on one target, one after another: a training step then allocates
 * nothing. free is fine on rooms that are all zeros, and twice. */
int32_t ar_attack_rooms_create(advrob_target *target, int64_t n, ar_attack_rooms *rooms);
void ar_attack_rooms_free(ar_attack_rooms *rooms);

/* ball.c: the l-inf ball around the image x, epsilon times its unit wide in each channel, cut with
 * the target's box where `clip`. Rounded inward: any value between lo and hi is within the radius
 * of x exactly. */
void ar_ball_bounds(const advrob_target *target, const float *x, double epsilon, bool clip,
                    float *lo, float *hi);
/* The image x uniform in the ball: x0 + u, u in +-epsilon units, kept within [lo, hi]. */
void ar_ball_random(const advrob_target *target, ar_rng *rng, double epsilon, const float *lo,
                    const float *hi, float *x);
/* A signed step of n images by `step` units, kept within [lo, hi]. */
void ar_ball_step(const advrob_target *target, int64_t n, double step, const float *g,
                  const float *lo, const float *hi, float *x);

/* pgd.c: what FGSM and PGD share. */
typedef struct ar_pgd_settings {
    double epsilon, step;
    int64_t steps, restarts;
    bool random_start, clip, early_stop;
} ar_pgd_settings;
int32_t ar_pgd_tile(const ar_attack_tile *tile, const ar_pgd_settings *settings);

#define AR_ATTACK(name) extern const ar_attack ar_attack_##name;
#include "attacks.inc"
#undef AR_ATTACK

#endif
