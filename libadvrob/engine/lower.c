/* From a quantized model to integer layers: one for each fused group of its program. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "lower.h"
#include "model/program.h"

_Static_assert(AR_LAYER_NAME == AR_NAME_SIZE, "layers bear their nodes' names");

static const ar_option_table no_options = {NULL, 0, 0};

typedef struct lowering {
    advrob_model *model;
    const ar_program *program;
    advrob_engine *engine;
    ar_arena scratch;
    int32_t *value; /* [nodes]: the engine's value that holds a node's; -1: none */
    bool *mean;     /* [nodes]: of that value's pixels, the mean; the next layer sums them */
} lowering;

static int32_t unsupported(const ar_node *node, const char *why) {
    return ar_error(ADVROB_E_UNSUPPORTED, "engine: node %s, a %s, %s", node->name,
                    node->op != NULL ? node->op->name : "input", why);
}

/* Zeros. */
static int32_t take(ar_arena *arena, size_t count, size_t size, void *field) {
    void *block = NULL;
    int32_t status = ar_arena_alloc(arena, count, size, "engine", &block);
    memcpy(field, &block, sizeof block);
    return status;
}

/* A new value with the codes of node `i`'s quantization point. */
static int32_t add_value(lowering *l, int32_t i, ar_shape shape, int32_t layer) {
    const ar_node *node = &l->model->nodes[i];
    const ar_quant *q = &node->output;
    if (q->bits == 0) return unsupported(node, "has no quantization point");
    if (q->low != 0 || q->high > 255 || q->zero != rint(q->zero))
        return unsupported(node, "has codes that are no bytes from 0");
    l->value[i] = l->engine->value_count;
    l->engine->values[l->engine->value_count++] = (ar_engine_value){.shape = shape,
                                                                    .zero = (int32_t)q->zero,
                                                                    .high = (int32_t)q->high,
                                                                    .scale = q->scales[0],
                                                                    .first = layer,
                                                                    .last = layer};
    return ADVROB_OK;
}

/* ---- Convolution and linear layers ---- */

/* The codes of a layer's weights, groups and all. */
static int32_t lower_weights(lowering *l, const ar_node *node, ar_engine_layer *layer,
                             ar_real *codes) {
    const ar_quant *q = &node->weights;
    const ar_parameter *p = &l->model->parameters[node->weight];
    const ar_real *w = l->model->slab + p->offset;
    const int32_t groups = node->attributes.groups, outputs = layer->out.c, channels = layer->in.c;
    const int32_t per = channels / groups;
    const int64_t own = p->count / outputs / per; /* a mean's only tap stands for all pixels */
    const int64_t taps = (int64_t)layer->window.kernel[0] * layer->window.kernel[1];
    int32_t status = ADVROB_OK;
    if (q->bits < 2 || q->bits > 8) return unsupported(node, "has weights of no 2 to 8 bits");
    AR_TRY(
        take(&l->engine->arena, (size_t)(outputs * taps) * (size_t)channels, 1, &layer->weights));
    for (int32_t o = 0; o < outputs; o++)
        for (int32_t c = 0; c < per; c++)
            for (int64_t t = 0; t < taps; t++) {
                const int64_t i = ((int64_t)o * per + c) * own + (own > 1 ? t : 0);
                double code = rint((double)(w[i] / q->scales[q->count > 1 ? o : 0]));
                code = fmin(fmax(code, q->low), q->high);
                codes[i] = (ar_real)code;
                const int64_t at = (int64_t)o * channels + o / (outputs / groups) * per + c;
                layer->weights[at * taps + t] = (int8_t)code;
            }
out:
    return status;
}

