/* Exact simulation: the engine's own integers inside the fake-quantized forward of the model that
 * it is lowered from. Values at quantization points and logits are the engine's, to the bit; floats
 * run beside them for what the way back needs (masks, choices of poolings). */
#include "lower.h"
#include "model/program.h"

typedef struct exact {
    advrob_engine *engine;
    int32_t output;  /* the node of the logits */
    int32_t value[]; /* [nodes]: the engine's; -1: none */
} exact;

static void destroy(void *own) {
    exact *e = own;
    if (e == NULL) return;
    ar_memory *memory = &e->engine->ctx->memory;
    advrob_engine *engine = e->engine;
    ar_free(memory, e);
    ar_engine_release(engine);
}

static int32_t create(const ar_program *program, void **own) {
    int32_t status = ADVROB_OK;
    ar_memory *memory = &program->model->ctx->memory;
    const size_t nodes = (size_t)program->model->node_count;
    void *block = NULL;
    AR_TRY(ar_calloc(memory, 1, sizeof(exact) + nodes * sizeof(int32_t), "integers", &block));
    exact *e = block;
    e->output = program->output;
    AR_TRY(ar_engine_lower(program, e->value, &e->engine));
    *own = e;
    block = NULL;
out:
    ar_free(memory, block);
    return status;
}

static size_t room(const void *own) {
    const exact *e = own;
    return e->engine->room;
}

static void run(const void *own, uint8_t *memory, int32_t lanes, int32_t count, const float *x) {
    const exact *e = own;
    ar_engine_run_layers(e->engine, memory, lanes, count, x);
}

static void read_logits(const advrob_engine *engine, const uint8_t *memory, int32_t lanes,
                        ar_real *tile) {
    const ar_engine_layer *last = &engine->layers[engine->layer_count - 1];
    const int32_t *sums = (const int32_t *)(const void *)(memory + engine->sums);
    const int32_t padded = (last->out.c + 3) / 4 * 4;
    for (int32_t p = 0; p < ar_shape_pixels(last->out); p++)
        for (int32_t o = 0; o < last->out.c; o++)
            for (int32_t l = 0; l < lanes; l++)
                *tile++ = (float)sums[((int64_t)p * padded + o) * lanes + l] * last->scale[o];
}

static void read_node(const void *own, const uint8_t *memory, int32_t lanes, int32_t node,
                      ar_real *tile) {
    const exact *e = own;
    const advrob_engine *engine = e->engine;
    if (node == e->output) {
        read_logits(engine, memory, lanes, tile);
        return;
    }
    if (e->value[node] < 0) return;
    const ar_engine_value *value = &engine->values[e->value[node]];
    const uint8_t *codes = memory + value->offset;
    const int32_t channels = value->shape.c, quads = (channels + 3) / 4;
    for (int32_t p = 0; p < ar_shape_pixels(value->shape); p++)
        for (int32_t c = 0; c < channels; c++) {
            const uint8_t *from = codes + ((int64_t)p * quads + c / 4) * lanes * 4 + c % 4;
            for (int32_t l = 0; l < lanes; l++)
                *tile++ = (ar_real)(from[l * 4] - value->zero) * value->scale;
        }
}

const ar_integers ar_engine_integers = {
    .create = create,
    .destroy = destroy,
    .room = room,
    .run = run,
    .read = read_node,
};
