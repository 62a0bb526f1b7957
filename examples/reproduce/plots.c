/* The plots of the page. Colours are fine-tunings; solid is clean accuracy, dashed under attack. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 128, COLORS = 8, PAPER_CLEAN = 3, PAPER_PGD = 2 };
static const char *const tunings[3] = {"none", "standard", "adversarial"};
static const char *const tuning_names[3] = {"not fine-tuned", "standard fine-tuning",
                                            "adversarial fine-tuning"};
static const int32_t tuning_colors[3] = {7, 0, 1};
static const double no_bar = NAN;
/* Nets of one level stand side by side: drawn so many pixels apart. */
static const char *const tuning_shifts[3] = {"shift=-15", "shift=-5", "shift=5"};
static const double epochs[] = {1, 2, 3, 4, 5, 10, 15, 20};

typedef struct series {
    int32_t count;
    double x[MOST], y[MOST], low[MOST], high[MOST];
    char labels[MOST * 16];
} series;

/* Keeps the points in rising order of x. */
static void add_to(series *s, double x, double y, double low, double high) {
    int32_t at = s->count;
    if (at == MOST) return;
    for (; at > 0 && s->x[at - 1] > x; at--) {
        s->x[at] = s->x[at - 1];
        s->y[at] = s->y[at - 1];
        s->low[at] = s->low[at - 1];
        s->high[at] = s->high[at - 1];
    }
    s->x[at] = x;
    s->y[at] = y;
    s->low[at] = isnan(low) ? low : fmin(low, y);
    s->high[at] = isnan(high) ? high : fmax(high, y);
    s->count++;
}

static int32_t draw(advrob_report *r, const char *name, const series *s, int32_t color,
                    const char *style) {
    advrob_options *o = NULL;
    int32_t status = 0;
    if (s->count == 0) return 0;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_set_i64(o, "color", color));
    TRY(set_options(o, "", style));
    if (s->labels[0] != '\0') TRY(advrob_options_set_str(o, "labels", s->labels));
    TRY(advrob_report_add_series(r, name, s->count, s->x, s->y, s->low, s->high, o));
out:
    advrob_options_destroy(o);
    return status;
}

/* `ticks`, `note` may be NULL. */
static int32_t open_plot(advrob_report *r, const char *title, const char *x_name,
                         const char *y_name, const char *text, const double *ticks, size_t n,
                         const char *note) {
    advrob_options *o = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", text));
    if (ticks != NULL) TRY(advrob_options_set_f64_array(o, "x_ticks", ticks, n));
    if (note != NULL) TRY(advrob_options_set_str(o, "note", note));
    TRY(advrob_report_add_plot(r, title, x_name, y_name, o));
out:
    advrob_options_destroy(o);
    return status;
}

/* The same net several times, once for each seed: only the first is drawn, as their mean. */
static bool first_of_seeds(const point_list *list, int32_t index) {
    const point *p = &list->points[index];
    for (int32_t i = 0; i < index; i++) {
        const point *q = &list->points[i];
        if (p->base == q->base && strcmp(p->compression, q->compression) == 0 &&
            strcmp(p->level, q->level) == 0 && strcmp(p->order, q->order) == 0 &&
            strcmp(p->finetune, q->finetune) == 0) {
            return false;
        }
    }
    return true;
}

/* Accuracies of one base, compression, order and fine-tuning by level. */
typedef struct family {
    int32_t base;
    const char *compression, *order;
} family;

static double place(const point *p) {
    if (strcmp(p->compression, "none") == 0) return 0;
    return strcmp(p->compression, "prune") == 0 ? atof(p->level) : atof(p->level + strlen("int"));
}

static bool belongs(const family *f, const point *p, const char *finetune) {
    if (p->base != f->base || strcmp(p->finetune, finetune) != 0) return false;
    if (strcmp(p->compression, "none") == 0) return strcmp(f->compression, "prune") == 0;
    if (strcmp(p->compression, f->compression) != 0) return false;
    return strcmp(p->order, "none") == 0 || strcmp(p->order, f->order) == 0;
}

