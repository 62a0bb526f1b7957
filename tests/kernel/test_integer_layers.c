/* The integer slots beside the gemm, of every level of this CPU: the same bits as the definitions
 * written here, on tiles of odd shapes. */
#include "guarded.h"

#define ROUNDS 120

static int32_t up4(int32_t n) {
    return (n + 3) / 4 * 4;
}

/* A tile of codes of c channels; those past the last are 0. */
static uint8_t *codes(int32_t pixels, int32_t c, int32_t lanes) {
    const size_t n = (size_t)(pixels * up4(c) * lanes);
    uint8_t *x = take(n, 64);
    for (size_t i = 0; i < n; i++) {
        const int32_t quad = (int32_t)(i / 4) / lanes % (up4(c) / 4);
        x[i] = quad * 4 + (int32_t)(i % 4) < c ? (uint8_t)bits32() : 0;
    }
    return x;
}

/* Scales that make ties, that reach all codes, and that leave them far behind. */
static float draw_scale(void) {
    static const float odd[] = {0.5f, 1, -0.25f, 1.0f / 65536, 0, 1e30f, 1e-40f};
    return between(0, 3) == 0 ? odd[between(0, 6)] : number() * 0.02f;
}

static void qmax_pool(const ar_kernels *k, int32_t lanes) {
    const int32_t pixels = between(1, 20);
    ar_qpool call = {.lanes = lanes, .quads = between(1, 9), .pixels_out = between(1, 12)};
    const int32_t size = call.quads * lanes * 4;
    int32_t *first = take(sizeof *first * (size_t)(call.pixels_out + 1), 4), total = 0;
    first[0] = 0;
    for (int32_t p = 0; p < call.pixels_out; p++)
        first[p + 1] = total += between(1, 9);
    int32_t *index = take(sizeof *index * (size_t)total, 4);
    for (int32_t i = 0; i < total; i++)
        index[i] = between(0, pixels - 1);
    uint8_t *x = take((size_t)(pixels * size), 64),
            *want = take((size_t)(call.pixels_out * size), 64);
    for (int32_t i = 0; i < pixels * size; i++)
        x[i] = (uint8_t)bits32();
    for (int32_t p = 0; p < call.pixels_out; p++)
        for (int32_t i = 0; i < size; i++) {
            uint8_t most = 0;
            for (int32_t j = first[p]; j < first[p + 1]; j++)
                if (x[index[j] * size + i] > most) most = x[index[j] * size + i];
            want[p * size + i] = most;
        }
    call.first = first;
    call.index = index;
    call.x = x;
    call.y = take((size_t)(call.pixels_out * size), 64);
    k->qmax_pool(&call);
    same(call.y, want, (size_t)(call.pixels_out * size), "qmax_pool", k->name);
    drop();
}

static void qadd(const ar_kernels *k) {
    const int32_t n = 32 * between(1, 9);
    uint8_t *a = take((size_t)n, 64), *b = take((size_t)n, 64), *want = take((size_t)n, 64);
    ar_qadd call = {n, a, b, between(0, 255), between(0, 255), number(), draw_scale()};
    call.zero = between(0, 255);
    call.low = between(0, 1) ? 0 : between(0, 127);
    call.high = between(0, 1) ? 255 : between(call.low, 255);
    if (between(0, 2) == 0) call.a_scale = call.b_scale = 0.5f; /* ties */
    for (int32_t i = 0; i < n; i++) {
        a[i] = (uint8_t)bits32();
        b[i] = (uint8_t)bits32();
        const float x = (float)(a[i] - call.a_zero) * call.a_scale;
        const float v = x + (float)(b[i] - call.b_zero) * call.b_scale;
        want[i] =
            (uint8_t)fminf(fmaxf(rintf(v) + (float)call.zero, (float)call.low), (float)call.high);
    }
    call.y = take((size_t)n, 64);
    k->qadd(&call);
    same(call.y, want, (size_t)n, "qadd", k->name);
    drop();
}

