/* What values do on calibration images, tile by tile in order: the ranges that they take, over all
 * images or as a moving average of those of batches (Jacob et al. 2018, arXiv 1712.05877, section
 * 3.1), and their histograms. */
#include <math.h>
#include <string.h>

#include "quant.h"

typedef struct pass {
    ar_value_fn each;
    void *arg;
    int64_t first;
} pass;

static void hand_on(void *arg, int32_t node, const ar_real *tile, int32_t lanes, int32_t count) {
    const pass *p = arg;
    p->each(p->arg, p->first, node, tile, lanes, count);
}

int32_t ar_values_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                          int64_t batch, ar_value_fn each, void *arg) {
    int32_t status = ADVROB_OK;
    pass p = {each, arg, 0};
    ar_program *program = NULL;
    ar_workspace *workspace = NULL;
    int64_t size = ar_shape_count(model->nodes[0].shape), n;
    void *x = NULL;
    AR_TRY(
        ar_calloc(&model->ctx->memory, (size_t)(size * AR_MAX_LANES), sizeof(float), "images", &x));
    AR_TRY(ar_program_create(model, ar_model_output(model), true, &program));
    AR_TRY(ar_workspace_take(program, AR_RUN_FORWARD, AR_MAX_LANES, &workspace));
    workspace->observe = hand_on;
    workspace->observe_arg = &p;
    for (; p.first < images; p.first += n) {
        n = images - p.first < AR_MAX_LANES ? images - p.first : AR_MAX_LANES;
        if (n > batch - p.first % batch) n = batch - p.first % batch;
        AR_TRY(ar_cancelled(model->ctx));
        AR_TRY(ar_dataset_gather(data, p.first, NULL, n, x, NULL));
        ar_run_forward(workspace, (int32_t)n, x, NULL);
    }
out:
    if (workspace != NULL) workspace->observe = NULL;
    ar_workspace_give(workspace);
    ar_program_destroy(program);
    ar_free(&model->ctx->memory, x);
    return status;
}

/* The range of a value in the batch at work, and what the batches so far count for together. */
typedef struct batch_range {
    double low, high, weight;
} batch_range;

typedef struct observer {
    const advrob_model *model;
    ar_range *ranges;
    batch_range *batches; /* [nodes] */
    int64_t batch;        /* images of one */
    double momentum;
} observer;

/* Adds the batch to the average: sums of momentum^(age) x over those of momentum^(age). */
static void end_batch(const observer *o, int32_t node) {
    batch_range *b = &o->batches[node];
    ar_range *range = &o->ranges[node];
    b->weight = b->weight * o->momentum + 1;
    if (b->weight == 1) {
        range->low = b->low;
        range->high = b->high;
    } else {
        range->low += (b->low - range->low) / b->weight;
        range->high += (b->high - range->high) / b->weight;
    }
    b->low = INFINITY;
    b->high = -INFINITY;
}

static void observe_range(void *arg, int64_t first, int32_t node, const ar_real *tile,
                          int32_t lanes, int32_t count) {
    const observer *o = arg;
    batch_range *b = &o->batches[node];
    if (!o->ranges[node].wanted) return;
    if (first > 0 && first % o->batch == 0) end_batch(o, node);
    int64_t values = ar_shape_count(o->model->nodes[node].shape);
    for (int64_t i = 0; i < values; i++)
        for (int32_t l = 0; l < count; l++) {
            double v = (double)tile[i * lanes + l];
            b->low = fmin(b->low, v);
            b->high = fmax(b->high, isfinite(v) ? v : INFINITY);
        }
}

static void observe_histogram(void *arg, int64_t first, int32_t node, const ar_real *tile,
                              int32_t lanes, int32_t count) {
    const observer *o = arg;
    ar_range *range = &o->ranges[node];
    (void)first;
    if (range->histogram == NULL) return;
    int64_t values = ar_shape_count(o->model->nodes[node].shape);
    double width = (range->high - range->low) / AR_RANGE_BINS;
    for (int64_t i = 0; i < values; i++)
        for (int32_t l = 0; l < count; l++) {
            double v = (double)tile[i * lanes + l];
            int64_t bin = width > 0 ? (int64_t)((v - range->low) / width) : 0;
            range->histogram[bin < AR_RANGE_BINS ? bin : AR_RANGE_BINS - 1]++;
        }
}

int32_t ar_histograms_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                              ar_range *ranges) {
    observer o = {.model = model, .ranges = ranges};
    return ar_values_observe(model, data, images, images, observe_histogram, &o);
}

int32_t ar_ranges_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                          int64_t batch, double momentum, ar_range *ranges) {
    int32_t status = ADVROB_OK;
    observer o = {model, ranges, NULL, batch, momentum};
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, (size_t)model->node_count, sizeof(batch_range), "ranges",
                     &block));
    o.batches = block;
    for (int32_t i = 0; i < model->node_count; i++)
        o.batches[i] = (batch_range){INFINITY, -INFINITY, 0};
    AR_TRY(ar_values_observe(model, data, images, batch, observe_range, &o));
    for (int32_t i = 0; i < model->node_count; i++) {
        ar_range *range = &ranges[i];
        if (!range->wanted) continue;
        end_batch(&o, i);
        if (!isfinite(range->low) || !isfinite(range->high))
            AR_FAIL(ADVROB_E_NONFINITE, "calibration: node %s takes values that are not finite",
                    model->nodes[i].name);
    }
out:
    ar_free(&model->ctx->memory, block);
    return status;
}
