/* APGD: linear models, whose nearest adversarial image is known; what DLR may not depend on; and
 * what is kept of a path: the first image that fools, or the one with the largest loss; bits for
 * any batch and any number of threads. */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/images.h"
#include "support/options.h"

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

static void attack_with(advrob_target *target, const char *name, const char *text,
                        const ar_attack_call *call) {
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(ar_attack_create(target->ctx, name, options, &attack));
    ar_options_destroy(options);
    test_ok(ar_attack_run(attack, target, NULL, call));
    ar_attack_release(attack);
}

/* ---- a linear model: logits (-f, f) / 2 and two classes that never win, f = w x + b ---- */

enum { CHANNELS = 3, PIXELS = 12, CLASSES = 4 };

typedef struct linear {
    double w[PIXELS], b, unit[CHANNELS];
} linear;

static double value(const linear *m, const float *x) {
    double f = m->b;
    for (int32_t i = 0; i < PIXELS; i++)
        f += m->w[i] * (double)x[i];
    return f;
}

static int32_t linear_forward(void *user, int64_t n, const float *x, float *logits) {
    for (int64_t i = 0; i < n; i++) {
        const double f = value(user, x + i * PIXELS);
        const float z[CLASSES] = {(float)(-f / 2), (float)(f / 2), -50, -60};
        memcpy(logits + i * CLASSES, z, sizeof z);
    }
    return 0;
}

static int32_t linear_backward(void *user, int64_t n, const float *x, const float *dlogits,
                               float *dx) {
    const linear *m = user;
    (void)x;
    for (int64_t i = 0; i < n; i++)
        for (int32_t p = 0; p < PIXELS; p++)
            dx[i * PIXELS + p] =
                (float)(m->w[p] / 2 *
                        ((double)dlogits[i * CLASSES + 1] - (double)dlogits[i * CLASSES]));
    return 0;
}

/* Weights of both signs, b so that both classes occur, and a unit for each channel. */
static void fill_linear(linear *m, int64_t seed, bool units) {
    ar_rng rng;
    *m = (linear){.unit = {1, units ? 2.5 : 1, units ? 0.3 : 1}};
    ar_rng_init(&rng, seed, AR_RNG_TEST, 2, 0, 0);
    for (int32_t i = 0; i < PIXELS; i++) {
        m->w[i] = 2 * (double)ar_rng_uniform(&rng) - 1;
        m->b -= m->w[i] / 2;
    }
    m->w[3] = 0;
}

static advrob_target *open_linear(advrob_context *ctx, linear *m, bool box) {
    advrob_target *target = NULL;
    const double low[CHANNELS] = {box ? 0 : -100, box ? 0 : -100, box ? 0 : -100};
    const double high[CHANNELS] = {box ? 1 : 100, box ? 1 : 100, box ? 1 : 100};
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){CHANNELS, 2, 2}, CLASSES, 0, 1, linear_forward,
                                     linear_backward, m, &target));
    test_ok(ar_target_set_box(target, low, high, m->unit));
    return target;
}

/* The largest change of f against its sign that a ball of epsilon allows. */
static double reach(const linear *m, const float *x, double epsilon, bool box, bool l2) {
    double sum = 0, squares = 0, side = value(m, x) > 0 ? -1 : 1;
    for (int32_t i = 0; i < PIXELS; i++) {
        double unit = m->unit[i / (PIXELS / CHANNELS)];
        double room = side * m->w[i] > 0 ? 1 - (double)x[i] : (double)x[i];
        sum += fabs(m->w[i]) * (box ? fmin(epsilon * unit, room) : epsilon * unit);
        squares += m->w[i] * unit * m->w[i] * unit;
    }
    return l2 ? epsilon * sqrt(squares) : sum;
}

/* The least epsilon that flips the answer; 0 when none does. */
static double distance(const linear *m, const float *x, bool box, bool l2) {
    double low = 0, high = 40, f = fabs(value(m, x));
    if (reach(m, x, high, box, l2) <= f) return 0;
    for (int32_t i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (reach(m, x, middle, box, l2) > f)
            high = middle;
        else
            low = middle;
    }
    return high;
}

