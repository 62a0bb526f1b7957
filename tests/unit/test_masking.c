/* The masking check on nets that hide their gradients on purpose, each of which raises its flag; on
 * plain nets, that raise none; and its thresholds, to the image. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"

enum { N = 400, SIZE = 64, CLASSES = 10 };

static const char *const flags[] = {"square_stronger", "transfer_stronger", "fgsm_stronger",
                                    "above_clean",     "large_epsilon",     "zero_gradients",
                                    "random",          "softmax",           "no_gradient"};
enum { SQUARE, TRANSFER, FGSM, ABOVE, LARGE, ZERO, RANDOM, SOFTMAX, BLIND, FLAGS };

static advrob_context *ctx;
static advrob_target *plain;
static advrob_dataset *data;

/* Images on 8-bit values, and a net that was trained on others of their kind. */
static int set_up(void **state) {
    (void)state;
    float x[SIZE];
    int32_t y;
    ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    advrob_dataset *train = test_dataset(ctx, 800, (ar_shape){1, 8, 8}, CLASSES, 0.35, 1);
    advrob_dataset *raw = test_dataset(ctx, N, (ar_shape){1, 8, 8}, CLASSES, 0.35, 2);
    float *images = malloc(sizeof(float) * N * SIZE);
    int32_t labels[N];
    for (int64_t i = 0; i < N; i++) {
        test_ok(ar_dataset_gather(raw, i, NULL, 1, x, &y));
        for (int32_t p = 0; p < SIZE; p++)
            images[i * SIZE + p] = rintf(x[p] * 255) / 255;
        labels[i] = i % 7 == 3 ? (y + 1) % CLASSES : y; /* wrong when clean */
    }
    data = test_dataset_of(ctx, N, (ar_shape){1, 8, 8}, CLASSES, images, labels);
    advrob_model *model = test_zoo(ctx, "tiny");
    test_ok(finetune_run(model, "standard", "epochs=12 batch_size=32 lr=0.05 momentum=0.9", train,
                         NULL, NULL));
    test_ok(ar_target_from_model(model, &plain));
    ar_model_release(model);
    ar_dataset_release(raw);
    ar_dataset_release(train);
    free(images);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_target_release(plain);
    ar_dataset_release(data);
    ar_context_release(ctx);
    return 0;
}

/* ---- Nets that hide something ---- */

enum { PLAIN, TIMES_1000, ROUNDED, STOCHASTIC, ZERO_BACKWARD, PROBABILITIES, NEGATED, OFF_LATTICE };

typedef struct mask {
    int32_t way;
    int64_t passes;
} mask;

static void change_input(mask *m, int64_t n, const float *x, float *changed) {
    ar_rng rng;
    ar_rng_init(&rng, 3, AR_RNG_TEST, m->passes++, 0, 0);
    for (int64_t i = 0; i < n * SIZE; i++) {
        changed[i] = x[i];
        if (m->way == ROUNDED) changed[i] = rintf(x[i] * 5) / 5;
        if (m->way == STOCHASTIC)
            changed[i] = fminf(fmaxf(x[i] + 0.2f * (ar_rng_uniform(&rng) - 0.5f), 0), 1);
    }
}

static void softmax(float *z) {
    double sum = 0, most = -INFINITY;
    for (int32_t c = 0; c < CLASSES; c++)
        most = fmax(most, (double)z[c]);
    for (int32_t c = 0; c < CLASSES; c++)
        sum += exp((double)z[c] - most);
    for (int32_t c = 0; c < CLASSES; c++)
        z[c] = (float)(exp((double)z[c] - most) / sum);
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    mask *m = user;
    float *changed = malloc(sizeof(float) * (size_t)(n * SIZE));
    change_input(m, n, x, changed);
    int32_t status = ar_target_forward(plain, n, changed, logits);
    for (int64_t i = 0; i < n; i++) {
        if (m->way == PROBABILITIES) softmax(logits + i * CLASSES);
        for (int32_t c = 0; m->way == TIMES_1000 && c < CLASSES; c++)
            logits[i * CLASSES + c] *= 1000;
    }
    free(changed);
    return status < 0;
}

