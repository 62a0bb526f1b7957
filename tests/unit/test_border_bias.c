/* Border bias against what it stands for: an input channel that is the same everywhere, in whose
 * place it is. And all that carries it: copies, files, digests, folding, pruning, quantization. */
#include "support/support.h"

#include <math.h>

#include <advrob/compress.h>
#include <advrob/dataset.h>

#include "io/io.h"
#include "model/program.h"
#include "support/golden.h"
#include "support/one_op.h"
#include "support/prune.h"
#include "support/tangle.h"
#include "tolerance.h"

/* ---- the operator ---- */

enum { CHANNELS = 5, OUTPUTS = 7, IMAGES = 3 };

typedef struct place {
    ar_attributes attributes;
    ar_shape in;
    int32_t classes[2];
} place;

/* Counted by hand. */
static const place places[] = {
    {{{3, 3}, {1, 1}, {1, 1}, OUTPUTS, true}, {CHANNELS, 6, 9}, {3, 3}},
    {{{3, 3}, {1, 1}, {1, 1}, OUTPUTS, false}, {CHANNELS, 1, 2}, {1, 2}},
    {{{3, 3}, {2, 2}, {1, 1}, OUTPUTS, true}, {CHANNELS, 8, 9}, {2, 3}},
    {{{1, 1}, {1, 1}, {0, 0}, OUTPUTS, true}, {CHANNELS, 3, 4}, {1, 1}},
    {{{3, 3}, {1, 1}, {0, 0}, OUTPUTS, true}, {CHANNELS, 5, 4}, {1, 1}},
    {{{5, 4}, {1, 3}, {4, 2}, OUTPUTS, true}, {CHANNELS, 7, 8}, {9, 2}},
    {{{3, 3}, {1, 1}, {2, 2}, OUTPUTS, true}, {CHANNELS, 9, 5}, {5, 5}},
    {{{3, 2}, {1, 2}, {2, 1}, OUTPUTS, true, .dilation = {2, 3}}, {CHANNELS, 9, 8}, {3, 3}},
};

static double weight_at(const one_op *whole, int32_t o, int32_t c, int32_t ky, int32_t kx) {
    const ar_attributes *a = &whole->attributes;
    return (double)
        whole->weight[((o * (CHANNELS + 1) + c) * a->kernel[0] + ky) * a->kernel[1] + kx];
}

/* Taps of position o on an axis that lie inside, one bit each. */
static uint32_t taps_inside(const ar_attributes *a, int32_t axis, int32_t extent, int32_t o) {
    uint32_t bits = 0;
    for (int32_t k = 0; k < a->kernel[axis]; k++) {
        int32_t i = o * a->stride[axis] - a->padding[axis] + k * a->dilation[axis];
        if (i >= 0 && i < extent) bits |= 1u << k;
    }
    return bits;
}

static int32_t class_at(const ar_attributes *a, int32_t axis, int32_t extent, int32_t o) {
    int32_t class = 0;
    for (int32_t i = 1; i <= o; i++)
        class += taps_inside(a, axis, extent, i) != taps_inside(a, axis, extent, i - 1);
    return class;
}

/* The layer without its last channel, which is `value` everywhere. */
static void take_channel_away(const one_op *whole, double value, one_op *less) {
    const ar_attributes *a = &less->attributes;
    int32_t taps = a->kernel[0] * a->kernel[1];
    int64_t across = less->shapes[AR_BORDER_BIAS].shape[2];
    for (int32_t o = 0; o < OUTPUTS; o++) {
        memcpy(less->weight + o * CHANNELS * taps, whole->weight + o * (CHANNELS + 1) * taps,
               sizeof(ar_real) * (size_t)(CHANNELS * taps));
        for (int32_t p = 0; p < ar_shape_pixels(less->out); p++) {
            int32_t y = p / less->out.w, x = p % less->out.w;
            uint32_t rows = taps_inside(a, 0, less->in[0].h, y);
            uint32_t columns = taps_inside(a, 1, less->in[0].w, x);
            double sum = 0;
            for (int32_t t = 0; t < taps; t++)
                if ((rows >> t / a->kernel[1] & 1) && (columns >> t % a->kernel[1] & 1))
                    sum += weight_at(whole, o, CHANNELS, t / a->kernel[1], t % a->kernel[1]);
            int64_t class =
                class_at(a, 0, less->in[0].h, y) * across + class_at(a, 1, less->in[0].w, x);
            int64_t classes = less->parameters[AR_BORDER_BIAS] / OUTPUTS;
            less->border[o * classes + class] = (ar_real)(sum * value);
        }
    }
}

