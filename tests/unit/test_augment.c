/* Augmentation: which place and which side each visit draws, and the pixels that come of it. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/data.h"

/* Draws as a Philox of its own gives them (crop: two numbers below 2 * crop + 1 from stream 0;
 * flip: one below 2 from stream 1). */
static void test_known_draws(void **state) {
    (void)state;
    static const struct {
        int64_t seed, visit, crop;
        int32_t top, left;
        bool flip;
    } known[] = {{1, 0, 4, 4, 3, true},
                 {1, 1, 4, 4, 6, true},
                 {1, 49999, 4, 6, 6, true},
                 {5, 123456789012, 4, 4, 3, false},
                 {((int64_t)1 << 40) + 3, 7, 4, 8, 1, false},
                 {1, 2, 1, 2, 0, true}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        ar_augment both = {known[i].crop, 1}, crop = {known[i].crop, 0}, flip = {0, 1};
        ar_augment_draw d = ar_augment_visit(&both, known[i].seed, known[i].visit);
        assert_int_equal(d.top, known[i].top);
        assert_int_equal(d.left, known[i].left);
        assert_int_equal(d.flip, known[i].flip);
        /* Neither changes the other. */
        d = ar_augment_visit(&crop, known[i].seed, known[i].visit);
        assert_true(d.top == known[i].top && d.left == known[i].left && !d.flip);
        d = ar_augment_visit(&flip, known[i].seed, known[i].visit);
        assert_true(d.top == 0 && d.left == 0 && d.flip == known[i].flip);
    }
}

/* Sum of (seen - expected)^2 / expected: of mean cells - 1 and variance 2 (cells - 1). */
static double chi_square(const int64_t *seen, int32_t cells, double expected) {
    double sum = 0;
    for (int32_t i = 0; i < cells; i++)
        sum += ((double)seen[i] - expected) * ((double)seen[i] - expected) / expected;
    return sum;
}

/* All places are equally likely, both sides too, and neither hangs on the other or on the visit
 * before. Bounds at five standard deviations. */
static void test_distribution(void **state) {
    (void)state;
    enum { CROP = 4, PLACES = (2 * CROP + 1) * (2 * CROP + 1), VISITS = 200 * 2 * PLACES };
    const ar_augment augment = {CROP, 1};
    for (int64_t seed = 1; seed < 4; seed++) {
        int64_t cells[2 * PLACES] = {0}, turns[4] = {0};
        bool before = false;
        for (int64_t v = 0; v < VISITS; v++) {
            ar_augment_draw d = ar_augment_visit(&augment, seed, v);
            assert_true(d.top >= 0 && d.top <= 2 * CROP && d.left >= 0 && d.left <= 2 * CROP);
            cells[(d.top * (2 * CROP + 1) + d.left) * 2 + d.flip]++;
            turns[2 * before + d.flip]++;
            before = d.flip;
        }
        double free = 2 * PLACES - 1, sum = chi_square(cells, 2 * PLACES, 200);
        assert_true(fabs(sum - free) < 5 * sqrt(2 * free));
        assert_true(chi_square(turns, 4, VISITS / 4.0) < 3 + 5 * sqrt(6.0));
    }
}

enum { C = 3, H = 5, W = 7, MOST = 64 };
static const int32_t shape[3] = {C, H, W};

static float original(int64_t image, int32_t c, int32_t y, int32_t x) {
    if (y < 0 || y >= H || x < 0 || x >= W) return 0; /* the black frame */
    return (float)(1 + ((image * C + c) * H + y) * W + x) / 16384.0f;
}

static void fill(float *x, const int64_t *images, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = 0; k < C * H * W; k++)
            x[i * C * H * W + k] = original(images[i], k / (H * W), k / W % H, k % W);
}

/* Each pixel comes from where the draw says, in every channel. */
static void assert_image(const float *x, int64_t image, int64_t crop, ar_augment_draw d) {
    for (int32_t c = 0; c < C; c++)
        for (int32_t i = 0; i < H; i++)
            for (int32_t k = 0; k < W; k++) {
                int32_t from = d.left - (int32_t)crop + (d.flip ? W - 1 - k : k);
                float wanted = original(image, c, i + d.top - (int32_t)crop, from);
                if (x[(c * H + i) * W + k] != wanted)
                    fail_msg("crop %lld, top %d, left %d, flip %d: channel %d, row %d, column %d",
                             (long long)crop, d.top, d.left, d.flip, c, i, k);
            }
}

static void test_pixels(void **state) {
    (void)state;
    float *x = malloc(sizeof(float) * MOST * C * H * W);
    int64_t visits[MOST];
    int32_t tops = 0, flips = 0;
    assert_non_null(x);
    for (int64_t i = 0; i < MOST; i++)
        visits[i] = 3 * i + 1;
    for (int64_t crop = 0; crop < H; crop++)
        for (int64_t flip = 0; flip < 2; flip++) {
            const ar_augment augment = {crop, flip};
            fill(x, visits, MOST);
            ar_augment_images(&augment, 11, visits, MOST, shape, x);
            for (int64_t i = 0; i < MOST; i++) {
                ar_augment_draw d = ar_augment_visit(&augment, 11, visits[i]);
                assert_image(x + i * C * H * W, visits[i], crop, d);
                tops += d.top != crop;
                flips += d.flip;
            }
        }
    assert_true(tops > 2 * MOST && flips > 2 * MOST);
    free(x);
}

/* An image's look does not depend on the images beside it, their number or their order. */
static void test_batches(void **state) {
    (void)state;
    enum { SIZE = C * H * W };
    static float whole[MOST * SIZE], part[MOST * SIZE];
    const ar_augment augment = {2, 1};
    int64_t visits[MOST], turned[MOST];
    for (int64_t i = 0; i < MOST; i++) {
        visits[i] = 100 + i;
        turned[i] = 100 + MOST - 1 - i;
    }
    fill(whole, visits, MOST);
    ar_augment_images(&augment, 3, visits, MOST, shape, whole);
    for (int64_t size = 1; size <= 17; size += 8) {
        fill(part, visits, MOST);
        for (int64_t at = 0; at < MOST; at += size)
            ar_augment_images(&augment, 3, visits + at, at + size < MOST ? size : MOST - at, shape,
                              part + at * SIZE);
        assert_memory_equal(part, whole, sizeof whole);
    }
    fill(part, turned, MOST);
    ar_augment_images(&augment, 3, turned, MOST, shape, part);
    for (int64_t i = 0; i < MOST; i++)
        assert_memory_equal(part + i * SIZE, whole + (MOST - 1 - i) * SIZE, sizeof(float) * SIZE);
}

static void test_check(void **state) {
    (void)state;
    assert_int_equal(ar_augment_check(&(ar_augment){0, 0}, 1, 1), ADVROB_OK);
    assert_int_equal(ar_augment_check(&(ar_augment){0, 1}, 1, 1), ADVROB_OK);
    assert_int_equal(ar_augment_check(&(ar_augment){31, 1}, 32, 32), ADVROB_OK);
    assert_int_equal(ar_augment_check(&(ar_augment){32, 1}, 32, 33), ADVROB_E_RANGE);
    assert_int_equal(ar_augment_check(&(ar_augment){32, 1}, 33, 32), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "\"augment.crop\": 32 pixels around images of 33 x 32"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_draws), cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_pixels),      cmocka_unit_test(test_batches),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
