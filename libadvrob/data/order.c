/* The order of images: shuffles that depend on seed, purpose and epoch alone. */
#include "data.h"

/* Uniform in [0, n) without bias, for any n >= 1. */
static int64_t below(ar_rng *rng, uint64_t n) {
    if (n <= UINT32_MAX) return (int64_t)ar_rng_below(rng, (uint32_t)n);
    uint64_t reach = UINT64_MAX - UINT64_MAX % n;
    uint64_t draw;
    do {
        draw = (uint64_t)ar_rng_u32(rng) << 32;
        draw |= ar_rng_u32(rng);
    } while (draw >= reach);
    return (int64_t)(draw % n);
}

void ar_shuffle(int64_t seed, int32_t purpose, int64_t epoch, int64_t n, int64_t *order) {
    ar_rng rng;
    ar_rng_init(&rng, seed, purpose, epoch, 0, 0);
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = below(&rng, (uint64_t)i + 1);
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
