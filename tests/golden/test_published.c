/* The published CIFAR-10 nets of the test data: resnet20 from the zoo, and resnet-2b built node by
 * node with the public calls. Reference logits, counts of wrong answers on the 10,000 test images,
 * and PyTorch's gradients by the input (published.py). */
#include "support/support.h"

#include <advrob/advrob.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/oracle.h"
#include "support/golden.h"
#include "tolerance.h"

enum { IMAGE = 3 * 32 * 32, ALL = 10000, LOGITS = 100, CLASSES = 10 };

static const double mean_2b[3] = {0.4914, 0.4822, 0.4465}, std_2b[3] = {0.2471, 0.2435, 0.2616};

static float *pixels;
static int32_t labels[ALL];
static advrob_context *ctx;

static int read_images(void **state) {
    const char *why = NULL, *folder = test_cifar10(&why);
    advrob_dataset *data = NULL;
    advrob_options *options = NULL;
    (void)state;
    if (folder == NULL || test_data() == NULL)
        test_skip_or_fail(folder == NULL ? why : "no test data");
    ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_str(options, "split", "test"));
    test_ok(advrob_dataset_open(ctx, "cifar10", folder, options, &data));
    advrob_options_destroy(options);
    assert_int_equal(advrob_dataset_count(data), ALL);
    pixels = malloc(sizeof(float) * ALL * IMAGE);
    test_ok(advrob_dataset_read(data, 0, ALL, pixels, labels));
    advrob_dataset_destroy(data);
    return 0;
}

static int free_images(void **state) {
    (void)state;
    free(pixels);
    ar_context_release(ctx);
    return 0;
}

static void path_of(char *path, size_t size, const char *net, const char *suffix) {
    snprintf(path, size, "%s/models/%s%s", test_data(), net, suffix);
}

/* A NumPy file of float32 [LOGITS, CLASSES]: a header, then the values. */
static void read_logits(const char *net, float *logits) {
    char path[1024];
    path_of(path, sizeof path, net, ".logits100.npy");
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("%s: not there", path);
    test_ok(fseek(file, -(long)sizeof(float) * LOGITS * CLASSES, SEEK_END));
    assert_int_equal(fread(logits, sizeof(float), LOGITS * CLASSES, file), LOGITS * CLASSES);
    fclose(file);
}

static int32_t count_wrong(advrob_target *target, const float *x) {
    int32_t wrong = 0;
    float *logits = malloc(sizeof(float) * ALL * CLASSES);
    test_ok(advrob_target_forward(target, ALL, x, logits));
    for (int32_t i = 0; i < ALL; i++) {
        int32_t best = 0;
        for (int32_t k = 1; k < CLASSES; k++)
            if (logits[i * CLASSES + k] > logits[i * CLASSES + best]) best = k;
        wrong += best != labels[i];
    }
    free(logits);
    return wrong;
}

static int32_t count_fgsm(advrob_target *target, const float *x, double epsilon) {
    int32_t wrong = 0, *predictions = malloc(sizeof(int32_t) * ALL);
    advrob_options *options = NULL;
    advrob_attack *fgsm = NULL;
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_f64(options, "epsilon", epsilon));
    test_ok(advrob_attack_create(ctx, "fgsm", options, &fgsm));
    test_ok(advrob_attack_run(fgsm, target, ALL, x, labels, NULL, predictions, NULL));
    for (int32_t i = 0; i < ALL; i++)
        wrong += predictions[i] != labels[i];
    advrob_attack_destroy(fgsm);
    advrob_options_destroy(options);
    free(predictions);
    return wrong;
}

/* FGSM by the gradient as PyTorch has it, whose softmax is rounded to float: where the net is sure,
 * 1 - p of the label is lost. The library's own attacks keep it (in double), and find more. */
static int32_t count_fgsm_float(advrob_target *target, const float *x, double epsilon) {
    int32_t wrong = 0, tile = target->preferred_batch;
    float logits[AR_MAX_LANES * CLASSES], dlogits[AR_MAX_LANES * CLASSES];
    float *moved = malloc(sizeof(float) * ALL * IMAGE);
    float *dx = malloc(sizeof(float) * AR_MAX_LANES * IMAGE);
    void *session = NULL;
    test_ok(target->open(target, &session));
    for (int32_t first = 0; first < ALL; first += tile) {
        int32_t n = ALL - first < tile ? ALL - first : tile;
        const float *from = x + (int64_t)first * IMAGE;
        test_ok(target->forward(target, session, n, from, logits));
        for (int32_t i = 0; i < n; i++) {
            float *z = logits + i * CLASSES, *d = dlogits + i * CLASSES, largest = z[0], sum = 0;
            for (int32_t k = 0; k < CLASSES; k++)
                largest = fmaxf(largest, z[k]);
            for (int32_t k = 0; k < CLASSES; k++)
                sum += expf(z[k] - largest);
            for (int32_t k = 0; k < CLASSES; k++)
                d[k] = expf(z[k] - largest - logf(sum)) - (k == labels[first + i] ? 1.0f : 0.0f);
        }
        test_ok(target->backward(target, session, n, from, dlogits, dx));
        for (int64_t i = 0; i < (int64_t)n * IMAGE; i++) {
            float step = dx[i] > 0 ? (float)epsilon : dx[i] < 0 ? -(float)epsilon : 0.0f;
            moved[(int64_t)first * IMAGE + i] = fminf(fmaxf(from[i] + step, 0), 1);
        }
    }
    target->close(target, session);
    wrong = count_wrong(target, moved);
    free(moved);
    free(dx);
    return wrong;
}

