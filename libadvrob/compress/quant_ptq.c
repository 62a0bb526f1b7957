/* Post-training quantization, simulated (Jacob et al. 2018, arXiv 1712.05877, section 2; Nagel et
 * al. 2021, arXiv 2106.08295, section 3): batch norms are folded, then symmetric weights, affine
 * activations, one quantization point at the end of each fused group (convolution + sum + ReLU), so
 * that the model can be lowered to integers (engine/). The result is a model like any other: it can
 * be attacked and fine-tuned with straight-through gradients. */
#include <string.h>

#include "quant.h"
#include "quant_table.h"

static const ar_option entries[] = {
    AR_I64(ar_ptq_options, weight_bits, 8, 1, 16,
           "bits of the weights; 1 is binary (-scale, +scale)"),
    AR_I64(ar_ptq_options, activation_bits, 8, 1, 16, "bits of the activations"),
    AR_STR(ar_ptq_options, weight_granularity, "channel", "tensor|channel",
           "one weight scale a layer, or one an output channel"),
    AR_STR(ar_ptq_options, weight_range, "minmax", "minmax|mse", "how weight scales are found"),
    AR_STR(ar_ptq_options, range, "minmax", "minmax|moving_average|percentile|mse",
           "how activation ranges are found on the calibration images"),
    AR_F64(ar_ptq_options, percentile, 99.99, 50, 100,
           "share of values that \"percentile\" covers"),
    AR_F64(ar_ptq_options, momentum, 0.99, 0, 1,
           "\"moving_average\": what a batch counts for, if the next one counts for 1"),
    AR_I64(ar_ptq_options, batch_size, 32, 1, 65536, "\"moving_average\": images of one batch"),
    AR_I64(ar_ptq_options, images, 512, 1, 1000000, "calibration images, the first of the dataset"),
    AR_I64(ar_ptq_options, input, 1, 0, 1,
           "quantize the input too: pixels to 256 codes of the box, the normalisation folded"),
    AR_I64(ar_ptq_options, bias_correction, 0, 0, 1,
           "take off each bias what quantization shifts in the mean of its layer's output"),
    AR_STR(ar_ptq_options, float_layers, "", NULL, "layers that stay in float: conv1,fc"),
    AR_F64(ar_ptq_options, max_drop, -1, -1, 1e6,
           "leave the worst layers in float until accuracy, or the score of "
           "advrob_compressor_on_score, is at most so much below the float model's; -1: do not"),
    AR_I64(ar_ptq_options, score_images, 1000, 1, 1000000,
           "images for that accuracy: those of the dataset behind the calibration images"),
    AR_F64(ar_ptq_options, score_epsilon, 0, 0, 1e6, "above 0: that accuracy is under PGD-10, too"),
    AR_STR(ar_ptq_options, guard_order, "sqnr", "sqnr|score",
           "the worst layers: with one alone quantized, lowest SQNR of the logits, or score"),
    AR_STR(ar_ptq_options, simulate, "float", "float|exact",
           "what the model computes in: floats, or the engine's own integers, to the bit"),
};
static const ar_option_table table = AR_TABLE(ar_ptq_options, entries);

bool ar_ptq_layer(const ar_node *node) {
    return node->op != NULL && node->op->prune == AR_PRUNE_PRODUCES;
}

bool ar_ptq_computes(const ar_node *node) {
    const ar_op *op = node->op;
    if (strcmp(op->name, "avg_pool") == 0)
        return node->attributes.kernel[0] > 1 || node->attributes.kernel[1] > 1;
    return op->prune == AR_PRUNE_PRODUCES || op->prune == AR_PRUNE_TIES ||
           op->prune == AR_PRUNE_JOINS || op->whole_batch;
}

/* Where quantization points may lie: the input, and the end of each fused group that computes
 * something new. A batch norm that could not be folded stays float inside, as a sum does. */
static int32_t choose_points(const ar_ptq *ptq) {
    ar_program *program = NULL;
    advrob_model *model = ptq->base;
    int32_t status = ar_program_create(model, ar_model_output(model), false, &program);
    if (status < 0) return status;
    ptq->ranges[0].wanted = ptq->options->input != 0;
    for (int32_t s = 0; s < program->count; s++) {
        const ar_step *step = &program->steps[s];
        if (ar_ptq_computes(&model->nodes[step->node]) && step->value != program->output)
            ptq->ranges[step->value].wanted = true;
    }
    ar_program_destroy(program);
    return ADVROB_OK;
}

