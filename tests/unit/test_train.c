/* The training step: against PyTorch's, against gradients summed otherwise, for any batch size and
 * number of threads; what it allocates; and that a failed or cancelled step leaves the weights
 * alone. */
#include "support/support.h"

#include <pthread.h>
#include <unistd.h>

#include "method/method.h"
#include "support/golden.h"

#include "support/batch.h"
#include "support/golden_net.h"
#include "support/images.h"
#include "support/options.h"
#include "support/training.h"
#include "tolerance.h"

static advrob_context *open_context(test_allocator *allocator, int32_t threads,
                                    const ar_kernels *kernels) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = kernels != NULL ? kernels : ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

/* The task of the tests: 10 classes on the tiny net. */
static advrob_dataset *task(advrob_context *ctx, int64_t n) {
    return test_dataset(ctx, n, (ar_shape){1, 8, 8}, 10, 0.3, 3);
}

static size_t slab_bytes(const advrob_model *model) {
    return sizeof(ar_real) * (size_t)model->slab_count;
}

/* A trainer with the objective of standard training. */
typedef struct stepper {
    ar_objective_room room;
    ar_objective objective;
    ar_trainer *trainer;
    double scratch[16];
} stepper;

static void open_stepper(stepper *s, advrob_model *model, int64_t most) {
    const ar_method *method = NULL;
    memset(s, 0, sizeof *s);
    assert_true(ar_model_classes(model) <= 16);
    test_ok(ar_method_find("standard", &method));
    s->room = (ar_objective_room){.scratch = s->scratch,
                                  .size = ar_shape_count(model->nodes[0].shape),
                                  .classes = ar_model_classes(model)};
    s->objective = (ar_objective){
        .self = &s->room, .branches = 1, .prepare = method->prepare, .loss = method->loss};
    test_ok(ar_trainer_create(model, ar_optimizer_find("sgd"), most, 1, true, &s->trainer));
}

/* ---- against PyTorch ---- */

static void check_sgd(const char *net, const ar_kernels *kernels) {
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator, 2, kernels);
    ar_safetensors file;
    char name[64];
    int64_t n = 0, steps = 0;
    double worst_loss = 0, worst = 0;
    stepper s;
    snprintf(name, sizeof name, "%s.safetensors", net);
    golden_open(ctx, "nets", name, &file);
    advrob_model *model = golden_net(ctx, net, &file);
    float *x = golden_get(&file, "x", NULL), *losses = golden_get(&file, "sgd.loss", &steps);
    int32_t *y = golden_labels(&file, "labels", &n);
    ar_real *expected = malloc(slab_bytes(model));
    int64_t ids[64] = {0};
    ar_batch images = {n, x, y, ids, 0, 0};
    ar_optimizer_settings settings = {0.05, 0.9, 1e-4};
    assert_true(steps == 5 && n <= 64);
    open_stepper(&s, model, n);
    for (int64_t step = 0; step < steps; step++) {
        ar_step_result result;
        test_ok(ar_trainer_step(s.trainer, &s.objective, &images, &settings, &result));
        double off = fabs(result.loss / (double)losses[step] - 1);
        test_within(net, "loss", off, TOLERANCE_LOSS, &worst_loss);
    }
    golden_slab(model, &file, "sgd", expected);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        test_within(net, p->name,
                    test_deviation(p->count, model->slab + p->offset, expected + p->offset),
                    TOLERANCE_NET_GRADIENT, &worst);
    }
    print_message("%s, %s: loss off by %.2g, weights by %.2g\n", net, kernels->name, worst_loss,
                  worst);
    ar_trainer_destroy(s.trainer);
    ar_model_release(model);
    ar_safetensors_free(ctx, &file);
    free(x);
    free(losses);
    free(y);
    free(expected);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_golden_sgd(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t i = 0; i < count; i++) {
        check_sgd("tiny", tables[i]);
        check_sgd("eight_layer_conv", tables[i]);
    }
}

/* ---- batch sizes ---- */

/* Two steps with n images, held against gradients that are summed in tiles of 8 and an update in
 * double; `most`: the batch that the trainer was made for. */
