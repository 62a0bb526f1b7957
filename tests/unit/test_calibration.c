/* What quant_ptq does beyond ranges and scales: moving averages, bias correction, layers in float
 * and the guard by a score. Figures are found here from the values themselves, float by float. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "model/oracle.h"
#include "op/loss.h"
#include "support/golden.h"

#include "support/prune.h"
#include "support/quantized.h"

enum { IMAGES = 50 };

static advrob_model *quantize(const advrob_model *model, const advrob_dataset *data,
                              const char *text) {
    advrob_model *q = NULL;
    test_ok(test_compress(model, "quant_ptq", text, data, &q));
    return q;
}

static bool is_layer(const ar_node *node) {
    return node->weight >= 0; /* of nets without batch norms */
}

/* ---- moving averages ---- */

static void check_average(advrob_model *m, const advrob_dataset *data, int64_t batch,
                          double momentum) {
    char text[96];
    snprintf(text, sizeof text, "range=moving_average images=%d batch_size=%d momentum=%g", IMAGES,
             (int)batch, momentum);
    advrob_model *q = quantize(m, data, text);
    for (int32_t i = 1; i < q->node_count; i++) {
        const ar_quant *record = &q->nodes[i].output;
        double low = 0, high = 0, weight = 0;
        if (record->bits == 0) continue;
        test_values r = test_values_of(m, i, data, IMAGES);
        const int64_t per = r.count / IMAGES;
        for (int64_t first = 0; first < IMAGES; first += batch) {
            double least = INFINITY, most = -INFINITY;
            for (int64_t k = first * per; k < (first + batch) * per && k < r.count; k++) {
                least = fmin(least, (double)r.v[k]);
                most = fmax(most, (double)r.v[k]);
            }
            low = momentum * low + least; /* divided by the weights' sum below */
            high = momentum * high + most;
            weight = momentum * weight + 1;
        }
        low = fmin(low / weight, 0);
        high = fmax(high / weight, 0);
        const double scale = (high - low) / 255;
        if (fabs((double)record->scales[0] - scale) > 1e-5 * scale ||
            fabs(record->zero + low / scale) > 0.5 + 1e-4)
            fail_msg("%s, %s: scale %.9g, zero point %g, expected %.9g and about %g", text,
                     m->nodes[i].name, (double)record->scales[0], record->zero, scale,
                     -low / scale);
        free(r.v);
    }
    ar_model_release(q);
}

static void test_moving_average(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual"};
    static const int64_t batches[] = {1, 7, 16, 32, 1000};
    static const double momenta[] = {0, 0.5, 0.99, 1};
    advrob_context *ctx = test_quant_context(NULL, 2);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *m = test_quant_net(ctx, nets[n]);
        advrob_dataset *data = test_quant_images(m, IMAGES + 9, 3);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            for (size_t k = 0; k < sizeof momenta / sizeof momenta[0]; k++)
                check_average(m, data, batches[b], momenta[k]);
        ar_dataset_release(data);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

/* ---- bias correction ---- */

/* Layers without biases, which then get some, and a linear layer on pixels. */
static advrob_model *open_bare(advrob_context *ctx) {
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, 5, false}, linear = {.outputs = 4};
    const double mean = 0.5, std = 0.3;
    advrob_model *m = NULL;
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &m));
    int32_t at[AR_MAX_INPUTS] = {0};
    test_ok(ar_model_add(m, "conv2d", "a", at, &conv, &at[0]));
    test_ok(ar_model_add(m, "relu", "r", at, NULL, &at[0]));
    test_ok(ar_model_add(m, "conv2d", "b", at, &conv, &at[0]));
    test_ok(ar_model_add(m, "flatten", "f", at, NULL, &at[0]));
    test_ok(ar_model_add(m, "linear", "c", at, &linear, &at[0]));
    test_ok(ar_model_initialise(m, "he", 5));
    test_ok(ar_model_set_normalisation(m, &mean, 1, &std, 1));
    return m;
}

/* The largest distance of the means of a layer's channels, before ReLU and point, between two
 * models; *size: the largest value of the first. */
