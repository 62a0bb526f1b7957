/* The smaller net: channels taken out of every value and parameter that has them, and what they
 * held in every pixel put into the biases behind. */
#include <string.h>

#include "prune.h"

static int32_t count_kept(const ar_channels *ch, const bool *gone, int32_t node, int32_t from,
                          int32_t to) {
    int32_t kept = 0;
    for (int32_t c = from; c < to; c++)
        kept += !ar_channel_gone(ch, gone, node, c);
    return kept;
}

static ar_shape kept_shape(const ar_channels *ch, const bool *gone, int32_t node) {
    ar_shape shape = ch->model->nodes[node].shape;
    shape.c = count_kept(ch, gone, node, 0, shape.c);
    return shape;
}

/* Node i's attributes in the smaller net. */
static ar_attributes kept_attributes(const ar_channels *ch, const bool *gone, int32_t i) {
    const ar_node *node = &ch->model->nodes[i];
    ar_attributes a = node->attributes;
    int32_t c = ch->model->nodes[node->inputs[0]].shape.c, total = node->shape.c;
    if (ar_has_filters(node)) a.outputs = count_kept(ch, gone, i, 0, total);
    if (a.groups > 1 && a.groups == c) a.groups = count_kept(ch, gone, node->inputs[0], 0, c);
    if (node->op->prune == AR_PRUNE_PADS) {
        a.before = count_kept(ch, gone, i, 0, node->attributes.before);
        a.after = count_kept(ch, gone, i, total - node->attributes.after, total);
    }
    return a;
}

int64_t ar_channels_macs(const ar_channels *ch, const bool *gone) {
    int64_t macs = 0;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        if (node->op->macs == NULL) continue;
        ar_attributes a = kept_attributes(ch, gone, i);
        ar_shape in = kept_shape(ch, gone, node->inputs[0]), out = kept_shape(ch, gone, i);
        macs += node->op->macs(&a, &in, &out);
    }
    return macs;
}

int64_t ar_channels_bytes(const ar_channels *ch, const bool *gone) {
    int64_t values = 0;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        const ar_node *node = &ch->model->nodes[i];
        ar_parameter_shape shapes[AR_MAX_PARAMETERS] = {{0}};
        if (node->op->parameters == NULL) continue;
        ar_attributes a = kept_attributes(ch, gone, i);
        ar_shape in = kept_shape(ch, gone, node->inputs[0]);
        node->op->parameters(&a, &in, shapes);
        for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
            int64_t count = shapes[role].rank > 0;
            for (int32_t k = 0; k < shapes[role].rank; k++)
                count *= shapes[role].shape[k];
            values += count;
        }
    }
    return values * (int64_t)sizeof(float);
}

/* Copies the kept rows of a parameter and, of a weight, the columns of kept inputs. */
static void copy_parameter(const ar_channels *ch, const bool *gone, int32_t i, int32_t role,
                           ar_real *to) {
    const ar_node *node = &ch->model->nodes[i];
    const ar_parameter *p = &ch->model->parameters[node->parameters[role]];
    const ar_real *from = ch->model->slab + p->offset;
    bool columns = role == AR_WEIGHT && ar_has_filters(node);
    int64_t width = columns ? p->shape[1] : 1, per = p->count / p->shape[0] / width;
    int64_t outputs = p->shape[0] / node->attributes.groups; /* of one group */
    for (int64_t r = 0; r < p->shape[0]; r++)
        for (int64_t c = 0; c < width; c++, from += per) {
            int64_t input = r / outputs * width + c;
            if (ar_channel_gone(ch, gone, i, (int32_t)r)) continue;
            if (columns && ar_channel_gone(ch, gone, node->inputs[0], (int32_t)input)) continue;
            memcpy(to, from, sizeof(ar_real) * (size_t)per);
            to += per;
        }
}

/* What node i reads of channels that are gone: their constants, 0 for those that stay. Whether
 * there is anything but 0. */
