/* The engine's file (docs/file-format.md): flat, little-endian, with a checksum. What is stored is
 * what does not depend on the machine. */
#include <math.h>
#include <string.h>

#include "engine.h"

static const char magic[8] = "ADVROBQ";
/* LEAST_LAYER: bytes of a layer without arrays, and of its value. */
enum { VERSION = 1, HEADER = 24, MOST_LAYERS = 4096, LEAST_LAYER = AR_LAYER_NAME + 104 };

/* ---- Numbers as bytes, both ways ---- */

/* Writes where `out` is set, otherwise reads; a reader that ran out of bytes has failed. */
typedef struct stream {
    ar_buffer *out;
    const uint8_t *data;
    size_t left;
    bool failed;
} stream;

static void bytes(stream *s, void *values, size_t size) {
    if (s->out != NULL) {
        ar_buffer_bytes(s->out, values, size);
    } else if (size <= s->left) {
        memcpy(values, s->data, size);
        s->data += size;
        s->left -= size;
    } else {
        memset(values, 0, size);
        s->failed = true;
    }
}

/* n numbers of 4 or 8 bytes, the lowest byte first. */
static void numbers(stream *s, void *values, size_t size, int64_t n) {
    uint8_t *v = values, little[8] = {0};
    for (int64_t i = 0; i < n; i++, v += size) {
        uint64_t word = 0;
        uint32_t half = 0;
        if (s->out != NULL && size == 4) memcpy(&half, v, 4);
        if (s->out != NULL) memcpy(&word, v, size == 8 ? 8 : 0);
        if (size == 4) word = half;
        for (size_t k = 0; k < size; k++)
            little[k] = (uint8_t)(word >> (8 * k));
        bytes(s, little, size);
        if (s->out != NULL) continue;
        word = 0;
        for (size_t k = 0; k < size; k++)
            word |= (uint64_t)little[k] << (8 * k);
        half = (uint32_t)word;
        memcpy(v, size == 4 ? (void *)&half : (void *)&word, size);
    }
}

static void whole(stream *s, int32_t *value) {
    numbers(s, value, 4, 1);
}

static void shape(stream *s, ar_shape *value) {
    whole(s, &value->c);
    whole(s, &value->h);
    whole(s, &value->w);
}

static void pass_value(stream *s, ar_engine_value *v) {
    shape(s, &v->shape);
    whole(s, &v->zero);
    whole(s, &v->high);
    numbers(s, &v->scale, 4, 1);
}

/* All of a layer but its arrays. */
static void pass_layer(stream *s, ar_engine_layer *layer) {
    bytes(s, layer->name, sizeof layer->name);
    whole(s, &layer->kind);
    whole(s, &layer->input);
    whole(s, &layer->residual);
    whole(s, &layer->output);
    for (int32_t axis = 0; axis < 2; axis++) {
        whole(s, &layer->window.kernel[axis]);
        whole(s, &layer->window.stride[axis]);
        whole(s, &layer->window.padding[axis]);
        whole(s, &layer->window.dilation[axis]);
    }
    whole(s, &layer->window.before);
    whole(s, &layer->window.after);
    shape(s, &layer->out);
    whole(s, &layer->low);
    whole(s, &layer->high);
    whole(s, &layer->classes);
}

static int64_t weights_of(const ar_engine_layer *layer) {
    const int64_t factors[] = {layer->out.c, layer->in.c, layer->window.kernel[0],
                               layer->window.kernel[1]};
    int64_t count = -1;
    return ar_product(factors, 4, &count) ? count : -1;
}

static void pass_arrays(stream *s, ar_engine_layer *layer) {
    bytes(s, layer->weights, (size_t)weights_of(layer));
    numbers(s, layer->bias, 4, (int64_t)layer->classes * layer->out.c);
    numbers(s, layer->scale, 4, layer->out.c);
}

static void pass_frame(stream *s, advrob_engine *e) {
    const int64_t channels = e->shape.c;
    whole(s, &e->classes);
    whole(s, &e->value_count);
    whole(s, &e->layer_count);
    numbers(s, e->low, 8, channels);
    numbers(s, e->high, 8, channels);
    numbers(s, e->unit, 8, channels);
}

/* ---- Writing ---- */

