/* Random numbers: the Philox4x32-10 block function and the draws made from its words.
 *
 * J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC'11). */
#include "rng.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925286766559

void ar_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The seed is the key. The counter's first word numbers the blocks; the others hold, without
 * overlap: sample (low 32 bits), restart and step (16 bits each), purpose (8 bits) and sample
 * (high 24 bits). This layout is part of the results. */
void ar_rng_init(ar_rng *rng, int64_t seed, int32_t purpose, int64_t sample, int32_t restart,
                 int32_t step) {
    uint64_t s = (uint64_t)sample;
    rng->key[0] = (uint32_t)(uint64_t)seed;
    rng->key[1] = (uint32_t)((uint64_t)seed >> 32);
    rng->counter[0] = 0;
    rng->counter[1] = (uint32_t)s;
    rng->counter[2] = (uint32_t)restart << 16 | ((uint32_t)step & 0xffffu);
    rng->counter[3] = (uint32_t)purpose << 24 | ((uint32_t)(s >> 32) & 0xffffffu);
    for (int i = 0; i < 4; i++) {
        rng->block[i] = 0;
    }
    rng->used = 4;
}

uint32_t ar_rng_u32(ar_rng *rng) {
    if (rng->used == 4) {
        ar_philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

float ar_rng_uniform(ar_rng *rng) {
    return (float)(ar_rng_u32(rng) >> 8) * 0x1p-24f;
}

uint32_t ar_rng_below(ar_rng *rng, uint32_t n) {
    if (n <= 1) return 0;
    /* Draws under 2^32 mod n are dropped: what is left is a multiple of n. */
    uint32_t start = (uint32_t)(-n) % n;
    uint32_t word;
    do {
        word = ar_rng_u32(rng);
    } while (word < start);
    return word % n;
}

double ar_rng_normal(ar_rng *rng) {
    /* (0, 1], so that the logarithm is finite. Both draws come before either is used: the order of
     * evaluation must not be the compiler's choice. */
    double radius = ((double)ar_rng_u32(rng) + 1) * 0x1p-32;
    double angle = (double)ar_rng_u32(rng) * 0x1p-32;
    return sqrt(-2 * log(radius)) * cos(TWO_PI * angle);
}