static bool is_listed(const point_list *list, const family *f) {
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        if (p->base == f->base && strcmp(p->order, f->order) == 0) return true;
    }
    return false;
}

static int32_t draw_tuning(const job *j, const point_list *list, const family *f, int32_t tuning,
                           advrob_report *r) {
    series clean = {.count = 0}, pgd = {.count = 0}, strong = {.count = 0};
    char name[64], style[64];
    int32_t status = 0;
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        if (!belongs(f, p, tunings[tuning]) || !first_of_seeds(list, i)) continue;
        summary c = clean_of(j, p), a = pgd_of(j, p), s = strong_shipped(j, p);
        add_to(&clean, place(p), c.mean, c.low, c.high);
        add_to(&pgd, place(p), a.mean, a.low, a.high);
        if (s.seeds > 0) add_to(&strong, place(p), s.mean, no_bar, no_bar);
    }
    snprintf(name, sizeof name, "%s, clean", tuning_names[tuning]);
    TRY(draw(r, name, &clean, tuning_colors[tuning], tuning_shifts[tuning]));
    snprintf(name, sizeof name, "%s, PGD-20", tuning_names[tuning]);
    snprintf(style, sizeof style, "dash=1 %s", tuning_shifts[tuning]);
    TRY(draw(r, name, &pgd, tuning_colors[tuning], style));
    snprintf(name, sizeof name, "%s, AutoAttack-lite", tuning_names[tuning]);
    snprintf(style, sizeof style, "style=points marker=triangle %s", tuning_shifts[tuning]);
    TRY(draw(r, name, &strong, tuning_colors[tuning], style));
out:
    return status;
}

static int32_t draw_paper(const job *j, const family *f, advrob_report *r) {
    series clean = {.count = 0}, pgd = {.count = 0};
    int32_t status = 0;
    for (int32_t i = 0; i < paper_count; i++) {
        const paper_point *p = &paper_points[i];
        if (p->source != find_paper(j->settings) || p->base != f->base) continue;
        if (strcmp(p->compression, f->compression) != 0) continue;
        add_to(&clean, p->level, p->clean, no_bar, no_bar);
        add_to(&pgd, p->level, p->pgd, no_bar, no_bar);
    }
    TRY(draw(r, "paper, clean", &clean, PAPER_CLEAN, "style=points marker=cross shift=15"));
    TRY(draw(r, "paper, PGD", &pgd, PAPER_PGD, "style=points marker=cross shift=15"));
out:
    return status;
}

static int32_t plot_family(const job *j, const point_list *list, const family *f,
                           advrob_report *r) {
    static const double bits[] = {1, 2, 4, 8, 16};
    bool prune = strcmp(f->compression, "prune") == 0;
    const paper_source *paper = find_paper(j->settings);
    char title[128], note[400], crosses[160] = "";
    int32_t status = 0;
    if (paper != NULL) {
        snprintf(crosses, sizeof crosses,
                 " Crosses: the paper's Figure 1 (%s), adversarial fine-tuning on all %s images.",
                 paper->net, paper->images);
    }
    snprintf(title, sizeof title, "From the %s base: %s", base_names[f->base],
             prune ? "pruned, then fine-tuned"
             : strcmp(f->order, order_names[0]) == 0
                 ? "fine-tuned, then quantized"
                 : "quantized, then fine-tuned through the quantizer");
    snprintf(note, sizeof note, "Error bars: %s. Nets of one level are drawn side by side.%s%s",
             has_seeds(j) ? "standard deviation over the seeds" : "95 % interval (Wilson)",
             prune ? "" : " AutoAttack-lite: on the net in integers, if it runs in them.", crosses);
    TRY(open_plot(r, title, prune ? "share of filters removed" : "bits of weights and activations",
                  "accuracy (share of the test images)",
                  prune ? "x_low=-0.05 x_high=1 y_low=0 y_high=1 percent_x=1 percent_y=1"
                        : "x_scale=log y_low=0 y_high=1 percent_y=1",
                  prune ? NULL : bits, 5, note));
    for (int32_t i = 0; i < 3; i++) {
        TRY(draw_tuning(j, list, f, i, r));
    }
    TRY(draw_paper(j, f, r));
out:
    return status;
}

