/* The executor: one tile of images through all steps, forward and backward. */
#include <math.h>
#include <string.h>

#include "op/norm.h"
#include "program.h"

/* Outputs of a node whose weight gradients make one piece: each piece reads the node's whole input,
 * which pays from here on. */
#define GRADIENT_OUTPUTS 32

static void *at(ar_workspace *workspace, size_t offset) {
    return offset == SIZE_MAX ? NULL : workspace->memory + offset;
}

ar_real *ar_workspace_value(ar_workspace *workspace, int32_t node) {
    return at(workspace, workspace->plan->value[node]);
}

ar_real *ar_workspace_gradient(ar_workspace *workspace, int32_t node) {
    return at(workspace, workspace->plan->gradient[node]);
}

static int64_t floats(const ar_workspace *workspace, int32_t node) {
    return ar_shape_count(workspace->program->model->nodes[node].shape) * workspace->lanes;
}

/* The part of an operator's call that both directions share. */
static ar_op_call make_call(ar_workspace *workspace, int32_t s) {
    const ar_program *program = workspace->program;
    const ar_step *step = &program->steps[s];
    const ar_node *node = &program->model->nodes[step->node];
    ar_op_call call = {
        .kernels = program->kernels,
        .attributes = &node->attributes,
        .prepared = step->prepared,
        .lanes = workspace->lanes,
        .count = workspace->count,
        .out = node->shape,
        .draws = workspace->draws,
        .node = step->node,
        .relu = step->relu,
        .state = at(workspace, step->relu ? workspace->plan->mask[s] : workspace->plan->state[s]),
    };
    memcpy(call.in, step->setup.in, sizeof call.in);
    if (step->cut >= 0)
        call.norm = workspace->norms != NULL ? &workspace->norms[step->cut] : &step->statistics;
    return call;
}

static void quantize(ar_workspace *workspace, int32_t value, ar_real *y, uint8_t *mask,
                     bool fresh) {
    const ar_program *program = workspace->program;
    const ar_quant *record = &program->model->nodes[value].output;
    if (record->bits == 0) return;
    ar_quant_call call = {.n = floats(workspace, value),
                          .scale = record->scales[0],
                          .zero = (ar_real)record->zero,
                          .low = (ar_real)record->low,
                          .high = (ar_real)record->high,
                          .x = y,
                          .y = y,
                          .mask = mask,
                          .fresh = fresh};
    program->kernels->quantize(&call);
}

/* Puts what the integers made of a node in the place of what floats made of it. */
static void read_integers(ar_workspace *workspace, int32_t value, ar_real *y) {
    const ar_program *program = workspace->program;
    if (program->integers == NULL) return;
    program->model->ctx->integers->read(program->integers, workspace->room, workspace->lanes, value,
                                        y);
}

static void observe(ar_workspace *workspace, int32_t value, const ar_real *tile) {
    if (workspace->observe != NULL)
        workspace->observe(workspace->observe_arg, value, tile, workspace->lanes, workspace->count);
}

double ar_run_start(const ar_workspace *workspace) {
    return workspace->seconds == NULL ? 0 : ar_clock();
}

void ar_run_stop(ar_workspace *workspace, int32_t pass, int32_t step, double start) {
    if (workspace->seconds == NULL) return;
    workspace->seconds[pass * workspace->program->count + step] += ar_clock() - start;
}

static ar_op_call forward_call(ar_workspace *workspace, int32_t s) {
    const ar_step *step = &workspace->program->steps[s];
    const ar_node *node = &workspace->program->model->nodes[step->node];
    ar_op_call call = make_call(workspace, s);
    for (int32_t k = 0; k < node->op->inputs; k++)
        call.x[k] = ar_workspace_value(workspace, node->inputs[k]);
    call.y = ar_workspace_value(workspace, step->value);
    call.weight = step->forward;
    call.bias = step->bias;
    call.scratch = at(workspace, workspace->plan->scratch[0][s]);
    if (step->residual >= 0)
        call.residual = ar_workspace_value(workspace, step->inputs[step->residual]);
    return call;
}

/* A step of workspaces[0]'s tile, and what threads that share it need for themselves. */
typedef struct shared_step {
    ar_workspace *const *workspaces; /* [parts] */
    int32_t s, parts;
} shared_step;

