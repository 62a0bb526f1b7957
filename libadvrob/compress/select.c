/* Which channels go: the lowest of each group, or of all, or what every layer alone would drop. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "prune.h"

/* What is ranked: a class, or in union mode one rated cell. Ties go by number, lowest first. */
typedef struct item {
    double score;
    int32_t number;
} item;

typedef struct selection {
    const ar_rating *rating;
    const ar_prune_options *options;
    const ar_channels *channels, *origin;
    item *items;       /* lists, one behind the other, each ranked */
    int64_t *list_end; /* [lists] */
    int32_t lists;
    int32_t *original; /* [lists]: items that there were before any step */
    double *sparsity;  /* [lists]: as a layer has its own; NaN: the common one */
    bool by_cell;
    bool *dropped; /* union: [cells] */
    int32_t *left; /* [nodes]: filters */
    bool *gone;    /* [classes] */
} selection;

/* Heap sort: no recursion, no allocation, the same everywhere. */
static bool before(const item *a, const item *b) {
    return a->score != b->score ? a->score < b->score : a->number < b->number;
}

static void sift(item *items, int64_t root, int64_t end) {
    while (2 * root + 1 < end) {
        int64_t child = 2 * root + 1;
        if (child + 1 < end && before(&items[child], &items[child + 1])) child++;
        if (!before(&items[root], &items[child])) return;
        item swap = items[root];
        items[root] = items[child];
        items[child] = swap;
        root = child;
    }
}

static void sort(item *items, int64_t n) {
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift(items, i, n);
    for (int64_t end = n - 1; end > 0; end--) {
        item swap = items[0];
        items[0] = items[end];
        items[end] = swap;
        sift(items, 0, end);
    }
}

/* Lists */

/* The mean of what the criterion said of a class's cells. */
static int32_t class_score(const ar_channels *ch, const double *scores, int32_t class,
                           double *out) {
    double sum = 0;
    int32_t rated = 0;
    for (int32_t k = ch->class_first[class]; k < ch->class_first[class + 1]; k++) {
        if (isnan(scores[ch->members[k]])) continue;
        sum += scores[ch->members[k]];
        rated++;
    }
    *out = sum / rated;
    if (rated > 0) return ADVROB_OK;
    return ar_error(ADVROB_E_UNSUPPORTED,
                    "pruning: the criterion cannot rate the channels of %s: no batch norm has them",
                    ch->model->nodes[ch->node_of[ch->members[ch->class_first[class]]]].name);
}

static void end_list(selection *s, int64_t end, int32_t original) {
    int64_t begin = s->lists == 0 ? 0 : s->list_end[s->lists - 1];
    sort(s->items + begin, end - begin);
    s->original[s->lists] = original;
    s->sparsity[s->lists] = NAN;
    s->list_end[s->lists++] = end;
}

/* The group of the net before any step that a group was. */
static int32_t original_group(const selection *s, int32_t group) {
    int32_t g = 0;
    while (g < s->origin->groups && !ar_classes_alike(s->origin, s->origin->sample[g], s->channels,
                                                      s->channels->sample[group]))
        g++;
    return g;
}

static int32_t list_classes(selection *s, const double *scores) {
    const ar_channels *ch = s->channels;
    int64_t n = 0;
    int32_t status = ADVROB_OK, total = 0;
    bool global = strcmp(s->options->scope, "global") == 0;
    for (int32_t group = 0; group < ch->groups; group++) {
        for (int32_t class = 0; class < ch->classes; class ++) {
            if (ch->group_of[class] != group) continue;
            s->items[n].number = class;
            AR_TRY(class_score(ch, scores, class, &s->items[n].score));
            n++;
        }
        if (!global) end_list(s, n, s->origin->size[original_group(s, group)]);
    }
    for (int32_t group = 0; group < s->origin->groups; group++)
        total += s->origin->size[group];
    if (global) end_list(s, n, total);
out:
    return status;
}

/* Every rated layer by itself, as if nothing were coupled. */
static void list_cells(selection *s, const double *scores) {
    const ar_channels *ch = s->channels;
    int64_t n = 0;
    int32_t total = 0;
    bool global = strcmp(s->options->scope, "global") == 0;
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        int64_t begin = n;
        for (int32_t cell = ch->first[i]; cell < ch->first[i + 1]; cell++)
            if (!isnan(scores[cell]) && ch->group_of[ch->class_of[cell]] >= 0)
                s->items[n++] = (item){scores[cell], cell};
        int32_t before_steps =
            (int32_t)(n - begin) + s->origin->model->nodes[i].shape.c - ch->model->nodes[i].shape.c;
        if (n > begin) total += before_steps;
        if (n > begin && !global) end_list(s, n, before_steps);
    }
    if (global) end_list(s, n, total);
}

