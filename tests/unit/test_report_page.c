/* The page of a report: what was put stands in it and in its JSON and CSV, no text breaks out of
 * its place, whatever it holds the page is well formed, and refused calls change nothing. */
#include "support/support.h"

#include <advrob/components.h>
#include <errno.h>

#include "support/page.h"

static int32_t count(const char *text, const char *word) {
    int32_t n = 0;
    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        n++;
    return n;
}

static void has(const char *text, const char *word) {
    if (strstr(text, word) == NULL) fail_msg("no %s in the page", word);
}

/* ---- well formed ---- */

/* An entity that the page may hold: the five of XML. */
static size_t entity_length(const char *at) {
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(at, known[i], strlen(known[i])) == 0) return strlen(known[i]);
    fail_msg("a bare ampersand: %.40s", at);
    return 0;
}

/* Attributes up to the end of a tag: name="value", values without < and bare &. */
static const char *check_attributes(const char *at, bool *closed) {
    *closed = false;
    for (;;) {
        at += strspn(at, " \n");
        if (*at == '>') return at + 1;
        if (strncmp(at, "/>", 2) == 0) {
            *closed = true;
            return at + 2;
        }
        size_t name = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789");
        if (name == 0 || strncmp(at + name, "=\"", 2) != 0) fail_msg("attribute: %.60s", at);
        for (at += name + 2; *at != '"'; at += *at == '&' ? entity_length(at) : 1)
            if (*at == 0 || *at == '<') fail_msg("attribute value: %.60s", at);
        at++;
    }
}

static void check_bytes(const char *text) {
    for (size_t left = strlen(text), n; left > 0; left -= n, text += n) {
        n = ar_utf8_length(text, left);
        if (n == 0) fail_msg("no UTF-8: %.20s", text);
        if ((unsigned char)*text < 0x20 && *text != '\n' && *text != '\t')
            fail_msg("control character %d", *text);
    }
}

/* Elements nest and are closed, all attributes are quoted. */
static void check_form(const char *page) {
    static const char *const empty[] = {"meta", "img"};
    char stack[64][16];
    int32_t depth = 0;
    const char *at = page;
    check_bytes(page);
    assert_true(strncmp(at, "<!DOCTYPE html>\n", 16) == 0);
    for (at += 16; *at != 0;) {
        if (*at == '&') at += entity_length(at);
        assert_true(*at != '>');
        if (*at != '<') {
            at += *at != 0;
            continue;
        }
        bool end = at[1] == '/', closed;
        at += 1 + end;
        size_t length = strcspn(at, " \n/>");
        char name[16] = "";
        assert_true(length > 0 && length < sizeof name);
        memcpy(name, at, length);
        at += length;
        if (end) {
            if (depth == 0 || strcmp(stack[--depth], name) != 0 || *at != '>')
                fail_msg("</%s> in <%s>: %.60s", name, depth > 0 ? stack[depth] : "", at);
            at++;
            continue;
        }
        at = check_attributes(at, &closed);
        closed = closed || strcmp(name, empty[0]) == 0 || strcmp(name, empty[1]) == 0;
        if (closed) continue;
        assert_true(depth < 64);
        memcpy(stack[depth++], name, sizeof name);
        if (strcmp(name, "style") == 0) at = strstr(at, "</style>"); /* no markup within */
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http:"));
    assert_null(strstr(page, "https:"));
    assert_null(strstr(page, "@import"));
    assert_int_equal(count(page, " src=\""), count(page, " src=\"data:image/png;base64,"));
    assert_int_equal(count(page, "url("), count(page, "url(#clip"));
}

/* ---- structure ---- */

static const double xs[4] = {0, 0.1, 1.0 / 3, 0.5}, ys[4] = {0.25, NAN, 2.0 / 3, 1};
static const double lows[4] = {0.2, NAN, NAN, 0.9}, highs[4] = {0.3, NAN, 0.7, 1};

static void fill(advrob_report *report) {
    static const int32_t shape[3] = {3, 2, 3};
    static const float x[2 * 3 * 2 * 3] = {0, 0.5f, 1, 2, -1, 0.2f};
    test_ok(advrob_report_set_title(report, "no title yet"));
    test_ok(advrob_report_set_title(report, "The title"));
    test_ok(advrob_report_add_text(report, "First paragraph."));
    test_ok(advrob_report_add_heading(report, "Part one"));
    test_ok(advrob_report_add_figure(report, "68.3 %", "what it means"));
    add_plot(report, "Plot one", "percent_y=1");
    add_series(report, "one", 4, xs, ys, lows, highs, "a\nb, so\nc \"d\"\n5", "");
    add_series(report, "two", 4, xs, xs, NULL, NULL, NULL, "color=0 dash=1");
    add_plot(report, "Plot two", "x_scale=log x_ticks=1,2,4,8,16");
    add_series(report, "three", 3, xs + 1, xs, NULL, NULL, "p\nq\nr\n", "style=points");
    test_ok(advrob_report_add_text(report, "Second paragraph."));
    test_ok(advrob_report_add_heading(report, "Part two"));
    test_ok(advrob_report_add_images(report, "Images", 2, 1, shape, x, "up\ndown", "cap\n"));
    test_ok(advrob_report_add_table(report, "Table", "name\nvalue"));
    test_ok(advrob_report_add_table_row(report, "first\n0.5"));
    test_ok(advrob_report_add_table_row(report, "\n-3 ms"));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_put_str(report, "net", "dense"));
    test_ok(advrob_report_put_f64(report, "share", 0.25));
    test_ok(advrob_report_add_column(report, "nothing here"));
    test_ok(advrob_report_set_str(report, "dataset", "noise"));
    test_ok(advrob_report_set_str(report, "command", "run --again"));
}

