/* The depthwise slots of every level of this CPU against definitions in double, on random odd
 * shapes; and where the same bits are promised, bit by bit. */
#include "epilogue.h"
#include "tolerance.h"

#define SHAPES 300

/* Images of h x w, windows of `kernel`; a group has `channels` of x and `outputs` of y. */
typedef struct shape {
    int32_t groups, channels, outputs, h, w, out_h, out_w;
    int32_t kernel[2], stride, pad, dilation, lanes;
} shape;

static int32_t reach(const shape *s, int32_t axis) {
    return s->dilation * (s->kernel[axis] - 1) + 1;
}

static shape shape_draw(void) {
    for (;;) {
        shape s = {.groups = channels(), .channels = 1, .outputs = 1};
        if (between(0, 2) == 0) *(between(0, 1) ? &s.channels : &s.outputs) = between(2, 4);
        s.h = between(1, 9);
        s.w = between(1, between(0, 3) == 0 ? 60 : 14);
        s.kernel[0] = between(1, 5);
        s.kernel[1] = between(1, 5);
        s.stride = between(1, 3);
        s.pad = between(0, 3);
        s.dilation = between(0, 3) == 0 ? between(2, 3) : 1;
        s.lanes = 8 * between(1, 2);
        s.out_h = s.h + 2 * s.pad - reach(&s, 0);
        s.out_w = s.w + 2 * s.pad - reach(&s, 1);
        if (s.out_h < 0 || s.out_w < 0) continue;
        s.out_h = s.out_h / s.stride + 1;
        s.out_w = s.out_w / s.stride + 1;
        return s;
    }
}

static void describe(const shape *s, const char *what, const char *name) {
    fail_msg("%s, level %s: groups %d of %d and %d, %d x %d, kernel %d x %d stride %d pad %d "
             "dilation %d lanes %d",
             what, name, s->groups, s->channels, s->outputs, s->h, s->w, s->kernel[0], s->kernel[1],
             s->stride, s->pad, s->dilation, s->lanes);
}

/* The input pixel of a tap of output pixel p's window, or -1. */
static int32_t pixel_at(const shape *s, int32_t p, int32_t tap) {
    int32_t y = p / s->out_w * s->stride - s->pad + tap / s->kernel[1] * s->dilation;
    int32_t x = p % s->out_w * s->stride - s->pad + tap % s->kernel[1] * s->dilation;
    return y < 0 || x < 0 || y >= s->h || x >= s->w ? -1 : y * s->w + x;
}

/* ---- forward, and backward with respect to the input ---- */

static void lists_make(const shape *s, ar_gemm *call) {
    int32_t taps = s->kernel[0] * s->kernel[1], n = 0;
    int32_t *first = take(sizeof *first * (size_t)(call->pixels + 1), 4);
    ar_segment *list = calloc((size_t)(call->pixels * taps) + 1, sizeof *list);
    first[0] = 0;
    for (int32_t p = 0; p < call->pixels; p++) {
        for (int32_t t = 0; t < taps; t++) {
            int32_t at = pixel_at(s, p, t);
            if (at >= 0)
                list[n++] =
                    (ar_segment){at * s->groups * s->channels, t * s->channels, s->channels};
        }
        first[p + 1] = n;
    }
    call->segments = copy(list, sizeof *list * (size_t)n, 4);
    call->first = first;
    free(list);
}

/* An element by the definition, before relu and gate; scale: the sum of the absolute products. */
static double value(const shape *s, const ar_gemm *call, const float *old, int64_t at,
                    double *scale) {
    int64_t lane = at % s->lanes, o = at / s->lanes % call->outputs;
    int64_t p = at / s->lanes / call->outputs, group = o / s->outputs;
    int64_t row = call->bias_class != NULL ? call->bias_class[p] * call->outputs : 0;
    double sum = call->bias != NULL ? call->bias[row + o] : 0, start = 0;
    if (call->residual != NULL) start = call->residual == call->y ? old[at] : call->residual[at];
    *scale = fabs(sum) + fabs(start);
    sum += start;
    for (int32_t t = 0; t < s->kernel[0] * s->kernel[1]; t++) {
        int32_t pixel = pixel_at(s, (int32_t)p, t);
        for (int32_t k = 0; k < s->channels && pixel >= 0; k++) {
            int64_t c = (int64_t)pixel * s->groups * s->channels + group * s->channels + k;
            double product = (double)call->w[(t * s->channels + k) * call->outputs + o] *
                             (double)call->x[c * s->lanes + lane];
            sum += product;
            *scale += fabs(product);
        }
    }
    return sum;
}

static epilogue epilogue_of(const ar_gemm *call) {
    return (epilogue){call->relu, call->mask, call->gate, call->residual, call->y};
}

