/* FGSM and PGD against the paths that PyTorch took, step by step, at every kernel table; and PGD on
 * the margin loss against finite differences. */
#include "support/support.h"

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/options.h"
#include "tolerance.h"

enum { STEPS = 20 };

/* Shares and sizes that a path may differ by: a gradient that is nearly zero may have either sign.
 */
#define PIXEL_EQUAL 1e-6
#define PIXELS_EQUAL 0.99
#define LOSS_FLOOR 1e-3

typedef struct case_data {
    advrob_context *ctx;
    ar_safetensors file;
    advrob_model *model;
    advrob_target *target;
    int64_t n, size;
    float *x, *moved;
    int32_t *y, *predictions;
    double *losses;
} case_data;

static void open_case(case_data *c, const char *net, const ar_kernels *kernels) {
    char name[64];
    int64_t pixels = 0;
    c->ctx = test_context(2);
    c->ctx->kernels = kernels;
    snprintf(name, sizeof name, "%s.safetensors", net);
    golden_open(c->ctx, "nets", name, &c->file);
    c->model = golden_net(c->ctx, net, &c->file);
    test_ok(ar_target_from_model(c->model, &c->target));
    c->x = golden_get(&c->file, "x", &pixels);
    c->y = golden_labels(&c->file, "labels", &c->n);
    c->size = pixels / c->n;
    c->moved = malloc(sizeof(float) * (size_t)pixels);
    c->predictions = malloc(sizeof(int32_t) * (size_t)c->n);
    c->losses = malloc(sizeof(double) * (size_t)c->n);
}

static void close_case(case_data *c) {
    free(c->x);
    free(c->y);
    free(c->moved);
    free(c->predictions);
    free(c->losses);
    ar_target_release(c->target);
    ar_model_release(c->model);
    ar_safetensors_free(c->ctx, &c->file);
    ar_context_release(c->ctx);
}

static void run_attack(case_data *c, const char *name, const char *text) {
    advrob_options *options = test_options(text);
    advrob_attack *attack;
    test_ok(ar_attack_create(c->ctx, name, options, &attack));
    ar_options_destroy(options);
    ar_attack_call call = {.n = c->n,
                           .x = c->x,
                           .y = c->y,
                           .adversarial = c->moved,
                           .predictions = c->predictions,
                           .losses = c->losses};
    test_ok(ar_attack_run(attack, c->target, NULL, &call));
    ar_attack_release(attack);
}

/* The share of pixels that are as in tensor `name`. */
static double equal_share(const case_data *c, const char *name) {
    int64_t count = 0, equal = 0;
    float *expected = golden_get(&c->file, name, &count);
    assert_int_equal(count, c->n * c->size);
    for (int64_t i = 0; i < count; i++)
        equal += fabs((double)c->moved[i] - (double)expected[i]) <= PIXEL_EQUAL;
    free(expected);
    return (double)equal / (double)count;
}

static double worst_loss(const case_data *c, const float *expected) {
    double worst = 0;
    for (int64_t i = 0; i < c->n; i++) {
        double off =
            fabs(c->losses[i] - (double)expected[i]) / fmax(fabs((double)expected[i]), LOSS_FLOOR);
        worst = off > worst || isnan(off) ? off : worst;
    }
    return worst;
}

