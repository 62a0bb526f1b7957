/* Speed of the kernels of a level: GFLOP/s on the layers of whole nets and the share of one core's
 * FMA peak, measured beside each figure. Only multiplications that exist count: taps that fall on
 * padding are neither done nor counted.
 *
 *     bench_kernels [portable|blas|avx2] [net|resnet|elementwise|channels|integer]
 *
 * net: EightLayerConv and elementwise, what runs without a word. resnet: the layers of ResNet-18.
 * channels: what a convolution costs against its input and its output channels. integer: the gemm
 * on codes against that on floats. */
#include "conv_rates.h"
#include "fma_peak.h"

#include <stdio.h>

#define SECONDS 0.2 /* per figure */

static const layer eight_layer_conv[] = {
    {"1>32 28 s1", 1, 32, 28, 3, 1, 1},    {"32>32 28 s2", 32, 32, 28, 3, 2, 1},
    {"32>64 14 s1", 32, 64, 14, 3, 1, 1},  {"64>64 14 s2", 64, 64, 14, 3, 2, 1},
    {"64>128 7 s1", 64, 128, 7, 3, 1, 1},  {"128>128 7 s2", 128, 128, 7, 3, 2, 1},
    {"2048>128 fc", 128, 128, 4, 4, 1, 0},
};

static const layer resnet[] = {
    {"3>64 32 s1", 3, 64, 32, 3, 1, 1},       {"64>64 32 s1", 64, 64, 32, 3, 1, 1},
    {"64>128 32 s2", 64, 128, 32, 3, 2, 1},   {"64>128 32 1x1", 64, 128, 32, 1, 2, 0},
    {"128>128 16 s1", 128, 128, 16, 3, 1, 1}, {"128>256 16 1x1", 128, 256, 16, 1, 2, 0},
    {"256>256 8 s1", 256, 256, 8, 3, 1, 1},   {"256>512 8 1x1", 256, 512, 8, 1, 2, 0},
    {"512>512 4 s1", 512, 512, 4, 3, 1, 1},
};

/* The share of the peak around a figure, which moves with the clock of a shared machine. */
static double figure(const ar_kernels *k, const layer *a, int32_t what, double *peak) {
    double before = fma_peak(), rate;
    if (what < 2)
        rate = gemm_rate(k, a, what == 1, SECONDS);
    else
        rate = wgrad_rate(k, a, what == 2 ? 4 : 1, SECONDS);
    double after = fma_peak();
    *peak = before > after ? before : after;
    return rate;
}

