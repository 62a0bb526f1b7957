/* Every attack that the library lists against what attack.h promises, whatever it is and whenever
 * it was added: ball and box to the bit, the lattice on every iterate, the same bits for any batch
 * and any number of threads, more never helps the defender, odd shapes, two classes, misuse. Its
 * steps, queries and targets are lowered for time where it has such options. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/attacked.h"
#include "support/images.h"

typedef void (*check_fn)(const ar_attack *kind);

static void for_each(check_fn check) {
    assert_true(ar_attack_count() >= 7);
    for (int32_t i = 0; i < ar_attack_count(); i++)
        check(ar_attack_at(i));
}

/* ---- ball, box, epsilon 0; what is counted ---- */

static void check_ball(const ar_attack *kind) {
    static const double epsilons[] = {0, 1e-7, 8.0 / 255, 0.3, 2};
    char words[128];
    scene s;
    for (int32_t units = 0; units < 2; units++) {
        int32_t most = 0;
        open_scene(&s, (ar_shape){3, 4, 5}, 4, units != 0, heavy(kind) ? 4 : 12);
        for (int32_t k = 0; norm_at(kind, k) != NULL; k++)
            for (size_t e = 0; e < sizeof epsilons / sizeof epsilons[0]; e++) {
                snprintf(words, sizeof words, "norm=%s epsilon=%.17g", norm_at(kind, k),
                         epsilons[e]);
                int32_t fooled = run(&s, kind, words, false);
                if (epsilons[e] < 1e-6) assert_int_equal(fooled, 0);
                most = fooled > most ? fooled : most;
            }
        if (most < s.n / 2) fail_msg("%s fools %d of %d at best", kind->name, most, (int)s.n);
        close_scene(&s);
    }
}

static void test_ball(void **state) {
    (void)state;
    for_each(check_ball);
}

/* Each image that the target sees is counted in its sample's record, but for the one that checks
 * the answer. */
static void check_passes(const ar_attack *kind) {
    char words[128];
    scene s;
    open_scene(&s, (ar_shape){2, 4, 4}, 3, false, heavy(kind) ? 4 : 12);
    for (int32_t k = 0; norm_at(kind, k) != NULL; k++) {
        int64_t forwards = 0, backwards = 0;
        snprintf(words, sizeof words, "norm=%s epsilon=0.05", norm_at(kind, k));
        s.net.forwards = s.net.backwards = 0;
        run(&s, kind, words, false);
        for (int64_t i = 0; i < s.n; i++) {
            forwards += s.records[i].forwards;
            backwards += s.records[i].backwards;
        }
        int64_t checks = s.net.forwards - forwards;
        /* Samples that are done may still be in a block that goes backwards. */
        assert_true(backwards <= s.net.backwards);
        if (kind->runs == NULL && kind->members == NULL)
            assert_int_equal(checks, s.n);
        else
            assert_true(checks >= s.n && checks <= 64 * s.n);
        assert_true(forwards >= s.n);
        if (!kind->needs_gradient) assert_int_equal(backwards, 0);
    }
    close_scene(&s);
}

static void test_passes(void **state) {
    (void)state;
    for_each(check_passes);
}

/* ---- batches and threads: on a model, which is concurrent ---- */

enum { BATCHED = 80 };

typedef struct answers {
    float *moved;
    ar_attack_record *records;
} answers;

static advrob_model *build_model(advrob_context *ctx) {
    static const double low[] = {-1, 0}, high[] = {1, 4}, unit[] = {2, 3};
    advrob_model *model = NULL;
    const ar_attributes conv = {
        .kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .outputs = 4, .bias = true};
    const ar_attributes linear = {.kernel = {1, 1}, .stride = {1, 1}, .outputs = 4, .bias = true};
    const char *const ops[] = {"conv2d", "relu", "flatten", "linear"};
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 5}, &model));
    for (int32_t i = 0; i < 4; i++) {
        int32_t inputs[AR_MAX_INPUTS] = {ar_model_output(model)};
        test_ok(ar_model_add(model, ops[i], ops[i], inputs,
                             i == 0   ? &conv
                             : i == 3 ? &linear
                                      : NULL,
                             NULL));
    }
    test_ok(ar_model_initialise(model, "he", 5));
    test_ok(ar_model_set_box(model, &(ar_f64_array){low, 2}, &(ar_f64_array){high, 2},
                             &(ar_f64_array){unit, 2}));
    return model;
}

