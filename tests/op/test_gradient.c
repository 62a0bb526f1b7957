/* Gradients against central differences in double: every registered operator, and whole nets. Built
 * with AR_REAL_IS_DOUBLE. Everything here is piecewise linear, so differences are exact up to
 * rounding unless a step crosses a kink; those entries show in the second difference. */
#include "support/support.h"

#include "model/program.h"
#include "support/backward.h"
#include "support/golden.h"
#include "support/one_op.h"
#include "support/tangle.h"
#include "tolerance.h"

_Static_assert(sizeof(ar_real) == sizeof(double), "this test is built in double");

#define STEP 0x1p-12

static double worst;
static int32_t entries, kinks;

/* ---- one operator ---- */

typedef struct op_case {
    const char *op;
    ar_attributes attributes;
    ar_shape in[AR_MAX_INPUTS];
} op_case;

/* At least one case for every line of ops.inc. */
static const op_case cases[] = {
    {"conv2d", {{3, 3}, {1, 1}, {1, 1}, 4, true}, {{3, 5, 4}}},
    {"conv2d", {{3, 3}, {2, 2}, {1, 1}, 3, true}, {{2, 6, 5}}},
    {"conv2d", {{4, 4}, {2, 2}, {1, 1}, 5, false}, {{2, 6, 6}}},
    {"conv2d", {{2, 3}, {3, 2}, {1, 2}, 7, true}, {{2, 5, 6}}},
    {"conv2d", {{1, 1}, {2, 2}, {0, 0}, 2, true}, {{3, 5, 5}}},
    {"conv2d", {{5, 5}, {1, 1}, {4, 4}, 2, true}, {{1, 2, 3}}},
    {"conv2d", {{3, 3}, {1, 1}, {1, 1}, 4, true, .border_bias = true}, {{3, 5, 4}}},
    {"conv2d", {{4, 3}, {3, 2}, {2, 2}, 3, false, .border_bias = true}, {{2, 5, 6}}},
    {"conv2d", {{3, 3}, {1, 1}, {2, 2}, 4, true, .dilation = {2, 2}}, {{3, 6, 5}}},
    {"conv2d", {{3, 2}, {2, 3}, {4, 1}, 3, true, .dilation = {3, 2}}, {{2, 5, 7}}},
    {"conv2d", {{2, 3}, {3, 1}, {0, 2}, 3, false, .dilation = {4, 1}}, {{2, 8, 4}}},
    /* the middle window steps over all of its input */
    {"conv2d",
     {{2, 2}, {1, 1}, {2, 2}, 3, true, .border_bias = true, .dilation = {3, 3}},
     {{2, 2, 2}}},
    {"conv2d", {{3, 3}, {1, 1}, {1, 1}, 6, true, .groups = 2}, {{4, 5, 4}}},
    {"conv2d", {{3, 2}, {2, 1}, {1, 1}, 3, false, .groups = 3}, {{9, 5, 4}}},
    {"conv2d", {{1, 1}, {1, 1}, {0, 0}, 10, true, .groups = 5}, {{10, 2, 3}}},
    {"conv2d",
     {{3, 3}, {2, 1}, {2, 2}, 14, true, .border_bias = true, .dilation = {2, 2}, .groups = 2},
     {{6, 5, 6}}},
    {"conv2d", {{3, 3}, {1, 1}, {1, 1}, 5, true, .groups = 5}, {{5, 4, 5}}},
    {"conv2d", {{3, 2}, {2, 1}, {2, 1}, 9, false, .dilation = {2, 1}, .groups = 3}, {{3, 6, 5}}},
    {"conv2d", {{3, 3}, {2, 2}, {1, 1}, 8, true, .border_bias = true, .groups = 4}, {{4, 5, 6}}},
    {"linear", {{1, 1}, {1, 1}, {0, 0}, 7, true}, {{9, 1, 1}}},
    {"linear", {{1, 1}, {1, 1}, {0, 0}, 3, false}, {{5, 1, 1}}},
    {"relu", {{1, 1}, {1, 1}, {0, 0}, 0, false}, {{3, 4, 5}}},
    {"max_pool", {{2, 2}, {2, 2}, {0, 0}, 0, false}, {{3, 6, 5}}},
    {"max_pool", {{3, 2}, {2, 1}, {1, 1}, 0, false}, {{2, 5, 4}}},
    {"avg_pool", {{2, 2}, {2, 2}, {0, 0}, 0, false}, {{3, 6, 5}}},
    {"avg_pool", {{3, 3}, {2, 1}, {1, 2}, 0, false}, {{2, 5, 4}}},
    {"global_avg_pool", {{1, 1}, {1, 1}, {0, 0}, 0, false}, {{3, 4, 3}}},
    {"flatten", {{1, 1}, {1, 1}, {0, 0}, 0, false}, {{3, 2, 4}}},
    {"add", {{1, 1}, {1, 1}, {0, 0}, 0, false}, {{3, 2, 4}, {3, 2, 4}}},
    {"concat", {.kernel = {1, 1}}, {{3, 2, 4}, {5, 2, 4}}},
    {"pad_channels", {.before = 1, .after = 3}, {{3, 2, 4}}},
    {"batch_norm", {.epsilon = 1e-5, .momentum = 0.1}, {{5, 3, 4}}},
    {"dropout", {.rate = 0.5}, {{3, 2, 4}}},
};

