/* Any text is refused or parsed; what is parsed is written and parses to the same tree again. */
#include <string.h>

#include "fuzz.h"
#include "io/json.h"

#define MAX_VALUES 10000

static void write_tree(ar_buffer *b, const ar_json *value) {
    bool object = value->kind == AR_JSON_OBJECT;
    switch (value->kind) {
    case AR_JSON_BOOL:
        ar_buffer_add(b, "%s", value->truth ? "true" : "false");
        break;
    case AR_JSON_NUMBER:
        ar_json_write_f64(b, value->number);
        break;
    case AR_JSON_STRING:
        HOLDS(strlen(value->text) == value->length);
        ar_json_write_string(b, value->text);
        break;
    case AR_JSON_ARRAY:
    case AR_JSON_OBJECT:
        ar_buffer_add(b, object ? "{" : "[");
        for (size_t i = 0; i < value->count; i++) {
            if (i > 0) ar_buffer_add(b, ",");
            if (object) {
                HOLDS(ar_json_get(value, value->keys[i]) == &value->items[i]);
                ar_json_write_string(b, value->keys[i]);
                ar_buffer_add(b, ":");
            }
            write_tree(b, &value->items[i]);
        }
        ar_buffer_add(b, object ? "}" : "]");
        break;
    default:
        ar_buffer_add(b, "null");
    }
}

static void same_tree(const ar_json *a, const ar_json *b) {
    HOLDS(a->kind == b->kind && a->truth == b->truth && a->count == b->count);
    HOLDS(a->number == b->number && a->length == b->length);
    HOLDS(a->kind != AR_JSON_STRING || memcmp(a->text, b->text, a->length) == 0);
    for (size_t i = 0; i < a->count; i++) {
        if (a->kind == AR_JSON_OBJECT) HOLDS(strcmp(a->keys[i], b->keys[i]) == 0);
        same_tree(&a->items[i], &b->items[i]);
    }
}

/* Walking member by member sees what the tree holds. */
static void walk(ar_memory *memory, const char *text, size_t size, const ar_json *tree) {
    ar_json_walk place = {.name = "fuzz", .text = text, .size = size};
    size_t count = 0;
    for (;;) {
        const char *key;
        ar_json *value;
        ar_arena arena;
        ar_arena_init(&arena, memory);
        int32_t status = ar_json_walk_next(&place, MAX_VALUES, &arena, &key, &value);
        if (tree) {
            HOLDS(status == ADVROB_OK);
            if (key) {
                HOLDS(count < tree->count && strcmp(key, tree->keys[count]) == 0);
                same_tree(value, &tree->items[count]);
            }
        }
        bool more = status == ADVROB_OK && key != NULL;
        ar_arena_free(&arena);
        if (!more) break;
        count++;
    }
    HOLDS(!tree || count == tree->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    uint64_t before = ctx->memory.used;
    ar_arena arena;
    ar_json *tree, *again;
    ar_arena_init(&arena, &ctx->memory);
    const char *text = (const char *)data;
    int32_t status = ar_json_parse("fuzz", text, size, MAX_VALUES, &arena, &tree);
    HOLDS(status == ADVROB_OK || (status == ADVROB_E_FORMAT && strlen(ar_message()) > 0));
    if (status == ADVROB_OK) {
        ar_buffer b;
        ar_buffer_init(&b, &ctx->memory);
        write_tree(&b, tree);
        HOLDS(ar_buffer_status(&b) == ADVROB_OK);
        HOLDS(ar_json_parse("again", b.data, b.length, MAX_VALUES, &arena, &again) == ADVROB_OK);
        same_tree(tree, again);
        ar_buffer_free(&b);
    }
    bool object = status == ADVROB_OK && tree->kind == AR_JSON_OBJECT;
    walk(&ctx->memory, text, size, object ? tree : NULL);
    ar_arena_free(&arena);
    HOLDS(ctx->memory.used == before);
    return 0;
}
