/* Whole nets against PyTorch's golden files, at every kernel table and with 1 and 3 threads:
 * logits, losses, gradients of pixels and parameters, and five steps of SGD. */
#include "support/support.h"

#include "model/oracle.h"
#include "support/golden.h"

#include "support/batch.h"
#include "support/golden_net.h"
#include "tolerance.h"

static double worst_logits, worst_dx, worst_gradient, worst_parameters, worst_loss;
static int32_t compared;

/* What a net answered; compared bit for bit between numbers of threads. */
typedef struct answers {
    int64_t logits_count, dx_count, slab_count;
    float *logits, *dx;
    double *losses;
    ar_real *gradient, *trained;
    int32_t n;
} answers;

static advrob_model *build(advrob_context *ctx, const char *net, const ar_safetensors *file) {
    advrob_model *model = NULL;
    if (strcmp(net, "residual") != 0) return golden_net(ctx, net, file);
    test_ok(ar_zoo_build(ctx, "tiny_residual", NULL, &model));
    return model;
}

/* Parameters "<prefix>.<name>" of the file, in the slab's layout. */
static ar_real *slab_of(const advrob_model *model, const ar_safetensors *file, const char *prefix) {
    ar_real *slab = malloc(sizeof(ar_real) * (size_t)model->slab_count);
    golden_slab(model, file, prefix, slab);
    return slab;
}

/* Each parameter is held against its own largest value. */
static void compare_slab(const char *where, const advrob_model *model, const ar_safetensors *file,
                         const char *prefix, const ar_real *got, double tolerance, double *worst) {
    ar_real *expected = slab_of(model, file, prefix);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        test_within(where, p->name, test_deviation(p->count, got + p->offset, expected + p->offset),
                    tolerance, worst);
        compared++;
    }
    free(expected);
}

static void compare_floats(const char *where, const ar_safetensors *file, const char *name,
                           const float *got, double tolerance, double *worst) {
    int64_t count = 0;
    ar_real *expected = golden_get(file, name, &count);
    test_within(where, name, test_deviation(count, got, expected), tolerance, worst);
    free(expected);
    compared++;
}

static void compare_losses(const char *where, int64_t n, const double *got,
                           const ar_real *expected) {
    for (int64_t i = 0; i < n; i++) {
        double off = fabs(got[i] - (double)expected[i]) / fmax(fabs((double)expected[i]), 1e-3);
        test_within(where, "loss", off, TOLERANCE_LOSS, &worst_loss);
    }
    compared++;
}

static void train(const char *where, advrob_model *model, const ar_safetensors *file, int64_t n,
                  const float *x, const int32_t *y, answers *a) {
    int64_t steps = 0;
    if (ar_safetensors_find(file, "sgd.loss") == NULL) return;
    ar_program *program;
    ar_real *expected = golden_get(file, "sgd.loss", &steps);
    ar_real *velocity = calloc((size_t)model->slab_count, sizeof(ar_real));
    ar_real *gradient = malloc(sizeof(ar_real) * (size_t)model->slab_count);
    double *losses = malloc(sizeof(double) * (size_t)n);
    for (int64_t step = 0; step < steps; step++) {
        double mean = 0;
        test_ok(ar_model_program(model, false, &program));
        batch_gradient(program, ar_tile_lanes(n), n, x, y, losses, gradient, NULL);
        for (int64_t i = 0; i < n; i++)
            mean += losses[i] / (double)n;
        compare_losses(where, 1, &mean, expected + step);
        program->kernels->sgd(model->slab_count, model->slab, velocity, gradient, 0.05f, 0.9f,
                              1e-4f);
        ar_model_changed(model);
    }
    assert_int_equal(steps, 5);
    compare_slab(where, model, file, "sgd", model->slab, TOLERANCE_NET_GRADIENT, &worst_parameters);
    memcpy(a->trained, model->slab, sizeof(ar_real) * (size_t)model->slab_count);
    free(expected);
    free(velocity);
    free(gradient);
    free(losses);
}

static void prepare_answers(answers *a, const advrob_model *model, int64_t n) {
    a->n = (int32_t)n;
    a->logits_count = n * ar_model_classes(model);
    a->dx_count = n * ar_shape_count(model->nodes[0].shape);
    a->slab_count = model->slab_count;
    a->logits = calloc((size_t)a->logits_count, sizeof(float));
    a->dx = calloc((size_t)a->dx_count, sizeof(float));
    a->losses = calloc((size_t)n, sizeof(double));
    a->gradient = calloc((size_t)a->slab_count, sizeof(ar_real));
    a->trained = calloc((size_t)a->slab_count, sizeof(ar_real));
}