static void test_structure(void **state) {
    (void)state;
    static const char *const order[] = {"<title>The title</title>",
                                        "<h1>The title</h1>",
                                        "<b>68.3 %</b>",
                                        "<span>what it means</span>",
                                        "<p>First paragraph.</p>",
                                        "<h2>Part one</h2>",
                                        "<div class=\"plots\">",
                                        "<h3>Plot one</h3>",
                                        "<svg viewBox=\"0 0 480 ",
                                        ">y axis (unit)<",
                                        ">100 %<",
                                        ">x axis (unit)<",
                                        "<title>one, a: 25 % at 0 (20 % to 30 %)</title>",
                                        "<title>one, c &quot;d&quot;: 66.67 % at 0.333333</title>",
                                        "<span>one</span>",
                                        "<span>two</span>",
                                        "<h3>Plot two</h3>",
                                        ">16<",
                                        "three, p: 0 at 0.1",
                                        "</div>",
                                        "<p>Second paragraph.</p>",
                                        "<h2>Part two</h2>",
                                        "<h3>Images</h3>",
                                        "alt=\"up: cap\"",
                                        "alt=\"down\"",
                                        "<h3>Table</h3>",
                                        "<th>name</th><th class=\"number\">value</th>",
                                        "<td>first</td><td class=\"number\">0.5</td>",
                                        "<td></td><td class=\"number\">-3 ms</td>",
                                        "<h2>All figures</h2>",
                                        "<details>",
                                        "<th>net</th>",
                                        "<th>share</th>",
                                        "<td>dense</td>",
                                        "<td class=\"number\">0.25</td>",
                                        "<h2>Settings</h2>",
                                        "<td>dataset</td>",
                                        "How to run it again",
                                        "<pre>run --again</pre>",
                                        "</html>"};
    static test_allocator allocator;
    place p;
    open_place(&p, &allocator);
    fill(p.report);
    char *page = write_page(&p), *at = page;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        char *next = strstr(at, order[i]);
        if (next == NULL) fail_msg("no %s, or not in its place", order[i]);
        at = next;
    }
    check_form(page);
    assert_null(strstr(page, "nothing here"));
    assert_null(strstr(page, "no title yet"));
    assert_int_equal(count(page, "<svg viewBox=\"0 0 480 "), 2);
    assert_int_equal(count(page, "class=\"name\""), 4);
    assert_int_equal(count(page, "<li>"), 3);
    assert_int_equal(count(page, "<div class=\"plots\">"), 1); /* neighbours share one */
    assert_int_equal(count(page, "<title>one"), 3);            /* the gap has no marker */
    assert_int_equal(count(page, "class=\"bars\""), 1);
    assert_int_equal(count(page, "class=\"c0 dash\""), 2); /* in the plot and in the legend */
    has(page, "prefers-color-scheme:dark");
    has(page, "default-src 'none'");
    free(page);
    close_place(&p);
    test_allocator_check(&allocator);
}

