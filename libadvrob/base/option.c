/* The options that a caller sets: a list of named values.
 *
 * Every entry has an arena of its own that holds its name and value: a new value is built aside and
 * then takes the place of the old one, so a setter that fails changes nothing. Copies that a reader
 * gets lie in the reader's arena and are frozen. */
#include "option_set.h"

#include "text.h"

#include <string.h>

int32_t ar_options_create(advrob_alloc_fn hook, void *user, advrob_options **out) {
    ar_memory boot;
    void *block;
    *out = NULL;
    ar_memory_init(&boot, hook, user);
    int32_t status = ar_alloc(&boot, sizeof(advrob_options), "the options", &block);
    if (status < 0) return status;
    advrob_options *options = block;
    memset(options, 0, sizeof *options);
    ar_memory_init(&options->memory, hook, user);
    options->own_hook = hook != NULL;
    *out = options;
    return ADVROB_OK;
}

void ar_options_destroy(advrob_options *options) {
    if (!options || options->frozen) return;
    for (size_t i = 0; i < options->count; i++) {
        ar_arena_free(&options->entries[i].arena);
    }
    ar_free(&options->memory, options->entries);
    ar_memory last;
    ar_memory_init(&last, options->memory.hook, options->memory.user);
    ar_free(&last, options);
}

void ar_options_allocator(const advrob_options *options, advrob_alloc_fn *hook, void **user) {
    bool own = options && options->own_hook;
    *hook = own ? options->memory.hook : NULL;
    *user = own ? options->memory.user : NULL;
}

ar_entry *ar_entry_find(const advrob_options *options, const char *prefix, const char *name) {
    size_t skip = strlen(prefix);
    for (size_t i = 0; options && i < options->count; i++) {
        ar_entry *e = &options->entries[i];
        if (strncmp(e->name, prefix, skip) == 0 && strcmp(e->name + skip, name) == 0) return e;
    }
    return NULL;
}

static int32_t copy_set(ar_arena *arena, const advrob_options *from, advrob_options **out);

/* Copies `from` into `arena` under `name`. */
int32_t ar_entry_copy(ar_arena *arena, const ar_entry *from, const char *name, ar_entry *to) {
    int32_t status = ADVROB_OK;
    void *block;
    ar_entry e = *from;
    e.arena = (ar_arena){NULL, NULL};
    AR_TRY(ar_arena_copy(arena, name, &e.name));
    if (from->text) AR_TRY(ar_arena_copy(arena, from->text, &e.text));
    if (from->values) {
        AR_TRY(ar_arena_alloc(arena, from->count, sizeof *e.values, "an option's array", &block));
        memcpy(block, from->values, from->count * sizeof *e.values);
        e.values = block;
    }
    if (from->items) {
        AR_TRY(ar_arena_alloc(arena, from->count, sizeof *e.items, "an option's list", &block));
        e.items = block;
        for (size_t i = 0; i < from->count; i++) {
            AR_TRY(ar_arena_copy(arena, from->items[i].component, &e.items[i].component));
            AR_TRY(copy_set(arena, from->items[i].options, &e.items[i].options));
        }
    }
    *to = e;
out:
    return status;
}

/* A frozen copy of a set (NULL: of an empty one), all of it in `arena`. */
static int32_t copy_set(ar_arena *arena, const advrob_options *from, advrob_options **out) {
    int32_t status = ADVROB_OK;
    void *block;
    AR_TRY(ar_arena_alloc(arena, 1, sizeof(advrob_options), "the options", &block));
    advrob_options *to = block;
    ar_memory_init(&to->memory, from ? from->memory.hook : NULL, from ? from->memory.user : NULL);
    to->own_hook = from && from->own_hook;
    to->frozen = true;
    if (from && from->count > 0) {
        AR_TRY(ar_arena_alloc(arena, from->count, sizeof(ar_entry), "the options", &block));
        to->entries = block;
        for (; to->count < from->count; to->count++) {
            const ar_entry *e = &from->entries[to->count];
            AR_TRY(ar_entry_copy(arena, e, e->name, &to->entries[to->count]));
        }
    }
    *out = to;
out:
    return status;
}

