/* A compiled model: steps with fused epilogues, index lists, packed weights, memory plans; and the
 * executor that takes tiles of images through it. */
#ifndef AR_PROGRAM_H
#define AR_PROGRAM_H

#include "model.h"

/* What a workspace is for; each later mode keeps more: AR_RUN_BATCH_GRADIENT the inputs of batch
 * norms, for the gradient by the input under batch statistics. */
enum { AR_RUN_FORWARD, AR_RUN_INPUT_GRADIENT, AR_RUN_BATCH_GRADIENT, AR_RUN_TRAIN, AR_RUN_MODES };

/* What a step reads: its operator's inputs, and behind them the residual that it adds. */
#define AR_STEP_INPUTS (AR_MAX_INPUTS + 1)

/* A step is a node with what was fused into it, in this order: a batch norm with running
 * statistics, folded into the packed weights; the sum with an earlier value; a ReLU. */
typedef struct ar_step {
    int32_t node;  /* the operator's node */
    int32_t value; /* the value it makes: the node, or the last that was fused */
    int32_t norm;  /* the batch norm that is folded into the weights; -1: none */
    bool relu;
    int32_t inputs[AR_STEP_INPUTS]; /* values */
    int32_t input_count;
    int32_t residual; /* which of the inputs is added to the operator's result; -1: none */
    bool masked;      /* backward gates dy by mask bits: a ReLU, a quantization point, or both */
    bool gated;       /* the last step that hands on a gradient to it gates what it hands on */
    bool used;        /* the result depends on the value; other steps are not run */
    bool accumulate[AR_STEP_INPUTS]; /* a later step has already written this input's gradient */
    int32_t gate[AR_STEP_INPUTS];    /* the step whose mask gates this input's gradient; -1: none */
    ar_op_setup setup;
    const void *prepared;
    ar_real *forward, *backward; /* packed weights */
    int32_t bias_parameter;      /* the layer's bias, or that of the folded norm; -1: none */
    const ar_real *bias;         /* as run; NULL: none */
    int32_t band;                /* the next step pools the value, made so many rows at a time; 0 */
    int32_t cut;                 /* number among the program's batch norms; -1: none */
    ar_norm statistics;          /* a batch norm's, with running statistics */
} ar_step;

/* Where a tile's buffers lie in a workspace, in bytes; SIZE_MAX: not there. */
typedef struct ar_plan {
    size_t *value, *gradient; /* [nodes] */
    size_t *state, *mask;     /* [steps]; [steps + 1]: the last mask is the input's */
    size_t *scratch[2];       /* [steps], forward and backward */
    const bool *shared;       /* [steps]: the residual's gradient lies where the step's own does */
    size_t size;
} ar_plan;

/* What a model with `exact` runs its quantized layers by: the integers that are deployed. The layer
 * that lowers models hands it in (ctx->integers). */
typedef struct ar_integers {
    /* Lowers a program of a whole model, as its weights are now. E_UNSUPPORTED and E_RANGE name the
     * node that has no integer form. */
    int32_t (*create)(const struct ar_program *program, void **own);
    void (*destroy)(void *own);      /* NULL is fine */
    size_t (*room)(const void *own); /* bytes that a tile needs */
    /* Pixels x [count, c, h, w] through all layers. */
    void (*run)(const void *own, uint8_t *room, int32_t lanes, int32_t count, const float *x);
    /* After it: the node's value, as a tile; one that integers do not make stays as it is. */
    void (*read)(const void *own, const uint8_t *room, int32_t lanes, int32_t node, ar_real *tile);
} ar_integers;

typedef struct ar_program {
    advrob_model *model; /* borrowed */
    const ar_kernels *kernels;
    ar_arena arena;
    ar_step *steps;
    int32_t count;
    int32_t *cuts; /* [cut_count]: steps that are batch norms */
    int32_t cut_count;
    int32_t output;         /* the value that is the result */
    int32_t *producer;      /* [nodes]: the step that a node is part of; -1: the input */
    ar_real *scale, *shift; /* normalisation, [channels] */
    ar_real *effective;     /* parameters as run: quantized, or with a batch norm folded in */
    uint64_t version;       /* of the model when the weights were packed */
    bool plain;             /* as ar_program_create was told */
    void *integers;         /* of a model that runs in them; NULL: it does not */
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
    uint8_t *room;         /* of the program's integers; NULL: there are none */
    const ar_norm *norms;  /* [cuts]: of the batch; NULL: running statistics */
    const ar_draws *draws; /* of this tile's images; NULL outside training */
    /* Called with each value of a forward pass while it is there; NULL: not wanted. */
    void (*observe)(void *arg, int32_t node, const ar_real *tile, int32_t lanes, int32_t count);
    void *observe_arg;
    double *seconds; /* [AR_PASSES][steps]: each adds what it took; NULL: not timed */
} ar_workspace;

