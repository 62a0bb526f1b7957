/* The memory plan of a tile: every buffer has a first and a last moment, and buffers that never
 * live at once share room. Largest first into the lowest gap that fits. */
#include <string.h>

#include "program.h"

/* A buffer with its life, in moments: 0 loads the input, step s runs forward at 1 + s and backward
 * at 2 n + 2 - s, and the input's gradient leaves at 2 n + 3. */
typedef struct buffer {
    int32_t first, last;
    size_t size, *offset;
} buffer;

typedef struct planner {
    const ar_program *program;
    int32_t mode, lanes, end;
    buffer *buffers;
    int32_t count;
} planner;

/* A pooling that follows a layer runs with it. */
static int32_t forward_moment(const planner *p, int32_t step) {
    return 1 + step - ar_step_follows(p->program, step);
}

static int32_t backward_moment(const planner *p, int32_t step) {
    return 2 * p->program->count + 2 - step;
}

static void add(planner *p, size_t bytes, int32_t first, int32_t last, size_t *offset) {
    size_t size = 0;
    ar_align_up(bytes, &size);
    p->buffers[p->count++] = (buffer){first, last, size, offset};
}

static size_t value_bytes(const planner *p, int32_t node) {
    return (size_t)ar_shape_count(p->program->model->nodes[node].shape) * (size_t)p->lanes *
           sizeof(ar_real);
}

static bool has_gradient(const ar_program *program, int32_t step) {
    return program->model->nodes[program->steps[step].node].op->gradient != NULL;
}

/* Training's weight gradients read a step's gradient while tiles go on to the next stop: until then
 * nobody may write what shares its buffer. */
static bool stays_until_stop(const ar_program *program, int32_t s) {
    int32_t value = program->steps[s].inputs[program->steps[s].residual];
    const ar_step *from = &program->steps[program->producer[value]];
    return s > 0 && ar_step_stops(program, s - 1) && (!from->masked || from->gated);
}

/* A step that is the first to write the gradient of what it adds hands its own buffer on. */
static bool shares_gradient(const planner *p, int32_t s) {
    const ar_step *step = &p->program->steps[s];
    if (p->mode == AR_RUN_FORWARD || !step->used || step->residual < 0) return false;
    if (step->accumulate[step->residual] || step->inputs[step->residual] == 0) return false;
    return p->mode != AR_RUN_TRAIN || stays_until_stop(p->program, s);
}

/* The last moment in which weight gradients of the step may be summed: before the next stop below
 * is left. */
static int32_t gradient_moment(const planner *p, int32_t s) {
    for (int32_t t = s - 1; t >= 0; t--)
        if (ar_step_stops(p->program, t)) return backward_moment(p, t + 1);
    return p->end;
}

/* Backward of a batch norm with batch statistics reads its input. */
static bool reads_input(const planner *p, int32_t step) {
    return p->mode >= AR_RUN_BATCH_GRADIENT && p->program->steps[step].cut >= 0;
}

/* What is there of a step's value (-1: the input) at a time. */
static size_t present_bytes(const planner *p, int32_t s) {
    const ar_step *step = &p->program->steps[s < 0 ? 0 : s];
    if (s < 0 || step->band == 0) return value_bytes(p, s < 0 ? 0 : step->value);
    ar_span last = ar_step_band(step, ar_step_bands(step) - 1); /* the longest */
    size_t rows = (size_t)(last.end - last.begin);
    return value_bytes(p, step->value) / (size_t)step->setup.out.h * rows;
}

/* The value of a step (-1: the input) and its gradient. */
static void add_value(planner *p, int32_t step, ar_plan *plan) {
    const ar_program *program = p->program;
    int32_t node = step < 0 ? 0 : program->steps[step].value;
    int32_t first = forward_moment(p, step), last = first, last_user = -1, read = -1, kept = -1;
    if (step >= 0 && !program->steps[step].used) return;
    for (int32_t t = step + 1; t < program->count; t++) {
        const ar_step *user = &program->steps[t];
        for (int32_t k = 0; k < user->input_count && user->used; k++)
            if (user->inputs[k] == node) {
                last = forward_moment(p, t);
                last_user = t;
                if (kept < 0 && k == 0 && p->mode == AR_RUN_TRAIN && has_gradient(program, t))
                    kept = gradient_moment(p, t);
                if (read < 0 && reads_input(p, t)) read = backward_moment(p, t);
            }
    }
    bool result = node == program->output;
    if (result) last = program->count + 1;
    if (read >= 0 && p->mode == AR_RUN_INPUT_GRADIENT) read = p->end;
    if (read > last) last = read;
    if (kept > last) last = kept;
    add(p, present_bytes(p, step), first, last, &plan->value[node]);
    if (p->mode == AR_RUN_FORWARD || (!result && last_user < 0)) return;
    int32_t born = result ? program->count + 2 : backward_moment(p, last_user);
    int32_t heir = step; /* the last that has its gradient in this buffer */
    if (last_user >= 0 && plan->shared[last_user] &&
        program->steps[last_user].inputs[program->steps[last_user].residual] == node)
        return;
    while (heir >= 0 && plan->shared[heir])
        heir = program->producer[program->steps[heir].inputs[program->steps[heir].residual]];
    int32_t dead = heir < 0 ? p->end : backward_moment(p, heir);
    if (p->mode == AR_RUN_TRAIN && heir >= 0 && has_gradient(program, heir))
        dead = gradient_moment(p, heir);
    add(p, value_bytes(p, node), born, dead, &plan->gradient[node]);
}