static int32_t check_name(const advrob_options *options, const char *name) {
    if (!options) return ar_error(ADVROB_E_INVALID, "the options are NULL");
    if (options->frozen) {
        return ar_error(ADVROB_E_INTERNAL, "the options belong to a list and cannot be changed");
    }
    if (!name) return ar_error(ADVROB_E_INVALID, "an option's name is NULL");
    size_t length = strnlen(name, AR_OPTION_NAME + 1);
    if (length == 0) return ar_error(ADVROB_E_INVALID, "an option's name is empty");
    if (length > AR_OPTION_NAME) {
        return ar_error(ADVROB_E_INVALID,
                        "option \"%.40s...\": the name is too long, expected %d bytes at most",
                        name, AR_OPTION_NAME);
    }
    return ADVROB_OK;
}

/* Puts a copy of `value` under `name`, in place of what is there. */
static int32_t put_entry(advrob_options *options, const char *name, const ar_entry *value) {
    int32_t status = ADVROB_OK;
    ar_entry made;
    ar_arena arena;
    ar_arena_init(&arena, &options->memory);
    AR_TRY(ar_entry_copy(&arena, value, name, &made));
    made.arena = arena;
    ar_entry *old = ar_entry_find(options, "", name);
    if (!old) {
        if (options->count == options->capacity) {
            size_t capacity = options->capacity ? options->capacity * 2 : 8;
            void *block = options->entries;
            AR_TRY(ar_regrow(&options->memory, &block, capacity, sizeof(ar_entry), "the options"));
            options->entries = block;
            options->capacity = capacity;
        }
        options->entries[options->count++] = made;
        return ADVROB_OK;
    }
    arena = old->arena;
    *old = made;
out:
    ar_arena_free(&arena);
    return status;
}

static int32_t set_value(advrob_options *options, const char *name, const ar_entry *value) {
    int32_t status = check_name(options, name);
    return status < 0 ? status : put_entry(options, name, value);
}

int32_t ar_options_set_f64(advrob_options *options, const char *name, double value) {
    return set_value(options, name, &(ar_entry){.type = ADVROB_TYPE_F64, .f64 = value});
}

int32_t ar_options_set_i64(advrob_options *options, const char *name, int64_t value) {
    return set_value(options, name, &(ar_entry){.type = ADVROB_TYPE_I64, .i64 = value});
}

static int32_t set_words(advrob_options *options, const char *name, const char *text,
                         int32_t type) {
    int32_t status = check_name(options, name);
    if (status < 0) return status;
    if (!text) return ar_error(ADVROB_E_INVALID, "option \"%s\": the text is NULL", name);
    return put_entry(options, name, &(ar_entry){.type = type, .text = text});
}

int32_t ar_options_set_str(advrob_options *options, const char *name, const char *value) {
    return set_words(options, name, value, ADVROB_TYPE_STR);
}

int32_t ar_options_set_text(advrob_options *options, const char *name, const char *text) {
    return set_words(options, name, text, AR_TYPE_TEXT);
}

int32_t ar_options_set_f64_array(advrob_options *options, const char *name, const double *values,
                                 size_t count) {
    int32_t status = check_name(options, name);
    if (status < 0) return status;
    if (!values && count > 0) {
        return ar_error(ADVROB_E_INVALID, "option \"%s\": the array is NULL", name);
    }
    return put_entry(options, name,
                     &(ar_entry){.type = ADVROB_TYPE_F64_ARRAY,
                                 .values = count > 0 ? values : NULL,
                                 .count = count});
}

int32_t ar_options_set_handle(advrob_options *options, const char *name, void *handle) {
    return set_value(options, name, &(ar_entry){.type = ADVROB_TYPE_HANDLE, .handle = handle});
}

static int32_t set_depth(const advrob_options *options) {
    int32_t depth = 0;
    for (size_t i = 0; options && i < options->count; i++) {
        if (options->entries[i].depth > depth) depth = options->entries[i].depth;
    }
    return depth;
}

