/* Pruning at random: the control that a criterion has to beat. A pure function of the seed, the
 * layer's place and the filter. */
#include "prune.h"

static const ar_option entries[] = {
    AR_PRUNE_ENTRIES,
    AR_I64(ar_prune_options, seed, -1, -1, 9e15, "seed; -1: the context's"),
};
static const ar_option_table table = AR_TABLE(ar_prune_options, entries);

static int32_t rate(const ar_rating *rating, double *scores) {
    const ar_prune_options *o = rating->job->options;
    const ar_channels *ch = rating->channels;
    int64_t seed = o->seed >= 0 ? o->seed : rating->job->ctx->seed;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        ar_rng rng;
        if (!ar_has_filters(&ch->model->nodes[i])) continue;
        ar_rng_init(&rng, seed, AR_RNG_PRUNE, i, 0, 0);
        for (int32_t c = 0; c < ch->model->nodes[i].shape.c; c++)
            scores[ch->first[i] + c] = (double)ar_rng_uniform(&rng);
    }
    return ADVROB_OK;
}

const ar_compressor ar_compressor_prune_random = {
    .name = "prune_random",
    .help = "removes filters at random, as a control",
    .options = &table,
    .rate = rate,
};
