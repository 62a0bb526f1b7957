/* The report as JSON: {"settings": {...}, "rows": [{...}, ...], "plots": [{...}, ...],
 * "tables": [{...}, ...]}; and the choice of format by ending. */
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

/* Lines of a text as an array of `count` strings. */
static int32_t print_lines(const char *text, int64_t count, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    ar_buffer line;
    ar_lines lines = ar_lines_of(text);
    ar_buffer_init(&line, buffer->memory);
    ar_buffer_add(buffer, "[");
    for (int64_t i = 0; i < count; i++) {
        ar_text piece = ar_lines_next(&lines);
        line.length = 0;
        ar_buffer_bytes(&line, piece.at, piece.length); /* terminated */
        AR_TRY(ar_buffer_status(&line));
        if (i > 0) ar_buffer_add(buffer, ", ");
        ar_json_write_string(buffer, line.data);
    }
    ar_buffer_add(buffer, "]");
out:
    ar_buffer_free(&line);
    return status;
}

/* Without values an empty array: a series without error bars. */
static void print_numbers(const char *key, const double *values, int64_t count, ar_buffer *buffer) {
    ar_buffer_add(buffer, ", \"%s\": [", key);
    for (int64_t i = 0; values != NULL && i < count; i++) {
        if (i > 0) ar_buffer_add(buffer, ", ");
        ar_json_write_f64(buffer, values[i]);
    }
    ar_buffer_add(buffer, "]");
}

static int32_t print_plot(const ar_plot *plot, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    ar_buffer_add(buffer, "{\"title\": ");
    ar_json_write_string(buffer, plot->title);
    ar_buffer_add(buffer, ", \"x\": ");
    ar_json_write_string(buffer, plot->x_name);
    ar_buffer_add(buffer, ", \"y\": ");
    ar_json_write_string(buffer, plot->y_name);
    ar_buffer_add(buffer, ", \"series\": [");
    for (const ar_series *s = plot->first; s != NULL; s = s->next) {
        ar_buffer_add(buffer, s == plot->first ? "\n      {\"name\": " : ",\n      {\"name\": ");
        ar_json_write_string(buffer, s->name);
        print_numbers("x", s->x, s->count, buffer);
        print_numbers("y", s->y, s->count, buffer);
        print_numbers("low", s->low, s->count, buffer);
        print_numbers("high", s->high, s->count, buffer);
        ar_buffer_add(buffer, ", \"labels\": ");
        AR_TRY(print_lines(s->labels, s->labels == NULL ? 0 : s->count, buffer));
        ar_buffer_add(buffer, "}");
    }
    ar_buffer_add(buffer, "]}");
out:
    return status;
}

static int32_t print_table(const ar_table *table, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    ar_buffer_add(buffer, "{\"title\": ");
    ar_json_write_string(buffer, table->title);
    ar_buffer_add(buffer, ", \"columns\": ");
    AR_TRY(print_lines(table->columns, table->column_count, buffer));
    ar_buffer_add(buffer, ", \"rows\": [");
    for (const ar_table_row *row = table->first; row != NULL; row = row->next) {
        ar_buffer_add(buffer, row == table->first ? "\n      " : ",\n      ");
        AR_TRY(print_lines(row->cells, table->column_count, buffer));
    }
    ar_buffer_add(buffer, "]}");
out:
    return status;
}

static int32_t print_page(const ar_page *page, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    bool first = true;
    ar_buffer_add(buffer, "  \"plots\": [");
    for (const ar_item *item = page->first; item != NULL; item = item->next) {
        if (item->plot == NULL) continue;
        ar_buffer_add(buffer, first ? "\n    " : ",\n    ");
        first = false;
        AR_TRY(print_plot(item->plot, buffer));
    }
    ar_buffer_add(buffer, "\n  ],\n  \"tables\": [");
    first = true;
    for (const ar_item *item = page->first; item != NULL; item = item->next) {
        if (item->table == NULL) continue;
        ar_buffer_add(buffer, first ? "\n    " : ",\n    ");
        first = false;
        AR_TRY(print_table(item->table, buffer));
    }
    ar_buffer_add(buffer, "\n  ]\n}\n");
out:
    return status;
}

int32_t ar_report_json(const advrob_report *report, ar_buffer *buffer) {
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
    ar_buffer_add(buffer, "\n  ],\n");
    return print_page(&report->page, buffer);
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
        AR_TRY(ar_report_json(report, &buffer));
    else if (ends_with(path, ".html"))
        AR_TRY(ar_report_html(report, &buffer));
    else
        AR_FAIL(ADVROB_E_UNSUPPORTED,
                "report %s: the ending names no format; expected .csv, .json or .html", path);
    AR_TRY(ar_buffer_status(&buffer));
    AR_TRY(ar_file_write(report->ctx, path, buffer.data, buffer.length));
out:
    ar_buffer_free(&buffer);
    return status;
}
