/* Pruning on graphs: every net of the zoo by every criterion equals its masked self, coupled
 * channels go together, shares and targets are met, plans are replayed, steps call back. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/images.h"
#include "support/prune.h"
#include "tolerance.h"

static advrob_context *open_context(void) {
    return test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
}

static advrob_model *open_net(advrob_context *ctx, const char *name) {
    advrob_model *model = NULL;
    test_ok(advrob_model_build(ctx, name, NULL, &model));
    test_train_like(model, 5);
    return model;
}

/* Images for calibration, with labels of all classes. */
static advrob_dataset *make_data(advrob_context *ctx, const advrob_model *model, int64_t n) {
    ar_shape s = model->nodes[0].shape;
    advrob_dataset *data = NULL;
    float *x = draw_images(n, ar_shape_count(s), 17);
    int32_t *y = calloc((size_t)n, sizeof(int32_t)), classes = ar_model_classes(model);
    for (int64_t i = 0; i < n; i++)
        y[i] = (int32_t)(i % classes);
    test_ok(advrob_dataset_from_memory(ctx, ADVROB_F32, x, y, n, s.c, s.h, s.w, classes, &data));
    free(x);
    free(y);
    return data;
}

/* ---- pruned against masked ---- */

static double check_pruned(const advrob_model *m, const char *name, const char *text,
                           const advrob_dataset *data) {
    advrob_model *small = NULL;
    uint64_t digest = ar_model_digest(m);
    char *plan = test_plan(m, name, text, data);
    test_ok(test_compress(m, name, text, data, &small));
    assert_true(ar_model_digest(m) == digest);
    for (int32_t i = 1; i < m->node_count; i++) {
        bool gone[1024] = {false};
        if (m->nodes[i].op->prune != AR_PRUNE_PRODUCES) continue;
        assert_int_equal(small->nodes[i].shape.c,
                         m->nodes[i].shape.c - test_plan_line(plan, m->nodes[i].name, gone));
    }
    advrob_model *masked = test_masked_net(m, plan);
    double off = test_same_logits(small, masked, 5, 31);
    test_within(m->zoo, name, off, TOLERANCE_PRUNED, NULL);
    ar_model_release(masked);
    ar_model_release(small);
    advrob_text_destroy(m->ctx, plan);
    return off;
}

static void test_whole_zoo(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    double worst = 0;
    int32_t nets = 0;
    for (int32_t i = 0; i < ar_zoo_count(); i++) {
        advrob_model *m = open_net(ctx, ar_zoo_at(i)->name);
        if (TEST_SANITIZED && m->slab_count > 300000) {
            ar_model_release(m);
            continue;
        }
        advrob_dataset *data = make_data(ctx, m, 24);
        bool norms = ar_model_has_batch_norm(m);
        worst = fmax(worst, check_pruned(m, "prune_l1", "sparsity=0.5 linear=1", NULL));
        worst = fmax(worst, check_pruned(m, "prune_l2", "sparsity=0.7 scope=global", NULL));
        worst = fmax(worst, check_pruned(m, "prune_random", "sparsity=0.5 coupling=union", NULL));
        worst =
            fmax(worst, check_pruned(m, "prune_l1", "sparsity=0.4 steps=2 schedule=cubic", NULL));
        if (m->slab_count < 500000) /* the others take long, and are no different */
            worst = fmax(worst, check_pruned(m, "prune_taylor", "batch=16", data));
        if (norms) worst = fmax(worst, check_pruned(m, "prune_bn", "sparsity=0.5", NULL));
        nets++;
        advrob_dataset_destroy(data);
        ar_model_release(m);
    }
    print_message("%d nets, off by %.2g of the largest logit at most\n", nets, worst);
    assert_true(nets >= (TEST_SANITIZED ? 6 : 14));
    ar_context_release(ctx);
}

/* ---- what goes ---- */

static bool *plan_of(const char *plan, const char *layer) {
    bool *gone = calloc(1024, sizeof(bool));
    (void)test_plan_line(plan, layer, gone);
    return gone;
}

static void same_channels(const char *plan, const char *a, int32_t from, const char *b, int32_t to,
                          int32_t n) {
    bool *x = plan_of(plan, a), *y = plan_of(plan, b);
    assert_memory_equal(x + from, y + to, sizeof(bool) * (size_t)n);
    free(x);
    free(y);
}

