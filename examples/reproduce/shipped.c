/* The page's part on what ships: quantized nets in integers beside their simulations, and attacked
 * images of each net tried on the others. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double mean_of(const job *j, const point *p, const char *column) {
    summary s = summarise(j, p, column, NULL, NULL);
    return s.seeds > 0 ? s.mean : NAN;
}

static void put_text(char *cells, size_t size, const char *text) {
    size_t used = strlen(cells);
    snprintf(cells + used, size - used, "\n%s", text);
}

/* "12.3 %"; "-" for what is not there. */
static void put_share(char *cells, size_t size, double share) {
    char text[32] = "-";
    if (!isnan(share)) snprintf(text, sizeof text, "%.1f %%", 100 * share);
    put_text(cells, size, text);
}

/* Of an accuracy under attack that the check does not believe. */
static void put_doubted(char *cells, size_t size, double share, bool unreliable) {
    char text[48];
    if (!unreliable || isnan(share)) {
        put_share(cells, size, share);
        return;
    }
    snprintf(text, sizeof text, "unreliable (%.1f %%)", 100 * share);
    put_text(cells, size, text);
}

static void put_figure(char *cells, size_t size, double value, int decimals) {
    char text[32] = "-";
    if (!isnan(value)) snprintf(text, sizeof text, "%.*f", decimals, value);
    put_text(cells, size, text);
}

/* The first row of several seeds that gives reasons. */
static const char *reasons_of(const job *j, const point *p) {
    int32_t row = find_row(j->results, p);
    const char *text = row < 0 ? "" : text_cell(j->results, row, "reasons");
    return *text != '\0' ? text : "another seed";
}

static int32_t add_integers_row(const job *j, const point *p, advrob_report *r) {
    const point integers = in_integers(p);
    const bool unreliable = is_unreliable(j, &integers);
    char cells[1200], verdict[700] = "reliable";
    describe_point(p, false, cells, 160);
    put_figure(cells, sizeof cells, 1e-3 * mean_of(j, &integers, "bytes"), 0);
    put_figure(cells, sizeof cells, mean_of(j, &integers, "latency_ms_batch1_threads1"), 2);
    put_share(cells, sizeof cells, mean_of(j, p, "clean_accuracy"));
    put_share(cells, sizeof cells, mean_of(j, &integers, "clean_accuracy"));
    put_share(cells, sizeof cells, mean_of(j, p, "pgd20_accuracy"));
    put_doubted(cells, sizeof cells, mean_of(j, &integers, "pgd20_accuracy"), unreliable);
    put_doubted(cells, sizeof cells, mean_of(j, &integers, "autoattack_lite_accuracy"), unreliable);
    if (unreliable) {
        snprintf(verdict, sizeof verdict, "unreliable: %s", reasons_of(j, &integers));
    }
    put_text(cells, sizeof cells, verdict);
    return advrob_report_add_table_row(r, cells);
}

/* Rows come once for several seeds: those of the first. */
static bool is_first_seed(const job *j, const point *p) {
    return p->seed == (int64_t)number_cell(j->results, 0, "seed", 0);
}

static int32_t add_integers(const job *j, const point_list *list, advrob_report *r) {
    const preset *set = j->settings->preset;
    char columns[400];
    bool opened = false;
    int32_t status = 0;
    snprintf(columns, sizeof columns,
             "net\nfile, kB\nms, 1 image, 1 thread\nclean, simulated\nclean, integers\nPGD-20, "
             "simulated\nPGD-20, integers%s\nAutoAttack-lite, integers\nverdict",
             set->integer_images < set->test_images ? " (fewer images)" : "");
    for (int32_t i = 0; i < list->count; i++) {
        const point integers = in_integers(&list->points[i]);
        if (!is_first_seed(j, &integers) || clean_of(j, &integers).seeds == 0) continue;
        if (!opened) {
            TRY(advrob_report_add_table(r, "Quantized nets in integers", columns));
        }
        opened = true;
        TRY(add_integers_row(j, &list->points[i], r));
    }
out:
    return status;
}

