/* The executor: answers that do not depend on the batch, the position, the threads or the memory
 * plan; nothing allocated in the steady state; nodes that are cut off or dead. */
#include "support/support.h"

#include "model/oracle.h"
#include "model/program.h"
#include "support/backward.h"
#include "support/golden.h"

#include "support/tangle.h"

/* ---- batch independence ---- */

enum { LARGEST = 64 };

/* One image's logits, logits by ar_program_forward, loss and pixel gradient, for the image at
 * position `at` of a batch of n copies of others. */
typedef struct answer {
    float logits[16], direct[16], dx[2048];
    double loss;
} answer;

static void ask(advrob_model *model, int64_t n, int64_t at, const float *others, const float *image,
                answer *a) {
    int64_t size = ar_shape_count(model->nodes[0].shape), classes = ar_model_classes(model);
    float *x = malloc(sizeof(float) * (size_t)(n * size)), *dx = malloc(sizeof(float) * n * size);
    float *logits = malloc(sizeof(float) * (size_t)(n * classes));
    double losses[LARGEST];
    int32_t y[LARGEST];
    advrob_target *target;
    ar_program *program;
    memcpy(x, others, sizeof(float) * (size_t)(n * size));
    memcpy(x + at * size, image, sizeof(float) * (size_t)size);
    for (int64_t i = 0; i < n; i++)
        y[i] = (int32_t)(i % classes);
    y[at] = 1;
    memset(a, 0, sizeof *a);
    test_ok(ar_model_program(model, false, &program));
    test_ok(ar_program_forward(program, n, x, logits));
    memcpy(a->direct, logits + at * classes, sizeof(float) * (size_t)classes);
    test_ok(ar_target_from_model(model, &target));
    test_ok(ar_target_forward(target, n, x, logits));
    memcpy(a->logits, logits + at * classes, sizeof(float) * (size_t)classes);
    test_ok(ar_target_loss_gradient(target, "ce", n, x, y, losses, dx));
    memcpy(a->dx, dx + at * size, sizeof(float) * (size_t)size);
    a->loss = losses[at];
    ar_target_release(target);
    free(x);
    free(dx);
    free(logits);
}

static int32_t check_positions(const char *net, const ar_kernels *kernels, const answer *reference,
                               int32_t threads, answer *first) {
    static const int64_t sizes[] = {1, 7, 8, 9, 16, 17, 64};
    advrob_context *ctx = test_context_at(NULL, threads, kernels);
    advrob_model *model = test_net(ctx, net);
    int64_t size = ar_shape_count(model->nodes[0].shape);
    float *others = test_images(LARGEST, size, 5), *image = test_images(1, size, 6);
    int32_t asked = 0;
    assert_true(size <= 2048 && ar_model_classes(model) <= 16);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int64_t at = 0; at < sizes[s]; at += sizes[s] < 20 ? 1 : 5) {
            answer a;
            ask(model, sizes[s], at, others, image, &a);
            if (reference == NULL && asked == 0) *first = a;
            if (memcmp(&a, first, sizeof a) != 0)
                fail_msg("%s, %s, %d threads: image %d of %d differs from itself alone", net,
                         kernels->name, threads, (int)at, (int)sizes[s]);
            asked++;
        }
    free(others);
    free(image);
    ar_model_release(model);
    ar_context_release(ctx);
    return asked;
}

static void test_batch_independence(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny",   "tiny_residual", "tiny_batch_norm",
                                       "tangle", "pooled",        "grouped"};
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), asked = 0;
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++)
        for (int32_t i = 0; i < count; i++) {
            answer first;
            for (int32_t threads = 1; threads <= 3; threads++)
                asked += check_positions(nets[n], tables[i], threads == 1 ? NULL : &first, threads,
                                         &first);
            assert_memory_equal(first.logits, first.direct, sizeof first.logits);
            assert_true(first.loss > 0 && first.dx[3] != 0);
        }
    print_message("%d answers\n", asked);
    assert_true(asked > 100 * count);
}

/* ---- steady state ---- */

