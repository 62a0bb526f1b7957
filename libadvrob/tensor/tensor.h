/* tensor: shapes of images and tensors that own their elements. Others include this header alone.
 */
#ifndef AR_TENSOR_H
#define AR_TENSOR_H

#include <advrob/tensor.h>

#include "kernel/kernel.h"

/* Largest extent of one dimension, and largest number of values of one image in one node. */
#define AR_MAX_DIM 65536
#define AR_MAX_VALUES (1 << 26)

/* The shape of one image's value: channels, height, width. */
typedef struct ar_shape {
    int32_t c, h, w;
} ar_shape;

int64_t ar_shape_count(ar_shape shape);
int32_t ar_shape_pixels(ar_shape shape);
bool ar_shape_equal(ar_shape a, ar_shape b);
/* E_SHAPE, naming `what`, unless every extent is in [1, AR_MAX_DIM] and the count is within
 * AR_MAX_VALUES. */
int32_t ar_shape_check(const char *what, ar_shape shape);

/* E_RANGE unless low < high and unit > 0, all finite, in every channel. */
int32_t ar_check_box(size_t channels, const double *low, const double *high, const double *unit);

struct advrob_tensor {
    advrob_context *ctx;
    int32_t dtype, rank;
    int64_t shape[8], count;
    void *data;
};

int32_t ar_tensor_create(advrob_context *ctx, int32_t dtype, int32_t rank, const int64_t *shape,
                         advrob_tensor **out);
void ar_tensor_destroy(advrob_tensor *tensor); /* NULL is fine */
/* Bytes of one element; 0 for an unknown dtype. */
size_t ar_dtype_size(int32_t dtype);

#endif
