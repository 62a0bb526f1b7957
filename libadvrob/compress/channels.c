/* Coupled channels: what can only be removed together, found by joining cells along the graph, as
 * the operators' prune rules say (Fang et al. 2023, arXiv 2301.12900, has the idea: dependency
 * groups). */
#include <math.h>
#include <string.h>

#include "op/norm.h"
#include "prune.h"

bool ar_has_filters(const ar_node *node) {
    return node->op != NULL && node->op->prune == AR_PRUNE_PRODUCES && node->weight >= 0;
}

bool ar_channel_gone(const ar_channels *ch, const bool *gone, int32_t node, int32_t channel) {
    return gone[ch->class_of[ch->first[node] + channel]];
}

/* Joining: a cell's parent is a lower cell of its class, or itself. */

static int32_t root_of(int32_t *parent, int32_t cell) {
    while (parent[cell] != cell) {
        parent[cell] = parent[parent[cell]];
        cell = parent[cell];
    }
    return cell;
}

static void join(int32_t *parent, int32_t a, int32_t b) {
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a < b) parent[b] = a;
    if (b < a) parent[a] = b;
}

/* Grouped convolutions keep as many channels in each group: the same place goes in all of them. A
 * depthwise one hands channels on. */
static void join_groups(const ar_channels *ch, int32_t *parent, const ar_node *node, int32_t at,
                        int32_t in) {
    int32_t groups = node->attributes.groups, c = ch->model->nodes[node->inputs[0]].shape.c;
    int32_t outputs = node->shape.c, per_in = c / groups, per_out = outputs / groups;
    if (groups == 1) return;
    for (int32_t o = 0; o < outputs; o++)
        join(parent, at + o, groups == c ? in + o / per_out : at + o % per_out);
    for (int32_t i = 0; i < c && groups < c; i++)
        join(parent, in + i, in + i % per_in);
}

static void join_node(const ar_channels *ch, int32_t *parent, int32_t i) {
    const ar_node *node = &ch->model->nodes[i];
    int32_t at = ch->first[i], in = ch->first[node->inputs[0]], rule = node->op->prune;
    int32_t c = ch->model->nodes[node->inputs[0]].shape.c;
    if (rule == AR_PRUNE_PRODUCES) join_groups(ch, parent, node, at, in);
    for (int32_t k = 0; k < node->shape.c; k++) {
        if (rule == AR_PRUNE_KEEPS) join(parent, at + k, in + k);
        if (rule == AR_PRUNE_SPREADS) join(parent, at + k, in + k / (node->shape.c / c));
        if (rule == AR_PRUNE_TIES)
            for (int32_t j = 0; j < node->op->inputs; j++)
                join(parent, at + k, ch->first[node->inputs[j]] + k);
        if (rule == AR_PRUNE_JOINS)
            join(parent, at + k, k < c ? in + k : ch->first[node->inputs[1]] + k - c);
        int32_t from = k - node->attributes.before;
        if (rule == AR_PRUNE_PADS && from >= 0 && from < c) join(parent, at + k, in + from);
    }
}

/* Constants */

/* What node i holds in the channel of cell `cell` when the class is gone. */
static double constant_of(const ar_channels *ch, int32_t i, int32_t cell) {
    const advrob_model *model = ch->model;
    const ar_node *node = &model->nodes[i];
    int32_t in = ch->first[node->inputs[0]], k = cell - ch->first[i];
    int32_t c = model->nodes[node->inputs[0]].shape.c;
    double x = node->op->prune == AR_PRUNE_KEEPS ? ch->constant[in + k] : 0;
    switch (node->op->prune) {
    case AR_PRUNE_PRODUCES:
        return 0;
    case AR_PRUNE_SPREADS:
        return ch->constant[in + k / (node->shape.c / c)];
    case AR_PRUNE_TIES:
        for (int32_t j = 0; j < node->op->inputs; j++)
            x += ch->constant[ch->first[node->inputs[j]] + k];
        return x;
    case AR_PRUNE_JOINS:
        return ch->constant[k < c ? in + k : ch->first[node->inputs[1]] + k - c];
    case AR_PRUNE_PADS:
        k -= node->attributes.before;
        return k >= 0 && k < c ? ch->constant[in + k] : 0;
    default:
        break;
    }
    if (node->op->whole_batch) {
        const ar_real *values[AR_RUNNING_VAR + 1];
        for (int32_t role = 0; role <= AR_RUNNING_VAR; role++)
            values[role] = model->slab + model->parameters[node->parameters[role]].offset;
        double scale = ar_norm_scale(&node->attributes, values[AR_WEIGHT][k],
                                     (double)values[AR_RUNNING_VAR][k]);
        return (x - (double)values[AR_RUNNING_MEAN][k]) * scale + (double)values[AR_BIAS][k];
    }
    return strcmp(node->op->name, "relu") == 0 ? fmax(x, 0) : x;
}

/* Padding counts in an average: there a constant is none at the border. */
static bool blurs(const ar_node *node) {
    return strcmp(node->op->name, "avg_pool") == 0 &&
           (node->attributes.padding[0] > 0 || node->attributes.padding[1] > 0);
}

static void find_constants(ar_channels *ch, bool *stays) {
    for (int32_t i = 1; i < ch->model->node_count; i++)
        for (int32_t cell = ch->first[i]; cell < ch->first[i + 1]; cell++) {
            ch->constant[cell] = constant_of(ch, i, cell);
            if (ch->constant[cell] != 0 && blurs(&ch->model->nodes[i])) stays[cell] = true;
        }
}

