/* Fine-tuning. */
#include "api.h"

int32_t advrob_finetune_create(advrob_context *ctx, const char *name, const advrob_options *options,
                               advrob_finetune **out) {
    AR_API_PRESENT(name);
    AR_API_PRESENT(out);
    AR_API(ctx, ar_finetune_create(ctx, name, options, out));
}

void advrob_finetune_destroy(advrob_finetune *finetune) {
    ar_finetune_release(finetune);
}

int32_t advrob_finetune_run(const advrob_finetune *finetune, advrob_model *model,
                            const advrob_dataset *train, const advrob_dataset *valid,
                            advrob_history **history) {
    AR_API_PRESENT(finetune);
    AR_API_PRESENT(model);
    AR_API_PRESENT(train);
    AR_API(model->ctx, ar_finetune_run(finetune, model, train, valid, history));
}

int32_t advrob_history_rows(const advrob_history *history) {
    return history == NULL ? 0 : history->rows;
}

int32_t advrob_history_get(const advrob_history *history, int32_t row, const char *column,
                           double *value) {
    AR_API_PRESENT(history);
    AR_API_PRESENT(column);
    AR_API_PRESENT(value);
    return ar_history_get(history, row, column, value);
}

int32_t advrob_history_get_str(const advrob_history *history, const char *name, const char **text) {
    AR_API_PRESENT(history);
    AR_API_PRESENT(name);
    AR_API_PRESENT(text);
    return ar_history_get_str(history, name, text);
}

void advrob_history_destroy(advrob_history *history) {
    ar_history_release(history);
}
