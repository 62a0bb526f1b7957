/* Folding batch norms into the convolution or linear layer before them, and the input's
 * normalisation into the layers behind it. */
#include <string.h>

#include "model.h"
#include "op/norm.h"

int32_t ar_model_folded_norm(const advrob_model *model, int32_t i) {
    const ar_node *node = &model->nodes[i];
    int32_t user = ar_model_only_user(model, i);
    if (node->op == NULL || node->op->prune != AR_PRUNE_PRODUCES || node->weight < 0 || user < 0)
        return -1;
    return model->nodes[user].op->whole_batch ? user : -1;
}

/* Node i of `from`, which has a bias now, with the batch norm `norm` in its parameters. */
static void fold_parameters(const advrob_model *from, int32_t i, int32_t norm, advrob_model *to,
                            int32_t at) {
    const ar_node *node = &from->nodes[i], *bn = &from->nodes[norm], *out = &to->nodes[at];
    const ar_real *values[AR_MAX_PARAMETERS] = {NULL};
    for (int32_t role = 0; role <= AR_RUNNING_VAR; role++)
        values[role] = from->slab + from->parameters[bn->parameters[role]].offset;
    const ar_parameter *weight = &from->parameters[node->weight];
    const ar_real *w = from->slab + weight->offset;
    const ar_real *b = node->bias < 0 ? NULL : from->slab + from->parameters[node->bias].offset;
    ar_real *new_w = to->slab + to->parameters[out->weight].offset;
    ar_real *new_b = to->slab + to->parameters[out->bias].offset;
    ar_norm_fold(&bn->attributes, values, weight->shape[0], weight->count / weight->shape[0], w, b,
                 new_w, new_b);
    if (node->border_bias < 0) return;
    const ar_parameter *border = &from->parameters[node->border_bias];
    ar_norm_fold_rows(&bn->attributes, values, border->shape[0], border->count / border->shape[0],
                      from->slab + border->offset,
                      to->slab + to->parameters[out->border_bias].offset);
}

static void copy_parameters(const advrob_model *from, int32_t i, advrob_model *to, int32_t at) {
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
        int32_t p = from->nodes[i].parameters[role], q = to->nodes[at].parameters[role];
        if (p < 0) continue;
        memcpy(to->slab + to->parameters[q].offset, from->slab + from->parameters[p].offset,
               sizeof(ar_real) * (size_t)from->parameters[p].count);
    }
}

/* A folded layer takes the place of its batch norm, which is its only user: so the order of the
 * nodes, and which of them is the result, stay. */
static int32_t add_node(const advrob_model *from, int32_t i, advrob_model *to, int32_t *moved) {
    const ar_node *node = &from->nodes[i];
    int32_t inputs[AR_MAX_INPUTS] = {0}, layer = i, at = 0;
    if (ar_model_folded_norm(from, i) >= 0) return ADVROB_OK;
    if (node->op->whole_batch && ar_model_folded_norm(from, node->inputs[0]) == i)
        layer = node->inputs[0];
    const ar_node *kept = &from->nodes[layer];
    ar_attributes attributes = kept->attributes;
    for (int32_t k = 0; k < kept->op->inputs; k++)
        inputs[k] = moved[kept->inputs[k]];
    if (layer != i) attributes.bias = true;
    int32_t status = ar_model_add(to, kept->op->name, kept->name, inputs, &attributes, &at);
    if (status < 0) return status;
    if (layer != i)
        fold_parameters(from, layer, i, to, at);
    else
        copy_parameters(from, i, to, at);
    moved[i] = at;
    return ADVROB_OK;
}

int32_t ar_model_fold(const advrob_model *model, advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *folded = NULL;
    ar_arena arena;
    void *moved;
    ar_arena_init(&arena, &model->ctx->memory);
    if (ar_model_quantized(model))
        AR_FAIL(ADVROB_E_UNSUPPORTED, "the model is quantized; fold its batch norms before");
    AR_TRY(ar_arena_alloc(&arena, (size_t)model->node_count, sizeof(int32_t), "nodes", &moved));
    AR_TRY(ar_model_begin_like(model->ctx, model, &folded));
    for (int32_t i = 1; i < model->node_count; i++)
        AR_TRY(add_node(model, i, folded, moved));
    AR_TRY(ar_model_check_finite(folded));
    *out = folded;
    folded = NULL;
out:
    ar_model_release(folded);
    ar_arena_free(&arena);
    return status;
}

/* ---- The input's normalisation ---- */

