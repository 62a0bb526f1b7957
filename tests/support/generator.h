/* What tests that draw random graphs share: draws, and nodes by number. Include support.h first. */
#ifndef TEST_GENERATOR_H
#define TEST_GENERATOR_H

#include <stdio.h>

#include "model/model.h"
#include "support/golden.h"

typedef struct generator {
    advrob_model *model;
    ar_rng rng;
} generator;

static inline int32_t below(generator *g, int32_t n) {
    return (int32_t)ar_rng_below(&g->rng, (uint32_t)n);
}

static inline int32_t add(generator *g, const char *op, int32_t a, int32_t b,
                          const ar_attributes *at) {
    char name[16];
    int32_t inputs[AR_MAX_INPUTS] = {a, b}, out = 0;
    snprintf(name, sizeof name, "n%d", g->model->node_count);
    test_ok(ar_model_add(g->model, op, name, inputs, at, &out));
    return out;
}

static inline ar_shape shape_of(const generator *g, int32_t node) {
    return g->model->nodes[node].shape;
}

#endif
