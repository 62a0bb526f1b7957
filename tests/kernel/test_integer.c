/* The integer slots of every level of this CPU: the same bits as the definitions written here, on
 * convolutions of odd shapes and on the values where integer kernels go wrong. */
#include "guarded.h"

#define ROUNDS 120

/* ---- a convolution on codes ---- */

typedef struct shape {
    int32_t c, o, h, kernel, stride, pad, dilation, lanes;
} shape;

static int32_t up4(int32_t n) {
    return (n + 3) / 4 * 4;
}

static int32_t size_out(const shape *s) {
    return (s->h + 2 * s->pad - s->dilation * (s->kernel - 1) - 1) / s->stride + 1;
}

static shape shape_draw(void) {
    static const int32_t kernels[] = {1, 3, 5, 7};
    for (;;) {
        shape s = {.c = between(1, 70), .o = between(1, 70), .h = between(1, 9)};
        s.kernel = kernels[between(0, 3)];
        s.stride = between(1, 2);
        s.pad = between(0, s.kernel / 2 + 1);
        s.dilation = between(1, 2);
        s.lanes = 8 * between(1, 2);
        if (s.h + 2 * s.pad < s.dilation * (s.kernel - 1) + 1) continue;
        int32_t out = size_out(&s); /* large in one direction at a time */
        if (s.c * s.o * s.kernel * s.kernel * out * out > 600000) continue;
        return s;
    }
}

/* The input index of tap k at output index i of an axis, or -1. */
static int32_t tap(const shape *s, int32_t i, int32_t k) {
    int32_t at = i * s->stride + k * s->dilation - s->pad;
    return at >= 0 && at < s->h ? at : -1;
}

/* Lists in quads, merged where taps are adjacent. */
static void lists_make(const shape *s, ar_qgemm *call) {
    const int32_t out = size_out(s), quads = up4(s->c) / 4;
    const size_t most = (size_t)(out * out * s->kernel * s->kernel);
    int32_t *first = take(sizeof *first * (size_t)(out * out + 1), 4), n = 0;
    ar_segment *list = calloc(most + 1, sizeof *list);
    assert_non_null(list);
    first[0] = 0;
    for (int32_t p = 0; p < out * out; p++) {
        for (int32_t t = 0; t < s->kernel * s->kernel; t++) {
            const int32_t y = tap(s, p / out, t / s->kernel), x = tap(s, p % out, t % s->kernel);
            if (y < 0 || x < 0) continue;
            const ar_segment next = {(y * s->h + x) * quads, t * quads, quads};
            ar_segment *last = list + n - 1;
            if (n > first[p] && last->x + last->k == next.x && last->w + last->k == next.w)
                last->k += quads;
            else
                list[n++] = next;
        }
        first[p + 1] = n;
    }
    call->first = first;
    call->segments = copy(list, sizeof *list * (size_t)n, 4);
    free(list);
    call->lanes = s->lanes;
    call->pixels = out * out;
    call->outputs = s->o;
    call->rows = s->kernel * s->kernel * quads;
}

/* ---- values ---- */

/* What codes and weights are like. */
typedef enum values {
    WIDE,    /* 8 bits both */
    BELL,    /* 8 bits, of which the large weights are rare */
    CODES_7, /* codes of 7 bits */
    BELL_7,  /* codes of 7 bits by BELL's weights */
    TAPS_7,  /* weights of 7 bits */
    TAPS_4,  /* weights of 4 bits */
    VALUES
} values;

static int32_t high_of(values v) {
    return v == CODES_7 || v == BELL_7 ? 127 : 255;
}

static uint8_t draw_code(values v) {
    int32_t most = high_of(v), kind = between(0, 9);
    return (uint8_t)(kind == 0 ? 0 : kind < 3 ? most : between(0, most));
}

static int8_t draw_weight(values v) {
    int32_t kind = between(0, 9);
    if (v == BELL || v == BELL_7) {
        int32_t sum = 0;
        for (int32_t i = 0; i < 6; i++)
            sum += between(-21, 21);
        return (int8_t)(between(0, 99) == 0 ? between(-128, 127) : sum);
    }
    int32_t low = v == TAPS_4 ? -8 : v == TAPS_7 ? -64 : -128;
    int32_t high = v == TAPS_4 ? 7 : v == TAPS_7 ? 64 : 127;
    return (int8_t)(kind == 0 ? low : kind == 1 ? high : between(low, high));
}

