/* Every allocation fails once in nets that are built node by node, and in their pruning; test_oom.c
 * says what is asked of a refused call. */
#include "sweep.h"

static void add(run *r, const char *op, const char *name, const char *a, const char *b,
                int32_t outputs) {
    const char *inputs[] = {a, b};
    const double three = 3, one = 1;
    advrob_options_destroy(r->options[5]);
    new_options(r, 5);
    if (r->over) return;
    if (outputs > 0) {
        CALL(r, advrob_options_set_i64(r->options[5], "outputs", outputs));
        if (strcmp(op, "conv2d") == 0) {
            CALL(r, advrob_options_set_f64_array(r->options[5], "kernel", &three, 1));
            CALL(r, advrob_options_set_f64_array(r->options[5], "padding", &one, 1));
        }
    }
    CALL(r, advrob_model_add(r->models[0], op, name, inputs, b == NULL ? 1 : 2, r->options[5]));
}

/* A sum of two branches, a batch norm, a concatenation. */
static void build(run *r) {
    static const struct {
        const char *op, *name, *a, *b;
        int32_t outputs;
    } nodes[] = {
        {"conv2d", "conv1", "input", NULL, 4},  {"batch_norm", "bn", "conv1", NULL, 0},
        {"relu", "relu", "bn", NULL, 0},        {"conv2d", "conv2", "relu", NULL, 4},
        {"add", "sum", "conv2", "relu", 0},     {"conv2d", "conv3", "input", NULL, 3},
        {"concat", "both", "sum", "conv3", 0},  {"max_pool", "pool", "both", NULL, 0},
        {"conv2d", "conv4", "pool", NULL, 3},   {"global_avg_pool", "mean", "conv4", NULL, 0},
        {"linear", "fc", "mean", NULL, CLASSES}};
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_f64(r->options[0], "low", 0));
    MAKE(r, r->models[0], advrob_model_begin(r->ctx, 1, SIDE, SIDE, r->options[0], &r->models[0]));
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0] && !r->over; i++)
        add(r, nodes[i].op, nodes[i].name, nodes[i].a, nodes[i].b, nodes[i].outputs);
    if (r->over) return;
    CALL(r, advrob_model_initialise(r->models[0], "pytorch", 3));
    look_at_model(r, r->models[0]);
}

static void scenario_layer(run *r) {
    build(r);
    if (!r->over) make_smaller(r, 1, "prune_l1", "scope", "layer");
    if (!r->over) make_smaller(r, 2, "prune_l2", "coupling", "union");
    if (!r->over) look_at_model(r, r->models[0]);
}

static void scenario_global(run *r) {
    build(r);
    if (!r->over) make_smaller(r, 1, "prune_random", "scope", "global");
    if (!r->over) make_smaller(r, 2, "prune_l1", "target", "macs");
    if (!r->over) make_smaller(r, 3, "prune_l1", "steps", "2");
}

static void scenario_taylor(run *r) {
    build(r);
    if (!r->over) new_dataset(r, 0);
    if (!r->over) make_smaller(r, 1, "prune_taylor", "batch", "8");
}

static void scenario_plan(run *r) {
    static const char plan[] = "conv1: 1 of 4 go: 2\nconv2: 1 of 4 go: 2\nconv3: 1 of 3 go: 0\n";
    build(r);
    if (!r->over) make_smaller(r, 1, "prune_plan", "plan", plan);
}

static void check(void (*scenario)(run *r)) {
    int64_t before = sweep_faults;
    sweep_all(scenario);
    print_message("%lld faults\n", (long long)(sweep_faults - before));
    assert_true(sweep_faults - before > 100);
}

static void test_layer(void **state) {
    (void)state;
    check(scenario_layer);
}

static void test_global(void **state) {
    (void)state;
    check(scenario_global);
}

static void test_taylor(void **state) {
    (void)state;
    check(scenario_taylor);
}

static void test_plan(void **state) {
    (void)state;
    check(scenario_plan);
}

static int set_up(void **state) {
    (void)state;
    fill_images();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer),
        cmocka_unit_test(test_global),
        cmocka_unit_test(test_taylor),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
