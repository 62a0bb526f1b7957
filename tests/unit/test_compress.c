/* Filter pruning: which filters go, what is left of the net, that it computes what the masked net
 * does, and what is left whole or refused. */
#include "support/support.h"

#include "compress/compress.h"
#include "io/io.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/prune.h"
#include "tolerance.h"

static advrob_context *open_context(test_allocator *allocator) {
    advrob_context *ctx = test_context_with(allocator, 2);
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    return ctx;
}

/* input > conv1 relu1 > conv2 relu2 > conv3, plus relu1 > relu3 > conv4 relu4 > pool > fc. conv1
 * and conv3 meet in the sum; conv2 and conv4 are free. */
static advrob_model *joined_net(advrob_context *ctx) {
    const ar_attributes conv = {{3, 3}, {1, 1}, {1, 1}, 6, true};
    const ar_attributes last = {.outputs = 4, .bias = true};
    advrob_model *m = NULL;
    int32_t at = 0, sum[AR_MAX_INPUTS];
    test_ok(ar_model_create(ctx, (ar_shape){2, 6, 6}, &m));
    static const struct {
        const char *op, *name;
    } nodes[] = {{"conv2d", "conv1"},         {"relu", "relu1"},   {"conv2d", "conv2"},
                 {"relu", "relu2"},           {"conv2d", "conv3"}, {"add", "sum"},
                 {"relu", "relu3"},           {"conv2d", "conv4"}, {"relu", "relu4"},
                 {"global_avg_pool", "pool"}, {"linear", "fc"}};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        sum[0] = at;
        sum[1] = 2;
        const ar_attributes *a = strcmp(nodes[i].op, "conv2d") == 0   ? &conv
                                 : strcmp(nodes[i].op, "linear") == 0 ? &last
                                                                      : NULL;
        test_ok(ar_model_add(m, nodes[i].op, nodes[i].name, sum, a, &at));
    }
    test_ok(ar_model_initialise(m, "pytorch", 5));
    return m;
}

static advrob_model *open_net(advrob_context *ctx, const char *name) {
    if (strcmp(name, "joined") == 0) return joined_net(ctx);
    advrob_model *model = test_zoo(ctx, name);
    test_ok(ar_model_initialise(model, "pytorch", 5)); /* with biases */
    return model;
}

static int32_t prune(const advrob_model *model, const char *text, advrob_model **out) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    test_ok(advrob_compressor_create(model->ctx, "prune_l1", options, &compressor));
    ar_options_destroy(options);
    int32_t status = advrob_compressor_run(compressor, model, NULL, out);
    advrob_compressor_destroy(compressor);
    return status;
}

/* ---- which filters go, found by a search of the test's own ---- */

enum { NODES = 32, CHANNELS = 160 };

typedef struct masks {
    bool gone[NODES][CHANNELS];
    int32_t left[NODES];
} masks;

static bool is_conv(const advrob_model *m, int32_t i) {
    return m->nodes[i].op != NULL && strcmp(m->nodes[i].op->name, "conv2d") == 0;
}

static double score(const advrob_model *m, int32_t node, int32_t channel, bool mean) {
    const ar_parameter *w = &m->parameters[m->nodes[node].weight];
    int64_t per = w->count / w->shape[0];
    double sum = 0;
    for (int64_t i = 0; i < per; i++)
        sum += fabs((double)m->slab[w->offset + channel * per + i]);
    return mean ? sum / (double)per : sum;
}

/* The lowest filter that may go, among the nodes [from, to). */
static bool find_lowest(const advrob_model *m, const masks *k, int32_t from, int32_t to, bool mean,
                        int32_t *node, int32_t *channel) {
    double least = INFINITY;
    for (int32_t i = from; i < to; i++) {
        if (!is_conv(m, i) || k->left[i] == 1) continue;
        for (int32_t c = 0; c < m->nodes[i].shape.c; c++) {
            double s = k->gone[i][c] ? INFINITY : score(m, i, c, mean);
            if (s >= least) continue;
            least = s;
            *node = i;
            *channel = c;
        }
    }
    return least < INFINITY;
}

