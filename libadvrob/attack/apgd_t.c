/* Targeted APGD (Croce and Hein 2020, arXiv 2003.01690, section 5): one run for each of the classes
 * that the image resembles most, on the targeted DLR loss. Any wrong answer counts, whatever the
 * run aims at. */
#include "attack.h"

typedef struct apgd_t_options {
    ar_attack_common common;
    double rho;
    int64_t steps, random_start, targets;
} apgd_t_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_I64(apgd_t_options, steps, 100, 1, 1000000, "gradient steps towards a class"),
    AR_I64(apgd_t_options, targets, 0, 0, 1000000,
           "classes, those of the largest logits first; 0: 9, or all there are"),
    AR_I64(apgd_t_options, random_start, 1, 0, 1, "start at a random point of the sphere"),
    AR_F64(apgd_t_options, rho, 0.75, 0, 1, "share of steps that must raise the loss"),
    AR_ATTACK_NORM,
    AR_ATTACK_EOT,
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(apgd_t_options, entries);

static int32_t run(const ar_attack_tile *tile) {
    int32_t status = ADVROB_OK;
    const apgd_t_options *o = tile->attack->options;
    ar_apgd_settings settings = {.loss = tile->attack->loss,
                                 .epsilon = o->common.epsilon,
                                 .rho = o->rho,
                                 .steps = o->steps,
                                 .random_start = o->random_start != 0,
                                 .early_stop = true};
    int32_t live = ar_attack_fill(tile, true);
    AR_TRY(ar_apgd_look(tile, tile->run, &live));
    AR_TRY(ar_apgd_tile(tile, &settings, live));
out:
    return status;
}

static size_t state_size(const void *options, const advrob_target *target) {
    (void)options;
    return ar_apgd_state_size(target);
}

static int32_t runs(const void *options, int32_t classes, int32_t *count) {
    return ar_attack_aims("apgd_t", ((const apgd_t_options *)options)->targets, 9, classes, count);
}

const ar_attack ar_attack_apgd_t = {
    .name = "apgd_t",
    .help = "auto-PGD towards each of the nearest classes",
    .options = &table,
    .needs_gradient = true,
    .loss = "dlr",
    .runs = runs,
    .state = state_size,
    .tile = run,
};