static void test_empty(void **state) {
    (void)state;
    static test_allocator allocator;
    place p;
    open_place(&p, &allocator);
    char *page = write_page(&p);
    check_form(page);
    has(page, "<h1>Report</h1>");
    assert_null(strstr(page, "<h2>"));
    free(page);
    test_ok(advrob_report_add_row(p.report)); /* a row without cells */
    test_ok(advrob_report_add_table(p.report, "", ""));
    test_ok(advrob_report_add_table_row(p.report, ""));
    add_plot(p.report, "", "");
    page = write_page(&p);
    check_form(page);
    assert_null(strstr(page, "All figures"));
    free(page);
    close_place(&p);
    test_allocator_check(&allocator);
}

/* ---- hostile text ---- */

static const char *const hostile[] = {
    "<script>alert(1)</script>",
    "\"><img src=x onerror=y>",
    "'\" onload='x' ",
    "a & b &amp; c",
    "]]></style></svg></html><!--",
    "\x01\x02\x1b[0m\x7f",
    "\xc2\x85 C1",
    "\xff\xfe no \xc3 UTF-8",
    "\xed\xa0\x80\xf4\x90\x80\x80\xc0\x80",
    "%s%n%d",
    "caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80",
    "tab\there",
    "",
    " ",
    "a very long name that does not fit on one line of a plot and so has to be "
    "broken into several lines of words",
    "averyveryveryveryveryveryveryveryveryveryveryverylongwordalone"};
enum { HOSTILE = sizeof hostile / sizeof hostile[0] };

static void fill_hostile(advrob_report *report, const char *text) {
    static const int32_t shape[3] = {1, 1, 1};
    static const float x[1] = {0.5f};
    static const double at[1] = {1};
    advrob_options *note = test_options("x_scale=category"), *labels = test_options("");
    test_ok(ar_options_set_str(note, "note", text));
    test_ok(ar_options_set_str(labels, "labels", text));
    test_ok(advrob_report_set_title(report, text));
    test_ok(advrob_report_add_figure(report, text, text));
    test_ok(advrob_report_add_heading(report, text));
    test_ok(advrob_report_add_text(report, text));
    test_ok(advrob_report_add_plot(report, text, text, text, note));
    test_ok(advrob_report_add_series(report, text, 1, at, at, at, at, labels));
    test_ok(advrob_report_add_images(report, text, 1, 1, shape, x, text, text));
    test_ok(advrob_report_add_table(report, text, text));
    test_ok(advrob_report_add_table_row(report, text));
    test_ok(advrob_report_set_str(report, text, text));
    test_ok(advrob_report_set_str(report, "command", text));
    test_ok(advrob_report_add_row(report));
    if (text[0] != 0) test_ok(advrob_report_put_str(report, text, text));
    ar_options_destroy(note);
    ar_options_destroy(labels);
}

static void test_escaping(void **state) {
    (void)state;
    static test_allocator allocator;
    for (int32_t i = 0; i < HOSTILE; i++) {
        place p;
        ar_arena arena;
        ar_json *root = NULL;
        open_place(&p, &allocator);
        fill_hostile(p.report, hostile[i]);
        char *page = write_page(&p);
        check_form(page);
        assert_null(strstr(page, "<img src=x"));
        if (i >= 5 && i <= 8) has(page, "<h1>\xef\xbf\xbd");
        if (i == 0) has(page, "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>");
        if (i == 9 || i == 10) has(page, hostile[i]);
        free(page);
        test_ok(advrob_report_write(p.report, p.json));
        char *json = read_text(p.json);
        ar_arena_init(&arena, &p.ctx->memory);
        test_ok(ar_json_parse("r.json", json, strlen(json), 10000, &arena, &root));
        const ar_json *plot = &ar_json_get(root, "plots")->items[0];
        const char *title = ar_json_get(plot, "title")->text;
        if (i != 7 && i != 8)
            assert_string_equal(title, hostile[i]);
        else
            assert_non_null(strstr(title, "\xef\xbf\xbd"));
        free(json);
        ar_arena_free(&arena);
        test_ok(advrob_report_write_plots(p.report, p.csv));
        advrob_report *back = NULL;
        const char *text = NULL;
        test_ok(advrob_report_create(p.ctx, &back));
        test_ok(advrob_report_read_csv(back, p.csv));
        test_ok(advrob_report_get_str(back, 0, "plot", &text));
        assert_string_equal(text, hostile[i]);
        advrob_report_destroy(back);
        close_place(&p);
    }
    test_allocator_check(&allocator);
}