static int32_t share_piece(void *arg, int64_t piece, int32_t worker) {
    const shared_step *shared = arg;
    ar_workspace *own = shared->workspaces[piece];
    ar_op_call call = forward_call(shared->workspaces[0], shared->s);
    (void)worker;
    call.part = (int32_t)piece;
    call.parts = shared->parts;
    call.scratch = at(own, own->plan->scratch[0][shared->s]);
    own->program->model->nodes[call.node].op->forward(&call);
    return ADVROB_OK;
}

/* A band of a layer, in the worker's workspace, and what the pooling behind it makes of it. */
static int32_t band_piece(void *arg, int64_t piece, int32_t worker) {
    const shared_step *shared = arg;
    ar_workspace *own = shared->workspaces[worker];
    const ar_program *program = own->program;
    const ar_step *step = &program->steps[shared->s];
    const ar_node *nodes = program->model->nodes;
    ar_op_call layer = forward_call(shared->workspaces[0], shared->s);
    ar_op_call pool = forward_call(shared->workspaces[0], shared->s + 1);
    int32_t stride = pool.attributes->stride[0];
    layer.rows = ar_step_band(step, (int32_t)piece);
    layer.y_top = pool.x_top = layer.rows.begin;
    layer.y = ar_workspace_value(own, step->value);
    layer.scratch = at(own, own->plan->scratch[0][shared->s]);
    pool.x[0] = layer.y;
    pool.rows.begin = layer.rows.begin / stride;
    pool.rows.end = layer.rows.end == layer.out.h ? pool.out.h : layer.rows.end / stride;
    nodes[layer.node].op->forward(&layer);
    nodes[pool.node].op->forward(&pool);
    return ADVROB_OK;
}

/* Whether threads may share a tile's way through a step, and gain by it: less work than this would
 * be done before they have met. */
static bool shares(const ar_program *program, int32_t s, int32_t lanes) {
    enum { LEAST_MULTIPLY_ADDS = 1 << 19 };
    const ar_step *step = &program->steps[s];
    const ar_node *node = &program->model->nodes[step->node];
    if (!step->used || !node->op->shares) return false;
    return node->op->macs(&node->attributes, step->setup.in, &node->shape) * lanes >=
           LEAST_MULTIPLY_ADDS;
}

/* One step of workspaces[0]'s tile, shared between `parts` threads where that pays. */
static int32_t step_forward(ar_workspace *const *workspaces, int32_t parts, int32_t s) {
    ar_workspace *workspace = workspaces[0];
    const ar_program *program = workspace->program;
    const ar_step *step = &program->steps[s];
    const ar_node *node = &program->model->nodes[step->node];
    if (!step->used) return ADVROB_OK;
    double start = ar_run_start(workspace);
    shared_step shared = {workspaces, s, parts};
    if (parts > 1 && shares(program, s, workspace->lanes)) {
        bool bands = step->band > 0;
        int32_t status = ar_parallel(program->model->ctx, bands ? ar_step_bands(step) : parts,
                                     bands ? band_piece : share_piece, NULL, &shared);
        if (status < 0) return status;
    } else if (step->band > 0) {
        for (int32_t i = 0; i < ar_step_bands(step); i++)
            (void)band_piece(&shared, i, 0);
    } else if (!ar_step_follows(program, s)) {
        ar_op_call call = forward_call(workspace, s);
        node->op->forward(&call);
    }
    ar_real *y = ar_workspace_value(workspace, step->value);
    quantize(workspace, step->value, y, at(workspace, workspace->plan->mask[s]), !step->relu);
    read_integers(workspace, step->value, y);
    ar_run_stop(workspace, AR_PASS_FORWARD, s, start);
    observe(workspace, step->value, y);
    return ADVROB_OK;
}

void ar_run_load(ar_workspace *workspace, int32_t count, const float *x) {
    const ar_program *program = workspace->program;
    ar_shape in = program->model->nodes[0].shape;
    ar_real *input = ar_workspace_value(workspace, 0);
    workspace->count = count;
    program->kernels->load(workspace->lanes, count, in.c, ar_shape_pixels(in), x, program->scale,
                           program->shift, input);
    quantize(workspace, 0, input, at(workspace, workspace->plan->mask[program->count]), true);
    if (program->integers != NULL)
        program->model->ctx->integers->run(program->integers, workspace->room, workspace->lanes,
                                           count, x);
    read_integers(workspace, 0, input);
    observe(workspace, 0, input);
}

