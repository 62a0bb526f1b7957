/* What quantization did to each layer: the table of quant_ptq's plan, and of reports. */
#ifndef AR_QUANT_TABLE_H
#define AR_QUANT_TABLE_H

#include "compress.h"

/* Signal-to-quantization-noise ratio: 10 log10(sum x^2 / sum (x - q)^2). */
typedef struct ar_sqnr {
    double signal, noise;
} ar_sqnr;
void ar_sqnr_add(ar_sqnr *sum, double x, double q);
double ar_sqnr_decibels(const ar_sqnr *sum); /* infinite without noise; -infinite without signal */

/* A tensor and what its quantization record makes of it. clipped: beyond the last codes. */
typedef struct ar_quant_loss {
    ar_sqnr sqnr;
    int64_t count, clipped;
} ar_quant_loss;

/* A fused group, or the input. */
typedef struct ar_quant_row {
    int32_t layer; /* the group's operator; 0: the input */
    int32_t value; /* where the group ends and its quantization point lies */
    ar_quant_loss weights;
    ar_quant_loss output; /* the float net's values under the point alone */
    ar_sqnr net;          /* the float net's values against the quantized net's */
} ar_quant_row;

typedef struct ar_quant_table {
    const advrob_model *quantized; /* borrowed */
    ar_quant_row *rows;            /* in the order of the groups */
    int32_t count;
    int64_t images; /* that the values are of */
    ar_arena arena;
} ar_quant_table;

/* Of `model` and what quant_ptq made of it, on the first `images` images of data. To be freed, also
 * after a failure. E_INVALID unless the one has the other's nodes. */
int32_t ar_quant_table_make(const advrob_model *model, advrob_model *quantized,
                            const advrob_dataset *data, int64_t images, ar_quant_table *out);
void ar_quant_table_free(ar_quant_table *table);
/* The rows, one a line. */
void ar_quant_table_print(const ar_quant_table *table, ar_buffer *text);

#endif
