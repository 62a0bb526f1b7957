/* Axes: the range that shows the data, and ticks at 1, 2 or 5 times a power of ten whose labels do
 * not touch each other. */
#include "page.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define Y_TICKS 6
#define X_TICKS 8
#define X_ROOM (AR_PLOT_WIDTH - 90.0) /* the least that the frame takes of the width */
#define X_PAD 0.04                    /* of the range, so that no marker stands on the frame */
#define HUGE_SHARE 1e6                /* no share: printed as it is */
#define TINY 1e-290                   /* a range below is none: steps would lose their digits */
#define FAR 1e6   /* outside of a range that the caller gave: still a number that SVG can take */
#define WIDE 0.64 /* of the font's size: a digit of a broad font (DejaVu) */

double ar_text_width(const char *text, size_t length, double size) {
    double width = 0;
    for (size_t at = 0; at < length;) {
        size_t n = ar_utf8_length(text + at, length - at);
        bool wide = n >= 3 || strchr("%+@mwMW", text[at]) != NULL; /* n >= 3: CJK, symbols */
        width += wide ? 1 : WIDE;
        at += n > 0 ? n : 1;
    }
    return width * size;
}

/* ---- the range ---- */

static double scale(bool log, double value) {
    return log ? log10(value) : value;
}

double ar_axis_place(const ar_axis *axis, double value) {
    /* A quarter of each: the difference of two numbers of the largest size stays finite. */
    double low = scale(axis->log, axis->low) / 4, high = scale(axis->log, axis->high) / 4;
    double place = (scale(axis->log, value) / 4 - low) / (high - low);
    return fmin(fmax(place, -FAR), FAR);
}

static void include(ar_axis *axis, double value) {
    if (isnan(value)) return;
    if (value < axis->low) axis->low = value;
    if (value > axis->high) axis->high = value;
}

static double clamp(double value) {
    return value > DBL_MAX ? DBL_MAX : value < -DBL_MAX ? -DBL_MAX : value;
}

/* Whether the ends are far enough apart for steps between them to keep their digits. */
static bool is_range(const ar_axis *axis) {
    if (!(axis->low < axis->high)) return false;
    if (axis->log) return log10(axis->high) - log10(axis->low) > 1e-6;
    return axis->high / 4 - axis->low / 4 >
           fmax(fabs(axis->low), fabs(axis->high)) / 4 * 1e-9 + TINY;
}

/* Room around what is no range: nothing at all, or one value. */
static void widen(ar_axis *axis) {
    double middle = axis->low / 2 + axis->high / 2, size = fabs(middle);
    if (axis->low > axis->high) {
        axis->low = axis->log ? 1 : 0;
        axis->high = axis->log ? 10 : 1;
    } else if (is_range(axis)) {
        return;
    } else if (axis->log) {
        axis->low = fmax(middle / 2, DBL_MIN);
        axis->high = clamp(middle * 2);
    } else {
        double room = axis->percent ? 0.05 : size > TINY ? size * 0.1 : 1;
        if (room < size * 1e-6) room = size * 0.1;
        axis->low = clamp(middle - room);
        axis->high = clamp(middle + room);
    }
}

/* Ends that the caller gave replace those of the data. */
static void set_ends(ar_axis *axis, double low, double high) {
    if (!isnan(low)) axis->low = low;
    if (!isnan(high)) axis->high = high;
    if (is_range(axis)) return;
    double end = isnan(high) ? axis->low : axis->high;
    double room = fabs(end) > TINY ? fabs(end) * 0.1 : 1;
    if (isnan(high))
        axis->high = axis->log ? end * 10 : end + room;
    else
        axis->low = axis->log ? end / 10 : end - room;
}

/* ---- labels ---- */

void ar_axis_print(bool percent, double value, char *text) {
    double size = fabs(value);
    if (percent && size < HUGE_SHARE)
        ar_format(text, AR_TICK_TEXT, "%.4g %%", value * 100 + 0.0);
    else if (size >= 1e5 && size < 1e15)
        ar_format(text, AR_TICK_TEXT, "%.0f", value);
    else
        ar_format(text, AR_TICK_TEXT, "%.6g", value + 0.0);
}

/* A tick among others that are `step` away: as many digits as tell them apart, k, M and G for
 * large numbers. */