/* A tile of codes of c channels; those past the last are 0. */
static uint8_t *codes(int32_t pixels, int32_t c, int32_t lanes, values v) {
    const int32_t quads = up4(c) / 4;
    const size_t n = (size_t)(pixels * quads * lanes * 4);
    uint8_t *x = take(n, 64);
    for (size_t i = 0; i < n; i++) {
        const int32_t quad = (int32_t)(i / 4) / lanes % quads;
        x[i] = quad * 4 + (int32_t)(i % 4) < c ? draw_code(v) : 0;
    }
    return x;
}

/* [outputs][rows][4] */
static int8_t *weights(const shape *s, int32_t rows, values v) {
    int8_t *w = take((size_t)(s->o * rows * 4), 1);
    for (int32_t i = 0; i < s->o * rows * 4; i++)
        w[i] = i / 4 % (up4(s->c) / 4) * 4 + i % 4 < s->c ? draw_weight(v) : 0;
    return w;
}

/* Biases up to where floats round, and beyond. */
static int32_t draw_bias(void) {
    switch (between(0, 5)) {
    case 0:
        return between(-3, 3);
    case 1:
        return (1 << 24) + between(-5, 5);
    case 2:
        return -(1 << 25) + between(-5, 5);
    case 3:
        return between(0, 1900000000) * (between(0, 1) ? 1 : -1);
    default:
        return between(-200000, 200000);
    }
}

/* Scales that make ties, that reach all codes, and that leave them far behind. */
static float draw_scale(void) {
    static const float odd[] = {0.5f, 1, -0.25f, 1.0f / 65536, 0, 1e30f, 1e-40f};
    return between(0, 3) == 0 ? odd[between(0, 6)] : number() * 0.002f;
}

/* ---- qgemm ---- */

static int32_t sum_at(const ar_qgemm *call, const int8_t *w, int32_t p, int32_t o, int32_t l) {
    const int32_t class = call->bias_class != NULL ? call->bias_class[p] : 0;
    int64_t a = call->bias[class * up4(call->outputs) + o];
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++)
        for (int32_t k = 0; k < call->segments[i].k; k++) {
            const int8_t *row = w + ((int64_t)o * call->rows + call->segments[i].w + k) * 4;
            const uint8_t *x = call->x + ((int64_t)(call->segments[i].x + k) * call->lanes + l) * 4;
            for (int32_t c = 0; c < 4; c++)
                a += row[c] * x[c];
        }
    assert_true(a == (int32_t)a);
    return (int32_t)a;
}

static uint8_t code_at(const ar_qgemm *call, int32_t o, size_t at, int32_t a) {
    float v = (float)a * call->scale[o];
    if (call->residual != NULL) {
        float other = (float)(call->residual[at] - call->residual_zero) * call->residual_scale;
        v = v + other;
    }
    v = rintf(v) + (float)call->zero;
    return (uint8_t)fminf(fmaxf(v, (float)call->low), (float)call->high);
}

/* Fills sums and codes by the contract. */
static void define(const ar_qgemm *call, const int8_t *w, int32_t *sums, uint8_t *y) {
    const int32_t padded = up4(call->outputs), lanes = call->lanes;
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t o = 0; o < padded; o++)
            for (int32_t l = 0; l < lanes; l++) {
                const int32_t quad = (p * padded + o) / 4;
                const size_t at = (size_t)((quad * lanes + l) * 4 + o % 4);
                const int32_t class = call->bias_class != NULL ? call->bias_class[p] : 0;
                const int32_t a =
                    o < call->outputs ? sum_at(call, w, p, o, l) : call->bias[class * padded + o];
                sums[(p * padded + o) * lanes + l] = a;
                y[at] = o < call->outputs ? code_at(call, o, at, a) : 0;
            }
}

static const void *pack(const ar_kernels *k, const ar_qgemm *call, const int8_t *w) {
    void *packed = take(k->qgemm_size(call->outputs, call->rows, call->x_high), 64);
    k->qgemm_pack(call->outputs, call->rows, call->x_high, w, packed);
    return packed;
}