/* ---- values ---- */

static void check_array(const ar_json *series, const char *key, const double *values, size_t n) {
    const ar_json *array = ar_json_get(series, key);
    assert_int_equal(array->count, n);
    for (size_t i = 0; i < n; i++) {
        if (isnan(values[i]))
            assert_int_equal(array->items[i].kind, AR_JSON_NULL);
        else
            assert_true(array->items[i].number == values[i]);
    }
}

static void check_json(place *p) {
    ar_arena arena;
    ar_json *root = NULL;
    test_ok(advrob_report_write(p->report, p->json));
    char *text = read_text(p->json);
    ar_arena_init(&arena, &p->ctx->memory);
    test_ok(ar_json_parse("r.json", text, strlen(text), 10000, &arena, &root));
    const ar_json *plots = ar_json_get(root, "plots"), *tables = ar_json_get(root, "tables");
    assert_int_equal(plots->count, 2);
    assert_string_equal(ar_json_get(&plots->items[0], "title")->text, "Plot one");
    assert_string_equal(ar_json_get(&plots->items[0], "x")->text, "x axis (unit)");
    assert_string_equal(ar_json_get(&plots->items[0], "y")->text, "y axis (unit)");
    const ar_json *series = ar_json_get(&plots->items[0], "series");
    assert_int_equal(series->count, 2);
    const ar_json *one = &series->items[0], *two = &series->items[1];
    assert_string_equal(ar_json_get(one, "name")->text, "one");
    check_array(one, "x", xs, 4);
    check_array(one, "y", ys, 4);
    check_array(one, "low", lows, 4);
    check_array(one, "high", highs, 4);
    assert_int_equal(ar_json_get(one, "labels")->count, 4);
    assert_string_equal(ar_json_get(one, "labels")->items[2].text, "c \"d\"");
    check_array(two, "y", xs, 4);
    assert_int_equal(ar_json_get(two, "low")->count, 0);
    assert_int_equal(ar_json_get(two, "labels")->count, 0);
    assert_int_equal(tables->count, 1);
    assert_string_equal(ar_json_get(&tables->items[0], "columns")->items[1].text, "value");
    const ar_json *rows = ar_json_get(&tables->items[0], "rows");
    assert_int_equal(rows->count, 2);
    assert_string_equal(rows->items[0].items[1].text, "0.5");
    assert_string_equal(rows->items[1].items[0].text, "");
    ar_arena_free(&arena);
    free(text);
}

static void check_cell(const advrob_report *report, int32_t row, const char *column,
                       const double *value) {
    double got = 0;
    int32_t status = advrob_report_get_f64(report, row, column, &got);
    assert_int_equal(status, value == NULL ? ADVROB_E_UNKNOWN : ADVROB_OK);
    if (value != NULL) assert_true(got == *value || (isnan(got) && isnan(*value)));
}

static void test_values(void **state) {
    (void)state;
    static const char *const labels[4] = {"a", "b, so", "c \"d\"", "5"};
    static test_allocator allocator;
    place p;
    const char *text = NULL;
    advrob_report *back = NULL;
    open_place(&p, &allocator);
    fill(p.report);
    check_json(&p);
    test_ok(advrob_report_write_plots(p.report, p.csv));
    test_ok(advrob_report_create(p.ctx, &back));
    test_ok(advrob_report_read_csv(back, p.csv));
    assert_int_equal(advrob_report_rows(back), 11);
    for (int32_t i = 0; i < 4; i++) {
        check_cell(back, i, "x", &xs[i]);
        check_cell(back, i, "y", &ys[i]);
        check_cell(back, i, "low", &lows[i]);
        check_cell(back, i, "high", &highs[i]);
        check_cell(back, 4 + i, "low", NULL);
        check_cell(back, 4 + i, "label", NULL);
        test_ok(advrob_report_get_str(back, i, "label", &text));
        assert_string_equal(text, labels[i]);
    }
    test_ok(advrob_report_get_str(back, 10, "series", &text));
    assert_string_equal(text, "three");
    test_ok(advrob_report_get_str(back, 10, "label", &text));
    assert_string_equal(text, "r");
    advrob_report_destroy(back);
    close_place(&p);
    test_allocator_check(&allocator);
}