/* Biases by class of pixels: the model's, and what the input's zero adds to each sum. */
static int32_t lower_bias(lowering *l, const ar_node *node, ar_engine_layer *layer,
                          const ar_real *codes, const double *unit) {
    int32_t status = ADVROB_OK;
    const int32_t outputs = layer->out.c, zero = l->engine->values[layer->input].zero;
    const ar_real *b =
        node->bias < 0 ? NULL : l->model->slab + l->model->parameters[node->bias].offset;
    const ar_real *e = node->border_bias < 0
                           ? NULL
                           : l->model->slab + l->model->parameters[node->border_bias].offset;
    const ar_shape in = l->model->nodes[node->inputs[0]].shape;
    double *constant, *sum, *border = NULL;
    const bool edges =
        e != NULL || (zero != 0 && (layer->window.padding[0] > 0 || layer->window.padding[1] > 0));
    layer->classes = edges ? ar_border_classes(&layer->window, &layer->in, &layer->out, NULL) : 1;
    const size_t table = (size_t)outputs * (size_t)layer->classes;
    AR_TRY(take(&l->scratch, (size_t)in.c, sizeof(double), &constant));
    AR_TRY(take(&l->scratch, (size_t)outputs, sizeof(double), &sum));
    AR_TRY(take(&l->scratch, table, sizeof(double), &border));
    AR_TRY(take(&l->engine->arena, table, sizeof(int32_t), &layer->bias));
    const double pixels = l->mean[node->inputs[0]] ? ar_shape_pixels(layer->in) : 1;
    for (int32_t c = 0; c < in.c; c++)
        constant[c] = -zero * pixels;
    node->op->absorb(&node->attributes, &in, codes, constant, sum, edges ? border : NULL);
    for (int32_t o = 0; o < outputs; o++)
        for (int32_t k = 0; k < layer->classes; k++) {
            const int64_t at = (int64_t)o * layer->classes + k;
            double real = (b == NULL ? 0 : (double)b[o]) + (e == NULL ? 0 : (double)e[at]);
            double whole = rint(real / unit[o]) + sum[o] + border[at];
            if (!(fabs(whole) < INT_MAX))
                AR_FAIL(ADVROB_E_RANGE,
                        "engine: node %s, output %d: a bias of %g is %g of its sums' steps, "
                        "expected less than 2^31",
                        node->name, o, real, whole);
            layer->bias[(int64_t)k * outputs + o] = (int32_t)whole;
        }
out:
    return status;
}

static int32_t lower_gemm(lowering *l, const ar_step *step, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    const ar_node *node = &l->model->nodes[step->node];
    const ar_engine_value *in = &l->engine->values[layer->input];
    const ar_quant *q = &node->weights;
    ar_real *codes;
    double *unit;
    layer->kind = AR_LAYER_GEMM;
    layer->out = node->shape;
    const bool mean = l->mean[node->inputs[0]];
    if (mean && (layer->window.kernel[0] > 1 || layer->window.kernel[1] > 1))
        return unsupported(node, "has a window on the mean of all pixels");
    if (mean || strcmp(node->op->name, "linear") == 0) { /* of all pixels */
        layer->window.kernel[0] = in->shape.h;
        layer->window.kernel[1] = in->shape.w;
        layer->window.padding[0] = layer->window.padding[1] = 0;
    }
    AR_TRY(take(&l->scratch, (size_t)l->model->parameters[node->weight].count, sizeof(ar_real),
                &codes));
    AR_TRY(take(&l->scratch, (size_t)layer->out.c, sizeof(double), &unit));
    AR_TRY(take(&l->engine->arena, (size_t)layer->out.c, sizeof(float), &layer->scale));
    AR_TRY(lower_weights(l, node, layer, codes));
    for (int32_t o = 0; o < layer->out.c; o++)
        unit[o] = (double)in->scale * (double)q->scales[q->count > 1 ? o : 0] /
                  (mean ? ar_shape_pixels(in->shape) : 1);
    AR_TRY(lower_bias(l, node, layer, codes, unit));
    AR_TRY(ar_engine_check_sums(l->engine, layer));
    double out = layer->output < 0 ? 1 : (double)l->engine->values[layer->output].scale;
    for (int32_t o = 0; o < layer->out.c; o++)
        layer->scale[o] = (float)(unit[o] / out);
    if (layer->output >= 0) {
        const ar_engine_value *value = &l->engine->values[layer->output];
        layer->low = step->relu ? value->zero : 0;
        layer->high = value->high;
    }
out:
    return status;
}

/* ---- The net ---- */

/* Whether the node's value is another's, seen otherwise. */
static bool is_view(const ar_node *node, const ar_engine_value *value) {
    const char *op = node->op->name;
    return strcmp(op, "flatten") == 0 || strcmp(op, "dropout") == 0 ||
           (strcmp(op, "global_avg_pool") == 0 && value->shape.c == node->shape.c);
}

/* Whether the engine holds node i's value in another shape. */
static bool is_flat(const lowering *l, int32_t i) {
    const ar_shape a = l->model->nodes[i].shape, b = l->engine->values[l->value[i]].shape;
    return a.c != b.c || a.h != b.h || a.w != b.w;
}

/* Whether a pooling's result is one of its window's codes. */
static bool picks(const ar_node *node) {
    const ar_attributes *a = &node->attributes;
    return strcmp(node->op->name, "max_pool") == 0 ||
           (strcmp(node->op->name, "avg_pool") == 0 && a->kernel[0] == 1 && a->kernel[1] == 1 &&
            a->padding[0] == 0 && a->padding[1] == 0);
}

/* Whether a ReLU is the only one that reads a value with a quantization point of its own. */
static bool cuts_alone(const lowering *l, const ar_step *step) {
    const int32_t before = l->model->nodes[step->node].inputs[0];
    return step->value != l->program->output && before > 0 &&
           l->model->nodes[before].output.bits > 0 &&
           ar_model_only_user(l->model, before) == step->node;
}

