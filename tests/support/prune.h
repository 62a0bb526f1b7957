/* What a pruning plan says, and the net in which the filters that go are zero. Include support.h
 * and golden.h first. */
#ifndef TEST_PRUNE_H
#define TEST_PRUNE_H

#include "compress/compress.h"
#include "support/options.h"

static inline int32_t test_compress(const advrob_model *model, const char *name, const char *text,
                                    const advrob_dataset *data, advrob_model **out) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    int32_t status = advrob_compressor_create(model->ctx, name, options, &compressor);
    ar_options_destroy(options);
    if (status >= 0) status = advrob_compressor_run(compressor, model, data, out);
    advrob_compressor_destroy(compressor);
    return status;
}

/* Freed by advrob_text_destroy. */
static inline char *test_plan(const advrob_model *model, const char *name, const char *text,
                              const advrob_dataset *data) {
    advrob_options *options = test_options(text);
    advrob_compressor *compressor = NULL;
    char *plan = NULL;
    test_ok(advrob_compressor_create(model->ctx, name, options, &compressor));
    ar_options_destroy(options);
    test_ok(advrob_compressor_plan(compressor, model, data, &plan));
    advrob_compressor_destroy(compressor);
    return plan;
}

/* The channels that the plan's line about a layer lists, into gone [channels]; how many. */
static inline int32_t test_plan_line(const char *plan, const char *layer, bool *gone) {
    size_t length = strlen(layer);
    int32_t count = 0, n = 0, of = 0;
    for (const char *line = plan; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, layer, length) != 0 || line[length] != ':') continue;
        if (strncmp(line + length, ": stays", 7) == 0) return 0;
        assert_int_equal(sscanf(line + length, ": %d of %d go:", &n, &of), 2);
        for (const char *at = strstr(line, "go:") + 3; *at == ' '; count++) {
            char *end = NULL;
            long channel = strtol(at, &end, 10);
            assert_true(channel >= 0 && channel < of && !gone[channel]);
            gone[channel] = true;
            at = end;
        }
        assert_int_equal(count, n);
        return count;
    }
    fail_msg("the plan names no %s:\n%s", layer, plan);
    return -1;
}

/* A clone in which the filters that the plan lists are zero, bias included. */
static inline advrob_model *test_masked_net(const advrob_model *m, const char *plan) {
    advrob_model *masked = NULL;
    test_ok(ar_model_clone(m, &masked));
    for (int32_t i = 1; i < m->node_count; i++) {
        const ar_node *node = &m->nodes[i];
        if (node->op->prune != AR_PRUNE_PRODUCES) continue;
        bool *gone = calloc((size_t)node->shape.c, sizeof(bool));
        (void)test_plan_line(plan, node->name, gone);
        for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
            if (node->parameters[role] < 0) continue;
            const ar_parameter *p = &m->parameters[node->parameters[role]];
            size_t per = (size_t)(p->count / p->shape[0]);
            for (int32_t c = 0; c < node->shape.c; c++)
                if (gone[c])
                    memset(masked->slab + p->offset + (size_t)c * per, 0, sizeof(ar_real) * per);
        }
        free(gone);
    }
    ar_model_changed(masked);
    return masked;
}

/* Parameters that look trained: batch norms with statistics, scales and shifts of their own. */
static inline void test_train_like(advrob_model *m, int64_t seed) {
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 7, 0, 0);
    test_ok(ar_model_initialise(m, "pytorch", seed));
    for (int32_t i = 0; i < m->parameter_count; i++) {
        const ar_parameter *p = &m->parameters[i];
        bool norm = m->nodes[p->node].op->whole_batch;
        for (int64_t k = 0; k < p->count && norm; k++) {
            double u = (double)ar_rng_uniform(&rng);
            bool positive = p->role == AR_WEIGHT || p->role == AR_RUNNING_VAR;
            m->slab[p->offset + k] = (ar_real)(positive ? 0.5 + u : u - 0.5);
        }
    }
    ar_model_changed(m);
}

/* Largest difference of two nets' logits, as a part of the largest, on n images in [0, 1). */
static inline double test_same_logits(advrob_model *a, advrob_model *b, int64_t n, int64_t seed) {
    int64_t image = ar_shape_count(a->nodes[0].shape), count = n * ar_model_classes(a);
    float *x = malloc(sizeof(float) * (size_t)(n * image));
    float *z[2] = {malloc(sizeof(float) * (size_t)count), malloc(sizeof(float) * (size_t)count)};
    double worst = 0, largest = 0;
    ar_rng rng;
    ar_rng_init(&rng, seed, AR_RNG_TEST, 8, 0, 0);
    for (int64_t i = 0; i < n * image; i++)
        x[i] = ar_rng_uniform(&rng);
    test_ok(advrob_model_forward(a, n, x, z[0]));
    test_ok(advrob_model_forward(b, n, x, z[1]));
    for (int64_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs((double)z[0][i] - (double)z[1][i]));
        largest = fmax(largest, fabs((double)z[1][i]));
        if (isnan(z[0][i]) || isnan(z[1][i])) worst = INFINITY;
    }
    free(x);
    free(z[0]);
    free(z[1]);
    return worst == 0 ? 0 : worst / largest;
}

#endif
