/* Profiles: which rows there are, what they say of each layer, multiply-adds against loops over
 * every tap, times against each other and against a time taken from outside, what is refused. */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "model/program.h"
#include "report/report.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/tangle.h"

#include <advrob/advrob.h>

/* The kernels of this machine, with Winograd's way for layers however thin. */
typedef struct place {
    test_allocator allocator;
    ar_kernels kernels;
    advrob_context *ctx;
    advrob_model *model;
    advrob_report *report;
} place;

static void open_place(place *p, const char *net, int32_t threads, int32_t winograd) {
    memset(p, 0, sizeof *p);
    p->ctx = test_context_with(&p->allocator, threads);
    p->kernels = *ar_kernels_get(ar_cpu_detect(), false);
    p->kernels.winograd_channels = 1;
    p->ctx->kernels = &p->kernels;
    p->ctx->winograd = winograd;
    test_ok(advrob_model_build(p->ctx, net, NULL, &p->model));
    test_ok(advrob_report_create(p->ctx, &p->report));
}

static void close_place(place *p) {
    advrob_report_destroy(p->report);
    advrob_model_destroy(p->model);
    ar_context_release(p->ctx);
    test_allocator_check(&p->allocator);
}

static int32_t profile(place *p, const char *text) {
    advrob_options *options = test_options(text);
    int32_t status = advrob_report_profile(p->report, p->model, options);
    ar_options_destroy(options);
    return status;
}

static const char *text_at(const place *p, int32_t row, const char *column) {
    const char *text = "";
    return advrob_report_get_str(p->report, row, column, &text) == ADVROB_OK ? text : "";
}

/* A number; -1 where the cell is empty. */
static double number_at(const place *p, int32_t row, const char *column) {
    double value;
    return advrob_report_get_f64(p->report, row, column, &value) == ADVROB_OK ? value : -1;
}

/* ---- rows ---- */

typedef struct expected_row {
    const char *pass, *layer, *operator, * kernel, *shape;
    double multiply_adds; /* -1: none */
} expected_row;

static void check_rows(const place *p, const expected_row *rows, int32_t count) {
    for (int32_t i = 0; i < count && i < advrob_report_rows(p->report); i++) {
        assert_string_equal(text_at(p, i, "pass"), rows[i].pass);
        assert_string_equal(text_at(p, i, "layer"), rows[i].layer);
        assert_string_equal(text_at(p, i, "operator"), rows[i].operator);
        assert_string_equal(text_at(p, i, "kernel"), rows[i].kernel);
        assert_string_equal(text_at(p, i, "shape"), rows[i].shape);
        bool total = strcmp(rows[i].layer, "total") == 0;
        assert_string_equal(text_at(p, i, "level"), total ? "" : p->kernels.name);
        assert_true(number_at(p, i, "multiply_adds") == rows[i].multiply_adds);
        assert_true((number_at(p, i, "peak_gflops") > 0) == total);
    }
    assert_int_equal(advrob_report_rows(p->report), count);
}

