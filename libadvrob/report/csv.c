/* CSV (RFC 4180): one header line, one line a row; and the way back. Text that would read as a
 * number or as an empty cell is quoted, and what is quoted is text, so that cells keep their types.
 */
#include <math.h>
#include <string.h>

#include "report.h"

#define READ_LIMIT (64u << 20)
#define MAX_COLUMNS 1024

/* A cell without quotes: a number, or nothing; false: it is text. */
static bool parse_number(const char *field, ar_cell *cell) {
    size_t length = strlen(field);
    *cell = (ar_cell){.kind = ADVROB_TYPE_F64};
    if (length == 0) {
        cell->kind = 0;
        return true;
    }
    if (strcmp(field, "-0") != 0 && ar_parse_i64(field, length, &cell->whole)) {
        cell->kind = ADVROB_TYPE_I64;
        return true;
    }
    if (strcmp(field, "nan") == 0)
        cell->number = NAN;
    else if (strcmp(field, "inf") == 0 || strcmp(field, "-inf") == 0)
        cell->number = field[0] == '-' ? -INFINITY : INFINITY;
    else
        return ar_parse_f64(field, length, &cell->number);
    return true;
}

static void print_in_quotes(ar_buffer *buffer, const char *text, size_t length) {
    ar_buffer_add(buffer, "\"");
    for (size_t i = 0; i < length; i++)
        ar_buffer_add(buffer, text[i] == '"' ? "\"\"" : "%c", text[i]);
    ar_buffer_add(buffer, "\"");
}

void ar_csv_text(ar_buffer *buffer, const char *text) {
    ar_cell cell;
    if (strpbrk(text, ",\"\r\n") == NULL && !parse_number(text, &cell)) {
        ar_buffer_add(buffer, "%s", text);
        return;
    }
    print_in_quotes(buffer, text, strlen(text));
}

void ar_report_csv(const advrob_report *report, ar_buffer *buffer) {
    for (int32_t c = 0; c < report->column_count; c++) {
        if (c > 0) ar_buffer_add(buffer, ",");
        ar_csv_text(buffer, report->columns[c]);
    }
    ar_buffer_add(buffer, "\n");
    for (int32_t r = 0; r < report->row_count; r++) {
        for (int32_t c = 0; c < report->column_count; c++) {
            const ar_cell *cell = c < report->widths[r] ? &report->rows[r][c] : NULL;
            if (c > 0) ar_buffer_add(buffer, ",");
            if (cell == NULL) continue;
            if (cell->kind == ADVROB_TYPE_STR)
                ar_csv_text(buffer, cell->text);
            else
                ar_cell_print(buffer, cell);
        }
        ar_buffer_add(buffer, "\n");
    }
}

/* One line a point; a NaN reads "nan", an error bar that was not given is empty. */
static void print_points(const ar_plot *plot, const ar_series *series, ar_buffer *buffer) {
    ar_lines labels = ar_lines_of(series->labels);
    for (int64_t i = 0; i < series->count; i++) {
        ar_text label = ar_lines_next(&labels);
        ar_csv_text(buffer, plot->title);
        ar_buffer_add(buffer, ",");
        ar_csv_text(buffer, series->name);
        ar_buffer_add(buffer, ",");
        if (label.length > 0) print_in_quotes(buffer, label.at, label.length);
        ar_buffer_add(buffer, ",%g,%g,", series->x[i], series->y[i]);
        if (series->low != NULL) ar_buffer_add(buffer, "%g", series->low[i]);
        ar_buffer_add(buffer, ",");
        if (series->high != NULL) ar_buffer_add(buffer, "%g", series->high[i]);
        ar_buffer_add(buffer, "\n");
    }
}

int32_t ar_report_write_plots(const advrob_report *report, const char *path) {
    int32_t status = ADVROB_OK;
    ar_buffer buffer;
    ar_buffer_init(&buffer, &report->ctx->memory);
    ar_buffer_add(&buffer, "plot,series,label,x,y,low,high\n");
    for (const ar_item *item = report->page.first; item != NULL; item = item->next)
        for (const ar_series *s = item->plot == NULL ? NULL : item->plot->first; s; s = s->next)
            print_points(item->plot, s, &buffer);
    AR_TRY(ar_buffer_status(&buffer));
    AR_TRY(ar_file_write(report->ctx, path, buffer.data, buffer.length));
out:
    ar_buffer_free(&buffer);
    return status;
}

