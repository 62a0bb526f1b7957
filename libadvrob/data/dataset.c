/* Labelled images in memory: the shared store, and datasets as views of it. */
#include "data.h"

#include <stdatomic.h>
#include <string.h>

#define MAX_DIMENSION 65536

static size_t pixel_size(const ar_images *images) {
    return images->dtype == ADVROB_U8 ? sizeof(uint8_t) : sizeof(float);
}

/* Pixels of one image; was checked when the store was made. */
static size_t image_pixels(const ar_images *images) {
    return (size_t)images->shape[0] * (size_t)images->shape[1] * (size_t)images->shape[2];
}

static const uint8_t *image_at(const ar_images *images, int64_t i) {
    return (const uint8_t *)images->pixels + (size_t)i * image_pixels(images) * pixel_size(images);
}

/* Where the dataset's image i lies in the store. */
static int64_t position(const advrob_dataset *dataset, int64_t i) {
    return dataset->index ? dataset->index[i] : dataset->first + i;
}

/* The store */

static int32_t check_form(int32_t dtype, int64_t n, const int32_t shape[3], int32_t classes) {
    static const char *const names[3] = {"channels", "height", "width"};
    if (dtype != ADVROB_U8 && dtype != ADVROB_F32)
        return ar_error(ADVROB_E_INVALID, "dataset: dtype %d, expected ADVROB_U8 or ADVROB_F32",
                        dtype);
    if (n < 1)
        return ar_error(ADVROB_E_RANGE, "dataset: %lld images, expected at least 1", (long long)n);
    for (int i = 0; i < 3; i++)
        if (shape[i] < 1 || shape[i] > MAX_DIMENSION)
            return ar_error(ADVROB_E_RANGE, "dataset: %s %d, expected 1 to %d", names[i], shape[i],
                            MAX_DIMENSION);
    if (classes < 1)
        return ar_error(ADVROB_E_RANGE, "dataset: %d classes, expected at least 1", classes);
    return ADVROB_OK;
}

int32_t ar_images_create(advrob_context *ctx, int32_t dtype, int64_t n, const int32_t shape[3],
                         int32_t classes, ar_images **out) {
    int32_t status = ADVROB_OK;
    ar_images *images = NULL;
    *out = NULL;
    AR_TRY(check_form(dtype, n, shape, classes));

    /* Gathered as floats, so the size must fit in floats too. */
    int64_t factors[5] = {n, shape[0], shape[1], shape[2], (int64_t)sizeof(float)};
    int64_t floats;
    if (!ar_product(factors, 5, &floats) || (uint64_t)floats > SIZE_MAX)
        AR_FAIL(ADVROB_E_OVERFLOW,
                "dataset: %lld images of %d x %d x %d pixels do not fit in memory", (long long)n,
                shape[0], shape[1], shape[2]);
    size_t bytes = (size_t)floats;
    if (dtype == ADVROB_U8) bytes /= sizeof(float);

    void *block;
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof(ar_images), "a dataset's images", &block));
    images = block;
    images->references = 1;
    images->dtype = dtype;
    images->n = n;
    memcpy(images->shape, shape, sizeof(images->shape));
    images->classes = classes;
    AR_TRY(ar_alloc(&ctx->memory, bytes, "a dataset's pixels", &images->pixels));
    size_t label_bytes;
    if (!ar_mul((size_t)n, sizeof(int32_t), &label_bytes))
        AR_FAIL(ADVROB_E_OVERFLOW, "dataset: %lld labels do not fit in memory", (long long)n);
    AR_TRY(ar_alloc(&ctx->memory, label_bytes, "a dataset's labels", &block));
    images->labels = block;
    *out = images;
out:
    if (status < 0) ar_images_release(ctx, images);
    return status;
}

void ar_images_release(advrob_context *ctx, ar_images *images) {
    if (!images || atomic_fetch_sub(&images->references, 1) > 1) return;
    ar_free(&ctx->memory, images->pixels);
    ar_free(&ctx->memory, images->labels);
    ar_free(&ctx->memory, images);
}

