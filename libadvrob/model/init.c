/* Initial parameters, and images of noise. */
#include <math.h>
#include <string.h>

#include "model.h"

typedef struct init_job {
    advrob_model *model;
    bool he;
    int64_t seed;
} init_job;

/* One parameter: its draws are its own. */
static int32_t init_piece(void *arg, int64_t piece, int32_t worker) {
    const init_job *job = arg;
    const ar_parameter *p = &job->model->parameters[piece];
    bool bias = p->rank == 1;
    double bound = 1 / sqrt(p->fan_in), deviation = sqrt(2.0 / p->fan_in);
    ar_rng rng;
    (void)worker;
    ar_rng_init(&rng, job->seed, AR_RNG_INIT, piece, 0, 0);
    for (int64_t k = 0; k < p->count; k++) {
        double value = 0;
        if (p->constant)
            value = (double)p->initial;
        else if (job->he && !bias)
            value = deviation * ar_rng_normal(&rng);
        else if (!job->he)
            value = bound * (2 * (double)ar_rng_uniform(&rng) - 1);
        job->model->slab[p->offset + k] = (ar_real)value;
    }
    return ADVROB_OK;
}

int32_t ar_model_initialise(advrob_model *model, const char *how, int64_t seed) {
    init_job job = {model, strcmp(how, "he") == 0, seed};
    int32_t status = ar_model_check_unfrozen(model);
    if (status < 0) return status;
    status = ar_parallel(model->ctx, model->parameter_count, init_piece, NULL, &job);
    ar_model_changed(model);
    return status;
}

void ar_model_noise(const advrob_model *model, int64_t n, float *x) {
    int64_t pixels = ar_shape_pixels(model->nodes[0].shape), channels = model->nodes[0].shape.c;
    ar_rng rng;
    ar_rng_init(&rng, 0, AR_RNG_SYNTHETIC, 0, 0, 0);
    for (int64_t i = 0; i < n * channels * pixels; i++) {
        int64_t c = i / pixels % channels;
        double range = model->high[c] - model->low[c];
        x[i] = (float)(model->low[c] + range * (double)ar_rng_uniform(&rng));
    }
}