/* The bytes of y (or sums) that are of blocks in [begin, end) are `want`, the others untouched. */
static void blocks_same(const ar_qgemm *call, const void *got, const void *want, int32_t begin,
                        int32_t end, const char *name) {
    const unsigned char *a = got, *b = want;
    const int32_t blocks = up4(call->outputs) / 4;
    const size_t size = (size_t)call->lanes * 4 * (call->sums != NULL ? sizeof(int32_t) : 1);
    for (int32_t i = 0; i < call->pixels * blocks; i++, a += size, b += size)
        if (i % blocks >= begin && i % blocks < end)
            same(a, b, size, "qgemm: blocks", name);
        else
            for (size_t j = 0; j < size; j++)
                if (a[j] != 0xa5) fail_msg("qgemm: other blocks, level %s", name);
}

/* Each level, whole and in two calls; sums and codes. */
static void qgemm_same(const ar_qgemm *given, const int8_t *w) {
    const size_t n = (size_t)(given->pixels * up4(given->outputs) * given->lanes);
    int32_t *sums = take(n * sizeof *sums, 64);
    uint8_t *y = take(n, 64);
    define(given, w, sums, y);
    for (int32_t i = 0; i < level_count; i++) {
        const ar_kernels *k = levels[i].table;
        const int32_t blocks = up4(given->outputs) / 4, cut = between(0, blocks);
        ar_qgemm call = *given;
        call.w = pack(k, given, w);
        call.y = take(n, 64);
        k->qgemm(&call);
        same(call.y, y, n, "qgemm: codes", k->name);
        for (int32_t what = 0; what < 2; what++) {
            ar_qgemm part = call;
            part.y = what == 0 ? take(n, 64) : NULL;
            part.sums = what == 0 ? NULL : take(n * sizeof *sums, 64);
            const void *got = what == 0 ? (void *)part.y : (void *)part.sums;
            const void *want = what == 0 ? (void *)y : (void *)sums;
            int32_t begin = blocks;
            if (cut < blocks) {
                part.blocks = (ar_span){cut, blocks};
                k->qgemm(&part);
                blocks_same(&part, got, want, cut, blocks, k->name);
                begin = cut;
            }
            if (cut > 0) {
                part.blocks = (ar_span){0, cut};
                k->qgemm(&part);
                begin = 0;
            }
            blocks_same(&part, got, want, begin, blocks, k->name);
        }
    }
}

/* Random numbers for all that a convolution reads. Returns the weights. */
static const int8_t *fill(const shape *s, ar_qgemm *call, values v) {
    const int32_t padded = up4(s->o), count = between(1, 9);
    int32_t *bias = take(sizeof *bias * (size_t)(count * padded), 4);
    float *scale = take(sizeof *scale * (size_t)padded, 4);
    lists_make(s, call);
    for (int32_t i = 0; i < count * padded; i++)
        bias[i] = draw_bias();
    for (int32_t i = 0; i < padded; i++)
        scale[i] = draw_scale();
    call->x_high = high_of(v);
    call->bias = bias;
    call->scale = scale;
    call->x = codes(s->h * s->h, s->c, s->lanes, v);
    if (count > 1) call->bias_class = classes((size_t)call->pixels, count);
    if (between(0, 1)) {
        call->residual = codes(call->pixels, s->o, s->lanes, WIDE);
        call->residual_zero = between(0, 255);
        call->residual_scale = between(0, 1) ? 0.5f : number();
    }
    call->zero = between(0, 255);
    call->low = between(0, 1) ? 0 : between(0, 127);
    call->high = between(0, 1) ? 255 : between(call->low, 255);
    return weights(s, call->rows, v);
}

static void test_shapes(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const shape s = shape_draw();
        ar_qgemm call = {0};
        const int8_t *w = fill(&s, &call, (values)(round % VALUES));
        qgemm_same(&call, w);
        drop();
    }
}

/* Every K tail and every number of channels. */
static void test_tails(void **unused) {
    (void)unused;
    for (int32_t n = 1; n <= 70; n++)
        for (int32_t v = 0; v < VALUES; v++) {
            const int32_t lanes = 8 * between(1, 2);
            const shape deep = {n <= 67 ? 4 * n : n, between(1, 20), 2, 1, 1, 0, 1, lanes};
            const shape wide = {n, n, 1, 1, 1, 0, 1, 24 - lanes};
            ar_qgemm call = {0};
            const int8_t *w = fill(&deep, &call, (values)v);
            qgemm_same(&call, w);
            drop();
            call = (ar_qgemm){0};
            w = fill(&wide, &call, (values)v);
            qgemm_same(&call, w);
            drop();
        }
}

