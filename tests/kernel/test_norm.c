/* Batch norm's slots at every level of this CPU: the same bits as the definitions written here, and
 * near to them in double. */
#include "guarded.h"

#define ROUNDS 60

/* A call on random sizes; buffers that backward reads too. */
typedef struct norm_case {
    ar_norm_call call;
    size_t n;
    bool odd; /* NaN, infinities and subnormals among the values */
} norm_case;

static norm_case draw(int32_t lanes) {
    norm_case t = {.odd = between(0, 3) == 0};
    t.call = (ar_norm_call){.lanes = lanes, .channels = between(1, 70), .pixels = between(1, 50)};
    if (between(0, 3) == 0) t.call.channels = between(1, 5);
    t.n = (size_t)(lanes * t.call.channels * t.call.pixels);
    const size_t c = (size_t)t.call.channels;
    t.call.mean = t.odd ? odd_floats(c, 4, true) : floats(c, 4);
    t.call.scale = t.odd ? odd_floats(c, 4, true) : floats(c, 4);
    float *shift = floats(c, 4), *x = t.odd ? odd_floats(t.n, 64, true) : floats(t.n, 64);
    t.call.shift = shift;
    t.call.dy_mean = floats(c, 4);
    t.call.slope = floats(c, 4);
    t.call.x = x;
    t.call.dy = t.odd ? odd_floats(t.n, 64, true) : floats(t.n, 64);
    shift[0] = 0; /* exact zeros, whose mask bit is 0 */
    for (int32_t l = 0; l < lanes; l += 3)
        x[l] = t.call.mean[0];
    return t;
}

/* Bit for bit; of a NaN only that it is one. */
static void same_numbers(const float *got, const float *want, size_t n, const char *what,
                         const char *name) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, level %s: number %d is %.9g, not %.9g", what, name, (int)i,
                     (double)got[i], (double)want[i]);
    checks++;
}

/* Three roundings, each of a value of at most `size`, and those of the constants. */
static void near(double got, double want, double size, const char *what, const char *name) {
    if (fabs(got - want) > 4 * size * 0x1p-24)
        fail_msg("%s, level %s: %.9g, not %.9g", what, name, got, want);
}

static void forward(const ar_kernels *k, int32_t lanes, bool relu) {
    norm_case t = draw(lanes);
    ar_norm_call *call = &t.call;
    float *want = take(t.n * sizeof(float), 64);
    uint8_t *bits = take(t.n / 8, 1);
    call->y = take(t.n * sizeof(float), 64);
    call->mask = bytes(t.n / 8);
    call->relu = relu;
    memcpy(bits, call->mask, t.n / 8);
    if (relu) memset(bits, 0, t.n / 8);
    for (size_t i = 0; i < t.n; i++) {
        const int32_t c = (int32_t)i / lanes % call->channels;
        const float d = call->x[i] - call->mean[c], product = d * call->scale[c];
        want[i] = product + call->shift[c];
        if (relu && want[i] > 0) bits[i / 8] |= (uint8_t)(1 << i % 8);
        if (relu && want[i] < 0) want[i] = 0;
    }
    k->norm(call);
    same_numbers(call->y, want, t.n, relu ? "norm, relu" : "norm", k->name);
    same(call->mask, bits, t.n / 8, relu ? "norm: mask" : "norm: mask without relu", k->name);
    for (size_t i = 0; !t.odd && i < t.n; i++) {
        const int32_t c = (int32_t)i / lanes % call->channels;
        double d = (double)call->x[i] - (double)call->mean[c];
        double y = d * (double)call->scale[c] + (double)call->shift[c];
        if (relu && y < 0) y = 0;
        near((double)call->y[i], y, fabs(d * (double)call->scale[c]) + fabs(y), "norm", k->name);
    }
    memset(call->y, 0, t.n * sizeof(float));
    call->mask = NULL;
    k->norm(call);
    same_numbers(call->y, want, t.n, "norm, mask not wanted", k->name);
}

static void backward(const ar_kernels *k, int32_t lanes, bool frozen, bool accumulate) {
    norm_case t = draw(lanes);
    ar_norm_call *call = &t.call;
    float *old = floats(t.n, 64), *want = take(t.n * sizeof(float), 64);
    call->dx = copy(old, t.n * sizeof(float), 64);
    call->accumulate = accumulate;
    for (size_t i = 0; i < t.n; i++) {
        const int32_t c = (int32_t)i / lanes % call->channels;
        const float d = call->x[i] - call->mean[c], along = d * call->slope[c];
        const float inner = call->dy[i] - call->dy_mean[c] - along;
        want[i] = (frozen ? call->dy[i] : inner) * call->scale[c];
        if (accumulate) want[i] = old[i] + want[i];
    }
    if (frozen) {
        call->dy_mean = call->slope = call->mean = NULL;
        call->x = NULL;
    }
    k->norm_backward(call);
    same_numbers(call->dx, want, t.n, frozen ? "norm_backward, frozen" : "norm_backward", k->name);
    for (size_t i = 0; !t.odd && i < t.n; i++) {
        const int32_t c = (int32_t)i / lanes % call->channels;
        double sum = (double)call->dy[i], size = fabs(sum);
        if (!frozen) {
            double along = ((double)call->x[i] - (double)call->mean[c]) * (double)call->slope[c];
            sum -= (double)call->dy_mean[c] + along;
            size += fabs((double)call->dy_mean[c]) + fabs(along);
        }
        sum *= (double)call->scale[c];
        size *= fabs((double)call->scale[c]);
        if (accumulate) sum += (double)old[i], size += fabs((double)old[i]);
        near((double)call->dx[i], sum, size, "norm_backward", k->name);
    }
}

static void sums(const ar_kernels *k, int32_t lanes, bool squares) {
    norm_case t = draw(lanes);
    const int32_t channels = t.call.channels;
    const size_t n = (size_t)(2 * lanes * channels);
    const float *a = t.call.x, *b = squares ? a : t.call.dy;
    double *want = take(n * sizeof *want, 64), *got = take(n * sizeof *got, 8);
    for (int32_t c = 0; c < channels; c++)
        for (int32_t l = 0; l < lanes; l++) {
            double first = 0, second = 0;
            for (int32_t p = 0; p < t.call.pixels; p++) {
                const size_t at = (size_t)((p * channels + c) * lanes + l);
                first += (double)a[at];
                second += (double)a[at] * (double)b[at];
            }
            want[c * 2 * lanes + l] = first;
            want[(c * 2 + 1) * lanes + l] = second;
        }
    k->channel_sums(lanes, channels, t.call.pixels, a, b, got);
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("channel_sums, level %s: sum %d is %.17g, not %.17g", k->name, (int)i, got[i],
                     want[i]);
    checks++;
}

static void test_norm(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < ROUNDS; round++)
        for (int32_t i = 0; i < level_count * 2; i++) {
            const ar_kernels *k = levels[i / 2].table;
            const int32_t lanes = i % 2 == 0 ? 8 : 16;
            for (int32_t way = 0; way < 4; way++) {
                backward(k, lanes, way / 2 == 1, way % 2 == 1);
                drop();
            }
            for (int32_t way = 0; way < 2; way++) {
                forward(k, lanes, way == 1);
                drop();
                sums(k, lanes, way == 1);
                drop();
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_counted),
    };
    levels_find();
    return cmocka_run_group_tests_name("norm", tests, NULL, NULL);
}
