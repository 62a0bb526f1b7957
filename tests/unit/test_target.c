/* Targets: what callbacks may and may not answer, the checks of labels and pixels, and published
 * nets whose logits and errors are known. */
#include "support/support.h"

#include <unistd.h>

#include "io/io.h"
#include "model/oracle.h"
#include "op/loss.h"
#include "support/golden.h"

#include "tolerance.h"

/* ---- callbacks ---- */

/* logits[k] = (k + 1) * sum of the image; the rest says how to misbehave. */
typedef struct behaviour {
    int64_t calls, images, largest;
    int32_t forward_code, backward_code;
    bool nan_logit, inf_dx;
    pthread_t thread;
    bool elsewhere;
} behaviour;

enum { C_CLASSES = 3, C_PIXELS = 2 * 2 * 2 };
static const ar_shape callback_shape = {2, 2, 2};

static void note(behaviour *b, int64_t n) {
    b->calls++;
    b->images += n;
    if (n > b->largest) b->largest = n;
    b->elsewhere = b->elsewhere || !pthread_equal(b->thread, pthread_self());
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    behaviour *b = user;
    note(b, n);
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t p = 0; p < C_PIXELS; p++)
            sum += x[i * C_PIXELS + p];
        for (int64_t k = 0; k < C_CLASSES; k++)
            logits[i * C_CLASSES + k] = (float)(k + 1) * sum;
    }
    if (b->nan_logit) logits[n * C_CLASSES - 1] = NAN;
    return b->forward_code;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    behaviour *b = user;
    (void)x;
    note(b, n);
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t k = 0; k < C_CLASSES; k++)
            sum += (float)(k + 1) * dlogits[i * C_CLASSES + k];
        for (int64_t p = 0; p < C_PIXELS; p++)
            dx[i * C_PIXELS + p] = sum;
    }
    if (b->inf_dx) dx[0] = INFINITY;
    return b->backward_code;
}

static advrob_target *open_callbacks(advrob_context *ctx, behaviour *b, bool gradients) {
    advrob_target *target = NULL;
    *b = (behaviour){.thread = pthread_self()};
    test_ok(ar_target_from_callbacks(ctx, callback_shape, C_CLASSES, 0, 1, forward,
                                     gradients ? backward : NULL, b, &target));
    return target;
}

