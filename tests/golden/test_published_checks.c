/* What the masking check says of the published nets of the test data; its thresholds were fixed
 * before. The nets that were trained for a provable bound and the plain ones raise no flag. The net
 * of fast adversarial training (Wong et al. 2020) does: Square is stronger than PGD by four points,
 * as its published figures say (PGD-50 with 10 restarts 88.77, AutoAttack 82.93). */
#include "support/support.h"

#include <advrob/advrob.h>

#include <stdio.h>
#include <string.h>

#include "model/oracle.h"
#include "support/golden.h"

static advrob_context *ctx;

static void add(advrob_model *model, const char *op, const char *name, const char *from,
                const char *const *words, const char *outputs) {
    advrob_options *options = NULL;
    test_ok(advrob_options_create(&options));
    for (int32_t i = 0; words != NULL && words[i] != NULL; i += 2)
        test_ok(advrob_options_set_text(options, words[i], words[i + 1]));
    if (outputs != NULL) test_ok(advrob_options_set_text(options, "outputs", outputs));
    test_ok(advrob_model_add(model, op, name, &from, 1, options));
    advrob_options_destroy(options);
}

/* A PyTorch Sequential: the names are its numbers. */
static advrob_model *build_net(const char *net) {
    static const char *const window[] = {"kernel", "4", "stride", "2", "padding", "1", NULL};
    char path[1024];
    advrob_options *options = NULL;
    advrob_model *m = NULL;
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_text(options, "mean", "0"));
    test_ok(advrob_options_set_text(options, "std", "1"));
    test_ok(advrob_model_begin(ctx, 1, 28, 28, options, &m));
    advrob_options_destroy(options);
    add(m, "conv2d", "0", "input", window, "16");
    add(m, "relu", "1", "0", NULL, NULL);
    add(m, "conv2d", "2", "1", window, "32");
    add(m, "relu", "3", "2", NULL, NULL);
    add(m, "flatten", "4", "3", NULL, NULL);
    add(m, "linear", "5", "4", NULL, "100");
    add(m, "relu", "6", "5", NULL, NULL);
    add(m, "linear", "7", "6", NULL, "10");
    snprintf(path, sizeof path, "%s/models/%s.safetensors", test_data(), net);
    test_ok(advrob_model_load_weights(m, path));
    return m;
}

/* flag: the only one that is raised; NULL: none is. */
static void check(const char *net, const char *dataset, const char *folder, double epsilon,
                  const char *flag) {
    char path[1024];
    advrob_options *options = NULL;
    advrob_dataset *data = NULL;
    advrob_target *target = NULL;
    advrob_report *report = NULL;
    const char *verdict = NULL, *reasons = NULL;
    if (test_data() == NULL) test_skip_or_fail("no test data");
    const char *root = folder[0] == '/' ? "" : test_data();
    snprintf(path, sizeof path, "%s%s%s", root, root[0] != 0 ? "/" : "", folder);
    advrob_model *model = build_net(net);
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_str(options, "split", "test"));
    if (advrob_dataset_open(ctx, dataset, path, options, &data) != ADVROB_OK)
        test_skip_or_fail(advrob_last_message());
    advrob_options_destroy(options);
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_f64(options, "epsilon", epsilon));
    test_ok(advrob_options_set_i64(options, "images", TEST_SANITIZED ? 5 : 400));
    if (TEST_SANITIZED) test_ok(advrob_options_set_i64(options, "queries", 100));
    test_ok(advrob_target_from_model(model, &target));
    test_ok(advrob_report_create(ctx, &report));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_check(report, target, data, options));
    test_ok(advrob_report_get_str(report, 0, "verdict", &verdict));
    test_ok(advrob_report_get_str(report, 0, "reasons", &reasons));
    print_message("%s: %s %s\n", net, verdict, reasons);
    if (flag != NULL && !TEST_SANITIZED) {
        double raised = 0;
        test_ok(advrob_report_get_f64(report, 0, flag, &raised));
        assert_true(raised == 1);
        assert_null(strchr(reasons, ';')); /* and no other */
    }
    if (flag == NULL) assert_string_equal(verdict, "reliable");
    advrob_report_destroy(report);
    advrob_target_destroy(target);
    advrob_model_destroy(model);
    advrob_dataset_destroy(data);
    advrob_options_destroy(options);
}

static void test_mnist_wong(void **state) {
    (void)state;
    check("mnist-wong", "mnist", "data/mnist", 0.1, NULL);
}

static void test_fashion_wong(void **state) {
    (void)state;
    check("fashion-mnist-wong", "fashion-mnist", "/usr/share/datasets/fashion-mnist", 0.1, NULL);
}

static void test_fast_fgsm(void **state) {
    (void)state;
    check("mnist-fast-fgsm", "mnist", "data/mnist", 0.3, "flag_square_stronger");
}

static int set_up(void **state) {
    (void)state;
    ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_context_release(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mnist_wong),
        cmocka_unit_test(test_fashion_wong),
        cmocka_unit_test(test_fast_fgsm),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
