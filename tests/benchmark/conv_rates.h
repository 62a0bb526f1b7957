/* Speed of the gemm and wgrad slots on a convolution, in GFLOP/s. Only multiplications that exist
 * count: taps that fall on padding are neither done nor counted. */
#ifndef TESTS_BENCHMARK_CONV_RATES_H
#define TESTS_BENCHMARK_CONV_RATES_H

#include "kernel/kernel.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES 16
#define PIECE 32 /* outputs of a call of wgrad, as in model/run.c */

typedef struct layer {
    const char *name;
    int32_t c, o, h, kernel, stride, pad;
} layer;

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void *take(size_t size) {
    void *block = aligned_alloc(64, (size + 63) / 64 * 64);
    if (block == NULL) exit(1);
    memset(block, 0, (size + 63) / 64 * 64);
    return block;
}

static inline float *numbers(size_t n) {
    static uint32_t state = 1;
    float *x = take(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

/* Segment lists of a direction; rows of weights: forward [ky][kx][c], backward [ky][residue of kx
 * by the stride, then falling][o], so that a row of taps merges in both. */
typedef struct lists {
    ar_gemm call;
    int32_t *first;
    ar_segment *segments;
    double products; /* of one image */
} lists;

static inline void segment_add(lists *l, int32_t p, int32_t x, int32_t w, int32_t k) {
    int32_t *n = &l->first[p + 1];
    ar_segment *last = l->segments + *n - 1;
    l->products += (double)k * l->call.outputs;
    if (*n > l->first[p] && last->x + last->k == x && last->w + last->k == w)
        last->k += k;
    else
        l->segments[(*n)++] = (ar_segment){x, w, k};
}

static inline int32_t backward_row(const layer *a, int32_t kx) {
    int32_t at = 0;
    for (int32_t r = 0; r < a->stride; r++)
        for (int32_t k = a->kernel - 1; k >= 0; k--)
            if (k % a->stride == r) {
                if (k == kx) return at;
                at++;
            }
    return at;
}

static inline int32_t size_out(const layer *a) {
    return (a->h + 2 * a->pad - a->kernel) / a->stride + 1;
}

static inline lists lists_make(const layer *a, bool backward) {
    int32_t out = size_out(a), kernel = a->kernel;
    int32_t side = backward ? a->h : out;
    int32_t inner = backward ? a->o : a->c;
    lists l = {.call = {.lanes = LANES,
                        .pixels = side * side,
                        .outputs = backward ? a->c : a->o,
                        .rows = kernel * kernel * inner}};
    l.first = take(sizeof(int32_t) * (size_t)(side * side + 1));
    l.segments = take(sizeof(ar_segment) * (size_t)(side * side * kernel * kernel));
    for (int32_t p = 0; p < side * side; p++) {
        l.first[p + 1] = l.first[p];
        for (int32_t ky = 0; ky < kernel; ky++)
            for (int32_t i = 0; i < kernel; i++) {
                int32_t y, x, row = i;
                if (!backward) {
                    y = p / side * a->stride + ky - a->pad;
                    x = p % side * a->stride + i - a->pad;
                    if (y < 0 || x < 0 || y >= a->h || x >= a->h) continue;
                    x += y * a->h;
                } else {
                    int32_t kx = kernel - 1 - i;
                    y = p / side + a->pad - ky;
                    x = p % side + a->pad - kx;
                    if (y < 0 || x < 0 || y % a->stride || x % a->stride) continue;
                    y /= a->stride;
                    x /= a->stride;
                    if (y >= out || x >= out) continue;
                    x += y * out;
                    row = backward_row(a, kx);
                }
                segment_add(&l, p, x * inner, (ky * kernel + row) * inner, inner);
            }
    }
    l.call.first = l.first;
    l.call.segments = l.segments;
    return l;
}

static inline double gemm_rate(const ar_kernels *k, const layer *a, bool backward, double seconds) {
    lists l = lists_make(a, backward);
    int32_t out = size_out(a);
    size_t in_floats = (size_t)(a->h * a->h * a->c * LANES);
    size_t out_floats = (size_t)(out * out * a->o * LANES);
    float *x = numbers(backward ? out_floats : in_floats);
    float *y = numbers(backward ? in_floats : out_floats);
    float *w = numbers((size_t)l.call.rows * (size_t)l.call.outputs);
    float *bias = numbers((size_t)l.call.outputs);
    uint8_t *mask = take((backward ? in_floats : out_floats) / 8);
    l.call.x = x;
    l.call.y = y;
    l.call.w = w;
    l.call.bias = backward ? NULL : bias;
    l.call.relu = !backward;
    l.call.mask = backward ? NULL : mask;
    l.call.gate = backward ? mask : NULL;
    double best = 1e9;
    for (double end = now() + seconds; now() < end;) {
        double t = now();
        k->gemm(&l.call);
        t = now() - t;
        if (t < best) best = t;
    }
    free(x);
    free(y);
    free(w);
    free(bias);
    free(mask);
    free(l.first);
    free(l.segments);
    return l.products * 2 * LANES / best * 1e-9;
}

static inline double wgrad_rate(const ar_kernels *k, const layer *a, int32_t tiles,
                                double seconds) {
    int32_t out = size_out(a), taps = a->kernel * a->kernel, n = 0;
    size_t in_floats = (size_t)(a->h * a->h * a->c * LANES);
    size_t out_floats = (size_t)(out * out * a->o * LANES);
    int32_t *first = take(sizeof(int32_t) * (size_t)(taps + 1));
    ar_pair *pairs = take(sizeof(ar_pair) * (size_t)(taps * out * out));
    const float *x[16], *dy[16];
    for (int32_t t = 0; t < taps; t++) {
        for (int32_t p = 0; p < out * out; p++) {
            int32_t iy = p / out * a->stride + t / a->kernel - a->pad;
            int32_t ix = p % out * a->stride + t % a->kernel - a->pad;
            if (iy < 0 || ix < 0 || iy >= a->h || ix >= a->h) continue;
            pairs[n++] = (ar_pair){(iy * a->h + ix) * a->c, p};
        }
        first[t + 1] = n;
    }
    for (int32_t i = 0; i < tiles; i++) {
        x[i] = numbers(in_floats);
        dy[i] = numbers(out_floats);
    }
    ar_wgrad call = {.lanes = LANES,
                     .tiles = tiles,
                     .taps = taps,
                     .channels = a->c,
                     .outputs = a->o,
                     .pixels = out * out,
                     .end = a->o,
                     .x = x,
                     .dy = dy,
                     .first = first,
                     .pairs = pairs};
    call.dw = numbers((size_t)(a->o * taps * a->c));
    call.db = numbers((size_t)a->o);
    double best = 1e9;
    for (double end = now() + seconds; now() < end;) {
        double t = now();
        for (call.begin = 0; call.begin < a->o; call.begin = call.end) {
            call.end = call.begin + PIECE < a->o ? call.begin + PIECE : a->o;
            k->wgrad(&call);
        }
        t = now() - t;
        if (t < best) best = t;
    }
    for (int32_t i = 0; i < tiles; i++) {
        free((void *)(uintptr_t)x[i]);
        free((void *)(uintptr_t)dy[i]);
    }
    free(call.dw);
    free(call.db);
    free(first);
    free(pairs);
    return (double)n * a->c * a->o * LANES * tiles * 2 / best * 1e-9;
}

#endif
