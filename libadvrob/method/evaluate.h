/* Evaluation: what attacks did to each image, and the counts that follow from it. */
#ifndef AR_EVALUATE_H
#define AR_EVALUATE_H

#include "attack/attack.h"
#include "data/data.h"

/* In place of a prediction: the attack was not asked (the image is wrong when clean, or fell to an
 * earlier attack of a cascade); or the budget ended before the attack did, and the image holds. */
enum { AR_UNTOUCHED = -2, AR_UNFINISHED = -3 };

typedef struct ar_sample {
    int32_t label, clean_prediction;
    int32_t attack; /* that gave the answer; -1: none */
    int32_t step;   /* at which the image fell first; -1: it holds, or is wrong when clean */
    double clean_loss;
    /* At the image of the first attack that it fell to, else of the one that raised the loss most.
     * Losses are cross entropies. Passes: of all attacks. */
    ar_attack_record answer;
} ar_sample;

typedef struct ar_passes {
    int64_t forwards, backwards;
} ar_passes;

/* A step is one run of one attack: a restart, a target, a member of a list. */
enum { AR_MOST_STEPS = 64 }; /* of one attack; with more runs, all are one step */

typedef struct ar_evaluation {
    int64_t images, done; /* images in all; and those that are evaluated */
    int32_t attacks, steps, classes;
    int32_t *first_step;  /* [attacks + 1] */
    int32_t *runs;        /* [attacks] */
    ar_sample *samples;   /* [images] */
    int32_t *predictions; /* [images][attacks] */
    ar_passes *passes;    /* [images][steps] */
    ar_arena arena;
} ar_evaluation;

typedef struct ar_evaluate_call {
    advrob_target *target;
    const advrob_dataset *data;
    const advrob_attack *const *attacks;
    int32_t count;
    int64_t group;        /* images at a time */
    bool cascade;         /* an image that fell goes into no further attack */
    double budget_passes; /* forwards and backwards of attacks, of an image on average; 0: none */
    double budget_minutes;
    int32_t (*after_group)(void *arg, const ar_evaluation *evaluation); /* may be NULL */
    void *arg;
} ar_evaluate_call;

/* Room for the answers, and then the answers of the images from `done` on, in order. free is fine
 * on all zeros, and twice. E_INVALID for a targeted attack. */
int32_t ar_evaluation_create(const ar_evaluate_call *call, ar_evaluation *evaluation);
int32_t ar_evaluation_run(const ar_evaluate_call *call, ar_evaluation *evaluation);
void ar_evaluation_free(ar_evaluation *evaluation);

/* Whether image i is right: when clean, under attack a (in a cascade under those before, too), and
 * under all. */
bool ar_evaluation_clean(const ar_evaluation *e, int64_t i);
bool ar_evaluation_holds(const ar_evaluation *e, int64_t i, int32_t a);
bool ar_evaluation_withstands(const ar_evaluation *e, int64_t i);
/* Whether it withstands as far as is known, for an attack was not finished on it. */
bool ar_evaluation_unfinished(const ar_evaluation *e, int64_t i);

/* Wilson's 95 % score interval of `hits` of `n`. */
void ar_wilson(int64_t hits, int64_t n, double *low, double *high);

#endif
