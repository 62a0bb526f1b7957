/* Axes of plots: ticks that people would choose, labels that do not touch, and no range of numbers
 * that breaks them. */
#include "support/support.h"

#include <float.h>

#include "support/page.h"

static void check_axis(const ar_axis *axis, bool labelled) {
    double end = -INFINITY;
    int32_t labels = 0;
    assert_true(isfinite(axis->low) && isfinite(axis->high) && axis->low < axis->high);
    for (int32_t i = 0; i < axis->tick_count; i++) {
        const ar_tick *tick = &axis->ticks[i];
        double at = ar_axis_place(axis, tick->value);
        if (!(at >= -1e-6 && at <= 1 + 1e-6))
            fail_msg("tick %g of %g to %g at %g", tick->value, axis->low, axis->high, at);
        if (i > 0 && !(tick->value > axis->ticks[i - 1].value))
            fail_msg("tick %g after %g", tick->value, axis->ticks[i - 1].value);
        if (tick->text[0] == 0) continue;
        labels++;
        for (int32_t k = 0; k < i; k++)
            if (strcmp(tick->text, axis->ticks[k].text) == 0) fail_msg("two ticks %s", tick->text);
        double half = ar_text_width(tick->text, strlen(tick->text), AR_PLOT_FONT) / 2;
        if (labelled) assert_true(at * (AR_PLOT_WIDTH - 90) - half > end);
        end = at * (AR_PLOT_WIDTH - 90) + half;
    }
    if (labels < 1)
        fail_msg("%d ticks from %.17g to %.17g", axis->tick_count, axis->low, axis->high);
}

static void expect_ticks(const ar_axis *axis, const char *expected) {
    char text[1024] = "";
    for (int32_t i = 0; i < axis->tick_count; i++)
        ar_format(text + strlen(text), sizeof text - strlen(text), "%s|", axis->ticks[i].text);
    assert_string_equal(text, expected);
}

static void test_ticks(void **state) {
    (void)state;
    static const struct {
        const char *options, *x, *y;
        double ends[2];
    } known[] = {
        {"", "0.0|0.2|0.4|0.6|0.8|", "0.0|0.2|0.4|0.6|0.8|1.0|", {0, 0.9}},
        {"percent_x=1 percent_y=1 x_low=0 x_high=1",
         "0 %|20 %|40 %|60 %|80 %|100 %|",
         "10 %|12 %|14 %|16 %|18 %|20 %|",
         {0.1, 0.2}},
        {"x_scale=log x_ticks=16,1,2,4,8", "1|2|4|8|16|", "0|5|10|15|20|", {1, 16}},
        {"x_scale=log", "1|10|100|1000|10000|100000|", "0|20k|40k|60k|80k|100k|", {1, 1e5}},
        {"y_low=0", "12.0M|12.5M|13.0M|13.5M|14.0M|", "0|5M|10M|15M|", {12e6, 14e6}},
        {"x_low=-5 x_high=5", "-4|-2|0|2|4|", "-3|-2|-1|0|1|2|", {-3, 2}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        place p;
        ar_axis axis;
        open_place(&p, NULL);
        add_plot(p.report, "ticks", known[i].options);
        add_series(p.report, "ends", 2, known[i].ends, known[i].ends, NULL, NULL, NULL, "");
        ar_axis_x(p.report->page.plot, &axis);
        check_axis(&axis, true);
        expect_ticks(&axis, known[i].x);
        ar_axis_y(p.report->page.plot, &axis);
        check_axis(&axis, false);
        expect_ticks(&axis, known[i].y);
        close_place(&p);
    }
}

/* Ranges from nothing to everything: no case is drawn outside or with numbers that are none. */
static void test_extremes(void **state) {
    (void)state;
    static const double ends[] = {0,         -0.0,    1,        -1,   1e-9,     0.3,
                                  0.1 + 0.2, 5e-324,  DBL_MIN,  1e15, 1e15 + 1, 123456,
                                  1e300,     DBL_MAX, -DBL_MAX, 3.7,  99.999,   1e6};
    static const char *const options[] = {"",
                                          "percent_x=1 percent_y=1",
                                          "x_low=0 y_high=1",
                                          "x_high=-2 y_low=2",
                                          "x_scale=log",
                                          "x_scale=category",
                                          "x_scale=log x_low=3 x_high=4"};
    enum { N = sizeof ends / sizeof ends[0] };
    for (int32_t i = 0; i < N * N * 7; i++) {
        place p;
        ar_axis axis;
        double v[2] = {ends[i % N], ends[i / N % N]};
        const char *text = options[i / N / N];
        bool log = strstr(text, "log") != NULL;
        if (log && (v[0] <= 0 || v[1] <= 0)) continue;
        open_place(&p, NULL);
        add_plot(p.report, "extremes", text);
        add_series(p.report, "ends", 2, v, v, NULL, NULL, NULL, "marker=circle");
        ar_axis_x(p.report->page.plot, &axis);
        if (strstr(text, "category") == NULL) check_axis(&axis, true);
        ar_axis_y(p.report->page.plot, &axis);
        assert_true(isfinite(axis.low) && axis.low < axis.high);
        ar_buffer buffer;
        ar_buffer_init(&buffer, &p.ctx->memory);
        ar_svg_plot(p.report->page.plot, 0, &buffer);
        test_ok(ar_buffer_status(&buffer));
        check_drawing(buffer.data);
        ar_buffer_free(&buffer);
        close_place(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticks),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
