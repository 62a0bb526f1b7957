/* Parameter gradients of the cross entropy, batch by batch: what pruning rates filters by. */
#include "method.h"

typedef struct room {
    advrob_model *model; /* a copy: the given one may be shared */
    ar_tiles *tiles;
    float *x, *logits, *dlogits;
    int32_t *y;
    double *scratch;
    ar_real *gradient;
} room;

static int32_t open_room(const advrob_model *model, int64_t batch, ar_arena *arena, room *r) {
    int32_t status = ADVROB_OK;
    ar_program *program = NULL;
    size_t n = (size_t)batch, classes = (size_t)ar_model_classes(model);
    void *block;
    AR_TRY(ar_model_clone(model, &r->model));
    AR_TRY(ar_model_program(r->model, false, &program));
    AR_TRY(ar_tiles_create(program, AR_RUN_TRAIN, false, batch, 1, &r->tiles));
    AR_TRY(ar_arena_alloc(arena, n * (size_t)ar_shape_count(model->nodes[0].shape), sizeof(float),
                          "images", &block));
    r->x = block;
    AR_TRY(ar_arena_alloc(arena, n * classes, sizeof(float), "logits", &block));
    r->logits = block;
    AR_TRY(ar_arena_alloc(arena, n * classes, sizeof(float), "logits", &block));
    r->dlogits = block;
    AR_TRY(ar_arena_alloc(arena, n, sizeof(int32_t), "labels", &block));
    r->y = block;
    AR_TRY(ar_arena_alloc(arena, classes, sizeof(double), "logits", &block));
    r->scratch = block;
    AR_TRY(ar_arena_alloc(arena, (size_t)model->slab_count, sizeof(ar_real), "gradients", &block));
    r->gradient = block;
out:
    return status;
}

int32_t ar_method_gradients(const advrob_model *model, const advrob_dataset *data, int64_t images,
                            int64_t batch, void (*each)(void *arg, const ar_real *gradient),
                            void *arg) {
    int32_t status = ADVROB_OK;
    int32_t classes = ar_model_classes(model);
    const ar_loss *loss = ar_loss_find("ce");
    const ar_shape in = model->nodes[0].shape;
    room r = {NULL};
    ar_arena arena;
    ar_arena_init(&arena, &model->ctx->memory);
    AR_TRY(
        ar_dataset_check(data, "calibration", "the model", (int32_t[]){in.c, in.h, in.w}, classes));
    if (images > data->count) images = data->count;
    if (batch > images) batch = images;
    AR_TRY(open_room(model, batch, &arena, &r));
    for (int64_t first = 0; first < images; first += batch) {
        int64_t n = images - first < batch ? images - first : batch;
        AR_TRY(ar_cancelled(model->ctx));
        AR_TRY(ar_dataset_gather(data, first, NULL, n, r.x, r.y));
        AR_TRY(ar_tiles_forward(r.tiles, n, (const float *const[]){r.x}, NULL,
                                (float *const[]){r.logits}));
        ar_loss_batch(loss, n, classes, r.logits, r.y, NULL, r.scratch, NULL, r.dlogits, false,
                      1 / (double)n);
        AR_TRY(ar_tiles_backward(r.tiles, (const float *const[]){r.dlogits}, NULL, r.gradient));
        each(arg, r.gradient);
    }
out:
    ar_tiles_destroy(r.tiles);
    ar_model_release(r.model);
    ar_arena_free(&arena);
    return status;
}