/* Compiles the part of `model` up to node `output`. plain: only ReLUs are fused, so that batch
 * norms can normalise by the batch and every quantization point is seen. */
int32_t ar_program_create(advrob_model *model, int32_t output, bool plain, ar_program **out);
void ar_program_destroy(ar_program *program); /* NULL is fine; no workspace may be out */
/* Packs the weights if the model's parameters changed since; after ar_model_restructured a new
 * program is needed. Not while the program runs. Fails only where the model is `exact`: E_RANGE
 * where new weights do not fit its integers. */
int32_t ar_program_update(ar_program *program);
/* The model's own program for its last node, compiled on first use and up to date; the one for
 * running with the batch's statistics, or with running ones. Valid until the model changes or dies.
 */
int32_t ar_model_program(advrob_model *model, bool batch_statistics, ar_program **out);
/* ar_program_update of those that there are. */
int32_t ar_model_update_programs(advrob_model *model);

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

/* The parts of the two above, for tiles that wait for each other (tiles.c): the input, steps
 * [begin, end) in order, the result; the result's gradient, the gating of a step's gradient by its
 * own mask, steps [begin, end) backward - `gated`: the last one's gradient has been gated - and the
 * input's gradient. */
void ar_run_load(ar_workspace *workspace, int32_t count, const float *x);
void ar_run_steps(ar_workspace *workspace, int32_t begin, int32_t end);
void ar_run_store(ar_workspace *workspace, float *out);
void ar_run_load_gradient(ar_workspace *workspace, const float *dout);
void ar_run_gate(ar_workspace *workspace, int32_t step);
void ar_run_steps_backward(ar_workspace *workspace, int32_t begin, int32_t end, bool gated,
                           bool input_wanted);
void ar_run_store_gradient(ar_workspace *workspace, float *dx);

/* Most tiles whose gradients are summed at once. */
#define AR_MAX_TILES 256

/* Parameter gradients of a step, a batch norm's of its own aside, of 1 to AR_MAX_TILES tiles of the
 * same lanes in AR_RUN_TRAIN. They went forward, and backward down to this step, whose gradient is
 * gated; they may go on at the same time, but not beyond the next step below that is a stop
 * (ar_step_stops), whose buffers may be these. Pieces are independent; the cut depends on the model
 * alone. gradient has the slab's layout, scratch ar_run_gradient_scratch values. */
int64_t ar_run_gradient_scratch(const ar_program *program);
int32_t ar_run_gradient_pieces(const ar_program *program, int32_t step); /* 0: it has none */
void ar_run_gradient_piece(ar_workspace *const *tiles, int32_t count, int32_t step, int64_t piece,
                           ar_real *scratch, ar_real *gradient);
/* Where the tiles of a batch wait for each other on their way back in training. */
bool ar_step_stops(const ar_program *program, int32_t step);

/* Around a pass of a step: the time, 0 where nobody asks for it; adds what has passed since. */
double ar_run_start(const ar_workspace *workspace);
void ar_run_stop(ar_workspace *workspace, int32_t pass, int32_t step, double start);

/* A value or gradient buffer of the tile ([h][w][c][lanes]); NULL if the plan has none. For tests.
 */
ar_real *ar_workspace_value(ar_workspace *workspace, int32_t node);
ar_real *ar_workspace_gradient(ar_workspace *workspace, int32_t node);

/* Forward of n images: tiles in parallel, or, where they are few, steps shared between threads. */
int32_t ar_program_forward(ar_program *program, int64_t n, const float *x, float *out);

