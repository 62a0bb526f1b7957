/* Fine-tuning runs: the same images in the same order whatever the method; rates, history,
 * validation; that training learns; and what is refused. */
#include "support/support.h"

#include "method/method.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"

enum { CLASSES = 10, PIXELS = 64 };
static const ar_shape shape = {1, 8, 8};

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

static size_t slab_bytes(const advrob_model *model) {
    return sizeof(ar_real) * (size_t)model->slab_count;
}

static double cell(const advrob_history *history, int32_t row, const char *column) {
    double value = 0;
    test_ok(advrob_history_get(history, row, column, &value));
    return value;
}

/* Right answers and mean loss on all images, one by one. */
static int32_t right_answers(advrob_model *model, const advrob_dataset *data, double *mean) {
    float x[PIXELS], z[CLASSES];
    int32_t y, right = 0;
    *mean = 0;
    for (int64_t i = 0; i < data->count; i++) {
        double sum = 0;
        test_ok(ar_dataset_gather(data, i, NULL, 1, x, &y));
        test_ok(advrob_model_forward(model, 1, x, z));
        for (int32_t k = 0; k < CLASSES; k++)
            sum += exp((double)z[k] - (double)z[y]);
        right += ar_argmax(CLASSES, z) == y;
        *mean += log(sum) / (double)data->count;
    }
    return right;
}

/* ---- order ---- */

/* A run is the same bits as training written out: its order is the shuffle of (seed, epoch), its
 * last batch may be short, and each visit of a sample has its number. */
static void test_written_out(void **state) {
    (void)state;
    static const int64_t batches[] = {1, 8, 9, 16, 17, 512};
    static test_allocator allocator;
    for (size_t k = 0; k < sizeof batches / sizeof batches[0]; k++)
        for (int32_t adversarial = 0; adversarial < 2; adversarial++) {
            advrob_context *ctx = open_context(&allocator, 2);
            advrob_dataset *data = test_dataset(ctx, 37, shape, CLASSES, 0.3, 3);
            advrob_model *model = test_zoo(ctx, "tiny"), *twin = test_zoo(ctx, "tiny");
            training t = {adversarial ? "pgd_at" : "standard",
                          "epsilon=0.05 step=0.02 steps=2",
                          data,
                          batches[k],
                          3,
                          0.02,
                          0.8,
                          0.001,
                          9};
            char text[192];
            int64_t done;
            snprintf(text, sizeof text,
                     "epochs=3 batch_size=%d lr=0.02 momentum=0.8 weight_decay=0.001 seed=9%s",
                     (int)batches[k],
                     adversarial ? " attack.epsilon=0.05 attack.step=0.02 attack.steps=2" : "");
            test_ok(finetune_run(model, t.method, text, data, NULL, NULL));
            test_ok(training_run(&t, twin, INT64_MAX, &done, NULL));
            assert_int_equal(done, 3 * ((37 + batches[k] - 1) / batches[k]));
            assert_memory_equal(model->slab, twin->slab, slab_bytes(model));
            ar_model_release(twin);
            twin = test_zoo(ctx, "tiny");
            t.seed = 10; /* and the seed counts */
            test_ok(training_run(&t, twin, INT64_MAX, &done, NULL));
            assert_true(memcmp(model->slab, twin->slab, slab_bytes(model)) != 0 ||
                        (batches[k] == 512 && !adversarial));
            ar_model_release(model);
            ar_model_release(twin);
            ar_dataset_release(data);
            ar_context_release(ctx);
            test_allocator_check(&allocator);
        }
}

/* Adversarial training in a ball of nothing is standard training: the same images in the same
 * order. */
static void test_same_order(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 2);
    advrob_dataset *data = test_dataset(ctx, 100, shape, CLASSES, 0.3, 3);
    advrob_model *models[3];
    static const struct {
        const char *name, *text;
    } runs[3] = {{"standard", "epochs=3 batch_size=16"},
                 {"pgd_at", "epochs=3 batch_size=16 attack.epsilon=0 attack.steps=1"},
                 {"pgd_at", "epochs=3 batch_size=16 attack.epsilon=0.01 attack.steps=1"}};
    for (int32_t i = 0; i < 3; i++) {
        models[i] = test_zoo(ctx, "tiny");
        test_ok(finetune_run(models[i], runs[i].name, runs[i].text, data, NULL, NULL));
    }
    assert_memory_equal(models[0]->slab, models[1]->slab, slab_bytes(models[0]));
    assert_true(memcmp(models[0]->slab, models[2]->slab, slab_bytes(models[0])) != 0);
    for (int32_t i = 0; i < 3; i++)
        ar_model_release(models[i]);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* ---- augmentation ---- */

