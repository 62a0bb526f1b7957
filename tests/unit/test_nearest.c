/* Attacks that look for the nearest adversarial image, on linear models whose nearest one is known:
 * how near they come, in either norm, at the box and with channels of different units; the largest
 * distance, flat and saturated targets, given targets, confidence, lattices, and samples that share
 * nothing. */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/images.h"
#include "support/options.h"

enum { CHANNELS = 3, AREA = 4, PIXELS = CHANNELS * AREA, MOST_CLASSES = 6, SAMPLES = 60 };

/* ---- linear models: logits W x + b ---- */

typedef struct linear {
    int32_t classes;
    double w[MOST_CLASSES][PIXELS], b[MOST_CLASSES];
    double ceiling; /* > 0: logits are cut at +-ceiling, and flat beyond */
} linear;

/* Channels differ in box and unit. */
static const double low[CHANNELS] = {0, -1, 2}, high[CHANNELS] = {1, 1, 2.5};
static const double unit[CHANNELS] = {1, 2, 0.5};

static double logit(const linear *m, int32_t k, const float *x) {
    double z = m->b[k];
    for (int32_t p = 0; p < PIXELS; p++)
        z += m->w[k][p] * (double)x[p];
    return z;
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    const linear *m = user;
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = 0; k < m->classes; k++) {
            double z = logit(m, k, x + i * PIXELS);
            if (m->ceiling > 0) z = fmin(fmax(z, -m->ceiling), m->ceiling);
            logits[i * m->classes + k] = (float)z;
        }
    return 0;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    const linear *m = user;
    for (int64_t i = 0; i < n; i++)
        for (int32_t p = 0; p < PIXELS; p++) {
            double sum = 0;
            for (int32_t k = 0; k < m->classes; k++) {
                bool flat = m->ceiling > 0 && fabs(logit(m, k, x + i * PIXELS)) >= m->ceiling;
                sum += flat ? 0 : m->w[k][p] * (double)dlogits[i * m->classes + k];
            }
            dx[i * PIXELS + p] = (float)sum;
        }
    return 0;
}

/* At the middle of the box all logits are nearly equal: every class occurs. */
static void draw_linear(linear *m, int32_t classes, int64_t seed) {
    ar_rng rng;
    *m = (linear){.classes = classes};
    ar_rng_init(&rng, seed, AR_RNG_TEST, 3, 0, 0);
    for (int32_t k = 0; k < classes; k++) {
        m->b[k] = 0.1 * (double)ar_rng_uniform(&rng);
        for (int32_t p = 0; p < PIXELS; p++) {
            m->w[k][p] = (2 * (double)ar_rng_uniform(&rng) - 1) / unit[p / AREA];
            m->b[k] -= m->w[k][p] * (low[p / AREA] + high[p / AREA]) / 2;
        }
        m->w[k][5] = 0;
    }
}

static advrob_target *open_target(advrob_context *ctx, linear *m) {
    advrob_target *target = NULL;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){CHANNELS, 2, 2}, m->classes, 0, 1, forward,
                                     backward, m, &target));
    test_ok(ar_target_set_box(target, low, high, unit));
    return target;
}

/* Uniform in the middle `share` of the box; with share 1 some pixels lie at its ends. */
static float *draw_inside(double share, int64_t seed) {
    float *x = draw_images(SAMPLES, PIXELS, seed);
    for (int32_t i = 0; i < SAMPLES * PIXELS; i++) {
        int32_t c = i % PIXELS / AREA;
        double at = (1 - share) / 2 + share * (double)x[i];
        x[i] = (float)(low[c] + (high[c] - low[c]) * at);
        if (share == 1 && i % 3 == 0) x[i] = (float)(i % 2 == 0 ? low[c] : high[c]);
    }
    return x;
}

static void label(const linear *m, const float *x, int32_t *y) {
    for (int32_t i = 0; i < SAMPLES; i++) {
        float z[MOST_CLASSES];
        (void)forward((void *)(uintptr_t)m, 1, x + i * PIXELS, z);
        y[i] = ar_argmax(m->classes, z);
    }
}

/* ---- how near the nearest is ---- */

/* The distance to where class k wins over y, in pixels, by bisection for the multiplier of the
 * optimality conditions; infinite where the box does not reach. *active: the box matters. */
