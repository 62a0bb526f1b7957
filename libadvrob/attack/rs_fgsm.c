/* RS-FGSM (Wong, Rice and Kolter 2020, arXiv 2001.03994, algorithm 3): one step of 1.25 epsilon
 * from a uniform start, back into the ball. */
#include "attack.h"

typedef struct rs_fgsm_options {
    ar_attack_common common;
    double step;
    int64_t clip;
} rs_fgsm_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_F64(rs_fgsm_options, step, 0, 0, 1e6, "step size, in pixels; 0: 1.25 epsilon"),
    AR_ATTACK_LOSS,
    AR_ATTACK_NORM,
    AR_I64(rs_fgsm_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(rs_fgsm_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const rs_fgsm_options *o = tile->attack->options;
    ar_pgd_settings settings = {.epsilon = o->common.epsilon,
                                .step = o->step == 0 ? 1.25 * o->common.epsilon : o->step,
                                .steps = 1,
                                .start = AR_START_UNIFORM,
                                .clip = o->clip != 0};
    return ar_pgd_tile(tile, &settings);
}

const ar_attack ar_attack_rs_fgsm = {
    .name = "rs_fgsm",
    .help = "FGSM from a random start",
    .options = &table,
    .needs_gradient = true,
    .tile = run,
};
