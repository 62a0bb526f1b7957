/* APGD against the paths that its authors' code took (autoattack.py), at every kernel table: losses
 * of all passes, best losses and step sizes at all checkpoints, who was fooled, passes counted. */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/options.h"
#include "tolerance.h"

enum { IMAGES = 40, STEPS = 100, RUNS = 2, CHECKPOINTS = 8, CLASSES = 10 };
enum { RUN_PASSES = STEPS + 2, PASSES = RUNS * RUN_PASSES }; /* apgd_t looks at the image first */

/* Steps after which the original looks at what it has reached; the last step is no such. */
static const int32_t checkpoints[CHECKPOINTS] = {22, 41, 57, 70, 80, 87, 93, 99};

/* A sign that flips in a tiny gradient may lead a path astray: most follow. */
#define LOSS_EQUAL 1e-3
#define LOSS_FLOOR 1e-2
#define FOLLOW 0.95    /* of all paths */
#define FOLLOW_ONE 0.9 /* of each run's */
#define FIRM 0.85      /* at least of all paths */

/* What is seen of one pass at one image, before the attack looks at its answer. */
typedef struct pass {
    double loss, best, step;
} pass;

/* The net behind callbacks, which note every pass of the attack. */
typedef struct spy {
    advrob_context *ctx;
    ar_safetensors file;
    advrob_model *model;
    advrob_target *net, *target;
    void *session;
    ar_attack_rooms *rooms;
    const ar_loss *loss;
    int64_t size;
    float *x;
    int32_t *y;
    int32_t firm, followed; /* paths of all runs */
    int32_t seen[IMAGES];
    pass passes[IMAGES][PASSES];
} spy;

static void note(spy *s, int64_t n, const float *logits) {
    const ar_attack_room *room = &s->rooms->rooms[0];
    for (int64_t i = 0; i < n; i++) {
        const int32_t slot = room->slot[i], id = (int32_t)room->ids[slot];
        const ar_apgd_state *state =
            (const void *)(room->state + s->rooms->state_size * (size_t)slot);
        assert_true(id < IMAGES && s->seen[id] < PASSES);
        s->passes[id][s->seen[id]++] = (pass){
            s->loss->sample(CLASSES, logits + i * CLASSES, room->y[i], room->target[i], NULL),
            state->best, state->step};
    }
}

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    spy *s = user;
    test_ok(ar_target_forward(s->net, n, x, logits));
    if (x == s->rooms->rooms[0].x) note(s, n, logits); /* else the answers are checked */
    return 0;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    spy *s = user;
    float logits[AR_MAX_LANES * CLASSES];
    for (int64_t i = 0; i < n; i += AR_MAX_LANES) {
        const int32_t part = n - i < AR_MAX_LANES ? (int32_t)(n - i) : AR_MAX_LANES;
        test_ok(s->net->forward(s->net, s->session, part, x + i * s->size, logits));
        test_ok(s->net->backward(s->net, s->session, part, x + i * s->size, dlogits + i * CLASSES,
                                 dx + i * s->size));
    }
    return 0;
}

/* The net's images and their mirror images. */
static float *read_images(spy *s) {
    int64_t count = 0;
    ar_safetensors net;
    golden_open(s->ctx, "nets", "eight_layer_conv.safetensors", &net);
    s->model = golden_net(s->ctx, "eight_layer_conv", &net);
    float *half = golden_get(&net, "x", &count), *x = malloc(2 * sizeof(float) * (size_t)count);
    ar_safetensors_free(s->ctx, &net);
    assert_int_equal(2 * count, IMAGES * s->size);
    memcpy(x, half, sizeof(float) * (size_t)count);
    for (int64_t i = 0; i < count; i++)
        x[count + i] = half[i / 28 * 28 + 27 - i % 28];
    free(half);
    return x;
}

