/* Option sets, their readers, their messages and their behaviour when memory runs out. */
#include "support/support.h"

#include <math.h>
#include <string.h>

typedef struct demo {
    double epsilon;
    int64_t steps;
    const char *loss, *note;
    ar_f64_array weights;
    void *target;
    ar_option_list attacks;
} demo;

static const ar_option entries[] = {
    AR_F64(demo, epsilon, 8.0 / 255, 0, 1e6, "radius"),
    AR_I64(demo, steps, 20, 1, 1000000, "steps"),
    AR_STR(demo, loss, "ce", "ce|margin|logit", "loss"),
    AR_STR(demo, note, NULL, NULL, "any text"),
    AR_F64_ARRAY(demo, weights, -1, 1, "weights"),
    AR_HANDLE(demo, target, "a target"),
    AR_LIST(demo, attacks, "attacks"),
};

static const ar_option_table table = AR_TABLE(demo, entries);

typedef struct fixture {
    test_allocator allocator;
    ar_memory memory;
    ar_arena arena;
    advrob_options *options;
    demo out;
} fixture;

static int setup(void **state) {
    static fixture f;
    memset(&f, 0, sizeof f);
    ar_memory_init(&f.memory, test_alloc, &f.allocator);
    ar_arena_init(&f.arena, &f.memory);
    *state = &f;
    return ar_options_create(test_alloc, &f.allocator, &f.options);
}

static int teardown(void **state) {
    fixture *f = *state;
    ar_options_destroy(f->options);
    ar_arena_free(&f->arena);
    test_allocator_check(&f->allocator);
    return 0;
}

static int32_t read_demo(fixture *f) {
    return ar_options_read(f->options, "attack pgd", "", &table, &f->arena, &f->out);
}

static void expect(fixture *f, int32_t code, const char *message) {
    assert_int_equal(read_demo(f), code);
    assert_string_equal(ar_message(), message);
}

static void test_defaults(void **state) {
    fixture *f = *state;
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.epsilon == 8.0 / 255);
    assert_true(f->out.steps == 20);
    assert_string_equal(f->out.loss, "ce");
    assert_null(f->out.note);
    assert_int_equal(f->out.weights.count, 0);
    assert_null(f->out.target);
    assert_int_equal(f->out.attacks.count, 0);
    assert_int_equal(ar_options_read(NULL, "attack pgd", "", &table, &f->arena, &f->out),
                     ADVROB_OK);
    assert_true(f->out.steps == 20);
}

static void test_values(void **state) {
    fixture *f = *state;
    double weights[3] = {-1, 0.5, 1};
    int target;
    char loss[] = "margin";
    assert_int_equal(ar_options_set_f64(f->options, "epsilon", 0.5), ADVROB_OK);
    assert_int_equal(ar_options_set_f64(f->options, "epsilon", 0.25), ADVROB_OK); /* replaced */
    assert_int_equal(ar_options_set_i64(f->options, "steps", 7), ADVROB_OK);
    assert_int_equal(ar_options_set_str(f->options, "loss", loss), ADVROB_OK);
    assert_int_equal(ar_options_set_f64_array(f->options, "weights", weights, 3), ADVROB_OK);
    assert_int_equal(ar_options_set_handle(f->options, "target", &target), ADVROB_OK);
    loss[0] = 'x'; /* everything was copied */
    weights[0] = 5;
    assert_int_equal(read_demo(f), ADVROB_OK);
    ar_options_destroy(f->options); /* and the reader has copies of its own */
    f->options = NULL;
    assert_true(f->out.epsilon == 0.25);
    assert_true(f->out.steps == 7);
    assert_string_equal(f->out.loss, "margin");
    assert_int_equal(f->out.weights.count, 3);
    assert_true(f->out.weights.values[0] == -1 && f->out.weights.values[2] == 1);
    assert_ptr_equal(f->out.target, &target);
}

