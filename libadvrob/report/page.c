/* The page's content: checks and copies of what callers add. */
#include "page.h"

#include <math.h>
#include <string.h>

#define MOST_IMAGES 4096
#define MOST_SIDE 4096
#define MOST_PIXELS ((int64_t)64 << 20)
#define MOST_POINTS ((int64_t)1 << 24)
#define LARGEST 1e300 /* of an axis's end: sums and differences stay finite */

typedef struct plot_options {
    const char *x_scale, *note;
    double x_low, x_high, y_low, y_high;
    int64_t percent_x, percent_y;
    ar_f64_array x_ticks;
} plot_options;

static const ar_option plot_entries[] = {
    AR_STR(plot_options, x_scale, "linear", "linear|log|category", "scale of the x axis"),
    AR_F64(plot_options, x_low, NAN, -LARGEST, LARGEST, "left end; default: from the data"),
    AR_F64(plot_options, x_high, NAN, -LARGEST, LARGEST, "right end; default: from the data"),
    AR_F64(plot_options, y_low, NAN, -LARGEST, LARGEST, "lower end; default: from the data"),
    AR_F64(plot_options, y_high, NAN, -LARGEST, LARGEST, "upper end; default: from the data"),
    AR_I64(plot_options, percent_x, 0, 0, 1, "1: shares on the x axis read as percent"),
    AR_I64(plot_options, percent_y, 0, 0, 1, "1: shares on the y axis read as percent"),
    AR_F64_ARRAY(plot_options, x_ticks, -LARGEST, LARGEST, "exact positions of the x ticks"),
    AR_STR(plot_options, note, "", NULL, "caption under the plot"),
};
const ar_option_table ar_plot_options = AR_TABLE(plot_options, plot_entries);

typedef struct series_options {
    const char *style, *marker, *labels;
    int64_t color, dash;
    double shift;
} series_options;

static const ar_option series_entries[] = {
    AR_STR(series_options, style, "both", "line|points|both", "what is drawn"),
    AR_I64(series_options, color, -1, -1, AR_COLORS - 1, "-1: by the number of the series"),
    AR_I64(series_options, dash, 0, 0, 1, "1: dashed line, hollow markers"),
    AR_STR(series_options, marker, "", "circle|square|diamond|triangle|cross",
           "default: by the color"),
    AR_STR(series_options, labels, "", NULL, "names of the points, newline-separated"),
    AR_F64(series_options, shift, 0, -20, 20,
           "pixels to the right by which it is drawn, so that series of equal x stand apart"),
};
const ar_option_table ar_series_options = AR_TABLE(series_options, series_entries);

/* ---- lists of texts ---- */

ar_lines ar_lines_of(const char *text) {
    return (ar_lines){text};
}

ar_text ar_lines_next(ar_lines *lines) {
    ar_text line = {"", 0};
    if (lines->at == NULL) return line;
    line.at = lines->at;
    line.length = strcspn(line.at, "\n");
    lines->at = line.at[line.length] == '\n' ? line.at + line.length + 1 : NULL;
    return line;
}

static int64_t count_lines(const char *text) {
    int64_t n = 1;
    for (; *text != 0; text++)
        n += *text == '\n';
    return n;
}

/* `count` lines are wanted; the last one may be closed by a newline too. */
static int32_t check_lines(const char *what, const char *text, int64_t count) {
    int64_t n = count_lines(text);
    size_t length = strlen(text);
    if (n == count || (n == count + 1 && (length == 0 || text[length - 1] == '\n')))
        return ADVROB_OK;
    return ar_error(ADVROB_E_INVALID, "%s: %lld lines, expected %lld", what, (long long)n,
                    (long long)count);
}

/* ---- the list of items ---- */

void ar_page_init(ar_page *page, ar_memory *memory) {
    *page = (ar_page){.title = NULL};
    ar_arena_init(&page->arena, memory);
}

void ar_page_free(ar_page *page) {
    ar_arena_free(&page->arena);
}

int32_t ar_page_set_title(ar_page *page, const char *title) {
    const char *copy;
    int32_t status = ar_arena_copy(&page->arena, title, &copy);
    if (status >= 0) page->title = copy;
    return status;
}

static int32_t new_item(ar_page *page, int32_t kind, ar_item **item) {
    void *block;
    int32_t status = ar_arena_alloc(&page->arena, 1, sizeof **item, "report page", &block);
    if (status < 0) return status;
    *item = block;
    (*item)->kind = kind;
    return ADVROB_OK;
}

/* Called when nothing can fail any more. */
static void link_item(ar_page *page, ar_item *item) {
    if (page->last == NULL)
        page->first = item;
    else
        page->last->next = item;
    page->last = item;
}

