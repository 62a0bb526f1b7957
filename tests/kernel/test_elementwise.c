/* The elementwise slots, pools and tile transposes of every level of this CPU: the same bits as the
 * definitions written here. */
#include "guarded.h"

#define ROUNDS 60

static void relu_gate(const ar_kernels *k, size_t n) {
    size_t all = n * sizeof(float);
    float *x = odd_floats(n, 64, true), *y = take(all, 64), *want = take(all, 64);
    uint8_t *mask = bytes(n / 8), *bits = take(n / 8, 1);
    memset(bits, 0, n / 8);
    for (size_t i = 0; i < n; i++) {
        want[i] = x[i] < 0 ? 0 : x[i];
        if (x[i] > 0) bits[i / 8] |= (uint8_t)(1 << i % 8);
    }
    k->relu((int64_t)n, x, y, mask);
    same(y, want, all, "relu", k->name);
    same(mask, bits, n / 8, "relu: mask", k->name);
    float *place = copy(x, all, 64);
    k->relu((int64_t)n, place, place, NULL);
    same(place, want, all, "relu in place", k->name);

    mask = bytes(n / 8);
    memcpy(y, x, all);
    float *sum = floats(n, 64), *want_sum = copy(sum, all, 64);
    for (size_t i = 0; i < n; i++) {
        want[i] = bit(mask, (int64_t)i) ? x[i] : 0;
        want_sum[i] += want[i];
    }
    k->gate((int64_t)n, x, mask, y, false);
    same(y, want, all, "gate", k->name);
    k->gate((int64_t)n, x, mask, sum, true);
    same(sum, want_sum, all, "gate: accumulate", k->name);
    k->gate((int64_t)n, x, mask, x, false);
    same(x, want, all, "gate in place", k->name);
}

static void add_step_sgd(const ar_kernels *k, size_t n) {
    size_t all = n * sizeof(float);
    float *a = odd_floats(n, 4, false), *b = odd_floats(n, 4, false), *want = take(all, 4);
    for (size_t i = 0; i < n; i++)
        want[i] = a[i] + b[i];
    float *y = copy(a, all, 4);
    k->add((int64_t)n, y, b, y);
    same(y, want, all, "add in place", k->name);
    k->add((int64_t)n, a, b, y);
    same(y, want, all, "add", k->name);

    float *lo = floats(n, 4), *hi = take(all, 4), *x = copy(a, all, 4);
    for (size_t i = 0; i < n; i++) {
        hi[i] = lo[i] + 0.5f;
        float v = x[i] + (b[i] > 0 ? 0.25f : b[i] < 0 ? -0.25f : 0.0f);
        want[i] = fminf(fmaxf(v, lo[i]), hi[i]);
    }
    k->step(&(ar_step_call){(int64_t)n, x, b, lo, hi, 0.25f});
    for (size_t i = 0; i < n; i++) /* by value: the sign of a zero is free here */
        if (x[i] != want[i]) fail_msg("step, level %s", k->name);

    float *w = floats(n, 4), *v = floats(n, 4), *want_v = take(all, 4);
    for (size_t i = 0; i < n; i++) {
        float g = a[i] + 0.01f * w[i];
        want_v[i] = 0.9f * v[i] + g;
        want[i] = w[i] - 0.1f * want_v[i];
    }
    k->sgd((int64_t)n, w, v, a, 0.1f, 0.9f, 0.01f);
    same(w, want, all, "sgd", k->name);
    same(v, want_v, all, "sgd: momentum", k->name);
}

/* |change| of pixel i, as kernel.h has it. */
static double plane_length(const ar_plane *p, const ar_plane_way *w, size_t i) {
    const double g = p->g[i], x = w->x[i];
    const double room = w->side * g > 0 ? (double)p->high[i] - x : x - (double)p->low[i];
    return g == 0 ? 0 : fmin(w->multiplier * (p->pace + p->pace_slope * fabs(g)), room);
}

static double plane_end(const ar_plane *p, const ar_plane_way *w, double past, size_t i) {
    const double d = past * plane_length(p, w, i);
    return (double)w->x[i] + (w->side * (double)p->g[i] > 0 ? d : -d);
}