/* Codes and weights at their ends, all alike: sums that saturate if 16 bits ever hold two. */
static void saturated(int32_t lanes, uint8_t code, int8_t weight, int32_t sum) {
    const shape s = {64, 6, 1, 1, 1, 0, 1, lanes};
    ar_qgemm call = {.x_high = code, .high = 255};
    const size_t n = (size_t)(8 * lanes);
    int32_t zeros[8] = {0};
    float scale[8] = {0};
    uint8_t *x = take((size_t)(64 * lanes), 64);
    int8_t *w = take(6 * 64, 1);
    memset(x, code, (size_t)(64 * lanes));
    memset(w, weight, 6 * 64);
    lists_make(&s, &call);
    call.x = x;
    call.bias = zeros;
    call.scale = scale;
    for (int32_t i = 0; i < level_count; i++) {
        call.w = pack(levels[i].table, &call, w);
        call.sums = take(n * sizeof(int32_t), 64);
        levels[i].table->qgemm(&call);
        for (int32_t j = 0; j < 6 * lanes; j++, checks++)
            if (call.sums[j] != sum)
                fail_msg("level %s: %d instead of %d", levels[i].table->name, call.sums[j], sum);
        for (int32_t j = 6 * lanes; j < 8 * lanes; j++)
            assert_int_equal(call.sums[j], 0);
    }
    drop();
}

static void test_saturation(void **unused) {
    (void)unused;
    for (int32_t lanes = 8; lanes <= 16; lanes += 8) {
        saturated(lanes, 255, 127, 2072640);
        saturated(lanes, 255, -128, -2088960);
        saturated(lanes, 255, 65, 1060800); /* the first that two products may not be */
        saturated(lanes, 127, -128, -1040384);
        saturated(lanes, 127, 127, 1032256);
        saturated(lanes, 255, 64, 1044480);
        saturated(lanes, 255, -64, -1044480);
        for (int32_t bit = 0; bit < 6; bit++) {
            saturated(lanes, 255, (int8_t)(1 << bit), 64 * 255 * (1 << bit));
            saturated(lanes, 255, (int8_t) - (1 << bit), -64 * 255 * (1 << bit));
            saturated(lanes, 255, (int8_t)((1 << bit) + 1), 64 * 255 * ((1 << bit) + 1));
        }
    }
}

/* All codes at their largest, of 1 to 8 bits, by weights of all kinds: sums that reach the ends of
 * 16 bits wherever a level adds too many of them there. */
static void test_largest_codes(void **unused) {
    (void)unused;
    for (int32_t bits = 1; bits <= 8; bits++)
        for (int32_t v = 0; v < VALUES; v++) {
            const shape s = {4 * between(1, 17), between(1, 9), 3, 3, 1, 1, 1, 8 * between(1, 2)};
            const size_t n = (size_t)(s.h * s.h * s.c * s.lanes);
            ar_qgemm call = {0};
            const int8_t *w = fill(&s, &call, (values)v);
            uint8_t *x = take(n, 64);
            memset(x, (1 << bits) - 1, n);
            call.x = x;
            call.x_high = (1 << bits) - 1;
            qgemm_same(&call, w);
            drop();
        }
}

/* The first output index whose taps fall in and out as those of index i do. */
static int32_t axis_class(const shape *s, int32_t i) {
    for (int32_t j = 0; j < i; j++) {
        bool alike = true;
        for (int32_t k = 0; k < s->kernel; k++)
            alike = alike && (tap(s, i, k) < 0) == (tap(s, j, k) < 0);
        if (alike) return j;
    }
    return i;
}

/* Padding is the code of 0: with corrections by border class, the sum of (code - zero) * w over
 * the taps that exist. */
