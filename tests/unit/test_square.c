/* The Square Attack where it can be computed by hand: on linear models it fools no image from
 * nearer than its distance, and all from a little farther; a longer search continues a shorter one;
 * every sample draws its own squares; queries are counted. Its paths are in test_square_golden. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"

enum { SIDE = 6, PIXELS = SIDE * SIDE, SAMPLES = 60 };

/* Logits (0, f), f = w x + b; no gradients. */
typedef struct linear {
    double w[PIXELS], b;
    int64_t images;
} linear;

static double value(const linear *m, const float *x) {
    double f = m->b;
    for (int32_t p = 0; p < PIXELS; p++)
        f += m->w[p] * (double)x[p];
    return f;
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    linear *m = user;
    m->images += n;
    for (int64_t i = 0; i < n; i++) {
        logits[2 * i] = 0;
        logits[2 * i + 1] = (float)value(m, x + i * PIXELS);
    }
    return 0;
}

typedef struct scene {
    advrob_context *ctx;
    advrob_target *target;
    linear m;
    float *x, moved[SAMPLES * PIXELS];
    int32_t y[SAMPLES];
    ar_attack_record records[SAMPLES];
} scene;

static void open_scene(scene *s) {
    ar_rng rng;
    *s = (scene){.x = draw_images(SAMPLES, PIXELS, 5)};
    ar_rng_init(&rng, 4, AR_RNG_TEST, 3, 0, 0);
    for (int32_t p = 0; p < PIXELS; p++) {
        s->m.w[p] = ar_rng_normal(&rng);
        s->m.b -= s->m.w[p] / 2;
    }
    s->ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    test_ok(ar_target_from_callbacks(s->ctx, (ar_shape){1, SIDE, SIDE}, 2, -100, 100, forward, NULL,
                                     &s->m, &s->target));
    for (int32_t i = 0; i < SAMPLES; i++)
        s->y[i] = value(&s->m, s->x + i * PIXELS) > 0;
}

static void close_scene(scene *s) {
    ar_target_release(s->target);
    ar_context_release(s->ctx);
    free(s->x);
}

static void run(scene *s, const char *text, const int64_t *ids) {
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(advrob_attack_create(s->ctx, "square", options, &attack));
    ar_options_destroy(options);
    ar_attack_call call = {.n = SAMPLES,
                           .x = s->x,
                           .y = s->y,
                           .ids = ids,
                           .adversarial = s->moved,
                           .records = s->records};
    test_ok(ar_attack_run(attack, s->target, NULL, &call));
    ar_attack_release(attack);
}

/* Norms of w: of all pixels, and of those that squares reach (not the last row and column, which
 * keep the stripes they start with). */
typedef struct norms {
    double l1, inner, l2;
} norms;

static norms norms_of(const linear *m) {
    norms n = {0, 0, 0};
    for (int32_t p = 0; p < PIXELS; p++) {
        bool inside = p / SIDE < SIDE - 1 && p % SIDE < SIDE - 1;
        n.l1 += fabs(m->w[p]);
        n.inner += inside ? fabs(m->w[p]) : 0;
        n.l2 += m->w[p] * m->w[p];
    }
    n.l2 = sqrt(n.l2);
    return n;
}

static void test_distance(void **state) {
    (void)state;
    static const double epsilons[] = {0.02, 0.05, 0.1, 0.2};
    scene s;
    char text[128];
    int32_t sure = 0, safe = 0, fooled_l2 = 0, within_l2 = 0;
    open_scene(&s);
    norms n = norms_of(&s.m);
    for (size_t e = 0; e < sizeof epsilons / sizeof epsilons[0]; e++) {
        snprintf(text, sizeof text, "epsilon=%g rescale=1 queries=3000", epsilons[e]);
        run(&s, text, NULL);
        for (int32_t i = 0; i < SAMPLES; i++) {
            double f = fabs(value(&s.m, s.x + i * PIXELS));
            bool fooled = s.records[i].fooled;
            if (f > epsilons[e] * n.l1 * (1 + 1e-6)) {
                safe++;
                assert_false(fooled);
            }
            /* Where the inner pixels outweigh any stripes on the others. */
            if (f < epsilons[e] * (2 * n.inner - n.l1) * 0.999) {
                sure++;
                assert_true(fooled);
            }
        }
        snprintf(text, sizeof text, "norm=l2 epsilon=%g rescale=1 queries=1000", 4 * epsilons[e]);
        run(&s, text, NULL);
        for (int32_t i = 0; i < SAMPLES; i++) {
            double distance = fabs(value(&s.m, s.x + i * PIXELS)) / n.l2;
            bool fooled = s.records[i].fooled;
            if (distance > 4 * epsilons[e] * (1 + 1e-6)) assert_false(fooled);
            if (distance < 1.3 * epsilons[e]) { /* a third of what would do */
                within_l2++;
                fooled_l2 += fooled;
            }
        }
    }
    print_message("l-inf: %d are out of reach, %d within; l2: %d of %d within a third of epsilon\n",
                  safe, sure, fooled_l2, within_l2);
    assert_true(sure > SAMPLES / 2 && safe > SAMPLES / 2 && within_l2 > SAMPLES / 2);
    assert_true(fooled_l2 >= 0.95 * within_l2);
    close_scene(&s);
}

