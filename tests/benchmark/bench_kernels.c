/* Speed of the kernels of this machine's highest level on EightLayerConv's layers: GFLOP/s and the
 * share of one core's measured FMA peak. Only multiplications that exist count: taps that fall on
 * padding are neither done nor counted.
 *
 *     bench_kernels [portable|blas|avx2] */
#include "fma_peak.h"
#include "kernel/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define SECONDS 0.25 /* per figure */

typedef struct layer {
    const char *name;
    int32_t c, o, h, kernel, stride, pad;
} layer;

static const layer layers[] = {
    {"1>32 28 s1", 1, 32, 28, 3, 1, 1},    {"32>32 28 s2", 32, 32, 28, 3, 2, 1},
    {"32>64 14 s1", 32, 64, 14, 3, 1, 1},  {"64>64 14 s2", 64, 64, 14, 3, 2, 1},
    {"64>128 7 s1", 64, 128, 7, 3, 1, 1},  {"128>128 7 s2", 128, 128, 7, 3, 2, 1},
    {"2048>128 fc", 128, 128, 4, 4, 1, 0},
};

static void *take(size_t size) {
    void *block = aligned_alloc(64, (size + 63) / 64 * 64);
    if (block == NULL) exit(1);
    memset(block, 0, (size + 63) / 64 * 64);
    return block;
}

