/* IDX and gzip: valid files, malformed ones, bombs, and the datasets made of them. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "io/io.h"

#define FASHION_MNIST "/usr/share/datasets/fashion-mnist"

static test_allocator allocator;
static advrob_context *ctx;
static char folder[256];

static int set_up(void **state) {
    (void)state;
    ctx = test_context_with(&allocator, 1);
    test_folder_make(folder, sizeof(folder));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
    return 0;
}

/* Making files */

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static bytes make_idx(uint32_t magic, int rank, const uint32_t *dims, size_t n) {
    bytes b = {malloc(4 + 4 * (size_t)rank + n), 4 + 4 * (size_t)rank + n};
    assert_non_null(b.data);
    for (int i = 0; i <= rank; i++) {
        uint32_t word = i ? dims[i - 1] : magic;
        for (int k = 0; k < 4; k++)
            b.data[4 * i + k] = (uint8_t)(word >> 8 * (3 - k));
    }
    for (size_t i = 0; i < n; i++)
        b.data[b.size - n + i] = (uint8_t)(i % 10);
    return b;
}

static bytes make_labels(uint32_t n) {
    return make_idx(0x801, 1, &n, n);
}

static bytes make_images(uint32_t n) {
    uint32_t dims[3] = {n, 2, 3};
    return make_idx(0x803, 3, dims, (size_t)n * 6);
}

static bytes pack(const void *data, size_t size) {
    z_stream z = {0};
    bytes b = {malloc(size + 1024), size + 1024};
    assert_non_null(b.data);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    void *in = malloc(size ? size : 1);
    memcpy(in, data, size);
    z.next_in = in;
    z.avail_in = (uInt)size;
    z.next_out = b.data;
    z.avail_out = (uInt)b.size;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b.size = z.total_out;
    deflateEnd(&z);
    free(in);
    return b;
}

static void save(const char *name, const void *data, size_t size) {
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* Saves and frees; a name with .gz packs. */
static void save_idx(const char *name, bytes b) {
    if (strstr(name, ".gz")) {
        bytes packed = pack(b.data, b.size);
        save(name, packed.data, packed.size);
        free(packed.data);
    } else {
        save(name, b.data, b.size);
    }
    free(b.data);
}

static int32_t open_split(const char *name, const char *dir, const char *split, int64_t limit,
                          advrob_dataset **out) {
    advrob_options *options = NULL;
    assert_int_equal(ar_options_create(NULL, NULL, &options), ADVROB_OK);
    assert_int_equal(ar_options_set_str(options, "split", split), ADVROB_OK);
    assert_int_equal(ar_options_set_i64(options, "limit", limit), ADVROB_OK);
    int32_t status = ar_dataset_open(ctx, name, dir, options, out);
    ar_options_destroy(options);
    return status;
}

static int32_t open_test(int64_t limit, advrob_dataset **out) {
    return open_split("mnist", folder, "test", limit, out);
}

/* IDX */

/* From a block of exactly the size, so that a sanitizer sees a read past it. */
static int32_t parse(bytes b, size_t size, int32_t rank) {
    int64_t dims[3];
    const uint8_t *values;
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, b.data, size);
    int32_t status = ar_idx_parse("t", copy, size, rank, dims, &values);
    if (status == ADVROB_OK) {
        assert_int_equal((size_t)(values - copy) + (size_t)(dims[0] * dims[1] * dims[2]), size);
    } else {
        assert_true(strncmp(ar_message(), "t: ", 3) == 0);
    }
    free(copy);
    return status;
}