/* Samples [first, first + n); their numbers by an option or by an array. */
static void run_batch(advrob_target *target, const ar_attack *kind, const char *norm,
                      const float *x, const int32_t *y, int64_t first, int64_t n, answers *a) {
    char words[160];
    int64_t size = ar_shape_count(target->shape), ids[BATCHED];
    const bool by_option = lists(kind, "first_sample") && n % 2 == 1;
    snprintf(words, sizeof words, "norm=%s epsilon=0.05 restarts=2 first_sample=%d", norm,
             by_option ? (int)first : 0);
    advrob_attack *attack = make(target->ctx, kind, words);
    for (int64_t i = 0; i < n; i++)
        ids[i] = first + i;
    ar_attack_call call = {.n = n,
                           .x = x + first * size,
                           .y = y + first,
                           .ids = by_option ? NULL : ids,
                           .adversarial = a->moved + first * size,
                           .records = a->records + first};
    test_ok(ar_attack_run(attack, target, NULL, &call));
    ar_attack_release(attack);
}

static bool same_record(const ar_attack_record *a, const ar_attack_record *b) {
    return a->forwards == b->forwards && a->backwards == b->backwards &&
           a->prediction == b->prediction && a->member == b->member && a->run == b->run &&
           a->fooled == b->fooled && memcmp(&a->loss, &b->loss, sizeof(double)) == 0 &&
           memcmp(&a->linf, &b->linf, sizeof(double)) == 0 &&
           memcmp(&a->l2, &b->l2, sizeof(double)) == 0;
}

static void compare_batches(advrob_target *target, const ar_attack *kind, const char *norm,
                            const float *x, const int32_t *y, int64_t n, answers *alone,
                            answers *batch) {
    static const int64_t sizes[] = {1, 7, 64, BATCHED};
    const int64_t size = ar_shape_count(target->shape);
    const bool first_time = alone->records[0].forwards < 0;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        answers *to = first_time && k == 0 ? alone : batch;
        for (int64_t first = 0; first < n; first += sizes[k])
            run_batch(target, kind, norm, x, y, first, n - first < sizes[k] ? n - first : sizes[k],
                      to);
        for (int64_t i = 0; i < n; i++)
            if (!same_record(&to->records[i], &alone->records[i]) ||
                memcmp(to->moved + i * size, alone->moved + i * size,
                       sizeof(float) * (size_t)size) != 0)
                fail_msg("%s, %s, %d threads, batch %d: sample %d differs from itself alone",
                         kind->name, norm, (int)ar_workers(target->ctx), (int)sizes[k], (int)i);
    }
}

