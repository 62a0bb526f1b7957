/* Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2, in its empirical form): what
 * quantization shifts in the mean of an output channel, before ReLU and quantization point, on the
 * calibration images, is taken off the channel's bias. */
#include <string.h>

#include "quant.h"

/* Images that go through at a time. */
#define IMAGES 64

/* Adds the mean of each output channel of node i to means. Images are summed one after the other,
 * so that no tile or thread changes a bit. */
static int32_t add_means(const ar_ptq *ptq, advrob_model *model, int32_t i, double *means) {
    int32_t status = ADVROB_OK;
    const ar_shape shape = model->nodes[i].shape;
    const int64_t size = ar_shape_count(model->nodes[0].shape), pixels = ar_shape_pixels(shape);
    const double share = 1 / (double)ptq->images / (double)pixels;
    ar_program *program = NULL;
    ar_arena arena;
    void *x, *y;
    ar_arena_init(&arena, &model->ctx->memory);
    AR_TRY(ar_arena_alloc(&arena, (size_t)(size * IMAGES), sizeof(float), "images", &x));
    AR_TRY(ar_arena_alloc(&arena, (size_t)(ar_shape_count(shape) * IMAGES), sizeof(float), "values",
                          &y));
    AR_TRY(ar_program_create(model, i, false, &program));
    for (int64_t first = 0; first < ptq->images; first += IMAGES) {
        const int64_t n = ptq->images - first < IMAGES ? ptq->images - first : IMAGES;
        const float *v = y;
        AR_TRY(ar_dataset_gather(ptq->job->calibration, first, NULL, n, x, NULL));
        AR_TRY(ar_program_forward(program, n, x, y));
        for (int64_t row = 0; row < n * shape.c; row++) {
            double sum = 0;
            for (int64_t k = 0; k < pixels; k++)
                sum += (double)*v++;
            means[row % shape.c] += share * sum;
        }
    }
out:
    ar_program_destroy(program);
    ar_arena_free(&arena);
    return status;
}

int32_t ar_ptq_find_means(ar_ptq *ptq) {
    int32_t status = ADVROB_OK;
    advrob_model *base = ptq->base;
    void *block;
    AR_TRY(
        ar_arena_alloc(&ptq->arena, (size_t)base->node_count, sizeof(double *), "means", &block));
    ptq->means = block;
    for (int32_t i = 1; i < base->node_count; i++) {
        if (!ar_ptq_layer(&base->nodes[i])) continue;
        AR_TRY(ar_arena_alloc(&ptq->arena, (size_t)base->nodes[i].shape.c, sizeof(double), "means",
                              &block));
        ptq->means[i] = block;
        AR_TRY(add_means(ptq, base, i, ptq->means[i]));
    }
out:
    return status;
}

int32_t ar_ptq_correct_bias(const ar_ptq *ptq, advrob_model *model, int32_t i) {
    int32_t status = ADVROB_OK;
    const ar_node *node = &model->nodes[i];
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, (size_t)node->shape.c, sizeof(double), "means", &block));
    const double *means = block;
    AR_TRY(add_means(ptq, model, i, block));
    ar_real *bias = model->slab + model->parameters[node->bias].offset;
    for (int32_t c = 0; c < node->shape.c; c++)
        bias[c] = (ar_real)((double)bias[c] - (means[c] - ptq->means[i][c]));
    ar_model_changed(model);
out:
    ar_free(&model->ctx->memory, block);
    return status;
}

int32_t ar_ptq_add_biases(const advrob_model *model, advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *copy = NULL;
    AR_TRY(ar_model_begin_like(model->ctx, model, &copy));
    for (int32_t i = 1; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        ar_attributes attributes = node->attributes;
        attributes.bias = attributes.bias || ar_ptq_layer(node);
        AR_TRY(ar_model_add(copy, node->op->name, node->name, node->inputs, &attributes, NULL));
        for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
            if (node->parameters[role] < 0) continue;
            const ar_parameter *from = &model->parameters[node->parameters[role]];
            const ar_parameter *to = &copy->parameters[copy->nodes[i].parameters[role]];
            memcpy(copy->slab + to->offset, model->slab + from->offset,
                   sizeof(ar_real) * (size_t)from->count);
        }
    }
    *out = copy;
    copy = NULL;
out:
    ar_model_release(copy);
    return status;
}
