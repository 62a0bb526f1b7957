/* Lists beside the results, each a CSV file under DIR: finished trainings (steps.csv), their
 * epochs (history.csv), accuracies of single classes (classes.csv).
 *
 * A run may be killed between any two writes, and what it had not finished is then computed again,
 * to the same figures: rows that are there already are not added twice. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The last row of `r` whose `column` is `name`, or -1. */
static int32_t last_row(const advrob_report *r, const char *column, const char *name) {
    for (int32_t row = advrob_report_rows(r) - 1; row >= 0; row--) {
        if (strcmp(text_cell(r, row, column), name) == 0) return row;
    }
    return -1;
}

bool step_done(const job *j, const char *name, step *out) {
    char path[4096];
    model_path(j->settings, name, path, sizeof path);
    int32_t row = last_row(j->steps, "step", name);
    if (row < 0 || !file_exists(path)) return false;
    if (out == NULL) return true;
    out->cost = get_cost(j->steps, row, "");
    snprintf(out->note, sizeof out->note, "%s", text_cell(j->steps, row, "note"));
    return true;
}

/* The model first: a step counts as finished by its row. */
int32_t step_keep(job *j, const char *name, const advrob_model *model, const step *s) {
    int32_t status = 0;
    TRY(save_model(j, name, model));
    TRY(advrob_report_add_row(j->steps));
    TRY(advrob_report_put_str(j->steps, "step", name));
    TRY(put_cost(j->steps, "", s->cost));
    TRY(advrob_report_put_str(j->steps, "note", s->note));
    TRY(write_report(j, j->steps, "steps.csv"));
    TRY(remove_checkpoint(j->settings, name));
out:
    return status;
}

static int32_t put_number(advrob_report *r, const advrob_history *h, int32_t row,
                          const char *column) {
    double value = NAN;
    if (advrob_history_get(h, row, column, &value) != ADVROB_OK || isnan(value)) return 0;
    return advrob_report_put_f64(r, column, value);
}

static const char *const history_columns[] = {
    "epoch", "lr", "loss", "accuracy", "fgsm_accuracy", "pgd_accuracy", "seconds", "cpu_seconds"};
enum { HISTORY_COLUMNS = sizeof history_columns / sizeof history_columns[0] };

/* The same columns whatever is trained first. */
int32_t history_declare(advrob_report *history) {
    int32_t status = advrob_report_add_column(history, "step");
    for (int32_t i = 0; i < HISTORY_COLUMNS && status == 0; i++)
        status = advrob_report_add_column(history, history_columns[i]);
    return status;
}

int32_t history_keep(job *j, const char *name, const advrob_history *h) {
    int32_t status = 0;
    if (last_row(j->history, "step", name) >= 0) return 0;
    for (int32_t row = 0; row < advrob_history_rows(h); row++) {
        TRY(advrob_report_add_row(j->history));
        TRY(advrob_report_put_str(j->history, "step", name));
        for (int32_t i = 0; i < HISTORY_COLUMNS; i++) {
            TRY(put_number(j->history, h, row, history_columns[i]));
        }
    }
    TRY(write_report(j, j->history, "history.csv"));
out:
    return status;
}

int32_t classes_keep(job *j, const char *name, const advrob_report *score) {
    int32_t status = 0, classes = advrob_dataset_classes(j->test);
    char clean[32], pgd[32];
    if (last_row(j->classes, "net", name) >= 0) return 0;
    for (int32_t k = 0; k < classes; k++) {
        snprintf(clean, sizeof clean, "class%d_accuracy", k);
        snprintf(pgd, sizeof pgd, "class%d_pgd20_accuracy", k);
        double value = number_cell(score, 0, clean, NAN);
        if (isnan(value)) continue; /* no image of it */
        TRY(advrob_report_add_row(j->classes));
        TRY(advrob_report_put_str(j->classes, "net", name));
        TRY(advrob_report_put_i64(j->classes, "class", k));
        TRY(advrob_report_put_f64(j->classes, "clean_accuracy", value));
        TRY(advrob_report_put_f64(j->classes, "pgd20_accuracy", number_cell(score, 0, pgd, 0)));
    }
    TRY(write_report(j, j->classes, "classes.csv"));
out:
    return status;
}

double class_accuracy(const job *j, const char *name, int32_t k, const char *column) {
    for (int32_t row = 0; row < advrob_report_rows(j->classes); row++) {
        if (strcmp(text_cell(j->classes, row, "net"), name) != 0) continue;
        if (number_cell(j->classes, row, "class", -1) != k) continue;
        return number_cell(j->classes, row, column, NAN);
    }
    return NAN;
}
