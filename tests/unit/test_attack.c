/* Attacks on a target that can be computed by hand, a linear model behind callbacks: how far is
 * just far enough; the ball, held exactly; random starts; and everything that is refused or fails.
 */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"

/* ---- a linear model of two classes: logits (-f / 2, f / 2), f = w x + b ---- */

enum { PIXELS = 12, CLASSES = 2 };

typedef struct linear {
    double w[PIXELS], b;
    int64_t forwards, backwards, fail_at; /* fail_at: the call that fails, from 1 */
    int32_t code;                         /* 0: a value that is not finite instead */
    bool failed;
} linear;

static double value(const linear *m, const float *x) {
    double f = m->b;
    for (int32_t i = 0; i < PIXELS; i++)
        f += m->w[i] * (double)x[i];
    return f;
}

/* Whether this call is the one that fails; `out` is then spoilt, or *code set. */
static bool fails(linear *m, float *out, int32_t *code) {
    *code = 0;
    if (m->forwards + m->backwards != m->fail_at) return false;
    m->failed = true;
    *code = m->code;
    if (m->code == 0) out[0] = NAN;
    return true;
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    linear *m = user;
    int32_t code;
    m->forwards++;
    for (int64_t i = 0; i < n; i++) {
        double f = value(m, x + i * PIXELS);
        logits[i * CLASSES] = (float)(-f / 2);
        logits[i * CLASSES + 1] = (float)(f / 2);
    }
    fails(m, logits, &code);
    return code;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    linear *m = user;
    int32_t code;
    (void)x;
    m->backwards++;
    for (int64_t i = 0; i < n; i++)
        for (int32_t p = 0; p < PIXELS; p++)
            dx[i * PIXELS + p] =
                (float)(m->w[p] / 2 *
                        ((double)dlogits[i * CLASSES + 1] - (double)dlogits[i * CLASSES]));
    fails(m, dx, &code);
    return code;
}

static void fill_linear(linear *m, int64_t seed) {
    ar_rng rng;
    *m = (linear){.b = 0};
    ar_rng_init(&rng, seed, AR_RNG_TEST, 2, 0, 0);
    for (int32_t i = 0; i < PIXELS; i++) {
        m->w[i] = 2 * (double)ar_rng_uniform(&rng) - 1;
        m->b -= m->w[i] / 2; /* so that both classes occur */
    }
    m->w[3] = 0;
}

static advrob_target *open_linear(advrob_context *ctx, linear *m, double low, double high) {
    advrob_target *target = NULL;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){3, 2, 2}, CLASSES, low, high, forward,
                                     backward, m, &target));
    return target;
}

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

static advrob_attack *open_attack(advrob_context *ctx, const char *name, const char *text) {
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(ar_attack_create(ctx, name, options, &attack));
    ar_options_destroy(options);
    return attack;
}

/* One attack by name and options. */
static void attack_with(advrob_context *ctx, const char *name, const char *text,
                        advrob_target *target, int64_t n, const float *x, const int32_t *y,
                        float *moved, int32_t *predictions, double *losses) {
    advrob_attack *attack = open_attack(ctx, name, text);
    test_ok(advrob_attack_run(attack, target, n, x, y, moved, predictions, losses));
    advrob_attack_destroy(attack);
}

/* ---- how far is far enough ---- */

/* The largest change of f against its sign that a ball of epsilon in the box allows. */
static double reach(const linear *m, const float *x, double epsilon, bool box) {
    double sum = 0, side = value(m, x) > 0 ? -1 : 1;
    for (int32_t i = 0; i < PIXELS; i++) {
        double room = side * m->w[i] > 0 ? 1 - (double)x[i] : (double)x[i];
        sum += fabs(m->w[i]) * (box ? fmin(epsilon, room) : epsilon);
    }
    return sum;
}

