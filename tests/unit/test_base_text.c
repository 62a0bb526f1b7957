/* Formatting, numbers, buffers and messages, in the C locale and in one with a decimal comma. */
#include "support/support.h"

#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_FORMAT(expected, ...) \
    do { \
        char text_[256]; \
        size_t length_ = ar_format(text_, sizeof text_, __VA_ARGS__); \
        assert_string_equal(text_, expected); \
        assert_int_equal(length_, strlen(expected)); \
    } while (0)

static void test_format(void **state) {
    (void)state;
    CHECK_FORMAT("a b-c 100%", "a %s-%c %d%%", "b", 'c', 100);
    CHECK_FORMAT("-2147483648 4294967295", "%d %u", INT32_MIN, UINT32_MAX);
    CHECK_FORMAT("-9223372036854775808 18446744073709551615", "%lld %llu", (long long)INT64_MIN,
                 (unsigned long long)UINT64_MAX);
    CHECK_FORMAT("18446744073709551615", "%zu", SIZE_MAX);
    CHECK_FORMAT("-7 7 ff", "%" PRId64 " %" PRIu64 " %" PRIx64, (int64_t)-7, (uint64_t)7,
                 (uint64_t)255);
    CHECK_FORMAT("[ab    ] [    ab] [   42] [42   ] [00042] [-0042]",
                 "[%-6s] [%6s] [%5d] [%-5d] [%05d] [%05d]", "ab", "ab", 42, 42, 42, -42);
    CHECK_FORMAT("0.1 20 1e+06 1e-05 -1", "%g %g %g %g %g", 0.1, 20.0, 1e6, 1e-5, -1.0);
    CHECK_FORMAT("3.14 3 -0.50 nan inf -inf", "%.2f %.0f %.2f %.1f %.1f %.1f", 3.14159, 3.0, -0.5,
                 (double)NAN, (double)INFINITY, (double)-INFINITY);
    CHECK_FORMAT("[  1.5] [1.5  ]", "[%5.1f] [%-5.1f]", 1.5, 1.5);
    CHECK_FORMAT("abc ab", "%.3s %.*s", "abcdef", 2, "abcdef");
}

static void test_format_cuts(void **state) {
    char text[8];
    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(ar_format(text, 5, "%s", "abcdefgh"), 8);
    assert_string_equal(text, "abcd");
    assert_int_equal(text[5], 'x');
    assert_int_equal(ar_format(NULL, 0, "%d", 1234), 4);
    assert_int_equal(ar_format(text, 1, "%d", 1234), 4);
    assert_string_equal(text, "");
}

static void check_round_trip(double value) {
    char text[32], plain[64];
    double back;
    ar_print_f64(text, value);
    assert_true(strlen(text) < 32);
    assert_null(strchr(text, ','));
    assert_true(ar_parse_f64(text, strlen(text), &back));
    assert_memory_equal(&back, &value, sizeof value);
    /* Not longer than need be: one digit less reads back as another number. */
    int digits = 0;
    for (const char *c = text; *c && *c != 'e'; c++) {
        digits += *c >= '0' && *c <= '9';
    }
    snprintf(plain, sizeof plain, "%.16e", value);
    assert_true(digits <= 22 && strlen(text) <= strlen(plain) + 1);
}

static void check_numbers(void) {
    static const double values[] = {0,       -0.0,    1,       -1,     0.1,         8.0 / 255,
                                    1.0 / 3, DBL_MAX, DBL_MIN, 5e-324, DBL_EPSILON, 123456789,
                                    1e22,    1e-7,    999999,  1e6,    0.0001,      2.5e-5};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        check_round_trip(values[i]);
        check_round_trip(-values[i]);
    }
    ar_rng rng;
    ar_rng_init(&rng, 1, AR_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < 5000; i++) {
        uint64_t bits = (uint64_t)ar_rng_u32(&rng) << 32 | ar_rng_u32(&rng);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) check_round_trip(value);
    }
    CHECK_FORMAT("0.3 0.30000000000000004 5e-324 100000 123456 1234567 0.03137254901960784",
                 "%g %g %g %g %g %g %g", 0.3, 0.1 + 0.2, 5e-324, 1e5, 123456.0, 1234567.0,
                 8.0 / 255);
    CHECK_FORMAT("1.50 nan inf", "%.2f %g %g", 1.5, (double)-NAN, (double)INFINITY);
}

