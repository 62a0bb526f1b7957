/* Winograd of every level of this CPU against the convolution's definition in double, on random odd
 * shapes; and where the same bits are promised, bit by bit. */
#include "epilogue.h"
#include "tolerance.h"

#define SHAPES 250

/* One drawn call; w holds the taps as the network does, [outputs][channels][9] or, for a gradient,
 * [channels][outputs][9] turned. */
typedef struct sample {
    ar_winograd call;
    ar_winograd_pack pack;
    int32_t out_h, out_w;
    size_t in, n; /* floats of x and y */
    float *old;   /* y before */
    double *scale;
} sample;

static void describe(const sample *s, const char *what, const char *name) {
    const ar_winograd *a = &s->call;
    fail_msg("%s, level %s: m %d lanes %d channels %d outputs %d h %d w %d padding %d %d turn %d",
             what, name, a->m, a->lanes, a->channels, a->outputs, a->h, a->w, a->padding[0],
             a->padding[1], s->pack.turn);
}

static int32_t some(int32_t most) {
    return between(0, 2) == 0 ? between(1, most) : between(1, 13);
}

static sample sample_draw(void) {
    sample s = {.call = {.m = 2 * between(1, 2), .lanes = 8 * between(1, 2)}};
    ar_winograd *a = &s.call;
    do {
        a->channels = some(70);
        a->outputs = some(70);
        a->padding[0] = between(0, 2);
        a->padding[1] = between(0, 2);
        a->h = some(35);
        a->w = some(35);
        s.out_h = a->h + 2 * a->padding[0] - 2;
        s.out_w = a->w + 2 * a->padding[1] - 2;
        s.in = (size_t)(a->h * a->w * a->channels * a->lanes);
        s.n = (size_t)(s.out_h * s.out_w * a->outputs * a->lanes);
    } while (s.out_h < 1 || s.out_w < 1 || (double)s.n * a->channels > 2e6);
    a->x = floats(s.in, 64);
    a->y = take(s.n * sizeof *a->y, 64);
    s.old = floats(s.n, 64);
    int32_t rows = between(0, 2) == 0 ? between(1, 4) : 0;
    if (between(0, 1)) a->bias = floats((size_t)(a->outputs * (rows > 0 ? rows : 1)), 4);
    if (a->bias != NULL && rows > 0) a->bias_class = classes((size_t)(s.out_h * s.out_w), rows);
    if (between(0, 2) == 0) a->residual = between(0, 1) ? a->y : floats(s.n, 64);
    a->relu = between(0, 1);
    if (a->relu && between(0, 3)) a->mask = bytes(s.n / 8);
    if (between(0, 2) == 0) a->gate = bytes(s.n / 8);
    bool turn = between(0, 1);
    s.pack = (ar_winograd_pack){.m = a->m,
                                .channels = a->channels,
                                .outputs = a->outputs,
                                .weights = floats((size_t)(a->channels * a->outputs * 9), 4),
                                .output_stride = turn ? 9 : 9 * a->channels,
                                .channel_stride = turn ? 9 * a->outputs : 9,
                                .turn = turn};
    return s;
}

/* What every output's error may be measured by: the sum over its weights of |w|, where |x| <= 1.
 * Not that of its own products: a tile's outputs share roundings. */
static double *scales(const sample *s) {
    double *sums = calloc((size_t)s->call.outputs, sizeof *sums);
    for (int32_t o = 0; o < s->call.outputs; o++)
        for (int32_t c = 0; c < s->call.channels; c++)
            for (int32_t t = 0; t < 9; t++)
                sums[o] +=
                    fabs((double)s->pack
                             .weights[o * s->pack.output_stride + c * s->pack.channel_stride + t]);
    return sums;
}

