/* Runs that stop and go on: cancelled, out of budget, out of patience; what they leave in files,
 * and whose checkpoint is refused. The yardstick is always an undisturbed run, bit for bit. */
#include "support/support.h"

#include "method/method.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"

#include "io/io.h"

#include <unistd.h>

enum { CLASSES = 10, IMAGES = 44, EPOCHS = 3, STEPS = 3 }; /* in batches of 16 */
static const ar_shape shape = {1, 8, 8};

#define COMMON "epochs=3 batch_size=16 lr=0.02 momentum=0.9 schedule=cosine seed=5 "
#define ATTACK "attack.epsilon=0.05 attack.step=0.02 attack.steps=2 "

typedef struct world {
    char folder[256], path[300];
    test_allocator allocator;
    advrob_context *ctx;
    advrob_dataset *data, *valid;
    char warning[1024]; /* the last that was logged */
    int32_t warnings;
    int64_t calls, cancel_at; /* of the progress hook; 0: never */
} world;

static int32_t hook(void *user, const char *what, int64_t done, int64_t total, double value) {
    world *w = user;
    (void)what;
    (void)done;
    (void)total;
    (void)value;
    return ++w->calls == w->cancel_at;
}

static void log_hook(void *user, int32_t level, const char *message) {
    world *w = user;
    assert_int_equal(level, ADVROB_LOG_WARNING);
    snprintf(w->warning, sizeof w->warning, "%s", message);
    w->warnings++;
}

static int set_up(void **state) {
    static world w;
    memset(&w, 0, sizeof w);
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1); /* syncs cost nothing there */
    test_folder_make(w.folder, sizeof w.folder);
    snprintf(w.path, sizeof w.path, "%s/run", w.folder);
    w.ctx = test_context_with(&w.allocator, 2);
    w.ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    w.ctx->progress = hook;
    w.ctx->log = log_hook;
    w.ctx->progress_user = w.ctx->log_user = &w;
    w.data = test_dataset(w.ctx, IMAGES, shape, CLASSES, 0.3, 3);
    w.valid = test_dataset(w.ctx, 30, shape, CLASSES, 0.5, 4);
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    ar_dataset_release(w->data);
    ar_dataset_release(w->valid);
    ar_context_release(w->ctx);
    test_allocator_check(&w->allocator);
    test_folder_remove(w->folder);
    return 0;
}

static void forget(const world *w) {
    char path[320];
    for (int32_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s.%d", w->path, i);
        remove(path);
    }
}

/* One call of the run on a fresh model, with checkpoints at w->path if `checkpoint`. */
static int32_t call(world *w, const char *method, const char *text, bool checkpoint, bool valid,
                    int64_t cancel_at, advrob_model **model, advrob_history **history) {
    char all[1024];
    *history = NULL;
    *model = test_zoo(w->ctx, "tiny");
    snprintf(all, sizeof all, "%s%s%s%s", COMMON, text, checkpoint ? " checkpoint=" : "",
             checkpoint ? w->path : "");
    w->calls = 0;
    w->cancel_at = cancel_at;
    return finetune_run(*model, method, all, w->data, valid ? w->valid : NULL, history);
}

static size_t slab_bytes(const advrob_model *model) {
    return sizeof(ar_real) * (size_t)model->slab_count;
}

static double cell(const advrob_history *history, int32_t row, const char *column) {
    double value = 0;
    test_ok(advrob_history_get(history, row, column, &value));
    return value;
}

static const char *word(const advrob_history *history, const char *name) {
    const char *text = NULL;
    test_ok(advrob_history_get_str(history, name, &text));
    return text;
}

/* All but the times. */
static void same_history(const advrob_history *a, const advrob_history *b) {
    static const char *const columns[] = {"epoch",
                                          "lr",
                                          "loss",
                                          "accuracy",
                                          "valid_accuracy",
                                          "steps",
                                          "valid_robust_accuracy",
                                          "fgsm_accuracy",
                                          "pgd_accuracy"};
    assert_int_equal(advrob_history_rows(a), advrob_history_rows(b));
    for (int32_t row = 0; row < advrob_history_rows(a); row++)
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
            double x = cell(a, row, columns[i]), y = cell(b, row, columns[i]);
            if (memcmp(&x, &y, sizeof x) != 0 && !(isnan(x) && isnan(y)))
                fail_msg("row %d, %s: %.17g and %.17g", row, columns[i], x, y);
        }
    assert_string_equal(word(a, "ended"), word(b, "ended"));
    assert_string_equal(word(a, "alarm"), word(b, "alarm"));
}

typedef struct kind {
    const char *method, *text;
    bool valid;
} kind;

static const kind kinds[] = {
    {"standard", "", false},
    {"standard", "", true},
    {"standard", "keep=last patience=1", true},
    {"pgd_at", ATTACK "alarm_steps=2", true},
    {"pgd_at",
     ATTACK "alarm=rollback alarm_steps=1 select=sum valid.steps=2 statistics=frozen "
            "attack_statistics=batch",
     true},
    {"pgd_at", ATTACK "max_steps=7 checkpoint_minutes=0", false},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- cancelled ---- */

/* Cancelled at progress call k, and again every k calls after each resume, until it ends. */
static void interrupt(world *w, const kind *k, int64_t at, int64_t calls,
                      const advrob_model *wanted, const advrob_history *told) {
    advrob_model *model = NULL;
    int64_t made = 0;
    advrob_history *history = NULL;
    int32_t status = ADVROB_E_CANCELLED;
    for (int32_t i = 0; i < 64 && status == ADVROB_E_CANCELLED; i++) {
        ar_model_release(model);
        status = call(w, k->method, k->text, true, k->valid, at, &model, &history);
        made += w->calls;
    }
    if (status < 0)
        fail_msg("%s, %s, every %lld: %s", k->method, k->text, (long long)at, ar_message());
    if (strstr(k->text, "select") == NULL) assert_int_equal(made, calls); /* no step twice */
    assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
    same_history(history, told);
    ar_history_release(history);
    ar_model_release(model);
    /* It is finished: once more gives the same at once. */
    test_ok(call(w, k->method, k->text, true, k->valid, 0, &model, &history));
    assert_int_equal(w->calls, 0);
    assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
    same_history(history, told);
    ar_history_release(history);
    ar_model_release(model);
    forget(w);
}

static void test_cancelled(void **state) {
    world *w = *state;
    for (int32_t i = 0; i < KINDS; i++) {
        advrob_model *wanted = NULL;
        advrob_history *told = NULL;
        test_ok(call(w, kinds[i].method, kinds[i].text, false, kinds[i].valid, 0, &wanted, &told));
        int64_t calls = w->calls;
        assert_true(calls >= 6);
        for (int64_t at = 2; at <= calls; at++) /* every call would not get anywhere */
            interrupt(w, &kinds[i], at, calls, wanted, told);
        assert_int_equal(w->warnings, 0);
        ar_history_release(told);
        ar_model_release(wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
