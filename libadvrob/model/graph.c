/* The graph: nodes, parameters, copies. */
#include <math.h>
#include <string.h>

#include "model.h"
#include "program.h"

int32_t ar_model_create(advrob_context *ctx, ar_shape input, advrob_model **out) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    advrob_model *model = NULL;
    AR_TRY(ar_shape_check("model input", input));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *model, "model", &block));
    model = block;
    model->ctx = ctx;
    model->references = 1;
    model->version = 1;
    pthread_mutex_init(&model->lock, NULL);
    ar_context_retain(ctx);
    AR_TRY(ar_calloc(&ctx->memory, (size_t)input.c, sizeof(ar_real), "normalisation", &block));
    model->mean = block;
    AR_TRY(ar_calloc(&ctx->memory, (size_t)input.c, sizeof(ar_real), "normalisation", &block));
    model->std = block;
    AR_TRY(ar_calloc(&ctx->memory, 3 * (size_t)input.c, sizeof(double), "box", &block));
    model->low = block;
    model->high = model->low + input.c;
    model->unit = model->high + input.c;
    for (int32_t c = 0; c < input.c; c++)
        model->std[c] = model->high[c] = model->unit[c] = 1;
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof(ar_node), "node", &block));
    model->nodes = block;
    model->node_count = 1;
    ar_copy_text(model->nodes[0].name, AR_NAME_SIZE, "input");
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++)
        model->nodes[0].parameters[role] = -1;
    model->nodes[0].shape = input;
    *out = model;
    model = NULL;
out:
    ar_model_release(model);
    return status;
}

static void drop_programs(advrob_model *model) {
    for (int32_t i = 0; i < 2; i++) {
        ar_program_destroy(model->programs[i]);
        model->programs[i] = NULL;
    }
}

void ar_model_retain(advrob_model *model) {
    model->references++;
}

void ar_model_release(advrob_model *model) {
    if (model == NULL || --model->references > 0) return;
    advrob_context *ctx = model->ctx;
    drop_programs(model);
    for (int32_t i = 0; i < model->node_count; i++) {
        ar_free(&ctx->memory, model->nodes[i].output.scales);
        ar_free(&ctx->memory, model->nodes[i].weights.scales);
    }
    ar_free(&ctx->memory, model->nodes);
    ar_free(&ctx->memory, model->parameters);
    ar_free(&ctx->memory, model->slab);
    ar_free(&ctx->memory, model->mean);
    ar_free(&ctx->memory, model->std);
    ar_free(&ctx->memory, model->low);
    ar_free(&ctx->memory, model->summary);
    pthread_mutex_destroy(&model->lock);
    ar_free(&ctx->memory, model);
    ar_context_release(ctx);
}

int32_t ar_node_inputs(const ar_node *node) {
    return node->op == NULL ? 0 : node->op->inputs;
}

static int32_t check_name(const advrob_model *model, const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= AR_NAME_SIZE - 8)
        return ar_error(ADVROB_E_INVALID, "node name of %zu bytes, expected 1 to %d", length,
                        AR_NAME_SIZE - 9);
    for (const char *c = name; *c != 0; c++) {
        bool good = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                    (*c >= '0' && *c <= '9') || *c == '.' || *c == '_' || *c == '-';
        if (!good)
            return ar_error(ADVROB_E_INVALID,
                            "node name with byte %d, expected letters, digits, '.', '_' and '-'",
                            (unsigned char)*c);
    }
    if (ar_model_find_node(model, name) >= 0)
        return ar_error(ADVROB_E_INVALID, "node name \"%s\" is used twice", name);
    return ADVROB_OK;
}