static bool flips(advrob_target *target, linear *m, const char *loss, bool l2, double epsilon,
                  const float *x) {
    char text[192];
    int32_t y = value(m, x) > 0;
    ar_attack_record record;
    float moved[PIXELS];
    bool aimed = strcmp(loss, "t") == 0;
    snprintf(text, sizeof text, "epsilon=%.17g norm=%s%s%s", epsilon, l2 ? "l2" : "linf",
             aimed ? "" : " loss=", aimed ? "" : loss);
    ar_attack_call call = {.n = 1, .x = x, .y = &y, .adversarial = moved, .records = &record};
    attack_with(target, aimed ? "apgd_t" : "apgd", text, &call);
    assert_true((l2 ? record.l2 : record.linf) <= epsilon);
    for (int32_t i = 0; i < PIXELS; i++)
        assert_true((double)moved[i] >= target->low[0] && (double)moved[i] <= target->high[0]);
    assert_int_equal(record.fooled, (value(m, moved) > 0) != y);
    return record.fooled;
}

static void test_distance(void **state) {
    enum { SAMPLES = 25 };
    static const char *const losses[] = {"ce", "margin", "dlr", "t"};
    static test_allocator allocator;
    (void)state;
    advrob_context *ctx = open_context(&allocator, 1);
    float *x = draw_images(SAMPLES, PIXELS, 4);
    int32_t checked = 0, active = 0;
    for (int32_t i = 0; i < SAMPLES; i++)
        for (int32_t kind = 0; kind < 6; kind++) { /* l-inf, in the box, l2; and with units */
            const bool box = kind % 3 == 1, l2 = kind % 3 == 2;
            const float *image = x + i * PIXELS;
            linear m;
            fill_linear(&m, 100 + i, kind >= 3);
            double d = distance(&m, image, box, l2);
            if (d < 1e-3) continue; /* at the border, or out of reach within the box */
            active += box && d > 1.0001 * distance(&m, image, false, false);
            advrob_target *target = open_linear(ctx, &m, box);
            for (int32_t k = 0; k < 4; k++, checked++) {
                if (!flips(target, &m, losses[k], l2, d / 0.999, image))
                    fail_msg("%s, sample %d, kind %d: holds at 1.001 of its distance", losses[k], i,
                             kind);
                assert_false(flips(target, &m, losses[k], l2, 0.9999 * d, image));
            }
            ar_target_release(target);
        }
    print_message("%d distances, the box is active in %d\n", checked, active);
    assert_true(checked > 400 && active > 10);
    free(x);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- a trained net, behind callbacks that change its logits and remember them ---- */

enum { MOST = 120, NET_CLASSES = 10, SIZE = 64, STEPS = 12 };

typedef struct net {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *inner, *target;
    void *session;
    double scale, shift;
    int32_t order[NET_CLASSES]; /* class k of the net is class order[k] outside */
    int64_t forwards, backwards, images;
    float *x;
    int32_t y[MOST];
    float seen[4096 * NET_CLASSES], *seen_end; /* logits of single images */
} net;

static int32_t net_forward(void *user, int64_t n, const float *x, float *logits) {
    net *s = user;
    float *own = malloc(sizeof(float) * (size_t)n * NET_CLASSES);
    test_ok(ar_target_forward(s->inner, n, x, own));
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = 0; k < NET_CLASSES; k++)
            logits[i * NET_CLASSES + s->order[k]] =
                (float)(s->scale * (double)own[i * NET_CLASSES + k] + s->shift);
    free(own);
    s->forwards += n;
    if (n == 1 && s->seen_end < s->seen + 4096 * NET_CLASSES) {
        memcpy(s->seen_end, logits, sizeof(float) * NET_CLASSES);
        s->seen_end += NET_CLASSES;
    }
    return 0;
}

static int32_t net_backward(void *user, int64_t n, const float *x, const float *dlogits,
                            float *dx) {
    net *s = user;
    float logits[NET_CLASSES], own[NET_CLASSES];
    for (int64_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < NET_CLASSES; k++)
            own[k] = (float)(s->scale * (double)dlogits[i * NET_CLASSES + s->order[k]]);
        test_ok(s->inner->forward(s->inner, s->session, 1, x + i * SIZE, logits));
        test_ok(s->inner->backward(s->inner, s->session, 1, x + i * SIZE, own, dx + i * SIZE));
    }
    s->backwards += n;
    return 0;
}