static void check_place(advrob_context *ctx, const place *p, const ar_kernels *kernels,
                        int32_t lanes, int32_t winograd, double *worst) {
    one_op whole, less;
    ar_kernels small = *kernels;
    ar_rng rng;
    ar_shape in[AR_MAX_INPUTS] = {p->in}, more[AR_MAX_INPUTS] = {p->in};
    ar_attributes a = p->attributes;
    const double value = 0.75;
    small.winograd_channels = 1;
    ar_rng_init(&rng, 3, AR_RNG_TEST, 0, 0, 0);
    more[0].c++;
    one_op_open(&whole, ctx, &small, "conv2d", &a, more, lanes, IMAGES, winograd);
    a.border_bias = true;
    one_op_open(&less, ctx, &small, "conv2d", &a, in, lanes, IMAGES, winograd);
    assert_int_equal(less.shapes[AR_BORDER_BIAS].rank, 3);
    assert_int_equal(less.shapes[AR_BORDER_BIAS].shape[0], OUTPUTS);
    assert_int_equal(less.shapes[AR_BORDER_BIAS].shape[1], p->classes[0]);
    assert_int_equal(less.shapes[AR_BORDER_BIAS].shape[2], p->classes[1]);
    for (int64_t i = 0; i < whole.parameters[0]; i++)
        whole.weight[i] = (ar_real)ar_rng_normal(&rng);
    for (int64_t i = 0; i < whole.parameters[1]; i++)
        whole.bias[i] = less.bias[i] = (ar_real)ar_rng_normal(&rng);
    int64_t image = ar_shape_count(in[0]), pixels = ar_shape_pixels(in[0]);
    for (int64_t n = 0; n < IMAGES; n++)
        for (int64_t i = 0; i < image + pixels; i++) {
            ar_real one = i < image ? (ar_real)ar_rng_normal(&rng) : (ar_real)value;
            whole.x[0][n * (image + pixels) + i] = one;
            if (i < image) less.x[0][n * image + i] = one;
        }
    take_channel_away(&whole, value, &less);
    one_op_forward(&whole);
    one_op_forward(&less);
    test_within(kernels->name, "y",
                test_deviation(IMAGES * ar_shape_count(less.out), less.y, whole.y), TOLERANCE_OP,
                worst);
    one_op_close(&whole);
    one_op_close(&less);
}

static void test_constant_channel(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), checked = 0;
    double worst = 0;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        for (int32_t t = 0; t < count; t++)
            for (int32_t winograd = 0; winograd <= 4; winograd += 2)
                for (int32_t lanes = 8; lanes <= 16; lanes += 8, checked++)
                    check_place(ctx, &places[i], tables[t], lanes, winograd, &worst);
    print_message("%d layers, worst %.2g\n", checked, worst);
    ar_context_release(ctx);
}

/* ---- what carries it ---- */

static void logits_of(advrob_model *model, const float *x, float *out) {
    ar_program *program;
    test_ok(ar_model_program(model, false, &program));
    test_ok(ar_program_forward(program, IMAGES, x, out));
}

static advrob_model *normed_build(advrob_context *ctx) {
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, 6, false, .border_bias = true};
    const ar_attributes norm = {.epsilon = 1e-5, .momentum = 0.1};
    const ar_attributes last = {.outputs = 4, .bias = true};
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 5}, &m));
    int32_t at = tangle_node(m, "batch_norm", tangle_node(m, "conv2d", 0, 0, &conv), 0, &norm);
    at = tangle_node(m, "conv2d", tangle_node(m, "relu", at, 0, NULL), 0, &conv);
    tangle_node(m, "linear", tangle_node(m, "flatten", at, 0, NULL), 0, &last);
    test_ok(ar_model_initialise(m, "he", 5));
    for (int32_t i = 0; i < m->parameter_count; i++)
        for (int64_t k = 0; k < m->parameters[i].count; k++) {
            ar_real *value = &m->slab[m->parameters[i].offset + k];
            if (m->parameters[i].role == AR_BORDER_BIAS) assert_true(*value == 0);
            if (m->parameters[i].role == AR_RUNNING_VAR) *value = (ar_real)(k + 1) / 3;
            if (m->parameters[i].role == AR_RUNNING_MEAN) *value = (ar_real)(k - 2) / 7;
        }
    tangle_borders(m);
    return m;
}

/* The first parameter of a model that is a border bias. */
static const ar_parameter *border_of(const advrob_model *model) {
    for (int32_t i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].role == AR_BORDER_BIAS) return &model->parameters[i];
    fail_msg("no border bias");
    return NULL;
}

/* One entry more or less changes what the model says. */
static void check_matters(advrob_model *model, const float *x) {
    float before[IMAGES * 4], after[IMAGES * 4];
    const ar_parameter *p = border_of(model);
    logits_of(model, x, before);
    model->slab[p->offset + 1] += 1;
    ar_model_changed(model);
    logits_of(model, x, after);
    assert_memory_not_equal(before, after, sizeof before);
    model->slab[p->offset + 1] -= 1;
    ar_model_changed(model);
}