static void test_parse(void **state) {
    (void)state;
    bytes labels = make_labels(5), images = make_images(4);
    int64_t dims[3];
    const uint8_t *values;
    assert_int_equal(ar_idx_parse("t", labels.data, labels.size, 1, dims, &values), ADVROB_OK);
    assert_true(dims[0] == 5 && dims[1] == 1 && dims[2] == 1);
    assert_ptr_equal(values, labels.data + 8);
    assert_int_equal(ar_idx_parse("t", images.data, images.size, 3, dims, &values), ADVROB_OK);
    assert_true(dims[0] == 4 && dims[1] == 2 && dims[2] == 3);
    assert_ptr_equal(values, images.data + 16);

    for (size_t size = 0; size < labels.size; size++)
        assert_int_equal(parse(labels, size, 1), ADVROB_E_FORMAT);
    for (size_t size = 0; size < images.size; size++)
        assert_int_equal(parse(images, size, 3), ADVROB_E_FORMAT);
    for (size_t bit = 0; bit < images.size * 8; bit++) {
        images.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int32_t status = parse(images, images.size, 3);
        if (bit < 128) assert_int_not_equal(status, ADVROB_OK);
        images.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(parse(labels, labels.size, 3), ADVROB_E_FORMAT); /* the wrong rank */
    assert_int_equal(parse(images, images.size, 1), ADVROB_E_FORMAT);
    assert_int_equal(parse(images, images.size, 2), ADVROB_E_INVALID);
    free(labels.data);
    free(images.data);
}

static void test_parse_refuses(void **state) {
    (void)state;
    static const uint32_t magics[] = {0x801,     0x802,   0x804, 0x903, 0xd03,
                                      0x3080000, 0x10803, 0,     ~0u};
    static const struct {
        uint32_t dims[3];
        int32_t status;
    } rows[] = {
        {{0, 2, 3}, ADVROB_E_FORMAT},
        {{4, 0, 3}, ADVROB_E_FORMAT},
        {{4, 2, 0}, ADVROB_E_FORMAT},
        {{5, 2, 3}, ADVROB_E_FORMAT},
        {{3, 2, 3}, ADVROB_E_FORMAT}, /* bytes are left over */
        {{8, 2, 3}, ADVROB_E_FORMAT},
        {{0x80000000u, 2, 3}, ADVROB_E_FORMAT},
        {{0xffffffffu, 1, 1}, ADVROB_E_FORMAT},
        {{0xffffffffu, 0xffffffffu, 1}, ADVROB_E_OVERFLOW},
        {{0xffffffffu, 0xffffffffu, 0xffffffffu}, ADVROB_E_OVERFLOW},
        {{0x80000000u, 0x80000000u, 4}, ADVROB_E_OVERFLOW}, /* 2^64: 0 if it wrapped */
    };
    static const uint32_t right[3] = {4, 2, 3};
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        bytes b = make_idx(magics[i], 3, right, 24);
        assert_int_equal(parse(b, b.size, 3), ADVROB_E_FORMAT);
        free(b.data);
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bytes b = make_idx(0x803, 3, rows[i].dims, 24);
        assert_int_equal(parse(b, b.size, 3), rows[i].status);
        free(b.data);
    }
}

/* gzip */

static int32_t unpack(const uint8_t *data, size_t size, uint64_t limit, const void *wanted,
                      size_t wanted_size) {
    uint8_t *plain, *copy = malloc(size ? size : 1);
    size_t plain_size;
    assert_non_null(copy);
    memcpy(copy, data, size);
    int32_t status = ar_gzip_unpack(ctx, "t", copy, size, limit, &plain, &plain_size);
    if (status == ADVROB_OK) {
        assert_int_equal(plain_size, wanted_size);
        if (wanted) assert_memory_equal(plain, wanted, wanted_size);
        ar_free(&ctx->memory, plain);
    } else {
        assert_null(plain);
        assert_true(strncmp(ar_message(), "t: gzip: ", 9) == 0);
    }
    free(copy);
    return status;
}

