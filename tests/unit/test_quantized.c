/* Quantized graphs: values, masks and straight-through gradients against a direct computation; and
 * graphs that change after their first run. */
#include "support/support.h"

#include "model/oracle.h"
#include "model/program.h"
#include "support/backward.h"
#include "support/golden.h"

#include "support/tangle.h"

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
    const ar_real input = 0x1p-5f, inner = 0x1p-4f, outer = 0x1p-5f, coarse = 0x1p-3f;
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
        weight[i] =
            fake(m->slab[p->offset + i], q->scales[q->count == 1 ? 0 : i / (p->count / outputs)],
                 (float)q->low, (float)q->high, &kept[i]);
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
        clamped[1] += sum > 0 && !kept;
    }
    for (int32_t k = 0; k < QK; k++) {
        float sum = 0;
        for (int32_t i = 0; i < QO * QPIXELS; i++)
            sum += net->linear[k * QO * QPIXELS + i] * a[i];
        q->out[n][k] = fake(sum, 0x1p-5f, -6, 6, &kept);
        clamped[2] += !kept;
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
        clamped[0] += !x_kept[i];
}

static void library_quantized(advrob_model *model, quantized *q) {
    ar_program *program;
    ar_workspace *tiles[2];
    const float *dout[2] = {q->dout[0], q->dout[8]};
    float *dx[2] = {q->dx[0], q->dx[8]};
    ar_real *gradient = calloc((size_t)model->slab_count, sizeof(ar_real));
    test_ok(ar_model_program(model, false, &program));
    for (int32_t t = 0; t < 2; t++) {
        int32_t count = t == 0 ? 8 : QN - 8;
        test_ok(ar_workspace_take(program, AR_RUN_TRAIN, 8, &tiles[t]));
        memset(tiles[t]->memory, 0xff, tiles[t]->plan->size);
        ar_run_forward(tiles[t], count, q->x[8 * t], q->out[8 * t]);
    }
    test_backward(tiles, 2, dout, dx, gradient);
    memcpy(q->dconv, gradient + model->parameters[0].offset, sizeof q->dconv);
    memcpy(q->dlinear, gradient + model->parameters[2].offset, sizeof q->dlinear);
    ar_workspace_give(tiles[0]);
    ar_workspace_give(tiles[1]);
    free(gradient);
}

static void check_quantized(const ar_kernels *kernels) {
    advrob_context *ctx = test_context(1);
    ctx->kernels = kernels;
    advrob_model *model = build_quantized(ctx);
    quantized *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    direct_net net;
    ar_rng rng;
    int32_t clamped[3] = {0}, dropped = 0; /* of the input, after the ReLU, of the logits */
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
        direct_image(&net, a, n, clamped);
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
    print_message("%s: %d, %d and %d values and %d weights clamped\n", kernels->name, clamped[0],
                  clamped[1], clamped[2], dropped);
    assert_true(clamped[0] > 20 && clamped[1] > 20 && clamped[2] > 5 && clamped[2] < QN * QK - 5);
    assert_true(dropped > 5 && ar_model_quantized(model));
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

/* One change of more than values. */
static void change(advrob_model *m, int32_t which) {
    const double mean = 0.3, deviation = 0.2;
    const ar_real scale = 0x1p-5f;
    const ar_attributes linear = {.outputs = 10};
    if (which == 0) test_ok(ar_model_set_normalisation(m, &mean, 1, &deviation, 1));
    if (which == 1) test_ok(ar_quant_set(m, &m->nodes[0].output, 4, 0, 15, 0, &scale, 1));
    if (which != 2) return;
    tangle_node(m, "linear", ar_model_output(m), 0, &linear);
    for (int64_t k = 0; k < 100; k++)
        m->slab[m->slab_count - 1 - k] = 0.1f * (float)(k % 7) - 0.3f;
    ar_model_changed(m);
}

/* A model that has run and then changed answers as one that had never run before the change. */
static void test_recompiled(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    float *x = test_images(6, 64, 2), out[2][6 * 10], dx[2][6 * 64], before[6 * 10];
    const int32_t y[6] = {0, 1, 2, 3, 0, 1};
    for (int32_t which = 0; which < 3; which++) {
        advrob_model *models[2];
        ar_program *program;
        models[0] = test_net(ctx, "tiny");
        test_ok(ar_model_program(models[0], false, &program));
        test_ok(ar_program_forward(program, 6, x, before));
        test_ok(ar_model_clone(models[0], &models[1]));
        for (int32_t i = 0; i < 2; i++) {
            advrob_target *target;
            change(models[i], which);
            test_ok(ar_target_from_model(models[i], &target));
            test_ok(ar_target_forward(target, 6, x, out[i]));
            test_ok(ar_target_loss_gradient(target, "ce", 6, x, y, NULL, dx[i]));
            ar_target_release(target);
            ar_model_release(models[i]);
        }
        assert_memory_equal(out[0], out[1], sizeof out[0]);
        assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
        assert_memory_not_equal(out[0], before, sizeof before);
    }
    free(x);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantized_graph),
        cmocka_unit_test(test_recompiled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