/* Sums differ by their order alone; steps by nothing. */
static void planes(const ar_kernels *k, size_t n, bool linf, double multiplier) {
    float *x = floats(n, 4), *from = take(n * sizeof(float), 4), *g = floats(n, 4);
    float *low = take(n * sizeof(float), 4), *high = take(n * sizeof(float), 4);
    float *want = take(n * sizeof(float), 4);
    for (size_t i = 0; i < n; i++) {
        if (i % 7 == 3) g[i] = 0;
        low[i] = x[i] - (float)(i % 3) * 0.05f;
        high[i] = x[i] + (float)(i % 4) * 0.05f;
        from[i] = i % 2 == 0 ? low[i] : high[i];
    }
    const ar_plane p = {(int64_t)n, g, low, high, linf ? 0.7 : 0, linf ? 0 : 0.49};
    const ar_plane_way a = {x, -1, multiplier}, b = {from, 1, multiplier / 2};
    double won = 1, rate = 2, largest = 0, squares = 0.5;
    double sum_won = 1, sum_rate = 2, most = 0, sum = 0.5;
    for (size_t i = 0; i < n; i++) {
        const double slope = fabs((double)g[i]), step = p.pace + p.pace_slope * slope;
        const double room =
            -(double)g[i] > 0 ? (double)high[i] - (double)x[i] : (double)x[i] - (double)low[i];
        const bool full = multiplier * step >= room;
        const double d = plane_length(&p, &a, i);
        sum_won += full ? slope * room : 0;
        sum_rate += full ? 0 : slope * step;
        most = fmax(most, d);
        sum += d * d;
        float v = (float)(0.75 * plane_end(&p, &a, 1.05, i) + 0.25 * plane_end(&p, &b, 1.05, i));
        want[i] = fminf(fmaxf(v, low[i]), high[i]);
    }
    if (isfinite(multiplier)) {
        k->plane_height(&p, &a, &won, &rate);
        if (!(fabs(won - sum_won) <= 1e-12 * sum_won && fabs(rate - sum_rate) <= 1e-12 * sum_rate))
            fail_msg("plane_height, level %s: %.17g and %.17g, expected %.17g and %.17g", k->name,
                     won, rate, sum_won, sum_rate);
    }
    k->plane_length(&p, &a, &largest, &squares);
    if (largest != most || !(fabs(squares - sum) <= 1e-12 * sum))
        fail_msg("plane_length, level %s: %.17g and %.17g, expected %.17g and %.17g", k->name,
                 largest, squares, most, sum);
    k->plane_step(&p, &a, &b, 1.05, 0.25, x);
    for (size_t i = 0; i < n; i++)
        if (x[i] != want[i]) fail_msg("plane_step, level %s", k->name);
}

static void quantize(const ar_kernels *k, size_t n, bool fresh) {
    size_t all = n * sizeof(float), part = (n + 7) / 8;
    ar_quant_call q = {.n = (int64_t)n, .scale = 0.25f, .zero = 3, .low = 0, .high = 15};
    float *want = take(all, 4);
    q.fresh = fresh;
    q.x = odd_floats(n, 4, true);
    q.y = take(all, 4);
    q.mask = bytes(part);
    uint8_t *bits = copy(q.mask, part, 1);
    if (between(0, 1)) q.scale = 1.0f;
    for (size_t i = 0; i < n; i++) {
        float code = rintf(q.x[i] / q.scale) + q.zero;
        uint8_t own = (uint8_t)(1 << i % 8);
        if (code < q.low || code > q.high)
            bits[i / 8] &= (uint8_t)~own;
        else if (fresh)
            bits[i / 8] |= own;
        code = code < q.low ? q.low : code > q.high ? q.high : code;
        want[i] = (code - q.zero) * q.scale;
    }
    k->quantize(&q);
    same(q.y, want, all, "quantize", k->name);
    same(q.mask, bits, part, "quantize: mask", k->name);
    q.mask = NULL;
    memcpy(q.y, q.x, all);
    q.x = q.y;
    k->quantize(&q);
    same(q.y, want, all, "quantize in place", k->name);
}

static void load_store(const ar_kernels *k, int32_t lanes) {
    int32_t count = between(1, lanes), c = between(1, 5), pixels = between(1, 40);
    size_t n = (size_t)(count * c * pixels), tile_n = (size_t)(lanes * c * pixels);
    float *x = floats(n, 4), *tile = take(tile_n * sizeof *tile, 64);
    float *scale = floats((size_t)c, 4), *shift = floats((size_t)c, 4);
    float *want = take(tile_n * sizeof *want, 64), *back = take(n * sizeof *back, 4);
    for (int32_t i = 0; i < lanes * c * pixels; i++) {
        int32_t l = i % lanes, ch = i / lanes % c, p = i / lanes / c;
        want[i] = l < count ? x[(l * c + ch) * pixels + p] * scale[ch] + shift[ch] : 0;
    }
    k->load(lanes, count, c, pixels, x, scale, shift, tile);
    same(tile, want, tile_n * sizeof *tile, "load", k->name);
    for (int32_t with = 0; with < 2; with++) {
        for (int32_t i = 0; i < count * c * pixels; i++) {
            int32_t p = i % pixels, ch = i / pixels % c, l = i / pixels / c;
            x[i] = tile[(p * c + ch) * lanes + l];
            if (with) x[i] *= scale[ch];
        }
        k->store(lanes, count, c, pixels, tile, with ? scale : NULL, back);
        same(back, x, n * sizeof *x, "store", k->name);
    }
}

