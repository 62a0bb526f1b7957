/* The page's content in memory, and the parts that draw it. Everything stands in one arena, as
 * lists in the order in which it was added: an add that fails links nothing. */
#ifndef AR_PAGE_H
#define AR_PAGE_H

#include "base/base.h"

/* A piece of text that is not terminated. */
typedef struct ar_text {
    const char *at;
    size_t length;
} ar_text;

/* Lines of a text one after the other; past the end, and of NULL, empty ones. */
typedef struct ar_lines {
    const char *at;
} ar_lines;

ar_lines ar_lines_of(const char *text);
ar_text ar_lines_next(ar_lines *lines);

typedef struct ar_series {
    struct ar_series *next;
    const char *name;
    const char *labels; /* newline-separated; NULL: none */
    int64_t count;
    const double *x, *y;
    const double *low, *high; /* NULL: no error bars */
    bool line, points, dash;
    double shift;          /* pixels to the right, in the drawing alone */
    int32_t color, marker; /* of AR_COLORS, AR_MARKERS */
} ar_series;

enum { AR_COLORS = 8 };
enum { AR_CIRCLE, AR_SQUARE, AR_DIAMOND, AR_TRIANGLE, AR_CROSS, AR_MARKERS };
enum { AR_LINEAR, AR_LOG, AR_CATEGORY };

typedef struct ar_plot {
    const char *title, *x_name, *y_name, *note;
    int32_t x_scale;
    double x_low, x_high, y_low, y_high; /* NaN: from the data */
    bool percent_x, percent_y;
    const double *x_ticks;
    int32_t x_tick_count;
    ar_series *first, *last;
    int32_t series_count;
} ar_plot;

typedef struct ar_strip {
    const char *title, *row_names, *captions; /* names and captions may be NULL */
    int32_t rows, columns, channels, height, width;
    const uint8_t *pixels; /* [rows, columns, height, width, channels] */
} ar_strip;

typedef struct ar_table_row {
    struct ar_table_row *next;
    const char *cells;
} ar_table_row;

typedef struct ar_table {
    const char *title, *columns;
    int32_t column_count;
    bool shaded; /* numbers, from low to high */
    double low, high;
    ar_table_row *first, *last;
} ar_table;

/* One piece of the page: of plot, images and table at most one is there. */
typedef struct ar_item {
    struct ar_item *next;
    int32_t kind;
    const char *text, *label; /* label: of a figure */
    ar_plot *plot;
    ar_strip *images;
    ar_table *table;
} ar_item;

enum { AR_ITEM_FIGURE, AR_ITEM_HEADING, AR_ITEM_TEXT, AR_ITEM_PLOT, AR_ITEM_IMAGES, AR_ITEM_TABLE };

typedef struct ar_page {
    ar_arena arena;
    const char *title; /* NULL: none */
    ar_item *first, *last;
    ar_plot *plot; /* the last of each kind */
    ar_table *table;
} ar_page;

/* page.c. Semantics and errors: include/advrob/report.h. */
extern const ar_option_table ar_plot_options, ar_series_options;
void ar_page_init(ar_page *page, ar_memory *memory);
void ar_page_free(ar_page *page);
int32_t ar_page_set_title(ar_page *page, const char *title);
int32_t ar_page_add_text(ar_page *page, int32_t kind, const char *text, const char *label);
int32_t ar_page_add_plot(ar_page *page, const char *title, const char *x_name, const char *y_name,
                         const advrob_options *options);
int32_t ar_page_add_series(ar_page *page, const char *name, int64_t n, const double *x,
                           const double *y, const double *low, const double *high,
                           const advrob_options *options);
int32_t ar_page_add_images(ar_page *page, const char *title, int64_t rows, int64_t columns,
                           const int32_t *shape, const float *x, const char *row_names,
                           const char *captions);
int32_t ar_page_add_table(ar_page *page, const char *title, const char *columns);
int32_t ar_page_add_table_row(ar_page *page, const char *cells);
int32_t ar_page_shade_table(ar_page *page, double low, double high);

/* The drawing in its own units: an SVG scales, and at 380 pixels the font still has 11 of them. */
enum { AR_PLOT_WIDTH = 480, AR_PLOT_FONT = 14 };

/* axis.c: where values stand on an axis, and its ticks. */
enum { AR_MOST_TICKS = 64, AR_TICK_TEXT = 64 };

typedef struct ar_tick {
    double value;
    char text[AR_TICK_TEXT]; /* not escaped; "": a line without a label */
} ar_tick;

typedef struct ar_axis {
    double low, high; /* low < high */
    bool log, percent;
    ar_tick ticks[AR_MOST_TICKS];
    int32_t tick_count;
} ar_axis;

/* The share of the axis at which `value` stands: 0 at low, 1 at high. */
double ar_axis_place(const ar_axis *axis, double value);
void ar_axis_x(const ar_plot *plot, ar_axis *axis);
void ar_axis_y(const ar_plot *plot, ar_axis *axis);
/* A value as a tooltip shows it. text[AR_TICK_TEXT]. */
void ar_axis_print(bool percent, double value, char *text);
/* About how many units a text takes in a sans-serif font of `size` units. */
double ar_text_width(const char *text, size_t length, double size);

/* svg.c: a plot as an <svg> element; the sample of a series for the legend. */
void ar_svg_plot(const ar_plot *plot, int32_t number, ar_buffer *buffer);
void ar_svg_sample(const ar_series *series, ar_buffer *buffer);

/* png.c: an image [height, width, channels] as the text of a data URI. */
int32_t ar_png_uri(ar_memory *memory, int32_t channels, int32_t height, int32_t width,
                   const uint8_t *pixels, ar_buffer *buffer);

/* html.c: text for an element or a quoted attribute. */
void ar_html_text(ar_buffer *buffer, const char *text, size_t length);

/* style.c. */
extern const char ar_page_style[];

#endif