static void check_logits(advrob_target *target, const char *net, const float *x) {
    float reference[LOGITS * CLASSES], logits[LOGITS * CLASSES];
    double worst = 0;
    read_logits(net, reference);
    test_ok(advrob_target_forward(target, LOGITS, x, logits));
    for (int32_t i = 0; i < LOGITS * CLASSES; i++)
        worst = fmax(worst, fabs((double)logits[i] - (double)reference[i]));
    print_message("%s: logits off by at most %.2g\n", net, worst);
    assert_true(worst <= 1e-4);
}

static void check_gradients(advrob_target *target, const char *net, const float *x) {
    char name[64];
    int64_t n = 0, count = 0;
    ar_safetensors file;
    double off = 0;
    snprintf(name, sizeof name, "%s.safetensors", net);
    golden_open(ctx, "published", name, &file);
    int32_t *y = golden_labels(&file, "labels", &n);
    ar_real *expected = golden_get(&file, "dx", &count), *losses = golden_get(&file, "loss", NULL);
    double *got_losses = malloc(sizeof(double) * (size_t)n);
    float *dx = malloc(sizeof(float) * (size_t)count);
    assert_int_equal(count, n * IMAGE);
    assert_memory_equal(y, labels, sizeof(int32_t) * (size_t)n);
    test_ok(advrob_target_loss_gradient(target, "ce", n, x, y, got_losses, dx));
    for (int64_t i = 0; i < n; i++) { /* each image has a size of its own */
        test_within(net, "dx", test_deviation(IMAGE, dx + i * IMAGE, expected + i * IMAGE),
                    TOLERANCE_NET_GRADIENT, &off);
        assert_true(fabs(got_losses[i] - (double)losses[i]) <=
                    1e-5 + 1e-4 * fabs((double)losses[i]));
    }
    print_message("%s: dx off by at most %.2g of an image's largest\n", net, off);
    free(got_losses);
    free(dx);
    free(y);
    free(expected);
    free(losses);
    ar_safetensors_free(ctx, &file);
}

static void test_resnet20(void **state) {
    static const char net[] = "cifar10-resnet20";
    char path[1024];
    advrob_options *options = NULL;
    advrob_model *model = NULL;
    advrob_target *target = NULL;
    (void)state;
    path_of(path, sizeof path, net, ".safetensors");
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_str(options, "weights", path));
    test_ok(advrob_model_build(ctx, "resnet20", options, &model));
    assert_int_equal(advrob_model_parameter_total(model), 269722); /* the published 0.27 million */
    test_ok(advrob_target_from_model(model, &target));
    check_logits(target, net, pixels);
    check_gradients(target, net, pixels);
    if (!TEST_SANITIZED) {
        int32_t wrong = count_wrong(target, pixels), fgsm = count_fgsm(target, pixels, 2.0 / 255);
        int32_t fgsm_float = count_fgsm_float(target, pixels, 2.0 / 255);
        print_message(
            "%s: %d wrong; under FGSM %d with a softmax in float, %d with the library's\n", net,
            wrong, fgsm_float, fgsm);
        assert_true(abs(wrong - 1897) <= 2 && abs(fgsm_float - 8937) <= 5); /* expected.json */
        assert_true(fgsm >= fgsm_float);
    }
    advrob_target_destroy(target);
    advrob_model_destroy(model);
    advrob_options_destroy(options);
}

/* ---- node by node ---- */

static void add(advrob_model *model, const char *op, const char *name, const char *a, const char *b,
                int32_t outputs, int32_t kernel, int32_t stride) {
    const char *inputs[] = {a, b};
    advrob_options *options = NULL;
    test_ok(advrob_options_create(&options));
    if (outputs > 0) test_ok(advrob_options_set_i64(options, "outputs", outputs));
    if (kernel > 0) {
        const double padding[2] = {kernel / 2, kernel / 2};
        test_ok(advrob_options_set_i64(options, "kernel", kernel));
        test_ok(advrob_options_set_f64(options, "stride", stride));
        test_ok(advrob_options_set_f64_array(options, "padding", padding, 2));
    }
    test_ok(advrob_model_add(model, op, name, inputs, b == NULL ? 1 : 2, options));
    advrob_options_destroy(options);
}