static void layers_print(const ar_kernels *k, const layer *layers, size_t n) {
    double low = 1e9, high = 0;
    printf("%-15s %16s %16s %16s %16s\n", "layer", "forward", "backward-data", "wgrad 4 tiles",
           "wgrad 1 tile");
    for (size_t i = 0; i < n; i++) {
        printf("%-15s", layers[i].name);
        for (int32_t j = 0; j < 4; j++) {
            double peak, rate = figure(k, layers + i, j, &peak);
            printf(" %7.1f (%4.1f %%)", rate, 100 * rate / peak);
            if (peak < low) low = peak;
            if (peak > high) high = peak;
        }
        printf("\n");
        fflush(stdout);
    }
    printf("FMA peak of one core (256 bit) %.1f to %.1f GFLOP/s%s\n", low, high,
           low < high * 0.9 ? ": NOISY, discard this run" : "");
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
    for (double end = now() + 0.1; now() < end;) {
        double t = now();
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
        t = now() - t;
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

/* ---- cost against channels ---- */

#define LAST 128
#define ROUNDS 7

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One side from 8 to 128 channels, the other one fixed, in a 3x3 convolution of 14x14 pixels: the
 * fit a + b * c by least squares, and costs against the next multiple of 8. A cost is channels by
 * share of the peak, so that a clock that moves falls out; the median of rounds, since a
 * disturbance lasts longer than a figure. */
static void curve_print(const ar_kernels *k, bool outputs, int32_t fixed) {
    double shares[LAST + 1][ROUNDS], costs[LAST + 1], n = 0, x = 0, y = 0, xx = 0, xy = 0,
                                                      worst = 0;
    printf("%d %s channels; %% of the peak at 8, 9, 10 ... %s channels:\n", fixed,
           outputs ? "input" : "output", outputs ? "output" : "input");
    for (int32_t round = 0; round < ROUNDS; round++)
        for (int32_t c = 8; c <= LAST; c++) {
            const layer a = {"", outputs ? fixed : c, outputs ? c : fixed, 14, 3, 1, 1};
            double before = fma_peak_try(), rate = gemm_rate(k, &a, false, 0.004);
            double after = fma_peak_try();
            shares[c][round] = rate / (before > after ? before : after);
        }
    for (int32_t c = 8; c <= LAST; c++) {
        qsort(shares[c], ROUNDS, sizeof shares[c][0], ascending);
        double share = shares[c][ROUNDS - 2];
        costs[c] = c / share;
        printf(" %3.0f%s", 100 * share, c % 20 == 7 || c == LAST ? "\n" : "");
        n++, x += c, y += costs[c], xx += (double)c * c, xy += c * costs[c];
    }
    double b = (n * xy - x * y) / (n * xx - x * x), a = (y - b * x) / n;
    printf("a / cost(16) %.3f; above 1.03 of the next multiple of 8:", a / costs[16]);
    for (int32_t c = 8; c <= LAST; c++) {
        double ratio = costs[c] / costs[(c + 7) / 8 * 8];
        if (ratio > worst) worst = ratio;
        if (ratio > 1.03) printf(" %d (%.2f)", c, ratio);
    }
    printf("; worst %.3f\n", worst);
    fflush(stdout);
}

static void channels_print(const ar_kernels *k) {
    curve_print(k, false, 32);
    curve_print(k, false, 64);
    curve_print(k, true, 32);
    curve_print(k, true, 64);
}

/* ---- codes against floats ---- */

#define INTEGER_ROUNDS 60

static const layer integer_layers[] = {
    {"32>32 14 s1", 32, 32, 14, 3, 1, 1},     {"64>64 14 s1", 64, 64, 14, 3, 1, 1},
    {"128>128 14 s1", 128, 128, 14, 3, 1, 1}, {"32>32 7 s1", 32, 32, 7, 3, 1, 1},
    {"64>64 7 s1", 64, 64, 7, 3, 1, 1},       {"128>128 7 s1", 128, 128, 7, 3, 1, 1},
};

typedef struct codes_bench {
    lists l;
    ar_qgemm call;
    int32_t *bias;
    float *scale;
    uint8_t *x, *y;
    void *w;
} codes_bench;

/* What codes and weights are like: bits of both, and weights bell shaped (3.5 deviations to the
 * end, as a net's) or all alike often. */
enum { BELL_7, EVEN_7, TAPS_4, BELL_8, EVEN_8, KINDS };
static const char *const kind_names[KINDS] = {"u7 by s8 bell", "u7 by s8 even", "u8 by s4",
                                              "u8 by s8 bell", "u8 by s8 even"};

static int8_t weight_draw(int32_t kind, uint32_t *state) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += *state >> 24;
    }
    if (kind == TAPS_4) return (int8_t)((int32_t)(*state >> 28) - 8);
    if (kind != BELL_7 && kind != BELL_8) return (int8_t)(*state >> 24);
    int32_t bell = ((int32_t)sum - 510) / 4; /* deviation 147.8 / 4 = 37 */
    return (int8_t)(bell > 127 ? 127 : bell);
}

