/* Computes one point: base, compression, fine-tuning, scores, and its row in the results. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void begin_phase(job *j, const point *p, const char *task, double work) {
    char what[128], phase[160];
    describe_point(p, j->settings->repeats > 1, what, sizeof what);
    snprintf(phase, sizeof phase, "%s%s", what, task);
    progress_begin(&j->progress, j->number, j->plan.count, phase, work);
}

/* Options of a training: nothing is chosen by a score, and what a crash must not cost goes into
 * checkpoints. */
static int32_t training_options(const job *j, const char *name, bool adversarial,
                                const char *options, int64_t seed, advrob_options *o) {
    char path[4096];
    int32_t status = 0;
    checkpoint_path(j->settings, name, path, sizeof path);
    TRY(set_options(o, "", options));
    TRY(advrob_options_set_i64(o, "seed", seed));
    TRY(advrob_options_set_str(o, "keep", "last"));
    TRY(advrob_options_set_str(o, "checkpoint", path));
    if (adversarial) {
        TRY(set_options(o, "attack.", j->settings->preset->attack));
        TRY(set_ball(j->settings, o, "attack."));
        TRY(advrob_options_set_str(o, "alarm", "warn"));
    }
out:
    return status;
}

/* What the training cost in all, also before a stop. Energy is not known of an earlier process. */
static cost whole_cost(const advrob_history *h, cost measured, bool resumed) {
    cost sum = {0, 0, NAN};
    if (!resumed) return measured;
    if (h == NULL || advrob_history_rows(h) <= 0) {
        sum.seconds = measured.seconds;
        sum.cpu_seconds = measured.cpu_seconds;
        return sum;
    }
    for (int32_t row = 0; row < advrob_history_rows(h); row++) {
        double seconds = 0, cpu_seconds = 0;
        advrob_history_get(h, row, "seconds", &seconds);
        advrob_history_get(h, row, "cpu_seconds", &cpu_seconds);
        sum.seconds += seconds;
        sum.cpu_seconds += cpu_seconds;
    }
    return sum;
}

static void note_alarm(const advrob_history *h, step *s) {
    const char *text = "";
    if (advrob_history_get_str(h, "alarm", &text) != ADVROB_OK || *text == '\0') return;
    snprintf(s->note, sizeof s->note, "alarm: %.230s", text);
}

/* Trains `model` in place as step `name`, `how` "standard" or "adversarial", from where a stopped
 * run left it. A net whose training leaves the finite numbers (very few bits) keeps its last good
 * weights, and the row says so. */
static int32_t train(job *j, const char *name, const char *how, const char *options,
                     const advrob_dataset *images, int64_t seed, advrob_model *model, step *s) {
    bool adversarial = strcmp(how, "adversarial") == 0;
    bool resumed = has_checkpoint(j->settings, name);
    advrob_options *o = NULL;
    advrob_finetune *finetune = NULL;
    advrob_history *history = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(training_options(j, name, adversarial, options, seed, o));
    TRY(advrob_finetune_create(j->ctx, adversarial ? "pgd_at" : "standard", o, &finetune));
    if (resumed) progress_say(&j->progress, "going on with a training that was stopped");
    cost start = cost_begin(&j->meter);
    status = advrob_finetune_run(finetune, model, images, NULL, &history);
    if (status != 0 && status != ADVROB_E_NONFINITE) goto out;
    if (status == ADVROB_E_NONFINITE) {
        snprintf(s->note, sizeof s->note, "training ended early: %.200s", advrob_last_message());
    } else {
        note_alarm(history, s);
    }
    s->cost = whole_cost(history, cost_since(&j->meter, start), resumed);
    progress_end(&j->progress);
    if (s->note[0] != '\0') progress_say(&j->progress, "%s", s->note);
    TRY(history_keep(j, name, history));
    TRY(step_keep(j, name, model, s));
out:
    advrob_history_destroy(history);
    advrob_finetune_destroy(finetune);
    advrob_options_destroy(o);
    return status;
}

