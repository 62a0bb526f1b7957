/* FGSM (Goodfellow et al. 2015, arXiv 1412.6572, section 4): one signed step of size epsilon. The
 * same bits as PGD with one step. */
#include "attack.h"

typedef struct fgsm_options {
    double epsilon;
    int64_t clip;
    const char *loss;
} fgsm_options;

static const ar_option entries[] = {
    AR_F64(fgsm_options, epsilon, 8.0 / 255, 0, 1e6, "step size and radius, in pixels"),
    AR_STR(fgsm_options, loss, "ce", "ce|margin", "loss that is raised"),
    AR_I64(fgsm_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
};
static const ar_option_table table = AR_TABLE(fgsm_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const fgsm_options *o = tile->attack->options;
    ar_pgd_settings settings = {
        .epsilon = o->epsilon, .step = o->epsilon, .steps = 1, .restarts = 1, .clip = o->clip != 0};
    return ar_pgd_tile(tile, &settings);
}

static const char *loss(const void *options) {
    return ((const fgsm_options *)options)->loss;
}

const ar_attack ar_attack_fgsm = {
    .name = "fgsm",
    .help = "fast gradient sign method: one step",
    .options = &table,
    .needs_gradient = true,
    .loss = loss,
    .tile = run,
};
