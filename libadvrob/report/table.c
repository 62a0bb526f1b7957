/* The report in memory: settings, columns, rows of cells. */
#include <string.h>

#include "report.h"

int32_t ar_report_create(advrob_context *ctx, advrob_report **out) {
    void *block;
    int32_t status = ar_calloc(&ctx->memory, 1, sizeof(advrob_report), "report", &block);
    if (status < 0) return status;
    *out = block;
    (*out)->ctx = ctx;
    ar_page_init(&(*out)->page, &ctx->memory);
    ar_context_retain(ctx);
    return ADVROB_OK;
}

void ar_report_destroy(advrob_report *report) {
    if (report == NULL) return;
    advrob_context *ctx = report->ctx;
    ar_memory *memory = &ctx->memory;
    for (int32_t i = 0; i < report->setting_count; i++) {
        ar_free(memory, report->settings[i].key);
        ar_free(memory, report->settings[i].value.text);
    }
    for (int32_t i = 0; i < report->column_count; i++)
        ar_free(memory, report->columns[i]);
    ar_report_drop_rows(report, 0);
    ar_free(memory, report->settings);
    ar_free(memory, report->columns);
    ar_free(memory, report->rows);
    ar_free(memory, report->widths);
    ar_page_free(&report->page);
    ar_free(memory, report);
    ar_context_release(ctx);
}

static int32_t copy_text(advrob_report *report, const char *text, char **out) {
    void *block;
    size_t size = strlen(text) + 1;
    int32_t status = ar_alloc(&report->ctx->memory, size, "report text", &block);
    if (status < 0) return status;
    memcpy(block, text, size);
    *out = block;
    return ADVROB_OK;
}

static int32_t find_column(const advrob_report *report, const char *name) {
    for (int32_t i = 0; i < report->column_count; i++)
        if (strcmp(report->columns[i], name) == 0) return i;
    return -1;
}

int32_t ar_report_add_column(advrob_report *report, const char *name) {
    int32_t status = ADVROB_OK;
    if (name == NULL || name[0] == 0) AR_FAIL(ADVROB_E_INVALID, "report: a column without a name");
    if (find_column(report, name) >= 0) return ADVROB_OK;
    AR_TRY(ar_regrow(&report->ctx->memory, (void **)&report->columns,
                     (size_t)report->column_count + 1, sizeof(char *), "report columns"));
    AR_TRY(copy_text(report, name, &report->columns[report->column_count]));
    report->column_count++;
out:
    return status;
}

int32_t ar_report_add_row(advrob_report *report) {
    int32_t status = ADVROB_OK;
    size_t rows = (size_t)report->row_count + 1;
    AR_TRY(ar_regrow(&report->ctx->memory, (void **)&report->rows, rows, sizeof(ar_cell *),
                     "report rows"));
    AR_TRY(ar_regrow(&report->ctx->memory, (void **)&report->widths, rows, sizeof(int32_t),
                     "report rows"));
    report->rows[report->row_count] = NULL;
    report->widths[report->row_count] = 0;
    report->row_count++;
out:
    return status;
}

static int32_t assign(advrob_report *report, ar_cell *cell, ar_cell value) {
    if (value.kind == ADVROB_TYPE_STR) {
        char *copy = NULL;
        int32_t status = copy_text(report, value.text, &copy);
        if (status < 0) return status;
        value.text = copy;
    } else {
        value.text = NULL;
    }
    ar_free(&report->ctx->memory, cell->text);
    *cell = value;
    return ADVROB_OK;
}

int32_t ar_report_make_room(advrob_report *report, const char *column) {
    int32_t status = ADVROB_OK, row = report->row_count - 1;
    if (row < 0) AR_FAIL(ADVROB_E_INVALID, "report: no row yet; call advrob_report_add_row first");
    AR_TRY(ar_report_add_column(report, column));
    int32_t at = find_column(report, column);
    if (at >= report->widths[row]) {
        AR_TRY(ar_regrow(&report->ctx->memory, (void **)&report->rows[row],
                         (size_t)report->column_count, sizeof(ar_cell), "report row"));
        memset(report->rows[row] + report->widths[row], 0,
               sizeof(ar_cell) * (size_t)(report->column_count - report->widths[row]));
        report->widths[row] = report->column_count;
    }
out:
    return status;
}

int32_t ar_report_put(advrob_report *report, const char *column, ar_cell value) {
    int32_t status = ar_report_make_room(report, column);
    if (status < 0) return status;
    return assign(report, &report->rows[report->row_count - 1][find_column(report, column)], value);
}

void ar_report_assign(advrob_report *report, const char *column, ar_cell value) {
    ar_cell *cell = &report->rows[report->row_count - 1][find_column(report, column)];
    ar_free(&report->ctx->memory, cell->text);
    *cell = value;
}

void ar_report_drop_rows(advrob_report *report, int32_t count) {
    while (report->row_count > count) {
        int32_t row = --report->row_count;
        for (int32_t c = 0; c < report->widths[row]; c++)
            ar_free(&report->ctx->memory, report->rows[row][c].text);
        ar_free(&report->ctx->memory, report->rows[row]);
    }
}

int32_t ar_report_set(advrob_report *report, const char *key, ar_cell value) {
    int32_t status = ADVROB_OK, i = 0;
    while (i < report->setting_count && strcmp(report->settings[i].key, key) != 0)
        i++;
    if (i == report->setting_count) {
        AR_TRY(ar_regrow(&report->ctx->memory, (void **)&report->settings, (size_t)i + 1,
                         sizeof(ar_setting), "report settings"));
        report->settings[i] = (ar_setting){NULL, {0}};
        AR_TRY(copy_text(report, key, &report->settings[i].key));
    }
    status = assign(report, &report->settings[i].value, value);
    if (i < report->setting_count) goto out;
    if (status < 0)
        ar_free(&report->ctx->memory, report->settings[i].key);
    else
        report->setting_count++; /* a setting counts when it has its value */
out:
    return status;
}

const ar_cell *ar_report_get(const advrob_report *report, int32_t row, const char *column) {
    int32_t at = find_column(report, column);
    if (row < 0 || row >= report->row_count || at < 0 || at >= report->widths[row]) return NULL;
    const ar_cell *cell = &report->rows[row][at];
    return cell->kind == 0 ? NULL : cell;
}

void ar_cell_print(ar_buffer *buffer, const ar_cell *cell) {
    if (cell->kind == ADVROB_TYPE_STR) ar_buffer_add(buffer, "%s", cell->text);
    if (cell->kind == ADVROB_TYPE_I64) ar_buffer_add(buffer, "%lld", (long long)cell->whole);
    if (cell->kind == ADVROB_TYPE_F64) ar_buffer_add(buffer, "%g", cell->number);
}