static void test_unpack(void **state) {
    (void)state;
    static const char text[] = "some text, some text, some more text";
    const size_t n = sizeof(text);
    bytes b = pack(text, n), empty = pack("", 0);
    assert_int_equal(unpack(b.data, b.size, 1 << 20, text, n), ADVROB_OK);
    assert_int_equal(unpack(b.data, b.size, n, text, n), ADVROB_OK); /* exactly the limit */
    assert_int_equal(unpack(b.data, b.size, n - 1, text, n), ADVROB_E_LIMIT);
    assert_int_equal(unpack(b.data, b.size, 0, text, n), ADVROB_E_LIMIT);
    assert_int_equal(unpack(b.data, b.size, UINT64_MAX, text, n), ADVROB_OK);
    assert_int_equal(unpack(empty.data, empty.size, 1 << 20, "", 0), ADVROB_OK);
    assert_int_equal(unpack(empty.data, empty.size, 0, "", 0), ADVROB_OK);
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(unpack(b.data, size, 1 << 20, text, n), ADVROB_E_FORMAT);

    /* Some bits mean nothing: the header's time and system, padding behind the last block. */
    int same = 0;
    for (size_t bit = 0; bit < b.size * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int32_t status = unpack(b.data, b.size, 1 << 20, text, n);
        assert_true(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_LIMIT);
        same += status == ADVROB_OK;
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(same < 64);
    free(b.data);
    free(empty.data);
}

static void test_members(void **state) {
    (void)state;
    bytes a = pack("abc", 3), b = pack("defg", 4);
    uint8_t *both = malloc(a.size + b.size + 16);
    assert_non_null(both);
    memcpy(both, a.data, a.size);
    memcpy(both + a.size, b.data, b.size);
    size_t size = a.size + b.size;
    assert_int_equal(unpack(both, size, 7, "abcdefg", 7), ADVROB_OK);
    assert_int_equal(unpack(both, size, 6, NULL, 0), ADVROB_E_LIMIT);
    assert_int_equal(unpack(both, size, 3, NULL, 0), ADVROB_E_LIMIT);
    for (size_t cut = a.size + 1; cut < size; cut++)
        assert_int_equal(unpack(both, cut, 7, NULL, 0), ADVROB_E_FORMAT);
    static const char *const garbage[] = {"x", "\0", "garbage", "\x1f", "\x1f\x8b", "\x1f\x8b\x08"};
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        size_t n = garbage[i][0] ? strlen(garbage[i]) : 8;
        memset(both + size, 0, 16);
        memcpy(both + size, garbage[i], strlen(garbage[i]));
        assert_int_equal(unpack(both, size + n, 7, NULL, 0), ADVROB_E_FORMAT);
    }
    assert_int_equal(unpack(both, size + 8, 1 << 20, NULL, 0), ADVROB_E_FORMAT);
    free(a.data);
    free(b.data);
    free(both);
}

static void test_no_gzip(void **state) {
    (void)state;
    /* A bare zlib stream and plain text. */
    static const uint8_t bare[] = {0x78, 0x9c, 0x4b, 0x4c, 0x4a, 0x06,
                                   0x00, 0x02, 0x4d, 0x01, 0x27};
    assert_int_equal(unpack(bare, sizeof(bare), 100, NULL, 0), ADVROB_E_FORMAT);
    assert_int_equal(unpack((const uint8_t *)"plain text", 10, 100, NULL, 0), ADVROB_E_FORMAT);
}

static void test_bomb(void **state) {
    (void)state;
    size_t size = (size_t)64 << 20;
    uint8_t *zeros = calloc(1, size);
    assert_non_null(zeros);
    bytes b = pack(zeros, size);
    free(zeros);
    assert_true(b.size < 1 << 20);
    ctx->memory.limit = 8 << 20;
    assert_int_equal(unpack(b.data, b.size, 1 << 20, NULL, 0), ADVROB_E_LIMIT);
    assert_true(ctx->memory.peak < 4 << 20);

    /* The unpacked size that the end of the stream tells is not believed. */
    memset(b.data + b.size - 4, 0xff, 4);
    assert_int_equal(unpack(b.data, b.size, 1 << 20, NULL, 0), ADVROB_E_LIMIT);
    assert_true(ctx->memory.peak < 4 << 20);

    /* As a dataset: the memory limit of the context holds where the format's own is higher. */
    save("t10k-labels-idx1-ubyte.gz", b.data, b.size);
    advrob_dataset *dataset;
    assert_int_equal(open_test(0, &dataset), ADVROB_E_NOMEM);
    assert_null(dataset);
    free(b.data);
}

/* Datasets */

