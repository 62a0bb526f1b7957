/* report.html, report.json and plots.csv: what the files in the folder say, for people. */
#include "reproduce.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static int32_t add_figure(advrob_report *r, const char *label,
                                                                const char *format, ...) {
    char value[64];
    va_list list;
    va_start(list, format);
    vsnprintf(value, sizeof value, format, list);
    va_end(list);
    return advrob_report_add_figure(r, value, label);
}

/* The nets that the large figures and tables are about; each may be missing (NULL). */
typedef struct cast {
    const point *dense, *robust;   /* both bases */
    const point *tuned[3], *quant; /* the standard base pruned: none, standard, adversarial */
} cast;

static cast choose_cast(const point_list *list) {
    return (cast){.dense = choose_point(list, 0, "none", "none", "none"),
                  .robust = choose_point(list, 1, "none", "none", "none"),
                  .tuned = {choose_pruned(list, "none"), choose_pruned(list, "standard"),
                            choose_pruned(list, "adversarial")},
                  .quant = choose_point(list, 0, "quant", "adversarial", "int8")};
}

static double mean_of(const job *j, const point *p, const char *column) {
    summary s = {.seeds = 0};
    if (p != NULL) s = summarise(j, p, column, NULL, NULL);
    return s.seeds > 0 ? s.mean : NAN;
}

static int32_t add_lift(const job *j, const cast *c, advrob_report *r) {
    char label[200];
    if (c->tuned[1] == NULL || c->tuned[2] == NULL) return 0;
    snprintf(label, sizeof label,
             "of the test images are classified right under attack by the net pruned by %s: after "
             "standard, after adversarial fine-tuning",
             c->tuned[2]->level);
    return add_figure(r, label, "%.1f %% \u2192 %.1f %%", 100 * pgd_of(j, c->tuned[1]).mean,
                      100 * pgd_of(j, c->tuned[2]).mean);
}

static int32_t add_time(const job *j, const cast *c, advrob_report *r) {
    double tuning = mean_of(j, c->tuned[2], "finetune_seconds");
    double training = mean_of(j, c->robust, "base_seconds");
    char label[200], short_time[32], long_time[32];
    if (!(tuning > 0) || !(training > 0)) return 0;
    name_duration(tuning, short_time, sizeof short_time);
    name_duration(training, long_time, sizeof long_time);
    snprintf(label, sizeof label,
             "less time than adversarial training from scratch: %s of fine-tuning the standard net "
             "against %s, which reach %.1f %%",
             short_time, long_time, 100 * pgd_of(j, c->robust).mean);
    return add_figure(r, label, "%.1f\u00d7", training / tuning);
}

static int32_t add_size(const job *j, const cast *c, advrob_report *r) {
    static const char *const columns[] = {"macs", "bytes", "latency_ms_batch1_threads1"};
    double dense[3], small[3];
    char label[256];
    if (c->dense == NULL || c->tuned[2] == NULL) return 0;
    for (int32_t i = 0; i < 3; i++) {
        dense[i] = mean_of(j, c->dense, columns[i]);
        small[i] = mean_of(j, c->tuned[2], columns[i]);
    }
    snprintf(label, sizeof label,
             "less work for one image: %.1f of %.1f million multiply-adds; %.0f of %.0f kB; %.2f "
             "of %.2f ms an image "
             "on one thread",
             1e-6 * small[0], 1e-6 * dense[0], 1e-3 * small[1], 1e-3 * dense[1], small[2],
             dense[2]);
    return add_figure(r, label, "%.1f\u00d7", dense[0] / small[0]);
}