static const struct {
    const char *method, *text;
    ar_augment augment;
} augmented[] = {
    {"standard", " augment.crop=2", {2, 0}},
    {"standard", " augment.flip=1", {0, 1}},
    {"pgd_at", " augment.crop=7 augment.flip=1", {7, 1}},
};

/* With each thread count the bits of training written out on augmented images, in every method; and
 * others than without. */
static void test_augmented(void **state) {
    (void)state;
    const int32_t cases = sizeof augmented / sizeof augmented[0];
    for (int32_t i = 0; i < 2 * cases; i++) {
        bool adversarial = strcmp(augmented[i / 2].method, "pgd_at") == 0;
        advrob_context *ctx = open_context(NULL, i % 2 == 0 ? 1 : 3);
        advrob_dataset *data = test_dataset(ctx, 37, shape, CLASSES, 0.3, 3);
        advrob_model *model = test_zoo(ctx, "tiny"), *twin = test_zoo(ctx, "tiny");
        training t = {
            augmented[i / 2].method, "epsilon=0.05 step=0.02 steps=2", data, 16, 3, 0.02, 0.8, 0, 9,
            augmented[i / 2].augment};
        char text[256];
        snprintf(text, sizeof text, "epochs=3 batch_size=16 lr=0.02 momentum=0.8 seed=9%s%s",
                 adversarial ? " attack.epsilon=0.05 attack.step=0.02 attack.steps=2" : "",
                 augmented[i / 2].text);
        test_ok(finetune_run(model, t.method, text, data, NULL, NULL));
        test_ok(training_run(&t, twin, INT64_MAX, NULL, NULL));
        assert_memory_equal(model->slab, twin->slab, slab_bytes(model));
        ar_model_release(twin);
        twin = test_zoo(ctx, "tiny");
        t.augment = (ar_augment){0, 0};
        test_ok(training_run(&t, twin, INT64_MAX, NULL, NULL));
        assert_true(memcmp(model->slab, twin->slab, slab_bytes(model)) != 0);
        ar_model_release(model);
        ar_model_release(twin);
        ar_dataset_release(data);
        ar_context_release(ctx);
    }
}

/* ---- it learns ---- */

static void test_learns(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 2);
    advrob_dataset *data = test_dataset(ctx, 300, shape, CLASSES, 0.3, 3);
    advrob_dataset *valid = test_dataset(ctx, 200, shape, CLASSES, 0.3, 4);
    static const struct {
        const char *name, *text;
    } runs[2] = {{"standard", "epochs=6 batch_size=16 lr=0.02"},
                 {"pgd_at", "epochs=6 batch_size=16 lr=0.02 attack.epsilon=0.05 attack.step=0.02 "
                            "attack.steps=4"}};
    double losses[2];
    for (int32_t i = 0; i < 2; i++) {
        advrob_model *model = test_zoo(ctx, "tiny");
        advrob_history *history = NULL;
        double mean;
        test_ok(finetune_run(model, runs[i].name, runs[i].text, data, valid, &history));
        assert_int_equal(advrob_history_rows(history), 6);
        double first = cell(history, 0, "loss"), last = cell(history, 5, "loss");
        double accuracy = cell(history, 5, "accuracy");
        losses[i] = last;
        print_message("%s: loss %.3f, then %.3f; accuracy %.3f, then %.3f; on others %.3f\n",
                      runs[i].name, first, last, cell(history, 0, "accuracy"), accuracy,
                      cell(history, 5, "valid_accuracy"));
        assert_true(last < 0.5 * first && accuracy > 0.7);
        assert_true(right_answers(model, valid, &mean) > 150);
        ar_history_release(history);
        ar_model_release(model);
    }
    assert_true(losses[1] > losses[0]); /* under attack it is harder */
    ar_dataset_release(data);
    ar_dataset_release(valid);
    ar_context_release(ctx);
}

/* ---- rates and history ---- */