/* Images that the net knows, with noise; labels are its answers. */
static void open_net(net *s, int32_t threads, double scale, double shift, bool permuted) {
    ar_safetensors file;
    ar_rng rng;
    int64_t count = 0;
    *s = (net){.ctx = open_context(NULL, threads), .scale = scale, .shift = shift};
    golden_open(s->ctx, "nets", "tiny.safetensors", &file);
    s->model = golden_net(s->ctx, "tiny", &file);
    float *known = golden_get(&file, "x", &count), *logits = malloc(sizeof(float) * MOST * 10);
    ar_safetensors_free(s->ctx, &file);
    s->x = malloc(sizeof(float) * MOST * SIZE);
    ar_rng_init(&rng, 5, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < MOST * SIZE; i++) {
        float noise = 0.2f * ar_rng_uniform(&rng) - 0.1f;
        s->x[i] = fminf(fmaxf(known[i % count] + noise, 0), 1);
    }
    for (int32_t k = 0; k < NET_CLASSES; k++)
        s->order[k] = permuted ? (3 * k + 4) % NET_CLASSES : k;
    test_ok(ar_target_from_model(s->model, &s->inner));
    test_ok(s->inner->open(s->inner, &s->session));
    test_ok(ar_target_forward(s->inner, MOST, s->x, logits));
    for (int32_t i = 0; i < MOST; i++)
        s->y[i] = s->order[ar_argmax(NET_CLASSES, logits + i * NET_CLASSES)];
    test_ok(ar_target_from_callbacks(s->ctx, s->inner->shape, NET_CLASSES, 0, 1, net_forward,
                                     net_backward, s, &s->target));
    s->seen_end = s->seen;
    free(known);
    free(logits);
}

static void close_net(net *s) {
    free(s->x);
    s->inner->close(s->inner, s->session);
    ar_target_release(s->target);
    ar_target_release(s->inner);
    ar_model_release(s->model);
    ar_context_release(s->ctx);
}

/* ---- what DLR does not depend on ---- */

/* Shares of samples whose verdict, and of pixels that differ between the two. */
static double differ(const char *name, const char *text, double scale, double shift, bool permuted,
                     double *pixels) {
    static net plain, other;
    static float moved[2][MOST * SIZE];
    ar_attack_record records[2][MOST];
    int32_t verdicts = 0, fooled = 0, values = 0;
    open_net(&plain, 1, 1, 0, false);
    open_net(&other, 1, scale, shift, permuted);
    for (int32_t k = 0; k < 2; k++) {
        net *s = k == 0 ? &plain : &other;
        ar_attack_call call = {
            .n = MOST, .x = s->x, .y = s->y, .adversarial = moved[k], .records = records[k]};
        attack_with(s->target, name, text, &call);
    }
    for (int32_t i = 0; i < MOST; i++) {
        fooled += records[0][i].fooled;
        verdicts += records[0][i].fooled != records[1][i].fooled;
    }
    for (int32_t i = 0; i < MOST * SIZE; i++)
        values += fabsf(moved[0][i] - moved[1][i]) > 1e-4f;
    assert_true(fooled > MOST / 5 && fooled < 4 * MOST / 5);
    close_net(&plain);
    close_net(&other);
    *pixels = (double)values / (MOST * SIZE);
    return (double)verdicts / MOST;
}

static void test_dlr_invariance(void **state) {
    static const struct {
        double scale, shift;
        bool permuted;
    } changes[] = {{1, 100, false}, {1e-3, 0, false},  {1e3, 0, false},
                   {1, 0, true},    {1e3, -7e3, true}, {1e-3, 0.5, true}};
    static const char *const names[] = {"apgd", "apgd", "apgd_t"};
    static const char *const texts[] = {"loss=dlr epsilon=0.015", "loss=dlr norm=l2 epsilon=0.08",
                                        "epsilon=0.015 targets=3"};
    char text[96];
    double verdicts, pixels;
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        for (int32_t k = 0; k < 3; k++) {
            snprintf(text, sizeof text, "%s steps=20", texts[k]);
            verdicts = differ(names[k], text, changes[i].scale, changes[i].shift,
                              changes[i].permuted, &pixels);
            print_message("%s %s, z * %g + %g%s: %.3f of verdicts, %.4f of pixels differ\n",
                          names[k], text, changes[i].scale, changes[i].shift,
                          changes[i].permuted ? ", permuted" : "", verdicts, pixels);
            assert_true(verdicts <= 0.01 && pixels <= 0.02);
        }
    /* Cross entropy does depend on the scale. */
    differ("apgd", "loss=ce epsilon=0.015 steps=20", 1e3, 0, false, &pixels);
    assert_true(pixels > 0.1);
}

/* ---- what is kept of a path ---- */

/* Cross entropy from its definition. */
static double cross_entropy(const float *z, int32_t y) {
    double sum = 0;
    for (int32_t k = 0; k < NET_CLASSES; k++)
        sum += exp((double)z[k] - (double)z[y]);
    return log(sum);
}