static float *numbers(size_t n) {
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

static void segment_add(lists *l, int32_t p, int32_t x, int32_t w, int32_t k) {
    int32_t *n = &l->first[p + 1];
    ar_segment *last = l->segments + *n - 1;
    l->products += (double)k * l->call.outputs;
    if (*n > l->first[p] && last->x + last->k == x && last->w + last->k == w)
        last->k += k;
    else
        l->segments[(*n)++] = (ar_segment){x, w, k};
}

static int32_t backward_row(const layer *a, int32_t kx) {
    int32_t at = 0;
    for (int32_t r = 0; r < a->stride; r++)
        for (int32_t k = a->kernel - 1; k >= 0; k--)
            if (k % a->stride == r) {
                if (k == kx) return at;
                at++;
            }
    return at;
}

static int32_t size_out(const layer *a) {
    return (a->h + 2 * a->pad - a->kernel) / a->stride + 1;
}

static lists lists_make(const layer *a, bool backward) {
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

static double gemm_rate(const ar_kernels *k, const layer *a, bool backward) {
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
    for (double end = fma_now() + SECONDS; fma_now() < end;) {
        double t = fma_now();
        k->gemm(&l.call);
        t = fma_now() - t;
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

static double wgrad_rate(const ar_kernels *k, const layer *a, int32_t tiles) {
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
    for (double end = fma_now() + SECONDS; fma_now() < end;) {
        double t = fma_now();
        k->wgrad(&call);
        t = fma_now() - t;
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

/* ---- elementwise slots, on a tile of 28 x 28 pixels: 50 KB per operand (L2) ---- */

enum {
    EW_COPY,
    EW_ADD,
    EW_RELU,
    EW_GATE,
    EW_QUANTIZE,
    EW_STEP,
    EW_LOAD,
    EW_STORE,
    EW_SGD,
    EW_NORM,
    EW_NORM_RELU,
    EW_NORM_BACKWARD,
    EW_NORM_FROZEN,
    EW_SUMS,
    EW_SUMS_SQUARES,
    EW_COUNT
};

/* Name, and floats read and written per float of the tile. */
static const struct ew_slot {
    const char *name;
    int32_t moved;
} ew_slots[EW_COUNT] = {
    {"memcpy", 2},
    {"add", 3},
    {"relu", 2},
    {"gate", 2},
    {"quantize", 2},
    {"step", 5},
    {"load", 2},
    {"store", 2},
    {"sgd", 5},
    {"norm", 2},
    {"norm, relu", 2},
    {"norm_backward", 3},
    {"norm_backward, frozen", 2},
    {"channel_sums", 2},
    {"channel_sums, a = b", 1},
};

/* Floats per ns of a tile of `channels` on `pixels`; the slots before norm see a plain run. */
static double elementwise_rate(const ar_kernels *k, int32_t what, int32_t channels,
                               int32_t pixels) {
    const int32_t n = LANES * channels * pixels;
    const size_t size = (size_t)n, bytes = size * sizeof(float);
    float *a = numbers(size), *b = numbers(size), *c = numbers(size), *d = numbers(size);
    float *by_channel = numbers((size_t)channels);
    double *sums = take(sizeof(double) * 2 * LANES * (size_t)channels);
    uint8_t *mask = take(size / 8);
    float one[1] = {1.0f}, shift[1] = {0.0f};
    ar_quant_call quant = {n, 0.1f, 3, 0, 15, a, b, mask, true};
    ar_step_call step = {n, a, b, c, d, 0.01f};
    ar_norm_call norm = {.lanes = LANES,
                         .channels = channels,
                         .pixels = pixels,
                         .mean = by_channel,
                         .scale = by_channel,
                         .shift = by_channel,
                         .x = a,
                         .y = b,
                         .relu = what == EW_NORM_RELU,
                         .mask = mask,
                         .dy = c,
                         .dx = d,
                         .dy_mean = what == EW_NORM_FROZEN ? NULL : by_channel,
                         .slope = by_channel};
    double best = 1e9;
    for (double end = fma_now() + 0.1; fma_now() < end;) {
        double t = fma_now();
        for (int32_t i = 0; i < 16; i++) {
            if (what == EW_COPY) memcpy(b, a, bytes);
            if (what == EW_ADD) k->add(n, a, b, c);
            if (what == EW_RELU) k->relu(n, a, b, mask);
            if (what == EW_GATE) k->gate(n, a, mask, b, false);
            if (what == EW_QUANTIZE) k->quantize(&quant);
            if (what == EW_STEP) k->step(&step);
            if (what == EW_LOAD) k->load(LANES, LANES, 1, n / LANES, a, one, shift, b);
            if (what == EW_STORE) k->store(LANES, LANES, 1, n / LANES, b, NULL, a);
            if (what == EW_SGD) k->sgd(n, a, b, c, 1e-6f, 0.9f, 1e-6f);
            if (what == EW_NORM || what == EW_NORM_RELU) k->norm(&norm);
            if (what == EW_NORM_BACKWARD || what == EW_NORM_FROZEN) k->norm_backward(&norm);
            if (what == EW_SUMS) k->channel_sums(LANES, channels, pixels, a, b, sums);
            if (what == EW_SUMS_SQUARES) k->channel_sums(LANES, channels, pixels, a, a, sums);
        }
        t = fma_now() - t;
        if (t < best) best = t;
    }
    free(a);
    free(b);
    free(c);
    free(d);
    free(by_channel);
    free(sums);
    free(mask);
    return 16.0 * n / best * 1e-9;
}

static void elementwise_print(const ar_kernels *k, int32_t first, int32_t channels,
                              int32_t pixels) {
    double copy = elementwise_rate(k, EW_COPY, channels, pixels) * ew_slots[EW_COPY].moved * 4;
    printf("%d channels, %d pixels, %d KB per operand; memcpy %.1f GB/s\n", channels, pixels,
           channels * pixels * LANES * 4 / 1024, copy);
    for (int32_t i = first; i < EW_COUNT; i++) {
        double rate = elementwise_rate(k, i, channels, pixels),
               bytes = rate * ew_slots[i].moved * 4;
        printf("%-22s %6.2f floats/ns %7.1f GB/s (%3.0f %% of memcpy)\n", ew_slots[i].name, rate,
               bytes, 100 * bytes / copy);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "avx2";
    const ar_kernels *k = ar_kernels_get(strcmp(what, "avx2") == 0 ? AR_CPU_AVX2 : AR_CPU_PORTABLE,
                                         strcmp(what, "blas") == 0);
    double before = fma_peak(40);
    printf("level %s; FMA peak of one core (256 bit) %.1f GFLOP/s\n", k->name, before);
    printf("%-14s %18s %18s %18s %18s\n", "layer", "forward", "backward-data", "wgrad 4 tiles",
           "wgrad 1 tile");
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        double rate[4] = {gemm_rate(k, layers + i, false), gemm_rate(k, layers + i, true),
                          wgrad_rate(k, layers + i, 4), wgrad_rate(k, layers + i, 1)};
        printf("%-14s", layers[i].name);
        for (int32_t j = 0; j < 4; j++)
            printf(" %9.1f (%4.1f %%)", rate[j], 100 * rate[j] / before);
        printf("\n");
    }
    elementwise_print(k, EW_ADD, 16, 49);
    elementwise_print(k, EW_NORM, 64, 16);   /* L2; a stride of 4 KB between pixels */
    elementwise_print(k, EW_NORM, 64, 1024); /* ResNet-18's first layers */
    elementwise_print(k, EW_NORM, 512, 16);  /* and its last */
    double after = fma_peak(40);
    printf("FMA peak after %.1f%s\n", after,
           after < before * 0.95 || after > before * 1.05 ? ": NOISY, discard this run" : "");
    return 0;
}