int32_t ar_page_add_text(ar_page *page, int32_t kind, const char *text, const char *label) {
    int32_t status = ADVROB_OK;
    ar_item *item;
    AR_TRY(new_item(page, kind, &item));
    AR_TRY(ar_arena_copy(&page->arena, text, &item->text));
    if (label != NULL) AR_TRY(ar_arena_copy(&page->arena, label, &item->label));
    link_item(page, item);
out:
    return status;
}

/* ---- plots ---- */

/* The place of `name` in "a|b|c". */
static int32_t choice_of(const char *name, const char *choices) {
    size_t length = strlen(name);
    int32_t i = 0;
    for (; *choices != 0; i++) {
        size_t n = strcspn(choices, "|");
        if (n == length && memcmp(choices, name, n) == 0) break;
        choices += n + (choices[n] == '|');
    }
    return i;
}

static int32_t check_range(const char *title, const char *axis, bool log, double low, double high) {
    if (low >= high) /* false for NaN */
        return ar_error(ADVROB_E_RANGE, "plot \"%.80s\": %s from %g to %g is empty", title, axis,
                        low, high);
    if (log && (low <= 0 || high <= 0))
        return ar_error(ADVROB_E_RANGE, "plot \"%.80s\": a log axis from %g to %g, expected > 0",
                        title, low, high);
    return ADVROB_OK;
}

int32_t ar_page_add_plot(ar_page *page, const char *title, const char *x_name, const char *y_name,
                         const advrob_options *options) {
    int32_t status = ADVROB_OK;
    ar_arena *arena = &page->arena;
    ar_option_scope scope = {"", &ar_plot_options};
    plot_options o;
    ar_item *item;
    void *block;
    AR_TRY(ar_options_check(options, "plot", &scope, 1));
    AR_TRY(ar_options_read(options, "plot", "", &ar_plot_options, arena, &o));
    AR_TRY(new_item(page, AR_ITEM_PLOT, &item));
    AR_TRY(ar_arena_alloc(arena, 1, sizeof(ar_plot), "report plot", &block));
    ar_plot *plot = block;
    *plot = (ar_plot){.note = o.note,
                      .x_scale = choice_of(o.x_scale, plot_entries[0].choices),
                      .x_low = o.x_low,
                      .x_high = o.x_high,
                      .y_low = o.y_low,
                      .y_high = o.y_high,
                      .percent_x = o.percent_x,
                      .percent_y = o.percent_y,
                      .x_ticks = o.x_ticks.values,
                      .x_tick_count = (int32_t)o.x_ticks.count};
    bool log = plot->x_scale == AR_LOG;
    AR_TRY(check_range(title, "x", log, o.x_low, o.x_high));
    AR_TRY(check_range(title, "y", false, o.y_low, o.y_high));
    if (o.x_ticks.count > AR_MOST_TICKS)
        AR_FAIL(ADVROB_E_LIMIT, "plot \"%.80s\": %zu ticks, expected at most %d", title,
                o.x_ticks.count, AR_MOST_TICKS);
    for (int32_t i = 0; i < plot->x_tick_count && log; i++)
        AR_TRY(check_range(title, "x", true, plot->x_ticks[i], NAN));
    AR_TRY(ar_arena_copy(arena, title, &plot->title));
    AR_TRY(ar_arena_copy(arena, x_name, &plot->x_name));
    AR_TRY(ar_arena_copy(arena, y_name, &plot->y_name));
    item->plot = plot;
    page->plot = plot;
    link_item(page, item);
out:
    return status;
}

static int32_t bad_point(int32_t code, const char *series, int64_t i, const char *what,
                         double value) {
    return ar_error(code, "series \"%.80s\", point %lld: %s is %g", series, (long long)i, what,
                    value);
}

static int32_t check_points(const char *name, int64_t n, const double *x, const double *y,
                            const double *low, const double *high, bool log) {
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return bad_point(ADVROB_E_NONFINITE, name, i, "x", x[i]);
        if (isinf(y[i])) return bad_point(ADVROB_E_NONFINITE, name, i, "y", y[i]);
        if (log && x[i] <= 0) return bad_point(ADVROB_E_RANGE, name, i, "x on a log axis", x[i]);
        if (low == NULL) continue;
        if (isinf(low[i])) return bad_point(ADVROB_E_NONFINITE, name, i, "low", low[i]);
        if (isinf(high[i])) return bad_point(ADVROB_E_NONFINITE, name, i, "high", high[i]);
        if (low[i] > high[i])
            return bad_point(ADVROB_E_RANGE, name, i, "low, which is above high,", low[i]);
    }
    return ADVROB_OK;
}

