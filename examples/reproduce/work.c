/* How much work a point is thought to be, in forward passes of the whole net; only for the time
 * that is shown as left. */
#include "reproduce.h"

#include <stdlib.h>
#include <string.h>

/* Of the strong attack, for an image: fooled ones need a few, robust ones all 1,400. */
#define STRONG_PASSES 400

double train_work(const job *j, const char *options, bool adversarial, int64_t images) {
    double passes = j->train_passes;
    if (adversarial) passes += 2 * option_number(j->settings->preset->attack, "steps", 20);
    return passes * option_number(options, "epochs", 1) * (double)images;
}

/* Scoring attacks only the images that are right when clean, and its steps are cheaper than those
 * in training: measured. */
double attack_work(const char *attack, int64_t images) {
    return (1 + 0.55 * 2 * option_number(attack, "steps", 20)) * (double)images;
}

/* Latencies, with one thread too. */
static double measure_work(const job *j) {
    double threads = advrob_context_threads(j->ctx);
    return (1 + 64) * (1 + threads) * (1 + j->settings->preset->latency_repeats);
}

static double strong_work(const job *j) {
    return STRONG_PASSES * (double)j->settings->preset->strong_images;
}

double score_work(const job *j, const point *p, bool strongly) {
    double work = attack_work(score_attack, j->settings->preset->test_images);
    if (strongly) work += strong_work(j);
    if (strcmp(p->compression, "quant") != 0) work += measure_work(j);
    return point_scale(p) * work;
}

/* A step of an attack is one pass of the engine and two of the simulation, for its gradient. The
 * check attacks three times by gradient, and by search. */
double integers_work(const job *j, const point *p) {
    const preset *set = j->settings->preset;
    double steps = option_number(set->check, "steps", 50);
    double check = 3 * 3 * steps + option_number(set->check, "queries", 1000);
    return point_scale(p) * (1.4 * attack_work(score_attack, set->integer_images) + strong_work(j) +
                             0.6 * check * (double)set->strong_images + measure_work(j));
}

double point_scale(const point *p) {
    if (strcmp(p->compression, "quant") == 0) return 1.15;
    if (strcmp(p->compression, "prune") != 0) return 1;
    double kept = 1 - atof(p->level);
    return 0.1 + 0.9 * kept * kept;
}

/* Whether the float net of points[index] was already asked for by an earlier unfinished point. */
static bool shared_before(const job *j, int32_t index) {
    const point *p = &j->plan.points[index];
    for (int32_t i = 0; i < index; i++) {
        const point *q = &j->plan.points[i];
        if (is_quantized_last(q) && q->base == p->base && q->seed == p->seed &&
            strcmp(q->finetune, p->finetune) == 0 && find_row(j->results, q) < 0) {
            return true;
        }
    }
    return false;
}

double point_work(const job *j, int32_t index) {
    const point *p = &j->plan.points[index];
    const preset *set = j->settings->preset;
    bool quantized = strcmp(p->compression, "quant") == 0;
    double work = score_work(j, p, !quantized);
    char name[128];
    if (quantized) work += integers_work(j, p);
    if (strcmp(p->compression, "none") == 0) {
        name_base(p->base, p->seed, name, sizeof name);
        if (step_done(j, name, NULL)) return work;
        return work + train_work(j, set->base[p->base], p->base == 1, set->base_images[p->base]);
    }
    if (strcmp(p->finetune, "none") == 0) return work;
    name_finetuned(p, name, sizeof name);
    if (step_done(j, name, NULL)) return work;
    double tuning =
        train_work(j, set->finetune, strcmp(p->finetune, "adversarial") == 0, set->finetune_images);
    if (!is_quantized_last(p)) return work + tuning * point_scale(p);
    return shared_before(j, index) ? work : work + tuning;
}
