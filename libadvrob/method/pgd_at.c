/* Adversarial training (Madry et al. 2018, arXiv 1706.06083, equation 2.1): the inner maximum by PGD, the
 * outer minimum by the optimizer, on the adversarial images alone. */
#include "method.h"

static int32_t prepare(void *self, const ar_batch *batch, float *const *inputs) {
    const ar_objective_room *room = self;
    return ar_attack_run(room->attack, room->target, NULL, batch->n, batch->x, batch->y,
                         batch->ids, inputs[0], NULL, NULL);
}

const ar_method ar_method_pgd_at = {
    .name = "pgd_at",
    .help = "adversarial training on PGD examples",
    .attack = "pgd",
    .branches = 1,
    .prepare = prepare,
    .loss = ar_method_mean_ce,
};