static void remove_lowest(const advrob_model *m, masks *k, int32_t from, int32_t to, bool mean,
                          double sparsity) {
    int32_t total = 0, node = 0, channel = 0;
    for (int32_t i = from; i < to; i++)
        if (is_conv(m, i)) total += m->nodes[i].shape.c;
    for (int32_t goal = (int32_t)((double)total * sparsity); goal > 0; goal--) {
        if (!find_lowest(m, k, from, to, mean, &node, &channel)) return;
        k->gone[node][channel] = true;
        k->left[node]--;
    }
}

static masks direct_masks(const advrob_model *m, double sparsity, bool global) {
    masks k;
    memset(&k, 0, sizeof k);
    assert_true(m->node_count <= NODES);
    for (int32_t i = 0; i < m->node_count; i++)
        k.left[i] = m->nodes[i].shape.c;
    if (global)
        remove_lowest(m, &k, 0, m->node_count, true, sparsity);
    else
        for (int32_t i = 1; i < m->node_count; i++)
            remove_lowest(m, &k, i, i + 1, false, sparsity);
    return k;
}

/* A clone in which the filters that go are zero, bias included. */
static advrob_model *masked_net(const advrob_model *m, const masks *k) {
    advrob_model *masked = NULL;
    test_ok(ar_model_clone(m, &masked));
    for (int32_t i = 1; i < m->node_count; i++) {
        if (!is_conv(m, i)) continue;
        const ar_parameter *w = &m->parameters[m->nodes[i].weight];
        size_t per = (size_t)(w->count / w->shape[0]);
        for (int32_t c = 0; c < m->nodes[i].shape.c; c++) {
            if (!k->gone[i][c]) continue;
            memset(masked->slab + w->offset + (size_t)c * per, 0, sizeof(ar_real) * per);
            masked->slab[m->parameters[m->nodes[i].bias].offset + c] = 0;
        }
    }
    ar_model_changed(masked);
    return masked;
}

static float *run_net(advrob_model *m, int64_t n, const float *x) {
    ar_program *program;
    float *out = malloc(sizeof(float) * (size_t)(n * ar_model_classes(m)));
    test_ok(ar_model_program(m, false, &program));
    test_ok(ar_program_forward(program, n, x, out));
    return out;
}

/* ---- pruned against masked ---- */

static void check_plan(const advrob_model *m, const char *options_text, const masks *k) {
    char *plan = test_plan(m, "prune_l1", options_text, NULL);
    for (int32_t i = 1; i < m->node_count; i++) {
        bool gone[CHANNELS] = {false};
        if (!is_conv(m, i)) continue;
        (void)test_plan_line(plan, m->nodes[i].name, gone);
        assert_memory_equal(gone, k->gone[i], sizeof(bool) * (size_t)m->nodes[i].shape.c);
    }
    advrob_text_destroy(m->ctx, plan);
}

static double check_pruned(const advrob_model *m, double sparsity, bool global) {
    enum { N = 9 };
    char text[96];
    advrob_model *small = NULL;
    uint64_t digest = ar_model_digest(m);
    masks k = direct_masks(m, sparsity, global);
    snprintf(text, sizeof text, "sparsity=%.17g scope=%s", sparsity, global ? "global" : "layer");
    test_ok(prune(m, text, &small));
    assert_true(ar_model_digest(m) == digest);
    assert_int_equal(small->node_count, m->node_count);
    for (int32_t i = 1; i < m->node_count; i++) {
        assert_string_equal(small->nodes[i].name, m->nodes[i].name);
        if (is_conv(m, i)) assert_int_equal(small->nodes[i].shape.c, k.left[i]);
    }
    check_plan(m, text, &k);
    advrob_model *masked = masked_net(m, &k);
    float *x = draw_images(N, ar_shape_count(m->nodes[0].shape), 31);
    float *got = run_net(small, N, x), *expected = run_net(masked, N, x);
    double off = test_deviation(N * ar_model_classes(m), got, expected);
    test_within(m->zoo, text, off, TOLERANCE_PRUNED, NULL);
    free(x);
    free(got);
    free(expected);
    ar_model_release(masked);
    ar_model_release(small);
    return off;
}