/* Whether node i is the input, or the input flattened. */
static bool is_input(const advrob_model *model, int32_t i) {
    while (i > 0 && model->nodes[i].op->prune == AR_PRUNE_SPREADS)
        i = model->nodes[i].inputs[0];
    return i == 0;
}

/* Whether each user of the input is a layer that can take the normalisation into its weights. */
static bool takes_normalisation(const advrob_model *model) {
    for (int32_t i = 1; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        for (int32_t k = 0; k < node->op->inputs; k++)
            if (is_input(model, node->inputs[k]) && node->op->absorb == NULL &&
                node->op->prune != AR_PRUNE_SPREADS)
                return false;
    }
    return !is_input(model, ar_model_output(model));
}

/* Layer i of `to`, a copy of that of `from`, reads pixels instead of (pixel - mean) / std: its
 * weights are divided by std, and -mean / std is a constant that it absorbs, border and all. */
static int32_t take_normalisation(const advrob_model *from, int32_t i, advrob_model *to) {
    int32_t status = ADVROB_OK;
    const ar_node *node = &from->nodes[i], *copy = &to->nodes[i];
    const ar_shape in = from->nodes[node->inputs[0]].shape;
    const int32_t spread = in.c / from->nodes[0].shape.c, groups = node->attributes.groups;
    const ar_parameter *weight = &from->parameters[node->weight];
    const int32_t outputs = node->shape.c, per = in.c / groups;
    const int64_t taps = weight->count / outputs / per;
    const ar_parameter *border = copy->border_bias < 0 ? NULL : &to->parameters[copy->border_bias];
    const int64_t classes = border == NULL ? 0 : border->count / outputs;
    ar_arena arena;
    void *constant, *bias, *at_border;
    ar_arena_init(&arena, &to->ctx->memory);
    AR_TRY(ar_arena_alloc(&arena, (size_t)in.c, sizeof(double), "constants", &constant));
    AR_TRY(ar_arena_alloc(&arena, (size_t)outputs, sizeof(double), "biases", &bias));
    AR_TRY(ar_arena_alloc(&arena, (size_t)(outputs * classes + 1), sizeof(double), "biases",
                          &at_border));
    for (int32_t c = 0; c < in.c; c++)
        ((double *)constant)[c] = -(double)from->mean[c / spread] / (double)from->std[c / spread];
    node->op->absorb(&node->attributes, &in, from->slab + weight->offset, constant, bias,
                     border == NULL ? NULL : at_border);
    ar_real *w = to->slab + to->parameters[copy->weight].offset;
    for (int32_t o = 0; o < outputs; o++)
        for (int32_t c = 0; c < per; c++)
            for (int64_t t = 0; t < taps; t++, w++)
                *w /= from->std[(o / (outputs / groups) * per + c) / spread];
    ar_real *b = to->slab + to->parameters[copy->bias].offset;
    for (int32_t o = 0; o < outputs; o++)
        b[o] = (ar_real)((double)b[o] + ((double *)bias)[o]);
    for (int64_t k = 0; border != NULL && k < border->count; k++) {
        ar_real *e = to->slab + border->offset + k;
        *e = (ar_real)((double)*e + ((double *)at_border)[k]);
    }
out:
    ar_arena_free(&arena);
    return status;
}

int32_t ar_model_fold_normalisation(const advrob_model *model, advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *folded = NULL;
    const double zero = 0, one = 1;
    bool normalised = false;
    for (int32_t c = 0; c < model->nodes[0].shape.c; c++)
        normalised = normalised || model->mean[c] != 0 || model->std[c] != 1;
    if (!normalised || !takes_normalisation(model)) {
        AR_TRY(ar_model_clone(model, &folded));
    } else {
        AR_TRY(ar_model_begin_like(model->ctx, model, &folded));
        AR_TRY(ar_model_set_normalisation(folded, &zero, 1, &one, 1));
        for (int32_t i = 1; i < model->node_count; i++) {
            const ar_node *node = &model->nodes[i];
            const bool first = node->op->absorb != NULL && is_input(model, node->inputs[0]);
            ar_attributes a = node->attributes;
            if (first) {
                a.bias = true;
                a.border_bias = a.border_bias || a.padding[0] > 0 || a.padding[1] > 0;
            }
            AR_TRY(ar_model_add(folded, node->op->name, node->name, node->inputs, &a, NULL));
            copy_parameters(model, i, folded, i);
            if (first) AR_TRY(take_normalisation(model, i, folded));
        }
        AR_TRY(ar_model_check_finite(folded));
    }
    *out = folded;
    folded = NULL;
out:
    ar_model_release(folded);
    return status;
}