/* A reader of one field after another; fields are unquoted in place. */
typedef struct reader {
    const char *path;
    char *at, *end;
    int64_t line;
} reader;

/* The next field as terminated text. *last: it ended its line. */
static int32_t next_field(reader *r, char **field, bool *quoted, bool *last) {
    char *to = r->at;
    int64_t line = r->line;
    *quoted = r->at < r->end && *r->at == '"';
    *field = to;
    if (*quoted) {
        r->at++;
        for (;; r->at++) {
            if (r->at >= r->end)
                return ar_error(ADVROB_E_FORMAT, "%s, line %lld: a quote is not closed", r->path,
                                (long long)line);
            if (*r->at == '"' && (r->at + 1 >= r->end || r->at[1] != '"')) break;
            if (*r->at == '"') r->at++;
            if (*r->at == '\n') r->line++;
            *to++ = *r->at;
        }
        r->at++;
    } else {
        while (r->at < r->end && *r->at != ',' && *r->at != '\n' && *r->at != '\r')
            *to++ = *r->at++;
    }
    if (r->at < r->end && *r->at == '\r') r->at++;
    if (r->at < r->end && *r->at != ',' && *r->at != '\n')
        return ar_error(ADVROB_E_FORMAT, "%s, line %lld: text after a closing quote", r->path,
                        (long long)r->line);
    *last = r->at >= r->end || *r->at == '\n';
    if (*last) r->line++;
    if (r->at < r->end) r->at++;
    *to = 0;
    return ADVROB_OK;
}

static ar_cell parse_cell(char *field, bool quoted) {
    ar_cell cell;
    if (!quoted && parse_number(field, &cell)) return cell;
    return (ar_cell){.kind = ADVROB_TYPE_STR, .text = field};
}

static int32_t read_row(advrob_report *report, reader *r, char **columns, int32_t count) {
    int32_t status = ADVROB_OK;
    bool last = false, quoted;
    int64_t line = r->line;
    char *field;
    AR_TRY(ar_report_add_row(report));
    for (int32_t c = 0; !last; c++) {
        AR_TRY(next_field(r, &field, &quoted, &last));
        if (c >= count || (last && c != count - 1))
            AR_FAIL(ADVROB_E_FORMAT, "%s, line %lld: %s than %d fields", r->path, (long long)line,
                    c >= count ? "more" : "fewer", count);
        ar_cell cell = parse_cell(field, quoted);
        if (cell.kind != 0) AR_TRY(ar_report_put(report, columns[c], cell));
    }
out:
    return status;
}

static int32_t read_header(advrob_report *report, reader *r, char **columns, int32_t *count) {
    int32_t status = ADVROB_OK;
    bool last = false, quoted;
    while (!last) {
        int32_t n = *count;
        if (n == MAX_COLUMNS) AR_FAIL(ADVROB_E_LIMIT, "%s: over %d columns", r->path, MAX_COLUMNS);
        AR_TRY(next_field(r, &columns[n], &quoted, &last));
        if (columns[n][0] == 0)
            AR_FAIL(ADVROB_E_FORMAT, "%s, line 1: column %d has no name", r->path, n + 1);
        for (int32_t i = 0; i < n; i++)
            if (strcmp(columns[i], columns[n]) == 0)
                AR_FAIL(ADVROB_E_FORMAT, "%s, line 1: column %d bears the name of column %d",
                        r->path, n + 1, i + 1);
        ++*count;
    }
    for (int32_t i = 0; i < *count; i++)
        AR_TRY(ar_report_add_column(report, columns[i]));
out:
    return status;
}

int32_t ar_report_read_csv(advrob_report *report, const char *path) {
    int32_t status = ADVROB_OK, count = 0, rows = report->row_count;
    uint8_t *data = NULL;
    size_t size;
    char *columns[MAX_COLUMNS];
    AR_TRY(ar_file_read(report->ctx, path, READ_LIMIT, &data, &size));
    if (memchr(data, 0, size) != NULL)
        AR_FAIL(ADVROB_E_FORMAT, "%s: a zero byte in a text file", path);
    reader r = {path, (char *)data, (char *)data + size, 1};
    AR_TRY(read_header(report, &r, columns, &count));
    while (r.at < r.end)
        AR_TRY(read_row(report, &r, columns, count));
out:
    if (status < 0) ar_report_drop_rows(report, rows);
    ar_free(&report->ctx->memory, data);
    return status;
}
