/* Random graphs: chains, diamonds, nested residuals, concats, values that are used again, up to 40
 * nodes with every operator. Each is pruned, folded, saved, loaded and run, and its gradients are
 * compared with central differences. Built with AR_REAL_IS_DOUBLE, so that equal means equal but
 * for the last digits. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "model/program.h"
#include "support/generator.h"
#include "support/golden.h"
#include "support/prune.h"

_Static_assert(sizeof(ar_real) == sizeof(double), "this test is built in double");

enum { GRAPHS = TEST_SANITIZED ? 60 : 500, MOST_NODES = 40, IMAGES = 3 };

typedef struct tally {
    int32_t nodes, joins, concats, pads, grouped, depthwise, norms, constants, pruned, removed;
    int32_t slopes, kinks;
    double masked, folded, loaded, slope;
} tally;

static tally seen;

/* ---- the generator ---- */

/* An earlier value, the latest ones more often. */
static int32_t pick(generator *g) {
    int32_t n = g->model->node_count, a = below(g, n), b = below(g, n);
    return a > b ? a : b;
}

static int32_t add_conv(generator *g, int32_t from) {
    ar_shape in = shape_of(g, from);
    int32_t kernel = 1 + below(g, 3), stride = in.h > 4 ? 1 + below(g, 2) : 1;
    ar_attributes a = {.outputs = 2 + below(g, 6), .bias = below(g, 2) != 0};
    for (int32_t axis = 0; axis < 2; axis++) {
        a.kernel[axis] = kernel;
        a.stride[axis] = stride;
        a.dilation[axis] = kernel == 3 && below(g, 4) == 0 ? 2 : 1;
        int32_t extent = a.dilation[axis] * (kernel - 1) + 1, size = axis == 0 ? in.h : in.w;
        a.padding[axis] = below(g, 3) == 0 ? 0 : extent / 2;
        if (size + 2 * a.padding[axis] < extent) a.padding[axis] = extent - 1;
    }
    if (in.c > 1 && below(g, 5) == 0) {
        a.groups = in.c;
        a.outputs = in.c * (1 + below(g, 2));
        seen.depthwise++;
    } else if (in.c % 2 == 0 && below(g, 4) == 0) {
        a.groups = 2;
        a.outputs += a.outputs % 2;
        seen.grouped++;
    }
    return add(g, "conv2d", from, 0, &a);
}

static int32_t add_pool(generator *g, int32_t from) {
    ar_shape in = shape_of(g, from);
    ar_attributes a = {.kernel = {2, 2}, .stride = {2, 2}};
    if (in.h < 4 || in.w < 4) return add(g, "relu", from, 0, NULL);
    if (below(g, 2) == 0)
        a = (ar_attributes){.kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}};
    return add(g, below(g, 2) == 0 ? "max_pool" : "avg_pool", from, 0, &a);
}

/* Another value of this shape, or, `channels` false, of this height and width; -1: none. */
static int32_t match(generator *g, int32_t from, bool channels) {
    ar_shape want = shape_of(g, from);
    for (int32_t attempt = 0; attempt < 12; attempt++) {
        int32_t other = pick(g);
        ar_shape s = shape_of(g, other);
        if (s.h == want.h && s.w == want.w && (!channels || s.c == want.c) && s.c + want.c < 40)
            return other;
    }
    return -1;
}

static int32_t add_sum(generator *g, int32_t from) {
    int32_t other = match(g, from, true);
    if (other < 0 || other == from) { /* a sum needs a partner: make one */
        ar_attributes a = {.kernel = {3, 3}, .padding = {1, 1}, .outputs = shape_of(g, from).c};
        other = add(g, "conv2d", pick(g), 0, &a);
        if (!ar_shape_equal(shape_of(g, other), shape_of(g, from))) return other;
    }
    seen.joins++;
    return add(g, "add", from, other, NULL);
}

