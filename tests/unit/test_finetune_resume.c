/* Runs that stop and go on: cancelled, out of budget, out of patience; what they leave in files,
 * and whose checkpoint is refused. The yardstick is always an undisturbed run, bit for bit. */
#include "support/support.h"

#include "method/method.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"
#include "support/watch.h"

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
    const char *net;
    test_watch watch;
} world;

static int set_up(void **state) {
    static world w;
    memset(&w, 0, sizeof w);
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1); /* syncs cost nothing there */
    test_folder_make(w.folder, sizeof w.folder);
    snprintf(w.path, sizeof w.path, "%s/run", w.folder);
    w.ctx = test_context_with(&w.allocator, 2);
    w.ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    w.ctx->progress = watch_progress;
    w.ctx->log = watch_log;
    w.ctx->progress_user = w.ctx->log_user = &w.watch;
    w.net = "tiny";
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
    *model = test_zoo(w->ctx, w->net);
    snprintf(all, sizeof all, "%s%s%s%s", COMMON, text, checkpoint ? " checkpoint=" : "",
             checkpoint ? w->path : "");
    w->watch.calls = 0;
    w->watch.cancel_at = cancel_at;
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
    const char *net; /* NULL: tiny */
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
    {"standard", "", true, "tiny_batch_norm"},
    {"pgd_at", ATTACK "attack_statistics=batch alarm_steps=2", true, "tiny_batch_norm"},
    {"pgd_at", ATTACK "statistics=frozen", true, "tiny_batch_norm"},
    {"standard", "augment.crop=2 augment.flip=1", true},
    {"pgd_at", ATTACK "augment.crop=3 augment.flip=1 alarm_steps=2", true, "tiny_batch_norm"},
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
        made += w->watch.calls;
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
    assert_int_equal(w->watch.calls, 0);
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
        w->net = kinds[i].net != NULL ? kinds[i].net : "tiny";
        test_ok(call(w, kinds[i].method, kinds[i].text, false, kinds[i].valid, 0, &wanted, &told));
        int64_t calls = w->watch.calls;
        assert_true(calls >= 6);
        for (int64_t at = 2; at <= calls; at++) /* every call would not get anywhere */
            interrupt(w, &kinds[i], at, calls, wanted, told);
        assert_int_equal(w->watch.warnings, 0);
        ar_history_release(told);
        ar_model_release(wanted);
    }
    w->net = "tiny";
}

/* Cancelled from outside, between two pieces of a parallel job: the step is dropped whole, and the
 * optimizer's state with it. The kernels count, and cancel. */
static advrob_context *victim;
static _Atomic int64_t tiles, updates, cancel_at_tile, cancel_at_update;
static const ar_kernels *real_kernels;

static void count_tile(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                       const float *x, const ar_real *scale, const ar_real *shift, ar_real *tile) {
    if (++tiles == cancel_at_tile) victim->cancelled = 1;
    real_kernels->load(lanes, count, channels, pixels, x, scale, shift, tile);
}

static void count_update(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                         ar_real momentum, ar_real decay) {
    if (++updates == cancel_at_update) victim->cancelled = 1;
    real_kernels->sgd(n, w, v, g, rate, momentum, decay);
}

/* Cancelled after so many tiles or updates, again and again until it ends. */
static void interrupt_within(world *w, int64_t at_tile, int64_t at_update,
                             const advrob_model *wanted, const advrob_history *told) {
    int32_t status = ADVROB_E_CANCELLED, stops = 0;
    advrob_model *model = NULL;
    advrob_history *history = NULL;
    for (;; stops++) {
        w->ctx->cancelled = 0;
        tiles = updates = 0;
        cancel_at_tile = at_tile;
        cancel_at_update = at_update;
        status = call(w, "pgd_at", ATTACK "alarm_steps=2", true, true, 0, &model, &history);
        if (status != ADVROB_E_CANCELLED || stops == 100) break;
        ar_model_release(model);
    }
    test_ok(status);
    assert_true(stops > 0);
    assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
    same_history(history, told);
    ar_history_release(history);
    ar_model_release(model);
    forget(w);
}