/* A value of other shape with the codes of the layer's input. */
static void pass_on(lowering *l, const ar_step *step, ar_engine_layer *layer, int32_t kind) {
    advrob_engine *engine = l->engine;
    ar_engine_value *value = &engine->values[engine->value_count];
    layer->kind = kind;
    *value = engine->values[layer->input];
    value->shape = layer->out;
    value->first = value->last = engine->layer_count;
    l->value[step->value] = layer->output = engine->value_count++;
}

/* A sum that no layer took in: the other term is the residual. */
static int32_t lower_add(lowering *l, const ar_step *step, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    advrob_engine *engine = l->engine;
    const ar_node *node = &l->model->nodes[step->node];
    layer->kind = AR_LAYER_ADD;
    layer->residual = l->value[node->inputs[1]];
    if (layer->residual < 0 || l->mean[node->inputs[1]] || is_flat(l, node->inputs[1]))
        return unsupported(node, "adds a value that is no codes");
    engine->values[layer->residual].last = engine->layer_count;
    AR_TRY(add_value(l, step->value, node->shape, engine->layer_count));
    layer->output = l->value[step->value];
    layer->low = step->relu ? engine->values[layer->output].zero : 0;
    layer->high = engine->values[layer->output].high;
out:
    return status;
}

static int32_t lower_avg_pool(lowering *l, const ar_step *step, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    layer->kind = AR_LAYER_AVG_POOL;
    AR_TRY(add_value(l, step->value, layer->out, l->engine->layer_count));
    layer->output = l->value[step->value];
    layer->high = l->engine->values[layer->output].high;
out:
    return status;
}

/* Inputs of other scales than the output's are requantised; without a quantization point they have
 * one scale already. */
static int32_t lower_concat(lowering *l, const ar_step *step, ar_engine_layer *layer) {
    int32_t status = ADVROB_OK;
    advrob_engine *engine = l->engine;
    const ar_node *node = &l->model->nodes[step->node];
    layer->residual = l->value[node->inputs[1]];
    if (layer->residual < 0 || l->mean[node->inputs[1]] || is_flat(l, node->inputs[1]))
        return unsupported(node, "joins a value that is no codes");
    const ar_engine_value *a = &engine->values[layer->input];
    engine->values[layer->residual].last = engine->layer_count;
    if (node->output.bits > 0) {
        layer->kind = AR_LAYER_CONCAT;
        AR_TRY(add_value(l, step->value, layer->out, engine->layer_count));
        layer->output = l->value[step->value];
    } else {
        const ar_engine_value *b = &engine->values[layer->residual];
        if (a->scale != b->scale || a->zero != b->zero || a->high != b->high)
            return unsupported(node, "joins codes of two scales and has no quantization point");
        pass_on(l, step, layer, AR_LAYER_CONCAT);
    }
    layer->high = engine->values[layer->output].high;
out:
    return status;
}

static int32_t lower_step(lowering *l, int32_t s) {
    int32_t status = ADVROB_OK;
    const ar_step *step = &l->program->steps[s];
    const ar_node *node = &l->model->nodes[step->node];
    advrob_engine *engine = l->engine;
    const int32_t input = l->value[node->inputs[0]];
    const bool last = step->value == l->program->output;
    if (!step->used) return ADVROB_OK;
    if (input < 0) return unsupported(node, "reads a value that is no codes");
    if (is_view(node, &engine->values[input])) {
        if (last || step->relu) return unsupported(node, "ends the net or a group");
        l->value[step->value] = input;
        l->mean[step->value] =
            l->mean[node->inputs[0]] || strcmp(node->op->name, "global_avg_pool") == 0;
        return ADVROB_OK;
    }
    if (strcmp(node->op->name, "relu") == 0 && cuts_alone(l, step)) {
        /* On codes it is a floor, which the layer before can lay. */
        engine->layers[engine->values[input].first].low = engine->values[input].zero;
        l->value[step->value] = input;
        return ADVROB_OK;
    }
    if (l->mean[node->inputs[0]] && node->op->absorb == NULL)
        return unsupported(node, "reads a mean and is no layer");
    if (!l->mean[node->inputs[0]] && strcmp(node->op->name, "linear") != 0 &&
        is_flat(l, node->inputs[0]))
        return unsupported(node, "reads a flattened value and is no linear layer");
    ar_engine_layer *layer = &engine->layers[engine->layer_count];
    *layer = (ar_engine_layer){.input = input,
                               .residual = -1,
                               .output = -1,
                               .window = node->attributes,
                               .in = engine->values[input].shape,
                               .out = node->shape};
    ar_format(layer->name, sizeof layer->name, "%s", node->name);
    engine->values[input].last = engine->layer_count;
    if (step->residual >= 0) {
        const int32_t other = step->inputs[step->residual];
        layer->residual = l->value[other];
        if (layer->residual < 0 || l->mean[other] || is_flat(l, other))
            return unsupported(node, "adds a value that is no codes");
        engine->values[layer->residual].last = engine->layer_count;
    }
    if (node->op->absorb != NULL) {
        if (!last) {
            AR_TRY(add_value(l, step->value, node->shape, engine->layer_count));
            layer->output = l->value[step->value];
        } else if (step->relu || step->residual >= 0) {
            AR_TRY(unsupported(node, "ends the net with more than a product"));
        }
        AR_TRY(lower_gemm(l, step, layer));
    } else if (picks(node) && !last && !step->relu) {
        pass_on(l, step, layer, AR_LAYER_MAX_POOL);
    } else if (strcmp(node->op->name, "add") == 0 && !last) {
        AR_TRY(lower_add(l, step, layer));
    } else if (strcmp(node->op->name, "avg_pool") == 0 && !last && !step->relu) {
        AR_TRY(lower_avg_pool(l, step, layer));
    } else if (strcmp(node->op->name, "concat") == 0 && !last && !step->relu) {
        AR_TRY(lower_concat(l, step, layer));
    } else if (strcmp(node->op->name, "pad_channels") == 0 && !last && !step->relu) {
        pass_on(l, step, layer, AR_LAYER_PAD);
    } else {
        AR_TRY(unsupported(node, "has no integer form"));
    }
    engine->layer_count++;
out:
    return status;
}

