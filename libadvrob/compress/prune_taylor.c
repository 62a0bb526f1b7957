/* Pruning by first-order Taylor importance (Molchanov et al. 2019, arXiv 1906.10771, equation 8,
 * over the weights of a filter): how much the loss of calibration images would change, (sum of g
 * w)^2, averaged over batches. Adversarial images as calibration give adversarial importance. */
#include "prune.h"

static const ar_option entries[] = {
    AR_PRUNE_ENTRIES,
    AR_I64(ar_prune_options, images, 512, 1, 1e9, "calibration images, the first ones"),
    AR_I64(ar_prune_options, batch, 64, 1, 65536, "images of one gradient"),
};
static const ar_option_table table = AR_TABLE(ar_prune_options, entries);

typedef struct importance {
    const ar_rating *rating;
    double *scores;
    int64_t batches;
} importance;

/* Adds one batch's. */
static void add(void *arg, const ar_real *gradient) {
    importance *sum = arg;
    const ar_channels *ch = sum->rating->channels;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        if (!ar_has_filters(node)) continue;
        const ar_parameter *weight = &ch->model->parameters[node->weight];
        int64_t count = weight->count / weight->shape[0];
        for (int32_t c = 0; c < node->shape.c; c++) {
            int64_t first = weight->offset + c * count;
            double product = 0;
            for (int64_t k = first; k < first + count; k++)
                product += (double)gradient[k] * (double)ch->model->slab[k];
            double *score = &sum->scores[ch->first[i] + c];
            *score = (sum->batches == 0 ? 0 : *score) + product * product;
        }
    }
    sum->batches++;
}

static int32_t rate(const ar_rating *rating, double *scores) {
    const ar_compression *job = rating->job;
    const ar_prune_options *o = job->options;
    const ar_channels *ch = rating->channels;
    importance sum = {rating, scores, 0};
    int32_t status = job->gradients(job->model, job->calibration, o->images, o->batch, add, &sum);
    if (status < 0 || !rating->mean) return status;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        if (!ar_has_filters(node)) continue;
        const ar_parameter *weight = &ch->model->parameters[node->weight];
        for (int32_t cell = ch->first[i]; cell < ch->first[i + 1]; cell++)
            scores[cell] /= (double)(weight->count / weight->shape[0]);
    }
    return ADVROB_OK;
}

const ar_compressor ar_compressor_prune_taylor = {
    .name = "prune_taylor",
    .help = "removes the filters that change the loss of calibration images least",
    .options = &table,
    .needs_calibration = true,
    .rate = rate,
};