static int32_t train_base(job *j, const point *p, const char *name, advrob_model **out) {
    const preset *set = j->settings->preset;
    const char *options = set->base[p->base];
    int64_t images = set->base_images[p->base];
    advrob_dataset *part = NULL;
    step made = {.note = ""};
    int32_t status = 0;
    begin_phase(j, p, ": training of the base", train_work(j, options, p->base == 1, images));
    TRY(build_net(j, p->seed, out));
    TRY(advrob_dataset_slice(j->train, 0, images, &part));
    TRY(train(j, name, base_names[p->base], options, part, p->seed, *out, &made));
out:
    advrob_dataset_destroy(part);
    return status;
}

/* Makes j->base the point's base: the one at hand, from its file, or trained now. */
static int32_t get_base(job *j, const point *p) {
    char name[96];
    advrob_model *model = NULL;
    int32_t status = 0;
    name_base(p->base, p->seed, name, sizeof name);
    if (strcmp(name, j->base_name) == 0) return 0;
    if (step_done(j, name, NULL)) {
        TRY(load_model(j, name, &model));
    } else {
        TRY(train_base(j, p, name, &model));
    }
    advrob_model_destroy(j->base);
    j->base = model;
    model = NULL;
    snprintf(j->base_name, sizeof j->base_name, "%s", name);
out:
    advrob_model_destroy(model);
    return status;
}

static int32_t compress(job *j, const point *p, const advrob_model *model, advrob_model **out) {
    bool prune = strcmp(p->compression, "prune") == 0;
    advrob_options *o = NULL;
    advrob_compressor *compressor = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    if (prune) {
        TRY(advrob_options_set_text(o, "sparsity", p->level));
    } else {
        TRY(advrob_options_set_text(o, "weight_bits", p->level + strlen("int")));
        TRY(advrob_options_set_text(o, "activation_bits", p->level + strlen("int")));
        TRY(set_options(o, "", j->settings->preset->quantize));
    }
    TRY(advrob_compressor_create(j->ctx, prune ? "prune_l1" : "quant_ptq", o, &compressor));
    TRY(advrob_compressor_run(compressor, model, prune ? NULL : j->calibration, out));
out:
    advrob_compressor_destroy(compressor);
    advrob_options_destroy(o);
    return status;
}

/* Fine-tunes `model` in place. Both fine-tunings take the same images, order, epochs and optimizer.
 */
static int32_t finetune(job *j, const point *p, const char *name, double scale, advrob_model *model,
                        step *s) {
    const preset *set = j->settings->preset;
    bool adversarial = strcmp(p->finetune, "adversarial") == 0;
    begin_phase(j, p, "", scale * train_work(j, set->finetune, adversarial, set->finetune_images));
    return train(j, name, p->finetune, set->finetune, j->finetune_images, p->seed, model, s);
}

/* The fine-tuned net: from its file, or made now. Where quantization comes last, it is a float net:
 * one for all bit widths. */
static int32_t get_finetuned(job *j, const point *p, step *s, advrob_model **out) {
    char name[128];
    int32_t status = 0;
    name_finetuned(p, name, sizeof name);
    if (step_done(j, name, s)) return load_model(j, name, out);
    if (is_quantized_last(p)) {
        TRY(advrob_model_clone(j->base, out));
        TRY(finetune(j, p, name, 1, *out, s));
    } else {
        TRY(compress(j, p, j->base, out));
        TRY(finetune(j, p, name, point_scale(p), *out, s));
    }
out:
    return status;
}

static int32_t make_model(job *j, const point *p, step *s, advrob_model **out) {
    advrob_model *tuned = NULL;
    int32_t status = 0;
    TRY(get_base(j, p));
    if (strcmp(p->compression, "none") == 0) {
        TRY(advrob_model_clone(j->base, out));
    } else if (strcmp(p->finetune, "none") == 0) {
        TRY(compress(j, p, j->base, out));
    } else if (is_quantized_last(p)) {
        TRY(get_finetuned(j, p, s, &tuned));
        TRY(compress(j, p, tuned, out));
    } else {
        TRY(get_finetuned(j, p, s, out));
    }
out:
    advrob_model_destroy(tuned);
    return status;
}

