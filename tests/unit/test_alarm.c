/* The alarm at catastrophic overfitting, on a run that is made to overfit: a small net, trained on
 * three classes of Fashion-MNIST against one step of size epsilon from the image itself, learns to
 * fool that step. FGSM then leaves most images right and PGD hardly any. */
#include "support/support.h"

#include "method/method.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"

#include "io/io.h"
#include "model/model.h"

#include <unistd.h>

#define FOLDER "/usr/share/datasets/fashion-mnist"
#define COMMON \
    "batch_size=64 lr=0.02 attack.epsilon=0.25 alarm_images=64 alarm_steps=8 keep=last seed=2 "
#define WEAK COMMON "epochs=3 attack.step=0.25 attack.steps=1 attack.random_start=0 "
#define SOUND COMMON "epochs=3 attack.step=0.06 attack.steps=7 "

enum { IMAGES = 1024, LOOKED = 64, EPOCH = 16 /* steps */, EVERY = 8, PIXELS = 784 };

typedef struct world {
    advrob_context *ctx;
    advrob_dataset *data;
    char warning[1024];
    int32_t warnings;
} world;

static void log_hook(void *user, int32_t level, const char *message) {
    world *w = user;
    assert_int_equal(level, ADVROB_LOG_WARNING);
    snprintf(w->warning, sizeof w->warning, "%s", message);
    w->warnings++;
}

/* The first images of three classes that are easy to tell apart: trousers, bags and boots. */
static advrob_dataset *pick(const advrob_dataset *all) {
    int64_t picked = 0;
    float *x = malloc(sizeof(float) * IMAGES * PIXELS);
    int32_t *y = malloc(sizeof(int32_t) * IMAGES);
    for (int64_t i = 0; picked < IMAGES; i++) {
        test_ok(ar_dataset_gather(all, i, NULL, 1, x + picked * PIXELS, y + picked));
        picked += y[picked] == 1 || y[picked] == 8 || y[picked] == 9;
    }
    advrob_dataset *data = test_dataset_of(all->ctx, IMAGES, (ar_shape){1, 28, 28}, 10, x, y);
    free(x);
    free(y);
    return data;
}

static int set_up(void **state) {
    static world w;
    advrob_options *options = test_options("limit=5000");
    advrob_dataset *all = NULL;
    w.ctx = test_context(1);
    w.ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false); /* the same bits everywhere */
    w.ctx->log = log_hook;
    w.ctx->log_user = &w;
    if (access(FOLDER "/train-images-idx3-ubyte.gz", R_OK) == 0) {
        test_ok(ar_dataset_open(w.ctx, "fashion-mnist", FOLDER, options, &all));
        w.data = pick(all);
        ar_dataset_release(all);
    }
    ar_options_destroy(options);
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    ar_dataset_release(w->data);
    ar_context_release(w->ctx);
    return 0;
}

static advrob_model *tune(world *w, const char *common, const char *text,
                          advrob_history **history) {
    char all[512];
    advrob_model *model = NULL;
    if (w->data == NULL) test_skip_or_fail("no Fashion-MNIST in " FOLDER);
    snprintf(all, sizeof all, "%s%s", common, text);
    advrob_options *seeded = test_options("seed=2");
    test_ok(ar_zoo_build(w->ctx, "conv_small", seeded, &model));
    ar_options_destroy(seeded);
    w->warnings = 0;
    *history = NULL;
    test_ok(finetune_run(model, "pgd_at", all, w->data, NULL, history));
    return model;
}

static double last(const advrob_history *history, const char *column) {
    double value = 0;
    test_ok(advrob_history_get(history, advrob_history_rows(history) - 1, column, &value));
    return value;
}

static const char *word(const advrob_history *history, const char *name) {
    const char *text = NULL;
    test_ok(advrob_history_get_str(history, name, &text));
    return text;
}

/* Accuracy of the first images under an attack that is made here. */
static double accuracy(const world *w, advrob_model *model, const char *name, const char *text) {
    static float x[LOOKED * PIXELS];
    int32_t y[LOOKED], predictions[LOOKED], right = 0;
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    test_ok(ar_dataset_gather(w->data, 0, NULL, LOOKED, x, y));
    test_ok(ar_attack_create(w->ctx, name, options, &attack));
    test_ok(ar_target_from_model(model, &target));
    ar_attack_call call = {.n = LOOKED, .x = x, .y = y, .predictions = predictions};
    test_ok(ar_attack_run(attack, target, NULL, &call));
    for (int32_t i = 0; i < LOOKED; i++)
        right += predictions[i] == y[i];
    ar_target_release(target);
    ar_attack_release(attack);
    ar_options_destroy(options);
    return right / (double)LOOKED;
}

