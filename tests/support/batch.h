/* A batch through a program with parameter gradients, as training does it; include support.h and
 * golden.h first. */
#ifndef TEST_BATCH_H
#define TEST_BATCH_H

#include "backward.h"
#include "model/program.h"
#include "op/loss.h"

typedef struct batch {
    ar_program *program;
    int64_t n;
    int32_t lanes, classes, tiles;
    const float *x;
    const int32_t *y;
    double *losses;
    ar_workspace *workspaces[AR_MAX_TILES];
    float *dlogits; /* [n, classes] */
} batch;

static inline int32_t batch_tile(void *arg, int64_t tile, int32_t worker) {
    batch *b = arg;
    int64_t first = tile * b->lanes, count = b->n - first;
    int64_t image = ar_shape_count(b->program->model->nodes[0].shape);
    double scratch[256];
    float logits[AR_MAX_LANES * 256];
    (void)worker;
    if (count > b->lanes) count = b->lanes;
    ar_run_forward(b->workspaces[tile], (int32_t)count, b->x + first * image, logits);
    ar_loss_batch(&ar_loss_ce, count, b->classes, logits, b->y + first, NULL, scratch,
                  b->losses + first, b->dlogits + first * b->classes, false, 1.0 / (double)b->n);
    return ADVROB_OK;
}

/* Mean cross entropy of n images: per-sample losses [n], gradient [slab], and dx, which may be
 * NULL, of the mean. */
static inline void batch_gradient(ar_program *program, int32_t lanes, int64_t n, const float *x,
                                  const int32_t *y, double *losses, ar_real *gradient, float *dx) {
    advrob_context *ctx = program->model->ctx;
    size_t slab = (size_t)program->model->slab_count;
    batch b = {.program = program, .n = n, .lanes = lanes, .x = x, .y = y, .losses = losses};
    const float *dout[AR_MAX_TILES];
    float *dxs[AR_MAX_TILES];
    int64_t image = ar_shape_count(program->model->nodes[0].shape);
    b.classes = ar_model_classes(program->model);
    b.tiles = (int32_t)((n + lanes - 1) / lanes);
    assert_true(b.classes <= 256 && b.tiles <= AR_MAX_TILES);
    b.dlogits = malloc(sizeof(float) * (size_t)(n * b.classes));
    memset(gradient, 0xff, sizeof(ar_real) * slab);
    for (int32_t t = 0; t < b.tiles; t++) {
        test_ok(ar_workspace_take(program, AR_RUN_TRAIN, lanes, &b.workspaces[t]));
        memset(b.workspaces[t]->memory, 0xff, ar_workspace_size(program, AR_RUN_TRAIN, lanes));
    }
    test_ok(ar_parallel(ctx, b.tiles, batch_tile, NULL, &b));
    for (int32_t t = 0; t < b.tiles; t++) {
        dout[t] = b.dlogits + (int64_t)t * lanes * b.classes;
        dxs[t] = dx == NULL ? NULL : dx + t * lanes * image;
    }
    test_backward(b.workspaces, b.tiles, dout, dx == NULL ? NULL : dxs, gradient);
    for (int32_t t = 0; t < b.tiles; t++)
        ar_workspace_give(b.workspaces[t]);
    free(b.dlogits);
}

#endif
