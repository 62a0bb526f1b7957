/* Attacks on models: a sample's result hangs on nothing but itself; restarts and early stops keep
 * their promises; predictions and losses are those of the returned images; cancelling is quick. */
#include "support/support.h"

#include <pthread.h>
#include <unistd.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/images.h"
#include "support/options.h"

enum { MOST = 600 };

typedef struct scene {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *target;
    int64_t size;
    float *x;
    int32_t *y;
} scene;

/* Random images with the labels that the net gives most of them; every third is wrong. */
static void open_scene(scene *s, const char *net, int32_t threads, test_allocator *allocator) {
    s->ctx = test_context_with(allocator, threads);
    s->ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    if (strcmp(net, "tiny") == 0) { /* trained, so that attacks have something to do */
        ar_safetensors file;
        golden_open(s->ctx, "nets", "tiny.safetensors", &file);
        s->model = golden_net(s->ctx, net, &file);
        ar_safetensors_free(s->ctx, &file);
    } else {
        s->model = test_zoo(s->ctx, net);
    }
    test_ok(ar_target_from_model(s->model, &s->target));
    s->size = ar_shape_count(s->target->shape);
    s->x = draw_images(MOST, s->size, 21);
    s->y = draw_labels(MOST, s->target->classes, 22);
    float *logits = malloc(sizeof(float) * MOST * (size_t)s->target->classes);
    test_ok(ar_target_forward(s->target, MOST, s->x, logits));
    for (int32_t i = 0; i < MOST; i++)
        if (i % 3 != 0) s->y[i] = ar_argmax(s->target->classes, logits + i * s->target->classes);
    free(logits);
}

static void close_scene(scene *s) {
    ar_target_release(s->target);
    ar_model_release(s->model);
    ar_context_release(s->ctx);
    free(s->x);
    free(s->y);
}

typedef struct answers {
    float *moved;
    int32_t *predictions;
    double *losses;
} answers;

static answers new_answers(const scene *s) {
    answers a = {malloc(sizeof(float) * MOST * (size_t)s->size), malloc(sizeof(int32_t) * MOST),
                 malloc(sizeof(double) * MOST)};
    assert_true(a.moved != NULL && a.predictions != NULL && a.losses != NULL);
    return a;
}

static void free_answers(answers *a) {
    free(a->moved);
    free(a->predictions);
    free(a->losses);
}

/* Attacks samples [first, first + n); the answers go to places from `first` on. */
static void attack(const scene *s, const char *name, const char *text, int64_t first, int64_t n,
                   answers *a) {
    char all[192];
    bool numbered = strcmp(name, "fgsm") != 0;
    snprintf(all, sizeof all, numbered ? "%s first_sample=%d" : "%s", text, (int)first);
    advrob_options *options = test_options(all);
    advrob_attack *made = NULL;
    test_ok(advrob_attack_create(s->ctx, name, options, &made));
    ar_options_destroy(options);
    test_ok(advrob_attack_run(made, s->target, n, s->x + first * s->size, s->y + first,
                              a->moved + first * s->size, a->predictions + first,
                              a->losses + first));
    advrob_attack_destroy(made);
}

static void same(const scene *s, const char *what, int64_t n, const answers *a, const answers *b) {
    size_t bytes = sizeof(float) * (size_t)s->size;
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a->moved + i * s->size, b->moved + i * s->size, bytes) != 0 ||
            a->predictions[i] != b->predictions[i] ||
            memcmp(&a->losses[i], &b->losses[i], sizeof(double)) != 0)
            fail_msg("%s, %d threads: sample %d differs from itself alone", what,
                     (int)ar_workers(s->ctx), (int)i);
}

/* ---- batches ---- */

static void check_batches(const char *net, const char *name, const char *text) {
    static const int64_t sizes[] = {7, 16, 17, 64, 511, 512, 600};
    answers alone = {NULL, NULL, NULL};
    for (int32_t threads = 1; threads <= 3; threads++) {
        scene s;
        open_scene(&s, net, threads, NULL);
        answers batch = new_answers(&s);
        if (threads == 1) {
            alone = new_answers(&s);
            for (int64_t i = 0; i < MOST; i++)
                attack(&s, name, text, i, 1, &alone);
        }
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memset(batch.moved, 0xff, sizeof(float) * MOST * (size_t)s.size);
            for (int64_t first = 0; first < MOST; first += sizes[k]) {
                int64_t n = MOST - first < sizes[k] ? MOST - first : sizes[k];
                attack(&s, name, text, first, n, &batch);
            }
            same(&s, text, MOST, &batch, &alone);
        }
        free_answers(&batch);
        close_scene(&s);
    }
    free_answers(&alone);
}