/* "conv1=0.2,conv2=0": each name's lists get their own share. */
static bool list_has(const selection *s, int32_t list, int32_t node) {
    const ar_channels *ch = s->channels;
    for (int64_t k = list == 0 ? 0 : s->list_end[list - 1]; k < s->list_end[list]; k++) {
        int32_t number = s->items[k].number;
        if (s->by_cell && ch->node_of[number] == node) return true;
        if (s->by_cell) continue;
        for (int32_t m = ch->class_first[number]; m < ch->class_first[number + 1]; m++)
            if (ch->node_of[ch->members[m]] == node) return true;
    }
    return false;
}

static int32_t read_layer(selection *s, const char *text, size_t length) {
    char name[AR_NAME_SIZE] = "";
    double value = 0;
    const char *equals = memchr(text, '=', length);
    size_t size = equals == NULL ? length : (size_t)(equals - text);
    if (equals == NULL || size >= sizeof name ||
        !ar_parse_f64(equals + 1, length - size - 1, &value) || !(value >= 0 && value <= 1))
        return ar_error(ADVROB_E_RANGE,
                        "pruning: layer_sparsity has \"%.*s\", expected a layer's name, =, and a "
                        "number of 0 to 1",
                        (int)(length < 80 ? length : 80), text);
    memcpy(name, text, size);
    int32_t node = ar_model_find_node(s->channels->model, name);
    if (node < 0)
        return ar_error(ADVROB_E_UNKNOWN, "pruning: layer_sparsity: the model has no node \"%s\"",
                        name);
    if (s->lists == 1 && strcmp(s->options->scope, "global") == 0)
        return ar_error(ADVROB_E_INVALID,
                        "pruning: layer_sparsity needs scope \"layer\", got \"global\"");
    bool found = false;
    for (int32_t list = 0; list < s->lists; list++) { /* a layer may have channels in several */
        if (!list_has(s, list, node)) continue;
        if (!isnan(s->sparsity[list]) && s->sparsity[list] != value)
            return ar_error(ADVROB_E_INVALID,
                            "pruning: layer_sparsity: \"%s\" is coupled to a layer with another "
                            "sparsity, %g",
                            name, s->sparsity[list]);
        s->sparsity[list] = value;
        found = true;
    }
    if (found) return ADVROB_OK;
    return ar_error(ADVROB_E_INVALID, "pruning: layer_sparsity: \"%s\" has no channels that may go",
                    name);
}

static int32_t read_layers(selection *s) {
    const char *text = s->options->layer_sparsity;
    while (*text != 0) {
        size_t length = strcspn(text, ",");
        int32_t status = read_layer(s, text, length);
        if (status < 0) return status;
        text += length + (text[length] == ',');
    }
    return ADVROB_OK;
}

/* Dropping */

/* Counts a class's channels in or out of their layers. */
static void count(selection *s, int32_t class, int32_t by) {
    const ar_channels *ch = s->channels;
    for (int32_t k = ch->class_first[class]; k < ch->class_first[class + 1]; k++)
        s->left[ch->node_of[ch->members[k]]] += by;
}

/* Whether each of the class's layers has the filters that it must keep. */
static bool enough(const selection *s, int32_t class) {
    const ar_channels *ch = s->channels;
    for (int32_t k = ch->class_first[class]; k < ch->class_first[class + 1]; k++) {
        int32_t node = ch->node_of[ch->members[k]];
        if (ar_has_filters(&ch->model->nodes[node]) && s->left[node] < s->options->least)
            return false;
    }
    return true;
}

/* Marks the class and counts; false: it has to stay. */
static bool drop(selection *s, int32_t class) {
    if (s->gone[class]) return false;
    count(s, class, -1);
    s->gone[class] = enough(s, class);
    if (!s->gone[class]) count(s, class, 1);
    return s->gone[class];
}

/* A cell is dropped by its layer; its class goes with the last of the rated ones. */
static bool drop_cell(selection *s, const double *scores, int32_t cell) {
    const ar_channels *ch = s->channels;
    int32_t class = ch->class_of[cell];
    s->dropped[cell] = true;
    for (int32_t k = ch->class_first[class]; k < ch->class_first[class + 1]; k++)
        if (!isnan(scores[ch->members[k]]) && !s->dropped[ch->members[k]]) return true;
    return drop(s, class);
}