/* Puts the accuracies into the one row of `score`. The strong attack is spent on what ships: on a
 * simulation only where there is no engine. */
static int32_t evaluate(job *j, const point *p, advrob_model *model, bool strongly,
                        advrob_report *score) {
    advrob_target *target = NULL;
    int32_t status = 0;
    begin_phase(j, p, ": scoring", score_work(j, p, strongly));
    TRY(advrob_target_from_model(model, &target));
    cost start = cost_begin(&j->meter);
    TRY(score_target(j, target, j->test, strongly, score));
    TRY(put_cost(score, "score_", cost_since(&j->meter, start)));
    progress_end(&j->progress);
out:
    advrob_target_destroy(target);
    return status;
}

int32_t describe_net(const advrob_model *model, const char *name, const char *execution,
                     advrob_report *score) {
    char digest[32] = DIGEST_PREFIX;
    int32_t status = 0;
    TRY(advrob_report_put_str(score, "execution", execution));
    TRY(advrob_report_put_i64(score, "parameters", advrob_model_parameter_total(model)));
    TRY(advrob_report_put_i64(score, "macs", advrob_model_macs(model)));
    TRY(advrob_model_digest(model, digest + strlen(digest), 17));
    TRY(advrob_report_put_str(score, "model_file", name));
    TRY(advrob_report_put_str(score, "model_digest", digest));
out:
    return status;
}

/* For a float net what it takes to run: a simulated one is no integer net yet. */
static int32_t measure(job *j, const char *name, advrob_model *model, bool simulated,
                       advrob_report *score) {
    const runner net = {.model = model};
    char path[4096];
    int32_t status = 0;
    TRY(describe_net(model, name, simulated ? "simulated" : "float", score));
    if (simulated) return 0;
    model_path(j->settings, name, path, sizeof path);
    TRY(measure_efficiency(j, path, &net, score));
out:
    return status;
}

/* The names of a point, and the costs of its trainings. */
static int32_t put_names(job *j, const point *p, const step *tuned, advrob_report *r) {
    char name[96];
    step base = {.note = ""};
    int32_t status = 0;
    TRY(advrob_report_put_str(r, "dataset", j->settings->dataset));
    TRY(advrob_report_put_str(r, "model", j->settings->model));
    TRY(advrob_report_put_str(r, "base", base_names[p->base]));
    TRY(advrob_report_put_str(r, "compression", p->compression));
    if (strcmp(p->compression, "prune") == 0) {
        TRY(advrob_report_put_f64(r, "level", atof(p->level)));
    } else {
        TRY(advrob_report_put_str(r, "level", p->level));
    }
    TRY(advrob_report_put_str(r, "order", p->order));
    TRY(advrob_report_put_str(r, "finetune", p->finetune));
    TRY(advrob_report_put_i64(r, "seed", p->seed));
    TRY(put_cost(r, "finetune_", tuned->cost));
    name_base(p->base, p->seed, name, sizeof name);
    if (step_done(j, name, &base)) TRY(put_cost(r, "base_", base.cost));
    if (strcmp(p->compression, "none") == 0) tuned = &base;
    if (tuned->note[0] != '\0') TRY(advrob_report_put_str(r, "note", tuned->note));
out:
    return status;
}