static void test_batches(void **state) {
    (void)state;
    check_batches("tiny", "pgd", "epsilon=0.1 step=0.02 steps=5 early_stop=1 restarts=2");
    check_batches("tiny", "pgd", "epsilon=0.1 step=0.03 steps=4 loss=margin");
    check_batches("tiny", "apgd", "epsilon=0.02 steps=6 restarts=2");
    check_batches("tiny", "apgd_t", "epsilon=0.1 norm=l2 steps=4 targets=3");
    check_batches("tiny_residual", "fgsm", "epsilon=0.1");
    check_batches("tiny_batch_norm", "pgd", "epsilon=0.1 steps=5");
}

static void test_fgsm_is_one_step(void **state) {
    (void)state;
    static const char *const losses[] = {"ce", "margin"};
    static const double sizes[] = {0.1, 8.0 / 255, 1e-7, 0, 0.7};
    scene s;
    char text[160];
    open_scene(&s, "tiny", 2, NULL);
    answers one = new_answers(&s), two = new_answers(&s);
    for (size_t e = 0; e < sizeof sizes / sizeof sizes[0]; e++)
        for (int32_t k = 0; k < 4; k++) {
            snprintf(text, sizeof text, "epsilon=%.17g loss=%s clip=%d", sizes[e], losses[k % 2],
                     k / 2);
            attack(&s, "fgsm", text, 0, 100, &one);
            snprintf(text, sizeof text,
                     "epsilon=%.17g step=%.17g loss=%s clip=%d steps=1 random_start=0", sizes[e],
                     sizes[e], losses[k % 2], k / 2);
            attack(&s, "pgd", text, 0, 100, &two);
            same(&s, text, 100, &one, &two);
        }
    free_answers(&one);
    free_answers(&two);
    close_scene(&s);
}

/* ---- what comes back ---- */

/* -log softmax and margin, straight from their definitions. */
static double direct_loss(bool margin, int32_t classes, const float *z, int32_t y) {
    double largest = -INFINITY, sum = 0;
    for (int32_t k = 0; k < classes; k++) {
        if (k != y) largest = fmax(largest, (double)z[k]);
        sum += exp((double)z[k] - (double)z[y]);
    }
    return margin ? largest - (double)z[y] : log(sum);
}

/* Predictions and losses belong to the images; NULL for an output changes no other. */
static int32_t check_answers(const scene *s, const char *text, bool margin, const answers *a) {
    int32_t classes = s->target->classes, fooled = 0;
    float *logits = malloc(sizeof(float) * MOST * (size_t)classes);
    test_ok(ar_target_forward(s->target, MOST, a->moved, logits));
    for (int32_t i = 0; i < MOST; i++) {
        const float *z = logits + i * classes;
        double loss = direct_loss(margin, classes, z, s->y[i]);
        assert_int_equal(a->predictions[i], ar_argmax(classes, z));
        if (!(fabs(a->losses[i] - loss) <= 1e-9 * fmax(1, fabs(loss))))
            fail_msg("%s: the loss of sample %d is %.17g, expected %.17g", text, i, a->losses[i],
                     loss);
        fooled += a->predictions[i] != s->y[i];
    }
    free(logits);
    return fooled;
}

static void check_nulls(const scene *s, const char *text, const answers *a) {
    advrob_options *options = test_options(text);
    advrob_attack *made = NULL;
    answers b = new_answers(s);
    test_ok(advrob_attack_create(s->ctx, "pgd", options, &made));
    ar_options_destroy(options);
    for (int32_t k = 0; k < 8; k++) {
        memcpy(b.moved, a->moved, sizeof(float) * MOST * (size_t)s->size);
        memcpy(b.predictions, a->predictions, sizeof(int32_t) * MOST);
        memcpy(b.losses, a->losses, sizeof(double) * MOST);
        if (k & 1) memset(b.moved, 0xff, sizeof(float) * MOST * (size_t)s->size);
        if (k & 2) memset(b.predictions, 0xff, sizeof(int32_t) * MOST);
        if (k & 4) memset(b.losses, 0xff, sizeof(double) * MOST);
        test_ok(advrob_attack_run(made, s->target, MOST, s->x, s->y, k & 1 ? b.moved : NULL,
                                  k & 2 ? b.predictions : NULL, k & 4 ? b.losses : NULL));
        same(s, text, MOST, a, &b);
    }
    advrob_attack_destroy(made);
    free_answers(&b);
}

