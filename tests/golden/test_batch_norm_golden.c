/* Batch norm against PyTorch's golden files, at every kernel table, with 1 and 3 threads, with
 * frozen statistics and with the batch's: the operator alone in a graph, and a small net with its
 * training. New files in norm/ are found by themselves. */
#include "support/support.h"

#include <dirent.h>

#include "model/oracle.h"
#include "support/golden.h"
#include "support/golden_batch.h"
#include "support/golden_net.h"
#include "tolerance.h"
#include "train/train.h"

static const char *const modes[2] = {"frozen", "batch"};

static double worst[5]; /* output, dx, gradient, running statistics, trained parameters */
static int32_t compared;

static void compare(const char *where, const ar_safetensors *file, const char *mode,
                    const char *name, const ar_real *got, double tolerance, double *largest) {
    char full[160];
    int64_t count = 0;
    snprintf(full, sizeof full, "%s.%s", mode, name);
    ar_real *expected = golden_get(file, full, &count);
    test_within(where, full, test_deviation(count, got, expected), tolerance, largest);
    free(expected);
    compared++;
}

static int32_t add(advrob_model *model, const char *op, const char *name, int32_t a, int32_t b,
                   const ar_attributes *attributes) {
    int32_t inputs[AR_MAX_INPUTS] = {a, b}, at = 0;
    test_ok(ar_model_add(model, op, name, inputs, attributes, &at));
    return at;
}

static int32_t add_norm(advrob_model *model, const char *name, int32_t at) {
    const ar_attributes a = {.epsilon = 1e-5, .momentum = 0.1};
    return add(model, "batch_norm", name, at, 0, &a);
}

/* ---- the operator ---- */

static advrob_model *operator_model(advrob_context *ctx, const ar_safetensors *file) {
    advrob_model *model;
    const ar_stored *x = ar_safetensors_find(file, "x");
    assert_true(x != NULL && x->rank == 4);
    ar_shape shape = {(int32_t)x->shape[1], (int32_t)x->shape[2], (int32_t)x->shape[3]};
    test_ok(ar_model_create(ctx, shape, &model));
    add_norm(model, "bn", 0);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        int64_t count = 0;
        ar_real *values = golden_get(file, p->name + strlen("bn."), &count);
        assert_int_equal(count, p->count);
        memcpy(model->slab + p->offset, values, sizeof(ar_real) * (size_t)count);
        free(values);
    }
    ar_model_changed(model);
    return model;
}

static golden_batch run_operator(advrob_context *ctx, const ar_safetensors *file, const char *name,
                                 int32_t mode) {
    char where[400];
    int64_t count = 0;
    advrob_model *model = operator_model(ctx, file);
    float *x = golden_get(file, "x", &count), *dy = golden_get(file, "dy", NULL);
    golden_batch b = golden_batch_make(model, ar_safetensors_find(file, "x")->shape[0]);
    snprintf(where, sizeof where, "%s, %s", name, ctx->kernels->name);
    assert_int_equal(count, b.dx_count);
    memcpy(b.dout, dy, sizeof(float) * (size_t)count);
    golden_batch_run(&b, model, mode == 1, x, NULL);
    compare(where, file, modes[mode], "y", b.out, TOLERANCE_OP, &worst[0]);
    compare(where, file, modes[mode], "dx", b.dx, TOLERANCE_OP, &worst[1]);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        char part[AR_NAME_SIZE + 1];
        snprintf(part, sizeof part, "d%s", p->name + strlen("bn."));
        if (p->role < AR_RUNNING_MEAN)
            compare(where, file, modes[mode], part, b.gradient + p->offset, TOLERANCE_OP,
                    &worst[2]);
        else if (mode == 1)
            compare(where, file, modes[mode], part + 1, b.running + p->offset, TOLERANCE_OP,
                    &worst[3]);
    }
    free(x);
    free(dy);
    ar_model_release(model);
    return b;
}

static void check_operator(const char *name, const ar_kernels *kernels) {
    for (int32_t mode = 0; mode < 2; mode++) {
        golden_batch one[2];
        for (int32_t k = 0; k < 2; k++) {
            advrob_context *ctx = test_context(k == 0 ? 1 : 3);
            ar_safetensors file;
            ctx->kernels = kernels;
            golden_open(ctx, "norm", name, &file);
            one[k] = run_operator(ctx, &file, name, mode);
            ar_safetensors_free(ctx, &file);
            ar_context_release(ctx);
        }
        golden_batch_same(&one[0], &one[1]);
        golden_batch_free(&one[0]);
        golden_batch_free(&one[1]);
    }
}

