/* FGSM (Goodfellow et al. 2015, arXiv 1412.6572, section 4): one step of size epsilon, signed, or
 * in l2 along the gradient. The same bits as PGD with one step. */
#include "attack.h"

typedef struct fgsm_options {
    ar_attack_common common;
    int64_t clip;
} fgsm_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,  AR_ATTACK_LOSS,
    AR_ATTACK_NORM,     AR_I64(fgsm_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_ATTACK_TARGETED, AR_ATTACK_EOT,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(fgsm_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const fgsm_options *o = tile->attack->options;
    ar_pgd_settings settings = {
        .epsilon = o->common.epsilon, .step = o->common.epsilon, .steps = 1, .clip = o->clip != 0};
    return ar_pgd_tile(tile, &settings);
}

const ar_attack ar_attack_fgsm = {
    .name = "fgsm",
    .help = "fast gradient sign method: one step",
    .options = &table,
    .needs_gradient = true,
    .tile = run,
};