int32_t ar_engine_save(const advrob_engine *engine, const char *path) {
    int32_t status = ADVROB_OK;
    advrob_engine copy = *engine; /* whose counts are passed by address, and only read */
    ar_buffer body, file;
    ar_buffer_init(&body, &engine->ctx->memory);
    ar_buffer_init(&file, &engine->ctx->memory);
    stream s = {.out = &body};
    shape(&s, &copy.shape);
    pass_frame(&s, &copy);
    for (int32_t i = 0; i < engine->value_count; i++)
        pass_value(&s, &engine->values[i]);
    for (int32_t i = 0; i < engine->layer_count; i++) {
        pass_layer(&s, &engine->layers[i]);
        if (engine->layers[i].kind == AR_LAYER_GEMM) pass_arrays(&s, &engine->layers[i]);
    }
    AR_TRY(ar_buffer_status(&body));
    uint32_t version = VERSION, crc = ar_crc32((const uint8_t *)body.data, body.length);
    uint64_t size = HEADER + body.length;
    char word[8];
    memcpy(word, magic, sizeof word);
    s = (stream){.out = &file};
    bytes(&s, word, sizeof word);
    numbers(&s, &version, 4, 1);
    numbers(&s, &crc, 4, 1);
    numbers(&s, &size, 8, 1);
    bytes(&s, body.data, body.length);
    AR_TRY(ar_buffer_status(&file));
    AR_TRY(ar_file_write(engine->ctx, path, file.data, file.length));
out:
    ar_buffer_free(&body);
    ar_buffer_free(&file);
    return status;
}

/* ---- Reading ---- */

typedef struct reader {
    const char *name; /* of the file */
    stream s;
    advrob_engine *engine;
} reader;

static int32_t refuse(const reader *r, const char *what, int64_t value, const char *wanted) {
    return ar_error(ADVROB_E_FORMAT, "%.200s: %s is %lld, expected %s", r->name, what,
                    (long long)value, wanted);
}

static int32_t refuse_layer(const reader *r, int32_t i, const char *what, int64_t value,
                            const char *wanted) {
    return ar_error(ADVROB_E_FORMAT, "%.200s, layer %d: %s is %lld, expected %s", r->name, i, what,
                    (long long)value, wanted);
}

static int32_t take(reader *r, size_t count, size_t size, void *field) {
    void *block = NULL;
    int32_t status = ar_arena_alloc(&r->engine->arena, count, size, "engine", &block);
    memcpy(field, &block, sizeof block);
    return status;
}

static int32_t read_header(reader *r, size_t size) {
    char word[8] = "";
    uint32_t version = 0, crc = 0;
    uint64_t told = 0;
    bytes(&r->s, word, sizeof word);
    numbers(&r->s, &version, 4, 1);
    numbers(&r->s, &crc, 4, 1);
    numbers(&r->s, &told, 8, 1);
    if (r->s.failed || memcmp(word, magic, sizeof magic) != 0)
        return ar_error(ADVROB_E_FORMAT, "%.200s: no engine file (%zu bytes)", r->name, size);
    if (version != VERSION)
        return ar_error(ADVROB_E_FORMAT, "%.200s: version %u, this library reads version %d",
                        r->name, version, VERSION);
    if (told != size)
        return ar_error(ADVROB_E_FORMAT,
                        "%.200s: %zu bytes, expected %llu: the file is cut or has bytes to spare",
                        r->name, size, (unsigned long long)told);
    if (crc != ar_crc32(r->s.data, r->s.left))
        return ar_error(ADVROB_E_FORMAT, "%.200s: the checksum does not fit: the file is damaged",
                        r->name);
    return ADVROB_OK;
}

static int32_t check_value(const reader *r, int32_t i) {
    const ar_engine_value *v = &r->engine->values[i];
    if (ar_shape_check("engine value", v->shape) < 0)
        return refuse(r, "a value's number of channels or pixels", v->shape.c, "a shape");
    if (v->high < 1 || v->high > 255)
        return refuse(r, "a value's largest code", v->high, "1 to 255");
    if (v->zero < 0 || v->zero > v->high)
        return refuse(r, "a value's zero", v->zero, "one of its codes");
    if (!isfinite(v->scale) || v->scale <= 0)
        return ar_error(ADVROB_E_FORMAT, "%.200s: value %d has the scale %g, expected more than 0",
                        r->name, i, (double)v->scale);
    return ADVROB_OK;
}

static bool same_shape(ar_shape a, ar_shape b) {
    return a.c == b.c && a.h == b.h && a.w == b.w;
}

/* The kind is known and what the layer reads is there. `made`: values so far. */
static int32_t check_links(const reader *r, int32_t i, int32_t made) {
    const ar_engine_layer *layer = &r->engine->layers[i];
    const bool last = i == r->engine->layer_count - 1;
    const bool pair = layer->kind == AR_LAYER_ADD || layer->kind == AR_LAYER_CONCAT;
    if (layer->kind < 0 || layer->kind >= AR_LAYER_KINDS)
        return refuse_layer(r, i, "the kind", layer->kind, "a known one");
    if (memchr(layer->name, 0, sizeof layer->name) == NULL)
        return refuse_layer(r, i, "the name's length", sizeof layer->name, "less");
    if (layer->input < 0 || layer->input >= made)
        return refuse_layer(r, i, "the input", layer->input, "a value made before");
    if (layer->residual < -1 || layer->residual >= made || (pair && layer->residual < 0))
        return refuse_layer(r, i, "the residual", layer->residual,
                            pair ? "a value made before" : "-1 or a value made before");
    if (layer->output != (last ? -1 : made))
        return refuse_layer(r, i, "the output", layer->output, last ? "-1" : "the next value");
    if (last && layer->kind != AR_LAYER_GEMM)
        return refuse_layer(r, i, "the last layer's kind", layer->kind, "a gemm");
    if (ar_shape_check("engine layer", layer->out) < 0)
        return refuse_layer(r, i, "the output's number of channels", layer->out.c, "a shape");
    return ADVROB_OK;
}