static void test_callbacks(void **state) {
    (void)state;
    enum { N = 5000 };
    static test_allocator allocator;
    advrob_context *ctx = test_context_with(&allocator, 3);
    behaviour b;
    advrob_target *target = open_callbacks(ctx, &b, true);
    float *x = calloc(N * C_PIXELS, sizeof(float)), *dx = calloc(N * C_PIXELS, sizeof(float));
    float *logits = calloc(N * C_CLASSES, sizeof(float));
    int32_t *y = calloc(N, sizeof(int32_t));
    double *losses = calloc(N, sizeof(double));
    for (int32_t i = 0; i < N * C_PIXELS; i++)
        x[i] = (float)(i % 9) / 16;
    test_ok(ar_target_forward(target, 100, x, logits));
    assert_true(b.calls == 1 && b.images == 100); /* whole batches ... */
    test_ok(ar_target_forward(target, N, x, logits));
    assert_true(b.calls == 3 && b.images == 100 + N && b.largest == 4096); /* ... up to a limit */
    test_ok(ar_target_loss_gradient(target, "margin", N, x, y, losses, dx));
    assert_true(b.calls == 7 && !b.elsewhere);
    for (int32_t i = 0; i < N; i++) {
        assert_true(losses[i] == (double)logits[i * 3 + 2] - (double)logits[i * 3]);
        bool zero = logits[i * 3] == 0; /* all logits 0: the first of the others is the rival */
        assert_true(dx[i * C_PIXELS] == (zero ? 1 : 2) && dx[i * C_PIXELS + 7] == dx[i * C_PIXELS]);
    }
    ar_target_release(target);
    free(x);
    free(dx);
    free(logits);
    free(y);
    free(losses);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_callback_errors(void **state) {
    (void)state;
    advrob_context *ctx = test_context(2);
    behaviour b;
    float x[2 * C_PIXELS] = {0}, dx[2 * C_PIXELS], logits[2 * C_CLASSES];
    int32_t y[2] = {0, 2}, wrong[2] = {0, 3};
    advrob_target *target = open_callbacks(ctx, &b, true);
    b.forward_code = 7;
    assert_int_equal(ar_target_forward(target, 2, x, logits), ADVROB_E_CALLBACK);
    assert_non_null(strstr(ar_message(), "7"));
    b.forward_code = 0;
    b.nan_logit = true;
    assert_int_equal(ar_target_forward(target, 2, x, logits), ADVROB_E_NONFINITE);
    b.nan_logit = false;
    b.backward_code = -1;
    assert_int_equal(ar_target_loss_gradient(target, "ce", 2, x, y, NULL, dx), ADVROB_E_CALLBACK);
    b.backward_code = 0;
    b.inf_dx = true;
    assert_int_equal(ar_target_loss_gradient(target, "ce", 2, x, y, NULL, dx), ADVROB_E_NONFINITE);
    b.inf_dx = false;
    int64_t calls = b.calls;
    assert_int_equal(ar_target_loss_gradient(target, "ce", 2, x, wrong, NULL, dx), ADVROB_E_RANGE);
    assert_int_equal(ar_target_loss_gradient(target, "hinge", 2, x, y, NULL, dx), ADVROB_E_UNKNOWN);
    assert_true(b.calls == calls);
    ctx->cancelled = 1;
    assert_int_equal(ar_target_forward(target, 2, x, logits), ADVROB_E_CANCELLED);
    ctx->cancelled = 0;
    test_ok(ar_target_loss_gradient(target, "ce", 2, x, y, NULL, dx));
    ar_target_release(target);
    target = open_callbacks(ctx, &b, false);
    assert_int_equal(ar_target_loss_gradient(target, "ce", 2, x, y, NULL, dx),
                     ADVROB_E_UNSUPPORTED);
    double losses[2];
    test_ok(ar_target_loss_gradient(target, "ce", 2, x, y, losses, NULL));
    assert_true(fabs(losses[0] - log(3)) < 1e-12);
    ar_target_release(target);
    ar_context_release(ctx);
}

static void test_refused_targets(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    advrob_target *t = NULL;
    const ar_shape shape = callback_shape, none = {0, 1, 1};
    const struct {
        ar_shape shape;
        int32_t classes;
        double low, high;
        advrob_forward_fn forward;
        int32_t status;
    } wrong[] = {
        {shape, 1, 0, 1, forward, ADVROB_E_RANGE},
        {shape, 3, 1, 1, forward, ADVROB_E_RANGE},
        {shape, 3, 0, NAN, forward, ADVROB_E_RANGE},
        {shape, 3, -INFINITY, 0, forward, ADVROB_E_RANGE},
        {shape, 65537, 0, 1, forward, ADVROB_E_RANGE},
        {shape, 3, 0, 1, NULL, ADVROB_E_INVALID},
        {none, 3, 0, 1, forward, ADVROB_E_SHAPE},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(ar_target_from_callbacks(ctx, wrong[i].shape, wrong[i].classes,
                                                  wrong[i].low, wrong[i].high, wrong[i].forward,
                                                  backward, NULL, &t),
                         wrong[i].status);
    ar_context_release(ctx);
}

static void source_refused(advrob_target *target, advrob_target *source, int32_t code,
                           const char *says) {
    assert_int_equal(advrob_target_set_source(target, source), code);
    assert_non_null(strstr(ar_message(), says));
}

static void test_sources(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = test_context_with(&allocator, 1);
    behaviour b;
    advrob_target *target = open_callbacks(ctx, &b, false), *source = open_callbacks(ctx, &b, true);
    advrob_target *other = NULL;
    source_refused(target, target, ADVROB_E_INVALID, "is the target itself");
    test_ok(advrob_target_set_source(target, source));
    source_refused(source, target, ADVROB_E_INVALID, "a source of its own");
    test_ok(ar_target_from_callbacks(ctx, callback_shape, C_CLASSES + 1, 0, 1, forward, NULL, &b,
                                     &other));
    source_refused(target, other, ADVROB_E_SHAPE, "has 4 classes, the target 2 x 2 x 2 and 3");
    ar_target_release(other);
    test_ok(
        ar_target_from_callbacks(ctx, callback_shape, C_CLASSES, 0, 2, forward, NULL, &b, &other));
    source_refused(target, other, ADVROB_E_INVALID, "another box");
    ar_target_release(other);
    /* What was refused changed nothing; the source lives as long as its target. */
    assert_ptr_equal(target->source, source);
    ar_target_release(source);
    other = open_callbacks(ctx, &b, true);
    test_ok(advrob_target_set_source(target, other));
    test_ok(advrob_target_set_source(target, NULL));
    assert_null(target->source);
    test_ok(advrob_target_set_source(target, other));
    ar_target_release(other);
    ar_target_release(target);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_checks(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    advrob_target *t = NULL;
    float x[3 * C_PIXELS];
    int32_t y[3] = {0, 2, 1};
    test_ok(ar_target_from_callbacks(ctx, callback_shape, C_CLASSES, -0.3, 0.1, forward, NULL, NULL,
                                     &t));
    for (int32_t i = 0; i < 3 * C_PIXELS; i++)
        x[i] = i % 2 ? -0.3f : 0.1f; /* the box's ends as floats: 0.1f is above 0.1 */
    test_ok(ar_target_check_pixels(t, 3, x));
    test_ok(ar_target_check_labels(t, 3, y));
    x[C_PIXELS + 3] = 0.1f + 1e-6f; /* more than roundings of what was normalised */
    assert_int_equal(ar_target_check_pixels(t, 3, x), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "image 1, pixel 3"));
    test_ok(ar_target_check_pixels(t, 1, x));
    x[C_PIXELS + 3] = NAN;
    assert_int_equal(ar_target_check_pixels(t, 3, x), ADVROB_E_NONFINITE);
    x[C_PIXELS + 3] = -INFINITY;
    assert_int_equal(ar_target_check_pixels(t, 3, x), ADVROB_E_NONFINITE);
    y[2] = 3;
    assert_int_equal(ar_target_check_labels(t, 3, y), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "label 2"));
    y[2] = -1;
    assert_int_equal(ar_target_check_labels(t, 3, y), ADVROB_E_RANGE);
    test_ok(ar_target_check_labels(t, 2, y));
    ar_target_release(t);
    ar_context_release(ctx);
}

/* ---- published nets ---- */

enum { P_IMAGES = 10000, P_PIXELS = 784, P_CLASSES = 10, P_LOGITS = 100, P_FEW = 1000 };

typedef struct published {
    advrob_context *ctx;
    float *x, *moved, *dx, *logits;
    int32_t *y;
} published;

/* The net's figure in expected.json; -1 when there is none. */
static int32_t expected_figure(advrob_context *ctx, const char *net, const char *key) {
    char path[1024], quoted[96];
    uint8_t *text = NULL;
    size_t size = 0;
    int32_t value = -1;
    snprintf(path, sizeof path, "%s/models/expected.json", test_data());
    test_ok(ar_file_read(ctx, path, 1 << 20, &text, &size));
    snprintf(quoted, sizeof quoted, "\"%s\"", net);
    const char *at = strstr((const char *)text, quoted), *end = at == NULL ? NULL : strchr(at, '}');
    at = at == NULL ? NULL : strstr(at, key);
    if (at != NULL && at < end) value = atoi(strchr(at, ':') + 1);
    ar_free(&ctx->memory, text);
    return value;
}

/* A version 1 .npy of float32 [100, 10], by hand. */
static void read_logits(advrob_context *ctx, const char *net, float *logits) {
    char path[1024];
    uint8_t *data = NULL;
    size_t size = 0, bytes = sizeof(float) * P_LOGITS * P_CLASSES;
    snprintf(path, sizeof path, "%s/models/%s.logits100.npy", test_data(), net);
    test_ok(ar_file_read(ctx, path, 1 << 20, &data, &size));
    assert_memory_equal(data, "\x93NUMPY\x01\x00", 8);
    size_t start = 10 + (size_t)data[8] + 256 * (size_t)data[9];
    assert_non_null(strstr((const char *)data + 10, "'<f4'"));
    assert_non_null(strstr((const char *)data + 10, "'fortran_order': False, 'shape': (100, 10)"));
    assert_true(size == start + bytes);
    memcpy(logits, data + start, bytes);
    ar_free(&ctx->memory, data);
}

static void open_images(published *p, const char *dataset, const char *dir) {
    advrob_options *options;
    advrob_dataset *data;
    test_ok(ar_options_create(NULL, NULL, &options));
    test_ok(ar_options_set_str(options, "split", "test"));
    test_ok(ar_dataset_open(p->ctx, dataset, dir, options, &data));
    ar_options_destroy(options);
    p->x = malloc(sizeof(float) * P_IMAGES * P_PIXELS);
    p->moved = malloc(sizeof(float) * P_IMAGES * P_PIXELS);
    p->dx = malloc(sizeof(float) * P_IMAGES * P_PIXELS);
    p->logits = malloc(sizeof(float) * P_IMAGES * P_CLASSES);
    p->y = malloc(sizeof(int32_t) * P_IMAGES);
    test_ok(ar_dataset_gather(data, 0, NULL, P_IMAGES, p->x, p->y));
    ar_dataset_release(data);
}

static int32_t count_wrong(published *p, advrob_target *target, int32_t images, const float *x) {
    int32_t wrong = 0;
    test_ok(ar_target_forward(target, images, x, p->logits));
    for (int32_t i = 0; i < images; i++)
        wrong += ar_argmax(P_CLASSES, p->logits + i * P_CLASSES) != p->y[i];
    return wrong;
}

static void check_fgsm(published *p, advrob_target *target, const char *net, float epsilon) {
    int32_t wrong[2];
    test_ok(ar_target_loss_gradient(target, "ce", P_IMAGES, p->x, p->y, NULL, p->dx));
    for (int32_t clip = 0; clip < 2; clip++) {
        for (int32_t i = 0; i < P_IMAGES * P_PIXELS; i++) {
            float v = p->x[i] + (p->dx[i] > 0 ? epsilon : p->dx[i] < 0 ? -epsilon : 0);
            p->moved[i] = clip ? fminf(fmaxf(v, 0), 1) : v;
        }
        wrong[clip] = count_wrong(p, target, P_IMAGES, p->moved);
    }
    int32_t plain = expected_figure(p->ctx, net, "fgsm_wrong_no_clip");
    int32_t clipped = expected_figure(p->ctx, net, "fgsm_wrong_clip");
    print_message("%s: FGSM %d of %d, clipped %d of %d\n", net, wrong[0], plain, wrong[1], clipped);
    assert_true(plain > 0 && clipped > 0);
    assert_in_range(wrong[0], plain - 3, plain + 3);
    assert_in_range(wrong[1], clipped - 3, clipped + 3);
}

/* The deviation of the first logits from the published ones, of the largest. */
static double logits_deviation(const published *p, const char *net) {
    float known[P_LOGITS * P_CLASSES];
    read_logits(p->ctx, net, known);
    return test_deviation(P_LOGITS * P_CLASSES, p->logits, known);
}

/* All images on the highest table; on the others the first ones, which must fall the same way. */
static void check_published(const char *net, const char *dataset, const char *dir, float epsilon) {
    published p = {.ctx = test_context(2)};
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), first[P_FEW];
    char path[1024];
    advrob_model *model;
    advrob_target *target;
    open_images(&p, dataset, dir);
    snprintf(path, sizeof path, "%s/models/%s.safetensors", test_data(), net);
    for (int32_t i = count - 1; i >= 0; i--) {
        p.ctx->kernels = tables[i];
        test_ok(ar_zoo_build(p.ctx, "conv_small", NULL, &model));
        test_ok(ar_model_weights_load(model, path));
        test_ok(ar_target_from_model(model, &target));
        int32_t images = i == count - 1 ? P_IMAGES : P_FEW;
        int32_t wrong = count_wrong(&p, target, images, p.x);
        double off = logits_deviation(&p, net);
        print_message("%s, %s: %d of %d wrong, logits off by %.2g\n", net, tables[i]->name, wrong,
                      images, off);
        test_within(net, "logits", off, TOLERANCE_LOGITS, NULL);
        for (int32_t k = 0; k < P_FEW; k++) {
            int32_t answer = ar_argmax(P_CLASSES, p.logits + k * P_CLASSES);
            if (i == count - 1) first[k] = answer;
            assert_int_equal(answer, first[k]);
        }
        if (i == count - 1) {
            assert_int_equal(wrong, expected_figure(p.ctx, net, "clean_wrong"));
            check_fgsm(&p, target, net, epsilon);
        }
        ar_target_release(target);
        ar_model_release(model);
    }
    free(p.x);
    free(p.moved);
    free(p.dx);
    free(p.logits);
    free(p.y);
    ar_context_release(p.ctx);
}

static void check_mnist(const char *net, float epsilon) {
    char dir[1024];
    if (test_data() == NULL) test_skip_or_fail("the test data (models)");
    snprintf(dir, sizeof dir, "%s/data/mnist", test_data());
    check_published(net, "mnist", dir, epsilon);
}

static void test_mnist_wong(void **state) {
    (void)state;
    check_mnist("mnist-wong", 0.1f);
}

static void test_mnist_fast_fgsm(void **state) {
    (void)state;
    check_mnist("mnist-fast-fgsm", 0.3f);
}

static void test_fashion_mnist_wong(void **state) {
    (void)state;
    static const char *const dir = "/usr/share/datasets/fashion-mnist";
    if (test_data() == NULL) test_skip_or_fail("the test data (models)");
    if (access(dir, R_OK) != 0) test_skip_or_fail("the Debian package dataset-fashion-mnist");
    check_published("fashion-mnist-wong", "fashion-mnist", dir, 0.1f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_callback_errors),
        cmocka_unit_test(test_refused_targets),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_mnist_wong),
        cmocka_unit_test(test_fashion_mnist_wong),
        cmocka_unit_test(test_mnist_fast_fgsm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