static void test_texts(void **state) {
    fixture *f = *state;
    ar_options_set_text(f->options, "epsilon", "8/255");
    ar_options_set_text(f->options, "steps", "40");
    ar_options_set_text(f->options, "loss", "logit");
    ar_options_set_text(f->options, "weights", "0.1, 1/4,-1");
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.epsilon == 8.0 / 255);
    assert_true(f->out.steps == 40);
    assert_string_equal(f->out.loss, "logit");
    assert_int_equal(f->out.weights.count, 3);
    assert_true(f->out.weights.values[0] == 0.1 && f->out.weights.values[1] == 0.25 &&
                f->out.weights.values[2] == -1);
    ar_options_set_text(f->options, "epsilon", "0.05");
    ar_options_set_text(f->options, "weights", "");
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.epsilon == 0.05);
    assert_int_equal(f->out.weights.count, 0);
}

static void test_integer_for_number(void **state) {
    fixture *f = *state;
    ar_options_set_i64(f->options, "epsilon", 3);
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.epsilon == 3);
    ar_options_set_f64(f->options, "steps", 20);
    expect(f, ADVROB_E_INVALID,
           "attack pgd: option \"steps\" is 20, expected an integer in [1, 1000000]; a "
           "floating-point number was set");
}

static void test_ranges(void **state) {
    fixture *f = *state;
    ar_options_set_f64(f->options, "epsilon", -1);
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"epsilon\" is -1, expected a number in [0, 1e+06]");
    ar_options_set_f64(f->options, "epsilon", (double)NAN);
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"epsilon\" is nan, expected a number in [0, 1e+06]");
    ar_options_set_f64(f->options, "epsilon", (double)INFINITY);
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
    ar_options_set_f64(f->options, "epsilon", 1e6);
    ar_options_set_i64(f->options, "steps", 0);
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"steps\" is 0, expected an integer in [1, 1000000]");
    ar_options_set_i64(f->options, "steps", INT64_MAX);
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
    ar_options_set_i64(f->options, "steps", 1000000);
    assert_int_equal(read_demo(f), ADVROB_OK);
    const double weights[] = {0, 1.5};
    ar_options_set_f64_array(f->options, "weights", weights, 2);
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"weights\" is 1.5 at place 1, expected numbers in [-1, 1]");
    ar_options_set_text(f->options, "weights", "0,-7");
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
}

static void test_malformed_texts(void **state) {
    static const char *const rows[][2] = {
        {"epsilon", ""},      {"epsilon", "x"},    {"epsilon", "1/0"}, {"epsilon", "1/2/3"},
        {"epsilon", "nan"},   {"epsilon", "0,05"}, {"steps", "20.0"},  {"steps", "8/2"},
        {"steps", "1e3"},     {"weights", ","},    {"weights", "1,"},  {"weights", "1,,1"},
        {"weights", "1;0.5"}, {"attacks", "pgd"},  {"target", "x"},    {"steps", ""},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        advrob_options *options;
        ar_options_create(NULL, NULL, &options);
        ar_options_set_text(options, rows[i][0], rows[i][1]);
        int32_t status = ar_options_read(options, "x", "", &table, &f->arena, &f->out);
        ar_options_destroy(options);
        if (status != ADVROB_E_INVALID) fail_msg("%s = \"%s\": %d", rows[i][0], rows[i][1], status);
        assert_non_null(strstr(ar_message(), rows[i][0]));
        assert_non_null(strstr(ar_message(), "expected"));
    }
    ar_options_set_text(f->options, "epsilon", "lots");
    expect(f, ADVROB_E_INVALID,
           "attack pgd: option \"epsilon\" is \"lots\", expected a number in [0, 1e+06]");
}

static void test_wrong_types(void **state) {
    fixture *f = *state;
    ar_options_set_str(f->options, "epsilon", "0.5"); /* a str is not a text to convert */
    expect(f, ADVROB_E_INVALID,
           "attack pgd: option \"epsilon\" is \"0.5\", expected a number in [0, 1e+06]");
    ar_options_set_f64(f->options, "epsilon", 0.5);
    ar_options_set_f64(f->options, "loss", 3);
    expect(f, ADVROB_E_INVALID,
           "attack pgd: option \"loss\" is 3, expected one of ce|margin|logit");
    ar_options_set_str(f->options, "loss", "ce");
    ar_options_set_f64(f->options, "weights", 3); /* a number is an array of one */
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"weights\" is 3 at place 0, expected numbers in [-1, 1]");
    ar_options_set_str(f->options, "weights", "1");
    expect(f, ADVROB_E_INVALID,
           "attack pgd: option \"weights\" is \"1\", expected numbers in [-1, 1]");
    ar_options_set_i64(f->options, "weights", -1);
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.weights.count == 1 && f->out.weights.values[0] == -1);
    ar_options_set_f64_array(f->options, "weights", NULL, 0);
    ar_options_set_i64(f->options, "target", 3);
    expect(f, ADVROB_E_INVALID, "attack pgd: option \"target\" is 3, expected a handle");
    ar_options_set_handle(f->options, "target", NULL);
    ar_options_set_handle(f->options, "attacks", f);
    expect(f, ADVROB_E_INVALID, "attack pgd: option \"attacks\" is a handle, expected a list");
}