static double means_apart(advrob_model *a, advrob_model *b, int32_t node,
                          const advrob_dataset *data, double *size) {
    const ar_shape shape = a->nodes[node].shape;
    const int64_t pixels = ar_shape_pixels(shape);
    const int32_t bits = b->nodes[node].output.bits;
    double worst = 0;
    b->nodes[node].output.bits = 0;
    test_values x = test_values_of(a, node, data, IMAGES),
                y = test_values_of(b, node, data, IMAGES);
    b->nodes[node].output.bits = bits;
    for (int32_t c = 0; c < shape.c; c++) {
        double sum = 0;
        for (int64_t i = 0; i < IMAGES * pixels; i++) {
            const int64_t at = (i / pixels * shape.c + c) * pixels + i % pixels;
            sum += (double)x.v[at] - (double)y.v[at];
        }
        worst = fmax(worst, fabs(sum) / (double)(IMAGES * pixels));
    }
    *size = fmax(fabs(x.low), fabs(x.high));
    free(x.v);
    free(y.v);
    return worst;
}

static double logits_apart(advrob_model *a, advrob_model *b, const advrob_dataset *data) {
    const int32_t last = ar_model_output(a);
    test_values x = test_values_of(a, last, data, IMAGES),
                y = test_values_of(b, last, data, IMAGES);
    double sum = 0;
    for (int64_t i = 0; i < x.count; i++)
        sum += ((double)x.v[i] - (double)y.v[i]) * ((double)x.v[i] - (double)y.v[i]);
    free(x.v);
    free(y.v);
    return sqrt(sum / (double)x.count);
}

/* Means of all layers are the float net's again, whatever comes before them; weights stay. */
static void check_correction(advrob_model *m, const char *words, bool shifts) {
    advrob_dataset *data = test_quant_images(m, IMAGES, 3),
                   *others = test_quant_images(m, IMAGES, 4);
    char text[128];
    snprintf(text, sizeof text, "%s bias_correction=1", words);
    advrob_model *plain = quantize(m, data, words), *corrected = quantize(m, data, text);
    double before = 0, after = 0, size;
    for (int32_t i = 1; i < m->node_count; i++) {
        if (!is_layer(&m->nodes[i])) continue;
        before = fmax(before, means_apart(m, plain, i, data, &size) / size);
        after = fmax(after, means_apart(m, corrected, i, data, &size) / size);
        const ar_parameter *p = &plain->parameters[plain->nodes[i].weight];
        assert_memory_equal(plain->slab + p->offset,
                            corrected->slab +
                                corrected->parameters[corrected->nodes[i].weight].offset,
                            sizeof(ar_real) * (size_t)p->count);
    }
    const double off[2] = {logits_apart(m, plain, others), logits_apart(m, corrected, others)};
    print_message("%s %s: means off by %.2g of the largest value, corrected by %.2g; logits of "
                  "other images by %.3g and %.3g\n",
                  m->zoo, words, before, after, off[0], off[1]);
    assert_true(after <= 2e-6 && before > 100 * after);
    if (shifts) assert_true(off[1] < off[0]);
    ar_model_release(plain);
    ar_model_release(corrected);
    ar_dataset_release(data);
    ar_dataset_release(others);
}

static void test_bias_correction(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "tiny_residual", "conv_small"};
    static test_allocator allocator;
    advrob_context *ctx = test_quant_context(&allocator, 2);
    for (size_t n = 0; n <= sizeof nets / sizeof nets[0]; n++) {
        advrob_model *m =
            n == sizeof nets / sizeof nets[0] ? open_bare(ctx) : test_quant_net(ctx, nets[n]);
        check_correction(m, "weight_bits=4", true);
        check_correction(m, "weight_bits=3 activation_bits=4 range=mse", true);
        if (n == 0) check_correction(m, "weight_bits=2 float_layers=conv2 input=0", false);
        ar_model_release(m);
    }
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- layers in float ---- */

/* Names of the nodes that have quantized weights, and of those that have points, as one text. */
static void list_records(const advrob_model *q, char *text, size_t size) {
    size_t length = 0;
    for (int32_t points = 0; points < 2; points++) {
        for (int32_t i = 0; i < q->node_count; i++)
            if ((points ? q->nodes[i].output.bits : q->nodes[i].weights.bits) > 0)
                length += (size_t)snprintf(text + length, size - length, "%s ", q->nodes[i].name);
        if (!points) length += (size_t)snprintf(text + length, size - length, "| ");
    }
}

