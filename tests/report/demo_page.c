/* A page with everything that a report can show, with made-up figures of the shape that the
 * experiment has: for looking at the page and for tests/report/screenshot.py.
 *
 *     demo_page PAGE.html */
#include <advrob/advrob.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static advrob_report *report;

static void check(int32_t status) {
    if (status >= 0) return;
    fprintf(stderr, "demo_page: %s\n", advrob_last_message());
    exit(1);
}

/* "name=value ..." would need a parser; a few setters are enough here. */
static advrob_options *options(void) {
    advrob_options *o = NULL;
    check(advrob_options_create(&o));
    return o;
}

static void add_plot(const char *title, const char *x, const char *y, const char *note,
                     advrob_options *o) {
    if (o == NULL) o = options();
    if (note != NULL) check(advrob_options_set_str(o, "note", note));
    check(advrob_report_add_plot(report, title, x, y, o));
    advrob_options_destroy(o);
}

static advrob_options *percent(void) {
    advrob_options *o = options();
    check(advrob_options_set_i64(o, "percent_y", 1));
    check(advrob_options_set_f64(o, "y_low", 0));
    check(advrob_options_set_f64(o, "y_high", 1));
    return o;
}

static void add_series(const char *name, int64_t n, const double *x, const double *y, double bar,
                       int64_t color, int64_t dash, const char *marker, const char *style,
                       const char *labels) {
    double low[64], high[64];
    advrob_options *o = options();
    for (int64_t i = 0; i < n; i++) {
        low[i] = y[i] - bar;
        high[i] = y[i] + bar;
    }
    check(advrob_options_set_i64(o, "color", color));
    check(advrob_options_set_i64(o, "dash", dash));
    if (marker != NULL) check(advrob_options_set_str(o, "marker", marker));
    if (style != NULL) check(advrob_options_set_str(o, "style", style));
    if (labels != NULL) check(advrob_options_set_str(o, "labels", labels));
    check(advrob_report_add_series(report, name, n, x, y, bar > 0 ? low : NULL,
                                   bar > 0 ? high : NULL, o));
    advrob_options_destroy(o);
}

/* How far point i of n has fallen: at the end by 1; backwards: at the start. */
static double fall_at(int64_t i, int64_t n, bool backwards) {
    return pow((double)(backwards ? n - 1 - i : i) / (double)(n - 1), 4);
}

/* Clean and robust accuracy of three fine-tunings, and the paper's points. */
static void add_family(const double *x, int64_t n, double drop, bool backwards) {
    static const char *const names[3] = {"no fine-tuning", "standard fine-tuning",
                                         "adversarial fine-tuning"};
    static const double clean[3] = {0.88, 0.915, 0.858}, robust[3] = {0.05, 0.158, 0.683};
    char name[64];
    double y[16], paper[16];
    for (int32_t f = 0; f < 3; f++) {
        double fall = f == 0 ? 3 * drop : drop;
        for (int64_t i = 0; i < n; i++)
            y[i] = fmax(0.1, clean[f] - fall * fall_at(i, n, backwards));
        snprintf(name, sizeof name, "%s, clean", names[f]);
        add_series(name, n, x, y, 0.01, f, 0, NULL, NULL, NULL);
        for (int64_t i = 0; i < n; i++)
            y[i] = fmax(0, robust[f] - fall * fall_at(i, n, backwards));
        snprintf(name, sizeof name, "%s, under attack", names[f]);
        add_series(name, n, x, y, 0.02, f, 1, NULL, NULL, NULL);
    }
    for (int64_t i = 0; i < n; i++)
        paper[i] = 0.70 - drop * fall_at(i, n, backwards);
    add_series("paper, adversarial fine-tuning, under attack", n, x, paper, 0, 2, 0, "cross",
               "points", NULL);
}

static void add_compression(void) {
    static const double sparsity[10] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
    static const double bits[5] = {1, 2, 4, 8, 16};
    check(advrob_report_add_heading(report, "Compression and robustness"));
    check(advrob_report_add_text(
        report, "Solid lines are accuracy on clean images, dashed lines accuracy under a PGD "
                "attack with 20 steps. Bars are 95 % intervals over the test images."));
    add_plot("Accuracy against sparsity", "sparsity (share of filters removed)",
             "accuracy on 10,000 test images", "Crosses: figures read from the paper.", percent());
    add_family(sparsity, 10, 0.3, false);
    advrob_options *o = percent();
    check(advrob_options_set_str(o, "x_scale", "log"));
    check(advrob_options_set_f64_array(o, "x_ticks", bits, 5));
    add_plot("Accuracy against bits", "bits per weight", "accuracy on 10,000 test images", NULL, o);
    add_family(bits, 5, 0.3, true);
}

