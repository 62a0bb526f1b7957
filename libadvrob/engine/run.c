/* Running an engine: tiles of images, each through all layers in a room of its own. */
#include "engine.h"

#include <string.h>

int32_t ar_engine_room_take(advrob_engine *engine, ar_engine_room **out) {
    void *block = NULL;
    pthread_mutex_lock(&engine->lock);
    *out = engine->spare;
    if (*out != NULL) engine->spare = (*out)->next;
    pthread_mutex_unlock(&engine->lock);
    if (*out != NULL) return ADVROB_OK;
    int32_t status =
        ar_alloc(&engine->ctx->memory, AR_ALIGN + engine->room, "engine's room", &block);
    if (status < 0) return status;
    *out = block;
    (*out)->memory = (uint8_t *)block + AR_ALIGN;
    return ADVROB_OK;
}

void ar_engine_room_give(advrob_engine *engine, ar_engine_room *room) {
    if (room == NULL) return;
    pthread_mutex_lock(&engine->lock);
    room->next = engine->spare;
    engine->spare = room;
    pthread_mutex_unlock(&engine->lock);
}

static uint8_t *codes(const advrob_engine *engine, const ar_engine_room *room, int32_t value) {
    return room->memory + engine->values[value].offset;
}

static void run_gemm(const advrob_engine *engine, ar_engine_room *room,
                     const ar_engine_layer *layer, int32_t lanes) {
    const int32_t taps = layer->window.kernel[0] * layer->window.kernel[1];
    ar_qgemm call = {.lanes = lanes,
                     .pixels = ar_shape_pixels(layer->out),
                     .outputs = layer->out.c,
                     .rows = taps * ((layer->in.c + 3) / 4),
                     .narrow = layer->narrow,
                     .x = codes(engine, room, layer->input),
                     .w = layer->packed,
                     .first = layer->first,
                     .segments = layer->segments,
                     .bias = layer->bias_padded,
                     .bias_class = layer->bias_class,
                     .scale = layer->scale_padded,
                     .low = layer->low,
                     .high = layer->high};
    if (layer->residual >= 0) {
        call.residual = codes(engine, room, layer->residual);
        call.residual_zero = engine->values[layer->residual].zero;
        call.residual_scale =
            engine->values[layer->residual].scale / engine->values[layer->output].scale;
    }
    if (layer->output >= 0) {
        call.zero = engine->values[layer->output].zero;
        call.y = codes(engine, room, layer->output);
    } else {
        call.sums = (int32_t *)(void *)(room->memory + engine->sums);
    }
    engine->ctx->kernels->qgemm(&call);
}

static void run_max_pool(const advrob_engine *engine, ar_engine_room *room,
                         const ar_engine_layer *layer, int32_t lanes) {
    ar_qpool call = {.lanes = lanes,
                     .quads = (layer->in.c + 3) / 4,
                     .pixels_out = ar_shape_pixels(layer->out),
                     .first = layer->first,
                     .index = layer->pool_index,
                     .x = codes(engine, room, layer->input),
                     .y = codes(engine, room, layer->output)};
    engine->ctx->kernels->qmax_pool(&call);
}

/* Sums [pixels][outputs][lanes] times their scales to logits [count][outputs][pixels]. */
static void store_logits(const advrob_engine *engine, const ar_engine_room *room, int32_t lanes,
                         int32_t count, float *logits) {
    const ar_engine_layer *last = &engine->layers[engine->layer_count - 1];
    const int32_t *sums = (const int32_t *)(const void *)(room->memory + engine->sums);
    const int32_t pixels = ar_shape_pixels(last->out), padded = (last->out.c + 3) / 4 * 4;
    for (int32_t l = 0; l < count; l++)
        for (int32_t o = 0; o < last->out.c; o++)
            for (int32_t p = 0; p < pixels; p++)
                *logits++ =
                    (float)sums[((int64_t)p * padded + o) * lanes + l] * last->scale_padded[o];
}

void ar_engine_run_tile(const advrob_engine *engine, ar_engine_room *room, int32_t count,
                        const float *x, float *logits) {
    const int32_t lanes = count <= 8 ? 8 : AR_MAX_LANES;
    engine->ctx->kernels->qload(lanes, count, engine->shape.c, ar_shape_pixels(engine->shape), x,
                                engine->input_scale, engine->input_zero, codes(engine, room, 0));
    for (int32_t i = 0; i < engine->layer_count; i++) {
        const ar_engine_layer *layer = &engine->layers[i];
        if (layer->kind == AR_LAYER_GEMM)
            run_gemm(engine, room, layer, lanes);
        else
            run_max_pool(engine, room, layer, lanes);
    }
    store_logits(engine, room, lanes, count, logits);
}

typedef struct run_job {
    advrob_engine *engine;
    int64_t n;
    int32_t tile;
    const float *x;
    float *logits;
} run_job;

static int32_t run_piece(void *arg, int64_t piece, int32_t worker) {
    const run_job *job = arg;
    const int64_t first = piece * job->tile, left = job->n - first;
    const int32_t count = left < job->tile ? (int32_t)left : job->tile;
    ar_engine_room *room = NULL;
    (void)worker;
    int32_t status = ar_engine_room_take(job->engine, &room);
    if (status < 0) return status;
    ar_engine_run_tile(job->engine, room, count,
                       job->x + first * ar_shape_count(job->engine->shape),
                       job->logits + first * job->engine->classes);
    ar_engine_room_give(job->engine, room);
    return ADVROB_OK;
}

int32_t ar_engine_run(advrob_engine *engine, int64_t n, const float *x, float *logits) {
    const int32_t tile = n <= 8 ? 8 : AR_MAX_LANES;
    run_job job = {engine, n, tile, x, logits};
    return ar_parallel(engine->ctx, (n + tile - 1) / tile, run_piece, NULL, &job);
}