/* The least epsilon that flips the answer; 0 when none does. */
static double distance(const linear *m, const float *x, bool box) {
    double low = 0, high = 4, f = fabs(value(m, x));
    if (reach(m, x, high, box) <= f) return 0;
    for (int32_t i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (reach(m, x, middle, box) > f)
            high = middle;
        else
            low = middle;
    }
    return high;
}

static bool flips(advrob_context *ctx, linear *m, const char *name, const char *loss, bool box,
                  double epsilon, const float *x) {
    char text[192];
    advrob_target *target = open_linear(ctx, m, 0, 1);
    int32_t y = value(m, x) > 0, prediction;
    int length = snprintf(text, sizeof text, "epsilon=%.17g clip=%d loss=%s", epsilon, box, loss);
    if (strcmp(name, "pgd") == 0)
        snprintf(text + length, sizeof text - (size_t)length, " step=%.17g steps=25", epsilon / 10);
    attack_with(ctx, name, text, target, 1, x, &y, NULL, &prediction, NULL);
    ar_target_release(target);
    return prediction != y;
}

static void test_distance(void **state) {
    (void)state;
    enum { SAMPLES = 40 };
    static const char *const names[] = {"fgsm", "pgd"}, *const losses[] = {"ce", "margin"};
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    float *x = draw_images(SAMPLES, PIXELS, 4);
    int32_t checked = 0, active = 0;
    for (int32_t i = 0; i < SAMPLES; i++) {
        const float *image = x + i * PIXELS;
        linear m;
        fill_linear(&m, 100 + i);
        for (int32_t box = 0; box < 2; box++) {
            double d = distance(&m, image, box != 0), norm = 0;
            for (int32_t p = 0; p < PIXELS; p++)
                norm += fabs(m.w[p]);
            if (!box) assert_true(fabs(d - fabs(value(&m, image)) / norm) < 1e-12);
            if (d < 1e-3) continue; /* at the border, or out of reach within the box */
            active += box && d > 1.0001 * distance(&m, image, false);
            for (int32_t k = 0; k < 4; k++) {
                const char *name = names[k / 2], *loss = losses[k % 2];
                assert_true(flips(ctx, &m, name, loss, box != 0, 1.001 * d, image));
                assert_false(flips(ctx, &m, name, loss, box != 0, 0.999 * d, image));
                checked++;
            }
        }
    }
    print_message("%d distances, the box is active in %d samples\n", checked, active);
    assert_true(checked > 100 && active > 5);
    free(x);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- the ball ---- */

/* |moved - x| <= epsilon as real numbers, and with both sides rounded to float; in the box. */
static void check_ball(const char *where, int64_t n, const float *x, const float *moved,
                       double epsilon, bool box, double low, double high) {
    for (int64_t i = 0; i < n; i++) {
        double exact = fabs((double)moved[i] - (double)x[i]);
        bool in_box = moved[i] >= (float)low && moved[i] <= (float)high;
        if (exact <= epsilon && fabsf(moved[i] - x[i]) <= (float)epsilon && (in_box || !box))
            continue;
        fail_msg("%s: %.9g moved to %.9g with epsilon %.17g", where, (double)x[i], (double)moved[i],
                 epsilon);
    }
}

/* A target that is but a box, for images of one channel. */
typedef struct box_target {
    double low, high, unit;
    advrob_target target;
} box_target;

static const advrob_target *make_box(box_target *b, int32_t pixels, double low, double high) {
    *b = (box_target){low, high, 1, {.shape = {1, 1, pixels}}};
    b->target.low = &b->low;
    b->target.high = &b->high;
    b->target.unit = &b->unit;
    return &b->target;
}

static const double epsilons[] = {8.0 / 255, 0.1, 0.3, 1e-7, 0, 3e-45, 1e-300, 2.0 / 3, 1e6};
enum { EPSILONS = sizeof epsilons / sizeof epsilons[0] };

static void test_bounds(void **state) {
    (void)state;
    enum { N = 20000 };
    box_target b;
    float *x = draw_images(N, 1, 8), *low = malloc(sizeof(float) * N);
    float *high = malloc(sizeof(float) * N);
    for (int32_t i = 0; i < 40; i++) /* and what is awkward: powers of two, tiny, the ends */
        x[i] = i < 30 ? ldexpf(1, -5 * i) : i < 35 ? 0.0f : 1.0f;
    for (int32_t e = 0; e < EPSILONS; e++)
        for (int32_t clip = 0; clip < 2; clip++) {
            int64_t tight = 0;
            ar_ball_bounds(make_box(&b, N, 0, 1), x, epsilons[e], clip != 0, low, high);
            check_ball("low", N, x, low, epsilons[e], clip != 0, 0, 1);
            check_ball("high", N, x, high, epsilons[e], clip != 0, 0, 1);
            for (int32_t i = 0; i < N; i++) {
                float above = nextafterf(high[i], INFINITY), below = nextafterf(low[i], -INFINITY);
                assert_true(low[i] <= x[i] && x[i] <= high[i]);
                /* No wider float would do. */
                bool wide = (double)above - (double)x[i] > epsilons[e] || (clip && above > 1);
                wide = wide && ((double)x[i] - (double)below > epsilons[e] || (clip && below < 0));
                tight += wide;
            }
            assert_int_equal(tight, N);
        }
    free(x);
    free(low);
    free(high);
}

static void test_ball(void **state) {
    (void)state;
    enum { N = 50 };
    static const char *const kinds[] = {"step=1e6 steps=1", "step=0.07 steps=7 restarts=2",
                                        "step=1e-8 steps=3", "step=0 steps=1"};
    advrob_context *ctx = open_context(NULL, 1);
    linear m;
    float *x = draw_images(N, PIXELS, 9), moved[N * PIXELS];
    int32_t y[N], runs = 0;
    char text[160];
    fill_linear(&m, 5);
    for (int32_t box = 0; box < 2; box++) {
        double low = box ? 0.1 : 0, high = box ? 0.7 : 1;
        advrob_target *target = open_linear(ctx, &m, low, high);
        for (int32_t i = 0; i < N * PIXELS; i++) {
            float inside = (float)(low + (high - low) * (double)x[i]);
            x[i] = i % 10 == 0 ? (float)low : i % 10 == 1 ? (float)high : inside;
        }
        for (int32_t i = 0; i < N; i++)
            y[i] = value(&m, x + i * PIXELS) > 0;
        for (int32_t e = 0; e < EPSILONS; e++)
            for (int32_t clip = 0; clip < 2; clip++)
                for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++, runs++) {
                    snprintf(text, sizeof text, "epsilon=%.17g clip=%d %s", epsilons[e], clip,
                             kinds[k]);
                    attack_with(ctx, "pgd", text, target, N, x, y, moved, NULL, NULL);
                    check_ball(text, N * PIXELS, x, moved, epsilons[e], clip != 0, low, high);
                    if (epsilons[e] == 0) assert_memory_equal(moved, x, sizeof moved);
                }
        ar_target_release(target);
    }
    assert_true(runs == 2 * EPSILONS * 2 * 4);
    free(x);
    ar_context_release(ctx);
}

