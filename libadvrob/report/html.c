/* The page: one HTML file with everything in it. Nothing is loaded and nothing runs; the policy in
 * its head says so to the browser too. */
#include <string.h>

#include "report.h"

void ar_html_text(ar_buffer *buffer, const char *text, size_t length) {
    for (size_t at = 0, n; at < length; at += n) {
        unsigned char c = (unsigned char)text[at];
        n = ar_utf8_length(text + at, length - at);
        /* C1 controls are two bytes in UTF-8: c2 80 to c2 9f. */
        bool control = (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f ||
                       (n == 2 && c == 0xc2 && (unsigned char)text[at + 1] < 0xa0);
        if (n == 0 || control) {
            ar_buffer_bytes(buffer, "\xef\xbf\xbd", 3);
            if (n == 0) n = 1;
        } else if (c == '&') {
            ar_buffer_add(buffer, "&amp;");
        } else if (c == '<') {
            ar_buffer_add(buffer, "&lt;");
        } else if (c == '>') {
            ar_buffer_add(buffer, "&gt;");
        } else if (c == '"') {
            ar_buffer_add(buffer, "&quot;");
        } else if (c == '\'') {
            ar_buffer_add(buffer, "&#39;");
        } else {
            ar_buffer_bytes(buffer, text + at, n);
        }
    }
}

static void put_text(ar_buffer *buffer, const char *text) {
    ar_html_text(buffer, text, strlen(text));
}

/* <tag class="...">text</tag> */
static void put_element(ar_buffer *buffer, const char *tag, const char *text) {
    ar_buffer_add(buffer, "<%s>", tag);
    put_text(buffer, text);
    ar_buffer_add(buffer, "</%s>\n", tag);
}

/* ---- cells ---- */

/* Whether a cell reads as a number, with a unit or an interval perhaps: "68.3 %", "2.7x". */
static bool is_number(ar_text cell) {
    size_t at = 0, letters = 0;
    if (at < cell.length && (cell.at[at] == '-' || cell.at[at] == '+')) at++;
    if (at >= cell.length || cell.at[at] < '0' || cell.at[at] > '9') return false;
    for (; at < cell.length; at++)
        letters += (cell.at[at] >= 'a' && cell.at[at] <= 'z') ||
                   (cell.at[at] >= 'A' && cell.at[at] <= 'Z');
    return letters <= 3;
}

static void put_cell(ar_buffer *buffer, const char *tag, ar_text cell, bool right) {
    ar_buffer_add(buffer, right ? "<%s class=\"number\">" : "<%s>", tag);
    ar_html_text(buffer, cell.at, cell.length);
    ar_buffer_add(buffer, "</%s>", tag);
}

/* A cell of a shaded table: where the number that it begins with lies between low and high. */
static void put_shaded(ar_buffer *buffer, const ar_table *table, ar_text cell) {
    size_t length = 0;
    double value = 0;
    while (length < cell.length && strchr("+-.0123456789", cell.at[length]) != NULL)
        length++;
    if (!ar_parse_f64(cell.at, length, &value)) {
        put_cell(buffer, "td", cell, is_number(cell));
        return;
    }
    double share = value / (table->high - table->low) - table->low / (table->high - table->low);
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    ar_buffer_add(buffer, "<td class=\"number shade\" style=\"--shade:%.2f\">", share);
    ar_html_text(buffer, cell.at, cell.length);
    ar_buffer_add(buffer, "</td>");
}

static ar_text line_at(const char *text, int32_t index) {
    ar_lines lines = ar_lines_of(text);
    ar_text line = ar_lines_next(&lines);
    while (index-- > 0)
        line = ar_lines_next(&lines);
    return line;
}

/* Whether all cells of a column that are not empty are numbers: then its name stands right too. */
static bool is_number_column(const ar_table *table, int32_t column) {
    bool any = false;
    for (const ar_table_row *row = table->first; row != NULL; row = row->next) {
        ar_text cell = line_at(row->cells, column);
        if (cell.length == 0) continue;
        if (!is_number(cell)) return false;
        any = true;
    }
    return any;
}

/* ---- items ---- */

static void put_plot(const ar_plot *plot, int32_t number, ar_buffer *buffer) {
    ar_buffer_add(buffer, "<figure class=\"plot\">\n");
    put_element(buffer, "h3", plot->title);
    ar_svg_plot(plot, number, buffer);
    if (plot->first != NULL) ar_buffer_add(buffer, "<ul class=\"legend\">\n");
    for (const ar_series *s = plot->first; s != NULL; s = s->next) {
        ar_buffer_add(buffer, "<li>");
        ar_svg_sample(s, buffer);
        put_element(buffer, "span", s->name);
        ar_buffer_add(buffer, "</li>\n");
    }
    if (plot->first != NULL) ar_buffer_add(buffer, "</ul>\n");
    if (plot->note[0] != 0) put_element(buffer, "figcaption", plot->note);
    ar_buffer_add(buffer, "</figure>\n");
}

static int32_t put_image(ar_memory *memory, const ar_strip *images, int32_t row, int32_t column,
                         ar_buffer *buffer) {
    int32_t status = ADVROB_OK, at = row * images->columns + column;
    size_t one = (size_t)images->channels * (size_t)images->height * (size_t)images->width;
    ar_text name = line_at(images->row_names, row), caption = line_at(images->captions, at);
    ar_buffer_add(buffer, "<figure><span class=\"row\">");
    ar_html_text(buffer, name.at, name.length);
    ar_buffer_add(buffer, "</span><img width=\"%d\" height=\"%d\" alt=\"", images->width,
                  images->height);
    ar_html_text(buffer, name.at, name.length);
    if (name.length > 0 && caption.length > 0) ar_buffer_add(buffer, ": ");
    ar_html_text(buffer, caption.at, caption.length);
    ar_buffer_add(buffer, "\" src=\"");
    AR_TRY(ar_png_uri(memory, images->channels, images->height, images->width,
                      images->pixels + (size_t)at * one, buffer));
    ar_buffer_add(buffer, "\"><figcaption>");
    ar_html_text(buffer, caption.at, caption.length);
    ar_buffer_add(buffer, "</figcaption></figure>\n");
out:
    return status;
}

/* Column by column, so that on a narrow page the columns wrap and images that belong together stay
 * under each other. */
static int32_t put_images(ar_memory *memory, const ar_strip *images, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    put_element(buffer, "h3", images->title);
    ar_buffer_add(buffer, "<div class=\"scroll\"><div class=\"strip\" style=\"--rows:%d\">\n",
                  images->rows);
    ar_buffer_add(buffer, "<div class=\"names\">");
    for (int32_t r = 0; r < images->rows; r++) {
        ar_text name = line_at(images->row_names, r);
        put_cell(buffer, "span", name, false);
    }
    ar_buffer_add(buffer, "</div>\n");
    for (int32_t c = 0; c < images->columns; c++) {
        ar_buffer_add(buffer, "<div class=\"column\">\n");
        for (int32_t r = 0; r < images->rows; r++)
            AR_TRY(put_image(memory, images, r, c, buffer));
        ar_buffer_add(buffer, "</div>\n");
    }
    ar_buffer_add(buffer, "</div></div>\n");
out:
    return status;
}

static void open_table(ar_buffer *buffer, const char *attributes) {
    ar_buffer_add(buffer, "<div class=\"scroll\" tabindex=\"0\"><table%s>\n<thead><tr>",
                  attributes);
}

static void put_table(const ar_table *table, ar_buffer *buffer) {
    ar_lines names = ar_lines_of(table->columns);
    put_element(buffer, "h3", table->title);
    open_table(buffer, table->shaded ? " class=\"shaded\"" : "");
    for (int32_t c = 0; c < table->column_count; c++)
        put_cell(buffer, "th", ar_lines_next(&names), is_number_column(table, c));
    ar_buffer_add(buffer, "</tr></thead>\n<tbody>\n");
    for (const ar_table_row *row = table->first; row != NULL; row = row->next) {
        ar_lines cells = ar_lines_of(row->cells);
        ar_buffer_add(buffer, "<tr>");
        for (int32_t c = 0; c < table->column_count; c++) {
            ar_text cell = ar_lines_next(&cells);
            if (table->shaded && c > 0)
                put_shaded(buffer, table, cell);
            else
                put_cell(buffer, "td", cell, is_number(cell));
        }
        ar_buffer_add(buffer, "</tr>\n");
    }
    ar_buffer_add(buffer, "</tbody></table></div>\n");
}

/* ---- the report's rows and settings ---- */

static bool is_empty_column(const advrob_report *report, int32_t column) {
    for (int32_t r = 0; r < report->row_count; r++)
        if (column < report->widths[r] && report->rows[r][column].kind != 0) return false;
    return true;
}

/* Six digits are enough for the eye; JSON and CSV have all. */
static void put_value(ar_buffer *buffer, const char *tag, const ar_cell *cell, bool align) {
    bool number = cell->kind == ADVROB_TYPE_F64 || cell->kind == ADVROB_TYPE_I64;
    ar_buffer_add(buffer, number && align ? "<%s class=\"number\">" : "<%s>", tag);
    if (cell->kind == ADVROB_TYPE_STR)
        put_text(buffer, cell->text);
    else if (cell->kind == ADVROB_TYPE_F64)
        ar_buffer_add(buffer, "%.6g", cell->number);
    else
        ar_cell_print(buffer, cell);
    ar_buffer_add(buffer, "</%s>", tag);
}

static void put_rows(const advrob_report *report, ar_buffer *buffer) {
    static const ar_cell empty = {0};
    bool any = false;
    for (int32_t c = 0; c < report->column_count; c++)
        any = any || !is_empty_column(report, c);
    if (!any) return;
    ar_buffer_add(buffer, "<section>\n<h2>All figures</h2>\n<details><summary>%d row%s</summary>\n",
                  report->row_count, report->row_count == 1 ? "" : "s");
    open_table(buffer, "");
    for (int32_t c = 0; c < report->column_count; c++)
        if (!is_empty_column(report, c)) put_element(buffer, "th", report->columns[c]);
    ar_buffer_add(buffer, "</tr></thead>\n<tbody>\n");
    for (int32_t r = 0; r < report->row_count; r++) {
        ar_buffer_add(buffer, "<tr>");
        for (int32_t c = 0; c < report->column_count; c++)
            if (!is_empty_column(report, c))
                put_value(buffer, "td", c < report->widths[r] ? &report->rows[r][c] : &empty, true);
        ar_buffer_add(buffer, "</tr>\n");
    }
    ar_buffer_add(buffer, "</tbody></table></div>\n</details>\n</section>\n");
}

static void put_settings(const advrob_report *report, ar_buffer *buffer) {
    const ar_cell *command = NULL;
    if (report->setting_count == 0) return;
    for (int32_t i = 0; i < report->setting_count; i++)
        if (strcmp(report->settings[i].key, "command") == 0) command = &report->settings[i].value;
    ar_buffer_add(buffer, "<section>\n<h2>Settings</h2>\n");
    if (report->setting_count > (command != NULL)) {
        open_table(buffer, "");
        ar_buffer_add(buffer, "<th>setting</th><th>value</th></tr></thead>\n<tbody>\n");
        for (int32_t i = 0; i < report->setting_count; i++) {
            if (&report->settings[i].value == command) continue;
            ar_buffer_add(buffer, "<tr>");
            put_element(buffer, "td", report->settings[i].key);
            put_value(buffer, "td", &report->settings[i].value, false);
            ar_buffer_add(buffer, "</tr>\n");
        }
        ar_buffer_add(buffer, "</tbody></table></div>\n");
    }
    if (command != NULL) {
        ar_buffer_add(buffer, "<h3>How to run it again</h3>\n");
        put_value(buffer, "pre", command, false);
    }
    ar_buffer_add(buffer, "\n</section>\n");
}

/* ---- the page ---- */

static void put_head(const char *title, ar_buffer *buffer) {
    ar_buffer_add(buffer,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    ar_buffer_add(buffer, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src "
                          "'none'; style-src 'unsafe-inline'; img-src data:\">\n");
    ar_buffer_add(buffer, "<meta name=\"viewport\" content=\"width=device-width, "
                          "initial-scale=1\">\n");
    put_element(buffer, "title", title);
    ar_buffer_add(buffer, "<style>\n%s</style>\n</head>\n<body>\n<main>\n<header>\n",
                  ar_page_style);
    put_element(buffer, "h1", title);
}

static void put_figures(const ar_page *page, ar_buffer *buffer) {
    bool any = false;
    for (const ar_item *item = page->first; item != NULL; item = item->next) {
        if (item->kind != AR_ITEM_FIGURE) continue;
        if (!any) ar_buffer_add(buffer, "<div class=\"figures\">\n");
        any = true;
        ar_buffer_add(buffer, "<div class=\"figure\">");
        put_element(buffer, "b", item->text);
        put_element(buffer, "span", item->label);
        ar_buffer_add(buffer, "</div>\n");
    }
    if (any) ar_buffer_add(buffer, "</div>\n");
}

static int32_t put_item(const advrob_report *report, const ar_item *item, ar_buffer *buffer) {
    if (item->kind == AR_ITEM_HEADING) {
        ar_buffer_add(buffer, "</section>\n<section>\n");
        put_element(buffer, "h2", item->text);
    } else if (item->kind == AR_ITEM_TEXT) {
        put_element(buffer, "p", item->text);
    } else if (item->kind == AR_ITEM_TABLE) {
        put_table(item->table, buffer);
    } else if (item->kind == AR_ITEM_IMAGES) {
        return put_images(&report->ctx->memory, item->images, buffer);
    }
    return ADVROB_OK;
}

/* Plots that follow each other share a grid. */
static int32_t put_items(const advrob_report *report, ar_buffer *buffer) {
    int32_t status = ADVROB_OK, plots = 0;
    bool grid = false;
    for (const ar_item *item = report->page.first; item != NULL; item = item->next) {
        if (item->kind == AR_ITEM_FIGURE) continue;
        bool plot = item->kind == AR_ITEM_PLOT;
        if (plot != grid) ar_buffer_add(buffer, plot ? "<div class=\"plots\">\n" : "</div>\n");
        grid = plot;
        if (plot)
            put_plot(item->plot, plots++, buffer);
        else
            AR_TRY(put_item(report, item, buffer));
    }
    if (grid) ar_buffer_add(buffer, "</div>\n");
out:
    return status;
}

int32_t ar_report_html(const advrob_report *report, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    const char *title = report->page.title;
    put_head(title != NULL ? title : "Report", buffer);
    put_figures(&report->page, buffer);
    ar_buffer_add(buffer, "</header>\n<section class=\"lead\">\n");
    AR_TRY(put_items(report, buffer));
    ar_buffer_add(buffer, "</section>\n");
    put_rows(report, buffer);
    put_settings(report, buffer);
    ar_buffer_add(buffer, "</main>\n</body>\n</html>\n");
out:
    return status;
}