static int32_t check_images(const ar_images *images) {
    for (int64_t i = 0; i < images->n; i++)
        if (images->labels[i] < 0 || images->labels[i] >= images->classes)
            return ar_error(ADVROB_E_RANGE, "dataset: label %d of image %lld, expected 0 to %d",
                            images->labels[i], (long long)i, images->classes - 1);
    if (images->dtype != ADVROB_F32) return ADVROB_OK;

    size_t pixels = image_pixels(images);
    for (int64_t i = 0; i < images->n; i++) {
        const float *x = (const float *)images->pixels + (size_t)i * pixels;
        for (size_t j = 0; j < pixels; j++) {
            if (x[j] >= 0.0f && x[j] <= 1.0f) continue; /* false for NaN */
            return ar_error(ADVROB_E_RANGE,
                            "dataset: pixel %zu of image %lld is %g, expected a value in [0, 1]", j,
                            (long long)i, (double)x[j]);
        }
    }
    return ADVROB_OK;
}

/* Datasets */

/* A view of the store with a reference on store and context; index (taken over) may be NULL. */
static int32_t view_create(advrob_context *ctx, ar_images *images, int64_t first, int64_t count,
                           int64_t *index, advrob_dataset **out) {
    void *block;
    int32_t status = ar_calloc(&ctx->memory, 1, sizeof(advrob_dataset), "a dataset", &block);
    if (status < 0) {
        ar_free(&ctx->memory, index);
        return status;
    }
    advrob_dataset *dataset = block;
    ar_context_retain(ctx);
    atomic_fetch_add(&images->references, 1);
    dataset->ctx = ctx;
    dataset->references = 1;
    dataset->images = images;
    dataset->first = first;
    dataset->count = count;
    dataset->index = index;
    *out = dataset;
    return ADVROB_OK;
}

int32_t ar_dataset_create(advrob_context *ctx, ar_images *images, advrob_dataset **out) {
    int32_t status = ADVROB_OK;
    *out = NULL;
    AR_TRY(check_images(images));
    AR_TRY(view_create(ctx, images, 0, images->n, NULL, out));
out:
    ar_images_release(ctx, images); /* the view has its own reference */
    return status;
}

int32_t ar_dataset_check(const advrob_dataset *dataset, const char *what, const char *taker,
                         const int32_t shape[3], int32_t classes) {
    const ar_images *images = dataset->images;
    if (memcmp(images->shape, shape, sizeof images->shape) != 0)
        return ar_error(ADVROB_E_SHAPE, "%s images are %d x %d x %d, %s takes %d x %d x %d", what,
                        images->shape[0], images->shape[1], images->shape[2], taker, shape[0],
                        shape[1], shape[2]);
    if (classes > 0 && images->classes > classes)
        return ar_error(ADVROB_E_SHAPE, "%s images have %d classes, %s has %d", what,
                        images->classes, taker, classes);
    return ADVROB_OK;
}

void ar_dataset_retain(advrob_dataset *dataset) {
    atomic_fetch_add(&dataset->references, 1);
}

void ar_dataset_release(advrob_dataset *dataset) {
    if (!dataset || atomic_fetch_sub(&dataset->references, 1) > 1) return;
    advrob_context *ctx = dataset->ctx;
    ar_images_release(ctx, dataset->images);
    ar_free(&ctx->memory, dataset->index);
    ar_free(&ctx->memory, dataset);
    ar_context_release(ctx); /* last: everything above was freed through it */
}

/* Reading */

static int32_t check_span(const advrob_dataset *dataset, int64_t first, int64_t n) {
    if (first < 0 || n < 0 || first > dataset->count || n > dataset->count - first)
        return ar_error(ADVROB_E_RANGE, "dataset: %lld images from %lld, expected within 0 to %lld",
                        (long long)n, (long long)first, (long long)dataset->count);
    return ADVROB_OK;
}