static bool on_lattice(const float *x) {
    for (int32_t p = 0; p < SIZE; p++)
        if (fabsf(x[p] * 255 - rintf(x[p] * 255)) > 1e-3f) return false;
    return true;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    mask *m = user;
    void *session = NULL;
    float z[CLASSES], dz[CLASSES];
    int32_t status = plain->open(plain, &session);
    for (int64_t i = 0; i < n && status >= 0; i++) {
        const float *image = x + i * SIZE, *d = dlogits + i * CLASSES;
        status = plain->forward(plain, session, 1, image, z);
        double sum = 0;
        if (m->way == PROBABILITIES) {
            softmax(z);
            for (int32_t c = 0; c < CLASSES; c++)
                sum += (double)z[c] * (double)d[c];
        }
        for (int32_t c = 0; c < CLASSES; c++)
            dz[c] = m->way == PROBABILITIES ? (float)((double)z[c] * ((double)d[c] - sum)) : d[c];
        if (status >= 0) status = plain->backward(plain, session, 1, image, dz, dx + i * SIZE);
        bool turned = m->way == NEGATED || (m->way == OFF_LATTICE && !on_lattice(image));
        bool none = m->way == ROUNDED || m->way == ZERO_BACKWARD;
        for (int32_t p = 0; p < SIZE; p++)
            dx[i * SIZE + p] *= none ? 0.0f : turned ? -1.0f : 1.0f;
    }
    plain->close(plain, session);
    return status < 0;
}

/* ---- Checks ---- */

static double number(const advrob_report *report, const char *column) {
    double value = NAN;
    test_ok(advrob_report_get_f64(report, 0, column, &value));
    return value;
}

static void print_check(const char *what, const advrob_report *report) {
    const char *reasons = NULL;
    test_ok(advrob_report_get_str(report, 0, "reasons", &reasons));
    print_message("%s: %s\n", what, reasons[0] != 0 ? reasons : "no flag");
}

/* Flags as a set of bits; verdict and reasons agree with them. */
static uint32_t raised(const advrob_report *report) {
    const char *verdict = NULL, *reasons = NULL;
    uint32_t set = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < FLAGS; i++) {
        char column[64];
        snprintf(column, sizeof column, "flag_%s", flags[i]);
        double flag = number(report, column);
        assert_true(flag == 0 || flag == 1);
        set |= (uint32_t)flag << i;
        count += flag == 1;
    }
    test_ok(advrob_report_get_str(report, 0, "verdict", &verdict));
    test_ok(advrob_report_get_str(report, 0, "reasons", &reasons));
    assert_string_equal(verdict, set == 0 ? "reliable" : "unreliable");
    for (const char *at = reasons; *at != 0; at++)
        count -= at[0] == ';';
    assert_int_equal(count, set == 0 ? 0 : 1);
    return set;
}

/* With `transfer`: also from the plain net. */
static advrob_report *check(advrob_target *target, bool transfer, const char *text) {
    advrob_report *report = NULL;
    advrob_options *options = test_options(text);
    test_ok(advrob_report_create(ctx, &report));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_target_set_source(target, transfer ? plain : NULL));
    test_ok(advrob_report_check(report, target, data, options));
    ar_options_destroy(options);
    return report;
}

#define BALL "epsilon=0.15 steps=20 queries=500"

static uint32_t check_mask(const char *what, int32_t way, bool gradient, bool transfer) {
    mask m = {.way = way};
    advrob_target *target = NULL;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, CLASSES, 0, 1, forward,
                                     gradient ? backward : NULL, &m, &target));
    advrob_report *report = check(target, transfer, BALL);
    uint32_t set = raised(report);
    print_check(what, report);
    advrob_report_destroy(report);
    ar_target_release(target);
    return set;
}