/* Appends the parameters of a new node (number model->node_count) at the end of the slab. */
static int32_t add_parameters(advrob_model *model, ar_node *node, const ar_shape *in) {
    int32_t status = ADVROB_OK, added = 0;
    ar_parameter_shape shapes[AR_MAX_PARAMETERS] = {{0}};
    int64_t slab_count = model->slab_count;
    ar_parameter fresh[AR_MAX_PARAMETERS];
    memset(fresh, 0, sizeof fresh);
    if (node->op->parameters == NULL) return ADVROB_OK;
    node->op->parameters(&node->attributes, in, shapes);
    for (int32_t i = 0; i < AR_MAX_PARAMETERS; i++) {
        if (shapes[i].rank == 0) continue;
        ar_parameter *p = &fresh[added];
        memcpy(p->shape, shapes[i].shape, sizeof p->shape);
        p->rank = shapes[i].rank;
        p->fan_in = shapes[i].fan_in;
        p->role = i;
        p->constant = shapes[i].constant;
        p->initial = shapes[i].initial;
        p->node = model->node_count;
        p->offset = slab_count;
        ar_format(p->name, sizeof p->name, "%s%s", node->name, ar_parameter_suffix[i]);
        if (!ar_product(p->shape, p->rank, &p->count) || p->count > AR_MAX_VALUES * 4ll)
            AR_FAIL(ADVROB_E_LIMIT, "parameter %s is too large", p->name);
        slab_count += p->count;
        node->parameters[i] = model->parameter_count + added++;
    }
    AR_TRY(ar_regrow(&model->ctx->memory, (void **)&model->parameters,
                     (size_t)(model->parameter_count + added), sizeof(ar_parameter), "parameters"));
    AR_TRY(ar_regrow(&model->ctx->memory, (void **)&model->slab, (size_t)slab_count,
                     sizeof(ar_real), "parameters"));
    memset(model->slab + model->slab_count, 0,
           (size_t)(slab_count - model->slab_count) * sizeof(ar_real));
    memcpy(model->parameters + model->parameter_count, fresh, sizeof(ar_parameter) * added);
    for (int32_t i = 0; i < added; i++)
        for (int64_t k = 0; k < fresh[i].count && fresh[i].constant; k++)
            model->slab[fresh[i].offset + k] = fresh[i].initial;
    model->parameter_count += added;
    model->slab_count = slab_count;
out:
    return status;
}

int32_t ar_model_add(advrob_model *model, const char *op, const char *name,
                     const int32_t inputs[AR_MAX_INPUTS], const ar_attributes *attributes,
                     int32_t *out) {
    int32_t status = ADVROB_OK;
    ar_node node = {.op = ar_op_find(op), .parameters = {-1, -1, -1, -1, -1}};
    ar_shape in[AR_MAX_INPUTS] = {{0}};
    if (node.op == NULL) AR_FAIL(ADVROB_E_UNKNOWN, "node %s: no operator \"%s\"", name, op);
    if (model->node_count >= AR_MAX_NODES)
        AR_FAIL(ADVROB_E_LIMIT, "model: more than %d nodes", AR_MAX_NODES);
    AR_TRY(check_name(model, name));
    ar_copy_text(node.name, AR_NAME_SIZE, name);
    if (attributes != NULL) node.attributes = *attributes;
    ar_op_attributes_fill(&node.attributes);
    for (int32_t i = 0; i < node.op->inputs; i++) {
        node.inputs[i] = inputs[i];
        if (inputs[i] < 0 || inputs[i] >= model->node_count)
            AR_FAIL(ADVROB_E_INVALID, "node %s: input %d, expected an earlier node (0 to %d)", name,
                    inputs[i], model->node_count - 1);
        in[i] = model->nodes[inputs[i]].shape;
    }
    AR_TRY(node.op->infer(&node.attributes, in, &node.shape));
    AR_TRY(ar_shape_check(name, node.shape));
    AR_TRY(ar_regrow(&model->ctx->memory, (void **)&model->nodes, (size_t)model->node_count + 1,
                     sizeof(ar_node), "nodes"));
    AR_TRY(add_parameters(model, &node, in));
    model->nodes[model->node_count] = node;
    if (out != NULL) *out = model->node_count;
    model->node_count++;
    ar_model_restructured(model);
out:
    return status;
}

