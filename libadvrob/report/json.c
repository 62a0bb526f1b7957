/* The report as JSON: {"settings": {...}, "rows": [{...}, ...]}; and the choice of format by
 * ending. */
#include <string.h>

#include "report.h"

static void print_value(ar_buffer *buffer, const ar_cell *cell) {
    if (cell->kind == ADVROB_TYPE_STR)
        ar_json_write_string(buffer, cell->text);
    else if (cell->kind == ADVROB_TYPE_F64)
        ar_json_write_f64(buffer, cell->number);
    else
        ar_cell_print(buffer, cell);
}

static void print_row(const advrob_report *report, int32_t row, ar_buffer *buffer) {
    bool first = true;
    ar_buffer_add(buffer, "{");
    for (int32_t c = 0; c < report->widths[row]; c++) {
        const ar_cell *cell = &report->rows[row][c];
        if (cell->kind == 0) continue;
        if (!first) ar_buffer_add(buffer, ", ");
        first = false;
        ar_json_write_string(buffer, report->columns[c]);
        ar_buffer_add(buffer, ": ");
        print_value(buffer, cell);
    }
    ar_buffer_add(buffer, "}");
}

void ar_report_json(const advrob_report *report, ar_buffer *buffer) {
    ar_buffer_add(buffer, "{\n  \"settings\": {");
    for (int32_t i = 0; i < report->setting_count; i++) {
        ar_buffer_add(buffer, i == 0 ? "\n    " : ",\n    ");
        ar_json_write_string(buffer, report->settings[i].key);
        ar_buffer_add(buffer, ": ");
        print_value(buffer, &report->settings[i].value);
    }
    ar_buffer_add(buffer, "\n  },\n  \"rows\": [");
    for (int32_t r = 0; r < report->row_count; r++) {
        ar_buffer_add(buffer, r == 0 ? "\n    " : ",\n    ");
        print_row(report, r, buffer);
    }
    ar_buffer_add(buffer, "\n  ]\n}\n");
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

int32_t ar_report_write(const advrob_report *report, const char *path) {
    int32_t status = ADVROB_OK;
    ar_buffer buffer;
    ar_buffer_init(&buffer, &report->ctx->memory);
    if (ends_with(path, ".csv"))
        ar_report_csv(report, &buffer);
    else if (ends_with(path, ".json"))
        ar_report_json(report, &buffer);
    else
        AR_FAIL(ADVROB_E_UNSUPPORTED,
                "report %s: the ending names no format; expected .csv or .json", path);
    AR_TRY(ar_buffer_status(&buffer));
    AR_TRY(ar_file_write(report->ctx, path, buffer.data, buffer.length));
out:
    ar_buffer_free(&buffer);
    return status;
}
