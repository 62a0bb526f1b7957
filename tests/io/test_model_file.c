/* The model file: what is saved comes back bit by bit; failing files and allocations leave nothing
 * behind. And weights by name into a model that stands. */
#include "model_support.h"

#include <errno.h>

/* ---- Round trips ---- */

static void test_round_trip(void **state) {
    (void)state;
    for (int32_t i = 0; i < ar_zoo_count(); i++)
        for (int32_t quantized = 0; quantized < 2; quantized++) {
            advrob_model *m = zoo_model(ar_zoo_at(i)->name, quantized), *back = NULL, *again = NULL;
            size_t first_size, second_size;
            good(ar_model_file_save(m, path));
            uint8_t *first = read_bytes(path, &first_size);
            good(ar_model_file_load(ctx, path, &back));
            same_model(m, back);
            good(ar_model_file_save(back, path));
            uint8_t *second = read_bytes(path, &second_size);
            assert_int_equal(first_size, second_size);
            assert_memory_equal(first, second, first_size);
            good(parse(first, first_size, &again));
            same_model(m, again);
            ar_free(&ctx->memory, first);
            ar_free(&ctx->memory, second);
            ar_model_release(m);
            ar_model_release(back);
            ar_model_release(again);
            assert_int_equal(test_folder_count(folder), 1);
        }
}

/* Attributes that no zoo net has, the longest name, no bias, box and normalisation at their ends.
 */
static void test_round_trip_odd(void **state) {
    (void)state;
    advrob_model *m = NULL, *back = NULL;
    const char *name = "a-._0123456789012345678901234567890123456789012345678901";
    ar_attributes a = {.kernel = {3, 2},
                       .stride = {1, 2},
                       .padding = {2, 0},
                       .outputs = 3,
                       .groups = 3,
                       .border_bias = true,
                       .dilation = {2, 3}};
    ar_attributes pool = {.kernel = {2, 1}, .stride = {2, 1}};
    int32_t inputs[AR_MAX_INPUTS] = {0};
    double mean[] = {-1e30, 1e-40, 0.1}, std[] = {1e-37, 3e38, 0.1};
    good(ar_model_create(ctx, (ar_shape){3, 5, 4}, &m));
    good(ar_model_set_normalisation(m, mean, 3, std, 3));
    m->low[0] = -3e38;
    m->high[0] = 5e-324;
    int32_t status = ar_model_add(m, "conv2d", name, inputs, &a, &inputs[0]);
    if (status < 0) { /* over the longest name */
        name = "a-._";
        good(ar_model_add(m, "conv2d", name, inputs, &a, &inputs[0]));
    }
    inputs[1] = inputs[0];
    good(ar_model_add(m, "add", "twice", inputs, NULL, &inputs[0]));
    good(ar_model_add(m, "max_pool", "max", inputs, &pool, &inputs[0]));
    good(ar_model_add(m, "avg_pool", "avg", inputs, &pool, &inputs[0]));
    good(ar_model_add(m, "global_avg_pool", "gap", inputs, NULL, &inputs[0]));
    good(ar_model_initialise(m, "pytorch", 3));
    m->slab[0] = -0.0f;
    m->slab[m->slab_count - 1] = 0.3f; /* of the border bias */
    good(ar_model_file_save(m, path));
    good(ar_model_file_load(ctx, path, &back));
    same_model(m, back);
    ar_model_release(m);
    ar_model_release(back);
}

static void test_save_refuses(void **state) {
    (void)state;
    advrob_model *m = zoo_model("tiny", false), *empty = NULL;
    m->slab[7] = NAN;
    assert_int_equal(ar_model_file_save(m, path), ADVROB_E_NONFINITE);
    check_message(path);
    m->slab[7] = 0;
    m->high[0] = INFINITY;
    assert_int_equal(ar_model_file_save(m, path), ADVROB_E_RANGE);
    good(ar_model_create(ctx, (ar_shape){1, 1, 1}, &empty));
    assert_int_equal(ar_model_file_save(empty, path), ADVROB_E_INVALID);
    assert_int_equal(test_folder_count(folder), 0);
    ar_model_release(m);
    ar_model_release(empty);
}