static int32_t lower(lowering *l) {
    int32_t status = ADVROB_OK;
    const advrob_model *model = l->model;
    advrob_engine *engine = l->engine;
    const size_t nodes = (size_t)model->node_count, channels = (size_t)model->nodes[0].shape.c;
    for (size_t c = 0; c < channels; c++)
        if (model->mean[c] != 0 || model->std[c] != 1)
            AR_FAIL(ADVROB_E_UNSUPPORTED,
                    "engine: the model normalises its input (channel %zu: mean %g, std %g); "
                    "quant_ptq folds that into the first layer",
                    c, (double)model->mean[c], (double)model->std[c]);
    AR_TRY(take(&l->scratch, nodes, sizeof(int32_t), &l->value));
    AR_TRY(take(&l->scratch, nodes, sizeof(bool), &l->mean));
    AR_TRY(take(&l->engine->arena, nodes, sizeof *engine->values, &engine->values));
    AR_TRY(take(&l->engine->arena, nodes, sizeof *engine->layers, &engine->layers));
    for (size_t i = 0; i < nodes; i++)
        l->value[i] = -1;
    memcpy(engine->low, model->low, sizeof(double) * channels);
    memcpy(engine->high, model->high, sizeof(double) * channels);
    memcpy(engine->unit, model->unit, sizeof(double) * channels);
    AR_TRY(add_value(l, 0, model->nodes[0].shape, -1));
    for (size_t c = 0; c < channels; c++) {
        engine->input_scale[c] = (double)engine->values[0].scale;
        engine->input_zero[c] = engine->values[0].zero;
    }
    for (int32_t s = 0; s < l->program->count; s++)
        AR_TRY(lower_step(l, s));
    engine->classes = ar_model_classes(model);
out:
    return status;
}

/* The values that quantization points make, by node; -1: none. */
static void note_values(const lowering *l, int32_t *value) {
    for (int32_t i = 0; i < l->model->node_count; i++)
        value[i] = l->model->nodes[i].output.bits > 0 ? l->value[i] : -1;
}

int32_t ar_engine_lower(const ar_program *program, int32_t *value, advrob_engine **out) {
    int32_t status = ADVROB_OK;
    advrob_model *model = program->model;
    lowering l = {.model = model, .program = program};
    ar_arena_init(&l.scratch, &model->ctx->memory);
    AR_TRY(ar_engine_new(model->ctx, model->nodes[0].shape, &l.engine));
    AR_TRY(lower(&l));
    if (value != NULL) note_values(&l, value);
    l.engine->keep = value != NULL;
    AR_TRY(ar_engine_prepare(l.engine));
    *out = l.engine;
    l.engine = NULL;
out:
    ar_engine_release(l.engine);
    ar_arena_free(&l.scratch);
    return status;
}

int32_t ar_engine_create(advrob_model *model, const advrob_options *options, advrob_engine **out) {
    int32_t status = ADVROB_OK;
    const ar_option_scope scope = {"", &no_options};
    ar_program *program = NULL;
    AR_TRY(ar_options_check(options, "engine", &scope, 1));
    AR_TRY(ar_program_create(model, ar_model_output(model), false, &program));
    AR_TRY(ar_engine_lower(program, NULL, out));
out:
    ar_program_destroy(program);
    return status;
}
