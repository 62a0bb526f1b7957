/* What quantization did to each layer, as rows of a report and as quant_ptq's plan, against figures
 * found here from weights and values themselves, float by float. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "support/golden.h"

#include "support/prune.h"
#include "support/quantized.h"

enum { IMAGES = 50 };

static advrob_model *quantize(const advrob_model *model, const advrob_dataset *data,
                              const char *text) {
    advrob_model *q = NULL;
    test_ok(test_compress(model, "quant_ptq", text, data, &q));
    return q;
}

typedef struct loss {
    double signal, noise, clipped, count;
} loss;

static void add_value(loss *l, double x, double q, bool clipped) {
    l->signal += x * x;
    l->noise += (x - q) * (x - q);
    l->clipped += clipped;
    l->count++;
}

static double decibels(const loss *l) {
    return 10 * log10(l->signal / l->noise);
}

static loss loss_of(const ar_quant *q, int64_t n, const float *x, int64_t per) {
    loss l = {0};
    for (int64_t i = 0; i < n; i++) {
        const double scale = (double)q->scales[q->count > 1 ? i / per : 0];
        const double code = rint((double)x[i] / scale) + q->zero;
        const double kept = fmin(fmax(code, q->low), q->high);
        add_value(&l, (double)x[i], (kept - q->zero) * scale, kept != code);
    }
    return l;
}

static void check_cell(const advrob_report *report, int32_t row, const char *column,
                       double expected, double slack) {
    double value = NAN;
    const int32_t status = advrob_report_get_f64(report, row, column, &value);
    if (!isfinite(expected)) {
        assert_int_equal(status, ADVROB_E_UNKNOWN);
    } else if (status < 0 || !(fabs(value - expected) <= slack)) {
        fail_msg("row %d, %s: %.9g, expected %.9g; %s", row, column, value, expected,
                 status < 0 ? ar_message() : "");
    }
}

/* The rows' layers and the nodes where their groups end, in order. */
static void check_rows(advrob_model *m, advrob_model *q, const advrob_dataset *data,
                       const char *const (*groups)[2], int32_t count) {
    advrob_report *report = NULL;
    advrob_options *options = test_options("images=50 label=net");
    test_ok(advrob_report_create(m->ctx, &report));
    test_ok(advrob_report_quantization(report, m, q, data, options));
    ar_options_destroy(options);
    assert_int_equal(advrob_report_rows(report), count);
    for (int32_t k = 0; k < count; k++) {
        const char *text = NULL;
        test_ok(advrob_report_get_str(report, k, "layer", &text));
        assert_string_equal(text, groups[k][0]);
        test_ok(advrob_report_get_str(report, k, "value", &text));
        assert_string_equal(text, groups[k][1]);
        test_ok(advrob_report_get_str(report, k, "model", &text));
        assert_string_equal(text, "net");
        const ar_node *layer = &q->nodes[ar_model_find_node(q, groups[k][0])];
        const int32_t value = ar_model_find_node(q, groups[k][1]);
        const ar_quant *point = &q->nodes[value].output;
        if (layer->op != NULL && layer->weight >= 0) {
            check_cell(report, k, "weight_bits", layer->weights.bits, 0);
            if (layer->weights.bits > 0) {
                const ar_parameter *p = &q->parameters[layer->weight];
                loss l =
                    loss_of(&layer->weights, p->count, q->slab + p->offset, p->count / p->shape[0]);
                check_cell(report, k, "weight_sqnr", decibels(&l), 1e-3);
                check_cell(report, k, "weight_clipped", l.clipped / l.count, 0);
                check_cell(report, k, "weight_scales", layer->weights.count, 0);
            } else {
                check_cell(report, k, "weight_sqnr", NAN, 0);
            }
        }
        test_values a = test_values_of(m, value, data, IMAGES);
        test_values b = test_values_of(q, value, data, IMAGES);
        loss net = {0};
        for (int64_t i = 0; i < a.count; i++)
            add_value(&net, (double)a.v[i], (double)b.v[i], false);
        check_cell(report, k, "net_sqnr", decibels(&net), 0.01);
        check_cell(report, k, "output_bits", point->bits, 0);
        if (point->bits > 0) {
            loss l = loss_of(point, a.count, a.v, 1);
            const double scale = (double)point->scales[0];
            check_cell(report, k, "output_sqnr", decibels(&l), 0.01);
            check_cell(report, k, "output_clipped", l.clipped / l.count, 2.5 / l.count);
            check_cell(report, k, "output_low", -point->zero * scale, 0);
            check_cell(report, k, "output_high", (point->high - point->zero) * scale, 0);
            check_cell(report, k, "output_scale", scale, 0);
            check_cell(report, k, "output_zero_point", point->zero, 0);
        } else {
            check_cell(report, k, "output_sqnr", NAN, 0);
        }
        free(a.v);
        free(b.v);
    }
    advrob_report_destroy(report);
}

