/* What the fuzz targets share. A target is one function; replay.c runs it over files. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for any input. */
#define HOLDS(condition) \
    do { \
        if (!(condition)) abort(); \
    } while (0)

/* One context for the whole run: what an input leaves behind shows in its counter. */
static inline advrob_context *fuzz_context(void) {
    static advrob_context *ctx;
    if (!ctx) {
        HOLDS(ar_context_create(NULL, &ctx) == ADVROB_OK);
        ctx->memory.limit = (uint64_t)256 << 20;
    }
    return ctx;
}

#endif