/* What a step notes for its way back. An attack may go back several times after one forward. */
static int32_t kept_until(const planner *p, int32_t s) {
    return p->mode == AR_RUN_INPUT_GRADIENT ? p->end : backward_moment(p, s);
}

static void add_state(planner *p, int32_t s, ar_plan *plan) {
    const ar_step *step = &p->program->steps[s];
    const ar_node *node = &p->program->model->nodes[step->node];
    if (!step->used) return;
    /* Max pooling notes its choice also in a forward without backward. */
    if (node->op->state_size != NULL)
        add(p, node->op->state_size(&node->shape, p->lanes), forward_moment(p, s),
            p->mode == AR_RUN_FORWARD ? forward_moment(p, s) : kept_until(p, s), &plan->state[s]);
    if (step->masked && p->mode != AR_RUN_FORWARD)
        add(p, value_bytes(p, step->value) / sizeof(ar_real) / 8, forward_moment(p, s),
            kept_until(p, s), &plan->mask[s]);
    for (int32_t backward = 0; backward < 2 && node->op->scratch_size != NULL; backward++) {
        int32_t moment = backward ? backward_moment(p, s) : forward_moment(p, s);
        size_t size = node->op->scratch_size(&step->setup, step->prepared, p->lanes, backward);
        if (size > 0 && (!backward || p->mode != AR_RUN_FORWARD))
            add(p, size, moment, moment, &plan->scratch[backward][s]);
    }
}

/* Offset of buffer i among those already placed (0 .. i-1). */
static size_t place(const planner *p, int32_t i) {
    size_t at = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (int32_t j = 0; j < i; j++) {
            const buffer *other = &p->buffers[j];
            bool together =
                other->first <= p->buffers[i].last && p->buffers[i].first <= other->last;
            bool overlap =
                *other->offset < at + p->buffers[i].size && at < *other->offset + other->size;
            if (together && overlap && *other->offset + other->size > at) {
                at = *other->offset + other->size;
                moved = true;
            }
        }
    }
    return at;
}

static void sort_by_size(buffer *buffers, int32_t count) {
    for (int32_t i = 1; i < count; i++) { /* stable, and as short as the list is */
        buffer one = buffers[i];
        int32_t k = i;
        for (; k > 0 && buffers[k - 1].size < one.size; k--)
            buffers[k] = buffers[k - 1];
        buffers[k] = one;
    }
}

static int32_t offsets(ar_arena *arena, int32_t count, size_t **out) {
    void *block;
    int32_t status = ar_arena_alloc(arena, (size_t)count, sizeof(size_t), "memory plan", &block);
    if (status < 0) return status;
    *out = block;
    for (int32_t i = 0; i < count; i++)
        (*out)[i] = SIZE_MAX;
    return ADVROB_OK;
}

int32_t ar_plan_create(const ar_program *program, int32_t mode, int32_t lanes, ar_arena *arena,
                       ar_plan *plan) {
    int32_t status = ADVROB_OK, steps = program->count, nodes = program->model->node_count;
    void *block = NULL;
    planner p = {program, mode, lanes, 2 * steps + 3, NULL, 0};
    ar_memory *memory = &program->model->ctx->memory;
    AR_TRY(offsets(arena, nodes, &plan->value));
    AR_TRY(offsets(arena, nodes, &plan->gradient));
    AR_TRY(offsets(arena, steps + 1, &plan->state));
    AR_TRY(offsets(arena, steps + 1, &plan->mask));
    AR_TRY(offsets(arena, steps, &plan->scratch[0]));
    AR_TRY(offsets(arena, steps, &plan->scratch[1]));
    AR_TRY(ar_arena_alloc(arena, (size_t)steps, sizeof(bool), "memory plan", &block));
    bool *shared = block;
    plan->shared = shared;
    block = NULL;
    AR_TRY(ar_calloc(memory, 6 * ((size_t)steps + 1), sizeof(buffer), "memory plan", &block));
    p.buffers = block;
    for (int32_t s = 0; s < steps; s++)
        shared[s] = shares_gradient(&p, s);
    for (int32_t s = -1; s < steps; s++)
        add_value(&p, s, plan);
    for (int32_t s = 0; s < steps; s++)
        add_state(&p, s, plan);
    if (program->model->nodes[0].output.bits > 0 && mode != AR_RUN_FORWARD)
        add(&p, value_bytes(&p, 0) / sizeof(ar_real) / 8, 0, p.end, &plan->mask[steps]);
    sort_by_size(p.buffers, p.count);
    plan->size = 0;
    for (int32_t i = 0; i < p.count; i++) {
        *p.buffers[i].offset = place(&p, i);
        if (*p.buffers[i].offset + p.buffers[i].size > plan->size)
            plan->size = *p.buffers[i].offset + p.buffers[i].size;
    }
    for (int32_t s = steps - 1; s >= 0; s--) {
        const ar_step *step = &program->steps[s];
        if (plan->shared[s])
            plan->gradient[step->inputs[step->residual]] = plan->gradient[step->value];
    }
out:
    ar_free(memory, block);
    return status;
}
