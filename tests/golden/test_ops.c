/* Operators, losses and quantization against PyTorch's golden files, on every kernel table of the
 * machine. New files in ops/ and quant/ are found by themselves. */
#include "support/support.h"

#include <dirent.h>

#include "model/model.h"
#include "op/loss.h"
#include "support/golden.h"
#include "support/one_op.h"
#include "tolerance.h"

static advrob_context *ctx;
static double worst_y, worst_dx, worst_dweight, worst_dbias;
static int32_t compared;

static ar_shape image_shape(const ar_safetensors *file, const char *name, int64_t *n) {
    const ar_stored *stored = ar_safetensors_find(file, name);
    if (stored == NULL) fail_msg("golden file without %s", name);
    *n = stored->shape[0];
    ar_shape shape = {(int32_t)stored->shape[1], 1, 1};
    if (stored->rank == 4) {
        shape.h = (int32_t)stored->shape[2];
        shape.w = (int32_t)stored->shape[3];
    }
    return shape;
}

/* "max_pool2d" is "max_pool" here. */
static void op_name(const ar_safetensors *file, char name[64]) {
    const char *given = ar_safetensors_metadata(file, "op");
    assert_non_null(given);
    snprintf(name, 64, "%s", given);
    size_t length = strlen(name);
    if (ar_op_find(name) == NULL && length > 2) name[length - 2] = 0;
}

static ar_attributes attributes_of(const ar_safetensors *file) {
    int32_t kernel = golden_int(file, "kernel", 1), stride = golden_int(file, "stride", 1);
    int32_t padding = golden_int(file, "padding", 0), dilation = golden_int(file, "dilation", 1);
    ar_attributes a = {.kernel = {kernel, kernel},
                       .stride = {stride, stride},
                       .padding = {padding, padding},
                       .dilation = {dilation, dilation},
                       .groups = golden_int(file, "groups", 1),
                       .bias = golden_int(file, "bias", 0) != 0};
    const ar_stored *weight = ar_safetensors_find(file, "weight");
    if (weight != NULL) a.outputs = (int32_t)weight->shape[0];
    return a;
}

static void fill(const ar_safetensors *file, const char *name, int64_t expected, ar_real *to) {
    int64_t count = 0;
    ar_real *values = golden_get(file, name, &count);
    assert_int_equal(count, expected);
    memcpy(to, values, sizeof(ar_real) * (size_t)count);
    free(values);
}

static void compare(const char *where, const ar_safetensors *file, const char *name,
                    const ar_real *got, double offset, double *worst) {
    int64_t count = 0;
    ar_real *expected = golden_get(file, name, &count);
    for (int64_t i = 0; i < count; i++)
        expected[i] += (ar_real)offset;
    test_within(where, name, test_deviation(count, got, expected), TOLERANCE_OP, worst);
    free(expected);
    compared++;
}

static const char *input_name(const one_op *o, int32_t k, bool gradient) {
    static const char *const names[2][3] = {{"x", "x0", "x1"}, {"dx", "dx0", "dx1"}};
    return names[gradient][o->op->inputs == 1 ? 0 : k + 1];
}

static void check_op(const char *where, const ar_safetensors *file, const ar_kernels *kernels,
                     int32_t lanes, int32_t winograd) {
    char name[64];
    int64_t n;
    one_op o;
    bool two = ar_safetensors_find(file, "x1") != NULL;
    ar_attributes attributes = attributes_of(file);
    ar_shape in[AR_MAX_INPUTS] = {image_shape(file, two ? "x0" : "x", &n)};
    if (two) in[1] = image_shape(file, "x1", &n);
    op_name(file, name);
    one_op_open(&o, ctx, kernels, name, &attributes, in, lanes, n, winograd);
    for (int32_t k = 0; k < o.op->inputs; k++)
        fill(file, input_name(&o, k, false), n * ar_shape_count(in[k]), o.x[k]);
    if (o.parameters[0] > 0) fill(file, "weight", o.parameters[0], o.weight);
    if (o.parameters[1] > 0) fill(file, "bias", o.parameters[1], o.bias);
    fill(file, "dy", n * ar_shape_count(o.out), o.dy);
    one_op_forward(&o);
    compare(where, file, "y", o.y, 0, &worst_y);
    for (int32_t round = 0; round < 2; round++) { /* written, and added to ones */
        one_op_backward(&o, round == 1, round == 0 ? 6 : 5);
        for (int32_t k = 0; k < o.op->inputs; k++)
            compare(where, file, input_name(&o, k, true), o.dx[k], round, &worst_dx);
        if (o.parameters[0] > 0) compare(where, file, "dweight", o.dweight, 0, &worst_dweight);
        if (o.parameters[1] > 0) compare(where, file, "dbias", o.dbias, 0, &worst_dbias);
    }
    one_op_close(&o);
}