static void test_open(void **state) {
    (void)state;
    static const char *const names[2][2] = {
        {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"},
        {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"}};
    for (uint32_t k = 0; k < 2; k++) {
        save_idx(names[k][0], make_images(20 + k));
        save_idx(names[k][1], make_labels(20 + k));
    }
    for (uint32_t k = 0; k < 2; k++) {
        for (int64_t limit = 0; limit < 40; limit += 7) {
            advrob_dataset *dataset;
            float x[6];
            int32_t y;
            const char *name = limit ? "mnist" : "fashion-mnist";
            assert_int_equal(open_split(name, folder, k ? "train" : "test", limit, &dataset),
                             ADVROB_OK);
            int64_t all = 20 + k, n = limit && limit < all ? limit : all;
            assert_int_equal(dataset->count, n);
            assert_int_equal(dataset->images->classes, 10);
            static const int32_t shape[3] = {1, 2, 3};
            assert_memory_equal(dataset->images->shape, shape, sizeof(shape));
            for (int64_t i = 0; i < n; i++) {
                assert_int_equal(ar_dataset_gather(dataset, i, NULL, 1, x, &y), ADVROB_OK);
                assert_int_equal(y, i % 10);
                for (int j = 0; j < 6; j++)
                    assert_true(x[j] == (float)((i * 6 + j) % 10) / 255.0f);
            }
            ar_dataset_release(dataset);
        }
    }
    /* The plain file is taken where both are there. */
    save("train-images-idx3-ubyte", "x", 1);
    advrob_dataset *dataset;
    assert_int_equal(open_split("mnist", folder, "train", 0, &dataset), ADVROB_E_FORMAT);
}

static void test_options(void **state) {
    (void)state;
    advrob_dataset *dataset;
    assert_int_equal(ar_dataset_open(ctx, "fashion-mnits", folder, NULL, &dataset),
                     ADVROB_E_UNKNOWN);
    assert_non_null(strstr(ar_message(), "\"fashion-mnist\""));
    assert_int_equal(ar_dataset_open(ctx, "zzzzzzzzzzzz", folder, NULL, &dataset),
                     ADVROB_E_UNKNOWN);
    assert_int_equal(ar_dataset_open(ctx, "", folder, NULL, &dataset), ADVROB_E_UNKNOWN);
    assert_int_equal(ar_dataset_open(ctx, "mnist", folder, NULL, &dataset), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "train-labels")); /* the default split */
    assert_int_equal(open_test(-1, &dataset), ADVROB_E_RANGE);
    assert_true(open_split("mnist", folder, "validation", 0, &dataset) < 0);
    advrob_options *options;
    assert_int_equal(ar_options_create(NULL, NULL, &options), ADVROB_OK);
    assert_int_equal(ar_options_set_i64(options, "limt", 1), ADVROB_OK);
    assert_int_equal(ar_dataset_open(ctx, "mnist", folder, options, &dataset), ADVROB_E_UNKNOWN);
    assert_non_null(strstr(ar_message(), "limit"));
    ar_options_destroy(options);

    assert_int_equal(ar_dataset_format_count(), 3);
    assert_string_equal(ar_dataset_format_at(0)->name, "mnist");
    assert_string_equal(ar_dataset_format_at(1)->name, "fashion-mnist");
    assert_string_equal(ar_dataset_format_at(2)->name, "cifar10");
    assert_null(ar_dataset_format_at(3));
    assert_null(ar_dataset_format_at(-1));
}

static void test_open_refuses(void **state) {
    (void)state;
    advrob_dataset *dataset;
    char path[400];
    const char *images = "t10k-images-idx3-ubyte", *labels = "t10k-labels-idx1-ubyte";
    assert_int_equal(open_test(0, &dataset), ADVROB_E_IO); /* missing */
    assert_non_null(strstr(ar_message(), labels));
    save_idx(labels, make_labels(20));
    assert_int_equal(open_test(0, &dataset), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), images));

    save_idx(images, make_images(19)); /* the counts disagree, also under a limit */
    assert_int_equal(open_test(0, &dataset), ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "20 labels, expected 19"));
    assert_int_equal(open_test(5, &dataset), ADVROB_E_FORMAT);

    save_idx(images, make_images(20));
    bytes b = make_labels(20);
    b.data[8 + 13] = 10;
    save_idx(labels, b);
    assert_int_equal(open_test(0, &dataset), ADVROB_E_RANGE);
    assert_non_null(strstr(ar_message(), "label 10 of image 13, expected 0 to 9"));

    save_idx(labels, make_labels(20));
    uint32_t wide[3] = {1, 1, 120000};
    save_idx(images, make_idx(0x803, 3, wide, 120000));
    save_idx(labels, make_labels(1));
    assert_int_equal(open_test(0, &dataset), ADVROB_E_RANGE); /* no such image */

    snprintf(path, sizeof(path), "%s/%s", folder, labels);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* a folder in place of a file; .gz is not tried */
    save_idx("t10k-labels-idx1-ubyte.gz", make_labels(1));
    assert_int_equal(open_test(0, &dataset), ADVROB_E_IO);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* a pipe that nobody writes to */
    assert_int_equal(open_test(0, &dataset), ADVROB_E_IO);
    assert_int_equal(remove(path), 0);
    assert_int_equal(open_split("mnist", "/nonexistent", "test", 0, &dataset), ADVROB_E_IO);
}