static bool gone_inputs(const ar_channels *ch, const bool *gone, int32_t i, double *constant) {
    const ar_node *node = &ch->model->nodes[i];
    int32_t in = node->inputs[0];
    bool any = false;
    for (int32_t c = 0; c < ch->model->nodes[in].shape.c; c++) {
        constant[c] = ar_channel_gone(ch, gone, in, c) ? ch->constant[ch->first[in] + c] : 0;
        any = any || constant[c] != 0;
    }
    return any && node->op->absorb != NULL;
}

/* Adds what the constants gave to the kept outputs' biases. */
static int32_t absorb(const ar_channels *ch, const bool *gone, int32_t i, const double *constant,
                      advrob_model *small) {
    int32_t status = ADVROB_OK;
    const ar_node *node = &ch->model->nodes[i], *to = &small->nodes[i];
    const ar_parameter *border = to->border_bias < 0 ? NULL : &small->parameters[to->border_bias];
    size_t outputs = (size_t)node->shape.c, classes = 0;
    if (border != NULL) classes = (size_t)(border->count / border->shape[0]);
    void *block = NULL;
    AR_TRY(
        ar_calloc(&small->ctx->memory, outputs * (1 + classes), sizeof(double), "biases", &block));
    double *bias = block, *at_border = bias + outputs;
    node->op->absorb(&node->attributes, &ch->model->nodes[node->inputs[0]].shape,
                     ch->model->slab + ch->model->parameters[node->weight].offset, constant, bias,
                     border != NULL ? at_border : NULL);
    ar_real *b = small->slab + small->parameters[to->bias].offset;
    ar_real *e = border == NULL ? NULL : small->slab + border->offset;
    for (size_t o = 0; o < outputs; o++) {
        if (ar_channel_gone(ch, gone, i, (int32_t)o)) continue;
        *b = (ar_real)((double)*b + bias[o]);
        b++;
        for (size_t k = 0; k < classes; k++, e++)
            *e = (ar_real)((double)*e + at_border[o * classes + k]);
    }
out:
    ar_free(&small->ctx->memory, block);
    return status;
}

static int32_t add_node(const ar_channels *ch, const bool *gone, int32_t i, double *constant,
                        advrob_model *small) {
    int32_t status = ADVROB_OK;
    const ar_node *node = &ch->model->nodes[i];
    ar_attributes a = kept_attributes(ch, gone, i);
    bool constants = gone_inputs(ch, gone, i, constant);
    if (constants) {
        a.bias = true;
        a.border_bias = a.border_bias || a.padding[0] > 0 || a.padding[1] > 0;
    }
    AR_TRY(ar_model_add(small, node->op->name, node->name, node->inputs, &a, NULL));
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++)
        if (node->parameters[role] >= 0)
            copy_parameter(ch, gone, i, role,
                           small->slab +
                               small->parameters[small->nodes[i].parameters[role]].offset);
    if (constants) AR_TRY(absorb(ch, gone, i, constant, small));
out:
    return status;
}

int32_t ar_channels_remove(const ar_channels *ch, const bool *gone, advrob_model **out) {
    int32_t status = ADVROB_OK, widest = 0;
    advrob_model *small = NULL;
    void *block = NULL;
    for (int32_t i = 0; i < ch->model->node_count; i++)
        if (ch->model->nodes[i].shape.c > widest) widest = ch->model->nodes[i].shape.c;
    AR_TRY(ar_calloc(&ch->model->ctx->memory, (size_t)widest, sizeof(double), "constants", &block));
    AR_TRY(ar_model_begin_like(ch->model->ctx, ch->model, &small));
    for (int32_t i = 1; i < ch->model->node_count; i++)
        AR_TRY(add_node(ch, gone, i, block, small));
    AR_TRY(ar_model_check_finite(small));
    *out = small;
    small = NULL;
out:
    ar_free(&ch->model->ctx->memory, block);
    ar_model_release(small);
    return status;
}