/* Calls `check` for every file of a folder with every kernel table; returns the number of files. */
static int32_t each_file(const char *folder,
                         void (*check)(const char *where, const ar_safetensors *file,
                                       const ar_kernels *kernels)) {
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), files = 0;
    char path[1024], where[600];
    snprintf(path, sizeof path, "%s/%s", GOLDEN_FOLDER, folder);
    DIR *dir = opendir(path);
    if (dir == NULL) fail_msg("no folder %s", path);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strstr(e->d_name, ".safetensors") == NULL) continue;
        ar_safetensors file;
        golden_open(ctx, folder, e->d_name, &file);
        files++;
        for (int32_t i = 0; i < count; i++) {
            snprintf(where, sizeof where, "%s, %s", e->d_name, tables[i]->name);
            check(where, &file, tables[i]);
        }
        ar_safetensors_free(ctx, &file);
    }
    closedir(dir);
    return files;
}

static void check_op_file(const char *where, const ar_safetensors *file,
                          const ar_kernels *kernels) {
    ar_kernels small = *kernels; /* Winograd for these layers, whether or not it pays */
    small.winograd_channels = 1;
    for (int32_t winograd = 0; winograd <= 4; winograd += 2) {
        check_op(where, file, &small, 8, winograd);
        check_op(where, file, &small, 16, winograd);
    }
}

static void test_operators(void **state) {
    (void)state;
    int32_t files = each_file("ops", check_op_file);
    print_message("%d files, %d tensors; worst y %.2g, dx %.2g, dweight %.2g, dbias %.2g\n", files,
                  compared, worst_y, worst_dx, worst_dweight, worst_dbias);
    assert_true(files >= 30);
    assert_true(compared > files * 8);
}

/* ---- losses ---- */

static float *floats(const ar_safetensors *file, const char *prefix, const char *name,
                     int64_t *count) {
    char full[64];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    ar_real *reals = golden_get(file, full, count);
    float *values = malloc(sizeof(float) * (size_t)(*count + 1));
    for (int64_t i = 0; i < *count; i++)
        values[i] = (float)reals[i];
    free(reals);
    return values;
}

/* Each sample's gradient times its power of two: exact, with the largest in [0.5, 1). */
static void check_scaled(const char *where, int64_t n, int32_t classes, const float *dlogits,
                         const float *scaled) {
    for (int64_t i = 0; i < n; i++) {
        const float *a = dlogits + i * classes, *b = scaled + i * classes;
        double largest = 0, top = 0;
        int32_t exponent = 0, at = 0;
        for (int32_t k = 0; k < classes; k++) {
            largest = fmax(largest, fabs((double)b[k]));
            if (fabs((double)a[k]) > top) at = k;
            top = fmax(top, fabs((double)a[k]));
        }
        if (top == 0) continue;
        frexp((double)b[at] / (double)a[at], &exponent);
        double power = ldexp(1, exponent - 1);
        if (!(largest >= 0.5 && largest <= 1))
            fail_msg("%s: sample %d: %g", where, (int)i, largest);
        for (int32_t k = 0; k < classes; k++)
            if (fabs((double)a[k]) > 1e-37 && (double)b[k] != power * (double)a[k])
                fail_msg("%s: sample %d is not scaled by a power of two", where, (int)i);
    }
}

/* Parts of size 1 / (z_1 - z_3) cancel where the label is third, and leave the roundings of double
 * on either side. */
static double dlr_slack(int32_t classes, const float *z) {
    float top[3] = {-INFINITY, -INFINITY, -INFINITY};
    for (int32_t k = 0; k < classes; k++)
        for (int32_t j = 0; j < 3; j++)
            if (z[k] > top[j]) {
                memmove(top + j + 1, top + j, sizeof(float) * (size_t)(2 - j));
                top[j] = z[k];
                break;
            }
    return classes < 3 || top[0] == top[2] ? 1e-37 : 1e-15 / ((double)top[0] - (double)top[2]);
}

