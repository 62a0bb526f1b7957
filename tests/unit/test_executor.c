/* The executor: answers that do not depend on the batch, the position, the threads or the memory
 * plan; nothing allocated in the steady state; quantized graphs; limits. */
#include "support/support.h"

#include "model/oracle.h"
#include "support/golden.h"

#include "support/batch.h"
#include "support/tangle.h"
#include "tolerance.h"

static advrob_model *open_zoo(advrob_context *ctx, const char *name) {
    advrob_model *model = NULL;
    if (strcmp(name, "tangle") == 0) return tangle_build(ctx, true);
    test_ok(ar_zoo_build(ctx, name, NULL, &model));
    return model;
}

static float *random_images(int64_t n, int64_t image, int64_t seed) {
    float *x = malloc(sizeof(float) * (size_t)(n * image));
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < n * image; i++)
        x[i] = ar_rng_uniform(&rng);
    return x;
}

static advrob_context *context_at(test_allocator *allocator, int32_t threads,
                                  const ar_kernels *kernels) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = kernels;
    return ctx;
}

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
    test_ok(ar_model_program(model, &program));
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
    advrob_context *ctx = context_at(NULL, threads, kernels);
    advrob_model *model = open_zoo(ctx, net);
    int64_t size = ar_shape_count(model->nodes[0].shape);
    float *others = random_images(LARGEST, size, 5), *image = random_images(1, size, 6);
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
    static const char *const nets[] = {"tiny", "tiny_residual", "tangle"};
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
        advrob_context *ctx = context_at(&allocator, threads, ar_kernels_get(ar_cpu_detect(), false));
        advrob_model *model = open_zoo(ctx, "tangle");
        int64_t size = ar_shape_count(model->nodes[0].shape);
        float *x = random_images(LARGEST, size, 1), out[LARGEST * 5];
        ar_program *program;
        ar_workspace *all[3];
        test_ok(ar_model_program(model, &program));
        for (int32_t i = 0; i < threads; i++) /* as if every worker had had a tile */
            test_ok(ar_workspace_take(program, AR_RUN_FORWARD, 16, &all[i]));
        for (int32_t i = 0; i < threads; i++)
            ar_workspace_give(all[i]);
        uint64_t calls = 0, used = 0;
        for (int32_t run = 0; run < 50; run++) {
            test_ok(ar_program_forward(program, LARGEST, x, out));
            test_ok(ar_program_update(program));
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

/* A plan with the same buffers, each with room of its own. */
static ar_plan unshared(const ar_program *program, const ar_plan *plan, size_t *store) {
    int32_t nodes = program->model->node_count, steps = program->count;
    size_t largest = 0, *next = store;
    const size_t *const from[4] = {plan->value, plan->gradient, plan->state, plan->mask};
    const int32_t counts[4] = {nodes, nodes, steps + 1, steps + 1};
    size_t *to[4];
    ar_plan own = {.size = 0};
    for (int32_t i = 0; i < nodes; i++) {
        size_t bytes = (size_t)ar_shape_count(program->model->nodes[i].shape) * 16 * sizeof(ar_real);
        if (bytes > largest) largest = bytes;
    }
    for (int32_t kind = 0; kind < 4; kind++) {
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
    ar_run_backward(w, dout, (float *)(void *)(result + used));
    used += pixels * (size_t)count;
    if (w->mode == AR_RUN_INPUT_GRADIENT) return used;
    ar_real *scratch = calloc(slab + 1, 1);
    memset(result + used, 0, slab);
    for (int64_t i = 0; i < ar_run_gradient_pieces(program); i++)
        ar_run_gradient_piece(&w, 1, i, scratch, (ar_real *)(void *)(result + used));
    free(scratch);
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
    size_t *store = calloc(4 * ((size_t)program->model->node_count + 1), sizeof(size_t));
    int64_t size = ar_shape_count(program->model->nodes[0].shape);
    int64_t outputs = ar_shape_count(program->model->nodes[program->output].shape);
    float *x = random_images(lanes, size, 7), *dout = random_images(lanes, outputs, 8);
    uint8_t *a = calloc(ROOM, 1), *b = calloc(ROOM, 1);
    void *memory = NULL;
    test_ok(ar_workspace_take(program, mode, lanes, &w));
    ar_plan plan = unshared(program, w->plan, store);
    own = *w;
    own.plan = &plan;
    assert_int_equal(posix_memalign(&memory, 64, plan.size), 0);
    own.memory = memory;
    assert_true(plan.size >= w->plan->size && w->plan->size == ar_workspace_size(program, mode, lanes));
    for (int32_t count = lanes - 3; count <= lanes; count += 3) {
        size_t n = run_tile(w, count, x, dout, a), m = run_tile(&own, count, x, dout, b);
        assert_true(n == m && n > 0 && n <= ROOM);
        if (memcmp(a, b, n) != 0) fail_msg("mode %d, %d lanes: sharing changes results", mode, lanes);
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
    static const char *const nets[] = {"tiny", "tiny_residual", "tangle", "eight_layer_conv"};
    advrob_context *ctx = test_context(1);
    int32_t checked = 0;
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *model = open_zoo(ctx, nets[n]);
        for (int32_t output = n == 3 ? ar_model_output(model) : 0; output < model->node_count;
             output++) { /* cut off after every node */
            ar_program *program;
            test_ok(ar_program_create(model, output, &program));
            for (int32_t lanes = 8; lanes <= 16; lanes += 8) {
                if (n == 3) continue;
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

/* A program cut off at an inner node gives the values that the whole one passes on. */
static void test_inner_node(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = open_zoo(ctx, "tiny");
    ar_program *conv, *relu;
    float *x = random_images(5, 64, 2), before[5 * 4 * 64], after[5 * 4 * 64];
    int32_t negative = 0;
    test_ok(ar_program_create(model, ar_model_find_node(model, "conv1"), &conv));
    test_ok(ar_program_create(model, ar_model_find_node(model, "relu1"), &relu));
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
    float *x = random_images(9, 128, 3), out[2][9 * 5];
    for (int32_t i = 0; i < fat->parameter_count; i++) { /* by shape: names have shifted */
        ar_parameter *p = &fat->parameters[i];
        for (int64_t k = 0; k < p->count; k++)
            fat->slab[p->offset + k] = 0.01f * (float)((k + i) % 17) - 0.05f;
    }
    int32_t from = 0;
    for (int32_t i = 0; i < lean->parameter_count; i++, from++) {
        if (fat->parameters[from].node == ar_model_find_node(fat, "n14")) from += 2;
        assert_true(fat->parameters[from].count == lean->parameters[i].count);
        memcpy(lean->slab + lean->parameters[i].offset, fat->slab + fat->parameters[from].offset,
               sizeof(ar_real) * (size_t)lean->parameters[i].count);
    }
    ar_model_changed(lean);
    ar_model_changed(fat);
    test_ok(ar_model_program(lean, &programs[0]));
    test_ok(ar_model_program(fat, &programs[1]));
    for (int32_t i = 0; i < 2; i++)
        test_ok(ar_program_forward(programs[i], 9, x, out[i]));
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_true(out[0][0] != 0 && out[0][0] != out[0][5]);
    for (int32_t mode = 0; mode < AR_RUN_MODES; mode++)
        assert_true(ar_workspace_size(programs[0], mode, 8) == ar_workspace_size(programs[1], mode, 8));
    assert_true(ar_run_gradient_pieces(programs[0]) == ar_run_gradient_pieces(programs[1]));
    free(x);
    ar_model_release(lean);
    ar_model_release(fat);
    ar_context_release(ctx);
}

/* ---- quantized graphs ----
 *
 * conv2d 2 > 3 (weights 8 bits a channel) + ReLU (4 bits) > linear (weights 3 bits) with 5 bits at
 * its end, and an input of 6 bits. Scales are powers of two, so that every sum is exact and the
 * direct computation below must agree bit for bit. */

enum { QC = 2, QH = 4, QO = 3, QK = 4, QPIXELS = QH * QH, QN = 11 };

typedef struct quantized {
    float x[QN][QC * QPIXELS], dout[QN][QK];
    float out[QN][QK], dx[QN][QC * QPIXELS];
    float dconv[QO * QC * 9], dlinear[QK * QO * QPIXELS];
} quantized;

static float fake(float value, float scale, float low, float high, bool *kept) {
    float code = rintf(value / scale);
    *kept = code >= low && code <= high;
    return fminf(fmaxf(code, low), high) * scale;
}

static advrob_model *build_quantized(advrob_context *ctx) {
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, QO, true};
    const ar_attributes linear = {.outputs = QK};
    const ar_real input = 0x1p-5f, inner = 0x1p-4f, outer = 0x1p-1f, coarse = 0x1p-3f;
    const ar_real fine[QO] = {0x1p-6f, 0x1p-5f, 0x1p-7f};
    advrob_model *m = NULL;
    ar_rng rng;
    test_ok(ar_model_create(ctx, (ar_shape){QC, QH, QH}, &m));
    int32_t a = tangle_node(m, "conv2d", 0, 0, &conv), r = tangle_node(m, "relu", a, 0, NULL);
    int32_t f = tangle_node(m, "flatten", r, 0, NULL), l = tangle_node(m, "linear", f, 0, &linear);
    ar_rng_init(&rng, 9, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < m->slab_count; i++)
        m->slab[i] = (ar_real)((int32_t)ar_rng_below(&rng, 129) - 64) / 128;
    test_ok(ar_quant_set(m, &m->nodes[0].output, 6, 2, 24, 2, &input, 1));
    test_ok(ar_quant_set(m, &m->nodes[a].weights, 8, -20, 20, 0, fine, QO));
    test_ok(ar_quant_set(m, &m->nodes[r].output, 4, 0, 7, 0, &inner, 1));
    test_ok(ar_quant_set(m, &m->nodes[l].weights, 3, -3, 3, 0, &coarse, 1));
    test_ok(ar_quant_set(m, &m->nodes[l].output, 5, -6, 6, 0, &outer, 1));
    ar_model_changed(m);
    return m;
}

/* Quantized weights of a node and where they keep their gradient. */
static void direct_weights(const advrob_model *m, const char *name, int64_t outputs, float *weight,
                           bool *kept) {
    const ar_parameter *p = &m->parameters[ar_model_find_parameter(m, name)];
    const ar_quant *q = &m->nodes[p->node].weights;
    for (int64_t i = 0; i < p->count; i++)
        weight[i] = fake(m->slab[p->offset + i],
                         q->scales[q->count == 1 ? 0 : i / (p->count / outputs)], (float)q->low,
                         (float)q->high, &kept[i]);
}

/* The weight's index, or -1 where the tap falls outside; *in: the input's index. */
static int32_t tap(int32_t o, int32_t c, int32_t k, int32_t p, int32_t *in) {
    int32_t y = p / QH + k / 3 - 1, x = p % QH + k % 3 - 1;
    *in = c * QPIXELS + y * QH + x;
    return y < 0 || y >= QH || x < 0 || x >= QH ? -1 : (o * QC + c) * 9 + k;
}

typedef struct direct_net {
    float conv[QO * QC * 9], linear[QK * QO * QPIXELS];
    bool conv_kept[QO * QC * 9], linear_kept[QK * QO * QPIXELS];
    const ar_real *bias;
} direct_net;

static void direct_image(const direct_net *net, quantized *q, int32_t n, int32_t *clamped) {
    float x[QC * QPIXELS], a[QO * QPIXELS], da[QO * QPIXELS] = {0};
    bool x_kept[QC * QPIXELS], a_kept[QO * QPIXELS], kept;
    int32_t in;
    for (int32_t i = 0; i < QC * QPIXELS; i++) /* the zero point 2 moves the codes' ends */
        x[i] = fake(q->x[n][i], 0x1p-5f, 0, 22, &x_kept[i]);
    for (int32_t i = 0; i < QO * QPIXELS; i++) {
        float sum = net->bias[i / QPIXELS];
        for (int32_t t = 0; t < QC * 9; t++) {
            int32_t w = tap(i / QPIXELS, t / 9, t % 9, i % QPIXELS, &in);
            if (w >= 0) sum += net->conv[w] * x[in];
        }
        a[i] = fake(fmaxf(sum, 0), 0x1p-4f, 0, 7, &kept);
        a_kept[i] = sum > 0 && kept;
        *clamped += sum > 0 && !kept;
    }
    for (int32_t k = 0; k < QK; k++) {
        float sum = 0;
        for (int32_t i = 0; i < QO * QPIXELS; i++)
            sum += net->linear[k * QO * QPIXELS + i] * a[i];
        q->out[n][k] = fake(sum, 0x1p-1f, -6, 6, &kept);
        *clamped += !kept;
        if (!kept) continue;
        for (int32_t i = 0; i < QO * QPIXELS; i++) {
            int32_t w = k * QO * QPIXELS + i;
            if (a_kept[i]) da[i] += net->linear[w] * q->dout[n][k];
            if (net->linear_kept[w]) q->dlinear[w] += a[i] * q->dout[n][k];
        }
    }
    for (int32_t i = 0; i < QO * QPIXELS; i++)
        for (int32_t t = 0; t < QC * 9; t++) {
            int32_t w = tap(i / QPIXELS, t / 9, t % 9, i % QPIXELS, &in);
            if (w < 0) continue;
            if (x_kept[in]) q->dx[n][in] += net->conv[w] * da[i];
            if (net->conv_kept[w]) q->dconv[w] += x[in] * da[i];
        }
    for (int32_t i = 0; i < QC * QPIXELS; i++)
        *clamped += !x_kept[i];
}

static void library_quantized(advrob_model *model, quantized *q) {
    ar_program *program;
    ar_workspace *tiles[2];
    ar_real *scratch = calloc((size_t)model->slab_count, sizeof(ar_real));
    ar_real *gradient = calloc((size_t)model->slab_count, sizeof(ar_real));
    test_ok(ar_model_program(model, &program));
    for (int32_t t = 0; t < 2; t++) {
        int32_t count = t == 0 ? 8 : QN - 8;
        test_ok(ar_workspace_take(program, AR_RUN_TRAIN, 8, &tiles[t]));
        memset(tiles[t]->memory, 0xff, tiles[t]->plan->size);
        ar_run_forward(tiles[t], count, q->x[8 * t], q->out[8 * t]);
        ar_run_backward(tiles[t], q->dout[8 * t], q->dx[8 * t]);
    }
    for (int64_t i = 0; i < ar_run_gradient_pieces(program); i++)
        ar_run_gradient_piece(tiles, 2, i, scratch, gradient);
    memcpy(q->dconv, gradient + model->parameters[0].offset, sizeof q->dconv);
    memcpy(q->dlinear, gradient + model->parameters[2].offset, sizeof q->dlinear);
    ar_workspace_give(tiles[0]);
    ar_workspace_give(tiles[1]);
    free(scratch);
    free(gradient);
}

static void check_quantized(const ar_kernels *kernels) {
    advrob_context *ctx = context_at(NULL, 1, kernels);
    advrob_model *model = build_quantized(ctx);
    quantized *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    direct_net net;
    ar_rng rng;
    int32_t clamped = 0, dropped = 0;
    ar_rng_init(&rng, 4, AR_RNG_TEST, 1, 0, 0);
    for (int32_t i = 0; i < QN * QC * QPIXELS; i++)
        a->x[i / (QC * QPIXELS)][i % (QC * QPIXELS)] =
            (float)((int32_t)ar_rng_below(&rng, 257) - 20) / 256;
    for (int32_t i = 0; i < QN * QK; i++)
        a->dout[i / QK][i % QK] = (float)((int32_t)ar_rng_below(&rng, 17) - 8) / 8;
    *b = *a;
    direct_weights(model, "n1.weight", QO, net.conv, net.conv_kept);
    direct_weights(model, "n4.weight", QK, net.linear, net.linear_kept);
    net.bias = model->slab + model->parameters[1].offset;
    for (int32_t n = 0; n < QN; n++)
        direct_image(&net, a, n, &clamped);
    for (int32_t i = 0; i < QO * QC * 9; i++)
        dropped += !net.conv_kept[i];
    library_quantized(model, b);
    for (int32_t n = 0; n < QN; n++) { /* 0 and -0 are both fine */
        for (int32_t k = 0; k < QK; k++)
            assert_true(a->out[n][k] == b->out[n][k]);
        for (int32_t i = 0; i < QC * QPIXELS; i++)
            assert_true(a->dx[n][i] == b->dx[n][i]);
    }
    for (int32_t i = 0; i < QO * QC * 9; i++)
        assert_true(a->dconv[i] == b->dconv[i]);
    for (int32_t i = 0; i < QK * QO * QPIXELS; i++)
        assert_true(a->dlinear[i] == b->dlinear[i]);
    print_message("%s: %d values and %d weights clamped\n", kernels->name, clamped, dropped);
    assert_true(clamped > 100 && dropped > 5 && ar_model_quantized(model));
    free(a);
    free(b);
    ar_model_release(model);
    ar_context_release(ctx);
}

static void test_quantized_graph(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t i = 0; i < count; i++)
        check_quantized(tables[i]);
}

/* Records, normalisation and nodes that come after the first compilation. */
static void test_recompiled(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *late = open_zoo(ctx, "tiny"), *early = NULL;
    const double mean = 0.3, deviation = 0.2;
    const ar_real scale = 0x1p-4f;
    const ar_attributes linear = {.outputs = 4};
    ar_program *programs[2];
    advrob_target *targets[2];
    float *x = random_images(6, 64, 2), out[2][6 * 4], dx[2][6 * 64];
    int32_t y[6] = {0, 1, 2, 3, 0, 1};
    test_ok(ar_model_program(late, &programs[0]));
    test_ok(ar_model_clone(late, &early));
    advrob_model *models[2] = {late, early};
    for (int32_t i = 0; i < 2; i++) {
        advrob_model *m = models[i];
        test_ok(ar_model_set_normalisation(m, &mean, 1, &deviation, 1));
        tangle_node(m, "linear", ar_model_output(m), 0, &linear);
        for (int64_t k = 0; k < 40; k++)
            m->slab[m->slab_count - 1 - k] = 0.1f * (float)(k % 7) - 0.3f;
        test_ok(ar_quant_set(m, &m->nodes[2].output, 4, 0, 15, 0, &scale, 1));
        test_ok(ar_model_program(m, &programs[i]));
        test_ok(ar_program_forward(programs[i], 6, x, out[i]));
        test_ok(ar_target_from_model(m, &targets[i]));
        test_ok(ar_target_loss_gradient(targets[i], "ce", 6, x, y, NULL, dx[i]));
        ar_target_release(targets[i]);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
    free(x);
    ar_model_release(late);
    ar_model_release(early);
    ar_context_release(ctx);
}

/* ---- limits, copies, frozen models ---- */

static void test_memory_limit(void **state) {
    (void)state;
    advrob_context *ctx = test_context(2);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = open_zoo(ctx, "tiny");
    float *x = random_images(40, 64, 2), before[400], after[400];
    ar_program *program;
    advrob_target *target;
    int32_t failures = 0;
    for (uint64_t room = 0; room < 400000; room += 3000) {
        advrob_model *copy = NULL;
        ctx->memory.limit = ctx->memory.used + room;
        int32_t status = ar_model_clone(model, &copy);
        if (status == ADVROB_OK) status = ar_model_program(copy, &program);
        if (status == ADVROB_OK) status = ar_program_forward(program, 40, x, before);
        if (status != ADVROB_OK) {
            assert_int_equal(status, ADVROB_E_NOMEM);
            failures++;
        }
        ar_model_release(copy);
    }
    ctx->memory.limit = 0;
    assert_true(failures > 3 && failures < 130);
    test_ok(ar_model_program(model, &program));
    test_ok(ar_program_forward(program, 40, x, before));
    test_ok(ar_target_from_model(model, &target));
    ctx->memory.limit = ctx->memory.used + 3000;
    int32_t y[40] = {0};
    float dx[40 * 64];
    assert_int_equal(ar_target_loss_gradient(target, "ce", 40, x, y, NULL, dx), ADVROB_E_NOMEM);
    ctx->memory.limit = 0;
    test_ok(ar_target_loss_gradient(target, "ce", 40, x, y, NULL, dx));
    test_ok(ar_target_forward(target, 40, x, after));
    assert_memory_equal(before, after, sizeof before);
    ar_target_release(target);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
}

static void test_clone_and_freeze(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_model *model = build_quantized(ctx), *copy = NULL;
    advrob_target *one, *two;
    test_ok(ar_model_clone(model, &copy));
    assert_true(ar_model_digest(copy) == ar_model_digest(model));
    copy->slab[1] += 1;
    assert_true(ar_model_digest(copy) != ar_model_digest(model));
    copy->slab[1] = model->slab[1];
    copy->nodes[0].output.scales[0] *= 2;
    assert_true(ar_model_digest(copy) != ar_model_digest(model));
    test_ok(ar_target_from_model(model, &one));
    test_ok(ar_target_from_model(model, &two));
    uint64_t digest = ar_model_digest(model);
    assert_int_equal(ar_model_check_unfrozen(model), ADVROB_E_BUSY);
    assert_int_equal(ar_model_initialise(model, "he", 1), ADVROB_E_BUSY);
    assert_true(ar_model_digest(model) == digest);
    ar_target_retain(one);
    ar_target_release(one);
    ar_target_release(two);
    assert_int_equal(ar_model_check_unfrozen(model), ADVROB_E_BUSY);
    ar_target_release(one);
    test_ok(ar_model_check_unfrozen(model));
    test_ok(ar_model_initialise(model, "he", 1));
    test_ok(ar_target_from_model(copy, &one)); /* a target keeps its model alive */
    ar_model_release(copy);
    float *x = random_images(2, QC * QPIXELS, 1), logits[2 * QK];
    test_ok(ar_target_forward(one, 2, x, logits));
    ar_target_release(one);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* What a graph refuses, with the model as it was afterwards. */
static void test_refusals(void **state) {
    (void)state;
    const struct {
        const char *op;
        ar_shape in;
        ar_attributes a;
        int32_t status;
    } wrong[] = {
        {"none", {1, 4, 4}, {.outputs = 1}, ADVROB_E_UNKNOWN},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {3, 3}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {-1, 1}, {1, 1}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{-3, 3}, {1, 1}, {1, 1}, 1, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{5, 5}, {1, 1}, {0, 0}, 1, true}, ADVROB_E_SHAPE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {1, 1}, 0, true}, ADVROB_E_RANGE},
        {"conv2d", {1, 4, 4}, {{3, 3}, {1, 1}, {1, 1}, 65537, true}, ADVROB_E_RANGE},
        {"conv2d", {65536, 1, 1}, {{1024, 1024}, {1, 1}, {1023, 1023}, 1, true}, ADVROB_E_LIMIT},
        {"conv2d", {1, 8192, 8192}, {{3, 3}, {1, 1}, {1, 1}, 2, true}, ADVROB_E_SHAPE},
        {"linear", {4, 4, 4}, {.outputs = 2}, ADVROB_E_SHAPE},
        {"linear", {4, 1, 1}, {.outputs = 0}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{3, 3}, {1, 1}, {0, 0}, 2, true}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{1, 1}, {2, 1}, {0, 0}, 2, true}, ADVROB_E_RANGE},
        {"linear", {4, 1, 1}, {{1, 1}, {1, 1}, {0, 1}, 2, true}, ADVROB_E_RANGE},
        {"max_pool", {1, 40, 40}, {{16, 16}, {1, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"max_pool", {1, 4, 4}, {{65536, 65536}, {1, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"avg_pool", {1, 4, 4}, {{2, 2}, {2000, 1}, {0, 0}, 0, false}, ADVROB_E_RANGE},
        {"flatten", {3, 200, 200}, {.outputs = 0}, ADVROB_E_SHAPE},
    };
    advrob_context *ctx = test_context(1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        advrob_model *model = NULL;
        const int32_t inputs[AR_MAX_INPUTS] = {0, 0};
        test_ok(ar_model_create(ctx, wrong[i].in, &model));
        uint64_t digest = ar_model_digest(model);
        int32_t status = ar_model_add(model, wrong[i].op, "a", inputs, &wrong[i].a, NULL);
        if (status != wrong[i].status)
            fail_msg("refusal %d: %s, expected %s (%s)", (int)i, ar_status_name(status),
                     ar_status_name(wrong[i].status), ar_message());
        assert_true(ar_model_digest(model) == digest && model->node_count == 1);
        ar_model_release(model);
    }
    ar_context_release(ctx);
}

static void test_bad_nodes_and_records(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    advrob_model *model = open_zoo(ctx, "tiny_residual");
    const int32_t self[2] = {model->node_count, 0}, below[2] = {-1, 0}, odd[2] = {0, 1};
    const ar_real scales[2] = {1, 0};
    const double mean[3] = {0, 0, 0}, std[2] = {1, -1};
    assert_int_equal(ar_model_add(model, "relu", "x", self, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "x", below, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "conv1", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "a b", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "relu", "", odd, NULL, NULL), ADVROB_E_INVALID);
    assert_int_equal(ar_model_add(model, "add", "x", odd, NULL, NULL), ADVROB_E_SHAPE);
    ar_quant *q = &model->nodes[2].output;
    assert_int_equal(ar_quant_set(model, q, 17, 0, 1, 0, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 3, 3, 3, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 0, 15, 16, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, 0, 15, 0, scales, 2), ADVROB_E_RANGE);
    assert_int_equal(ar_quant_set(model, q, 4, NAN, 15, 0, scales, 1), ADVROB_E_RANGE);
    assert_int_equal(q->bits, 0);
    assert_int_equal(ar_model_set_normalisation(model, mean, 3, std, 1), ADVROB_E_RANGE);
    assert_int_equal(ar_model_set_normalisation(model, mean, 2, std, 2), ADVROB_E_RANGE);
    test_ok(ar_model_check_finite(model));
    model->slab[7] = NAN;
    assert_int_equal(ar_model_check_finite(model), ADVROB_E_NONFINITE);
    assert_non_null(strstr(ar_message(), model->parameters[0].name));
    ar_model_release(model);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_inner_node),
        cmocka_unit_test(test_dead_branch),
        cmocka_unit_test(test_quantized_graph),
        cmocka_unit_test(test_recompiled),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_clone_and_freeze),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bad_nodes_and_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