static void test_cancelled_within(void **state) {
    world *w = *state;
    /* More than what is never cut takes: a check of the alarm; a step, whose update has a part for
     * every stretch of trained weights. */
    static const struct {
        const char *net;
        int64_t tiles, updates;
    } from[] = {{"tiny", 110, 2}, {"tiny_batch_norm", 220, 9}};
    ar_kernels kernels = *w->ctx->kernels;
    real_kernels = w->ctx->kernels;
    victim = w->ctx;
    kernels.load = count_tile;
    kernels.sgd = count_update;
    for (int32_t i = 0; i < 2; i++) {
        advrob_model *wanted = NULL;
        advrob_history *told = NULL;
        w->net = from[i].net;
        w->ctx->kernels = real_kernels;
        test_ok(call(w, "pgd_at", ATTACK "alarm_steps=2", false, true, 0, &wanted, &told));
        w->ctx->kernels = &kernels;
        for (int64_t at = from[i].tiles; at < 2 * from[i].tiles; at += 13)
            interrupt_within(w, at, 0, wanted, told);
        for (int64_t at = from[i].updates; at < 8 + from[i].updates; at++)
            interrupt_within(w, 0, at, wanted, told);
        ar_history_release(told);
        ar_model_release(wanted);
    }
    w->net = "tiny";
    w->ctx->kernels = real_kernels;
    w->ctx->cancelled = 0;
}

/* Batch norms: each choice of statistics makes another run, and frozen ones stay. */
static void test_statistics(void **state) {
    world *w = *state;
    static const char *const ways[] = {ATTACK, ATTACK "attack_statistics=batch",
                                       ATTACK "statistics=frozen"};
    uint64_t digests[3];
    w->net = "tiny_batch_norm";
    for (int32_t i = 0; i < 3; i++) {
        advrob_model *model = NULL, *fresh = test_zoo(w->ctx, w->net);
        advrob_history *history = NULL;
        test_ok(call(w, "pgd_at", ways[i], false, false, 0, &model, &history));
        digests[i] = ar_model_digest(model);
        for (int32_t p = 0; p < model->parameter_count; p++) {
            const ar_parameter *parameter = &model->parameters[p];
            bool same = memcmp(model->slab + parameter->offset, fresh->slab + parameter->offset,
                               sizeof(ar_real) * (size_t)parameter->count) == 0;
            if (parameter->role >= AR_RUNNING_MEAN) assert_int_equal(same, i == 2);
        }
        ar_history_release(history);
        ar_model_release(model);
        ar_model_release(fresh);
    }
    w->net = "tiny";
    assert_true(digests[0] != digests[1] && digests[0] != digests[2]);
}

/* ---- budgets and patience ---- */

/* Stopped by time at some step k: the bits and the history of max_steps = k. */
static void test_budget(void **state) {
    world *w = *state;
    char text[128];
    advrob_model *timed = NULL, *counted = NULL;
    advrob_history *a = NULL, *b = NULL;
    test_ok(call(w, "standard", "minutes=1e-9", false, true, 0, &timed, &a));
    assert_true(cell(a, 0, "steps") == 1 && cell(a, 0, "valid_accuracy") > 0);
    assert_string_equal(word(a, "ended"), "budget");
    test_ok(call(w, "standard", "max_steps=1", false, true, 0, &counted, &b));
    assert_memory_equal(timed->slab, counted->slab, slab_bytes(timed));
    same_history(a, b);
    ar_history_release(a);
    ar_history_release(b);
    ar_model_release(timed);
    ar_model_release(counted);
    for (int32_t steps = 1; steps <= EPOCHS * STEPS + 1; steps++) {
        bool all = steps >= EPOCHS * STEPS;
        snprintf(text, sizeof text, "max_steps=%d", steps);
        test_ok(call(w, "standard", text, false, true, 0, &counted, &b));
        int32_t rows = all ? EPOCHS : (steps + STEPS - 1) / STEPS;
        assert_int_equal(advrob_history_rows(b), rows);
        assert_true(cell(b, rows - 1, "steps") == (all ? EPOCHS * STEPS : steps));
        assert_string_equal(word(b, "ended"), all ? "finished" : "budget");
        ar_history_release(b);
        ar_model_release(counted);
    }
}

/* Time that was used before a resume counts. */
static void test_budget_resumed(void **state) {
    world *w = *state;
    advrob_model *model = NULL, *counted = NULL;
    advrob_history *a = NULL, *b = NULL;
    assert_int_equal(call(w, "standard", "", true, true, 4, &model, &a), ADVROB_E_CANCELLED);
    ar_model_release(model);
    test_ok(call(w, "standard", "minutes=1e-9", true, true, 0, &model, &a));
    assert_int_equal(w->watch.calls, 0);
    test_ok(call(w, "standard", "max_steps=4", false, true, 0, &counted, &b));
    assert_memory_equal(model->slab, counted->slab, slab_bytes(model));
    same_history(a, b);
    ar_history_release(a);
    ar_history_release(b);
    ar_model_release(model);
    ar_model_release(counted);
    forget(w);
}

