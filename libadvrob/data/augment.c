/* Augmentation of training images: a random crop of the padded image and a horizontal flip (He,
 * Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2).
 *
 * Crop and flip draw from streams of their own: whether one is on changes nothing for the other. */
#include <string.h>

#include "data.h"

enum { CROP_STREAM = 0, FLIP_STREAM = 1 };

static const ar_option entries[] = {
    AR_I64(
        ar_augment, crop, 0, 0, 32768,
        "training images: black pixels put around an image before it is cropped to its size at a "
        "random place; 0: off"),
    AR_I64(ar_augment, flip, 0, 0, 1,
           "training images: mirror left and right with probability 1/2"),
};
const ar_option_table ar_augment_options = AR_TABLE(ar_augment, entries);

int32_t ar_augment_check(const ar_augment *augment, int32_t height, int32_t width) {
    if (augment->crop < height && augment->crop < width) return ADVROB_OK;
    return ar_error(ADVROB_E_RANGE,
                    "option \"augment.crop\": %lld pixels around images of %d x %d, expected less "
                    "than their height and width",
                    (long long)augment->crop, height, width);
}

ar_augment_draw ar_augment_visit(const ar_augment *augment, int64_t seed, int64_t visit) {
    ar_augment_draw draw = {(int32_t)augment->crop, (int32_t)augment->crop, false};
    ar_rng rng;
    if (augment->crop > 0) {
        uint32_t places = 2 * (uint32_t)augment->crop + 1;
        ar_rng_init(&rng, seed, AR_RNG_AUGMENT, visit, CROP_STREAM, 0);
        draw.top = (int32_t)ar_rng_below(&rng, places);
        draw.left = (int32_t)ar_rng_below(&rng, places);
    }
    if (augment->flip) {
        ar_rng_init(&rng, seed, AR_RNG_AUGMENT, visit, FLIP_STREAM, 0);
        draw.flip = ar_rng_below(&rng, 2) == 1;
    }
    return draw;
}

/* Moves a row by `left` pixels to the left (right if negative) from `from`; what comes in is 0. */
static void move_row(float *to, const float *from, int32_t width, int32_t left) {
    int32_t gap = left < 0 ? -left : left;
    memmove(to + (left < 0 ? gap : 0), from + (left < 0 ? 0 : gap),
            sizeof(float) * (size_t)(width - gap));
    memset(to + (left < 0 ? 0 : width - gap), 0, sizeof(float) * (size_t)gap);
}

static void mirror_row(float *row, int32_t width) {
    for (int32_t i = 0, k = width - 1; i < k; i++, k--) {
        float kept = row[i];
        row[i] = row[k];
        row[k] = kept;
    }
}

/* In place: rows go in the order in which none is overwritten before it is read. */
static void change_plane(float *x, int32_t height, int32_t width, int32_t up, int32_t left,
                         bool flip) {
    for (int32_t i = 0; i < height; i++) {
        int32_t row = up < 0 ? height - 1 - i : i, from = row + up;
        float *to = x + (size_t)row * (size_t)width;
        if (from < 0 || from >= height) {
            memset(to, 0, sizeof(float) * (size_t)width);
            continue;
        }
        move_row(to, x + (size_t)from * (size_t)width, width, left);
        if (flip) mirror_row(to, width);
    }
}

void ar_augment_images(const ar_augment *augment, int64_t seed, const int64_t *visits, int64_t n,
                       const int32_t shape[3], float *x) {
    size_t plane = (size_t)shape[1] * (size_t)shape[2];
    int32_t crop = (int32_t)augment->crop;
    for (int64_t i = 0; i < n; i++) {
        ar_augment_draw draw = ar_augment_visit(augment, seed, visits[i]);
        if (draw.top == crop && draw.left == crop && !draw.flip) continue;
        for (int32_t c = 0; c < shape[0]; c++)
            change_plane(x + ((size_t)i * (size_t)shape[0] + (size_t)c) * plane, shape[1], shape[2],
                         draw.top - crop, draw.left - crop, draw.flip);
    }
}
