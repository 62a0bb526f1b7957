/* Convolutions as batch-reduce GEMMs (kernel/kernel.h): for each output pixel a list of runs of
 * contiguous input, only over taps that exist, so padding costs nothing and stride 2 backward is
 * not dilated (reference: performance measurements in docs/performance.md). */
#include "gemm.h"

#include <string.h>

#include "window.h"

typedef struct gemm_lists {
    int32_t *first; /* forward, per output pixel */
    ar_segment *segments;
    int32_t *back_first; /* backward, per input pixel */
    ar_segment *back_segments;
    int32_t *pair_first; /* weight gradient, per tap */
    ar_pair *pairs;
} gemm_lists;

/* Backward weights keep their taps of one stride residue together, descending, so that the taps
 * that one input pixel meets are neighbours there and in the output: they merge to one run.
 * Position of tap k in that order. */
static int32_t back_position(int32_t k, int32_t kernel, int32_t stride) {
    int32_t position = 0;
    for (int32_t residue = 0; residue < k % stride; residue++)
        position += (kernel - residue + stride - 1) / stride;
    int32_t largest = k + (kernel - 1 - k) / stride * stride;
    return position + (largest - k) / stride;
}

/* Whether neighbouring taps of a row meet neighbouring inputs, so that they are one run. */
static bool merges(const ar_attributes *a) {
    return a->dilation[1] == 1;
}

/* Appends `taps` taps of a row, of c values each: one run, or a run each from one pixel to another
 * `step` further. */
static void add_taps(ar_segment *segments, int32_t *n, bool merge, int32_t pixel, int32_t step,
                     int32_t row, int32_t taps, int32_t c) {
    if (merge) {
        segments[(*n)++] = (ar_segment){.x = pixel * c, .w = row * c, .k = taps * c};
        return;
    }
    for (int32_t t = 0; t < taps; t++)
        segments[(*n)++] = (ar_segment){.x = (pixel + t * step) * c, .w = (row + t) * c, .k = c};
}

static void forward_lists(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                          gemm_lists *lists) {
    int32_t n = 0;
    for (int32_t oy = 0; oy < out->h; oy++)
        for (int32_t ox = 0; ox < out->w; ox++) {
            int32_t y0, y1, x0, x1, top = oy * a->stride[0] - a->padding[0];
            int32_t left = ox * a->stride[1] - a->padding[1];
            ar_window_range(a, 0, oy, in->h, &y0, &y1);
            ar_window_range(a, 1, ox, in->w, &x0, &x1);
            lists->first[oy * out->w + ox] = n;
            for (int32_t ky = y0; ky < y1 && x0 < x1; ky++) {
                int32_t y = top + ky * a->dilation[0], x = left + x0 * a->dilation[1];
                add_taps(lists->segments, &n, merges(a), y * in->w + x, a->dilation[1],
                         ky * a->kernel[1] + x0, x1 - x0, in->c);
            }
        }
    lists->first[ar_shape_pixels(*out)] = n;
}

/* The outputs of one axis whose windows may meet input position i: [*begin, *end). */
static void back_range(const ar_attributes *a, int32_t axis, int32_t i, int32_t outputs,
                       int32_t *begin, int32_t *end) {
    int32_t stride = a->stride[axis], last = i + a->padding[axis];
    int32_t low = last - ar_window_extent(a, axis) + 1;
    *begin = low <= 0 ? 0 : (low + stride - 1) / stride;
    *end = last / stride + 1;
    if (*end > outputs) *end = outputs;
}

/* The tap of output o's window that lies at input position i, or -1: the window steps over it. */
static int32_t back_tap(const ar_attributes *a, int32_t axis, int32_t i, int32_t o) {
    int32_t from = i + a->padding[axis] - o * a->stride[axis];
    return from % a->dilation[axis] == 0 ? from / a->dilation[axis] : -1;
}

/* Row of tap (ky, kx) in the backward weights, counted in taps. */
static int32_t back_row(const ar_attributes *a, int32_t ky, int32_t kx) {
    return back_position(ky, a->kernel[0], a->stride[0]) * a->kernel[1] +
           back_position(kx, a->kernel[1], a->stride[1]);
}

static void backward_lists(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                           gemm_lists *lists) {
    int32_t n = 0;
    for (int32_t iy = 0; iy < in->h; iy++)
        for (int32_t ix = 0; ix < in->w; ix++) {
            int32_t y0, y1, x0, x1;
            back_range(a, 0, iy, out->h, &y0, &y1);
            back_range(a, 1, ix, out->w, &x0, &x1);
            lists->back_first[iy * in->w + ix] = n;
            for (int32_t oy = y0; oy < y1; oy++) {
                int32_t ky = back_tap(a, 0, iy, oy), step = merges(a) ? x1 - x0 : 1;
                for (int32_t ox = x0; ox < x1 && ky >= 0; ox += step) {
                    int32_t kx = back_tap(a, 1, ix, ox);
                    if (kx >= 0)
                        add_taps(lists->back_segments, &n, true, oy * out->w + ox, 1,
                                 back_row(a, ky, kx), step, out->c);
                }
            }
        }
    lists->back_first[ar_shape_pixels(*in)] = n;
}

