/* Reports. */
#include "api.h"

int32_t advrob_report_create(advrob_context *ctx, advrob_report **out) {
    AR_API_PRESENT(out);
    AR_API(ctx, ar_report_create(ctx, out));
}

void advrob_report_destroy(advrob_report *report) {
    ar_report_destroy(report);
}

int32_t advrob_report_add_column(advrob_report *report, const char *column) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API(report->ctx, ar_report_add_column(report, column));
}

/* A copy of the text is made at once; the cell only carries it there. */
static ar_cell text_cell(const char *value) {
    union {
        const char *in;
        char *out;
    } same = {value};
    return (ar_cell){.kind = ADVROB_TYPE_STR, .text = same.out};
}

int32_t advrob_report_set_str(advrob_report *report, const char *key, const char *value) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(key);
    AR_API_PRESENT(value);
    AR_API(report->ctx, ar_report_set(report, key, text_cell(value)));
}

int32_t advrob_report_set_f64(advrob_report *report, const char *key, double value) {
    ar_cell cell = {.kind = ADVROB_TYPE_F64, .number = value};
    AR_API_PRESENT(report);
    AR_API_PRESENT(key);
    AR_API(report->ctx, ar_report_set(report, key, cell));
}

int32_t advrob_report_add_row(advrob_report *report) {
    AR_API_PRESENT(report);
    AR_API(report->ctx, ar_report_add_row(report));
}

int32_t advrob_report_put_str(advrob_report *report, const char *column, const char *value) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API_PRESENT(value);
    AR_API(report->ctx, ar_report_put(report, column, text_cell(value)));
}

int32_t advrob_report_put_f64(advrob_report *report, const char *column, double value) {
    ar_cell cell = {.kind = ADVROB_TYPE_F64, .number = value};
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API(report->ctx, ar_report_put(report, column, cell));
}

int32_t advrob_report_put_i64(advrob_report *report, const char *column, int64_t value) {
    ar_cell cell = {.kind = ADVROB_TYPE_I64, .whole = value};
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API(report->ctx, ar_report_put(report, column, cell));
}

int32_t advrob_report_rows(const advrob_report *report) {
    return report == NULL ? 0 : report->row_count;
}

static int32_t find(const advrob_report *report, int32_t row, const char *column,
                    const ar_cell **cell) {
    *cell = ar_report_get(report, row, column);
    if (*cell == NULL)
        return ar_error(ADVROB_E_UNKNOWN, "report: nothing in row %d, column \"%s\"", row, column);
    return ADVROB_OK;
}

int32_t advrob_report_get_f64(const advrob_report *report, int32_t row, const char *column,
                              double *value) {
    const ar_cell *cell;
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API_PRESENT(value);
    int32_t status = find(report, row, column, &cell);
    if (status < 0) return status;
    if (cell->kind == ADVROB_TYPE_STR)
        return ar_error(ADVROB_E_INVALID, "report: \"%s\" in column \"%s\" is no number",
                        cell->text, column);
    *value = cell->kind == ADVROB_TYPE_I64 ? (double)cell->whole : cell->number;
    return ADVROB_OK;
}

int32_t advrob_report_get_str(const advrob_report *report, int32_t row, const char *column,
                              const char **value) {
    const ar_cell *cell;
    AR_API_PRESENT(report);
    AR_API_PRESENT(column);
    AR_API_PRESENT(value);
    int32_t status = find(report, row, column, &cell);
    if (status < 0) return status;
    if (cell->kind != ADVROB_TYPE_STR)
        return ar_error(ADVROB_E_INVALID, "report: the value in column \"%s\" is no text", column);
    *value = cell->text;
    return ADVROB_OK;
}

int32_t advrob_report_evaluate(advrob_report *report, advrob_target *target,
                               const advrob_dataset *test, const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(target);
    AR_API_PRESENT(test);
    AR_API(report->ctx, ar_report_evaluate(report, target, test, options));
}

int32_t advrob_report_curve(advrob_report *report, advrob_target *target,
                            const advrob_dataset *test, const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(target);
    AR_API_PRESENT(test);
    AR_API(report->ctx, ar_report_curve(report, target, test, options));
}

int32_t advrob_report_check(advrob_report *report, advrob_target *target,
                            const advrob_dataset *test, const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(target);
    AR_API_PRESENT(test);
    AR_API(report->ctx, ar_report_check(report, target, test, options));
}

int32_t advrob_report_profile(advrob_report *report, advrob_model *model,
                              const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(model);
    AR_API(report->ctx, ar_report_profile(report, model, options));
}

int32_t advrob_report_quantization(advrob_report *report, const advrob_model *model,
                                   advrob_model *quantized, const advrob_dataset *data,
                                   const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(model);
    AR_API_PRESENT(quantized);
    AR_API_PRESENT(data);
    AR_API(report->ctx, ar_report_quantization(report, model, quantized, data, options));
}

int32_t advrob_report_write(const advrob_report *report, const char *path) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(path);
    AR_API(report->ctx, ar_report_write(report, path));
}

int32_t advrob_report_read_csv(advrob_report *report, const char *path) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(path);
    AR_API(report->ctx, ar_report_read_csv(report, path));
}