/* ---- random starts: with a gradient of zero, they are what comes back ---- */

static void test_random_start(void **state) {
    (void)state;
    enum { N = 400, VALUES = N * PIXELS };
    advrob_context *ctx = open_context(NULL, 1);
    linear flat = {.b = 1};
    advrob_target *target = open_linear(ctx, &flat, -10, 10);
    float *x = calloc(VALUES, sizeof(float)), *a = malloc(sizeof(float) * VALUES);
    float *b = malloc(sizeof(float) * VALUES), low[PIXELS], high[PIXELS], expected[PIXELS];
    int32_t y[N] = {0};
    double sum = 0, squares = 0, largest = 0;
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3", target, N, x, y, a, NULL, NULL);
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3", target, N, x, y, b, NULL, NULL);
    assert_memory_equal(a, b, sizeof(float) * VALUES);
    for (int32_t i = 0; i < VALUES; i++) {
        double u = (double)a[i] / 0.3;
        sum += u;
        squares += u * u;
        largest = fmax(largest, fabs(u));
        if (i >= PIXELS) assert_true(a[i] != a[i - PIXELS]);
    }
    assert_true(fabs(sum / VALUES) < 0.03 && fabs(squares / VALUES - 1.0 / 3) < 0.02);
    assert_true(largest > 0.99 && largest <= 1);
    /* The draws are those of (seed, sample, restart), and others for another of each. */
    for (int64_t i = 0; i < N; i += 57)
        for (int32_t restart = 0; restart < 3; restart++) {
            ar_rng rng;
            memset(expected, 0, sizeof expected);
            ar_rng_init(&rng, ctx->seed, AR_RNG_ATTACK, i, restart, 0);
            ar_ball_bounds(target, expected, 0.3, true, low, high);
            ar_ball_random(target, &rng, 0.3, low, high, expected);
            bool same = memcmp(a + i * PIXELS, expected, sizeof expected) == 0;
            assert_true(same == (restart == 0));
        }
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3 seed=1", target, N, x, y, b, NULL, NULL);
    assert_memory_equal(a, b, sizeof(float) * VALUES); /* 1 is the context's */
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3 seed=2", target, N, x, y, b, NULL, NULL);
    for (int32_t i = 0; i < VALUES; i++)
        assert_true(a[i] != b[i]);
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3 first_sample=5", target, N - 5, x, y, b, NULL,
                NULL);
    assert_memory_equal(a + 5 * PIXELS, b, sizeof(float) * (VALUES - 5 * PIXELS));
    /* Equal losses keep the first run. */
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3 restarts=3", target, N, x, y, b, NULL, NULL);
    assert_memory_equal(a, b, sizeof(float) * VALUES);
    /* No gradient, no random start: the image stays. */
    attack_with(ctx, "pgd", "epsilon=0.3 steps=3 random_start=0", target, N, x, y, b, NULL, NULL);
    assert_memory_equal(x, b, sizeof(float) * VALUES);
    attack_with(ctx, "fgsm", "epsilon=0.3", target, N, x, y, b, NULL, NULL);
    assert_memory_equal(x, b, sizeof(float) * VALUES);
    ar_target_release(target);
    free(x);
    free(a);
    free(b);
    ar_context_release(ctx);
}