static void pair_lists(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                       gemm_lists *lists) {
    int32_t n = 0, tap = 0;
    for (int32_t ky = 0; ky < a->kernel[0]; ky++)
        for (int32_t kx = 0; kx < a->kernel[1]; kx++) {
            lists->pair_first[tap++] = n;
            for (int32_t oy = 0; oy < out->h; oy++)
                for (int32_t ox = 0; ox < out->w; ox++) {
                    int32_t iy = oy * a->stride[0] - a->padding[0] + ky * a->dilation[0];
                    int32_t ix = ox * a->stride[1] - a->padding[1] + kx * a->dilation[1];
                    if (iy < 0 || iy >= in->h || ix < 0 || ix >= in->w) continue;
                    lists->pairs[n++] =
                        (ar_pair){.x = (iy * in->w + ix) * in->c, .y = oy * out->w + ox};
                }
        }
    lists->pair_first[tap] = n;
}

static int32_t take(ar_arena *arena, size_t count, size_t size, void **block) {
    return ar_arena_alloc(arena, count, size, "index lists", block);
}

int32_t ar_gemm_prepare(const ar_op_setup *setup, bool forward, bool backward,
                        const void **prepared) {
    int32_t status = ADVROB_OK;
    const ar_attributes *a = setup->attributes;
    const ar_shape *in = &setup->in[0], *out = &setup->out;
    void *block;
    size_t pixels = (size_t)ar_shape_pixels(*out), back = (size_t)ar_shape_pixels(*in);
    size_t rows = (size_t)a->kernel[0], taps = rows * (size_t)a->kernel[1];
    size_t runs = merges(a) ? rows : taps; /* of a pixel, at most */
    AR_TRY(ar_window_check_lists(a, out));
    AR_TRY(take(setup->arena, 1, sizeof(gemm_lists), &block));
    gemm_lists *lists = block;
    if (forward) {
        AR_TRY(take(setup->arena, pixels + 1, sizeof(int32_t), &block));
        lists->first = block;
        AR_TRY(take(setup->arena, pixels * runs, sizeof(ar_segment), &block));
        lists->segments = block;
        forward_lists(a, in, out, lists);
    }
    if (backward) {
        AR_TRY(take(setup->arena, back + 1, sizeof(int32_t), &block));
        lists->back_first = block;
        AR_TRY(take(setup->arena, back * runs, sizeof(ar_segment), &block));
        lists->back_segments = block;
        backward_lists(a, in, out, lists);
    }
    AR_TRY(take(setup->arena, taps + 1, sizeof(int32_t), &block));
    lists->pair_first = block;
    AR_TRY(take(setup->arena, pixels * taps, sizeof(ar_pair), &block));
    lists->pairs = block;
    pair_lists(a, in, out, lists);
    *prepared = lists;
out:
    return status;
}

void ar_gemm_pack_forward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed) {
    const ar_attributes *a = setup->attributes;
    int32_t taps = a->kernel[0] * a->kernel[1], c = setup->in[0].c, o = a->outputs;
    int32_t block = setup->kernels->gemm_block;
    for (int32_t b = 0; b < ar_block_count(o, block); b++) {
        int32_t begin = ar_block_first(o, block, b), end = ar_block_first(o, block, b + 1);
        ar_real *to = packed + (size_t)begin * taps * c;
        for (int32_t t = 0; t < taps; t++)
            for (int32_t i = 0; i < c; i++)
                for (int32_t j = begin; j < end; j++)
                    *to++ = weight[((size_t)j * c + i) * taps + t];
    }
}

void ar_gemm_pack_backward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed) {
    const ar_attributes *a = setup->attributes;
    int32_t taps = a->kernel[0] * a->kernel[1], c = setup->in[0].c;
    int32_t o = a->outputs, block = setup->kernels->gemm_block;
    for (int32_t b = 0; b < ar_block_count(c, block); b++) {
        int32_t begin = ar_block_first(c, block, b), end = ar_block_first(c, block, b + 1);
        ar_real *base = packed + (size_t)begin * taps * o;
        for (int32_t t = 0; t < taps; t++) {
            int32_t kw = a->kernel[1];
            ar_real *to = base + (size_t)back_row(a, t / kw, t % kw) * o * (end - begin);
            for (int32_t j = 0; j < o; j++)
                for (int32_t i = begin; i < end; i++)
                    *to++ = weight[((size_t)j * c + i) * taps + t];
        }
    }
}

