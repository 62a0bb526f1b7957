/* What an engine needs on this machine: index lists, packed weights, one plan of memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static int32_t take(advrob_engine *engine, size_t count, size_t size, void *field) {
    void *block = NULL;
    int32_t status = ar_arena_alloc(&engine->arena, count, size, "engine", &block);
    memcpy(field, &block, sizeof block);
    return status;
}

static int32_t quads(ar_shape shape) {
    return (shape.c + 3) / 4;
}

/* ---- Layers ---- */

/* The segments of an output pixel (into NULL: none): one a row of taps that lie side by side in the
 * input; returns how many. */
static int32_t list_taps(const ar_engine_layer *layer, int32_t y, int32_t x, ar_segment *out) {
    const ar_attributes *a = &layer->window;
    const int32_t q = quads(layer->in);
    int32_t y0, y1, x0, x1, count = 0;
    if (layer->stem > 0) return ar_stem_list(layer, y, x, out);
    ar_window_range(a, 0, y, layer->in.h, &y0, &y1);
    ar_window_range(a, 1, x, layer->in.w, &x0, &x1);
    const int32_t side = a->dilation[1] == 1 ? x1 - x0 : 1; /* taps of one segment */
    for (int32_t ky = y0; ky < y1; ky++)
        for (int32_t kx = x0; kx < x1; kx += side, count++) {
            const int32_t row = y * a->stride[0] - a->padding[0] + ky * a->dilation[0];
            const int32_t column = x * a->stride[1] - a->padding[1] + kx * a->dilation[1];
            if (out != NULL)
                out[count] = (ar_segment){(row * layer->in.w + column) * q,
                                          (ky * a->kernel[1] + kx) * q, side * q};
        }
    return count;
}

static int32_t prepare_lists(advrob_engine *engine, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK, count = 0, p = 0;
    const int32_t pixels = ar_shape_pixels(layer->out);
    layer->stem = ar_stem_quads(layer);
    AR_TRY(take(engine, (size_t)pixels + 1, sizeof(int32_t), &layer->first));
    for (int32_t y = 0; y < layer->out.h; y++)
        for (int32_t x = 0; x < layer->out.w; x++) {
            layer->first[p++] = count;
            count += list_taps(layer, y, x, NULL);
        }
    layer->first[p] = count;
    AR_TRY(take(engine, (size_t)count, sizeof(ar_segment), &layer->segments));
    for (p = 0; p < pixels; p++)
        list_taps(layer, p / layer->out.w, p % layer->out.w, layer->segments + layer->first[p]);
    if (layer->kind == AR_LAYER_GEMM) return ADVROB_OK;
    /* A pooling's segments are single pixels, a row of taps at a time. */
    const int32_t q = quads(layer->in);
    int32_t taps = 0;
    for (int32_t s = 0; s < count; s++)
        taps += layer->segments[s].k / q;
    AR_TRY(take(engine, (size_t)taps, sizeof(int32_t), &layer->pool_index));
    taps = 0;
    for (p = 0; p < pixels; p++) {
        const int32_t begin = layer->first[p], end = layer->first[p + 1];
        layer->first[p] = taps;
        for (int32_t s = begin; s < end; s++)
            for (int32_t k = 0; k < layer->segments[s].k / q; k++)
                layer->pool_index[taps++] = layer->segments[s].x / q + k;
    }
    layer->first[pixels] = taps;
out:
    return status;
}

/* By the rule of the slots, for every code that there is. */
static int32_t prepare_tables(advrob_engine *engine, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    const ar_engine_value *out = &engine->values[layer->output];
    AR_TRY(take(engine, 2, 256, &layer->tables));
    for (int32_t k = 0; k < 2; k++) {
        const ar_engine_value *in = &engine->values[k == 0 ? layer->input : layer->residual];
        const float scale = in->scale / out->scale;
        for (int32_t code = 0; code < 256; code++) {
            const float v = (float)(code - in->zero) * scale;
            const float q = rintf(v) + (float)out->zero;
            layer->tables[k * 256 + code] =
                (uint8_t)fminf(fmaxf(q, (float)layer->low), (float)layer->high);
        }
    }
out:
    return status;
}

