/* resnet18_cifar10 against PyTorch, at every kernel table, with frozen and with batch statistics:
 * logits, losses, gradients of pixels and parameters, running statistics; with 1 and 3 threads the
 * same bits. Weights and images are a formula (tests/golden/norm.py has the same); of each
 * parameter's gradient the file has sums and samples. */
#include "support/support.h"

#include <zlib.h>

#include "support/golden.h"
#include "support/golden_batch.h"
#include "tolerance.h"

#define FILE_NAME "resnet18_cifar10.safetensors"
#define SAMPLES 16
#define DIGEST (4 + SAMPLES) /* sum, sum of absolutes, sum of squares, largest, samples */

static const char *const modes[2] = {"frozen", "batch"};

static double worst_logits, worst_loss, worst_dx, worst_sum, worst_sample, worst_running;
static int32_t compared;

/* ---- the formula ---- */

static uint32_t seed_of(const char *name) {
    return (uint32_t)crc32(crc32(0, NULL, 0), (const Bytef *)name, (uInt)strlen(name));
}

static uint32_t hashed(uint32_t seed, uint32_t index) {
    uint32_t h = index * 0x9e3779b9u + seed;
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}

/* Multiples of 2^-23 in [-1, 1). */
static float uniform(uint32_t seed, uint32_t index) {
    return (float)((int32_t)(hashed(seed, index) >> 8) - 8388608) / 8388608.0f;
}

/* Every operation but the sums is exact; a sum may round. */
static void parameter_fill(const ar_parameter *p, ar_real *values) {
    const uint32_t seed = seed_of(p->name);
    double add = 0, scale = 0.125;
    if (p->rank > 1) {
        int64_t fan_in = p->count / p->shape[0];
        for (scale = 1; scale * scale * (double)fan_in >= 12;)
            scale /= 2;
    } else if (p->role == AR_RUNNING_VAR) {
        add = 1;
        scale = 0.5;
    } else if (p->role == AR_WEIGHT) {
        add = 1;
        scale = 0.25;
    }
    if (strcmp(p->name, "fc.weight") == 0) scale = 1.0 / 64;
    for (int64_t k = 0; k < p->count; k++)
        values[k] = (ar_real)(add + scale * (double)uniform(seed, (uint32_t)k));
}

/* [n, 3, 32, 32]: image i is made of squares of 4 * 2^i pixels. */
static float *images(int32_t seed, int64_t n) {
    char name[32];
    float *x = malloc(sizeof(float) * (size_t)n * 3072);
    snprintf(name, sizeof name, "images%d", (int)seed);
    const uint32_t hash = seed_of(name);
    for (uint32_t i = 0; i < n * 3072; i++) {
        const uint32_t image = i / 3072, plane = i / 1024, shift = image + 2;
        const uint32_t row = i / 32 % 32 >> shift, column = i % 32 >> shift;
        x[i] = (uniform(hash, plane * 1024 + row * 32 + column) + 1) / 2;
    }
    return x;
}

/* ---- comparison ---- */

/* Sums are held against the sum of absolutes, values against the largest. */
static void compare_digest(const char *where, const ar_safetensors *file, const char *mode,
                           const char *part, const ar_parameter *p, const ar_real *got,
                           double tolerance, double *sums, double *samples) {
    char name[160];
    int64_t count = 0;
    double d[4] = {0};
    const uint32_t seed = seed_of(p->name);
    snprintf(name, sizeof name, "%s.%s.%s", mode, part, p->name);
    ar_real *expected = golden_get(file, name, &count);
    assert_int_equal(count, DIGEST);
    for (int64_t k = 0; k < p->count; k++) {
        const double v = (double)got[k];
        d[0] += v;
        d[1] += fabs(v);
        d[2] += v * v;
        d[3] = fmax(d[3], fabs(v));
    }
    for (int32_t i = 0; i < 4; i++) {
        const double size = (double)expected[i == 0 ? 1 : i];
        test_within(where, name, fabs(d[i] - (double)expected[i]) / size, tolerance, sums);
    }
    for (uint32_t i = 0; i < SAMPLES; i++) {
        const double v = (double)got[hashed(seed, i) % (uint64_t)p->count];
        test_within(where, name, fabs(v - (double)expected[4 + i]) / (double)expected[3], tolerance,
                    samples);
    }
    free(expected);
    compared++;
}