static void check_batches(const ar_attack *kind) {
    const int64_t n = heavy(kind) ? 9 : BATCHED;
    for (int32_t k = 0; norm_at(kind, k) != NULL; k++) {
        answers alone = {NULL, NULL}, batch = {NULL, NULL};
        float *x = NULL;
        int32_t *y = NULL, fooled = 0;
        for (int32_t threads = 1; threads <= 3; threads++) {
            advrob_context *ctx =
                test_context_at(NULL, threads, ar_kernels_get(ar_cpu_detect(), false));
            advrob_model *model = build_model(ctx);
            advrob_target *target = NULL;
            test_ok(ar_target_from_model(model, &target));
            const int64_t size = ar_shape_count(target->shape);
            if (threads == 1) {
                float logits[BATCHED * MOST_CLASSES];
                x = draw_images(BATCHED, size, 3);
                y = draw_labels(BATCHED, target->classes, 3);
                for (int64_t i = 0; i < BATCHED * size; i++) /* into the box of its channel */
                    x[i] = i % size < size / 2 ? 2 * x[i] - 1 : 4 * x[i];
                test_ok(ar_target_forward(target, BATCHED, x, logits));
                for (int32_t i = 0; i < BATCHED; i++) /* every fifth may be wrong */
                    if (i % 5 != 0) y[i] = ar_argmax(target->classes, logits + i * target->classes);
                for (int32_t j = 0; j < 2; j++) {
                    answers *a = j == 0 ? &alone : &batch;
                    a->moved = malloc(sizeof(float) * (size_t)(BATCHED * size));
                    a->records = calloc(BATCHED, sizeof(ar_attack_record));
                }
                alone.records[0].forwards = -1;
            }
            compare_batches(target, kind, norm_at(kind, k), x, y, n, &alone, &batch);
            ar_target_release(target);
            ar_model_release(model);
            ar_context_release(ctx);
        }
        for (int64_t i = 0; i < n; i++)
            fooled += alone.records[i].fooled;
        assert_true(fooled > 0);
        free(x);
        free(y);
        free(alone.moved);
        free(alone.records);
        free(batch.moved);
        free(batch.records);
    }
}

static void test_batches(void **state) {
    (void)state;
    for_each(check_batches);
}

/* ---- more never helps the defender ---- */

/* No sample that `less` fools withstands `more`. */
static void compare_more(const ar_attack *kind, const char *norm, const char *less,
                         const char *more) {
    char words[160];
    scene s;
    bool fooled[24];
    open_scene(&s, (ar_shape){1, 5, 5}, 10, false, 24);
    for (int32_t e = 1; e <= 4; e++) {
        snprintf(words, sizeof words, "norm=%s epsilon=%g %s", norm, 0.02 * e, less);
        run(&s, kind, words, false);
        for (int64_t i = 0; i < s.n; i++)
            fooled[i] = s.records[i].fooled;
        snprintf(words, sizeof words, "norm=%s epsilon=%g %s", norm, 0.02 * e, more);
        run(&s, kind, words, false);
        for (int64_t i = 0; i < s.n; i++)
            if (fooled[i] && !s.records[i].fooled)
                fail_msg("%s: sample %d withstands %s, not %s", kind->name, (int)i, more, less);
    }
    close_scene(&s);
}

/* A list fools whom any of its members fools. */
static void compare_members(const ar_attack *kind, const char *norm) {
    char words[160];
    scene s;
    const int64_t n = heavy(kind) ? 6 : 24;
    open_scene(&s, (ar_shape){1, 5, 5}, 10, false, n);
    bool fooled[24] = {false};
    snprintf(words, sizeof words, "norm=%s epsilon=0.06", norm);
    advrob_attack *attack = make(s.ctx, kind, words);
    ar_attack_list list = {.ctx = s.ctx, .common = attack->common};
    test_ok(kind->members(attack->options, s.net.classes, &list));
    assert_true(list.count > 1);
    for (int32_t k = 0; k < list.count; k++) {
        ar_attack_call call = {.n = n, .x = s.x, .y = s.y, .records = s.records};
        assert_true(list.attacks[k]->common->epsilon == 0.06);
        assert_int_equal(list.attacks[k]->norm, attack->norm);
        test_ok(ar_attack_run(list.attacks[k], s.target, NULL, &call));
        for (int64_t i = 0; i < n; i++)
            fooled[i] = fooled[i] || s.records[i].fooled;
        ar_attack_release(list.attacks[k]);
    }
    run(&s, kind, words, false);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(s.records[i].fooled, fooled[i]);
        assert_true(s.records[i].member < list.count);
    }
    ar_attack_release(attack);
    close_scene(&s);
}

