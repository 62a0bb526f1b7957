/* Sliding windows: what convolution and pooling share. Private to op. */
#ifndef AR_WINDOW_H
#define AR_WINDOW_H

#include "op.h"

/* The output of a pooling, whose windows have no gaps. */
int32_t ar_window_pool_infer(const char *what, const ar_attributes *attributes, const ar_shape *in,
                             ar_shape *out);
/* From a window's first position on an axis to behind its last. */
int32_t ar_window_extent(const ar_attributes *attributes, int32_t axis);

/* Taps inside the input, over all output pixels. */
int64_t ar_window_taps_2d(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out);

/* Pooling lists of all output pixels (ar_pool_call). */
typedef struct ar_pool_lists {
    int32_t *first, *index;
    ar_real *scale;
} ar_pool_lists;
int32_t ar_window_pool_lists(const ar_op_setup *setup, const void **prepared);
/* Fills the common part of a pooling call. */
ar_pool_call ar_window_pool_call(const ar_op_call *call);
/* Both passes of average pooling, whatever the window. */
void ar_window_avg_forward(const ar_op_call *call);
void ar_window_avg_backward(const ar_op_call *call);

#endif