static void save_pair(void) {
    save_idx("t10k-images-idx3-ubyte.gz", make_images(20));
    save_idx("t10k-labels-idx1-ubyte", make_labels(20));
}

static void test_file_operations_fail(void **state) {
    (void)state;
    save_pair();
    int64_t failures = 0;
    uint64_t before = ctx->memory.used;
    for (int64_t n = 1;; n++) {
        test_files files = {.fail_at = n, .error = EIO};
        advrob_dataset *dataset;
        assert_true(n < 100);
        test_files_use(ctx, &files);
        int32_t status = open_test(0, &dataset);
        test_files_use(ctx, NULL);
        assert_int_equal(files.opened, files.closed);
        assert_true(status == ADVROB_OK || status == ADVROB_E_IO);
        failures += status == ADVROB_E_IO;
        ar_dataset_release(dataset);
        assert_int_equal(ctx->memory.used, before);
        if (!files.failed) break;
    }
    assert_true(failures >= 6); /* open, size and read of both; a failed look for .gz may pass */
}

static void test_out_of_memory(void **state) {
    (void)state;
    save_pair();
    int32_t status = ADVROB_E_NOMEM;
    uint64_t before = ctx->memory.used;
    for (int64_t n = 1; status != ADVROB_OK; n++) {
        advrob_dataset *dataset;
        assert_true(n < 200);
        test_allocator_arm(&allocator, n, 0);
        status = open_test(0, &dataset);
        assert_int_equal(status, allocator.failed ? ADVROB_E_NOMEM : ADVROB_OK);
        ar_dataset_release(dataset);
        assert_int_equal(ctx->memory.used, before);
        if (n == 1) assert_int_equal(status, ADVROB_E_NOMEM);
    }
    test_allocator_arm(&allocator, 0, 0);
}

/* Real files */

static void assert_first_labels(const advrob_dataset *dataset, const int32_t wanted[10]) {
    int32_t y[10];
    assert_int_equal(ar_dataset_gather(dataset, 0, NULL, 10, NULL, y), ADVROB_OK);
    assert_memory_equal(y, wanted, sizeof(y));
    static const int32_t shape[3] = {1, 28, 28};
    assert_memory_equal(dataset->images->shape, shape, sizeof(shape));
}

static void test_fashion_mnist(void **state) {
    (void)state;
    struct stat info;
    advrob_dataset *dataset;
    if (stat(FASHION_MNIST, &info) != 0) test_skip_or_fail("no " FASHION_MNIST);
    assert_int_equal(open_split("fashion-mnist", FASHION_MNIST, "train", 0, &dataset), ADVROB_OK);
    assert_int_equal(dataset->count, 60000);
    static const int32_t train[10] = {9, 0, 0, 3, 0, 2, 7, 2, 5, 5};
    assert_first_labels(dataset, train);
    ar_dataset_release(dataset);
    assert_int_equal(open_split("fashion-mnist", FASHION_MNIST, "test", 0, &dataset), ADVROB_OK);
    assert_int_equal(dataset->count, 10000);
    static const int32_t test[10] = {9, 2, 1, 1, 6, 1, 4, 6, 5, 7};
    assert_first_labels(dataset, test);
    ar_dataset_release(dataset);
}

static void test_mnist(void **state) {
    (void)state;
    char dir[400];
    struct stat info;
    advrob_dataset *dataset;
    if (!test_data()) test_skip_or_fail("no test data");
    snprintf(dir, sizeof(dir), "%s/data/mnist", test_data());
    if (stat(dir, &info) != 0) test_skip_or_fail("no data/mnist in the test data");
    assert_int_equal(open_split("mnist", dir, "test", 0, &dataset), ADVROB_OK);
    assert_int_equal(dataset->count, 10000);
    static const int32_t test[10] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    assert_first_labels(dataset, test);
    ar_dataset_release(dataset);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_parse),         TEST(test_parse_refuses),
        TEST(test_unpack),        TEST(test_members),
        TEST(test_no_gzip),       TEST(test_bomb),
        TEST(test_open),          TEST(test_options),
        TEST(test_open_refuses),  TEST(test_file_operations_fail),
        TEST(test_out_of_memory), TEST(test_fashion_mnist),
        TEST(test_mnist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
