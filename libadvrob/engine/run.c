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
    const int32_t *kernel = layer->window.kernel;
    const uint8_t *x = codes(engine, room, layer->input);
    int32_t rows = kernel[0] * kernel[1] * ((layer->in.c + 3) / 4);
    if (layer->stem > 0) {
        uint8_t *tile = room->memory + engine->stem;
        ar_stem_gather(layer, engine->ctx->kernels, lanes, x, tile);
        x = tile;
        rows = kernel[0] * layer->stem;
    }
    ar_qgemm call = {.lanes = lanes,
                     .pixels = ar_shape_pixels(layer->out),
                     .outputs = layer->out.c,
                     .rows = rows,
                     .x_high = engine->values[layer->input].high,
                     .x = x,
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

static void run_avg_pool(const advrob_engine *engine, ar_engine_room *room,
                         const ar_engine_layer *layer, int32_t lanes) {
    const ar_engine_value *in = &engine->values[layer->input];
    const ar_engine_value *out = &engine->values[layer->output];
    const int32_t taps = layer->window.kernel[0] * layer->window.kernel[1];
    ar_qmean call = {.pool = {.lanes = lanes,
                              .quads = (layer->in.c + 3) / 4,
                              .pixels_out = ar_shape_pixels(layer->out),
                              .first = layer->first,
                              .index = layer->pool_index,
                              .x = codes(engine, room, layer->input),
                              .y = codes(engine, room, layer->output)},
                     .channels = layer->in.c,
                     .x_zero = in->zero,
                     .zero = out->zero,
                     .low = layer->low,
                     .high = layer->high,
                     .scale = (float)((double)in->scale / taps / (double)out->scale)};
    engine->ctx->kernels->qavg_pool(&call);
}

static void run_concat(const advrob_engine *engine, ar_engine_room *room,
                       const ar_engine_layer *layer, int32_t lanes) {
    ar_qjoin call = {.lanes = lanes,
                     .pixels = ar_shape_pixels(layer->out),
                     .channels = {layer->in.c, layer->out.c - layer->in.c},
                     .x = {codes(engine, room, layer->input), codes(engine, room, layer->residual)},
                     .table = {layer->tables, layer->tables + 256},
                     .y = codes(engine, room, layer->output)};
    engine->ctx->kernels->qconcat(&call);
}

/* By the same rule as a layer's residual, with the input's code for the sum. */
static void run_add(const advrob_engine *engine, ar_engine_room *room, const ar_engine_layer *layer,
                    int32_t lanes) {
    const ar_engine_value *a = &engine->values[layer->input];
    const ar_engine_value *b = &engine->values[layer->residual];
    const ar_engine_value *out = &engine->values[layer->output];
    const ar_qadd call = {.n = (int64_t)ar_shape_pixels(layer->out) * ((layer->out.c + 3) / 4) *
                               lanes * 4,
                          .a = codes(engine, room, layer->input),
                          .b = codes(engine, room, layer->residual),
                          .a_zero = a->zero,
                          .b_zero = b->zero,
                          .a_scale = a->scale / out->scale,
                          .b_scale = b->scale / out->scale,
                          .zero = out->zero,
                          .low = layer->low,
                          .high = layer->high,
                          .y = codes(engine, room, layer->output)};
    engine->ctx->kernels->qadd(&call);
}

/* New channels hold the code of 0. */
static void run_pad(const advrob_engine *engine, ar_engine_room *room, const ar_engine_layer *layer,
                    int32_t lanes) {
    const ar_qpad call = {.lanes = lanes,
                          .pixels = ar_shape_pixels(layer->out),
                          .channels = layer->in.c,
                          .before = layer->window.before,
                          .channels_out = layer->out.c,
                          .fill = engine->values[layer->output].zero,
                          .x = codes(engine, room, layer->input),
                          .y = codes(engine, room, layer->output)};
    engine->ctx->kernels->qpad(&call);
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

void ar_engine_run_layer(const advrob_engine *engine, ar_engine_room *room, int32_t i,
                         int32_t lanes) {
    const ar_engine_layer *layer = &engine->layers[i];
    if (layer->kind == AR_LAYER_GEMM)
        run_gemm(engine, room, layer, lanes);
    else if (layer->kind == AR_LAYER_MAX_POOL)
        run_max_pool(engine, room, layer, lanes);
    else if (layer->kind == AR_LAYER_AVG_POOL)
        run_avg_pool(engine, room, layer, lanes);
    else if (layer->kind == AR_LAYER_CONCAT)
        run_concat(engine, room, layer, lanes);
    else if (layer->kind == AR_LAYER_PAD)
        run_pad(engine, room, layer, lanes);
    else
        run_add(engine, room, layer, lanes);
}

static void run_layers(const advrob_engine *engine, ar_engine_room *room, int32_t lanes) {
    for (int32_t i = 0; i < engine->layer_count; i++)
        ar_engine_run_layer(engine, room, i, lanes);
}

/* An input of fewer than 8 bits has fewer codes than the slot makes. */
static void limit_codes(const advrob_engine *engine, ar_engine_room *room, int32_t lanes) {
    const ar_engine_value *input = &engine->values[0];
    const uint8_t high = (uint8_t)input->high;
    uint8_t *x = codes(engine, room, 0);
    if (high == 255) return;
    const int64_t n =
        (int64_t)ar_shape_pixels(input->shape) * ((input->shape.c + 3) / 4) * 4 * lanes;
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] < high ? x[i] : high;
}

void ar_engine_run_layers(const advrob_engine *engine, uint8_t *memory, int32_t lanes,
                          int32_t count, const float *x) {
    ar_engine_room room = {.memory = memory};
    engine->ctx->kernels->qload(lanes, count, engine->shape.c, ar_shape_pixels(engine->shape), x,
                                engine->input_scale, engine->input_zero, codes(engine, &room, 0));
    limit_codes(engine, &room, lanes);
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