/* 3x3 taps at padding 1: 22 of 24 along an axis of 8 at stride 1, 11 of 12 at stride 2. */
static void test_tiny(void **state) {
    (void)state;
    enum { CONV1 = 22 * 22 * 4, CONV2 = 11 * 11 * 4 * 6, FC = 96 * 10 };
    const double all = CONV1 + CONV2 + FC;
    static const char *const passes[3] = {"forward", "input_gradient", "weight_gradient"};
    expected_row rows[14];
    place p;
    for (int32_t i = 0; i < 2; i++) {
        rows[i * 5] =
            (expected_row){passes[i], "conv1", "conv2d + relu", "gemm", "1x8x8 > 4x8x8", CONV1};
        rows[i * 5 + 1] =
            (expected_row){passes[i], "conv2", "conv2d + relu", "gemm", "4x8x8 > 6x4x4", CONV2};
        rows[i * 5 + 2] =
            (expected_row){passes[i], "flatten", "flatten", "flatten", "6x4x4 > 96x1x1", -1};
        rows[i * 5 + 3] = (expected_row){passes[i], "fc", "linear", "gemm", "96x1x1 > 10x1x1", FC};
        rows[i * 5 + 4] = (expected_row){passes[i], "total", "", "", "", all};
    }
    open_place(&p, "tiny", 2, 0);
    test_ok(profile(&p, "repeats=1 batch_size=20"));
    check_rows(&p, rows, 10);
    test_ok(profile(&p, "repeats=1 batch_size=1 passes=forward label=again"));
    assert_int_equal(advrob_report_rows(p.report), 15);
    assert_string_equal(text_at(&p, 9, "model"), "");
    assert_string_equal(text_at(&p, 10, "model"), "again");
    assert_string_equal(text_at(&p, 14, "model"), "again");
    advrob_report_destroy(p.report);

    /* Training does not want the gradient by the images. */
    memmove(rows + 5, rows + 6, sizeof rows[0] * 4);
    rows[8].multiply_adds -= CONV1;
    for (int32_t i = 0; i < 2; i++) {
        rows[9 + i] = rows[i];
        rows[9 + i].kernel = "wgrad";
        rows[9 + i].pass = passes[2];
    }
    rows[11] = rows[3];
    rows[11].kernel = "wgrad";
    rows[12] = rows[4];
    rows[11].pass = rows[12].pass = passes[2];
    test_ok(advrob_report_create(p.ctx, &p.report));
    test_ok(profile(&p, "repeats=1 batch_size=20 passes=train"));
    check_rows(&p, rows, 13);
    close_place(&p);
}

/* A pooling that follows its layer has no forward pass of its own. */
static void test_pooled(void **state) {
    (void)state;
    static const char *const names[2][6] = {
        {"conv2d + relu + max_pool", "conv2d + avg_pool", "conv2d + relu", "max_pool",
         "global_avg_pool", "linear"},
        {"conv2d + relu", "max_pool", "conv2d", "avg_pool", "conv2d + relu", "max_pool"}};
    place p;
    open_place(&p, "tiny", 1, 4);
    advrob_model_destroy(p.model);
    p.model = test_net(p.ctx, "pooled");
    test_ok(profile(&p, "repeats=1 batch_size=9"));
    for (int32_t i = 0; i < 6; i++) {
        assert_string_equal(text_at(&p, i, "operator"), names[0][i]);
        assert_string_equal(text_at(&p, 7 + i, "operator"), names[1][i]);
        assert_true(number_at(&p, i, "milliseconds") > 0);
    }
    assert_int_equal(advrob_report_rows(p.report), 7 + 9);
    close_place(&p);
}

/* Inference folds and fuses; training keeps batch norms apart and normalises by the batch. */
static void test_batch_norms(void **state) {
    (void)state;
    static const char *const fused[7][2] = {{"conv1", "conv2d + batch_norm + relu"},
                                            {"conv2", "conv2d + batch_norm + add + relu"},
                                            {"conv3", "conv2d + relu"},
                                            {"bn3", "batch_norm"},
                                            {"dropout", "dropout"},
                                            {"pool", "global_avg_pool"},
                                            {"fc", "linear"}};
    static const char *const plain[11][2] = {{"conv1", "conv2d"},
                                             {"bn1", "batch_norm + relu"},
                                             {"conv2", "conv2d"},
                                             {"bn2", "batch_norm"},
                                             {"add", "add"},
                                             {"relu2", "relu"},
                                             {"conv3", "conv2d + relu"},
                                             {"bn3", "batch_norm"},
                                             {"dropout", "dropout"},
                                             {"pool", "global_avg_pool"},
                                             {"fc", "linear"}};
    static const char *const weights[4] = {"conv1", "conv2", "conv3", "fc"};
    place p;
    open_place(&p, "tiny_batch_norm", 3, 0);
    test_ok(profile(&p, "repeats=1 passes=forward"));
    assert_int_equal(advrob_report_rows(p.report), 8);
    for (int32_t i = 0; i < 7; i++) {
        assert_string_equal(text_at(&p, i, "layer"), fused[i][0]);
        assert_string_equal(text_at(&p, i, "operator"), fused[i][1]);
    }
    char before[17], after[17];
    test_ok(advrob_model_digest(p.model, before, sizeof before));
    test_ok(profile(&p, "repeats=2 passes=train batch_size=24"));
    test_ok(advrob_model_digest(p.model, after, sizeof after));
    assert_string_equal(before, after); /* running statistics stay */
    assert_int_equal(advrob_report_rows(p.report), 8 + 12 + 11 + 5);
    for (int32_t i = 0; i < 11; i++) {
        assert_string_equal(text_at(&p, 8 + i, "layer"), plain[i][0]);
        assert_string_equal(text_at(&p, 8 + i, "operator"), plain[i][1]);
        if (i > 0) assert_string_equal(text_at(&p, 19 + i, "layer"), plain[i][0]);
    }
    for (int32_t i = 0; i < 4; i++)
        assert_string_equal(text_at(&p, 31 + i, "layer"), weights[i]);
    for (int32_t i = 0; i < advrob_report_rows(p.report); i++)
        assert_true(number_at(&p, i, "milliseconds") > 0);
    close_place(&p);
}

