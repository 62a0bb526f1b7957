/* Time per image of 3x3 convolutions, direct and by Winograd, and their rms errors against double.
 * One core, tiles of 16 images.
 *
 *     bench_winograd [layers|narrow|small|pack] [lanes]
 *
 * narrow: layers of few channels, small: of few pixels, where direct may win; pack: the time to
 * transform a filter. */
#include "kernel/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECONDS 0.2 /* per figure */
#define KINDS 3     /* direct, F(2), F(4) */

static int32_t lanes = 16;

typedef struct layer {
    int32_t c, o, h;
} layer;

static const layer layers[] = {{16, 32, 14}, {32, 64, 14},   {32, 64, 7},   {64, 128, 7},
                               {64, 64, 32}, {128, 128, 16}, {256, 256, 8}, {512, 512, 4}};

/* To find the fewest channels from which Winograd pays. */
static const layer narrow[] = {{8, 8, 14},   {8, 16, 14}, {12, 12, 14}, {16, 16, 14}, {16, 16, 32},
                               {24, 24, 14}, {16, 32, 7}, {24, 48, 7},  {12, 24, 14}, {32, 32, 28}};

/* The same for pixels: padding is the greater part of a small image, and direct skips it. */
static const layer small[] = {{32, 32, 1}, {32, 32, 2}, {32, 32, 3},   {32, 32, 4},
                              {32, 32, 5}, {32, 32, 6}, {128, 128, 2}, {128, 128, 3}};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t size) {
    void *block = aligned_alloc(64, (size + 63) / 64 * 64);
    if (block == NULL) exit(1);
    memset(block, 0, (size + 63) / 64 * 64);
    return block;
}

static float *numbers(size_t n, float scale) {
    static uint32_t state = 1;
    float *x = take(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * scale;
    }
    return x;
}

/* A layer's call in all kinds: `plain` weights are [outputs][channels][9]. */
typedef struct work {
    ar_gemm direct;
    ar_winograd winograd[KINDS];
    float *plain, *result[KINDS];
    size_t n;
} work;

static void lists_make(ar_gemm *call, const layer *a) {
    int32_t *first = take(sizeof *first * (size_t)(a->h * a->h + 1)), n = 0;
    ar_segment *list = take(sizeof *list * (size_t)(a->h * a->h * 3));
    for (int32_t p = 0; p < a->h * a->h; p++) {
        int32_t y = p / a->h, x = p % a->h, from = x > 0 ? x - 1 : 0;
        int32_t to = x + 2 < a->h ? x + 2 : a->h;
        for (int32_t ky = 0; ky < 3; ky++)
            if (y + ky > 0 && y + ky <= a->h)
                list[n++] = (ar_segment){((y + ky - 1) * a->h + from) * a->c,
                                         (ky * 3 + from - x + 1) * a->c, (to - from) * a->c};
        first[p + 1] = n;
    }
    call->first = first;
    call->segments = list;
}

static float *direct_pack(const ar_kernels *k, const layer *a, const float *plain) {
    float *packed = take(sizeof *packed * (size_t)(9 * a->c * a->o));
    for (int32_t b = 0; b < ar_block_count(a->o, k->gemm_block); b++) {
        int32_t o = ar_block_first(a->o, k->gemm_block, b);
        int32_t width = ar_block_first(a->o, k->gemm_block, b + 1) - o;
        for (int32_t r = 0; r < 9 * a->c; r++)
            for (int32_t j = 0; j < width; j++)
                packed[9 * a->c * o + r * width + j] =
                    plain[((o + j) * a->c + r % a->c) * 9 + r / a->c];
    }
    return packed;
}

static work work_make(const ar_kernels *k, const layer *a, bool backward) {
    work w = {.n = (size_t)(a->h * a->h * a->o * lanes)};
    float *x = numbers((size_t)(a->h * a->h * a->c * lanes), 1), *bias = numbers((size_t)a->o, 1);
    uint8_t *mask = take(w.n / 8);
    memset(mask, 0x5a, w.n / 8);
    w.plain = numbers((size_t)(9 * a->c * a->o), 1 / sqrtf((float)(9 * a->c)));
    for (int32_t i = 0; i < KINDS; i++)
        w.result[i] = take(w.n * sizeof(float));
    w.direct = (ar_gemm){.lanes = lanes, .pixels = a->h * a->h, .outputs = a->o, .rows = 9 * a->c};
    lists_make(&w.direct, a);
    w.direct.x = x;
    w.direct.w = direct_pack(k, a, w.plain);
    w.direct.y = w.result[0];
    w.direct.bias = backward ? NULL : bias;
    w.direct.relu = !backward;
    w.direct.mask = backward ? NULL : mask;
    w.direct.gate = backward ? mask : NULL;
    for (int32_t i = 1; i < KINDS; i++) {
        int32_t m = 2 * i;
        size_t size = (size_t)((m + 2) * (m + 2) * a->c * a->o) * sizeof(float);
        ar_winograd_pack pack = {m, a->c, a->o, w.plain, 9 * a->c, 9, false, take(size)};
        k->winograd_pack(&pack);
        ar_winograd call = {m, lanes, a->c, a->o, a->h, a->h, {1, 1}, x, pack.packed};
        call.bias = w.direct.bias;
        call.y = w.result[i];
        call.relu = w.direct.relu;
        call.mask = w.direct.mask;
        call.gate = w.direct.gate;
        call.scratch = take(k->winograd_scratch(&call));
        w.winograd[i] = call;
    }
    return w;
}