static void check_batch(const char *net, int64_t n, int64_t most) {
    const double lr = 0.05, momentum = 0.9, decay = 0.01;
    advrob_context *ctx = open_context(NULL, 3, NULL);
    advrob_model *model = test_zoo(ctx, net), *copy = NULL;
    ar_shape shape = model->nodes[0].shape;
    advrob_dataset *data = test_dataset(ctx, n, shape, 10, 0.3, 3);
    size_t slab = (size_t)model->slab_count;
    float *x = malloc(sizeof(float) * (size_t)(n * ar_shape_count(shape)));
    double *velocity = calloc(slab, sizeof(double)), *weights = malloc(sizeof(double) * slab);
    double losses[512], largest = 0, worst = 0;
    ar_real *gradient = malloc(slab_bytes(model));
    int64_t ids[512] = {0};
    int32_t y[512];
    ar_optimizer_settings settings = {lr, momentum, decay};
    ar_batch images = {n, x, y, ids, 0, 0};
    stepper s;
    test_ok(ar_dataset_gather(data, 0, NULL, n, x, y));
    test_ok(ar_model_clone(model, &copy));
    for (size_t i = 0; i < slab; i++)
        weights[i] = (double)copy->slab[i];
    open_stepper(&s, model, most);
    for (int32_t step = 0; step < 2; step++) {
        ar_program *program;
        ar_step_result result;
        double mean = 0;
        test_ok(ar_model_program(copy, false, &program));
        batch_gradient(program, 8, n, x, y, losses, gradient, NULL);
        for (size_t i = 0; i < slab; i++) {
            velocity[i] = momentum * velocity[i] + (double)gradient[i] + decay * weights[i];
            weights[i] -= lr * velocity[i];
            copy->slab[i] = (ar_real)weights[i];
        }
        ar_model_changed(copy);
        test_ok(ar_trainer_step(s.trainer, &s.objective, &images, &settings, &result));
        for (int64_t i = 0; i < n; i++)
            mean += losses[i] / (double)n;
        assert_true(fabs(result.loss - mean) < 1e-6 && result.correct <= n);
    }
    for (size_t i = 0; i < slab; i++) {
        worst = fmax(worst, fabs((double)model->slab[i] - weights[i]));
        largest = fmax(largest, fabs(weights[i]));
    }
    test_within(net, "two steps", worst / largest, TOLERANCE_OP, NULL);
    ar_trainer_destroy(s.trainer);
    free(x);
    free(velocity);
    free(weights);
    free(gradient);
    ar_dataset_release(data);
    ar_model_release(model);
    ar_model_release(copy);
    ar_context_release(ctx);
}

static void test_batch_sizes(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 8, 9, 16, 17, 100, 511, 512};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        check_batch("tiny", sizes[k], sizes[k]);
        check_batch("tiny", sizes[k], 512);
    }
    check_batch("conv_small", 9, 9); /* so many weights that the update comes in pieces */
}

/* ---- threads and levels ---- */

static const training runs[] = {
    {"standard", NULL, NULL, 17, 3, 0.05, 0.9, 1e-4, 4},
    {"pgd_at", "epsilon=0.05 step=0.02 steps=3", NULL, 16, 2, 0.05, 0.9, 0, 4},
};

static void test_threads_and_levels(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++) {
        ar_real *reference = NULL;
        int64_t slab = 0;
        for (int32_t i = 0; i < count; i++) {
            ar_real *first = NULL;
            for (int32_t threads = 1; threads <= 3; threads++) {
                advrob_context *ctx = open_context(NULL, threads, tables[i]);
                advrob_model *model = test_zoo(ctx, "tiny");
                advrob_dataset *data = task(ctx, 100);
                training t = runs[r];
                t.data = data;
                slab = model->slab_count;
                test_ok(training_run(&t, model, INT64_MAX, NULL, NULL));
                if (first == NULL) {
                    first = malloc(slab_bytes(model));
                    memcpy(first, model->slab, slab_bytes(model));
                }
                if (memcmp(first, model->slab, slab_bytes(model)) != 0)
                    fail_msg("%s, %s: %d threads give other bits", t.method, tables[i]->name,
                             threads);
                ar_dataset_release(data);
                ar_model_release(model);
                ar_context_release(ctx);
            }
            if (reference == NULL) {
                reference = first;
                continue;
            }
            double off = test_deviation(slab, first, reference);
            print_message("%s: %s against %s: weights off by %.2g\n", runs[r].method,
                          tables[i]->name, tables[0]->name, off);
            test_within(runs[r].method, "weights", off, TOLERANCE_NET_GRADIENT, NULL);
            free(first);
        }
        free(reference);
    }
}

/* ---- what a step allocates ---- */

