/* Compiling a model: which nodes become steps, what is fused, packed weights, workspaces. */
#include "program.h"

#include <string.h>

#include "op/op.h"

/* Fuses ReLUs and notes which step makes which value. */
static void make_steps(ar_program *program) {
    const advrob_model *model = program->model;
    for (int32_t i = 0; i < model->node_count; i++)
        program->producer[i] = -1;
    for (int32_t i = 1; i <= program->output; i++) {
        int32_t before = model->nodes[i].inputs[0];
        bool fused =
            program->producer[before] >= 0 && program->steps[program->producer[before]].value == i;
        if (fused) {
            program->producer[i] = program->producer[before];
            continue;
        }
        ar_step *step = &program->steps[program->count];
        int32_t relu = ar_model_fused_relu(model, i);
        step->relu = relu >= 0 && relu <= program->output;
        step->node = i;
        step->value = step->relu ? relu : i;
        step->masked = step->relu || model->nodes[step->value].output.bits > 0;
        step->gate[0] = step->gate[1] = step->cut = -1;
        program->producer[i] = program->count++;
    }
}

/* Inputs of a step that count: none when the result does not need the step. */
static int32_t users_inputs(const ar_program *program, int32_t t) {
    const ar_step *step = &program->steps[t];
    return step->used ? ar_node_inputs(&program->model->nodes[step->node]) : 0;
}

/* Who uses which value: accumulation order of gradients, and gates moved to the only user. */
static void connect_steps(ar_program *program) {
    const advrob_model *model = program->model;
    for (int32_t s = program->count - 1; s >= 0; s--) {
        int32_t users = 0, user = -1, slot = 0, value = program->steps[s].value;
        for (int32_t t = s + 1; t < program->count; t++)
            for (int32_t k = 0; k < users_inputs(program, t); k++)
                if (model->nodes[program->steps[t].node].inputs[k] == value) {
                    users++;
                    user = t;
                    slot = k;
                }
        ar_step *step = &program->steps[s];
        step->used = users > 0 || value == program->output;
        if (step->masked && users == 1 && value != program->output &&
            model->nodes[program->steps[user].node].op->fuses_gate) {
            step->gated = true;
            program->steps[user].gate[slot] = s;
        }
    }
    for (int32_t t = 0; t < program->count; t++)
        for (int32_t k = 0; k < ar_node_inputs(&model->nodes[program->steps[t].node]); k++) {
            int32_t value = model->nodes[program->steps[t].node].inputs[k];
            bool later = k > 0 && model->nodes[program->steps[t].node].inputs[0] == value;
            for (int32_t u = t + 1; u < program->count; u++)
                for (int32_t j = 0; j < users_inputs(program, u); j++)
                    later = later || model->nodes[program->steps[u].node].inputs[j] == value;
            program->steps[t].accumulate[k] = later;
        }
}

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
        step->norm = (ar_norm){
            .mean = program->effective + model->parameters[node->running_mean].offset,
            .scale = step->forward,
            .shift = program->effective + model->parameters[node->bias].offset,
        };
    }
out:
    return status;
}

static int32_t prepare_steps(ar_program *program) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = program->model;
    void *block;
    for (int32_t s = 0; s < program->count; s++) {
        ar_step *step = &program->steps[s];
        const ar_node *node = &model->nodes[step->node];
        ar_shape in[AR_MAX_INPUTS] = {{0}};
        for (int32_t k = 0; k < node->op->inputs; k++)
            in[k] = model->nodes[node->inputs[k]].shape;
        if (node->op->prepare != NULL)
            AR_TRY(node->op->prepare(&node->attributes, in, &node->shape, &program->arena,
                                     &step->prepared));
        if (node->op->pack == NULL) continue;
        size_t count = (size_t)model->parameters[node->weight].count;
        AR_TRY(ar_arena_alloc(&program->arena, count, sizeof(ar_real), "packed weights", &block));
        step->forward = block;
        AR_TRY(ar_arena_alloc(&program->arena, count, sizeof(ar_real), "packed weights", &block));
        step->backward = block;
    }
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)model->slab_count, sizeof(ar_real),
                          "parameters as run", &block));
    program->effective = block;
    AR_TRY(find_cuts(program));
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

int32_t ar_program_create(advrob_model *model, int32_t output, ar_program **out) {
    int32_t status = ADVROB_OK;
    ar_program *program = NULL;
    void *block = NULL;
    AR_TRY(ar_calloc(&model->ctx->memory, 1, sizeof *program, "compiled model", &block));
    program = block;
    program->model = model;
    program->kernels = model->ctx->kernels;
    program->output = output;
    pthread_mutex_init(&program->lock, NULL);
    ar_arena_init(&program->arena, &model->ctx->memory);
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)output + 1, sizeof(ar_step), "steps", &block));
    program->steps = block;
    AR_TRY(ar_arena_alloc(&program->arena, (size_t)model->node_count, sizeof(int32_t), "steps",
                          &block));
    program->producer = block;
    make_steps(program);
    connect_steps(program);
    AR_TRY(normalisation(program));
    AR_TRY(prepare_steps(program));
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
        ar_free(memory, program->spare->memory);
        ar_free(memory, program->spare);
        program->spare = next;
    }
    ar_arena_free(&program->arena);
    pthread_mutex_destroy(&program->lock);
    ar_free(memory, program);
}

static int32_t pack_step(void *arg, int64_t piece, int32_t worker) {
    ar_program *program = arg;
    const advrob_model *model = program->model;
    ar_step *step = &program->steps[piece];
    const ar_node *node = &model->nodes[step->node];
    (void)worker;
    const ar_real *values[AR_MAX_PARAMETERS] = {NULL};
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
        if (node->parameters[role] < 0) continue;
        const ar_parameter *p = &model->parameters[node->parameters[role]];
        ar_real *effective = program->effective + p->offset;
        if (role == AR_WEIGHT && node->weights.bits > 0)
            ar_quant_apply(&node->weights, p->count, model->slab + p->offset, effective);
        else
            memcpy(effective, model->slab + p->offset, sizeof(ar_real) * (size_t)p->count);
        values[role] = effective;
    }
    if (node->op->pack != NULL)
        node->op->pack(&node->attributes, &model->nodes[node->inputs[0]].shape, program->kernels,
                       values, step->forward, step->backward);
    return ADVROB_OK;
}

int32_t ar_program_update(ar_program *program) {
    if (program->version == program->model->version) return ADVROB_OK;
    int32_t status = ar_parallel(program->model->ctx, program->count, pack_step, NULL, program);
    if (status >= 0) program->version = program->model->version;
    return status;
}

int32_t ar_model_program(advrob_model *model, ar_program **out) {
    pthread_mutex_lock(&model->lock);
    int32_t status = ADVROB_OK;
    if (model->program == NULL)
        status = ar_program_create(model, ar_model_output(model), &model->program);
    else
        status = ar_program_update(model->program);
    *out = model->program;
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
    *out = workspace;
    workspace = NULL;
out:
    ar_free(memory, workspace);
    return status;
}

void ar_workspace_give(ar_workspace *workspace) {
    if (workspace == NULL) return;
    ar_program *program = workspace->program;
    workspace->norms = NULL;
    workspace->draws = NULL;
    pthread_mutex_lock(&program->lock);
    workspace->next = program->spare;
    program->spare = workspace;
    pthread_mutex_unlock(&program->lock);
}