static int32_t check_loss_case(const ar_loss *loss, const ar_safetensors *file,
                               const char *prefix) {
    char where[96], name[64];
    int64_t n, count = 0;
    float *logits = floats(file, prefix, "logits", &count);
    snprintf(name, sizeof name, "%s.labels", prefix);
    int32_t *labels = golden_labels(file, name, &n), classes = (int32_t)(count / n);
    float *expected = floats(file, prefix, "dlogits", &count), *value;
    value = floats(file, prefix, "loss", &n);
    float *dlogits = malloc(sizeof(float) * (size_t)count * 2), *scaled = dlogits + count;
    double *losses = malloc(sizeof(double) * (size_t)(n + classes)), *scratch = losses + n;
    ar_loss_batch(loss, n, classes, logits, labels, NULL, scratch, losses, dlogits, false, 1);
    ar_loss_batch(loss, n, classes, logits, labels, NULL, scratch, NULL, scaled, true, 1);
    snprintf(where, sizeof where, "%s %s", loss->name, prefix);
    for (int64_t i = 0; i < n; i++) {
        double bound = 1e-6 * fmax(1e-6, fabs((double)value[i]));
        if (!(fabs(losses[i] - (double)value[i]) <= bound))
            fail_msg("%s: loss %d is %.9g, expected %.9g", where, (int)i, losses[i],
                     (double)value[i]);
        /* Relative, also for the smallest: a saturated softmax must keep its gradient. */
        const double slack =
            loss == ar_loss_find("dlr") ? dlr_slack(classes, logits + i * classes) : 1e-37;
        for (int64_t k = i * classes; k < (i + 1) * classes; k++)
            if (!(fabs((double)dlogits[k] - (double)expected[k]) <=
                  1e-6 * fabs((double)expected[k]) + slack))
                fail_msg("%s: gradient %d is %.9g, expected %.9g", where, (int)k,
                         (double)dlogits[k], (double)expected[k]);
    }
    check_scaled(where, n, classes, dlogits, scaled);
    ar_loss_batch(loss, n, classes, logits, labels, NULL, scratch, NULL, scaled, false, 0.25);
    for (int64_t k = 0; k < count; k++)
        if (fabsf(dlogits[k]) > 1e-36f) assert_true(scaled[k] == 0.25f * dlogits[k]);
    free(logits);
    free(labels);
    free(expected);
    free(value);
    free(dlogits);
    free(losses);
    return (int32_t)n;
}

static void test_losses(void **state) {
    (void)state;
    int32_t cases = 0, samples = 0;
    for (int32_t i = 0; i < ar_loss_count(); i++) {
        const ar_loss *loss = ar_loss_at(i);
        char name[64], prefixes[512];
        ar_safetensors file;
        snprintf(name, sizeof name, "%s.safetensors", loss->name);
        golden_open(ctx, "losses", name, &file);
        snprintf(prefixes, sizeof prefixes, "%s", ar_safetensors_metadata(&file, "cases"));
        for (char *p = strtok(prefixes, " "); p != NULL; p = strtok(NULL, " "), cases++)
            samples += check_loss_case(loss, &file, p);
        ar_safetensors_free(ctx, &file);
    }
    print_message("%d losses, %d cases, %d samples\n", ar_loss_count(), cases, samples);
    assert_true(cases >= 20 && ar_loss_find("ce") != NULL && ar_loss_find("none") == NULL);
}

/* A softmax so far gone that its gradient is subnormal in double, which no power of two in double
 * brings back to 1. */
static void test_scaled_subnormal(void **state) {
    (void)state;
    float logits[3] = {0, 740, -100}, scaled[3];
    int32_t y = 1;
    double scratch[3];
    ar_loss_batch(&ar_loss_ce, 1, 3, logits, &y, NULL, scratch, NULL, scaled, true, 1);
    assert_true(scaled[0] >= 0.5f && scaled[0] <= 1 && scaled[1] == -scaled[0] && scaled[2] == 0);
}

static void test_argmax(void **state) {
    (void)state;
    float z[4] = {1, 3, 3, -1};
    assert_int_equal(ar_argmax(4, z), 1);
    assert_int_equal(ar_argmax(1, z), 0);
    z[3] = NAN;
    assert_int_equal(ar_argmax(4, z), -1);
    z[3] = z[1];
    z[0] = NAN;
    assert_int_equal(ar_argmax(4, z), -1);
}

/* ---- quantization ---- */

typedef struct quant_case {
    int64_t count;      /* values */
    int64_t channels;   /* scales */
    int64_t outer, per; /* values are [outer][channels][per] */
    int32_t *zero, *low, *high;
    ar_real *x, *y, *dx, *scale;
} quant_case;

static quant_case quant_open(const ar_safetensors *file) {
    quant_case q;
    int32_t axis = golden_int(file, "axis", 0);
    const ar_stored *x = ar_safetensors_find(file, "x");
    q.x = golden_get(file, "x", &q.count);
    q.y = golden_get(file, "y", NULL);
    q.dx = golden_get(file, "dx", NULL);
    q.scale = golden_get(file, "scale", &q.channels);
    q.zero = golden_labels(file, "zero_point", NULL);
    q.low = golden_labels(file, "quant_min", NULL);
    q.high = golden_labels(file, "quant_max", NULL);
    q.outer = 1;
    for (int32_t i = 0; i < axis; i++)
        q.outer *= x->shape[i];
    q.per = q.count / q.outer / q.channels;
    return q;
}

