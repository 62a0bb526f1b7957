/* Adversarial training (Madry et al. 2018, arXiv 1706.06083, equation 2.1): the inner maximum by
 * PGD, the outer minimum by the optimizer, on the adversarial images alone. */
#include "method.h"

static int32_t prepare(void *self, const ar_batch *batch, float *const *inputs) {
    ar_objective_room *room = self;
    char reason[AR_MESSAGE_SIZE];
    ar_attack_call call = {
        .n = batch->n, .x = batch->x, .y = batch->y, .ids = batch->ids, .adversarial = inputs[0]};
    int32_t status = ar_attack_run(room->attack, room->target, &room->attack_rooms, &call);
    if (status != ADVROB_E_RANGE && status != ADVROB_E_NONFINITE) return status;
    /* What is wrong with an image is told with its batch. */
    ar_copy_text(reason, sizeof reason, ar_message());
    return ar_error(status, "batch %lld of epoch %lld: %s", (long long)batch->step,
                    (long long)batch->epoch + 1, reason);
}

const ar_method ar_method_pgd_at = {
    .name = "pgd_at",
    .help = "adversarial training on PGD examples",
    .attack = "pgd",
    .branches = 1,
    .prepare = prepare,
    .loss = ar_method_mean_ce,
};