/* tiles.c: a whole batch as tiles that run together: what training needs, and what normalises by
 * the batch. Batch norms cut the graph: tiles run up to a cut, wait for each other, and go on with
 * numbers from the whole batch. Sums over images are made per image, in double, and combined in the
 * order of the images, so that neither threads nor the size of tiles change a bit. */
typedef struct ar_tiles ar_tiles;

/* Room for `groups` batches of at most `batch` images that run side by side, each with statistics
 * of its own (the branches of an objective). mode: AR_RUN_TRAIN, AR_RUN_BATCH_GRADIENT or
 * AR_RUN_FORWARD. Without batch_statistics batch norms use the running ones. */
int32_t ar_tiles_create(ar_program *program, int32_t mode, bool batch_statistics, int64_t batch,
                        int32_t groups, ar_tiles **out);
void ar_tiles_destroy(ar_tiles *tiles); /* NULL is fine */

/* n images a group: x[group] [n, c, h, w] -> out[group] [n, outputs]. draws: of training, with one
 * id an image; NULL: none. E_INVALID where a batch norm has a single value to normalise. */
int32_t ar_tiles_forward(ar_tiles *tiles, int64_t n, const float *const *x, const ar_draws *draws,
                         float *const *out);
/* After it: dout[group] [n, outputs] -> dx[group] [n, c, h, w]; dx may be NULL in AR_RUN_TRAIN, and
 * there: all parameter gradients, summed over the groups. gradient (NULL in other modes) has the
 * slab's layout; values that no step trains (running statistics, unused nodes) stay as they are. */
int32_t ar_tiles_backward(ar_tiles *tiles, const float *const *dout, float *const *dx,
                          ar_real *gradient);

/* E_INVALID where batch statistics of n images would have a single value to normalise by. */
int32_t ar_tiles_check(const ar_program *program, int64_t n);
/* Moves the running statistics in `slab` by the batches of the last forward, group after group;
 * check: whether they would stay finite, E_NONFINITE names one that would not. */
void ar_tiles_move_statistics(const ar_tiles *tiles, ar_real *slab);
int32_t ar_tiles_check_statistics(const ar_tiles *tiles, const ar_real *slab);
/* Mean and unbiased variance of channel `channel` of a program's cut in the last forward. */
void ar_tiles_statistics(const ar_tiles *tiles, int32_t group, int32_t cut, int32_t channel,
                         double *mean, double *variance);
/* Tile `tile` of a group in the last forward; for tests. */
ar_workspace *ar_tiles_workspace(const ar_tiles *tiles, int32_t group, int32_t tile);

/* profile.c: what each pass of each step costs, on one thread. */
typedef struct ar_profile {
    ar_program *program;
    int32_t passes;             /* the first ones of AR_PASS_*; all three: as training runs them */
    double *seconds[AR_PASSES]; /* [steps], of the batch */
    double total[AR_PASSES];    /* of the whole pass */
    double peak;                /* multiply-adds a second that a core can do */
} ar_profile;

/* Runs a batch of noise `repeats` times and keeps the best of each time; arrays come from `arena`.
 * Training's batch norms normalise by the batch. */
int32_t ar_profile_run(advrob_model *model, int32_t passes, int64_t batch, int32_t repeats,
                       ar_arena *arena, ar_profile *out);
/* False where a step does not run a pass; otherwise what it does for one image. */
bool ar_profile_work(const ar_profile *profile, int32_t step, int32_t pass, ar_op_work *work);

/* steps.c: which nodes become steps, what is fused, who uses what. */
void ar_steps_make(ar_program *program, bool plain);
/* Fuses a prepared step with the next one, if that is a pooling that can follow row by row: they
 * run together, band by band, and the value between them is never there as a whole. */
void ar_steps_fuse_pool(ar_program *program, int32_t s);
/* Bands of a step that is fused so, and the rows of band i. */
int32_t ar_step_bands(const ar_step *step);
ar_span ar_step_band(const ar_step *step, int32_t i);
/* Whether a step runs forward with the one before it. */
bool ar_step_follows(const ar_program *program, int32_t s);

/* plan.c. */
int32_t ar_plan_create(const ar_program *program, int32_t mode, int32_t lanes, ar_arena *arena,
                       ar_plan *plan);

#endif