static void add_strength(void) {
    static const double epsilon[6] = {0, 0.01, 0.02, 0.05, 0.1, 0.2};
    static const char *const nets[4] = {"dense, standard training", "dense, adversarial training",
                                        "pruned 0.5, adversarial fine-tuning",
                                        "8 bit, adversarial fine-tuning"};
    static const double rate[4] = {40, 4, 5, 4.5};
    double y[6];
    check(advrob_report_add_heading(report, "Strength of the attack, and what it costs"));
    add_plot("Robust accuracy against the strength of the attack",
             "epsilon (largest change of a pixel, pixels in 0 to 1)", "accuracy under attack", NULL,
             percent());
    for (int32_t net = 0; net < 4; net++) {
        for (int32_t i = 0; i < 6; i++)
            y[i] = (net == 0 ? 0.92 : 0.86) * exp(-rate[net] * epsilon[i]);
        add_series(nets[net], 6, epsilon, y, 0.015, net, 0, NULL, NULL, NULL);
    }
    static const double parameters[4] = {421642, 287310, 157440, 61002};
    static const double work[4] = {12.4e6, 7.9e6, 3.6e6, 1.1e6}, ms[4] = {0.61, 0.43, 0.226, 0.11};
    static const double robust[2][4] = {{0.158, 0.14, 0.12, 0.10}, {0.69, 0.688, 0.683, 0.61}};
    static const char *const sizes = "dense\npruned 0.3\npruned 0.5\npruned 0.8";
    const double *const costs[3] = {parameters, work, ms};
    static const char *const titles[3] = {"Robust accuracy against size",
                                          "Robust accuracy against work",
                                          "Robust accuracy against time"};
    static const char *const axes[3] = {"parameters", "multiply-adds for one image",
                                        "milliseconds for one image"};
    for (int32_t i = 0; i < 3; i++) {
        advrob_options *o = percent();
        check(advrob_options_set_f64(o, "x_low", 0));
        add_plot(titles[i], axes[i], "accuracy under attack", NULL, o);
        add_series("standard fine-tuning", 4, costs[i], robust[0], 0.02, 1, 0, NULL, "points",
                   sizes);
        add_series("adversarial fine-tuning", 4, costs[i], robust[1], 0.02, 2, 0, NULL, "points",
                   sizes);
    }
}

static void add_training(void) {
    double epoch[20], loss[2][20], accuracy[2][20];
    for (int32_t i = 0; i < 20; i++) {
        epoch[i] = i + 1;
        for (int32_t k = 0; k < 2; k++) {
            loss[k][i] = (k ? 0.7 : 0.2) + 1.4 * exp(-0.3 * i) + 0.02 * cos(3.0 * i);
            accuracy[k][i] = (k ? 0.68 : 0.9) - 0.4 * exp(-0.4 * i);
        }
    }
    check(advrob_report_add_heading(report, "Training"));
    add_plot("Loss over epochs", "epoch", "mean loss of a training image (cross entropy, nats)",
             NULL, NULL);
    add_series("standard", 20, epoch, loss[0], 0, 1, 0, NULL, "line", NULL);
    add_series("adversarial", 20, epoch, loss[1], 0, 2, 0, NULL, "line", NULL);
    advrob_options *o = options();
    check(advrob_options_set_i64(o, "percent_y", 1));
    add_plot("Accuracy over epochs", "epoch", "accuracy on validation images", NULL, o);
    add_series("standard, clean", 20, epoch, accuracy[0], 0, 1, 0, NULL, NULL, NULL);
    add_series("adversarial, under attack", 20, epoch, accuracy[1], 0, 2, 1, NULL, NULL, NULL);
}