/* The layer with its segments in quads. */
static codes_bench codes_make(const ar_kernels *k, const layer *a, int32_t kind) {
    const int32_t high = kind == BELL_7 || kind == EVEN_7 ? 127 : 255;
    uint32_t state = 1;
    const layer quads = {a->name, a->c / 4, a->o, a->h, a->kernel, a->stride, a->pad};
    codes_bench b = {.l = lists_make(&quads, false)};
    const int32_t rows = b.l.call.rows, out = size_out(a);
    const size_t in_size = (size_t)(a->h * a->h * a->c * LANES);
    const size_t taps = (size_t)a->o * (size_t)rows * 4;
    int8_t *w = take(taps);
    b.x = take(in_size);
    b.y = take((size_t)(out * out * a->o * LANES));
    b.w = take(k->qgemm_size(a->o, rows, high));
    b.bias = take(sizeof(int32_t) * (size_t)a->o);
    b.scale = numbers((size_t)a->o);
    for (size_t i = 0; i < in_size; i++)
        b.x[i] = (uint8_t)(i * 2654435761u >> (high == 127 ? 25 : 24));
    for (size_t i = 0; i < taps; i++)
        w[i] = weight_draw(kind, &state);
    k->qgemm_pack(a->o, rows, high, w, b.w);
    free(w);
    b.call = (ar_qgemm){.lanes = LANES,
                        .pixels = out * out,
                        .outputs = a->o,
                        .rows = rows,
                        .x_high = high,
                        .x = b.x,
                        .w = b.w,
                        .first = b.l.first,
                        .segments = b.l.segments,
                        .bias = b.bias,
                        .scale = b.scale,
                        .zero = high == 127 ? 0 : 128,
                        .high = high,
                        .y = b.y};
    return b;
}

static void codes_free(codes_bench *b) {
    free(b->l.first);
    free(b->l.segments);
    free(b->bias);
    free(b->scale);
    free(b->x);
    free(b->y);
    free(b->w);
}

/* GOP/s, counted as gemm_rate counts them. */
static double codes_rate(const ar_kernels *k, const codes_bench *b, double seconds) {
    double best = 1e9;
    for (double end = now() + seconds; now() < end;) {
        double t = now();
        k->qgemm(&b->call);
        t = now() - t;
        if (t < best) best = t;
    }
    return b->l.products * 4 * 2 * LANES / best * 1e-9;
}

/* Each figure is the best of many short rounds, taken in turns: a clock that moves, or a neighbour,
 * then meets all of them. */
static void integer_print(const ar_kernels *k) {
    printf("GOP/s and ratios to f32\n%-15s %6s", "layer", "f32");
    for (int32_t i = 0; i < KINDS; i++)
        printf(" %16s", kind_names[i]);
    printf("\n");
    for (size_t i = 0; i < sizeof integer_layers / sizeof integer_layers[0]; i++) {
        const layer *a = integer_layers + i;
        codes_bench benches[KINDS];
        double best[KINDS + 1] = {0};
        for (int32_t j = 0; j < KINDS; j++)
            benches[j] = codes_make(k, a, j);
        for (int32_t round = 0; round < INTEGER_ROUNDS; round++)
            for (int32_t j = 0; j <= KINDS; j++) {
                double rate =
                    j == KINDS ? gemm_rate(k, a, false, 0.006) : codes_rate(k, benches + j, 0.006);
                if (rate > best[j]) best[j] = rate;
            }
        printf("%-15s %6.1f", a->name, best[KINDS]);
        for (int32_t j = 0; j < KINDS; j++) {
            printf(" %6.1f (%5.2f x)", best[j], best[j] / best[KINDS]);
            codes_free(benches + j);
        }
        printf("\n");
        fflush(stdout);
    }
}

#define COUNT(layers) (sizeof(layers) / sizeof(layers)[0])

int main(int argc, char **argv) {
    const char *level = argc > 1 ? argv[1] : "avx2", *what = argc > 2 ? argv[2] : "net";
    const ar_kernels *k = ar_kernels_get(strcmp(level, "avx2") == 0 ? AR_CPU_AVX2 : AR_CPU_PORTABLE,
                                         strcmp(level, "blas") == 0);
    const bool net = strcmp(what, "net") == 0;
    printf("level %s\n", k->name);
    if (net) layers_print(k, eight_layer_conv, COUNT(eight_layer_conv));
    if (strcmp(what, "resnet") == 0) layers_print(k, resnet, COUNT(resnet));
    if (strcmp(what, "channels") == 0) channels_print(k);
    if (strcmp(what, "integer") == 0) integer_print(k);
    if (strcmp(what, "elementwise") == 0) {
        elementwise_print(k, EW_ADD, 16, 49);
        elementwise_print(k, EW_NORM, 64, 16);   /* L2; a stride of 4 KB between pixels */
        elementwise_print(k, EW_NORM, 64, 1024); /* ResNet-18's first layers */
        elementwise_print(k, EW_NORM, 512, 16);  /* and its last */
    }
    return 0;
}