static void test_steady_state(void **state) {
    (void)state;
    static test_allocator allocator;
    for (int32_t threads = 1; threads <= 3; threads++) {
        advrob_context *ctx =
            test_context_at(&allocator, threads, ar_kernels_get(ar_cpu_detect(), false));
        advrob_model *model = test_net(ctx, "tangle");
        int64_t size = ar_shape_count(model->nodes[0].shape);
        float *x = test_images(LARGEST, size, 1), out[LARGEST * 5];
        ar_program *program;
        ar_workspace *all[3];
        test_ok(ar_model_program(model, false, &program));
        for (int32_t i = 0; i < threads; i++) /* as if every worker had had a tile */
            test_ok(ar_workspace_take(program, AR_RUN_FORWARD, 16, &all[i]));
        for (int32_t i = 0; i < threads; i++)
            ar_workspace_give(all[i]);
        uint64_t calls = 0, used = 0;
        for (int32_t run = 0; run < 50; run++) {
            test_ok(ar_program_forward(program, LARGEST, x, out));
            ar_program_update(program);
            if (run == 2) {
                calls = ctx->memory.calls;
                used = ctx->memory.used;
            }
        }
        assert_true(calls > 0 && ctx->memory.calls == calls && ctx->memory.used == used);
        test_ok(ar_program_forward(program, 3, x, out)); /* 8 lanes: a new workspace */
        assert_true(ctx->memory.calls == calls + 2);
        free(x);
        ar_model_release(model);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
}

/* ---- memory plans ---- */

/* More than any pass of the nets here wants for itself. */
static size_t largest_scratch(const ar_program *program) {
    size_t largest = 0;
    for (int32_t s = 0; s < program->count; s++) {
        const ar_step *step = &program->steps[s];
        const ar_op *op = program->model->nodes[step->node].op;
        for (int32_t backward = 0; backward < 2 && op->scratch_size != NULL; backward++) {
            size_t size = op->scratch_size(&step->setup, step->prepared, 16, backward == 1);
            if (size > largest) largest = size;
        }
    }
    return largest;
}

/* A plan with the same buffers, each with room of its own. */
static ar_plan unshared(const ar_program *program, const ar_plan *plan, size_t *store) {
    int32_t nodes = program->model->node_count, steps = program->count;
    enum { KINDS = 6 };
    static const bool nothing_shared[64];
    size_t largest = largest_scratch(program), *next = store;
    const size_t *const from[KINDS] = {plan->value, plan->gradient,   plan->state,
                                       plan->mask,  plan->scratch[0], plan->scratch[1]};
    const int32_t counts[KINDS] = {nodes, nodes, steps + 1, steps + 1, steps, steps};
    size_t *to[KINDS];
    assert_true(steps <= 64);
    ar_plan own = {.size = 0};
    for (int32_t i = 0; i < nodes; i++) {
        size_t bytes =
            (size_t)ar_shape_count(program->model->nodes[i].shape) * 16 * sizeof(ar_real);
        if (bytes > largest) largest = bytes;
    }
    for (int32_t kind = 0; kind < KINDS; kind++) {
        to[kind] = next;
        next += counts[kind];
        for (int32_t i = 0; i < counts[kind]; i++) {
            to[kind][i] = SIZE_MAX;
            if (from[kind][i] == SIZE_MAX) continue;
            to[kind][i] = own.size;
            own.size += (largest + 63) / 64 * 64;
        }
    }
    own.value = to[0];
    own.gradient = to[1];
    own.state = to[2];
    own.mask = to[3];
    own.scratch[0] = to[4];
    own.scratch[1] = to[5];
    own.shared = nothing_shared;
    return own;
}

/* Everything that a run of one tile gives. */
static size_t run_tile(ar_workspace *w, int32_t count, const float *x, const float *dout,
                       uint8_t *result) {
    const ar_program *program = w->program;
    const advrob_model *model = program->model;
    size_t outputs = (size_t)ar_shape_count(model->nodes[program->output].shape) * sizeof(float);
    size_t pixels = (size_t)ar_shape_count(model->nodes[0].shape) * sizeof(float);
    size_t slab = (size_t)model->slab_count * sizeof(ar_real), used = outputs * (size_t)count;
    memset(w->memory, 0xff, w->plan->size); /* NaN, should something be read that was not made */
    ar_run_forward(w, count, x, (float *)(void *)result);
    if (w->mode == AR_RUN_FORWARD) return used;
    float *dx = (float *)(void *)(result + used);
    used += pixels * (size_t)count;
    if (w->mode < AR_RUN_TRAIN) {
        ar_run_backward(w, dout, dx);
        return used;
    }
    memset(result + used, 0, slab);
    test_backward(&w, 1, &dout, &dx, (ar_real *)(void *)(result + used));
    return used + slab;
}

static int32_t finite_floats(const uint8_t *bytes, size_t size) {
    int32_t wrong = 0;
    for (size_t i = 0; i < size / sizeof(float); i++) {
        float value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        wrong += !isfinite(value);
    }
    return wrong;
}

static size_t check_plan(ar_program *program, int32_t mode, int32_t lanes) {
    enum { ROOM = 1 << 20 };
    ar_workspace *w, own;
    size_t *store = calloc(6 * ((size_t)program->model->node_count + 1), sizeof(size_t));
    int64_t size = ar_shape_count(program->model->nodes[0].shape);
    int64_t outputs = ar_shape_count(program->model->nodes[program->output].shape);
    float *x = test_images(lanes, size, 7), *dout = test_images(lanes, outputs, 8);
    uint8_t *a = calloc(ROOM, 1), *b = calloc(ROOM, 1);
    void *memory = NULL;
    test_ok(ar_workspace_take(program, mode, lanes, &w));
    ar_plan plan = unshared(program, w->plan, store);
    own = *w;
    own.plan = &plan;
    assert_int_equal(posix_memalign(&memory, 64, plan.size), 0);
    own.memory = memory;
    assert_true(plan.size >= w->plan->size &&
                w->plan->size == ar_workspace_size(program, mode, lanes));
    for (int32_t count = lanes - 3; count <= lanes; count += 3) {
        size_t n = run_tile(w, count, x, dout, a), m = run_tile(&own, count, x, dout, b);
        assert_true(n == m && n > 0 && n <= ROOM);
        if (memcmp(a, b, n) != 0)
            fail_msg("mode %d, %d lanes: sharing changes results", mode, lanes);
        assert_int_equal(finite_floats(a, n), 0);
    }
    size_t shared = w->plan->size;
    ar_workspace_give(w);
    free(memory);
    free(store);
    free(x);
    free(dout);
    free(a);
    free(b);
    return shared;
}

static void test_plans(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny",   "tiny_residual", "tiny_batch_norm", "tangle",
                                       "pooled", "grouped",       "eight_layer_conv"};
    advrob_context *ctx = test_context(1);
    int32_t checked = 0;
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *model = test_net(ctx, nets[n]);
        bool large = strcmp(nets[n], "eight_layer_conv") == 0;
        int32_t first = large ? ar_model_output(model) : 0;
        for (int32_t i = 2 * first; i < 2 * model->node_count; i++) {
            int32_t output = i / 2; /* cut off after every node, fused and plain */
            ar_program *program;
            test_ok(ar_program_create(model, output, i % 2 == 1, &program));
            for (int32_t lanes = 8; lanes <= 16; lanes += 8) {
                if (large) continue;
                for (int32_t mode = 0; mode < AR_RUN_MODES; mode++, checked++)
                    check_plan(program, mode, lanes);
            }
            if (output == ar_model_output(model))
                for (int32_t lanes = 8; lanes <= 16; lanes += 8) {
                    size_t forward = ar_workspace_size(program, AR_RUN_FORWARD, lanes);
                    size_t input = ar_workspace_size(program, AR_RUN_INPUT_GRADIENT, lanes);
                    size_t train = ar_workspace_size(program, AR_RUN_TRAIN, lanes);
                    assert_true(train > input && input > forward && forward > 0);
                }
            ar_program_destroy(program);
        }
        ar_model_release(model);
    }
    print_message("%d plans\n", checked);
    assert_true(checked > 100);
    ar_context_release(ctx);
}

