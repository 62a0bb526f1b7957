/* How quant_ptq finds scales: of weights by their largest value or the least squared error, of
 * values from the range that they take on calibration images (Nagel et al. 2021, arXiv 2106.08295,
 * section 3.1). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant.h"

/* Candidates that a search for the least squared error tries, as shares of the whole range. */
#define CANDIDATES 100

static double weight_error(const ar_real *w, int64_t n, double scale, double top) {
    double error = 0;
    for (int64_t i = 0; i < n; i++) {
        double code = fmin(fmax(rint((double)w[i] / scale), -top), top);
        double difference = (double)w[i] - code * scale;
        error += difference * difference;
    }
    return error;
}

/* Scale of n weights; 0 when all are zero. */
static double weight_scale(const ar_ptq_options *o, const ar_real *w, int64_t n) {
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)w[i]));
        sum += fabs((double)w[i]);
    }
    if (largest == 0) return 0;
    if (o->weight_bits == 1) return sum / (double)n; /* Rastegari et al. 2016, equation 6 */
    double top = ldexp(1, (int)o->weight_bits - 1) - 1, best = largest / top;
    if (strcmp(o->weight_range, "mse") != 0) return best;
    double least = weight_error(w, n, best, top);
    for (int32_t k = 1; k < CANDIDATES; k++) {
        double scale = largest * k / CANDIDATES / top, error = weight_error(w, n, scale, top);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

/* Steps of a sum that the largest bias has at most, so that it fits 32 bits with room for the
 * products. */
#define BIAS_STEPS (1 << 28)

/* A step of a layer's sums is its input's scale times its weights': the least weight scale by which
 * the biases of outputs [first, end) are at most BIAS_STEPS of them. 0 where no integers will run.
 */
static double scale_floor(const ar_ptq_options *o, const advrob_model *model, const ar_node *node,
                          int32_t first, int32_t end) {
    const ar_real *slab = model->slab;
    const ar_parameter *border =
        node->border_bias < 0 ? NULL : &model->parameters[node->border_bias];
    const int64_t classes = border == NULL ? 0 : border->count / border->shape[0];
    int32_t from = node->inputs[0];
    double largest = 0;
    while (from > 0 && model->nodes[from].output.bits == 0)
        from = model->nodes[from].inputs[0];
    const ar_quant *input = &model->nodes[from].output;
    if (input->bits == 0 || input->bits > 8 || o->weight_bits == 1 || o->weight_bits > 8) return 0;
    for (int32_t i = first; i < end; i++) {
        double bias = node->bias < 0 ? 0 : (double)slab[model->parameters[node->bias].offset + i];
        largest = fmax(largest, fabs(bias));
        for (int64_t k = 0; k < classes; k++)
            largest = fmax(largest, fabs(bias + (double)slab[border->offset + i * classes + k]));
    }
    return largest / (double)input->scales[0] / BIAS_STEPS;
}

int32_t ar_ptq_weights(const ar_ptq_options *o, advrob_model *model, ar_node *node) {
    int32_t status = ADVROB_OK;
    const ar_parameter *weight = &model->parameters[node->weight];
    bool channels = strcmp(o->weight_granularity, "channel") == 0;
    int32_t count = channels ? (int32_t)weight->shape[0] : 1;
    int64_t per = weight->count / count;
    double top = o->weight_bits == 1 ? 1 : ldexp(1, (int)o->weight_bits - 1) - 1;
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, (size_t)count, sizeof(ar_real), "scales", &block));
    ar_real *scales = block;
    for (int32_t i = 0; i < count; i++) {
        double scale = weight_scale(o, model->slab + weight->offset + i * per, per);
        double least = scale_floor(o, model, node, i, channels ? i + 1 : node->shape.c);
        scales[i] = (ar_real)(scale > 0 ? fmax(scale, least) : 0);
        if (scales[i] > 0) continue;
        /* All weights are zero, or too small for a float. Binary weights can be no closer to zero.
         */
        scales[i] = o->weight_bits == 1 ? FLT_MIN : 1;
    }
    AR_TRY(
        ar_quant_set(model, &node->weights, (int32_t)o->weight_bits, -top, top, 0, scales, count));
