/* The lists autoattack and autoattack_lite: their members are those of the authors' versions, and
 * have what the list was told. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/options.h"

enum { CLASSES = 10 };

/* An integer option of a made attack; -1: it has none of the name. */
static int64_t number(const advrob_attack *attack, const char *name) {
    const ar_option_table *table = attack->kind->options;
    int64_t value = -1;
    for (int32_t i = 0; i < table->count; i++)
        if (strcmp(table->options[i].name, name) == 0)
            memcpy(&value, (const char *)attack->options + table->options[i].offset, sizeof value);
    return value;
}

/* "name loss steps restarts targets queries eot rescale"; a dash where an attack has no such
 * option. */
static void describe(const advrob_attack *attack, char *text, size_t size) {
    static const char *const names[] = {"steps",   "restarts", "targets",
                                        "queries", "eot",      "rescale"};
    int length = snprintf(text, size, "%s %s", attack->kind->name,
                          attack->kind->loss != NULL ? "-" : attack->common->loss);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int64_t value = number(attack, names[i]);
        if (value == 0 && strcmp(names[i], "targets") == 0) { /* the usual number of them */
            int32_t runs = 0;
            test_ok(ar_attack_count_runs(attack, CLASSES, &runs));
            value = runs / (number(attack, "restarts") > 0 ? number(attack, "restarts") : 1);
        }
        if (value < 0)
            length += snprintf(text + length, size - (size_t)length, " -");
        else
            length += snprintf(text + length, size - (size_t)length, " %d", (int)value);
    }
}

static void check(const char *name, const char *words, const char *const *expected) {
    static test_allocator allocator;
    advrob_context *ctx = test_context_with(&allocator, 1);
    char text[256];
    snprintf(text, sizeof text, "epsilon=0.25 norm=l2 seed=11 first_sample=17%s", words);
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(advrob_attack_create(ctx, name, options, &attack));
    ar_options_destroy(options);
    ar_attack_list list = {.ctx = ctx, .common = attack->common};
    test_ok(attack->kind->members(attack->options, CLASSES, &list));
    for (int32_t i = 0; i < list.count; i++) {
        const advrob_attack *m = list.attacks[i];
        describe(m, text, sizeof text);
        assert_non_null(expected[i]);
        assert_string_equal(text, expected[i]);
        assert_true(m->common->epsilon == 0.25 && m->norm == AR_NORM_L2);
        assert_true(m->seed == 11 && m->common->first_sample == 17);
        ar_attack_release(list.attacks[i]);
    }
    assert_null(expected[list.count]);
    ar_attack_release(attack);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_members(void **state) {
    (void)state;
    /* autoattack.py of the authors' code, set_version, and the constructors above it. */
    static const char *const standard[] = {"apgd ce 100 1 - - 1 -", "apgd_t - 100 - 9 - 1 -",
                                           "fab - 100 1 9 - - -", "square - - 1 - 5000 - 0", NULL};
    static const char *const plus[] = {"apgd ce 100 5 - - 1 -",  "apgd dlr 100 5 - - 1 -",
                                       "fab - 100 5 9 - - -",    "square - - 1 - 5000 - 0",
                                       "apgd_t - 100 - 9 - 1 -", NULL};
    static const char *const randomised[] = {"apgd ce 100 1 - - 20 -", "apgd dlr 100 1 - - 20 -",
                                             NULL};
    static const char *const lite[] = {"apgd ce 50 1 - - 1 -", "apgd_t - 50 - 3 - 1 -",
                                       "square - - 1 - 1000 - 1", NULL};
    static const char *const less[] = {"apgd ce 7 1 - - 1 -", "apgd_t - 7 - 2 - 1 -",
                                       "square - - 1 - 0 - 1", NULL};
    check("autoattack", "", standard);
    check("autoattack", " version=standard", standard);
    check("autoattack", " version=plus", plus);
    check("autoattack", " version=rand", randomised);
    check("autoattack_lite", "", lite);
    check("autoattack_lite", " steps=7 targets=2 queries=0", less);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