static void quant_close(quant_case *q) {
    free(q->x);
    free(q->y);
    free(q->dx);
    free(q->scale);
    free(q->zero);
    free(q->low);
    free(q->high);
}

/* The kernel on one run of equal scale: value and mask, fresh and on top of older bits, out of
 * place and in place. */
static void check_run(const char *where, const quant_case *q, int64_t first, int64_t channel,
                      const ar_kernels *kernels) {
    size_t bytes = (size_t)(q->per + 7) / 8;
    ar_real *out = one_op_reals(q->per);
    uint8_t *mask = one_op_block(bytes);
    for (int32_t round = 0; round < 4; round++) {
        bool fresh = round % 2 == 0, in_place = round >= 2;
        ar_quant_call call = {.n = q->per,
                              .scale = q->scale[channel],
                              .zero = (ar_real)q->zero[channel],
                              .low = (ar_real)q->low[0],
                              .high = (ar_real)q->high[0],
                              .x = in_place ? out : q->x + first,
                              .y = out,
                              .mask = mask,
                              .fresh = fresh};
        memcpy(out, q->x + first, sizeof(ar_real) * (size_t)q->per);
        memset(mask, fresh ? 0 : 0x5b, bytes);
        kernels->quantize(&call);
        for (int64_t i = 0; i < q->per; i++) {
            bool older = fresh || ((0x5b >> (i & 7)) & 1) != 0;
            bool bit = ((mask[i / 8] >> (i & 7)) & 1) != 0;
            if (out[i] != q->y[first + i])
                fail_msg("%s: value %d is %.9g, expected %.9g", where, (int)(first + i),
                         (double)out[i], (double)q->y[first + i]);
            if (bit != (older && q->dx[first + i] != 0))
                fail_msg("%s: mask bit %d is %d", where, (int)(first + i), bit);
            compared += 2;
        }
    }
    free(out);
    free(mask);
}

static void check_quant_file(const char *where, const ar_safetensors *file,
                             const ar_kernels *kernels) {
    quant_case q = quant_open(file);
    ar_real *out = one_op_reals(q.count);
    bool one_zero = true;
    for (int64_t c = 0; c < q.channels; c++)
        one_zero = one_zero && q.zero[c] == q.zero[0];
    for (int64_t o = 0; o < q.outer; o++)
        for (int64_t c = 0; c < q.channels; c++) {
            int64_t first = (o * q.channels + c) * q.per;
            ar_quant record = {
                golden_int(file, "bits", 0), q.low[0], q.high[0], q.zero[c], 1, q.scale + c};
            check_run(where, &q, first, c, kernels);
            ar_quant_apply(&record, q.per, q.x + first, out + first);
        }
    assert_memory_equal(out, q.y, sizeof(ar_real) * (size_t)q.count);
    for (int64_t o = 0; one_zero && o < q.outer; o++) { /* all channels at once */
        ar_quant record = {golden_int(file, "bits", 0), q.low[0], q.high[0], q.zero[0],
                           (int32_t)q.channels,         q.scale};
        int64_t block = q.channels * q.per;
        ar_quant_apply(&record, block, q.x + o * block, out + o * block);
    }
    assert_memory_equal(out, q.y, sizeof(ar_real) * (size_t)q.count);
    free(out);
    quant_close(&q);
}

static void test_quantization(void **state) {
    (void)state;
    compared = 0;
    int32_t files = each_file("quant", check_quant_file);
    print_message("%d files, %d values\n", files, compared);
    assert_true(files >= 25 && compared > 10000);
}

static void test_binary_weights(void **state) {
    (void)state;
    ar_real scales[2] = {0.5, 2}, values[6] = {0, -1, 3, -0.25, 0.25, -7}, out[6];
    const ar_real expected[6] = {0.5, -0.5, 0.5, -2, 2, -2};
    ar_quant record = {1, -1, 1, 0, 2, scales};
    ar_quant_apply(&record, 6, values, out);
    assert_memory_equal(out, expected, sizeof out);
}

static int open_context(void **state) {
    (void)state;
    ctx = test_context(1);
    return 0;
}

static int close_context(void **state) {
    (void)state;
    ar_context_release(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators),        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_scaled_subnormal), cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_quantization),     cmocka_unit_test(test_binary_weights),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