/* One image: the record and the loss against the logits of all its passes. */
static void check_kept(net *s, const float *x, int32_t y, bool early_stop, int32_t *fooled) {
    ar_attack_record record;
    ar_attack_call call = {.n = 1, .x = x, .y = &y, .records = &record};
    char text[96];
    s->seen_end = s->seen;
    s->forwards = s->backwards = 0;
    snprintf(text, sizeof text, "epsilon=0.015 steps=%d random_start=0 early_stop=%d", STEPS,
             early_stop);
    attack_with(s->target, "apgd", text, &call);
    const int64_t passes = s->forwards - 1; /* the last checks the answer */
    double best = -INFINITY, best_fooled = -INFINITY;
    int64_t first = -1;
    for (int64_t k = 0; k < passes; k++) {
        const float *z = s->seen + k * NET_CLASSES;
        const double loss = cross_entropy(z, y);
        const bool wrong = ar_argmax(NET_CLASSES, z) != y;
        best = fmax(best, loss);
        if (wrong) best_fooled = fmax(best_fooled, loss);
        if (wrong && first < 0) first = k;
    }
    assert_true(record.forwards == passes && record.backwards == s->backwards);
    assert_true(record.backwards == passes && record.fooled == (first >= 0));
    assert_true(passes == (early_stop && first >= 0 ? first + 1 : STEPS + 1));
    assert_true(fabs(record.loss - (first >= 0 ? best_fooled : best)) < 1e-9);
    *fooled += record.fooled;
}

static void test_kept(void **state) {
    static net s;
    int32_t fooled = 0;
    (void)state;
    open_net(&s, 1, 1, 0, false);
    for (int32_t i = 0; i < MOST; i++) {
        check_kept(&s, s.x + i * SIZE, s.y[i], true, &fooled);
        check_kept(&s, s.x + i * SIZE, s.y[i], false, &fooled);
    }
    assert_true(fooled > MOST / 2 && fooled < 3 * MOST / 2);
    close_net(&s);
}

/* What is wrong from the start stays as it is, for one pass; a ball of nothing changes nothing. */
static void test_nothing_to_do(void **state) {
    static net s;
    static float moved[MOST * SIZE];
    static const char *const names[] = {"apgd", "apgd_t"}, *const norms[] = {"linf", "l2"};
    ar_attack_record records[MOST];
    int32_t wrong[MOST];
    char text[64];
    (void)state;
    open_net(&s, 1, 1, 0, false);
    for (int32_t i = 0; i < MOST; i++)
        wrong[i] = (s.y[i] + 1 + i % 9) % NET_CLASSES;
    for (int32_t k = 0; k < 4; k++) {
        ar_attack_call call = {
            .n = MOST, .x = s.x, .y = wrong, .adversarial = moved, .records = records};
        snprintf(text, sizeof text, "steps=3 norm=%s", norms[k / 2]);
        attack_with(s.target, names[k % 2], text, &call);
        assert_memory_equal(moved, s.x, sizeof moved);
        for (int32_t i = 0; i < MOST; i++)
            assert_true(records[i].fooled && records[i].forwards == 1 && records[i].backwards == 0);
        call.y = s.y;
        snprintf(text, sizeof text, "epsilon=0 steps=3 norm=%s", norms[k / 2]);
        attack_with(s.target, names[k % 2], text, &call);
        assert_memory_equal(moved, s.x, sizeof moved);
        for (int32_t i = 0; i < MOST; i++)
            assert_false(records[i].fooled);
    }
    close_net(&s);
}

static void test_restarts(void **state) {
    static net s;
    ar_attack_record before[MOST], after[MOST];
    int32_t late = 0;
    char text[96];
    (void)state;
    open_net(&s, 1, 1, 0, false);
    for (int32_t kind = 0; kind < 4; kind++)
        for (int32_t restarts = 1; restarts <= 5; restarts++) {
            ar_attack_call call = {.n = MOST, .x = s.x, .y = s.y, .records = after};
            snprintf(text, sizeof text,
                     "epsilon=0.1 norm=l2 steps=1 loss=%s early_stop=%d restarts=%d",
                     kind % 2 ? "dlr" : "ce", kind / 2, restarts);
            attack_with(s.target, "apgd", text, &call);
            for (int32_t i = 0; i < MOST && restarts > 1; i++) {
                assert_true(after[i].fooled || !before[i].fooled);
                if (after[i].fooled == before[i].fooled)
                    assert_true(after[i].loss >= before[i].loss);
                late += after[i].fooled && !before[i].fooled;
                if (kind >= 2 && !after[i].fooled) /* one look, two passes a run */
                    assert_int_equal(after[i].forwards, 1 + 2 * restarts);
            }
            memcpy(before, after, sizeof before);
        }
    assert_true(late > 3);
    close_net(&s);
}