/* The convolution at one element, before relu and gate. */
static double value(const sample *s, int64_t at, double *start) {
    const ar_winograd *a = &s->call;
    int64_t lane = at % a->lanes, o = at / a->lanes % a->outputs, p = at / a->lanes / a->outputs;
    int64_t row = a->bias_class != NULL ? (int64_t)a->bias_class[p] * a->outputs : 0;
    double sum = a->bias != NULL ? a->bias[row + o] : 0;
    if (a->residual != NULL) sum += a->residual == a->y ? s->old[at] : a->residual[at];
    *start = fabs(sum);
    for (int32_t t = 0; t < 9; t++) {
        int64_t y = p / s->out_w + t / 3 - a->padding[0], x = p % s->out_w + t % 3 - a->padding[1];
        if (y < 0 || y >= a->h || x < 0 || x >= a->w) continue;
        const float *from = a->x + (y * a->w + x) * a->channels * a->lanes + lane;
        const float *w = s->pack.weights + o * s->pack.output_stride + (s->pack.turn ? 8 - t : t);
        for (int32_t c = 0; c < a->channels; c++)
            sum += (double)w[c * s->pack.channel_stride] * (double)from[c * a->lanes];
    }
    return sum;
}

static epilogue epilogue_of(const sample *s) {
    const ar_winograd *a = &s->call;
    return (epilogue){a->relu, a->mask, a->gate, a->residual, a->y};
}

static bool right(const sample *s) {
    const ar_winograd *call = &s->call;
    const epilogue e = epilogue_of(s);
    double tolerance = call->m == 2 ? TOLERANCE_WINOGRAD_2 : TOLERANCE_WINOGRAD_4;
    for (int64_t i = 0; i < (int64_t)s->n; i++) {
        double start, a = value(s, i, &start);
        double bound = tolerance * (s->scale[i / call->lanes % call->outputs] + start);
        if (!epilogue_right(&e, i, a, bound)) return false;
    }
    return true;
}

static void run(const ar_kernels *k, const ar_winograd *call) {
    ar_winograd a = *call;
    size_t size = k->winograd_scratch(&a);
    a.scratch = take(size, 64);
    memset(a.scratch, bits32() % 2 ? 0xff : 0, size); /* 0xff: NaN */
    k->winograd(&a);
}

/* The same work in two tiles of 8 lanes: bits must be those of one tile of 16. */
static bool halves(const ar_kernels *k, const sample *s) {
    const epilogue e = epilogue_of(s);
    for (size_t which = 0; which < 2; which++) {
        half h = half_make(&e, s->call.x, s->old, s->in / 2, s->n / 2, which);
        ar_winograd part = s->call;
        part.lanes = 8;
        part.x = h.x;
        part.y = h.y;
        part.residual = h.residual;
        part.mask = h.mask;
        part.gate = h.gate;
        run(k, &part);
        if (!half_same(&h, &e, s->n / 2, which)) return false;
    }
    return true;
}

static ar_span draw_cut(int32_t n) {
    int32_t cut = n > 1 ? between(1, n - 1) : 1;
    return (ar_span){cut, n};
}

/* The same work in up to four calls that share tiles and blocks of outputs: the same bits, and the
 * first one leaves what is not its own as it is. */
static bool shares(const ar_kernels *k, const sample *s) {
    const ar_winograd *call = &s->call;
    const size_t n = s->n, outputs = (size_t)call->outputs;
    const ar_span tiles = draw_cut(ar_winograd_tiles(call));
    const ar_span blocks = draw_cut(ar_block_count(call->outputs, k->gemm_block));
    const int32_t edge = ar_block_first(call->outputs, k->gemm_block, blocks.begin);
    ar_winograd part = *call;
    float *whole = take(n * sizeof *whole, 64);
    uint8_t *mask = take(n / 8, 1);
    memcpy(whole, call->y, n * sizeof *whole);
    if (call->mask != NULL) memcpy(mask, call->mask, n / 8);
    if (call->mask != NULL) memset(call->mask, 0xa5, n / 8);
    memcpy(call->y, s->old, n * sizeof *whole);
    for (int32_t i = 3; i >= 0; i--) {
        part.tiles = i % 2 == 1 ? tiles : (ar_span){0, tiles.begin};
        part.blocks = i / 2 == 1 ? blocks : (ar_span){0, blocks.begin};
        if (part.tiles.begin == part.tiles.end || part.blocks.begin == part.blocks.end) continue;
        run(k, &part);
        for (size_t j = 0; j < n && i == 3; j++) {
            bool other = j / (size_t)call->lanes % outputs < (size_t)edge;
            bool first = j / (size_t)call->lanes / outputs == 0; /* the pixel of tile 0 */
            if ((other || first) && memcmp(call->y + j, s->old + j, sizeof *whole) != 0)
                return false;
        }
    }
    checks++;
    return memcmp(whole, call->y, n * sizeof *whole) == 0 &&
           (call->mask == NULL || memcmp(mask, call->mask, n / 8) == 0);
}

