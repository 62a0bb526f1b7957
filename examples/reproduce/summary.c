/* Figures of a point over the seeds that the results hold. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double number_cell(const advrob_report *r, int32_t row, const char *column, double otherwise) {
    double value = 0;
    return advrob_report_get_f64(r, row, column, &value) == ADVROB_OK ? value : otherwise;
}

const char *text_cell(const advrob_report *r, int32_t row, const char *column) {
    const char *text = "";
    return advrob_report_get_str(r, row, column, &text) == ADVROB_OK ? text : "";
}

/* A sparsity is a number in the file. */
static bool same_level(const advrob_report *results, int32_t row, const point *p) {
    if (strcmp(p->compression, "prune") == 0) {
        return number_cell(results, row, "level", -1) == atof(p->level);
    }
    return strcmp(text_cell(results, row, "level"), p->level) == 0;
}

static bool same_net(const advrob_report *results, int32_t row, const point *p) {
    const bool integers = strcmp(text_cell(results, row, "execution"), "integer") == 0;
    return integers == p->integers &&
           strcmp(text_cell(results, row, "base"), base_names[p->base]) == 0 &&
           strcmp(text_cell(results, row, "compression"), p->compression) == 0 &&
           same_level(results, row, p) && strcmp(text_cell(results, row, "order"), p->order) == 0 &&
           strcmp(text_cell(results, row, "finetune"), p->finetune) == 0;
}

int32_t find_row(const advrob_report *results, const point *p) {
    for (int32_t row = 0; row < advrob_report_rows(results); row++) {
        if (same_net(results, row, p) && number_cell(results, row, "seed", -1) == (double)p->seed) {
            return row;
        }
    }
    return -1;
}

summary summarise(const job *j, const point *p, const char *column, const char *low,
                  const char *high) {
    summary s = {.seeds = 0};
    double squares = 0;
    for (int32_t row = 0; row < advrob_report_rows(j->results); row++) {
        if (!same_net(j->results, row, p)) continue;
        double value = number_cell(j->results, row, column, NAN);
        if (isnan(value)) continue;
        s.seeds++;
        s.mean += value;
        squares += value * value;
        s.low = low == NULL ? value : number_cell(j->results, row, low, value);
        s.high = high == NULL ? value : number_cell(j->results, row, high, value);
    }
    if (s.seeds == 0) return s;
    s.mean /= s.seeds;
    s.spread = (s.high - s.low) / 2;
    if (s.seeds > 1) {
        s.spread = sqrt(fmax(0, squares - s.seeds * s.mean * s.mean) / (s.seeds - 1));
        s.low = s.mean - s.spread;
        s.high = s.mean + s.spread;
    }
    return s;
}

summary clean_of(const job *j, const point *p) {
    return summarise(j, p, "clean_accuracy", "clean_low", "clean_high");
}

summary pgd_of(const job *j, const point *p) {
    return summarise(j, p, "pgd20_accuracy", "pgd20_low", "pgd20_high");
}

summary strong_of(const job *j, const point *p) {
    return summarise(j, p, "autoattack_lite_accuracy", "autoattack_lite_low",
                     "autoattack_lite_high");
}

summary strong_shipped(const job *j, const point *p) {
    summary own = strong_of(j, p);
    const point integers = in_integers(p);
    if (own.seeds > 0 || is_unreliable(j, &integers)) return own;
    return strong_of(j, &integers);
}

point in_integers(const point *p) {
    point q = *p;
    q.integers = true;
    return q;
}

bool is_unreliable(const job *j, const point *p) {
    for (int32_t row = 0; row < advrob_report_rows(j->results); row++) {
        if (!same_net(j->results, row, p)) continue;
        if (strcmp(text_cell(j->results, row, "verdict"), "unreliable") == 0) return true;
    }
    return false;
}

/* The point of a row; its texts are the report's. */
static point point_of(const advrob_report *results, int32_t row) {
    point p = {.base = strcmp(text_cell(results, row, "base"), base_names[1]) == 0,
               .compression = text_cell(results, row, "compression"),
               .order = text_cell(results, row, "order"),
               .finetune = text_cell(results, row, "finetune"),
               .seed = (int64_t)number_cell(results, row, "seed", 0)};
    if (strcmp(p.compression, "prune") == 0) {
        snprintf(p.level, sizeof p.level, "%.4g", number_cell(results, row, "level", 0));
    } else {
        snprintf(p.level, sizeof p.level, "%s", text_cell(results, row, "level"));
    }
    return p;
}

int32_t finished_points(const job *j, point_list *out) {
    for (int32_t row = 0; row < advrob_report_rows(j->results); row++) {
        if (strcmp(text_cell(j->results, row, "execution"), "integer") == 0) continue;
        int32_t status = add_point(out, point_of(j->results, row));
        if (status != 0) return status;
    }
    return 0;
}

/* Whether several seeds were run: spreads are then over the seeds. */
bool has_seeds(const job *j) {
    double first = number_cell(j->results, 0, "seed", 0);
    for (int32_t row = 1; row < advrob_report_rows(j->results); row++) {
        if (number_cell(j->results, row, "seed", first) != first) return true;
    }
    return false;
}

const point *choose_point(const point_list *list, int32_t base, const char *compression,
                          const char *finetune, const char *wanted) {
    const point *found = NULL;
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        if (p->base != base || strcmp(p->compression, compression) != 0) continue;
        if (strcmp(p->finetune, finetune) != 0 || is_quantized_last(p)) continue;
        if (strcmp(p->level, wanted) == 0) return p;
        if (found == NULL) found = p;
    }
    return found;
}

static const point *find_pruned(const point_list *list, const char *finetune, double level) {
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        if (p->base != 0 || strcmp(p->compression, "prune") != 0) continue;
        if (strcmp(p->finetune, finetune) == 0 && atof(p->level) == level) return p;
    }
    return NULL;
}

const point *choose_pruned(const point_list *list, const char *finetune) {
    static const char *const all[] = {"none", "standard", "adversarial"};
    const double half = 0.5;
    double chosen = NAN;
    for (int32_t i = -1; i < list->count && isnan(chosen); i++) {
        double level = i < 0 ? half : atof(list->points[i].level);
        int32_t there = 0;
        for (int32_t k = 0; k < 3; k++)
            there += find_pruned(list, all[k], level) != NULL;
        if (there == 3) chosen = level;
    }
    return isnan(chosen) ? NULL : find_pruned(list, finetune, chosen);
}
