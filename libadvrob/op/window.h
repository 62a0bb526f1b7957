/* Sliding windows: what convolution and pooling share. Private to op. */
#ifndef AR_WINDOW_H
#define AR_WINDOW_H

#include "op.h"

/* Output extent of a window operator; checks kernel, stride and padding. */
int32_t ar_window_infer(const char *what, const ar_attributes *attributes, const ar_shape *in,
                        ar_shape *out);

/* E_LIMIT if the index lists of all output pixels would pass what an int32_t can count. */
int32_t ar_window_check_lists(const ar_attributes *attributes, const ar_shape *out);

/* The taps of a window that lie inside the input: [*begin, *end) for output position o. */
void ar_window_range(int32_t o, int32_t stride, int32_t padding, int32_t kernel, int32_t extent,
                     int32_t *begin, int32_t *end);

/* Taps of one axis that lie inside the input, over all output positions; of both axes. */
int64_t ar_window_taps(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t padding);
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
