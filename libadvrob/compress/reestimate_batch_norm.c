/* New running statistics from images: the mean over batches of each batch's mean and unbiased
 * variance, all layers normalising by the batch (Wu and Johnson 2021, arXiv 2105.07576, section 3,
 * "PreciseBN"). Compression moves activations away from the statistics that were learned. */
#include "compress.h"
#include "model/program.h"

typedef struct reestimate_options {
    int64_t images, batch_size;
} reestimate_options;

static const ar_option entries[] = {
    AR_I64(reestimate_options, images, 1024, 2, 1000000, "images, the first of the dataset"),
    AR_I64(reestimate_options, batch_size, 64, 2, 512, "images of one batch"),
};
static const ar_option_table table = AR_TABLE(reestimate_options, entries);

typedef struct room {
    ar_arena arena;
    ar_program *program;
    ar_tiles *tiles;
    float *x, *logits;
    double *sums; /* [slab]: at the places of running statistics */
} room;

static const ar_node *norm_node(const room *r, int32_t cut) {
    return &r->program->model->nodes[r->program->steps[r->program->cuts[cut]].node];
}

static int32_t open_room(advrob_model *model, size_t batch, room *r) {
    int32_t status = ADVROB_OK;
    void *block;
    size_t image = (size_t)ar_shape_count(model->nodes[0].shape);
    AR_TRY(ar_model_program(model, true, &r->program));
    AR_TRY(ar_tiles_create(r->program, AR_RUN_FORWARD, true, (int64_t)batch, 1, &r->tiles));
    AR_TRY(ar_arena_alloc(&r->arena, batch * image, sizeof(float), "images", &block));
    r->x = block;
    AR_TRY(ar_arena_alloc(&r->arena, batch * (size_t)ar_model_classes(model), sizeof(float),
                          "logits", &block));
    r->logits = block;
    AR_TRY(ar_arena_alloc(&r->arena, (size_t)model->slab_count, sizeof(double), "sums", &block));
    r->sums = block;
out:
    return status;
}

static void add_batch(const room *r) {
    const ar_parameter *parameters = r->program->model->parameters;
    for (int32_t k = 0; k < r->program->cut_count; k++) {
        const ar_node *node = norm_node(r, k);
        for (int32_t c = 0; c < node->shape.c; c++) {
            double mean, variance;
            ar_tiles_statistics(r->tiles, 0, k, c, &mean, &variance);
            r->sums[parameters[node->running_mean].offset + c] += mean;
            r->sums[parameters[node->running_var].offset + c] += variance;
        }
    }
}

static void set_statistics(const room *r, int64_t batches, advrob_model *model) {
    for (int32_t k = 0; k < r->program->cut_count; k++)
        for (int32_t role = AR_RUNNING_MEAN; role <= AR_RUNNING_VAR; role++) {
            const ar_parameter *p = &model->parameters[norm_node(r, k)->parameters[role]];
            for (int64_t i = p->offset; i < p->offset + p->count; i++)
                model->slab[i] = (ar_real)(r->sums[i] / (double)batches);
        }
    ar_model_changed(model);
}

static int32_t run(const ar_compression *job, advrob_model **out) {
    int32_t status = ADVROB_OK;
    const reestimate_options *o = job->options;
    advrob_model *model = NULL;
    room r = {.program = NULL};
    int64_t images = job->calibration->count < o->images ? job->calibration->count : o->images;
    int64_t size = o->batch_size < images ? o->batch_size : images, batches = images / size;
    ar_arena_init(&r.arena, &job->ctx->memory);
    if (ar_model_quantized(job->model))
        AR_FAIL(ADVROB_E_UNSUPPORTED, "reestimate_batch_norm: the model is quantized already");
    AR_TRY(ar_model_clone(job->model, &model));
    AR_TRY(open_room(model, (size_t)size, &r));
    if (r.program->cut_count == 0)
        AR_FAIL(ADVROB_E_INVALID, "reestimate_batch_norm: the model has no batch norm");
    for (int64_t b = 0; b < batches; b++) { /* whole batches only: each counts the same */
        AR_TRY(ar_dataset_gather(job->calibration, b * size, NULL, size, r.x, NULL));
        const float *x = r.x;
        AR_TRY(ar_tiles_forward(r.tiles, size, &x, NULL, &r.logits));
        add_batch(&r);
    }
    set_statistics(&r, batches, model);
    AR_TRY(ar_model_check_finite(model));
    *out = model;
    model = NULL;
out:
    ar_tiles_destroy(r.tiles);
    ar_arena_free(&r.arena);
    ar_model_release(model);
    return status;
}

static int32_t write_plan(const ar_compression *job, ar_buffer *text) {
    for (int32_t i = 1; i < job->model->node_count; i++) {
        const ar_node *node = &job->model->nodes[i];
        if (node->op->whole_batch)
            ar_buffer_add(text, "%-24s %d channels\n", node->name, node->shape.c);
    }
    return ar_buffer_status(text);
}

const ar_compressor ar_compressor_reestimate_batch_norm = {
    .name = "reestimate_batch_norm",
    .help = "finds the running statistics of batch norms anew from images",
    .options = &table,
    .needs_calibration = true,
    .run = run,
    .plan = write_plan,
};