static void test_patience(void **state) {
    world *w = *state;
    advrob_model *model = NULL;
    advrob_history *history = NULL;
    /* With a rate of zero the first epoch stays the best. */
    test_ok(call(w, "standard", "epochs=9 lr=0 patience=2", false, true, 0, &model, &history));
    assert_int_equal(advrob_history_rows(history), 3);
    assert_string_equal(word(history, "ended"), "patience");
    ar_history_release(history);
    ar_model_release(model);
    static const char *const needy[] = {"patience=1", "select=robust", "best_path=/nowhere/best"};
    for (size_t i = 0; i < sizeof needy / sizeof needy[0]; i++) {
        assert_int_equal(call(w, "standard", needy[i], false, false, 0, &model, &history),
                         ADVROB_E_INVALID);
        assert_non_null(strstr(ar_message(), "needs validation images"));
        ar_model_release(model);
    }
}

/* ---- what is kept ---- */

static void same_as_file(const world *w, const char *path, const advrob_model *model) {
    advrob_model *read = NULL;
    test_ok(ar_model_file_load(w->ctx, path, &read));
    assert_true(ar_model_digest(read) == ar_model_digest(model));
    ar_model_release(read);
}

static void test_model_files(void **state) {
    world *w = *state;
    char text[1024], best_path[320], last_path[320];
    advrob_model *best = NULL, *last = NULL;
    advrob_history *history = NULL;
    snprintf(best_path, sizeof best_path, "%s/best.safetensors", w->folder);
    snprintf(last_path, sizeof last_path, "%s/last.safetensors", w->folder);
    for (int32_t k = 0; k < 2; k++) {
        /* A rate that overshoots, so that the best is not the last. */
        snprintf(text, sizeof text,
                 "lr=0.2 schedule=constant epochs=6 keep=%s best_path=%s last_path=%s",
                 k == 0 ? "best" : "last", best_path, last_path);
        test_ok(call(w, "standard", text, false, true, 0, k == 0 ? &best : &last, &history));
        ar_history_release(history);
        same_as_file(w, k == 0 ? best_path : last_path, k == 0 ? best : last);
    }
    same_as_file(w, best_path, best);
    assert_true(ar_model_digest(best) != ar_model_digest(last));
    /* A file that cannot be written is a warning on the way and an error at the end. */
    w->watch.warnings = 0;
    advrob_model *model = NULL;
    assert_int_equal(
        call(w, "standard", "last_path=/nowhere/last", false, false, 0, &model, &history),
        ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "/nowhere/last"));
    assert_int_equal(advrob_history_rows(history), EPOCHS); /* all but the file is there */
    ar_history_release(history);
    assert_int_equal(w->watch.warnings, EPOCHS + 1);
    w->watch.warnings = 0;
    ar_model_release(model);
    ar_model_release(best);
    ar_model_release(last);
    remove(best_path);
    remove(last_path);
}

static int32_t robust_hits(const world *w, advrob_model *model) {
    advrob_options *options = test_options("epsilon=0.1 step=0.05 steps=3 seed=5");
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    float x[64], adversarial[64], z[CLASSES];
    int32_t y, hits = 0;
    test_ok(ar_attack_create(w->ctx, "pgd", options, &attack));
    test_ok(ar_target_from_model(model, &target));
    for (int64_t i = 0; i < w->valid->count; i++) {
        test_ok(ar_dataset_gather(w->valid, i, NULL, 1, x, &y));
        test_ok(ar_target_forward(target, 1, x, z));
        if (ar_argmax(CLASSES, z) != y) continue;
        ar_attack_call call = {.n = 1, .x = x, .y = &y, .ids = &i, .adversarial = adversarial};
        test_ok(ar_attack_run(attack, target, NULL, &call));
        test_ok(ar_target_forward(target, 1, adversarial, z));
        hits += ar_argmax(CLASSES, z) == y;
    }
    ar_target_release(target);
    ar_attack_release(attack);
    ar_options_destroy(options);
    return hits;
}

