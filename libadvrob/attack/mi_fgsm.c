/* MI-FGSM (Dong et al. 2018, arXiv 1710.06081, algorithm 1): signed steps along a momentum of
 * gradients, each divided by its own l1 norm. */
#include "attack.h"

typedef struct mi_fgsm_options {
    ar_attack_common common;
    double step, mu;
    int64_t steps, clip, early_stop;
} mi_fgsm_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_F64(mi_fgsm_options, step, 0, 0, 1e6, "step size, in pixels; 0: epsilon / steps"),
    AR_I64(mi_fgsm_options, steps, 10, 1, 1000000, "gradient steps"),
    AR_F64(mi_fgsm_options, mu, 1, 0, 1e6, "what is kept of the momentum at each step"),
    AR_ATTACK_LOSS,
    AR_ATTACK_NORM,
    AR_I64(mi_fgsm_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_I64(mi_fgsm_options, early_stop, 0, 0, 1, "stop a sample once it is fooled"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(mi_fgsm_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const mi_fgsm_options *o = tile->attack->options;
    ar_pgd_settings settings = {.epsilon = o->common.epsilon,
                                .step = o->step,
                                .momentum = o->mu,
                                .steps = o->steps,
                                .clip = o->clip != 0,
                                .early_stop = o->early_stop != 0};
    if (o->step == 0) settings.step = o->common.epsilon / (double)o->steps;
    return ar_pgd_tile(tile, &settings);
}

/* The momentum. */
static size_t state(const void *options, const advrob_target *target) {
    (void)options;
    return ((size_t)ar_shape_count(target->shape) * sizeof(float) + 7) / 8 * 8;
}

const ar_attack ar_attack_mi_fgsm = {
    .name = "mi_fgsm",
    .help = "iterative FGSM with momentum",
    .options = &table,
    .needs_gradient = true,
    .state = state,
    .tile = run,
};
