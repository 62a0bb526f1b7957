/* IDX files of unsigned bytes (yann.lecun.com/exdb/mnist, "file formats"), and the datasets that
 * come as four of them: MNIST and Fashion-MNIST. */
#include <string.h>

#include "io.h"

#define MAX_BYTES ((uint64_t)1 << 30)
#define CLASSES 10

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

int32_t ar_idx_parse(const char *name, const uint8_t *data, size_t size, int32_t rank,
                     int64_t dims[3], const uint8_t **values) {
    if (rank != 1 && rank != 3)
        return ar_error(ADVROB_E_INVALID, "%.200s: IDX rank %d, expected 1 or 3", name, rank);
    size_t header = 4 + 4 * (size_t)rank;
    if (size < header)
        return ar_error(ADVROB_E_FORMAT, "%.200s: %zu bytes, expected an IDX header of %zu bytes",
                        name, size, header);
    uint32_t wanted = 0x800 | (uint32_t)rank, magic = big_endian(data);
    if (magic != wanted)
        return ar_error(ADVROB_E_FORMAT, "%.200s: IDX magic %u, expected %u (bytes, rank %d)", name,
                        magic, wanted, rank);

    dims[0] = dims[1] = dims[2] = 1;
    for (int32_t i = 0; i < rank; i++) {
        dims[i] = (int64_t)big_endian(data + 4 + 4 * i);
        if (dims[i] < 1)
            return ar_error(ADVROB_E_FORMAT, "%.200s: IDX dimension %d is 0, expected at least 1",
                            name, i);
    }
    int64_t bytes;
    if (!ar_product(dims, 3, &bytes))
        return ar_error(ADVROB_E_OVERFLOW, "%.200s: IDX dimensions %lld x %lld x %lld do not fit",
                        name, (long long)dims[0], (long long)dims[1], (long long)dims[2]);
    if ((uint64_t)bytes != size - header)
        return ar_error(ADVROB_E_FORMAT,
                        "%.200s: %zu bytes of IDX data, expected %lld for %lld x %lld x %lld", name,
                        size - header, (long long)bytes, (long long)dims[0], (long long)dims[1],
                        (long long)dims[2]);
    *values = data + header;
    return ADVROB_OK;
}

/* Files */

typedef struct idx_file {
    char *path; /* of the file that was found */
    uint8_t *data;
    int64_t dims[3];
    const uint8_t *values;
} idx_file;

static int32_t idx_read(advrob_context *ctx, const char *dir, const char *stem, const char *kind,
                        int32_t rank, idx_file *file) {
    int32_t status = ADVROB_OK;
    ar_buffer path;
    size_t size;
    bool found;
    ar_buffer_init(&path, &ctx->memory);
    ar_buffer_add(&path, "%s/%s-%s-idx%d-ubyte", dir, stem, kind, rank);
    AR_TRY(ar_gzip_find(ctx, &path, &found));
    if (!found) AR_FAIL(ADVROB_E_IO, "%.200s: no such file, neither plain nor with .gz", path.data);
    AR_TRY(ar_gzip_read(ctx, path.data, MAX_BYTES, &file->data, &size));
    AR_TRY(ar_idx_parse(path.data, file->data, size, rank, file->dims, &file->values));
    file->path = path.data;
    path.data = NULL;
out:
    ar_buffer_free(&path);
    return status;
}

static void idx_free(advrob_context *ctx, idx_file *file) {
    ar_free(&ctx->memory, file->path);
    ar_free(&ctx->memory, file->data);
}

static int32_t check_pair(const idx_file *pixels, const idx_file *labels) {
    if (pixels->dims[0] != labels->dims[0])
        return ar_error(
            ADVROB_E_FORMAT, "%.200s: %lld labels, expected %lld as there are images in %.200s",
            labels->path, (long long)labels->dims[0], (long long)pixels->dims[0], pixels->path);
    for (int i = 1; i < 3; i++)
        if (pixels->dims[i] > INT32_MAX)
            return ar_error(ADVROB_E_RANGE, "%.200s: IDX dimension %d is %lld, expected at most %d",
                            pixels->path, i, (long long)pixels->dims[i], INT32_MAX);
    for (int64_t i = 0; i < labels->dims[0]; i++)
        if (labels->values[i] >= CLASSES)
            return ar_error(ADVROB_E_RANGE, "%.200s: label %d of image %lld, expected 0 to %d",
                            labels->path, labels->values[i], (long long)i, CLASSES - 1);
    return ADVROB_OK;
}

static int32_t open_pair(advrob_context *ctx, const char *dir, const char *split, int64_t limit,
                         advrob_dataset **out) {
    int32_t status = ADVROB_OK;
    idx_file pixels = {0}, labels = {0};
    ar_images *images;
    const char *stem = strcmp(split, "test") == 0 ? "t10k" : "train";
    *out = NULL;
    AR_TRY(idx_read(ctx, dir, stem, "labels", 1, &labels));
    AR_TRY(idx_read(ctx, dir, stem, "images", 3, &pixels));
    AR_TRY(check_pair(&pixels, &labels));

    int64_t n = limit > 0 && limit < pixels.dims[0] ? limit : pixels.dims[0];
    const int32_t shape[3] = {1, (int32_t)pixels.dims[1], (int32_t)pixels.dims[2]};
    AR_TRY(ar_images_create(ctx, ADVROB_U8, n, shape, CLASSES, &images));
    /* No more than the file holds: idx_parse compared the product with its size. */
    memcpy(images->pixels, pixels.values, (size_t)(n * pixels.dims[1] * pixels.dims[2]));
    for (int64_t i = 0; i < n; i++)
        images->labels[i] = labels.values[i];
    AR_TRY(ar_dataset_create(ctx, images, out));
out:
    idx_free(ctx, &pixels);
    idx_free(ctx, &labels);
    return status;
}

const ar_dataset_format ar_dataset_format_mnist = {
    .name = "mnist",
    .help = "handwritten digits, 28 x 28 grey, 10 classes (IDX files, plain or .gz)",
    .open = open_pair,
};

const ar_dataset_format ar_dataset_format_fashion_mnist = {
    .name = "fashion-mnist",
    .help = "articles of clothing, 28 x 28 grey, 10 classes (IDX files, plain or .gz)",
    .open = open_pair,
};