int32_t ar_model_set_normalisation(advrob_model *model, const double *mean, size_t n_mean,
                                   const double *std, size_t n_std) {
    size_t channels = (size_t)model->nodes[0].shape.c;
    if ((n_mean > 1 && n_mean != channels) || (n_std > 1 && n_std != channels))
        return ar_error(ADVROB_E_RANGE,
                        "normalisation: %zu means and %zu stds, expected 1 or %zu of each", n_mean,
                        n_std, channels);
    for (size_t i = 0; i < n_mean; i++)
        if (!isfinite((ar_real)mean[i]))
            return ar_error(ADVROB_E_RANGE, "normalisation: mean %g, expected a finite number",
                            mean[i]);
    for (size_t i = 0; i < n_std; i++)
        if (!isfinite((ar_real)std[i]) || std[i] <= 0 || !isfinite(1 / (ar_real)std[i]))
            return ar_error(ADVROB_E_RANGE, "normalisation: std %g, expected a positive number",
                            std[i]);
    for (size_t c = 0; c < channels; c++) {
        if (n_mean > 0) model->mean[c] = (ar_real)mean[n_mean == 1 ? 0 : c];
        if (n_std > 0) model->std[c] = (ar_real)std[n_std == 1 ? 0 : c];
    }
    ar_model_restructured(model);
    return ADVROB_OK;
}

static int32_t copy_quant(advrob_model *to, ar_quant *record, const ar_quant *from) {
    record->scales = NULL;
    if (from->bits == 0) return ADVROB_OK;
    return ar_quant_set(to, record, from->bits, from->low, from->high, from->zero, from->scales,
                        from->count);
}

int32_t ar_model_begin_like(advrob_context *ctx, const advrob_model *model, advrob_model **out) {
    advrob_model *fresh = NULL;
    int32_t status = ar_model_create(ctx, model->nodes[0].shape, &fresh);
    if (status < 0) return status;
    memcpy(fresh->zoo, model->zoo, sizeof fresh->zoo);
    fresh->exact = model->exact;
    memcpy(fresh->low, model->low, 3 * sizeof(double) * (size_t)model->nodes[0].shape.c);
    for (int32_t c = 0; c < model->nodes[0].shape.c; c++) {
        fresh->mean[c] = model->mean[c];
        fresh->std[c] = model->std[c];
    }
    *out = fresh;
    return ADVROB_OK;
}

int32_t ar_model_clone(const advrob_model *model, advrob_model **out) {
    return ar_model_copy(model->ctx, model, out);
}

int32_t ar_model_copy(advrob_context *ctx, const advrob_model *model, advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *copy = NULL;
    AR_TRY(ar_model_begin_like(ctx, model, &copy));
    for (int32_t i = 1; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        AR_TRY(
            ar_model_add(copy, node->op->name, node->name, node->inputs, &node->attributes, NULL));
    }
    for (int32_t i = 0; i < model->node_count; i++) {
        AR_TRY(copy_quant(copy, &copy->nodes[i].output, &model->nodes[i].output));
        AR_TRY(copy_quant(copy, &copy->nodes[i].weights, &model->nodes[i].weights));
    }
    if (model->slab_count > 0)
        memcpy(copy->slab, model->slab, sizeof(ar_real) * (size_t)model->slab_count);
    *out = copy;
    copy = NULL;
out:
    ar_model_release(copy);
    return status;
}

int32_t ar_model_check_unfrozen(const advrob_model *model) {
    if (model->frozen > 0)
        return ar_error(ADVROB_E_BUSY, "the model is frozen: %d target(s) live on it",
                        (int)model->frozen);
    return ADVROB_OK;
}

void ar_model_changed(advrob_model *model) {
    model->version++;
}

void ar_model_restructured(advrob_model *model) {
    drop_programs(model);
    model->version++;
}