static int32_t copy_values(ar_arena *arena, int64_t n, const double *values, const double **out) {
    void *block;
    if (values == NULL) return ADVROB_OK;
    int32_t status = ar_arena_alloc(arena, (size_t)n, sizeof *values, "report series", &block);
    if (status < 0) return status;
    if (n > 0) memcpy(block, values, sizeof *values * (size_t)n);
    *out = block;
    return ADVROB_OK;
}

static int32_t check_series(const ar_page *page, const char *name, int64_t n, const double *x,
                            const double *y, const double *low, const double *high) {
    if (page->plot == NULL)
        return ar_error(ADVROB_E_INVALID,
                        "series \"%.80s\": no plot yet; call advrob_report_add_plot first", name);
    if (n < 0 || n > MOST_POINTS)
        return ar_error(ADVROB_E_RANGE, "series \"%.80s\": %lld points, expected 0 to %lld", name,
                        (long long)n, (long long)MOST_POINTS);
    if ((low == NULL) != (high == NULL))
        return ar_error(ADVROB_E_INVALID, "series \"%.80s\": low and high: one of them is NULL",
                        name);
    return check_points(name, n, x, y, low, high, page->plot->x_scale == AR_LOG);
}

int32_t ar_page_add_series(ar_page *page, const char *name, int64_t n, const double *x,
                           const double *y, const double *low, const double *high,
                           const advrob_options *options) {
    int32_t status = ADVROB_OK;
    ar_arena *arena = &page->arena;
    ar_option_scope scope = {"", &ar_series_options};
    series_options o;
    ar_plot *plot = page->plot;
    void *block;
    AR_TRY(check_series(page, name, n, x, y, low, high));
    AR_TRY(ar_options_check(options, "series", &scope, 1));
    AR_TRY(ar_options_read(options, "series", "", &ar_series_options, arena, &o));
    if (o.labels[0] != 0) AR_TRY(check_lines("labels of a series", o.labels, n));
    AR_TRY(ar_arena_alloc(arena, 1, sizeof(ar_series), "report series", &block));
    ar_series *series = block;
    AR_TRY(ar_arena_copy(arena, name, &series->name));
    AR_TRY(copy_values(arena, n, x, &series->x));
    AR_TRY(copy_values(arena, n, y, &series->y));
    AR_TRY(copy_values(arena, n, low, &series->low));
    AR_TRY(copy_values(arena, n, high, &series->high));
    series->count = n;
    series->labels = o.labels[0] != 0 ? o.labels : NULL;
    series->line = strcmp(o.style, "points") != 0;
    series->points = strcmp(o.style, "line") != 0;
    series->dash = o.dash;
    series->shift = o.shift;
    series->color = o.color >= 0 ? (int32_t)o.color : plot->series_count % AR_COLORS;
    series->marker = o.marker[0] != 0 ? choice_of(o.marker, series_entries[3].choices)
                                      : series->color % AR_MARKERS;
    if (plot->last == NULL)
        plot->first = series;
    else
        plot->last->next = series;
    plot->last = series;
    plot->series_count++;
out:
    return status;
}

/* ---- images ---- */

static int32_t check_images(int64_t rows, int64_t columns, const int32_t *shape, int64_t *pixels) {
    const int64_t factors[5] = {rows, columns, shape[0], shape[1], shape[2]};
    if (shape[0] != 1 && shape[0] != 3)
        return ar_error(ADVROB_E_SHAPE, "images: %d channels, expected 1 or 3", shape[0]);
    for (int32_t i = 1; i < 3; i++)
        if (shape[i] < 1 || shape[i] > MOST_SIDE)
            return ar_error(ADVROB_E_SHAPE, "images: %d x %d pixels, expected 1 to %d a side",
                            shape[1], shape[2], MOST_SIDE);
    if (rows < 1 || columns < 1)
        return ar_error(ADVROB_E_RANGE, "images: %lld rows of %lld, expected at least 1",
                        (long long)rows, (long long)columns);
    if (rows > MOST_IMAGES || columns > MOST_IMAGES || rows * columns > MOST_IMAGES)
        return ar_error(ADVROB_E_LIMIT, "images: %lld rows of %lld, expected at most %d in all",
                        (long long)rows, (long long)columns, MOST_IMAGES);
    if (!ar_product(factors, 5, pixels) || *pixels > MOST_PIXELS)
        return ar_error(ADVROB_E_LIMIT, "images: over %lld pixel values", (long long)MOST_PIXELS);
    return ADVROB_OK;
}