/* A padded shortcut and the convolution that it meets. */
static int32_t add_padded(generator *g, int32_t from) {
    ar_attributes pad = {.before = below(g, 3), .after = below(g, 3)};
    ar_attributes a = {.kernel = {3, 3}, .padding = {1, 1}, .bias = true};
    int32_t padded = add(g, "pad_channels", from, 0, &pad);
    a.outputs = shape_of(g, padded).c;
    seen.pads++;
    return add(g, "add", add(g, "conv2d", from, 0, &a), padded, NULL);
}

static void add_any(generator *g) {
    static const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1}, drop = {.rate = 0.5};
    int32_t from = pick(g), other;
    switch (below(g, 12)) {
    case 0:
    case 1:
    case 2:
        add_conv(g, from);
        break;
    case 3:
    case 4:
        add(g, "batch_norm", from, 0, &norm);
        seen.norms++;
        break;
    case 5:
    case 6:
        add(g, "relu", from, 0, NULL);
        break;
    case 7:
        add_pool(g, from);
        break;
    case 8:
    case 9:
        add_sum(g, from);
        break;
    case 10:
        other = match(g, from, false);
        if (other >= 0) add(g, "concat", from, other, NULL);
        seen.concats += other >= 0;
        if (other < 0) add(g, "dropout", from, 0, &drop);
        break;
    default:
        add_padded(g, from);
        break;
    }
}

static advrob_model *make_graph(advrob_context *ctx, int32_t index) {
    generator g = {NULL};
    ar_attributes last = {.outputs = 3, .bias = true}, hidden = {.outputs = 6, .bias = true};
    ar_rng_init(&g.rng, 11, AR_RNG_TEST, index, 0, 0);
    ar_shape input = {1 + below(&g, 3), 5 + below(&g, 4), 5 + below(&g, 4)};
    test_ok(ar_model_create(ctx, input, &g.model));
    int32_t body = 4 + below(&g, MOST_NODES - 10), at;
    while (g.model->node_count < body)
        add_any(&g);
    at = g.model->node_count - 1;
    at = add(&g, below(&g, 2) == 0 ? "global_avg_pool" : "flatten", at, 0, NULL);
    if (ar_shape_count(shape_of(&g, at)) > 1 && below(&g, 2) == 0) {
        at = add(&g, "relu", add(&g, "linear", add(&g, "flatten", at, 0, NULL), 0, &hidden), 0,
                 NULL);
    }
    add(&g, "linear", at, 0, &last);
    assert_true(g.model->node_count <= MOST_NODES);
    test_train_like(g.model, index + 1);
    seen.nodes += g.model->node_count;
    return g.model;
}

/* ---- running in double ---- */

/* Sum of weights of the logits of all images: an objective with a gradient. */
static double objective(advrob_model *m, const float *x, const float *dout, ar_real *dx,
                        ar_real *gradient) {
    ar_program *program = NULL;
    ar_workspace *w = NULL;
    double sum = 0;
    int64_t classes = ar_model_classes(m), image = ar_shape_count(m->nodes[0].shape);
    test_ok(ar_model_program(m, false, &program));
    test_ok(ar_workspace_take(program, AR_RUN_TRAIN, 8, &w));
    ar_run_forward(w, IMAGES, x, NULL);
    const ar_real *out = ar_workspace_value(w, program->output);
    for (int64_t k = 0; k < classes; k++)
        for (int32_t l = 0; l < IMAGES; l++)
            sum += (double)dout[l * classes + k] * out[k * 8 + l];
    ar_workspace_give(w);
    if (dx == NULL) return sum;
    ar_tiles *tiles = NULL;
    float *plain = malloc(sizeof(float) * (size_t)(IMAGES * image));
    float *logits = malloc(sizeof(float) * (size_t)(IMAGES * classes));
    test_ok(ar_tiles_create(program, AR_RUN_TRAIN, false, IMAGES, 1, &tiles));
    test_ok(
        ar_tiles_forward(tiles, IMAGES, (const float *const[]){x}, NULL, (float *const[]){logits}));
    test_ok(
        ar_tiles_backward(tiles, (const float *const[]){dout}, (float *const[]){plain}, gradient));
    for (int64_t i = 0; i < IMAGES * image; i++)
        dx[i] = (double)plain[i];
    ar_tiles_destroy(tiles);
    free(plain);
    free(logits);
    return sum;
}

