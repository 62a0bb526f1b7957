/* curves.csv: accuracy under PGD-20 for several epsilons, of a few chosen nets on the first test
 * images. The step is a tenth of epsilon, so that twenty steps reach the border from anywhere. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The nets: both bases, and the pruned standard net after each fine-tuning. */
static void choose(const job *j, const point *nets[MAX_CURVES], int32_t *count) {
    const point *candidates[MAX_CURVES] = {
        choose_point(&j->plan, 0, "none", "none", "none"),
        choose_pruned(&j->plan, "standard"),
        choose_pruned(&j->plan, "adversarial"),
        choose_point(&j->plan, 1, "none", "none", "none"),
    };
    *count = 0;
    for (int32_t i = 0; i < MAX_CURVES; i++) {
        if (candidates[i] != NULL) nets[(*count)++] = candidates[i];
    }
}

bool curve_done(const job *j, const char *name) {
    for (int32_t row = 0; row < advrob_report_rows(j->curves); row++) {
        if (strcmp(text_cell(j->curves, row, "net"), name) == 0) return true;
    }
    return false;
}

static int32_t epsilons_of(const settings *s, double *values) {
    int32_t n = 0;
    char *end = NULL;
    for (const char *at = s->preset->epsilons; n < MAX_EPSILONS; at = end) {
        double value = read_number(at, &end);
        if (end == at) break;
        values[n++] = value;
    }
    return n;
}

/* All epsilons in one evaluation; their accuracies get the labels e0, e1, ... */
static int32_t evaluate(job *j, const advrob_dataset *images, const char *name, int32_t n,
                        const double *epsilons, advrob_report *score) {
    advrob_options *o = NULL, *attack = NULL;
    advrob_model *model = NULL;
    advrob_target *target = NULL;
    char labels[8 * MAX_EPSILONS] = "";
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    for (int32_t i = 0; i < n; i++) {
        size_t used = strlen(labels);
        snprintf(labels + used, sizeof labels - used, "%se%d", i == 0 ? "" : ",", i);
        advrob_options_destroy(attack);
        attack = NULL;
        TRY(advrob_options_create(&attack));
        TRY(set_options(attack, "", score_attack));
        TRY(set_ball(j->settings, attack, ""));
        TRY(advrob_options_set_f64(attack, "epsilon", epsilons[i]));
        TRY(advrob_options_set_f64(attack, "step", epsilons[i] / 10));
        TRY(advrob_options_append(o, "attacks", "pgd", attack));
    }
    TRY(advrob_options_set_str(o, "labels", labels));
    TRY(advrob_options_set_i64(o, "batch_size", 50));
    TRY(load_model(j, name, &model));
    TRY(advrob_target_from_model(model, &target));
    TRY(advrob_report_add_row(score));
    TRY(advrob_report_evaluate(score, target, images, o));
out:
    advrob_target_destroy(target);
    advrob_model_destroy(model);
    advrob_options_destroy(attack);
    advrob_options_destroy(o);
    return status;
}

static int32_t keep(job *j, const char *name, double epsilon, const char *label,
                    const advrob_report *score) {
    static const char *const suffixes[] = {"accuracy", "low", "high"};
    int32_t status = 0;
    char column[32];
    TRY(advrob_report_add_row(j->curves));
    TRY(advrob_report_put_str(j->curves, "net", name));
    TRY(advrob_report_put_f64(j->curves, "epsilon", epsilon));
    TRY(advrob_report_put_f64(j->curves, "images", number_cell(score, 0, "test_images", 0)));
    for (int32_t i = 0; i < 3; i++) {
        snprintf(column, sizeof column, "%s_%s", label, suffixes[i]);
        TRY(advrob_report_put_f64(j->curves, suffixes[i], number_cell(score, 0, column, NAN)));
    }
out:
    return status;
}

static int32_t run_curve(job *j, const advrob_dataset *images, const point *p) {
    advrob_report *score = NULL;
    double epsilons[MAX_EPSILONS];
    int32_t n = epsilons_of(j->settings, epsilons), status = 0;
    char name[128], what[128], phase[160], label[16];
    name_point(p, name, sizeof name);
    if (curve_done(j, name)) return 0;
    describe_point(p, false, what, sizeof what);
    snprintf(phase, sizeof phase, "%s: accuracy against epsilon", what);
    progress_begin(&j->progress, j->plan.count, j->plan.count, phase, curve_work(j, p));
    TRY(advrob_report_create(j->ctx, &score));
    TRY(evaluate(j, images, name, n, epsilons, score));
    TRY(keep(j, name, 0, "clean", score));
    for (int32_t i = 0; i < n; i++) {
        snprintf(label, sizeof label, "e%d", i);
        TRY(keep(j, name, epsilons[i], label, score));
    }
    TRY(write_report(j, j->curves, "curves.csv"));
    progress_end(&j->progress);
out:
    advrob_report_destroy(score);
    return status;
}

double curve_work(const job *j, const point *p) {
    double epsilons[MAX_EPSILONS];
    return epsilons_of(j->settings, epsilons) * point_scale(p) *
           attack_work(score_attack, j->settings->preset->curve_images);
}

double curves_work(const job *j) {
    const point *nets[MAX_CURVES];
    int32_t count = 0;
    double work = 0;
    char name[128];
    choose(j, nets, &count);
    for (int32_t i = 0; i < count; i++) {
        name_point(nets[i], name, sizeof name);
        if (!curve_done(j, name)) work += curve_work(j, nets[i]);
    }
    return work;
}

int32_t run_curves(job *j) {
    const point *nets[MAX_CURVES];
    int32_t count = 0, status = 0;
    advrob_dataset *images = NULL;
    choose(j, nets, &count);
    TRY(advrob_dataset_slice(j->test, 0, j->settings->preset->curve_images, &images));
    for (int32_t i = 0; i < count; i++) {
        TRY(run_curve(j, images, nets[i]));
    }
out:
    advrob_dataset_destroy(images);
    return status;
}