static void print_tick(const ar_axis *axis, double value, double step, char *text) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    double size = fmax(fabs(axis->low), fabs(axis->high)), unit = 1;
    const char *name = "";
    if (axis->percent && size < HUGE_SHARE) {
        unit = 0.01;
        name = " %";
    }
    if (size >= 1e12 || step < 1e-6) {
        ar_format(text, AR_TICK_TEXT, "%.6g%s", value / unit, name);
        return;
    }
    if (!axis->percent && size >= 1e4) {
        int32_t i = 0;
        while (size < units[i].unit)
            i++;
        unit = units[i].unit;
        name = units[i].name;
    }
    int decimals = (int)-floor(log10(step / unit) + 1e-6);
    if (decimals < 0) decimals = 0;
    ar_format(text, AR_TICK_TEXT, "%.*f%s", decimals, value / unit,
              value == 0 && unit > 1 ? "" : name);
}

/* ---- ticks ---- */

/* The least of 1, 2, 5 times a power of ten that cuts the range into at most `count` parts. */
static double nice_step(const ar_axis *axis, int32_t count) {
    double raw = (axis->high / count - axis->low / count), power = pow(10, floor(log10(raw)));
    double part = raw / power;
    return power * (part <= 1 + 1e-9 ? 1 : part <= 2 + 1e-9 ? 2 : part <= 5 + 1e-9 ? 5 : 10);
}

static ar_tick *add_tick(ar_axis *axis, double value) {
    if (axis->tick_count == AR_MOST_TICKS) return NULL;
    ar_tick *tick = &axis->ticks[axis->tick_count++];
    tick->value = value;
    tick->text[0] = 0;
    return tick;
}

static void linear_ticks(ar_axis *axis, double step) {
    const double slack = 1e-6; /* of a step: a tick at the very end counts in spite of rounding */
    axis->tick_count = 0;
    for (double k = ceil(axis->low / step - slack); k <= axis->high / step + slack; k++) {
        double value = fmin(fmax(k * step, -DBL_MAX), DBL_MAX) + 0.0;
        ar_tick *tick = add_tick(axis, value);
        if (tick == NULL) return;
        print_tick(axis, tick->value, step, tick->text);
    }
}

/* 1, 2, 5 of each power of ten; over many powers only 1. */
static void log_ticks(ar_axis *axis) {
    static const double parts[] = {1, 2, 5};
    double first = floor(log10(axis->low)), last = ceil(log10(axis->high));
    double stride = ceil((last - first) / 10);
    int32_t count = last - first > 3 ? 1 : 3;
    axis->tick_count = 0;
    for (double p = first; p <= last; p += stride) {
        for (int32_t i = 0; i < count; i++) {
            double value = parts[i] * pow(10, p);
            if (value < axis->low || value > axis->high) continue;
            ar_tick *tick = add_tick(axis, value);
            if (tick != NULL) ar_axis_print(axis->percent, value, tick->text);
        }
    }
    if (axis->tick_count < 2) linear_ticks(axis, nice_step(axis, 4));
}

/* Takes the label from ticks whose neighbour's label is too near; tells whether it took any. */
static bool thin(ar_axis *axis) {
    double end = -INFINITY;
    bool any = false;
    for (int32_t i = 0; i < axis->tick_count; i++) {
        ar_tick *tick = &axis->ticks[i];
        double half = ar_text_width(tick->text, strlen(tick->text), AR_PLOT_FONT) / 2;
        double middle = ar_axis_place(axis, tick->value) * X_ROOM;
        if (middle - half < end + AR_PLOT_FONT * 0.6) {
            tick->text[0] = 0;
            any = true;
        } else {
            end = middle + half;
        }
    }
    return any;
}

static int32_t compare_ticks(const ar_tick *a, const ar_tick *b) {
    return (a->value > b->value) - (a->value < b->value);
}

/* By insertion: they are few, and mostly in order. */
static void sort_ticks(ar_axis *axis) {
    for (int32_t i = 1; i < axis->tick_count; i++) {
        ar_tick moved = axis->ticks[i];
        int32_t k = i;
        for (; k > 0 && compare_ticks(&axis->ticks[k - 1], &moved) > 0; k--)
            axis->ticks[k] = axis->ticks[k - 1];
        axis->ticks[k] = moved;
    }
}