static void test_steady_state(void **state) {
    (void)state;
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++)
        for (int32_t threads = 1; threads <= 3; threads++) {
            advrob_context *ctx = open_context(NULL, threads, NULL);
            advrob_dataset *data = task(ctx, 100);
            uint64_t calls[2];
            int64_t steps[2];
            for (int32_t k = 0; k < 2; k++) {
                /* The same trainer for few and for many steps; what remains is that of the steps.
                 */
                advrob_model *model = test_zoo(ctx, "tiny");
                training t = runs[r];
                ar_program *program;
                ar_workspace *all[3];
                t.data = data;
                t.epochs = k == 0 ? 1 : 9;
                test_ok(ar_model_program(model, false, &program));
                for (int32_t i = 0; i < threads; i++) /* as if every worker had had a tile */
                    test_ok(ar_workspace_take(program, AR_RUN_INPUT_GRADIENT, 16, &all[i]));
                for (int32_t i = 0; i < threads; i++)
                    ar_workspace_give(all[i]);
                calls[k] = ctx->memory.calls;
                test_ok(training_run(&t, model, INT64_MAX, &steps[k], NULL));
                calls[k] = ctx->memory.calls - calls[k];
                ar_model_release(model);
            }
            double each = (double)(calls[1] - calls[0]) / (double)(steps[1] - steps[0]);
            print_message("%s, %d threads: %g allocations a step\n", runs[r].method, threads, each);
            assert_true(steps[1] - steps[0] >= 40);
            assert_true(each == 0);
            ar_dataset_release(data);
            ar_context_release(ctx);
        }
}

/* ---- failures ---- */

/* The weights after `steps` good steps of the run. */
static ar_real *weights_after(const training *t, int64_t steps) {
    advrob_model *model = test_zoo(t->data->ctx, "tiny");
    ar_real *weights = malloc(slab_bytes(model));
    int64_t done = 0;
    test_ok(training_run(t, model, steps, &done, NULL));
    assert_int_equal(done, steps);
    memcpy(weights, model->slab, slab_bytes(model));
    ar_model_release(model);
    return weights;
}

