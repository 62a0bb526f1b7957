/* What tests of gemm and of Winograd share: what happens to a sum before it is stored, and one tile
 * of 16 lanes as two of 8. */
#ifndef TESTS_KERNEL_EPILOGUE_H
#define TESTS_KERNEL_EPILOGUE_H

#include "guarded.h"

/* The outcome of a call and what it was made from; any call's fields of these names. */
typedef struct epilogue {
    bool relu;
    const uint8_t *mask, *gate; /* NULL: none */
    const float *residual, *y;
} epilogue;

/* Element i where the sum is a, within `bound`. */
static inline bool epilogue_right(const epilogue *e, int64_t i, double a, double bound) {
    const bool through = e->gate == NULL || bit(e->gate, i);
    if (e->relu) {
        if (e->mask != NULL && fabs(a) >= bound && bit(e->mask, i) != (a > 0)) return false;
        if (e->mask != NULL && through && bit(e->mask, i) != (e->y[i] > 0)) return false;
        a = a > 0 ? a : 0;
    }
    if (!through) a = bound = 0;
    checks++;
    return fabs(a - (double)e->y[i]) <= bound;
}

/* 8 of the 16 lanes of a call's buffers: n floats of y, in_floats of x. */
typedef struct half {
    float *x, *y, *residual;
    uint8_t *mask, *gate;
} half;

static inline half half_make(const epilogue *e, const float *x, const float *old, size_t in_floats,
                             size_t n, size_t which) {
    half h = {.x = take(in_floats * sizeof(float), 64), .y = take(n * sizeof(float), 64)};
    for (size_t i = 0; i < in_floats; i++)
        h.x[i] = x[i / 8 * 16 + which * 8 + i % 8];
    for (size_t i = 0; i < n; i++)
        h.y[i] = old[i / 8 * 16 + which * 8 + i % 8];
    if (e->residual == e->y) h.residual = h.y;
    if (e->residual != NULL && e->residual != e->y) {
        h.residual = take(n * sizeof(float), 64);
        for (size_t i = 0; i < n; i++)
            h.residual[i] = e->residual[i / 8 * 16 + which * 8 + i % 8];
    }
    if (e->mask != NULL) h.mask = take(n / 8, 1);
    if (e->gate != NULL) {
        h.gate = take(n / 8, 1);
        for (size_t i = 0; i < n / 8; i++)
            h.gate[i] = e->gate[i * 2 + which];
    }
    return h;
}

/* Whether the half got the bits that the whole has. */
static inline bool half_same(const half *h, const epilogue *e, size_t n, size_t which) {
    for (size_t i = 0; i < n; i += 8) {
        size_t at = i * 2 + which * 8;
        if (memcmp(h->y + i, e->y + at, 8 * sizeof(float)) != 0) return false;
        if (e->mask != NULL && h->mask[i / 8] != e->mask[at / 8]) return false;
        checks++;
    }
    return true;
}

#endif
