/* The history of a run: a row an epoch, and how the run ended. */
#include <string.h>

#include "method.h"

int32_t ar_history_get(const advrob_history *history, int32_t row, const char *column,
                       double *value) {
    static const char *const columns[AR_HISTORY_COLUMNS] = {
        "epoch",          "lr",           "loss",       "accuracy",
        "valid_accuracy", "seconds",      "steps",      "valid_robust_accuracy",
        "fgsm_accuracy",  "pgd_accuracy", "cpu_seconds"};
    if (row < 0 || row >= history->rows)
        return ar_error(ADVROB_E_UNKNOWN, "history row %d, expected 0 to %d", row,
                        history->rows - 1);
    for (int32_t i = 0; i < AR_HISTORY_COLUMNS; i++)
        if (strcmp(columns[i], column) == 0) {
            *value = history->values[row * AR_HISTORY_COLUMNS + i];
            return ADVROB_OK;
        }
    const char *near = ar_nearest(column, columns, AR_HISTORY_COLUMNS);
    return ar_error(ADVROB_E_UNKNOWN, "no history column \"%s\"; did you mean \"%s\"?", column,
                    near != NULL ? near : "loss");
}

int32_t ar_history_get_str(const advrob_history *history, const char *name, const char **text) {
    if (strcmp(name, "ended") == 0)
        *text = history->ended;
    else if (strcmp(name, "alarm") == 0)
        *text = history->alarm;
    else
        return ar_error(ADVROB_E_UNKNOWN, "no history text \"%s\"; expected \"ended\" or \"alarm\"",
                        name);
    return ADVROB_OK;
}

void ar_history_release(advrob_history *history) {
    if (history == NULL) return;
    advrob_context *ctx = history->ctx;
    ar_free(&ctx->memory, history->values);
    ar_free(&ctx->memory, history);
    ar_context_release(ctx);
}