/* Rows from a tile's first one to the end, into a y that begins there: the same bits. */
static bool rows(const ar_kernels *k, const sample *s) {
    const ar_winograd *call = &s->call;
    const int32_t columns = (s->out_w + call->m - 1) / call->m;
    const int32_t from = between(0, (s->out_h - 1) / call->m);
    ar_winograd part = *call;
    if (call->residual == call->y || s->out_h - from * call->m < call->m) return true;
    part.top = from * call->m;
    part.tiles = (ar_span){from * columns, ar_winograd_tiles(call)};
    const size_t before = s->n / (size_t)s->out_h * (size_t)part.top;
    part.y = take((s->n - before) * sizeof *part.y, 64);
    if (call->mask != NULL) part.mask = copy(call->mask, s->n / 8, 1);
    run(k, &part);
    checks++;
    return memcmp(part.y, call->y + before, (s->n - before) * sizeof *part.y) == 0 &&
           (call->mask == NULL || memcmp(part.mask, call->mask, s->n / 8) == 0);
}

static void test_winograd(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < SHAPES; round++) {
        sample s = sample_draw();
        int32_t points = s.call.m + 2;
        size_t size = (size_t)(points * points * s.call.channels * s.call.outputs);
        s.scale = scales(&s);
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            if (levels[l].blas) continue; /* the portable level's */
            s.pack.packed = take(size * sizeof(float), 64);
            k->winograd_pack(&s.pack);
            s.call.weights = s.pack.packed;
            memcpy(s.call.y, s.old, s.n * sizeof *s.old);
            run(k, &s.call);
            if (!right(&s)) describe(&s, "winograd", k->name);
            if (s.call.lanes == 16 && !halves(k, &s))
                describe(&s, "winograd: 2 x 8 lanes against 16", k->name);
            if (!rows(k, &s)) describe(&s, "winograd: rows", k->name);
            if (!shares(k, &s)) describe(&s, "winograd: tiles and blocks of outputs", k->name);
        }
        free(s.scale);
        drop();
    }
}

/* A NaN in one image spoils that image alone, and passes a ReLU. */
static void test_nan(void **unused) {
    (void)unused;
    for (int32_t l = 0; l < level_count; l++) {
        const ar_kernels *k = levels[l].table;
        sample s = {.call = {.m = 4, .lanes = 16, .channels = 3, .outputs = 7, .h = 6, .w = 6}};
        const size_t n = 4 * 4 * 7 * 16;
        float *x = floats(6 * 6 * 3 * 16, 64);
        x[5] = NAN;
        s.pack =
            (ar_winograd_pack){4, 3, 7, floats(9 * 3 * 7, 4), 27, 9, false, floats(36 * 21, 64)};
        k->winograd_pack(&s.pack);
        s.call.x = x;
        s.call.y = floats(n, 64);
        s.call.weights = s.pack.packed;
        s.call.relu = true;
        run(k, &s.call);
        for (size_t i = 0; i < n; i++)
            if (i % 16 != 5) assert_false(isnan(s.call.y[i]));
        assert_true(isnan(s.call.y[5]));
        drop();
    }
}

int main(void) {
    levels_find();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_winograd),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
