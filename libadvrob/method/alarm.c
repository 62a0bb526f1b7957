/* The alarm at catastrophic overfitting: a net that is trained against a weak attack may learn to
 * fool that attack instead of withstanding it. Its accuracy under one big step (FGSM) then rises
 * while that under many small ones (PGD) falls to nothing, within a few hundred steps (Wong, Rice,
 * Kolter 2020, arXiv 2001.03994, section 5.4; Andriushchenko and Flammarion 2020, arXiv
 * 2007.02617, section 3). A run looks at both on a few training images now and then. */
#include <math.h>
#include <string.h>

#include "run.h"

/* Both must hold for the alarm to fire.
 *
 * Lost: the share of the best accuracy under PGD so far below which it counts as fallen. A run in
 * order wavers by a tenth or so on 64 images, and a collapse ends at zero: half lies between.
 * Gap: by how much FGSM exceeds PGD. In a sound net the two differ by less than 0.1 at the usual
 * radii; in a collapsed one by nearly the whole training accuracy. 0.3 is more than three standard
 * deviations of such a difference on 64 images. */
#define LOST 0.5
#define GAP 0.3

/* PGD's steps and the part of epsilon that is one step: enough to reach the ball's edge twice. */
#define STEPS 10
#define STEP 0.25

static int32_t create_fgsm(advrob_finetune *finetune, double epsilon, int64_t clip) {
    int32_t status = ADVROB_OK;
    advrob_options *o = NULL;
    AR_TRY(ar_options_part(NULL, "", &finetune->ctx->memory, &o));
    AR_TRY(ar_options_set_f64(o, "epsilon", epsilon));
    AR_TRY(ar_options_set_i64(o, "clip", clip));
    AR_TRY(ar_attack_create(finetune->ctx, "fgsm", o, &finetune->fgsm));
out:
    ar_options_destroy(o);
    return status;
}

static int32_t create_pgd(advrob_finetune *finetune, double epsilon, int64_t clip) {
    int32_t status = ADVROB_OK;
    advrob_options *o = NULL;
    AR_TRY(ar_options_part(NULL, "", &finetune->ctx->memory, &o));
    AR_TRY(ar_options_set_f64(o, "epsilon", epsilon));
    AR_TRY(ar_options_set_f64(o, "step", epsilon * STEP));
    AR_TRY(ar_options_set_i64(o, "steps", STEPS));
    AR_TRY(ar_options_set_i64(o, "random_start", 0));
    AR_TRY(ar_options_set_i64(o, "clip", clip));
    AR_TRY(ar_attack_create(finetune->ctx, "pgd", o, &finetune->pgd));
out:
    ar_options_destroy(o);
    return status;
}

int32_t ar_alarm_create(advrob_finetune *finetune) {
    int32_t status = ADVROB_OK;
    double epsilon;
    int64_t clip = 1;
    const advrob_attack *attack = finetune->attack;
    if (attack == NULL || strcmp(finetune->options.alarm, "off") == 0) return ADVROB_OK;
    if (!ar_attack_option(attack, "epsilon", ADVROB_TYPE_F64, &epsilon)) return ADVROB_OK;
    (void)ar_attack_option(attack, "clip", ADVROB_TYPE_I64, &clip);
    AR_TRY(create_fgsm(finetune, epsilon, clip));
    AR_TRY(create_pgd(finetune, epsilon, clip));
out:
    return status;
}

int32_t ar_alarm_allocate(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    void *block;
    if (t->finetune->pgd == NULL) return ADVROB_OK;
    int64_t count = t->options->alarm_images;
    if (count > t->train->count) count = t->train->count;
    AR_TRY(ar_arena_alloc(&t->arena, (size_t)count, sizeof(float) * (size_t)t->room.size,
                          "the alarm's images", &block));
    t->alarm_x = block;
    AR_TRY(ar_arena_alloc(&t->arena, (size_t)count, 2 * sizeof(int32_t), "the alarm's images",
                          &block));
    t->alarm_y = block;
    t->predictions = t->alarm_y + count;
    AR_TRY(ar_dataset_gather(t->train, 0, NULL, count, t->alarm_x, t->alarm_y));
    AR_TRY(ar_attack_rooms_create(t->finetune->pgd, t->target, count, &t->alarm_rooms));
    if (strcmp(t->options->alarm, "rollback") == 0) {
        AR_TRY(ar_arena_alloc(&t->arena, 1, t->slab_bytes, "weights", &block));
        t->silent = block;
        memcpy(t->silent, t->model->slab, t->slab_bytes);
    }
    t->alarm_count = count;
out:
    return status;
}

void ar_alarm_free(ar_tuning *t) {
    ar_attack_rooms_free(&t->alarm_rooms);
}

/* The share of the images that `attack` leaves right. */
static int32_t measure(ar_tuning *t, const advrob_attack *attack, double *accuracy) {
    int32_t status = ADVROB_OK;
    int64_t right = 0;
    ar_attack_call call = {
        .n = t->alarm_count, .x = t->alarm_x, .y = t->alarm_y, .predictions = t->predictions};
    AR_TRY(ar_attack_run(attack, t->target, &t->alarm_rooms, &call));
    for (int64_t i = 0; i < t->alarm_count; i++)
        right += t->predictions[i] == t->alarm_y[i];
    *accuracy = (double)right / (double)t->alarm_count;
out:
    return status;
}

/* Tells once a run; and ends it, or not. */
static int32_t fire(ar_tuning *t) {
    const char *what = t->options->alarm;
    char *sentence = t->history->alarm;
    if (sentence[0] == 0) {
        ar_format(sentence, sizeof t->history->alarm,
                  "catastrophic overfitting in epoch %lld, batch %lld: accuracy under FGSM %.3f, "
                  "under PGD %.3f (%.3f at best)",
                  (long long)t->counts.epoch + 1, (long long)t->counts.step - 1, t->sums.fgsm,
                  t->sums.pgd, t->sums.best_pgd);
        ar_log(t->ctx, ADVROB_LOG_WARNING, "%s", sentence);
    }
    if (strcmp(what, "warn") == 0) return ADVROB_OK;
    t->counts.ended = AR_ALARM;
    if (t->silent != NULL) ar_tuning_put_weights(t, t->silent);
    return ADVROB_OK;
}

static bool is_due(const ar_tuning *t) {
    const ar_tuning_counts *c = &t->counts;
    if (t->alarm_count == 0 || c->done == 0 || c->done == c->checked) return false;
    return c->done % t->options->alarm_steps == 0 || c->step == t->steps;
}

int32_t ar_alarm_check(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    double fgsm, pgd;
    ar_tuning_sums *sums = &t->sums;
    if (!is_due(t)) return ADVROB_OK;
    AR_TRY(measure(t, t->finetune->fgsm, &fgsm));
    AR_TRY(measure(t, t->finetune->pgd, &pgd));
    t->counts.checked = t->counts.done;
    sums->fgsm = fgsm;
    sums->pgd = pgd;
    if (pgd < LOST * sums->best_pgd && fgsm - pgd >= GAP)
        AR_TRY(fire(t));
    else if (t->silent != NULL)
        memcpy(t->silent, t->model->slab, t->slab_bytes);
    sums->best_pgd = fmax(sums->best_pgd, pgd);
out:
    return status;
}

void ar_alarm_roll_back(ar_tuning *t) {
    if (t->silent == NULL) return;
    memcpy(t->model->slab, t->silent, t->slab_bytes);
    ar_model_changed(t->model);
}
