/* CIFAR-10's binary files: made-up ones for order, limits and every error, and the real ones. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "io/io.h"

enum { PIXELS = 3072, RECORD = 3073 };
#define BELOW "cifar-10-batches-bin"

static test_allocator allocator;
static advrob_context *ctx;
static char folder[256];

static int set_up(void **state) {
    (void)state;
    ctx = test_context_with(&allocator, 1);
    test_folder_make(folder, sizeof folder);
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

static uint8_t pixel(int64_t image, int32_t i) {
    return (uint8_t)(image * 31 + i * 7 + (i >> 10) * 50);
}

/* Images first, first + 1, ... of labels 0, 1, ..., 9, 0, ... */
static uint8_t *make_records(int64_t first, int64_t n) {
    uint8_t *data = malloc((size_t)(n > 0 ? n : 1) * RECORD);
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) {
        data[i * RECORD] = (uint8_t)((first + i) % 10);
        for (int32_t k = 0; k < PIXELS; k++)
            data[i * RECORD + 1 + k] = pixel(first + i, k);
    }
    return data;
}

static void save(const char *name, const void *data, size_t size) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (strstr(name, ".gz")) {
        gzFile f = gzopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(gzwrite(f, data, (unsigned)size), size);
        assert_int_equal(gzclose(f), Z_OK);
        return;
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static void save_records(const char *name, int64_t first, int64_t n) {
    uint8_t *data = make_records(first, n);
    save(name, data, (size_t)n * RECORD);
    free(data);
}

static void drop(const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(remove(path), 0);
}

static void make_below(void) {
    char path[400];
    snprintf(path, sizeof path, "%s/" BELOW, folder);
    assert_int_equal(mkdir(path, 0700), 0);
}

/* test_folder_remove takes files alone. */
static void drop_below(void) {
    char path[400];
    snprintf(path, sizeof path, "%s/" BELOW, folder);
    test_folder_remove(path);
}

/* Five files of n, n + 1, ... n + 4 images; those of an odd number are packed. */
static void save_train(const char *where, int64_t n) {
    char name[80];
    int64_t first = 0;
    for (int32_t i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%sdata_batch_%d.bin%s", where, i + 1, i % 2 ? ".gz" : "");
        save_records(name, first, n + i);
        first += n + i;
    }
}

static int32_t open_in(const char *dir, const char *split, int64_t limit, advrob_dataset **out) {
    advrob_options *options = NULL;
    assert_int_equal(ar_options_create(NULL, NULL, &options), ADVROB_OK);
    assert_int_equal(ar_options_set_str(options, "split", split), ADVROB_OK);
    assert_int_equal(ar_options_set_i64(options, "limit", limit), ADVROB_OK);
    int32_t status = ar_dataset_open(ctx, "cifar10", dir, options, out);
    ar_options_destroy(options);
    return status;
}

static void assert_refused(const char *split, int64_t limit, int32_t wanted, const char *text) {
    advrob_dataset *dataset;
    assert_int_equal(open_in(folder, split, limit, &dataset), wanted);
    assert_null(dataset);
    if (!strstr(ar_message(), text)) fail_msg("\"%s\" lacks \"%s\"", ar_message(), text);
}

static void assert_images(const advrob_dataset *dataset, int64_t n) {
    static const int32_t shape[3] = {3, 32, 32};
    float x[PIXELS];
    int32_t y;
    assert_int_equal(dataset->count, n);
    assert_int_equal(dataset->images->classes, 10);
    assert_memory_equal(dataset->images->shape, shape, sizeof shape);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(ar_dataset_gather(dataset, i, NULL, 1, x, &y), ADVROB_OK);
        assert_int_equal(y, i % 10);
        for (int32_t k = 0; k < PIXELS; k++)
            assert_true(x[k] == (float)pixel(i, k) / 255.0f);
    }
}

/* Tests */

static void test_parse(void **state) {
    (void)state;
    uint8_t *data = make_records(0, 3);
    int64_t n = -1;
    assert_int_equal(ar_cifar10_parse("f", data, 3 * RECORD, &n), ADVROB_OK);
    assert_int_equal(n, 3);
    static const size_t wrong[] = {0, 1, RECORD - 1, RECORD + 1, 3 * RECORD - 1};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(ar_cifar10_parse("f", data, wrong[i], &n), ADVROB_E_FORMAT);
    for (int32_t label = 9; label < 256; label++) {
        data[2 * RECORD] = (uint8_t)label;
        assert_int_equal(ar_cifar10_parse("f", data, 3 * RECORD, &n),
                         label == 9 ? ADVROB_OK : ADVROB_E_RANGE);
        assert_int_equal(ar_cifar10_parse("f", data, 2 * RECORD, &n), ADVROB_OK);
    }
    free(data);
}