/* ---- odd series ---- */

static void test_odd_series(void **state) {
    (void)state;
    static const double nothing[3] = {NAN, NAN, NAN}, same[3] = {2, 2, 2}, one[3] = {1, 2, 3};
    place p;
    open_place(&p, NULL);
    add_plot(p.report, "none", "");
    for (int32_t i = 0; i < 5; i++) {
        add_plot(p.report, "odd", i % 2 ? "x_scale=log" : "percent_y=1");
        if (i == 0) add_series(p.report, "empty", 0, NULL, NULL, NULL, NULL, NULL, "");
        if (i == 1) add_series(p.report, "gaps", 3, one, nothing, nothing, nothing, NULL, "");
        if (i == 2) add_series(p.report, "point", 1, one, one, one, one, NULL, "style=line");
        if (i == 3) add_series(p.report, "same", 3, same, same, same, same, NULL, "");
        for (int32_t k = 0; k < 20 && i == 4; k++)
            add_series(p.report, "many", 3, one, one, NULL, NULL, NULL, "");
    }
    char *page = write_page(&p);
    check_form(page);
    check_drawing(page);
    free(page);
    close_place(&p);
}

/* ---- refusals ---- */

static void refused(int32_t got, int32_t status, const char *says) {
    if (got != status || strstr(ar_message(), says) == NULL)
        fail_msg("%d, %s; expected %d with \"%s\"", got, ar_message(), status, says);
}

static void refused_plot(advrob_report *report, const char *text, int32_t status,
                         const char *says) {
    advrob_options *o = test_options(text);
    refused(advrob_report_add_plot(report, "bad", "x", "y", o), status, says);
    ar_options_destroy(o);
}

static void refused_series(advrob_report *report, double x, double y, double low, double high,
                           const char *text, int32_t status, const char *says) {
    const double xv[3] = {1, 2, x}, yv[3] = {1, 2, y}, l[3] = {0, 0, low}, h[3] = {3, 3, high};
    advrob_options *o = test_options(text);
    refused(advrob_report_add_series(report, "curve", 3, xv, yv, l, h, o), status, says);
    ar_options_destroy(o);
}

