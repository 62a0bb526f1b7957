/* Where a net's time goes: a table of its layers with kernels, times, speeds and shares of what one
 * core of this machine can do.
 *
 *     profile [net] [--file model.safetensors] [--passes forward|attack|train] [--batch N]
 *             [--repeats N] [--winograd auto|2|off] [--cpu portable|avx2] [--write FILE.csv]
 *
 * net: a name from the zoo (components model), by default eight_layer_conv with fresh weights;
 * speed does not depend on them. */
#include "common.h"

/* A cell as text; "" where there is none. */
static const char *text_at(const advrob_report *report, int32_t row, const char *column) {
    const char *text;
    return advrob_report_get_str(report, row, column, &text) == ADVROB_OK ? text : "";
}

static void print_number(const advrob_report *report, int32_t row, const char *column, double unit,
                         int width, int digits) {
    double value;
    if (advrob_report_get_f64(report, row, column, &value) == ADVROB_OK)
        printf(" %*.*f", width, digits, value * unit);
    else
        printf(" %*s", width, "");
}

static void print_row(const advrob_report *report, int32_t row) {
    printf("%-22s %-32s %-15s %-26s", text_at(report, row, "layer"),
           text_at(report, row, "operator"), text_at(report, row, "kernel"),
           text_at(report, row, "shape"));
    print_number(report, row, "milliseconds", 1, 10, 3);
    print_number(report, row, "multiply_adds", 1e-6, 10, 3);
    print_number(report, row, "gflops", 1, 9, 1);
    print_number(report, row, "peak_share", 100, 7, 1);
    printf("\n");
}

static void print_table(const advrob_report *report, const char *net, const char *batch) {
    double peak;
    int32_t rows = advrob_report_rows(report);
    must(advrob_report_get_f64(report, rows - 1, "peak_gflops", &peak));
    printf("%s, %s images, level %s: one core's peak is %.1f GFLOP/s\n", net, batch,
           text_at(report, 0, "level"), peak);
    for (int32_t i = 0; i < rows; i++) {
        const char *pass = text_at(report, i, "pass");
        if (i == 0 || strcmp(pass, text_at(report, i - 1, "pass")) != 0)
            printf("\n%-22s %-32s %-15s %-26s %10s %10s %9s %7s\n", pass, "operator", "kernel",
                   "shape", "ms", "10^6 madds", "GFLOP/s", "% peak");
        print_row(report, i);
    }
}

int main(int argc, char **argv) {
    const char *net = "eight_layer_conv", *file = NULL, *path = NULL, *batch = "64";
    advrob_options *settings = options(""), *o = options("");
    advrob_context *ctx;
    advrob_model *model;
    advrob_report *report;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (name[0] != '-') {
            net = name;
            continue;
        }
        if (value == NULL) {
            fprintf(stderr, "error: %s needs a value\n", name);
            return 1;
        }
        i++;
        if (strcmp(name, "--file") == 0)
            net = file = value;
        else if (strcmp(name, "--write") == 0)
            path = value;
        else if (strcmp(name, "--batch") == 0)
            batch = value;
        else if (strcmp(name, "--winograd") == 0 || strcmp(name, "--cpu") == 0)
            must(advrob_options_set_text(settings, name + 2, value));
        else /* "passes", "repeats"; the library refuses what it does not know */
            must(advrob_options_set_text(o, name + strspn(name, "-"), value));
    }
    must(advrob_options_set_text(o, "batch_size", batch));
    must(advrob_context_create(settings, &ctx));
    if (file != NULL)
        must(advrob_model_load(ctx, file, NULL, &model));
    else
        must(advrob_model_build(ctx, net, NULL, &model));
    must(advrob_report_create(ctx, &report));
    must(advrob_report_profile(report, model, o));
    print_table(report, net, batch);
    if (path != NULL) must(advrob_report_write(report, path));

    advrob_report_destroy(report);
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    advrob_options_destroy(o);
    advrob_options_destroy(settings);
    return 0;
}