/* Adds a finished row to the results. */
static int32_t keep(job *j, const point *p, const step *tuned, const advrob_report *score) {
    static const char *const texts[] = {"execution", "model_file", "model_digest",
                                        "verdict",   "reasons",    "refused"};
    static const char *const wholes[] = {
        "test_images",  "parameters",      "macs",         "bytes",
        "memory_bytes", "latency_threads", "check_images", "autoattack_lite_images",
        "pgd20_images"};
    static const char *const numbers[] = {"clean_accuracy",
                                          "clean_low",
                                          "clean_high",
                                          "pgd20_accuracy",
                                          "pgd20_low",
                                          "pgd20_high",
                                          "autoattack_lite_accuracy",
                                          "autoattack_lite_low",
                                          "autoattack_lite_high",
                                          "latency_ms_batch1",
                                          "latency_ms_batch64",
                                          "latency_ms_batch1_threads1",
                                          "latency_ms_batch64_threads1",
                                          "check_fgsm_accuracy",
                                          "check_pgd_accuracy",
                                          "check_square_accuracy",
                                          "check_transfer_accuracy"};
    advrob_report *r = j->results;
    double value = 0;
    int32_t status = 0;
    TRY(advrob_report_add_row(r));
    TRY(put_names(j, p, tuned, r));
    TRY(put_cost(r, "score_", get_cost(score, 0, "score_")));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = text_cell(score, 0, texts[i]);
        if (*text != '\0') TRY(advrob_report_put_str(r, texts[i], text));
    }
    for (size_t i = 0; i < sizeof wholes / sizeof wholes[0]; i++) {
        if (advrob_report_get_f64(score, 0, wholes[i], &value) != ADVROB_OK) continue;
        TRY(advrob_report_put_i64(r, wholes[i], (int64_t)value));
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (advrob_report_get_f64(score, 0, numbers[i], &value) != ADVROB_OK) continue;
        TRY(advrob_report_put_f64(r, numbers[i], value));
    }
out:
    return status;
}

static void tell(job *j, const point *p, const advrob_report *score, const advrob_report *integers,
                 double seconds) {
    char what[128], left[32], shipped[64] = "";
    describe_point(p, j->settings->repeats > 1, what, sizeof what);
    progress_left(&j->progress, left, sizeof left);
    if (integers != NULL) {
        snprintf(shipped, sizeof shipped, "; in integers %.1f %%, %.1f %%",
                 100 * number_cell(integers, 0, "clean_accuracy", 0),
                 100 * number_cell(integers, 0, "pgd20_accuracy", 0));
    }
    progress_say(&j->progress, "%d/%d %s: clean %.1f %%, PGD-20 %.1f %%%s (%.0f s; %s left)",
                 j->number, j->plan.count, what, 100 * number_cell(score, 0, "clean_accuracy", 0),
                 100 * number_cell(score, 0, "pgd20_accuracy", 0), shipped, seconds, left);
}

/* Both rows of a quantized net are written at once: it is finished with both or with none. */
int32_t run_point(job *j, int32_t index) {
    const point *p = &j->plan.points[index];
    const bool quantized = strcmp(p->compression, "quant") == 0;
    step tuned = {.note = ""};
    char name[128], refused[512] = "";
    advrob_model *model = NULL;
    advrob_engine *engine = NULL;
    advrob_report *score = NULL, *integers = NULL;
    int32_t status = 0;
    double start = now();
    j->number = index + 1;
    name_point(p, name, sizeof name);
    TRY(make_model(j, p, &tuned, &model));
    TRY(save_model(j, name, model));
    if (quantized) TRY(lower_net(j, name, model, &engine, refused, sizeof refused));
    TRY(advrob_report_create(j->ctx, &score));
    TRY(evaluate(j, p, model, engine == NULL, score));
    TRY(measure(j, name, model, quantized, score));
    if (refused[0] != '\0') TRY(advrob_report_put_str(score, "refused", refused));
    if (engine != NULL) {
        TRY(advrob_report_create(j->ctx, &integers));
        TRY(score_integers(j, p, name, model, engine, integers));
    }
    TRY(classes_keep(j, name, score));
    TRY(keep(j, p, &tuned, score));
    if (integers != NULL) TRY(keep(j, p, &tuned, integers));
    TRY(write_results(j));
    tell(j, p, score, integers, now() - start);
out:
    advrob_report_destroy(integers);
    advrob_report_destroy(score);
    advrob_engine_destroy(engine);
    advrob_model_destroy(model);
    return status;
}
