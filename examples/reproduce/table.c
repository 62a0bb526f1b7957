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

/* An accuracy under attack that the check does not believe is not shown as one. */
static void put_accuracy(char *cell, summary s, bool unreliable) {
    size_t size = sizeof(cells) / COLUMNS;
    if (s.seeds == 0) {
        snprintf(cell, size, "-");
    } else if (unreliable) {
        snprintf(cell, size, "unreliable (%.1f)", 100 * s.mean);
    } else {
        snprintf(cell, size, "%5.1f +- %.1f", 100 * s.mean, 100 * s.spread);
    }
}

static void fill(const job *j, const point *p, cells row) {
    size_t size = sizeof row[0];
    bool quant = strcmp(p->compression, "quant") == 0, prune = strcmp(p->compression, "prune") == 0;
    bool unreliable = is_unreliable(j, p);
    snprintf(row[0], size, "%s", base_names[p->base]);
    snprintf(row[1], size, "%s%s%s", prune ? "prune " : "", p->level,
             p->integers ? ", integers" : "");
    if (quant && strcmp(p->finetune, "none") != 0) {
        bool last = is_quantized_last(p);
        snprintf(row[2], size, "%s, then %s", last ? p->finetune : p->level,
                 last ? p->level : p->finetune);
    } else {
        snprintf(row[2], size, "%s", p->finetune);
    }
    put_accuracy(row[3], clean_of(j, p), false);
    put_accuracy(row[4], pgd_of(j, p), unreliable);
    put_accuracy(row[5], strong_of(j, p), unreliable);
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

/* The rows of the table: each net, and behind it the same in integers. */
static int32_t list_shown(const job *j, point_list *out) {
    int32_t status = 0;
    for (int32_t i = 0; i < j->plan.count; i++) {
        const point *p = &j->plan.points[i], integers = in_integers(p);
        if (!shown(j, p)) continue;
        TRY(add_point(out, *p));
        if (shown(j, &integers)) TRY(add_point(out, integers));
    }
out:
    return status;
}

static void print_notes(const job *j, const point_list *list) {
    const preset *set = j->settings->preset;
    bool integers = false;
    printf(
        "\n%lld test images (AA-lite, %s: the first %lld), epsilon %s in pixels of [0, 1], %s; +- "
        "is %s.\n",
        (long long)set->test_images, strong_attack, (long long)set->strong_images, set->epsilon,
        j->settings->clip ? "attacked images clipped to valid pixels" : "not clipped",
        has_seeds(j) ? "the standard deviation over the seeds" : "half the 95 % interval");
    for (int32_t i = 0; i < list->count; i++)
        integers = integers || list->points[i].integers;
    if (!integers) return;
    printf("Integers: the engine, attacked itself with the simulation's gradients; PGD-20 on the "
           "first %lld images%s.\n",
           (long long)set->integer_images,
           set->integer_images == set->test_images ? ", which are all" : "");
}

int32_t print_table(const job *j) {
    point_list list = {NULL, 0};
    int widths[COLUMNS];
    int32_t last_base = -1, status = 0;
    cells row;
    TRY(list_shown(j, &list));
    for (int32_t c = 0; c < COLUMNS; c++)
        widths[c] = (int)strlen(heads[c]);
    for (int32_t i = 0; i < list.count; i++) {
        fill(j, &list.points[i], row);
        for (int32_t c = 0; c < COLUMNS; c++) {
            if ((int)strlen(row[c]) > widths[c]) widths[c] = (int)strlen(row[c]);
        }
    }
    for (int32_t c = 0; c < COLUMNS; c++)
        snprintf(row[c], sizeof row[c], "%s", heads[c]);
    putchar('\n');
    print_row(widths, row);
    for (int32_t i = 0; i < list.count; i++) {
        if (list.points[i].base != last_base) putchar('\n');
        last_base = list.points[i].base;
        fill(j, &list.points[i], row);
        print_row(widths, row);
    }
    print_notes(j, &list);
out:
    free_points(&list);
    return status;
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

/* Where the other fine-tuning was left out. */
static void print_robust(const job *j, const point *p, const char *what) {
    summary clean = clean_of(j, p), pgd = pgd_of(j, p);
    if (pgd.seeds == 0) return;
    printf("%s: adversarial fine-tuning gives a PGD-20 accuracy of %.1f %% (clean %.1f %%).\n",
           what, 100 * pgd.mean, 100 * clean.mean);
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

/* The adversarially fine-tuned nets of a compression from the standard base, by order: of the
 * level `wanted`, else of the first. */
static const point *find_tuned(const job *j, const char *order, const char *wanted) {
    const point *found = NULL;
    for (int32_t i = 0; i < j->plan.count; i++) {
        const point *p = &j->plan.points[i];
        if (p->base != 0 || strcmp(p->order, order) != 0) continue;
        if (strcmp(p->finetune, "adversarial") != 0) continue;
        if (strcmp(p->level, wanted) == 0) return p;
        if (found == NULL) found = p;
    }
    return found;
}

/* What ships, against the float net: both as files. */
static void print_shipped(const job *j, const point *p) {
    point base = {0, "none", "none", "none", "none", p->seed}, integers = in_integers(p);
    summary bytes = summarise(j, &integers, "bytes", NULL, NULL), clean = clean_of(j, &integers);
    summary pgd = pgd_of(j, &integers), whole = summarise(j, &base, "bytes", NULL, NULL);
    if (bytes.seeds == 0) return;
    printf("It ships as %.0f kB that run in integers: clean %.1f %%, PGD-20 ", 1e-3 * bytes.mean,
           100 * clean.mean);
    printf(is_unreliable(j, &integers) ? "unreliable (%.1f %%)" : "%.1f %%", 100 * pgd.mean);
    if (whole.seeds > 0) printf("; %.2f of the base's file", bytes.mean / whole.mean);
    puts(".");
}

void print_findings(const job *j) {
    const point *pruned = find_tuned(j, prune_order, "0.5"), *quantized;
    char what[96];
    if (pruned != NULL) {
        snprintf(what, sizeof what, "Standard base, pruned by %s", pruned->level);
        if (!print_lift(j, *pruned, what)) print_robust(j, pruned, what);
        print_cost(j, pruned);
    }
    for (int32_t i = 0; i < 2; i++) {
        quantized = find_tuned(j, order_names[i], "int8");
        if (quantized == NULL) continue;
        snprintf(what, sizeof what, "Standard base, %s%s%s", i == 0 ? "fine-tuned, then " : "",
                 quantized->level, i == 0 ? "" : ", fine-tuned as such");
        if (!print_lift(j, *quantized, what)) print_robust(j, quantized, what);
        print_shipped(j, quantized);
    }
}