/* Accuracy under PGD, image by image, and that the best by it is kept. */
static void test_select(void **state) {
    world *w = *state;
    static const char *const ways[] = {"clean", "robust", "sum"};
    char text[192];
    for (int32_t i = 0; i < 3; i++) {
        advrob_model *model = NULL;
        advrob_history *history = NULL;
        snprintf(text, sizeof text,
                 "lr=0.05 epochs=6 select=%s valid.epsilon=0.1 valid.step=0.05 valid.steps=3",
                 ways[i]);
        test_ok(call(w, "standard", text, false, true, 0, &model, &history));
        double top = -1, clean = 0, robust = 0;
        for (int32_t row = 0; row < advrob_history_rows(history); row++) {
            double c = cell(history, row, "valid_accuracy");
            double r = cell(history, row, "valid_robust_accuracy");
            assert_true(isnan(r) == (i == 0));
            double score = i == 0 ? c : i == 1 ? r : c + r;
            if (score <= top) continue;
            top = score;
            clean = c;
            robust = r;
        }
        int32_t hits = robust_hits(w, model);
        print_message("%s: clean %.3f, robust %.3f\n", ways[i], clean, hits / 30.0);
        if (i > 0) assert_int_equal(hits, lrint(30 * robust));
        ar_history_release(history);
        ar_model_release(model);
    }
}

/* ---- other runs ---- */

static void test_refused(void **state) {
    world *w = *state;
    char all[1024];
    advrob_model *model = NULL, *other = NULL;
    advrob_history *history = NULL;
    advrob_options *seeded = test_options("seed=77");
    assert_int_equal(call(w, "standard", "", true, true, 4, &model, &history), ADVROB_E_CANCELLED);
    ar_model_release(model);
    model = test_zoo(w->ctx, "tiny");
    test_ok(ar_zoo_build(w->ctx, "tiny", seeded, &other));
    const struct {
        const char *method, *text, *says;
        advrob_model *model;
        const advrob_dataset *data, *valid;
    } wrong[] = {
        {"pgd_at", "", "the method", model, w->data, w->valid},
        {"standard", "", "in the model", other, w->data, w->valid},
        {"standard", "", "in the training data", model, w->valid, w->valid},
        {"standard", "", "in the validation data", model, w->data, w->data},
        {"standard", "", "in the validation data", model, w->data, NULL},
        {"standard", " momentum=0.8", "(momentum=0.9 there, momentum=0.8 here)", model, w->data,
         w->valid},
        {"standard", " epochs=4", "(epochs=3 there, epochs=4 here)", model, w->data, w->valid},
        {"standard", " augment.flip=1", "(augment.flip=0 there, augment.flip=1 here)", model,
         w->data, w->valid},
        {"standard", " valid.steps=3", "(valid.steps=20 there, valid.steps=3 here)", model, w->data,
         w->valid},
        {"standard", " seed=6", "(seed=5 there, seed=6 here)", model, w->data, w->valid},
        {"standard", " milestones=1,2", "(milestones= there, milestones=1,2 here)", model, w->data,
         w->valid},
        {"standard", " seed=6", "in the model, the training data, the options", other, w->valid,
         w->valid},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint64_t digest = ar_model_digest(wrong[i].model);
        snprintf(all, sizeof all, "%scheckpoint=%s%s", COMMON, w->path, wrong[i].text);
        int32_t status = finetune_run(wrong[i].model, wrong[i].method, all, wrong[i].data,
                                      wrong[i].valid, &history);
        if (status != ADVROB_E_INVALID || strstr(ar_message(), wrong[i].says) == NULL ||
            strstr(ar_message(), w->path) == NULL)
            fail_msg("case %zu: %d, %s", i, status, ar_message());
        assert_true(ar_model_digest(wrong[i].model) == digest && history == NULL);
    }
    /* Paths, times and threads make no other run. */
    snprintf(all, sizeof all, "%scheckpoint=%s minutes=5 checkpoint_minutes=3 last_path=%s/last",
             COMMON, w->path, w->folder);
    w->watch.calls = w->watch.cancel_at = 0;
    test_ok(finetune_run(model, "standard", all, w->data, w->valid, NULL));
    assert_int_equal(w->watch.calls, EPOCHS * STEPS - 4);
    snprintf(all, sizeof all, "%s/last", w->folder);
    remove(all);
    ar_options_destroy(seeded);
    ar_model_release(model);
    ar_model_release(other);
    forget(w);
}