int32_t plot_compressions(const job *j, const point_list *list, advrob_report *r) {
    const char *const orders[] = {prune_order, order_names[1], order_names[0]};
    int32_t status = 0;
    for (int32_t i = 0; i < 3; i++) {
        for (int32_t base = 0; base < 2; base++) {
            family f = {base, i == 0 ? "prune" : "quant", orders[i]};
            if (is_listed(list, &f)) TRY(plot_family(j, list, &f, r));
        }
    }
out:
    return status;
}

/* "8 -> std": what was done to the net, in that order. */
static void short_name(const point *p, char *text, size_t size) {
    const char *tuning = strcmp(p->finetune, "standard") == 0 ? "std" : "adv";
    const char *level = p->level;
    if (strcmp(p->compression, "none") == 0) {
        snprintf(text, size, "dense");
    } else if (strcmp(p->finetune, "none") == 0) {
        snprintf(text, size, "%s", level);
    } else {
        bool last = is_quantized_last(p);
        if (strncmp(level, "int", 3) == 0) level += 3;
        snprintf(text, size, "%s\u2192%s", last ? tuning : level, last ? level : tuning);
    }
}

/* The series of a glance; those in integers are of nets that run so. */
typedef struct glance {
    series clean, pgd, strong, clean_integers, pgd_integers;
} glance;

static void add_summary(series *s, double x, summary value, const char *label) {
    size_t used = strlen(s->labels);
    if (value.seeds == 0) return;
    add_to(s, x, value.mean, value.low, value.high);
    snprintf(s->labels + used, sizeof s->labels - used, "%s%s", used > 0 ? "\n" : "", label);
}

static void add_to_glance(const job *j, const point *p, glance *g) {
    const point integers = in_integers(p);
    const double x = g->clean.count;
    char name[48];
    short_name(p, name, sizeof name);
    add_summary(&g->clean, x, clean_of(j, p), name);
    add_summary(&g->pgd, x, pgd_of(j, p), name);
    add_summary(&g->strong, x, strong_shipped(j, p), name);
    add_summary(&g->clean_integers, x, clean_of(j, &integers), name);
    if (!is_unreliable(j, &integers)) add_summary(&g->pgd_integers, x, pgd_of(j, &integers), name);
}

static int32_t draw_glance(const glance *g, bool prune, advrob_report *r) {
    int32_t status = 0;
    TRY(draw(r, "clean", &g->clean, 0, "style=points"));
    TRY(draw(r, "clean, integers", &g->clean_integers, 0, "style=points dash=1 shift=-9"));
    TRY(draw(r, "PGD-20", &g->pgd, 1, "style=points"));
    TRY(draw(r, "PGD-20, integers", &g->pgd_integers, 1, "style=points dash=1 shift=-9"));
    TRY(draw(r, prune ? "AutoAttack-lite" : "AutoAttack-lite, on what ships", &g->strong, 2,
             "style=points shift=9"));
out:
    return status;
}

/* A base and its compressed nets side by side, where they are few. */
static int32_t plot_glance(const job *j, const point_list *list, int32_t base,
                           const char *compression, advrob_report *r) {
    enum { FEW = 6 };
    bool prune = strcmp(compression, "prune") == 0;
    glance *g = calloc(1, sizeof *g);
    char title[96], note[400];
    int32_t status = g == NULL ? complain(FAILED, "out of memory") : 0;
    for (int32_t i = 0; g != NULL && i < list->count; i++) {
        const point *p = &list->points[i];
        if (p->base != base || !first_of_seeds(list, i)) continue;
        if (strcmp(p->compression, "none") != 0 && strcmp(p->compression, compression) != 0) {
            continue;
        }
        if (g->clean.count == FEW) goto out;
        add_to_glance(j, p, g);
    }
    if (g == NULL || g->clean.count < 2) goto out;
    snprintf(title, sizeof title, "From the %s base: %s", base_names[base],
             prune ? "pruned" : "quantized");
    if (prune) {
        snprintf(note, sizeof note,
                 "The number: share of filters removed; std, adv: standard, adversarial "
                 "fine-tuning then.");
    } else {
        snprintf(note, sizeof note,
                 "8: eight bits; std, adv: standard, adversarial fine-tuning; in the order of the "
                 "arrow. Filled: simulated; hollow: run in integers, PGD-20 on the first %lld "
                 "images; left out where it is unreliable.",
                 (long long)j->settings->preset->integer_images);
    }
    TRY(open_plot(r, title, "net (and what was done to it)", "accuracy (share of the test images)",
                  "x_scale=category y_low=0 y_high=1 percent_y=1", NULL, 0, note));
    TRY(draw_glance(g, prune, r));
out:
    free(g);
    return status;
}

