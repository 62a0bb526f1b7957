/* Computes one point: base, compression, fine-tuning, scores, and its row in the results. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The figures of a point beside those that its net gives. */
typedef struct figures {
    double finetune_seconds;
    char note[256];
} figures;

static void begin(job *j, const point *p, const char *task, double work) {
    char what[128], phase[160];
    describe_point(p, j->settings->repeats > 1, what, sizeof what);
    snprintf(phase, sizeof phase, "%s%s", what, task);
    progress_begin(&j->progress, j->number, j->plan.count, phase, work);
}

/* Trains `model` in place, `how` "standard" or "adversarial". */
static int32_t train(job *j, advrob_model *model, const char *how, const char *options,
                     const advrob_dataset *images, int64_t seed, double *seconds) {
    bool adversarial = strcmp(how, "adversarial") == 0;
    advrob_options *o = NULL;
    advrob_finetune *finetune = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", options));
    TRY(advrob_options_set_i64(o, "seed", seed));
    TRY(advrob_options_set_str(o, "keep", "last")); /* nothing is chosen by a score */
    if (adversarial) {
        TRY(set_options(o, "attack.", j->settings->preset->attack));
        TRY(set_ball(j->settings, o, "attack."));
    }
    TRY(advrob_finetune_create(j->ctx, adversarial ? "pgd_at" : "standard", o, &finetune));
    double start = now();
    TRY(advrob_finetune_run(finetune, model, images, NULL, NULL));
    *seconds = now() - start;
    progress_end(&j->progress);
out:
    advrob_finetune_destroy(finetune);
    advrob_options_destroy(o);
    return status;
}

static int32_t train_base(job *j, const point *p, const char *name, advrob_model **out) {
    const preset *set = j->settings->preset;
    const char *options = set->base[p->base];
    int64_t images = set->base_images[p->base];
    advrob_options *o = NULL;
    advrob_dataset *part = NULL;
    double seconds = 0;
    int32_t status = 0;
    begin(j, p, ": training of the base", train_work(j, options, p->base == 1, images));
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", set->model));
    TRY(advrob_options_set_i64(o, "seed", p->seed));
    TRY(advrob_model_build(j->ctx, "eight_layer_conv", o, out));
    TRY(advrob_dataset_slice(j->train, 0, images, &part));
    TRY(train(j, *out, base_names[p->base], options, part, p->seed, &seconds));
    TRY(step_keep(j, name, *out, seconds));
out:
    advrob_dataset_destroy(part);
    advrob_options_destroy(o);
    return status;
}

