/* From a graph to steps: what is fused, who uses which value, where gradients are gated. */
#include <string.h>

#include "op/op.h"
#include "program.h"

/* The only user of a step's value so far, if it may be fused: part of the program, and no
 * quantization point between; or -1. */
static int32_t next_in_chain(const ar_program *program, const ar_step *step) {
    const advrob_model *model = program->model;
    int32_t user = ar_model_only_user(model, step->value);
    if (model->nodes[step->value].output.bits > 0 || user > program->output) return -1;
    return user;
}

static void fuse_norm(const ar_program *program, ar_step *step) {
    const ar_node *nodes = program->model->nodes;
    int32_t norm = ar_model_folded_norm(program->model, step->node);
    if (norm < 0 || norm != next_in_chain(program, step) || nodes[step->node].weights.bits > 0)
        return;
    step->norm = norm;
    step->value = norm;
}

/* The other term must be there when the step runs. */
static void fuse_residual(const ar_program *program, ar_step *step) {
    const ar_node *nodes = program->model->nodes;
    int32_t user = next_in_chain(program, step);
    if (user < 0 || !nodes[step->node].op->fuses_residual ||
        strcmp(nodes[user].op->name, "add") != 0)
        return;
    const int32_t *terms = nodes[user].inputs;
    int32_t other = terms[0] == step->value ? terms[1] : terms[0];
    if (other >= step->node) return;
    step->residual = step->input_count;
    step->inputs[step->input_count++] = other;
    step->value = user;
}

static void fuse_relu(const ar_program *program, ar_step *step) {
    const ar_node *nodes = program->model->nodes;
    int32_t user = next_in_chain(program, step);
    if (user < 0 || !nodes[step->node].op->fuses_relu || strcmp(nodes[user].op->name, "relu") != 0)
        return;
    step->relu = true;
    step->value = user;
}

static void fuse(ar_program *program, bool plain) {
    const advrob_model *model = program->model;
    for (int32_t i = 0; i < model->node_count; i++)
        program->producer[i] = -1;
    for (int32_t i = 1; i <= program->output; i++) {
        if (program->producer[i] >= 0) continue;
        const ar_node *node = &model->nodes[i];
        ar_step *step = &program->steps[program->count];
        *step = (ar_step){.node = i, .value = i, .norm = -1, .residual = -1, .cut = -1};
        step->input_count = ar_node_inputs(node);
        memcpy(step->inputs, node->inputs, sizeof(int32_t) * (size_t)step->input_count);
        if (!plain) {
            fuse_norm(program, step);
            fuse_residual(program, step);
        }
        fuse_relu(program, step);
        step->masked = step->relu || model->nodes[step->value].output.bits > 0;
        program->producer[i] = program->producer[step->value] = program->count;
        if (step->norm >= 0) program->producer[step->norm] = program->count;
        if (step->relu) program->producer[model->nodes[step->value].inputs[0]] = program->count;
        program->count++;
    }
}

bool ar_step_stops(const ar_program *program, int32_t s) {
    const ar_step *step = &program->steps[s];
    const ar_op *op = program->model->nodes[step->node].op;
    return step->used && (op->gradient != NULL || op->whole_batch);
}

static bool reads(const ar_step *step, int32_t value) {
    for (int32_t k = 0; k < step->input_count; k++)
        if (step->inputs[k] == value) return true;
    return false;
}

/* A value's first user is the last one to hand on a gradient to it: it can gate the sum. */
static void move_gate(ar_program *program, int32_t s) {
    const ar_step *step = &program->steps[s];
    int32_t t = s + 1;
    if (!step->masked || step->value == program->output) return;
    while (t < program->count &&
           !(program->steps[t].used && reads(&program->steps[t], step->value)))
        t++;
    if (t == program->count) return;
    ar_step *user = &program->steps[t];
    bool once = user->inputs[0] == step->value;
    for (int32_t k = 1; k < user->input_count; k++)
        once = once && user->inputs[k] != step->value;
    if (!once || !program->model->nodes[user->node].op->fuses_gate) return;
    program->steps[s].gated = true;
    user->gate[0] = s;
}

static void connect(ar_program *program) {
    for (int32_t s = program->count - 1; s >= 0; s--) {
        ar_step *step = &program->steps[s];
        step->used = step->value == program->output;
        for (int32_t t = s + 1; t < program->count && !step->used; t++)
            step->used = program->steps[t].used && reads(&program->steps[t], step->value);
        for (int32_t k = 0; k < AR_STEP_INPUTS; k++)
            step->gate[k] = -1;
    }
    for (int32_t s = 0; s < program->count; s++) {
        ar_step *step = &program->steps[s];
        move_gate(program, s);
        for (int32_t k = 0; k < step->input_count; k++) {
            for (int32_t j = 0; j < k; j++)
                if (step->inputs[j] == step->inputs[k]) step->accumulate[k] = true;
            for (int32_t t = s + 1; t < program->count; t++)
                if (program->steps[t].used && reads(&program->steps[t], step->inputs[k]))
                    step->accumulate[k] = true;
        }
    }
}

/* Whether the step behind s, and nothing else, reads its value, by windows whose rows do not
 * overlap. */
static bool pools_alone(const ar_program *program, int32_t s) {
    const advrob_model *model = program->model;
    const ar_step *step = &program->steps[s], *pool = step + 1;
    if (s + 1 == program->count || !step->used || step->residual >= 0) return false;
    const ar_node *node = &model->nodes[pool->node];
    const ar_attributes *window = &node->attributes;
    return node->op->pools && node->inputs[0] == step->value &&
           next_in_chain(program, step) == pool->node && window->padding[0] == 0 &&
           window->kernel[0] <= window->stride[0];
}

void ar_steps_fuse_pool(ar_program *program, int32_t s) {
    enum { LEAST_PIXELS = 64 }; /* of a band: what the kernels take at a time */
    ar_step *step = &program->steps[s];
    const ar_op *op = program->model->nodes[step->node].op;
    if (op->row_step == NULL || !pools_alone(program, s)) return;
    int32_t stride = program->model->nodes[step[1].node].attributes.stride[0], unit = stride;
    while (unit % op->row_step(&step->setup, step->prepared) != 0)
        unit += stride;
    int32_t rows = unit;
    while (rows < step->setup.out.h && rows * step->setup.out.w < LEAST_PIXELS)
        rows += unit;
    if (step->setup.out.h / rows > 1) step->band = rows;
}

int32_t ar_step_bands(const ar_step *step) {
    return step->setup.out.h / step->band;
}

ar_span ar_step_band(const ar_step *step, int32_t i) {
    int32_t last = i + 1 == ar_step_bands(step);
    return (ar_span){i * step->band, last ? step->setup.out.h : (i + 1) * step->band};
}

bool ar_step_follows(const ar_program *program, int32_t s) {
    return s > 0 && program->steps[s - 1].band > 0;
}

void ar_steps_make(ar_program *program, bool plain) {
    fuse(program, plain);
    connect(program);
}
