/* Options: the set that a caller fills, and the tables by which components read it.
 *
 * Every entry has an arena of its own that holds its name and value: a new value is built aside and
 * then takes the place of the old one, so a setter that fails changes nothing. Copies that a reader
 * gets lie in the reader's arena and are frozen. */
#include "option.h"

#include "text.h"

#include <math.h>
#include <string.h>

#define LONGEST_NAME 127
#define DEEPEST 16
#define VALUE_TEXT 0 /* beside ADVROB_TYPE_*: text whose type the reader chooses */

typedef struct entry {
    ar_arena arena; /* empty in a frozen set */
    const char *name;
    int32_t type;
    int32_t depth; /* of the lists inside */
    double f64;
    int64_t i64;
    const char *text;
    const double *values;
    ar_list_item *items;
    size_t count; /* of values or items */
    void *handle;
} entry;

struct advrob_options {
    ar_memory memory;
    entry *entries;
    size_t count, capacity;
    bool own_hook;
    bool frozen; /* lies in somebody's arena */
};

/* ---- The set ---- */

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

static entry *find(const advrob_options *options, const char *prefix, const char *name) {
    size_t skip = strlen(prefix);
    for (size_t i = 0; options && i < options->count; i++) {
        entry *e = &options->entries[i];
        if (strncmp(e->name, prefix, skip) == 0 && strcmp(e->name + skip, name) == 0) return e;
    }
    return NULL;
}

static int32_t copy_set(ar_arena *arena, const advrob_options *from, advrob_options **out);

