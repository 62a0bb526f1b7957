/* Filter pruning by L1 norm (Li et al. 2017, arXiv 1608.08710, section 3.1): the filters with the
 * smallest sum of absolute weights go, with their outputs' weights in the consumers. Channels are
 * really removed. */
#include <math.h>
#include <string.h>

#include "compress.h"

typedef struct prune_options {
    double sparsity;
    const char *scope;
} prune_options;

static const ar_option entries[] = {
    AR_F64(prune_options, sparsity, 0.5, 0, 1, "share of the filters that go, rounded down"),
    AR_STR(prune_options, scope, "layer", "layer|global",
           "rank within each layer, or all layers together by mean absolute weight"),
};
static const ar_option_table table = AR_TABLE(prune_options, entries);

/* A filter and its score; ties go by position, lowest first. */
typedef struct filter {
    double score;
    int32_t node, channel;
} filter;

typedef struct plan {
    ar_arena arena;
    const advrob_model *model;
    bool **keep;    /* [nodes][channels] */
    bool *prunable; /* [nodes] */
    int32_t *kept;  /* [nodes] */
} plan;

static bool is_convolution(const ar_node *node) {
    return node->op != NULL && strcmp(node->op->name, "conv2d") == 0;
}

/* Its channels, in and out, can only go group by group: they stay. */
static bool is_grouped(const ar_node *node) {
    return is_convolution(node) && node->attributes.groups > 1;
}

/* Whether value `node` reaches a sum or the result with its channels still its own. */
static bool tied(const advrob_model *model, int32_t node) {
    if (node == ar_model_output(model)) return true;
    for (int32_t i = node + 1; i < model->node_count; i++)
        for (int32_t k = 0; k < ar_node_inputs(&model->nodes[i]); k++) {
            if (model->nodes[i].inputs[k] != node) continue;
            int32_t rule = model->nodes[i].op->prune;
            if (rule == AR_PRUNE_TIES || is_grouped(&model->nodes[i])) return true;
            if (rule != AR_PRUNE_PRODUCES && tied(model, i)) return true;
        }
    return false;
}

static double norm(const advrob_model *model, int32_t node, int32_t channel, bool mean) {
    const ar_parameter *weight = &model->parameters[model->nodes[node].weight];
    int64_t count = weight->count / weight->shape[0];
    const ar_real *w = model->slab + weight->offset + channel * count;
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += fabs((double)w[i]);
    return mean ? sum / (double)count : sum;
}

/* Heap sort by score, then node, then channel: no recursion, no allocation, the same everywhere. */
static bool before(const filter *a, const filter *b) {
    if (a->score != b->score) return a->score < b->score;
    return a->node != b->node ? a->node < b->node : a->channel < b->channel;
}

static void sift(filter *filters, int64_t root, int64_t end) {
    while (2 * root + 1 < end) {
        int64_t child = 2 * root + 1;
        if (child + 1 < end && before(&filters[child], &filters[child + 1])) child++;
        if (!before(&filters[root], &filters[child])) return;
        filter swap = filters[root];
        filters[root] = filters[child];
        filters[child] = swap;
        root = child;
    }
}

static void sort(filter *filters, int64_t n) {
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift(filters, i, n);
    for (int64_t end = n - 1; end > 0; end--) {
        filter swap = filters[0];
        filters[0] = filters[end];
        filters[end] = swap;
        sift(filters, 0, end);
    }
}

/* Drops the lowest filters of the list, int(n * sparsity) of them, but never a node's last one. */
static void drop(plan *p, filter *filters, int64_t n, double sparsity) {
    int64_t goal = (int64_t)((double)n * sparsity), gone = 0;
    sort(filters, n);
    for (int64_t i = 0; i < n && gone < goal; i++) {
        if (p->kept[filters[i].node] == 1) continue;
        p->keep[filters[i].node][filters[i].channel] = false;
        p->kept[filters[i].node]--;
        gone++;
    }
}

static int64_t collect(const plan *p, int32_t node, bool mean, filter *filters) {
    int32_t channels = p->model->nodes[node].shape.c;
    for (int32_t c = 0; c < channels; c++)
        filters[c] = (filter){norm(p->model, node, c, mean), node, c};
    return channels;
}

/* Channels of nodes that only pass on what they get. */
static void follow(plan *p, int32_t i) {
    const ar_node *node = &p->model->nodes[i];
    if (node->op->prune != AR_PRUNE_KEEPS && node->op->prune != AR_PRUNE_SPREADS) return;
    int32_t from = node->inputs[0];
    int32_t per = node->shape.c / p->model->nodes[from].shape.c;
    p->kept[i] = p->kept[from] * per;
    for (int32_t c = 0; c < node->shape.c; c++)
        p->keep[i][c] = p->keep[from][c / per];
}

