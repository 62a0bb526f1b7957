/* Post-training quantization: the records that it makes, against ranges and errors found here from
 * the values themselves; where its points lie; and that the result is a model like any other. */
#include "support/support.h"

#include "compress/compress.h"
#include "io/io.h"
#include "method/method.h"
#include "model/oracle.h"
#include "support/golden.h"

#include "support/options.h"
#include "support/quantized.h"

enum { IMAGES = 40 };

static int32_t quantize(const advrob_model *model, const advrob_dataset *data, const char *text,
                        advrob_model **out) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    test_ok(advrob_compressor_create(model->ctx, "quant_ptq", options, &compressor));
    ar_options_destroy(options);
    int32_t status = advrob_compressor_run(compressor, model, data, out);
    advrob_compressor_destroy(compressor);
    return status;
}

/* ---- records ---- */

static double value_error(const test_values *r, const ar_quant *q) {
    double error = 0, scale = (double)q->scales[0];
    for (int64_t i = 0; i < r->count; i++) {
        double code = rint((double)r->v[i] / scale) + q->zero;
        double off = (fmin(fmax(code, q->low), q->high) - q->zero) * scale - (double)r->v[i];
        error += off * off;
    }
    return error;
}

/* A scale and a zero point for [low, high], stretched to hold zero. */
static void check_affine(const char *where, const ar_quant *q, int32_t bits, double low,
                         double high) {
    double codes = ldexp(1, bits) - 1, scale;
    low = fmin(low, 0);
    high = fmax(high, 0);
    scale = (high - low) / codes;
    if (q->bits != bits || q->low != 0 || q->high != codes || q->count != 1)
        fail_msg("%s: %d bits, codes %g to %g, %d scales", where, q->bits, q->low, q->high,
                 q->count);
    if (!(fabs((double)q->scales[0] - scale) <= 1e-6 * scale))
        fail_msg("%s: scale %.9g, expected %.9g", where, (double)q->scales[0], scale);
    if (q->zero != rint(q->zero) || fabs(q->zero + low / scale) > 0.5 + 1e-6)
        fail_msg("%s: zero point %g, expected about %g", where, q->zero, -low / scale);
    if (low == 0) assert_true(q->zero == 0);
}

static void check_weights(const advrob_model *m, const ar_node *node, int32_t bits, bool channels) {
    const ar_parameter *p = &m->parameters[node->weight];
    const ar_quant *q = &node->weights;
    double top = bits == 1 ? 1 : ldexp(1, bits - 1) - 1;
    assert_int_equal(q->bits, bits);
    assert_int_equal(q->count, channels ? p->shape[0] : 1);
    assert_true(q->low == -top && q->high == top && q->zero == 0);
    int64_t per = p->count / q->count;
    for (int32_t c = 0; c < q->count; c++) {
        double largest = 0, sum = 0;
        for (int64_t i = c * per; i < (c + 1) * per; i++) {
            largest = fmax(largest, fabs((double)m->slab[p->offset + i]));
            sum += fabs((double)m->slab[p->offset + i]);
        }
        double scale = bits == 1 ? sum / (double)per : largest / top;
        if (largest == 0) scale = bits == 1 ? 0 : 1;
        if (!(fabs((double)q->scales[c] - scale) <= 1e-6 * scale + 1e-37))
            fail_msg("%s, channel %d: scale %.9g, expected %.9g", node->name, c,
                     (double)q->scales[c], scale);
    }
}

/* How many values a quantized weight of channel c takes; 64 stands for more too. */
static int32_t levels(const ar_program *program, const ar_node *node, int32_t c) {
    const ar_parameter *p = &program->model->parameters[node->weight];
    int64_t per = p->count / p->shape[0];
    const ar_real *w = program->effective + p->offset + c * per;
    float seen[64];
    int32_t count = 0;
    for (int64_t i = 0; i < per && count < 64; i++) {
        int32_t k = 0;
        while (k < count && seen[k] != w[i])
            k++;
        if (k == count) seen[count++] = w[i];
    }
    return count;
}

/* Whether the sum i is part of the layer that makes one of its terms: the later one, if nobody else
 * reads it. */