/* [c, h, w] in [0, 1] to [h, w, c] bytes. `number` names the image in messages. */
static int32_t convert_image(const ar_strip *images, int64_t number, const float *x,
                             uint8_t *bytes) {
    int64_t channels = images->channels, plane = (int64_t)images->height * images->width;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t p = 0; p < plane; p++) {
            float v = x[c * plane + p];
            if (isnan(v))
                return ar_error(ADVROB_E_NONFINITE, "image %lld: pixel value %lld is nan",
                                (long long)number, (long long)(c * plane + p));
            v = v < 0 ? 0 : v > 1 ? 1 : v;
            bytes[p * channels + c] = (uint8_t)(v * 255 + 0.5f);
        }
    }
    return ADVROB_OK;
}

int32_t ar_page_add_images(ar_page *page, const char *title, int64_t rows, int64_t columns,
                           const int32_t *shape, const float *x, const char *row_names,
                           const char *captions) {
    int32_t status = ADVROB_OK;
    ar_arena *arena = &page->arena;
    int64_t size = 0;
    ar_item *item;
    void *block, *bytes;
    AR_TRY(check_images(rows, columns, shape, &size));
    if (row_names != NULL) AR_TRY(check_lines("row names of images", row_names, rows));
    if (captions != NULL) AR_TRY(check_lines("captions of images", captions, rows * columns));
    AR_TRY(new_item(page, AR_ITEM_IMAGES, &item));
    AR_TRY(ar_arena_alloc(arena, 1, sizeof(ar_strip), "report images", &block));
    AR_TRY(ar_arena_alloc(arena, (size_t)size, 1, "report images", &bytes));
    ar_strip *images = block;
    *images = (ar_strip){.rows = (int32_t)rows,
                         .columns = (int32_t)columns,
                         .channels = shape[0],
                         .height = shape[1],
                         .width = shape[2],
                         .pixels = bytes};
    int64_t one = size / (rows * columns);
    for (int64_t i = 0; i < rows * columns; i++)
        AR_TRY(convert_image(images, i, x + i * one, (uint8_t *)bytes + i * one));
    AR_TRY(ar_arena_copy(arena, title, &images->title));
    if (row_names != NULL) AR_TRY(ar_arena_copy(arena, row_names, &images->row_names));
    if (captions != NULL) AR_TRY(ar_arena_copy(arena, captions, &images->captions));
    item->images = images;
    link_item(page, item);
out:
    return status;
}

/* ---- tables ---- */

int32_t ar_page_add_table(ar_page *page, const char *title, const char *columns) {
    int32_t status = ADVROB_OK;
    ar_item *item;
    void *block;
    AR_TRY(new_item(page, AR_ITEM_TABLE, &item));
    AR_TRY(ar_arena_alloc(&page->arena, 1, sizeof(ar_table), "report table", &block));
    ar_table *table = block;
    AR_TRY(ar_arena_copy(&page->arena, title, &table->title));
    AR_TRY(ar_arena_copy(&page->arena, columns, &table->columns));
    size_t length = strlen(columns);
    int64_t count = count_lines(columns) - (length > 0 && columns[length - 1] == '\n');
    if (count > 1024) AR_FAIL(ADVROB_E_LIMIT, "table \"%.80s\": over 1024 columns", title);
    table->column_count = (int32_t)count;
    item->table = table;
    page->table = table;
    link_item(page, item);
out:
    return status;
}

int32_t ar_page_add_table_row(ar_page *page, const char *cells) {
    int32_t status = ADVROB_OK;
    ar_table *table = page->table;
    void *block;
    if (table == NULL)
        AR_FAIL(ADVROB_E_INVALID, "table row: no table yet; call advrob_report_add_table first");
    AR_TRY(check_lines("cells of a table row", cells, table->column_count));
    AR_TRY(ar_arena_alloc(&page->arena, 1, sizeof(ar_table_row), "report table", &block));
    ar_table_row *row = block;
    AR_TRY(ar_arena_copy(&page->arena, cells, &row->cells));
    if (table->last == NULL)
        table->first = row;
    else
        table->last->next = row;
    table->last = row;
out:
    return status;
}

int32_t ar_page_shade_table(ar_page *page, double low, double high) {
    if (page->table == NULL)
        return ar_error(ADVROB_E_INVALID,
                        "shades of a table: no table yet; call advrob_report_add_table first");
    if (!isfinite(low) || !isfinite(high) || !(low < high))
        return ar_error(ADVROB_E_RANGE,
                        "shades of a table from %g to %g, expected two numbers, the lower first",
                        low, high);
    page->table->shaded = true;
    page->table->low = low;
    page->table->high = high;
    return ADVROB_OK;
}