static void refuse_all(advrob_report *r) {
    static const int32_t good[3] = {1, 2, 2}, two[3] = {2, 2, 2}, flat[3] = {1, 0, 2};
    static const int32_t large[3] = {3, 4096, 4096};
    static const float x[4] = {0, NAN, 0, 0};
    static const double v[3] = {1, 2, 3};
    refused_series(r, INFINITY, 1, 0, 2, "", ADVROB_E_NONFINITE, "\"curve\", point 2: x is inf");
    refused_series(r, NAN, 1, 0, 2, "", ADVROB_E_NONFINITE, "point 2: x");
    refused_series(r, 1, -INFINITY, 0, 2, "", ADVROB_E_NONFINITE, "point 2: y is -inf");
    refused_series(r, 1, 1, -INFINITY, 2, "", ADVROB_E_NONFINITE, "point 2: low");
    refused_series(r, 1, 1, 0, INFINITY, "", ADVROB_E_NONFINITE, "point 2: high");
    refused_series(r, 1, 1, 2, 1, "", ADVROB_E_RANGE, "point 2: low");
    refused_series(r, 0, 1, 1, 2, "", ADVROB_E_RANGE, "point 2: x on a log axis");
    refused_series(r, 1, 1, 1, 2, "colour=1", ADVROB_E_UNKNOWN, "\"color\"");
    refused_series(r, 1, 1, 1, 2, "color=8", ADVROB_E_RANGE, "color");
    refused_series(r, 1, 1, 1, 2, "marker=star", ADVROB_E_RANGE, "marker");
    refused_series(r, 1, 1, 1, 2, "labels=a", ADVROB_E_INVALID, "1 lines, expected 3");
    refused(advrob_report_add_series(r, "s", 3, v, v, v, NULL, NULL), ADVROB_E_INVALID, "NULL");
    refused(advrob_report_add_series(r, "s", -1, v, v, v, v, NULL), ADVROB_E_RANGE, "-1 points");
    refused_plot(r, "x_low=1 x_high=1", ADVROB_E_RANGE, "\"bad\": x from 1 to 1");
    refused_plot(r, "y_low=2 y_high=1", ADVROB_E_RANGE, "y from 2 to 1");
    refused_plot(r, "x_scale=log x_low=0", ADVROB_E_RANGE, "log axis");
    refused_plot(r, "x_scale=log x_ticks=1,-2", ADVROB_E_RANGE, "log axis");
    refused_plot(r, "x_scale=cubic", ADVROB_E_RANGE, "x_scale");
    refused_plot(r, "percent=1", ADVROB_E_UNKNOWN, "\"percent_");
    refused(advrob_report_add_images(r, "i", 1, 1, two, x, NULL, NULL), ADVROB_E_SHAPE,
            "2 channels");
    refused(advrob_report_add_images(r, "i", 1, 1, flat, x, NULL, NULL), ADVROB_E_SHAPE, "0 x 2");
    refused(advrob_report_add_images(r, "i", 0, 1, good, x, NULL, NULL), ADVROB_E_RANGE, "0 rows");
    refused(advrob_report_add_images(r, "i", 99, 99, good, x, NULL, NULL), ADVROB_E_LIMIT, "4096");
    refused(advrob_report_add_images(r, "i", INT64_MAX, 2, good, x, NULL, NULL), ADVROB_E_LIMIT,
            "4096");
    refused(advrob_report_add_images(r, "i", 2, 2, large, x, NULL, NULL), ADVROB_E_LIMIT, "pixel");
    refused(advrob_report_add_images(r, "i", 1, 1, good, x, NULL, NULL), ADVROB_E_NONFINITE,
            "pixel value 1");
    refused(advrob_report_add_images(r, "i", 1, 1, good, x, "a\nb", NULL), ADVROB_E_INVALID,
            "2 lines, expected 1");
    refused(advrob_report_add_images(r, "i", 1, 1, good, x, "a", "a\nb"), ADVROB_E_INVALID,
            "captions");
    refused(advrob_report_add_table_row(r, "a"), ADVROB_E_INVALID, "1 lines, expected 2");
    refused(advrob_report_add_table_row(r, "a\nb\nc"), ADVROB_E_INVALID, "3 lines, expected 2");
    refused(advrob_report_shade_table(r, 1, 1), ADVROB_E_RANGE, "from 1 to 1");
    refused(advrob_report_shade_table(r, 1, -1), ADVROB_E_RANGE, "from 1 to -1");
    refused(advrob_report_shade_table(r, 0, INFINITY), ADVROB_E_RANGE, "from 0 to inf");
    refused(advrob_report_shade_table(r, NAN, 1), ADVROB_E_RANGE, "from nan to 1");
}

static void test_refused(void **state) {
    (void)state;
    static test_allocator allocator;
    static const double v[1] = {1};
    place p;
    open_place(&p, &allocator);
    refused(advrob_report_add_series(p.report, "s", 1, v, v, NULL, NULL, NULL), ADVROB_E_INVALID,
            "no plot yet");
    refused(advrob_report_add_table_row(p.report, "a"), ADVROB_E_INVALID, "no table yet");
    refused(advrob_report_shade_table(p.report, 0, 1), ADVROB_E_INVALID, "no table yet");
    fill(p.report); /* its last plot has a log axis */
    char *before = write_page(&p);
    refuse_all(p.report);
    char *after = write_page(&p);
    assert_string_equal(before, after);
    free(before);
    free(after);
    close_place(&p);
    test_allocator_check(&allocator);
}

/* Shares of the way from 20 to 100: 60 is half of it; what lies outside is at an end, and names and
 * texts have no shade. */