static void check_more(const ar_attack *kind) {
    for (int32_t k = 0; norm_at(kind, k) != NULL; k++) {
        if (lists(kind, "restarts")) {
            compare_more(kind, norm_at(kind, k), "restarts=1", "restarts=2");
            compare_more(kind, norm_at(kind, k), "restarts=2", "restarts=5");
        }
        if (lists(kind, "targets")) {
            compare_more(kind, norm_at(kind, k), "targets=1", "targets=3");
            compare_more(kind, norm_at(kind, k), "targets=3", "targets=9");
        }
        if (lists(kind, "queries"))
            compare_more(kind, norm_at(kind, k), "queries=20", "queries=200");
        if (kind->members != NULL) compare_members(kind, norm_at(kind, k));
    }
}

static void test_more(void **state) {
    (void)state;
    for_each(check_more);
}

/* ---- shapes, classes, samples that are wrong already ---- */

static void check_shapes(const ar_attack *kind) {
    static const ar_shape shapes[] = {{1, 1, 1}, {3, 1, 1}, {1, 1, 5}, {1, 7, 1},
                                      {1, 3, 7}, {3, 7, 3}, {2, 2, 2}, {2, 1, 40}};
    static const int32_t classes[] = {2, 3, 10};
    char words[128];
    scene s;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t c = 0; c < sizeof classes / sizeof classes[0]; c++)
            for (int32_t k = 0; norm_at(kind, k) != NULL; k++) {
                open_scene(&s, shapes[i], classes[c], i % 2 == 1, heavy(kind) ? 1 : 5);
                snprintf(words, sizeof words, "norm=%s epsilon=0.4 targets=0", norm_at(kind, k));
                run(&s, kind, words, false);
                close_scene(&s);
            }
}

static void test_shapes(void **state) {
    (void)state;
    for_each(check_shapes);
}

/* The label is the class that the net thinks least likely. */
static void check_wrong(const ar_attack *kind) {
    static const char *const more[] = {"", "targets=1 restarts=3", "early_stop=1"};
    char words[128];
    scene s;
    open_scene(&s, (ar_shape){1, 4, 4}, 5, false, 10);
    for (int64_t i = 0; i < s.n; i++) {
        double h[HIDDEN];
        hidden(&s.net, s.x + i * s.size, h);
        for (int32_t k = 0; k < s.net.classes; k++)
            if (logit(&s.net, k, h) < logit(&s.net, s.y[i], h)) s.y[i] = k;
    }
    for (int32_t k = 0; norm_at(kind, k) != NULL; k++)
        for (size_t m = 0; m < sizeof more / sizeof more[0]; m++) {
            snprintf(words, sizeof words, "norm=%s epsilon=0.03 %s", norm_at(kind, k), more[m]);
            assert_int_equal(run(&s, kind, words, false), s.n); /* and none is rescued */
        }
    close_scene(&s);
}

static void test_wrong(void **state) {
    (void)state;
    for_each(check_wrong);
}

/* ---- the lattice ---- */

static void check_lattice(const ar_attack *kind) {
    char words[128];
    scene s;
    for (int32_t units = 0; units < 2; units++) {
        open_scene(&s, (ar_shape){3, 4, 5}, 4, units != 0, heavy(kind) ? 3 : 10);
        test_ok(advrob_target_set_lattice(s.target, LATTICE));
        for (int32_t k = 0; norm_at(kind, k) != NULL; k++)
            for (int32_t e = 0; e < 3; e++) {
                int64_t moved = 0;
                snprintf(words, sizeof words, "norm=%s epsilon=%.17g restarts=2", norm_at(kind, k),
                         e == 0 ? 0.001 : e * 12.0 / 255);
                s.net.strict = true;
                s.net.strangers = 0;
                run(&s, kind, words, false);
                s.net.strict = false;
                if (s.net.strangers > 0)
                    fail_msg("%s, %s: %d values beside the lattice", kind->name, words,
                             (int)s.net.strangers);
                for (int64_t i = 0; i < s.n * s.size; i++) {
                    assert_true(on_lattice(&s.net, (int32_t)(i % s.size), s.moved[i]));
                    moved += s.moved[i] != s.x[i];
                }
                /* 0.001 reaches no other value; small steps in l2 may not either. */
                if (e == 0) assert_int_equal(moved, 0);
                if (e > 0 && strcmp(norm_at(kind, k), "linf") == 0) assert_true(moved > 0);
            }
        close_scene(&s);
    }
}