static void test_masked(void **state) {
    (void)state;
    static const char *const nets[] = {"tiny", "conv_small", "eight_layer_conv"};
    static const double sparsities[] = {0, 0.3, 0.5, 0.75, 0.99, 1};
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator);
    double worst = 0;
    int32_t checked = 0;
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *model = open_net(ctx, nets[n]);
        for (size_t s = 0; s < sizeof sparsities / sizeof sparsities[0]; s++)
            for (int32_t global = 0; global < 2; global++, checked++)
                worst = fmax(worst, check_pruned(model, sparsities[s], global != 0));
        ar_model_release(model);
    }
    print_message("%d pruned nets, off by %.2g of the largest logit at most\n", checked, worst);
    assert_true(checked == 36);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

/* ---- counts ---- */

static void test_kept_counts(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL);
    static const char *const nets[] = {"tiny", "conv_small"};
    char text[64];
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++) {
        advrob_model *model = open_net(ctx, nets[n]);
        for (int32_t percent = 0; percent <= 100; percent++) {
            advrob_model *small = NULL;
            double sparsity = (double)percent / 100;
            snprintf(text, sizeof text, "sparsity=%.17g", sparsity);
            test_ok(prune(model, text, &small));
            for (int32_t i = 1; i < model->node_count; i++) {
                int32_t all = model->nodes[i].shape.c, kept = all - (int32_t)(all * sparsity);
                if (is_conv(model, i))
                    assert_int_equal(small->nodes[i].shape.c, kept < 1 ? 1 : kept);
            }
            if (percent == 0) assert_true(ar_model_digest(small) == ar_model_digest(model));
            ar_model_release(small);
        }
        ar_model_release(model);
    }
    ar_context_release(ctx);
}

static void test_sizes(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL);
    advrob_model *model = open_net(ctx, "eight_layer_conv"), *small = NULL;
    assert_true(model->slab_count == 549994 && ar_model_macs(model) == 13686528);
    test_ok(prune(model, "sparsity=0.5", &small));
    assert_true(small->slab_count == 204282 && ar_model_macs(small) == 3544576);
    ar_model_release(small);
    ar_model_release(model);
    ar_context_release(ctx);
}

/* Equal norms: the lowest positions go first; within a layer, and over layers of equal means. */
static void test_ties(void **state) {
    (void)state;
    advrob_context *ctx = open_context(NULL);
    advrob_model *model = open_net(ctx, "tiny"), *small = NULL;
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        for (int64_t k = 0; k < p->count; k++)
            model->slab[p->offset + k] = p->rank == 1 ? (ar_real)k : k % 2 ? 0.5f : -0.5f;
    }
    ar_model_changed(model);
    for (int32_t global = 0; global < 2; global++) {
        test_ok(prune(model, global ? "sparsity=0.5 scope=global" : "sparsity=0.5", &small));
        /* 4 + 6 filters. By layer 2 and 3 go; together 5: 3 of conv1 (one stays), then 2. */
        const ar_real first[2] = {global ? 3 : 2, global ? 2 : 3};
        const int64_t left[2] = {global ? 1 : 2, global ? 4 : 3};
        for (int32_t i = 0; i < 2; i++) {
            const ar_parameter *bias =
                &small->parameters[ar_model_find_parameter(small, i ? "conv2.bias" : "conv1.bias")];
            assert_int_equal(bias->count, left[i]);
            for (int64_t k = 0; k < bias->count; k++)
                assert_true(small->slab[bias->offset + k] == first[i] + (ar_real)k);
        }
        ar_model_release(small);
    }
    ar_model_release(model);
    ar_context_release(ctx);
}

