/* The first layer of a net of few channels. A quad has room for 4 channels, of which an image of
 * one fills a quarter; so the taps of a window's row lie side by side in quads instead, once for
 * each of its places: a tile [places][rows][quads][lanes][4], made before the layer runs. A
 * window's rows then lie side by side too. A tap outside the image has the code 0, which adds
 * nothing, as one that is left out. */
#include "engine.h"

static int32_t quads_of(int32_t bytes) {
    return bytes / 4 + (bytes % 4 != 0);
}

int32_t ar_stem_quads(const ar_engine_layer *layer) {
    const int32_t taps = layer->window.kernel[1], c = layer->in.c;
    if (layer->kind != AR_LAYER_GEMM || layer->input != 0 || layer->window.dilation[1] != 1)
        return 0;
    const int64_t own = ((int64_t)taps * c + 3) / 4, old = (int64_t)taps * quads_of(c);
    const int64_t all = (int64_t)layer->in.h * layer->out.w; /* rows of windows */
    return own < old && own <= INT32_MAX / (4 * AR_MAX_LANES) / all ? (int32_t)own : 0;
}

size_t ar_stem_bytes(const ar_engine_layer *layer) {
    return (size_t)layer->in.h * (size_t)layer->out.w * (size_t)layer->stem * 4 * AR_MAX_LANES;
}

int32_t ar_stem_list(const ar_engine_layer *layer, int32_t y, int32_t x, ar_segment *out) {
    const ar_attributes *a = &layer->window;
    const int32_t q = layer->stem;
    int32_t begin, end, count = 0;
    ar_window_range(a, 0, y, layer->in.h, &begin, &end);
    const int32_t side = a->dilation[0] == 1 ? end - begin : 1; /* rows of one segment */
    for (int32_t ky = begin; ky < end; ky += side, count++) {
        const int32_t row = y * a->stride[0] - a->padding[0] + ky * a->dilation[0];
        if (out != NULL) out[count] = (ar_segment){(x * layer->in.h + row) * q, ky * q, side * q};
    }
    return count;
}

void ar_stem_gather(const ar_engine_layer *layer, const ar_kernels *kernels, int32_t lanes,
                    const uint8_t *x, uint8_t *y) {
    const ar_qrows call = {.lanes = lanes,
                           .channels = layer->in.c,
                           .h = layer->in.h,
                           .w = layer->in.w,
                           .places = layer->out.w,
                           .taps = layer->window.kernel[1],
                           .stride = layer->window.stride[1],
                           .padding = layer->window.padding[1],
                           .quads = layer->stem,
                           .x = x,
                           .y = y};
    kernels->qrows(&call);
}