void ar_run_steps(ar_workspace *workspace, int32_t begin, int32_t end) {
    for (int32_t s = begin; s < end; s++)
        (void)step_forward(&workspace, 1, s); /* on this thread: nothing fails */
}

void ar_run_store(ar_workspace *workspace, float *out) {
    const ar_program *program = workspace->program;
    ar_shape shape = program->model->nodes[program->output].shape;
    program->kernels->store(workspace->lanes, workspace->count, shape.c, ar_shape_pixels(shape),
                            ar_workspace_value(workspace, program->output), NULL, out);
}

void ar_run_forward(ar_workspace *workspace, int32_t count, const float *x, float *out) {
    ar_run_load(workspace, count, x);
    ar_run_steps(workspace, 0, workspace->program->count);
    if (out != NULL) ar_run_store(workspace, out);
}

void ar_run_gate(ar_workspace *workspace, int32_t s) {
    const ar_program *program = workspace->program;
    const ar_step *step = &program->steps[s];
    if (!step->used || !step->masked || step->gated) return;
    double start = ar_run_start(workspace);
    ar_real *dy = ar_workspace_gradient(workspace, step->value);
    program->kernels->gate(floats(workspace, step->value), dy,
                           at(workspace, workspace->plan->mask[s]), dy, false);
    ar_run_stop(workspace, AR_PASS_INPUT_GRADIENT, s, start);
}

static void step_backward(ar_workspace *workspace, int32_t s, bool input_wanted) {
    const ar_program *program = workspace->program;
    const ar_step *step = &program->steps[s];
    const ar_node *node = &program->model->nodes[step->node];
    if (!step->used) return;
    double start = ar_run_start(workspace);
    ar_op_call call = make_call(workspace, s);
    call.dy = ar_workspace_gradient(workspace, step->value);
    call.weight = step->backward;
    call.scratch = at(workspace, workspace->plan->scratch[1][s]);
    bool wanted = false;
    for (int32_t k = 0; k < node->op->inputs; k++) {
        if (step->cut >= 0) call.x[k] = ar_workspace_value(workspace, node->inputs[k]);
        if (node->inputs[k] == 0 && !input_wanted) continue;
        wanted = true;
        call.dx[k] = ar_workspace_gradient(workspace, node->inputs[k]);
        call.accumulate[k] = step->accumulate[k];
        if (step->gate[k] >= 0) call.gate[k] = at(workspace, workspace->plan->mask[step->gate[k]]);
    }
    if (wanted) node->op->backward(&call);
    int32_t residual = step->residual < 0 ? -1 : step->inputs[step->residual];
    if (residual >= (input_wanted ? 0 : 1) && !workspace->plan->shared[s])
        ar_op_hand_on(program->kernels, floats(workspace, residual), call.dy,
                      ar_workspace_gradient(workspace, residual), step->accumulate[step->residual]);
    ar_run_stop(workspace, AR_PASS_INPUT_GRADIENT, s, start);
}

void ar_run_load_gradient(ar_workspace *workspace, const float *dout) {
    const ar_program *program = workspace->program;
    ar_shape out = program->model->nodes[program->output].shape;
    program->kernels->load(workspace->lanes, workspace->count, out.c, ar_shape_pixels(out), dout,
                           NULL, NULL, ar_workspace_gradient(workspace, program->output));
}

void ar_run_steps_backward(ar_workspace *workspace, int32_t begin, int32_t end, bool gated,
                           bool input_wanted) {
    for (int32_t s = end - 1; s >= begin; s--) {
        if (s < end - 1 || !gated) ar_run_gate(workspace, s);
        step_backward(workspace, s, input_wanted);
    }
}

void ar_run_store_gradient(ar_workspace *workspace, float *dx) {
    const ar_program *program = workspace->program;
    ar_shape in = program->model->nodes[0].shape;
    ar_real *input = ar_workspace_gradient(workspace, 0);
    size_t mask = workspace->plan->mask[program->count];
    if (mask != SIZE_MAX)
        program->kernels->gate(floats(workspace, 0), input, at(workspace, mask), input, false);
    program->kernels->store(workspace->lanes, workspace->count, in.c, ar_shape_pixels(in), input,
                            program->scale, dx);
}

void ar_run_backward(ar_workspace *workspace, const float *dout, float *dx) {
    ar_run_load_gradient(workspace, dout);
    ar_run_steps_backward(workspace, 0, workspace->program->count, false, dx != NULL);
    if (dx != NULL) ar_run_store_gradient(workspace, dx);
}