static void test_operator(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), files = 0;
    DIR *dir = opendir(GOLDEN_FOLDER "/norm");
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strstr(e->d_name, ".safetensors") == NULL) continue;
        files++;
        for (int32_t i = 0; i < count; i++)
            check_operator(e->d_name, tables[i]);
    }
    closedir(dir);
    print_message("%d files, %d tensors; worst y %.2g, dx %.2g, gradient %.2g, running %.2g\n",
                  files, compared, worst[0], worst[1], worst[2], worst[3]);
    assert_true(files >= 12 && compared == files * count * 2 * 10);
}

/* ---- a net ---- */

static advrob_model *net_model(advrob_context *ctx, const ar_safetensors *file) {
    advrob_model *model;
    const ar_attributes conv = {
        .kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .outputs = 5};
    const ar_attributes linear = {.outputs = 3, .bias = true};
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &model));
    int32_t at = add(model, "conv2d", "conv1", 0, 0, &conv);
    int32_t a = add(model, "relu", "relu1", add_norm(model, "bn1", at), 0, NULL);
    at = add_norm(model, "bn2", add(model, "conv2d", "conv2", a, 0, &conv));
    at = add(model, "relu", "relu2", add(model, "add", "add", at, a, NULL), 0, NULL);
    add(model, "linear", "fc", add(model, "global_avg_pool", "pool", at, 0, NULL), 0, &linear);
    golden_slab(model, file, "param", model->slab);
    ar_model_changed(model);
    return model;
}

static void compare_losses(const char *where, int64_t n, const double *got,
                           const ar_real *expected) {
    for (int64_t i = 0; i < n; i++)
        test_within(where, "loss", fabs(got[i] - (double)expected[i]) / (double)expected[i],
                    TOLERANCE_LOSS, NULL);
    compared++;
}

/* What an attack sees must be what training computes. */
static void check_target(advrob_model *model, int32_t mode, const golden_batch *b, const float *x,
                         const int32_t *y) {
    advrob_target *target;
    golden_batch other = golden_batch_make(model, b->n);
    if (mode == 1)
        test_ok(ar_target_from_model_batch(model, b->n, &target));
    else
        test_ok(ar_target_from_model(model, &target));
    test_ok(ar_target_forward(target, b->n, x, other.out));
    assert_memory_equal(other.out, b->out, sizeof(float) * (size_t)b->out_count);
    test_ok(ar_target_loss_gradient(target, "ce", b->n, x, y, other.losses, other.dx));
    assert_memory_equal(other.losses, b->losses, sizeof(double) * (size_t)b->n);
    test_within(modes[mode], "dx of a target", test_deviation(b->dx_count, other.dx, b->dx),
                TOLERANCE_OP, NULL);
    ar_target_release(target);
    golden_batch_free(&other);
}

typedef struct sample {
    const float *x;
    int64_t size;
    int32_t classes;
} sample;

static int32_t prepare(void *self, const ar_batch *batch, float *const *inputs) {
    const sample *s = self;
    memcpy(inputs[0], batch->x, sizeof(float) * (size_t)(batch->n * s->size));
    return ADVROB_OK;
}

static int32_t loss(void *self, const ar_batch *batch, const float *const *logits, double *losses,
                    float *const *dlogits) {
    const sample *s = self;
    double row[16];
    ar_loss_batch(&ar_loss_ce, batch->n, s->classes, logits[0], batch->y, NULL, row, losses,
                  dlogits[0], false, 1.0 / (double)batch->n);
    return ADVROB_OK;
}

/* Five steps on the batch's statistics; leaves the slab in `trained`. Weight decay must not touch
 * the running statistics. */
