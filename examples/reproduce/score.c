/* Scores a net, float, simulated or in integers: clean accuracy, PGD-20, and on fewer images the
 * attack that overstates least. */
#include "reproduce.h"

#include <stdio.h>

/* One attack with its options on other images than the row's. Puts <label>_accuracy, _low, _high.
 */
static int32_t score_part(job *j, advrob_target *target, const advrob_dataset *images,
                          const char *attack, const advrob_options *options, const char *label,
                          advrob_report *score) {
    static const char *const parts[] = {"accuracy", "low", "high"};
    advrob_options *o = NULL;
    advrob_report *part = NULL;
    char column[64];
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_append(o, "attacks", attack, options));
    TRY(advrob_options_set_str(o, "labels", label));
    TRY(advrob_options_set_i64(o, "batch_size", 256)); /* how often progress is told */
    TRY(advrob_report_create(j->ctx, &part));
    TRY(advrob_report_add_row(part));
    TRY(advrob_report_evaluate(part, target, images, o));
    for (int32_t i = 0; i < 3; i++) {
        snprintf(column, sizeof column, "%s_%s", label, parts[i]);
        TRY(advrob_report_put_f64(score, column, number_cell(part, 0, column, 0)));
    }
out:
    advrob_report_destroy(part);
    advrob_options_destroy(o);
    return status;
}

/* Within the box of pixels under either protocol. */
static int32_t score_strongly(job *j, advrob_target *target, advrob_report *score) {
    advrob_options *attack = NULL;
    char column[64];
    int32_t status = 0;
    TRY(advrob_options_create(&attack));
    TRY(set_options(attack, "", j->settings->preset->strong));
    TRY(advrob_options_set_f64(attack, "epsilon", epsilon_of(j->settings)));
    TRY(score_part(j, target, j->strong, strong_attack, attack, strong_attack, score));
    snprintf(column, sizeof column, "%s_images", strong_attack);
    TRY(advrob_report_put_i64(score, column, advrob_dataset_count(j->strong)));
out:
    advrob_options_destroy(attack);
    return status;
}

int32_t score_target(job *j, advrob_target *target, const advrob_dataset *attacked, bool strongly,
                     advrob_report *score) {
    advrob_options *o = NULL, *attack = NULL;
    bool all = attacked == j->test;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_create(&attack));
    TRY(set_options(attack, "", score_attack));
    TRY(set_ball(j->settings, attack, ""));
    if (all) TRY(advrob_options_append(o, "attacks", "pgd", attack));
    if (all) TRY(advrob_options_set_str(o, "labels", "pgd20"));
    TRY(advrob_options_set_i64(o, "batch_size", 256));
    TRY(advrob_options_set_i64(o, "per_class", 1));
    TRY(advrob_report_add_row(score));
    TRY(advrob_report_evaluate(score, target, j->test, o));
    if (!all) TRY(score_part(j, target, attacked, "pgd", attack, "pgd20", score));
    TRY(advrob_report_put_i64(score, "pgd20_images", advrob_dataset_count(attacked)));
    if (strongly) TRY(score_strongly(j, target, score));
out:
    advrob_options_destroy(attack);
    advrob_options_destroy(o);
    return status;
}