static void check_parsing(void) {
    static const char *const good[] = {"1", "-0.5", "+2", "1e-3", "1E+3", ".5", "5.", "0", "-0"};
    static const double values[] = {1, -0.5, 2, 1e-3, 1e3, 0.5, 5, 0, -0.0};
    static const char *const bad[] = {"",      " 1", "1 ",    "nan", "inf", "-inf",
                                      "0x10",  "1e", "1e+",   ".",   "-",   "1,5",
                                      "1.5.2", "e5", "1e999", "--1", "1f",  "1_000"};
    double value;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        assert_true(ar_parse_f64(good[i], strlen(good[i]), &value));
        assert_memory_equal(&value, &values[i], sizeof value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        value = 77;
        if (ar_parse_f64(bad[i], strlen(bad[i]), &value)) fail_msg("\"%s\" was read", bad[i]);
        assert_true(value == 77);
    }
    assert_true(ar_parse_f64("1.5xyz", 3, &value)); /* not terminated at length */
    assert_true(value == 1.5);
    /* Half way between two doubles: to even. */
    assert_true(ar_parse_f64("9007199254740993", 16, &value));
    assert_true(value == 9007199254740992.0);
    assert_false(ar_parse_f64("1\0002", 3, &value));
}

static void test_numbers(void **state) {
    (void)state;
    check_numbers();
    check_parsing();
}

static void test_integers(void **state) {
    int64_t value;
    (void)state;
    assert_true(ar_parse_i64("9223372036854775807", 19, &value));
    assert_true(value == INT64_MAX);
    assert_true(ar_parse_i64("-9223372036854775808", 20, &value));
    assert_true(value == INT64_MIN);
    assert_true(ar_parse_i64("+0012", 5, &value));
    assert_true(value == 12);
    static const char *const bad[] = {"",   "-",   "+",   "9223372036854775808",
                                      "1.", "0x1", " 1",  "-9223372036854775809",
                                      "1 ", "1e3", "--1", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(ar_parse_i64(bad[i], strlen(bad[i]), &value));
        assert_true(value == 12);
    }
}

static void test_comma_locale(void **state) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8"};
    const char *found = NULL;
    char text[16];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
        found = setlocale(LC_ALL, names[i]);
    }
    if (!found) {
        /* Not test_skip_or_fail: a locale is the machine's, not a part of the test data. */
        print_message("skipped: no locale with a decimal comma (de_DE.UTF-8) on this machine\n");
        skip();
    }
    snprintf(text, sizeof text, "%.1f", 1.5);
    bool comma = strcmp(text, "1,5") == 0; /* this locale does have one */
    check_numbers();
    check_parsing();
    bool same = strcmp(setlocale(LC_ALL, NULL), found) == 0;
    setlocale(LC_ALL, "C");
    assert_true(comma && same);
}

static void test_buffer(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    ar_buffer buffer;
    (void)state;
    ar_memory_init(&memory, test_alloc, &allocator);
    ar_buffer_init(&buffer, &memory);
    assert_int_equal(ar_buffer_status(&buffer), ADVROB_OK);
    assert_string_equal(buffer.data, "");
    for (int i = 0; i < 1000; i++) {
        ar_buffer_add(&buffer, "%d,", i % 10);
    }
    assert_int_equal(buffer.length, 2000);
    assert_int_equal(strlen(buffer.data), 2000);
    assert_memory_equal(buffer.data + 20, "0,1,2,", 6);
    ar_buffer_add(&buffer, "%1000s|", "x"); /* longer than the local text */
    assert_int_equal(buffer.length, 3001);
    assert_string_equal(buffer.data + 2998, " x|");
    ar_buffer_bytes(&buffer, "a\0b", 3);
    assert_memory_equal(buffer.data + 3001, "a\0b", 4);
    ar_buffer_free(&buffer);
    test_allocator_check(&allocator);
}

