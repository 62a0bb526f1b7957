/* data: labelled images in memory, their order, their splits and their augmentation. Others include
 * this header alone. */
#ifndef AR_DATA_H
#define AR_DATA_H

#include <advrob/dataset.h>

#include "base/base.h"

/* Pixels and labels, shared by a dataset and its slices; immutable once filled. */
typedef struct ar_images {
    _Atomic int32_t references;
    int32_t dtype; /* ADVROB_U8 (value / 255.0f) or ADVROB_F32 */
    int64_t n;
    int32_t shape[3]; /* channels, height, width */
    int32_t classes;
    void *pixels;    /* [n, c, h, w] */
    int32_t *labels; /* [n] */
} ar_images;

struct advrob_dataset {
    advrob_context *ctx;
    _Atomic int32_t references;
    ar_images *images;
    int64_t first, count; /* without an index: images [first, first + count) */
    int64_t *index;       /* otherwise: [count] positions in `images` */
};

/* An empty store for n images with uninitialised pixels and labels, to be filled by a reader. Sizes
 * are checked: E_RANGE (n < 1, a dimension outside [1, 65536], classes < 1), E_OVERFLOW. */
int32_t ar_images_create(advrob_context *ctx, int32_t dtype, int64_t n, const int32_t shape[3],
                         int32_t classes, ar_images **out);
void ar_images_release(advrob_context *ctx, ar_images *images);
/* Checks labels (E_RANGE names the index and the label) and float pixels (finite, in [0, 1]) and
 * makes the dataset; takes over the store also on failure. */
int32_t ar_dataset_create(advrob_context *ctx, ar_images *images, advrob_dataset **out);

/* E_SHAPE unless the images have the shape that `taker` ("the model") takes, and no more classes
 * than it has (classes 0: not asked). `what` names the images: "training". */
int32_t ar_dataset_check(const advrob_dataset *dataset, const char *what, const char *taker,
                         const int32_t shape[3], int32_t classes);

void ar_dataset_retain(advrob_dataset *dataset);
void ar_dataset_release(advrob_dataset *dataset); /* NULL is fine */

/* The images at positions order[0 .. n) of the dataset (order NULL: first, first + 1, ...) as
 * floats x [n, c, h, w] (may be NULL) and labels y [n] (may be NULL). E_RANGE. */
int32_t ar_dataset_gather(const advrob_dataset *dataset, int64_t first, const int64_t *order,
                          int64_t n, float *x, int32_t *y);

int32_t ar_dataset_slice(const advrob_dataset *dataset, int64_t first, int64_t count,
                         advrob_dataset **out);
int32_t ar_dataset_split(const advrob_dataset *dataset, int64_t count, int64_t seed,
                         advrob_dataset **part, advrob_dataset **rest);
uint64_t ar_dataset_digest(const advrob_dataset *dataset);

/* How training images are changed at each visit (options "augment.*"). */
typedef struct ar_augment {
    int64_t crop; /* black pixels (0) on each side of the image that is cropped; 0: off */
    int64_t flip; /* 1: left and right change places, in half of the visits */
} ar_augment;

extern const ar_option_table ar_augment_options;

/* What happens at one visit: the image is put into a black frame of `crop` pixels, cut out again
 * from row `top` and column `left` of that (each in [0, 2 * crop], all equally likely), and then
 * mirrored if `flip`. */
typedef struct ar_augment_draw {
    int32_t top, left;
    bool flip;
} ar_augment_draw;

/* E_RANGE unless the crop is smaller than the images. */
int32_t ar_augment_check(const ar_augment *augment, int32_t height, int32_t width);
/* A pure function of (seed, visit). visit: epoch * images of the dataset + position. */
ar_augment_draw ar_augment_visit(const ar_augment *augment, int64_t seed, int64_t visit);
/* Changes n images x [n, c, h, w] in place, each by its visit; shape: c, h, w. */
void ar_augment_images(const ar_augment *augment, int64_t seed, const int64_t *visits, int64_t n,
                       const int32_t shape[3], float *x);

/* A permutation of 0 .. n-1 (Fisher-Yates), a pure function of (seed, purpose, epoch, n). */
void ar_shuffle(int64_t seed, int32_t purpose, int64_t epoch, int64_t n, int64_t *order);

#endif