static void check_close(const char *what, const float *a, const float *b, double tolerance) {
    double worst = 0, largest = 0;
    for (int32_t i = 0; i < IMAGES * 4; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    if (!(worst <= tolerance * largest)) fail_msg("%s: off by %g", what, worst / largest);
}

static void test_copies(void **state) {
    (void)state;
    char folder[256], path[512];
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    advrob_model *m = normed_build(ctx), *clone = NULL, *back = NULL;
    float *x = test_images(IMAGES, 60, 2), before[IMAGES * 4], after[IMAGES * 4];
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_string_equal(border_of(m)->name, "n1.border_bias");
    assert_int_equal(border_of(m)->count, 6 * 9);
    assert_int_equal(ar_model_trained(m), 6 * 2 * 9 + 12 + 6 * 6 * 9 + 4 * 180 + 4);
    check_matters(m, x);
    test_ok(ar_model_clone(m, &clone));
    assert_true(ar_model_digest(m) == ar_model_digest(clone));
    test_ok(ar_model_file_save(m, path));
    test_ok(ar_model_file_load(ctx, path, &back));
    assert_true(ar_model_digest(m) == ar_model_digest(back));
    logits_of(m, x, before);
    logits_of(back, x, after);
    assert_memory_equal(before, after, sizeof before);
    clone->slab[border_of(clone)->offset] += 1;
    assert_true(ar_model_digest(m) != ar_model_digest(clone));
    test_ok(ar_model_weights_load(clone, path));
    assert_true(ar_model_digest(m) == ar_model_digest(clone));
    free(x);
    test_folder_remove(folder);
    ar_model_release(m);
    ar_model_release(clone);
    ar_model_release(back);
    ar_context_release(ctx);
}

/* Folded into the layers, by the program or as a model, against the norm on its own. */
static void test_folded(void **state) {
    (void)state;
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables);
    for (int32_t t = 0; t < count; t++) {
        advrob_context *ctx = test_context_at(NULL, 1, tables[t]);
        advrob_model *m = normed_build(ctx), *folded = NULL;
        float *x = test_images(IMAGES, 60, 2), out[3][IMAGES * 4];
        ar_program *plain = NULL;
        test_ok(ar_program_create(m, ar_model_output(m), true, &plain));
        test_ok(ar_program_forward(plain, IMAGES, x, out[0]));
        logits_of(m, x, out[1]);
        test_ok(ar_model_fold(m, &folded));
        assert_int_equal(folded->node_count, m->node_count - 1);
        check_matters(folded, x);
        logits_of(folded, x, out[2]);
        check_close("the program's fold", out[1], out[0], TOLERANCE_LOGITS);
        assert_memory_equal(out[1], out[2], sizeof out[1]);
        free(x);
        ar_program_destroy(plain);
        ar_model_release(m);
        ar_model_release(folded);
        ar_context_release(ctx);
    }
}

static void test_compressed(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    advrob_model *m = normed_build(ctx), *small = NULL, *quantized = NULL;
    float *x = test_images(IMAGES, 60, 2), before[IMAGES * 4], after[IMAGES * 4];
    const int32_t labels[IMAGES] = {0, 1, 2};
    advrob_dataset *images = NULL;
    test_ok(advrob_dataset_from_memory(ctx, ADVROB_F32, x, labels, IMAGES, 2, 6, 5, 4, &images));
    test_ok(test_compress(m, "prune_l1", "", NULL, &small));
    const ar_parameter *p = border_of(small), *q = border_of(m);
    assert_int_equal(p->count, 3 * 9);
    for (int32_t r = 0; r < 3; r++) { /* each row is one of the whole's, in order */
        bool found = false;
        for (int32_t o = r; o < 6 && !found; o++)
            found = memcmp(small->slab + p->offset + r * 9, m->slab + q->offset + o * 9,
                           sizeof(ar_real) * 9) == 0;
        assert_true(found);
    }
    check_matters(small, x);
    test_ok(test_compress(m, "quant_ptq", "", images, &quantized));
    check_matters(quantized, x);
    logits_of(m, x, before);
    logits_of(quantized, x, after);
    check_close("8 bits", after, before, 0.1);
    free(x);
    advrob_dataset_destroy(images);
    ar_model_release(m);
    ar_model_release(small);
    ar_model_release(quantized);
    ar_context_release(ctx);
}

static void test_refused(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    advrob_model *m = NULL;
    const ar_attributes a = {.outputs = 3, .border_bias = true};
    const int32_t inputs[AR_MAX_INPUTS] = {0};
    test_ok(ar_model_create(ctx, (ar_shape){4, 1, 1}, &m));
    assert_int_equal(ar_model_add(m, "linear", "fc", inputs, &a, NULL), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "linear: a border bias"));
    ar_model_release(m);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant_channel), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_folded),           cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