out:
    ar_free(&model->ctx->memory, block);
    return status;
}

/* The range [low, high] that holds all but (100 - percentile) % of the values, half of that on each
 * side that the values reach. */
static void percentile_range(const ar_range *range, double percentile, double *low, double *high) {
    double width = (range->high - range->low) / AR_RANGE_BINS, total = 0, seen = 0;
    bool two_sided = range->low < 0;
    for (int32_t i = 0; i < AR_RANGE_BINS; i++)
        total += (double)range->histogram[i];
    double tail = total * (1 - percentile / 100) / (two_sided ? 2 : 1);
    int32_t first = 0, last = AR_RANGE_BINS - 1;
    while (two_sided && first < last && seen + (double)range->histogram[first] <= tail)
        seen += (double)range->histogram[first++];
    seen = 0;
    while (last > first && seen + (double)range->histogram[last] <= tail)
        seen += (double)range->histogram[last--];
    *low = range->low + width * first;
    *high = range->low + width * (last + 1);
}

static void affine(double low, double high, double codes, double *scale, double *zero) {
    low = fmin(low, 0); /* zero must be a code of its own: padding is zero */
    high = fmax(high, 0);
    *scale = (high - low) / codes;
    if (!((float)*scale > 0)) *scale = 1;
    *zero = fmin(fmax(rint(-low / *scale), 0), codes);
}

/* Squared error of the histogram's values under a range. */
static double range_error(const ar_range *range, double low, double high, double codes) {
    double width = (range->high - range->low) / AR_RANGE_BINS, error = 0, scale, zero;
    affine(low, high, codes, &scale, &zero);
    for (int32_t i = 0; i < AR_RANGE_BINS; i++) {
        if (range->histogram[i] == 0) continue;
        double v = range->low + width * (i + 0.5);
        double code = fmin(fmax(rint(v / scale) + zero, 0), codes);
        double difference = v - (code - zero) * scale;
        error += difference * difference * (double)range->histogram[i];
    }
    return error;
}

int32_t ar_ptq_value(const ar_ptq_options *o, advrob_model *model, ar_node *node,
                     const ar_range *range) {
    double codes = ldexp(1, (int)o->activation_bits) - 1;
    double low = range->low, high = range->high, scale, zero;
    if (strcmp(o->range, "percentile") == 0) percentile_range(range, o->percentile, &low, &high);
    if (strcmp(o->range, "mse") == 0) {
        double least = INFINITY;
        for (int32_t k = 1; k <= CANDIDATES; k++) {
            double part = (double)k / CANDIDATES;
            double error = range_error(range, range->low * part, range->high * part, codes);
            if (error > least) continue;
            least = error;
            low = range->low * part;
            high = range->high * part;
        }
    }
    affine(low, high, codes, &scale, &zero);
    ar_real stored = (ar_real)scale;
    return ar_quant_set(model, &node->output, (int32_t)o->activation_bits, 0, codes, zero, &stored,
                        1);
}

/* Pixels: 8 bits hold them exactly, so that they have no fewer where activations have 7. */
int32_t ar_ptq_input(const ar_ptq_options *o, advrob_model *model, const ar_range *range) {
    const int32_t bits = o->activation_bits == 7 ? 8 : (int32_t)o->activation_bits;
    const double codes = ldexp(1, bits) - 1;
    double low = model->low[0], high = model->high[0], scale, zero;
    bool box = model->mean[0] == 0 && model->std[0] == 1;
    for (int32_t c = 1; c < model->nodes[0].shape.c; c++)
        box = box && model->low[c] == low && model->high[c] == high && model->mean[c] == 0 &&
              model->std[c] == 1;
    affine(box ? low : range->low, box ? high : range->high, codes, &scale, &zero);
    ar_real stored = (ar_real)scale;
    return ar_quant_set(model, &model->nodes[0].output, bits, 0, codes, zero, &stored, 1);
}