/* Distinct values, all at least 1/64 apart and away from zero, in an order of their own. */
static void spread(ar_real *values, int64_t n, int64_t seed) {
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < n; i++)
        values[i] = ((double)(i - n / 2) + 0.5) / 64;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = ar_rng_below(&rng, (uint32_t)i + 1);
        ar_real other = values[k];
        values[k] = values[i];
        values[i] = other;
    }
}

static double objective(one_op *o) {
    double sum = 0;
    one_op_forward(o);
    for (int64_t i = 0; i < o->n * ar_shape_count(o->out); i++)
        sum += o->dy[i] * o->y[i];
    return sum;
}

static void check_slope(const char *where, const char *what, int64_t i, double slope,
                        double gradient, double largest) {
    double off = fabs(slope - gradient) / largest;
    entries++;
    if (!(off <= TOLERANCE_FINITE_DIFFERENCE))
        fail_msg("%s: %s[%d] is %.12g, differences give %.12g", where, what, (int)i, gradient,
                 slope);
    if (off > worst) worst = off;
}

static double largest_of(const ar_real *values, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(values[i]));
    return largest;
}

static void check_values(one_op *o, const char *what, ar_real *values, const ar_real *gradient,
                         int64_t n) {
    double largest = largest_of(gradient, n);
    for (int64_t i = 0; i < n; i++) {
        ar_real kept = values[i];
        values[i] = kept + STEP;
        double up = objective(o);
        values[i] = kept - STEP;
        double down = objective(o);
        values[i] = kept;
        check_slope(o->op->name, what, i, (up - down) / (2 * STEP), gradient[i], largest);
    }
}

static void check_case(advrob_context *ctx, const op_case *c, int32_t winograd) {
    one_op o;
    ar_kernels kernels = *ar_kernels_get(AR_CPU_PORTABLE, false);
    kernels.winograd_channels = 1;
    one_op_open(&o, ctx, &kernels, c->op, &c->attributes, c->in, 8, 3, winograd);
    for (int32_t k = 0; k < o.op->inputs; k++)
        spread(o.x[k], o.n * ar_shape_count(o.in[k]), k);
    spread(o.weight, o.parameters[0], 2);
    spread(o.bias, o.parameters[1], 3);
    spread(o.dy, o.n * ar_shape_count(o.out), 4);
    one_op_forward(&o);
    one_op_backward(&o, false, 6);
    for (int32_t k = 0; k < o.op->inputs; k++)
        check_values(&o, "dx", o.x[k], o.dx[k], o.n * ar_shape_count(o.in[k]));
    /* A batch norm's gradients come from the sums at its cut: the nets below have them. */
    if (o.op->whole_batch) o.parameters[AR_WEIGHT] = o.parameters[AR_BIAS] = 0;
    check_values(&o, "dweight", o.weight, o.dweight, o.parameters[0]);
    check_values(&o, "dbias", o.bias, o.dbias, o.parameters[1]);
    one_op_close(&o);
}