/* ---- poolings that follow their layers ---- */

/* Everything that a tile gives, with poolings fused and without: the same bits. The number of
 * layers that were fused with theirs. */
static int32_t check_pooled(advrob_model *model) {
    enum { ROOM = 1 << 20 };
    static uint8_t results[2][ROOM];
    int64_t size = ar_shape_count(model->nodes[0].shape);
    float *x = test_images(16, size, 7), *dout = test_images(16, ar_model_classes(model), 8);
    ar_program *programs[2];
    int32_t fused = 0;
    for (int32_t plain = 0; plain < 2; plain++)
        test_ok(ar_program_create(model, ar_model_output(model), plain, &programs[plain]));
    for (int32_t s = 0; s < programs[0]->count; s++) {
        fused += programs[0]->steps[s].band > 0;
        assert_int_equal(programs[1]->steps[s].band, 0);
    }
    for (int32_t lanes = 8; lanes <= 16; lanes += 8)
        for (int32_t mode = 0; mode < AR_RUN_MODES; mode++) {
            ar_workspace *w[2];
            size_t used[2];
            for (int32_t plain = 0; plain < 2; plain++) {
                test_ok(ar_workspace_take(programs[plain], mode, lanes, &w[plain]));
                used[plain] = run_tile(w[plain], lanes - 3, x, dout, results[plain]);
            }
            assert_true(used[0] == used[1] && used[0] > 0 && used[0] <= ROOM);
            if (memcmp(results[0], results[1], used[0]) != 0)
                fail_msg("mode %d, %d lanes: fused poolings change results", mode, lanes);
            if (mode == AR_RUN_FORWARD && fused > 0)
                assert_true(w[0]->plan->size < w[1]->plan->size);
            for (int32_t plain = 0; plain < 2; plain++)
                ar_workspace_give(w[plain]);
        }
    for (int32_t plain = 0; plain < 2; plain++)
        ar_program_destroy(programs[plain]);
    free(x);
    free(dout);
    return fused;
}