/* The run that nobody stops: it is told once, and goes on. */
static void test_warn(void **state) {
    world *w = *state;
    advrob_history *history;
    advrob_model *model = tune(w, WEAK, "", &history);
    double fgsm = last(history, "fgsm_accuracy"), pgd = last(history, "pgd_accuracy");
    print_message("at the end FGSM %.3f, PGD %.3f; %s\n", fgsm, pgd, w->warning);
    assert_true(fgsm == accuracy(w, model, "fgsm", "epsilon=0.25"));
    assert_true(pgd ==
                accuracy(w, model, "pgd", "epsilon=0.25 step=0.0625 steps=10 random_start=0"));
    assert_int_equal(w->warnings, 1);
    assert_string_equal(w->warning, word(history, "alarm"));
    assert_non_null(strstr(w->warning, "epoch"));
    assert_non_null(strstr(w->warning, "batch"));
    assert_string_equal(word(history, "ended"), "finished");
    assert_int_equal(advrob_history_rows(history), 3);
    ar_history_release(history);
    ar_model_release(model);
}

/* The run ends at the check that fires, with the weights that it has there, or those of the check
 * before. */
static void test_ends(void **state) {
    world *w = *state;
    advrob_history *history;
    char text[64];
    static const char *const ways[] = {"alarm=stop", "alarm=rollback"};
    for (int32_t way = 0; way < 2; way++) {
        advrob_model *model = tune(w, WEAK, ways[way], &history);
        int32_t steps = (int32_t)last(history, "steps");
        print_message("%s after %d steps: %s\n", ways[way], steps, word(history, "alarm"));
        assert_string_equal(word(history, "ended"), "alarm");
        assert_int_equal(w->warnings, 1);
        assert_true(steps % EVERY == 0 && steps < 3 * EPOCH);
        double fgsm = last(history, "fgsm_accuracy"), pgd = last(history, "pgd_accuracy");
        assert_true(fgsm > 0.5 && pgd < 0.1);
        ar_history_release(history);
        snprintf(text, sizeof text, "alarm=off max_steps=%d", steps - way * EVERY);
        advrob_model *other = tune(w, WEAK, text, &history);
        assert_int_equal(w->warnings, 0);
        assert_true(isnan(last(history, "pgd_accuracy")));
        assert_memory_equal(model->slab, other->slab, sizeof(ar_real) * (size_t)model->slab_count);
        ar_history_release(history);
        ar_model_release(model);
        ar_model_release(other);
    }
}

static void test_sound(void **state) {
    world *w = *state;
    advrob_history *history;
    advrob_model *model = tune(w, SOUND, "alarm=stop", &history);
    double fgsm = last(history, "fgsm_accuracy"), pgd = last(history, "pgd_accuracy");
    print_message("FGSM %.3f, PGD %.3f\n", fgsm, pgd);
    assert_int_equal(w->warnings, 0);
    assert_string_equal(word(history, "alarm"), "");
    assert_string_equal(word(history, "ended"), "finished");
    assert_true(pgd > 0.2);
    ar_history_release(history);
    ar_model_release(model);
}

/* A number that is not finite ends any run with E_NONFINITE and the last good weights; with
 * "rollback" with those of the last silent check, or of the start. */
static void test_not_finite(void **state) {
    world *w = *state;
    static const char *const ways[] = {"", "alarm=rollback alarm_steps=1000",
                                       "alarm=rollback alarm_steps=1"};
    advrob_dataset *data = test_dataset(w->ctx, 200, (ar_shape){1, 8, 8}, 10, 0.3, 3);
    advrob_model *models[3], *fresh = test_zoo(w->ctx, "tiny");
    size_t bytes = sizeof(ar_real) * (size_t)fresh->slab_count;
    for (int32_t i = 0; i < 3; i++) {
        char text[128];
        snprintf(text, sizeof text,
                 "batch_size=8 lr=10 weight_decay=1e6 epochs=9 attack.steps=1 %s", ways[i]);
        models[i] = test_zoo(w->ctx, "tiny");
        assert_int_equal(finetune_run(models[i], "pgd_at", text, data, NULL, NULL),
                         ADVROB_E_NONFINITE);
        print_message("%s\n", ar_message());

        test_ok(ar_model_check_finite(models[i]));
    }
    assert_true(memcmp(models[0]->slab, fresh->slab, bytes) != 0);
    assert_memory_equal(models[1]->slab, fresh->slab, bytes);
    assert_memory_equal(models[2]->slab, models[0]->slab, bytes);
    for (int32_t i = 0; i < 3; i++)
        ar_model_release(models[i]);
    ar_model_release(fresh);
    ar_dataset_release(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warn),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