static bool joins_layer(const advrob_model *m, int32_t i) {
    const int32_t *terms = m->nodes[i].inputs;
    const int32_t later = terms[0] > terms[1] ? terms[0] : terms[1];
    return strcmp(m->nodes[i].op->name, "add") == 0 && m->nodes[later].weight >= 0 &&
           ar_model_only_user(m, later) == i;
}

/* Every layer ends in one point: at itself, at the sum that it is the last to reach, or at the ReLU
 * behind either; so does every other sum. Nothing else has one, but for the input, and the last
 * node has none. */
static void check_points(const advrob_model *m, bool input) {
    assert_true((m->nodes[0].output.bits > 0) == input);
    for (int32_t i = 1; i < m->node_count; i++) {
        const ar_node *node = &m->nodes[i];
        const bool sum = strcmp(node->op->name, "add") == 0;
        const int32_t before = node->inputs[0], after = ar_model_only_user(m, i);
        const bool layer = node->weight >= 0 || joins_layer(m, i);
        bool wanted = layer || sum;
        if (layer && after > 0)
            wanted = strcmp(m->nodes[after].op->name, "relu") != 0 && !joins_layer(m, after);
        if (strcmp(node->op->name, "relu") == 0)
            wanted = before > 0 && ar_model_only_user(m, before) == i &&
                     (m->nodes[before].weight >= 0 || joins_layer(m, before));
        if (node->weight >= 0 && after > 0 && joins_layer(m, after)) {
            const int32_t *terms = m->nodes[after].inputs;
            wanted = i < terms[0] || i < terms[1]; /* the earlier term of the two */
        }
        wanted = wanted && i != ar_model_output(m);
        if ((node->output.bits > 0) != wanted)
            fail_msg("%s of %s: a quantization point is %s", node->name, m->zoo,
                     wanted ? "missing" : "too many");
        assert_true((node->weights.bits > 0) == (node->weight >= 0));
    }
}

static void check_records(advrob_model *m, const advrob_dataset *data, int32_t bits,
                          bool channels) {
    char text[128], where[192];
    advrob_model *q = NULL;
    ar_program *program;
    uint64_t digest = ar_model_digest(m);
    snprintf(text, sizeof text, "weight_bits=%d activation_bits=%d weight_granularity=%s images=%d",
             bits, bits, channels ? "channel" : "tensor", IMAGES);
    test_ok(quantize(m, data, text, &q));
    assert_true(ar_model_digest(m) == digest && ar_model_digest(q) != digest);
    assert_true(!ar_model_quantized(m) && ar_model_quantized(q));
    advrob_model *folded = NULL;
    test_ok(ar_model_fold_normalisation(m, &folded));
    assert_int_equal(folded->slab_count, q->slab_count);
    assert_memory_equal(folded->slab, q->slab, sizeof(ar_real) * (size_t)q->slab_count);
    ar_model_release(folded);
    check_points(q, true);
    test_ok(ar_model_program(q, false, &program));
    for (int32_t i = 0; i < q->node_count; i++) {
        const ar_node *node = &q->nodes[i];
        if (node->weight >= 0) {
            check_weights(q, node, bits, channels);
            int32_t most = bits >= 6 ? 64 : 1 << bits;
            for (int32_t c = 0; c < node->shape.c; c++)
                assert_in_range(levels(program, node, c), 1, most);
        }
        if (node->output.bits == 0) continue;
        if (i == 0) { /* pixels */
            check_affine("input", &node->output, bits, 0, 1);
            continue;
        }
        test_values r = test_values_of(m, i, data, IMAGES);
        snprintf(where, sizeof where, "%s, %s, %d bits", m->zoo, node->name, bits);
        check_affine(where, &node->output, bits, r.low, r.high);
        free(r.v);
    }
    ar_model_release(q);
}