/* Everything for a share of the filters, from scratch. */
static void drop_share(selection *s, const double *scores, double share) {
    const ar_channels *ch = s->channels;
    int64_t k = 0;
    memset(s->gone, 0, sizeof(bool) * (size_t)ch->classes);
    memset(s->dropped, 0, sizeof(bool) * (size_t)ch->cells);
    for (int32_t i = 0; i < ch->model->node_count; i++)
        s->left[i] = ch->model->nodes[i].shape.c;
    for (int32_t list = 0; list < s->lists; list++) {
        int64_t begin = k, end = s->list_end[list];
        double own = isnan(s->sparsity[list]) ? share : s->sparsity[list];
        /* What went in earlier steps counts. */
        int64_t goal = (int64_t)((double)s->original[list] * own);
        goal -= s->original[list] - (end - begin);
        for (; k < end && goal > 0; k++) {
            int32_t number = s->items[k].number;
            goal -= s->by_cell ? drop_cell(s, scores, number) : drop(s, number);
        }
        k = end;
    }
}

static int64_t cost(const selection *s, const ar_channels *ch, const bool *gone) {
    bool macs = strcmp(s->options->target, "macs") == 0;
    return macs ? ar_channels_macs(ch, gone) : ar_channels_bytes(ch, gone);
}

/* The smallest share that brings the net to its target. */
static int32_t meet_target(selection *s, const double *scores, double sparsity) {
    enum { HALVINGS = 24 }; /* of [0, 1]: finer than a filter among 16 million */
    int32_t status = ADVROB_OK;
    double low = 0, high = 1;
    void *block;
    AR_TRY(ar_arena_alloc(s->rating->arena, (size_t)s->origin->classes, sizeof(bool), "pruning",
                          &block));
    memset(block, 0, (size_t)s->origin->classes * sizeof(bool));
    int64_t whole = cost(s, s->origin, block), goal = (int64_t)((double)whole * (1 - sparsity));
    drop_share(s, scores, 1);
    int64_t least = cost(s, s->channels, s->gone);
    if (least > goal)
        AR_FAIL(ADVROB_E_RANGE,
                "pruning: sparsity %g of %lld %s cannot be met: with the fewest filters %lld stay",
                sparsity, (long long)whole,
                strcmp(s->options->target, "macs") == 0 ? "multiply-adds" : "bytes",
                (long long)least);
    for (int32_t i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2;
        drop_share(s, scores, middle);
        if (cost(s, s->channels, s->gone) <= goal)
            high = middle;
        else
            low = middle;
    }
    drop_share(s, scores, high);
out:
    return status;
}

static int32_t allocate(selection *s) {
    int32_t status = ADVROB_OK;
    ar_arena *arena = s->rating->arena;
    size_t cells = (size_t)s->channels->cells + 1;
    void *block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(item), "pruning", &block));
    s->items = block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(int64_t), "pruning", &block));
    s->list_end = block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(int32_t), "pruning", &block));
    s->original = block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(double), "pruning", &block));
    s->sparsity = block;
    AR_TRY(ar_arena_alloc(arena, cells, sizeof(bool), "pruning", &block));
    s->dropped = block;
    AR_TRY(ar_arena_alloc(arena, (size_t)s->channels->model->node_count, sizeof(int32_t), "pruning",
                          &block));
    s->left = block;
out:
    return status;
}

int32_t ar_prune_select(const ar_rating *rating, const ar_channels *origin, const double *scores,
                        double sparsity, bool *gone) {
    int32_t status = ADVROB_OK;
    const ar_prune_options *o = rating->job->options;
    selection s = {.rating = rating,
                   .options = o,
                   .channels = rating->channels,
                   .origin = origin,
                   .by_cell = strcmp(o->coupling, "union") == 0,
                   .gone = gone};
    AR_TRY(allocate(&s));
    if (s.by_cell)
        list_cells(&s, scores);
    else
        AR_TRY(list_classes(&s, scores));
    AR_TRY(read_layers(&s));
    if (strcmp(o->target, "channels") == 0)
        drop_share(&s, scores, sparsity);
    else
        AR_TRY(meet_target(&s, scores, sparsity));
out:
    return status;
}