static double distance_to(const linear *m, const float *x, int32_t y, int32_t k, int32_t norm,
                          bool *active) {
    double need = logit(m, y, x) - logit(m, k, x), bottom = 0, top = 1e9, won = 0, far = 0;
    *active = false;
    for (int32_t round = 0; round < 300; round++) {
        double middle = (bottom + top) / 2;
        won = far = 0;
        *active = false;
        for (int32_t p = 0; p < PIXELS; p++) {
            double u = unit[p / AREA], slope = (m->w[k][p] - m->w[y][p]) * u;
            double room = slope > 0 ? high[p / AREA] - (double)x[p] : (double)x[p] - low[p / AREA];
            double move = norm == AR_NORM_LINF ? middle : middle * fabs(slope);
            if (slope == 0) continue;
            *active = *active || move > room / u;
            move = fmin(move, room / u);
            won += fabs(slope) * move;
            far = norm == AR_NORM_LINF ? fmax(far, move) : far + move * move;
        }
        if (round == 0 && won < need) return INFINITY; /* not even from the corner */
        if (won < need)
            bottom = middle;
        else
            top = middle;
    }
    return norm == AR_NORM_LINF ? far : sqrt(far);
}

static double nearest(const linear *m, const float *x, int32_t y, int32_t norm, bool *active) {
    double best = INFINITY;
    bool one = false;
    *active = false;
    for (int32_t k = 0; k < m->classes; k++) {
        double far = k == y ? INFINITY : distance_to(m, x, y, k, norm, &one);
        if (far >= best) continue;
        best = far;
        *active = one;
    }
    return best;
}

/* ---- attacks ---- */

