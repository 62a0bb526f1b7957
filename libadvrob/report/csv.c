/* CSV (RFC 4180): one header line, one line a row; and the way back. */
#include <string.h>

#include "report.h"

#define READ_LIMIT (64u << 20)

static void print_quoted(ar_buffer *buffer, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        ar_buffer_add(buffer, "%s", text);
        return;
    }
    ar_buffer_add(buffer, "\"");
    for (const char *c = text; *c != 0; c++)
        ar_buffer_add(buffer, *c == '"' ? "\"\"" : "%c", *c);
    ar_buffer_add(buffer, "\"");
}

void ar_report_csv(const advrob_report *report, ar_buffer *buffer) {
    for (int32_t c = 0; c < report->column_count; c++) {
        if (c > 0) ar_buffer_add(buffer, ",");
        print_quoted(buffer, report->columns[c]);
    }
    ar_buffer_add(buffer, "\n");
    for (int32_t r = 0; r < report->row_count; r++) {
        for (int32_t c = 0; c < report->column_count; c++) {
            const ar_cell *cell = c < report->widths[r] ? &report->rows[r][c] : NULL;
            if (c > 0) ar_buffer_add(buffer, ",");
            if (cell == NULL) continue;
            if (cell->kind == ADVROB_TYPE_STR)
                print_quoted(buffer, cell->text);
            else
                ar_cell_print(buffer, cell);
        }
        ar_buffer_add(buffer, "\n");
    }
}

/* A reader of one field after another; fields are unquoted in place. */
typedef struct reader {
    const char *path;
    char *at, *end;
    int64_t line;
} reader;

/* The next field as terminated text. *last: it ended its line. */
static int32_t next_field(reader *r, char **field, bool *last) {
    char *to = r->at;
    bool quoted = r->at < r->end && *r->at == '"';
    *field = to;
    if (quoted) {
        r->at++;
        for (;; r->at++) {
            if (r->at >= r->end)
                return ar_error(ADVROB_E_FORMAT, "%s, line %lld: a quote is not closed", r->path,
                                (long long)r->line);
            if (*r->at == '"' && (r->at + 1 >= r->end || r->at[1] != '"')) break;
            if (*r->at == '"') r->at++;
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

static ar_cell parse_cell(char *field) {
    ar_cell cell = {.kind = ADVROB_TYPE_STR, .text = field};
    size_t length = strlen(field);
    if (length == 0)
        cell.kind = 0;
    else if (ar_parse_i64(field, length, &cell.whole))
        cell.kind = ADVROB_TYPE_I64;
    else if (ar_parse_f64(field, length, &cell.number))
        cell.kind = ADVROB_TYPE_F64;
    return cell;
}

static int32_t read_row(advrob_report *report, reader *r, char **columns, int32_t count) {
    int32_t status = ADVROB_OK;
    bool last = false;
    int64_t line = r->line;
    char *field;
    AR_TRY(ar_report_add_row(report));
    for (int32_t c = 0; !last; c++) {
        AR_TRY(next_field(r, &field, &last));
        if (c >= count || (last && c != count - 1))
            AR_FAIL(ADVROB_E_FORMAT, "%s, line %lld: %s than %d fields", r->path, (long long)line,
                    c >= count ? "more" : "fewer", count);
        ar_cell cell = parse_cell(field);
        if (cell.kind != 0) AR_TRY(ar_report_put(report, columns[c], cell));
    }
out:
    return status;
}

int32_t ar_report_read_csv(advrob_report *report, const char *path) {
    enum { MAX_COLUMNS = 1024 };
    int32_t status = ADVROB_OK, count = 0;
    uint8_t *data = NULL;
    size_t size;
    bool last = false;
    char *columns[MAX_COLUMNS];
    AR_TRY(ar_file_read(report->ctx, path, READ_LIMIT, &data, &size));
    if (memchr(data, 0, size) != NULL)
        AR_FAIL(ADVROB_E_FORMAT, "%s: a zero byte in a text file", path);
    reader r = {path, (char *)data, (char *)data + size, 1};
    while (!last) {
        if (count == MAX_COLUMNS) AR_FAIL(ADVROB_E_LIMIT, "%s: over %d columns", path, MAX_COLUMNS);
        AR_TRY(next_field(&r, &columns[count], &last));
        AR_TRY(ar_report_add_column(report, columns[count++]));
    }
    while (r.at < r.end)
        AR_TRY(read_row(report, &r, columns, count));
out:
    ar_free(&report->ctx->memory, data);
    return status;
}