static int32_t make_plan(const ar_compression *job, plan *p) {
    int32_t status = ADVROB_OK;
    const prune_options *o = job->options;
    const advrob_model *model = job->model;
    bool global = strcmp(o->scope, "global") == 0;
    size_t nodes = (size_t)model->node_count, total = 0;
    int64_t listed = 0;
    void *block;
    p->model = model;
    if (ar_model_quantized(model))
        AR_FAIL(ADVROB_E_UNSUPPORTED, "prune_l1: the model is quantized; prune it before");
    AR_TRY(ar_arena_alloc(&p->arena, nodes, sizeof(bool *), "pruning plan", &block));
    p->keep = block;
    AR_TRY(ar_arena_alloc(&p->arena, nodes, sizeof(bool), "pruning plan", &block));
    p->prunable = block;
    AR_TRY(ar_arena_alloc(&p->arena, nodes, sizeof(int32_t), "pruning plan", &block));
    p->kept = block;
    for (size_t i = 0; i < nodes; i++) {
        size_t channels = (size_t)model->nodes[i].shape.c;
        AR_TRY(ar_arena_alloc(&p->arena, channels, sizeof(bool), "pruning plan", &block));
        p->keep[i] = block;
        memset(block, 1, channels * sizeof(bool));
        p->kept[i] = (int32_t)channels;
        p->prunable[i] = is_convolution(&model->nodes[i]) && !is_grouped(&model->nodes[i]) &&
                         !tied(model, (int32_t)i);
        if (p->prunable[i]) total += channels;
    }
    AR_TRY(ar_arena_alloc(&p->arena, total, sizeof(filter), "pruning plan", &block));
    filter *filters = block;
    for (int32_t i = 1; i < model->node_count; i++) {
        if (p->prunable[i]) listed += collect(p, i, global, filters + (global ? listed : 0));
        if (p->prunable[i] && !global) drop(p, filters, model->nodes[i].shape.c, o->sparsity);
    }
    if (global) drop(p, filters, listed, o->sparsity);
    for (int32_t i = 1; i < model->node_count; i++)
        follow(p, i);
out:
    return status;
}

/* Copies the kept rows of a parameter and, where it has columns (input channels), of those the
 * kept ones. */
static void copy_parameter(const plan *p, int32_t node, const ar_parameter *from, ar_real *target) {
    const bool *rows = p->keep[node], *columns = p->keep[p->model->nodes[node].inputs[0]];
    bool weight = from->role == AR_WEIGHT && from->rank > 1;
    int64_t width = weight ? from->shape[1] : 1;
    int64_t taps = from->count / from->shape[0] / width;
    const ar_real *w = p->model->slab + from->offset;
    for (int64_t r = 0; r < from->shape[0]; r++)
        for (int64_t c = 0; c < width; c++) {
            if (rows[r] && (!weight || columns[c])) {
                memcpy(target, w, sizeof(ar_real) * (size_t)taps);
                target += taps;
            }
            w += taps;
        }
}

static void copy_parameters(const plan *p, int32_t i, advrob_model *out) {
    for (int32_t role = 0; role < AR_MAX_PARAMETERS; role++) {
        int32_t from = p->model->nodes[i].parameters[role], to = out->nodes[i].parameters[role];
        if (from >= 0)
            copy_parameter(p, i, &p->model->parameters[from],
                           out->slab + out->parameters[to].offset);
    }
}

static int32_t run(const ar_compression *job, advrob_model **out) {
    int32_t status = ADVROB_OK;
    plan p = {.keep = NULL};
    const advrob_model *model = job->model;
    advrob_model *small = NULL;
    ar_arena_init(&p.arena, &job->ctx->memory);
    AR_TRY(make_plan(job, &p));
    AR_TRY(ar_model_begin_like(job->ctx, model, &small));
    for (int32_t i = 1; i < model->node_count; i++) {
        const ar_node *node = &model->nodes[i];
        ar_attributes attributes = node->attributes;
        if (p.prunable[i]) attributes.outputs = p.kept[i];
        AR_TRY(ar_model_add(small, node->op->name, node->name, node->inputs, &attributes, NULL));
        copy_parameters(&p, i, small);
    }
    *out = small;
    small = NULL;
out:
    ar_model_release(small);
    ar_arena_free(&p.arena);
    return status;
}

static int32_t write_plan(const ar_compression *job, ar_buffer *text) {
    int32_t status = ADVROB_OK;
    plan p = {.keep = NULL};
    ar_arena_init(&p.arena, &job->ctx->memory);
    AR_TRY(make_plan(job, &p));
    ar_buffer_add(text, "%-12s %8s %8s %8s\n", "layer", "filters", "kept", "removed");
    for (int32_t i = 1; i < job->model->node_count; i++) {
        const ar_node *node = &job->model->nodes[i];
        if (!is_convolution(node)) continue;
        ar_buffer_add(
            text, "%-12s %8d %8d %8d%s\n", node->name, node->shape.c, p.kept[i],
            node->shape.c - p.kept[i],
            p.prunable[i]
                ? ""
                : "  whole: its channels meet others in a sum or in groups, or are the result");
    }
    AR_TRY(ar_buffer_status(text));
out:
    ar_arena_free(&p.arena);
    return status;
}

const ar_compressor ar_compressor_prune_l1 = {
    .name = "prune_l1",
    .help = "removes the filters with the smallest L1 norm",
    .options = &table,
    .run = run,
    .plan = write_plan,
};
