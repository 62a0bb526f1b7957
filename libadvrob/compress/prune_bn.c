/* Pruning by the scale of batch norms ("network slimming", Liu et al. 2017, arXiv 1708.06519,
 * section 3): the channels with the smallest |gamma| go. */
#include <math.h>

#include "prune.h"

static const ar_option entries[] = {AR_PRUNE_ENTRIES};
static const ar_option_table table = AR_TABLE(ar_prune_options, entries);

static int32_t rate(const ar_rating *rating, double *scores) {
    const ar_channels *ch = rating->channels;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        if (!node->op->whole_batch) continue;
        const ar_real *gamma = ch->model->slab + ch->model->parameters[node->weight].offset;
        for (int32_t c = 0; c < node->shape.c; c++)
            scores[ch->first[i] + c] = fabs((double)gamma[c]);
    }
    return ADVROB_OK;
}

const ar_compressor ar_compressor_prune_bn = {
    .name = "prune_bn",
    .help = "removes the channels with the smallest scale in their batch norm",
    .options = &table,
    .rate = rate,
};
