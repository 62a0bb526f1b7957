/* Datasets: labelled images. Pixels are float32 in [0, 1], shape [n, c, h, w]; labels are
 * int32 in [0, classes).
 *
 *     advrob_options_set_str(o, "split", "test");
 *     advrob_dataset_open(ctx, "fashion-mnist", "/usr/share/datasets/fashion-mnist", o, &test);
 *
 * A dataset is immutable and may be read by several threads. */
#ifndef ADVROB_DATASET_H
#define ADVROB_DATASET_H

#include <advrob/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_dataset advrob_dataset;

/* Opens the files of a known dataset in folder `dir`; each may be plain or .gz. Names:
 *   "mnist", "fashion-mnist": IDX files, images [n, 1, 28, 28].
 *   "cifar10": data_batch_1.bin ... data_batch_5.bin and test_batch.bin, there or in the folder
 *   cifar-10-batches-bin below; images [n, 3, 32, 32], channels red, green, blue.
 * Options: "split" ("train", "test"), "limit" (the first n images; 0 = all; of CIFAR-10 no more
 * files are read than it needs).
 * Errors: E_UNKNOWN, E_IO (missing), E_FORMAT (truncated, wrong magic or size), E_RANGE (a label),
 * E_LIMIT. */
ADVROB_API int32_t advrob_dataset_open(advrob_context *ctx, const char *name, const char *dir,
                                       const advrob_options *options, advrob_dataset **out);

/* Copies images from memory. dtype ADVROB_U8 (0..255 becomes 0..1) or ADVROB_F32 (must be finite
 * and in [0, 1]). images: [n, c, h, w]; labels: [n]. Errors: E_INVALID, E_RANGE, E_NOMEM. */
ADVROB_API int32_t advrob_dataset_from_memory(advrob_context *ctx, int32_t dtype,
                                              const void *images, const int32_t *labels, int64_t n,
                                              int32_t channels, int32_t height, int32_t width,
                                              int32_t classes, advrob_dataset **out);

/* Gives up the dataset; slices of it live on. NULL is fine. */
ADVROB_API void advrob_dataset_destroy(advrob_dataset *dataset);

/* Number of images and of classes; 0 for NULL. */
ADVROB_API int64_t advrob_dataset_count(const advrob_dataset *dataset);
ADVROB_API int32_t advrob_dataset_classes(const advrob_dataset *dataset);
/* shape: [3] = channels, height, width. */
ADVROB_API int32_t advrob_dataset_shape(const advrob_dataset *dataset, int32_t *shape);

/* Copies images [first, first + n) to x [n, c, h, w] and their labels to y [n]; either may be
 * NULL. Errors: E_RANGE. */
ADVROB_API int32_t advrob_dataset_read(const advrob_dataset *dataset, int64_t first, int64_t n,
                                       float *x, int32_t *y);

/* The images [first, first + count) as a dataset of its own (shares the pixels). */
ADVROB_API int32_t advrob_dataset_slice(const advrob_dataset *dataset, int64_t first, int64_t count,
                                        advrob_dataset **out);

/* Splits at random by `seed`: `count` images in *part, all others in *rest (may be NULL). */
ADVROB_API int32_t advrob_dataset_split(const advrob_dataset *dataset, int64_t count, int64_t seed,
                                        advrob_dataset **part, advrob_dataset **rest);

/* A digest (64-bit FNV-1a as 16 hex digits) of pixels and labels. buffer: at least 17 bytes. */
ADVROB_API int32_t advrob_dataset_digest(const advrob_dataset *dataset, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
