/* One run: the context, the data, the results so far, and what of it is kept on disk. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first columns of results.csv, in the order in which other programs read them. */
static const char *const columns[] = {"dataset",
                                      "model",
                                      "base",
                                      "compression",
                                      "level",
                                      "order",
                                      "execution",
                                      "finetune",
                                      "seed",
                                      "clean_accuracy",
                                      "pgd20_accuracy",
                                      "test_images",
                                      "parameters",
                                      "macs",
                                      "bytes",
                                      "latency_ms_batch1",
                                      "latency_ms_batch64",
                                      "finetune_seconds",
                                      "clean_low",
                                      "clean_high",
                                      "pgd20_low",
                                      "pgd20_high",
                                      "autoattack_lite_accuracy",
                                      "autoattack_lite_low",
                                      "autoattack_lite_high",
                                      "autoattack_lite_images",
                                      "memory_bytes",
                                      "latency_ms_batch1_threads1",
                                      "latency_ms_batch64_threads1",
                                      "latency_threads",
                                      "finetune_cpu_seconds",
                                      "finetune_joules",
                                      "base_seconds",
                                      "base_cpu_seconds",
                                      "base_joules",
                                      "score_seconds",
                                      "score_cpu_seconds",
                                      "score_joules",
                                      "model_file",
                                      "model_digest",
                                      "note",
                                      "verdict",
                                      "reasons",
                                      "check_images",
                                      "check_fgsm_accuracy",
                                      "check_pgd_accuracy",
                                      "check_square_accuracy",
                                      "check_transfer_accuracy",
                                      "refused",
                                      "pgd20_images"};

/* A long training must look at the energy counters before they wrap around. */
static int32_t hook(void *user, const char *what, int64_t done, int64_t total, double value) {
    job *j = user;
    meter_look(&j->meter);
    return progress_hook(&j->progress, what, done, total, value);
}

static int32_t open_context(job *j) {
    int32_t status = 0;
    advrob_options *o = NULL;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_set_i64(o, "threads", j->settings->threads));
    TRY(advrob_options_set_i64(o, "seed", j->settings->seed));
    TRY(advrob_context_create(o, &j->ctx));
    TRY(advrob_context_set_progress(j->ctx, hook, j));
    TRY(meter_open(&j->meter, j->ctx));
out:
    advrob_options_destroy(o);
    return status;
}

/* The first `count` images of a split. Fewer than asked for is an error: sizes are constants. */
static int32_t open_split(job *j, const char *split, int64_t count, advrob_dataset **out) {
    const settings *s = j->settings;
    int32_t status = 0;
    advrob_options *o = NULL;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_set_str(o, "split", split));
    TRY(advrob_options_set_i64(o, "limit", count));
    TRY(advrob_dataset_open(j->ctx, s->dataset, s->data, o, out));
    if (advrob_dataset_count(*out) < count) {
        status = complain(FAILED, "%s has %lld %s images, preset %s wants %lld", s->data,
                          (long long)advrob_dataset_count(*out), split, s->preset->name,
                          (long long)count);
    }
out:
    advrob_options_destroy(o);
    return status;
}

static int32_t open_data(job *j) {
    const preset *p = j->settings->preset;
    int64_t most = p->finetune_images;
    int32_t status = 0;
    for (int32_t i = 0; i < 2; i++) {
        if (p->base_images[i] > most) most = p->base_images[i];
    }
    if (p->calibration_images > most) most = p->calibration_images;
    TRY(open_split(j, "train", most, &j->train));
    TRY(open_split(j, "test", p->test_images, &j->test));
    TRY(advrob_dataset_slice(j->test, 0, p->strong_images, &j->strong));
    TRY(advrob_dataset_slice(j->train, 0, p->finetune_images, &j->finetune_images));
    TRY(advrob_dataset_slice(j->train, 0, p->calibration_images, &j->calibration));
out:
    return status;
}

int32_t build_net(const job *j, int64_t seed, advrob_model **out) {
    advrob_options *o = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", j->settings->preset->model_options));
    TRY(advrob_options_set_i64(o, "seed", seed));
    TRY(advrob_model_build(j->ctx, j->settings->model, o, out));
out:
    advrob_options_destroy(o);
    return status;
}

/* Before a folder is made for it. */
static int32_t check_net(const job *j) {
    const settings *s = j->settings;
    int32_t takes[3], has[3], status = 0;
    advrob_model *model = NULL;
    TRY(build_net(j, s->seed, &model));
    TRY(advrob_model_input_shape(model, takes));
    TRY(advrob_dataset_shape(j->test, has));
    if (memcmp(takes, has, sizeof has) != 0) {
        status =
            complain(FAILED, "model %s takes images of %d x %d x %d, %s has %d x %d x %d", s->model,
                     takes[0], takes[1], takes[2], s->dataset, has[0], has[1], has[2]);
    }
out:
    advrob_model_destroy(model);
    return status;
}

int32_t job_text(const job *j, char **out) {
    char train[17], test[17], *text = settings_text(j->settings);
    const char *cpu = advrob_context_cpu(j->ctx);
    int32_t status = 0;
    *out = NULL;
    if (text != NULL) *out = malloc(strlen(text) + strlen(cpu) + 128);
    if (*out == NULL) {
        status = complain(FAILED, "out of memory");
        goto out;
    }
    TRY(advrob_dataset_digest(j->train, train, sizeof train));
    TRY(advrob_dataset_digest(j->test, test, sizeof test));
    sprintf(*out,
            "%strain_digest = " DIGEST_PREFIX "%s\ntest_digest = " DIGEST_PREFIX "%s\ncpu = %s\n",
            text, train, test, cpu);
out:
    free(text);
    return status;
}