/* Appends to a list that is there: the old items stay where they are in its arena. */
static int32_t extend_list(ar_entry *list, const char *component, const advrob_options *sub) {
    int32_t status = ADVROB_OK;
    ar_list_item item;
    void *block;
    size_t count;
    if (!ar_add(list->count, 1, &count)) AR_FAIL(ADVROB_E_OVERFLOW, "a list is too long");
    AR_TRY(ar_arena_copy(&list->arena, component, &item.component));
    AR_TRY(copy_set(&list->arena, sub, &item.options));
    AR_TRY(ar_arena_alloc(&list->arena, count, sizeof item, "an option's list", &block));
    ar_list_item *items = block;
    memcpy(items, list->items, list->count * sizeof item);
    items[list->count] = item;
    list->items = items;
    list->count = count;
out:
    return status;
}

int32_t ar_options_append(advrob_options *options, const char *name, const char *component,
                          const advrob_options *sub) {
    int32_t status = check_name(options, name);
    if (status < 0) return status;
    if (!component || !*component) {
        return ar_error(ADVROB_E_INVALID, "option \"%s\": the component's name is %s", name,
                        component ? "empty" : "NULL");
    }
    int32_t depth = set_depth(sub) + 1;
    if (depth > AR_OPTION_DEPTH) { /* copies recurse */
        return ar_error(ADVROB_E_LIMIT, "option \"%s\": lists nest %d deep, expected %d at most",
                        name, depth, AR_OPTION_DEPTH);
    }
    ar_entry *list = ar_entry_find(options, "", name);
    if (list && list->type == ADVROB_TYPE_LIST) {
        status = extend_list(list, component, sub);
        if (status == ADVROB_OK && list->depth < depth) list->depth = depth;
        return status;
    }
    /* put_entry copies the whole item. copy_set only reads `sub`, but a list's items are not const.
     */
    advrob_options *frozen;
    ar_arena arena;
    ar_arena_init(&arena, &options->memory);
    status = copy_set(&arena, sub, &frozen);
    if (status == ADVROB_OK) {
        ar_list_item item = {component, frozen};
        status = put_entry(
            options, name,
            &(ar_entry){.type = ADVROB_TYPE_LIST, .depth = depth, .items = &item, .count = 1});
    }
    ar_arena_free(&arena);
    return status;
}

int32_t ar_options_part(const advrob_options *options, const char *prefix, const ar_memory *memory,
                        advrob_options **out) {
    advrob_alloc_fn hook;
    void *user;
    size_t skip = strlen(prefix);
    advrob_options *part;
    *out = NULL;
    ar_options_allocator(options, &hook, &user);
    if (memory) {
        hook = memory->hook;
        user = memory->user;
    }
    int32_t status = ar_options_create(hook, user, &part);
    if (status < 0) return status;
    for (size_t i = 0; options && i < options->count; i++) {
        const ar_entry *e = &options->entries[i];
        if (strncmp(e->name, prefix, skip) != 0 || e->name[skip] == 0) continue;
        status = put_entry(part, e->name + skip, e);
        if (status < 0) {
            ar_options_destroy(part);
            return status;
        }
    }
    *out = part;
    return ADVROB_OK;
}

int32_t ar_options_copy(const advrob_options *options, advrob_options **out) {
    return ar_options_part(options, "", NULL, out);
}

int32_t ar_find_name(const char *what, const char *name, int32_t count,
                     const char *(*name_at)(int32_t index), int32_t *out) {
    int32_t near = 0, least_far = INT32_MAX;
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(name, name_at(i)) == 0) {
            *out = i;
            return ADVROB_OK;
        }
        int32_t far = ar_distance(name, name_at(i));
        if (far < least_far) near = i;
        if (far < least_far) least_far = far;
    }
    return ar_error(ADVROB_E_UNKNOWN, "no %s \"%.128s\"; did you mean \"%s\"?", what, name,
                    name_at(near));
}

const char *ar_nearest(const char *name, const char *const *names, int32_t count) {
    const char *best = NULL;
    int32_t least_far = ar_too_far(name);
    for (int32_t i = 0; i < count; i++) {
        int32_t far = ar_distance(name, names[i]);
        if (far < least_far) {
            least_far = far;
            best = names[i];
        }
    }
    return best;
}