static void test_masks(void **state) {
    (void)state;
    uint32_t set = check_mask("plain", PLAIN, true, true);
    assert_int_equal(set, 0);
    set = check_mask("logits x 1000", TIMES_1000, true, true);
    assert_true((set >> ZERO & 1) && (set >> LARGE & 1) && (set >> TRANSFER & 1));
    assert_false(set >> RANDOM & 1);
    set = check_mask("rounded input", ROUNDED, true, true);
    assert_true((set >> ZERO & 1) && (set >> SQUARE & 1) && (set >> TRANSFER & 1));
    set = check_mask("stochastic", STOCHASTIC, true, false);
    assert_true((set >> RANDOM & 1) && !(set >> ZERO & 1) && !(set >> TRANSFER & 1));
    set = check_mask("zero backward", ZERO_BACKWARD, true, true);
    assert_true((set >> ZERO & 1) && (set >> SQUARE & 1) && (set >> TRANSFER & 1));
    assert_true(set >> LARGE & 1);
    set = check_mask("softmax", PROBABILITIES, true, false);
    assert_true(set >> SOFTMAX & 1);
    set = check_mask("gradient negated", NEGATED, true, false);
    assert_true((set >> ABOVE & 1) && (set >> SQUARE & 1) && !(set >> ZERO & 1));
    set = check_mask("gradient at images alone", OFF_LATTICE, true, false);
    assert_true(set >> FGSM & 1);
    set = check_mask("no gradient", PLAIN, false, false);
    assert_int_equal(set, 1u << BLIND);
}

/* The figures of a plain net, recounted; the same for any batch and thread. */
static int64_t count_right(const char *name, const char *text, bool all) {
    float *x = malloc(sizeof(float) * N * SIZE), z[N * CLASSES];
    int32_t y[N], predictions[N];
    int64_t right = 0;
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(ar_dataset_gather(data, 0, NULL, N, x, y));
    test_ok(ar_target_forward(plain, N, x, z));
    test_ok(ar_attack_create(ctx, name, options, &attack));
    test_ok(advrob_attack_run(attack, plain, N, x, y, NULL, predictions, NULL));
    for (int32_t i = 0; i < N; i++)
        right += predictions[i] == y[i] && (all || ar_argmax(CLASSES, z + i * CLASSES) == y[i]);
    ar_attack_release(attack);
    ar_options_destroy(options);
    free(x);
    return right;
}

static void test_figures(void **state) {
    (void)state;
    static const char *const texts[] = {BALL, BALL " batch_size=7", BALL " batch_size=64"};
    const struct {
        const char *column;
        int64_t right;
    } wanted[] = {
        {"check_clean_accuracy", count_right("fgsm", "epsilon=0", false)},
        {"check_fgsm_accuracy", count_right("fgsm", "epsilon=0.15", false)},
        {"check_pgd_accuracy", count_right("pgd", "epsilon=0.15 step=0.01875 steps=20", false)},
        {"check_pgd_raw_accuracy", count_right("pgd", "epsilon=0.15 step=0.01875 steps=20", true)},
        {"check_square_accuracy", count_right("square", "epsilon=0.15 queries=500", false)},
        {"check_large_accuracy",
         count_right("pgd", "epsilon=0.5 step=0.0625 steps=20 early_stop=1", false)},
    };
    for (int32_t t = 0; t < (TEST_SANITIZED ? 1 : 3); t++) {
        advrob_report *report = check(plain, false, texts[t]);
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
            if (t == 0) print_message("%s %d of %d\n", wanted[i].column, (int)wanted[i].right, N);
            assert_true(number(report, wanted[i].column) == (double)wanted[i].right / N);
        }
        assert_true(number(report, "check_large_epsilon") == 0.5);
        assert_true(number(report, "check_zero_gradients") == 0);
        assert_true(number(report, "check_noise") == 0);
        assert_null(ar_report_get(report, 0, "check_transfer_accuracy"));
        assert_int_equal(raised(report), 0);
        advrob_report_destroy(report);
    }
    assert_true(wanted[2].right < wanted[1].right && wanted[1].right < wanted[0].right);
    advrob_target *twin = NULL;
    test_ok(ar_target_from_model(plain->model, &twin));
    advrob_report *report = check(twin, true, "norm=l2 epsilon=0.5 steps=20 queries=300");
    assert_int_equal(raised(report), 0);
    print_check("l2", report);
    advrob_report_destroy(report);
    ar_target_release(twin);
}

