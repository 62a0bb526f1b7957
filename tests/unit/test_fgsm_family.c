/* Attacks by signed or normalised gradient steps (fgsm, bim, pgd, mi_fgsm, r_fgsm, rs_fgsm) on
 * linear models: the exact distance in l2, where the random starts lead, targets, and units by
 * channel. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"

/* ---- logits W x + b, behind callbacks; W and x in whatever units a channel has ---- */

enum { CHANNELS = 2, PIXELS = 12, MOST_CLASSES = 5 };

typedef struct linear {
    int32_t classes;
    double w[MOST_CLASSES][PIXELS], b[MOST_CLASSES];
} linear;

static double logit(const linear *m, int32_t k, const float *x) {
    double z = m->b[k];
    for (int32_t p = 0; p < PIXELS; p++)
        z += m->w[k][p] * (double)x[p];
    return z;
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    const linear *m = user;
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = 0; k < m->classes; k++)
            logits[i * m->classes + k] = (float)logit(m, k, x + i * PIXELS);
    return 0;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    const linear *m = user;
    (void)x;
    for (int64_t i = 0; i < n; i++)
        for (int32_t p = 0; p < PIXELS; p++) {
            double sum = 0;
            for (int32_t k = 0; k < m->classes; k++)
                sum += m->w[k][p] * (double)dlogits[i * m->classes + k];
            dx[i * PIXELS + p] = (float)sum;
        }
    return 0;
}

static linear draw_linear(int32_t classes, int64_t seed) {
    linear m = {.classes = classes};
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 7, 0, 0);
    for (int32_t k = 0; k < classes; k++)
        for (int32_t p = 0; p < PIXELS; p++) {
            m.w[k][p] = ar_rng_normal(&rng);
            m.b[k] -= m.w[k][p] / 2; /* so that all classes occur */
        }
    return m;
}

static advrob_target *open_target(advrob_context *ctx, linear *m, double low, double high) {
    advrob_target *target = NULL;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){CHANNELS, 2, 3}, m->classes, low, high,
                                     forward, backward, m, &target));
    return target;
}

static advrob_attack *make(advrob_context *ctx, const char *name, const char *text) {
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(advrob_attack_create(ctx, name, options, &attack));
    ar_options_destroy(options);
    return attack;
}

static void run(advrob_context *ctx, const char *name, const char *text, advrob_target *target,
                int64_t n, const float *x, const int32_t *y, float *moved, int32_t *predictions) {
    advrob_attack *attack = make(ctx, name, text);
    test_ok(advrob_attack_run(attack, target, n, x, y, moved, predictions, NULL));
    advrob_attack_destroy(attack);
}

static int32_t label(const linear *m, const float *x) {
    int32_t best = 0;
    for (int32_t k = 1; k < m->classes; k++)
        if (logit(m, k, x) > logit(m, best, x)) best = k;
    return best;
}

/* ---- distances: two classes, no box in the way; |f| / ||w||, l2, and |f| / ||w||_1, l-inf ---- */

static void test_distances(void **state) {
    (void)state;
    enum { SAMPLES = 40 };
    static const struct {
        const char *name, *norm, *more; /* step as a share of epsilon; 0: the default */
        double step;
    } cases[] = {
        {"fgsm", "l2", "", 0},
        {"pgd", "l2", "steps=60", 0.1},
        {"pgd", "l2", "steps=60 loss=margin", 0.1},
        {"bim", "l2", "", 0},
        {"mi_fgsm", "l2", "", 0},
        {"mi_fgsm", "l2", "mu=0 loss=margin", 0},
        {"bim", "linf", "", 0},
        {"mi_fgsm", "linf", "", 0},
        {"rs_fgsm", "linf", "step=1e3", 0}, /* far enough for any start */
        {"r_fgsm", "linf", "alpha=1e-9", 0},
    };
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    float *x = draw_images(SAMPLES, PIXELS, 4);
    int32_t checked = 0;
    for (int32_t i = 0; i < SAMPLES; i++) {
        const float *image = x + i * PIXELS;
        linear m = draw_linear(2, 50 + i);
        double f = logit(&m, 1, image) - logit(&m, 0, image), l1 = 0, squares = 0;
        advrob_target *target = open_target(ctx, &m, -100, 100);
        int32_t y = f > 0, prediction;
        for (int32_t p = 0; p < PIXELS; p++) {
            double d = m.w[1][p] - m.w[0][p];
            l1 += fabs(d);
            squares += d * d;
        }
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
            for (int32_t beyond = 0; beyond < 2; beyond++) {
                char text[160], step[48] = "";
                bool l2 = strcmp(cases[k].norm, "l2") == 0;
                double epsilon = fabs(f) / (l2 ? sqrt(squares) : l1) * (beyond ? 1.001 : 0.999);
                if (fabs(f) < 1e-2) continue; /* roundings of the border */
                if (cases[k].step > 0)
                    snprintf(step, sizeof step, "step=%.17g ", epsilon * cases[k].step);
                if (strcmp(cases[k].name, "r_fgsm") == 0) /* has no norm */
                    snprintf(text, sizeof text, "epsilon=%.17g %s", epsilon, cases[k].more);
                else
                    snprintf(text, sizeof text, "epsilon=%.17g norm=%s %s%s", epsilon,
                             cases[k].norm, step, cases[k].more);
                run(ctx, cases[k].name, text, target, 1, image, &y, NULL, &prediction);
                if ((prediction != y) != (beyond != 0))
                    fail_msg("sample %d, %s %s: %s", i, cases[k].name, text,
                             beyond ? "not fooled beyond its distance" : "fooled too early");
                checked++;
            }
        ar_target_release(target);
    }
    assert_true(checked > 700);
    free(x);
    ar_context_release(ctx);
}

