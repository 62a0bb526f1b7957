/* Standard training: the mean cross entropy on clean images. */
#include <string.h>

#include "method.h"

static int32_t prepare(void *self, const ar_batch *batch, float *const *inputs) {
    const ar_objective_room *room = self;
    memcpy(inputs[0], batch->x, sizeof(float) * (size_t)(batch->n * room->size));
    return ADVROB_OK;
}

const ar_method ar_method_standard = {
    .name = "standard",
    .help = "training on clean images",
    .branches = 1,
    .prepare = prepare,
    .loss = ar_method_mean_ce,
};