static void test_answers(void **state) {
    (void)state;
    static const char *const texts[] = {
        "epsilon=0.01 step=0.004 steps=6",
        "epsilon=0.01 step=0.004 steps=6 early_stop=1 restarts=3",
        "epsilon=0.01 step=0.004 steps=6 loss=margin restarts=2",
        "epsilon=0.008 step=0.003 steps=3 random_start=0 loss=margin"};
    scene s;
    open_scene(&s, "tiny", 2, NULL);
    answers a = new_answers(&s);
    float *kept_x = malloc(sizeof(float) * MOST * (size_t)s.size);
    int32_t *kept_y = malloc(sizeof(int32_t) * MOST);
    memcpy(kept_x, s.x, sizeof(float) * MOST * (size_t)s.size);
    memcpy(kept_y, s.y, sizeof(int32_t) * MOST);
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        attack(&s, "pgd", texts[k], 0, MOST, &a);
        int32_t fooled = check_answers(&s, texts[k], strstr(texts[k], "margin") != NULL, &a);
        print_message("%s: %d of %d fooled\n", texts[k], fooled, MOST);
        assert_true(fooled > 2 * MOST / 5 && fooled < 9 * MOST / 10); /* or it says little */
        check_nulls(&s, texts[k], &a);
    }
    assert_memory_equal(s.x, kept_x, sizeof(float) * MOST * (size_t)s.size);
    assert_memory_equal(s.y, kept_y, sizeof(int32_t) * MOST);
    free(kept_x);
    free(kept_y);
    free_answers(&a);
    close_scene(&s);
}

static void test_early_stop(void **state) {
    (void)state;
    static const char *const texts[] = {"epsilon=0.01 step=0.004 steps=8",
                                        "epsilon=0.01 step=0.01 steps=9 restarts=2 loss=margin",
                                        "epsilon=0.015 step=0.003 steps=10 random_start=0"};
    scene s;
    char text[160];
    open_scene(&s, "tiny", 2, NULL);
    answers full = new_answers(&s), early = new_answers(&s);
    int32_t nearer = 0, whole = 0;
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        attack(&s, "pgd", texts[k], 0, MOST, &full);
        snprintf(text, sizeof text, "%s early_stop=1", texts[k]);
        attack(&s, "pgd", text, 0, MOST, &early);
        check_answers(&s, text, strstr(text, "margin") != NULL, &early);
        for (int32_t i = 0; i < MOST; i++) {
            size_t at = (size_t)i * (size_t)s.size, bytes = sizeof(float) * (size_t)s.size;
            bool equal = memcmp(full.moved + at, early.moved + at, bytes) == 0;
            if (full.predictions[i] != s.y[i]) assert_true(early.predictions[i] != s.y[i]);
            /* What was not fooled on its way went all the way. */
            if (early.predictions[i] == s.y[i]) assert_true(equal);
            nearer += !equal;
            whole += early.predictions[i] == s.y[i];
        }
    }
    assert_true(nearer > MOST / 10 && whole > MOST / 10);
    free_answers(&full);
    free_answers(&early);
    close_scene(&s);
}

static void test_restarts(void **state) {
    (void)state;
    static const char *const losses[] = {"ce", "margin"};
    scene s;
    char text[160];
    open_scene(&s, "tiny", 2, NULL);
    answers before = new_answers(&s), after = new_answers(&s), swap;
    int32_t changed = 0, won = 0;
    for (int32_t k = 0; k < 2; k++)
        for (int32_t restarts = 1; restarts <= 5; restarts++) {
            snprintf(text, sizeof text, "epsilon=0.02 step=0.01 steps=2 loss=%s restarts=%d",
                     losses[k], restarts);
            attack(&s, "pgd", text, 0, MOST, &after);
            for (int32_t i = 0; i < MOST && restarts > 1; i++) {
                bool fooled = after.predictions[i] != s.y[i];
                bool was = before.predictions[i] != s.y[i];
                size_t at = (size_t)i * (size_t)s.size;
                assert_true(fooled || !was); /* no sample is rescued */
                if (memcmp(after.moved + at, before.moved + at, sizeof(float) * (size_t)s.size) ==
                    0)
                    continue;
                changed++;
                won += fooled && !was;
                assert_true((fooled && !was) || after.losses[i] > before.losses[i]);
            }
            swap = before;
            before = after;
            after = swap;
        }
    print_message("%d times a later run was worse, %d times it was the first to fool\n", changed,
                  won);
    assert_true(changed > MOST / 2 && won > 3);
    free_answers(&before);
    free_answers(&after);
    close_scene(&s);
}