static void test_coupled(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    advrob_model *m = open_net(ctx, "resnet20");
    char *plan = test_plan(m, "prune_l1", "sparsity=0.5", NULL);
    bool *gone;
    /* A stage's sums couple its layers, and padding shortcuts couple the stages. */
    same_channels(plan, "conv1", 0, "layer1.2.conv2", 0, 16);
    same_channels(plan, "conv1", 0, "layer2.1.conv2", 8, 16);
    same_channels(plan, "layer2.0.conv2", 0, "layer3.2.conv2", 16, 32);
    for (int32_t i = 1; i < m->node_count; i++) { /* each layer loses just half */
        if (m->nodes[i].op->prune != AR_PRUNE_PRODUCES) continue;
        gone = calloc(1024, sizeof(bool));
        int32_t expected = strcmp(m->nodes[i].name, "linear") == 0 ? 0 : m->nodes[i].shape.c / 2;
        assert_int_equal(test_plan_line(plan, m->nodes[i].name, gone), expected);
        free(gone);
    }
    advrob_text_destroy(ctx, plan);
    ar_model_release(m);

    /* A layer of a group has the mean of the members' norms; the lowest means go. */
    m = open_net(ctx, "resnet20_conv");
    static const char *const members[] = {"layer3.0.conv2", "layer3.0.shortcut.0", "layer3.1.conv2",
                                          "layer3.2.conv2"};
    double norm[64] = {0}, kept_least = INFINITY, gone_most = 0;
    for (size_t k = 0; k < 4; k++) {
        const ar_parameter *w = &m->parameters[m->nodes[ar_model_find_node(m, members[k])].weight];
        int64_t per = w->count / 64;
        for (int64_t i = 0; i < w->count; i++)
            norm[i / per] += fabs((double)m->slab[w->offset + i]) / 4;
    }
    plan = test_plan(m, "prune_l1", "sparsity=0.3", NULL);
    gone = plan_of(plan, members[1]);
    int32_t count = 0;
    for (int32_t c = 0; c < 64; c++) {
        count += gone[c];
        if (gone[c])
            gone_most = fmax(gone_most, norm[c]);
        else
            kept_least = fmin(kept_least, norm[c]);
    }
    assert_true(count == 19 && gone_most < kept_least);
    free(gone);
    advrob_text_destroy(ctx, plan);

    /* Union: each layer by itself drops its lowest; what all of them drop goes. */
    plan = test_plan(m, "prune_l1", "sparsity=0.5 coupling=union", NULL);
    gone = plan_of(plan, members[0]);
    for (int32_t c = 0; c < 64; c++) {
        bool all = true;
        for (size_t k = 0; k < 4; k++) {
            const ar_parameter *w =
                &m->parameters[m->nodes[ar_model_find_node(m, members[k])].weight];
            int64_t per = w->count / 64;
            double mine = 0;
            int32_t lower = 0;
            for (int64_t i = 0; i < per; i++)
                mine += fabs((double)m->slab[w->offset + c * per + i]);
            for (int32_t d = 0; d < 64; d++) {
                double other = 0;
                for (int64_t i = 0; i < per; i++)
                    other += fabs((double)m->slab[w->offset + d * per + i]);
                lower += other < mine;
            }
            all = all && lower < 32;
        }
        assert_int_equal(gone[c], all);
    }
    free(gone);
    advrob_text_destroy(ctx, plan);
    ar_model_release(m);
    ar_context_release(ctx);
}

