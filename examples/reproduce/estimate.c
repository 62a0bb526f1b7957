/* What the run is thought to take: the work of its points (work.c) at the speed that short
 * trainings show on this machine: an adversarial one that of a pass in an attack, a standard one
 * what a training step is in such passes (3 would be fair, but batch norms and updates cost as
 * well). */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A large net is timed on fewer images, and less often: an estimate shall take seconds. */
enum { PROBED = 128, PROBED_LARGE = 32, PROBES = 4 };
static const double large_macs = 1e8, enough_seconds = 5;

/* Seconds of `count` images on a net of its own. */
static int32_t time_training(job *j, bool adversarial, int64_t *count, double *seconds) {
    const preset *set = j->settings->preset;
    advrob_options *o = NULL;
    advrob_model *model = NULL;
    advrob_dataset *part = NULL;
    advrob_finetune *finetune = NULL;
    int32_t status = 0;
    TRY(build_net(j, j->settings->seed, &model));
    *count = (double)advrob_model_macs(model) > large_macs ? PROBED_LARGE : PROBED;
    if (*count > advrob_dataset_count(j->train)) *count = advrob_dataset_count(j->train);
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", "epochs=1 batch_size=64 lr=0.001"));
    if (adversarial) {
        TRY(set_options(o, "", "alarm=off"));
        TRY(set_options(o, "attack.", set->attack));
        TRY(set_ball(j->settings, o, "attack."));
    }
    TRY(advrob_finetune_create(j->ctx, adversarial ? "pgd_at" : "standard", o, &finetune));
    TRY(advrob_dataset_slice(j->train, 0, *count, &part));
    double start = now();
    TRY(advrob_finetune_run(finetune, model, part, NULL, NULL));
    *seconds = now() - start;
out:
    advrob_finetune_destroy(finetune);
    advrob_dataset_destroy(part);
    advrob_model_destroy(model);
    advrob_options_destroy(o);
    return status;
}

/* Seconds of a pass in an attack, and what a training step is in such passes. */
static int32_t measure_speed(job *j, double *pass) {
    double least[2] = {INFINITY, INFINITY}, seconds = 0, start = now();
    double steps = option_number(j->settings->preset->attack, "steps", 20);
    int64_t count = 0;
    int32_t status = 0;
    for (int32_t i = 0; i < PROBES && (i == 0 || now() - start < enough_seconds); i++) {
        /* the first warms up; others may be at work beside us */
        for (int32_t k = 0; k < 2; k++) {
            TRY(time_training(j, k == 1, &count, &seconds));
            least[k] = fmin(least[k], seconds);
        }
    }
    *pass = (least[1] - least[0]) / (2 * steps * (double)count);
    if (*pass > 0) j->train_passes = fmin(fmax(least[0] / (double)count / *pass, 3), 20);
    *pass = least[1] / (double)count / (j->train_passes + 2 * steps);
    j->progress.work_known = least[1] / *pass;
    j->progress.seconds_known = least[1];
out:
    return status;
}

void name_duration(double seconds, char *text, size_t size) {
    if (seconds < 9.95) {
        snprintf(text, size, "%.2g s", seconds);
    } else if (seconds < 90) {
        snprintf(text, size, "%.0f s", seconds);
    } else if (seconds < 90 * 60) {
        snprintf(text, size, "%.0f min", seconds / 60);
    } else if (seconds < 48 * 3600) {
        snprintf(text, size, "%.1f h", seconds / 3600);
    } else {
        snprintf(text, size, "%.1f days", seconds / 86400);
    }
}

/* Sets the work that is left, and says what it is thought to take. */
int32_t estimate(job *j) {
    double work = curves_work(j) + transfer_work(j), pass = 0;
    char duration[32];
    int32_t left = 0, status = 0;
    for (int32_t i = 0; i < j->plan.count; i++)
        left += find_row(j->results, &j->plan.points[i]) < 0;
    if (left == 0 && work <= 0) return 0;
    TRY(measure_speed(j, &pass));
    for (int32_t i = 0; i < j->plan.count; i++) {
        if (find_row(j->results, &j->plan.points[i]) < 0) work += point_work(j, i);
    }
    j->progress.work_left = work;
    name_duration(fmax(1, round(work * pass)), duration, sizeof duration);
    progress_say(&j->progress, "%d point%s, about %s on this machine (estimate)", left,
                 left == 1 ? "" : "s", duration);
out:
    return status;
}