/* Of several runs the one with the largest loss is kept, whether all of them fool or none does.
 * With a step of zero a run is its start, which can be drawn here. */
static void test_worst_run(void **state) {
    (void)state;
    enum { N = 30, RUNS = 6 };
    advrob_context *ctx = open_context(NULL, 1);
    float *x = draw_images(N, PIXELS, 11), moved[N * PIXELS], low[PIXELS], high[PIXELS];
    int32_t y[N] = {0}, later = 0;
    double losses[N];
    for (int32_t fooled = 0; fooled < 2; fooled++) {
        linear m;
        fill_linear(&m, 8);
        m.b = fooled ? 20 : -20;
        advrob_target *target = open_linear(ctx, &m, 0, 1);
        attack_with(ctx, "pgd", "epsilon=0.2 step=0 steps=1 restarts=6 loss=margin", target, N, x,
                    y, moved, NULL, losses);
        for (int32_t i = 0; i < N; i++) {
            float best[PIXELS] = {0}, z[CLASSES];
            double largest = -INFINITY;
            for (int32_t run = 0; run < RUNS; run++) {
                float start[PIXELS];
                ar_rng rng;
                memcpy(start, x + i * PIXELS, sizeof start);
                ar_rng_init(&rng, ctx->seed, AR_RNG_ATTACK, i, run, 0);
                ar_ball_bounds(target, start, 0.2, true, low, high);
                ar_ball_random(target, &rng, 0.2, low, high, start);
                forward(&m, 1, start, z);
                if ((double)z[1] - (double)z[0] <= largest) continue;
                largest = (double)z[1] - (double)z[0];
                memcpy(best, start, sizeof best);
                later += run > 0;
            }
            assert_true(losses[i] == largest && (largest > 0) == (fooled != 0));
            assert_memory_equal(moved + i * PIXELS, best, sizeof best);
        }
        ar_target_release(target);
    }
    assert_true(later > N / 2);
    free(x);
    ar_context_release(ctx);
}