static void test_shares(void **state) {
    (void)state;
    advrob_context *ctx = open_context();
    advrob_model *m = open_net(ctx, "eight_layer_conv"), *small = NULL;
    /* A target is met, and not by more than one filter of each layer. */
    static const struct {
        const char *text;
        double share;
        bool macs;
    } targets[] = {{"target=macs sparsity=0.5", 0.5, true},
                   {"target=macs sparsity=0.8 scope=global", 0.2, true},
                   {"target=bytes sparsity=0.3", 0.7, false},
                   {"target=bytes sparsity=0.6 steps=3 linear=1", 0.4, false}};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        test_ok(test_compress(m, "prune_l1", targets[i].text, NULL, &small));
        double share = targets[i].macs ? (double)ar_model_macs(small) / (double)ar_model_macs(m)
                                       : (double)small->slab_count / (double)m->slab_count;
        print_message("%s: %.3f stays\n", targets[i].text, share);
        assert_true(share <= targets[i].share && share > targets[i].share - 0.06);
        ar_model_release(small);
    }
    assert_int_equal(
        test_compress(m, "prune_l1", "target=bytes sparsity=0.9 least=30", NULL, &small),
        ADVROB_E_RANGE);
    /* Layers of their own, and what every layer keeps. */
    test_ok(
        test_compress(m, "prune_l1", "layer_sparsity=conv1=0,conv4=0.75 least=20", NULL, &small));
    static const int32_t left[6] = {32, 20, 32, 20, 64, 64};
    for (int32_t i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", i + 1);
        assert_int_equal(small->nodes[ar_model_find_node(small, name)].shape.c, left[i]);
    }
    ar_model_release(small);
    /* A layer whose channels lie in several groups keeps those of each. */
    advrob_model *residual = open_net(ctx, "resnet20");
    test_ok(test_compress(residual, "prune_l1", "layer_sparsity=layer3.1.conv2=0", NULL, &small));
    static const char *const whole[] = {"conv1", "layer2.1.conv2", "layer3.0.conv2"};
    for (size_t i = 0; i < 3; i++) {
        int32_t node = ar_model_find_node(small, whole[i]);
        assert_int_equal(small->nodes[node].shape.c, residual->nodes[node].shape.c);
    }
    ar_model_release(small);
    ar_model_release(residual);
    static const struct {
        const char *text, *says;
        int32_t status;
    } wrong[] = {{"layer_sparsity=conv9=0.1", "\"conv9\"", ADVROB_E_UNKNOWN},
                 {"layer_sparsity=conv1=2", "\"conv1=2\"", ADVROB_E_RANGE},
                 {"layer_sparsity=fc2=0.1", "\"fc2\"", ADVROB_E_INVALID},
                 {"layer_sparsity=conv1=0.1 scope=global", "scope", ADVROB_E_INVALID}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(test_compress(m, "prune_l1", wrong[i].text, NULL, &small),
                         wrong[i].status);
        if (strstr(ar_message(), wrong[i].says) == NULL) fail_msg("%s", ar_message());
    }
    assert_int_equal(test_compress(m, "prune_bn", "", NULL, &small), ADVROB_E_UNSUPPORTED);
    assert_non_null(strstr(ar_message(), "conv1"));
    assert_int_equal(test_compress(m, "prune_taylor", "", NULL, &small), ADVROB_E_INVALID);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* The Taylor criterion against its definition, with gradients by a fine-tune step of lr 1: what
 * plain SGD takes off the weights is the gradient of the mean loss of its batch. */