/* Pixels enter: normalised inside, or (normalised) images that were normalised before. */
static advrob_model *build_2b(bool normalised) {
    char path[1024];
    double low[3], high[3], unit[3];
    advrob_options *options = NULL;
    advrob_model *m = NULL;
    for (int32_t c = 0; c < 3; c++) {
        low[c] = -mean_2b[c] / std_2b[c];
        high[c] = (1 - mean_2b[c]) / std_2b[c];
        unit[c] = 1 / std_2b[c];
    }
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_f64_array(options, normalised ? "low" : "mean",
                                         normalised ? low : mean_2b, 3));
    test_ok(advrob_options_set_f64_array(options, normalised ? "high" : "std",
                                         normalised ? high : std_2b, 3));
    if (normalised) test_ok(advrob_options_set_f64_array(options, "epsilon_unit", unit, 3));
    test_ok(advrob_model_begin(ctx, 3, 32, 32, options, &m));
    advrob_options_destroy(options);
    add(m, "conv2d", "conv1", "input", NULL, 8, 3, 2);
    add(m, "relu", "relu1", "conv1", NULL, 0, 0, 0);
    add(m, "conv2d", "layer1.0.conv1", "relu1", NULL, 16, 3, 2);
    add(m, "relu", "relu2", "layer1.0.conv1", NULL, 0, 0, 0);
    add(m, "conv2d", "layer1.0.conv2", "relu2", NULL, 16, 3, 1);
    add(m, "conv2d", "layer1.0.shortcut.0", "relu1", NULL, 16, 1, 2);
    add(m, "add", "add1", "layer1.0.conv2", "layer1.0.shortcut.0", 0, 0, 0);
    add(m, "relu", "relu3", "add1", NULL, 0, 0, 0);
    add(m, "conv2d", "layer1.1.conv1", "relu3", NULL, 16, 3, 1);
    add(m, "relu", "relu4", "layer1.1.conv1", NULL, 0, 0, 0);
    add(m, "conv2d", "layer1.1.conv2", "relu4", NULL, 16, 3, 1);
    add(m, "add", "add2", "layer1.1.conv2", "relu3", 0, 0, 0);
    add(m, "relu", "relu5", "add2", NULL, 0, 0, 0);
    add(m, "flatten", "flatten", "relu5", NULL, 0, 0, 0);
    add(m, "linear", "linear1", "flatten", NULL, 100, 0, 0);
    add(m, "relu", "relu6", "linear1", NULL, 0, 0, 0);
    add(m, "linear", "linear2", "relu6", NULL, 10, 0, 0);
    path_of(path, sizeof path, "cifar10-resnet-2b", ".safetensors");
    test_ok(advrob_model_load_weights(m, path));
    return m;
}

static void test_resnet_2b(void **state) {
    static const char net[] = "cifar10-resnet-2b";
    int32_t wrong[2], fgsm[2];
    float *normalised = malloc(sizeof(float) * ALL * IMAGE);
    (void)state;
    for (int64_t i = 0; i < (int64_t)ALL * IMAGE; i++) {
        int64_t c = i / 1024 % 3;
        normalised[i] = (pixels[i] - (float)mean_2b[c]) / (float)std_2b[c];
    }
    for (int32_t k = 0; k < 2; k++) {
        const float *x = k == 0 ? pixels : normalised;
        advrob_model *model = build_2b(k == 1);
        advrob_target *target = NULL;
        test_ok(advrob_target_from_model(model, &target));
        check_logits(target, net, x);
        if (k == 1) check_gradients(target, net, x);
        wrong[k] = TEST_SANITIZED ? 3130 : count_wrong(target, x);
        fgsm[k] = TEST_SANITIZED ? 4340 : count_fgsm(target, x, 2.0 / 255);
        advrob_target_destroy(target);
        advrob_model_destroy(model);
    }
    print_message("%s: %d wrong of pixels, %d of normalised images; under FGSM %d, %d\n", net,
                  wrong[0], wrong[1], fgsm[0], fgsm[1]);
    for (int32_t k = 0; k < 2; k++)
        assert_true(abs(wrong[k] - 3130) <= 2); /* expected.json */
    /* The box and the unit of each channel make it the same attack. */
    assert_true(fgsm[0] > 3130 && abs(fgsm[0] - fgsm[1]) <= 5);
    free(normalised);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resnet20),
        cmocka_unit_test(test_resnet_2b),
    };
    return cmocka_run_group_tests(tests, read_images, free_images);
}
