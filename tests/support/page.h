/* Reports with a page in a folder of their own, as the tests of pages and axes need them. */
#ifndef TEST_PAGE_H
#define TEST_PAGE_H

#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"
#include "support/golden.h"

#include "support/options.h"

typedef struct place {
    advrob_context *ctx;
    advrob_report *report;
    char folder[512], html[600], json[600], csv[600];
} place;

static inline void open_place(place *p, test_allocator *allocator) {
    p->ctx = test_context_with(allocator, 1);
    p->report = NULL;
    test_ok(advrob_report_create(p->ctx, &p->report));
    test_folder_make(p->folder, sizeof p->folder);
    snprintf(p->html, sizeof p->html, "%s/r.html", p->folder);
    snprintf(p->json, sizeof p->json, "%s/r.json", p->folder);
    snprintf(p->csv, sizeof p->csv, "%s/plots.csv", p->folder);
}

static inline void close_place(place *p) {
    advrob_report_destroy(p->report);
    test_folder_remove(p->folder);
    ar_context_release(p->ctx);
}

/* The file's text; freed by the caller. */
static inline char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    char *text = calloc((size_t)size + 1, 1);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    assert_int_equal(strlen(text), (size_t)size);
    return text;
}

static inline char *write_page(place *p) {
    test_ok(advrob_report_write(p->report, p->html));
    return read_text(p->html);
}

static inline void add_plot(advrob_report *report, const char *title, const char *text) {
    advrob_options *o = test_options(text);
    test_ok(advrob_report_add_plot(report, title, "x axis (unit)", "y axis (unit)", o));
    ar_options_destroy(o);
}

static inline void add_series(advrob_report *report, const char *name, int64_t n, const double *x,
                              const double *y, const double *low, const double *high,
                              const char *labels, const char *text) {
    advrob_options *o = test_options(text);
    if (labels != NULL) test_ok(ar_options_set_str(o, "labels", labels));
    test_ok(advrob_report_add_series(report, name, n, x, y, low, high, o));
    ar_options_destroy(o);
}

/* Numbers in the drawing are finite, and markers stand within it. */
static inline void check_drawing(const char *page) {
    const char *svg = strstr(page, "<svg viewBox");
    assert_non_null(svg);
    for (; (svg = strstr(svg, " d=\"")) != NULL; svg++) {
        size_t length = strcspn(svg + 4, "\"");
        if (strcspn(svg + 4, "\"naif") != length) fail_msg("%.*s", (int)length + 5, svg);
    }
    for (const char *at = page; (at = strstr(at, "<circle cx=\"")) != NULL; at++) {
        double x = strtod(at + 12, NULL), y = strtod(strstr(at, "cy=\"") + 4, NULL);
        assert_true(x >= 0 && x <= AR_PLOT_WIDTH && y >= 0 && y <= 320);
    }
}

#endif