static void test_open(void **state) {
    (void)state;
    advrob_dataset *dataset;
    save_train("", 2); /* 2 + 3 + 4 + 5 + 6 images */
    static const int64_t limits[] = {0, 1, 2, 3, 5, 6, 19, 20, 21};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        int64_t n = limits[i] > 0 && limits[i] < 20 ? limits[i] : 20;
        assert_int_equal(open_in(folder, "train", limits[i], &dataset), ADVROB_OK);
        assert_images(dataset, n);
        ar_dataset_release(dataset);
    }
    save_records("test_batch.bin.gz", 0, 7);
    assert_int_equal(open_in(folder, "test", 0, &dataset), ADVROB_OK);
    assert_images(dataset, 7);
    ar_dataset_release(dataset);
    /* The plain file is taken where both are there. */
    save_records("test_batch.bin", 0, 4);
    assert_int_equal(open_in(folder, "test", 6, &dataset), ADVROB_OK);
    assert_images(dataset, 4);
    ar_dataset_release(dataset);
}

static void test_limit_reads_no_more(void **state) {
    (void)state;
    advrob_dataset *dataset;
    save_records("data_batch_1.bin", 0, 4);
    save_records("data_batch_2.bin", 4, 4);
    save("data_batch_3.bin", "damaged", 7);
    assert_int_equal(open_in(folder, "train", 8, &dataset), ADVROB_OK);
    assert_images(dataset, 8);
    ar_dataset_release(dataset);
    assert_refused("train", 9, ADVROB_E_FORMAT, "data_batch_3.bin: 7 bytes");
    drop("data_batch_3.bin");
    assert_refused("train", 9, ADVROB_E_IO, "data_batch_3.bin: no such file");
    test_files files = {.fail_at = 0};
    test_files_use(ctx, &files);
    assert_int_equal(open_in(folder, "train", 4, &dataset), ADVROB_OK);
    test_files_use(ctx, NULL);
    assert_int_equal(files.opened, 2); /* one look and one read of the first file */
    ar_dataset_release(dataset);
}

static void test_folder_below(void **state) {
    (void)state;
    advrob_dataset *dataset;
    make_below();
    save_train(BELOW "/", 1);
    assert_int_equal(open_in(folder, "train", 0, &dataset), ADVROB_OK);
    assert_images(dataset, 15);
    ar_dataset_release(dataset);
    /* Files of the two folders are not mixed. */
    save_records("data_batch_1.bin", 0, 3);
    assert_refused("train", 0, ADVROB_E_IO, "data_batch_2.bin: no such file");
    assert_int_equal(open_in(folder, "train", 3, &dataset), ADVROB_OK);
    assert_images(dataset, 3);
    ar_dataset_release(dataset);
    drop("data_batch_1.bin");
    drop(BELOW "/data_batch_4.bin.gz");
    assert_refused("train", 0, ADVROB_E_IO, BELOW "/data_batch_4.bin: no such file");
    drop_below();
}

static void test_refuses(void **state) {
    (void)state;
    char path[400];
    uint8_t *data = make_records(0, 3);
    assert_refused("test", 0, ADVROB_E_IO, "test_batch.bin: no such file, neither plain nor");
    assert_non_null(strstr(ar_message(), BELOW));
    assert_refused("train", 0, ADVROB_E_IO, "data_batch_1.bin: no such file");
    save("test_batch.bin", data, 3 * RECORD - 1);
    assert_refused("test", 0, ADVROB_E_FORMAT, "9218 bytes, expected whole records of 3073");
    assert_refused("test", 1, ADVROB_E_FORMAT, "test_batch.bin"); /* also under a limit */
    save("test_batch.bin", data, 0);
    assert_refused("test", 0, ADVROB_E_FORMAT, "0 bytes");
    data[2 * RECORD] = 10;
    save("test_batch.bin", data, 3 * RECORD);
    assert_refused("test", 0, ADVROB_E_RANGE, "label 10 of image 2, expected 0 to 9");
    assert_refused("test", 1, ADVROB_E_RANGE, "test_batch.bin");
    drop("test_batch.bin");

    save("test_batch.bin.gz", data, RECORD); /* a stream that is cut */
    snprintf(path, sizeof path, "%s/test_batch.bin.gz", folder);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 9), 0);
    assert_refused("test", 0, ADVROB_E_FORMAT, "test_batch.bin.gz: gzip: the stream is truncated");
    drop("test_batch.bin.gz");

    snprintf(path, sizeof path, "%s/test_batch.bin", folder);
    assert_int_equal(mkdir(path, 0700), 0); /* a folder in place of a file; .gz is not tried */
    save("test_batch.bin.gz", data, RECORD);
    assert_refused("test", 0, ADVROB_E_IO, "test_batch.bin");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* a pipe that nobody writes to */
    assert_refused("test", 0, ADVROB_E_IO, "test_batch.bin");
    drop("test_batch.bin");
    free(data);
}