/* ---- random starts ---- */

/* Displacements along the sign of the gradient, in epsilons. */
static double *displacements(const char *name, const char *text, int64_t n, double epsilon) {
    advrob_context *ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    linear m = draw_linear(2, 3);
    advrob_target *target = open_target(ctx, &m, -10, 10);
    float *x = draw_images(n, PIXELS, 6), *moved = malloc(sizeof(float) * (size_t)n * PIXELS);
    int32_t *y = calloc((size_t)n, sizeof(int32_t));
    double *d = malloc(sizeof(double) * (size_t)n * PIXELS);
    run(ctx, name, text, target, n, x, y, moved, NULL);
    for (int64_t i = 0; i < n * PIXELS; i++) {
        double sign = m.w[1][i % PIXELS] > m.w[0][i % PIXELS] ? 1 : -1; /* away from class 0 */
        d[i] = sign * ((double)moved[i] - (double)x[i]) / epsilon;
    }
    free(x);
    free(moved);
    free(y);
    ar_target_release(target);
    ar_context_release(ctx);
    return d;
}

/* alpha sign(N) + (epsilon - alpha) sign(g): two values, as likely. */
static void check_r_fgsm(const char *text, double alpha) {
    enum { N = 600, VALUES = N * PIXELS };
    int32_t ahead = 0;
    double *d = displacements("r_fgsm", text, N, 0.1);
    for (int32_t i = 0; i < VALUES; i++) {
        bool far = fabs(d[i] - 1) < 1e-5, near = fabs(d[i] - (1 - 2 * alpha)) < 1e-5;
        if (!far && !near) fail_msg("%s: moved by %.6g epsilons", text, d[i]);
        ahead += far;
    }
    assert_true(abs(ahead - VALUES / 2) < 5 * sqrt(VALUES) / 2); /* 5 standard errors */
    free(d);
}

/* A uniform start u in [-1, 1], then 1.25 on, at most to 1: u > -0.25 in 0.625 of all. */
static void check_rs_fgsm(void) {
    enum { N = 600, VALUES = N * PIXELS };
    int32_t ends = 0, others = 0;
    double sum = 0;
    double *d = displacements("rs_fgsm", "epsilon=0.1", N, 0.1);
    for (int32_t i = 0; i < VALUES; i++) {
        assert_true(d[i] > 0.25 - 1e-5 && d[i] < 1 + 1e-5);
        if (d[i] > 1 - 1e-5) {
            ends++;
            continue;
        }
        others++;
        sum += d[i];
    }
    assert_true(fabs(ends - 0.625 * VALUES) < 5 * sqrt(0.625 * 0.375 * VALUES));
    assert_true(fabs(sum / others - 0.625) < 5 * 0.75 / sqrt(12.0 * others));
    free(d);
}

static void test_random_starts(void **state) {
    (void)state;
    check_r_fgsm("epsilon=0.1", 0.5);
    check_r_fgsm("epsilon=0.1 alpha=0.02", 0.2);
    check_r_fgsm("epsilon=0.1 alpha=0.5", 1); /* no more than epsilon */
    check_rs_fgsm();
}

/* ---- units: normalised images are the same attack as pixels ---- */