static int32_t find_ranges(ar_ptq *ptq) {
    int32_t status = ADVROB_OK;
    const ar_ptq_options *o = ptq->options;
    const advrob_dataset *data = ptq->job->calibration;
    const bool average = strcmp(o->range, "moving_average") == 0;
    AR_TRY(ar_ranges_observe(ptq->base, data, ptq->images, average ? o->batch_size : ptq->images,
                             o->momentum, ptq->ranges));
    if (average || strcmp(o->range, "minmax") == 0) return ADVROB_OK;
    for (int32_t i = 0; i < ptq->base->node_count; i++) {
        void *block;
        if (!ptq->ranges[i].wanted) continue;
        AR_TRY(ar_arena_alloc(&ptq->arena, AR_RANGE_BINS, sizeof(int64_t), "histogram", &block));
        ptq->ranges[i].histogram = block;
    }
    AR_TRY(ar_histograms_observe(ptq->base, data, ptq->images, ptq->ranges));
out:
    return status;
}

static void ptq_close(ar_ptq *ptq) {
    ar_model_release(ptq->base);
    ar_dataset_release(ptq->judged);
    ar_arena_free(&ptq->arena);
}

/* The images behind the calibration images, as many as there are. */
static int32_t take_judged(ar_ptq *ptq) {
    const advrob_dataset *data = ptq->job->calibration;
    const ar_shape in = ptq->job->model->nodes[0].shape;
    const int32_t shape[3] = {in.c, in.h, in.w};
    int64_t left = data->count - ptq->images;
    if (left == 0)
        return ar_error(
            ADVROB_E_INVALID,
            "quant_ptq: max_drop is %g, but the dataset has no images behind its %lld for "
            "calibration to score by; expected more, or advrob_compressor_on_score",
            ptq->options->max_drop, (long long)ptq->images);
    if (left > ptq->options->score_images) left = ptq->options->score_images;
    int32_t status =
        ar_dataset_check(data, "scored", "the model", shape, ar_model_classes(ptq->job->model));
    if (status < 0) return status;
    return ar_dataset_slice(data, ptq->images, left, &ptq->judged);
}

/* All but what values hold. To be closed, also after a failure. */
static int32_t ptq_open(const ar_compression *job, ar_ptq *ptq) {
    int32_t status = ADVROB_OK;
    const ar_ptq_options *o = job->options;
    advrob_model *folded = NULL, *biased = NULL;
    void *block;
    *ptq = (ar_ptq){.job = job, .options = o, .images = o->images};
    if (ptq->images > job->calibration->count) ptq->images = job->calibration->count;
    ar_arena_init(&ptq->arena, &job->ctx->memory);
    if (ar_model_quantized(job->model))
        AR_FAIL(ADVROB_E_UNSUPPORTED, "quant_ptq: the model is quantized already");
    if (o->max_drop >= 0 && job->score == NULL) AR_TRY(take_judged(ptq));
    AR_TRY(ar_model_fold(job->model, &folded));
    if (o->bias_correction) {
        AR_TRY(ar_ptq_add_biases(folded, &biased));
        ar_model_release(folded);
        folded = biased;
    }
    AR_TRY(o->input ? ar_model_fold_normalisation(folded, &ptq->base)
                    : ar_model_clone(folded, &ptq->base));
    AR_TRY(ar_arena_alloc(&ptq->arena, (size_t)folded->node_count, sizeof(ar_range), "ranges",
                          &block));
    ptq->ranges = block;
    AR_TRY(choose_points(ptq));
out:
    ar_model_release(folded);
    return status;
}

/* ---- Layers in float ---- */

static int32_t read_layer(const advrob_model *model, const char *text, size_t length,
                          bool *is_float) {
    char name[AR_NAME_SIZE] = "";
    const char *names[AR_MAX_NODES], *near;
    int32_t count = 0;
    if (length < sizeof name) memcpy(name, text, length);
    const int32_t node = ar_model_find_node(model, name);
    if (node > 0 && ar_ptq_layer(&model->nodes[node])) {
        is_float[node] = true;
        return ADVROB_OK;
    }
    for (int32_t i = 1; i < model->node_count; i++)
        if (ar_ptq_layer(&model->nodes[i])) names[count++] = model->nodes[i].name;
    near = ar_nearest(name, names, count);
    const int shown = (int)(length < AR_NAME_SIZE ? length : AR_NAME_SIZE);
    if (near == NULL)
        return ar_error(ADVROB_E_UNKNOWN,
                        "quant_ptq: float_layers: the model has no layer \"%.*s\" with weights",
                        shown, text);
    return ar_error(
        ADVROB_E_UNKNOWN,
        "quant_ptq: float_layers: the model has no layer \"%.*s\" with weights; did you "
        "mean \"%s\"?",
        shown, text, near);
}