/* The plan has the same figures, rounded. */
static void check_plan(advrob_model *m, const advrob_dataset *data, const char *words,
                       const advrob_model *q) {
    char *plan = test_plan(m, "quant_ptq", words, data), name[64];
    int32_t lines = 0;
    if (strstr(plan, " relu1: 0.000000 to ") == NULL) fail_msg("%s", plan);
    for (const char *line = plan; *line != 0; line += strcspn(line, "\n") + 1) {
        double bits, weights, clipped;
        if (sscanf(line, "%63s %lf %lf %lf", name, &bits, &weights, &clipped) != 4) continue;
        const int32_t node = ar_model_find_node(q, name);
        if (node <= 0 || q->nodes[node].weights.bits == 0) continue;
        const ar_node *layer = &q->nodes[node];
        const ar_parameter *p = &q->parameters[layer->weight];
        loss l = loss_of(&layer->weights, p->count, q->slab + p->offset, p->count / p->shape[0]);
        assert_true(bits == layer->weights.bits && fabs(weights - decibels(&l)) < 0.051);
        assert_true(fabs(clipped - 100 * l.clipped / l.count) < 0.00051);
        lines++;
    }
    assert_int_equal(lines, test_quant_layers(q));
    advrob_text_destroy(m->ctx, plan);
}

static void test_table(void **state) {
    (void)state;
    static const char *const plain[][2] = {
        {"input", "input"}, {"conv1", "relu1"}, {"conv2", "relu2"}, {"fc", "fc"}};
    static const char *const residual[][2] = {{"input", "input"},    {"conv1", "relu1"},
                                              {"conv2", "relu2"},    {"conv3", "conv3"},
                                              {"shortcut", "relu3"}, {"fc", "fc"}};
    static const char *const words[] = {
        "images=50", "images=50 simulate=exact bias_correction=1",
        "images=50 range=percentile percentile=95 weight_range=mse weight_bits=3",
        "images=50 activation_bits=4 bias_correction=1 weight_granularity=tensor float_layers=fc"};
    static test_allocator allocator;
    advrob_context *ctx = test_quant_context(&allocator, 2);
    for (int32_t n = 0; n < 2; n++)
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            advrob_model *m = test_quant_net(ctx, n ? "tiny_residual" : "tiny"), *folded = NULL;
            advrob_dataset *data = test_quant_images(m, IMAGES + 20, 3);
            advrob_model *q = quantize(m, data, words[k]);
            test_ok(ar_model_fold_normalisation(m, &folded));
            check_rows(folded, q, data, n ? residual : plain, n ? 6 : 4);
            check_plan(m, data, words[k], q);
            ar_model_release(folded);
            ar_model_release(q);
            ar_dataset_release(data);
            ar_model_release(m);
        }
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* Not the same net: no row. */
static void test_table_errors(void **state) {
    (void)state;
    advrob_context *ctx = test_quant_context(NULL, 1);
    advrob_model *m = test_quant_net(ctx, "tiny"), *other = test_quant_net(ctx, "tiny_residual");
    advrob_dataset *data = test_quant_images(m, IMAGES, 3),
                   *others = test_quant_images(other, IMAGES, 3);
    advrob_model *q = quantize(m, data, "");
    advrob_report *report = NULL;
    test_ok(advrob_report_create(ctx, &report));
    assert_int_equal(advrob_report_quantization(report, other, q, data, NULL), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "not in both models"));
    assert_int_equal(advrob_report_quantization(report, m, q, others, NULL), ADVROB_E_SHAPE);
    assert_int_equal(advrob_report_quantization(report, q, q, data, NULL), ADVROB_E_UNSUPPORTED);
    assert_int_equal(advrob_report_rows(report), 0);
    test_ok(advrob_report_quantization(report, m, q, data, NULL));
    assert_int_equal(advrob_report_rows(report), 4);
    advrob_report_destroy(report);
    ar_model_release(q);
    ar_dataset_release(data);
    ar_dataset_release(others);
    ar_model_release(m);
    ar_model_release(other);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