/* The text as far as it fits, no UTF-8 sequence cut. */
static void copy_label(char *text, ar_text label) {
    size_t length = 0, n;
    while (length < label.length) {
        n = ar_utf8_length(label.at + length, label.length - length);
        if (n == 0) n = 1;
        if (length + n >= AR_TICK_TEXT) break;
        length += n;
    }
    memcpy(text, label.at, length);
    text[length] = 0;
}

static void category_ticks(const ar_series *series, ar_axis *axis) {
    if (series == NULL) return;
    ar_lines labels = ar_lines_of(series->labels);
    for (int64_t i = 0; i < series->count; i++) {
        ar_text label = ar_lines_next(&labels);
        ar_tick *tick = add_tick(axis, series->x[i]);
        if (tick == NULL) return;
        if (label.length > 0)
            copy_label(tick->text, label);
        else
            ar_axis_print(axis->percent, tick->value, tick->text);
    }
}

/* ---- the two axes ---- */

/* Room at both ends, but not at those that the caller gave. */
static void pad(const ar_plot *plot, ar_axis *axis) {
    double low = axis->low, high = axis->high;
    double share = plot->x_scale == AR_CATEGORY ? 2 * X_PAD : X_PAD;
    if (axis->log) {
        double room = (log10(high) - log10(low)) * share;
        low = fmax(pow(10, log10(low) - room), DBL_MIN);
        high = clamp(pow(10, log10(high) + room));
    } else {
        double room = (high / 4 - low / 4) * 4 * share;
        if (isinf(room)) return;
        low = clamp(low - room);
        high = clamp(high + room);
    }
    if (isnan(plot->x_low)) axis->low = low;
    if (isnan(plot->x_high)) axis->high = high;
}

void ar_axis_x(const ar_plot *plot, ar_axis *axis) {
    *axis = (ar_axis){.low = INFINITY,
                      .high = -INFINITY,
                      .log = plot->x_scale == AR_LOG,
                      .percent = plot->percent_x};
    for (const ar_series *s = plot->first; s != NULL; s = s->next)
        for (int64_t i = 0; i < s->count; i++)
            if (!isnan(s->y[i])) include(axis, s->x[i]);
    for (int32_t i = 0; i < plot->x_tick_count; i++)
        include(axis, plot->x_ticks[i]);
    widen(axis);
    set_ends(axis, plot->x_low, plot->x_high);
    pad(plot, axis);
    for (int32_t i = 0; i < plot->x_tick_count; i++) {
        double value = plot->x_ticks[i];
        ar_tick *tick = value < axis->low || value > axis->high ? NULL : add_tick(axis, value);
        if (tick != NULL) ar_axis_print(axis->percent, value, tick->text);
    }
    if (plot->x_tick_count == 0 && plot->x_scale == AR_CATEGORY) category_ticks(plot->first, axis);
    if (plot->x_tick_count == 0 && axis->log) log_ticks(axis);
    sort_ticks(axis);
    if (axis->tick_count > 0) {
        thin(axis);
        return;
    }
    for (int32_t count = X_TICKS; count >= 2; count--) {
        linear_ticks(axis, nice_step(axis, count));
        if (!thin(axis)) break;
    }
}

void ar_axis_y(const ar_plot *plot, ar_axis *axis) {
    *axis = (ar_axis){.low = INFINITY, .high = -INFINITY, .percent = plot->percent_y};
    for (const ar_series *s = plot->first; s != NULL; s = s->next) {
        for (int64_t i = 0; i < s->count; i++) {
            include(axis, s->y[i]);
            if (s->low == NULL || isnan(s->y[i]) || isnan(s->low[i]) || isnan(s->high[i])) continue;
            include(axis, s->low[i]);
            include(axis, s->high[i]);
        }
    }
    widen(axis);
    set_ends(axis, plot->y_low, plot->y_high);
    double step = nice_step(axis, Y_TICKS);
    double low = floor(axis->low / step + 1e-6) * step,
           high = ceil(axis->high / step - 1e-6) * step;
    if (isnan(plot->y_low) && isfinite(low)) axis->low = low;
    if (isnan(plot->y_high) && isfinite(high)) axis->high = high;
    linear_ticks(axis, step);
}
