/* APGD on a target that answers what it is told, whatever the image: when the step size is halved,
 * where the path goes on, and which image is the answer. */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/options.h"

enum { PATH = 101, WINDOWS = 8 };

/* After how many steps the first windows end (Croce and Hein 2020, section 4.2). */
static const int32_t ends[WINDOWS] = {22, 41, 57, 70, 80, 87, 93, 99};

/* Pixels are uneven, so that a step along the gradient has a direction of its own. */
enum { PIXELS = 2, CLASSES = 3 };

/* Answers label 0 with logits (0, m, m) for a told margin m < 0, and with (0, m, -50) for m > 0,
 * whatever the image; the gradient points up and down in turn. */
typedef struct script {
    double margins[PATH];
    int32_t pass;
    double steps[PATH];    /* that led to the pass */
    float x[PATH][PIXELS]; /* its image */
    float answer[PIXELS];
    int32_t lattice;
    float slope; /* size of the gradient; 0: 1 */
    const ar_attack_rooms *rooms;
} script;

static int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    script *s = user;
    const ar_attack_room *room = &s->rooms->rooms[0];
    const ar_apgd_state *state = (const void *)room->state;
    assert_int_equal(n, 1);
    logits[0] = logits[1] = logits[2] = 0;
    if (x != room->x) return 0; /* the answer is checked */
    assert_true(s->pass < PATH);
    logits[1] = (float)s->margins[s->pass];
    logits[2] = logits[1] < 0 ? logits[1] : -50;
    s->steps[s->pass] = state->step;
    memcpy(s->x[s->pass++], x, sizeof s->answer);
    return 0;
}

static int32_t backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    const script *s = user;
    (void)n, (void)x, (void)dlogits;
    dx[0] = s->pass % 2 ? s->slope : -s->slope;
    dx[1] = s->pass % 3 ? 3 * s->slope : -3 * s->slope;
    return 0;
}

/* Runs the attack and checks that it took every pass. */
static void run_script(script *s, const char *text) {
    advrob_context *ctx = test_context(1);
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    ar_attack_rooms rooms;
    const float x[PIXELS] = {100 / 255.0f, 150 / 255.0f};
    const int32_t y = 0;
    test_ok(ar_target_from_callbacks(ctx, (ar_shape){1, 1, PIXELS}, CLASSES, 0, 1, forward,
                                     backward, s, &target));
    test_ok(ar_target_set_lattice(target, s->lattice));
    test_ok(ar_attack_create(ctx, "apgd", options, &attack));
    ar_options_destroy(options);
    test_ok(ar_attack_rooms_create(attack, target, 1, &rooms));
    s->rooms = &rooms;
    s->pass = 0;
    if (s->slope == 0) s->slope = 1;
    ar_attack_call call = {.n = 1, .x = x, .y = &y, .adversarial = s->answer};
    test_ok(ar_attack_run(attack, target, &rooms, &call));
    assert_int_equal(s->pass, PATH);
    ar_attack_rooms_free(&rooms);
    ar_attack_release(attack);
    ar_target_release(target);
    ar_context_release(ctx);
}

/* The halvings of the step size that the steps after each checkpoint show. */
static void check_script(script *s, const char *text, const int32_t halvings[WINDOWS]) {
    run_script(s, text);
    for (int32_t k = 0; k < WINDOWS; k++)
        if (s->steps[ends[k] + 1] != ldexp(0.5, -halvings[k]))
            fail_msg("%s: step %g after checkpoint %d, expected %d halvings of 0.5", text,
                     s->steps[ends[k] + 1], k, halvings[k]);
}

#define SCRIPTED "epsilon=0.25 random_start=0 "