static void test_records(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "conv_small"};
    static const int32_t bits[] = {16, 8, 4, 2, 1};
    static test_allocator allocator;
    advrob_context *ctx = test_quant_context(&allocator, 2);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *model = test_quant_net(ctx, nets[n]);
        /* More images than are looked at; and, in one net, a filter of zeros. */
        advrob_dataset *data = test_quant_images(model, IMAGES + 30, 3);
        const ar_parameter *p = &model->parameters[0];
        if (n == 0)
            memset(model->slab + p->offset, 0, sizeof(ar_real) * (size_t)(p->count / p->shape[0]));
        ar_model_changed(model);
        for (size_t b = 0; b < sizeof bits / sizeof bits[0]; b++)
            for (int32_t channels = 0; channels < 2; channels++)
                check_records(model, data, bits[b], channels != 0);
        ar_dataset_release(data);
        ar_model_release(model);
    }
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* A filter of zeros stays one, also where weights have a sign alone. */
static void test_zero_filter(void **state) {
    (void)state;
    advrob_context *ctx = test_quant_context(NULL, 1);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, IMAGES, 3);
    const ar_parameter *p = &m->parameters[0];
    memset(m->slab + p->offset, 0, sizeof(ar_real) * (size_t)(p->count / p->shape[0]));
    ar_model_changed(m);
    for (int32_t bits = 1; bits <= 8; bits++) {
        char text[64];
        ar_program *program;
        snprintf(text, sizeof text, "weight_bits=%d", bits);
        test_ok(quantize(m, data, text, &q));
        test_ok(ar_model_program(q, false, &program));
        for (int64_t i = 0; i < p->count / p->shape[0]; i++)
            assert_true(fabsf(program->effective[p->offset + i]) <= 1e-37f);
        assert_true(fabsf(program->effective[p->offset + p->count - 1]) > 1e-3f || bits > 1);
        ar_model_release(q);
    }
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* A box of one sign: the range still holds zero, for padding is zero. */
static void test_one_sided(void **state) {
    (void)state;
    static const double lows[] = {1, -3}, highs[] = {3, -1}, one[] = {1};
    advrob_context *ctx = test_quant_context(NULL, 1);
    for (int32_t k = 0; k < 2; k++) {
        advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
        test_ok(ar_model_set_box(m, &(ar_f64_array){lows + k, 1}, &(ar_f64_array){highs + k, 1},
                                 &(ar_f64_array){one, 1}));
        advrob_dataset *data = test_quant_images(m, IMAGES, 3);
        test_ok(quantize(m, data, "activation_bits=4", &q));
        check_affine("input", &q->nodes[0].output, 4, lows[k], highs[k]);
        assert_true(q->nodes[0].output.zero == (k == 0 ? 0 : 15));
        ar_model_release(q);
        ar_dataset_release(data);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

/* The normalisation becomes part of the first layer, border and all: the same logits. */
static void test_folded_normalisation(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "mlp", "resnet20"};
    advrob_context *ctx = test_quant_context(NULL, 2);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *m = test_quant_net(ctx, nets[n]), *folded = NULL;
        const int32_t channels = m->nodes[0].shape.c;
        static const double mean[] = {0.5, 0.4, 0.3}, std[] = {0.3, 0.2, 0.5};
        enum { FEW = 5 };
        test_ok(ar_model_set_normalisation(m, mean, (size_t)channels, std, (size_t)channels));
        test_ok(ar_model_fold_normalisation(m, &folded));
        for (int32_t c = 0; c < channels; c++)
            assert_true(folded->mean[c] == 0 && folded->std[c] == 1);
        float *x = malloc(sizeof(float) * FEW * (size_t)ar_shape_count(m->nodes[0].shape));
        float a[FEW * 10], b[FEW * 10];
        double largest = 0, off = 0;
        ar_program *program;
        ar_model_noise(m, FEW, x);
        test_ok(ar_model_program(m, false, &program));
        test_ok(ar_program_forward(program, FEW, x, a));
        test_ok(ar_model_program(folded, false, &program));
        test_ok(ar_program_forward(program, FEW, x, b));
        for (int32_t i = 0; i < FEW * ar_model_classes(m); i++) {
            largest = fmax(largest, fabs((double)a[i]));
            off = fmax(off, fabs((double)a[i] - (double)b[i]));
        }
        print_message("%s: %.2g of %.2g\n", nets[n], off, largest);
        assert_true(off <= 1e-5 * largest);
        free(x);
        ar_model_release(folded);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

/* ---- ranges ---- */

static void check_percentile(advrob_model *m, const advrob_dataset *data, double percentile) {
    char text[96];
    advrob_model *q = NULL;
    snprintf(text, sizeof text, "range=percentile percentile=%g", percentile);
    test_ok(quantize(m, data, text, &q));
    for (int32_t i = 1; i < q->node_count; i++) {
        const ar_quant *record = &q->nodes[i].output;
        if (record->bits == 0) continue;
        test_values r = test_values_of(m, i, data, IMAGES);
        double bin = (r.high - r.low) / 2048, scale = (double)record->scales[0];
        /* The ends of the range, to the half step that the zero point was rounded by. */
        double high = (record->high - record->zero) * scale, low = -record->zero * scale;
        double sides = r.low < 0 ? 2 : 1, tail = (double)r.count * (1 - percentile / 100) / sides;
        double far_above = 0, above = 0, far_below = 0, below = 0, slack = scale / 2 + 2 * bin;
        for (int64_t k = 0; k < r.count; k++) {
            double v = (double)r.v[k];
            far_above += v > high + slack;
            above += v > high - slack;
            far_below += v < low - slack;
            below += v < low + slack;
        }
        bool good = far_above <= tail && above >= tail && (r.low >= 0 || low < 0);
        if (r.low < 0) good = good && far_below <= tail && below >= tail;
        if (!good)
            fail_msg("%s at %g %%: [%g, %g] of [%g, %g] leaves out %g and %g of %g",
                     m->nodes[i].name, percentile, low, high, r.low, r.high, below, above, tail);
        free(r.v);
    }
    ar_model_release(q);
}

static void test_percentile(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual"};
    advrob_context *ctx = test_quant_context(NULL, 1);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *m = test_quant_net(ctx, nets[n]), *a = NULL, *b = NULL;
        advrob_dataset *data = test_quant_images(m, IMAGES, 3);
        check_percentile(m, data, 99.9);
        check_percentile(m, data, 99);
        check_percentile(m, data, 90);
        test_ok(quantize(m, data, "range=percentile percentile=100", &a));
        test_ok(quantize(m, data, "", &b));
        for (int32_t i = 0; i < m->node_count; i++)
            if (a->nodes[i].output.bits > 0)
                assert_true(fabsf(a->nodes[i].output.scales[0] / b->nodes[i].output.scales[0] - 1) <
                            1e-5f);
        ar_model_release(a);
        ar_model_release(b);
        ar_dataset_release(data);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

static double weight_error(const advrob_model *q, const ar_node *node, int32_t c) {
    const ar_parameter *p = &q->parameters[node->weight];
    int64_t per = p->count / node->weights.count;
    double error = 0, scale = (double)node->weights.scales[c];
    for (int64_t i = c * per; i < (c + 1) * per; i++) {
        double w = (double)q->slab[p->offset + i], code = rint(w / scale);
        double off = fmin(fmax(code, node->weights.low), node->weights.high) * scale - w;
        error += off * off;
    }
    return error;
}

/* On the calibration images themselves, the search for the least squared error does not lose. */
static void test_mse(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual"};
    advrob_context *ctx = test_quant_context(NULL, 1);
    int32_t better = 0, all = 0, better_values = 0, all_values = 0;
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++)
        for (int32_t bits = 2; bits <= 5; bits++) {
            advrob_model *m = test_quant_net(ctx, nets[n]), *plain = NULL, *mse = NULL;
            advrob_dataset *data = test_quant_images(m, IMAGES, 3);
            char text[96];
            snprintf(text, sizeof text, "weight_bits=%d activation_bits=%d", bits, bits);
            test_ok(quantize(m, data, text, &plain));
            snprintf(text, sizeof text,
                     "weight_bits=%d activation_bits=%d range=mse weight_range=mse", bits, bits);
            test_ok(quantize(m, data, text, &mse));
            for (int32_t i = 0; i < m->node_count; i++) {
                const ar_node *a = &mse->nodes[i], *b = &plain->nodes[i];
                for (int32_t c = 0; c < a->weights.count; c++) {
                    double ea = weight_error(mse, a, c), eb = weight_error(plain, b, c);
                    assert_true(ea <= eb * (1 + 1e-6));
                    better += ea < 0.95 * eb;
                    all++;
                }
                if (a->output.bits == 0) continue;
                test_values r = test_values_of(m, i, data, IMAGES);
                double ea = value_error(&r, &a->output), eb = value_error(&r, &b->output);
                if (!(ea <= eb * 1.001)) /* the search sees a histogram */
                    fail_msg("%s, %d bits: error %g with mse, %g without", a->name, bits, ea, eb);
                better_values += ea < 0.95 * eb;
                all_values++;
                free(r.v);
            }
            ar_model_release(plain);
            ar_model_release(mse);
            ar_dataset_release(data);
            ar_model_release(m);
        }
    print_message("mse is better by 5 %% for %d of %d weights and %d of %d values\n", better, all,
                  better_values, all_values);
    assert_true(better > all / 4 && better_values > all_values / 4);
    ar_context_release(ctx);
}

/* ---- a model like any other ---- */

static void test_use(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "conv_small"};
    advrob_context *ctx = test_quant_context(NULL, 2);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *m = test_quant_net(ctx, nets[n]), *q = NULL;
        advrob_dataset *data = test_quant_images(m, IMAGES, 3);
        int64_t size = ar_shape_count(m->nodes[0].shape), classes = ar_model_classes(m);
        float *x = malloc(sizeof(float) * (size_t)(IMAGES * size)), *dx;
        float *plain = malloc(sizeof(float) * (size_t)(IMAGES * classes));
        float *got = malloc(sizeof(float) * (size_t)(IMAGES * classes));
        int32_t y[IMAGES];
        dx = malloc(sizeof(float) * (size_t)(IMAGES * size));
        test_ok(ar_dataset_gather(data, 0, NULL, IMAGES, x, y));
        test_ok(advrob_model_forward(m, IMAGES, x, plain));
        double off[2];
        for (int32_t k = 0; k < 2; k++) {
            test_ok(quantize(
                m, data,
                k ? "weight_bits=4 activation_bits=4" : "weight_bits=16 activation_bits=16", &q));
            test_ok(advrob_model_forward(q, IMAGES, x, got));
            off[k] = test_deviation(IMAGES * classes, got, plain);
            advrob_target *target = NULL;
            int64_t moving = 0;
            test_ok(ar_target_from_model(q, &target));
            test_ok(ar_target_loss_gradient(target, "ce", IMAGES, x, y, NULL, dx));
            for (int64_t i = 0; i < IMAGES * size; i++) {
                assert_true(isfinite(dx[i]));
                moving += dx[i] != 0;
            }
            assert_true(moving > IMAGES * size / 2);
            ar_target_release(target);
            ar_model_release(q);
        }
        print_message("%s: 16 bits off by %.2g of the largest logit, 4 bits by %.2g\n", nets[n],
                      off[0], off[1]);
        assert_true(off[0] < 1e-2 && off[1] > off[0]);
        free(x);
        free(dx);
        free(plain);
        free(got);
        ar_dataset_release(data);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

static void test_finetune(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "weight_bits=4 activation_bits=4", "weight_bits=2 activation_bits=4",
        "weight_bits=1 activation_bits=8 weight_granularity=tensor"};
    advrob_context *ctx = test_quant_context(NULL, 2);
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
        advrob_dataset *data = test_quant_images(m, 200, 3);
        advrob_options *options = test_options("epochs=4 lr=0.02 batch_size=16");
        advrob_finetune *fit = NULL;
        advrob_history *history = NULL;
        double first, last;
        test_ok(quantize(m, data, texts[k], &q));
        test_ok(ar_finetune_create(ctx, "standard", options, &fit));
        ar_options_destroy(options);
        test_ok(ar_finetune_run(fit, q, data, NULL, &history));
        test_ok(ar_history_get(history, 0, "loss", &first));
        test_ok(ar_history_get(history, 3, "loss", &last));
        print_message("\"%s\": loss %.3f in the first epoch, %.3f in the last\n", texts[k], first,
                      last);
        assert_true(last < (k < 3 ? 0.8 : 0.95) * first && first < 5);
        assert_true(ar_model_quantized(q));
        ar_history_release(history);
        ar_finetune_release(fit);
        ar_dataset_release(data);
        ar_model_release(q);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

static void test_same_again(void **state) {
    (void)state;
    static const char *const texts[] = {"", "range=mse weight_range=mse weight_bits=3",
                                        "range=percentile percentile=99 activation_bits=2",
                                        "range=moving_average batch_size=7 bias_correction=1",
                                        "weight_bits=2 bias_correction=1 float_layers=conv2"};
    char folder[512], path[600];
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/q.safetensors", folder);
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        uint64_t digest = 0;
        for (int32_t threads = 1; threads <= 3; threads++) {
            advrob_context *ctx = test_quant_context(NULL, threads);
            advrob_model *m = test_quant_net(ctx, "tiny_residual"), *q = NULL, *loaded = NULL;
            advrob_dataset *data = test_quant_images(m, IMAGES, 3);
            test_ok(quantize(m, data, texts[k], &q));
            if (threads == 1) digest = ar_model_digest(q);
            assert_true(ar_model_digest(q) == digest);
            test_ok(ar_model_file_save(q, path));
            test_ok(ar_model_file_load(ctx, path, &loaded));
            assert_true(ar_model_digest(loaded) == digest);
            ar_model_release(loaded);
            ar_model_release(q);
            ar_dataset_release(data);
            ar_model_release(m);
            ar_context_release(ctx);
        }
    }
    test_folder_remove(folder);
}

static void test_options_and_errors(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = test_quant_context(&allocator, 1);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL, *again = NULL, *other;
    advrob_dataset *data = test_quant_images(m, 20, 3), *narrow, *first = NULL;
    advrob_compressor *compressor = NULL;
    char *plan = NULL;
    assert_int_equal(quantize(m, NULL, "", &q), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "calibration"));
    other = test_quant_net(ctx, "conv_small");
    narrow = test_quant_images(other, 20, 3);
    assert_int_equal(quantize(m, narrow, "", &q), ADVROB_E_SHAPE);
    assert_non_null(strstr(ar_message(), "1 x 28 x 28"));
    assert_int_equal(quantize(other, data, "", &q), ADVROB_E_SHAPE);
    /* "images" looks at the first ones alone. */
    test_ok(ar_dataset_slice(data, 0, 7, &first));
    test_ok(quantize(m, data, "images=7", &q));
    test_ok(quantize(m, first, "", &again));
    assert_true(ar_model_digest(q) == ar_model_digest(again));
    ar_model_release(again);
    assert_int_equal(quantize(q, data, "", &again), ADVROB_E_UNSUPPORTED);
    ar_model_release(q);
    test_ok(quantize(m, data, "input=0", &q));
    check_points(q, false);
    /* The plan tells each node's record. */
    test_ok(advrob_compressor_create(ctx, "quant_ptq", NULL, &compressor));
    test_ok(advrob_compressor_plan(compressor, m, data, &plan));
    for (int32_t i = 0; i < m->node_count; i++)
        if (q->nodes[i].output.bits > 0 || q->nodes[i].weights.bits > 0)
            assert_non_null(strstr(plan, m->nodes[i].name));
    advrob_text_destroy(ctx, plan);
    m->slab[3] = INFINITY;
    assert_int_equal(advrob_compressor_run(compressor, m, data, &again), ADVROB_E_NONFINITE);
    m->slab[3] = 3e38f; /* sums that pass the largest float */
    m->slab[4] = 3e38f;
    ar_model_changed(m);
    assert_int_equal(advrob_compressor_run(compressor, m, data, &again), ADVROB_E_NONFINITE);
    advrob_compressor_destroy(compressor);
    ar_model_release(q);
    ar_model_release(m);
    ar_model_release(other);
    ar_dataset_release(first);
    ar_dataset_release(data);
    ar_dataset_release(narrow);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),    cmocka_unit_test(test_zero_filter),
        cmocka_unit_test(test_one_sided),  cmocka_unit_test(test_folded_normalisation),
        cmocka_unit_test(test_percentile), cmocka_unit_test(test_mse),
        cmocka_unit_test(test_use),        cmocka_unit_test(test_finetune),
        cmocka_unit_test(test_same_again), cmocka_unit_test(test_options_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
