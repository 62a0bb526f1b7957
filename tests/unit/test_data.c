/* Datasets: the store's checks, gathering, slices, splits, digests and shuffles. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "data/data.h"

#define N 100
#define CLASSES 10

static const int32_t shape[3] = {2, 3, 4};
enum { PIXELS = 2 * 3 * 4 };

static test_allocator allocator;
static advrob_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = test_context_with(&allocator, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_context_release(ctx);
    test_allocator_check(&allocator);
    return 0;
}

/* Pixel j of image i is (i * 7 + j) % 256 as a byte, i % CLASSES its label. */
static int32_t open_bytes(advrob_context *c, advrob_dataset **out) {
    ar_images *images;
    *out = NULL;
    int32_t status = ar_images_create(c, ADVROB_U8, N, shape, CLASSES, &images);
    if (status < 0) return status;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < PIXELS; j++)
            ((uint8_t *)images->pixels)[i * PIXELS + j] = (uint8_t)(i * 7 + j);
        images->labels[i] = i % CLASSES;
    }
    return ar_dataset_create(c, images, out);
}

static advrob_dataset *dataset_of_bytes(void) {
    advrob_dataset *dataset;
    assert_int_equal(open_bytes(ctx, &dataset), ADVROB_OK);
    return dataset;
}

/* Image `i` of the dataset is image `wanted` of the formula. */
static void assert_image(const advrob_dataset *dataset, int64_t i, int64_t wanted) {
    float x[PIXELS];
    int32_t y;
    assert_int_equal(ar_dataset_gather(dataset, i, NULL, 1, x, &y), ADVROB_OK);
    assert_int_equal(y, wanted % CLASSES);
    for (int j = 0; j < PIXELS; j++)
        assert_true(x[j] == (float)(uint8_t)(wanted * 7 + j) / 255.0f);
}

/* The number of the image in the formula: 7 is odd, so the first byte tells it. */
static int64_t number_of(const advrob_dataset *dataset, int64_t i) {
    float x[PIXELS];
    assert_int_equal(ar_dataset_gather(dataset, i, NULL, 1, x, NULL), ADVROB_OK);
    for (int64_t k = 0; k < N; k++)
        if (x[0] == (float)(uint8_t)(k * 7) / 255.0f) return k;
    fail();
    return -1;
}

static void test_create_refuses(void **state) {
    (void)state;
    static const struct {
        int32_t dtype;
        int64_t n;
        int32_t shape[3], classes, status;
    } rows[] = {
        {ADVROB_I32, 1, {1, 1, 1}, 1, ADVROB_E_INVALID},
        {0, 1, {1, 1, 1}, 1, ADVROB_E_INVALID},
        {ADVROB_U8, 0, {1, 1, 1}, 1, ADVROB_E_RANGE},
        {ADVROB_U8, -1, {1, 1, 1}, 1, ADVROB_E_RANGE},
        {ADVROB_U8, 1, {0, 1, 1}, 1, ADVROB_E_RANGE},
        {ADVROB_U8, 1, {1, -1, 1}, 1, ADVROB_E_RANGE},
        {ADVROB_U8, 1, {1, 1, 65537}, 1, ADVROB_E_RANGE},
        {ADVROB_U8, 1, {1, 1, 1}, 0, ADVROB_E_RANGE},
        {ADVROB_U8, INT64_MAX, {1, 1, 1}, 1, ADVROB_E_OVERFLOW},
        {ADVROB_F32, (int64_t)1 << 61, {1, 1, 1}, 1, ADVROB_E_OVERFLOW},
        {ADVROB_F32, (int64_t)1 << 20, {65536, 65536, 65536}, 1, ADVROB_E_OVERFLOW},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ar_images *images;
        assert_int_equal(ar_images_create(ctx, rows[i].dtype, rows[i].n, rows[i].shape,
                                          rows[i].classes, &images),
                         rows[i].status);
        assert_null(images);
    }
    ar_images *images;
    ctx->memory.limit = 1 << 20;
    assert_int_equal(ar_images_create(ctx, ADVROB_U8, 1 << 20, shape, 1, &images), ADVROB_E_NOMEM);
}