static void test_choices(void **state) {
    fixture *f = *state;
    ar_options_set_str(f->options, "loss", "margn");
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"loss\" is \"margn\", expected one of ce|margin|logit; did you "
           "mean \"margin\"?");
    ar_options_set_str(f->options, "loss", "something");
    expect(f, ADVROB_E_RANGE,
           "attack pgd: option \"loss\" is \"something\", expected one of ce|margin|logit");
    ar_options_set_str(f->options, "loss", "ce|margin");
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
    ar_options_set_str(f->options, "loss", "");
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
    char longer[3000];
    memset(longer, 'y', sizeof longer);
    longer[sizeof longer - 1] = 0;
    ar_options_set_str(f->options, "loss", longer);
    assert_int_equal(read_demo(f), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "expected one of ce|margin|logit")); /* not cut off */
    ar_options_set_str(f->options, "loss", "ce");
    ar_options_set_str(f->options, "note", longer);
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_string_equal(f->out.note, longer);
}

static void test_unknown_names(void **state) {
    fixture *f = *state;
    const ar_option_scope scopes[] = {{"", &table}, {"attack.", &ar_context_options}};
    ar_options_set_f64(f->options, "epsilon", 1);
    ar_options_set_i64(f->options, "attack.seed", 1);
    assert_int_equal(ar_options_check(f->options, "attack pgd", scopes, 2), ADVROB_OK);
    assert_int_equal(ar_options_check(f->options, "attack pgd", scopes, 1), ADVROB_E_UNKNOWN);
    assert_string_equal(ar_message(), "attack pgd: unknown option \"attack.seed\"");
    ar_options_set_i64(f->options, "attack.seeed", 1);
    assert_int_equal(ar_options_check(f->options, "attack pgd", scopes, 2), ADVROB_E_UNKNOWN);
    assert_string_equal(
        ar_message(), "attack pgd: unknown option \"attack.seeed\"; did you mean \"attack.seed\"?");
    assert_int_equal(ar_options_check(NULL, "attack pgd", scopes, 2), ADVROB_OK);

    advrob_options *other;
    ar_options_create(NULL, NULL, &other);
    ar_options_set_f64(other, "epsilonn", 1);
    assert_int_equal(ar_options_check(other, "attack pgd", scopes, 1), ADVROB_E_UNKNOWN);
    assert_string_equal(ar_message(),
                        "attack pgd: unknown option \"epsilonn\"; did you mean \"epsilon\"?");
    ar_options_destroy(other);
}

static void test_nearest(void **state) {
    static const char *const names[] = {"epsilon", "steps", "step_size", "lr"};
    (void)state;
    assert_string_equal(ar_nearest("epsilno", names, 4), "epsilon");
    assert_string_equal(ar_nearest("step", names, 4), "steps");
    assert_string_equal(ar_nearest("stepsize", names, 4), "step_size");
    assert_string_equal(ar_nearest("rl", names, 4), "lr");
    assert_null(ar_nearest("zz", names, 4));
    assert_null(ar_nearest("momentum", names, 4));
    assert_null(ar_nearest("", names, 0));
    assert_int_equal(ar_distance("kitten", "sitting"), 3);
    assert_int_equal(ar_distance("", "abc"), 3);
    assert_int_equal(ar_distance("abcd", "abdc"), 1);
    char longer[400]; /* longer than any option's name: compared as far as it is looked at */
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_null(ar_nearest(longer, names, 4));
}

