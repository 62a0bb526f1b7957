/* One operator on plain images [n, c, h, w], straight through its descriptor: tiles are cut and put
 * together here, apart from the library. Include support.h and golden.h first. */
#ifndef TEST_ONE_OP_H
#define TEST_ONE_OP_H

#include "op/op.h"

#define ONE_OP_TILES 8

typedef struct one_op {
    const ar_kernels *kernels;
    const ar_op *op;
    ar_attributes attributes;
    ar_shape in[AR_MAX_INPUTS], out;
    int32_t lanes, tiles;
    int64_t n;
    ar_parameter_shape shapes[AR_MAX_PARAMETERS];
    int64_t parameters[AR_MAX_PARAMETERS]; /* number of values: weight, bias */
    ar_arena arena;
    ar_op_setup setup;
    const void *prepared;
    /* Plain: inputs and parameters in, results out. */
    ar_real *x[AR_MAX_INPUTS], *y, *dy, *dx[AR_MAX_INPUTS];
    ar_real *weight, *bias, *dweight, *dbias;
    ar_real *mean, *var; /* running statistics, which one_op_open makes up */
    ar_real *border;     /* a border bias, made up likewise */
    ar_norm norm;        /* of a batch norm, frozen */
    /* Packed. */
    ar_real *forward, *backward, *scratch, *room[2];
    ar_real *tile_x[ONE_OP_TILES][AR_MAX_INPUTS], *tile_y[ONE_OP_TILES], *tile_dy[ONE_OP_TILES];
    uint8_t *state[ONE_OP_TILES];
} one_op;

/* Exactly `size` bytes, aligned as the kernels want it, full of NaN. */
static inline void *one_op_block(size_t size) {
    void *block = NULL;
    if (posix_memalign(&block, 64, size == 0 ? 1 : size) != 0) fail_msg("no memory");
    memset(block, 0xff, size);
    return block;
}

static inline ar_real *one_op_reals(int64_t count) {
    return one_op_block(sizeof(ar_real) * (size_t)count);
}

static inline int32_t one_op_count(const one_op *o, int32_t tile) {
    int64_t left = o->n - (int64_t)tile * o->lanes;
    return left < o->lanes ? (int32_t)left : o->lanes;
}

static inline void one_op_open(one_op *o, advrob_context *ctx, const ar_kernels *kernels,
                               const char *name, const ar_attributes *attributes,
                               const ar_shape in[AR_MAX_INPUTS], int32_t lanes, int64_t n,
                               int32_t winograd) {
    memset(o, 0, sizeof *o);
    *o = (one_op){.kernels = kernels,
                  .op = ar_op_find(name),
                  .attributes = *attributes,
                  .lanes = lanes,
                  .n = n,
                  .tiles = (int32_t)((n + lanes - 1) / lanes)};
    if (o->op == NULL) fail_msg("no operator %s", name);
    assert_in_range(o->tiles, 1, ONE_OP_TILES);
    memcpy(o->in, in, sizeof o->in);
    ar_op_attributes_fill(&o->attributes);
    ar_arena_init(&o->arena, &ctx->memory);
    test_ok(o->op->infer(&o->attributes, o->in, &o->out));
    o->setup = (ar_op_setup){.attributes = &o->attributes,
                             .in = {o->in[0], o->in[1]},
                             .out = o->out,
                             .kernels = kernels,
                             .winograd = winograd,
                             .arena = &o->arena};
    if (o->op->prepare != NULL) test_ok(o->op->prepare(&o->setup, &o->prepared));
    if (o->op->parameters != NULL) o->op->parameters(&o->attributes, o->in, o->shapes);
    for (int32_t i = 0; i < AR_MAX_PARAMETERS; i++)
        if (o->shapes[i].rank > 0)
            assert_true(ar_product(o->shapes[i].shape, o->shapes[i].rank, &o->parameters[i]));
    int64_t weights = o->parameters[0];
    o->weight = one_op_reals(weights);
    o->dweight = one_op_reals(weights);
    o->bias = one_op_reals(o->parameters[1]);
    o->dbias = one_op_reals(o->parameters[1]);
    o->mean = one_op_reals(o->parameters[AR_RUNNING_MEAN]);
    o->var = one_op_reals(o->parameters[AR_RUNNING_VAR]);
    for (int64_t c = 0; c < o->parameters[AR_RUNNING_VAR]; c++) {
        o->mean[c] = (ar_real)(c % 5 - 2) / 4;
        o->var[c] = (ar_real)(c % 7 + 1) / 4;
    }
    o->border = one_op_reals(o->parameters[AR_BORDER_BIAS]);
    for (int64_t i = 0; i < o->parameters[AR_BORDER_BIAS]; i++)
        o->border[i] = (ar_real)(i % 11 - 5) / 4;
    int64_t packed[2] = {weights, weights};
    if (o->op->packed_count != NULL) o->op->packed_count(&o->setup, o->prepared, packed);
    o->forward = one_op_reals(packed[0]);
    o->backward = one_op_reals(packed[1]);
    for (int32_t i = 0; i < 2 && o->op->scratch_size != NULL; i++)
        o->room[i] = one_op_block(o->op->scratch_size(&o->setup, o->prepared, lanes, i == 1));
    o->scratch = one_op_reals(weights);
    o->y = one_op_reals(n * ar_shape_count(o->out));
    o->dy = one_op_reals(n * ar_shape_count(o->out));
    for (int32_t k = 0; k < o->op->inputs; k++) {
        o->x[k] = one_op_reals(n * ar_shape_count(o->in[k]));
        o->dx[k] = one_op_reals(n * ar_shape_count(o->in[k]));
    }
    for (int32_t t = 0; t < o->tiles; t++) {
        for (int32_t k = 0; k < o->op->inputs; k++)
            o->tile_x[t][k] = one_op_reals(ar_shape_count(o->in[k]) * lanes);
        o->tile_y[t] = one_op_reals(ar_shape_count(o->out) * lanes);
        o->tile_dy[t] = one_op_reals(ar_shape_count(o->out) * lanes);
        if (o->op->state_size != NULL)
            o->state[t] = one_op_block(o->op->state_size(&o->out, lanes));
    }
}