static bool right(const shape *s, const ar_gemm *call, const float *old, size_t n) {
    const epilogue e = epilogue_of(call);
    for (size_t i = 0; i < n; i++) {
        double scale, a = value(s, call, old, (int64_t)i, &scale);
        if (!epilogue_right(&e, (int64_t)i, a, TOLERANCE_KERNEL * scale)) return false;
    }
    return true;
}

/* The same work in two tiles of 8 lanes: bits must be those of one tile of 16. */
static bool halves(const ar_kernels *k, const shape *s, const ar_gemm *call, const float *old,
                   size_t in, size_t n) {
    const epilogue e = epilogue_of(call);
    for (size_t which = 0; which < 2; which++) {
        half h = half_make(&e, call->x, old, in / 2, n / 2, which);
        ar_depthwise part = {*call, s->channels, s->outputs};
        part.gemm.lanes = 8;
        part.gemm.x = h.x;
        part.gemm.y = h.y;
        part.gemm.residual = h.residual;
        part.gemm.mask = h.mask;
        part.gemm.gate = h.gate;
        k->depthwise(&part);
        if (!half_same(&h, &e, n / 2, which)) return false;
    }
    return true;
}

/* Each group by the level's gemm: the same bits. */
static bool as_gemms(const ar_kernels *k, const shape *s, const ar_gemm *call, const float *old,
                     size_t n) {
    float *y = copy(old, n * sizeof *old, 64);
    float *w = take((size_t)(call->rows * s->outputs) * sizeof *w, 64);
    uint8_t *mask = call->mask == NULL ? NULL : copy(call->mask, n / 8, 1);
    for (int32_t g = 0; g < s->groups; g++) {
        ar_gemm one = *call;
        int32_t o = g * s->outputs, at = o * s->lanes;
        assert_true(s->outputs <= k->gemm_block); /* one block: as it lies */
        for (int32_t i = 0; i < call->rows * s->outputs; i++)
            w[i] = call->w[i / s->outputs * call->outputs + o + i % s->outputs];
        one.stride = call->outputs;
        one.outputs = s->outputs;
        one.w = w;
        one.x += g * s->channels * s->lanes;
        one.y = y + at;
        if (one.bias != NULL) one.bias += o;
        if (one.residual != NULL)
            one.residual = call->residual == call->y ? one.y : call->residual + at;
        if (one.mask != NULL) one.mask = mask + at / 8;
        if (one.gate != NULL) one.gate += at / 8;
        k->gemm(&one);
    }
    checks++;
    return memcmp(y, call->y, n * sizeof *y) == 0 &&
           (mask == NULL || memcmp(mask, call->mask, n / 8) == 0);
}

static void test_depthwise(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < SHAPES; round++) {
        shape s = shape_draw();
        ar_gemm call = {.lanes = s.lanes,
                        .pixels = s.out_h * s.out_w,
                        .outputs = s.groups * s.outputs,
                        .rows = s.kernel[0] * s.kernel[1] * s.channels};
        size_t in = (size_t)(s.h * s.w * s.groups * s.channels * s.lanes);
        size_t n = (size_t)(call.pixels * call.outputs * call.lanes);
        int32_t rows = between(0, 2) == 0 ? between(1, 4) : 0;
        float *old = floats(n, 64);
        lists_make(&s, &call);
        call.w = floats((size_t)(call.rows * call.outputs), 64);
        call.x = floats(in, 64);
        call.y = floats(n, 64);
        if (between(0, 1)) call.bias = floats((size_t)(call.outputs * (rows > 0 ? rows : 1)), 4);
        if (call.bias != NULL && rows > 0) call.bias_class = classes((size_t)call.pixels, rows);
        if (between(0, 2) == 0) call.residual = between(0, 1) ? call.y : floats(n, 64);
        call.relu = between(0, 1);
        if (call.relu && between(0, 3)) call.mask = bytes(n / 8);
        if (between(0, 2) == 0) call.gate = bytes(n / 8);
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            const ar_depthwise whole = {call, s.channels, s.outputs};
            memcpy(call.y, old, n * sizeof *old);
            k->depthwise(&whole);
            if (!right(&s, &call, old, n)) describe(&s, "depthwise", k->name);
            if (s.lanes == 16 && !halves(k, &s, &call, old, in, n))
                describe(&s, "depthwise: 2 x 8 lanes against 16", k->name);
            if (!levels[l].blas && !as_gemms(k, &s, &call, old, n))
                describe(&s, "depthwise: against gemms", k->name);
        }
        drop();
    }
}

/* ---- weight gradient ---- */