int64_t ar_run_gradient_scratch(const ar_program *program) {
    int64_t most = 0;
    for (int32_t s = 0; s < program->count; s++) {
        const ar_node *node = &program->model->nodes[program->steps[s].node];
        if (node->op->gradient == NULL) continue;
        int64_t row = program->model->parameters[node->weight].count / node->shape.c;
        if (row > most) most = row;
    }
    return most;
}

int32_t ar_run_gradient_pieces(const ar_program *program, int32_t s) {
    const ar_node *node = &program->model->nodes[program->steps[s].node];
    if (node->op->gradient == NULL || !program->steps[s].used) return 0;
    return (node->shape.c + GRADIENT_OUTPUTS - 1) / GRADIENT_OUTPUTS;
}

/* Weights that a quantization record clamps have no straight-through gradient. */
static void clear_clamped(const ar_program *program, const ar_node *node, int32_t begin,
                          int32_t end, ar_real *gradient) {
    const ar_parameter *weight = &program->model->parameters[node->weight];
    const ar_quant *record = &node->weights;
    if (record->bits <= 1) return;
    int64_t per = weight->count / node->shape.c;
    for (int64_t i = begin * per; i < end * per; i++) {
        ar_real scale = record->scales[record->count == 1 ? 0 : i / per];
        double code = rint((double)(program->model->slab[weight->offset + i] / scale));
        if (code > record->high || code < record->low) gradient[i] = 0;
    }
}

/* From the gradient of a layer with its batch norm folded in to those of both. The norm's input is
 * the layer's output w * x + b, so the sum of its products with dy follows from w and dw, and, with
 * a border bias, from the sums of dy by class that stand where its gradient would. */
static void unfold(const ar_program *program, const ar_step *step, int32_t begin, int32_t end,
                   ar_real *gradient) {
    const advrob_model *model = program->model;
    const ar_parameter *parameters = model->parameters;
    const ar_node *node = &model->nodes[step->node], *norm = &model->nodes[step->norm];
    int64_t offset = parameters[node->weight].offset;
    int64_t per = parameters[node->weight].count / node->shape.c;
    const ar_parameter *border = node->border_bias < 0 ? NULL : &parameters[node->border_bias];
    for (int32_t c = begin; c < end; c++) {
        const ar_real *w = model->slab + offset + c * per;
        ar_real *dw = gradient + offset + c * per;
        double bias = node->bias < 0 ? 0 : (double)model->slab[parameters[node->bias].offset + c];
        double sum = (double)gradient[parameters[norm->bias].offset + c], products = bias * sum;
        ar_channel channel = {
            .mean = (double)model->slab[parameters[norm->running_mean].offset + c],
            .variance = (double)model->slab[parameters[norm->running_var].offset + c]};
        double scale = ar_norm_scale(
            &norm->attributes, model->slab[parameters[norm->weight].offset + c], channel.variance);
        for (int64_t k = 0; k < per; k++) {
            products += (double)w[k] * (double)dw[k];
            dw[k] = (ar_real)((double)dw[k] * scale);
        }
        int64_t classes = border == NULL ? 0 : border->count / node->shape.c;
        for (int64_t k = 0; k < classes; k++) {
            int64_t at = border->offset + c * classes + k;
            products += (double)model->slab[at] * (double)gradient[at];
            gradient[at] = 0; /* it is not trained */
        }
        ar_norm_gradient(&norm->attributes, sum, products, &channel);
        gradient[parameters[norm->weight].offset + c] = (ar_real)channel.dweight;
        if (node->bias >= 0) gradient[parameters[node->bias].offset + c] = (ar_real)(sum * scale);
    }
}

