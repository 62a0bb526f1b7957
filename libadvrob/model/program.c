/* Compiling a model: which nodes become steps, what is fused, packed weights, workspaces. */
#include "program.h"

#include <string.h>

#include "op/norm.h"

/* A batch norm that the result depends on is a cut; what it runs with outside a whole batch. */
static int32_t find_cuts(ar_program *program) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = program->model;
    void *block;
    AR_TRY(
        ar_arena_alloc(&program->arena, (size_t)program->count, sizeof(int32_t), "cuts", &block));
    program->cuts = block;
    for (int32_t s = 0; s < program->count; s++) {
        ar_step *step = &program->steps[s];
        const ar_node *node = &model->nodes[step->node];
        if (!step->used || !node->op->whole_batch) continue;
        step->cut = program->cut_count++;
        program->cuts[step->cut] = s;
        step->statistics = (ar_norm){
            .mean = program->effective + model->parameters[node->running_mean].offset,
            .scale = step->forward,
            .shift = program->effective + model->parameters[node->bias].offset,
        };
    }
out:
    return status;
}

static int32_t take_packed(ar_program *program, int64_t count, ar_real **out) {
    void *block;
    int32_t status =
        ar_arena_alloc(&program->arena, (size_t)count, sizeof(ar_real), "packed weights", &block);
    if (status >= 0) *out = block;
    return status;
}

static int32_t prepare_step(ar_program *program, ar_step *step) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = program->model;
    const ar_node *node = &model->nodes[step->node];
    ar_op_setup *setup = &step->setup;
    *setup = (ar_op_setup){.attributes = &node->attributes,
                           .out = node->shape,
                           .kernels = program->kernels,
                           .winograd = model->ctx->winograd,
                           .first = node->inputs[0] == 0,
                           .arena = &program->arena};
    for (int32_t k = 0; k < node->op->inputs; k++)
        setup->in[k] = model->nodes[node->inputs[k]].shape;
    if (node->op->prepare != NULL) AR_TRY(node->op->prepare(setup, &step->prepared));
    if (node->op->pack != NULL) {
        int64_t count[2] = {model->parameters[node->weight].count,
                            model->parameters[node->weight].count};
        if (node->op->packed_count != NULL) node->op->packed_count(setup, step->prepared, count);
        AR_TRY(take_packed(program, count[0], &step->forward));
        AR_TRY(take_packed(program, count[1], &step->backward));
    }
out:
    return status;
}

static int32_t prepare_steps(ar_program *program, bool plain) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = program->model;
    void *block;
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)model->slab_count, sizeof(ar_real),
                          "parameters as run", &block));
    program->effective = block;
    for (int32_t s = 0; s < program->count; s++) {
        ar_step *step = &program->steps[s];
        AR_TRY(prepare_step(program, step));
        step->bias_parameter = model->nodes[step->norm >= 0 ? step->norm : step->node].bias;
        if (step->bias_parameter >= 0)
            step->bias = program->effective + model->parameters[step->bias_parameter].offset;
    }
    AR_TRY(find_cuts(program));
    for (int32_t s = 0; s < program->count && !plain; s++)
        ar_steps_fuse_pool(program, s);
    for (int32_t mode = 0; mode < AR_RUN_MODES; mode++)
        for (int32_t wide = 0; wide < 2; wide++)
            AR_TRY(ar_plan_create(program, mode, wide ? 16 : 8, &program->arena,
                                  &program->plans[mode][wide]));
out:
    return status;
}

static int32_t normalisation(ar_program *program) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = program->model;
    size_t channels = (size_t)model->nodes[0].shape.c;
    void *block;
    AR_TRY(ar_arena_alloc(&program->arena, channels, sizeof(ar_real), "normalisation", &block));
    program->scale = block;
    AR_TRY(ar_arena_alloc(&program->arena, channels, sizeof(ar_real), "normalisation", &block));
    program->shift = block;
    for (size_t c = 0; c < channels; c++) {
        program->scale[c] = (ar_real)(1 / (double)model->std[c]);
        program->shift[c] = (ar_real)(-(double)model->mean[c] / (double)model->std[c]);
    }
