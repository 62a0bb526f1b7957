/* Ranges that values take on calibration images, tile by tile in order. */
#include <math.h>

#include "compress.h"

typedef struct observer {
    const advrob_model *model;
    ar_range *ranges;
    bool histograms;
} observer;

static void observe(void *arg, int32_t node, const ar_real *tile, int32_t lanes, int32_t count) {
    const observer *o = arg;
    ar_range *range = &o->ranges[node];
    if (!range->wanted) return;
    int64_t values = ar_shape_count(o->model->nodes[node].shape);
    double width = (range->high - range->low) / AR_RANGE_BINS;
    for (int64_t i = 0; i < values; i++)
        for (int32_t l = 0; l < count; l++) {
            double v = (double)tile[i * lanes + l];
            if (!o->histograms) {
                range->low = fmin(range->low, v);
                range->high = fmax(range->high, v);
                continue;
            }
            int64_t bin = width > 0 ? (int64_t)((v - range->low) / width) : 0;
            range->histogram[bin < AR_RANGE_BINS ? bin : AR_RANGE_BINS - 1]++;
        }
}

int32_t ar_ranges_observe(advrob_model *model, const advrob_dataset *data, int64_t images,
                          ar_range *ranges) {
    int32_t status = ADVROB_OK;
    observer o = {model, ranges, false};
    ar_program *program = NULL;
    ar_workspace *workspace = NULL;
    ar_arena arena;
    void *x;
    int64_t size = ar_shape_count(model->nodes[0].shape);
    ar_arena_init(&arena, &model->ctx->memory);
    for (int32_t i = 0; i < model->node_count; i++) {
        o.histograms = o.histograms || ranges[i].histogram != NULL;
        if (ranges[i].histogram != NULL) continue;
        ranges[i].low = INFINITY;
        ranges[i].high = -INFINITY;
    }
    if (images > data->count) images = data->count;
    AR_TRY(ar_arena_alloc(&arena, (size_t)(size * AR_MAX_LANES), sizeof(float), "images", &x));
    AR_TRY(ar_program_create(model, ar_model_output(model), true, &program));
    AR_TRY(ar_workspace_take(program, AR_RUN_FORWARD, AR_MAX_LANES, &workspace));
    workspace->observe = observe;
    workspace->observe_arg = &o;
    for (int64_t first = 0; first < images; first += AR_MAX_LANES) {
        int64_t n = images - first < AR_MAX_LANES ? images - first : AR_MAX_LANES;
        AR_TRY(ar_cancelled(model->ctx));
        AR_TRY(ar_dataset_gather(data, first, NULL, n, x, NULL));
        ar_run_forward(workspace, (int32_t)n, x, NULL);
    }
    for (int32_t i = 0; i < model->node_count; i++)
        if (ranges[i].wanted && (!isfinite(ranges[i].low) || !isfinite(ranges[i].high)))
            AR_FAIL(ADVROB_E_NONFINITE, "calibration: node %s takes values that are not finite",
                    model->nodes[i].name);
out:
    ar_workspace_give(workspace);
    ar_program_destroy(program);
    ar_arena_free(&arena);
    return status;
}