/* What a window makes of its input. */
static int32_t slide(const reader *r, int32_t i, ar_shape *out) {
    int32_t status = ADVROB_OK;
    const ar_engine_layer *layer = &r->engine->layers[i];
    const ar_attributes *window = &layer->window;
    char where[256];
    ar_format(where, sizeof where, "%.200s, layer %d", r->name, i);
    *out = layer->out;
    AR_TRY(ar_window_infer(where, window, &layer->in, out));
    if (layer->kind != AR_LAYER_GEMM) {
        out->c = layer->in.c;
        for (int32_t axis = 0; axis < 2; axis++)
            if (window->dilation[axis] != 1)
                return refuse_layer(r, i, "a pooling's dilation", window->dilation[axis], "1");
    }
    if (ar_window_check_lists(window, out) < 0)
        return refuse_layer(r, i, "the window's height", window->kernel[0],
                            "fewer taps and places");
out:
    return status < 0 ? ADVROB_E_FORMAT : status;
}

/* What the layer makes has the shape that its kind gives. */
static int32_t check_layer(const reader *r, int32_t i, int32_t made) {
    int32_t status = ADVROB_OK;
    const advrob_engine *e = r->engine;
    ar_engine_layer *layer = &e->layers[i];
    const bool last = i == e->layer_count - 1;
    AR_TRY(check_links(r, i, made));
    layer->in = e->values[layer->input].shape;
    const ar_shape *other = layer->residual < 0 ? NULL : &e->values[layer->residual].shape;
    ar_shape out = layer->in;
    int64_t channels = layer->in.c;
    if (layer->kind == AR_LAYER_PAD) {
        if (layer->window.before < 0 || layer->window.after < 0)
            return refuse_layer(r, i, "the number of channels before or after",
                                layer->window.before, "0 or more");
        channels += (int64_t)layer->window.before + layer->window.after;
    } else if (layer->kind == AR_LAYER_CONCAT) {
        if (other->h != out.h || other->w != out.w)
            return refuse_layer(r, i, "the height of what is joined", other->h, "the input's");
        channels += other->c;
    } else if (layer->kind != AR_LAYER_ADD) {
        AR_TRY(slide(r, i, &out));
        channels = out.c;
    }
    out.c = channels > AR_MAX_DIM ? -1 : (int32_t)channels;
    if (!same_shape(out, layer->out) || (!last && !same_shape(out, e->values[layer->output].shape)))
        return refuse_layer(r, i, "the output's number of values", ar_shape_count(layer->out),
                            "what the layer makes");
    if (other != NULL && layer->kind != AR_LAYER_CONCAT && (last || !same_shape(*other, out)))
        return refuse_layer(r, i, "the residual", layer->residual, "a value of the output's shape");
    /* Codes that pass on are no more than the next layer's sums were proven for. */
    const bool passes = layer->kind == AR_LAYER_MAX_POOL || layer->kind == AR_LAYER_PAD;
    if (passes && e->values[layer->output].high < e->values[layer->input].high)
        return refuse(r, "a value's largest code", e->values[layer->output].high, "the input's");
    if (!passes && !last &&
        (layer->low < 0 || layer->high > e->values[layer->output].high || layer->low > layer->high))
        return refuse_layer(r, i, "the lowest code", layer->low, "codes of the output");
out:
    return status;
}

static int32_t read_gemm(reader *r, int32_t i) {
    int32_t status = ADVROB_OK;
    ar_engine_layer *layer = &r->engine->layers[i];
    const int64_t weights = weights_of(layer), outputs = layer->out.c;
    const int32_t most = ar_border_classes(&layer->window, &layer->in, &layer->out, NULL);
    if (layer->classes != 1 && layer->classes != most)
        return refuse_layer(r, i, "the number of border classes", layer->classes,
                            "1 or that of the window");
    /* Before memory is taken: it cannot be more than the file has. */
    if (weights < 0 ||
        (uint64_t)weights + 4 * (uint64_t)outputs * ((uint64_t)layer->classes + 1) > r->s.left)
        return refuse_layer(r, i, "the number of weights", weights, "what the file holds");
    AR_TRY(take(r, (size_t)weights, 1, &layer->weights));
    AR_TRY(take(r, (size_t)outputs * (size_t)layer->classes, sizeof(int32_t), &layer->bias));
    AR_TRY(take(r, (size_t)outputs, sizeof(float), &layer->scale));
    pass_arrays(&r->s, layer);
    for (int64_t o = 0; o < outputs; o++)
        if (!isfinite(layer->scale[o]))
            AR_FAIL(ADVROB_E_FORMAT, "%.200s, layer %d: scale %lld is not finite", r->name, i,
                    (long long)o);
out:
    return status;
}

