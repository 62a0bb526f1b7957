/* The page of a report. */
#include "api.h"

int32_t advrob_report_set_title(advrob_report *report, const char *title) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(title);
    AR_API(report->ctx, ar_page_set_title(&report->page, title));
}

int32_t advrob_report_add_figure(advrob_report *report, const char *value, const char *label) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(value);
    AR_API_PRESENT(label);
    AR_API(report->ctx, ar_page_add_text(&report->page, AR_ITEM_FIGURE, value, label));
}

int32_t advrob_report_add_heading(advrob_report *report, const char *text) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(text);
    AR_API(report->ctx, ar_page_add_text(&report->page, AR_ITEM_HEADING, text, NULL));
}

int32_t advrob_report_add_text(advrob_report *report, const char *text) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(text);
    AR_API(report->ctx, ar_page_add_text(&report->page, AR_ITEM_TEXT, text, NULL));
}

int32_t advrob_report_add_plot(advrob_report *report, const char *title, const char *x_name,
                               const char *y_name, const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(title);
    AR_API_PRESENT(x_name);
    AR_API_PRESENT(y_name);
    AR_API(report->ctx, ar_page_add_plot(&report->page, title, x_name, y_name, options));
}

int32_t advrob_report_add_series(advrob_report *report, const char *name, int64_t n,
                                 const double *x, const double *y, const double *low,
                                 const double *high, const advrob_options *options) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(name);
    if (n != 0) {
        AR_API_PRESENT(x);
        AR_API_PRESENT(y);
    }
    AR_API(report->ctx, ar_page_add_series(&report->page, name, n, x, y, low, high, options));
}

int32_t advrob_report_add_images(advrob_report *report, const char *title, int64_t rows,
                                 int64_t columns, const int32_t *shape, const float *x,
                                 const char *row_names, const char *captions) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(title);
    AR_API_PRESENT(shape);
    AR_API_PRESENT(x);
    AR_API(report->ctx,
           ar_page_add_images(&report->page, title, rows, columns, shape, x, row_names, captions));
}

int32_t advrob_report_add_table(advrob_report *report, const char *title, const char *columns) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(title);
    AR_API_PRESENT(columns);
    AR_API(report->ctx, ar_page_add_table(&report->page, title, columns));
}

int32_t advrob_report_add_table_row(advrob_report *report, const char *cells) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(cells);
    AR_API(report->ctx, ar_page_add_table_row(&report->page, cells));
}

int32_t advrob_report_shade_table(advrob_report *report, double low, double high) {
    AR_API_PRESENT(report);
    AR_API(report->ctx, ar_page_shade_table(&report->page, low, high));
}

int32_t advrob_report_write_plots(const advrob_report *report, const char *path) {
    AR_API_PRESENT(report);
    AR_API_PRESENT(path);
    AR_API(report->ctx, ar_report_write_plots(report, path));
}