static void pairs_make(const shape *s, ar_wgrad *call, bool shuffle) {
    int32_t n = 0;
    int32_t *first = take(sizeof *first * (size_t)(call->taps + 1), 4);
    ar_pair *pairs = take(sizeof *pairs * (size_t)(call->taps * call->pixels), 4);
    first[0] = 0;
    for (int32_t t = 0; t < call->taps; t++) {
        for (int32_t p = 0; p < call->pixels; p++)
            if (pixel_at(s, p, t) >= 0)
                pairs[n++] = (ar_pair){pixel_at(s, p, t) * call->channels, p};
        for (int32_t i = first[t]; i < n && shuffle; i++) {
            int32_t j = between(i, n - 1);
            ar_pair swap = pairs[i];
            pairs[i] = pairs[j];
            pairs[j] = swap;
        }
        first[t + 1] = n;
    }
    call->first = first;
    call->pairs = pairs;
}

static bool close_to(double a, double scale, float got) {
    checks++;
    return fabs(a - (double)got) <= TOLERANCE_KERNEL * scale;
}

static bool wgrad_right(const shape *s, const ar_wgrad *call) {
    for (int32_t o = 0; o < call->outputs; o++) {
        double bias = 0, bias_scale = 0;
        for (int32_t t = 0; t < call->taps; t++) {
            double a = 0, scale = 0;
            for (int64_t i = 0; i < (int64_t)call->tiles * call->pixels * s->lanes; i++) {
                int64_t tile = i / s->lanes / call->pixels, lane = i % s->lanes;
                int32_t p = (int32_t)(i / s->lanes % call->pixels), at = pixel_at(s, p, t);
                double dy = call->dy[tile][(p * call->outputs + o) * s->lanes + lane];
                if (t == 0) bias += dy;
                if (t == 0) bias_scale += fabs(dy);
                if (at < 0) continue;
                int32_t c = at * call->channels + o / s->outputs;
                double product = dy * (double)call->x[tile][c * s->lanes + lane];
                a += product;
                scale += fabs(product);
            }
            if (!close_to(a, scale, call->dw[o * call->taps + t])) return false;
        }
        if (!close_to(bias, bias_scale, call->db[o])) return false;
    }
    return true;
}

/* Cut by outputs: the same bits, and nothing else written. */
static bool wgrad_cut(const ar_kernels *k, const ar_wgrad *whole) {
    size_t n = (size_t)(whole->taps * whole->outputs) * sizeof(float);
    int32_t cut = between(0, whole->outputs);
    ar_wgrad part = *whole;
    part.dw = take(n, 4);
    part.db = take((size_t)whole->outputs * sizeof(float), 4);
    part.end = cut;
    k->depthwise_wgrad(&part);
    const unsigned char *bytes = (const unsigned char *)part.dw;
    for (size_t i = n / (size_t)whole->outputs * (size_t)cut; i < n; i++)
        if (bytes[i] != 0xa5) return false;
    part.begin = cut;
    part.end = whole->outputs;
    k->depthwise_wgrad(&part);
    checks++;
    return memcmp(part.dw, whole->dw, n) == 0 &&
           memcmp(part.db, whole->db, (size_t)whole->outputs * sizeof(float)) == 0;
}

static void test_wgrad(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < SHAPES; round++) {
        shape s = shape_draw();
        const float *x[4], *dy[4];
        s.channels = 1;
        ar_wgrad call = {.lanes = s.lanes,
                         .tiles = between(1, 4),
                         .taps = s.kernel[0] * s.kernel[1],
                         .channels = s.groups,
                         .outputs = s.groups * s.outputs,
                         .pixels = s.out_h * s.out_w,
                         .x = x,
                         .dy = dy};
        call.end = call.outputs;
        for (int32_t i = 0; i < call.tiles; i++) {
            x[i] = floats((size_t)(s.h * s.w * call.channels * s.lanes), 64);
            dy[i] = floats((size_t)(call.pixels * call.outputs * s.lanes), 64);
        }
        pairs_make(&s, &call, between(0, 3) == 0);
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            call.dw = floats((size_t)(call.outputs * call.taps), 4);
            call.db = floats((size_t)call.outputs, 4);
            k->depthwise_wgrad(&call);
            if (!wgrad_right(&s, &call)) describe(&s, "wgrad", k->name);
            if (!wgrad_cut(k, &call)) describe(&s, "wgrad: cut by outputs", k->name);
            ar_wgrad bare = call;
            bare.db = NULL;
            k->depthwise_wgrad(&bare);
        }
        drop();
    }
}

int main(void) {
    levels_find();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depthwise),
        cmocka_unit_test(test_wgrad),
        cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests_name("depthwise", tests, NULL, NULL);
}