static advrob_context *open_context(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

typedef struct answers {
    float moved[SAMPLES * PIXELS];
    ar_attack_record records[SAMPLES];
} answers;

/* run < 0: all of them, as a caller has it; else this one alone. */
static void attack(advrob_target *target, const char *name, const char *text, int32_t run,
                   const float *x, const int32_t *y, const int32_t *targets, answers *a) {
    advrob_options *options = test_options(text);
    advrob_attack *made = NULL;
    test_ok(ar_attack_create(target->ctx, name, options, &made));
    ar_options_destroy(options);
    ar_attack_call call = {.n = SAMPLES,
                           .x = x,
                           .y = y,
                           .targets = targets,
                           .adversarial = a->moved,
                           .records = a->records};
    memset(a->moved, 0xff, sizeof a->moved);
    if (run < 0)
        test_ok(ar_attack_run(made, target, NULL, &call));
    else
        test_ok(ar_attack_tiles(made, target, NULL, &call, run));
    ar_attack_release(made);
}

/* What every answer must be, by the test's own arithmetic: finite and in the box; adversarial where
 * it says so, else the image. Returns its distance, infinite if there is none. */
static double check_answer(const linear *m, const answers *a, const float *x, const int32_t *y,
                           int32_t norm, int32_t i) {
    const float *moved = a->moved + i * PIXELS;
    const ar_attack_record *r = &a->records[i];
    double most = 0, squares = 0;
    float z[MOST_CLASSES];
    for (int32_t p = 0; p < PIXELS; p++) {
        double d = ((double)moved[p] - (double)x[i * PIXELS + p]) / unit[p / AREA];
        assert_true(moved[p] >= (float)low[p / AREA] && moved[p] <= (float)high[p / AREA]);
        most = fmax(most, fabs(d));
        squares += d * d;
    }
    (void)forward((void *)(uintptr_t)m, 1, moved, z);
    assert_int_equal(r->prediction, ar_argmax(m->classes, z));
    assert_true(r->fooled == (r->prediction != y[i]));
    assert_true(r->linf == most && fabs(r->l2 - sqrt(squares)) <= 1e-12 * r->l2);
    if (!r->fooled) assert_memory_equal(moved, x + i * PIXELS, sizeof(float) * PIXELS);
    return !r->fooled ? INFINITY : norm == AR_NORM_LINF ? most : sqrt(squares);
}

/* ---- against the optimum ---- */

typedef struct optimum_case {
    const char *name, *options;
    int32_t norm;
    double factor, more; /* an answer lies within factor * (optimum + more) */
    double least;        /* optimum that is asked for */
    bool box;            /* whether it knows of the box */
    int32_t classes;     /* of the second model; the first has 2 */
} optimum_case;

/* Carlini and Wagner's loss aims at the largest of the other logits, which need not be the nearest
 * class: two classes have one. Adam's first step alone goes learning_rate / 2 in every pixel. */
static const optimum_case optimum_cases[] = {
    {"deepfool", "norm=l2", AR_NORM_L2, 1.02, 1e-4, 1e-3, false, MOST_CLASSES},
    {"deepfool", "norm=linf", AR_NORM_LINF, 1.02, 1e-4, 1e-3, false, MOST_CLASSES},
    {"fab", "norm=l2 epsilon=1e6", AR_NORM_L2, 1.05, 0, 1e-3, true, MOST_CLASSES},
    {"fab", "norm=linf epsilon=1e6", AR_NORM_LINF, 1.05, 0, 1e-3, true, MOST_CLASSES},
    {"carlini_wagner", "steps=1000", AR_NORM_L2, 1.01, 0, 0.05, true, 2},
    {"carlini_wagner", "steps=3000 learning_rate=0.002", AR_NORM_L2, 1.01, 0, 0.01, true, 2},
};
enum { OPTIMUM_CASES = sizeof optimum_cases / sizeof optimum_cases[0] };

/* The distances that an attack reaches: the least of its runs. */
static void reach(const optimum_case *c, const linear *m, advrob_target *target, const float *x,
                  const int32_t *y, double *found) {
    static answers a;
    bool fab = strcmp(c->name, "fab") == 0;
    for (int32_t run = 0; run < (fab ? m->classes - 1 : 1); run++) {
        attack(target, c->name, c->options, run, x, y, NULL, &a);
        for (int32_t i = 0; i < SAMPLES; i++)
            found[i] = fmin(run == 0 ? INFINITY : found[i], check_answer(m, &a, x, y, c->norm, i));
    }
}

static void check_optimum(const optimum_case *c, double share) {
    double worst = 0;
    int32_t checked = 0, active = 0;
    static test_allocator allocator;
    for (int32_t net = 0; net < 2; net++) {
        int32_t classes = net == 0 ? 2 : c->classes;
        advrob_context *ctx = open_context(&allocator, 2);
        linear m;
        double found[SAMPLES];
        int32_t y[SAMPLES];
        float *x = draw_inside(share, 30 + net);
        draw_linear(&m, classes, 40 + net);
        label(&m, x, y);
        advrob_target *target = open_target(ctx, &m);
        reach(c, &m, target, x, y, found);
        for (int32_t i = 0; i < SAMPLES; i++) {
            bool at_box;
            double best = nearest(&m, x + i * PIXELS, y[i], c->norm, &at_box);
            if (best < c->least || (at_box && !c->box)) continue;
            checked++;
            active += at_box;
            worst = fmax(worst, found[i] / (best + c->more));
            if (!(found[i] <= c->factor * (best + c->more) + 1e-6) || found[i] < best * (1 - 1e-5))
                fail_msg("%s %s, %d classes, sample %d: %.9g, the nearest is at %.9g%s", c->name,
                         c->options, classes, i, found[i], best, at_box ? ", at the box" : "");
        }
        free(x);
        ar_target_release(target);
        ar_context_release(ctx);
    }
    test_allocator_check(&allocator);
    print_message("%s %s: at most %.5f of the optimum in %d samples, %d at the box\n", c->name,
                  c->options, worst, checked, active);
    assert_true(checked > SAMPLES / 2);
    if (share == 1) assert_true(active > SAMPLES / 4);
}

static void test_optimum(void **state) {
    (void)state;
    for (int32_t k = 0; k < OPTIMUM_CASES; k++)
        check_optimum(&optimum_cases[k], 0.5);
}

static void test_optimum_at_the_box(void **state) {
    (void)state;
    for (int32_t k = 0; k < OPTIMUM_CASES; k++)
        if (optimum_cases[k].box) check_optimum(&optimum_cases[k], 1);
}

/* ---- the largest distance ---- */

/* Just beyond what an attack needs it answers, below the optimum it cannot; at 0 nothing moves. */
static void test_epsilon(void **state) {
    (void)state;
    static answers a;
    static const char *const plain[] = {"norm=l2",   "norm=linf",  "norm=l2",
                                        "norm=linf", "steps=1000", "steps=300 learning_rate=0.02"};
    static const double radii[] = {0, 1e-7, 0.05, 0.11, 0.2, 0.31, 0.45, 0.7};
    enum { RADII = sizeof radii / sizeof radii[0] };
    advrob_context *ctx = open_context(NULL, 1);
    linear m;
    int32_t y[SAMPLES];
    char text[128];
    float *x = draw_inside(0.6, 51);
    draw_linear(&m, MOST_CLASSES, 52);
    label(&m, x, y);
    advrob_target *target = open_target(ctx, &m);
    for (int32_t k = 0; k < OPTIMUM_CASES; k++) {
        const optimum_case *c = &optimum_cases[k];
        int32_t within = 0, beyond = 0;
        for (int32_t e = 0; e < RADII; e++) {
            snprintf(text, sizeof text, "%s epsilon=%.17g", plain[k], radii[e]);
            attack(target, c->name, text, -1, x, y, NULL, &a);
            for (int32_t i = 0; i < SAMPLES; i++) {
                bool at_box;
                double far = check_answer(&m, &a, x, y, c->norm, i);
                double best = nearest(&m, x + i * PIXELS, y[i], c->norm, &at_box);
                if (far < INFINITY) assert_true(far <= radii[e]); /* in the ball, exactly */
                if (best > radii[e] * (1 + 1e-6)) assert_true(far == INFINITY);
                if (c->factor * (best + c->more) * 1.001 < radii[e] && !at_box && c->classes > 2 &&
                    far == INFINITY)
                    fail_msg("%s %s: no answer for sample %d, the nearest is at %.9g", c->name,
                             text, i, best);
                within += far < INFINITY;
                beyond += far == INFINITY;
            }
        }
        assert_true(within > SAMPLES && beyond > SAMPLES);
    }
    ar_target_release(target);
    ar_context_release(ctx);
    free(x);
}

/* ---- flat, saturated and wrong ---- */

static void test_flat(void **state) {
    (void)state;
    static answers a;
    static const char *const texts[][2] = {{"deepfool", "norm=l2"},
                                           {"deepfool", "norm=linf"},
                                           {"fab", "norm=l2 steps=20 restarts=2"},
                                           {"fab", "norm=linf steps=20 restarts=2"},
                                           {"fab", "norm=linf steps=20 epsilon=0 restarts=2"},
                                           {"carlini_wagner", "steps=20"}};
    advrob_context *ctx = open_context(NULL, 1);
    float *x = draw_inside(1, 61);
    for (int32_t kind = 0; kind < 4; kind++)
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            linear m;
            int32_t y[SAMPLES], done = 0;
            draw_linear(&m, MOST_CLASSES, 62);
            if (kind == 0) memset(m.w, 0, sizeof m.w);
            if (kind == 1) m.ceiling = 0.2; /* many logits equal, with no slope */
            if (kind == 2)                  /* slopes near the end of what floats hold */
                for (int32_t k = 0; k < m.classes; k++) {
                    m.b[k] *= 1e-38;
                    for (int32_t p = 0; p < PIXELS; p++)
                        m.w[k][p] *= 1e-38;
                }
            if (kind == 3) m.b[2] += 1e3; /* out of reach within the box */
            label(&m, x, y);
            advrob_target *target = open_target(ctx, &m);
            attack(target, texts[t][0], texts[t][1], -1, x, y, NULL, &a);
            for (int32_t i = 0; i < SAMPLES; i++)
                done += check_answer(&m, &a, x, y, AR_NORM_L2, i) < INFINITY;
            if (kind == 0 || kind == 3) assert_int_equal(done, 0);
            if (kind == 2 && t < 2) assert_true(done > SAMPLES / 2); /* scale means nothing */
            ar_target_release(target);
        }
    free(x);
    ar_context_release(ctx);
}

