/* Post-training quantization: where quantization points lie and what is float (quant_ptq.c), scales
 * and ranges (quant_scales.c, ranges.c), bias correction (quant_bias.c), which layers are better
 * left in float (quant_guard.c), what each layer lost (quant_table.c). Private to compress, but for
 * the table. */
#ifndef AR_QUANT_H
#define AR_QUANT_H

#include "compress.h"

typedef struct ar_ptq_options {
    int64_t weight_bits, activation_bits, images, input, batch_size, bias_correction, score_images;
    const char *weight_granularity, *weight_range, *range, *float_layers, *guard_order, *simulate;
    double percentile, momentum, max_drop, score_epsilon;
} ar_ptq_options;

/* What a value takes on the calibration images. */
typedef struct ar_range {
    bool wanted;
    double low, high;   /* seen, or their moving average */
    int64_t *histogram; /* [AR_RANGE_BINS] between low and high */
} ar_range;
enum { AR_RANGE_BINS = 2048 };

/* What all quantized copies of a net have in common. */
typedef struct ar_ptq {
    const ar_compression *job;
    const ar_ptq_options *options;
    advrob_model *base;     /* in float, batch norms and normalisation folded */
    int64_t images;         /* for calibration */
    ar_range *ranges;       /* [nodes]; wanted: where a quantization point may lie */
    advrob_dataset *judged; /* what a guard scores by; NULL: the caller's score */
    double **means; /* [nodes]: of a layer's output channels; NULL unless biases are corrected */
    ar_arena arena;
} ar_ptq;

/* quant_ptq.c. A copy of the base whose layers are quantized, but for those in is_float [nodes].
 * A value has a quantization point where a quantized layer reads it, directly or through nodes
 * without weights. correct: biases, too. */
int32_t ar_ptq_make(const ar_ptq *ptq, const bool *is_float, bool correct, advrob_model **out);
/* Whether the node has weights to quantize; whether its operator computes something new, so that
 * its group ends in a quantization point. */
bool ar_ptq_layer(const ar_node *node);
bool ar_ptq_computes(const ar_node *node);

/* quant_scales.c: records of a layer's weights (after its input's), of a value, of pixels. */
int32_t ar_ptq_weights(const ar_ptq_options *o, advrob_model *model, ar_node *node);
int32_t ar_ptq_value(const ar_ptq_options *o, advrob_model *model, ar_node *node,
                     const ar_range *range);
int32_t ar_ptq_input(const ar_ptq_options *o, advrob_model *model, const ar_range *range);

/* quant_bias.c. A copy in which each layer has a bias; the means of the base's layers; and what
 * quantization shifts in those of layer i of `model`, whose inputs are as they will stay, is taken
 * off its bias. */
int32_t ar_ptq_add_biases(const advrob_model *model, advrob_model **out);
int32_t ar_ptq_find_means(ar_ptq *ptq);
int32_t ar_ptq_correct_bias(const ar_ptq *ptq, advrob_model *model, int32_t i);

/* quant_guard.c. Marks further layers as float until the score is within max_drop, and makes that
 * copy. */
int32_t ar_ptq_guard(const ar_ptq *ptq, bool *is_float, advrob_model **out);

/* ranges.c. A pass over the first `images` of data, tile by tile in order, that hands each value of
 * the model to `each`; no tile has images of two batches. `first`: the tile's first image. */
typedef void (*ar_value_fn)(void *arg, int64_t first, int32_t node, const ar_real *tile,
                            int32_t lanes, int32_t count);
int32_t ar_values_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                          int64_t batch, ar_value_fn each, void *arg);
/* Fills the ranges of the wanted values: averages of those of the batches, in which each batch
 * counts `momentum` times what the one after it does. E_NONFINITE. */
int32_t ar_ranges_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                          int64_t batch, double momentum, ar_range *ranges);
/* Fills the histograms that are not NULL, between the low and high of their ranges. */
int32_t ar_histograms_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                              ar_range *ranges);

#endif
