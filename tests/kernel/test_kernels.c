/* gemm and wgrad of every level of this CPU against definitions in double, on random odd shapes;
 * and where the same bits are promised, bit by bit. */
#include "epilogue.h"
#include "tolerance.h"

#define GEMM_SHAPES 400
#define WGRAD_SHAPES 300

/* ---- shapes ---- */

typedef struct shape {
    int32_t c, o, h, out, kernel, stride, pad, lanes;
    int32_t all; /* channels of a pixel of x, of which c are a group's */
} shape;

static shape shape_draw(void) {
    static const int32_t kernels[] = {1, 3, 4, 5};
    for (;;) {
        shape s = {.c = channels(), .o = channels(), .h = between(1, 9), .stride = between(1, 2)};
        s.kernel = kernels[between(0, 3)];
        s.pad = between(0, 2);
        s.lanes = 8 * between(1, 2);
        s.all = s.c;
        if (s.h + 2 * s.pad < s.kernel) continue;
        s.out = (s.h + 2 * s.pad - s.kernel) / s.stride + 1;
        return s;
    }
}

static void describe(const shape *s, const char *what, const char *name) {
    fail_msg("%s, level %s: c %d o %d h %d kernel %d stride %d pad %d lanes %d", what, name, s->c,
             s->o, s->h, s->kernel, s->stride, s->pad, s->lanes);
}

static void segment_add(const int32_t *first, int32_t *n, ar_segment *list, int32_t x, int32_t w,
                        int32_t k) {
    ar_segment *last = list + *n - 1;
    if (*n > *first && last->x + last->k == x && last->w + last->k == w)
        last->k += k;
    else
        list[(*n)++] = (ar_segment){x, w, k};
}

/* Lists of a convolution or of its gradient with respect to the input; merged where taps are
 * adjacent. Gradient: rows of weights in falling kx, by residue of the stride. */
static ar_gemm lists_make(const shape *s, bool backward) {
    int32_t side = backward ? s->h : s->out, inner = backward ? s->o : s->c, n = 0;
    ar_gemm call = {.lanes = s->lanes,
                    .pixels = side * side,
                    .outputs = backward ? s->c : s->o,
                    .rows = s->kernel * s->kernel * inner};
    int32_t *first = take(sizeof *first * (size_t)(side * side + 1), 4);
    ar_segment *list = calloc((size_t)(side * side * s->kernel * s->kernel) + 1, sizeof *list);
    first[0] = 0;
    for (int32_t p = 0; p < side * side; p++) {
        for (int32_t ky = 0; ky < s->kernel; ky++)
            for (int32_t i = 0; i < s->kernel; i++) {
                int32_t row = i, y, x;
                if (!backward) {
                    y = p / side * s->stride + ky - s->pad;
                    x = p % side * s->stride + i - s->pad;
                    if (y < 0 || x < 0 || y >= s->h || x >= s->h) continue;
                    x += y * s->h;
                } else {
                    int32_t kx = s->kernel - 1 - i;
                    y = p / side + s->pad - ky;
                    x = p % side + s->pad - kx;
                    if (y < 0 || x < 0 || y % s->stride || x % s->stride) continue;
                    y /= s->stride;
                    x /= s->stride;
                    if (y >= s->out || x >= s->out) continue;
                    x += y * s->out;
                    int32_t odd = s->stride == 2 && kx % 2; /* residue 0 first */
                    row = odd ? (s->kernel + 1) / 2 + (s->kernel - 1 - kx) / 2 : i;
                    if (s->stride == 2 && !odd) row = (s->kernel - 1) / 2 - kx / 2;
                }
                segment_add(first + p, &n, list, x * inner, (ky * s->kernel + row) * inner, inner);
            }
        first[p + 1] = n;
    }
    ar_segment *exact = take(sizeof *exact * (size_t)n, 4);
    memcpy(exact, list, sizeof *exact * (size_t)n);
    free(list);
    call.first = first;
    call.segments = exact;
    return call;
}