/* Settings, versions and digests. */
int32_t put_settings(const job *j, advrob_report *report) {
    char *text = NULL, *rest = NULL;
    int32_t status = 0;
    TRY(job_text(j, &text));
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *value = strstr(line, " = ");
        if (value == NULL) continue;
        *value = '\0';
        TRY(advrob_report_set_str(report, line, value + 3));
    }
    TRY(advrob_report_set_str(report, "data", j->settings->data));
    TRY(advrob_report_set_str(report, "energy",
                              j->meter.reason[0] != '\0' ? j->meter.reason : "measured"));
    TRY(advrob_report_set_f64(report, "threads", advrob_context_threads(j->ctx)));
    TRY(advrob_report_set_f64(report, "repeats", (double)j->settings->repeats));
out:
    free(text);
    return status;
}

static int32_t read_report(job *j, const char *name, advrob_report *report) {
    char path[4096];
    out_path(j->settings, name, path, sizeof path);
    if (!file_exists(path)) return 0;
    int32_t status = advrob_report_read_csv(report, path);
    if (status != ADVROB_E_FORMAT) return status;
    return complain(FAILED, "%s; --fresh starts anew", advrob_last_message());
}

static int32_t open_report(job *j, const char *name, advrob_report **out) {
    int32_t status = advrob_report_create(j->ctx, out);
    return status == 0 ? read_report(j, name, *out) : status;
}

int32_t job_create(job *j, const settings *s) {
    int32_t status = 0;
    *j = (job){.settings = s, .train_passes = 3};
    progress_init(&j->progress);
    TRY(list_points(s, &j->plan));
    TRY(open_context(j));
out:
    return status;
}

/* A kill between the row of a finished training and this leaves them. */
static int32_t remove_old_checkpoints(const job *j) {
    for (int32_t row = 0; row < advrob_report_rows(j->steps); row++) {
        const char *name = text_cell(j->steps, row, "step");
        int32_t status = 0;
        if (step_done(j, name, NULL)) status = remove_checkpoint(j->settings, name);
        if (status != 0) return status;
    }
    return 0;
}

int32_t job_open(job *j) {
    char *text = NULL;
    int32_t status = 0;
    TRY(open_data(j));
    TRY(check_net(j));
    TRY(job_text(j, &text));
    TRY(prepare_folder(j->settings, text));
    TRY(advrob_report_create(j->ctx, &j->results));
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        TRY(advrob_report_add_column(j->results, columns[i]));
    }
    TRY(put_settings(j, j->results));
    TRY(read_report(j, "results.csv", j->results));
    TRY(open_report(j, "steps.csv", &j->steps));
    TRY(advrob_report_create(j->ctx, &j->history));
    TRY(history_declare(j->history));
    TRY(read_report(j, "history.csv", j->history));
    TRY(open_report(j, "classes.csv", &j->classes));
    TRY(open_report(j, "curves.csv", &j->curves));
    TRY(open_report(j, "transfer.csv", &j->transfer));
    TRY(remove_old_checkpoints(j));
    j->opened = true;
out:
    free(text);
    return status;
}

void job_close(job *j) {
    advrob_model_destroy(j->base);
    advrob_report_destroy(j->transfer);
    advrob_report_destroy(j->curves);
    advrob_report_destroy(j->classes);
    advrob_report_destroy(j->history);
    advrob_report_destroy(j->steps);
    advrob_report_destroy(j->results);
    advrob_dataset_destroy(j->calibration);
    advrob_dataset_destroy(j->finetune_images);
    advrob_dataset_destroy(j->strong);
    advrob_dataset_destroy(j->test);
    advrob_dataset_destroy(j->train);
    meter_close(&j->meter);
    advrob_context_destroy(j->ctx);
    free_points(&j->plan);
}

/* Ctrl-C shall not cost what is finished: a write that it hit is made again. The run stops at the
 * next call, since the signal's handler left its mark (main.c). */
int32_t write_report(job *j, const advrob_report *report, const char *name) {
    char path[4096];
    out_path(j->settings, name, path, sizeof path);
    int32_t status = advrob_report_write(report, path);
    if (status != ADVROB_E_CANCELLED) return status;
    advrob_context_rearm(j->ctx);
    return advrob_report_write(report, path);
}

int32_t write_results(job *j) {
    int32_t status = 0;
    TRY(write_report(j, j->results, "results.csv"));
    TRY(write_report(j, j->results, "results.json"));
out:
    return status;
}

int32_t save_model(job *j, const char *name, const advrob_model *model) {
    char path[4096];
    model_path(j->settings, name, path, sizeof path);
    int32_t status = advrob_model_save(model, path);
    if (status != ADVROB_E_CANCELLED) return status;
    advrob_context_rearm(j->ctx);
    return advrob_model_save(model, path);
}

int32_t load_model(job *j, const char *name, advrob_model **out) {
    char path[4096];
    model_path(j->settings, name, path, sizeof path);
    return advrob_model_load(j->ctx, path, NULL, out);
}