static void test_buffer_without_memory(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    (void)state;
    for (int64_t n = 1; n <= 4; n++) {
        ar_buffer buffer;
        ar_memory_init(&memory, test_alloc, &allocator);
        ar_buffer_init(&buffer, &memory);
        test_allocator_arm(&allocator, n, 0);
        for (int i = 0; i < 200; i++) {
            ar_buffer_add(&buffer, "%d", i);
        }
        assert_int_equal(ar_buffer_status(&buffer), n <= 3 ? ADVROB_E_NOMEM : ADVROB_OK);
        if (n <= 3) assert_int_equal(allocator.calls, n); /* nothing after the failure */
        ar_buffer_free(&buffer);
        test_allocator_check(&allocator);
    }
}

static void test_messages(void **state) {
    char longest[2000];
    (void)state;
    assert_int_equal(ar_error(ADVROB_E_RANGE, "x is %d, expected %g", 3, 0.5), ADVROB_E_RANGE);
    assert_string_equal(ar_message(), "x is 3, expected 0.5");
    ar_error(ADVROB_E_IO, "while loading: %s", ar_message()); /* out of itself */
    assert_string_equal(ar_message(), "while loading: x is 3, expected 0.5");
    ar_error(ADVROB_E_IO, "%s", "two\nlines\tand \xff\xc3 and \xc3\xa4");
    assert_string_equal(ar_message(), "two?lines?and ?? and \xc3\xa4");
    for (size_t shift = 0; shift < 3; shift++) { /* cut inside a character of three bytes */
        memset(longest, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof longest; i += 3) {
            memcpy(longest + i, "\xe2\x82\xac", 4);
        }
        ar_error(ADVROB_E_IO, "%s", longest);
        size_t length = strlen(ar_message());
        assert_true(length <= AR_MESSAGE_SIZE - 1 && length > AR_MESSAGE_SIZE - 5);
        assert_int_equal((length - shift) % 3, 0);
        assert_null(strchr(ar_message(), '?'));
    }
    assert_int_equal(ar_error_restore(ADVROB_E_SHAPE, "kept"), ADVROB_E_SHAPE);
    assert_string_equal(ar_message(), "kept");
}

static void *read_message(void *arg) {
    (void)arg;
    return ar_message()[0] == 0 ? NULL : &read_message; /* a new thread has none */
}

static void test_message_of_a_thread(void **state) {
    pthread_t thread;
    void *result = &thread;
    (void)state;
    ar_error(ADVROB_E_IO, "mine");
    assert_int_equal(pthread_create(&thread, NULL, (void *(*)(void *))read_message, NULL), 0);
    pthread_join(thread, &result);
    assert_null(result);
    assert_string_equal(ar_message(), "mine");
}

static void test_status_names(void **state) {
    (void)state;
    assert_string_equal(ar_status_name(ADVROB_OK), "OK");
    assert_string_equal(ar_status_name(ADVROB_E_RANGE), "E_RANGE");
    assert_string_equal(ar_status_text(ADVROB_E_NOMEM), "out of memory");
    assert_string_equal(ar_status_name(-1000), "unknown");
    assert_string_equal(ar_status_text(5), "unknown");
    for (int32_t code = 0; code >= ADVROB_E_INTERNAL; code--) {
        assert_string_not_equal(ar_status_name(code), "unknown");
    }
}

static void test_fnv(void **state) {
    (void)state;
    assert_true(ar_fnv(AR_FNV_START, "", 0) == 0xcbf29ce484222325ull);
    assert_true(ar_fnv(AR_FNV_START, "a", 1) == 0xaf63dc4c8601ec8cull);
    assert_true(ar_fnv(AR_FNV_START, "foobar", 6) == 0x85944171f73967e8ull);
    assert_true(ar_fnv(ar_fnv(AR_FNV_START, "foo", 3), "bar", 3) == 0x85944171f73967e8ull);
}

static void test_copy_text(void **state) {
    char text[4] = "zzz";
    (void)state;
    ar_copy_text(text, 0, "abc");
    assert_string_equal(text, "zzz");
    ar_copy_text(text, sizeof text, "abcdef");
    assert_string_equal(text, "abc");
    ar_copy_text(text, sizeof text, "");
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_format_cuts),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_comma_locale),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_buffer_without_memory),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_message_of_a_thread),
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_fnv),
        cmocka_unit_test(test_copy_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