int32_t plot_glances(const job *j, const point_list *list, advrob_report *r) {
    int32_t status = 0;
    for (int32_t base = 0; base < 2; base++) {
        TRY(plot_glance(j, list, base, "prune", r));
    }
    for (int32_t base = 0; base < 2; base++) {
        TRY(plot_glance(j, list, base, "quant", r));
    }
out:
    return status;
}

int32_t plot_curves(const job *j, const point_list *list, advrob_report *r) {
    const advrob_report *c = j->curves;
    int32_t status = 0, color = 0;
    char note[256], what[128], name[128];
    if (advrob_report_rows(c) == 0) return 0;
    snprintf(note, sizeof note,
             "The first %.0f test images; 20 steps of a tenth of epsilon, zero start. 95 %% "
             "intervals (Wilson). Training and the other figures use epsilon %s.",
             number_cell(c, 0, "images", 0), j->settings->preset->epsilon);
    TRY(open_plot(r, "Accuracy against the attack's strength", "epsilon (pixels of [0, 1])",
                  "accuracy under PGD-20 (share of the images)",
                  "x_low=0 y_low=0 y_high=1 percent_y=1", NULL, 0, note));
    for (int32_t i = 0; i < list->count; i++) {
        series s = {.count = 0};
        name_point(&list->points[i], name, sizeof name);
        for (int32_t row = 0; row < advrob_report_rows(c); row++) {
            if (strcmp(text_cell(c, row, "net"), name) != 0) continue;
            add_to(&s, number_cell(c, row, "epsilon", 0), number_cell(c, row, "accuracy", NAN),
                   number_cell(c, row, "low", NAN), number_cell(c, row, "high", NAN));
        }
        if (s.count == 0) continue;
        describe_point(&list->points[i], false, what, sizeof what);
        TRY(draw(r, what, &s, color++ % COLORS, ""));
    }
out:
    return status;
}

/* Accuracy under attack of the float nets against what they need. */
static int32_t plot_need(const job *j, const point_list *list, const char *column, double scale,
                         const char *title, const char *axis, advrob_report *r) {
    char name[96];
    int32_t status = 0;
    TRY(open_plot(r, title, axis, "accuracy under PGD-20 (share of the test images)",
                  "x_scale=log y_low=0 y_high=1 percent_y=1", NULL, 0, NULL));
    for (int32_t base = 0; base < 2; base++) {
        for (int32_t tuning = 0; tuning < 3; tuning++) {
            family f = {base, "prune", prune_order};
            series s = {.count = 0};
            for (int32_t i = 0; i < list->count; i++) {
                const point *p = &list->points[i];
                if (!belongs(&f, p, tunings[tuning]) || !first_of_seeds(list, i)) continue;
                summary need = summarise(j, p, column, NULL, NULL), pgd = pgd_of(j, p);
                if (need.seeds > 0) add_to(&s, scale * need.mean, pgd.mean, pgd.low, pgd.high);
            }
            snprintf(name, sizeof name, "%s base, %s", base_names[base], tuning_names[tuning]);
            TRY(draw(r, name, &s, tuning_colors[tuning], base == 1 ? "dash=1" : ""));
        }
    }
out:
    return status;
}

int32_t plot_needs(const job *j, const point_list *list, advrob_report *r) {
    int32_t status = 0;
    TRY(plot_need(j, list, "parameters", 1e-3, "Against the number of parameters",
                  "parameters (thousands)", r));
    TRY(plot_need(j, list, "macs", 1e-6, "Against the work of one image",
                  "multiply-adds (millions)", r));
    TRY(plot_need(j, list, "latency_ms_batch1_threads1", 1, "Against the time of one image",
                  "ms for one image, one thread", r));
out:
    return status;
}