/* ---- Thresholds ---- */

/* Two classes; image i shows its number in its first pixel and is right, but the first `fragile`
 * fall where nearly all pixels are moved by nearly all of epsilon: as Square's first stripes do,
 * and a random start without gradient does not. */
typedef struct brittle {
    int32_t n, fragile;
} brittle;

#define SMALL 1e-4

static int32_t brittle_forward(void *user, int64_t n, const float *x, float *logits) {
    const brittle *b = user;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = (int32_t)lrint(((double)x[i * SIZE] - 0.2) / 0.6 * b->n);
        double moved = 0;
        for (int32_t p = 1; p < SIZE; p++)
            moved += fabs((double)x[i * SIZE + p] - 0.5) / (SIZE - 1);
        bool fallen = id < b->fragile && moved > 0.9 * SMALL;
        logits[i * 2 + id % 2] = fallen ? -1.0f : 2.0f;
        logits[i * 2 + (id + 1) % 2] = fallen ? 2.0f : -1.0f;
    }
    return 0;
}

static int32_t no_slope(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    (void)user;
    (void)x;
    (void)dlogits;
    memset(dx, 0, sizeof(float) * (size_t)(n * SIZE));
    return 0;
}

static bool square_flag(int32_t n, int32_t fragile) {
    brittle b = {n, fragile};
    float *x = malloc(sizeof(float) * (size_t)n * SIZE);
    int32_t *y = malloc(sizeof(int32_t) * (size_t)n);
    advrob_dataset *before = data;
    advrob_target *target = NULL;
    for (int32_t i = 0; i < n; i++) {
        for (int32_t p = 0; p < SIZE; p++)
            x[i * SIZE + p] = p == 0 ? (float)(0.2 + 0.6 * i / n) : 0.5f;
        y[i] = i % 2;
    }
    data = test_dataset_of(ctx, n, (ar_shape){1, 8, 8}, 2, x, y);
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, 2, 0, 1, brittle_forward, no_slope,
                                     &b, &target));
    advrob_report *report = check(target, NULL, "epsilon=1e-4 steps=1 queries=1 images=0");
    assert_true(number(report, "check_images") == n);
    assert_true(number(report, "check_pgd_accuracy") == 1);
    assert_true(number(report, "check_square_accuracy") == (double)(n - fragile) / n);
    assert_true(number(report, "check_chance") == 0.5);
    bool flag = raised(report) & 1u << SQUARE;
    advrob_report_destroy(report);
    ar_target_release(target);
    ar_dataset_release(data);
    data = before;
    free(x);
    free(y);
    return flag;
}

/* k of n images: a difference k / n with the deviation sqrt(k / n - (k / n)^2) / sqrt(n). Of 400
 * images the 3 deviations decide (k (1 + 9 / n) > 9), of 1000 the point. */
static void test_thresholds(void **state) {
    (void)state;
    assert_false(square_flag(400, 0));
    assert_false(square_flag(400, 8));
    assert_true(square_flag(400, 9));
    assert_false(square_flag(1000, 10));
    assert_true(square_flag(1000, 11));
}

static void test_refused(void **state) {
    (void)state;
    advrob_report *report = NULL;
    advrob_target *other = NULL;
    mask m = {.way = PLAIN};
    test_ok(advrob_report_create(ctx, &report));
    assert_int_equal(advrob_report_check(report, plain, data, NULL), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "no row"));
    test_ok(advrob_report_add_row(report));
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 8, 8}, CLASSES, 0, 1, forward, NULL, &m,
                                     &other));
    test_ok(advrob_target_set_source(plain, other));
    ar_target_release(other);
    assert_int_equal(advrob_report_check(report, plain, data, NULL), ADVROB_E_UNSUPPORTED);
    test_ok(advrob_target_set_source(plain, NULL));
    assert_null(ar_report_get(report, 0, "verdict"));
    advrob_report_destroy(report);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