static void test_shades(void **state) {
    (void)state;
    static const char *const wanted[] = {
        "<table class=\"shaded\">",
        "<td class=\"number\">60</td>",
        "style=\"--shade:0.50\">60.0 %</td>",
        "style=\"--shade:0.00\">-1</td>",
        "style=\"--shade:1.00\">1000 of 2</td>",
        "style=\"--shade:0.14\">31 &lt;</td>",
        "<td>about 60</td>",
        "<td></td>",
        "<table>",
        "<td class=\"number\">60.0 %</td>",
    };
    place p;
    open_place(&p, NULL);
    test_ok(advrob_report_add_table(p.report, "shaded", "name\na\nb"));
    test_ok(advrob_report_shade_table(p.report, 20, 100));
    test_ok(advrob_report_add_table_row(p.report, "60\n60.0 %\n-1"));
    test_ok(advrob_report_add_table_row(p.report, "x\n1000 of 2\n31 <"));
    test_ok(advrob_report_add_table_row(p.report, "y\nabout 60\n"));
    test_ok(advrob_report_add_table(p.report, "plain", "name\na"));
    test_ok(advrob_report_add_table_row(p.report, "x\n60.0 %"));
    char *page = write_page(&p);
    const char *at = page;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        at = strstr(at, wanted[i]);
        if (at == NULL) fail_msg("the page lacks %s, or not in this order", wanted[i]);
    }
    free(page);
    close_place(&p);
}

/* An axis end that is NaN is one that was not given. */
static void test_not_given(void **state) {
    (void)state;
    place p;
    advrob_options *o = test_options("");
    open_place(&p, NULL);
    test_ok(ar_options_set_f64(o, "y_low", NAN));
    test_ok(advrob_report_add_plot(p.report, "t", "x", "y", o));
    assert_true(isnan(p.report->page.plot->y_low));
    ar_options_destroy(o);
    close_place(&p);
}

/* Every option of plots and series is listed, and takes its default as text. */
static void test_listing(void **state) {
    (void)state;
    static const char *const names[2] = {"plot", "series"};
    static const int32_t counts[2] = {9, 6};
    static const double v[1] = {1};
    const char *option, *initial, *help;
    place p;
    open_place(&p, NULL);
    assert_int_equal(advrob_component_count("report"), 2);
    for (int32_t c = 0; c < 2; c++) {
        advrob_options *all = test_options("");
        assert_string_equal(advrob_component_name_at("report", c), names[c]);
        assert_int_equal(advrob_option_count("report", names[c]), counts[c]);
        for (int32_t i = 0; i < counts[c]; i++) {
            int32_t type;
            test_ok(advrob_option_at("report", names[c], i, &option, &type, &initial, NULL, &help));
            assert_true(strlen(help) > 3);
            if (type == ADVROB_TYPE_F64 && c == 0) /* the ends of axes: from the data */
                test_ok(ar_options_set_f64(all, option, NAN));
            else if (initial[0] != 0)
                test_ok(ar_options_set_text(all, option, initial));
        }
        test_ok(c == 0 ? advrob_report_add_plot(p.report, "t", "x", "y", all)
                       : advrob_report_add_series(p.report, "s", 1, v, v, NULL, NULL, all));
        ar_options_destroy(all);
    }
    close_place(&p);
}

/* ---- memory and files ---- */

static void test_failing_files(void **state) {
    (void)state;
    static test_allocator allocator;
    place p;
    open_place(&p, &allocator);
    fill(p.report);
    for (int32_t plots = 0; plots < 2; plots++) {
        const char *path = plots ? p.csv : p.html;
        int32_t failed = 0;
        test_ok(plots ? advrob_report_write_plots(p.report, path)
                      : advrob_report_write(p.report, path));
        char *old = read_text(path);
        for (int64_t k = 1; k < 5; k++) {
            test_files files = {.fail_at = k, .error = ENOSPC};
            test_files_use(p.ctx, &files);
            int32_t status = plots ? advrob_report_write_plots(p.report, path)
                                   : advrob_report_write(p.report, path);
            test_files_use(p.ctx, NULL);
            failed += status == ADVROB_E_IO;
            char *now = read_text(path);
            assert_string_equal(old, now);
            free(now);
        }
        assert_true(failed >= 3);
        free(old);
    }
    assert_int_equal(test_folder_count(p.folder), 2);
    close_place(&p);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),  cmocka_unit_test(test_empty),
        cmocka_unit_test(test_escaping),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_odd_series), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shades),     cmocka_unit_test(test_not_given),
        cmocka_unit_test(test_listing),    cmocka_unit_test(test_failing_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
