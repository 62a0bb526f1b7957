/* Plots as SVG. Colours are classes and variables of the page's style, so that one drawing serves
 * light, dark and print; text stays text. */
#include "page.h"

#include <math.h>
#include <string.h>

#define FRAME_HEIGHT 214.0
#define RIGHT (AR_PLOT_WIDTH - 18.0)
#define LINE_HEIGHT 18.0
#define MARKER 4.0 /* half of a marker's size */
#define CAP 5.0    /* half of the cap of an error bar */

typedef struct canvas {
    ar_buffer *out;
    ar_axis x, y;
    double left, top, bottom;
} canvas;

static double place_x(const canvas *c, double value) {
    return c->left + ar_axis_place(&c->x, value) * (RIGHT - c->left);
}

static double place_y(const canvas *c, double value) {
    return c->bottom - ar_axis_place(&c->y, value) * (c->bottom - c->top);
}

static bool within(const ar_axis *axis, double value) {
    double place = ar_axis_place(axis, value);
    return place >= -1e-9 && place <= 1 + 1e-9;
}

/* ---- axes ---- */

/* How much of `text` stands on the first line: words as far as they fit, at least one. */
static size_t fit(const char *text) {
    size_t end = 0;
    for (size_t at = 0; text[at] != 0;) {
        at += strspn(text + at, " ");
        at += strcspn(text + at, " ");
        if (end > 0 && ar_text_width(text, at, AR_PLOT_FONT) > AR_PLOT_WIDTH) break;
        end = at;
    }
    return end;
}

static int32_t count_lines(const char *text) {
    int32_t lines = 0;
    for (; *text != 0; lines++)
        text += fit(text);
    return lines > 0 ? lines : 1;
}

/* Writes a name in lines, the first one's baseline at y. */
static void draw_name(ar_buffer *out, const char *text, const char *anchor, double x, double y) {
    ar_buffer_add(out, "<text class=\"name\" text-anchor=\"%s\">", anchor);
    for (; *text != 0; y += LINE_HEIGHT) {
        size_t length = fit(text), skip = strspn(text, " ");
        if (length < skip) break;
        ar_buffer_add(out, "<tspan x=\"%.1f\" y=\"%.1f\">", x, y);
        ar_html_text(out, text + skip, length - skip);
        ar_buffer_add(out, "</tspan>");
        text += length;
    }
    ar_buffer_add(out, "</text>\n");
}

static void draw_y_ticks(const canvas *c) {
    ar_buffer_add(c->out, "<g class=\"lines\">\n");
    for (int32_t i = 0; i < c->y.tick_count; i++) {
        const ar_tick *tick = &c->y.ticks[i];
        double y = place_y(c, tick->value);
        ar_buffer_add(c->out, "<path d=\"M%.1f %.1fH%.1f\"/>", c->left, y, RIGHT);
        ar_buffer_add(c->out, "<text class=\"tick\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">",
                      c->left - 8, y + 0.35 * AR_PLOT_FONT);
        ar_html_text(c->out, tick->text, strlen(tick->text));
        ar_buffer_add(c->out, "</text>\n");
    }
    ar_buffer_add(c->out, "</g>\n");
}

static void draw_x_ticks(const canvas *c) {
    ar_buffer_add(c->out, "<g class=\"lines\">\n");
    for (int32_t i = 0; i < c->x.tick_count; i++) {
        const ar_tick *tick = &c->x.ticks[i];
        double x = place_x(c, tick->value);
        double half = ar_text_width(tick->text, strlen(tick->text), AR_PLOT_FONT) / 2;
        ar_buffer_add(c->out, "<path d=\"M%.1f %.1fV%.1f\"/>", x, c->top, c->bottom + 4);
        if (tick->text[0] == 0) continue;
        if (x < half) x = half; /* a long label stays within the picture */
        if (x > AR_PLOT_WIDTH - half) x = AR_PLOT_WIDTH - half;
        ar_buffer_add(c->out, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">",
                      x, c->bottom + LINE_HEIGHT + 4);
        ar_html_text(c->out, tick->text, strlen(tick->text));
        ar_buffer_add(c->out, "</text>\n");
    }
    ar_buffer_add(c->out, "</g>\n<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", c->left,
                  c->bottom, RIGHT);
}

/* ---- series ---- */