/* One value moved up and down; false where a kink lies between. */
static bool slope_of(advrob_model *m, const float *x, const float *dout, ar_real *value,
                     float *pixel, double *slope) {
    const double step = 0x1p-16;
    double sums[3];
    for (int32_t k = 0; k < 3; k++) {
        double move = (k - 1) * step;
        ar_real kept = value == NULL ? 0 : *value;
        float kept_pixel = pixel == NULL ? 0 : *pixel;
        if (value != NULL) *value += move;
        if (pixel != NULL) *pixel += (float)move;
        if (value != NULL) ar_model_changed(m);
        sums[k] = objective(m, x, dout, NULL, NULL);
        if (value != NULL) *value = kept;
        if (pixel != NULL) *pixel = kept_pixel;
    }
    if (value != NULL) ar_model_changed(m);
    *slope = (sums[2] - sums[0]) / (2 * step);
    return fabs(sums[2] + sums[0] - 2 * sums[1]) <= 1e-9 * fmax(1, fabs(sums[1]));
}

static void check_slope(int32_t index, const char *what, int64_t at, double slope, double gradient,
                        double largest) {
    double off = fabs(slope - gradient) / largest;
    seen.slopes++;
    if (!(off <= 2e-6)) /* dx leaves the executor as floats */
        fail_msg("graph %d: %s[%d] is %.12g, differences give %.12g", index, what, (int)at,
                 gradient, slope);
    seen.slope = fmax(seen.slope, off);
}

static double largest_of(int64_t n, const ar_real *values) {
    double largest = 1e-3;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(values[i]));
    return largest;
}

/* Ten pixels and two values of each parameter that is trained. */
static void check_gradients(advrob_model *m, int32_t index) {
    int64_t pixels = IMAGES * ar_shape_count(m->nodes[0].shape);
    int64_t outputs = IMAGES * ar_model_classes(m);
    float *x = malloc(sizeof(float) * (size_t)pixels),
          *dout = malloc(sizeof(float) * (size_t)outputs);
    ar_real *dx = malloc(sizeof(ar_real) * (size_t)pixels);
    ar_real *gradient = calloc((size_t)m->slab_count, sizeof(ar_real)); /* unused nodes: 0 */
    double slope;
    ar_rng rng;
    ar_rng_init(&rng, 12, AR_RNG_TEST, index, 0, 0);
    for (int64_t i = 0; i < pixels; i++) /* steps by powers of two are exact */
        x[i] = (float)ar_rng_below(&rng, 256) / 256.0f;
    for (int64_t i = 0; i < outputs; i++)
        dout[i] = (float)ar_rng_below(&rng, 65) / 32.0f - 1;
    objective(m, x, dout, dx, gradient);
    double largest = largest_of(pixels, dx);
    for (int32_t k = 0; k < 10; k++) {
        int64_t i = ar_rng_below(&rng, (uint32_t)pixels);
        if (slope_of(m, x, dout, NULL, &x[i], &slope))
            check_slope(index, "dx", i, slope, dx[i], largest);
        else
            seen.kinks++;
    }
    for (int32_t p = 0; p < m->parameter_count; p++) {
        const ar_parameter *parameter = &m->parameters[p];
        if (parameter->role >= AR_RUNNING_MEAN) continue;
        largest = largest_of(parameter->count, gradient + parameter->offset);
        for (int32_t k = 0; k < 2; k++) {
            int64_t i = parameter->offset + ar_rng_below(&rng, (uint32_t)parameter->count);
            if (slope_of(m, x, dout, &m->slab[i], NULL, &slope))
                check_slope(index, parameter->name, i - parameter->offset, slope, gradient[i],
                            largest);
            else
                seen.kinks++;
        }
    }
    free(x);
    free(dout);
    free(dx);
    free(gradient);
}