/* Weights in the order of the lists, packed; biases and scales filled up to blocks of 4. */
static int32_t prepare_gemm(advrob_engine *engine, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    const ar_kernels *kernels = engine->ctx->kernels;
    const int32_t outputs = layer->out.c, padded = (outputs + 3) / 4 * 4, q = quads(layer->in);
    const int32_t wide = layer->window.kernel[1], taps = layer->window.kernel[0] * wide;
    const int32_t rows = layer->stem > 0 ? layer->window.kernel[0] * layer->stem : taps * q;
    const int32_t high = engine->values[layer->input].high;
    void *block = NULL;
    size_t bytes = 0;
    if (!ar_mul((size_t)outputs * 4, (size_t)rows, &bytes))
        AR_FAIL(ADVROB_E_OVERFLOW, "engine: layer %s does not fit", layer->name);
    AR_TRY(ar_calloc(&engine->ctx->memory, bytes, 1, "weights", &block));
    int8_t *w = block;
    for (int32_t o = 0; o < outputs; o++)
        for (int32_t c = 0; c < layer->in.c; c++)
            for (int32_t t = 0; t < taps; t++) {
                const int32_t at = layer->stem > 0
                                       ? t / wide * layer->stem * 4 + t % wide * layer->in.c + c
                                       : t * q * 4 + c;
                w[(int64_t)o * rows * 4 + at] =
                    layer->weights[((int64_t)o * layer->in.c + c) * taps + t];
            }
    AR_TRY(take(engine, kernels->qgemm_size(outputs, rows, high), 1, &layer->packed));
    kernels->qgemm_pack(outputs, rows, high, w, layer->packed);
    AR_TRY(take(engine, (size_t)padded, sizeof(float), &layer->scale_padded));
    memcpy(layer->scale_padded, layer->scale, sizeof(float) * (size_t)outputs);
    AR_TRY(take(engine, (size_t)padded * (size_t)layer->classes, sizeof(int32_t),
                &layer->bias_padded));
    for (int32_t k = 0; k < layer->classes; k++)
        memcpy(layer->bias_padded + (int64_t)k * padded, layer->bias + (int64_t)k * outputs,
               sizeof(int32_t) * (size_t)outputs);
    if (layer->classes == 1) goto out;
    AR_TRY(take(engine, (size_t)ar_shape_pixels(layer->out), sizeof(int32_t), &layer->bias_class));
    ar_border_classes(&layer->window, &layer->in, &layer->out, layer->bias_class);
out:
    ar_free(&engine->ctx->memory, block);
    return status;
}

/* ---- Memory ---- */