/* ---- Failing files and allocations ---- */

static void test_save_faults(void **state) {
    (void)state;
    advrob_model *a = zoo_model("tiny", true), *b = zoo_model("tiny_residual", false), *back = NULL;
    size_t size, now_size;
    int32_t failures = 0;
    good(ar_model_file_save(a, path));
    uint8_t *old = read_bytes(path, &size);
    for (int64_t n = 1;; n++) {
        test_files files = {.fail_at = n, .error = EIO};
        test_files_use(ctx, &files);
        int32_t status = ar_model_file_save(b, path);
        test_files_use(ctx, NULL);
        assert_int_equal(files.opened, files.closed);
        assert_int_equal(test_folder_count(folder), 1);
        if (status == ADVROB_OK) { /* nothing failed, or only the folder's sync */
            good(ar_model_file_load(ctx, path, &back));
            same_model(b, back);
            ar_model_release(back);
            if (files.failed == NULL) break;
            good(ar_model_file_save(a, path));
            continue;
        }
        failures++;
        assert_int_equal(status, ADVROB_E_IO);
        check_message(path);
        uint8_t *now = read_bytes(path, &now_size);
        assert_int_equal(now_size, size);
        assert_memory_equal(now, old, size);
        ar_free(&ctx->memory, now);
    }
    assert_true(failures >= 5);
    ar_free(&ctx->memory, old);
    ar_model_release(a);
    ar_model_release(b);
}

static void test_load_faults(void **state) {
    (void)state;
    advrob_model *m = zoo_model("tiny", true), *back = NULL;
    int32_t failures = 0;
    assert_int_equal(ar_model_file_load(ctx, path, &back), ADVROB_E_IO);
    check_message(path);
    assert_null(back);
    good(ar_model_file_save(m, path));
    for (int64_t n = 1;; n++) {
        test_files files = {.fail_at = n, .error = EIO};
        test_files_use(ctx, &files);
        int32_t status = ar_model_file_load(ctx, path, &back);
        test_files_use(ctx, NULL);
        assert_int_equal(files.opened, files.closed);
        if (status == ADVROB_OK) {
            same_model(m, back);
            ar_model_release(back);
            back = NULL;
            if (files.failed == NULL) break;
        } else {
            failures++;
            assert_int_equal(status, ADVROB_E_IO);
            assert_null(back);
        }
    }
    assert_true(failures >= 3);
    test_files shorts = {.short_io = 7};
    test_files_use(ctx, &shorts);
    good(ar_model_file_save(m, path));
    good(ar_model_file_load(ctx, path, &back));
    test_files_use(ctx, NULL);
    same_model(m, back);
    ar_model_release(m);
    ar_model_release(back);
}

typedef int32_t (*job_fn)(advrob_model *m);

static int32_t job_save(advrob_model *m) {
    return ar_model_file_save(m, path);
}

static int32_t job_load(advrob_model *m) {
    advrob_model *back = NULL;
    (void)m;
    int32_t status = ar_model_file_load(ctx, path, &back);
    assert_true((status == ADVROB_OK) == (back != NULL));
    ar_model_release(back);
    return status;
}

static int32_t job_weights(advrob_model *m) {
    uint64_t before = ar_model_digest(m);
    int32_t status = ar_model_weights_load(m, path);
    if (status < 0) assert_true(ar_model_digest(m) == before);
    return status;
}

/* Every single allocation fails, alone and with all that follow. */
static void sweep(job_fn job, advrob_model *m) {
    for (int32_t from_there = 0; from_there < 2; from_there++)
        for (int64_t n = 1;; n++) {
            int64_t blocks = allocator.blocks;
            test_allocator_arm(&allocator, n, from_there);
            int32_t status = job(m);
            int64_t failed = allocator.failed;
            test_allocator_arm(&allocator, 0, 0);
            assert_int_equal(allocator.blocks, blocks);
            if (failed == 0) {
                good(status);
                break;
            }
            assert_int_equal(status, ADVROB_E_NOMEM);
            assert_int_equal(test_folder_count(folder), 1);
        }
}

