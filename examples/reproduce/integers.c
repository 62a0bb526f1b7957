/* A quantized net as it ships: lowered to integers, scored, measured, and checked for gradients
 * that its rounding may hide. Its row stands behind that of the simulation. */
#include "reproduce.h"

#include <stdio.h>
#include <string.h>

static int32_t save_engine(job *j, const char *name, const advrob_engine *engine) {
    char path[4096];
    engine_path(j->settings, name, path, sizeof path);
    int32_t status = advrob_engine_save(engine, path);
    if (status != ADVROB_E_CANCELLED) return status;
    advrob_context_rearm(j->ctx);
    return advrob_engine_save(engine, path);
}

int32_t lower_net(job *j, const char *name, advrob_model *model, advrob_engine **out, char *refused,
                  size_t size) {
    int32_t status = advrob_engine_create(model, NULL, out);
    if (status == ADVROB_E_UNSUPPORTED || status == ADVROB_E_RANGE) {
        snprintf(refused, size, "%s", advrob_last_message());
        return 0;
    }
    if (status != 0) return status;
    return save_engine(j, name, *out);
}

/* The net whose images are tried too: the float net that was quantized; of one that was fine-tuned
 * through the quantizer, which has no such net, the base. */
static int32_t load_source(job *j, const point *p, advrob_model **out) {
    char name[128];
    point base = {p->base, "none", "none", "none", "none", p->seed};
    if (is_quantized_last(p)) {
        name_finetuned(p, name, sizeof name);
    } else {
        name_point(&base, name, sizeof name);
    }
    return load_model(j, name, out);
}

/* Can the accuracies be believed? On the images of the strong attack. */
static int32_t check(job *j, const point *p, advrob_target *target, advrob_report *score) {
    advrob_options *o = NULL;
    advrob_model *model = NULL;
    advrob_target *source = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", j->settings->preset->check));
    TRY(advrob_options_set_f64(o, "epsilon", epsilon_of(j->settings)));
    TRY(load_source(j, p, &model));
    TRY(advrob_target_from_model(model, &source));
    TRY(advrob_target_set_source(target, source));
    TRY(advrob_report_check(score, target, j->strong, o));
out:
    advrob_target_destroy(source);
    advrob_model_destroy(model);
    advrob_options_destroy(o);
    return status;
}

int32_t score_integers(job *j, const point *p, const char *name, advrob_model *model,
                       advrob_engine *engine, advrob_report *score) {
    const runner net = {.engine = engine};
    advrob_target *target = NULL;
    advrob_dataset *attacked = NULL;
    char path[4096];
    int32_t status = 0;
    begin_phase(j, p, ": scoring in integers", integers_work(j, p));
    TRY(advrob_dataset_slice(j->test, 0, j->settings->preset->integer_images, &attacked));
    TRY(advrob_target_from_engine(engine, model, &target));
    cost start = cost_begin(&j->meter);
    TRY(score_target(j, target, attacked, true, score));
    TRY(check(j, p, target, score));
    TRY(put_cost(score, "score_", cost_since(&j->meter, start)));
    TRY(describe_net(model, name, "integer", score));
    engine_path(j->settings, name, path, sizeof path);
    TRY(measure_efficiency(j, path, &net, score));
    progress_end(&j->progress);
out:
    advrob_target_destroy(target);
    advrob_dataset_destroy(attacked);
    return status;
}
