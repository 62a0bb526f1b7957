/* Filter pruning by L2 norm: the filters with the smallest sum of squared weights go. */
#include "prune.h"

static const ar_option entries[] = {AR_PRUNE_ENTRIES};
static const ar_option_table table = AR_TABLE(ar_prune_options, entries);

static double square(double weight) {
    return weight * weight;
}

static int32_t rate(const ar_rating *rating, double *scores) {
    return ar_rate_filters(rating, square, scores);
}

const ar_compressor ar_compressor_prune_l2 = {
    .name = "prune_l2",
    .help = "removes the filters with the smallest L2 norm",
    .options = &table,
    .rate = rate,
};
