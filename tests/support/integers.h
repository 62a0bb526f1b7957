/* A context that has the engine's integers, as the api's have: for exact simulation. It links the
 * whole library, so that support.c leaves it to those who need it. Include support.h first. */
#ifndef TEST_INTEGERS_H
#define TEST_INTEGERS_H

#include "engine/lower.h"

static inline advrob_context *test_context_with_integers(test_allocator *allocator, int32_t threads,
                                                         int32_t level) {
    advrob_context *ctx = test_context_at(allocator, threads, ar_kernels_get(level, false));
    ctx->integers = &ar_engine_integers;
    return ctx;
}

#endif
