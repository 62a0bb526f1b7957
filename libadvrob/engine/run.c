/* Running an engine: tiles of images, each through all layers in a room of its own. */
#include "engine.h"

#include <math.h>
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

/* By the same rule as a layer's residual, with the input's code for the sum. */
static void run_add(const advrob_engine *engine, ar_engine_room *room, const ar_engine_layer *layer,
                    int32_t lanes) {
    const ar_engine_value *a = &engine->values[layer->input];
    const ar_engine_value *b = &engine->values[layer->residual];
    const ar_engine_value *out = &engine->values[layer->output];
    const uint8_t *x = codes(engine, room, layer->input);
    const uint8_t *r = codes(engine, room, layer->residual);
    uint8_t *y = codes(engine, room, layer->output);
    const float by_x = a->scale / out->scale, by_r = b->scale / out->scale;
    const float low = (float)layer->low, high = (float)layer->high, zero = (float)out->zero;
    const int32_t a_zero = a->zero, b_zero = b->zero;
    const int64_t n = (int64_t)ar_shape_pixels(layer->out) * ((layer->out.c + 3) / 4) * lanes * 4;
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(x[i] - a_zero) * by_x;
        v = v + (float)(r[i] - b_zero) * by_r;
        float q = rintf(v) + zero;
        q = q > low ? q : low;
        y[i] = (uint8_t)(q < high ? q : high);
    }
}

/* New channels hold the code of 0. */
static void run_pad(const advrob_engine *engine, ar_engine_room *room, const ar_engine_layer *layer,
                    int32_t lanes) {
    const uint8_t *x = codes(engine, room, layer->input);
    uint8_t *y = codes(engine, room, layer->output);
    const int32_t before = layer->window.before, channels = layer->in.c;
    const int32_t from = (channels + 3) / 4, to = (layer->out.c + 3) / 4;
    const int32_t zero = engine->values[layer->output].zero;
    for (int32_t p = 0; p < ar_shape_pixels(layer->out); p++)
        for (int32_t c = 0; c < to * 4; c++) {
            uint8_t *out = y + ((int64_t)p * to + c / 4) * lanes * 4 + c % 4;
            const int32_t k = c - before;
            const bool kept = k >= 0 && k < channels;
            const uint8_t *in = kept ? x + ((int64_t)p * from + k / 4) * lanes * 4 + k % 4 : x;
            for (int32_t l = 0; l < lanes; l++)
                out[l * 4] = kept ? in[l * 4] : (uint8_t)(c < layer->out.c ? zero : 0);
        }
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

static void load_bytes(const advrob_engine *engine, ar_engine_room *room, int32_t lanes,
                       int32_t count, const uint8_t *x) {
    const int32_t channels = engine->shape.c, pixels = ar_shape_pixels(engine->shape);
    const int32_t quads = (channels + 3) / 4;
    uint8_t *tile = codes(engine, room, 0);
    memset(tile, 0, (size_t)pixels * (size_t)quads * (size_t)lanes * 4);
    for (int32_t l = 0; l < count; l++)
        for (int32_t c = 0; c < channels; c++) {
            const uint8_t *table = engine->byte_codes + c * 256;
            uint8_t *out = tile + ((int64_t)(c / 4) * lanes + l) * 4 + c % 4;
            for (int32_t p = 0; p < pixels; p++, x++, out += (int64_t)quads * lanes * 4)
                *out = table[*x];
        }
}

static void run_layers(const advrob_engine *engine, ar_engine_room *room, int32_t lanes) {
    for (int32_t i = 0; i < engine->layer_count; i++) {
        const ar_engine_layer *layer = &engine->layers[i];
        if (layer->kind == AR_LAYER_GEMM)
            run_gemm(engine, room, layer, lanes);
        else if (layer->kind == AR_LAYER_MAX_POOL)
            run_max_pool(engine, room, layer, lanes);
        else if (layer->kind == AR_LAYER_PAD)
            run_pad(engine, room, layer, lanes);
        else
            run_add(engine, room, layer, lanes);
    }
}

void ar_engine_run_layers(const advrob_engine *engine, uint8_t *memory, int32_t lanes,
                          int32_t count, const float *x) {
    ar_engine_room room = {.memory = memory};
    engine->ctx->kernels->qload(lanes, count, engine->shape.c, ar_shape_pixels(engine->shape), x,
                                engine->input_scale, engine->input_zero, codes(engine, &room, 0));
    run_layers(engine, &room, lanes);
}

void ar_engine_run_tile(const advrob_engine *engine, ar_engine_room *room, int32_t count,
                        const float *x, float *logits) {
    const int32_t lanes = count <= 8 ? 8 : AR_MAX_LANES;
    ar_engine_run_layers(engine, room->memory, lanes, count, x);
    store_logits(engine, room, lanes, count, logits);
}

typedef struct run_job {
    advrob_engine *engine;
    int64_t n;
    int32_t tile;
    const float *x;
    const uint8_t *bytes; /* instead of x */
    float *logits;
} run_job;

static int32_t run_piece(void *arg, int64_t piece, int32_t worker) {
    const run_job *job = arg;
    const int64_t first = piece * job->tile, left = job->n - first;
    const int64_t at = first * ar_shape_count(job->engine->shape);
    const int32_t count = left < job->tile ? (int32_t)left : job->tile;
    float *logits = job->logits + first * job->engine->classes;
    ar_engine_room *room = NULL;
    (void)worker;
    int32_t status = ar_engine_room_take(job->engine, &room);
    if (status < 0) return status;
    if (job->bytes != NULL) {
        load_bytes(job->engine, room, job->tile, count, job->bytes + at);
        run_layers(job->engine, room, job->tile);
        store_logits(job->engine, room, job->tile, count, logits);
    } else {
        ar_engine_run_tile(job->engine, room, count, job->x + at, logits);
    }
    ar_engine_room_give(job->engine, room);
    return ADVROB_OK;
}

static int32_t run_all(run_job job) {
    job.tile = job.n <= 8 ? 8 : AR_MAX_LANES;
    return ar_parallel(job.engine->ctx, (job.n + job.tile - 1) / job.tile, run_piece, NULL, &job);
}

int32_t ar_engine_run(advrob_engine *engine, int64_t n, const float *x, float *logits) {
    return run_all((run_job){.engine = engine, .n = n, .x = x, .logits = logits});
}

int32_t ar_engine_run_bytes(advrob_engine *engine, int64_t n, const uint8_t *x, float *logits) {
    return run_all((run_job){.engine = engine, .n = n, .bytes = x, .logits = logits});
}