static int32_t add_quant(const job *j, const cast *c, advrob_report *r) {
    char label[300], shipped[100] = " (simulated)";
    if (c->quant == NULL) return 0;
    const point integers = in_integers(c->quant);
    summary pgd = pgd_of(j, &integers);
    if (pgd.seeds > 0 && !is_unreliable(j, &integers)) {
        snprintf(shipped, sizeof shipped,
                 " (simulated; run in integers: %.1f %% of the first %.0f)", 100 * pgd.mean,
                 mean_of(j, &integers, "pgd20_images"));
    }
    snprintf(label, sizeof label,
             "of the test images are classified right under attack by the net in %s%s, "
             "adversarially fine-tuned; %.1f %% without attack",
             c->quant->level, shipped, 100 * clean_of(j, c->quant).mean);
    return add_figure(r, label, "%.1f %%", 100 * pgd_of(j, c->quant).mean);
}

/* "15000 images for 6 epochs (augmented: ...)". */
static void name_training(const char *options, int64_t images, char *text, size_t size) {
    double crop = option_number(options, "augment.crop", 0);
    bool flip = option_number(options, "augment.flip", 0) > 0;
    char changed[96] = "";
    if (crop > 0 || flip) {
        snprintf(changed, sizeof changed, " (augmented: crops from %g pixels of padding%s)", crop,
                 flip ? ", mirrored" : "");
    }
    double epochs = option_number(options, "epochs", 1);
    snprintf(text, size, "%lld images for %g epoch%s%s", (long long)images, epochs,
             epochs == 1 ? "" : "s", changed);
}

/* On how much the figures stand. */
static int32_t add_sizes(const settings *s, advrob_report *r) {
    const preset *p = s->preset;
    char text[700], training[160];
    size_t used = (size_t)snprintf(text, sizeof text, "The net is %s. Trained on: ", s->model);
    for (int32_t i = 0; i < 2; i++) {
        if (!s->base[i]) continue;
        name_training(p->base[i], p->base_images[i], training, sizeof training);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s base %s; ", base_names[i],
                                 training);
    }
    name_training(p->finetune, p->finetune_images, training, sizeof training);
    snprintf(text + used, sizeof text - used, "each fine-tuning %s. Scored on %lld test images.",
             training, (long long)p->test_images);
    return advrob_report_add_text(r, text);
}

static int32_t add_top(const job *j, const cast *c, advrob_report *r) {
    const settings *s = j->settings;
    char text[700];
    int32_t status = 0;
    snprintf(text, sizeof text, "Adversarial fine-tuning of compressed nets: %s on %s, preset %s",
             s->model, s->dataset, s->preset->name);
    TRY(advrob_report_set_title(r, text));
    TRY(add_lift(j, c, r));
    TRY(add_time(j, c, r));
    TRY(add_size(j, c, r));
    TRY(add_quant(j, c, r));
    snprintf(
        text, sizeof text,
        "The experiment of arXiv 2403.09441: do a few epochs of adversarial fine-tuning make a "
        "compressed net robust? Preset %s. Attack: PGD in the l-infinity ball, epsilon %s in "
        "pixels of [0, 1], 20 steps, zero start; attacked images are %s. PGD-20 from one start "
        "is the paper's yardstick, not a strong attack; AutoAttack-lite, on the first %lld test "
        "images and always on valid pixels, comes closer to the truth.",
        s->preset->name, s->preset->epsilon,
        s->clip ? "clipped to valid pixels" : "not clipped, as in the paper",
        (long long)s->preset->strong_images);
    TRY(advrob_report_add_text(r, text));
    TRY(add_sizes(s, r));
out:
    return status;
}

/* "12.3", or "-" for what is not there. */
static void put_cell(char *cells, size_t size, double value, int decimals) {
    size_t used = strlen(cells);
    if (isnan(value)) {
        snprintf(cells + used, size - used, "\n-");
    } else {
        snprintf(cells + used, size - used, "\n%.*f", decimals, value);
    }
}