static void test_float_layers(void **state) {
    (void)state;
    static const struct {
        const char *net, *layers, *records;
    } cases[] = {
        {"tiny", "", "conv1 conv2 fc | input relu1 relu2 "},
        {"tiny", "conv1", "conv2 fc | relu1 relu2 "},
        {"tiny", "conv2", "conv1 fc | input relu2 "},
        {"tiny", "fc", "conv1 conv2 | input relu1 "},
        {"tiny", "fc,conv1", "conv2 | relu1 "},
        {"tiny", "conv1,conv2,fc,", "| "},
        /* A term of a sum is codes where the sum is: relu1, conv3. */
        {"tiny_residual", "conv2", "conv1 conv3 shortcut fc | input relu1 relu2 conv3 relu3 "},
        {"tiny_residual", "conv3,shortcut", "conv1 conv2 fc | input relu1 conv3 relu3 "},
        {"tiny_residual", "fc", "conv1 conv2 conv3 shortcut | input relu1 relu2 "},
    };
    char text[256], words[128];
    advrob_context *ctx = test_quant_context(NULL, 1);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        advrob_model *m = test_quant_net(ctx, cases[k].net);
        advrob_dataset *data = test_quant_images(m, IMAGES, 3);
        snprintf(words, sizeof words, "float_layers=%s", cases[k].layers);
        advrob_model *q = quantize(m, data, words);
        list_records(q, text, sizeof text);
        assert_string_equal(text, cases[k].records);
        if (strcmp(cases[k].records, "| ") == 0) {
            advrob_model *folded = NULL; /* which all of it in float is */
            test_ok(ar_model_fold_normalisation(m, &folded));
            assert_true(logits_apart(folded, q, data) == 0);
            ar_model_release(folded);
        }
        ar_model_release(q);
        ar_dataset_release(data);
        ar_model_release(m);
    }
    ar_context_release(ctx);
}

static void test_wrong_layers(void **state) {
    (void)state;
    static const struct {
        const char *layers, *says;
    } cases[] = {
        {"conv3", "\"conv3\" with weights; did you mean \"conv1\"?"},
        {"conv1,relu1", "\"relu1\" with weights"},
        {"conv1,,fc", "\"\" with weights"},
        {"input", "\"input\" with weights"},
        {"a-name-that-is-longer-than-any-name-of-a-node-may-be-0123456789-0123456789",
         "\"a-name-that-is-longer"},
    };
    char text[192];
    advrob_context *ctx = test_quant_context(NULL, 1);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, IMAGES, 3);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        snprintf(text, sizeof text, "float_layers=%s", cases[k].layers);
        assert_int_equal(test_compress(m, "quant_ptq", text, data, &q), ADVROB_E_UNKNOWN);
        if (strstr(ar_message(), cases[k].says) == NULL ||
            strstr(ar_message(), "float_layers") == NULL)
            fail_msg("%s: %s", cases[k].layers, ar_message());
    }
    /* What is left in float has no integers. */
    assert_int_equal(test_compress(m, "quant_ptq", "float_layers=conv2 simulate=exact", data, &q),
                     ADVROB_E_UNSUPPORTED);
    assert_non_null(strstr(ar_message(), "layer conv2 stays in float"));
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* ---- the guard ---- */

/* A score that loses 0.125 with each quantized layer, or is the accuracy on some images. */
typedef struct judge {
    int32_t calls, answer; /* what the callback returns */
    double value;          /* in place of a score; NaN: one of the two below */
    const advrob_dataset *data;
    float *x;
    int32_t *y;
    advrob_target *kept;
    bool keep;
} judge;

static int32_t judge_score(void *user, advrob_model *model, double *score) {
    judge *j = user;
    j->calls++;
    if (j->keep) test_ok(ar_target_from_model(model, &j->kept));
    *score = isnan(j->value) ? 1 - 0.125 * test_quant_layers(model) : j->value;
    if (j->data == NULL) return j->answer;
    float logits[IMAGES * 10];
    int32_t right = 0, classes = ar_model_classes(model);
    advrob_target *target = NULL;
    test_ok(ar_target_from_model(model, &target));
    test_ok(ar_target_forward(target, IMAGES, j->x, logits));
    ar_target_release(target);
    for (int32_t i = 0; i < IMAGES; i++)
        right += ar_argmax(classes, logits + i * classes) == j->y[i];
    *score = right / (double)IMAGES;
    return j->answer;
}

static int32_t guarded(const advrob_model *m, const advrob_dataset *data, const char *text,
                       judge *j, advrob_model **out) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    test_ok(advrob_compressor_create(m->ctx, "quant_ptq", options, &compressor));
    ar_options_destroy(options);
    if (j != NULL) test_ok(advrob_compressor_on_score(compressor, judge_score, j));
    int32_t status = advrob_compressor_run(compressor, m, data, out);
    advrob_compressor_destroy(compressor);
    return status;
}

