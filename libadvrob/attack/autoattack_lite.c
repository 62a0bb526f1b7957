/* A short AutoAttack, for runs that are made often: APGD on cross-entropy, targeted APGD on few
 * targets, few squares, whose sizes shrink within these few. It leaves FAB out. */
#include "attack.h"

typedef struct lite_options {
    ar_attack_common common;
    int64_t steps, targets, queries;
} lite_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_ATTACK_NORM,
    AR_I64(lite_options, steps, 50, 1, 1000000, "steps of each run of APGD"),
    AR_I64(lite_options, targets, 0, 0, 100000,
           "classes that targeted APGD aims at; 0: 3, or all there are"),
    AR_I64(lite_options, queries, 1000, 0, 100000000, "squares that are tried"),
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(lite_options, entries);

static int32_t members(const void *options, int32_t classes, ar_attack_list *list) {
    int32_t status = ADVROB_OK;
    const lite_options *o = options;
    char text[96];
    int32_t targets;
    AR_TRY(ar_attack_aims("autoattack_lite", o->targets, 3, classes, &targets));
    ar_format(text, sizeof text, "loss=ce steps=%lld", (long long)o->steps);
    AR_TRY(ar_attack_list_add(list, "apgd", text));
    ar_format(text, sizeof text, "steps=%lld targets=%d", (long long)o->steps, targets);
    AR_TRY(ar_attack_list_add(list, "apgd_t", text));
    ar_format(text, sizeof text, "queries=%lld rescale=1", (long long)o->queries);
    AR_TRY(ar_attack_list_add(list, "square", text));
out:
    return status;
}

const ar_attack ar_attack_autoattack_lite = {
    .name = "autoattack_lite",
    .help = "a short AutoAttack: APGD, targeted APGD, Square",
    .options = &table,
    .needs_gradient = true,
    .loss = "margin",
    .members = members,
};
