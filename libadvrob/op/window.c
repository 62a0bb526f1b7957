/* Sliding windows: output extents, the taps inside the input, pooling lists. */
#include "window.h"

int32_t ar_window_extent(const ar_attributes *a, int32_t axis) {
    return a->dilation[axis] * (a->kernel[axis] - 1) + 1;
}

static bool in_range(int32_t value) {
    return value >= 1 && value <= 1024;
}

static int32_t infer_axis(const char *what, const ar_attributes *a, int32_t axis, int32_t in,
                          int32_t *out) {
    const char *name = axis == 0 ? "height" : "width";
    int32_t kernel = a->kernel[axis], stride = a->stride[axis], padding = a->padding[axis];
    int32_t dilation = a->dilation[axis];
    if (!in_range(kernel) || !in_range(stride) || !in_range(dilation) || padding < 0 ||
        padding >= ar_window_extent(a, axis))
        return ar_error(ADVROB_E_RANGE,
                        "%s: %s has kernel %d, stride %d, padding %d, dilation %d; expected "
                        "kernel, stride and dilation of 1 to 1024 and padding below "
                        "dilation * (kernel - 1) + 1",
                        what, name, kernel, stride, padding, dilation);
    int32_t room = in + 2 * padding - ar_window_extent(a, axis);
    if (room < 0)
        return ar_error(ADVROB_E_SHAPE, "%s: %s %d with padding %d is smaller than the window %d",
                        what, name, in, padding, ar_window_extent(a, axis));
    *out = room / stride + 1;
    return ADVROB_OK;
}

int32_t ar_window_infer(const char *what, const ar_attributes *a, const ar_shape *in,
                        ar_shape *out) {
    int32_t status = ADVROB_OK;
    AR_TRY(infer_axis(what, a, 0, in->h, &out->h));
    AR_TRY(infer_axis(what, a, 1, in->w, &out->w));
out:
    return status;
}

int32_t ar_window_pool_infer(const char *what, const ar_attributes *a, const ar_shape *in,
                             ar_shape *out) {
    out->c = in->c;
    if (a->dilation[0] != 1 || a->dilation[1] != 1)
        return ar_error(ADVROB_E_RANGE, "%s: dilation %d x %d, expected 1 x 1", what,
                        a->dilation[0], a->dilation[1]);
    return ar_window_infer(what, a, in, out);
}

int32_t ar_window_check_lists(const ar_attributes *a, const ar_shape *out) {
    int64_t taps = (int64_t)a->kernel[0] * a->kernel[1];
    if (ar_shape_pixels(*out) <= INT32_MAX / taps) return ADVROB_OK;
    return ar_error(ADVROB_E_LIMIT, "a window of %lld taps at %d places is too large",
                    (long long)taps, ar_shape_pixels(*out));
}

/* Positions of taps from `first` that are below `end`. */
static int32_t taps_below(int32_t first, int32_t dilation, int32_t kernel, int32_t end) {
    int32_t count = first >= end ? 0 : (end - first + dilation - 1) / dilation;
    return count < kernel ? count : kernel;
}

void ar_window_range(const ar_attributes *a, int32_t axis, int32_t o, int32_t extent,
                     int32_t *begin, int32_t *end) {
    int32_t first = o * a->stride[axis] - a->padding[axis];
    *begin = taps_below(first, a->dilation[axis], a->kernel[axis], 0);
    *end = taps_below(first, a->dilation[axis], a->kernel[axis], extent);
    if (*begin == *end) *begin = *end = 0;
}

/* Of one axis. */
static int64_t taps_inside(const ar_attributes *a, int32_t axis, int32_t in, int32_t out) {
    int64_t taps = 0;
    for (int32_t o = 0; o < out; o++) {
        int32_t begin, end;
        ar_window_range(a, axis, o, in, &begin, &end);
        taps += end - begin;
    }
    return taps;
}

int64_t ar_window_taps_2d(const ar_attributes *a, const ar_shape *in, const ar_shape *out) {
    return taps_inside(a, 0, in->h, out->h) * taps_inside(a, 1, in->w, out->w);
}

int32_t ar_window_pool_lists(const ar_op_setup *setup, const void **prepared) {
    int32_t status = ADVROB_OK;
    const ar_attributes *a = setup->attributes;
    const ar_shape *in = &setup->in[0], *out = &setup->out;
    ar_arena *arena = setup->arena;
    void *block;
    size_t pixels = (size_t)ar_shape_pixels(*out), taps = (size_t)a->kernel[0] * a->kernel[1];
    AR_TRY(ar_window_check_lists(a, out));
    AR_TRY(ar_arena_alloc(arena, 1, sizeof(ar_pool_lists), "pooling lists", &block));
    ar_pool_lists *lists = block;
    AR_TRY(ar_arena_alloc(arena, pixels + 1, sizeof(int32_t), "pooling lists", &block));
    lists->first = block;
    AR_TRY(ar_arena_alloc(arena, pixels * taps, sizeof(int32_t), "pooling lists", &block));
    lists->index = block;
    AR_TRY(ar_arena_alloc(arena, pixels, sizeof(ar_real), "pooling lists", &block));
    lists->scale = block;
    int32_t n = 0;
    for (int32_t oy = 0; oy < out->h; oy++)
        for (int32_t ox = 0; ox < out->w; ox++) {
            int32_t y0, y1, x0, x1, p = oy * out->w + ox;
            ar_window_range(a, 0, oy, in->h, &y0, &y1);
            ar_window_range(a, 1, ox, in->w, &x0, &x1);
            lists->first[p] = n;
            lists->scale[p] = (ar_real)1 / (ar_real)taps; /* padding counts, as in PyTorch */
            for (int32_t ky = y0; ky < y1; ky++)
                for (int32_t kx = x0; kx < x1; kx++)
                    lists->index[n++] = (oy * a->stride[0] - a->padding[0] + ky) * in->w +
                                        ox * a->stride[1] - a->padding[1] + kx;
        }
    lists->first[pixels] = n;
    *prepared = lists;
out:
    return status;
}

ar_pool_call ar_window_pool_call(const ar_op_call *call) {
    const ar_pool_lists *lists = call->prepared;
    return (ar_pool_call){
        .range = {call->rows.begin * call->out.w, call->rows.end * call->out.w},
        .origin = call->x_top * call->in[0].w,
        .lanes = call->lanes,
        .channels = call->out.c,
        .pixels_in = ar_shape_pixels(call->in[0]),
        .pixels_out = ar_shape_pixels(call->out),
        .first = lists->first,
        .index = lists->index,
        .scale = lists->scale,
        .x = call->x[0],
        .y = call->y,
        .choice = call->state,
        .dy = call->dy,
        .dx = call->dx[0],
        .accumulate = call->accumulate[0],
    };
}

void ar_window_avg_forward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->avg_pool(&pool);
}

void ar_window_avg_backward(const ar_op_call *call) {
    ar_pool_call pool = ar_window_pool_call(call);
    call->kernels->avg_pool_backward(&pool);
}