static void test_checkpoints(void **state) {
    static script s;
    (void)state;
    /* Rises all the way: nothing is halved, also where the first pass counts as a fall. */
    for (int32_t k = 0; k < PATH; k++)
        s.margins[k] = -5 + 0.01 * k;
    check_script(&s, SCRIPTED "loss=margin", (const int32_t[WINDOWS]){0});
    check_script(&s, SCRIPTED "loss=ce", (const int32_t[WINDOWS]){0});
    /* 17 of the first 22 passes rise, one more than three quarters. The first is compared with a
     * loss of 0, so it is a rise of the positive cross entropy and none of the negative margin. */
    for (int32_t k = 0; k < PATH; k++)
        s.margins[k] = k <= 17 ? -5 + 0.01 * k : k <= 22 ? -5 + 0.01 * (34 - k) : -4 + 0.01 * k;
    check_script(&s, SCRIPTED "loss=ce", (const int32_t[WINDOWS]){0});
    check_script(&s, SCRIPTED "loss=margin", (const int32_t[WINDOWS]){1, 1, 1, 1, 1, 1, 1, 1});
    /* Every second pass rises, and the best loss only in the first window and in the sixth: by the
     * share of rises alone it is always halved; without it whenever the window before was not. */
    for (int32_t k = 0; k < PATH; k++)
        s.margins[k] = k <= 22 ? -3 + 0.01 * k : k == 85 ? -1 : -5 + 0.01 * (k % 2);
    check_script(&s, SCRIPTED "loss=margin", (const int32_t[WINDOWS]){0, 1, 2, 3, 4, 5, 6, 7});
    check_script(&s, SCRIPTED "loss=margin rho=0",
                 (const int32_t[WINDOWS]){0, 1, 1, 2, 2, 2, 3, 3});
    /* The best loss is the first: the first window is forgiven. */
    for (int32_t k = 0; k < PATH; k++)
        s.margins[k] = k == 0 ? -1 : -5 + 0.01 * (k % 2);
    check_script(&s, SCRIPTED "loss=margin rho=0",
                 (const int32_t[WINDOWS]){0, 1, 1, 2, 2, 3, 3, 4});
}

/* Without early stop: the image that fools with the largest loss, else that with the largest loss;
 * an image that does not fool may have the larger one. */
static void test_answer(void **state) {
    static script s;
    static const double margins[3][2] = {{-0.01, 0.5}, {-0.02, -0.01}, {0.2, 0.5}};
    (void)state;
    for (int32_t i = 0; i < 3; i++) {
        for (int32_t k = 0; k < PATH; k++)
            s.margins[k] = k == 37 ? margins[i][1] : k % 2 ? margins[i][0] : -4;
        run_script(&s, SCRIPTED "early_stop=0 loss=ce");
        assert_memory_equal(s.answer, s.x[37], sizeof s.answer);
        assert_memory_not_equal(s.x[37], s.x[0], sizeof s.answer);
    }
}

/* Every image of the path lies in the ball and on the lattice, and the path does move. */
static void test_path(void **state) {
    static script s;
    (void)state;
    for (int32_t norm = 0; norm < 2; norm++)
        for (s.lattice = 0; s.lattice <= 255; s.lattice += 255) {
            int32_t moves = 0;
            for (int32_t k = 0; k < PATH; k++)
                s.margins[k] = -5 + 0.01 * k;
            run_script(&s, norm == 0 ? SCRIPTED "norm=linf" : SCRIPTED "norm=l2");
            for (int32_t k = 0; k < PATH; k++) {
                double d[PIXELS], level;
                for (int32_t i = 0; i < PIXELS; i++) {
                    d[i] = fabs((double)s.x[k][i] - (double)s.x[0][i]);
                    level = (double)s.x[k][i] * 255;
                    assert_true(s.lattice == 0 || fabs(level - rint(level)) < 1e-4);
                }
                assert_true((norm == 0 ? fmax(d[0], d[1]) : sqrt(d[0] * d[0] + d[1] * d[1])) <=
                            0.25);
                moves += k > 0 && memcmp(s.x[k], s.x[k - 1], sizeof s.answer) != 0;
            }
            assert_true(moves > PATH / 2);
        }
}

/* In l2 the size of the gradient says nothing, however small it is. */
static void test_tiny_gradient(void **state) {
    static script one = {.slope = 1}, tiny = {.slope = 1e-41f};
    (void)state;
    for (int32_t k = 0; k < PATH; k++)
        one.margins[k] = tiny.margins[k] = -5 + 0.01 * k;
    run_script(&one, SCRIPTED "norm=l2");
    run_script(&tiny, SCRIPTED "norm=l2");
    for (int32_t k = 0; k < PATH; k++)
        for (int32_t i = 0; i < PIXELS; i++)
            assert_true(fabsf(one.x[k][i] - tiny.x[k][i]) < 1e-3f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_tiny_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