static void test_operators(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    const size_t count = sizeof cases / sizeof cases[0];
    worst = 0;
    entries = 0;
    for (int32_t i = 0; i < ar_op_count(); i++) {
        int32_t found = 0;
        for (size_t k = 0; k < count; k++) {
            if (strcmp(cases[k].op, ar_op_at(i)->name) != 0) continue;
            check_case(ctx, &cases[k], 0);
            if (strcmp(cases[k].op, "conv2d") == 0) check_case(ctx, &cases[k], 2);
            if (strcmp(cases[k].op, "conv2d") == 0) check_case(ctx, &cases[k], 4);
            found++;
        }
        if (found == 0) fail_msg("operator %s has no case here", ar_op_at(i)->name);
    }
    print_message("%d operators, %d entries, worst %.2g\n", ar_op_count(), entries, worst);
    assert_true(ar_op_count() >= 8 && entries > 1000);
    ar_context_release(ctx);
}

/* ---- whole nets ---- */

enum { IMAGES = 3 };

typedef struct net {
    advrob_model *model;
    ar_program *program;
    ar_workspace *workspace;
    float *x, *dout;
    int64_t image, classes;
} net;

/* Sum of dout * logits, from the buffer in double. */
static double net_objective(net *n) {
    double sum = 0;
    ar_program_update(n->program);
    ar_run_forward(n->workspace, IMAGES, n->x, NULL);
    const ar_real *out = ar_workspace_value(n->workspace, n->program->output);
    for (int64_t k = 0; k < n->classes; k++)
        for (int32_t l = 0; l < IMAGES; l++)
            sum += (double)n->dout[l * n->classes + k] * out[k * n->workspace->lanes + l];
    return sum;
}

/* Whether the objective is straight between the three points. */
static bool straight(double up, double here, double down) {
    return fabs(up + down - 2 * here) <= 1e-10 * fmax(1, fabs(here));
}

static void check_pixels(net *n, const ar_real *gradient) {
    double here = net_objective(n), largest = largest_of(gradient, IMAGES * n->image);
    for (int64_t i = 0; i < IMAGES * n->image; i++) {
        float kept = n->x[i];
        n->x[i] = kept + (float)STEP;
        double up = net_objective(n);
        n->x[i] = kept - (float)STEP;
        double down = net_objective(n);
        n->x[i] = kept;
        if (!straight(up, here, down)) {
            kinks++;
            continue;
        }
        check_slope(n->model->zoo, "dx", i, (up - down) / (2 * STEP), gradient[i], largest);
    }
}

static void check_parameters(net *n, const ar_real *gradient) {
    double here = net_objective(n), largest = largest_of(gradient, n->model->slab_count);
    const ar_parameter *p = n->model->parameters;
    for (int64_t i = 0; i < n->model->slab_count; i++) {
        while (i >= p->offset + p->count)
            p++;
        if (p->role >= AR_RUNNING_MEAN) { /* not trained */
            assert_true(gradient[i] == 0);
            continue;
        }
        ar_real kept = n->model->slab[i];
        n->model->slab[i] = kept + STEP;
        ar_model_changed(n->model);
        double up = net_objective(n);
        n->model->slab[i] = kept - STEP;
        ar_model_changed(n->model);
        double down = net_objective(n);
        n->model->slab[i] = kept;
        ar_model_changed(n->model);
        if (!straight(up, here, down)) {
            kinks++;
            continue;
        }
        check_slope(n->model->zoo, "parameter", i, (up - down) / (2 * STEP), gradient[i], largest);
    }
}

/* Pixel gradients in double, from the tile's buffer to plain order. */
static void pixel_gradient(net *n, ar_real *gradient) {
    const ar_real *tile = ar_workspace_gradient(n->workspace, 0);
    int64_t channels = n->model->nodes[0].shape.c, pixels = n->image / channels;
    for (int64_t l = 0; l < IMAGES; l++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t p = 0; p < pixels; p++)
                gradient[l * n->image + c * pixels + p] =
                    tile[(p * channels + c) * n->workspace->lanes + l] * n->program->scale[c];
}

