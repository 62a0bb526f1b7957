/* A pruning plan as text, and read again (prune.c says how it looks). */
#include <stdlib.h>
#include <string.h>

#include "prune.h"

static bool may_lose(const ar_channels *ch, int32_t node) {
    for (int32_t cell = ch->first[node]; cell < ch->first[node + 1]; cell++)
        if (ch->group_of[ch->class_of[cell]] >= 0) return true;
    return false;
}

int32_t ar_plan_print(const ar_channels *ch, const bool *gone, ar_buffer *text) {
    const advrob_model *model = ch->model;
    ar_buffer_add(text, "# multiply-adds %lld -> %lld, bytes of parameters %lld -> %lld\n",
                  (long long)ar_model_macs(model), (long long)ar_channels_macs(ch, gone),
                  (long long)(model->slab_count * (int64_t)sizeof(float)),
                  (long long)ar_channels_bytes(ch, gone));
    for (int32_t i = 1; i < model->node_count; i++) {
        int32_t removed = 0, filters = model->nodes[i].shape.c;
        if (!ar_has_filters(&model->nodes[i])) continue;
        for (int32_t c = 0; c < filters; c++)
            removed += ar_channel_gone(ch, gone, i, c);
        if (!may_lose(ch, i)) {
            ar_buffer_add(text, "%s: stays\n", model->nodes[i].name);
            continue;
        }
        ar_buffer_add(text, "%s: %d of %d go:", model->nodes[i].name, removed, filters);
        for (int32_t c = 0; c < filters; c++)
            if (ar_channel_gone(ch, gone, i, c)) ar_buffer_add(text, " %d", c);
        ar_buffer_add(text, "\n");
    }
    return ar_buffer_status(text);
}

/* Marks the channels that a layer's line lists; they are numbers from `at` to `end`. */
static int32_t parse_channels(const ar_channels *ch, int32_t node, const char *at, const char *end,
                              bool *listed) {
    const ar_node *layer = &ch->model->nodes[node];
    for (;;) {
        while (at < end && (*at == ' ' || *at == ',' || *at == '\r'))
            at++;
        if (at == end) return ADVROB_OK;
        size_t length = 0;
        int64_t channel;
        while (at + length < end && at[length] != ' ' && at[length] != ',' && at[length] != '\r')
            length++;
        if (!ar_parse_i64(at, length, &channel) || channel < 0 || channel >= layer->shape.c)
            return ar_error(ADVROB_E_RANGE,
                            "pruning plan: %s: channel \"%.*s\", expected a number of 0 to %d",
                            layer->name, (int)(length < 20 ? length : 20), at, layer->shape.c - 1);
        int32_t cell = ch->first[node] + (int32_t)channel;
        if (ch->group_of[ch->class_of[cell]] < 0)
            return ar_error(ADVROB_E_UNSUPPORTED,
                            "pruning plan: %s: channel %d has to stay: it is part of the input or "
                            "the result, or what holds it cannot lose channels",
                            layer->name, (int)channel);
        listed[cell] = true;
        at += length;
    }
}

static int32_t parse_line(const ar_channels *ch, const char *line, const char *end, bool *listed) {
    static const char go[] = "go:";
    char name[AR_NAME_SIZE];
    const char *colon = memchr(line, ':', (size_t)(end - line));
    size_t size = colon == NULL ? 0 : (size_t)(colon - line);
    if (colon == NULL || size >= sizeof name)
        return ar_error(
            ADVROB_E_FORMAT,
            "pruning plan: line \"%.*s\", expected \"<layer>: <k> of <n> go: <channels>\""
            " or \"<layer>: stays\"",
            (int)(end - line < 60 ? end - line : 60), line);
    memcpy(name, line, size);
    name[size] = 0;
    int32_t node = ar_model_find_node(ch->model, name);
    if (node < 0 || !ar_has_filters(&ch->model->nodes[node]))
        return ar_error(ADVROB_E_UNKNOWN, "pruning plan: the model has no layer \"%s\"", name);
    for (const char *at = colon + 1; at + strlen(go) <= end; at++)
        if (memcmp(at, go, strlen(go)) == 0)
            return parse_channels(ch, node, at + strlen(go), end, listed);
    return ADVROB_OK;
}

/* Classes that go: all of a class's filters must be listed, and every layer keeps one. */
static int32_t mark_classes(const ar_channels *ch, const bool *listed, bool *gone) {
    for (int32_t class = 0; class < ch->classes; class ++) {
        int32_t with = -1, without = -1;
        for (int32_t k = ch->class_first[class]; k < ch->class_first[class + 1]; k++) {
            int32_t cell = ch->members[k];
            if (!ar_has_filters(&ch->model->nodes[ch->node_of[cell]])) continue;
            if (listed[cell])
                with = cell;
            else
                without = cell;
        }
        gone[class] = with >= 0;
        if (with < 0 || without < 0) continue;
        int32_t a = ch->node_of[with], b = ch->node_of[without];
        return ar_error(
            ADVROB_E_INVALID,
            "pruning plan: channel %d of %s goes, and channel %d of %s, which is coupled "
            "to it, is not listed",
            with - ch->first[a], ch->model->nodes[a].name, without - ch->first[b],
            ch->model->nodes[b].name);
    }
    for (int32_t i = 1; i < ch->model->node_count; i++) {
        bool left = !ar_has_filters(&ch->model->nodes[i]);
        for (int32_t c = 0; c < ch->model->nodes[i].shape.c && !left; c++)
            left = !ar_channel_gone(ch, gone, i, c);
        if (!left)
            return ar_error(ADVROB_E_INVALID,
                            "pruning plan: all %d channels of %s go, expected at least one to stay",
                            ch->model->nodes[i].shape.c, ch->model->nodes[i].name);
    }
    return ADVROB_OK;
}

int32_t ar_plan_parse(const ar_channels *ch, const char *text, bool *gone) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    ar_memory *memory = &ch->model->ctx->memory;
    AR_TRY(ar_calloc(memory, (size_t)ch->cells, sizeof(bool), "pruning plan", &block));
    while (*text != 0) {
        size_t length = strcspn(text, "\n");
        if (length > 0 && *text != '#') AR_TRY(parse_line(ch, text, text + length, block));
        text += length + (text[length] == '\n');
    }
    AR_TRY(mark_classes(ch, block, gone));
out:
    ar_free(memory, block);
    return status;
}
