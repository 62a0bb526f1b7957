/* Initial parameters. */
#include <math.h>
#include <string.h>

#include "model.h"

int32_t ar_model_initialise(advrob_model *model, const char *how, int64_t seed) {
    bool he = strcmp(how, "he") == 0;
    int32_t status = ar_model_check_unfrozen(model);
    if (status < 0) return status;
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        bool bias = p->rank == 1;
        double bound = 1 / sqrt(p->fan_in), deviation = sqrt(2.0 / p->fan_in);
        ar_rng rng;
        ar_rng_init(&rng, seed, AR_RNG_INIT, i, 0, 0);
        for (int64_t k = 0; k < p->count; k++) {
            double value = 0;
            if (p->constant)
                value = (double)p->initial;
            else if (he && !bias)
                value = deviation * ar_rng_normal(&rng);
            else if (!he)
                value = bound * (2 * (double)ar_rng_uniform(&rng) - 1);
            model->slab[p->offset + k] = (ar_real)value;
        }
    }
    ar_model_changed(model);
    return ADVROB_OK;
}