void ar_run_gradient_piece(ar_workspace *const *tiles, int32_t count, int32_t s, int64_t piece,
                           ar_real *scratch, ar_real *gradient) {
    const ar_program *program = tiles[0]->program;
    const advrob_model *model = program->model;
    const ar_real *x[AR_MAX_TILES], *dy[AR_MAX_TILES];
    double start = ar_run_start(tiles[0]);
    const ar_step *step = &program->steps[s];
    const ar_node *node = &model->nodes[step->node];
    const ar_parameter *weight = &model->parameters[node->weight];
    for (int32_t t = 0; t < count; t++) {
        x[t] = ar_workspace_value(tiles[t], node->inputs[0]);
        dy[t] = ar_workspace_gradient(tiles[t], step->value);
    }
    ar_op_gradient call = {
        .kernels = program->kernels,
        .attributes = &node->attributes,
        .prepared = step->prepared,
        .lanes = tiles[0]->lanes,
        .tiles = count,
        .in = model->nodes[node->inputs[0]].shape,
        .out = node->shape,
        .x = x,
        .dy = dy,
        .begin = (int32_t)piece * GRADIENT_OUTPUTS,
        .end = (int32_t)piece * GRADIENT_OUTPUTS + GRADIENT_OUTPUTS,
        .scratch = scratch,
        .dweight = gradient + weight->offset,
        .dbias = step->bias_parameter < 0
                     ? NULL
                     : gradient + model->parameters[step->bias_parameter].offset,
    };
    if (step->norm >= 0 && node->border_bias >= 0)
        call.dborder = gradient + model->parameters[node->border_bias].offset;
    if (call.end > node->shape.c) call.end = node->shape.c;
    node->op->gradient(&call);
    if (step->norm >= 0) unfold(program, step, call.begin, call.end, gradient);
    clear_clamped(program, node, call.begin, call.end, call.dweight);
    ar_run_stop(tiles[0], AR_PASS_WEIGHT_GRADIENT, s, start);
}

typedef struct forward_job {
    ar_program *program;
    int64_t n;
    int32_t lanes;
    const float *x;
    float *out;
    ar_workspace *workspaces[AR_MAX_THREADS]; /* by worker, taken on first use */
} forward_job;

static void tile_of(const forward_job *job, int64_t tile, int32_t *count, const float **x,
                    float **out) {
    const ar_node *nodes = job->program->model->nodes;
    int64_t first = tile * job->lanes, left = job->n - first;
    *count = left < job->lanes ? (int32_t)left : job->lanes;
    *x = job->x + first * ar_shape_count(nodes[0].shape);
    *out = job->out + first * ar_shape_count(nodes[job->program->output].shape);
}

static int32_t take_workspace(forward_job *job, int32_t worker) {
    if (job->workspaces[worker] != NULL) return ADVROB_OK;
    return ar_workspace_take(job->program, AR_RUN_FORWARD, job->lanes, &job->workspaces[worker]);
}

static int32_t forward_piece(void *arg, int64_t piece, int32_t worker) {
    forward_job *job = arg;
    int32_t count, status = take_workspace(job, worker);
    const float *x;
    float *out;
    if (status < 0) return status;
    tile_of(job, piece, &count, &x, &out);
    ar_run_forward(job->workspaces[worker], count, x, out);
    return ADVROB_OK;
}

/* All threads share each step of each tile. */
static int32_t forward_shared(forward_job *job, int64_t tiles) {
    int32_t status = ADVROB_OK, count, parts = ar_workers(job->program->model->ctx);
    const float *x;
    float *out;
    for (int32_t i = 0; i < parts; i++)
        AR_TRY(take_workspace(job, i));
    for (int64_t tile = 0; tile < tiles; tile++) {
        tile_of(job, tile, &count, &x, &out);
        ar_run_load(job->workspaces[0], count, x);
        for (int32_t s = 0; s < job->program->count; s++)
            AR_TRY(step_forward(job->workspaces, parts, s));
        ar_run_store(job->workspaces[0], out);
    }
out:
    return status;
}

/* Tiles in parallel need no waiting for each other, but leave threads idle where they are few. */
static bool shared(const forward_job *job, int64_t tiles) {
    if (tiles < 1 || tiles > ar_workers(job->program->model->ctx) / 2) return false;
    for (int32_t s = 0; s < job->program->count; s++)
        if (shares(job->program, s, job->lanes)) return true;
    return false;
}

int32_t ar_program_forward(ar_program *program, int64_t n, const float *x, float *out) {
    int32_t status, lanes = ar_tile_lanes(n);
    advrob_context *ctx = program->model->ctx;
    forward_job job = {program, n, lanes, x, out, {NULL}};
    int64_t tiles = (n + lanes - 1) / lanes;
    if (shared(&job, tiles))
        status = forward_shared(&job, tiles);
    else
        status = ar_parallel(ctx, tiles, forward_piece, NULL, &job);
    for (int32_t i = 0; i < ar_workers(ctx); i++)
        ar_workspace_give(job.workspaces[i]);
    return status;
}