/* Of the layers of `m`, the one whose quantization alone moves the logits most, those in `skip`
 * left out. */
static int32_t worst_layer(advrob_model *m, const advrob_dataset *data, const char *words,
                           const bool *skip) {
    double most = -1;
    int32_t worst = -1;
    for (int32_t i = 1; i < m->node_count; i++) {
        if (!is_layer(&m->nodes[i]) || skip[i]) continue;
        char text[256];
        int length = snprintf(text, sizeof text, "%s float_layers=", words);
        for (int32_t k = 1; k < m->node_count; k++)
            if (is_layer(&m->nodes[k]) && k != i)
                length +=
                    snprintf(text + length, sizeof text - (size_t)length, "%s,", m->nodes[k].name);
        advrob_model *q = quantize(m, data, text);
        const double apart = logits_apart(m, q, data);
        if (apart > most) worst = i;
        most = fmax(most, apart);
        ar_model_release(q);
    }
    return worst;
}

/* With a score that counts layers, as many go as it asks for, and the worst of them. */
static void test_guard_order(void **state) {
    (void)state;
    static const char words[] = "weight_bits=3 activation_bits=4";
    char text[128];
    advrob_context *ctx = test_quant_context(NULL, 2);
    advrob_model *m = test_quant_net(ctx, "tiny_residual"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, IMAGES, 3);
    bool skip[AR_MAX_NODES] = {false};
    for (int32_t left = 5; left >= 0; left--) { /* quantized layers that the score bears */
        judge j = {.value = NAN};
        snprintf(text, sizeof text, "%s max_drop=%g", words, 0.125 * left);
        test_ok(guarded(m, data, text, &j, &q));
        assert_int_equal(test_quant_layers(q), left);
        assert_int_equal(j.calls, 2 + 5 - left);
        for (int32_t i = 1; i < m->node_count; i++)
            if (is_layer(&m->nodes[i])) assert_true((q->nodes[i].weights.bits == 0) == skip[i]);
        if (left > 0) skip[worst_layer(m, data, words, skip)] = true;
        ar_model_release(q);
    }
    /* Layers that are in float anyway are not among them. */
    judge j = {.value = NAN};
    snprintf(text, sizeof text, "%s max_drop=0.25 float_layers=conv1,fc guard_order=score", words);
    test_ok(guarded(m, data, text, &j, &q));
    assert_int_equal(test_quant_layers(q), 2);
    assert_true(q->nodes[ar_model_find_node(q, "conv1")].weights.bits == 0);
    assert_int_equal(j.calls, 2 + 3 + 1); /* each of three alone is scored, too */
    ar_model_release(q);
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* Accuracy, by the labels that the float net itself gives: its own is 1. */
static void test_guard_accuracy(void **state) {
    (void)state;
    static const char *const orders[] = {"sqnr", "score"};
    advrob_context *ctx = test_quant_context(NULL, 2);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, IMAGES, 3),
                   *first = test_quant_images(m, IMAGES, 8);
    judge j = {.value = NAN, .data = first};
    float logits[IMAGES * 10];
    j.x = malloc(sizeof(float) * IMAGES * 64);
    j.y = malloc(sizeof(int32_t) * IMAGES);
    test_ok(ar_dataset_gather(first, 0, NULL, IMAGES, j.x, NULL));
    test_ok(advrob_model_forward(m, IMAGES, j.x, logits));
    for (int32_t i = 0; i < IMAGES; i++)
        j.y[i] = ar_argmax(10, logits + 10 * i);
    double score = 0, plain = 0;
    q = quantize(m, data, "weight_bits=2 activation_bits=2");
    test_ok(judge_score(&j, q, &plain));
    ar_model_release(q);
    for (int32_t k = 0; k < 2; k++) {
        char text[128];
        snprintf(text, sizeof text, "weight_bits=2 activation_bits=2 max_drop=0.1 guard_order=%s",
                 orders[k]);
        test_ok(guarded(m, data, text, &j, &q));
        test_ok(judge_score(&j, q, &score));
        print_message("guard by %s: %d of 3 layers quantized, %.2f right; %.2f with all\n",
                      orders[k], test_quant_layers(q), score, plain);
        assert_true(score >= 0.9 && plain < 0.9);
        ar_model_release(q);
    }
    free(j.x);
    free(j.y);
    ar_dataset_release(first);
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* Right answers under PGD-10 (epsilon 0: clean) on images from `first` on, by the public interface.
 */
static double accuracy_of(advrob_model *model, const advrob_dataset *data, int64_t first, int64_t n,
                          const char *epsilon) {
    advrob_options *o = test_options(""), *pgd = test_options("steps=10");
    advrob_dataset *part = NULL;
    advrob_target *target = NULL;
    advrob_report *report = NULL;
    double step = strtod(epsilon, NULL) / 4, accuracy = 0;
    test_ok(ar_options_set_text(pgd, "epsilon", epsilon));
    test_ok(ar_options_set_f64(pgd, "step", step));
    if (step > 0) test_ok(advrob_options_append(o, "attacks", "pgd", pgd));
    test_ok(advrob_dataset_slice(data, first, n, &part));
    test_ok(advrob_target_from_model(model, &target));
    test_ok(advrob_report_create(model->ctx, &report));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_evaluate(report, target, part, o));
    test_ok(
        advrob_report_get_f64(report, 0, step > 0 ? "pgd_accuracy" : "clean_accuracy", &accuracy));
    advrob_report_destroy(report);
    advrob_target_destroy(target);
    advrob_dataset_destroy(part);
    advrob_options_destroy(pgd);
    advrob_options_destroy(o);
    return accuracy;
}

