/* Questions to a graph: names, users, sizes, digests, and its table for people. */
#include <math.h>
#include <string.h>

#include "model.h"

int32_t ar_model_output(const advrob_model *model) {
    return model->node_count - 1;
}

int32_t ar_model_classes(const advrob_model *model) {
    return (int32_t)ar_shape_count(model->nodes[ar_model_output(model)].shape);
}

int32_t ar_model_find_node(const advrob_model *model, const char *name) {
    for (int32_t i = 0; i < model->node_count; i++)
        if (strcmp(model->nodes[i].name, name) == 0) return i;
    return -1;
}

int32_t ar_model_find_parameter(const advrob_model *model, const char *name) {
    for (int32_t i = 0; i < model->parameter_count; i++)
        if (strcmp(model->parameters[i].name, name) == 0) return i;
    return -1;
}

int64_t ar_model_macs(const advrob_model *model) {
    int64_t macs = 0;
    for (int32_t i = 1; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        if (node->op->macs != NULL)
            macs += node->op->macs(&node->attributes, &model->nodes[node->inputs[0]].shape,
                                   &node->shape);
    }
    return macs;
}

bool ar_model_quantized(const advrob_model *model) {
    for (int32_t i = 0; i < model->node_count; i++)
        if (model->nodes[i].output.bits > 0 || model->nodes[i].weights.bits > 0) return true;
    return false;
}

int64_t ar_model_trained(const advrob_model *model) {
    int64_t count = 0;
    for (int32_t i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].role < AR_RUNNING_MEAN) count += model->parameters[i].count;
    return count;
}

int32_t ar_parameter_check(const ar_parameter *parameter, int64_t k, double value) {
    if (!isfinite(value))
        return ar_error(ADVROB_E_NONFINITE, "parameter %s: value %lld is %g", parameter->name,
                        (long long)k, value);
    if (parameter->role == AR_RUNNING_VAR && value < 0)
        return ar_error(ADVROB_E_RANGE, "parameter %s: value %lld is %g, expected 0 or more",
                        parameter->name, (long long)k, value);
    return ADVROB_OK;
}

int32_t ar_model_check_finite(const advrob_model *model) {
    for (int32_t i = 0; i < model->parameter_count; i++) {
        const ar_parameter *p = &model->parameters[i];
        for (int64_t k = 0; k < p->count; k++) {
            int32_t status = ar_parameter_check(p, k, (double)model->slab[p->offset + k]);
            if (status < 0) return status;
        }
    }
    return ADVROB_OK;
}

int32_t ar_model_only_user(const advrob_model *model, int32_t node) {
    int32_t user = -1;
    for (int32_t i = node + 1; i < model->node_count; i++)
        for (int32_t k = 0; k < ar_node_inputs(&model->nodes[i]); k++)
            if (model->nodes[i].inputs[k] == node) {
                if (user >= 0) return -1;
                user = i;
            }
    return user;
}

bool ar_model_has_batch_norm(const advrob_model *model) {
    for (int32_t i = 1; i < model->node_count; i++)
        if (model->nodes[i].op->whole_batch) return true;
    return false;
}

int32_t ar_model_fused_relu(const advrob_model *model, int32_t node) {
    const ar_op *op = model->nodes[node].op;
    int32_t user = ar_model_only_user(model, node);
    if (op == NULL || !op->fuses_relu || user < 0) return -1;
    return strcmp(model->nodes[user].op->name, "relu") == 0 ? user : -1;
}

static uint64_t hash_quant(uint64_t hash, const ar_quant *quant) {
    hash = ar_fnv(hash, &quant->bits, sizeof quant->bits);
    if (quant->bits == 0) return hash;
    double range[3] = {quant->low, quant->high, quant->zero};
    hash = ar_fnv(hash, range, sizeof range);
    hash = ar_fnv(hash, &quant->count, sizeof quant->count);
    return ar_fnv(hash, quant->scales, sizeof(ar_real) * (size_t)quant->count);
}

bool ar_model_one_box(const advrob_model *model) {
    for (int32_t c = 0; c < model->nodes[0].shape.c; c++)
        if (model->low[c] != model->low[0] || model->high[c] != model->high[0] ||
            model->unit[c] != 1)
            return false;
    return true;
}

static uint64_t hash_box(uint64_t hash, const advrob_model *model) {
    size_t channels = (size_t)model->nodes[0].shape.c;
    if (!ar_model_one_box(model)) return ar_fnv(hash, model->low, 3 * sizeof(double) * channels);
    hash = ar_fnv(hash, model->low, sizeof(double));
    return ar_fnv(hash, model->high, sizeof(double));
}