static void qpad(const ar_kernels *k, int32_t lanes) {
    ar_qpad call = {lanes, between(1, 9), between(1, 20), between(0, 9)};
    call.channels_out = call.before + call.channels + between(0, 9);
    call.fill = between(0, 255);
    const int32_t from = up4(call.channels) / 4, to = up4(call.channels_out) / 4;
    const size_t n = (size_t)(call.pixels * to * lanes * 4);
    uint8_t *x = take((size_t)(call.pixels * from * lanes * 4), 64), *want = take(n, 64);
    for (int32_t i = 0; i < call.pixels * from * lanes * 4; i++)
        x[i] = (uint8_t)bits32();
    for (size_t i = 0; i < n; i++) {
        const int32_t l = (int32_t)i / 4 % lanes, quad = (int32_t)i / 4 / lanes;
        const int32_t p = quad / to, c = quad % to * 4 + (int32_t)i % 4, own = c - call.before;
        want[i] = c < call.channels_out ? (uint8_t)call.fill : 0;
        if (own >= 0 && own < call.channels)
            want[i] = x[((p * from + own / 4) * lanes + l) * 4 + own % 4];
    }
    call.x = x;
    call.y = take(n, 64);
    k->qpad(&call);
    same(call.y, want, n, "qpad", k->name);
    drop();
}

/* By the output: which tap, channel and column a byte is of. */
static void qrows(const ar_kernels *k, int32_t lanes) {
    ar_qrows call = {lanes, between(0, 1) ? 1 : between(2, 5), between(1, 6), between(1, 9)};
    call.taps = between(1, 9);
    call.stride = between(1, 3);
    call.padding = between(0, 4);
    call.places = between(1, 9);
    call.quads = up4(call.taps * call.channels) / 4;
    const size_t n = (size_t)(call.places * call.h * call.quads * lanes * 4);
    const int32_t from = up4(call.channels) / 4;
    const uint8_t *x = codes(call.h * call.w, call.channels, lanes);
    uint8_t *want = take(n, 64);
    for (size_t i = 0; i < n; i++) {
        const int32_t l = (int32_t)i / 4 % lanes, quad = (int32_t)i / 4 / lanes;
        const int32_t byte = quad % call.quads * 4 + (int32_t)i % 4;
        const int32_t row = quad / call.quads % call.h, place = quad / call.quads / call.h;
        const int32_t tap = byte / call.channels, c = byte % call.channels;
        const int32_t column = place * call.stride - call.padding + tap;
        const bool inside = tap < call.taps && column >= 0 && column < call.w;
        const int32_t at = inside ? (row * call.w + column) * from + c / 4 : 0;
        want[i] = inside ? x[(at * lanes + l) * 4 + c % 4] : 0;
    }
    call.x = x;
    call.y = take(n, 64);
    k->qrows(&call);
    same(call.y, want, n, "qrows", k->name);
    drop();
}

/* A code by the rule of requantisation. */
static uint8_t requantise(int32_t a, float scale, int32_t zero, int32_t low, int32_t high) {
    const float v = rintf((float)a * scale) + (float)zero;
    return (uint8_t)fminf(fmaxf(v, (float)low), (float)high);
}

static void qavg_pool(const ar_kernels *k, int32_t lanes) {
    const int32_t pixels = between(1, 20), c = between(1, 37), quads = up4(c) / 4;
    ar_qmean call = {.pool = {.lanes = lanes, .quads = quads, .pixels_out = between(1, 12)}};
    const int32_t size = quads * lanes * 4, out = call.pool.pixels_out;
    int32_t *first = take(sizeof *first * (size_t)(out + 1), 4), total = 0;
    first[0] = 0;
    for (int32_t p = 0; p < out; p++)
        first[p + 1] = total += between(1, 9);
    int32_t *index = take(sizeof *index * (size_t)total, 4);
    for (int32_t i = 0; i < total; i++)
        index[i] = between(0, pixels - 1);
    const uint8_t *x = codes(pixels, c, lanes);
    uint8_t *want = take((size_t)(out * size), 64);
    call.channels = c;
    call.x_zero = between(0, 255);
    call.zero = between(0, 255);
    call.low = between(0, 1) ? 0 : between(0, 127);
    call.high = between(0, 1) ? 255 : between(call.low, 255);
    call.scale = between(0, 1) ? 1.0f / (float)between(1, 4) : draw_scale(); /* halves: ties */
    for (int32_t p = 0; p < out; p++)
        for (int32_t i = 0; i < size; i++) {
            const int32_t channel = i / (lanes * 4) * 4 + i % 4;
            int32_t sum = 0;
            for (int32_t j = first[p]; j < first[p + 1]; j++)
                sum += x[index[j] * size + i] - call.x_zero;
            want[p * size + i] =
                channel < c ? requantise(sum, call.scale, call.zero, call.low, call.high) : 0;
        }
    call.pool.first = first;
    call.pool.index = index;
    call.pool.x = x;
    call.pool.y = take((size_t)(out * size), 64);
    k->qavg_pool(&call);
    same(call.pool.y, want, (size_t)(out * size), "qavg_pool", k->name);
    drop();
}