/* resume = 0 starts anew over another run's files, and can then be resumed itself. */
static void test_anew(void **state) {
    world *w = *state;
    advrob_model *model = NULL, *wanted = NULL;
    advrob_history *history = NULL, *told = NULL;
    test_ok(call(w, "standard", "", false, true, 0, &wanted, &told));
    for (int64_t at = 1; at < 8; at++) {
        test_ok(call(w, "standard", "epochs=1", true, true, 0, &model, &history));
        ar_history_release(history);
        ar_model_release(model);
        assert_int_equal(call(w, "standard", "resume=0", true, true, at, &model, &history),
                         ADVROB_E_CANCELLED);
        ar_model_release(model);
        test_ok(call(w, "standard", "", true, true, 0, &model, &history));
        assert_int_equal(w->watch.calls, EPOCHS * STEPS - at);
        assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
        same_history(history, told);
        ar_history_release(history);
        ar_model_release(model);
        forget(w);
    }
    ar_history_release(told);
    ar_model_release(wanted);
}

/* Steps allocate nothing, checkpoints or not; a checkpoint allocates when it is written. */
static void test_steady(void **state) {
    world *w = *state, *whole = w, single = *w;
    static const char *const ways[] = {"", ATTACK "alarm_steps=1"};
    /* One thread: which of several gets a tile, and so a workspace, is a matter of luck. */
    single.ctx = test_context(1);
    single.ctx->kernels = whole->ctx->kernels;
    w = &single;
    for (int32_t i = 0; i < 2; i++) {
        uint64_t calls[2];
        for (int32_t k = 0; k < 2; k++) {
            char text[256];
            advrob_model *model = NULL;
            advrob_history *history = NULL;
            snprintf(text, sizeof text, "%s batch_size=8 epochs=1 max_steps=%d", ways[i],
                     k == 0 ? 2 : 5);
            calls[k] = w->ctx->memory.calls;
            test_ok(
                call(w, i == 0 ? "standard" : "pgd_at", text, true, false, 0, &model, &history));
            calls[k] = w->ctx->memory.calls - calls[k];
            ar_history_release(history);
            ar_model_release(model);
            forget(w);
        }
        print_message("%llu allocations for 2 steps, %llu for 5\n", (unsigned long long)calls[0],
                      (unsigned long long)calls[1]);
        assert_true(calls[0] == calls[1]);
    }
    ar_context_release(single.ctx);
}

/* Memory that fails anywhere in a run that resumes: it says so, or goes on without a checkpoint;
 * what lies in the files stays good, and nothing leaks. */
static void test_no_memory(void **state) {
    world *w = *state;
    advrob_model *wanted = NULL, *model = NULL;
    advrob_history *told = NULL, *history = NULL;
    int32_t refused = 0;
    test_ok(call(w, "pgd_at", ATTACK, false, true, 0, &wanted, &told));
    for (int64_t n = 1;; n++) {
        char text[512];
        advrob_finetune *fit = NULL;
        assert_int_equal(call(w, "pgd_at", ATTACK, true, true, 4, &model, &history),
                         ADVROB_E_CANCELLED);
        ar_model_release(model);
        model = test_zoo(w->ctx, "tiny");
        snprintf(text, sizeof text, COMMON ATTACK "checkpoint=%s", w->path);
        advrob_options *options = test_options(text);
        test_ok(advrob_finetune_create(w->ctx, "pgd_at", options, &fit));
        ar_options_destroy(options);
        w->watch.cancel_at = 0;
        test_allocator_arm(&w->allocator, n, 0);
        int32_t status = advrob_finetune_run(fit, model, w->data, w->valid, &history);
        bool failed = w->allocator.failed > 0;
        test_allocator_arm(&w->allocator, 0, 0);
        advrob_finetune_destroy(fit);
        if (status == ADVROB_OK) {
            assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
            same_history(history, told);
            ar_history_release(history);
        } else {
            assert_int_equal(status, ADVROB_E_NOMEM);
            assert_true(failed && history == NULL);
            refused++;
        }
        ar_model_release(model);
        test_ok(call(w, "pgd_at", ATTACK, true, true, 0, &model, &history));
        assert_memory_equal(model->slab, wanted->slab, slab_bytes(wanted));
        same_history(history, told);
        ar_history_release(history);
        ar_model_release(model);
        forget(w);
        if (!failed) break;
    }
    print_message("%d allocations refused\n", refused);
    assert_true(refused > 50);
    ar_history_release(told);
    ar_model_release(wanted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled),      cmocka_unit_test(test_cancelled_within),
        cmocka_unit_test(test_statistics),     cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_resumed), cmocka_unit_test(test_patience),
        cmocka_unit_test(test_model_files),    cmocka_unit_test(test_select),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_anew),
        cmocka_unit_test(test_steady),         cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