/* ---- what is refused ---- */

static void refused(advrob_context *ctx, const char *name, const char *text, int32_t status,
                    const char *says) {
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    int32_t got = advrob_attack_create(ctx, name, options, &attack);
    if (got != status || attack != NULL || strstr(ar_message(), says) == NULL)
        fail_msg("%s %s: %d, %s", name, text, got, ar_message());
    ar_options_destroy(options);
}

static void test_refused_options(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    advrob_options *nan_epsilon = test_options("steps=2");
    advrob_attack *attack = NULL;
    refused(ctx, "pgd", "epsilon=-0.1", ADVROB_E_RANGE, "epsilon");
    refused(ctx, "fgsm", "epsilon=-1e-9", ADVROB_E_RANGE, "epsilon");
    refused(ctx, "pgd", "epsilom=0.1", ADVROB_E_UNKNOWN, "\"epsilon\"");
    refused(ctx, "pgd", "step_size=0.1", ADVROB_E_UNKNOWN, "step_size");
    refused(ctx, "pgd", "steps=0", ADVROB_E_RANGE, "steps");
    refused(ctx, "pgd", "restarts=0", ADVROB_E_RANGE, "restarts");
    refused(ctx, "pgd", "first_sample=-1", ADVROB_E_RANGE, "first_sample");
    refused(ctx, "pgd", "loss=hinge", ADVROB_E_RANGE, "margin");
    refused(ctx, "fgsm", "steps=1", ADVROB_E_UNKNOWN, "steps"); /* not an option of FGSM */
    refused(ctx, "pgt", "", ADVROB_E_UNKNOWN, "\"pgd\"");
    test_ok(ar_options_set_f64(nan_epsilon, "epsilon", NAN));
    assert_int_equal(advrob_attack_create(ctx, "pgd", nan_epsilon, &attack), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "epsilon"));
    ar_options_destroy(nan_epsilon);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_refused_arguments(void **state) {
    (void)state;
    enum { N = 3 };
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 1);
    linear m;
    fill_linear(&m, 5);
    float *x = draw_images(2 * N, PIXELS, 9), moved[N * PIXELS], kept;
    int32_t y[N] = {0, 1, 1}, predictions[N];
    advrob_target *target = open_linear(ctx, &m, 0, 1), *blind = NULL;
    advrob_attack *pgd = open_attack(ctx, "pgd", "");