/* Some of the pixels, from an x that begins with the first that they need: the same bits. */
static void pool_range(const ar_kernels *k, const ar_pool_call *whole, bool average) {
    ar_pool_call call = *whole;
    size_t row = (size_t)(call.channels * call.lanes), n = (size_t)call.pixels_out * row;
    call.range.begin = between(0, call.pixels_out - 1);
    call.range.end = between(call.range.begin + 1, call.pixels_out);
    call.origin = call.pixels_in;
    for (int32_t i = call.first[call.range.begin]; i < call.first[call.range.end]; i++)
        if (call.index[i] < call.origin) call.origin = call.index[i];
    size_t before = (size_t)call.origin * row, begin = (size_t)call.range.begin * row;
    size_t count = (size_t)call.range.end * row - begin;
    call.x = copy(whole->x + before, ((size_t)call.pixels_in * row - before) * sizeof(float), 64);
    call.y = floats(n, 64);
    float *old = copy(call.y, n * sizeof(float), 64);
    call.choice = bytes(n);
    (average ? k->avg_pool : k->max_pool)(&call);
    same(call.y + begin, whole->y + begin, count * sizeof(float), "pool: some pixels", k->name);
    same(call.y, old, begin * sizeof(float), "pool: pixels before", k->name);
    same(call.y + begin + count, old + begin + count, (n - begin - count) * sizeof(float),
         "pool: pixels behind", k->name);
    if (!average)
        same(call.choice + begin, whole->choice + begin, count, "pool: some choices", k->name);
}

/* Windows of random pixels: 0 to 6 of each. */
static void pools(const ar_kernels *k, const ar_kernels *reference, int32_t lanes) {
    ar_pool_call call = {.lanes = lanes, .channels = between(1, 9)};
    call.pixels_in = between(1, 20);
    call.pixels_out = between(1, 12);
    int32_t row = call.channels * lanes, total = 0;
    int32_t *first = take(sizeof *first * (size_t)(call.pixels_out + 1), 4);
    first[0] = 0;
    for (int32_t p = 0; p < call.pixels_out; p++)
        first[p + 1] = total += between(0, 6);
    int32_t *index = take(sizeof *index * (size_t)total, 4);
    for (int32_t i = 0; i < total; i++)
        index[i] = between(0, call.pixels_in - 1);
    size_t n_in = (size_t)(call.pixels_in * row), n_out = (size_t)(call.pixels_out * row);
    float *want = take(n_out * sizeof *want, 64), *want_dx = floats(n_in, 64);
    call.first = first;
    call.index = index;
    call.scale = floats((size_t)call.pixels_out, 4);
    call.x = floats(n_in, 64);
    call.y = floats(n_out, 64);
    call.dy = floats(n_out, 64);
    call.dx = copy(want_dx, n_in * sizeof(float), 64);
    call.choice = bytes(n_out);
    call.accumulate = between(0, 1);
    for (int32_t average = 0; average < 2; average++) {
        if (!call.accumulate) memset(want_dx, 0, n_in * sizeof(float));
        for (int32_t p = 0; p < call.pixels_out; p++)
            for (int32_t i = 0; i < row; i++) {
                int32_t best = first[p];
                float sum = 0, dy = call.dy[p * row + i];
                for (int32_t s = first[p]; s < first[p + 1]; s++) {
                    float v = call.x[index[s] * row + i];
                    sum += v;
                    if (v > call.x[index[best] * row + i]) best = s;
                    if (average) want_dx[index[s] * row + i] += dy * call.scale[p];
                }
                if (!average && first[p] < first[p + 1]) {
                    sum = call.x[index[best] * row + i];
                    want_dx[index[best] * row + i] += dy;
                }
                want[p * row + i] = average ? sum * call.scale[p] : sum;
            }
        (average ? k->avg_pool : k->max_pool)(&call);
        (average ? k->avg_pool_backward : k->max_pool_backward)(&call);
        same(call.y, want, n_out * sizeof(float), average ? "avg_pool" : "max_pool", k->name);
        pool_range(k, &call, average);
        for (size_t i = 0; i < n_in; i++)
            if (call.dx[i] != want_dx[i]) fail_msg("pool backward, level %s", k->name);
        ar_pool_call other = call;
        other.y = take(n_out * sizeof(float), 64);
        other.choice = take(n_out, 1);
        memcpy(other.choice, call.choice, n_out);
        (average ? reference->avg_pool : reference->max_pool)(&other);
        same(other.y, call.y, n_out * sizeof(float), "pool against reference", k->name);
        same(other.choice, call.choice, n_out, "pool: choice", k->name);
    }
}

static void test_elementwise(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < ROUNDS; round++)
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            relu_gate(k, (size_t)between(1, 40) * 8);
            add_step_sgd(k, (size_t)between(1, 300));
            drop();
            planes(k, (size_t)between(1, 300), round % 2 == 0,
                   round % 5 == 4 ? (double)INFINITY : 0.02 * (round % 5));
            drop();
            quantize(k, (size_t)between(1, 300), round % 2 == 0);
            load_store(k, 8);
            load_store(k, 16);
            drop();
            pools(k, levels[0].table, 8);
            drop();
            pools(k, levels[0].table, 16);
            drop();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_counted),
    };
    levels_find();
    return cmocka_run_group_tests_name("elementwise", tests, NULL, NULL);
}