static void qconcat(const ar_kernels *k, int32_t lanes) {
    ar_qjoin call = {.lanes = lanes, .pixels = between(1, 12)};
    int32_t all = 0;
    for (int32_t i = 0; i < 2; i++) {
        uint8_t *table = take(256, 1);
        for (int32_t j = 0; j < 256; j++)
            table[j] = (uint8_t)bits32();
        all += call.channels[i] = between(1, 21);
        call.x[i] = codes(call.pixels, call.channels[i], lanes);
        call.table[i] = table;
    }
    const size_t n = (size_t)(call.pixels * up4(all) * lanes);
    uint8_t *want = take(n, 64);
    memset(want, 0, n);
    for (int32_t p = 0; p < call.pixels; p++)
        for (int32_t c = 0; c < all; c++)
            for (int32_t l = 0; l < lanes; l++) {
                const int32_t i = c >= call.channels[0], from = c - (i ? call.channels[0] : 0);
                const int32_t quad = p * up4(call.channels[i]) / 4 + from / 4;
                const int32_t at = (((p * up4(all) + c) / 4 * lanes) + l) * 4 + c % 4;
                want[at] = call.table[i][call.x[i][(quad * lanes + l) * 4 + from % 4]];
            }
    call.y = take(n, 64);
    k->qconcat(&call);
    same(call.y, want, n, "qconcat", k->name);
    drop();
}

static void qload(const ar_kernels *k, int32_t lanes) {
    const int32_t count = between(1, lanes), c = between(1, 9), pixels = between(1, 40);
    const int32_t quads = up4(c) / 4;
    const size_t n = (size_t)(pixels * quads * lanes * 4);
    float *x = odd_floats((size_t)(count * c * pixels), 4, false);
    double *scale = take(sizeof *scale * (size_t)c, 8), *zero = take(sizeof *zero * (size_t)c, 8);
    uint8_t *tile = take(n, 64), *want = take(n, 64);
    for (int32_t i = 0; i < c; i++) {
        scale[i] = between(0, 2) == 0 ? 1 : between(1, 1000) / 30000.0;
        zero[i] = between(0, 255);
    }
    memset(want, 0, n);
    for (int32_t i = 0; i < count * c * pixels; i++) {
        const int32_t p = i % pixels, ch = i / pixels % c, l = i / pixels / c;
        const double q = rint((double)x[i] / scale[ch]) + zero[ch];
        want[((p * quads + ch / 4) * lanes + l) * 4 + ch % 4] = (uint8_t)fmin(fmax(q, 0), 255);
    }
    k->qload(lanes, count, c, pixels, x, scale, zero, tile);
    same(tile, want, n, "qload", k->name);
    drop();
}

static void test_between_layers(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < ROUNDS; round++)
        for (int32_t i = 0; i < level_count; i++) {
            qmax_pool(levels[i].table, 8 << round % 2);
            qavg_pool(levels[i].table, 8 << round % 2);
            qconcat(levels[i].table, 8 << round % 2);
            qload(levels[i].table, 8 << round % 2);
            qadd(levels[i].table);
            qpad(levels[i].table, 8 << round % 2);
            qrows(levels[i].table, 8 << round % 2);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_between_layers),
        cmocka_unit_test(test_counted),
    };
    levels_find();
    return cmocka_run_group_tests_name("integer_layers", tests, NULL, NULL);
}