static void test_labels_and_pixels_are_checked(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, -1e-6f, 1.0001f};
    static const int32_t bad_labels[] = {-1, 3, INT32_MAX, INT32_MIN};
    uint64_t before = ctx->memory.used;
    for (size_t k = 0; k < 5 + 4; k++) {
        ar_images *images;
        advrob_dataset *dataset;
        assert_int_equal(ar_images_create(ctx, ADVROB_F32, 4, shape, 3, &images), ADVROB_OK);
        float *x = images->pixels;
        for (int i = 0; i < 4 * PIXELS; i++)
            x[i] = (float)(i % 2); /* both ends are allowed */
        for (int i = 0; i < 4; i++)
            images->labels[i] = i % 3;
        if (k < 5)
            x[2 * PIXELS + 5] = bad[k];
        else
            images->labels[2] = bad_labels[k - 5];
        assert_int_equal(ar_dataset_create(ctx, images, &dataset), ADVROB_E_RANGE);
        assert_null(dataset);
        assert_non_null(strstr(ar_message(), "image 2"));
        if (k < 5) assert_non_null(strstr(ar_message(), "pixel 5"));
        assert_int_equal(ctx->memory.used, before); /* the store is taken over also then */
    }
}

static void test_gather(void **state) {
    (void)state;
    advrob_dataset *dataset = dataset_of_bytes();
    static const int64_t order[] = {99, 0, 42, 42};
    float x[4 * PIXELS];
    int32_t y[4];
    for (int64_t i = 0; i < N; i++)
        assert_image(dataset, i, i);
    assert_int_equal(ar_dataset_gather(dataset, 0, order, 4, x, y), ADVROB_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(y[i], order[i] % CLASSES);
        for (int j = 0; j < PIXELS; j++)
            assert_true(x[i * PIXELS + j] == (float)(uint8_t)(order[i] * 7 + j) / 255.0f);
    }
    assert_int_equal(ar_dataset_gather(dataset, N, NULL, 0, x, y), ADVROB_OK);
    assert_int_equal(ar_dataset_gather(dataset, 0, NULL, N, NULL, NULL), ADVROB_OK);
    ar_dataset_release(dataset);
}

static void test_gather_refuses(void **state) {
    (void)state;
    advrob_dataset *dataset = dataset_of_bytes();
    static const int64_t spans[][2] = {{-1, 1},        {0, N + 1}, {N, 1},         {0, -1},
                                       {INT64_MAX, 1}, {1, N},     {INT64_MIN, 1}, {1, INT64_MAX}};
    static const int64_t bad[] = {-1, N, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        advrob_dataset *part;
        assert_int_equal(ar_dataset_gather(dataset, spans[i][0], NULL, spans[i][1], NULL, NULL),
                         ADVROB_E_RANGE);
        assert_int_equal(ar_dataset_slice(dataset, spans[i][0], spans[i][1], &part),
                         ADVROB_E_RANGE);
        assert_null(part);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t order[2] = {0, bad[i]};
        int32_t y[2] = {-7, -7};
        assert_int_equal(ar_dataset_gather(dataset, 0, order, 2, NULL, y), ADVROB_E_RANGE);
        assert_int_equal(y[0], -7); /* nothing was written */
    }
    ar_dataset_release(dataset);
}

/* Each byte as PyTorch's ToTensor: the float nearest to the quotient. */
static void test_bytes_become_quotients(void **state) {
    (void)state;
    static const int32_t line[3] = {1, 1, 256};
    ar_images *images;
    advrob_dataset *dataset;
    float x[256];
    assert_int_equal(ar_images_create(ctx, ADVROB_U8, 1, line, 1, &images), ADVROB_OK);
    for (int i = 0; i < 256; i++)
        ((uint8_t *)images->pixels)[i] = (uint8_t)i;
    images->labels[0] = 0;
    assert_int_equal(ar_dataset_create(ctx, images, &dataset), ADVROB_OK);
    assert_int_equal(ar_dataset_gather(dataset, 0, NULL, 1, x, NULL), ADVROB_OK);
    for (int i = 0; i < 256; i++)
        assert_true(x[i] == (float)((double)i / 255.0));
    ar_dataset_release(dataset);
}