static void zero_point(const shape *s, int32_t zero, values v) {
    const int32_t out = size_out(s), padded = up4(s->o), quads = up4(s->c) / 4;
    ar_qgemm call = {.x_high = high_of(v), .high = 255};
    int32_t *class = take(sizeof *class * (size_t)(out * out), 4);
    int32_t *bias = take(sizeof *bias * (size_t)(out * out * padded), 4);
    float *scale = floats((size_t)padded, 4);
    lists_make(s, &call);
    const int8_t *w = weights(s, call.rows, v);
    memset(bias, 0, sizeof *bias * (size_t)(out * out * padded));
    for (int32_t p = 0; p < out * out; p++) {
        class[p] = axis_class(s, p / out) * out + axis_class(s, p % out);
        if (class[p] != p) continue;
        for (int32_t o = 0; o < s->o; o++)
            for (int32_t t = 0; t < s->kernel * s->kernel; t++)
                for (int32_t c = 0; c < s->c; c++)
                    if (tap(s, p / out, t / s->kernel) >= 0 && tap(s, p % out, t % s->kernel) >= 0)
                        bias[p * padded + o] -= zero * w[(o * call.rows + t * quads) * 4 + c];
    }
    call.x = codes(s->h * s->h, s->c, s->lanes, v);
    call.bias = bias;
    call.bias_class = class;
    call.scale = scale;
    for (int32_t i = 0; i < level_count; i++) {
        const ar_kernels *k = levels[i].table;
        call.w = pack(k, &call, w);
        call.sums = take(sizeof(int32_t) * (size_t)(out * out * padded * s->lanes), 64);
        k->qgemm(&call);
        for (int32_t j = 0; j < out * out * padded * s->lanes; j++, checks++) {
            const int32_t l = j % s->lanes, o = j / s->lanes % padded, p = j / s->lanes / padded;
            int32_t sum = 0;
            for (int32_t t = 0; t < s->kernel * s->kernel && o < s->o; t++) {
                const int32_t y = tap(s, p / out, t / s->kernel);
                const int32_t x = tap(s, p % out, t % s->kernel);
                for (int32_t c = 0; c < s->c && y >= 0 && x >= 0; c++) {
                    const int32_t quad = (y * s->h + x) * quads + c / 4;
                    const int32_t code = call.x[(quad * s->lanes + l) * 4 + c % 4];
                    sum += (code - zero) * w[(o * call.rows + t * quads) * 4 + c];
                }
            }
            if (call.sums[j] != sum) fail_msg("zero point %d, level %s", zero, k->name);
        }
    }
    drop();
}

static void test_zero_points(void **unused) {
    static const int32_t zeros[] = {0, 1, 127, 128, 255};
    (void)unused;
    for (int32_t round = 0; round < 30; round++) {
        shape s = {between(1, 9), between(1, 9), between(3, 6), 3, between(1, 2), 1, 1, 8};
        if (round % 3 == 1) s.kernel = 5, s.pad = 2;
        if (round % 3 == 2) s.dilation = 2, s.pad = 2;
        s.lanes = 8 * between(1, 2);
        zero_point(&s, zeros[round % 5], (values)(round % VALUES));
    }
}

/* Halves go to the even neighbour, with and without a residual, on both sides of 0. */
static void test_ties(void **unused) {
    (void)unused;
    for (int32_t half = -300; half <= 300; half++)
        for (int32_t i = 0; i < level_count; i++) {
            const shape s = {4, 4, 1, 1, 1, 0, 1, 8};
            static const int8_t w[64];
            int32_t bias[4] = {half, half + 1, half, half};
            float scale[4] = {0.5f, 0.5f, 0.25f, 1};
            ar_qgemm call = {.x_high = 255, .zero = 100, .high = 255, .bias = bias, .scale = scale};
            lists_make(&s, &call);
            call.x = codes(1, 4, 8, WIDE);
            call.w = pack(levels[i].table, &call, w);
            call.y = take(32, 64);
            if (half % 2 == 0) {
                uint8_t *residual = take(32, 64);
                memset(residual, 131, 32);
                call.residual = residual;
                call.residual_zero = 128;
                call.residual_scale = 0.5f;
            }
            levels[i].table->qgemm(&call);
            for (int32_t j = 0; j < 4; j++, checks++) {
                double v = (double)bias[j] * (double)scale[j] + (half % 2 == 0 ? 1.5 : 0);
                double even = 2 * floor(v / 2 + 0.25), up = floor(v + 0.5);
                double want = v - floor(v) == 0.5 ? even : up;
                want = fmin(fmax(want + 100, 0), 255);
                if (call.y[j] != want)
                    fail_msg("tie %g, level %s: %d", v, levels[i].table->name, call.y[j]);
            }
            drop();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_saturation),    cmocka_unit_test(test_zero_points),
        cmocka_unit_test(test_largest_codes), cmocka_unit_test(test_ties),
        cmocka_unit_test(test_counted),
    };
    levels_find();
    return cmocka_run_group_tests_name("integer", tests, NULL, NULL);
}
