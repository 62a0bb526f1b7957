/* Border bias: a constant that a convolution adds by how much of a window lies inside the input.
 * Private to op.
 *
 * An input channel that is the same everywhere adds one constant to every output whose window lies
 * inside, and less where taps fall on zero padding. So a channel that pruning found to be constant
 * can go without a trace if what it added stays, class by class. A class of rows is a run of
 * consecutive output rows whose windows have the same taps inside the input, one of columns
 * likewise; a pixel's class is both. */
#ifndef AR_OP_BORDER_H
#define AR_OP_BORDER_H

#include "op.h"

typedef struct ar_border {
    int32_t classes;
    int32_t *of; /* [output pixels]: row class * column classes + column class */
} ar_border;

/* Classes of rows and of columns. */
void ar_border_count(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out,
                     int32_t count[2]);
int32_t ar_border_prepare(const ar_op_setup *setup, ar_border *border);
/* table[class][output] = bias[output] + border_bias[output][class]; bias NULL: 0. */
void ar_border_pack(const ar_border *border, int32_t outputs, const ar_real *bias,
                    const ar_real *border_bias, ar_real *table);
/* conv2d's `absorb`. */
void ar_border_absorb(const ar_attributes *attributes, const ar_shape *in, const ar_real *weight,
                      const double *constant, double *bias, double *border);
/* Sums of dy by output and class, into call->dborder. */
void ar_border_gradient(const ar_border *border, const ar_op_gradient *call);

#endif
