/* BIM, the basic iterative method (Kurakin, Goodfellow and Bengio 2017, arXiv 1607.02533, section
 * 2.2): PGD that starts at the image itself. */
#include "attack.h"

typedef struct bim_options {
    ar_attack_common common;
    double step;
    int64_t steps, clip, early_stop;
} bim_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_F64(bim_options, step, 0, 0, 1e6, "step size, in pixels; 0: 2 epsilon / steps"),
    AR_I64(bim_options, steps, 10, 1, 1000000, "gradient steps"),
    AR_ATTACK_LOSS,
    AR_ATTACK_NORM,
    AR_I64(bim_options, clip, 1, 0, 1, "stay within the box of valid pixels"),
    AR_I64(bim_options, early_stop, 0, 0, 1, "stop a sample once it is fooled"),
    AR_ATTACK_TARGETED,
    AR_ATTACK_EOT,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(bim_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    const bim_options *o = tile->attack->options;
    ar_pgd_settings settings = {.epsilon = o->common.epsilon,
                                .step = o->step,
                                .steps = o->steps,
                                .clip = o->clip != 0,
                                .early_stop = o->early_stop != 0};
    if (o->step == 0) settings.step = 2 * o->common.epsilon / (double)o->steps;
    return ar_pgd_tile(tile, &settings);
}

const ar_attack ar_attack_bim = {
    .name = "bim",
    .help = "basic iterative method: PGD from the image itself",
    .options = &table,
    .needs_gradient = true,
    .tile = run,
};