static int32_t add_need_row(const job *j, const point *p, advrob_report *r) {
    static const struct {
        const char *column;
        double scale;
        int decimals;
    } cells[] = {{"parameters", 1e-3, 1},
                 {"macs", 1e-6, 2},
                 {"bytes", 1e-3, 0},
                 {"memory_bytes", 1e-6, 1},
                 {"latency_ms_batch1_threads1", 1, 2},
                 {"latency_ms_batch1", 1, 2},
                 {"latency_ms_batch64_threads1", 1, 1},
                 {"latency_ms_batch64", 1, 1}};
    char text[400];
    if (p == NULL) return 0;
    describe_point(p, false, text, sizeof text);
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        put_cell(text, sizeof text, cells[i].scale * mean_of(j, p, cells[i].column),
                 cells[i].decimals);
    }
    return advrob_report_add_table_row(r, text);
}

/* On how many threads both nets were timed; rows may come from several runs. */
static void name_threads(const job *j, const cast *c, char *text, size_t size) {
    const point *p = c->dense != NULL ? c->dense : c->tuned[2];
    const point *q = c->tuned[2] != NULL ? c->tuned[2] : p;
    double threads = mean_of(j, p, "latency_threads");
    if (threads != mean_of(j, q, "latency_threads") || threads != floor(threads)) {
        snprintf(text, size, "all threads");
    } else {
        snprintf(text, size, "%.0f thread%s", threads, threads == 1 ? "" : "s");
    }
}

static int32_t add_needs(const job *j, const cast *c, advrob_report *r) {
    char columns[300], threads[48];
    int32_t status = 0;
    name_threads(j, c, threads, sizeof threads);
    snprintf(columns, sizeof columns,
             "net\nparameters, thousands\nmultiply-adds, millions\nfile, kB\nmemory, MB\nms, 1 "
             "image, 1 thread\nms, 1 image, %s\nms, 64 images, 1 thread\nms, 64 images, %s",
             threads, threads);
    TRY(advrob_report_add_table(r, "What a net needs", columns));
    TRY(add_need_row(j, c->dense, r));
    TRY(add_need_row(j, c->tuned[2], r));
    if (c->quant != NULL) {
        const point integers = in_integers(c->quant);
        if (clean_of(j, &integers).seeds > 0) TRY(add_need_row(j, &integers, r));
    }
out:
    return status;
}

static int32_t add_cost_row(const job *j, const point *p, const char *phase, advrob_report *r) {
    static const char *const columns[] = {"seconds", "cpu_seconds", "joules"};
    char text[300], column[64];
    if (p == NULL) return 0;
    describe_point(p, false, text, sizeof text);
    for (int32_t i = 0; i < 3; i++) {
        snprintf(column, sizeof column, "%s_%s", phase, columns[i]);
        double value = mean_of(j, p, column);
        if (i == 2 && isnan(value)) {
            strncat(text, "\nunavailable", sizeof text - strlen(text) - 1);
        } else {
            put_cell(text, sizeof text, value, 1);
        }
    }
    return advrob_report_add_table_row(r, text);
}

static int32_t add_costs(const job *j, const cast *c, advrob_report *r) {
    int32_t status = 0;
    TRY(advrob_report_add_table(r, "What a training cost",
                                "training\nseconds\nCPU seconds\njoules"));
    TRY(add_cost_row(j, c->dense, "base", r));
    TRY(add_cost_row(j, c->robust, "base", r));
    TRY(add_cost_row(j, c->tuned[1], "finetune", r));
    TRY(add_cost_row(j, c->tuned[2], "finetune", r));
out:
    return status;
}

