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
    return a->dilation[1] == 1 && a->groups == 1;
}

/* `taps` taps of a row as one run: from x on, the first by row `row` of the weights; c values a
 * tap.
 */
static ar_segment run_of(int32_t x, int32_t row, int32_t taps, int32_t c) {
    return (ar_segment){.x = x, .w = row * c, .k = taps * c};
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
            int32_t taps = merges(a) ? x1 - x0 : 1;
            for (int32_t ky = y0; ky < y1; ky++)
                for (int32_t kx = x0; kx < x1; kx += taps) {
                    int32_t y = top + ky * a->dilation[0], x = left + kx * a->dilation[1];
                    lists->segments[n++] = run_of((y * in->w + x) * in->c, ky * a->kernel[1] + kx,
                                                  taps, in->c / a->groups);
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
                int32_t ky = back_tap(a, 0, iy, oy), taps = merges(a) ? x1 - x0 : 1;
                for (int32_t ox = x0; ox < x1 && ky >= 0; ox += taps) {
                    int32_t kx = back_tap(a, 1, ix, ox);
                    if (kx >= 0)
                        lists->back_segments[n++] =
                            run_of((oy * out->w + ox) * out->c, back_row(a, ky, kx), taps,
                                   out->c / a->groups);
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

/* How channels and outputs are cut: a group has so many of each. */
typedef struct group_cut {
    int32_t groups, channels, outputs, taps;
} group_cut;

static group_cut cut_of(const ar_attributes *a, const ar_shape *in) {
    return (group_cut){a->groups, in->c / a->groups, a->outputs / a->groups,
                       a->kernel[0] * a->kernel[1]};
}

/* A group a channel: a kernel of its own takes all groups at once. */
static bool is_depthwise(const group_cut *cut) {
    return cut->channels == 1 && cut->groups > 1;
}

/* Weights of a depthwise layer by rows, forward [tap][output], backward
 * [tap][output of the channel][channel]. */
static void pack_depthwise(const ar_attributes *a, const group_cut *cut, bool backward,
                           const ar_real *weight, ar_real *packed) {
    int32_t kw = a->kernel[1], outputs = cut->groups * cut->outputs;
    for (int32_t t = 0; t < cut->taps; t++) {
        int32_t row = backward ? back_row(a, t / kw, t % kw) : t;
        ar_real *to = packed + (int64_t)row * outputs;
        for (int32_t o = 0; o < outputs; o++) {
            int32_t place = o % cut->outputs * cut->groups + o / cut->outputs;
            to[backward ? place : o] = weight[(int64_t)o * cut->taps + t];
        }
    }
}

void ar_gemm_pack_forward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed) {
    const group_cut cut = cut_of(setup->attributes, &setup->in[0]);
    if (is_depthwise(&cut)) {
        pack_depthwise(setup->attributes, &cut, false, weight, packed);
        return;
    }
    int32_t c = cut.channels, o = cut.outputs, block = setup->kernels->gemm_block;
    int64_t size = (int64_t)cut.taps * c * o; /* of a group's weights */
    for (int32_t g = 0; g < cut.groups; g++, weight += size, packed += size)
        for (int32_t b = 0; b < ar_block_count(o, block); b++) {
            int32_t begin = ar_block_first(o, block, b), end = ar_block_first(o, block, b + 1);
            ar_real *to = packed + (size_t)begin * cut.taps * c;
            for (int32_t t = 0; t < cut.taps; t++)
                for (int32_t i = 0; i < c; i++)
                    for (int32_t j = begin; j < end; j++)
                        *to++ = weight[((size_t)j * c + i) * cut.taps + t];
        }
}

void ar_gemm_pack_backward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed) {
    const ar_attributes *a = setup->attributes;
    const group_cut cut = cut_of(a, &setup->in[0]);
    if (is_depthwise(&cut)) {
        pack_depthwise(a, &cut, true, weight, packed);
        return;
    }
    int32_t c = cut.channels, o = cut.outputs, block = setup->kernels->gemm_block;
    int64_t size = (int64_t)cut.taps * c * o;
    for (int32_t g = 0; g < cut.groups; g++, weight += size, packed += size)
        for (int32_t b = 0; b < ar_block_count(c, block); b++) {
            int32_t begin = ar_block_first(c, block, b), end = ar_block_first(c, block, b + 1);
            ar_real *base = packed + (size_t)begin * cut.taps * o;
            for (int32_t t = 0; t < cut.taps; t++) {
                int32_t kw = a->kernel[1];
                ar_real *to = base + (size_t)back_row(a, t / kw, t % kw) * o * (end - begin);
                for (int32_t j = 0; j < o; j++)
                    for (int32_t i = begin; i < end; i++)
                        *to++ = weight[((size_t)j * c + i) * cut.taps + t];
            }
        }
}

/* Narrows a gemm to output pixels [first, last), of which y begins with the first. */
static void narrow(ar_gemm *gemm, int32_t first, int32_t last) {
    int64_t at = (int64_t)first * gemm->stride * gemm->lanes;
    gemm->pixels = last - first;
    gemm->first += first;
    if (gemm->bias_class != NULL) gemm->bias_class += first;
    if (gemm->residual != NULL) gemm->residual += at;
    if (gemm->mask != NULL) gemm->mask += at / 8;
}

/* Narrows a gemm, which stands for one group, to the call's share of it, with `blocks` counted
 * through the groups; false: there is none for it. What the threads do not cut each of them reads
 * whole, so the larger of weights and input is cut. */
static bool share(const ar_op_call *call, const group_cut *cut, ar_gemm *gemm) {
    int32_t groups = cut->groups;
    int64_t weights = (int64_t)gemm->rows * gemm->stride;
    ar_span range;
    if (call->parts <= 1) return true;
    if (weights > ar_shape_count(call->in[0]) * gemm->lanes && !is_depthwise(cut))
        return ar_op_share(call, groups * ar_block_count(gemm->outputs, call->kernels->gemm_block),
                           &gemm->blocks);
    /* By two, so that y stays aligned. */
    if (!ar_op_share(call, (gemm->pixels + 1) / 2, &range)) return false;
    int32_t first = range.begin * 2, last = range.end * 2;
    gemm->y += (int64_t)first * gemm->stride * gemm->lanes;
    narrow(gemm, first, last < gemm->pixels ? last : gemm->pixels);
    return true;
}

/* All groups, one after the other or in one sweep; `first` stands for the first, and each has so
 * many channels of x. */
static void run_groups(const ar_kernels *kernels, const ar_gemm *first, const group_cut *cut,
                       int32_t channels) {
    if (is_depthwise(cut)) {
        ar_depthwise call = {*first, channels, first->outputs};
        call.gemm.outputs = first->stride;
        kernels->depthwise(&call);
        return;
    }
    int32_t n = ar_block_count(first->outputs, kernels->gemm_block);
    const ar_span blocks = ar_span_of(first->blocks, cut->groups * n);
    for (int32_t g = blocks.begin / n; g * n < blocks.end; g++) {
        ar_gemm gemm = *first;
        int64_t o = (int64_t)g * gemm.outputs, y = o * gemm.lanes;
        gemm.blocks.begin = blocks.begin > g * n ? blocks.begin - g * n : 0;
        gemm.blocks.end = blocks.end < (g + 1) * n ? blocks.end - g * n : n;
        gemm.x += (int64_t)g * channels * gemm.lanes;
        gemm.w += gemm.rows * o;
        gemm.y += y;
        if (gemm.bias != NULL) gemm.bias += o;
        if (gemm.residual != NULL) gemm.residual += y;
        if (gemm.mask != NULL) gemm.mask += y / 8;
        if (gemm.gate != NULL) gemm.gate += y / 8;
        kernels->gemm(&gemm);
    }
}

void ar_gemm_forward(const ar_op_call *call) {
    const gemm_lists *lists = call->prepared;
    const group_cut cut = cut_of(call->attributes, &call->in[0]);
    ar_gemm gemm = {
        .lanes = call->lanes,
        .pixels = ar_shape_pixels(call->out),
        .outputs = cut.outputs,
        .rows = cut.taps * cut.channels,
        .stride = call->out.c,
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
    if (share(call, &cut, &gemm)) run_groups(call->kernels, &gemm, &cut, cut.channels);
}

void ar_gemm_backward(const ar_op_call *call) {
    const gemm_lists *lists = call->prepared;
    const group_cut cut = cut_of(call->attributes, &call->in[0]);
    if (call->dx[0] == NULL) return;
    ar_gemm gemm = {
        .lanes = call->lanes,
        .pixels = ar_shape_pixels(call->in[0]),
        .outputs = cut.channels,
        .rows = cut.taps * cut.outputs,
        .stride = call->in[0].c,
        .x = call->dy,
        .w = call->weight,
        .y = call->dx[0],
        .first = lists->back_first,
        .segments = lists->back_segments,
        .residual = call->accumulate[0] ? call->dx[0] : NULL,
        .gate = call->gate[0],
    };
    run_groups(call->kernels, &gemm, &cut, cut.outputs);
}

/* The weights of outputs [begin, end), of all groups that they lie in. */
static void weight_gradient(const ar_op_gradient *call, const group_cut *cut) {
    const gemm_lists *lists = call->prepared;
    ar_wgrad wgrad = {
        .lanes = call->lanes,
        .tiles = call->tiles,
        .taps = cut->taps,
        .channels = cut->channels,
        .outputs = call->out.c,
        .pixels = ar_shape_pixels(call->out),
        .x = call->x,
        .dy = call->dy,
        .first = lists->pair_first,
        .pairs = lists->pairs,
        .dw = call->dweight,
        .db = call->dbias,
    };
    if (is_depthwise(cut)) {
        wgrad.channels = cut->groups;
        wgrad.begin = call->begin;
        wgrad.end = call->end;
        call->kernels->depthwise_wgrad(&wgrad);
        return;
    }
    for (int32_t g = call->begin / cut->outputs; g * cut->outputs < call->end; g++) {
        int32_t first = g * cut->outputs, last = first + cut->outputs;
        wgrad.begin = call->begin > first ? call->begin : first;
        wgrad.end = call->end < last ? call->end : last;
        wgrad.x_first = g * cut->channels;
        call->kernels->wgrad(&wgrad);
    }
}

void ar_gemm_gradient(const ar_op_gradient *call) {
    const group_cut cut = cut_of(call->attributes, &call->in);
    int32_t taps = cut.taps, c = cut.channels;
    weight_gradient(call, &cut);
    for (int32_t o = call->begin; o < call->end && taps > 1 && c > 1; o++) { /* to [c][tap] */
        ar_real *row = call->dweight + (int64_t)o * taps * c;
        memcpy(call->scratch, row, sizeof(ar_real) * (size_t)taps * (size_t)c);
        for (int32_t i = 0; i < c; i++)
            for (int32_t t = 0; t < taps; t++)
                row[i * taps + t] = call->scratch[t * c + i];
    }
}

/* All passes multiply the same pairs: a tap's weight, input and output. */
ar_op_work ar_gemm_work(const ar_op_setup *setup, const void *prepared, int32_t pass) {
    const ar_attributes *a = setup->attributes;
    const group_cut cut = cut_of(a, &setup->in[0]);
    (void)prepared;
    return (ar_op_work){
        .kernel = is_depthwise(&cut)                ? "depthwise"
                  : pass == AR_PASS_WEIGHT_GRADIENT ? "wgrad"
                                                    : "gemm",
        .multiply_adds = ar_window_taps_2d(a, &setup->in[0], &setup->out) *
                         (setup->in[0].c / a->groups) * setup->out.c,
    };
}
