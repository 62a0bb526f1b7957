/* Philox against the known answers of the Random123 distribution; streams and draws. */
#include "support/support.h"

#include <math.h>
#include <string.h>

static void test_known_answers(void **state) {
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    (void)state;
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        ar_philox(rows[i], rows[i] + 4, out);
        assert_memory_equal(out, rows[i] + 6, sizeof out);
    }
}

static void test_words_are_blocks(void **state) {
    ar_rng rng;
    (void)state;
    ar_rng_init(&rng, 0x0123456789abcdef, AR_RNG_ATTACK, 7, 3, 20);
    uint32_t counter[4] = {0, 7, 3u << 16 | 20, (uint32_t)AR_RNG_ATTACK << 24};
    const uint32_t key[2] = {0x89abcdef, 0x01234567};
    for (uint32_t block = 0; block < 5; block++) {
        uint32_t out[4];
        counter[0] = block;
        ar_philox(counter, key, out);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(ar_rng_u32(&rng), out[i]);
        }
    }
}

static void test_streams_differ(void **state) {
    static const int64_t rows[][5] = {
        {1, 1, 0, 0, 0}, {2, 1, 0, 0, 0},     {-1, 1, 0, 0, 0},        {1ll << 40, 1, 0, 0, 0},
        {1, 2, 0, 0, 0}, {1, 1, 1, 0, 0},     {1, 1, 1ll << 33, 0, 0}, {1, 1, 0, 1, 0},
        {1, 1, 0, 0, 1}, {1, 1, 0, 65535, 0}, {1, 1, 0, 0, 65535},     {1, 1, 65536, 0, 0},
    };
    const size_t n = sizeof rows / sizeof *rows;
    uint32_t first[sizeof rows / sizeof *rows][4];
    (void)state;
    for (size_t i = 0; i < n; i++) {
        ar_rng rng;
        ar_rng_init(&rng, rows[i][0], (int32_t)rows[i][1], rows[i][2], (int32_t)rows[i][3],
                    (int32_t)rows[i][4]);
        for (int k = 0; k < 4; k++) {
            first[i][k] = ar_rng_u32(&rng);
        }
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(first[i], first[j], sizeof first[i]);
        }
    }
}

static void test_uniform(void **state) {
    ar_rng rng;
    double sum = 0, squares = 0;
    const int n = 100000;
    (void)state;
    ar_rng_init(&rng, 1, AR_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < n; i++) {
        float u = ar_rng_uniform(&rng);
        assert_true(u >= 0 && u < 1);
        assert_true(u * 0x1p24f == floorf(u * 0x1p24f));
        sum += u;
        squares += (double)u * u;
    }
    assert_true(fabs(sum / n - 0.5) < 0.005);
    assert_true(fabs(squares / n - 1.0 / 3) < 0.005);
}

static void test_below(void **state) {
    static const uint32_t limits[] = {1, 2, 3, 10, 1000, 0x80000001u, UINT32_MAX};
    ar_rng rng;
    int counts[10] = {0};
    (void)state;
    ar_rng_init(&rng, 2, AR_RNG_TEST, 0, 0, 0);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        for (int k = 0; k < 1000; k++) {
            assert_true(ar_rng_below(&rng, limits[i]) < limits[i]);
        }
    }
    for (int i = 0; i < 100000; i++) {
        counts[ar_rng_below(&rng, 10)]++;
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(counts[i], 9600, 10400);
    }
    /* With n = 3 * 2^30 a plain remainder would give the low third twice as often. */
    int low = 0;
    for (int i = 0; i < 30000; i++) {
        low += ar_rng_below(&rng, 3u << 30) < 1u << 30;
    }
    assert_in_range(low, 9600, 10400);
}

static void test_normal(void **state) {
    ar_rng rng;
    double sum = 0, squares = 0, fourth = 0;
    const int n = 200000;
    (void)state;
    ar_rng_init(&rng, 3, AR_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < n; i++) {
        double z = ar_rng_normal(&rng);
        assert_true(isfinite(z) && fabs(z) < 7);
        sum += z;
        squares += z * z;
        fourth += z * z * z * z;
    }
    assert_true(fabs(sum / n) < 0.01);
    assert_true(fabs(squares / n - 1) < 0.015);
    assert_true(fabs(fourth / n - 3) < 0.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),  cmocka_unit_test(test_words_are_blocks),
        cmocka_unit_test(test_streams_differ), cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_below),          cmocka_unit_test(test_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
