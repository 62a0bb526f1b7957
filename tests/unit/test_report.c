/* Evaluations against counts made one image at a time; reports written, read back, damaged, and
 * written to where it fails. */
#include "support/support.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/report.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/images.h"
#include "support/options.h"

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

static advrob_report *open_report(advrob_context *ctx) {
    advrob_report *report = NULL;
    test_ok(advrob_report_create(ctx, &report));
    return report;
}

static double number(const advrob_report *report, int32_t row, const char *column) {
    double value = 0;
    test_ok(advrob_report_get_f64(report, row, column, &value));
    return value;
}

/* ---- intervals ---- */

static void test_wilson(void **state) {
    (void)state;
    static const struct {
        int64_t hits, n;
        double low, high;
    } known[] = {
        {8, 10, 0.4901625, 0.9433178},
        {0, 10, 0, 0.2775328},
        {10, 10, 0.7224672, 1},
        {1, 1, 0.2065493, 1},
        {0, 1, 0, 0.7934507},
        {50, 100, 0.4038315, 0.5961685},
        {9000, 10000, 0.8939656, 0.9057272},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        double low, high;
        ar_wilson(known[i].hits, known[i].n, &low, &high);
        if (fabs(low - known[i].low) > 1e-7 || fabs(high - known[i].high) > 1e-7)
            fail_msg("%d of %d: %.8f to %.8f", (int)known[i].hits, (int)known[i].n, low, high);
        assert_true(low >= 0 && high <= 1);
    }
}

/* ---- evaluation ---- */

/* A net behind callbacks that notes what is asked of it. */
typedef struct watched {
    advrob_target *target;
    int64_t forwards, attacked_wrong, attacked;
    float *clean; /* [images]: sums of the images that are right when clean */
    int64_t right;
} watched;

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    watched *w = user;
    w->forwards += n;
    return ar_target_forward(w->target, n, x, logits) < 0;
}

/* epsilon 0: the attacked image is the clean one, so it can be looked up. */
static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    watched *w = user;
    (void)dlogits;
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        bool known = false;
        for (int32_t p = 0; p < 64; p++)
            sum += x[i * 64 + p];
        for (int64_t k = 0; k < w->right; k++)
            known = known || w->clean[k] == sum;
        w->attacked++;
        w->attacked_wrong += !known;
    }
    memset(dx, 0, sizeof(float) * (size_t)n * 64);
    return 0;
}

/* One image at a time: right when clean, and under PGD whose draws are those of its number. */
static bool holds(advrob_target *target, const advrob_dataset *data, int64_t i, const char *name,
                  const char *text) {
    float x[64], z[10];
    int32_t y, prediction;
    char all[160];
    test_ok(ar_dataset_gather(data, i, NULL, 1, x, &y));
    test_ok(ar_target_forward(target, 1, x, z));
    if (ar_argmax(10, z) != y) return false;
    if (name == NULL) return true;
    snprintf(all, sizeof all, strcmp(name, "pgd") == 0 ? "%s first_sample=%d" : "%s", text, (int)i);
    advrob_options *options = test_options(all);
    advrob_attack *attack = NULL;
    test_ok(ar_attack_create(target->ctx, name, options, &attack));
    ar_attack_call call = {.n = 1, .x = x, .y = &y, .predictions = &prediction};
    test_ok(ar_attack_run(attack, target, NULL, &call));
    ar_attack_release(attack);
    ar_options_destroy(options);
    return prediction == y;
}

static void check_share(const advrob_report *report, int32_t row, const char *label, int64_t hits,
                        int64_t n) {
    static const char *const suffix[3] = {"accuracy", "low", "high"};
    double expected[3] = {(double)hits / (double)n};
    char column[96];
    ar_wilson(hits, n, &expected[1], &expected[2]);
    for (int32_t i = 0; i < 3; i++) {
        snprintf(column, sizeof column, "%s_%s", label, suffix[i]);
        assert_true(number(report, row, column) == expected[i]);
    }
}

enum { N = 130 };
static const struct {
    const char *name, *text;
} attacks[3] = {{"pgd", "epsilon=0.06 step=0.02 steps=5"},
                {"pgd", "epsilon=0.05 step=0.03 steps=3 loss=margin early_stop=1"},
                {"fgsm", "epsilon=0.06"}};