static double expected_rate(const char *name, double position, double epochs) {
    const double lr = 0.002, warmup = 0.3, t = position / epochs;
    if (strcmp(name, "step") == 0)
        return position >= 4 ? lr * 0.5 * 0.5 : position >= 1.5 ? lr * 0.5 : lr;
    if (strcmp(name, "cosine") == 0) return lr * (1 + cos(acos(-1.0) * t)) / 2;
    if (strcmp(name, "ssfd") == 0)
        return t < warmup ? lr / 10 + (lr - lr / 10) * t / warmup
                          : lr / 100 + (lr - lr / 100) * pow((1 - t) / (1 - warmup), 2);
    return lr;
}

static void test_schedules(void **state) {
    (void)state;
    enum { EPOCHS = 6, STEPS = 3 }; /* 20 images in batches of 8 */
    advrob_context *ctx = open_context(NULL, 1);
    advrob_dataset *data = test_dataset(ctx, 20, shape, CLASSES, 0.3, 3);
    char text[160];
    assert_int_equal(ar_schedule_count(), 4);
    for (int32_t i = 0; i < ar_schedule_count(); i++) {
        const ar_schedule *schedule = ar_schedule_at(i);
        advrob_model *model = test_zoo(ctx, "tiny");
        advrob_history *history = NULL;
        snprintf(
            text, sizeof text,
            "epochs=%d batch_size=8 lr=0.002 schedule=%s milestones=1.5,4 gamma=0.5 warmup=0.3",
            EPOCHS, schedule->name);
        test_ok(finetune_run(model, "standard", text, data, NULL, &history));
        for (int32_t row = 0; row < EPOCHS; row++) { /* the rate of the epoch's last step */
            double rate = cell(history, row, "lr");
            double expected = expected_rate(schedule->name, row + (STEPS - 1.0) / STEPS, EPOCHS);
            if (!(fabs(rate - expected) <= 1e-12))
                fail_msg("%s, epoch %d: rate %.15g, expected %.15g", schedule->name, row + 1, rate,
                         expected);
        }
        const double milestones[2] = {1.5, 4};
        ar_schedule_settings settings = {0.002, EPOCHS, 0.5, 0.3, {milestones, 2}};
        for (double at = 0; at < EPOCHS; at += 0.25)
            assert_true(fabs(schedule->rate(&settings, at) -
                             expected_rate(schedule->name, at, EPOCHS)) < 1e-12);
        ar_history_release(history);
        ar_model_release(model);
    }
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* With a rate of zero the net stays, and the history tells what it does. */
static void test_history(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    advrob_dataset *data = test_dataset(ctx, 50, shape, CLASSES, 0.3, 3);
    advrob_dataset *valid = test_dataset(ctx, 30, shape, CLASSES, 0.3, 4);
    for (int32_t with = 0; with < 2; with++) {
        advrob_model *model = test_zoo(ctx, "tiny");
        advrob_history *history = NULL;
        uint64_t digest = ar_model_digest(model);
        double value = -7, loss, other;
        test_ok(finetune_run(model, "standard", "epochs=4 batch_size=7 lr=0", data,
                             with ? valid : NULL, &history));
        assert_true(ar_model_digest(model) == digest);
        int32_t right = right_answers(model, data, &loss);
        double expected = right_answers(model, valid, &other) / 30.0;
        assert_int_equal(advrob_history_rows(history), 4);
        for (int32_t row = 0; row < 4; row++) {
            assert_true(cell(history, row, "epoch") == row + 1 && cell(history, row, "lr") == 0);
            assert_true(fabs(cell(history, row, "loss") - loss) < 1e-6);
            assert_true(cell(history, row, "accuracy") == right / 50.0);
            assert_true(cell(history, row, "seconds") >= 0);
            double seen = cell(history, row, "valid_accuracy");
            assert_true(with ? seen == expected : isnan(seen));
        }
        assert_int_equal(advrob_history_get(history, 4, "loss", &value), ADVROB_E_UNKNOWN);
        assert_int_equal(advrob_history_get(history, -1, "loss", &value), ADVROB_E_UNKNOWN);
        assert_int_equal(advrob_history_get(history, 0, "losss", &value), ADVROB_E_UNKNOWN);
        assert_non_null(strstr(ar_message(), "\"loss\""));
        assert_true(value == -7);
        assert_int_equal(advrob_history_get(NULL, 0, "loss", &value), ADVROB_E_INVALID);
        assert_int_equal(advrob_history_rows(NULL), 0);
        ar_history_release(history);
        ar_model_release(model);
    }
    ar_dataset_release(data);
    ar_dataset_release(valid);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- validation ---- */

/* Validation labels that training moves away from, so that the best epoch is not the last. */
static void test_keep(void **state) {
    (void)state;
    enum { N = 120, EPOCHS = 8 };
    advrob_context *ctx = open_context(NULL, 2);
    advrob_dataset *data = test_dataset(ctx, N, shape, CLASSES, 0.3, 3), *valid;
    advrob_model *start = test_zoo(ctx, "tiny"), *best = NULL, *last = NULL, *other = NULL;
    advrob_history *history = NULL, *second = NULL;
    float *x = malloc(sizeof(float) * N * PIXELS);
    int32_t y[N], top = 0;
    char text[96];
    double mean;
    test_ok(ar_dataset_gather(data, 0, NULL, N, x, y));
    for (int32_t i = 0; i < N; i++) /* half as the fresh net says, half as is right */
        if (i % 2 == 0) {
            float z[CLASSES];
            test_ok(advrob_model_forward(start, 1, x + i * PIXELS, z));
            y[i] = ar_argmax(CLASSES, z);
        }
    valid = test_dataset_of(ctx, N, shape, CLASSES, x, y);
    test_ok(ar_model_clone(start, &last));
    test_ok(ar_model_clone(start, &best));
    test_ok(ar_model_clone(start, &other));
    test_ok(finetune_run(last, "standard", "epochs=8 batch_size=16 lr=0.003 keep=last", data, valid,
                         &history));
    for (int32_t row = 1; row < EPOCHS; row++) /* the first of the best */
        if (cell(history, row, "valid_accuracy") > cell(history, top, "valid_accuracy")) top = row;
    for (int32_t row = 0; row < EPOCHS; row++)
        print_message("%g ", cell(history, row, "valid_accuracy"));
    print_message(": epoch %d is the best\n", top + 1);
    assert_true(top < EPOCHS - 1 &&
                cell(history, EPOCHS - 1, "valid_accuracy") < cell(history, top, "valid_accuracy"));
    assert_true(right_answers(last, valid, &mean) ==
                (int32_t)lrint(N * cell(history, EPOCHS - 1, "valid_accuracy")));
    test_ok(
        finetune_run(best, "standard", "epochs=8 batch_size=16 lr=0.003", data, valid, &second));
    assert_true(right_answers(best, valid, &mean) ==
                (int32_t)lrint(N * cell(history, top, "valid_accuracy")));
    assert_int_equal(advrob_history_rows(second), EPOCHS);
    /* The weights are those that the run had after that epoch. */
    snprintf(text, sizeof text, "epochs=%d batch_size=16 lr=0.003 keep=last", top + 1);
    test_ok(finetune_run(other, "standard", text, data, valid, NULL));
    assert_memory_equal(best->slab, other->slab, slab_bytes(best));
    assert_true(memcmp(best->slab, last->slab, slab_bytes(best)) != 0);
    ar_history_release(history);
    ar_history_release(second);
    ar_model_release(start);
    ar_model_release(best);
    ar_model_release(last);
    ar_model_release(other);
    free(x);
    ar_dataset_release(valid);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* ---- what is refused ---- */

static void test_refused_runs(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    advrob_dataset *data = test_dataset(ctx, 20, shape, CLASSES, 0.3, 3);
    advrob_dataset *wide = test_dataset(ctx, 20, (ar_shape){1, 8, 9}, CLASSES, 0.3, 3);
    advrob_dataset *many = test_dataset(ctx, 20, shape, CLASSES + 1, 0.3, 3);
    advrob_model *model = test_zoo(ctx, "tiny");
    advrob_target *target = NULL;
    advrob_history *history = NULL;
    uint64_t digest = ar_model_digest(model);
    assert_int_equal(finetune_run(model, "standard", "", wide, NULL, &history), ADVROB_E_SHAPE);
    assert_non_null(strstr(ar_message(), "training images are 1 x 8 x 9"));
    assert_int_equal(finetune_run(model, "standard", "", data, wide, &history), ADVROB_E_SHAPE);
    assert_non_null(strstr(ar_message(), "validation"));
    assert_int_equal(finetune_run(model, "standard", "", many, NULL, &history), ADVROB_E_SHAPE);
    assert_non_null(strstr(ar_message(), "11 classes"));
    assert_int_equal(finetune_run(model, "standard", "", NULL, NULL, &history), ADVROB_E_INVALID);
    assert_int_equal(finetune_run(model, "standard", "augment.crop=8", data, NULL, &history),
                     ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "\"augment.crop\": 8 pixels around images of 8 x 8"));
    test_ok(ar_target_from_model(model, &target));
    assert_int_equal(finetune_run(model, "standard", "", data, NULL, &history), ADVROB_E_BUSY);
    assert_non_null(strstr(ar_message(), "frozen"));
    ar_target_release(target);
    assert_true(ar_model_digest(model) == digest && history == NULL);
    model->slab[2] = NAN;
    assert_int_equal(finetune_run(model, "standard", "", data, NULL, &history), ADVROB_E_NONFINITE);
    assert_non_null(strstr(ar_message(), "conv1.weight"));
    ar_model_release(model);
    model = test_zoo(ctx, "tiny");
    test_ok(finetune_run(model, "standard", "", data, NULL, NULL));
    test_ok(ar_model_check_unfrozen(model));
    ar_model_release(model);
    ar_dataset_release(data);
    ar_dataset_release(wide);
    ar_dataset_release(many);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A model whose box of pixels is narrower than the images. */
static void test_box(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1);
    advrob_dataset *data = test_dataset(ctx, 20, shape, CLASSES, 0.3, 3);
    advrob_model *model = test_zoo(ctx, "tiny");
    model->low[0] = 0.4;
    assert_int_equal(finetune_run(model, "pgd_at", "epochs=1", data, NULL, NULL), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "[0.4, 1]"));
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

static void test_refused_options(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *says;
        int32_t status;
    } wrong[] = {
        {"standart", "", "\"standard\"", ADVROB_E_UNKNOWN},
        {"standard", "epoch=3", "\"epochs\"", ADVROB_E_UNKNOWN},
        {"standard", "attack.epsilon=0.1", "attack.epsilon", ADVROB_E_UNKNOWN},
        {"pgd_at", "attack.epsilom=0.1", "attack.epsilon", ADVROB_E_UNKNOWN},
        {"pgd_at", "attack.epsilon=-1", "epsilon", ADVROB_E_RANGE},
        {"standard", "epochs=0", "epochs", ADVROB_E_RANGE},
        {"standard", "batch_size=0", "batch_size", ADVROB_E_RANGE},
        {"standard", "batch_size=513", "batch_size", ADVROB_E_RANGE},
        {"standard", "lr=-0.1", "lr", ADVROB_E_RANGE},
        {"standard", "momentum=1.5", "momentum", ADVROB_E_RANGE},
        {"standard", "schedule=steps", "cosine", ADVROB_E_RANGE},
        {"standard", "optimizer=adam", "sgd", ADVROB_E_RANGE},
        {"standard", "keep=first", "best", ADVROB_E_RANGE},
        {"standard", "augment.corp=4", "\"augment.crop\"", ADVROB_E_UNKNOWN},
        {"pgd_at", "augment.crop=-1", "crop", ADVROB_E_RANGE},
        {"pgd_at", "augment.flip=2", "flip", ADVROB_E_RANGE},
    };
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        advrob_options *options = test_options(wrong[i].text);
        advrob_finetune *fit = NULL;
        int32_t status = advrob_finetune_create(ctx, wrong[i].name, options, &fit);
        if (status != wrong[i].status || strstr(ar_message(), wrong[i].says) == NULL || fit != NULL)
            fail_msg("%s %s: %d, %s", wrong[i].name, wrong[i].text, status, ar_message());
        ar_options_destroy(options);
    }
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_out), cmocka_unit_test(test_same_order),
        cmocka_unit_test(test_augmented),   cmocka_unit_test(test_learns),
        cmocka_unit_test(test_schedules),   cmocka_unit_test(test_history),
        cmocka_unit_test(test_keep),        cmocka_unit_test(test_refused_runs),
        cmocka_unit_test(test_box),         cmocka_unit_test(test_refused_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