static void test_units(void **state) {
    (void)state;
    enum { N = 50 };
    static const char *const cases[][2] = {{"fgsm", ""},
                                           {"bim", ""},
                                           {"pgd", "random_start=0 step=0.03"},
                                           {"mi_fgsm", "mu=0.8"},
                                           {"fgsm", "norm=l2"},
                                           {"mi_fgsm", "norm=l2 mu=0.8"},
                                           {"bim", "norm=l2"},
                                           {"rs_fgsm", "seed=4"},
                                           {"r_fgsm", "seed=4"},
                                           {"rs_fgsm", "norm=l2"},
                                           {"pgd", "norm=l2 step=0.03 steps=5"}};
    static const double mean[CHANNELS] = {0.5, 0.3}, std[CHANNELS] = {0.25, 0.02};
    const double low[] = {(0 - mean[0]) / std[0], (0 - mean[1]) / std[1]};
    const double high[] = {(1 - mean[0]) / std[0], (1 - mean[1]) / std[1]};
    const double unit[] = {1 / std[0], 1 / std[1]};
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    linear m = draw_linear(3, 9), normalised = m;
    float *x = draw_images(N, PIXELS, 5), z[N * PIXELS], a[N * PIXELS], b[N * PIXELS];
    int32_t y[N];
    advrob_target *pixels = open_target(ctx, &m, 0, 1);
    advrob_target *other = open_target(ctx, &normalised, 0, 1);
    double box[3][CHANNELS];
    test_ok(advrob_target_set_box(other, low, high, unit));
    test_ok(advrob_target_box(other, box[0], box[1], box[2]));
    assert_memory_equal(box[0], low, sizeof low);
    assert_memory_equal(box[1], high, sizeof high);
    assert_memory_equal(box[2], unit, sizeof unit);
    for (int32_t k = 0; k < m.classes; k++)
        for (int32_t p = 0; p < PIXELS; p++) {
            int32_t c = p / (PIXELS / CHANNELS);
            normalised.w[k][p] = m.w[k][p] * std[c];
            normalised.b[k] += m.w[k][p] * mean[c];
        }
    for (int32_t i = 0; i < N * PIXELS; i++) {
        int32_t c = i % PIXELS / (PIXELS / CHANNELS);
        z[i] = (float)(((double)x[i] - mean[c]) / std[c]);
    }
    for (int32_t i = 0; i < N; i++)
        y[i] = label(&m, x + i * PIXELS);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char text[160];
        snprintf(text, sizeof text, "epsilon=0.1 loss=margin %s", cases[k][1]);
        run(ctx, cases[k][0], text, pixels, N, x, y, a, NULL);
        run(ctx, cases[k][0], text, other, N, z, y, b, NULL);
        int32_t moved = 0;
        for (int32_t i = 0; i < N * PIXELS; i++) {
            int32_t c = i % PIXELS / (PIXELS / CHANNELS);
            double back = (double)b[i] * std[c] + mean[c];
            moved += fabs((double)a[i] - (double)x[i]) > 0.01;
            if (fabs(back - (double)a[i]) > 1e-5)
                fail_msg("%s %s: pixel %d is %.7g, %.7g of normalised images", cases[k][0], text, i,
                         (double)a[i], back);
        }
        assert_true(moved > N * PIXELS / 4);
    }
    ar_target_release(pixels);
    ar_target_release(other);
    free(x);
    ar_context_release(ctx);
}

/* ---- targets ---- */

/* With no box in the way some image within reach is of any class: those that iterate find it on
 * linear models always, one step mostly. */
static void test_targets(void **state) {
    (void)state;
    enum { N = 60 };
    static const char *const names[] = {"fgsm", "pgd", "bim", "mi_fgsm", "r_fgsm", "rs_fgsm"};
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    linear m = draw_linear(5, 12);
    advrob_target *target = open_target(ctx, &m, -100, 100);
    float *x = draw_images(N, PIXELS, 13);
    int32_t y[N], aims[N], got[N];
    for (int32_t i = 0; i < N; i++) {
        y[i] = label(&m, x + i * PIXELS);
        aims[i] = (y[i] + 1 + i % 4) % 5;
    }
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        char text[160];
        double losses[N];
        bool iterates = k >= 1 && k <= 3;
        snprintf(text, sizeof text, "targeted=1 loss=ce epsilon=2%s%s",
                 iterates ? " step=0.1 steps=100" : "",
                 strcmp(names[k], "r_fgsm") == 0 ? " alpha=0.1" : "");
        advrob_attack *attack = make(ctx, names[k], text);
        test_ok(advrob_attack_run_targeted(attack, target, N, x, y, aims, NULL, got, losses));
        int32_t reached = 0;
        for (int32_t i = 0; i < N; i++)
            reached += got[i] == aims[i];
        print_message("%s reaches %d of %d targets\n", names[k], reached, N);
        assert_true(iterates ? reached == N : reached > N / 2);
        advrob_attack_destroy(attack);

        snprintf(text, sizeof text, "targeted=1 epsilon=%.17g%s", 0.0, iterates ? " steps=3" : "");
        attack = make(ctx, names[k], text);
        test_ok(advrob_attack_run_targeted(attack, target, N, x, y, aims, NULL, got, NULL));
        for (int32_t i = 0; i < N; i++)
            assert_int_equal(got[i], y[i]);

        /* What is refused. */
        assert_int_equal(advrob_attack_run(attack, target, N, x, y, NULL, got, NULL),
                         ADVROB_E_INVALID);
        assert_non_null(strstr(ar_message(), "no targets"));
        int32_t kept = aims[7];
        for (int32_t bad = 0; bad < 3; bad++) {
            aims[7] = bad == 0 ? y[7] : bad == 1 ? 5 : -1;
            assert_int_equal(
                advrob_attack_run_targeted(attack, target, N, x, y, aims, NULL, got, NULL),
                ADVROB_E_RANGE);
            assert_non_null(strstr(ar_message(), "target 7 is"));
        }
        aims[7] = kept;
        advrob_attack_destroy(attack);
        attack = make(ctx, names[k], "");
        assert_int_equal(advrob_attack_run_targeted(attack, target, N, x, y, aims, NULL, got, NULL),
                         ADVROB_E_INVALID);
        assert_non_null(strstr(ar_message(), "targeted"));
        advrob_attack_destroy(attack);
    }
    ar_target_release(target);
    free(x);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distances),
        cmocka_unit_test(test_random_starts),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
