/* What a person reads at the end: a table of all points, and the finding in words. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 12 };
static const char *const heads[COLUMNS] = {"base",     "compression", "fine-tuning",   "clean %",
                                           "PGD-20 %", "AA-lite %",   "parameters",    "MMACs",
                                           "kB",       "ms, 1 image", "ms, 64 images", "tuning s"};
typedef char cells[COLUMNS][48];

static void put_number(char *cell, summary s, double scale, int decimals) {
    if (s.seeds == 0) {
        snprintf(cell, sizeof(cells) / COLUMNS, "-");
    } else {
        snprintf(cell, sizeof(cells) / COLUMNS, "%.*f", decimals, s.mean * scale);
    }
}

static void put_accuracy(char *cell, summary s) {
    snprintf(cell, sizeof(cells) / COLUMNS, "%5.1f +- %.1f", 100 * s.mean, 100 * s.spread);
}

static void fill(const job *j, const point *p, cells row) {
    size_t size = sizeof row[0];
    bool quant = strcmp(p->compression, "quant") == 0, prune = strcmp(p->compression, "prune") == 0;
    snprintf(row[0], size, "%s", base_names[p->base]);
    snprintf(row[1], size, "%s%s", prune ? "prune " : "", p->level);
    if (quant && strcmp(p->finetune, "none") != 0) {
        bool last = is_quantized_last(p);
        snprintf(row[2], size, "%s, then %s", last ? p->finetune : p->level,
                 last ? p->level : p->finetune);
    } else {
        snprintf(row[2], size, "%s", p->finetune);
    }
    put_accuracy(row[3], clean_of(j, p));
    put_accuracy(row[4], pgd_of(j, p));
    put_accuracy(row[5], strong_of(j, p));
    put_number(row[6], summarise(j, p, "parameters", NULL, NULL), 1, 0);
    put_number(row[7], summarise(j, p, "macs", NULL, NULL), 1e-6, 2);
    put_number(row[8], summarise(j, p, "bytes", NULL, NULL), 1e-3, 0);
    put_number(row[9], summarise(j, p, "latency_ms_batch1", NULL, NULL), 1, 2);
    put_number(row[10], summarise(j, p, "latency_ms_batch64", NULL, NULL), 1, 2);
    put_number(row[11], summarise(j, p, "finetune_seconds", NULL, NULL), 1, 1);
}

/* Points of the first seed that have a row of some seed. */
static bool shown(const job *j, const point *p) {
    return p->seed == j->settings->seed && clean_of(j, p).seeds > 0;
}

static void print_row(const int *widths, cells row) {
    for (int32_t c = 0; c < COLUMNS; c++) {
        printf(c < 3 ? "%s%-*s" : "%s%*s", c == 0 ? "" : "  ", widths[c], row[c]);
    }
    putchar('\n');
}

void print_table(const job *j) {
    int widths[COLUMNS];
    int32_t last_base = -1;
    cells row;
    for (int32_t c = 0; c < COLUMNS; c++)
        widths[c] = (int)strlen(heads[c]);
    for (int32_t i = 0; i < j->plan.count; i++) {
        if (!shown(j, &j->plan.points[i])) continue;
        fill(j, &j->plan.points[i], row);
        for (int32_t c = 0; c < COLUMNS; c++) {
            if ((int)strlen(row[c]) > widths[c]) widths[c] = (int)strlen(row[c]);
        }
    }
    for (int32_t c = 0; c < COLUMNS; c++)
        snprintf(row[c], sizeof row[c], "%s", heads[c]);
    putchar('\n');
    print_row(widths, row);
    for (int32_t i = 0; i < j->plan.count; i++) {
        const point *p = &j->plan.points[i];
        if (!shown(j, p)) continue;
        if (p->base != last_base) putchar('\n');
        last_base = p->base;
        fill(j, p, row);
        print_row(widths, row);
    }
    printf(
        "\n%lld test images (AA-lite, %s: the first %lld), epsilon %s in pixels of [0, 1], %s; +- "
        "is %s.\n",
        (long long)j->settings->preset->test_images, strong_attack,
        (long long)j->settings->preset->strong_images, j->settings->preset->epsilon,
        j->settings->clip ? "attacked images clipped to valid pixels" : "not clipped",
        has_seeds(j) ? "the standard deviation over the seeds" : "half the 95 % interval");
}

/* One sentence on a compressed net; false if one of its rows is missing. */
static bool print_lift(const job *j, point p, const char *what) {
    p.finetune = "standard";
    summary clean_standard = clean_of(j, &p), pgd_standard = pgd_of(j, &p);
    p.finetune = "adversarial";
    summary clean = clean_of(j, &p), pgd = pgd_of(j, &p);
    if (pgd.seeds == 0 || pgd_standard.seeds == 0) return false;
    double lift = 100 * (pgd.mean - pgd_standard.mean);
    printf("%s: adversarial instead of standard fine-tuning %s PGD-20 accuracy by %.1f points "
           "(%.1f to %.1f %%; clean %.1f to %.1f %%).\n",
           what, lift < 0 ? "lowers" : "lifts", fabs(lift), 100 * pgd_standard.mean, 100 * pgd.mean,
           100 * clean_standard.mean, 100 * clean.mean);
    return true;
}

/* The paper's claim: what it costs beside adversarial training from scratch. */
static void print_cost(const job *j, const point *tuned) {
    point base = {1, "none", "none", "none", "none", tuned->seed};
    summary training = summarise(j, &base, "base_seconds", NULL, NULL), robust = pgd_of(j, &base);
    summary seconds = summarise(j, tuned, "finetune_seconds", NULL, NULL), pgd = pgd_of(j, tuned);
    if (training.seeds == 0 || seconds.seeds == 0) return;
    double more = 100 * (robust.mean - pgd.mean);
    printf("It took %.1f s; adversarial training of the base took %.1f s and reaches %.1f %%, %.1f "
           "points %s.\n",
           seconds.mean, training.mean, 100 * robust.mean, fabs(more), more < 0 ? "less" : "more");
}

void print_findings(const job *j) {
    static const char *const compressions[] = {"prune", "quant"};
    char what[96];
    for (int32_t c = 0; c < 2; c++) {
        const point *found = NULL;
        for (int32_t i = 0; i < j->plan.count; i++) {
            const point *p = &j->plan.points[i];
            bool wanted = strcmp(p->level, c == 0 ? "0.5" : "int8") == 0;
            if (p->base != 0 || strcmp(p->compression, compressions[c]) != 0) continue;
            if (strcmp(p->finetune, "adversarial") != 0 || is_quantized_last(p)) continue;
            if (found == NULL || wanted) found = p;
            if (wanted) break;
        }
        if (found == NULL) continue;
        if (c == 0) {
            snprintf(what, sizeof what, "Standard base, pruned by %s", found->level);
            if (print_lift(j, *found, what)) print_cost(j, found);
            continue;
        }
        point before = *found;
        before.order = order_names[0];
        snprintf(what, sizeof what, "Standard base, fine-tuned, then %s", found->level);
        print_lift(j, before, what);
        snprintf(what, sizeof what, "Standard base, %s, fine-tuned as such", found->level);
        print_lift(j, *found, what);
    }
}