/* Weights [rows][outputs] in a level's packing. */
static const float *pack(const ar_kernels *k, const ar_gemm *call, const float *w) {
    float *packed = take((size_t)call->rows * (size_t)call->outputs * sizeof *packed, 64);
    int32_t blocks = ar_block_count(call->outputs, k->gemm_block);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t o = ar_block_first(call->outputs, k->gemm_block, b);
        int32_t width = ar_block_first(call->outputs, k->gemm_block, b + 1) - o;
        assert_true(width > 0 && width <= k->gemm_block);
        for (int32_t r = 0; r < call->rows; r++)
            for (int32_t j = 0; j < width; j++)
                packed[call->rows * o + r * width + j] = w[r * call->outputs + o + j];
    }
    return packed;
}

/* ---- gemm ---- */

/* One element by the definition, before relu and gate; scale: the sum of the absolute products. */
static double gemm_value(const ar_gemm *call, const float *w, const float *old, int64_t at,
                         double *scale) {
    int64_t p = at / call->lanes / call->outputs, o = at / call->lanes % call->outputs;
    int64_t lane = at % call->lanes;
    int64_t row = call->bias_class != NULL ? call->bias_class[p] * call->outputs : 0;
    double bias = call->bias != NULL ? call->bias[row + o] : 0, start = 0;
    if (call->residual != NULL) start = call->residual == call->y ? old[at] : call->residual[at];
    double a = start + bias;
    *scale = fabs(start) + fabs(bias);
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
        const ar_segment *s = call->segments + i;
        for (int32_t k = 0; k < s->k; k++) {
            double product = (double)w[(s->w + k) * call->outputs + o] *
                             (double)call->x[(int64_t)(s->x + k) * call->lanes + lane];
            a += product;
            *scale += fabs(product);
        }
    }
    return a;
}

static epilogue gemm_epilogue(const ar_gemm *call) {
    return (epilogue){call->relu, call->mask, call->gate, call->residual, call->y};
}

static bool gemm_right(const ar_gemm *call, const float *w, const float *old) {
    int64_t n = (int64_t)call->pixels * call->outputs * call->lanes;
    const epilogue e = gemm_epilogue(call);
    for (int64_t i = 0; i < n; i++) {
        double scale, a = gemm_value(call, w, old, i, &scale);
        if (!epilogue_right(&e, i, a, TOLERANCE_KERNEL * scale)) return false;
    }
    return true;
}

/* The same work in two tiles of 8 lanes: bits must be those of one tile of 16. */
static bool gemm_halves(const ar_kernels *k, const ar_gemm *call, const float *old,
                        size_t in_floats) {
    const size_t n = (size_t)call->pixels * (size_t)call->outputs * 8;
    const epilogue e = gemm_epilogue(call);
    for (size_t which = 0; which < 2; which++) {
        half h = half_make(&e, call->x, old, in_floats / 2, n, which);
        ar_gemm part = *call;
        part.lanes = 8;
        part.x = h.x;
        part.y = h.y;
        part.residual = h.residual;
        part.mask = h.mask;
        part.gate = h.gate;
        k->gemm(&part);
        if (!half_same(&h, &e, n, which)) return false;
    }
    return true;
}

/* The same work in two calls that share the blocks of outputs: the same bits, and the first one
 * leaves the other's outputs as they are. */
static bool gemm_shares(const ar_kernels *k, const ar_gemm *call, const float *old, size_t n) {
    int32_t blocks = ar_block_count(call->outputs, k->gemm_block);
    if (blocks < 2) return true;
    int32_t cut = between(1, blocks - 1);
    int32_t edge = ar_block_first(call->outputs, k->gemm_block, cut);
    ar_gemm part = *call;
    float *whole = take(n * sizeof *whole, 64);
    uint8_t *mask = take(n / 8, 1);
    memcpy(whole, call->y, n * sizeof *whole);
    if (call->mask != NULL) memcpy(mask, call->mask, n / 8);
    memcpy(call->y, old, n * sizeof *old);
    part.blocks = (ar_span){cut, blocks};
    k->gemm(&part);
    for (size_t i = 0; i < n; i++)
        if (i / (size_t)call->lanes % (size_t)call->outputs < (size_t)edge &&
            memcmp(call->y + i, old + i, sizeof *old) != 0)
            return false;
    if (call->mask != NULL) memset(call->mask, 0xa5, n / 8);
    memcpy(call->y, old, n * sizeof *old);
    k->gemm(&part);
    part.blocks = (ar_span){0, cut};
    k->gemm(&part);
    checks++;
    return memcmp(whole, call->y, n * sizeof *whole) == 0 &&
           (call->mask == NULL || memcmp(mask, call->mask, n / 8) == 0);
}