/* ---- kernels ---- */

static void check_kernels(int32_t winograd, const char *first, const char *square,
                          const char *stride) {
    place p;
    open_place(&p, "tiny_batch_norm", 1, winograd);
    test_ok(profile(&p, "repeats=1 passes=train"));
    for (int32_t i = 0, seen = 0; i < advrob_report_rows(p.report); i++) {
        const char *layer = text_at(&p, i, "layer"), *kernel = text_at(&p, i, "kernel");
        bool weight = strcmp(text_at(&p, i, "pass"), "weight_gradient") == 0;
        if (strcmp(layer, "conv1") == 0) assert_string_equal(kernel, weight ? "wgrad" : first);
        if (strcmp(layer, "conv2") == 0) assert_string_equal(kernel, weight ? "wgrad" : square);
        if (strcmp(layer, "conv3") == 0) assert_string_equal(kernel, weight ? "wgrad" : stride);
        seen += strcmp(layer, "conv2") == 0;
        /* 3x3 taps on 8 x 8 pixels: 22 of 24 along an axis, whatever the way. */
        if (strcmp(layer, "conv2") == 0)
            assert_true(number_at(&p, i, "multiply_adds") == 22 * 22 * 4 * 4);
        if (i == advrob_report_rows(p.report) - 1) assert_int_equal(seen, 3);
    }
    close_place(&p);
}

static void test_kernel_names(void **state) {
    (void)state;
    check_kernels(0, "gemm", "gemm", "gemm");
    check_kernels(2, "gemm", "winograd 2x2", "gemm");
    check_kernels(4, "gemm", "winograd 4x4", "gemm");
}

/* ---- counts and times ---- */

/* Taps of a 3x3 window at padding 1 that lie on an image of side `in`, one by one. */
static double count_taps(int32_t in, int32_t stride) {
    int32_t out = (in - 1) / stride + 1, taps = 0;
    for (int32_t at = 0; at < out * out; at++)
        for (int32_t k = 0; k < 9; k++) {
            int32_t y = at / out * stride + k / 3 - 1, x = at % out * stride + k % 3 - 1;
            taps += y >= 0 && y < in && x >= 0 && x < in;
        }
    return taps;
}

static void test_figures(void **state) {
    (void)state;
    static const int32_t channels[7] = {1, 32, 32, 64, 64, 128, 128};
    static const int32_t sides[6] = {28, 28, 14, 14, 7, 7};
    place p;
    double latency, sum = 0, all = 0;
    open_place(&p, "eight_layer_conv", 1, 0);
    test_ok(profile(&p, "repeats=4"));
    test_ok(advrob_model_latency(p.model, 64, 4, &latency));
    for (int32_t i = 0, layer = 0; i < advrob_report_rows(p.report); i++) {
        double ms = number_at(&p, i, "milliseconds"), count = number_at(&p, i, "multiply_adds");
        bool total = strcmp(text_at(&p, i, "layer"), "total") == 0;
        assert_true(ms > 0);
        if (layer < 6 && !total) {
            double wanted =
                count_taps(sides[layer], layer % 2 + 1) * channels[layer] * channels[layer + 1];
            assert_true(count == wanted);
            layer++;
        }
        if (count > 0) {
            double speed = 2 * count * 64 / ms * 1e-6;
            double share = number_at(&p, i, "peak_share");
            assert_true(fabs(number_at(&p, i, "gflops") / speed - 1) < 1e-9);
            if (!(share > 0 && share < 1.25)) /* more than a core can do: one is wrong */
                fail_msg("row %d: %g of the peak", i, share);
        }
        if (!total) {
            sum += ms;
            all += fmax(count, 0);
            continue;
        }
        double peak = number_at(&p, i, "peak_gflops");
        assert_true(fabs(number_at(&p, i, "gflops") / peak / number_at(&p, i, "peak_share") - 1) <
                    1e-9);
        assert_true(count == all);
        if (!(sum <= ms * 1.0001 && sum > ms / 2)) fail_msg("layers %g ms of %g ms", sum, ms);
        if (i < advrob_report_rows(p.report) / 2 && !(ms < 4 * latency && ms > latency / 4))
            fail_msg("forward: %g ms, from outside %g ms", ms, latency);
        sum = all = layer = 0;
    }
    close_place(&p);
}