/* Nets that the engine did not take. */
static int32_t add_refused(const job *j, const point_list *list, advrob_report *r) {
    char cells[700];
    bool opened = false;
    int32_t status = 0;
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        int32_t row = find_row(j->results, p);
        const char *refused = row < 0 ? "" : text_cell(j->results, row, "refused");
        if (*refused == '\0' || !is_first_seed(j, p)) continue;
        if (!opened) TRY(advrob_report_add_table(r, "Nets that stay simulated", "net\nwhy"));
        opened = true;
        describe_point(p, false, cells, 160);
        put_text(cells, sizeof cells, refused);
        TRY(advrob_report_add_table_row(r, cells));
    }
out:
    return status;
}

static void name_net(const job *j, const group_net *n, char *text, size_t size) {
    bool integers = runs_in_integers(j, n->name);
    bool quantized = n->point != NULL && strcmp(n->point->compression, "quant") == 0;
    bool unreliable = false;
    if (quantized) {
        const point p = in_integers(n->point);
        unreliable = is_unreliable(j, &p);
    }
    snprintf(text, size, "%s%s%s", n->label,
             integers    ? ", integers"
             : quantized ? ", simulated"
                         : "",
             unreliable ? " (unreliable)" : "");
}

static int32_t add_matrix(const job *j, const net_group *g, advrob_report *r) {
    char columns[MAX_GROUP * 96] = "images made on", cells[MAX_GROUP * 24 + 160], name[96];
    char title[160];
    bool tuned = strcmp(g->finetune, "none") != 0;
    int32_t status = 0;
    snprintf(title, sizeof title, "Transfer between nets of the %s base, %s%s", base_names[g->base],
             tuned ? g->finetune : "not fine-tuned", tuned ? "ly fine-tuned" : "");
    for (int32_t t = 0; t < g->count; t++) {
        name_net(j, &g->nets[t], name, sizeof name);
        put_text(columns, sizeof columns, name);
    }
    TRY(advrob_report_add_table(r, title, columns));
    TRY(advrob_report_shade_table(r, 0, 100));
    for (int32_t s = 0; s < g->count; s++) {
        name_net(j, &g->nets[s], cells, sizeof cells);
        for (int32_t t = 0; t < g->count; t++) {
            put_share(cells, sizeof cells,
                      transfer_cell(j, g->nets[s].name, g->nets[t].name, "accuracy"));
        }
        TRY(advrob_report_add_table_row(r, cells));
    }
out:
    return status;
}

static int32_t add_matrices(const job *j, advrob_report *r) {
    char text[600];
    int32_t status = 0;
    bool told = false;
    net_group g;
    for (int32_t k = 0; k < GROUPS; k++) {
        find_group(j, &j->plan, k, &g);
        if (g.count < 2) continue;
        snprintf(text, sizeof text,
                 "Each row: PGD-20 images made on that net from the first %lld test images; each "
                 "column: the share of them that the net there still classifies right (right "
                 "before, too). The diagonal is a net under its own attack. A net with figures far "
                 "below its own in its column would hide its gradients.",
                 (long long)j->settings->preset->strong_images);
        if (!told) TRY(advrob_report_add_text(r, text));
        told = true;
        TRY(add_matrix(j, &g, r));
    }
out:
    return status;
}

int32_t add_shipped(const job *j, const point_list *list, advrob_report *r) {
    const preset *set = j->settings->preset;
    char text[900];
    int32_t status = 0;
    bool quantized = false;
    for (int32_t i = 0; i < list->count; i++)
        quantized = quantized || strcmp(list->points[i].compression, "quant") == 0;
    TRY(advrob_report_add_heading(r, "What ships"));
    snprintf(text, sizeof text,
             "A quantized net ships as a file of integers. It is attacked as it runs: its own "
             "answers, with the gradients of its simulation (straight through the rounding); "
             "PGD-20 on the first %lld test images, AutoAttack-lite on the first %lld. Rounding "
             "can hide gradients, so each net is checked for it: random search, or images made on "
             "the float net, must not be stronger than its own gradient. A number that fails the "
             "check is called unreliable.",
             (long long)set->integer_images, (long long)set->strong_images);
    if (quantized) TRY(advrob_report_add_text(r, text));
    TRY(add_integers(j, list, r));
    TRY(add_refused(j, list, r));
    TRY(add_matrices(j, r));
out:
    return status;
}
