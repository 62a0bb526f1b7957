/* Batch norm over a whole batch (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1 and section
 * 3.1): what follows from sums over it, by channel. All in double. */
#ifndef AR_OP_NORM_H
#define AR_OP_NORM_H

#include "op.h"

/* One channel of `count` values in the batch. */
typedef struct ar_channel {
    double mean, variance; /* of the batch, biased; or the running ones */
    double dweight, dbias;
} ar_channel;

/* From the sums of x and of x * x. */
void ar_norm_statistics(double count, double sum, double squares, ar_channel *channel);
/* From the sums of dy and of dy * x. */
void ar_norm_gradient(const ar_attributes *attributes, double sum, double products,
                      ar_channel *channel);

/* The factor of x: weight / sqrt(variance + epsilon). */
double ar_norm_scale(const ar_attributes *attributes, ar_real weight, double variance);
/* The two numbers of backward (ar_norm) after ar_norm_gradient. */
void ar_norm_backward_terms(const ar_attributes *attributes, double count,
                            const ar_channel *channel, ar_real *dy_mean, ar_real *slope);
/* A layer with a batch norm behind it as one: new_weight = weight * scale, new_bias =
 * (bias - mean) * scale + shift (Jacob et al. 2018, arXiv 1712.05877, section 3.2). weight is
 * [channels][per]; bias NULL: 0; values: the norm's parameters by role. */
void ar_norm_fold(const ar_attributes *attributes, const ar_real *const values[AR_MAX_PARAMETERS],
                  int64_t channels, int64_t per, const ar_real *weight, const ar_real *bias,
                  ar_real *new_weight, ar_real *new_bias);
/* Rows [channels][per] times the norm's scale, as the weight's are; in place is fine. */
void ar_norm_fold_rows(const ar_attributes *attributes,
                       const ar_real *const values[AR_MAX_PARAMETERS], int64_t channels,
                       int64_t per, const ar_real *rows, ar_real *new_rows);
/* New running statistics: the batch's share is `momentum`, its variance the unbiased one. */
void ar_norm_move(const ar_attributes *attributes, double count, const ar_channel *channel,
                  ar_real *mean, ar_real *variance);

#endif