/* The first queries of a longer search are those of a shorter one; what is counted. */
static void check_queries(const char *norm) {
    scene s;
    char text[128];
    int32_t later = 0;
    open_scene(&s);
    float *before = malloc(sizeof s.moved);
    ar_attack_record *old = malloc(sizeof s.records);
    for (int32_t queries = 0; queries <= 320; queries = queries == 0 ? 20 : 2 * queries) {
        int64_t sum = 0;
        snprintf(text, sizeof text, "norm=%s epsilon=%g queries=%d", norm,
                 strcmp(norm, "l2") == 0 ? 0.4 : 0.1, queries);
        s.m.images = 0;
        run(&s, text, NULL);
        for (int32_t i = 0; i < SAMPLES; i++) {
            const ar_attack_record *r = &s.records[i];
            sum += r->forwards;
            assert_int_equal(r->backwards, 0);
            /* The image itself, the start, and a query for each square. */
            assert_true(r->fooled ? r->forwards <= queries + 2 : r->forwards == queries + 2);
            if (queries > 0 && old[i].fooled) {
                assert_int_equal(r->forwards, old[i].forwards);
                assert_memory_equal(s.moved + i * PIXELS, before + i * PIXELS,
                                    sizeof(float) * PIXELS);
            }
            if (queries > 0) assert_true(r->loss >= old[i].loss || old[i].fooled);
            later += queries > 0 && r->fooled && !old[i].fooled;
        }
        assert_int_equal(s.m.images, sum + SAMPLES); /* and each answer is checked */
        memcpy(before, s.moved, sizeof s.moved);
        memcpy(old, s.records, sizeof s.records);
    }
    assert_true(later > 5);
    free(before);
    free(old);
    close_scene(&s);
}

static void test_queries(void **state) {
    (void)state;
    check_queries("linf");
    check_queries("l2");
}

/* Equal images with other numbers go other ways, with equal ones the same way; wrong ones stay. */
static void test_own_squares(void **state) {
    (void)state;
    static const char *const texts[] = {"epsilon=0.002 queries=50",
                                        "norm=l2 epsilon=0.004 queries=50"};
    int64_t ids[SAMPLES];
    scene s;
    open_scene(&s);
    for (int32_t i = 0; i < SAMPLES; i++) {
        memcpy(s.x + i * PIXELS, s.x, sizeof(float) * PIXELS);
        s.y[i] = s.y[0];
        ids[i] = i / 2;
    }
    assert_true(fabs(value(&s.m, s.x)) > 0.002 * norms_of(&s.m).l1); /* out of reach: all goes on */
    for (int32_t k = 0; k < 2; k++) {
        run(&s, texts[k], ids);
        for (int32_t i = 1; i < SAMPLES; i++) {
            bool same = memcmp(s.moved + i * PIXELS, s.moved + (i - 1) * PIXELS,
                               sizeof(float) * PIXELS) == 0;
            assert_true(same == (i % 2 == 1));
        }
    }
    for (int32_t i = 0; i < SAMPLES; i++)
        s.y[i] = 1 - s.y[i];
    run(&s, texts[0], ids);
    assert_memory_equal(s.moved, s.x, sizeof s.moved);
    for (int32_t i = 0; i < SAMPLES; i++)
        assert_true(s.records[i].fooled && s.records[i].forwards == 1);
    close_scene(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_own_squares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