out:
    return status;
}

static void drop_integers(ar_program *program) {
    if (program->integers != NULL) program->model->ctx->integers->destroy(program->integers);
    program->integers = NULL;
}

/* The integers of an exact model with its weights as they are now; always those of the whole model:
 * what is the result of a part of it has codes in the whole. */
static int32_t renew_integers(ar_program *program) {
    int32_t status = ADVROB_OK;
    advrob_model *model = program->model;
    const ar_integers *integers = model->ctx->integers;
    ar_program *whole = NULL;
    if (!model->exact) return ADVROB_OK;
    drop_integers(program);
    if (integers == NULL)
        AR_FAIL(ADVROB_E_UNSUPPORTED, "exact simulation: this build has no integer engine");
    if (!program->plain && program->output == ar_model_output(model)) {
        AR_TRY(integers->create(program, &program->integers));
    } else {
        AR_TRY(ar_program_create(model, ar_model_output(model), false, &whole));
        program->integers = whole->integers;
        whole->integers = NULL;
    }
out:
    ar_program_destroy(whole);
    return status;
}

int32_t ar_program_create(advrob_model *model, int32_t output, bool plain, ar_program **out) {
    int32_t status = ADVROB_OK;
    ar_program *program = NULL;
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, 1, sizeof *program, "compiled model", &block));
    program = block;
    program->model = model;
    program->kernels = model->ctx->kernels;
    program->output = output;
    program->plain = plain;
    pthread_mutex_init(&program->lock, NULL);
    ar_arena_init(&program->arena, &model->ctx->memory);
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)output + 1, sizeof(ar_step), "steps", &block));
    program->steps = block;
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)model->node_count, sizeof(int32_t), "steps",
                          &block));
    program->producer = block;
    ar_steps_make(program, plain);
    AR_TRY(normalisation(program));
    AR_TRY(prepare_steps(program, plain));
    AR_TRY(ar_program_update(program));
    *out = program;
    program = NULL;
out:
    ar_program_destroy(program);
    return status;
}

void ar_program_destroy(ar_program *program) {
    if (program == NULL) return;
    ar_memory *memory = &program->model->ctx->memory;
    while (program->spare != NULL) {
        ar_workspace *next = program->spare->next;
        ar_free(memory, program->spare->room);
        ar_free(memory, program->spare->memory);
        ar_free(memory, program->spare);
        program->spare = next;
    }
    drop_integers(program);
    ar_arena_free(&program->arena);
    pthread_mutex_destroy(&program->lock);
    ar_free(memory, program);
}

/* The layer's parameters with its batch norm in them. */
static void fold(const ar_program *program, const ar_step *step) {
    const advrob_model *model = program->model;
    const ar_node *node = &model->nodes[step->node], *norm = &model->nodes[step->norm];
    const ar_real *values[AR_MAX_PARAMETERS] = {NULL};
    for (int32_t role = 0; role <= AR_RUNNING_VAR; role++)
        values[role] = model->slab + model->parameters[norm->parameters[role]].offset;
    const ar_real *own = node->bias < 0 ? NULL : model->slab + model->parameters[node->bias].offset;
    const ar_parameter *weight = &model->parameters[node->weight];
    ar_norm_fold(&norm->attributes, values, node->shape.c, weight->count / node->shape.c,
                 model->slab + weight->offset, own, program->effective + weight->offset,
                 program->effective + model->parameters[step->bias_parameter].offset);
    if (node->border_bias < 0) return;
    const ar_parameter *border = &model->parameters[node->border_bias];
    ar_norm_fold_rows(&norm->attributes, values, node->shape.c, border->count / node->shape.c,
                      model->slab + border->offset, program->effective + border->offset);
}

