/* A compiled model: steps with fused epilogues, index lists, packed weights, memory plans; and the
 * executor that takes tiles of images through it. */
#ifndef AR_PROGRAM_H
#define AR_PROGRAM_H

#include "model.h"

/* What a workspace is for; each later mode keeps more. */
enum { AR_RUN_FORWARD, AR_RUN_INPUT_GRADIENT, AR_RUN_TRAIN, AR_RUN_MODES };

/* A step is a node with what was fused into it. */
typedef struct ar_step {
    int32_t node;  /* the operator's node */
    int32_t value; /* the value it makes: the node, or the fused ReLU */
    bool relu;
    bool masked; /* backward gates dy by mask bits: a ReLU, a quantization point, or both */
    bool gated;  /* its only user already gates the gradient that it hands over */
    bool used;   /* the result depends on the value; other steps are not run */
    bool accumulate[AR_MAX_INPUTS]; /* a later step has already written this input's gradient */
    int32_t gate[AR_MAX_INPUTS];    /* the step whose mask gates this input's gradient; -1: none */
    const void *prepared;
    ar_real *forward, *backward; /* packed weights */
} ar_step;

/* Where a tile's buffers lie in a workspace, in bytes; SIZE_MAX: not there. */
typedef struct ar_plan {
    size_t *value, *gradient; /* [nodes] */
    size_t *state, *mask;     /* [steps]; [steps + 1]: the last mask is the input's */
    size_t size;
} ar_plan;

typedef struct ar_program {
    advrob_model *model; /* borrowed */
    const ar_kernels *kernels;
    ar_arena arena;
    ar_step *steps;
    int32_t count;
    int32_t output;         /* the value that is the result */
    int32_t *producer;      /* [nodes]: the step that makes a value; -1: the input, or fused away */
    ar_real *scale, *shift; /* normalisation, [channels] */
    ar_real *effective;     /* parameters as run: quantized ones quantized */
    uint64_t version;       /* of the model when the weights were packed */
    ar_plan plans[AR_RUN_MODES][2]; /* lanes 8 and 16 */
    pthread_mutex_t lock;           /* guards `spare` */
    struct ar_workspace *spare;
} ar_program;

/* Room for one tile. */
typedef struct ar_workspace {
    struct ar_workspace *next;
    ar_program *program;
    const ar_plan *plan;
    int32_t mode, lanes, count; /* count: images of the last forward */
    uint8_t *memory;
    /* Called with each value of a forward pass while it is there; NULL: not wanted. */
    void (*observe)(void *arg, int32_t node, const ar_real *tile, int32_t lanes, int32_t count);
    void *observe_arg;
} ar_workspace;

/* Compiles the part of `model` up to node `output`. */
int32_t ar_program_create(advrob_model *model, int32_t output, ar_program **out);
void ar_program_destroy(ar_program *program); /* NULL is fine; no workspace may be out */
/* Packs the weights if the model's parameters changed since; after ar_model_restructured a new
 * program is needed. Not while the program runs. */
int32_t ar_program_update(ar_program *program);
/* The model's own program for its last node, compiled on first use and up to date. Valid until the
 * model changes or dies. */
int32_t ar_model_program(advrob_model *model, ar_program **out);

/* Images per tile for a job of n images: 16, or 8 when that is enough. Any cut gives the same bits.
 */
int32_t ar_tile_lanes(int64_t n);

/* A workspace from the program's store, or a new one. */
int32_t ar_workspace_take(ar_program *program, int32_t mode, int32_t lanes, ar_workspace **out);
void ar_workspace_give(ar_workspace *workspace); /* NULL is fine */
/* Bytes of one workspace. */
size_t ar_workspace_size(const ar_program *program, int32_t mode, int32_t lanes);

/* x [count, c, h, w] pixels, count <= lanes -> out [count, outputs...] in plain order; out may be
 * NULL. */
void ar_run_forward(ar_workspace *workspace, int32_t count, const float *x, float *out);
/* After ar_run_forward: dout [count, ...] -> dx [count, c, h, w] with respect to the pixels; dx may
 * be NULL in AR_RUN_TRAIN. */
void ar_run_backward(ar_workspace *workspace, const float *dout, float *dx);

/* Most tiles whose gradients are summed at once. */
#define AR_MAX_TILES 256

/* Parameter gradients of a batch: 1 to AR_MAX_TILES tiles that went forward and backward in
 * AR_RUN_TRAIN, all of the same lanes. Pieces are independent; the cut depends on the model alone.
 * gradient and scratch have the slab's layout. */
int64_t ar_run_gradient_pieces(const ar_program *program);
void ar_run_gradient_piece(ar_workspace *const *tiles, int32_t count, int64_t piece,
                           ar_real *scratch, ar_real *gradient);

/* A value or gradient buffer of the tile ([h][w][c][lanes]); NULL if the plan has none. For tests.
 */
ar_real *ar_workspace_value(ar_workspace *workspace, int32_t node);
ar_real *ar_workspace_gradient(ar_workspace *workspace, int32_t node);

/* Forward of n images, tiles in parallel. */
int32_t ar_program_forward(ar_program *program, int64_t n, const float *x, float *out);

/* plan.c. */
int32_t ar_plan_create(const ar_program *program, int32_t mode, int32_t lanes, ar_arena *arena,
                       ar_plan *plan);

#endif