/* Bytes of [pixels][outputs] items of `size` bytes at output `first` of [pixels][stride], between
 * other bytes. */
static void *spread(const ar_gemm *call, const void *from, size_t size, int32_t first,
                    int32_t stride, size_t align) {
    unsigned char *to = take((size_t)(call->pixels * stride) * size, align);
    const size_t row = (size_t)call->outputs * size;
    for (int32_t p = 0; p < call->pixels && from != NULL; p++)
        memcpy(to + (size_t)(p * stride + first) * size,
               (const unsigned char *)from + (size_t)p * row, row);
    return to;
}

/* Whether it holds `want` there, and the other bytes are as they were. */
static bool spread_same(const ar_gemm *call, const unsigned char *got, const void *want,
                        size_t size, int32_t first, int32_t stride) {
    for (int32_t i = 0; i < call->pixels * stride; i++) {
        int32_t o = i % stride - first;
        const unsigned char *item = got + (size_t)i * size;
        if (o >= 0 && o < call->outputs) {
            size_t at = (size_t)(i / stride * call->outputs + o) * size;
            if (memcmp(item, (const unsigned char *)want + at, size) != 0) return false;
            continue;
        }
        for (size_t k = 0; k < size; k++)
            if (item[k] != 0xa5) return false;
    }
    checks++;
    return true;
}

/* The same work with its outputs among those of other groups: the same bits, and nothing else is
 * written. */
static bool gemm_among(const ar_kernels *k, const ar_gemm *call, const float *old) {
    const int32_t first = between(0, 3), stride = first + call->outputs + between(0, 3);
    const size_t value = (size_t)call->lanes * sizeof(float), bits = (size_t)call->lanes / 8;
    const size_t at = (size_t)(first * call->lanes);
    ar_gemm part = *call;
    part.stride = stride;
    float *y = spread(call, old, value, first, stride, 64);
    uint8_t *mask = spread(call, NULL, bits, first, stride, 1);
    part.y = y + at;
    if (call->residual == call->y)
        part.residual = part.y;
    else if (call->residual != NULL)
        part.residual = (float *)spread(call, call->residual, value, first, stride, 64) + at;
    if (call->mask != NULL) part.mask = mask + at / 8;
    if (call->gate != NULL)
        part.gate = (uint8_t *)spread(call, call->gate, bits, first, stride, 1) + at / 8;
    if (call->bias_class != NULL) {
        float *bias = take((size_t)(4 * stride) * sizeof *bias, 4);
        int32_t rows = 0;
        for (int32_t p = 0; p < call->pixels; p++)
            if (call->bias_class[p] >= rows) rows = call->bias_class[p] + 1;
        for (int32_t r = 0; r < rows; r++)
            memcpy(bias + r * stride, call->bias + r * call->outputs,
                   (size_t)call->outputs * sizeof *bias);
        part.bias = bias;
    }
    k->gemm(&part);
    if (call->mask != NULL && !spread_same(call, mask, call->mask, bits, first, stride))
        return false;
    return spread_same(call, (unsigned char *)y, call->y, value, first, stride);
}

