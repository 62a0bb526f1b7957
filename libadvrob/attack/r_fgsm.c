/* R+FGSM (Tramer et al. 2018, arXiv 1705.07204, section 3.4): alpha along the signs of normal
 * noise, then FGSM with what is left of epsilon. Of l-inf alone. */
#include <math.h>

#include "attack.h"

typedef struct r_fgsm_options {
    ar_attack_common common;
    double alpha;
    int64_t clip;
} r_fgsm_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_F64(r_fgsm_options, alpha, 0, 0, 1e6,
           "length of the random step, in pixels, at most epsilon; 0: a half of it"),
    AR_ATTACK_LOSS,
    AR_I64(r_fgsm_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(r_fgsm_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const r_fgsm_options *o = tile->attack->options;
    const double epsilon = o->common.epsilon;
    double alpha = o->alpha == 0 ? epsilon / 2 : fmin(o->alpha, epsilon);
    ar_pgd_settings settings = {.epsilon = epsilon,
                                .step = epsilon - alpha,
                                .start_radius = alpha,
                                .steps = 1,
                                .start = AR_START_SIGN,
                                .clip = o->clip != 0};
    return ar_pgd_tile(tile, &settings);
}

const ar_attack ar_attack_r_fgsm = {
    .name = "r_fgsm",
    .help = "FGSM behind a step of random signs",
    .options = &table,
    .needs_gradient = true,
    .tile = run,
};