/* ---- one graph ---- */

static void within(int32_t index, const char *what, double off, double allowed, double *worst) {
    if (!(off <= allowed))
        fail_msg("graph %d: %s off by %g, allowed %g", index, what, off, allowed);
    *worst = fmax(*worst, off);
}

static void check_file(advrob_model *m, const char *path, int32_t index) {
    advrob_model *loaded = NULL;
    test_ok(ar_model_file_save(m, path));
    test_ok(ar_model_file_load(m->ctx, path, &loaded));
    assert_int_equal(loaded->node_count, m->node_count);
    within(index, "loaded", test_same_logits(loaded, m, 2, index), 1e-4, &seen.loaded);
    ar_model_release(loaded);
}

static void check_graph(advrob_context *ctx, const char *path, int32_t index) {
    static const char *const how[] = {"sparsity=0.5 linear=1", "sparsity=0.4 scope=global",
                                      "sparsity=0.6 coupling=union", "sparsity=0.5 target=macs",
                                      "sparsity=0.7 steps=3 linear=1"};
    advrob_model *m = make_graph(ctx, index), *small = NULL, *folded = NULL;
    const char *text = how[index % 5];
    check_gradients(m, index);
    int32_t status = test_compress(m, "prune_l1", text, NULL, &small);
    if (status == ADVROB_E_RANGE && strstr(text, "macs") != NULL) { /* more than can go */
        text = how[0];
        status = test_compress(m, "prune_l1", text, NULL, &small);
    }
    test_ok(status);
    char *plan = test_plan(m, "prune_l1", text, NULL);
    advrob_model *masked = test_masked_net(m, plan);
    within(index, "pruned", test_same_logits(small, masked, 4, index), 1e-6, &seen.masked);
    check_gradients(small, index);
    check_file(small, path, index);
    for (int32_t i = 1; i < small->node_count; i++) {
        seen.constants += small->nodes[i].border_bias >= 0;
        seen.removed += m->nodes[i].shape.c - small->nodes[i].shape.c;
    }
    seen.pruned += small->slab_count < m->slab_count;
    test_ok(ar_model_fold(small, &folded));
    within(index, "folded", test_same_logits(folded, small, 4, index), 1e-6, &seen.folded);
    check_file(folded, path, index);
    ar_model_release(folded);
    ar_model_release(masked);
    ar_model_release(small);
    advrob_text_destroy(ctx, plan);
    ar_model_release(m);
}

static void test_graphs(void **state) {
    (void)state;
    static test_allocator allocator;
    char folder[512], path[600];
    advrob_context *ctx = test_context_at(&allocator, 1, ar_kernels_get(AR_CPU_PORTABLE, false));
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/net.safetensors", folder);
    for (int32_t i = 0; i < GRAPHS; i++)
        check_graph(ctx, path, i);
    test_folder_remove(folder);
    print_message(
        "%d graphs of %d nodes together: %d sums, %d concats, %d paddings, %d grouped and "
        "%d depthwise convolutions, %d batch norms\n",
        GRAPHS, seen.nodes, seen.joins, seen.concats, seen.pads, seen.grouped, seen.depthwise,
        seen.norms);
    print_message("%d became smaller, %d channels went, %d border biases; off by at most %.2g "
                  "masked, %.2g folded, %.2g loaded\n",
                  seen.pruned, seen.removed, seen.constants, seen.masked, seen.folded, seen.loaded);
    print_message("%d slopes, off by at most %.2g; %d at a kink left out\n", seen.slopes,
                  seen.slope, seen.kinks);
    assert_true(seen.joins > GRAPHS && seen.concats > GRAPHS / 2 && seen.pads > GRAPHS / 2);
    assert_true(seen.grouped > GRAPHS / 10 && seen.depthwise > GRAPHS / 5);
    assert_true(seen.pruned > GRAPHS / 2 && seen.constants > GRAPHS / 10);
    assert_true(seen.slopes > 20 * GRAPHS && seen.kinks < seen.slopes / 10);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graphs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