static int32_t read_layers(const ar_ptq *ptq, bool *is_float) {
    const char *text = ptq->options->float_layers;
    while (*text != 0) {
        size_t length = strcspn(text, ",");
        int32_t status = read_layer(ptq->base, text, length, is_float);
        if (status < 0) return status;
        text += length + (text[length] == ',');
    }
    return ADVROB_OK;
}

/* Marks the values that have to be codes: a quantized layer reads them, or the result does,
 * directly or through nodes without weights. None, where every layer is in float. */
static void find_codes(const advrob_model *model, const bool *is_float, bool *codes) {
    bool any = false;
    for (int32_t i = 1; i < model->node_count; i++)
        any = any || (ar_ptq_layer(&model->nodes[i]) && !is_float[i]);
    memset(codes, 0, sizeof(bool) * (size_t)model->node_count);
    codes[ar_model_output(model)] = any;
    for (int32_t i = ar_model_output(model); i > 0; i--) {
        const ar_node *node = &model->nodes[i];
        const bool reads = ar_ptq_layer(node) ? !is_float[i] : codes[i];
        for (int32_t k = 0; k < node->op->inputs && reads; k++)
            codes[node->inputs[k]] = true;
    }
}

int32_t ar_ptq_make(const ar_ptq *ptq, const bool *is_float, bool correct, advrob_model **out) {
    int32_t status = ADVROB_OK;
    const ar_ptq_options *o = ptq->options;
    advrob_model *model = NULL;
    bool codes[AR_MAX_NODES];
    AR_TRY(ar_model_clone(ptq->base, &model));
    find_codes(model, is_float, codes);
    for (int32_t i = 0; i < model->node_count; i++) {
        ar_node *node = &model->nodes[i];
        if (ar_ptq_layer(node) && !is_float[i]) AR_TRY(ar_ptq_weights(o, model, node));
        if (ar_ptq_layer(node) && correct) AR_TRY(ar_ptq_correct_bias(ptq, model, i));
        if (!ptq->ranges[i].wanted || !codes[i]) continue;
        AR_TRY(i == 0 ? ar_ptq_input(o, model, &ptq->ranges[0])
                      : ar_ptq_value(o, model, node, &ptq->ranges[i]));
    }
    AR_TRY(ar_model_check_finite(model)); /* biases, too */
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    return status;
}

/* From now on the model runs in integers. E_UNSUPPORTED where it has none. */
static int32_t make_exact(advrob_model *model) {
    ar_program *program;
    for (int32_t i = 1; i < model->node_count; i++)
        if (ar_ptq_layer(&model->nodes[i]) && model->nodes[i].weights.bits == 0)
            return ar_error(
                ADVROB_E_UNSUPPORTED,
                "quant_ptq: simulate is \"exact\", but layer %s stays in float, which has "
                "no integers",
                model->nodes[i].name);
    model->exact = true;
    ar_model_restructured(model);
    return ar_model_program(model, false, &program);
}

static int32_t run(const ar_compression *job, advrob_model **out) {
    int32_t status = ADVROB_OK;
    const ar_ptq_options *o = job->options;
    advrob_model *model = NULL;
    ar_ptq ptq;
    void *is_float;
    AR_TRY(ptq_open(job, &ptq));
    AR_TRY(ar_arena_alloc(&ptq.arena, (size_t)ptq.base->node_count, sizeof(bool), "layers",
                          &is_float));
    AR_TRY(read_layers(&ptq, is_float));
    AR_TRY(find_ranges(&ptq));
    if (o->bias_correction) AR_TRY(ar_ptq_find_means(&ptq));
    if (o->max_drop < 0)
        AR_TRY(ar_ptq_make(&ptq, is_float, o->bias_correction != 0, &model));
    else
        AR_TRY(ar_ptq_guard(&ptq, is_float, &model));
    if (strcmp(o->simulate, "exact") == 0) AR_TRY(make_exact(model));
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    ptq_close(&ptq);
    return status;
}

static int32_t write_plan(const ar_compression *job, ar_buffer *text) {
    int32_t status = ADVROB_OK;
    const ar_ptq_options *o = job->options;
    advrob_model *model = NULL;
    ar_quant_table rows;
    AR_TRY(run(job, &model));
    status = ar_quant_table_make(job->model, model, job->calibration, o->images, &rows);
    if (status >= 0) ar_quant_table_print(&rows, text);
    ar_quant_table_free(&rows);
    AR_TRY(status);
    AR_TRY(ar_buffer_status(text));
out:
    ar_model_release(model);
    return status;
}

const ar_compressor ar_compressor_quant_ptq = {
    .name = "quant_ptq",
    .help = "simulated post-training quantization to 16, 8, 4, 2 or 1 bits",
    .options = &table,
    .needs_calibration = true,
    .run = run,
    .plan = write_plan,
};