/* Copies `from` into `arena` under `name`. */
static int32_t copy_entry(ar_arena *arena, const entry *from, const char *name, entry *to) {
    int32_t status = ADVROB_OK;
    void *block;
    entry e = *from;
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
        AR_TRY(ar_arena_alloc(arena, from->count, sizeof(entry), "the options", &block));
        to->entries = block;
        for (; to->count < from->count; to->count++) {
            const entry *e = &from->entries[to->count];
            AR_TRY(copy_entry(arena, e, e->name, &to->entries[to->count]));
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
    size_t length = strnlen(name, LONGEST_NAME + 1);
    if (length == 0) return ar_error(ADVROB_E_INVALID, "an option's name is empty");
    if (length > LONGEST_NAME) {
        return ar_error(ADVROB_E_INVALID,
                        "option \"%.40s...\": the name is too long, expected %d bytes at most",
                        name, LONGEST_NAME);
    }
    return ADVROB_OK;
}

/* Puts a copy of `value` under `name`, in place of what is there. */
static int32_t put_entry(advrob_options *options, const char *name, const entry *value) {
    int32_t status = ADVROB_OK;
    entry made;
    ar_arena arena;
    ar_arena_init(&arena, &options->memory);
    AR_TRY(copy_entry(&arena, value, name, &made));
    made.arena = arena;
    entry *old = find(options, "", name);
    if (!old) {
        if (options->count == options->capacity) {
            size_t capacity = options->capacity ? options->capacity * 2 : 8;
            void *block = options->entries;
            AR_TRY(ar_regrow(&options->memory, &block, capacity, sizeof(entry), "the options"));
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

static int32_t set_value(advrob_options *options, const char *name, const entry *value) {
    int32_t status = check_name(options, name);
    return status < 0 ? status : put_entry(options, name, value);
}

int32_t ar_options_set_f64(advrob_options *options, const char *name, double value) {
    return set_value(options, name, &(entry){.type = ADVROB_TYPE_F64, .f64 = value});
}

int32_t ar_options_set_i64(advrob_options *options, const char *name, int64_t value) {
    return set_value(options, name, &(entry){.type = ADVROB_TYPE_I64, .i64 = value});
}

static int32_t set_words(advrob_options *options, const char *name, const char *text,
                         int32_t type) {
    int32_t status = check_name(options, name);
    if (status < 0) return status;
    if (!text) return ar_error(ADVROB_E_INVALID, "option \"%s\": the text is NULL", name);
    return put_entry(options, name, &(entry){.type = type, .text = text});
}

int32_t ar_options_set_str(advrob_options *options, const char *name, const char *value) {
    return set_words(options, name, value, ADVROB_TYPE_STR);
}

int32_t ar_options_set_text(advrob_options *options, const char *name, const char *text) {
    return set_words(options, name, text, VALUE_TEXT);
}

int32_t ar_options_set_f64_array(advrob_options *options, const char *name, const double *values,
                                 size_t count) {
    int32_t status = check_name(options, name);
    if (status < 0) return status;
    if (!values && count > 0) {
        return ar_error(ADVROB_E_INVALID, "option \"%s\": the array is NULL", name);
    }
    return put_entry(options, name,
                     &(entry){.type = ADVROB_TYPE_F64_ARRAY,
                              .values = count > 0 ? values : NULL,
                              .count = count});
}

int32_t ar_options_set_handle(advrob_options *options, const char *name, void *handle) {
    return set_value(options, name, &(entry){.type = ADVROB_TYPE_HANDLE, .handle = handle});
}

static int32_t set_depth(const advrob_options *options) {
    int32_t depth = 0;
    for (size_t i = 0; options && i < options->count; i++) {
        if (options->entries[i].depth > depth) depth = options->entries[i].depth;
    }
    return depth;
}

/* Appends to a list that is there: the old items stay where they are in its arena. */
static int32_t extend_list(entry *list, const char *component, const advrob_options *sub) {
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
    if (depth > DEEPEST) { /* copies recurse */
        return ar_error(ADVROB_E_LIMIT, "option \"%s\": lists nest %d deep, expected %d at most",
                        name, depth, DEEPEST);
    }
    entry *list = find(options, "", name);
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
            &(entry){.type = ADVROB_TYPE_LIST, .depth = depth, .items = &item, .count = 1});
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
        const entry *e = &options->entries[i];
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

/* ---- Tables ---- */

static bool known_to(const char *name, const ar_option_scope *scope) {
    size_t skip = strlen(scope->prefix);
    if (strncmp(name, scope->prefix, skip) != 0) return false;
    for (int32_t i = 0; i < scope->table->count; i++) {
        if (strcmp(name + skip, scope->table->options[i].name) == 0) return true;
    }
    return false;
}

static int32_t unknown_name(const char *who, const char *name, const ar_option_scope *scopes,
                            int32_t n) {
    char known[2 * LONGEST_NAME], best[2 * LONGEST_NAME] = "";
    int32_t least_far = ar_too_far(name);
    for (int32_t s = 0; s < n; s++) {
        for (int32_t i = 0; i < scopes[s].table->count; i++) {
            ar_format(known, sizeof known, "%s%s", scopes[s].prefix,
                      scopes[s].table->options[i].name);
            int32_t far = ar_distance(name, known);
            if (far >= least_far) continue;
            least_far = far;
            ar_copy_text(best, sizeof best, known);
        }
    }
    if (!*best) return ar_error(ADVROB_E_UNKNOWN, "%s: unknown option \"%s\"", who, name);
    return ar_error(ADVROB_E_UNKNOWN, "%s: unknown option \"%s\"; did you mean \"%s\"?", who, name,
                    best);
}

int32_t ar_options_check(const advrob_options *options, const char *who,
                         const ar_option_scope *scopes, int32_t n) {
    for (size_t i = 0; options && i < options->count; i++) {
        bool known = false;
        for (int32_t s = 0; s < n && !known; s++) {
            known = known_to(options->entries[i].name, &scopes[s]);
        }
        if (!known) return unknown_name(who, options->entries[i].name, scopes, n);
    }
    return ADVROB_OK;
}

/* What a refusal names: the component, the option's full name and what it wants. */
typedef struct reader {
    const char *who, *prefix;
    const ar_option *option;
    ar_arena *arena;
} reader;

long long ar_option_whole(double value) {
    return value >= 0x1p63 ? INT64_MAX : value <= -0x1p63 ? INT64_MIN : (long long)value;
}

/* "a number in [0, 1]" */
static void print_wanted(const ar_option *o, char *text, size_t size) {
    static const char *const kinds[] = {"",        "a number", "an integer", "a text",
                                        "numbers", "a handle", "a list"};
    bool bounded = o->low > -0x1p63 || o->high < 0x1p63;
    if (o->type == ADVROB_TYPE_I64 && bounded) {
        ar_format(text, size, "an integer in [%lld, %lld]", ar_option_whole(o->low),
                  ar_option_whole(o->high));
    } else if ((o->type == ADVROB_TYPE_F64 || o->type == ADVROB_TYPE_F64_ARRAY) &&
               (isfinite(o->low) || isfinite(o->high))) {
        ar_format(text, size, "%s in [%g, %g]", kinds[o->type], o->low, o->high);
    } else if (o->type == ADVROB_TYPE_STR && o->choices) {
        ar_format(text, size, "one of %s", o->choices);
    } else {
        ar_copy_text(text, size, kinds[o->type]);
    }
}

/* A refusal: `what` is the value as it was given, `hint` ends the message. */
static int32_t refuse(const reader *r, int32_t code, const char *what, const char *hint) {
    char wanted[256];
    print_wanted(r->option, wanted, sizeof wanted);
    return ar_error(code, "%s: option \"%s%s\" is %s, expected %s%s", r->who, r->prefix,
                    r->option->name, what, wanted, hint);
}

/* The value in the words of a message; long texts are cut. */
static void print_value(const entry *e, char *text, size_t size) {
    switch (e->type) {
    case VALUE_TEXT:
    case ADVROB_TYPE_STR:
        ar_format(text, size, strlen(e->text) > 80 ? "\"%.80s...\"" : "\"%s\"", e->text);
        break;
    case ADVROB_TYPE_F64:
        ar_format(text, size, "%g", e->f64);
        break;
    case ADVROB_TYPE_I64:
        ar_format(text, size, "%lld", (long long)e->i64);
        break;
    case ADVROB_TYPE_F64_ARRAY:
        ar_format(text, size, "an array of %zu numbers", e->count);
        break;
    case ADVROB_TYPE_HANDLE:
        ar_copy_text(text, size, "a handle");
        break;
    default:
        ar_format(text, size, "a list of %zu components", e->count);
        break;
    }
}

static int32_t refuse_entry(const reader *r, int32_t code, const entry *e, const char *hint) {
    char value[128];
    print_value(e, value, sizeof value);
    return refuse(r, code, value, hint);
}

static bool in_range(const ar_option *o, double value) {
    return value >= o->low && value <= o->high; /* false for NaN */
}

/* "0.05" or "8/255", spaces around it allowed. */
static bool parse_number(const char *text, size_t length, double *value) {
    while (length > 0 && *text == ' ') {
        text++;
        length--;
    }
    while (length > 0 && text[length - 1] == ' ') {
        length--;
    }
    const char *slash = memchr(text, '/', length);
    if (!slash) return ar_parse_f64(text, length, value);
    size_t before = (size_t)(slash - text);
    double over, under;
    if (!ar_parse_f64(text, before, &over)) return false;
    if (!ar_parse_f64(slash + 1, length - before - 1, &under) || under == 0) return false;
    *value = over / under;
    return true;
}

static int32_t read_f64(const reader *r, const entry *e, double *out) {
    double value = e->f64;
    if (e->type == ADVROB_TYPE_I64) {
        value = (double)e->i64;
    } else if (e->type == VALUE_TEXT) {
        if (!parse_number(e->text, strlen(e->text), &value)) {
            return refuse_entry(r, ADVROB_E_INVALID, e, "");
        }
    } else if (e->type != ADVROB_TYPE_F64) {
        return refuse_entry(r, ADVROB_E_INVALID, e, "");
    }
    if (!in_range(r->option, value)) return refuse_entry(r, ADVROB_E_RANGE, e, "");
    *out = value;
    return ADVROB_OK;
}

static int32_t read_i64(const reader *r, const entry *e, int64_t *out) {
    int64_t value = e->i64;
    if (e->type == VALUE_TEXT) {
        if (!ar_parse_i64(e->text, strlen(e->text), &value)) {
            return refuse_entry(r, ADVROB_E_INVALID, e, "");
        }
    } else if (e->type != ADVROB_TYPE_I64) {
        const char *hint = e->type == ADVROB_TYPE_F64 ? "; a floating-point number was set" : "";
        return refuse_entry(r, ADVROB_E_INVALID, e, hint);
    }
    if (value < ar_option_whole(r->option->low) || value > ar_option_whole(r->option->high)) {
        return refuse_entry(r, ADVROB_E_RANGE, e, "");
    }
    *out = value;
    return ADVROB_OK;
}

/* Whether `text` is one of "a|b|c"; `near` gets the nearest one, or "". */
static bool is_choice(const char *text, const char *choices, char *near, size_t size) {
    char choice[LONGEST_NAME + 1];
    int32_t least_far = ar_too_far(text);
    *near = 0;
    while (*choices) {
        size_t n = strcspn(choices, "|");
        ar_format(choice, sizeof choice, "%.*s", (int)n, choices);
        if (strcmp(text, choice) == 0) return true;
        int32_t far = ar_distance(text, choice);
        if (far < least_far) {
            least_far = far;
            ar_copy_text(near, size, choice);
        }
        choices += n + (choices[n] == '|');
    }
    return false;
}

static int32_t read_str(const reader *r, const entry *e, const char **out) {
    char near[LONGEST_NAME + 1], hint[LONGEST_NAME + 32] = "";
    if (e->type != ADVROB_TYPE_STR && e->type != VALUE_TEXT) {
        return refuse_entry(r, ADVROB_E_INVALID, e, "");
    }
    if (r->option->choices && !is_choice(e->text, r->option->choices, near, sizeof near)) {
        if (*near) ar_format(hint, sizeof hint, "; did you mean \"%s\"?", near);
        return refuse_entry(r, ADVROB_E_RANGE, e, hint);
    }
    return ar_arena_copy(r->arena, e->text, out);
}

static int32_t check_elements(const reader *r, const double *values, size_t count) {
    char what[80];
    for (size_t i = 0; i < count; i++) {
        if (in_range(r->option, values[i])) continue;
        ar_format(what, sizeof what, "%g at place %zu", values[i], i);
        return refuse(r, ADVROB_E_RANGE, what, "");
    }
    return ADVROB_OK;
}

/* "0.1, 8/255": numbers between commas; an empty text is an empty array. */
static int32_t parse_array(const reader *r, const entry *e, double **values, size_t *count) {
    const char *at = e->text;
    size_t n = *at ? 1 : 0;
    void *block;
    for (const char *c = at; *c; c++) {
        if (*c == ',') n++;
    }
    int32_t status = ar_arena_alloc(r->arena, n, sizeof **values, "an option's array", &block);
    if (status < 0) return status;
    *values = block;
    *count = n;
    for (size_t i = 0; i < n; i++) {
        size_t length = strcspn(at, ",");
        if (!parse_number(at, length, &(*values)[i])) {
            return refuse_entry(r, ADVROB_E_INVALID, e, "");
        }
        at += length + 1;
    }
    return ADVROB_OK;
}

static int32_t read_array(const reader *r, const entry *e, ar_f64_array *out) {
    int32_t status = ADVROB_OK;
    double *values;
    size_t count = e->count;
    if (e->type == VALUE_TEXT) {
        AR_TRY(parse_array(r, e, &values, &count));
    } else if (e->type == ADVROB_TYPE_F64_ARRAY) {
        void *block;
        AR_TRY(ar_arena_alloc(r->arena, count, sizeof *values, "an option's array", &block));
        values = block;
        if (count > 0) memcpy(values, e->values, count * sizeof *values);
    } else {
        return refuse_entry(r, ADVROB_E_INVALID, e, "");
    }
    AR_TRY(check_elements(r, values, count));
    out->values = values;
    out->count = count;
out:
    return status;
}

static int32_t read_list(const reader *r, const entry *e, ar_option_list *out) {
    entry copy;
    if (e->type != ADVROB_TYPE_LIST) return refuse_entry(r, ADVROB_E_INVALID, e, "");
    int32_t status = copy_entry(r->arena, e, e->name, &copy);
    if (status < 0) return status;
    out->items = copy.items;
    out->count = copy.count;
    return ADVROB_OK;
}

static int32_t read_value(const reader *r, const entry *e, void *field) {
    switch (r->option->type) {
    case ADVROB_TYPE_F64:
        return read_f64(r, e, field);
    case ADVROB_TYPE_I64:
        return read_i64(r, e, field);
    case ADVROB_TYPE_STR:
        return read_str(r, e, field);
    case ADVROB_TYPE_F64_ARRAY:
        return read_array(r, e, field);
    case ADVROB_TYPE_LIST:
        return read_list(r, e, field);
    default:
        break;
    }
    if (e->type != ADVROB_TYPE_HANDLE) return refuse_entry(r, ADVROB_E_INVALID, e, "");
    *(void **)field = e->handle;
    return ADVROB_OK;
}

int32_t ar_options_read(const advrob_options *options, const char *who, const char *prefix,
                        const ar_option_table *table, ar_arena *arena, void *out) {
    memset(out, 0, table->size); /* empty arrays and lists, NULL handles */
    for (int32_t i = 0; i < table->count; i++) {
        const ar_option *o = &table->options[i];
        char *field = (char *)out + o->offset;
        const reader r = {who, prefix, o, arena};
        const entry *e = find(options, prefix, o->name);
        if (e) {
            int32_t status = read_value(&r, e, field);
            if (status < 0) return status;
        } else if (o->type == ADVROB_TYPE_F64) {
            memcpy(field, &o->initial, sizeof o->initial);
        } else if (o->type == ADVROB_TYPE_I64) {
            int64_t initial = ar_option_whole(o->initial);
            memcpy(field, &initial, sizeof initial);
        } else if (o->type == ADVROB_TYPE_STR) {
            memcpy(field, &o->text, sizeof o->text);
        }
    }
    return ADVROB_OK;
}