static void test_setters_refuse(void **state) {
    fixture *f = *state;
    char name[130];
    memset(name, 'n', sizeof name);
    name[127] = 0;
    assert_int_equal(ar_options_set_f64(f->options, name, 1), ADVROB_OK);
    name[127] = 'n';
    name[128] = 0;
    assert_int_equal(ar_options_set_f64(f->options, name, 1), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_f64(NULL, "a", 1), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_f64(f->options, NULL, 1), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_i64(f->options, "", 1), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_str(f->options, "a", NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_text(f->options, "a", NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_f64_array(f->options, "a", NULL, 1), ADVROB_E_INVALID);
    assert_int_equal(ar_options_append(f->options, "a", NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_options_append(f->options, "a", "", NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_options_set_f64_array(f->options, "a", (double[]){1}, SIZE_MAX / 4),
                     ADVROB_E_OVERFLOW);
    ar_options_destroy(NULL);
}

static void test_lists(void **state) {
    fixture *f = *state;
    advrob_options *sub;
    demo inner;
    ar_options_create(NULL, NULL, &sub);
    ar_options_set_i64(sub, "steps", 3);
    assert_int_equal(ar_options_append(f->options, "attacks", "pgd", sub), ADVROB_OK);
    ar_options_set_i64(sub, "steps", 4);
    ar_options_set_str(sub, "note", "hello");
    assert_int_equal(ar_options_append(f->options, "attacks", "pgd", sub), ADVROB_OK);
    assert_int_equal(ar_options_append(f->options, "attacks", "fgsm", NULL), ADVROB_OK);
    ar_options_destroy(sub);
    assert_int_equal(read_demo(f), ADVROB_OK);
    ar_options_destroy(f->options);
    f->options = NULL;
    assert_int_equal(f->out.attacks.count, 3);
    const ar_list_item *items = f->out.attacks.items;
    assert_string_equal(items[0].component, "pgd");
    assert_string_equal(items[2].component, "fgsm");
    ar_options_read(items[0].options, "x", "", &table, &f->arena, &inner);
    assert_true(inner.steps == 3);
    ar_options_read(items[1].options, "x", "", &table, &f->arena, &inner);
    assert_true(inner.steps == 4);
    assert_string_equal(inner.note, "hello");
    ar_options_read(items[2].options, "x", "", &table, &f->arena, &inner);
    assert_true(inner.steps == 20);
    assert_int_equal(ar_options_set_f64(items[0].options, "epsilon", 1), ADVROB_E_INTERNAL);
    ar_options_destroy(items[0].options); /* does nothing: the list owns it */
}

static void test_nested_lists(void **state) {
    fixture *f = *state;
    advrob_options *copy;
    int32_t depth = 0, status = ADVROB_OK;
    while (status == ADVROB_OK && depth < 100) { /* into itself, deeper and deeper */
        ar_options_copy(f->options, &copy);
        ar_options_destroy(f->options);
        f->options = copy;
        advrob_options *outer;
        ar_options_create(test_alloc, &f->allocator, &outer);
        status = ar_options_append(outer, "attacks", "x", f->options);
        ar_options_destroy(f->options);
        f->options = outer;
        if (status == ADVROB_OK) depth++;
    }
    assert_int_equal(status, ADVROB_E_LIMIT);
    assert_int_equal(depth, 16);
    assert_int_equal(ar_options_append(f->options, "attacks", "self", f->options), ADVROB_OK);
}

static void test_parts(void **state) {
    fixture *f = *state;
    advrob_options *part;
    advrob_alloc_fn hook;
    void *user;
    ar_options_set_f64(f->options, "lr", 1);
    ar_options_set_i64(f->options, "attack.steps", 5);
    ar_options_set_text(f->options, "attack.epsilon", "1/2");
    ar_options_append(f->options, "attack.attacks", "fgsm", f->options);
    ar_options_set_i64(f->options, "attack.", 5);
    assert_int_equal(ar_options_part(f->options, "attack.", NULL, &part), ADVROB_OK);
    ar_options_allocator(part, &hook, &user);
    assert_true(hook == test_alloc && user == &f->allocator);
    assert_int_equal(ar_options_read(part, "x", "", &table, &f->arena, &f->out), ADVROB_OK);
    const ar_option_scope scope = {"", &table};
    assert_int_equal(ar_options_check(part, "x", &scope, 1), ADVROB_OK);
    ar_options_destroy(part);
    assert_true(f->out.steps == 5);
    assert_true(f->out.epsilon == 0.5);
    assert_int_equal(f->out.attacks.count, 1);
    /* The same straight from the whole set. */
    memset(&f->out, 0, sizeof f->out);
    assert_int_equal(ar_options_read(f->options, "x", "attack.", &table, &f->arena, &f->out),
                     ADVROB_OK);
    assert_true(f->out.steps == 5 && f->out.epsilon == 0.5);
    ar_options_set_i64(f->options, "attack.steps", -5);
    assert_int_equal(ar_options_read(f->options, "x", "attack.", &table, &f->arena, &f->out),
                     ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "\"attack.steps\" is -5"));
    assert_int_equal(ar_options_part(NULL, "attack.", NULL, &part), ADVROB_OK);
    ar_options_allocator(part, &hook, &user);
    assert_true(hook == NULL && user == NULL);
    ar_options_destroy(part);
    ar_options_allocator(NULL, &hook, &user);
    assert_true(hook == NULL && user == NULL);
}

/* Everything that a set can do, once; the first failure ends it. */
static int32_t exercise(test_allocator *allocator) {
    int32_t status = ADVROB_OK;
    advrob_options *options = NULL, *copy = NULL;
    ar_memory memory;
    ar_arena arena;
    demo out;
    const double weights[] = {0.5, 0.25};
    ar_memory_init(&memory, test_alloc, allocator);
    ar_arena_init(&arena, &memory);
    AR_TRY(ar_options_create(test_alloc, allocator, &options));
    AR_TRY(ar_options_set_f64(options, "epsilon", 1));
    AR_TRY(ar_options_set_f64(options, "epsilon", 2));
    AR_TRY(ar_options_set_text(options, "steps", "3"));
    AR_TRY(ar_options_set_str(options, "loss", "ce"));
    AR_TRY(ar_options_set_f64_array(options, "weights", weights, 2));
    for (int i = 0; i < 6; i++) {
        AR_TRY(ar_options_append(options, "attacks", "pgd", options));
    }
    AR_TRY(ar_options_copy(options, &copy));
    AR_TRY(ar_options_read(copy, "x", "", &table, &arena, &out));
    assert_true(out.steps == 3 && out.attacks.count == 6 && out.weights.count == 2);
out:
    ar_options_destroy(options);
    ar_options_destroy(copy);
    ar_arena_free(&arena);
    return status;
}

static void test_without_memory(void **state) {
    test_allocator allocator = {0};
    int64_t n = 1;
    (void)state;
    for (;; n++) {
        test_allocator_arm(&allocator, n, n % 2 == 0);
        int32_t status = exercise(&allocator);
        test_allocator_check(&allocator);
        if (allocator.failed == 0) {
            assert_int_equal(status, ADVROB_OK);
            break;
        }
        assert_int_equal(status, ADVROB_E_NOMEM);
    }
    assert_true(n > 15 && n < 1000);
}

static void test_failed_set_changes_nothing(void **state) {
    fixture *f = *state;
    ar_options_set_i64(f->options, "steps", 5);
    ar_options_append(f->options, "attacks", "pgd", NULL);
    test_allocator_arm(&f->allocator, 1, 1);
    assert_int_equal(ar_options_set_i64(f->options, "steps", 6), ADVROB_E_NOMEM);
    int32_t status = ADVROB_OK; /* the arena of the list may have room for some more */
    size_t added = 0;
    while (status == ADVROB_OK) {
        status = ar_options_append(f->options, "attacks", "fgsm", NULL);
        if (status == ADVROB_OK) added++;
    }
    test_allocator_arm(&f->allocator, 0, 0);
    assert_int_equal(status, ADVROB_E_NOMEM);
    assert_int_equal(read_demo(f), ADVROB_OK);
    assert_true(f->out.steps == 5);
    assert_int_equal(f->out.attacks.count, added + 1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_defaults),        T(test_values),
        T(test_texts),           T(test_ranges),
        T(test_malformed_texts), T(test_integer_for_number),
        T(test_wrong_types),     T(test_choices),
        T(test_unknown_names),   T(test_nearest),
        T(test_setters_refuse),  T(test_lists),
        T(test_nested_lists),    T(test_parts),
        T(test_without_memory),  T(test_failed_set_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