static void draw_marker(ar_buffer *out, int32_t marker, double x, double y) {
    const double r = MARKER, s = MARKER * 0.89, d = MARKER * 1.25;
    switch (marker) {
    case AR_CIRCLE:
        ar_buffer_add(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", x, y, r);
        break;
    case AR_SQUARE:
        ar_buffer_add(out, "<path d=\"M%.1f %.1fh%.1fv%.1fh%.1fz\"/>", x - s, y - s, 2 * s, 2 * s,
                      -2 * s);
        break;
    case AR_DIAMOND:
        ar_buffer_add(out, "<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"/>", x, y - d, d,
                      d, -d, d, -d, -d);
        break;
    case AR_TRIANGLE:
        ar_buffer_add(out, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", x, y - d, d, 1.8 * d,
                      -2 * d);
        break;
    default:
        ar_buffer_add(out,
                      "<path class=\"stroke\" d=\"M%.1f %.1fl%.1f %.1fM%.1f %.1fl%.1f %.1f\"/>",
                      x - r, y - r, 2 * r, 2 * r, x - r, y + r, 2 * r, -2 * r);
        break;
    }
}

static void draw_bars(const canvas *c, const ar_series *series) {
    ar_buffer_add(c->out, "<path class=\"bars\" d=\"");
    for (int64_t i = 0; i < series->count; i++) {
        if (isnan(series->y[i]) || isnan(series->low[i]) || isnan(series->high[i])) continue;
        if (!within(&c->x, series->x[i])) continue;
        double x = place_x(c, series->x[i]);
        double low = place_y(c, series->low[i]), high = place_y(c, series->high[i]);
        ar_buffer_add(c->out, "M%.1f %.1fV%.1fM%.1f %.1fh%.1fM%.1f %.1fh%.1f", x, low, high,
                      x - CAP, low, 2 * CAP, x - CAP, high, 2 * CAP);
    }
    ar_buffer_add(c->out, "\"/>\n");
}

/* One path, cut at gaps. The step of no length draws a dot where a point stands alone. */
static void draw_line(const canvas *c, const ar_series *series) {
    bool open = false;
    ar_buffer_add(c->out, "<path class=\"line\" d=\"");
    for (int64_t i = 0; i < series->count; i++) {
        if (isnan(series->y[i])) {
            open = false;
            continue;
        }
        ar_buffer_add(c->out, open ? "L%.1f %.1f" : "M%.1f %.1fh0", place_x(c, series->x[i]),
                      place_y(c, series->y[i]));
        open = true;
    }
    ar_buffer_add(c->out, "\"/>\n");
}

static void draw_point(const canvas *c, const ar_series *series, int64_t i, ar_text label) {
    char x[AR_TICK_TEXT], y[AR_TICK_TEXT], low[AR_TICK_TEXT], high[AR_TICK_TEXT];
    ar_axis_print(c->x.percent, series->x[i], x);
    ar_axis_print(c->y.percent, series->y[i], y);
    ar_buffer_add(c->out, "<g><title>");
    ar_html_text(c->out, series->name, strlen(series->name));
    if (label.length > 0) {
        ar_buffer_add(c->out, ", ");
        ar_html_text(c->out, label.at, label.length);
    }
    ar_buffer_add(c->out, ": %s at %s", y, x);
    if (series->low != NULL && !isnan(series->low[i]) && !isnan(series->high[i])) {
        ar_axis_print(c->y.percent, series->low[i], low);
        ar_axis_print(c->y.percent, series->high[i], high);
        ar_buffer_add(c->out, " (%s to %s)", low, high);
    }
    ar_buffer_add(c->out, "</title>");
    draw_marker(c->out, series->marker, place_x(c, series->x[i]), place_y(c, series->y[i]));
    ar_buffer_add(c->out, "</g>\n");
}

static void draw_series(const canvas *c, const ar_series *series) {
    ar_lines labels = ar_lines_of(series->labels);
    ar_buffer_add(c->out, "<g class=\"c%d%s\"", series->color, series->dash ? " dash" : "");
    if (series->shift != 0) ar_buffer_add(c->out, " transform=\"translate(%.1f)\"", series->shift);
    ar_buffer_add(c->out, ">\n");
    if (series->low != NULL) draw_bars(c, series);
    if (series->line) draw_line(c, series);
    for (int64_t i = 0; i < series->count && series->points; i++) {
        ar_text label = ar_lines_next(&labels);
        if (isnan(series->y[i])) continue;
        if (within(&c->x, series->x[i]) && within(&c->y, series->y[i]))
            draw_point(c, series, i, label);
    }
    ar_buffer_add(c->out, "</g>\n");
}

void ar_svg_plot(const ar_plot *plot, int32_t number, ar_buffer *buffer) {
    canvas c = {.out = buffer};
    double widest = 0;
    ar_axis_x(plot, &c.x);
    ar_axis_y(plot, &c.y);
    for (int32_t i = 0; i < c.y.tick_count; i++)
        widest =
            fmax(widest, ar_text_width(c.y.ticks[i].text, strlen(c.y.ticks[i].text), AR_PLOT_FONT));
    c.left = fmin(widest + 12, AR_PLOT_WIDTH / 2.0);
    c.top = LINE_HEIGHT * count_lines(plot->y_name) + 14;
    c.bottom = c.top + FRAME_HEIGHT;
    double height = c.bottom + LINE_HEIGHT * (1 + count_lines(plot->x_name)) + 14;
    ar_buffer_add(buffer, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", AR_PLOT_WIDTH,
                  height);
    ar_html_text(buffer, plot->title, strlen(plot->title));
    ar_buffer_add(buffer, "\">\n");
    ar_buffer_add(buffer,
                  "<clipPath id=\"clip%d\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                  "height=\"%.1f\"/></clipPath>\n",
                  number, c.left - 8, c.top - 8, RIGHT - c.left + 16, FRAME_HEIGHT + 16);
    draw_name(buffer, plot->y_name, "start", 0, LINE_HEIGHT - 4);
    draw_y_ticks(&c);
    draw_x_ticks(&c);
    draw_name(buffer, plot->x_name, "middle", (c.left + RIGHT) / 2, c.bottom + 2 * LINE_HEIGHT + 8);
    ar_buffer_add(buffer, "<g clip-path=\"url(#clip%d)\">\n", number);
    for (const ar_series *s = plot->first; s != NULL; s = s->next)
        draw_series(&c, s);
    ar_buffer_add(buffer, "</g>\n</svg>\n");
}

void ar_svg_sample(const ar_series *series, ar_buffer *buffer) {
    ar_buffer_add(buffer,
                  "<svg class=\"sample\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">"
                  "<g class=\"c%d%s\">",
                  series->color, series->dash ? " dash" : "");
    if (series->line) ar_buffer_add(buffer, "<path class=\"line\" d=\"M1 7H33\"/>");
    if (series->points) draw_marker(buffer, series->marker, 17, 7);
    ar_buffer_add(buffer, "</g></svg>");
}