static int32_t pack_step(void *arg, int64_t piece, int32_t worker) {
    ar_program *program = arg;
    const advrob_model *model = program->model;
    ar_step *step = &program->steps[piece];
    const ar_node *node = &model->nodes[step->node];
    (void)worker;
    const ar_real *values[AR_MAX_PARAMETERS] = {NULL};
    if (step->norm >= 0) fold(program, step);
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
        if (node->parameters[role] < 0) continue;
        const ar_parameter *p = &model->parameters[node->parameters[role]];
        ar_real *effective = program->effective + p->offset;
        if (role == AR_WEIGHT && node->weights.bits > 0)
            ar_quant_apply(&node->weights, p->count, model->slab + p->offset, effective);
        else if (step->norm < 0)
            memcpy(effective, model->slab + p->offset, sizeof(ar_real) * (size_t)p->count);
        values[role] = effective;
    }
    if (step->bias != NULL) values[AR_BIAS] = step->bias;
    if (node->op->pack != NULL)
        node->op->pack(&step->setup, step->prepared, values, step->forward, step->backward);
    return ADVROB_OK;
}

int32_t ar_program_update(ar_program *program) {
    if (program->version == program->model->version) return ADVROB_OK;
    /* A cancelled job is done here: weights that are packed in part would fit no parameters. */
    if (ar_parallel(program->model->ctx, program->count, pack_step, NULL, program) < 0)
        for (int32_t s = 0; s < program->count; s++)
            pack_step(program, s, 0);
    int32_t status = renew_integers(program);
    if (status >= 0) program->version = program->model->version;
    return status;
}

int32_t ar_model_program(advrob_model *model, bool batch_statistics, ar_program **out) {
    bool plain = batch_statistics && ar_model_has_batch_norm(model);
    ar_program **program = &model->programs[plain];
    int32_t status = ADVROB_OK;
    pthread_mutex_lock(&model->lock);
    if (*program == NULL)
        status = ar_program_create(model, ar_model_output(model), plain, program);
    else
        status = ar_program_update(*program);
    *out = *program;
    pthread_mutex_unlock(&model->lock);
    return status;
}

int32_t ar_model_update_programs(advrob_model *model) {
    int32_t status = ADVROB_OK;
    pthread_mutex_lock(&model->lock);
    for (int32_t i = 0; i < 2 && status >= 0; i++)
        if (model->programs[i] != NULL) status = ar_program_update(model->programs[i]);
    pthread_mutex_unlock(&model->lock);
    return status;
}

int32_t ar_tile_lanes(int64_t n) {
    return n <= 8 ? 8 : 16;
}

size_t ar_workspace_size(const ar_program *program, int32_t mode, int32_t lanes) {
    return program->plans[mode][lanes == 16].size;
}

int32_t ar_workspace_take(ar_program *program, int32_t mode, int32_t lanes, ar_workspace **out) {
    int32_t status = ADVROB_OK;
    ar_workspace *workspace = NULL, **link;
    ar_memory *memory = &program->model->ctx->memory;
    void *block = NULL;
    pthread_mutex_lock(&program->lock);
    for (link = &program->spare; *link != NULL; link = &(*link)->next)
        if ((*link)->mode == mode && (*link)->lanes == lanes) {
            workspace = *link;
            *link = workspace->next;
            break;
        }
    pthread_mutex_unlock(&program->lock);
    *out = workspace;
    if (workspace != NULL) return ADVROB_OK;
    AR_TRY(ar_calloc(memory, 1, sizeof *workspace, "workspace", &block));
    workspace = block;
    workspace->program = program;
    workspace->plan = &program->plans[mode][lanes == 16];
    workspace->mode = mode;
    workspace->lanes = lanes;
    AR_TRY(ar_calloc(memory, 1, workspace->plan->size, "workspace", &block));
    workspace->memory = block;
    if (program->integers != NULL) {
        AR_TRY(ar_alloc(memory, program->model->ctx->integers->room(program->integers), "workspace",
                        &block));
        workspace->room = block;
    }
    *out = workspace;
    workspace = NULL;
out:
    if (workspace != NULL) ar_free(memory, workspace->memory);
    ar_free(memory, workspace);
    return status;
}

void ar_workspace_give(ar_workspace *workspace) {
    if (workspace == NULL) return;
    ar_program *program = workspace->program;
    workspace->norms = NULL;
    workspace->draws = NULL;
    workspace->seconds = NULL;
    pthread_mutex_lock(&program->lock);
    workspace->next = program->spare;
    program->spare = workspace;
    pthread_mutex_unlock(&program->lock);
}