static void test_slices(void **state) {
    (void)state;
    uint64_t before = ctx->memory.used;
    advrob_dataset *dataset = dataset_of_bytes(), *part, *inner;
    assert_int_equal(ar_dataset_slice(dataset, 10, 50, &part), ADVROB_OK);
    assert_int_equal(ar_dataset_slice(part, 5, 45, &inner), ADVROB_OK);
    assert_ptr_equal(inner->images, dataset->images);
    assert_int_equal(part->count, 50);
    ar_dataset_release(dataset); /* the slices keep the pixels */
    assert_image(part, 49, 59);
    ar_dataset_release(part);
    for (int64_t i = 0; i < 45; i++)
        assert_image(inner, i, 15 + i);
    assert_int_equal(ar_dataset_gather(inner, 45, NULL, 1, NULL, NULL), ADVROB_E_RANGE);
    ar_dataset_retain(inner);
    ar_dataset_release(inner);
    assert_image(inner, 0, 15);
    ar_dataset_release(inner);
    ar_dataset_release(NULL);
    assert_int_equal(ctx->memory.used, before);
}

static void test_a_dataset_keeps_its_context(void **state) {
    (void)state;
    advrob_context *own;
    advrob_dataset *dataset;
    assert_int_equal(ar_context_create(NULL, &own), ADVROB_OK);
    assert_int_equal(open_bytes(own, &dataset), ADVROB_OK);
    ar_context_release(own);
    assert_image(dataset, 3, 3);
    ar_dataset_release(dataset);
}

static void test_split(void **state) {
    (void)state;
    advrob_dataset *dataset = dataset_of_bytes(), *part, *rest, *again, *other;
    int seen[N] = {0}, moved = 0;
    assert_int_equal(ar_dataset_split(dataset, 30, 5, &part, &rest), ADVROB_OK);
    assert_int_equal(part->count, 30);
    assert_int_equal(rest->count, N - 30);
    for (int64_t i = 0; i < 30; i++)
        seen[number_of(part, i)]++;
    for (int64_t i = 0; i < N - 30; i++)
        seen[number_of(rest, i)]++;
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 1); /* disjoint and complete */

    assert_int_equal(ar_dataset_split(dataset, 30, 5, &again, NULL), ADVROB_OK);
    assert_int_equal(ar_dataset_digest(again), ar_dataset_digest(part));
    assert_int_equal(ar_dataset_split(dataset, 30, 6, &other, NULL), ADVROB_OK);
    assert_int_not_equal(ar_dataset_digest(other), ar_dataset_digest(part));
    for (int64_t i = 0; i < 30; i++)
        moved += number_of(part, i) != i;
    assert_true(moved > 15);

    /* Slices and splits of a split go through its index. */
    advrob_dataset *inner, *left, *right;
    assert_int_equal(ar_dataset_slice(rest, 20, 10, &inner), ADVROB_OK);
    for (int64_t i = 0; i < 10; i++)
        assert_image(inner, i, number_of(rest, 20 + i));
    assert_int_equal(ar_dataset_split(inner, 4, 1, &left, &right), ADVROB_OK);
    int found = 0;
    for (int64_t i = 0; i < 10; i++) {
        int64_t k = i < 4 ? number_of(left, i) : number_of(right, i - 4);
        for (int64_t j = 0; j < 10; j++)
            found += k == number_of(inner, j);
    }
    assert_int_equal(found, 10);
    advrob_dataset *all[] = {dataset, part, rest, again, other, inner, left, right};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        ar_dataset_release(all[i]);
}

static void test_split_refuses(void **state) {
    (void)state;
    advrob_dataset *dataset = dataset_of_bytes(), *part, *rest;
    static const int64_t bad[] = {-1, 0, N, N + 1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ar_dataset_split(dataset, bad[i], 0, &part, &rest), ADVROB_E_RANGE);
        assert_null(part);
        assert_null(rest);
    }
    assert_int_equal(ar_dataset_split(dataset, N, 0, &part, NULL), ADVROB_OK);
    ar_dataset_release(part);
    ar_dataset_release(dataset);
}

static void test_digest(void **state) {
    (void)state;
    advrob_dataset *dataset = dataset_of_bytes(), *twin = dataset_of_bytes(), *whole, *part;
    uint64_t digest = ar_dataset_digest(dataset);
    assert_int_equal(ar_dataset_digest(twin), digest);
    assert_int_equal(ar_dataset_slice(dataset, 0, N, &whole), ADVROB_OK);
    assert_int_equal(ar_dataset_digest(whole), digest);
    assert_int_equal(ar_dataset_slice(dataset, 0, N - 1, &part), ADVROB_OK);
    assert_int_not_equal(ar_dataset_digest(part), digest);
    twin->images->labels[3]++;
    assert_int_not_equal(ar_dataset_digest(twin), digest);
    twin->images->labels[3]--;
    ((uint8_t *)twin->images->pixels)[17] ^= 1;
    assert_int_not_equal(ar_dataset_digest(twin), digest);

    uint64_t by_hand = ar_fnv(AR_FNV_START, dataset->images->pixels, N * PIXELS);
    assert_int_equal(digest, ar_fnv(by_hand, dataset->images->labels, N * sizeof(int32_t)));
    ar_dataset_release(dataset);
    ar_dataset_release(twin);
    ar_dataset_release(whole);
    ar_dataset_release(part);
}