static void add_pictures(void) {
    static float x[3][8][1][28][28];
    static const int32_t shape[3] = {1, 28, 28};
    static const char *const captions =
        "ankle boot 0.98\npullover 0.91\ntrouser 1.00\ntrouser 1.00\nshirt 0.64\ntrouser 1.00\n"
        "coat 0.77\nshirt 0.58\n\n\n\n\n\n\n\n\nsneaker 0.83\ncoat 0.71\ndress 0.55\ntrouser "
        "0.61\nT-shirt/top 0.72\ndress 0.52\npullover 0.66\npullover 0.70";
    for (int32_t c = 0; c < 8; c++) {
        for (int32_t i = 0; i < 28; i++) {
            for (int32_t k = 0; k < 28; k++) {
                double r = hypot(i - 13.5, (k - 13.5) * (1 + 0.15 * c));
                double noise = sin(i * 12.9 + k * 78.2 + c * 5) > 0 ? 0.05 : -0.05;
                x[0][c][0][i][k] = (float)(r < 11 ? 0.8 - 0.02 * r : 0);
                x[1][c][0][i][k] = (float)(0.5 + 10 * noise);
                x[2][c][0][i][k] = (float)(x[0][c][0][i][k] + noise);
            }
        }
    }
    check(advrob_report_add_heading(report, "What an attack looks like"));
    check(advrob_report_add_images(report, "The net's answer and its confidence, before and after",
                                   3, 8, shape, &x[0][0][0][0][0],
                                   "clean\nperturbation x10\nattacked", captions));
}

static void add_tables(void) {
    static const char *const rows[] = {
        "T-shirt/top\n84.1 %\n81.9 %\n9.7 %\n57.3 %", "trouser\n97.6 %\n97.0 %\n61.2 %\n92.4 %",
        "pullover\n86.0 %\n76.8 %\n2.9 %\n47.1 %", "ankle boot\n95.9 %\n94.7 %\n20.3 %\n88.8 %"};
    check(advrob_report_add_heading(report, "Class by class"));
    check(advrob_report_add_table(
        report, "Accuracy of the net pruned by 0.5, before and after adversarial fine-tuning",
        "class\nclean, before\nclean, after\nunder attack, before\nunder attack, after"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(advrob_report_add_table_row(report, rows[i]));
    check(advrob_report_shade_table(report, 0, 100));
    for (int32_t i = 0; i < 12; i++) {
        check(advrob_report_add_row(report));
        check(advrob_report_put_str(report, "model", i % 2 ? "pruned" : "quantized"));
        check(advrob_report_put_f64(report, "sparsity", i * 0.05));
        check(advrob_report_put_i64(report, "test_images", 10000));
        check(advrob_report_put_f64(report, "clean_accuracy", 0.9 - i * 0.01));
        check(advrob_report_put_f64(report, "pgd_accuracy", 0.68 - i * 0.013));
    }
    check(advrob_report_set_str(report, "dataset", "fashion-mnist"));
    check(advrob_report_set_f64(report, "epsilon", 0.05));
    check(advrob_report_set_str(report, "command",
                                "reproduce --data /usr/share/datasets/fashion-mnist --preset quick "
                                "--out results"));
}

int main(int argc, char **argv) {
    advrob_context *ctx = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: demo_page PAGE.html\n");
        return 2;
    }
    check(advrob_context_create(NULL, &ctx));
    check(advrob_report_create(ctx, &report));
    check(advrob_report_set_title(report, "Adversarial fine-tuning of compressed nets"));
    check(advrob_report_add_figure(
        report, "15.8 \u2192 68.3 %",
        "accuracy under attack, pruned by 0.5: standard \u2192 adversarial fine-tuning"));
    check(advrob_report_add_figure(report, "62 s instead of 209 s",
                                   "three epochs of fine-tuning instead of training anew"));
    check(advrob_report_add_figure(report, "2.7x smaller",
                                   "parameters of the pruned net against the dense one"));
    check(advrob_report_add_text(
        report, "A net that was made smaller by pruning or quantization, and then fine-tuned for a "
                "few epochs on attacked images, withstands attacks about as well as a net that was "
                "trained on attacked images from the start."));
    add_compression();
    add_strength();
    add_training();
    add_pictures();
    add_tables();
    check(advrob_report_write(report, argv[1]));
    advrob_report_destroy(report);
    advrob_context_destroy(ctx);
    return 0;
}
