/* A batch through a program with parameter gradients, as training does it; include support.h and
 * golden.h first. */
#ifndef TEST_BATCH_H
#define TEST_BATCH_H

#include "model/program.h"
#include "op/loss.h"

typedef struct batch {
    ar_program *program;
    int64_t n;
    int32_t lanes, classes, tiles;
    const float *x;
    const int32_t *y;
    double *losses;
    float *dx; /* NULL: not wanted */
    ar_workspace *workspaces[AR_MAX_TILES];
    ar_real *scratch, *gradient; /* of the slab's layout */
} batch;

static inline int32_t batch_tile(void *arg, int64_t tile, int32_t worker) {
    batch *b = arg;
    int64_t first = tile * b->lanes, count = b->n - first;
    int64_t image = ar_shape_count(b->program->model->nodes[0].shape);
    double scratch[256];
    float logits[AR_MAX_LANES * 256], dlogits[AR_MAX_LANES * 256];
    (void)worker;
    if (count > b->lanes) count = b->lanes;
    ar_run_forward(b->workspaces[tile], (int32_t)count, b->x + first * image, logits);
    ar_loss_batch(&ar_loss_ce, count, b->classes, logits, b->y + first, scratch, b->losses + first,
                  dlogits, false, 1.0 / (double)b->n);
    ar_run_backward(b->workspaces[tile], dlogits, b->dx == NULL ? NULL : b->dx + first * image);
    return ADVROB_OK;
}

static inline int32_t batch_piece(void *arg, int64_t piece, int32_t worker) {
    batch *b = arg;
    (void)worker;
    ar_run_gradient_piece(b->workspaces, b->tiles, piece, b->scratch, b->gradient);
    return ADVROB_OK;
}

/* Mean cross entropy of n images: per-sample losses [n], gradient [slab], and dx, which may be
 * NULL, of the mean. */
static inline void batch_gradient(ar_program *program, int32_t lanes, int64_t n, const float *x,
                                  const int32_t *y, double *losses, ar_real *gradient, float *dx) {
    advrob_context *ctx = program->model->ctx;
    size_t slab = (size_t)program->model->slab_count;
    batch b = {.program = program,
               .n = n,
               .lanes = lanes,
               .x = x,
               .y = y,
               .losses = losses,
               .dx = dx,
               .gradient = gradient};
    b.classes = ar_model_classes(program->model);
    b.tiles = (int32_t)((n + lanes - 1) / lanes);
    assert_true(b.classes <= 256 && b.tiles <= AR_MAX_TILES);
    b.scratch = malloc(sizeof(ar_real) * (slab + 1));
    memset(gradient, 0xff, sizeof(ar_real) * slab);
    for (int32_t t = 0; t < b.tiles; t++) {
        test_ok(ar_workspace_take(program, AR_RUN_TRAIN, lanes, &b.workspaces[t]));
        memset(b.workspaces[t]->memory, 0xff, ar_workspace_size(program, AR_RUN_TRAIN, lanes));
    }
    test_ok(ar_parallel(ctx, b.tiles, batch_tile, NULL, &b));
    test_ok(ar_parallel(ctx, ar_run_gradient_pieces(program), batch_piece, NULL, &b));
    for (int32_t t = 0; t < b.tiles; t++)
        ar_workspace_give(b.workspaces[t]);
    free(b.scratch);
}

#endif