static void free_answers(answers *a) {
    free(a->logits);
    free(a->dx);
    free(a->losses);
    free(a->gradient);
    free(a->trained);
}

static answers run_net(advrob_context *ctx, const char *net, const ar_safetensors *file) {
    answers a;
    char where[96];
    int64_t n = 0, pixels = 0;
    advrob_model *model = build(ctx, net, file);
    advrob_target *target;
    ar_program *program;
    ar_real *slab = slab_of(model, file, "param"), *loss = golden_get(file, "loss", NULL);
    float *x = golden_get(file, "x", &pixels);
    int32_t *y = golden_labels(file, "labels", &n);
    snprintf(where, sizeof where, "%s, %s, %d threads", net, ctx->kernels->name,
             (int)ar_workers(ctx));
    assert_int_equal(pixels, n * ar_shape_count(model->nodes[0].shape));
    memcpy(model->slab, slab, sizeof(ar_real) * (size_t)model->slab_count);
    ar_model_changed(model);
    prepare_answers(&a, model, n);
    test_ok(ar_target_from_model(model, &target));
    test_ok(ar_target_forward(target, n, x, a.logits));
    compare_floats(where, file, "logits", a.logits, TOLERANCE_LOGITS, &worst_logits);
    test_ok(ar_target_loss_gradient(target, "ce", n, x, y, a.losses, a.dx));
    compare_floats(where, file, "dx", a.dx, TOLERANCE_NET_GRADIENT, &worst_dx);
    compare_losses(where, n, a.losses, loss);
    ar_target_release(target);
    test_ok(ar_model_program(model, false, &program));
    float *dx = malloc(sizeof(float) * (size_t)a.dx_count);
    batch_gradient(program, 8, n, x, y, a.losses, a.gradient, dx); /* the cut may be any */
    compare_slab(where, model, file, "grad", a.gradient, TOLERANCE_NET_GRADIENT, &worst_gradient);
    for (int64_t i = 0; i < a.dx_count; i++)
        dx[i] *= (float)n;
    compare_floats(where, file, "dx", dx, TOLERANCE_NET_GRADIENT, &worst_dx);
    train(where, model, file, n, x, y, &a);
    free(dx);
    free(slab);
    free(loss);
    free(x);
    free(y);
    ar_model_release(model);
    return a;
}

static void same_answers(const answers *a, const answers *b) {
    assert_memory_equal(a->logits, b->logits, sizeof(float) * (size_t)a->logits_count);
    assert_memory_equal(a->dx, b->dx, sizeof(float) * (size_t)a->dx_count);
    assert_memory_equal(a->losses, b->losses, sizeof(double) * (size_t)a->n);
    assert_memory_equal(a->gradient, b->gradient, sizeof(ar_real) * (size_t)a->slab_count);
    assert_memory_equal(a->trained, b->trained, sizeof(ar_real) * (size_t)a->slab_count);
}

/* With one thread and with three. */
static void check_table(const char *net, const ar_kernels *table, int32_t winograd) {
    char name[64];
    answers one[2];
    snprintf(name, sizeof name, "%s.safetensors", net);
    for (int32_t k = 0; k < 2; k++) {
        static test_allocator allocator;
        advrob_context *ctx = test_context_at(&allocator, k == 0 ? 1 : 3, table);
        ar_safetensors file;
        ctx->winograd = winograd;
        golden_open(ctx, "nets", name, &file);
        one[k] = run_net(ctx, net, &file);
        ar_safetensors_free(ctx, &file);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
    same_answers(&one[0], &one[1]);
    free_answers(&one[0]);
    free_answers(&one[1]);
}

static void check_net(const char *net) {
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    compared = 0;
    for (int32_t i = 0; i < count; i++)
        for (int32_t winograd = 0; winograd <= 4; winograd += 2)
            if (winograd == 0 || tables[i]->winograd_channels > 0)
                check_table(net, tables[i], winograd);
    print_message("%s: %d tensors on %d tables; worst logits %.2g, dx %.2g, gradient %.2g, loss "
                  "%.2g, trained parameters %.2g\n",
                  net, compared, count, worst_logits, worst_dx, worst_gradient, worst_loss,
                  worst_parameters);
    assert_true(compared >= 2 * count * 10);
}

static void test_tiny(void **state) {
    (void)state;
    check_net("tiny");
}

static void test_eight_layer_conv(void **state) {
    (void)state;
    check_net("eight_layer_conv");
}

static void test_residual(void **state) {
    (void)state;
    check_net("residual");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_eight_layer_conv),
        cmocka_unit_test(test_residual),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
