/* Is a robust accuracy believable? Measurements that tell masked gradients from robustness. */
#ifndef AR_MASKING_H
#define AR_MASKING_H

#include "attack/attack.h"
#include "data/data.h"

/* What was asked of the target; accuracies of the images that are right when clean and then. */
enum {
    AR_TRIAL_CLEAN,
    AR_TRIAL_FGSM,
    AR_TRIAL_PGD,
    AR_TRIAL_SQUARE,
    AR_TRIAL_TRANSFER, /* PGD's images of the source */
    AR_TRIAL_LARGE,    /* PGD in half the box */
    AR_TRIALS
};

/* Reasons against an accuracy, one bit each. */
enum {
    AR_MASKING_SQUARE,
    AR_MASKING_TRANSFER,
    AR_MASKING_FGSM,
    AR_MASKING_ABOVE_CLEAN,
    AR_MASKING_LARGE,
    AR_MASKING_ZERO,
    AR_MASKING_RANDOM,
    AR_MASKING_SOFTMAX,
    AR_MASKING_BLIND, /* the target gives no gradients */
    AR_MASKINGS
};

typedef struct ar_masking_call {
    advrob_target *target; /* with a source: also a transfer */
    const advrob_dataset *data;
    double epsilon;
    const char *norm;
    int64_t images, group, steps, queries, seed; /* images 0: all; queries 0: no Square */
} ar_masking_call;

typedef struct ar_masking {
    int64_t images;
    bool ran[AR_TRIALS];
    int64_t right[AR_TRIALS];
    int64_t white;                /* right under both FGSM and PGD */
    int64_t raw;                  /* right under PGD, whether they were when clean or not */
    double large_epsilon, chance; /* of AR_TRIAL_LARGE */
    int64_t zero;                 /* images whose gradient is 0 */
    double noise;                 /* largest difference of logits between passes, relative */
    int64_t unsteady;             /* images whose prediction differs between passes */
    bool softmax, flag[AR_MASKINGS];
} ar_masking;

int32_t ar_masking_check(const ar_masking_call *call, ar_masking *out);

/* A flag's name ("square_stronger") and what it says, in the figures of `masking`. */
const char *ar_masking_name(int32_t flag);
void ar_masking_reason(const ar_masking *masking, int32_t flag, char *text, size_t size);

#endif