static inline void one_op_close(one_op *o) {
    void *blocks[] = {o->border, o->weight,  o->dweight,  o->bias,    o->dbias,   o->mean,
                      o->var,    o->forward, o->backward, o->scratch, o->y,       o->dy,
                      o->x[0],   o->x[1],    o->dx[0],    o->dx[1],   o->room[0], o->room[1]};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        free(blocks[i]);
    for (int32_t t = 0; t < o->tiles; t++) {
        free(o->tile_x[t][0]);
        free(o->tile_x[t][1]);
        free(o->tile_y[t]);
        free(o->tile_dy[t]);
        free(o->state[t]);
    }
    ar_arena_free(&o->arena);
}

/* Between plain images and one tile; lanes past the last image are zero. */
static inline void one_op_tile(const one_op *o, int32_t tile, ar_shape shape, ar_real *plain,
                               ar_real *packed, bool out) {
    int32_t pixels = ar_shape_pixels(shape), count = one_op_count(o, tile);
    for (int32_t l = 0; l < o->lanes; l++)
        for (int32_t c = 0; c < shape.c; c++)
            for (int32_t p = 0; p < pixels; p++) {
                ar_real *inside = &packed[((int64_t)p * shape.c + c) * o->lanes + l];
                if (l >= count) {
                    if (!out) *inside = 0;
                    continue;
                }
                int64_t image = (int64_t)tile * o->lanes + l;
                ar_real *outside = &plain[(image * shape.c + c) * pixels + p];
                if (out)
                    *outside = *inside;
                else
                    *inside = *outside;
            }
}

static inline ar_op_call one_op_call(const one_op *o, int32_t t) {
    ar_op_call call = {.kernels = o->kernels,
                       .attributes = &o->attributes,
                       .prepared = o->prepared,
                       .lanes = o->lanes,
                       .count = one_op_count(o, t),
                       .norm = o->op->whole_batch ? &o->norm : NULL,
                       .in = {o->in[0], o->in[1]},
                       .out = o->out,
                       .state = o->state[t]};
    return call;
}

/* x -> y */
static inline void one_op_forward(one_op *o) {
    const ar_real *const values[AR_MAX_PARAMETERS] = {
        o->weight, o->parameters[1] > 0 ? o->bias : NULL, o->mean, o->var, o->border};
    if (o->op->pack != NULL) o->op->pack(&o->setup, o->prepared, values, o->forward, o->backward);
    o->norm = (ar_norm){.mean = o->mean, .scale = o->forward, .shift = o->bias};
    for (int32_t t = 0; t < o->tiles; t++) {
        ar_op_call call = one_op_call(o, t);
        for (int32_t k = 0; k < o->op->inputs; k++) {
            one_op_tile(o, t, o->in[k], o->x[k], o->tile_x[t][k], false);
            call.x[k] = o->tile_x[t][k];
        }
        call.y = o->tile_y[t];
        call.weight = o->forward;
        call.scratch = o->room[0];
        call.bias = o->parameters[1] > 0 ? o->bias : NULL;
        o->op->forward(&call);
        one_op_tile(o, t, o->out, o->y, o->tile_y[t], true);
    }
}

/* dy -> dx, dweight, dbias, after one_op_forward. accumulate: dx starts at 1. The parameters'
 * gradient is made in pieces of `piece` outputs. */
static inline void one_op_backward(one_op *o, bool accumulate, int32_t piece) {
    const ar_real *x[ONE_OP_TILES], *dy[ONE_OP_TILES];
    for (int32_t t = 0; t < o->tiles; t++) {
        ar_op_call call = one_op_call(o, t);
        one_op_tile(o, t, o->out, o->dy, o->tile_dy[t], false);
        x[t] = o->tile_x[t][0];
        call.dy = dy[t] = o->tile_dy[t];
        call.weight = o->backward;
        call.scratch = o->room[1];
        for (int32_t k = 0; k < o->op->inputs; k++) {
            int64_t count = ar_shape_count(o->in[k]) * o->lanes;
            call.dx[k] = one_op_reals(count);
            call.accumulate[k] = accumulate;
            for (int64_t i = 0; accumulate && i < count; i++)
                call.dx[k][i] = 1;
        }
        o->op->backward(&call);
        for (int32_t k = 0; k < o->op->inputs; k++) {
            one_op_tile(o, t, o->in[k], o->dx[k], call.dx[k], true);
            free(call.dx[k]);
        }
    }
    if (o->op->gradient == NULL) return;
    for (int32_t begin = 0; begin < o->out.c; begin += piece) {
        ar_op_gradient call = {.kernels = o->kernels,
                               .attributes = &o->attributes,
                               .prepared = o->prepared,
                               .lanes = o->lanes,
                               .tiles = o->tiles,
                               .in = o->in[0],
                               .out = o->out,
                               .x = x,
                               .dy = dy,
                               .begin = begin,
                               .end = begin + piece < o->out.c ? begin + piece : o->out.c,
                               .scratch = o->scratch,
                               .dweight = o->dweight,
                               .dbias = o->parameters[1] > 0 ? o->dbias : NULL};
        o->op->gradient(&call);
    }
}

#endif