static void compare_floats(const char *where, const ar_safetensors *file, const char *mode,
                           const char *part, const float *got, double tolerance, double *largest) {
    char name[64];
    int64_t count = 0;
    snprintf(name, sizeof name, "%s.%s", mode, part);
    ar_real *expected = golden_get(file, name, &count);
    test_within(where, name, test_deviation(count, got, expected), tolerance, largest);
    free(expected);
    compared++;
}

static void compare_all(const char *where, const ar_safetensors *file, const char *mode,
                        const advrob_model *model, golden_batch *b) {
    float losses[64];
    assert_true(b->n <= 64);
    for (int64_t i = 0; i < b->n; i++)
        losses[i] = (float)b->losses[i];
    compare_floats(where, file, mode, "logits", b->out, TOLERANCE_OP, &worst_logits);
    compare_floats(where, file, mode, "loss", losses, TOLERANCE_OP, &worst_loss);
    compare_floats(where, file, mode, "dx", b->dx, TOLERANCE_SMOOTH_GRADIENT, &worst_dx);
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        ar_real *gradient = b->gradient + p->offset, *running = b->running + p->offset;
        if (p->role < AR_RUNNING_MEAN) {
            for (int64_t k = 0; k < p->count; k++)
                gradient[k] /= (ar_real)b->n; /* golden gradients are of the mean */
            compare_digest(where, file, mode, "grad", p, gradient, TOLERANCE_SMOOTH_GRADIENT,
                           &worst_sum, &worst_sample);
        } else if (strcmp(mode, "batch") == 0) {
            compare_digest(where, file, mode, "running", p, running, TOLERANCE_OP, &worst_running,
                           &worst_running);
        }
    }
}

/* ---- the net ---- */

static golden_batch run(const ar_kernels *kernels, int32_t winograd, int32_t threads,
                        int32_t mode) {
    char where[96], key[32];
    int64_t n = 0;
    advrob_context *ctx = test_context(threads);
    advrob_model *model;
    ar_safetensors file;
    ctx->kernels = kernels;
    ctx->winograd = winograd;
    snprintf(where, sizeof where, "%s, winograd %d, %d threads", kernels->name, (int)winograd,
             (int)threads);
    golden_open(ctx, "nets", FILE_NAME, &file);
    test_ok(ar_zoo_build(ctx, "resnet18_cifar10", NULL, &model));
    assert_int_equal(ar_model_trained(model), 11173962);
    assert_int_equal(ar_model_trained(model), golden_int(&file, "parameters", 0));
    for (int32_t i = 0; i < model->parameter_count; i++)
        parameter_fill(&model->parameters[i], model->slab + model->parameters[i].offset);
    ar_model_changed(model);
    int32_t *y = golden_labels(&file, "labels", &n);
    snprintf(key, sizeof key, "seed_%s", modes[mode]);
    float *x = images(golden_int(&file, key, 0), n);
    golden_batch b = golden_batch_make(model, n);
    golden_batch_run(&b, model, mode == 1, x, y);
    compare_all(where, &file, modes[mode], model, &b);
    free(x);
    free(y);
    ar_model_release(model);
    ar_safetensors_free(ctx, &file);
    ar_context_release(ctx);
    return b;
}

static void check(int32_t mode) {
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), runs = 0;
    compared = 0;
    worst_logits = worst_loss = worst_dx = worst_sum = worst_sample = worst_running = 0;
    for (int32_t i = TEST_SANITIZED ? count - 1 : 0; i < count; i++)
        for (int32_t winograd = 0; winograd <= 4; winograd += 4) {
            if (winograd > 0 && tables[i]->winograd_channels == 0) continue;
            golden_batch one = run(tables[i], winograd, 1, mode);
            golden_batch three = run(tables[i], winograd, 3, mode);
            golden_batch_same(&one, &three);
            golden_batch_free(&one);
            golden_batch_free(&three);
            runs++;
        }
    print_message("%s statistics: %d tensors on %d tables; worst logits %.2g, loss %.2g, dx %.2g, "
                  "gradients' sums %.2g, samples %.2g, running statistics %.2g\n",
                  modes[mode], compared, count, worst_logits, worst_loss, worst_dx, worst_sum,
                  worst_sample, worst_running);
    assert_int_equal(compared, runs * 2 * (3 + 62 + (mode == 1 ? 40 : 0)));
}

static void test_frozen(void **state) {
    (void)state;
    check(0);
}

static void test_batch(void **state) {
    (void)state;
    check(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