static void work_free(work *w) {
    const void *blocks[] = {w->plain,
                            w->direct.x,
                            w->direct.w,
                            w->direct.bias,
                            w->direct.first,
                            w->direct.segments,
                            w->direct.mask != NULL ? w->direct.mask : w->direct.gate};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        free((void *)(uintptr_t)blocks[i]);
    for (int32_t i = 0; i < KINDS; i++) {
        free(w->result[i]);
        free((void *)(uintptr_t)w->winograd[i].weights);
        free(w->winograd[i].scratch);
    }
}

static void once(const ar_kernels *k, const work *w, int32_t kind) {
    if (kind == 0)
        k->gemm(&w->direct);
    else
        k->winograd(&w->winograd[kind]);
}

/* rms of the difference to a convolution in double, of the rms of the outputs; lane 0, without relu
 * or gate. */
static void errors(const ar_kernels *k, const layer *a, work *w, double *error) {
    double sum[KINDS] = {0}, scale = 0;
    for (int32_t i = 0; i < KINDS; i++) {
        work plain = *w;
        plain.direct.relu = plain.winograd[i].relu = false;
        plain.direct.gate = plain.winograd[i].gate = NULL;
        once(k, &plain, i);
    }
    for (int32_t p = 0; p < a->h * a->h; p += 1 + a->h * a->h / 50)
        for (int32_t o = 0; o < a->o; o += 1 + a->o / 50) {
            double want = w->direct.bias != NULL ? w->direct.bias[o] : 0;
            for (int32_t t = 0; t < 9; t++) {
                int32_t y = p / a->h + t / 3 - 1, x = p % a->h + t % 3 - 1;
                if (y < 0 || y >= a->h || x < 0 || x >= a->h) continue;
                for (int32_t c = 0; c < a->c; c++)
                    want += (double)w->plain[(o * a->c + c) * 9 + t] *
                            (double)w->direct.x[((y * a->h + x) * a->c + c) * lanes];
            }
            scale += want * want;
            for (int32_t i = 0; i < KINDS; i++) {
                double d = (double)w->result[i][(p * a->o + o) * lanes] - want;
                sum[i] += d * d;
            }
        }
    for (int32_t i = 0; i < KINDS; i++)
        error[i] = sqrt(sum[i] / scale);
}

static void layer_print(const ar_kernels *k, const layer *a, bool backward) {
    work w = work_make(k, a, backward);
    double best[KINDS] = {1, 1, 1}, error[KINDS];
    for (double end = now() + SECONDS * KINDS; now() < end;)
        for (int32_t i = 0; i < KINDS; i++) {
            double t = now();
            once(k, &w, i);
            once(k, &w, i);
            t = (now() - t) / (2 * lanes);
            if (t < best[i]) best[i] = t;
        }
    errors(k, a, &w, error);
    printf("%3d>%3d %2dx%-2d %-8s %8.1f %8.1f (%4.2f) %8.1f (%4.2f)   %.1e %.1e %.1e\n", a->c, a->o,
           a->h, a->h, backward ? "backward" : "forward", best[0] * 1e6, best[1] * 1e6,
           best[0] / best[1], best[2] * 1e6, best[0] / best[2], error[0], error[1], error[2]);
    work_free(&w);
}

static void pack_print(const ar_kernels *k, int32_t m, const layer *a, bool turn) {
    int32_t n = (m + 2) * (m + 2);
    size_t filters = (size_t)(a->c * a->o);
    float *weights = numbers(filters * 9, 1), *packed = numbers(filters * (size_t)n, 1);
    ar_winograd_pack call = {m, a->c, a->o, weights, 9 * a->c, 9, false, packed};
    if (turn) {
        call.output_stride = 9;
        call.channel_stride = 9 * a->o;
        call.turn = true;
    }
    double best = 1;
    for (double end = now() + SECONDS; now() < end;) {
        double t = now();
        k->winograd_pack(&call);
        t = now() - t;
        if (t < best) best = t;
    }
    printf("%3d>%3d F(%d) %-8s %5.1f ns a filter\n", a->c, a->o, m, turn ? "backward" : "forward",
           best * 1e9 / (double)filters);
    free(weights);
    free(packed);
}

static void layers_print(const ar_kernels *k, const layer *list, size_t n, bool backward_too) {
    printf("level %s, %d lanes; us an image (ratio to direct); rms error / rms output\n", k->name,
           lanes);
    printf("%25s %8s %15s %15s   %s\n", "", "direct", "F(2)", "F(4)", "direct  F(2)    F(4)");
    for (size_t i = 0; i < n; i++)
        for (int32_t j = 0; j <= backward_too; j++)
            layer_print(k, list + i, j == 1);
}

int main(int argc, char **argv) {
    const ar_kernels *k = ar_kernels_get(AR_CPU_COUNT, false);
    const char *what = argc > 1 ? argv[1] : "layers";
    if (argc > 2 && strcmp(argv[2], "8") == 0) lanes = 8;
    if (strcmp(what, "pack") == 0)
        for (size_t i = 3; i < sizeof layers / sizeof layers[0]; i++)
            for (int32_t j = 0; j < 4; j++)
                pack_print(k, j < 2 ? 4 : 2, layers + i, j % 2 == 1);
    else if (strcmp(what, "narrow") == 0)
        layers_print(k, narrow, sizeof narrow / sizeof narrow[0], false);
    else if (strcmp(what, "small") == 0)
        layers_print(k, small, sizeof small / sizeof small[0], false);
    else
        layers_print(k, layers, sizeof layers / sizeof layers[0], true);
    return 0;
}
