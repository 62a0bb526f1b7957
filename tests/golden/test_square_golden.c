/* The Square Attack against the original's paths (square.py), image by image: with the same draws,
 * the same number of queries and the same verdict. A linear net, a small one, a published one;
 * l-inf and l2; the schedule of sizes as it is and stretched. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/options.h"

/* Losses differ in their last bits from the original's, so that a draw may fall out otherwise and
 * the paths part: images that may, and what that may do to the figures of all. */
#define SAME 0.97
#define FIGURE 0.02

typedef struct scene {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *target;
    ar_safetensors file;
    int64_t n, size;
    float *x;
    int32_t *y;
} scene;

static void open_scene(scene *s, const char *name) {
    char file[64];
    s->ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    snprintf(file, sizeof file, "%s.safetensors", name);
    golden_open(s->ctx, "square", file, &s->file);
}

static void close_scene(scene *s) {
    ar_target_release(s->target);
    ar_model_release(s->model);
    ar_safetensors_free(s->ctx, &s->file);
    ar_context_release(s->ctx);
    free(s->x);
    free(s->y);
}

static int compare_numbers(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

typedef struct figures {
    double success, median;
} figures;

static figures figures_of(int64_t n, const int32_t *fooled, const int32_t *queries) {
    int32_t *sorted = malloc(sizeof(int32_t) * (size_t)(n + 1));
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (fooled[i]) sorted[count++] = queries[i];
    assert_true(count > 10 && count < n); /* or they say nothing */
    qsort(sorted, (size_t)count, sizeof(int32_t), compare_numbers);
    figures f = {(double)count / (double)n, (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0};
    free(sorted);
    return f;
}

static void check(const scene *s, const char *net, const char *norm) {
    char key[64], text[256];
    int64_t count = 0, same = 0;
    snprintf(key, sizeof key, "%s.queries", norm);
    int32_t *queries = golden_labels(&s->file, key, &count);
    snprintf(key, sizeof key, "%s.fooled", norm);
    int32_t *fooled = golden_labels(&s->file, key, NULL);
    snprintf(key, sizeof key, "%s.epsilon", norm);
    assert_int_equal(count, s->n);
    snprintf(text, sizeof text, "norm=%s epsilon=%s queries=%d rescale=%d seed=1", norm,
             ar_safetensors_metadata(&s->file, key), golden_int(&s->file, "tries", 0),
             golden_int(&s->file, "rescale", 0));
    advrob_options *options = test_options(text);
    advrob_attack *square = NULL;
    test_ok(ar_attack_create(s->ctx, "square", options, &square));
    ar_options_destroy(options);
    ar_attack_record *records = malloc(sizeof *records * (size_t)s->n);
    ar_attack_call call = {.n = s->n, .x = s->x, .y = s->y, .records = records};
    test_ok(ar_attack_run(square, s->target, NULL, &call));
    int32_t *got_fooled = malloc(sizeof(int32_t) * (size_t)s->n);
    int32_t *got_queries = malloc(sizeof(int32_t) * (size_t)s->n);
    for (int64_t i = 0; i < s->n; i++) {
        got_fooled[i] = records[i].fooled;
        got_queries[i] = (int32_t)records[i].forwards - 1; /* the image itself was looked at */
        same += got_fooled[i] == fooled[i] && got_queries[i] == queries[i];
    }
    figures want = figures_of(s->n, fooled, queries);
    figures got = figures_of(s->n, got_fooled, got_queries);
    print_message("%s, %s: %lld of %lld paths are the original's; fooled %.4f (%.4f), median "
                  "queries %.1f (%.1f)\n",
                  net, norm, (long long)same, (long long)s->n, got.success, want.success,
                  got.median, want.median);
    assert_true((double)same >= SAME * (double)s->n);
    assert_true(fabs(got.success - want.success) <= FIGURE * want.success);
    assert_true(fabs(got.median - want.median) <= FIGURE * want.median);
    ar_attack_release(square);
    free(queries);
    free(fooled);
    free(got_fooled);
    free(got_queries);
    free(records);
}

/* ---- nets ---- */

static void add(advrob_model *model, const char *op, const char *name, int32_t outputs,
                int32_t kernel) {
    const int32_t step = kernel > 1 ? 2 : 1, border = kernel > 1 ? 1 : 0;
    ar_attributes a = {.kernel = {kernel, kernel},
                       .stride = {step, step},
                       .padding = {border, border},
                       .outputs = outputs,
                       .bias = true};
    int32_t inputs[AR_MAX_INPUTS] = {ar_model_output(model)};
    test_ok(ar_model_add(model, op, name, inputs, outputs > 0 ? &a : NULL, NULL));
}

static void test_linear(void **state) {
    (void)state;
    scene s;
    int64_t count = 0;
    open_scene(&s, "linear");
    s.x = golden_get(&s.file, "x", &count);
    s.y = golden_labels(&s.file, "labels", &s.n);
    test_ok(ar_model_create(s.ctx, (ar_shape){3, 10, 10}, &s.model));
    add(s.model, "flatten", "flatten", 0, 0);
    add(s.model, "linear", "fc", 5, 1);
    ar_real *weight = golden_get(&s.file, "weight", &count);
    assert_true(count == 5 * 300 && s.model->slab_count >= count);
    for (int32_t i = 0; i < s.model->parameter_count; i++) {
        const ar_parameter *p = &s.model->parameters[i];
        ar_real *to = s.model->slab + p->offset;
        memset(to, 0, sizeof(ar_real) * (size_t)p->count);
        if (p->count == count) memcpy(to, weight, sizeof(ar_real) * (size_t)count);
    }
    free(weight);
    ar_model_changed(s.model);
    test_ok(ar_target_from_model(s.model, &s.target));
    check(&s, "linear", "linf");
    check(&s, "linear", "l2");
    close_scene(&s);
}

static void test_tiny(void **state) {
    (void)state;
    scene s;
    ar_safetensors net;
    open_scene(&s, "tiny");
    s.x = golden_get(&s.file, "x", NULL);
    s.y = golden_labels(&s.file, "labels", &s.n);
    golden_open(s.ctx, "nets", "tiny.safetensors", &net);
    s.model = golden_net(s.ctx, "tiny", &net);
    ar_safetensors_free(s.ctx, &net);
    test_ok(ar_target_from_model(s.model, &s.target));
    check(&s, "tiny", "linf");
    close_scene(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_tiny),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