/* Groups */

/* The next filter of a class at or behind member `k`; -1: no more. */
static int32_t next_filter(const ar_channels *ch, int32_t class, int32_t *k) {
    for (; *k < ch->class_first[class + 1]; (*k)++) {
        int32_t node = ch->node_of[ch->members[*k]];
        if (!ar_has_filters(&ch->model->nodes[node])) continue;
        (*k)++;
        return node;
    }
    return -1;
}

bool ar_classes_alike(const ar_channels *a, int32_t class_a, const ar_channels *b,
                      int32_t class_b) {
    int32_t i = a->class_first[class_a], j = b->class_first[class_b], node;
    do {
        node = next_filter(a, class_a, &i);
        if (next_filter(b, class_b, &j) != node) return false;
    } while (node >= 0);
    return true;
}

/* Whether the class may go: it has filters, of layers that may lose them, and nothing holds it. */
static bool may_go(const ar_channels *ch, int32_t class, bool linear, const bool *stays) {
    int32_t k = ch->class_first[class], filters = 0, node;
    for (int32_t m = k; m < ch->class_first[class + 1]; m++)
        if (stays[ch->members[m]]) return false;
    while ((node = next_filter(ch, class, &k)) >= 0) {
        if (!linear && strcmp(ch->model->nodes[node].op->name, "linear") == 0) return false;
        filters++;
    }
    return filters > 0;
}

static void find_groups(ar_channels *ch, bool linear, const bool *stays) {
    for (int32_t class = 0; class < ch->classes; class ++) {
        int32_t group = 0;
        ch->group_of[class] = -1;
        if (!may_go(ch, class, linear, stays)) continue;
        while (group < ch->groups && !ar_classes_alike(ch, ch->sample[group], ch, class))
            group++;
        if (group == ch->groups) {
            ch->sample[group] = class;
            ch->size[ch->groups++] = 0;
        }
        ch->group_of[class] = group;
        ch->size[group]++;
    }
}

/* Numbers classes by their lowest cells and lists their members. */
static void number_classes(ar_channels *ch, int32_t *parent) {
    for (int32_t cell = 0; cell < ch->cells; cell++) {
        int32_t root = root_of(parent, cell);
        ch->class_of[cell] = root == cell ? ch->classes++ : ch->class_of[root];
    }
    memset(ch->class_first, 0, sizeof(int32_t) * ((size_t)ch->classes + 1));
    for (int32_t cell = 0; cell < ch->cells; cell++)
        ch->class_first[ch->class_of[cell] + 1]++;
    for (int32_t class = 0; class < ch->classes; class ++)
        ch->class_first[class + 1] += ch->class_first[class];
    int32_t *next = parent; /* of each class; the roots are no longer needed */
    memcpy(next, ch->class_first, sizeof(int32_t) * (size_t)ch->classes);
    for (int32_t cell = 0; cell < ch->cells; cell++)
        ch->members[next[ch->class_of[cell]]++] = cell;
}

static int32_t allocate(ar_channels *ch, ar_arena *arena, int32_t **parent, bool **stays) {
    int32_t status = ADVROB_OK;
    void *block;
    size_t cells = (size_t)ch->cells + 1;
    int32_t **const arrays[] = {&ch->node_of,  &ch->class_of, &ch->class_first, &ch->members,
                                &ch->group_of, &ch->sample,   &ch->size,        parent};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        AR_TRY(ar_arena_alloc(arena, cells, sizeof(int32_t), "coupled channels", &block));
        *arrays[i] = block;
    }
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(double), "coupled channels", &block));
    ch->constant = block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(bool), "coupled channels", &block));
    *stays = block;
out:
    return status;
}

int32_t ar_channels_find(const advrob_model *model, bool linear, ar_arena *arena,
                         ar_channels *out) {
    int32_t status = ADVROB_OK, *parent = NULL, last = ar_model_output(model);
    int64_t cells = 0;
    bool *stays = NULL;
    ar_channels ch = {.model = model};
    void *block;
    if (ar_model_quantized(model))
        AR_FAIL(ADVROB_E_UNSUPPORTED, "pruning: the model is quantized; prune it before");
    AR_TRY(ar_arena_alloc(arena, (size_t)model->node_count + 1, sizeof(int32_t), "coupled channels",
                          &block));
    ch.first = block;
    for (int32_t i = 0; i <= model->node_count; i++) {
        ch.first[i] = (int32_t)cells;
        if (i < model->node_count) cells += model->nodes[i].shape.c;
        if (cells >= INT32_MAX)
            AR_FAIL(ADVROB_E_LIMIT, "pruning: more than %d channels in all values", INT32_MAX - 1);
    }
    ch.cells = (int32_t)cells;
    AR_TRY(allocate(&ch, arena, &parent, &stays));
    for (int32_t i = 0; i < model->node_count; i++)
        for (int32_t cell = ch.first[i]; cell < ch.first[i + 1]; cell++) {
            ch.node_of[cell] = i;
            parent[cell] = cell;
            ch.constant[cell] = 0;
            stays[cell] = i == 0 || i == last;
        }
    for (int32_t i = 1; i < model->node_count; i++)
        join_node(&ch, parent, i);
    find_constants(&ch, stays);
    number_classes(&ch, parent);
    find_groups(&ch, linear, stays);
    *out = ch;
out:
    return status;
}