static int32_t add_classes(const job *j, const cast *c, advrob_report *r) {
    static const char *const columns[] = {"clean_accuracy", "pgd20_accuracy"};
    char cells[256], title[200], what[128], net[128];
    int32_t status = 0;
    if (c->tuned[0] == NULL || c->tuned[1] == NULL || c->tuned[2] == NULL) return 0;
    describe_point(c->tuned[0], false, what, sizeof what);
    snprintf(title, sizeof title, "%s: accuracy of single classes, in %%", what);
    TRY(advrob_report_add_table(r, title,
                                "class\nnot fine-tuned, clean\nnot fine-tuned, PGD-20\nstandard "
                                "fine-tuning, clean\nstandard fine-tuning, PGD-20\nadversarial "
                                "fine-tuning, clean\nadversarial fine-tuning, PGD-20"));
    for (int32_t k = 0; k < advrob_dataset_classes(j->test); k++) {
        name_class(j->settings, k, cells, sizeof cells);
        for (int32_t i = 0; i < 6; i++) {
            name_point(c->tuned[i / 2], net, sizeof net);
            put_cell(cells, sizeof cells, 100 * class_accuracy(j, net, k, columns[i % 2]), 1);
        }
        TRY(advrob_report_add_table_row(r, cells));
    }
out:
    return status;
}

/* " --name 'value'", as a shell reads it back. */
static void add_quoted(char *command, const char *name, const char *value) {
    char *at = command + strlen(command);
    at += sprintf(at, " --%s '", name);
    for (; *value != '\0'; value++)
        at += sprintf(at, *value == '\'' ? "'\\''" : "%c", *value);
    sprintf(at, "'");
}

static int32_t put_command(const settings *s, advrob_report *r) {
    const char *only = s->only != NULL ? s->only : "";
    size_t size = 400 + strlen(s->dataset) + strlen(s->model) +
                  4 * (strlen(s->data) + strlen(only) + strlen(s->out));
    char *command = malloc(size);
    if (command == NULL) return complain(FAILED, "out of memory");
    snprintf(command, size,
             "reproduce --preset %s --dataset %s --model %s --protocol %s --seed %lld --repeats "
             "%lld --base %s "
             "--finetune %s --order %s",
             s->preset->name, s->dataset, s->model, protocol_name(s), (long long)s->seed,
             (long long)s->repeats, chosen_name(s->base, base_names),
             chosen_name(s->finetune, base_names), chosen_name(s->order, order_names));
    if (s->only != NULL) add_quoted(command, "only", only);
    add_quoted(command, "data", s->data);
    add_quoted(command, "out", s->out);
    int32_t status = advrob_report_set_str(r, "command", command);
    free(command);
    return status;
}

static int32_t fill_page(job *j, const point_list *list, advrob_report *r) {
    cast c = choose_cast(list);
    int32_t status = 0;
    TRY(put_settings(j, r));
    TRY(put_command(j->settings, r));
    TRY(add_top(j, &c, r));
    TRY(advrob_report_add_heading(r, "What fine-tuning wins"));
    TRY(plot_glances(j, list, r));
    TRY(plot_compressions(j, list, r));
    TRY(plot_curves(j, list, r));
    TRY(add_shipped(j, list, r));
    TRY(advrob_report_add_heading(r, "What it costs"));
    TRY(add_needs(j, &c, r));
    TRY(add_costs(j, &c, r));
    TRY(plot_needs(j, list, r));
    TRY(advrob_report_add_heading(r, "Training"));
    TRY(plot_training(j, list, r));
    TRY(advrob_report_add_heading(r, "What the attack does"));
    TRY(add_strip(j, list, r));
    TRY(add_classes(j, &c, r));
out:
    return status;
}

int32_t write_page(job *j) {
    point_list list = {NULL, 0};
    advrob_report *r = NULL;
    char path[4096];
    int32_t status = 0;
    if (advrob_report_rows(j->results) == 0) return 0;
    TRY(finished_points(j, &list));
    TRY(advrob_report_create(j->ctx, &r));
    out_path(j->settings, "results.csv", path, sizeof path);
    TRY(advrob_report_read_csv(r, path));
    TRY(fill_page(j, &list, r));
    TRY(write_report(j, r, "report.json"));
    out_path(j->settings, "plots.csv", path, sizeof path);
    TRY(advrob_report_write_plots(r, path));
    TRY(write_report(j, r, "report.html"));
out:
    free_points(&list);
    advrob_report_destroy(r);
    return status;
}