static void test_allocation_failures(void **state) {
    (void)state;
    advrob_model *m = zoo_model("tiny_residual", true);
    good(ar_model_file_save(m, path));
    sweep(job_save, m);
    sweep(job_load, m);
    sweep(job_weights, m);
    ar_model_release(m);
}

/* ---- Weights ---- */

static void write_sketch(const sketch *s) {
    size_t size;
    uint8_t *data = draw(s, &size);
    good(ar_file_write(ctx, path, data, size));
    free(data);
}

static void test_published_nets(void **state) {
    (void)state;
    static const char *const names[] = {"mnist-wong", "fashion-mnist-wong", "mnist-fast-fgsm"};
    const char *data = test_data();
    if (data == NULL) test_skip_or_fail("the folder with test data");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[4096];
        advrob_model *m = NULL;
        ar_safetensors tensors;
        snprintf(file, sizeof file, "%s/models/%s.safetensors", data, names[i]);
        good(ar_zoo_build(ctx, "conv_small", NULL, &m));
        uint64_t version = m->version;
        good(ar_model_weights_load(m, file));
        assert_true(m->version > version);
        good(ar_safetensors_read(ctx, file, &tensors));
        for (int32_t k = 0; k < m->parameter_count; k++) {
            const ar_parameter *p = &m->parameters[k];
            const ar_stored *tensor = ar_safetensors_find(&tensors, p->name);
            for (int64_t v = 0; v < p->count; v++) {
                float value;
                memcpy(&value, tensor->data + 4 * v, sizeof value);
                assert_true(m->slab[p->offset + v] == (ar_real)value);
            }
        }
        ar_safetensors_free(ctx, &tensors);
        ar_model_release(m);
    }
}

/* The model of `whole`, with other numbers. */
static advrob_model *weights_model(void) {
    advrob_model *m;
    size_t size;
    sketch s = whole;
    uint8_t *data = draw(&s, &size);
    good(parse(data, size, &m));
    free(data);
    good(ar_model_initialise(m, "pytorch", 5));
    return m;
}

static void expect_weights(const sketch *s, int32_t code, const char *what) {
    advrob_model *m = weights_model();
    uint64_t before = ar_model_digest(m), version = m->version;
    write_sketch(s);
    int32_t status = ar_model_weights_load(m, path);
    if (status != code)
        fail_msg("%s: %s (%s), expected %s", what, ar_status_name(status),
                 status < 0 ? ar_message() : "", ar_status_name(code));
    assert_true((ar_model_digest(m) == before) == (status < 0));
    assert_true((m->version == version) == (status < 0));
    if (status < 0)
        check_message(path);
    else
        for (int64_t i = 0; i < 2; i++)
            assert_true(m->slab[i] == (ar_real)0.5 && m->slab[2 + i] == (ar_real)0.25);
    ar_model_release(m);
}

static void test_weights(void **state) {
    (void)state;
    sketch s = whole;
    s.format = s.version = s.graph = NULL;
    s.count = 4;
    expect_weights(&s, ADVROB_OK, "weights");
    s.parts[4] = (part){"other", "I64", "[1]", 8, 0};
    s.parts[5] = (part){"num_batches", "F32", "[1]", 4, NAN};
    s.count = 6;
    expect_weights(&s, ADVROB_OK, "tensors that nobody wants");
    s.parts[2].shape = "[8,3]";
    expect_weights(&s, ADVROB_E_SHAPE, "another shape");
    s.parts[2].shape = "[24]";
    expect_weights(&s, ADVROB_E_SHAPE, "another rank");
    s.parts[2].shape = "[3,8]";
    s.parts[3].fill = INFINITY;
    expect_weights(&s, ADVROB_E_NONFINITE, "the last one");
    assert_non_null(strstr(ar_message(), "l.bias"));
    s.parts[3].fill = 1;
    s.parts[3].dtype = "I32";
    expect_weights(&s, ADVROB_E_FORMAT, "dtype");
    s.parts[3].dtype = "F32";
    s.parts[1].name = "c.bais";
    expect_weights(&s, ADVROB_E_FORMAT, "a slip of the pen");
    assert_non_null(strstr(ar_message(), "\"c.bias\""));
    assert_non_null(strstr(ar_message(), "\"c.bais\""));
    s.count = 0;
    expect_weights(&s, ADVROB_E_FORMAT, "no tensors");
}