static void open_spy(spy *s, const ar_kernels *kernels) {
    int64_t n = 0;
    *s = (spy){.ctx = test_context(2), .size = 28 * 28};
    s->ctx->kernels = kernels;
    s->x = read_images(s);
    golden_open(s->ctx, "autoattack", "apgd.safetensors", &s->file);
    s->y = golden_labels(&s->file, "labels", &n);
    assert_int_equal(n, IMAGES);
    assert_int_equal(golden_int(&s->file, "steps", 0), STEPS);
    assert_int_equal(golden_int(&s->file, "targets", 0), RUNS);
    test_ok(ar_target_from_model(s->model, &s->net));
    test_ok(s->net->open(s->net, &s->session));
    test_ok(ar_target_from_callbacks(s->ctx, s->net->shape, CLASSES, 0, 1, forward, backward, s,
                                     &s->target));
}

static void close_spy(spy *s) {
    free(s->x);
    free(s->y);
    s->net->close(s->net, s->session);
    ar_target_release(s->target);
    ar_target_release(s->net);
    ar_model_release(s->model);
    ar_safetensors_free(s->ctx, &s->file);
    ar_context_release(s->ctx);
}

static double epsilon_of(const spy *s, const char *norm) {
    char key[32];
    snprintf(key, sizeof key, "epsilon_%s", norm);
    return atof(ar_safetensors_metadata(&s->file, key));
}

/* On the spied target, or straight on the net. */
static void run_attack(spy *s, bool spied, const char *name, const char *norm, const char *text,
                       ar_attack_record *records) {
    char all[160];
    advrob_attack *attack;
    ar_attack_rooms rooms;
    advrob_target *target = spied ? s->target : s->net;
    snprintf(all, sizeof all, "norm=%s epsilon=%.17g %s", norm, epsilon_of(s, norm), text);
    advrob_options *options = test_options(all);
    test_ok(ar_attack_create(s->ctx, name, options, &attack));
    ar_options_destroy(options);
    test_ok(ar_attack_rooms_create(attack, target, IMAGES, &rooms));
    s->rooms = &rooms;
    s->loss = attack->loss;
    memset(s->seen, 0, sizeof s->seen);
    ar_attack_call call = {.n = IMAGES, .x = s->x, .y = s->y, .records = records};
    test_ok(ar_attack_run(attack, target, &rooms, &call));
    ar_attack_rooms_free(&rooms);
    ar_attack_release(attack);
}

/* ---- paths ---- */

typedef struct path {
    float *loss, *best;   /* [STEPS, IMAGES], [CHECKPOINTS, IMAGES] */
    int32_t *halvings;    /* [CHECKPOINTS, IMAGES] */
    int32_t *held, *firm; /* [IMAGES] */
} path;

static void *tensor(const spy *s, const char *which, const char *norm, const char *key,
                    int64_t expected) {
    char name[64];
    int64_t count = 0;
    snprintf(name, sizeof name, "%s_%s.%s", which, norm, key);
    bool real = key[0] == 'l' || key[0] == 'b';
    void *values = !real ? (void *)golden_labels(&s->file, name, &count)
                         : (void *)golden_get(&s->file, name, &count);
    assert_int_equal(count, expected);
    return values;
}

static path read_path(const spy *s, const char *which, const char *norm) {
    return (path){tensor(s, which, norm, "loss", STEPS * IMAGES),
                  tensor(s, which, norm, "best", CHECKPOINTS * IMAGES),
                  tensor(s, which, norm, "halvings", CHECKPOINTS * IMAGES),
                  tensor(s, which, norm, "held", IMAGES), tensor(s, which, norm, "firm", IMAGES)};
}

static void free_path(path *p) {
    free(p->loss);
    free(p->best);
    free(p->halvings);
    free(p->held);
    free(p->firm);
}

static bool near(double a, double b) {
    return fabs(a - b) <= LOSS_EQUAL * fmax(fabs(b), LOSS_FLOOR);
}

/* Whether image i went as the path did, in `count` passes from `seen` on. */
static bool follows(const path *p, int32_t i, const pass *seen, int32_t count, double epsilon) {
    bool same = true;
    for (int32_t k = 0; k < count && k < STEPS; k++)
        same = same && near(seen[k].loss, (double)p->loss[k * IMAGES + i]);
    for (int32_t c = 0; c < CHECKPOINTS && checkpoints[c] + 1 < count; c++) {
        const pass *after = &seen[checkpoints[c] + 1];
        same = same && near(after->best, (double)p->best[c * IMAGES + i]);
        same = same && after->step == ldexp(2 * epsilon, -p->halvings[c * IMAGES + i]);
    }
    return same;
}

