/* Option tables: names and values that a caller set, checked against what a component knows. */
#include "option_set.h"

#include "text.h"

#include <math.h>
#include <string.h>

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
    char known[2 * AR_OPTION_NAME], best[2 * AR_OPTION_NAME] = "";
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
static void print_value(const ar_entry *e, char *text, size_t size) {
    switch (e->type) {
    case AR_TYPE_TEXT:
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

static int32_t refuse_entry(const reader *r, int32_t code, const ar_entry *e, const char *hint) {
    char value[128];
    print_value(e, value, sizeof value);
    return refuse(r, code, value, hint);
}

static bool in_range(const ar_option *o, double value) {
    if (isnan(value)) return isnan(o->initial); /* where NaN stands for "not given" */
    return value >= o->low && value <= o->high;
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

static int32_t read_f64(const reader *r, const ar_entry *e, double *out) {
    double value = e->f64;
    if (e->type == ADVROB_TYPE_I64) {
        value = (double)e->i64;
    } else if (e->type == AR_TYPE_TEXT) {
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

static int32_t read_i64(const reader *r, const ar_entry *e, int64_t *out) {
    int64_t value = e->i64;
    if (e->type == AR_TYPE_TEXT) {
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
    char choice[AR_OPTION_NAME + 1];
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

static int32_t read_str(const reader *r, const ar_entry *e, const char **out) {
    char near[AR_OPTION_NAME + 1], hint[AR_OPTION_NAME + 32] = "";
    if (e->type != ADVROB_TYPE_STR && e->type != AR_TYPE_TEXT) {
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
static int32_t parse_array(const reader *r, const ar_entry *e, double **values, size_t *count) {
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

static int32_t read_array(const reader *r, const ar_entry *e, ar_f64_array *out) {
    int32_t status = ADVROB_OK;
    double *values;
    size_t count = e->count;
    if (e->type == AR_TYPE_TEXT) {
        AR_TRY(parse_array(r, e, &values, &count));
    } else if (e->type == ADVROB_TYPE_F64_ARRAY) {
        void *block;
        AR_TRY(ar_arena_alloc(r->arena, count, sizeof *values, "an option's array", &block));
        values = block;
        if (count > 0) memcpy(values, e->values, count * sizeof *values);
    } else if (e->type == ADVROB_TYPE_F64 || e->type == ADVROB_TYPE_I64) {
        void *block;
        AR_TRY(ar_arena_alloc(r->arena, 1, sizeof *values, "an option's array", &block));
        values = block;
        values[0] = e->type == ADVROB_TYPE_F64 ? e->f64 : (double)e->i64;
        count = 1;
    } else {
        return refuse_entry(r, ADVROB_E_INVALID, e, "");
    }
    AR_TRY(check_elements(r, values, count));
    out->values = values;
    out->count = count;
out:
    return status;
}

static int32_t read_list(const reader *r, const ar_entry *e, ar_option_list *out) {
    ar_entry copy;
    if (e->type != ADVROB_TYPE_LIST) return refuse_entry(r, ADVROB_E_INVALID, e, "");
    int32_t status = ar_entry_copy(r->arena, e, e->name, &copy);
    if (status < 0) return status;
    out->items = copy.items;
    out->count = copy.count;
    return ADVROB_OK;
}

static int32_t read_value(const reader *r, const ar_entry *e, void *field) {
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
        const ar_entry *e = ar_entry_find(options, prefix, o->name);
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

void ar_options_print(ar_buffer *text, const char *prefix, const ar_option_table *table,
                      const void *values, int64_t seed, bool (*skip)(const char *name)) {
    for (int32_t i = 0; i < table->count; i++) {
        const ar_option *o = &table->options[i];
        const char *field = (const char *)values + o->offset;
        if (skip != NULL && skip(o->name)) continue;
        ar_buffer_add(text, "%s%s%s=", text->length > 0 ? " " : "", prefix, o->name);
        if (strcmp(o->name, "seed") == 0) {
            ar_buffer_add(text, "%lld", (long long)seed);
        } else if (o->type == ADVROB_TYPE_I64) {
            ar_buffer_add(text, "%lld", (long long)*(const int64_t *)(const void *)field);
        } else if (o->type == ADVROB_TYPE_F64) {
            ar_buffer_add(text, "%g", *(const double *)(const void *)field);
        } else if (o->type == ADVROB_TYPE_STR) {
            ar_buffer_add(text, "%s", *(const char *const *)(const void *)field);
        } else if (o->type == ADVROB_TYPE_F64_ARRAY) {
            const ar_f64_array *array = (const void *)field;
            for (size_t k = 0; k < array->count; k++)
                ar_buffer_add(text, "%s%g", k > 0 ? "," : "", array->values[k]);
        }
    }
}