static void test_weights_prefix(void **state) {
    (void)state;
    sketch s = whole;
    s.format = s.version = s.graph = NULL;
    s.count = 5;
    s.parts[0].name = "net.c.weight";
    s.parts[1].name = "net.c.bias";
    s.parts[2].name = "net.l.weight";
    s.parts[3].name = "net.l.bias";
    s.parts[4] = (part){"mean", "F32", "[1]", 4, 0.75f};
    expect_weights(&s, ADVROB_OK, "prefix on all but the mean");
    s.parts[0].name = "module.c.weight"; /* as torch.nn.DataParallel has it */
    expect_weights(&s, ADVROB_E_FORMAT, "two prefixes");
    s.parts[1].name = "module.c.bias";
    s.parts[2].name = "module.l.weight";
    s.parts[3].name = "module.l.bias";
    expect_weights(&s, ADVROB_OK, "another prefix");
    s.parts[0].name = "net.c.weight";
    s.parts[1].name = "net.c.bias";
    s.parts[2].name = "net.l.weight";
    s.parts[3].name = "net.l.bias";
    s.parts[4].name = "net.other";
    expect_weights(&s, ADVROB_OK, "prefix on all");
    s.parts[4].name = "other";
    expect_weights(&s, ADVROB_E_FORMAT, "prefix on some");
    assert_non_null(strstr(ar_message(), "\"c.weight\""));
    s.count = 4;
    s.parts[3].name = "net.l.biases";
    expect_weights(&s, ADVROB_E_FORMAT, "prefix, one missing");
    assert_non_null(strstr(ar_message(), "\"net.l.bias\""));
}

static void test_weights_normalisation(void **state) {
    (void)state;
    sketch s = whole;
    s.format = s.version = s.graph = NULL;
    s.count = 6;
    s.parts[4] = (part){"mean", "F32", "[1]", 4, 0.75f};
    s.parts[5] = (part){"std", "F32", "[1,1,1,1]", 4, 0.0625f};
    advrob_model *m = weights_model();
    write_sketch(&s);
    good(ar_model_weights_load(m, path));
    assert_true(m->mean[0] == (ar_real)0.75 && m->std[0] == (ar_real)0.0625);
    s.count = 5;
    s.parts[4].fill = -2;
    write_sketch(&s);
    good(ar_model_weights_load(m, path));
    assert_true(m->mean[0] == -2 && m->std[0] == (ar_real)0.0625);
    s.count = 6;
    s.parts[5].fill = 0;
    expect_weights(&s, ADVROB_E_RANGE, "std 0");
    s.parts[5].fill = -1;
    expect_weights(&s, ADVROB_E_RANGE, "std below 0");
    s.parts[5].fill = NAN;
    expect_weights(&s, ADVROB_E_NONFINITE, "std not a number");
    s.parts[5] = (part){"std", "F32", "[2]", 8, 1};
    expect_weights(&s, ADVROB_E_SHAPE, "std of 2 channels");

    uint64_t before = ar_model_digest(m);
    m->frozen = 1;
    assert_int_equal(ar_model_weights_load(m, path), ADVROB_E_BUSY);
    m->frozen = 0;
    assert_true(ar_model_digest(m) == before);
    remove(path);
    assert_int_equal(ar_model_weights_load(m, path), ADVROB_E_IO);
    ar_model_release(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trip_odd, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_save_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_save_faults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load_faults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_allocation_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_published_nets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_normalisation, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