/* Makes j->base the point's base: the one at hand, from its file, or trained now. */
static int32_t get_base(job *j, const point *p) {
    char name[96];
    double seconds = 0;
    advrob_model *model = NULL;
    int32_t status = 0;
    name_base(p->base, p->seed, name, sizeof name);
    if (strcmp(name, j->base_name) == 0) return 0;
    if (step_done(j, name, &seconds)) {
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

/* Both fine-tunings take the same images, order, epochs and optimizer. A net whose training leaves
 * the finite numbers (very few bits) keeps its last good weights, and the row says so. */
static int32_t finetune(job *j, const point *p, advrob_model *model, double scale, figures *f) {
    const preset *set = j->settings->preset;
    bool adversarial = strcmp(p->finetune, "adversarial") == 0;
    double start = now();
    begin(j, p, "", scale * train_work(j, set->finetune, adversarial, set->finetune_images));
    int32_t status = train(j, model, p->finetune, set->finetune, j->finetune_images, p->seed,
                           &f->finetune_seconds);
    if (status != ADVROB_E_NONFINITE) return status;
    f->finetune_seconds = now() - start;
    snprintf(f->note, sizeof f->note, "fine-tuning ended early: %s", advrob_last_message());
    progress_end(&j->progress);
    progress_say(&j->progress, "%s", f->note);
    return 0;
}

/* The fine-tuned float net: one for all bit widths. */
static int32_t get_finetuned(job *j, const point *p, figures *f, advrob_model **out) {
    char name[128];
    int32_t status = 0;
    name_finetuned(p, name, sizeof name);
    if (step_done(j, name, &f->finetune_seconds)) return load_model(j, name, out);
    TRY(advrob_model_clone(j->base, out));
    TRY(finetune(j, p, *out, 1, f));
    TRY(step_keep(j, name, *out, f->finetune_seconds));
out:
    return status;
}

static int32_t make_model(job *j, const point *p, figures *f, advrob_model **out) {
    advrob_model *tuned = NULL;
    int32_t status = 0;
    TRY(get_base(j, p));
    if (strcmp(p->compression, "none") == 0) {
        TRY(advrob_model_clone(j->base, out));
    } else if (is_quantized_last(p)) {
        TRY(get_finetuned(j, p, f, &tuned));
        TRY(compress(j, p, tuned, out));
    } else {
        TRY(compress(j, p, j->base, out));
        if (strcmp(p->finetune, "none") != 0) TRY(finetune(j, p, *out, point_scale(p), f));
    }
out:
    advrob_model_destroy(tuned);
    return status;
}

/* Puts the accuracies into the one row of `score`. */
static int32_t evaluate(job *j, const point *p, advrob_model *model, advrob_report *score) {
    advrob_options *o = NULL, *attack = NULL;
    advrob_target *target = NULL;
    int32_t status = 0;
    begin(j, p, ": scoring", score_work(j) * point_scale(p));
    TRY(advrob_options_create(&o));
    TRY(advrob_options_create(&attack));
    TRY(set_options(attack, "", score_attack));
    TRY(set_ball(j->settings, attack, ""));
    TRY(advrob_options_append(o, "attacks", "pgd", attack));
    TRY(advrob_options_set_str(o, "labels", "pgd20"));
    TRY(advrob_options_set_i64(o, "batch_size", 256)); /* how often progress is told */
    TRY(advrob_target_from_model(model, &target));
    TRY(advrob_report_add_row(score));
    TRY(advrob_report_evaluate(score, target, j->test, o));
    progress_end(&j->progress);
out:
    advrob_target_destroy(target);
    advrob_options_destroy(attack);
    advrob_options_destroy(o);
    return status;
}

/* Size, and for a float net its bytes and speed: a simulated one is no faster than a float one. */
static int32_t measure(job *j, const point *p, advrob_model *model, advrob_report *score) {
    char name[128], digest[32] = DIGEST_PREFIX;
    double milliseconds = 0;
    int32_t status = 0, repeats = j->settings->preset->latency_repeats;
    bool simulated = strcmp(p->compression, "quant") == 0;
    name_point(p, name, sizeof name);
    TRY(advrob_report_put_str(score, "execution", simulated ? "simulated" : "float"));
    TRY(advrob_report_put_i64(score, "parameters", advrob_model_parameter_total(model)));
    TRY(advrob_report_put_i64(score, "macs", advrob_model_macs(model)));
    if (!simulated) {
        TRY(advrob_report_put_i64(score, "bytes", advrob_model_bytes(model)));
        TRY(advrob_model_latency(model, 1, repeats, &milliseconds));
        TRY(advrob_report_put_f64(score, "latency_ms_batch1", milliseconds));
        TRY(advrob_model_latency(model, 64, repeats, &milliseconds));
        TRY(advrob_report_put_f64(score, "latency_ms_batch64", milliseconds));
    }
    TRY(advrob_model_digest(model, digest + strlen(digest), 17));
    TRY(advrob_report_put_str(score, "model_file", name));
    TRY(advrob_report_put_str(score, "model_digest", digest));
out:
    return status;
}

static int32_t put_names(job *j, const point *p, const figures *f, advrob_report *r) {
    char name[96];
    double seconds = 0;
    int32_t status = 0;
    TRY(advrob_report_put_str(r, "dataset", j->settings->dataset));
    TRY(advrob_report_put_str(r, "model", "eight_layer_conv"));
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
    TRY(advrob_report_put_f64(r, "finetune_seconds", f->finetune_seconds));
    name_base(p->base, p->seed, name, sizeof name);
    if (step_done(j, name, &seconds)) TRY(advrob_report_put_f64(r, "base_seconds", seconds));
    if (f->note[0] != '\0') TRY(advrob_report_put_str(r, "note", f->note));
out:
    return status;
}

/* Adds the finished row to the results and writes them. */
static int32_t keep(job *j, const point *p, const figures *f, const advrob_report *score) {
    static const char *const texts[] = {"execution", "model_file", "model_digest"};
    static const char *const wholes[] = {"test_images", "parameters", "macs", "bytes"};
    static const char *const numbers[] = {"clean_accuracy",    "clean_low",         "clean_high",
                                          "pgd20_accuracy",    "pgd20_low",         "pgd20_high",
                                          "latency_ms_batch1", "latency_ms_batch64"};
    advrob_report *r = j->results;
    double value = 0;
    int32_t status = 0;
    TRY(advrob_report_add_row(r));
    TRY(put_names(j, p, f, r));
    for (int32_t i = 0; i < 3; i++) {
        TRY(advrob_report_put_str(r, texts[i], text_cell(score, 0, texts[i])));
    }
    for (int32_t i = 0; i < 4; i++) {
        if (advrob_report_get_f64(score, 0, wholes[i], &value) != ADVROB_OK) continue;
        TRY(advrob_report_put_i64(r, wholes[i], (int64_t)value));
    }
    for (int32_t i = 0; i < 8; i++) {
        if (advrob_report_get_f64(score, 0, numbers[i], &value) != ADVROB_OK) continue;
        TRY(advrob_report_put_f64(r, numbers[i], value));
    }
    TRY(write_results(j));
out:
    return status;
}

int32_t run_point(job *j, int32_t index) {
    const point *p = &j->plan.points[index];
    figures f = {.finetune_seconds = 0};
    char name[128], what[128], left[32];
    advrob_model *model = NULL;
    advrob_report *score = NULL;
    int32_t status = 0;
    double start = now();
    j->number = index + 1;
    TRY(make_model(j, p, &f, &model));
    TRY(advrob_report_create(j->ctx, &score));
    TRY(evaluate(j, p, model, score));
    TRY(measure(j, p, model, score));
    name_point(p, name, sizeof name);
    TRY(save_model(j, name, model));
    TRY(keep(j, p, &f, score));
    describe_point(p, j->settings->repeats > 1, what, sizeof what);
    progress_left(&j->progress, left, sizeof left);
    progress_say(&j->progress, "%d/%d %s: clean %.1f %%, PGD-20 %.1f %% (%.0f s; %s left)",
                 j->number, j->plan.count, what, 100 * number_cell(score, 0, "clean_accuracy", 0),
                 100 * number_cell(score, 0, "pgd20_accuracy", 0), now() - start, left);
out:
    advrob_report_destroy(score);
    advrob_model_destroy(model);
    return status;
}