/* How many of `epochs` lie in the longest training. */
static size_t epoch_ticks(const job *j) {
    double longest = 1;
    size_t n = 0;
    for (int32_t row = 0; row < advrob_report_rows(j->history); row++)
        longest = fmax(longest, number_cell(j->history, row, "epoch", 0));
    while (n < sizeof epochs / sizeof epochs[0] && epochs[n] <= longest)
        n++;
    return n;
}

static int32_t draw_history(const job *j, const char *training, const char *column,
                            const char *name, int32_t color, const char *style, advrob_report *r) {
    const advrob_report *h = j->history;
    series s = {.count = 0};
    for (int32_t row = 0; row < advrob_report_rows(h); row++) {
        double value = number_cell(h, row, column, NAN);
        if (strcmp(text_cell(h, row, "step"), training) != 0 || isnan(value)) continue;
        add_to(&s, number_cell(h, row, "epoch", 0), value, no_bar, no_bar);
    }
    return draw(r, name, &s, color, style);
}

/* Both bases, and both fine-tunings of the pruned standard net. */
static int32_t plot_epochs(const job *j, const point_list *list, const char *column,
                           const char *title, const char *axis, const char *text,
                           advrob_report *r) {
    char what[128], training[128];
    int32_t status = 0;
    TRY(open_plot(r, title, "epoch (passes over the training images)", axis, text, epochs,
                  epoch_ticks(j),
                  "On the training images as they are trained on: attacked ones in adversarial "
                  "training."));
    for (int32_t i = 0; i < 4; i++) {
        const char *how = base_names[i % 2];
        const point *p =
            i < 2 ? choose_point(list, i, "none", "none", "none") : choose_pruned(list, how);
        if (p == NULL) continue;
        name_point(p, training, sizeof training);
        describe_point(p, false, what, sizeof what);
        TRY(draw_history(j, training, column, what, tuning_colors[1 + i % 2], i < 2 ? "" : "dash=1",
                         r));
    }
out:
    return status;
}

/* What the alarm of adversarial training looks at: a gap between the two would be catastrophic
 * overfitting. */
static int32_t plot_alarm(const job *j, const point_list *list, advrob_report *r) {
    const point *trained[2] = {choose_point(list, 1, "none", "none", "none"),
                               choose_pruned(list, "adversarial")};
    char training[128], what[128], name[160];
    int32_t status = 0;
    if (trained[0] == NULL && trained[1] == NULL) return 0;
    TRY(open_plot(r, "Watched in adversarial training", "epoch (passes over the training images)",
                  "accuracy under attack (share of 64 images)", "y_low=0 y_high=1 percent_y=1",
                  epochs, epoch_ticks(j),
                  "The first training images at the end of each epoch. High under one step (FGSM) "
                  "and low under many (PGD) would be catastrophic overfitting."));
    for (int32_t i = 0; i < 2; i++) {
        if (trained[i] == NULL) continue;
        name_point(trained[i], training, sizeof training);
        describe_point(trained[i], false, what, sizeof what);
        snprintf(name, sizeof name, "%s, FGSM", what);
        TRY(draw_history(j, training, "fgsm_accuracy", name, i, "", r));
        snprintf(name, sizeof name, "%s, PGD", what);
        TRY(draw_history(j, training, "pgd_accuracy", name, i, "dash=1", r));
    }
out:
    return status;
}

int32_t plot_training(const job *j, const point_list *list, advrob_report *r) {
    int32_t status = 0;
    if (advrob_report_rows(j->history) == 0) return 0;
    TRY(plot_epochs(j, list, "loss", "Loss in training", "mean cross entropy (nats)", "y_low=0",
                    r));
    TRY(plot_epochs(j, list, "accuracy", "Accuracy in training",
                    "accuracy (share of the training images)", "y_low=0 y_high=1 percent_y=1", r));
    TRY(plot_alarm(j, list, r));
out:
    return status;
}
