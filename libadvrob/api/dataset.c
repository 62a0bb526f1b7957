/* Datasets. */
#include <string.h>

#include "api.h"

int32_t advrob_dataset_open(advrob_context *ctx, const char *name, const char *dir,
                            const advrob_options *options, advrob_dataset **out) {
    AR_API_PRESENT(name);
    AR_API_PRESENT(dir);
    AR_API_PRESENT(out);
    AR_API(ctx, ar_dataset_open(ctx, name, dir, options, out));
}

static int32_t from_memory(advrob_context *ctx, int32_t dtype, const void *images,
                           const int32_t *labels, int64_t n, const int32_t shape[3],
                           int32_t classes, advrob_dataset **out) {
    ar_images *store = NULL;
    if (dtype != ADVROB_U8 && dtype != ADVROB_F32)
        return ar_error(ADVROB_E_INVALID, "images of dtype %d, expected ADVROB_U8 or ADVROB_F32",
                        dtype);
    int32_t status = ar_images_create(ctx, dtype, n, shape, classes, &store);
    if (status < 0) return status;
    size_t pixels = (size_t)n * (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    memcpy(store->pixels, images, pixels * ar_dtype_size(dtype));
    memcpy(store->labels, labels, (size_t)n * sizeof(int32_t));
    return ar_dataset_create(ctx, store, out);
}

int32_t advrob_dataset_from_memory(advrob_context *ctx, int32_t dtype, const void *images,
                                   const int32_t *labels, int64_t n, int32_t channels,
                                   int32_t height, int32_t width, int32_t classes,
                                   advrob_dataset **out) {
    const int32_t shape[3] = {channels, height, width};
    AR_API_PRESENT(images);
    AR_API_PRESENT(labels);
    AR_API_PRESENT(out);
    AR_API(ctx, from_memory(ctx, dtype, images, labels, n, shape, classes, out));
}

void advrob_dataset_destroy(advrob_dataset *dataset) {
    ar_dataset_release(dataset);
}

int64_t advrob_dataset_count(const advrob_dataset *dataset) {
    return dataset == NULL ? 0 : dataset->count;
}

int32_t advrob_dataset_classes(const advrob_dataset *dataset) {
    return dataset == NULL ? 0 : dataset->images->classes;
}

int32_t advrob_dataset_shape(const advrob_dataset *dataset, int32_t *shape) {
    AR_API_PRESENT(dataset);
    AR_API_PRESENT(shape);
    memcpy(shape, dataset->images->shape, 3 * sizeof(int32_t));
    return ADVROB_OK;
}

int32_t advrob_dataset_read(const advrob_dataset *dataset, int64_t first, int64_t n, float *x,
                            int32_t *y) {
    AR_API_PRESENT(dataset);
    AR_API(dataset->ctx, ar_dataset_gather(dataset, first, NULL, n, x, y));
}

int32_t advrob_dataset_slice(const advrob_dataset *dataset, int64_t first, int64_t count,
                             advrob_dataset **out) {
    AR_API_PRESENT(dataset);
    AR_API_PRESENT(out);
    AR_API(dataset->ctx, ar_dataset_slice(dataset, first, count, out));
}

int32_t advrob_dataset_split(const advrob_dataset *dataset, int64_t count, int64_t seed,
                             advrob_dataset **part, advrob_dataset **rest) {
    AR_API_PRESENT(dataset);
    AR_API_PRESENT(part);
    AR_API(dataset->ctx, ar_dataset_split(dataset, count, seed, part, rest));
}

int32_t advrob_dataset_digest(const advrob_dataset *dataset, char *buffer, size_t size) {
    AR_API_PRESENT(dataset);
    AR_API_PRESENT(buffer);
    if (size < 17)
        return ar_error(ADVROB_E_INVALID, "a digest needs 17 bytes, the buffer has %zu", size);
    ar_format(buffer, size, "%016llx", (unsigned long long)ar_dataset_digest(dataset));
    return ADVROB_OK;
}
