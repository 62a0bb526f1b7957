/* Sliding windows: output extents, the taps inside the input, pooling lists. */
#include "window.h"

static int32_t extent(const char *what, const char *axis, int32_t in, int32_t kernel,
                      int32_t stride, int32_t padding, int32_t *out) {
    if (kernel < 1 || kernel > 1024 || stride < 1 || stride > 1024 || padding < 0 ||
        padding >= kernel)
        return ar_error(ADVROB_E_RANGE,
                        "%s: %s has kernel %d, stride %d, padding %d; expected kernel and stride "
                        "of 1 to 1024 and padding below the kernel",
                        what, axis, kernel, stride, padding);
    if (in + 2 * padding < kernel)
        return ar_error(ADVROB_E_SHAPE, "%s: %s %d with padding %d is smaller than the kernel %d",
                        what, axis, in, padding, kernel);
    *out = (in + 2 * padding - kernel) / stride + 1;
    return ADVROB_OK;
}

int32_t ar_window_infer(const char *what, const ar_attributes *a, const ar_shape *in,
                        ar_shape *out) {
    int32_t status = ADVROB_OK;
    AR_TRY(extent(what, "height", in->h, a->kernel[0], a->stride[0], a->padding[0], &out->h));
    AR_TRY(extent(what, "width", in->w, a->kernel[1], a->stride[1], a->padding[1], &out->w));
out:
    return status;
}

int32_t ar_window_check_lists(const ar_attributes *a, const ar_shape *out) {
    int64_t taps = (int64_t)a->kernel[0] * a->kernel[1];
    if (ar_shape_pixels(*out) <= INT32_MAX / taps) return ADVROB_OK;
    return ar_error(ADVROB_E_LIMIT, "a window of %lld taps at %d places is too large",
                    (long long)taps, ar_shape_pixels(*out));
}

void ar_window_range(int32_t o, int32_t stride, int32_t padding, int32_t kernel, int32_t extent_in,
                     int32_t *begin, int32_t *end) {
    int32_t start = o * stride - padding;
    *begin = start < 0 ? -start : 0;
    *end = start + kernel > extent_in ? extent_in - start : kernel;
}

int64_t ar_window_taps(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t padding) {
    int64_t taps = 0;
    for (int32_t o = 0; o < out; o++) {
        int32_t begin, end;
        ar_window_range(o, stride, padding, kernel, in, &begin, &end);
        taps += end - begin;
    }
    return taps;
}

int64_t ar_window_taps_2d(const ar_attributes *a, const ar_shape *in, const ar_shape *out) {
    return ar_window_taps(in->h, out->h, a->kernel[0], a->stride[0], a->padding[0]) *
           ar_window_taps(in->w, out->w, a->kernel[1], a->stride[1], a->padding[1]);
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
            ar_window_range(oy, a->stride[0], a->padding[0], a->kernel[0], in->h, &y0, &y1);
            ar_window_range(ox, a->stride[1], a->padding[1], a->kernel[1], in->w, &x0, &x1);
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