static void open_net(advrob_context *ctx, advrob_target **target, advrob_dataset **data) {
    ar_safetensors file;
    int64_t n = 0;
    golden_open(ctx, "nets", "tiny.safetensors", &file);
    advrob_model *model = golden_net(ctx, "tiny", &file);
    float *x = golden_get(&file, "x", NULL), *noise = draw_images(N, 64, 6);
    int32_t *y = golden_labels(&file, "labels", &n), labels[N];
    for (int64_t i = 0; i < N; i++) { /* its own images with a little noise on them */
        for (int32_t p = 0; p < 64; p++) {
            float *v = &noise[i * 64 + p];
            *v = fminf(fmaxf(x[i % n * 64 + p] + 0.2f * (*v - 0.5f), 0), 1);
        }
        labels[i] = y[i % n];
    }
    *data = test_dataset_of(ctx, N, (ar_shape){1, 8, 8}, 10, noise, labels);
    test_ok(ar_target_from_model(model, target));
    ar_model_release(model);
    ar_safetensors_free(ctx, &file);
    free(x);
    free(y);
    free(noise);
}

/* The first `count` attacks with their labels; batch_size as text. */
static advrob_options *evaluation(int32_t count, const char *text) {
    advrob_options *options = test_options(text);
    for (int32_t i = 0; i < count; i++) {
        advrob_options *sub = test_options(attacks[i].text);
        test_ok(ar_options_append(options, "attacks", attacks[i].name, sub));
        ar_options_destroy(sub);
    }
    return options;
}

static void test_counts(void **state) {
    (void)state;
    static const char *const texts[] = {"labels=a,b,c", "labels=a,b,c batch_size=7",
                                        "labels=a,b,c batch_size=64"};
    int64_t clean = 0, robust[3] = {0}, worst = 0;
    for (int32_t threads = 1; threads <= 3; threads++) {
        advrob_context *ctx = open_context(NULL, threads);
        advrob_target *target;
        advrob_dataset *data;
        open_net(ctx, &target, &data);
        for (int64_t i = 0; i < N && threads == 1; i++) {
            bool all = true;
            clean += holds(target, data, i, NULL, NULL);
            for (int32_t a = 0; a < 3; a++) {
                bool one = holds(target, data, i, attacks[a].name, attacks[a].text);
                robust[a] += one;
                all = all && one;
            }
            worst += all;
        }
        advrob_report *report = open_report(ctx);
        for (int32_t row = 0; row < 3; row++) {
            advrob_options *options = evaluation(3, texts[row]);
            test_ok(advrob_report_add_row(report));
            test_ok(advrob_report_evaluate(report, target, data, options));
            ar_options_destroy(options);
            assert_true(number(report, row, "test_images") == N);
            check_share(report, row, "clean", clean, N);
            check_share(report, row, "a", robust[0], N);
            check_share(report, row, "b", robust[1], N);
            check_share(report, row, "c", robust[2], N);
            check_share(report, row, "worst", worst, N);
        }
        assert_int_equal(advrob_report_rows(report), 3);
        advrob_report_destroy(report);
        ar_target_release(target);
        ar_dataset_release(data);
        ar_context_release(ctx);
    }
    print_message("%d right of %d; %d, %d and %d under attack, %d under all\n", (int)clean, N,
                  (int)robust[0], (int)robust[1], (int)robust[2], (int)worst);
    assert_true(clean < N && worst > 0 && robust[0] < clean);
    assert_true(worst < robust[0] && worst < robust[1] && worst <= robust[2]);
}

/* Accuracies of the classes against a recount of one image at a time; a class that the images lack
 * has no cell. */
static void test_classes(void **state) {
    (void)state;
    int64_t images[10] = {0}, clean[10] = {0}, robust[10] = {0};
    int32_t y, missing = 0;
    char column[64];
    advrob_context *ctx = open_context(NULL, 2);
    advrob_target *target;
    advrob_dataset *data;
    open_net(ctx, &target, &data);
    for (int64_t i = 0; i < N; i++) {
        test_ok(ar_dataset_gather(data, i, NULL, 1, NULL, &y));
        images[y]++;
        clean[y] += holds(target, data, i, NULL, NULL);
        robust[y] += holds(target, data, i, attacks[0].name, attacks[0].text);
    }
    advrob_report *report = open_report(ctx);
    advrob_options *options = evaluation(1, "labels=a per_class=1 batch_size=50");
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_evaluate(report, target, data, options));
    for (int32_t k = 0; k < 10; k++) {
        snprintf(column, sizeof column, "class%d_accuracy", k);
        if (images[k] == 0) {
            assert_null(ar_report_get(report, 0, column));
            missing++;
            continue;
        }
        assert_true(number(report, 0, column) == (double)clean[k] / (double)images[k]);
        snprintf(column, sizeof column, "class%d_a_accuracy", k);
        assert_true(number(report, 0, column) == (double)robust[k] / (double)images[k]);
    }
    assert_true(missing < 9);
    ar_options_destroy(options);
    advrob_report_destroy(report);
    ar_target_release(target);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* Images that are wrong when clean are not attacked. */