static void test_lattice(void **state) {
    (void)state;
    for_each(check_lattice);
}

/* ---- targets ---- */

static void check_targeted(const ar_attack *kind) {
    char words[128];
    scene s;
    if (!lists(kind, "targeted")) return;
    for (int32_t classes = 2; classes <= 4; classes++) {
        int32_t reached = 0;
        open_scene(&s, (ar_shape){3, 4, 5}, classes, classes == 3, 12);
        for (int32_t k = 0; norm_at(kind, k) != NULL; k++)
            for (int32_t e = 0; e < 4; e++) {
                snprintf(words, sizeof words, "targeted=1 norm=%s epsilon=%g", norm_at(kind, k),
                         e * e / 3.0);
                int32_t now = run(&s, kind, words, true);
                if (e == 0) assert_int_equal(now, 0);
                reached = now > reached ? now : reached;
            }
        if (reached < s.n / 3) fail_msg("%s reaches %d targets", kind->name, reached);
        close_scene(&s);
    }
}

static void test_targeted(void **state) {
    (void)state;
    for_each(check_targeted);
}

/* ---- transfer ---- */

/* Found on the source, judged by the target: another net behind the same box, without gradients.
 * Where both have one run, the images are those of an attack on the source. */
static void check_transfer(const ar_attack *kind) {
    char words[128];
    for (int32_t units = 0; units < 2; units++) {
        scene s, source;
        advrob_target *blind = NULL;
        open_scene(&s, (ar_shape){3, 4, 5}, 4, units != 0, heavy(kind) ? 3 : 10);
        open_scene(&source, (ar_shape){3, 4, 5}, 4, units != 0, s.n);
        for (int32_t j = 0; j < HIDDEN; j++) /* the target thinks a little otherwise */
            s.net.w[j][j] = -s.net.w[j][j];
        for (int64_t i = 0; i < s.n; i++)
            source.y[i] = s.y[i] = answer(&s.net, s.x + i * s.size);
        test_ok(ar_target_from_callbacks(s.ctx, s.net.shape, s.net.classes, 0, 1, forward, NULL,
                                         &s.net, &blind));
        test_ok(ar_target_set_box(blind, s.net.low, s.net.high, s.net.unit));
        test_ok(ar_target_set_source(blind, source.target));
        ar_target_release(s.target);
        s.target = blind;
        for (int32_t k = 0; norm_at(kind, k) != NULL; k++) {
            snprintf(words, sizeof words, "norm=%s epsilon=0.2 restarts=1", norm_at(kind, k));
            (void)run(&source, kind, words, false);
            snprintf(words, sizeof words, "norm=%s epsilon=0.2 restarts=1 transfer=1",
                     norm_at(kind, k));
            s.net.forwards = source.net.forwards = 0;
            (void)run(&s, kind, words, false);
            assert_true(source.net.forwards > 0);
            if (kind->members != NULL || kind->runs != NULL) continue;
            assert_int_equal(s.net.forwards, s.n);
            assert_memory_equal(s.moved, source.moved, sizeof(float) * (size_t)(s.n * s.size));
        }
        close_scene(&s);
        close_scene(&source);
    }
}

static void test_transfer(void **state) {
    (void)state;
    for_each(check_transfer);
}

/* ---- misuse ---- */