/* ---- what is refused, and what stays ---- */

static void refused(place *p, const char *text, int32_t code, const char *word) {
    int32_t before = advrob_report_rows(p->report);
    int32_t status = profile(p, text);
    if (status != code || strstr(advrob_last_message(), word) == NULL)
        fail_msg("\"%s\": %d, %s", text, status, advrob_last_message());
    assert_int_equal(advrob_report_rows(p->report), before);
}

static void test_refusals(void **state) {
    (void)state;
    place p;
    open_place(&p, "tiny", 1, 4);
    test_ok(advrob_report_add_row(p.report));
    refused(&p, "passes=sideways", ADVROB_E_RANGE, "forward|attack|train");
    refused(&p, "batch_size=0", ADVROB_E_RANGE, "batch_size");
    refused(&p, "batch_size=4097", ADVROB_E_RANGE, "batch_size");
    refused(&p, "repeats=0", ADVROB_E_RANGE, "repeats");
    refused(&p, "batchsize=3", ADVROB_E_UNKNOWN, "batch_size");
    ar_memory *memory = &p.ctx->memory;
    memory->limit = memory->used + 100000;
    refused(&p, "batch_size=4096", ADVROB_E_NOMEM, "memory");
    memory->limit = 0;
    advrob_context_cancel(p.ctx);
    refused(&p, "", ADVROB_E_CANCELLED, "cancel");
    advrob_context_rearm(p.ctx);
    test_ok(profile(&p, "batch_size=4096 repeats=1 passes=train"));
    close_place(&p);
}

/* A batch norm behind the pooling of a single image has one value to normalise by. */
static void test_single_value(void **state) {
    (void)state;
    place p;
    const int32_t input[AR_MAX_INPUTS] = {0};
    const ar_attributes attributes = {.kernel = {1, 1}, .stride = {1, 1}, .epsilon = 1e-5};
    int32_t node;
    open_place(&p, "tiny", 1, 4);
    advrob_model_destroy(p.model);
    test_ok(ar_model_create(p.ctx, (ar_shape){3, 1, 1}, &p.model));
    test_ok(ar_model_add(p.model, "batch_norm", "norm", input, &attributes, &node));
    refused(&p, "passes=train batch_size=1", ADVROB_E_INVALID, "normalise");
    test_ok(profile(&p, "passes=train batch_size=2 repeats=1"));
    assert_int_equal(advrob_report_rows(p.report), 2 + 1 + 1); /* nothing behind the images */
    close_place(&p);
}

/* What ran under the clock runs without it afterwards, in the same workspaces. */
static void test_model_stays(void **state) {
    (void)state;
    place p;
    float before[20 * 10], after[20 * 10], *x = draw_images(20, 64, 3);
    open_place(&p, "tiny", 2, 4);
    test_ok(advrob_model_forward(p.model, 20, x, before));
    test_ok(profile(&p, "repeats=2 passes=forward"));
    test_ok(profile(&p, "repeats=2 passes=train"));
    test_ok(advrob_model_forward(p.model, 20, x, after));
    assert_memory_equal(before, after, sizeof before);
    free(x);
    close_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),         cmocka_unit_test(test_batch_norms),
        cmocka_unit_test(test_kernel_names), cmocka_unit_test(test_figures),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_single_value),
        cmocka_unit_test(test_model_stays),  cmocka_unit_test(test_pooled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