static void test_gemm(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < GEMM_SHAPES; round++) {
        shape s = shape_draw();
        bool backward = round % 2 == 1;
        ar_gemm call = lists_make(&s, backward);
        size_t in = (size_t)(backward ? s.out * s.out * s.o : s.h * s.h * s.c) * (size_t)s.lanes;
        size_t n = (size_t)(call.pixels * call.outputs * call.lanes);
        float *w = floats((size_t)(call.rows * call.outputs), 4), *old = floats(n, 64);
        call.x = floats(in, 64);
        call.y = floats(n, 64);
        int32_t rows = between(0, 2) == 0 ? between(1, 4) : 0;
        if (between(0, 1)) call.bias = floats((size_t)(call.outputs * (rows > 0 ? rows : 1)), 4);
        if (call.bias != NULL && rows > 0) call.bias_class = classes((size_t)call.pixels, rows);
        if (between(0, 2) == 0) call.residual = between(0, 1) ? call.y : floats(n, 64);
        call.relu = between(0, 1);
        if (call.relu && between(0, 3)) call.mask = bytes(n / 8);
        if (between(0, 2) == 0) call.gate = bytes(n / 8);
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            memcpy(call.y, old, n * sizeof *old);
            call.w = pack(k, &call, w);
            k->gemm(&call);
            if (!gemm_right(&call, w, old)) describe(&s, "gemm", k->name);
            if (s.lanes == 16 && !levels[l].blas && !gemm_halves(k, &call, old, in))
                describe(&s, "gemm: 2 x 8 lanes against 16", k->name);
            if (!gemm_shares(k, &call, old, n)) describe(&s, "gemm: blocks of outputs", k->name);
            if (!gemm_among(k, &call, old)) describe(&s, "gemm: among other outputs", k->name);
        }
        drop();
    }
}

/* ---- wgrad ---- */