/* Run `run` of an attack with its passes from `first` on: a run takes the images that held in the
 * runs before, and an image leaves it when it is fooled. */
static void check_run(spy *s, const char *which, const char *norm, int32_t run, int32_t first,
                      const ar_attack_record *records) {
    int32_t follow = 0, paths = 0, whole = 0, firm = 0, loose = 0;
    path p = read_path(s, which, norm);
    for (int32_t i = 0; i < IMAGES; i++) {
        int32_t count = s->seen[i] - first;
        if (count <= 0) continue;
        if (count > STEPS + 1) count = STEPS + 1;
        /* An image that is fooled leaves at the pass that shows it. */
        bool fooled = records[i].fooled && records[i].run == run;
        bool same = follows(&p, i, s->passes[i] + first, count, epsilon_of(s, norm)) &&
                    count - fooled == p.held[i];
        paths++;
        firm += p.firm[i];
        follow += p.firm[i] && same;
        loose += !p.firm[i] && same;
        whole += p.firm[i] && same && !fooled;
    }
    print_message(
        "%s, %s %s: %d of %d firm paths are followed, %d to the end, and %d of %d others\n",
        s->ctx->kernels->name, which, norm, follow, firm, whole, loose, paths - firm);
    assert_true(firm >= FIRM * paths && follow >= FOLLOW_ONE * firm && whole > IMAGES / 3);
    free_path(&p);
    s->firm += firm;
    s->followed += follow;
}

static void check_runs(spy *s, const char *norm) {
    ar_attack_record records[IMAGES];
    run_attack(s, true, "apgd", norm, "loss=ce random_start=0", records);
    check_run(s, "ce", norm, 0, 0, records);
    run_attack(s, true, "apgd", norm, "loss=dlr random_start=0", records);
    check_run(s, "dlr", norm, 0, 0, records);
    run_attack(s, true, "apgd_t", norm, "targets=2 random_start=0", records);
    check_run(s, "t0", norm, 0, 1, records);
    check_run(s, "t1", norm, 1, RUN_PASSES + 1, records);
}

static void test_paths(void **state) {
    static spy s;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    (void)state;
    for (int32_t i = TEST_SANITIZED ? count - 1 : 0; i < count; i++) {
        open_spy(&s, tables[i]);
        check_runs(&s, "linf");
        check_runs(&s, "l2");
        print_message("%s: %d of %d\n", tables[i]->name, s.followed, s.firm);
        assert_true(s.followed >= FOLLOW * s.firm);
        close_spy(&s);
    }
}

/* ---- passes ---- */

/* Of images that hold, as many as the original's, from a random start. */
static void test_passes(void **state) {
    static spy s;
    static const char *const cases[] = {"ce", "dlr", "t"};
    (void)state;
    open_spy(&s, ar_kernels_get(ar_cpu_detect(), false));
    for (int32_t k = 0; k < (TEST_SANITIZED ? 2 : 6); k++) {
        const char *which = cases[k % 3], *norm = k < 3 ? "linf" : "l2";
        char name[32], text[32];
        ar_attack_record records[IMAGES];
        int32_t held = 0;
        snprintf(name, sizeof name, "%s_%s.passes", which, norm);
        int32_t *passes = golden_labels(&s.file, name, NULL);
        snprintf(text, sizeof text, k % 3 < 2 ? "loss=%s" : "targets=2", which);
        run_attack(&s, false, k % 3 < 2 ? "apgd" : "apgd_t", norm, text, records);
        for (int32_t i = 0; i < IMAGES; i++) {
            if (records[i].fooled) continue;
            held++;
            assert_true(fabs((double)records[i].forwards / passes[0] - 1) <= 0.02);
            assert_true(fabs((double)records[i].backwards / passes[1] - 1) <= 0.02);
        }
        assert_true(held > 10 && held < IMAGES);
        free(passes);
    }
    close_spy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
