/* When a convolution runs by Winograd's way, and its calls. The input gradient is the same
 * operation with the taps turned, channels and outputs exchanged, and padding 2 - p. */
#include "winograd.h"

#include "window.h"

/* Shapes of a pass: those of the layer, or of its gradient from output to input. */
static ar_winograd shapes(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                          int32_t tile, bool backward) {
    const ar_shape *from = backward ? out : in;
    return (ar_winograd){
        .m = tile,
        .channels = from->c,
        .outputs = backward ? in->c : out->c,
        .h = from->h,
        .w = from->w,
        .padding = {backward ? 2 - a->padding[0] : a->padding[0],
                    backward ? 2 - a->padding[1] : a->padding[1]},
    };
}

/* Points of one axis: of whole tiles, and of the rest, which takes a smaller one; 4 + 1 become 3 +
 * 2 (a level may do worse; which way is taken depends on the shapes alone). */
static int64_t points(int32_t out, int32_t tile) {
    int64_t whole = (int64_t)(out / tile) * (tile + 2);
    int32_t left = out % tile;
    if (left == 0) return whole;
    if (left == 1) return whole + (tile == 4 && out > 4 ? 3 : 4);
    return whole + left + 2;
}

static int64_t products(const ar_winograd *w, int32_t tile) {
    return points(ar_winograd_out(w, 0), tile) * points(ar_winograd_out(w, 1), tile);
}

int32_t ar_winograd_tile(const ar_op_setup *setup, bool backward) {
    const ar_attributes *a = setup->attributes;
    int32_t least = setup->kernels->winograd_channels, best = 0;
    for (int32_t axis = 0; axis < 2; axis++)
        if (a->kernel[axis] != 3 || a->stride[axis] != 1 || a->padding[axis] > 2 ||
            a->dilation[axis] != 1)
            return 0;
    if (a->groups != 1 || setup->first || least == 0 || setup->in[0].c < least ||
        setup->out.c < least)
        return 0;
    ar_winograd w = shapes(a, &setup->in[0], &setup->out, 0, backward);
    int64_t fewest = ar_window_taps_2d(a, &setup->in[0], &setup->out); /* also backward */
    for (int32_t tile = 2; tile <= setup->winograd; tile += 2) {
        int64_t cost = products(&w, tile) * 5 / 4; /* the transforms' share */
        if (cost >= fewest) continue;
        fewest = cost;
        best = tile;
    }
    return best;
}

void ar_winograd_pack_weight(const ar_op_setup *setup, int32_t tile, bool backward,
                             const ar_real *weight, ar_real *packed) {
    int64_t in = setup->in[0].c, out = setup->out.c;
    ar_winograd_pack call = {
        .m = tile,
        .channels = (int32_t)(backward ? out : in),
        .outputs = (int32_t)(backward ? in : out),
        .weights = weight,
        .output_stride = backward ? 9 : 9 * in,
        .channel_stride = backward ? 9 * in : 9,
        .turn = backward,
        .packed = packed,
    };
    setup->kernels->winograd_pack(&call);
}

size_t ar_winograd_scratch_size(const ar_op_setup *setup, int32_t tile, int32_t lanes,
                                bool backward) {
    ar_winograd call = shapes(setup->attributes, &setup->in[0], &setup->out, tile, backward);
    call.lanes = lanes;
    return setup->kernels->winograd_scratch(&call);
}

/* As a gemm's; a thread that has some of the outputs transforms all of the input. */
static bool share(const ar_op_call *call, ar_winograd *w) {
    int64_t weights = (int64_t)(w->m + 2) * (w->m + 2) * w->channels * w->outputs;
    if (call->parts <= 1) return true;
    if (weights > ar_shape_count(call->in[0]) * w->lanes)
        return ar_op_share(call, ar_block_count(w->outputs, call->kernels->gemm_block), &w->blocks);
    return ar_op_share(call, ar_winograd_tiles(w), &w->tiles);
}

void ar_winograd_forward(const ar_op_call *call, int32_t tile) {
    ar_winograd w = shapes(call->attributes, &call->in[0], &call->out, tile, false);
    w.lanes = call->lanes;
    w.x = call->x[0];
    w.weights = call->weight;
    w.bias = call->bias;
    w.bias_class = call->bias_class;
    w.residual = call->residual;
    w.y = call->y;
    w.relu = call->relu;
    w.mask = call->state;
    w.scratch = call->scratch;
    if (call->rows.end > 0) {
        int32_t all = ar_winograd_tiles(&w), columns = ar_block_count(call->out.w, tile);
        w.top = call->y_top;
        w.tiles.begin = call->rows.begin / tile * columns;
        w.tiles.end = call->rows.end == call->out.h ? all : call->rows.end / tile * columns;
    }
    if (share(call, &w)) call->kernels->winograd(&w);
}

void ar_winograd_backward(const ar_op_call *call, int32_t tile) {
    ar_winograd w = shapes(call->attributes, &call->in[0], &call->out, tile, true);
    if (call->dx[0] == NULL) return;
    w.lanes = call->lanes;
    w.x = call->dy;
    w.weights = call->weight;
    w.residual = call->accumulate[0] ? call->dx[0] : NULL;
    w.y = call->dx[0];
    w.gate = call->gate[0];
    w.scratch = call->scratch;
    call->kernels->winograd(&w);
}