static void test_pooled(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), fused = 0, nets = 0;
    for (int32_t i = 0; i < count; i++)
        for (int32_t winograd = 0; winograd <= 4; winograd += 2)
            for (int32_t stride = 1; stride <= 4; stride++)
                for (int32_t rows = 1; rows <= stride + 1; rows++, nets++) {
                    advrob_context *ctx = test_context_at(NULL, 1, tables[i]);
                    ctx->winograd = winograd;
                    advrob_model *model = pooled_build(ctx, rows, stride);
                    int32_t found = check_pooled(model);
                    assert_true(rows <= stride ? found > 0 : found == 0); /* no rows are shared */
                    fused += found;
                    ar_model_release(model);
                    ar_context_release(ctx);
                }
    print_message("%d layers fused with their poolings in %d nets\n", fused, nets);
}

/* A program cut off at an inner node gives the values that the whole one passes on. */
static void test_inner_node(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = test_net(ctx, "tiny");
    ar_program *conv, *relu;
    float *x = test_images(5, 64, 2), before[5 * 4 * 64], after[5 * 4 * 64];
    int32_t negative = 0;
    test_ok(ar_program_create(model, ar_model_find_node(model, "conv1"), false, &conv));
    test_ok(ar_program_create(model, ar_model_find_node(model, "relu1"), false, &relu));
    assert_true(!conv->steps[0].relu && relu->steps[0].relu);
    test_ok(ar_program_forward(conv, 5, x, before));
    test_ok(ar_program_forward(relu, 5, x, after));
    for (int32_t i = 0; i < 5 * 4 * 64; i++) {
        negative += before[i] < 0;
        assert_true(after[i] == (before[i] < 0 ? 0 : before[i]));
    }
    assert_true(negative > 100);
    ar_program_destroy(conv);
    ar_program_destroy(relu);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* Dead nodes cost nothing and change nothing. */
static void test_dead_branch(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *lean = tangle_build(ctx, false), *fat = tangle_build(ctx, true);
    ar_program *programs[2];
    int32_t pieces[2] = {0};
    float *x = test_images(9, 128, 3), out[2][9 * 5];
    for (int32_t i = 0; i < fat->parameter_count; i++) { /* by shape: names have shifted */
        ar_parameter *p = &fat->parameters[i];
        for (int64_t k = 0; k < p->count; k++)
            fat->slab[p->offset + k] = 0.01f * (float)((k + i) % 17) - 0.05f;
    }
    int32_t from = 0;
    for (int32_t i = 0; i < lean->parameter_count; i++, from++) {
        if (fat->parameters[from].node == ar_model_find_node(fat, "n16")) from += 2;
        assert_true(fat->parameters[from].count == lean->parameters[i].count);
        memcpy(lean->slab + lean->parameters[i].offset, fat->slab + fat->parameters[from].offset,
               sizeof(ar_real) * (size_t)lean->parameters[i].count);
    }
    ar_model_changed(lean);
    ar_model_changed(fat);
    test_ok(ar_model_program(lean, false, &programs[0]));
    test_ok(ar_model_program(fat, false, &programs[1]));
    for (int32_t i = 0; i < 2; i++)
        test_ok(ar_program_forward(programs[i], 9, x, out[i]));
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_true(out[0][0] != 0 && out[0][0] != out[0][5]);
    for (int32_t mode = 0; mode < AR_RUN_MODES; mode++)
        assert_true(ar_workspace_size(programs[0], mode, 8) ==
                    ar_workspace_size(programs[1], mode, 8));
    for (int32_t i = 0; i < 2; i++)
        for (int32_t s = 0; s < programs[i]->count; s++)
            pieces[i] += ar_run_gradient_pieces(programs[i], s);
    assert_true(pieces[0] > 0 && pieces[0] == pieces[1]);
    free(x);
    ar_model_release(lean);
    ar_model_release(fat);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_pooled),
        cmocka_unit_test(test_inner_node),
        cmocka_unit_test(test_dead_branch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
