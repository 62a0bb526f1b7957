/* The energy meter on a made-up powercap tree: which zones count, counters that wrap around,
 * vanish, hold no number or may not be read. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    test_allocator allocator;
    test_guard guard;
    advrob_context *ctx;
    char root[256];
} fixture;

static void put(const fixture *f, const char *zone, const char *file, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f->root, zone);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", f->root, zone, file);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void put_zone(const fixture *f, const char *zone, const char *name, const char *energy,
                     const char *range) {
    put(f, zone, "name", name);
    put(f, zone, "energy_uj", energy);
    put(f, zone, "max_energy_range_uj", range);
}

static void remove_tree(const fixture *f) {
    static const char *const zones[] = {"intel-rapl:0", "intel-rapl:1",   "intel-rapl:2",
                                        "intel-rapl:4", "intel-rapl:0:0", "other"};
    char path[512];
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", f->root, zones[i]);
        if (access(path, F_OK) == 0) test_folder_remove(path);
    }
    test_folder_remove(f->root);
}

/* Two packages with a gap between their numbers, psys, a part of a package, something else. */
static int setup(void **state) {
    static fixture f;
    memset(&f, 0, sizeof f);
    f.guard = test_guard_begin();
    f.ctx = test_context_with(&f.allocator, 1);
    test_folder_make(f.root, sizeof f.root);
    put_zone(&f, "intel-rapl:0", "package-0\n", "1000000\n", "262143328850\n");
    put_zone(&f, "intel-rapl:0:0", "core\n", "5\n", "262143328850\n");
    put_zone(&f, "intel-rapl:1", "psys\n", "7\n", "262143328850\n");
    put_zone(&f, "intel-rapl:4", "package-1\n", "9000000", "10000000");
    put_zone(&f, "other", "package-2\n", "1\n", "10\n");
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    remove_tree(f);
    advrob_context_destroy(f->ctx);
    test_allocator_check(&f->allocator);
    test_guard_check(&f->guard);
    return 0;
}

static void expect_joules(advrob_energy *meter, double expected) {
    double joules = -1;
    assert_int_equal(advrob_energy_read(meter, &joules), ADVROB_OK);
    if (joules < expected - 1e-9 || joules > expected + 1e-9)
        fail_msg("%.9f J, expected %.9f", joules, expected);
}

static void expect_failure(int32_t status, int32_t expected, const char *part) {
    assert_int_equal(status, expected);
    if (strstr(advrob_last_message(), part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, advrob_last_message());
}

static void test_packages(void **state) {
    fixture *f = *state;
    advrob_energy *meter = NULL;
    assert_int_equal(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_OK);
    expect_joules(meter, 0);
    put(f, "intel-rapl:0", "energy_uj", "3500000\n");
    put(f, "intel-rapl:0:0", "energy_uj", "99000000\n");
    put(f, "intel-rapl:1", "energy_uj", "99000000\n");
    put(f, "other", "energy_uj", "9\n");
    expect_joules(meter, 2.5);
    put(f, "intel-rapl:4", "energy_uj", "9500000\n");
    expect_joules(meter, 3);
    put(f, "intel-rapl:4", "energy_uj", "250000\n"); /* from 9.5 over 10 to 0.25 */
    expect_joules(meter, 3.75);
    expect_joules(meter, 3.75);
    put(f, "intel-rapl:4", "energy_uj", "0\n"); /* around once more: 0.25 to 10 */
    expect_joules(meter, 13.5);
    advrob_energy_close(meter);
}

/* A meter outlives the caller's reference on the context. */
static void test_order(void **state) {
    fixture *f = *state;
    advrob_energy *meter = NULL;
    assert_int_equal(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_OK);
    advrob_context_destroy(f->ctx);
    expect_joules(meter, 0);
    advrob_energy_close(meter);
    advrob_energy_close(NULL);
    f->ctx = test_context_with(&f->allocator, 1);
}

static void test_failed_read(void **state) {
    fixture *f = *state;
    advrob_energy *meter = NULL;
    double joules = -1;
    char path[512];
    assert_int_equal(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_OK);
    put(f, "intel-rapl:0", "energy_uj", "2000000\n");
    snprintf(path, sizeof path, "%s/intel-rapl:4/energy_uj", f->root);
    assert_int_equal(unlink(path), 0);
    expect_failure(advrob_energy_read(meter, &joules), ADVROB_E_IO, "intel-rapl:4/energy_uj");
    assert_non_null(strstr(advrob_last_message(), "errno 2"));
    static const char *const garbage[] = {
        "", "\n", "many\n", "-3\n", "1e6\n", "12 13\n", "99999999999999999999999\n"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        put(f, "intel-rapl:4", "energy_uj", garbage[i]);
        expect_failure(advrob_energy_read(meter, &joules), ADVROB_E_FORMAT, "energy_uj");
        assert_true(joules == -1);
    }
    put(f, "intel-rapl:4", "energy_uj", "9000001\n"); /* nothing of the failed reads was kept */
    expect_joules(meter, 1.000001);
    advrob_energy_close(meter);
}

static void test_failed_open(void **state) {
    fixture *f = *state;
    advrob_energy *meter = NULL;
    char path[2048];
    expect_failure(advrob_energy_open(f->ctx, "/nowhere/powercap", &meter), ADVROB_E_UNSUPPORTED,
                   "/nowhere/powercap/intel-rapl:0/name");
    assert_non_null(strstr(advrob_last_message(), "errno 2"));
    put(f, "intel-rapl:4", "max_energy_range_uj", "x");
    expect_failure(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_E_FORMAT, "max_energy");
    put(f, "intel-rapl:0", "name", "dram\n");
    put(f, "intel-rapl:4", "name", "psys\n");
    expect_failure(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_E_UNSUPPORTED, "package");
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = 0;
    expect_failure(advrob_energy_open(f->ctx, path, &meter), ADVROB_E_INVALID, "2047 bytes");
    assert_null(meter);
}

/* Every file operation fails in turn: no descriptor stays open, no wrong figure comes out. Then
 * the usual case on real machines: a counter that only root may read. */
static void test_faults(void **state) {
    fixture *f = *state;
    advrob_energy *meter = NULL;
    test_files files = {.error = 13};
    test_files_use(f->ctx, &files);
    for (int64_t at = 1; at <= 40; at++) {
        files.fail_at = files.operations + at;
        int32_t status = advrob_energy_open(f->ctx, f->root, &meter);
        if (status == ADVROB_OK)
            advrob_energy_close(meter);
        else
            assert_int_equal(status, ADVROB_E_UNSUPPORTED);
        assert_int_equal(files.opened, files.closed);
    }
    test_files_use(f->ctx, NULL);
    if (geteuid() == 0) return; /* root may read everything */
    char path[512];
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", f->root);
    assert_int_equal(chmod(path, 0), 0);
    expect_failure(advrob_energy_open(f->ctx, f->root, &meter), ADVROB_E_UNSUPPORTED, "errno 13");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_packages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
