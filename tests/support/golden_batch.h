/* A golden batch through a model, with frozen statistics or with the batch's, as whole batches run.
 * Include support.h and golden.h first. */
#ifndef TEST_GOLDEN_BATCH_H
#define TEST_GOLDEN_BATCH_H

#include "model/program.h"
#include "op/loss.h"

/* What a model answered; all that it owns is compared bit for bit between numbers of threads. */
typedef struct golden_batch {
    int64_t n, out_count, dx_count, slab_count;
    float *out, *dout, *dx;      /* dx: of the sum over images */
    double *losses;              /* [n]; where there are labels */
    ar_real *gradient, *running; /* slabs: gradient of dout * out; parameters once moved */
} golden_batch;

static inline void golden_batch_free(golden_batch *b) {
    free(b->out);
    free(b->dout);
    free(b->dx);
    free(b->losses);
    free(b->gradient);
    free(b->running);
}

static inline golden_batch golden_batch_make(const advrob_model *model, int64_t n) {
    golden_batch b = {.n = n, .slab_count = model->slab_count};
    b.out_count = n * ar_shape_count(model->nodes[ar_model_output(model)].shape);
    b.dx_count = n * ar_shape_count(model->nodes[0].shape);
    b.out = calloc((size_t)b.out_count, sizeof(float));
    b.dout = calloc((size_t)b.out_count, sizeof(float));
    b.dx = calloc((size_t)b.dx_count, sizeof(float));
    b.losses = calloc((size_t)n, sizeof(double));
    b.gradient = calloc((size_t)b.slab_count, sizeof(ar_real));
    b.running = malloc(sizeof(ar_real) * (size_t)b.slab_count);
    assert_true(b.out != NULL && b.dout != NULL && b.dx != NULL && b.losses != NULL);
    assert_true(b.gradient != NULL && b.running != NULL);
    return b;
}

/* Forward, cross entropy where labels are given (otherwise b->dout stands), backward, gradients,
 * running statistics. */
static inline void golden_batch_run(golden_batch *b, advrob_model *model, bool batch_statistics,
                                    const float *x, const int32_t *labels) {
    ar_program *program;
    ar_tiles *tiles;
    const float *dout = b->dout;
    float *out = b->out, *dx = b->dx;
    const int32_t classes = (int32_t)(b->out_count / b->n);
    double *row = malloc(sizeof(double) * (size_t)classes);
    assert_true(row != NULL);
    test_ok(ar_model_program(model, batch_statistics, &program));
    test_ok(ar_tiles_create(program, AR_RUN_TRAIN, batch_statistics, b->n, 1, &tiles));
    test_ok(ar_tiles_forward(tiles, b->n, &x, NULL, &out));
    if (labels != NULL)
        ar_loss_batch(&ar_loss_ce, b->n, classes, b->out, labels, NULL, row, b->losses, b->dout,
                      false, 1);
    test_ok(ar_tiles_backward(tiles, &dout, &dx, b->gradient));
    memcpy(b->running, model->slab, sizeof(ar_real) * (size_t)b->slab_count);
    if (batch_statistics) ar_tiles_move_statistics(tiles, b->running);
    ar_tiles_destroy(tiles);
    free(row);
}

static inline void golden_batch_same(const golden_batch *a, const golden_batch *b) {
    assert_memory_equal(a->out, b->out, sizeof(float) * (size_t)a->out_count);
    assert_memory_equal(a->dx, b->dx, sizeof(float) * (size_t)a->dx_count);
    assert_memory_equal(a->losses, b->losses, sizeof(double) * (size_t)a->n);
    assert_memory_equal(a->gradient, b->gradient, sizeof(ar_real) * (size_t)a->slab_count);
    assert_memory_equal(a->running, b->running, sizeof(ar_real) * (size_t)a->slab_count);
}

#endif