static int32_t check_order(const advrob_dataset *dataset, const int64_t *order, int64_t n) {
    if (n < 0)
        return ar_error(ADVROB_E_RANGE, "dataset: %lld images, expected at least 0", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (order[i] < 0 || order[i] >= dataset->count)
            return ar_error(ADVROB_E_RANGE, "dataset: image %lld at order %lld, expected 0 to %lld",
                            (long long)order[i], (long long)i, (long long)(dataset->count - 1));
    return ADVROB_OK;
}

static void copy_image(const ar_images *images, int64_t i, float *restrict x /* [c, h, w] */) {
    size_t pixels = image_pixels(images);
    const uint8_t *from = image_at(images, i);
    if (images->dtype == ADVROB_F32) {
        memcpy(x, from, pixels * sizeof(float));
        return;
    }
    /* A division, not a product with 1/255: bit for bit what PyTorch's ToTensor gives. */
    for (size_t j = 0; j < pixels; j++)
        x[j] = (float)from[j] / 255.0f;
}

int32_t ar_dataset_gather(const advrob_dataset *dataset, int64_t first, const int64_t *order,
                          int64_t n, float *x, int32_t *y) {
    int32_t status = order ? check_order(dataset, order, n) : check_span(dataset, first, n);
    if (status < 0) return status;
    const ar_images *images = dataset->images;
    size_t pixels = image_pixels(images);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = position(dataset, order ? order[i] : first + i);
        if (x) copy_image(images, at, x + (size_t)i * pixels);
        if (y) y[i] = images->labels[at];
    }
    return ADVROB_OK;
}

uint64_t ar_dataset_digest(const advrob_dataset *dataset) {
    const ar_images *images = dataset->images;
    size_t bytes = image_pixels(images) * pixel_size(images);
    uint64_t hash = AR_FNV_START;
    for (int64_t i = 0; i < dataset->count; i++)
        hash = ar_fnv(hash, image_at(images, position(dataset, i)), bytes);
    for (int64_t i = 0; i < dataset->count; i++)
        hash = ar_fnv(hash, &images->labels[position(dataset, i)], sizeof(int32_t));
    return hash;
}

/* Parts */

/* The view of the images at order[0, count) of `dataset`; order NULL: from `first` on. */
static int32_t part_create(const advrob_dataset *dataset, int64_t first, const int64_t *order,
                           int64_t count, advrob_dataset **out) {
    int64_t *index = NULL;
    if (order || dataset->index) {
        void *block;
        int32_t status = ar_calloc(&dataset->ctx->memory, (size_t)count, sizeof(int64_t),
                                   "a dataset's index", &block);
        if (status < 0) return status;
        index = block;
        for (int64_t i = 0; i < count; i++)
            index[i] = position(dataset, order ? order[i] : first + i);
    }
    return view_create(dataset->ctx, dataset->images, index ? 0 : dataset->first + first, count,
                       index, out);
}

int32_t ar_dataset_slice(const advrob_dataset *dataset, int64_t first, int64_t count,
                         advrob_dataset **out) {
    int32_t status = ADVROB_OK;
    *out = NULL;
    AR_TRY(check_span(dataset, first, count));
    if (count < 1) AR_FAIL(ADVROB_E_RANGE, "dataset: a slice of 0 images, expected at least 1");
    AR_TRY(part_create(dataset, first, NULL, count, out));
out:
    return status;
}

int32_t ar_dataset_split(const advrob_dataset *dataset, int64_t count, int64_t seed,
                         advrob_dataset **part, advrob_dataset **rest) {
    int32_t status = ADVROB_OK;
    ar_memory *memory = &dataset->ctx->memory;
    void *order = NULL;
    int64_t most = rest ? dataset->count - 1 : dataset->count;
    *part = NULL;
    if (rest) *rest = NULL;
    if (count < 1 || count > most)
        AR_FAIL(ADVROB_E_RANGE, "dataset: split of %lld images off %lld, expected 1 to %lld",
                (long long)count, (long long)dataset->count, (long long)most);
    AR_TRY(ar_calloc(memory, (size_t)dataset->count, sizeof(int64_t), "a split's order", &order));
    ar_shuffle(seed, AR_RNG_SPLIT, 0, dataset->count, order);
    AR_TRY(part_create(dataset, 0, order, count, part));
    if (rest)
        AR_TRY(
            part_create(dataset, 0, (const int64_t *)order + count, dataset->count - count, rest));
out:
    ar_free(memory, order);
    if (status < 0) {
        ar_dataset_release(*part);
        *part = NULL;
    }
    return status;
}