static void check_net(advrob_model *model) {
    net n = {.model = model,
             .image = ar_shape_count(model->nodes[0].shape),
             .classes = ar_model_classes(model)};
    ar_rng rng;
    const double mean = 0.25, deviation = 0.5;
    ar_rng_init(&rng, 1, AR_RNG_TEST, 1, 0, 0);
    test_ok(ar_model_set_normalisation(model, &mean, 1, &deviation, 1));
    for (int32_t i = 0; i < model->parameter_count; i++) /* biases that matter */
        for (int64_t k = 0; k < model->parameters[i].count && model->parameters[i].rank == 1; k++) {
            double value = 0.2 * ar_rng_normal(&rng);
            if (model->parameters[i].role == AR_RUNNING_VAR) value = 0.5 + value * value;
            model->slab[model->parameters[i].offset + k] = value;
        }
    ar_model_changed(model);
    test_ok(ar_model_program(model, false, &n.program));
    test_ok(ar_workspace_take(n.program, AR_RUN_TRAIN, 8, &n.workspace));
    n.x = malloc(sizeof(float) * (size_t)(IMAGES * n.image));
    n.dout = malloc(sizeof(float) * (size_t)(IMAGES * n.classes));
    float *dx = malloc(sizeof(float) * (size_t)(IMAGES * n.image));
    for (int64_t i = 0; i < IMAGES * n.image; i++)
        n.x[i] = (float)(1 + ar_rng_below(&rng, 255)) / 256;
    for (int64_t i = 0; i < IMAGES * n.classes; i++)
        n.dout[i] = (float)((int32_t)ar_rng_below(&rng, 65) - 32) / 32;
    size_t slab = (size_t)model->slab_count;
    ar_real *gradient = calloc(slab, sizeof(ar_real));
    const float *dout = n.dout;
    ar_real *pixels = malloc(sizeof(ar_real) * (size_t)(IMAGES * n.image));
    ar_run_forward(n.workspace, IMAGES, n.x, NULL);
    test_backward(&n.workspace, 1, &dout, &dx, gradient);
    pixel_gradient(&n, pixels);
    for (int64_t i = 0; i < IMAGES * n.image; i++)
        assert_true(dx[i] == (float)pixels[i]);
    entries = kinks = 0;
    worst = 0;
    check_pixels(&n, pixels);
    check_parameters(&n, gradient);
    print_message("%s: %d entries, worst %.2g; %d at a kink left out\n", model->zoo, entries, worst,
                  kinks);
    assert_true(entries > 300 && kinks < entries / 10);
    ar_workspace_give(n.workspace);
    free(n.x);
    free(n.dout);
    free(dx);
    free(gradient);
    free(pixels);
}

static void check_zoo(const char *name) {
    advrob_context *ctx = test_context(1);
    advrob_model *model;
    ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false);
    test_ok(ar_zoo_build(ctx, name, NULL, &model));
    check_net(model);
    ar_model_release(model);
    ar_context_release(ctx);
}

static void test_tiny(void **state) {
    (void)state;
    check_zoo("tiny");
}

static void test_tiny_residual(void **state) {
    (void)state;
    check_zoo("tiny_residual");
}

static void test_tangle(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false);
    advrob_model *model = tangle_build(ctx, false);
    check_net(model);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* Border biases before batch norms whose running statistics are part of the layers: the norms'
 * weights have gradients to which the border bias adds. */
static void test_border(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false);
    const ar_attributes conv[2] = {{{3, 3}, {1, 1}, {1, 1}, 5, true, .border_bias = true},
                                   {{3, 2}, {2, 1}, {1, 1}, 4, false, .border_bias = true}};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    const ar_attributes last = {.outputs = 3, .bias = true};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){2, 7, 6}, &m));
    ar_copy_text(m->zoo, sizeof m->zoo, "border");
    int32_t at = tangle_node(m, "conv2d", 0, 0, &conv[0]);
    at = tangle_node(m, "relu", tangle_node(m, "batch_norm", at, 0, &norm), 0, NULL);
    at = tangle_node(m, "batch_norm", tangle_node(m, "conv2d", at, 0, &conv[1]), 0, &norm);
    tangle_node(m, "linear", tangle_node(m, "flatten", at, 0, NULL), 0, &last);
    test_ok(ar_model_initialise(m, "he", 7));
    tangle_borders(m);
    check_net(m);
    ar_model_release(m);
    ar_context_release(ctx);
}

static void test_grouped(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false);
    advrob_model *model = grouped_build(ctx, 2, 9, 7);
    check_net(model);
    ar_model_release(model);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators),     cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_tiny_residual), cmocka_unit_test(test_tangle),
        cmocka_unit_test(test_border),        cmocka_unit_test(test_grouped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