/* ---- the rest ---- */

/* The pruned net stands alone: written, read back, and run without its parent. */
static void test_alone(void **state) {
    (void)state;
    enum { N = 5 };
    static const char *const nets[] = {"tiny", "joined", "conv_small"};
    char folder[512], path[600];
    advrob_context *ctx = open_context(NULL);
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/small.safetensors", folder);
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++) {
        advrob_model *model = open_net(ctx, nets[k]), *small = NULL, *loaded = NULL;
        const double mean = 0.3, std = 0.4;
        test_ok(ar_model_set_normalisation(model, &mean, 1, &std, 1));
        model->low[0] = -0.5;
        model->high[0] = 1.5;
        test_ok(prune(model, "sparsity=0.6", &small));
        assert_true(small->low[0] == -0.5 && small->high[0] == 1.5);
        assert_true(small->mean[0] == 0.3f && small->std[0] == 0.4f);
        assert_string_equal(small->zoo, model->zoo);
        ar_model_release(model);
        float *x = draw_images(N, ar_shape_count(small->nodes[0].shape), 32);
        float *before = run_net(small, N, x);
        size_t bytes = sizeof(float) * N * (size_t)ar_model_classes(small);
        uint64_t digest = ar_model_digest(small);
        test_ok(ar_model_file_save(small, path));
        ar_model_release(small);
        test_ok(ar_model_file_load(ctx, path, &loaded));
        float *after = run_net(loaded, N, x);
        assert_memory_equal(before, after, bytes);
        assert_true(ar_model_digest(loaded) == digest && before[0] != 0);
        ar_model_release(loaded);
        free(x);
        free(before);
        free(after);
    }
    test_folder_remove(folder);
    ar_context_release(ctx);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *says;
        int32_t status;
    } wrong[] = {{"prune_l1", "sparsity=-0.1", "sparsity", ADVROB_E_RANGE},
                 {"prune_l1", "sparsity=1.1", "sparsity", ADVROB_E_RANGE},
                 {"prune_l1", "sparcity=0.1", "\"sparsity\"", ADVROB_E_UNKNOWN},
                 {"prune_l1", "scope=all", "global", ADVROB_E_RANGE},
                 {"prune_l9", "", "\"prune_l1\"", ADVROB_E_UNKNOWN}};
    static test_allocator allocator;
    advrob_context *ctx = open_context(&allocator);
    advrob_compressor *compressor = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        advrob_options *options = test_options(wrong[i].text);
        int32_t status = advrob_compressor_create(ctx, wrong[i].name, options, &compressor);
        if (status != wrong[i].status || strstr(ar_message(), wrong[i].says) == NULL)
            fail_msg("%s: %d, %s", wrong[i].text, status, ar_message());
        ar_options_destroy(options);
    }
    advrob_model *model = open_net(ctx, "tiny"), *out = NULL;
    const ar_real scale = 0.01f;
    char *plan = NULL;
    test_ok(ar_quant_set(model, &model->nodes[2].output, 8, 0, 255, 0, &scale, 1));
    assert_int_equal(prune(model, "", &out), ADVROB_E_UNSUPPORTED);
    test_ok(advrob_compressor_create(ctx, "prune_l1", NULL, &compressor));
    assert_int_equal(advrob_compressor_plan(compressor, model, NULL, &plan), ADVROB_E_UNSUPPORTED);
    ar_model_release(model);
    model = open_net(ctx, "tiny");
    model->slab[7] = NAN;
    assert_int_equal(advrob_compressor_run(compressor, model, NULL, &out), ADVROB_E_NONFINITE);
    assert_non_null(strstr(ar_message(), "conv1.weight"));
    assert_true(out == NULL && plan == NULL);
    advrob_compressor_destroy(compressor);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked), cmocka_unit_test(test_kept_counts),
        cmocka_unit_test(test_sizes),  cmocka_unit_test(test_ties),
        cmocka_unit_test(test_alone),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