/* What is wrong already is its own answer and costs next to nothing. */
static void test_wrong(void **state) {
    (void)state;
    static answers a;
    advrob_context *ctx = open_context(NULL, 1);
    linear m;
    int32_t y[SAMPLES];
    float *x = draw_inside(1, 71);
    draw_linear(&m, 2, 72);
    label(&m, x, y);
    for (int32_t i = 0; i < SAMPLES; i++)
        y[i] = 1 - y[i];
    advrob_target *target = open_target(ctx, &m);
    for (int32_t k = 0; k < OPTIMUM_CASES; k++) {
        attack(target, optimum_cases[k].name, optimum_cases[k].options, -1, x, y, NULL, &a);
        assert_memory_equal(a.moved, x, sizeof a.moved);
        for (int32_t i = 0; i < SAMPLES; i++)
            assert_true(a.records[i].fooled && a.records[i].forwards == 1 &&
                        a.records[i].backwards == 0);
    }
    ar_target_release(target);
    free(x);
    ar_context_release(ctx);
}

/* ---- Carlini and Wagner: given targets, confidence ---- */

static void check_wins(bool targeted, double confidence) {
    static answers a;
    advrob_context *ctx = open_context(NULL, 1);
    linear m;
    int32_t y[SAMPLES], aims[SAMPLES], won = 0;
    char text[96];
    float *x = draw_inside(0.4, 81);
    draw_linear(&m, MOST_CLASSES, 82);
    label(&m, x, y);
    for (int32_t i = 0; i < SAMPLES; i++)
        aims[i] = (y[i] + 1 + i % (MOST_CLASSES - 1)) % MOST_CLASSES;
    advrob_target *target = open_target(ctx, &m);
    snprintf(text, sizeof text, "steps=1000 confidence=%g targeted=%d", confidence, targeted);
    attack(target, "carlini_wagner", text, -1, x, y, targeted ? aims : NULL, &a);
    for (int32_t i = 0; i < SAMPLES; i++) {
        float z[MOST_CLASSES];
        double margin = INFINITY;
        (void)forward(&m, 1, a.moved + i * PIXELS, z);
        int32_t winner = ar_argmax(MOST_CLASSES, z);
        assert_int_equal(winner, a.records[i].prediction);
        if (!a.records[i].fooled) continue;
        won++;
        assert_true(targeted ? winner == aims[i] : winner != y[i]);
        for (int32_t k = 0; k < MOST_CLASSES; k++)
            if (targeted ? k != aims[i] : k == y[i])
                margin = fmin(margin, (double)z[winner] - (double)z[k]);
        /* Won by no less than was asked for, and by hardly more. */
        if (!(margin >= confidence) || margin > confidence + 0.05)
            fail_msg("%s: sample %d wins by %.6g", text, i, margin);
    }
    print_message("%s: %d of %d\n", text, won, SAMPLES);
    assert_true(won > SAMPLES / 3);
    ar_target_release(target);
    free(x);
    ar_context_release(ctx);
}