/* ---- cancelling ---- */

typedef struct canceller {
    advrob_context *ctx;
    double at;
} canceller;

static void *cancel_later(void *arg) {
    canceller *c = arg;
    usleep(30000);
    c->at = ar_clock();
    advrob_context_cancel(c->ctx);
    return NULL;
}

/* Seconds from the cancel to the return of an attack that would take minutes. */
static double cancel_once(const scene *s, advrob_attack *long_run) {
    canceller c = {s->ctx, 0};
    pthread_t thread;
    int32_t predictions[MOST];
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &c), 0);
    assert_int_equal(
        advrob_attack_run(long_run, s->target, MOST, s->x, s->y, NULL, predictions, NULL),
        ADVROB_E_CANCELLED);
    double end = ar_clock();
    pthread_join(thread, NULL);
    assert_int_equal(advrob_attack_run(long_run, s->target, 1, s->x, s->y, NULL, NULL, NULL),
                     ADVROB_E_CANCELLED); /* until it is rearmed */
    advrob_context_rearm(s->ctx);
    return end - c.at;
}

typedef struct watcher {
    pthread_t thread;
    int32_t calls, stop_at;
    int64_t last;
    double stopped;
} watcher;

static int32_t watch(void *user, const char *what, int64_t done, int64_t total, double value) {
    watcher *w = user;
    assert_true(pthread_equal(w->thread, pthread_self()));
    assert_string_equal(what, "attack");
    assert_true(done >= w->last && done <= total && total == MOST && isnan(value));
    w->last = done;
    if (++w->calls != w->stop_at) return 0;
    w->stopped = ar_clock();
    return 1;
}

static void check_cancel(int32_t threads) {
    static test_allocator allocator;
    scene s;
    open_scene(&s, "tiny", threads, &allocator);
    advrob_options *options = test_options("steps=1000000");
    advrob_attack *long_run = NULL, *short_run = NULL;
    answers before = new_answers(&s), after = new_answers(&s);
    watcher w;
    double least = INFINITY;
    attack(&s, "pgd", "steps=3", 0, MOST, &before);
    test_ok(advrob_attack_create(s.ctx, "pgd", options, &long_run));
    ar_options_destroy(options);
    for (int32_t k = 0; k < 5 && !(least < 0.2); k++) /* the machine may be busy */
        least = fmin(least, cancel_once(&s, long_run));
    print_message("%d threads: cancelled within %.1f ms\n", threads, least * 1e3);
    assert_true(least < 0.2);
    /* The hook is heard while a tile is under way, and no tile goes on after it said stop. */
    double seconds = INFINITY;
    advrob_context_set_progress(s.ctx, watch, &w);
    for (int32_t k = 0; k < 5 && !(seconds < 0.2); k++) {
        w = (watcher){.thread = pthread_self(), .stop_at = 3};
        assert_int_equal(
            advrob_attack_run(long_run, s.target, MOST, s.x, s.y, after.moved, NULL, NULL),
            ADVROB_E_CANCELLED);
        seconds = fmin(seconds, ar_clock() - w.stopped);
        assert_true(w.calls == 3 && w.last < MOST);
        assert_non_null(strstr(ar_message(), "hook"));
    }
    assert_true(seconds < 0.2);
    options = test_options("steps=30");
    test_ok(advrob_attack_create(s.ctx, "pgd", options, &short_run));
    ar_options_destroy(options);
    w = (watcher){.thread = pthread_self()};
    test_ok(advrob_attack_run(short_run, s.target, MOST, s.x, s.y, after.moved, NULL, NULL));
    assert_true(w.calls >= 1 && (threads > 1 || w.last == MOST));
    advrob_context_set_progress(s.ctx, NULL, NULL);
    attack(&s, "pgd", "steps=3", 0, MOST, &after);
    same(&s, "after cancelling", MOST, &before, &after);
    advrob_attack_destroy(long_run);
    advrob_attack_destroy(short_run);
    free_answers(&before);
    free_answers(&after);
    close_scene(&s);
    test_allocator_check(&allocator);
}

static void test_cancel(void **state) {
    (void)state;
    test_guard guard = test_guard_begin();
    for (int32_t threads = 1; threads <= 3; threads++)
        check_cancel(threads);
    test_guard_check(&guard);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),  cmocka_unit_test(test_fgsm_is_one_step),
        cmocka_unit_test(test_answers),  cmocka_unit_test(test_early_stop),
        cmocka_unit_test(test_restarts), cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