static void train(const char *where, const ar_safetensors *file, advrob_model *model, int64_t n,
                  const float *x, const int32_t *y, ar_real *trained) {
    ar_trainer *trainer;
    sample s = {x, ar_shape_count(model->nodes[0].shape), ar_model_classes(model)};
    ar_objective objective = {.self = &s, .branches = 1, .prepare = prepare, .loss = loss};
    ar_optimizer_settings settings = {.lr = 0.05, .momentum = 0.9, .weight_decay = 5e-4};
    int64_t ids[64] = {0}, steps = 0;
    ar_real *expected = golden_get(file, "sgd.loss", &steps);
    assert_true(n <= 64 && steps == 5);
    test_ok(ar_trainer_create(model, ar_optimizer_find("sgd"), n, 1, true, &trainer));
    for (int64_t step = 0; step < steps; step++) {
        ar_step_result result;
        ar_batch batch = {.n = n, .x = x, .y = y, .ids = ids, .step = step};
        test_ok(ar_trainer_step(trainer, &objective, &batch, &settings, &result));
        compare_losses(where, 1, &result.loss, expected + step);
    }
    ar_trainer_destroy(trainer);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        compare(where, file, "sgd", p->name, model->slab + p->offset, TOLERANCE_NET_GRADIENT,
                &worst[4]);
    }
    memcpy(trained, model->slab, sizeof(ar_real) * (size_t)model->slab_count);
    free(expected);
}

static golden_batch run_net(advrob_context *ctx, const ar_safetensors *file, int32_t mode,
                            ar_real *trained) {
    char where[160], part[32];
    int64_t n = 0;
    advrob_model *model = net_model(ctx, file);
    int32_t *y = golden_labels(file, "labels", &n);
    float *x = golden_get(file, "x", NULL);
    golden_batch b = golden_batch_make(model, n);
    snprintf(where, sizeof where, "bn_net, %s, %d threads", ctx->kernels->name,
             (int)ar_workers(ctx));
    golden_batch_run(&b, model, mode == 1, x, y);
    compare(where, file, modes[mode], "logits", b.out, TOLERANCE_LOGITS, &worst[0]);
    compare(where, file, modes[mode], "dx", b.dx, TOLERANCE_NET_GRADIENT, &worst[1]);
    snprintf(part, sizeof part, "%s.loss", modes[mode]);
    ar_real *losses = golden_get(file, part, NULL);
    compare_losses(where, n, b.losses, losses);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        char name[AR_NAME_SIZE + 16];
        ar_real *gradient = b.gradient + p->offset, *running = b.running + p->offset;
        for (int64_t k = 0; k < p->count; k++) {
            if (p->role >= AR_RUNNING_MEAN) assert_true(gradient[k] == 0);
            gradient[k] /= (ar_real)n; /* golden gradients are of the mean */
        }
        snprintf(name, sizeof name, "grad.%s", p->name);
        if (p->role < AR_RUNNING_MEAN)
            compare(where, file, modes[mode], name, gradient, TOLERANCE_NET_GRADIENT, &worst[2]);
        snprintf(name, sizeof name, "running.%s", p->name);
        if (p->role >= AR_RUNNING_MEAN && mode == 1)
            compare(where, file, modes[mode], name, running, TOLERANCE_OP, &worst[3]);
        else
            assert_memory_equal(running, model->slab + p->offset, sizeof(ar_real) * p->count);
    }
    check_target(model, mode, &b, x, y);
    if (mode == 1) train(where, file, model, n, x, y, trained);
    free(losses);
    free(x);
    free(y);
    ar_model_release(model);
    return b;
}

static void test_net(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    memset(worst, 0, sizeof worst);
    compared = 0;
    for (int32_t i = 0; i < 2 * count; i++) {
        ar_real trained[2][1024] = {{0}};
        golden_batch one[2];
        for (int32_t k = 0; k < 2; k++) {
            static test_allocator allocator;
            advrob_context *ctx = test_context_with(&allocator, k == 0 ? 1 : 3);
            ar_safetensors file;
            ctx->kernels = tables[i / 2];
            golden_open(ctx, "nets", "bn_net.safetensors", &file);
            one[k] = run_net(ctx, &file, i % 2, trained[k]);
            assert_true(one[k].slab_count <= 1024);
            ar_safetensors_free(ctx, &file);
            ar_context_release(ctx);
            test_allocator_check(&allocator);
        }
        golden_batch_same(&one[0], &one[1]);
        assert_memory_equal(trained[0], trained[1], sizeof trained[0]);
        golden_batch_free(&one[0]);
        golden_batch_free(&one[1]);
    }
    print_message("bn_net: %d tensors on %d tables; worst logits %.2g, dx %.2g, gradient %.2g, "
                  "running %.2g, trained %.2g\n",
                  compared, count, worst[0], worst[1], worst[2], worst[3], worst[4]);
    assert_true(compared >= 2 * count * 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operator),
        cmocka_unit_test(test_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