static void test_nan_pixel(void **state) {
    (void)state;
    enum { N = 60, BATCH = 8, AT = 21 };
    for (int32_t r = 0; r < 2; r++) {
        static test_allocator allocator;
        advrob_context *ctx = open_context(&allocator, 2, NULL);
        advrob_dataset *data = task(ctx, N);
        advrob_model *model = test_zoo(ctx, "tiny");
        training t = {runs[r].method, NULL, data, BATCH, 1, 0.05, 0.9, 0, ctx->seed};
        int64_t order[N];
        char says[64];
        ar_shuffle(ctx->seed, AR_RNG_SHUFFLE, 0, N, order); /* the third batch meets it */
        ((float *)data->images->pixels)[order[AT] * 64 + 10] = NAN;
        assert_int_equal(finetune_run(model, t.method, "epochs=1 batch_size=8 lr=0.05 momentum=0.9",
                                      data, NULL, NULL),
                         ADVROB_E_NONFINITE);
        snprintf(says, sizeof says, "batch %d", AT / BATCH);
        if (strstr(ar_message(), says) == NULL || strstr(ar_message(), "epoch 1") == NULL)
            fail_msg("%s", ar_message());
        ar_real *expected = weights_after(&t, AT / BATCH);
        assert_memory_equal(model->slab, expected, slab_bytes(model));
        test_ok(ar_model_check_finite(model));
        test_ok(ar_model_check_unfrozen(model));
        free(expected);
        ar_model_release(model);
        ar_dataset_release(data);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
}

static void test_exploding_rate(void **state) {
    (void)state;
    static const struct { double lr, decay; } rates[] = {{1e6, 1e6}, {1e6, 0.1}, {300, 1}};
    advrob_context *ctx = open_context(NULL, 2, NULL);
    advrob_dataset *data = task(ctx, 60);
    for (size_t k = 0; k < sizeof rates / sizeof rates[0]; k++) {
        advrob_model *model = test_zoo(ctx, "tiny"), *twin = test_zoo(ctx, "tiny");
        training t = {"standard", NULL, data, 8, 50, rates[k].lr, 1, rates[k].decay, ctx->seed};
        char text[128], message[AR_MESSAGE_SIZE];
        int64_t done = 0;
        ar_real *weights = malloc(slab_bytes(model) * 400);
        snprintf(text, sizeof text, "epochs=50 batch_size=8 lr=%g momentum=1 weight_decay=%g",
                 rates[k].lr, rates[k].decay);
        assert_int_equal(finetune_run(model, "standard", text, data, NULL, NULL),
                         ADVROB_E_NONFINITE);
        ar_copy_text(message, sizeof message, ar_message());
        test_ok(ar_model_check_finite(model));
        assert_int_equal(training_run(&t, twin, 400, &done, weights), ADVROB_E_NONFINITE);
        print_message("rate %g: after %d good steps: %s\n", rates[k].lr, (int)done, message);
        assert_true(done > 0 && done < 400);
        assert_memory_equal(model->slab, weights + (done - 1) * model->slab_count,
                            slab_bytes(model));
        assert_memory_equal(twin->slab, model->slab, slab_bytes(model));
        free(weights);
        ar_model_release(model);
        ar_model_release(twin);
    }
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* Losses that are numbers, and a gradient that is not. */
static int32_t bad_gradient(void *self, const ar_batch *images, const float *const *logits,
                            double *losses, float *const *dlogits) {
    int32_t status = ar_method_mean_ce(self, images, logits, losses, dlogits);
    dlogits[0][7] = INFINITY;
    return status;
}

static int32_t bad_loss(void *self, const ar_batch *images, const float *const *logits,
                        double *losses, float *const *dlogits) {
    int32_t status = ar_method_mean_ce(self, images, logits, losses, dlogits);
    losses[5] = NAN;
    return status;
}

static int32_t no_loss(void *self, const ar_batch *images, const float *const *logits,
                       double *losses, float *const *dlogits) {
    int32_t status = ar_method_mean_ce(self, images, logits, losses, dlogits);
    return status < 0 ? status : ar_error(ADVROB_E_CALLBACK, "no loss today");
}

static void test_bad_objectives(void **state) {
    (void)state;
    static const struct {
        int32_t (*loss)(void *self, const ar_batch *images, const float *const *logits,
                        double *losses, float *const *dlogits);
        int32_t status;
        const char *says;
    } bad[] = {
        {bad_loss, ADVROB_E_NONFINITE, "the loss of sample 5 of batch 3 in epoch 3"},
        {bad_gradient, ADVROB_E_NONFINITE, "the gradient of conv1.weight in batch 3 of epoch 3"},
        {no_loss, ADVROB_E_CALLBACK, "no loss today"}};
    advrob_context *ctx = open_context(NULL, 2, NULL);
    advrob_dataset *data = task(ctx, 20);
    advrob_model *model = test_zoo(ctx, "tiny");
    ar_optimizer_settings settings = {0.1, 0.9, 0};
    ar_step_result result;
    float x[20 * 64];
    int32_t y[20];
    int64_t ids[20] = {0};
    ar_batch images = {20, x, y, ids, 2, 3};
    stepper s;
    uint64_t digest = ar_model_digest(model);
    test_ok(ar_dataset_gather(data, 0, NULL, 20, x, y));
    open_stepper(&s, model, 20);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        s.objective.loss = bad[i].loss;
        int32_t status = ar_trainer_step(s.trainer, &s.objective, &images, &settings, &result);
        if (status != bad[i].status || strstr(ar_message(), bad[i].says) == NULL)
            fail_msg("%d, %s", status, ar_message());
        assert_true(ar_model_digest(model) == digest);
    }
    s.objective.loss = ar_method_mean_ce;
    test_ok(ar_trainer_step(s.trainer, &s.objective, &images, &settings, &result));
    assert_true(ar_model_digest(model) != digest);
    ar_trainer_destroy(s.trainer);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* Loss and gradient are in order and the update is not. */
static void test_weight_overflow(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL, 1, NULL);
    advrob_dataset *data = task(ctx, 8);
    advrob_model *model = test_zoo(ctx, "tiny");
    const ar_parameter *bias = &model->parameters[ar_model_find_parameter(model, "fc.bias")];
    ar_optimizer_settings settings = {1e6, 0.9, 1e6};
    ar_step_result result;
    float x[8 * 64];
    int32_t y[8];
    int64_t ids[8] = {0};
    ar_batch images = {8, x, y, ids, 0, 0};
    stepper s;
    for (int64_t i = 0; i < bias->count; i++)
        model->slab[bias->offset + i] = 1e30f;
    ar_model_changed(model);
    ar_real *before = malloc(slab_bytes(model));
    memcpy(before, model->slab, slab_bytes(model));
    test_ok(ar_dataset_gather(data, 0, NULL, 8, x, y));
    open_stepper(&s, model, 8);
    assert_int_equal(ar_trainer_step(s.trainer, &s.objective, &images, &settings, &result),
                     ADVROB_E_NONFINITE);
    assert_non_null(strstr(ar_message(), "fc.bias"));
    assert_memory_equal(before, model->slab, slab_bytes(model));
    ar_trainer_destroy(s.trainer);
    free(before);
    ar_model_release(model);
    ar_dataset_release(data);
    ar_context_release(ctx);
}

/* ---- cancelling ---- */

typedef struct canceller {
    advrob_context *ctx;
    int64_t steps, at;
    bool by_flag;
    double time;
} canceller;

static int32_t count_steps(void *user, const char *what, int64_t done, int64_t total,
                           double value) {
    canceller *c = user;
    assert_string_equal(what, "train");
    assert_true(done == ++c->steps && done <= total && isfinite(value));
    if (done != c->at) return 0;
    if (c->by_flag) advrob_context_cancel(c->ctx);
    return c->by_flag ? 0 : 1;
}

static void test_cancel_at_step(void **state) {
    (void)state;
    for (int32_t k = 0; k < 4; k++) {
        advrob_context *ctx = open_context(NULL, 2, NULL);
        advrob_dataset *data = task(ctx, 60);
        advrob_model *model = test_zoo(ctx, "tiny");
        training t = runs[k / 2];
        canceller c = {.ctx = ctx, .at = 11, .by_flag = k % 2 == 1};
        char text[160];
        t.data = data;
        t.batch = 8;
        t.epochs = 3;
        t.seed = ctx->seed;
        snprintf(text, sizeof text, "epochs=3 batch_size=8 lr=%g momentum=%g weight_decay=%g%s",
                 t.lr, t.momentum, t.decay,
                 k / 2 ? " attack.epsilon=0.05 attack.step=0.02 attack.steps=3" : "");
        advrob_context_set_progress(ctx, count_steps, &c);
        assert_int_equal(finetune_run(model, t.method, text, data, NULL, NULL), ADVROB_E_CANCELLED);
        advrob_context_set_progress(ctx, NULL, NULL);
        assert_true(c.steps == 11);
        advrob_context_rearm(ctx);
        ar_real *expected = weights_after(&t, 11);
        assert_memory_equal(model->slab, expected, slab_bytes(model));
        free(expected);
        /* The net and the context are fit for use. */
        test_ok(finetune_run(model, "standard", "epochs=1", data, NULL, NULL));
        ar_model_release(model);
        ar_dataset_release(data);
        ar_context_release(ctx);
    }
}

static void *cancel_later(void *arg) {
    canceller *c = arg;
    usleep(40000);
    c->time = ar_clock();
    advrob_context_cancel(c->ctx);
    return NULL;
}

/* From another thread, at any moment: the weights are those after some whole step. */
static void test_cancel_anywhere(void **state) {
    (void)state;
    enum { STEPS = 4000 };
    double least = INFINITY;
    for (int32_t k = 0; k < 6; k++) {
        advrob_context *ctx = open_context(NULL, 1 + k % 3, NULL);
        advrob_dataset *data = task(ctx, 64);
        advrob_model *model = test_zoo(ctx, "tiny"), *twin = test_zoo(ctx, "tiny");
        training t = {"pgd_at", "epsilon=0.05 step=0.02 steps=60", data, 16, 1000, 0.01, 0.9, 0,
                      ctx->seed};
        canceller c = {.ctx = ctx};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, &c), 0);
        assert_int_equal(
            finetune_run(model, "pgd_at",
                         "epochs=1000 batch_size=16 lr=0.01 attack.epsilon=0.05 attack.step=0.02 "
                         "attack.steps=60",
                         data, NULL, NULL),
            ADVROB_E_CANCELLED);
        double end = ar_clock();
        pthread_join(thread, NULL);
        least = fmin(least, end - c.time);
        advrob_context_rearm(ctx);
        bool found = memcmp(model->slab, twin->slab, slab_bytes(model)) == 0;
        ar_real *weights = malloc(slab_bytes(model) * STEPS);
        for (int64_t steps = 8; steps <= STEPS && !found; steps *= 4) {
            advrob_model *fresh = test_zoo(ctx, "tiny");
            test_ok(training_run(&t, fresh, steps < STEPS ? steps : STEPS, NULL, weights));
            for (int64_t i = 0; i < steps && !found; i++)
                found =
                    memcmp(model->slab, weights + i * model->slab_count, slab_bytes(model)) == 0;
            ar_model_release(fresh);
        }
        assert_true(found);
        free(weights);
        ar_model_release(model);
        ar_model_release(twin);
        ar_dataset_release(data);
        ar_context_release(ctx);
    }
    print_message("cancelled within %.1f ms at best\n", least * 1e3);
    assert_true(least < 0.2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_sgd),         cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_threads_and_levels), cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_nan_pixel),          cmocka_unit_test(test_exploding_rate),
        cmocka_unit_test(test_bad_objectives),     cmocka_unit_test(test_weight_overflow),
        cmocka_unit_test(test_cancel_at_step),     cmocka_unit_test(test_cancel_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