/* Towards given classes, and with several passes for one gradient. */
static void test_targeted(void **state) {
    static net s;
    ar_attack_record records[MOST];
    int32_t targets[MOST], fooled = 0, held = 0;
    (void)state;
    open_net(&s, 1, 1, 0, false);
    for (int32_t i = 0; i < MOST; i++)
        targets[i] = (s.y[i] + 1 + i % 9) % NET_CLASSES;
    for (int32_t k = 0; k < 3; k++) {
        static const char *const texts[] = {"loss=ce", "loss=dlr", "loss=margin norm=l2"};
        char text[96];
        ar_attack_call call = {
            .n = MOST, .x = s.x, .y = s.y, .targets = targets, .records = records};
        snprintf(text, sizeof text, "epsilon=%g targeted=1 steps=20 eot=2 %s", k < 2 ? 0.05 : 0.3,
                 texts[k]);
        attack_with(s.target, "apgd", text, &call);
        for (int32_t i = 0; i < MOST; i++) {
            assert_int_equal(records[i].fooled, records[i].prediction == targets[i]);
            fooled += records[i].fooled;
            if (records[i].fooled) continue;
            held++; /* one look, then two passes for each of 21 gradients */
            assert_true(records[i].forwards == 43 && records[i].backwards == 42);
        }
    }
    assert_true(fooled > MOST / 2 && held > MOST / 4);
    close_net(&s);
}

/* ---- bits ---- */

static void check_bits(const char *name, const char *text, int32_t lattice) {
    static const int64_t sizes[] = {1, 7, 64, MOST};
    static float alone[MOST * SIZE], moved[MOST * SIZE];
    static net s;
    ar_attack_record one[MOST], records[MOST];
    int32_t fooled = 0, runs = 0;
    const int32_t first_size = TEST_SANITIZED ? 2 : 0;
    for (int32_t threads = 1; threads <= 3; threads++)
        for (int32_t k = first_size; k < 4; k++, runs++) {
            open_net(&s, threads, 1, 0, false);
            test_ok(ar_target_set_lattice(s.inner, lattice));
            for (int64_t first = 0; first < MOST; first += sizes[k]) {
                int64_t ids[MOST], n = MOST - first < sizes[k] ? MOST - first : sizes[k];
                for (int64_t i = 0; i < n; i++)
                    ids[i] = first + i;
                ar_attack_call call = {.n = n,
                                       .x = s.x + first * SIZE,
                                       .y = s.y + first,
                                       .ids = ids,
                                       .adversarial = moved + first * SIZE,
                                       .records = records + first};
                attack_with(s.inner, name, text, &call);
            }
            if (runs == 0) {
                memcpy(alone, moved, sizeof alone);
                memcpy(one, records, sizeof one);
            }
            assert_memory_equal(alone, moved, sizeof alone);
            for (int32_t i = 0; i < MOST; i++) {
                assert_true(one[i].loss == records[i].loss && one[i].run == records[i].run);
                assert_true(one[i].forwards == records[i].forwards);
                fooled += records[i].fooled;
            }
            for (int32_t i = 0; i < MOST * SIZE && lattice > 0; i++) {
                double level = (double)moved[i] * lattice;
                assert_true(fabs(level - rint(level)) < 1e-4 || moved[i] == s.x[i]);
            }
            close_net(&s);
        }
    print_message("%s %s: %d of %d fooled\n", name, text, fooled / runs, MOST);
    assert_true(fooled / runs > MOST / 10 && fooled / runs < 9 * MOST / 10);
}

static void test_bits(void **state) {
    (void)state;
    check_bits("apgd", "epsilon=0.015 steps=9 restarts=2", 0);
    check_bits("apgd", "epsilon=0.1 norm=l2 steps=9 loss=dlr", 0);
    check_bits("apgd", "epsilon=0.015 steps=9 early_stop=0", 0);
    check_bits("apgd_t", "epsilon=0.015 steps=9 targets=4", 0);
    check_bits("apgd_t", "epsilon=0.1 norm=l2 steps=9 targets=2", 0);
    check_bits("apgd", "epsilon=0.02 steps=9", 255);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance), cmocka_unit_test(test_dlr_invariance),
        cmocka_unit_test(test_kept),     cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_restarts), cmocka_unit_test(test_targeted),
        cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