static void test_wins(void **state) {
    (void)state;
    check_wins(false, 0);
    check_wins(false, 0.3);
    check_wins(true, 0);
    check_wins(true, 0.2);
}

/* ---- on a net: lattices, batches, threads ---- */

static const char *const net_texts[][2] = {
    {"deepfool", "norm=l2"},
    {"deepfool", "norm=linf epsilon=0.02"},
    {"fab", "norm=l2 epsilon=0.2 steps=12 targets=3"},
    {"fab", "norm=linf epsilon=0.02 steps=12 targets=2 restarts=2"},
    {"carlini_wagner", "steps=40 search_steps=4 initial_constant=0.1"},
};
enum { NET_TEXTS = sizeof net_texts / sizeof net_texts[0], MOST = 70 };

typedef struct scene {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *target;
    int64_t size;
    float *x, *moved;
    int32_t *y;
    ar_attack_record *records;
} scene;

/* A trained net and random images of which every fourth is wrong. */
static void open_scene(scene *s, int32_t threads, int32_t lattice) {
    ar_safetensors file;
    s->ctx = open_context(NULL, threads);
    golden_open(s->ctx, "nets", "tiny.safetensors", &file);
    s->model = golden_net(s->ctx, "tiny", &file);
    ar_safetensors_free(s->ctx, &file);
    test_ok(ar_target_from_model(s->model, &s->target));
    test_ok(ar_target_set_lattice(s->target, lattice));
    s->size = ar_shape_count(s->target->shape);
    s->x = draw_images(MOST, s->size, 91);
    s->y = draw_labels(MOST, s->target->classes, 92);
    s->moved = malloc(sizeof(float) * MOST * (size_t)s->size);
    s->records = malloc(sizeof(ar_attack_record) * MOST);
    for (int64_t i = 0; i < MOST * s->size && lattice > 0; i++)
        s->x[i] = (float)(rint((double)s->x[i] * lattice) / lattice);
    float *logits = malloc(sizeof(float) * MOST * (size_t)s->target->classes);
    test_ok(ar_target_forward(s->target, MOST, s->x, logits));
    for (int32_t i = 0; i < MOST; i++)
        if (i % 4 != 0) s->y[i] = ar_argmax(s->target->classes, logits + i * s->target->classes);
    free(logits);
}