static int32_t read_frame(reader *r) {
    int32_t status = ADVROB_OK;
    advrob_engine *e = r->engine;
    pass_frame(&r->s, e);
    if (e->layer_count < 1 || e->layer_count > MOST_LAYERS)
        return refuse(r, "the number of layers", e->layer_count, "1 to 4096");
    if (e->value_count != e->layer_count)
        return refuse(r, "the number of values", e->value_count, "one a layer");
    if (r->s.failed || (uint64_t)e->layer_count * LEAST_LAYER > r->s.left)
        return refuse(r, "the number of layers", e->layer_count, "what the file holds");
    if (ar_check_box((size_t)e->shape.c, e->low, e->high, e->unit) < 0)
        return refuse(r, "the box of pixels", e->shape.c, "low below high and units above 0");
    AR_TRY(take(r, (size_t)e->value_count, sizeof *e->values, &e->values));
    AR_TRY(take(r, (size_t)e->layer_count, sizeof *e->layers, &e->layers));
    for (int32_t i = 0; i < e->value_count && !r->s.failed; i++) {
        pass_value(&r->s, &e->values[i]);
        AR_TRY(check_value(r, i));
    }
    if (!same_shape(e->values[0].shape, e->shape))
        return refuse(r, "the input's number of values", ar_shape_count(e->values[0].shape),
                      "that of an image");
out:
    return status;
}

/* Who needs a value until when, and what else follows from the layers. */
static int32_t connect(reader *r) {
    int32_t status = ADVROB_OK;
    advrob_engine *e = r->engine;
    for (int32_t i = 0; i < e->layer_count; i++) {
        ar_engine_layer *layer = &e->layers[i];
        e->values[layer->input].last = i;
        if (layer->residual >= 0) e->values[layer->residual].last = i;
        if (layer->output >= 0) {
            e->values[layer->output].first = i;
            e->values[layer->output].last = i;
        }
        if (layer->kind == AR_LAYER_GEMM) AR_TRY(ar_engine_check_sums(e, layer));
    }
    e->values[0].first = -1;
    for (int32_t c = 0; c < e->shape.c; c++) {
        e->input_scale[c] = (double)e->values[0].scale;
        e->input_zero[c] = e->values[0].zero;
    }
    if (ar_shape_count(e->layers[e->layer_count - 1].out) != e->classes)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: %d classes, the last layer makes %d numbers", r->name,
                e->classes, (int)ar_shape_count(e->layers[e->layer_count - 1].out));
out:
    return status;
}

int32_t ar_engine_parse(advrob_context *ctx, const char *name, const uint8_t *data, size_t size,
                        advrob_engine **out) {
    int32_t status = ADVROB_OK;
    reader r = {.name = name, .s = {.data = data, .left = size}};
    ar_shape input = {0, 0, 0};
    AR_TRY(read_header(&r, size));
    shape(&r.s, &input);
    if (ar_shape_check("engine input", input) < 0 || (uint64_t)input.c * 24 > r.s.left)
        return refuse(&r, "the number of channels", input.c, "a shape that the file has a box for");
    AR_TRY(ar_engine_new(ctx, input, &r.engine));
    AR_TRY(read_frame(&r));
    for (int32_t i = 0; i < r.engine->layer_count && !r.s.failed; i++) {
        pass_layer(&r.s, &r.engine->layers[i]);
        AR_TRY(check_layer(&r, i, i + 1));
        if (r.engine->layers[i].kind == AR_LAYER_GEMM) AR_TRY(read_gemm(&r, i));
    }
    if (r.s.failed || r.s.left > 0)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: %zu bytes too %s for its layers", name, r.s.left,
                r.s.failed ? "few" : "many");
    AR_TRY(connect(&r));
    AR_TRY(ar_engine_prepare(r.engine));
    *out = r.engine;
    r.engine = NULL;
out:
    ar_engine_release(r.engine);
    return status;
}

int32_t ar_engine_load(advrob_context *ctx, const char *path, advrob_engine **out) {
    uint8_t *data = NULL;
    size_t size = 0;
    int32_t status = ar_file_read(ctx, path, AR_ENGINE_LARGEST, &data, &size);
    if (status >= 0) status = ar_engine_parse(ctx, path, data, size, out);
    ar_free(&ctx->memory, data);
    return status;
}