static void check_path(const char *net, const ar_kernels *kernels) {
    case_data c;
    char text[96];
    double worst = 0, off, share;
    int64_t count = 0;
    int32_t fooled = 0;
    open_case(&c, net, kernels);
    float *losses = golden_get(&c.file, "pgd.loss", &count);
    int32_t *predictions = golden_labels(&c.file, "pgd.pred", NULL);
    assert_int_equal(count, (STEPS + 1) * c.n);
    assert_int_equal(golden_int(&c.file, "steps", 0), STEPS);
    test_ok(ar_target_loss_gradient(c.target, "ce", c.n, c.x, c.y, c.losses, NULL));
    test_within(net, "loss before the attack", worst_loss(&c, losses), TOLERANCE_LOSS, &worst);
    for (int32_t steps = 1; steps <= STEPS; steps++) {
        snprintf(text, sizeof text, "epsilon=0.05 step=0.005 random_start=0 steps=%d", steps);
        run_attack(&c, "pgd", text);
        off = worst_loss(&c, losses + steps * c.n);
        snprintf(text, sizeof text, "loss after step %d", steps);
        test_within(net, text, off, TOLERANCE_LOSS, &worst);
    }
    share = equal_share(&c, "pgd.final");
    print_message("%s, %s: worst loss %.2g, equal pixels %.5f", net, kernels->name, worst, share);
    assert_true(share >= PIXELS_EQUAL);
    for (int64_t i = 0; i < c.n; i++) {
        assert_int_equal(c.predictions[i], predictions[i]);
        fooled += predictions[i] != c.y[i];
    }
    assert_true(fooled > 0 && fooled < c.n); /* or the verdicts say nothing */
    run_attack(&c, "fgsm", "epsilon=0.05");
    share = equal_share(&c, "fgsm.final");
    print_message(", FGSM %.5f, %d fooled\n", share, fooled);
    assert_true(share >= PIXELS_EQUAL);
    free(losses);
    free(predictions);
    close_case(&c);
}

static void check_paths(const char *net) {
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t i = 0; i < count; i++)
        check_path(net, tables[i]);
}

static void test_tiny(void **state) {
    (void)state;
    check_paths("tiny");
}

static void test_eight_layer_conv(void **state) {
    (void)state;
    check_paths("eight_layer_conv");
}

/* The margin loss of every sample at c->x with pixel p of each moved by h. */
static void margin_at(case_data *c, int64_t p, float h, double *losses) {
    float *x = malloc(sizeof(float) * (size_t)(c->n * c->size));
    memcpy(x, c->x, sizeof(float) * (size_t)(c->n * c->size));
    for (int64_t i = 0; i < c->n; i++)
        x[i * c->size + p] += h;
    test_ok(ar_target_loss_gradient(c->target, "margin", c->n, x, c->y, losses, NULL));
    free(x);
}

/* One step of PGD on the margin loss moves each pixel to where the loss rises. */
static void check_margin(const char *net, const ar_kernels *kernels) {
    const float h = 1.0f / 512;
    case_data c;
    int64_t compared = 0, right = 0;
    open_case(&c, net, kernels);
    size_t count = (size_t)(c.n * c.size);
    double *slope = malloc(sizeof(double) * count);
    double *up = malloc(sizeof(double) * (size_t)c.n), *down = malloc(sizeof(double) * (size_t)c.n);
    for (int64_t p = 0; p < c.size; p++) {
        margin_at(&c, p, h, up);
        margin_at(&c, p, -h, down);
        for (int64_t i = 0; i < c.n; i++)
            slope[i * c.size + p] = (up[i] - down[i]) / (2 * (double)h);
    }
    run_attack(&c, "pgd", "epsilon=0.05 step=0.005 random_start=0 steps=1 loss=margin clip=0");
    for (int64_t i = 0; i < c.n; i++) {
        double largest = 0;
        for (int64_t p = 0; p < c.size; p++)
            largest = fmax(largest, fabs(slope[i * c.size + p]));
        for (int64_t p = 0; p < c.size; p++) {
            int64_t k = i * c.size + p;
            if (fabs(slope[k]) < 0.1 * largest) continue;
            double moved = (double)c.moved[k] - (double)c.x[k];
            right += fabs(moved - (slope[k] > 0 ? 0.005 : -0.005)) < 1e-6;
            compared++;
        }
    }
    print_message("%s, %s: %lld of %lld pixels follow the finite difference\n", net, kernels->name,
                  (long long)right, (long long)compared);
    assert_true(compared > 10 * c.n && (double)right >= PIXELS_EQUAL * (double)compared);
    free(slope);
    free(up);
    free(down);
    close_case(&c);
}

static void test_margin(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t i = 0; i < count; i++)
        check_margin("tiny", tables[i]);
    check_margin("eight_layer_conv", ar_kernels_get(ar_cpu_detect(), false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_eight_layer_conv),
        cmocka_unit_test(test_margin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