#define STATUS(...) assert_int_equal(advrob_attack_run(__VA_ARGS__), status)
    int32_t status = ADVROB_E_INVALID; /* overlap, in any way; and what is missing */
    STATUS(pgd, target, N, x, y, x, NULL, NULL);
    STATUS(pgd, target, N, x, y, x + 1, NULL, NULL);
    STATUS(pgd, target, N, x + PIXELS, y, x, NULL, NULL);
    STATUS(pgd, target, N, x, y, x + N * PIXELS - 1, NULL, NULL);
    STATUS(pgd, target, N, NULL, y, moved, NULL, NULL);
    STATUS(pgd, target, N, x, NULL, moved, NULL, NULL);
    STATUS(NULL, target, N, x, y, moved, NULL, NULL);
    STATUS(pgd, NULL, N, x, y, moved, NULL, NULL);
    test_ok(advrob_attack_run(pgd, target, N, x, y, x + N * PIXELS, NULL, NULL)); /* side by side */
    status = ADVROB_E_RANGE;
    STATUS(pgd, target, 0, x, y, moved, NULL, NULL);
    STATUS(pgd, target, -1, x, y, moved, NULL, NULL);
    y[2] = CLASSES;
    STATUS(pgd, target, N, x, y, moved, NULL, NULL);
    assert_non_null(strstr(ar_message(), "label 2 is 2"));
    y[2] = -1;
    STATUS(pgd, target, N, x, y, moved, NULL, NULL);
    y[2] = 1;
    kept = x[PIXELS + 4];
    x[PIXELS + 4] = 1.0001f;
    STATUS(pgd, target, N, x, y, moved, NULL, NULL);
    assert_non_null(strstr(ar_message(), "image 1, pixel 4"));
    status = ADVROB_E_NONFINITE;
    x[PIXELS + 4] = NAN;
    STATUS(pgd, target, N, x, y, moved, NULL, NULL);
    assert_non_null(strstr(ar_message(), "image 1, pixel 4"));
    x[PIXELS + 4] = kept;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){3, 2, 2}, CLASSES, 0, 1, forward, NULL, &m,
                                     &blind));
    status = ADVROB_E_UNSUPPORTED;
    STATUS(pgd, blind, N, x, y, moved, NULL, NULL);
    assert_non_null(strstr(ar_message(), "gradient"));
#undef STATUS
    test_ok(advrob_attack_run(pgd, target, N, x, y, NULL, predictions, NULL));
    test_ok(advrob_attack_run(pgd, target, N, x, y, NULL, NULL, NULL));
    advrob_attack_destroy(pgd);
    ar_target_release(target);
    ar_target_release(blind);
    free(x);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* Every single call of either callback fails once, in either way. */
static void test_failing_callbacks(void **state) {
    (void)state;
    enum { N = 5 };
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2);
    linear m;
    fill_linear(&m, 6);
    advrob_target *target = open_linear(ctx, &m, 0, 1);
    advrob_attack *pgd = open_attack(ctx, "pgd", "steps=4 restarts=2 early_stop=1");
    float *x = draw_images(N, PIXELS, 10), moved[N * PIXELS], again[N * PIXELS];
    int32_t y[N], predictions[N];
    for (int32_t i = 0; i < N; i++)
        y[i] = value(&m, x + i * PIXELS) > 0;
    test_ok(advrob_attack_run(pgd, target, N, x, y, moved, predictions, NULL));
    int64_t calls = m.forwards + m.backwards;
    assert_true(calls >= 8 && m.backwards >= 4);
    for (int64_t k = 1; k <= calls; k++)
        for (int32_t code = -7; code <= 7; code += 7) {
            fill_linear(&m, 6);
            m.fail_at = k;
            m.code = code;
            assert_int_equal(advrob_attack_run(pgd, target, N, x, y, again, predictions, NULL),
                             code == 0 ? ADVROB_E_NONFINITE : ADVROB_E_CALLBACK);
            assert_true(m.failed && m.forwards + m.backwards == k); /* and none was made after */
            assert_non_null(strstr(ar_message(), code == 0 ? "nan" : code > 0 ? "7" : "-7"));
            if (code != 0) assert_non_null(strstr(ar_message(), "callback"));
        }
    fill_linear(&m, 6);
    test_ok(advrob_attack_run(pgd, target, N, x, y, again, predictions, NULL));
    assert_memory_equal(moved, again, sizeof moved);
    advrob_attack_destroy(pgd);
    ar_target_release(target);
    free(x);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_ball),
        cmocka_unit_test(test_random_start),
        cmocka_unit_test(test_worst_run),
        cmocka_unit_test(test_refused_options),
        cmocka_unit_test(test_refused_arguments),
        cmocka_unit_test(test_failing_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