uint64_t ar_model_digest(const advrob_model *model) {
    uint64_t hash = AR_FNV_START;
    size_t channels = (size_t)model->nodes[0].shape.c;
    for (int32_t i = 0; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        if (node->op != NULL) hash = ar_fnv(hash, node->op->name, strlen(node->op->name));
        hash = ar_fnv(hash, node->name, strlen(node->name));
        hash = ar_fnv(hash, node->inputs, sizeof(int32_t) * (size_t)ar_node_inputs(node));
        hash = ar_fnv(hash, node->attributes.kernel, sizeof node->attributes.kernel);
        hash = ar_fnv(hash, node->attributes.stride, sizeof node->attributes.stride);
        hash = ar_fnv(hash, node->attributes.padding, sizeof node->attributes.padding);
        hash = ar_fnv(hash, &node->shape, sizeof node->shape);
        hash = ar_fnv(hash, &node->attributes.bias, sizeof node->attributes.bias);
        double more[5] = {node->attributes.epsilon, node->attributes.momentum,
                          node->attributes.rate, node->attributes.before, node->attributes.after};
        for (int32_t k = 0; k < 5; k++)
            if (more[k] != 0) hash = ar_fnv(ar_fnv(hash, &k, sizeof k), &more[k], sizeof more[k]);
        if (node->op != NULL &&
            (node->attributes.dilation[0] != 1 || node->attributes.dilation[1] != 1))
            hash = ar_fnv(hash, node->attributes.dilation, sizeof node->attributes.dilation);
        if (node->op != NULL && node->attributes.groups != 1)
            hash = ar_fnv(hash, &node->attributes.groups, sizeof node->attributes.groups);
        if (node->attributes.border_bias) hash = ar_fnv(hash, "border_bias", 11);
        hash = hash_quant(hash_quant(hash, &node->output), &node->weights);
    }
    if (model->exact) hash = ar_fnv(hash, "exact", 5);
    hash = hash_box(hash, model);
    hash = ar_fnv(hash, model->mean, sizeof(ar_real) * channels);
    hash = ar_fnv(hash, model->std, sizeof(ar_real) * channels);
    return ar_fnv(hash, model->slab, sizeof(ar_real) * (size_t)model->slab_count);
}

static void write_row(ar_buffer *text, const advrob_model *model, const ar_node *node) {
    char shape[48], inputs[96] = "";
    int64_t parameters = 0, macs = 0;
    ar_format(shape, sizeof shape, "%d x %d x %d", node->shape.c, node->shape.h, node->shape.w);
    for (int32_t i = 0; i < ar_node_inputs(node); i++) {
        size_t length = strlen(inputs);
        ar_format(inputs + length, sizeof inputs - length, i == 0 ? "%s" : ", %s",
                  model->nodes[node->inputs[i]].name);
    }
    for (int32_t role = 0; role < AR_RUNNING_MEAN; role++)
        if (node->parameters[role] >= 0)
            parameters += model->parameters[node->parameters[role]].count;
    if (node->op != NULL && node->op->macs != NULL)
        macs =
            node->op->macs(&node->attributes, &model->nodes[node->inputs[0]].shape, &node->shape);
    ar_buffer_add(text, "%-12s %-16s %-18s %-14s %10lld %12lld", node->name,
                  node->op == NULL ? "input" : node->op->name, inputs, shape, (long long)parameters,
                  (long long)macs);
    if (node->weights.bits > 0) ar_buffer_add(text, "  w%d", node->weights.bits);
    if (node->output.bits > 0) ar_buffer_add(text, "  a%d", node->output.bits);
    ar_buffer_add(text, "\n");
}

int32_t ar_model_write_summary(advrob_model *model) {
    ar_buffer text;
    ar_buffer_init(&text, &model->ctx->memory);
    ar_buffer_add(&text, "%-12s %-16s %-18s %-14s %10s %12s\n", "node", "operator", "inputs",
                  "output", "parameters", "multiply-adds");
    for (int32_t i = 0; i < model->node_count; i++)
        write_row(&text, model, &model->nodes[i]);
    ar_buffer_add(&text, "%lld parameters, %lld multiply-adds\n",
                  (long long)ar_model_trained(model), (long long)ar_model_macs(model));
    int32_t status = ar_buffer_status(&text);
    if (status < 0) {
        ar_buffer_free(&text);
        return status;
    }
    ar_free(&model->ctx->memory, model->summary);
    model->summary = text.data;
    return ADVROB_OK;
}