/* What unpacks to more than any file of the format has. */
static void test_bomb(void **state) {
    (void)state;
    size_t size = ((size_t)1 << 28) + 1;
    uint8_t *zeros = calloc(size, 1);
    assert_non_null(zeros);
    save("test_batch.bin.gz", zeros, size);
    free(zeros);
    assert_refused("test", 0, ADVROB_E_LIMIT, "unpacks to more than the limit");
    ctx->memory.limit = (uint64_t)16 << 20; /* the context's own limit comes first */
    assert_refused("test", 0, ADVROB_E_NOMEM, "");
}

static void test_file_operations_fail(void **state) {
    (void)state;
    int64_t failures = 0;
    uint64_t before = ctx->memory.used;
    save_train("", 1);
    for (int64_t n = 1;; n++) {
        test_files files = {.fail_at = n, .error = EIO};
        advrob_dataset *dataset;
        assert_true(n < 100);
        test_files_use(ctx, &files);
        int32_t status = open_in(folder, "train", 0, &dataset);
        test_files_use(ctx, NULL);
        assert_int_equal(files.opened, files.closed);
        assert_true(status == ADVROB_OK || status == ADVROB_E_IO);
        failures += status == ADVROB_E_IO;
        ar_dataset_release(dataset);
        assert_int_equal(ctx->memory.used, before);
        if (!files.failed) break;
    }
    assert_true(failures >= 15); /* open, size and read of five files */
}

static void test_out_of_memory(void **state) {
    (void)state;
    int32_t status = ADVROB_E_NOMEM;
    uint64_t before = ctx->memory.used;
    save_train("", 1);
    for (int64_t n = 1; status != ADVROB_OK; n++) {
        advrob_dataset *dataset;
        assert_true(n < 200);
        test_allocator_arm(&allocator, n, 0);
        status = open_in(folder, "train", 0, &dataset);
        assert_int_equal(status, allocator.failed ? ADVROB_E_NOMEM : ADVROB_OK);
        ar_dataset_release(dataset);
        assert_int_equal(ctx->memory.used, before);
        if (n == 1) assert_int_equal(status, ADVROB_E_NOMEM);
    }
    test_allocator_arm(&allocator, 0, 0);
}

/* Real files. Their bytes are held by sha256 where they are decoded (support/unpack_cifar10.py);
 * the digests are FNV-1a over the files' pixels and labels, computed apart from the library. */
static void assert_real(const char *dir, const char *split, int64_t limit, int64_t n,
                        uint64_t digest, const int32_t labels[10]) {
    advrob_dataset *dataset;
    int32_t y[10];
    assert_int_equal(open_in(dir, split, limit, &dataset), ADVROB_OK);
    assert_int_equal(dataset->count, n);
    assert_int_equal(ar_dataset_gather(dataset, 0, NULL, 10, NULL, y), ADVROB_OK);
    assert_memory_equal(y, labels, sizeof y);
    assert_true(ar_dataset_digest(dataset) == digest);
    ar_dataset_release(dataset);
}

static void test_real(void **state) {
    (void)state;
    static const int32_t test[10] = {1, 1, 8, 3, 7, 0, 1, 8, 1, 5};
    static const int32_t train[10] = {0, 6, 1, 6, 7, 5, 9, 9, 6, 8};
    const char *why, *dir = test_cifar10(&why);
    char below[4096];
    if (!dir) test_skip_or_fail(why);
    snprintf(below, sizeof below, "%s/" BELOW, dir);
    assert_real(dir, "test", 0, 10000, 0xa61162f19aa1766c, test);
    assert_real(below, "train", 10000, 10000, 0xcd7bf3fdadab1339, train);
    assert_real(dir, "train", 0, 50000, 0xf4d22ce9dd3f1c0e, train);
    advrob_dataset *dataset;
    float x[PIXELS];
    assert_int_equal(open_in(dir, "test", 1, &dataset), ADVROB_OK);
    assert_int_equal(ar_dataset_gather(dataset, 0, NULL, 1, x, NULL), ADVROB_OK);
    assert_true(x[0] == 1.0f && x[1] == 233 / 255.0f && x[2] == 251 / 255.0f);
    assert_true(x[1024] == 249 / 255.0f && x[3071] == 61 / 255.0f);
    ar_dataset_release(dataset);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_parse),         TEST(test_open),
        TEST(test_folder_below),  TEST(test_limit_reads_no_more),
        TEST(test_refuses),       TEST(test_bomb),
        TEST(test_real),          TEST(test_file_operations_fail),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