static void test_taylor(void **state) {
    (void)state;
    enum { N = 32 };
    advrob_context *ctx = open_context();
    advrob_model *m = open_net(ctx, "tiny"), *moved = NULL;
    advrob_dataset *data = make_data(ctx, m, N);
    advrob_options *options = test_options("epochs=1 lr=0.001 momentum=0 batch_size=32");
    advrob_finetune *fit = NULL;
    test_ok(advrob_finetune_create(ctx, "standard", options, &fit));
    advrob_options_destroy(options);
    test_ok(ar_model_clone(m, &moved));
    test_ok(advrob_finetune_run(fit, moved, data, NULL, NULL));
    advrob_finetune_destroy(fit);
    char *plan = test_plan(m, "prune_taylor", "sparsity=0.5 images=32 batch=32", data);
    for (int32_t i = 0; i < 2; i++) {
        const char *name = i == 0 ? "conv1" : "conv2";
        const ar_node *node = &m->nodes[ar_model_find_node(m, name)];
        const ar_parameter *w = &m->parameters[node->weight];
        int64_t per = w->count / w->shape[0];
        bool *gone = plan_of(plan, name);
        double kept_least = INFINITY, gone_most = 0;
        for (int32_t c = 0; c < node->shape.c; c++) {
            double product = 0;
            for (int64_t k = w->offset + c * per; k < w->offset + (c + 1) * per; k++)
                product += ((double)m->slab[k] - (double)moved->slab[k]) * (double)m->slab[k];
            if (gone[c])
                gone_most = fmax(gone_most, fabs(product));
            else
                kept_least = fmin(kept_least, fabs(product));
        }
        assert_true(gone_most > 0 && gone_most < kept_least);
        free(gone);
    }
    advrob_text_destroy(ctx, plan);
    advrob_dataset_destroy(data);
    /* Labels that the net has no logits for. */
    advrob_model *wide = NULL, *small = NULL;
    advrob_options *classes = test_options("classes=40");
    test_ok(advrob_model_build(ctx, "tiny", classes, &wide));
    advrob_options_destroy(classes);
    data = make_data(ctx, wide, N + 8);
    assert_int_equal(test_compress(m, "prune_taylor", "", data, &small), ADVROB_E_SHAPE);
    advrob_dataset_destroy(data);
    ar_model_release(wide);
    ar_model_release(moved);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* ---- plans ---- */

static int32_t replay(const advrob_model *m, const char *plan, advrob_model **out) {
    advrob_options *options = NULL;
    advrob_compressor *compressor = NULL;
    test_ok(advrob_options_create(&options));
    test_ok(advrob_options_set_str(options, "plan", plan));
    test_ok(advrob_compressor_create(m->ctx, "prune_plan", options, &compressor));
    advrob_options_destroy(options);
    int32_t status = advrob_compressor_run(compressor, m, NULL, out);
    advrob_compressor_destroy(compressor);
    return status;
}

static void test_plans(void **state) {
    (void)state;
    static const char *const nets[] = {"resnet20", "resnet20_conv", "vgg_small", "tiny_residual"};
    advrob_context *ctx = open_context();
    advrob_model *a = NULL, *b = NULL;
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        advrob_model *m = open_net(ctx, nets[i]);
        const char *text = "sparsity=0.6 scope=global linear=1";
        char *plan = test_plan(m, "prune_l1", text, NULL);
        test_ok(test_compress(m, "prune_l1", text, NULL, &a));
        test_ok(replay(m, plan, &b));
        assert_true(ar_model_digest(a) == ar_model_digest(b));
        advrob_text_destroy(ctx, plan);
        ar_model_release(a);
        ar_model_release(b);
        ar_model_release(m);
    }
    advrob_model *m = open_net(ctx, "tiny_residual");
    static const struct {
        const char *plan, *says;
        int32_t status;
    } wrong[] = {
        {"conv2: 1 of 4 go: 1", "conv1", ADVROB_E_INVALID},
        {"conv9: 1 of 4 go: 1", "\"conv9\"", ADVROB_E_UNKNOWN},
        {"conv1: 1 of 4 go: 4", "\"4\"", ADVROB_E_RANGE},
        {"conv1: 1 of 4 go: 1x", "\"1x\"", ADVROB_E_RANGE},
        {"fc: 1 of 3 go: 1", "fc", ADVROB_E_UNSUPPORTED},
        {"what is this", "what is this", ADVROB_E_FORMAT},
        {"conv1: 4 of 4 go: 0 1 2 3\nconv2: 4 of 4 go: 0 1 2 3", "all 4", ADVROB_E_INVALID}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(replay(m, wrong[i].plan, &a), wrong[i].status);
        if (strstr(ar_message(), wrong[i].says) == NULL) fail_msg("%s", ar_message());
    }
    test_ok(replay(m, "# edited\nconv1: 1 of 4 go: 2\nconv2: 1 of 4 go: 2\n\nfc: stays\n", &a));
    assert_int_equal(a->nodes[1].shape.c, 3);
    ar_model_release(a);
    ar_model_release(m);
    ar_context_release(ctx);
}

/* ---- steps ---- */

typedef struct steps {
    int64_t seen;
    int32_t left[8], stop;
} steps;

static int32_t note_step(void *user, int64_t step, int64_t count, advrob_model *model) {
    steps *s = user;
    assert_int_equal(count, 4);
    assert_int_equal(step, ++s->seen);
    s->left[step] = model->nodes[ar_model_find_node(model, "conv6")].shape.c;
    return s->stop == step ? 3 : 0;
}

static void test_steps(void **state) {
    (void)state;
    static const int32_t expected[2][5] = {{0, 104, 80, 56, 32}, {0, 73, 44, 34, 32}};
    advrob_context *ctx = open_context();
    advrob_model *m = open_net(ctx, "eight_layer_conv"), *small = NULL;
    for (int32_t cubic = 0; cubic < 2; cubic++) {
        steps s = {0};
        advrob_compressor *compressor = NULL;
        advrob_options *options =
            test_options(cubic ? "sparsity=0.75 steps=4 schedule=cubic" : "sparsity=0.75 steps=4");
        test_ok(advrob_compressor_create(ctx, "prune_l1", options, &compressor));
        ar_options_destroy(options);
        test_ok(advrob_compressor_on_step(compressor, note_step, &s));
        test_ok(advrob_compressor_run(compressor, m, NULL, &small));
        assert_int_equal(s.seen, 4);
        for (int32_t k = 1; k <= 4; k++)
            assert_int_equal(s.left[k], expected[cubic][k]);
        ar_model_release(small);
        s = (steps){.stop = 2};
        assert_int_equal(advrob_compressor_run(compressor, m, NULL, &small), ADVROB_E_CALLBACK);
        assert_int_equal(s.seen, 2);
        advrob_compressor_destroy(compressor);
    }
    ar_model_release(m);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_zoo), cmocka_unit_test(test_coupled),
        cmocka_unit_test(test_shares),    cmocka_unit_test(test_taylor),
        cmocka_unit_test(test_plans),     cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