static void refused(scene *s, const ar_attack *kind, const advrob_attack *attack,
                    const int32_t *aims, int32_t code, const char *says) {
    ar_attack_call call = {.n = s->n, .x = s->x, .y = s->y, .targets = aims, .records = s->records};
    int64_t calls = s->net.forwards;
    int32_t status = ar_attack_run(attack, s->target, NULL, &call);
    if (status != code || strstr(ar_message(), says) == NULL)
        fail_msg("%s: %d, %s; expected %d and \"%s\"", kind->name, status, ar_message(), code,
                 says);
    assert_int_equal(s->net.forwards, calls); /* refused before anything is done */
}

static void check_misuse(const ar_attack *kind) {
    scene s;
    open_scene(&s, (ar_shape){2, 3, 3}, 4, false, 5);
    advrob_attack *attack = make(s.ctx, kind, "epsilon=0.1");
    const int32_t y = s.y[3];
    const float pixel = s.x[2 * s.size + 7];
    s.y[3] = 4;
    refused(&s, kind, attack, NULL, ADVROB_E_RANGE, "label 3 is 4");
    s.y[3] = -1;
    refused(&s, kind, attack, NULL, ADVROB_E_RANGE, "label 3 is -1");
    s.y[3] = y;
    s.x[2 * s.size + 7] = 1.25f;
    refused(&s, kind, attack, NULL, ADVROB_E_RANGE, "image 2, pixel 7 is 1.25");
    s.x[2 * s.size + 7] = NAN;
    refused(&s, kind, attack, NULL, ADVROB_E_NONFINITE, "image 2, pixel 7 is nan");
    s.x[2 * s.size + 7] = pixel;
    refused(&s, kind, attack, s.aims, ADVROB_E_INVALID, "not targeted");
    ar_attack_release(attack);
    if (lists(kind, "targets")) {
        attack = make(s.ctx, kind, "targets=4");
        refused(&s, kind, attack, NULL, ADVROB_E_RANGE, "4 targets, expected at most 3");
        ar_attack_release(attack);
    }
    if (lists(kind, "targeted")) {
        attack = make(s.ctx, kind, "epsilon=0.1 targeted=1");
        refused(&s, kind, attack, NULL, ADVROB_E_INVALID, "no targets");
        s.aims[1] = s.y[1];
        refused(&s, kind, attack, s.aims, ADVROB_E_RANGE, "target 1 is");
        s.aims[1] = 4;
        refused(&s, kind, attack, s.aims, ADVROB_E_RANGE, "target 1 is 4");
        ar_attack_release(attack);
    }
    advrob_target *blind = NULL;
    test_ok(ar_target_from_callbacks(s.ctx, s.net.shape, s.net.classes, 0, 1, forward, NULL, &s.net,
                                     &blind));
    attack = make(s.ctx, kind, "transfer=1");
    refused(&s, kind, attack, NULL, ADVROB_E_INVALID, "no source");
    test_ok(ar_target_set_source(s.target, blind));
    if (kind->needs_gradient)
        refused(&s, kind, attack, NULL, ADVROB_E_UNSUPPORTED, "the source gives none");
    test_ok(ar_target_set_lattice(blind, 255));
    refused(&s, kind, attack, NULL, ADVROB_E_INVALID, "lattice of 255 steps");
    test_ok(ar_target_set_lattice(blind, 0));
    ar_attack_release(attack);
    ar_target_release(s.target);
    s.target = blind;
    if (kind->needs_gradient) {
        attack = make(s.ctx, kind, "");
        refused(&s, kind, attack, NULL, ADVROB_E_UNSUPPORTED, "gradient");
        ar_attack_release(attack);
    } else {
        run(&s, kind, "epsilon=0.1", false);
    }
    close_scene(&s);
}

static void test_misuse(void **state) {
    (void)state;
    for_each(check_misuse);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ball),     cmocka_unit_test(test_passes),
        cmocka_unit_test(test_batches),  cmocka_unit_test(test_more),
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_lattice),  cmocka_unit_test(test_targeted),
        cmocka_unit_test(test_transfer), cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