/* Without a score of the caller: accuracy on the images behind those for calibration. */
static void test_guard_by_images(void **state) {
    (void)state;
    static const char *const epsilons[] = {"0", "0.02"};
    advrob_context *ctx = test_quant_context(NULL, 2);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, 400, 3);
    advrob_options *options = test_options("epochs=12 lr=0.05 batch_size=16");
    advrob_finetune *fit = NULL;
    test_ok(advrob_finetune_create(ctx, "standard", options, &fit));
    test_ok(advrob_finetune_run(fit, m, data, NULL, NULL));
    advrob_finetune_destroy(fit);
    ar_options_destroy(options);
    for (int32_t k = 0; k < 2; k++) {
        char text[160];
        snprintf(text, sizeof text, "weight_bits=2 activation_bits=2 images=50");
        q = quantize(m, data, text);
        const double whole = accuracy_of(m, data, 50, 200, epsilons[k]);
        const double plain = accuracy_of(q, data, 50, 200, epsilons[k]);
        ar_model_release(q);
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 " max_drop=0.02 score_images=200 score_epsilon=%s", epsilons[k]);
        q = quantize(m, data, text);
        const double now = accuracy_of(q, data, 50, 200, epsilons[k]);
        print_message("epsilon %s: %.3f right, %.3f quantized, %.3f with %d of 3 layers\n",
                      epsilons[k], whole, plain, now, test_quant_layers(q));
        assert_true(plain < whole - 0.02 && now >= whole - 0.02 && whole > 0.5);
        ar_model_release(q);
    }
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
}

static void test_guard_errors(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = test_quant_context(&allocator, 1);
    advrob_model *m = test_quant_net(ctx, "tiny"), *q = NULL;
    advrob_dataset *data = test_quant_images(m, IMAGES, 3);
    assert_int_equal(guarded(m, data, "max_drop=0.1", NULL, &q), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "max_drop is 0.1"));
    assert_non_null(strstr(ar_message(), "no images behind its 50"));
    assert_non_null(strstr(ar_message(), "advrob_compressor_on_score"));
    judge j = {.value = NAN, .answer = 7};
    assert_int_equal(guarded(m, data, "max_drop=0.1", &j, &q), ADVROB_E_CALLBACK);
    assert_non_null(strstr(ar_message(), "returned 7"));
    j = (judge){.value = INFINITY};
    assert_int_equal(guarded(m, data, "max_drop=0.1", &j, &q), ADVROB_E_NONFINITE);
    j = (judge){.value = 1, .keep = true};
    assert_int_equal(guarded(m, data, "max_drop=0.1", &j, &q), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "left a target"));
    ar_target_release(j.kept);
    j = (judge){.value = NAN}; /* without the option nobody asks */
    test_ok(guarded(m, data, "", &j, &q));
    assert_true(j.calls == 0 && test_quant_layers(q) == 3);
    ar_model_release(q);
    ar_dataset_release(data);
    ar_model_release(m);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moving_average),  cmocka_unit_test(test_bias_correction),
        cmocka_unit_test(test_float_layers),    cmocka_unit_test(test_wrong_layers),
        cmocka_unit_test(test_guard_order),     cmocka_unit_test(test_guard_accuracy),
        cmocka_unit_test(test_guard_by_images), cmocka_unit_test(test_guard_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