/* Narrows a gemm to output pixels [first, last), of which y begins with the first. */
static void narrow(ar_gemm *gemm, int32_t first, int32_t last) {
    int64_t at = (int64_t)first * gemm->outputs * gemm->lanes;
    gemm->pixels = last - first;
    gemm->first += first;
    if (gemm->bias_class != NULL) gemm->bias_class += first;
    if (gemm->residual != NULL) gemm->residual += at;
    if (gemm->mask != NULL) gemm->mask += at / 8;
}

/* Narrows a gemm to the call's share of it; false: there is none for it. What the threads do not
 * cut each of them reads whole, so the larger of weights and input is cut. */
static bool share(const ar_op_call *call, ar_gemm *gemm) {
    int64_t weights = (int64_t)gemm->rows * gemm->outputs;
    ar_span range;
    if (call->parts <= 1) return true;
    if (weights > ar_shape_count(call->in[0]) * gemm->lanes)
        return ar_op_share(call, ar_block_count(gemm->outputs, call->kernels->gemm_block),
                           &gemm->blocks);
    /* By two, so that y stays aligned. */
    if (!ar_op_share(call, (gemm->pixels + 1) / 2, &range)) return false;
    int32_t first = range.begin * 2, last = range.end * 2;
    gemm->y += (int64_t)first * gemm->outputs * gemm->lanes;
    narrow(gemm, first, last < gemm->pixels ? last : gemm->pixels);
    return true;
}

void ar_gemm_forward(const ar_op_call *call) {
    const gemm_lists *lists = call->prepared;
    const ar_attributes *a = call->attributes;
    ar_gemm gemm = {
        .lanes = call->lanes,
        .pixels = ar_shape_pixels(call->out),
        .outputs = call->out.c,
        .rows = a->kernel[0] * a->kernel[1] * call->in[0].c,
        .x = call->x[0],
        .w = call->weight,
        .bias = call->bias,
        .bias_class = call->bias_class,
        .residual = call->residual,
        .y = call->y,
        .first = lists->first,
        .segments = lists->segments,
        .relu = call->relu,
        .mask = call->state,
    };
    if (call->rows.end > 0) {
        int64_t row = (int64_t)call->out.w * call->out.c * call->lanes;
        gemm.y += (call->rows.begin - call->y_top) * row;
        narrow(&gemm, call->rows.begin * call->out.w, call->rows.end * call->out.w);
    }
    if (share(call, &gemm)) call->kernels->gemm(&gemm);
}

void ar_gemm_backward(const ar_op_call *call) {
    const gemm_lists *lists = call->prepared;
    const ar_attributes *a = call->attributes;
    if (call->dx[0] == NULL) return;
    ar_gemm gemm = {
        .lanes = call->lanes,
        .pixels = ar_shape_pixels(call->in[0]),
        .outputs = call->in[0].c,
        .rows = a->kernel[0] * a->kernel[1] * call->out.c,
        .x = call->dy,
        .w = call->weight,
        .y = call->dx[0],
        .first = lists->back_first,
        .segments = lists->back_segments,
        .residual = call->accumulate[0] ? call->dx[0] : NULL,
        .gate = call->gate[0],
    };
    call->kernels->gemm(&gemm);
}

void ar_gemm_gradient(const ar_op_gradient *call) {
    const gemm_lists *lists = call->prepared;
    int32_t taps = call->attributes->kernel[0] * call->attributes->kernel[1], c = call->in.c;
    ar_wgrad wgrad = {
        .lanes = call->lanes,
        .tiles = call->tiles,
        .taps = taps,
        .channels = c,
        .outputs = call->out.c,
        .pixels = ar_shape_pixels(call->out),
        .begin = call->begin,
        .end = call->end,
        .x = call->x,
        .dy = call->dy,
        .first = lists->pair_first,
        .pairs = lists->pairs,
        .dw = call->dweight,
        .db = call->dbias,
    };
    call->kernels->wgrad(&wgrad);
    for (int32_t o = call->begin; o < call->end && taps > 1; o++) { /* [tap][c] to [c][tap] */
        ar_real *row = call->dweight + (int64_t)o * taps * c;
        memcpy(call->scratch, row, sizeof(ar_real) * (size_t)taps * (size_t)c);
        for (int32_t i = 0; i < c; i++)
            for (int32_t t = 0; t < taps; t++)
                row[i * taps + t] = call->scratch[t * c + i];
    }
}

/* All passes multiply the same pairs: a tap's weight, input and output. */
ar_op_work ar_gemm_work(const ar_op_setup *setup, const void *prepared, int32_t pass) {
    (void)prepared;
    return (ar_op_work){
        .kernel = pass == AR_PASS_WEIGHT_GRADIENT ? "wgrad" : "gemm",
        .multiply_adds = ar_window_taps_2d(setup->attributes, &setup->in[0], &setup->out) *
                         setup->in[0].c * setup->out.c,
    };
}