static void test_only_right_ones(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1);
    watched w = {.clean = malloc(sizeof(float) * N)};
    advrob_dataset *data;
    advrob_target *target = NULL;
    advrob_options *options = test_options(""), *sub = test_options("epsilon=0");
    open_net(ctx, &w.target, &data);
    for (int64_t i = 0; i < N; i++) {
        float x[64], sum = 0;
        if (!holds(w.target, data, i, NULL, NULL)) continue;
        test_ok(ar_dataset_gather(data, i, NULL, 1, x, NULL));
        for (int32_t p = 0; p < 64; p++)
            sum += x[p];
        w.clean[w.right++] = sum;
    }
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, 10, 0, 1, forward, backward, &w,
                                     &target));
    test_ok(ar_options_append(options, "attacks", "fgsm", sub));
    advrob_report *report = open_report(ctx);
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_evaluate(report, target, data, options));
    assert_true(w.right > 0 && w.right < N);
    assert_true(w.attacked == w.right && w.attacked_wrong == 0);
    check_share(report, 0, "fgsm", w.right, N);
    const ar_cell *cell = ar_report_get(report, 0, "worst_accuracy");
    assert_null(cell); /* of one attack there is no worst */
    ar_options_destroy(options);
    ar_options_destroy(sub);
    advrob_report_destroy(report);
    ar_target_release(target);
    ar_target_release(w.target);
    ar_dataset_release(data);
    free(w.clean);
    ar_context_release(ctx);
}

static void refused(advrob_report *report, advrob_target *target, const advrob_dataset *data,
                    advrob_options *options, int32_t status, const char *says) {
    int32_t columns = report->column_count;
    int32_t got = advrob_report_evaluate(report, target, data, options);
    if (got != status || strstr(ar_message(), says) == NULL) fail_msg("%d, %s", got, ar_message());
    assert_true(columns <= report->column_count);
    if (report->row_count > 0) assert_null(ar_report_get(report, 0, "clean_accuracy"));
    ar_options_destroy(options);
}

static void test_refused_evaluations(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    advrob_target *target, *blind = NULL;
    advrob_dataset *data, *wide, *many;
    advrob_report *report = open_report(ctx);
    watched w = {.forwards = 0};
    open_net(ctx, &target, &data);
    w.target = target;
    wide = test_dataset(ctx, 5, (ar_shape){1, 8, 9}, 10, 0.1, 1);
    many = test_dataset(ctx, 50, (ar_shape){1, 8, 8}, 11, 0.1, 1);
    refused(report, target, data, evaluation(0, ""), ADVROB_E_INVALID, "no row");
    test_ok(advrob_report_add_row(report));
    refused(report, target, wide, evaluation(0, ""), ADVROB_E_SHAPE, "1 x 8 x 9");
    refused(report, target, many, evaluation(0, ""), ADVROB_E_SHAPE, "11");
    refused(report, target, data, evaluation(2, ""), ADVROB_E_INVALID, "\"pgd\"");
    refused(report, target, data, evaluation(2, "labels=a,a"), ADVROB_E_INVALID, "\"a\"");
    refused(report, target, data, evaluation(1, "labels=clean"), ADVROB_E_INVALID, "\"clean\"");
    refused(report, target, data, evaluation(1, "labels=worst"), ADVROB_E_INVALID, "\"worst\"");
    refused(report, target, data, evaluation(1, "labels=class0 per_class=1"), ADVROB_E_INVALID,
            "\"class0\"");
    refused(report, target, data, evaluation(1, "label=a"), ADVROB_E_UNKNOWN, "\"labels\"");
    refused(report, target, data, evaluation(0, "batch_size=0"), ADVROB_E_RANGE, "batch_size");
    advrob_options *options = test_options("");
    test_ok(ar_options_append(options, "attacks", "pgt", NULL));
    refused(report, target, data, options, ADVROB_E_UNKNOWN, "\"pgd\"");
    test_ok(
        ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, 10, 0, 1, forward, NULL, &w, &blind));
    refused(report, blind, data, evaluation(1, ""), ADVROB_E_UNSUPPORTED, "gradient");
    ar_target_release(blind);
    /* A narrower box than the images': clean is fine, an attack is not. */
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, 10, 0.4, 0.6, forward, backward, &w,
                                     &blind));
    refused(report, blind, data, evaluation(1, ""), ADVROB_E_RANGE, "[0.4, 0.6]");
    test_ok(advrob_report_evaluate(report, blind, data, NULL));
    assert_true(number(report, 0, "clean_accuracy") > 0.5);
    ar_target_release(blind);
    ar_target_release(target);
    ar_dataset_release(data);
    ar_dataset_release(wide);
    ar_dataset_release(many);
    advrob_report_destroy(report);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_only_right_ones),
        cmocka_unit_test(test_refused_evaluations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