static bool live_together(const ar_engine_value *a, const ar_engine_value *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* First fit, in the order of making: the lowest place beside all that are needed meanwhile. */
static int32_t plan(advrob_engine *engine) {
    size_t end = 0;
    for (int32_t i = 0; i < engine->value_count; i++) {
        ar_engine_value *v = &engine->values[i];
        size_t bytes = 0;
        if (!ar_mul((size_t)ar_shape_pixels(v->shape) * (size_t)quads(v->shape), 4 * AR_MAX_LANES,
                    &bytes) ||
            !ar_align_up(bytes, &v->bytes))
            return ar_error(ADVROB_E_OVERFLOW, "engine: a value does not fit");
        v->offset = 0;
        for (int32_t k = 0; k < i; k++) {
            const ar_engine_value *other = &engine->values[k];
            if (!(engine->keep || live_together(v, other)) ||
                other->offset >= v->offset + v->bytes || v->offset >= other->offset + other->bytes)
                continue;
            v->offset = other->offset + other->bytes;
            k = -1; /* against all of them again */
        }
        if (v->offset + v->bytes > end) end = v->offset + v->bytes;
    }
    const ar_engine_layer *last = &engine->layers[engine->layer_count - 1];
    engine->sums = end;
    engine->stem = end + (size_t)ar_shape_pixels(last->out) * (size_t)quads(last->out) * 4 *
                             AR_MAX_LANES * sizeof(int32_t);
    engine->room = engine->stem;
    for (int32_t i = 0; i < engine->layer_count; i++) { /* one after the other at the same place */
        const size_t bytes = ar_stem_bytes(&engine->layers[i]);
        if (engine->stem + bytes > engine->room) engine->room = engine->stem + bytes;
    }
    return ADVROB_OK;
}

int32_t ar_engine_check_sums(const advrob_engine *engine, const ar_engine_layer *layer) {
    const int64_t per = (int64_t)layer->in.c * layer->window.kernel[0] * layer->window.kernel[1];
    const int32_t high = engine->values[layer->input].high;
    for (int32_t o = 0; o < layer->out.c; o++) {
        int64_t reach = 0, bias = 0;
        for (int64_t i = 0; i < per; i++)
            reach += abs(layer->weights[o * per + i]);
        for (int32_t k = 0; k < layer->classes; k++) {
            const int64_t b = llabs(layer->bias[(int64_t)k * layer->out.c + o]);
            bias = b > bias ? b : bias;
        }
        reach = reach * high + bias;
        if (reach > INT32_MAX)
            return ar_error(ADVROB_E_RANGE,
                            "engine: layer %s, output %d: sums reach %lld, expected less than 2^31",
                            layer->name, o, (long long)reach);
    }
    return ADVROB_OK;
}

/* By the rule of the slot that makes codes from floats, up to the input's largest. */
static int32_t prepare_bytes(advrob_engine *engine) {
    int32_t status = ADVROB_OK;
    const int32_t channels = engine->shape.c;
    const uint8_t high = (uint8_t)engine->values[0].high;
    AR_TRY(take(engine, (size_t)channels, 256, &engine->byte_codes));
    for (int32_t c = 0; c < channels; c++)
        for (int32_t k = 0; k < 256; k++) {
            const float x =
                (float)(engine->low[c] + k / 255.0 * (engine->high[c] - engine->low[c]));
            uint8_t tile[4 * AR_MAX_LANES];
            engine->ctx->kernels->qload(8, 1, 1, 1, &x, engine->input_scale + c,
                                        engine->input_zero + c, tile);
            engine->byte_codes[c * 256 + k] = tile[0] < high ? tile[0] : high;
        }
out:
    return status;
}

int32_t ar_engine_prepare(advrob_engine *engine) {
    int32_t status = ADVROB_OK;
    AR_TRY(prepare_bytes(engine));
    for (int32_t i = 0; i < engine->layer_count; i++) {
        ar_engine_layer *layer = &engine->layers[i];
        if (layer->kind == AR_LAYER_GEMM || layer->kind == AR_LAYER_MAX_POOL ||
            layer->kind == AR_LAYER_AVG_POOL)
            AR_TRY(prepare_lists(engine, layer));
        if (layer->kind == AR_LAYER_CONCAT) AR_TRY(prepare_tables(engine, layer));
        if (layer->kind == AR_LAYER_GEMM) AR_TRY(prepare_gemm(engine, layer));
    }
    AR_TRY(plan(engine));
out:
    return status;
}

/* ---- Engines ---- */

int32_t ar_engine_new(advrob_context *ctx, ar_shape shape, advrob_engine **out) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    const size_t channels = (size_t)shape.c;
    double *doubles;
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof(advrob_engine), "engine", &block));
    advrob_engine *engine = block;
    engine->ctx = ctx;
    engine->references = 1;
    engine->shape = shape;
    ar_context_retain(ctx);
    ar_arena_init(&engine->arena, &ctx->memory);
    (void)pthread_mutex_init(&engine->lock, NULL);
    *out = engine;
    AR_TRY(take(engine, 5 * channels, sizeof(double), &doubles));
    engine->low = doubles;
    engine->high = doubles + channels;
    engine->unit = doubles + 2 * channels;
    engine->input_scale = doubles + 3 * channels;
    engine->input_zero = doubles + 4 * channels;
out:
    return status;
}

void ar_engine_retain(advrob_engine *engine) {
    engine->references++;
}

void ar_engine_release(advrob_engine *engine) {
    if (engine == NULL || --engine->references > 0) return;
    advrob_context *ctx = engine->ctx;
    while (engine->spare != NULL) {
        ar_engine_room *next = engine->spare->next;
        ar_free(&ctx->memory, engine->spare);
        engine->spare = next;
    }
    (void)pthread_mutex_destroy(&engine->lock);
    ar_arena_free(&engine->arena);
    ar_free(&ctx->memory, engine);
    ar_context_release(ctx);
}