static void test_shuffle(void **state) {
    (void)state;
    enum { M = 1000 };
    int64_t a[M], b[M];
    char seen[M] = {0};
    ar_shuffle(1, AR_RNG_SHUFFLE, 0, M, a);
    for (int i = 0; i < M; i++) {
        assert_true(a[i] >= 0 && a[i] < M && !seen[a[i]]);
        seen[a[i]] = 1;
    }
    ar_shuffle(1, AR_RNG_SHUFFLE, 0, M, b);
    assert_memory_equal(a, b, sizeof(a));
    ar_shuffle(2, AR_RNG_SHUFFLE, 0, M, b);
    assert_memory_not_equal(a, b, sizeof(a));
    ar_shuffle(1, AR_RNG_SHUFFLE, 1, M, b);
    assert_memory_not_equal(a, b, sizeof(a));
    ar_shuffle(1, AR_RNG_SPLIT, 0, M, b);
    assert_memory_not_equal(a, b, sizeof(a));
    ar_shuffle(1, AR_RNG_SHUFFLE, 0, 1, b);
    assert_int_equal(b[0], 0);
    ar_shuffle(1, AR_RNG_SHUFFLE, 0, 0, NULL);
}

/* All 24 orders of four come about equally often: chi-squared with 23 degrees, p = 1e-6. */
static void test_shuffle_is_fair(void **state) {
    (void)state;
    int counts[256] = {0}, orders = 0;
    const int rounds = 24000;
    for (int epoch = 0; epoch < rounds; epoch++) {
        int64_t p[4];
        ar_shuffle(9, AR_RNG_SHUFFLE, epoch, 4, p);
        counts[p[0] << 6 | p[1] << 4 | p[2] << 2 | p[3]]++;
    }
    double sum = 0;
    for (int i = 0; i < 256; i++) {
        if (counts[i] == 0) continue;
        orders++;
        sum += (counts[i] - rounds / 24.0) * (counts[i] - rounds / 24.0) / (rounds / 24.0);
    }
    assert_int_equal(orders, 24);
    assert_true(sum < 70.5);
}

static int32_t make_and_split(void) {
    advrob_dataset *dataset = NULL, *part = NULL, *rest = NULL, *inner = NULL;
    int32_t status = open_bytes(ctx, &dataset);
    if (status == ADVROB_OK) status = ar_dataset_split(dataset, 10, 1, &part, &rest);
    if (status == ADVROB_OK) status = ar_dataset_slice(part, 1, 5, &inner);
    ar_dataset_release(inner);
    ar_dataset_release(part);
    ar_dataset_release(rest);
    ar_dataset_release(dataset);
    return status;
}

static void test_out_of_memory(void **state) {
    (void)state;
    int32_t status = ADVROB_E_NOMEM;
    uint64_t before = ctx->memory.used;
    for (int64_t n = 1; status != ADVROB_OK; n++) {
        assert_true(n < 100);
        test_allocator_arm(&allocator, n, 0);
        status = make_and_split();
        assert_int_equal(status, allocator.failed ? ADVROB_E_NOMEM : ADVROB_OK);
        assert_int_equal(ctx->memory.used, before);
        if (n == 1) assert_int_equal(status, ADVROB_E_NOMEM);
    }
    test_allocator_arm(&allocator, 0, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_create_refuses),
        TEST(test_labels_and_pixels_are_checked),
        TEST(test_gather),
        TEST(test_gather_refuses),
        TEST(test_bytes_become_quotients),
        TEST(test_slices),
        TEST(test_a_dataset_keeps_its_context),
        TEST(test_split),
        TEST(test_split_refuses),
        TEST(test_digest),
        TEST(test_shuffle),
        TEST(test_shuffle_is_fair),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
