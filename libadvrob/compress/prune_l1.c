/* Filter pruning by L1 norm (Li et al. 2017, arXiv 1608.08710, section 3.1): the filters with the
 * smallest sum of absolute weights go. */
#include <math.h>

#include "prune.h"

static const ar_option entries[] = {AR_PRUNE_ENTRIES};
static const ar_option_table table = AR_TABLE(ar_prune_options, entries);

static int32_t rate(const ar_rating *rating, double *scores) {
    return ar_rate_filters(rating, fabs, scores);
}

const ar_compressor ar_compressor_prune_l1 = {
    .name = "prune_l1",
    .help = "removes the filters with the smallest L1 norm",
    .options = &table,
    .rate = rate,
};
