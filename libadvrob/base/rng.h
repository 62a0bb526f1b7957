/* Random numbers: Philox4x32-10 (Salmon et al., SC'11). Every draw is a pure function of
 * (seed, purpose, sample, restart, step): never of order, threads or batches. */
#ifndef AR_RNG_H
#define AR_RNG_H

#include "status.h"

/* What a stream is for; the numbers are part of the results and never change. */
enum {
    AR_RNG_INIT = 1,    /* sample = parameter index */
    AR_RNG_SHUFFLE = 2, /* sample = epoch */
    AR_RNG_ATTACK = 3,  /* sample, restart, step */
    AR_RNG_SPLIT = 4,
    AR_RNG_TEST = 5,
    AR_RNG_SYNTHETIC = 6,
    AR_RNG_DROPOUT = 7, /* sample = visit, restart = node */
    AR_RNG_AUGMENT = 8, /* sample = visit, restart = 0: crop, 1: flip */
    AR_RNG_PRUNE = 9    /* sample = node */
};

typedef struct ar_rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    int32_t used; /* words of `block` that were given out */
} ar_rng;

/* The plain block function. */
void ar_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A stream of 2^32 blocks. restart < 2^16, step < 2^16. */
void ar_rng_init(ar_rng *rng, int64_t seed, int32_t purpose, int64_t sample, int32_t restart,
                 int32_t step);
uint32_t ar_rng_u32(ar_rng *rng);
/* Uniform in [0, 1), 24 bits; and below n without bias (n >= 1). */
float ar_rng_uniform(ar_rng *rng);
uint32_t ar_rng_below(ar_rng *rng, uint32_t n);
/* Standard normal (Box-Muller in double). */
double ar_rng_normal(ar_rng *rng);

#endif