static void pairs_make(const shape *s, ar_wgrad *call, bool shuffle) {
    int32_t taps = s->kernel * s->kernel, n = 0;
    int32_t *first = take(sizeof *first * (size_t)(taps + 1), 4);
    ar_pair *pairs = take(sizeof *pairs * (size_t)(taps * s->out * s->out), 4);
    first[0] = 0;
    for (int32_t t = 0; t < taps; t++) {
        for (int32_t p = 0; p < s->out * s->out; p++) {
            int32_t y = p / s->out * s->stride + t / s->kernel - s->pad;
            int32_t x = p % s->out * s->stride + t % s->kernel - s->pad;
            if (y >= 0 && x >= 0 && y < s->h && x < s->h)
                pairs[n++] = (ar_pair){(y * s->h + x) * s->all, p};
        }
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

static bool wgrad_right(const ar_wgrad *call) {
    const int64_t lanes = call->lanes;
    for (int32_t o = 0; o < call->outputs; o++) {
        for (int32_t i = 0; i < call->taps * call->channels; i++) {
            int32_t t = i / call->channels, c = i % call->channels;
            double a = 0, scale = 0;
            for (int32_t tile = 0; tile < call->tiles; tile++)
                for (int32_t j = call->first[t]; j < call->first[t + 1]; j++)
                    for (int64_t l = 0; l < lanes; l++) {
                        int64_t y = ((int64_t)call->pairs[j].y * call->outputs + o) * lanes + l;
                        int32_t from = call->pairs[j].x + call->x_first + c;
                        double product =
                            (double)call->x[tile][from * lanes + l] * (double)call->dy[tile][y];
                        a += product;
                        scale += fabs(product);
                    }
            float got = call->dw[(o * call->taps + t) * call->channels + c];
            if (!(fabs(a - (double)got) <= TOLERANCE_KERNEL * scale)) return false;
            checks++;
        }
        double a = 0, scale = 0;
        for (int32_t tile = 0; tile < call->tiles; tile++)
            for (int64_t i = 0; i < call->pixels * lanes; i++) {
                double v = call->dy[tile][(i / lanes * call->outputs + o) * lanes + i % lanes];
                a += v;
                scale += fabs(v);
            }
        if (!(fabs(a - (double)call->db[o]) <= TOLERANCE_KERNEL * scale)) return false;
    }
    return true;
}

/* Cut by outputs: the same bits, and nothing else written. */
static bool wgrad_cut(const ar_kernels *k, const ar_wgrad *whole) {
    size_t row = (size_t)(whole->taps * whole->channels), n = row * (size_t)whole->outputs;
    int32_t cut = between(0, whole->outputs);
    ar_wgrad part = *whole;
    part.dw = take(n * sizeof(float), 4);
    part.db = take((size_t)whole->outputs * sizeof(float), 4);
    part.end = cut;
    k->wgrad(&part);
    unsigned char *rest = (unsigned char *)(part.dw + (size_t)cut * row);
    for (size_t i = 0; i < (n - (size_t)cut * row) * sizeof(float); i++)
        if (rest[i] != 0xa5) return false;
    part.begin = cut;
    part.end = whole->outputs;
    k->wgrad(&part);
    checks++;
    return memcmp(part.dw, whole->dw, n * sizeof(float)) == 0 &&
           memcmp(part.db, whole->db, (size_t)whole->outputs * sizeof(float)) == 0;
}

static void test_wgrad(void **unused) {
    (void)unused;
    for (int32_t round = 0; round < WGRAD_SHAPES; round++) {
        shape s = shape_draw();
        if (round % 4 == 0) s.c = between(1, 3);
        s.all = between(0, 2) == 0 ? s.c * between(1, 5) : s.c;
        const float *x[6], *dy[6];
        ar_wgrad call = {.lanes = s.lanes,
                         .tiles = between(1, 6),
                         .taps = s.kernel * s.kernel,
                         .channels = s.c,
                         .outputs = s.o,
                         .pixels = s.out * s.out,
                         .end = s.o,
                         .x_first = s.c * between(0, s.all / s.c - 1),
                         .x = x,
                         .dy = dy};
        for (int32_t i = 0; i < call.tiles; i++) {
            x[i] = floats((size_t)(s.h * s.h * s.all * s.lanes), 64);
            dy[i] = floats((size_t)(s.out * s.out * s.o * s.lanes), 64);
        }
        pairs_make(&s, &call, between(0, 3) == 0);
        for (int32_t l = 0; l < level_count; l++) {
            const ar_kernels *k = levels[l].table;
            call.dw = floats((size_t)(s.o * call.taps * s.c), 4);
            call.db = floats((size_t)s.o, 4);
            k->wgrad(&call);
            if (!wgrad_right(&call)) describe(&s, "wgrad", k->name);
            if (!wgrad_cut(k, &call)) describe(&s, "wgrad: cut by outputs", k->name);
            ar_wgrad bare = call;
            bare.db = NULL;
            k->wgrad(&bare);
        }
        drop();
    }
}

/* ---- the peak ---- */

/* Every chain is there and has come to its end: 2, the fixed point of a / 2 + 1. */
static void test_fma(void **unused) {
    (void)unused;
    for (int32_t l = 0; l < level_count; l++) {
        const ar_kernels *k = levels[l].table;
        float sum = 0;
        int64_t chains = k->fma(1, &sum);
        assert_true(chains >= 8 && chains < 4096);
        assert_true(k->fma(100, &sum) == 100 * chains);
        if (sum != 2 * (float)chains) fail_msg("fma, level %s: %g", k->name, (double)sum);
        checks++;
    }
}

/* ---- blocks of outputs ---- */

static void test_blocks(void **unused) {
    (void)unused;
    for (int32_t n = 0; n < 200; n++)
        for (int32_t block = 1; block < 40; block++) {
            int32_t count = ar_block_count(n, block), largest = 0, smallest = block;
            assert_int_equal(count, (n + block - 1) / block);
            assert_int_equal(ar_block_first(n, block, 0), 0);
            assert_int_equal(ar_block_first(n, block, count), n);
            for (int32_t b = 0, before = block; b < count; b++) {
                int32_t width = ar_block_first(n, block, b + 1) - ar_block_first(n, block, b);
                assert_true(width <= before && width > 0);
                before = width;
                if (width > largest) largest = width;
                if (width < smallest) smallest = width;
            }
            assert_true(n == 0 || largest - smallest <= 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks), cmocka_unit_test(test_gemm),    cmocka_unit_test(test_wgrad),
        cmocka_unit_test(test_fma),    cmocka_unit_test(test_counted),
    };
    levels_find();
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
