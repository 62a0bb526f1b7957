/* CIFAR-10's binary files (www.cs.toronto.edu/~kriz/cifar.html, "binary version"): records of one
 * label byte and 3 x 32 x 32 pixels, the red, the green and the blue plane, each row by row. That
 * is how a dataset holds its pixels, so they are copied as they are. */
#include <string.h>

#include "io.h"

/* An official file has 30,730,000 bytes. */
#define MAX_BYTES ((uint64_t)1 << 28)
#define FOLDER "cifar-10-batches-bin" /* what the official archive unpacks to */

enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, RECORD = 1 + PIXELS, CLASSES = 10, MOST_FILES = 5 };

int32_t ar_cifar10_parse(const char *name, const uint8_t *data, size_t size, int64_t *records) {
    if (size == 0 || size % RECORD != 0)
        return ar_error(ADVROB_E_FORMAT, "%.200s: %zu bytes, expected whole records of %d bytes",
                        name, size, RECORD);
    for (size_t i = 0; i < size / RECORD; i++)
        if (data[i * RECORD] >= CLASSES)
            return ar_error(ADVROB_E_RANGE, "%.200s: label %d of image %zu, expected 0 to %d", name,
                            data[i * RECORD], i, CLASSES - 1);
    *records = (int64_t)(size / RECORD);
    return ADVROB_OK;
}

/* The files of a split, as far as they are needed. */
typedef struct batches {
    uint8_t *data[MOST_FILES];
    int64_t records[MOST_FILES], total;
    int32_t count;
} batches;

/* Looks for a file of the split, from 0. The first one may lie in `dir` or in the folder below it,
 * as *below then says; the others are expected beside it. */
static int32_t find_file(advrob_context *ctx, const char *dir, bool test, int32_t file,
                         const char **below, ar_buffer *path) {
    static const char *const places[2] = {"", "/" FOLDER};
    int32_t status = ADVROB_OK;
    bool found = false;
    char name[24] = "test_batch.bin";
    if (!test) ar_format(name, sizeof name, "data_batch_%d.bin", file + 1);
    for (int32_t i = 0; i < 2 && !found; i++) {
        if (file > 0 && places[i] != *below) continue;
        *below = places[i];
        path->length = 0;
        ar_buffer_add(path, "%s%s/%s", dir, *below, name);
        AR_TRY(ar_gzip_find(ctx, path, &found));
    }
    if (found) return ADVROB_OK;
    if (file > 0)
        AR_FAIL(ADVROB_E_IO, "%.200s: no such file, neither plain nor with .gz", path->data);
    AR_FAIL(ADVROB_E_IO,
            "%.200s/%s: no such file, neither plain nor with .gz, nor in the folder " FOLDER, dir,
            name);
out:
    return status;
}

/* Reads files until there are `limit` images (0: all files). */
static int32_t read_batches(advrob_context *ctx, const char *dir, bool test, int64_t limit,
                            batches *b) {
    int32_t status = ADVROB_OK, files = test ? 1 : MOST_FILES;
    const char *below = "";
    ar_buffer path;
    ar_buffer_init(&path, &ctx->memory);
    for (int32_t i = 0; i < files && (limit == 0 || b->total < limit); i++) {
        size_t size;
        AR_TRY(find_file(ctx, dir, test, i, &below, &path));
        AR_TRY(ar_gzip_read(ctx, path.data, MAX_BYTES, &b->data[i], &size));
        AR_TRY(ar_cifar10_parse(path.data, b->data[i], size, &b->records[i]));
        b->total += b->records[i];
        b->count++;
    }
out:
    ar_buffer_free(&path);
    return status;
}

/* Frees each file as soon as it is copied, so that little more than the dataset is held. */
static void copy_images(advrob_context *ctx, batches *b, ar_images *images) {
    int64_t done = 0;
    for (int32_t k = 0; k < b->count; k++) {
        for (int64_t i = 0; i < b->records[k] && done < images->n; i++, done++) {
            const uint8_t *record = b->data[k] + (size_t)i * RECORD;
            images->labels[done] = record[0];
            memcpy((uint8_t *)images->pixels + (size_t)done * PIXELS, record + 1, PIXELS);
        }
        ar_free(&ctx->memory, b->data[k]);
        b->data[k] = NULL;
    }
}

static int32_t open_batches(advrob_context *ctx, const char *dir, const char *split, int64_t limit,
                            advrob_dataset **out) {
    static const int32_t shape[3] = {3, SIDE, SIDE};
    int32_t status = ADVROB_OK;
    batches b = {.count = 0};
    ar_images *images;
    *out = NULL;
    AR_TRY(read_batches(ctx, dir, strcmp(split, "test") == 0, limit, &b));
    int64_t n = limit > 0 && limit < b.total ? limit : b.total;
    AR_TRY(ar_images_create(ctx, ADVROB_U8, n, shape, CLASSES, &images));
    copy_images(ctx, &b, images);
    AR_TRY(ar_dataset_create(ctx, images, out));
out:
    for (int32_t k = 0; k < MOST_FILES; k++)
        ar_free(&ctx->memory, b.data[k]);
    return status;
}

const ar_dataset_format ar_dataset_format_cifar10 = {
    .name = "cifar10",
    .help = "ten kinds of things, 32 x 32 in colour, 10 classes (binary files, plain or .gz)",
    .open = open_batches,
};