static void close_scene(scene *s) {
    ar_target_release(s->target);
    ar_model_release(s->model);
    ar_context_release(s->ctx);
    free(s->x);
    free(s->y);
    free(s->moved);
    free(s->records);
}

static void attack_part(scene *s, int32_t text, int64_t first, int64_t n) {
    advrob_options *options = test_options(net_texts[text][1]);
    advrob_attack *made = NULL;
    int64_t ids[MOST];
    for (int64_t i = 0; i < n; i++)
        ids[i] = first + i;
    test_ok(ar_attack_create(s->ctx, net_texts[text][0], options, &made));
    ar_options_destroy(options);
    ar_attack_call call = {.n = n,
                           .x = s->x + first * s->size,
                           .y = s->y + first,
                           .ids = ids,
                           .adversarial = s->moved + first * s->size,
                           .records = s->records + first};
    test_ok(ar_attack_run(made, s->target, NULL, &call));
    ar_attack_release(made);
}

/* Images, losses and the count of passes are a sample's own. */
static void check_alone(int32_t text) {
    scene alone;
    open_scene(&alone, 1, 0);
    for (int64_t i = 0; i < MOST; i++)
        attack_part(&alone, text, i, 1);
    for (int32_t threads = 1; threads <= 3; threads++)
        for (int64_t batch = 7; batch <= 64; batch += 57) {
            scene s;
            open_scene(&s, threads, 0);
            for (int64_t first = 0; first < MOST; first += batch)
                attack_part(&s, text, first, MOST - first < batch ? MOST - first : batch);
            for (int32_t i = 0; i < MOST; i++) {
                const ar_attack_record *a = &s.records[i], *b = &alone.records[i];
                if (memcmp(s.moved + i * s.size, alone.moved + i * s.size,
                           sizeof(float) * (size_t)s.size) != 0 ||
                    a->forwards != b->forwards || a->backwards != b->backwards ||
                    a->prediction != b->prediction || a->run != b->run || a->loss != b->loss)
                    fail_msg("%s %s, batch %d, %d threads: sample %d differs", net_texts[text][0],
                             net_texts[text][1], (int)batch, threads, i);
            }
            close_scene(&s);
        }
    close_scene(&alone);
}

static void test_alone(void **state) {
    (void)state;
    for (int32_t k = 0; k < NET_TEXTS; k++)
        check_alone(k);
}

/* On the lattice, and still adversarial there. */
static void test_lattice(void **state) {
    (void)state;
    for (int32_t k = 0; k < NET_TEXTS; k++) {
        scene s;
        int32_t moved = 0;
        open_scene(&s, 2, 255);
        attack_part(&s, k, 0, MOST);
        for (int32_t i = 0; i < MOST; i++) {
            const float *x = s.x + i * s.size, *a = s.moved + i * s.size;
            for (int64_t p = 0; p < s.size; p++)
                assert_true(a[p] == (float)(rint((double)a[p] * 255) / 255) && a[p] >= 0 &&
                            a[p] <= 1);
            if (!s.records[i].fooled) assert_memory_equal(a, x, sizeof(float) * (size_t)s.size);
            moved += s.records[i].fooled && s.records[i].linf > 0;
        }
        print_message("%s %s, on 256 levels: %d answers of %d\n", net_texts[k][0], net_texts[k][1],
                      moved, MOST);
        assert_true(moved > MOST / 8);
        close_scene(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_optimum), cmocka_unit_test(test_optimum_at_the_box),
        cmocka_unit_test(test_epsilon), cmocka_unit_test(test_flat),
        cmocka_unit_test(test_wrong),   cmocka_unit_test(test_wins),
        cmocka_unit_test(test_alone),   cmocka_unit_test(test_lattice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
