/* JSON: a strict reader and the writer's helpers.
 *
 * A value is read twice by the same code: first to check and count it without any memory, then to
 * build the tree in three blocks of exactly the counted sizes. */
#include "json.h"

#include <math.h>
#include <string.h>

#include "sort.h"

#define MAX_DEPTH 32
/* The longest number taken: more than any double needs in any notation. */
#define MAX_NUMBER 512

typedef struct parser {
    const char *name, *text;
    size_t size, at;
    int32_t depth;
    size_t max_values;
    size_t values, members, bytes; /* seen so far; bytes of strings with their ends */
    /* NULL while counting. Finished values wait for the end of their container in nodes[0, top);
     * the children of finished containers lie in nodes[settled, total). keys are in step. */
    ar_json *nodes;
    const char **keys;
    char *strings;
    size_t top, settled;
    ar_memory *memory;
} parser;

static int32_t parse_value(parser *p, const char *key);

/* Errors */

static int32_t fail_at(const parser *p, size_t at, const char *what) {
    return ar_error(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: %s", p->name, at, what);
}

static int32_t unexpected(const parser *p, const char *wanted) {
    if (p->at >= p->size)
        return ar_error(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: the text ends, expected %s",
                        p->name, p->at, wanted);
    unsigned char c = (unsigned char)p->text[p->at];
    if (c > 0x20 && c < 0x7f)
        return ar_error(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: got '%c', expected %s", p->name,
                        p->at, c, wanted);
    return ar_error(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: got a byte of value %u, expected %s",
                    p->name, p->at, (unsigned)c, wanted);
}

/* Scanning */

/* The byte at the place, or -1 at the end. */
static int peek(const parser *p) {
    return p->at < p->size ? (unsigned char)p->text[p->at] : -1;
}

static void skip_space(parser *p) {
    for (int c = peek(p); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = peek(p))
        p->at++;
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static size_t skip_digits(parser *p) {
    size_t from = p->at;
    while (is_digit(peek(p)))
        p->at++;
    return p->at - from;
}

/* Strings */

static void put(parser *p, const void *data, size_t size) {
    if (p->strings) memcpy(p->strings + p->bytes, data, size);
    p->bytes += size;
}

static void put_code_point(parser *p, uint32_t c) {
    unsigned char out[4];
    size_t n;
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        n = 1;
    } else if (c < 0x800) {
        out[0] = (unsigned char)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        out[0] = (unsigned char)(0xe0 | c >> 12);
        n = 3;
    } else {
        out[0] = (unsigned char)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        out[i] = (unsigned char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
    put(p, out, n);
}

/* The four hex digits of a \u escape. */
static int32_t parse_hex(parser *p, uint32_t *unit) {
    *unit = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int c = peek(p);
        uint32_t digit;
        if (is_digit(c)) {
            digit = (uint32_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (uint32_t)(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = (uint32_t)(c - 'A') + 10;
        } else {
            return unexpected(p, "four hex digits after \\u");
        }
        *unit = *unit << 4 | digit;
    }
    return ADVROB_OK;
}

static int32_t parse_unicode(parser *p, size_t from) {
    int32_t status = ADVROB_OK;
    uint32_t unit, low;
    AR_TRY(parse_hex(p, &unit));
    if (unit == 0) return fail_at(p, from, "a zero in a string");
    if (unit >= 0xdc00 && unit <= 0xdfff) return fail_at(p, from, "a low surrogate without a high");
    if (unit >= 0xd800 && unit <= 0xdbff) {
        if (p->size - p->at < 2 || p->text[p->at] != '\\' || p->text[p->at + 1] != 'u')
            return fail_at(p, from, "a high surrogate without a low");
        p->at += 2;
        AR_TRY(parse_hex(p, &low));
        if (low < 0xdc00 || low > 0xdfff) return fail_at(p, from, "a high surrogate without a low");
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    put_code_point(p, unit);
out:
    return status;
}

static int32_t parse_escape(parser *p) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    size_t from = p->at++;
    int c = peek(p);
    if (c == 'u') {
        p->at++;
        return parse_unicode(p, from);
    }
    const char *found = c > 0 ? strchr(letters, c) : NULL;
    if (!found) return unexpected(p, "an escape: one of \"\\/bfnrtu");
    p->at++;
    put(p, &meanings[found - letters], 1);
    return ADVROB_OK;
}

static int32_t parse_string(parser *p, const char **text, size_t *length) {
    size_t start = p->bytes;
    int32_t status;
    p->at++;
    for (;;) {
        size_t run = p->at;
        int c = peek(p);
        while (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            p->at++;
            c = peek(p);
        }
        put(p, p->text + run, p->at - run);
        if (c == '"') break;
        if (c < 0x20) return unexpected(p, "more of the string"); /* the end or a control */
        if (c == '\\') {
            status = parse_escape(p);
            if (status < 0) return status;
            continue;
        }
        size_t n = ar_utf8_length(p->text + p->at, p->size - p->at);
        if (n == 0) return fail_at(p, p->at, "not UTF-8");
        put(p, p->text + p->at, n);
        p->at += n;
    }
    p->at++;
    *text = p->strings ? p->strings + start : "";
    *length = p->bytes - start;
    put(p, "", 1);
    return ADVROB_OK;
}

/* Values */

static int32_t parse_number(parser *p, ar_json *node) {
    size_t from = p->at;
    bool integer = true;
    if (peek(p) == '-') p->at++;
    if (peek(p) == '0') {
        p->at++;
    } else if (skip_digits(p) == 0) {
        return unexpected(p, "a digit");
    }
    if (peek(p) == '.') {
        integer = false;
        p->at++;
        if (skip_digits(p) == 0) return unexpected(p, "a digit after the point");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        integer = false;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-') p->at++;
        if (skip_digits(p) == 0) return unexpected(p, "a digit of the exponent");
    }
    const char *text = p->text + from;
    size_t length = p->at - from;
    if (length > MAX_NUMBER) return fail_at(p, from, "a number of more than 512 characters");
    node->kind = AR_JSON_NUMBER;
    node->integer = integer && ar_parse_i64(text, length, &node->whole);
    if (node->integer && (node->whole != 0 || length == 1)) /* not "-0" */
        node->number = (double)node->whole;                 /* rounds as the text would */
    else if (!ar_parse_f64(text, length, &node->number) || !isfinite(node->number))
        return fail_at(p, from, "a number that does not fit a double");
    return ADVROB_OK;
}

static int32_t parse_word(parser *p, ar_json *node) {
    static const struct {
        const char *word;
        int32_t kind;
        bool truth;
    } words[] = {{"null", AR_JSON_NULL, false},
                 {"true", AR_JSON_BOOL, true},
                 {"false", AR_JSON_BOOL, false}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t length = strlen(words[i].word);
        if (p->size - p->at < length || memcmp(p->text + p->at, words[i].word, length) != 0)
            continue;
        p->at += length;
        node->kind = words[i].kind;
        node->truth = words[i].truth;
        return ADVROB_OK;
    }
    return unexpected(p, "a value");
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int32_t check_keys(const parser *p, const char *const *keys, size_t count, size_t from) {
    if (count < 2) return ADVROB_OK;
    void *block = NULL;
    int32_t status = ar_calloc(p->memory, count, sizeof(char *), "a JSON object's keys", &block);
    if (status < 0) return status;
    const char **sorted = block;
    memcpy(sorted, keys, count * sizeof(char *));
    ar_sort(sorted, count, sizeof(char *), compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) != 0) continue;
        char quoted[96];
        ar_json_quote(quoted, sizeof(quoted), sorted[i]);
        status = ar_error(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: the object has two keys %s",
                          p->name, from, quoted);
        break;
    }
    ar_free(p->memory, block);
    return status;
}

/* Moves the container's children, on top of the waiting values, to their final place. The two
 * regions may touch but never hold more than all values together. */
static void settle(parser *p, size_t first, ar_json *node) {
    size_t count = p->top - first;
    if (count == 0) return;
    p->settled -= count;
    memmove(p->nodes + p->settled, p->nodes + first, count * sizeof(ar_json));
    if (p->keys) memmove(p->keys + p->settled, p->keys + first, count * sizeof(char *));
    p->top = first;
    node->count = count;
    node->items = p->nodes + p->settled;
    if (node->kind == AR_JSON_OBJECT) node->keys = p->keys + p->settled;
}

/* "key":, up to the value. */
static int32_t parse_key(parser *p, const char **key) {
    size_t length;
    if (peek(p) != '"') return unexpected(p, "a key in quotes");
    int32_t status = parse_string(p, key, &length);
    if (status < 0) return status;
    skip_space(p);
    if (peek(p) != ':') return unexpected(p, "':' after the key");
    p->at++;
    skip_space(p);
    p->members++;
    return ADVROB_OK;
}

static int32_t parse_container(parser *p, ar_json *node) {
    int32_t status = ADVROB_OK;
    bool object = peek(p) == '{';
    size_t from = p->at, first = p->top;
    node->kind = object ? AR_JSON_OBJECT : AR_JSON_ARRAY;
    if (p->depth == MAX_DEPTH)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: nested over %d deep", p->name, from,
                MAX_DEPTH);
    p->depth++;
    p->at++;
    skip_space(p);
    int close = object ? '}' : ']';
    bool more = peek(p) != close;
    while (more) {
        const char *key = NULL;
        if (object) AR_TRY(parse_key(p, &key));
        AR_TRY(parse_value(p, key));
        skip_space(p);
        more = peek(p) == ',';
        if (more) {
            p->at++;
            skip_space(p);
        } else if (peek(p) != close) {
            AR_TRY(unexpected(p, object ? "',' or '}'" : "',' or ']'"));
        }
    }
    p->at++;
    p->depth--;
    if (p->nodes) {
        settle(p, first, node);
        if (object) AR_TRY(check_keys(p, node->keys, node->count, from));
    }
out:
    return status;
}

static int32_t parse_value(parser *p, const char *key) {
    int32_t status = ADVROB_OK;
    ar_json node = {0};
    if (p->values == p->max_values)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: JSON byte %zu: over %zu values", p->name, p->at,
                p->max_values);
    p->values++;
    int c = peek(p);
    if (c == '{' || c == '[') {
        AR_TRY(parse_container(p, &node));
    } else if (c == '"') {
        node.kind = AR_JSON_STRING;
        AR_TRY(parse_string(p, &node.text, &node.length));
    } else if (c == '-' || is_digit(c)) {
        AR_TRY(parse_number(p, &node));
    } else {
        AR_TRY(parse_word(p, &node));
    }
    if (p->nodes) {
        if (p->keys) p->keys[p->top] = key;
        p->nodes[p->top++] = node;
    }
out:
    return status;
}

/* One value, or with `key` one member. */
static int32_t parse_unit(parser *p, const char **key) {
    int32_t status = ADVROB_OK;
    if (key) AR_TRY(parse_key(p, key));
    AR_TRY(parse_value(p, NULL));
out:
    return status;
}

/* Counts the unit at the place, makes room, and builds it. */
static int32_t build(parser *p, ar_arena *arena, const char **key, ar_json **out) {
    int32_t status = ADVROB_OK;
    size_t from = p->at;
    int32_t depth = p->depth;
    void *block;
    AR_TRY(parse_unit(p, key));
    AR_TRY(ar_arena_alloc(arena, p->values, sizeof(ar_json), "JSON values", &block));
    p->nodes = block;
    if (p->members > 0) {
        AR_TRY(ar_arena_alloc(arena, p->values, sizeof(char *), "JSON keys", &block));
        p->keys = block;
    }
    AR_TRY(ar_arena_alloc(arena, p->bytes + 1, 1, "JSON text", &block));
    p->strings = block;
    p->memory = arena->memory;
    p->settled = p->values;
    p->at = from;
    p->depth = depth;
    p->values = p->members = p->bytes = 0;
    AR_TRY(parse_unit(p, key));
    *out = p->nodes;
out:
    return status;
}

int32_t ar_json_parse(const char *name, const char *text, size_t size, size_t max_values,
                      ar_arena *arena, ar_json **out) {
    int32_t status = ADVROB_OK;
    parser p = {.name = name, .text = text, .size = size, .max_values = max_values};
    *out = NULL;
    ar_json *root;
    skip_space(&p);
    AR_TRY(build(&p, arena, NULL, &root));
    skip_space(&p);
    if (p.at < p.size) AR_TRY(unexpected(&p, "the end"));
    *out = root;
out:
    return status;
}

int32_t ar_json_walk_next(ar_json_walk *walk, size_t max_values, ar_arena *arena, const char **key,
                          ar_json **value) {
    int32_t status = ADVROB_OK;
    parser p = {.name = walk->name,
                .text = walk->text,
                .size = walk->size,
                .at = walk->at,
                .depth = 1,
                .max_values = max_values};
    *key = NULL;
    *value = NULL;
    skip_space(&p);
    if (!walk->started) {
        if (peek(&p) != '{') AR_TRY(unexpected(&p, "'{'"));
        p.at++;
        skip_space(&p);
    }
    bool end = peek(&p) == '}';
    if (walk->started && !end) {
        if (peek(&p) != ',') AR_TRY(unexpected(&p, "',' or '}'"));
        p.at++;
        skip_space(&p);
    }
    if (end) {
        p.at++;
        skip_space(&p);
        if (p.at < p.size) AR_TRY(unexpected(&p, "the end"));
    } else {
        const char *name;
        AR_TRY(build(&p, arena, &name, value));
        *key = name;
    }
    walk->started = true;
    walk->at = p.at;
out:
    return status;
}

const ar_json *ar_json_get(const ar_json *object, const char *key) {
    if (!object || object->kind != AR_JSON_OBJECT) return NULL;
    for (size_t i = 0; i < object->count; i++)
        if (strcmp(object->keys[i], key) == 0) return &object->items[i];
    return NULL;
}

/* Writing */

/* The escaped form of one byte; 0 when it stands for itself. escape: at least 7 bytes. */
static size_t escape_byte(unsigned char c, char *escape) {
    static const char hex[] = "0123456789abcdef";
    char letter = c == '"'    ? '"'
                  : c == '\\' ? '\\'
                  : c == '\n' ? 'n'
                  : c == '\r' ? 'r'
                  : c == '\t' ? 't'
                              : 0;
    if (!letter && c >= 0x20 && c != 0x7f) return 0;
    escape[0] = '\\';
    if (letter) {
        escape[1] = letter;
        return 2;
    }
    memcpy(escape + 1, "u00", 3);
    escape[4] = hex[c >> 4];
    escape[5] = hex[c & 15];
    return 6;
}

void ar_json_write_string(ar_buffer *buffer, const char *text) {
    ar_buffer_bytes(buffer, "\"", 1);
    const char *run = text;
    for (size_t step = 1; *text; text += step) {
        char escape[8];
        size_t n = escape_byte((unsigned char)*text, escape);
        step = n > 0 ? 1 : ar_utf8_length(text, strnlen(text, 4));
        if (n == 0 && step > 0) continue;
        if (step == 0) { /* not UTF-8, which the reader would refuse: U+FFFD */
            step = 1;
            n = 3;
            memcpy(escape, "\xef\xbf\xbd", n);
        }
        ar_buffer_bytes(buffer, run, (size_t)(text - run));
        ar_buffer_bytes(buffer, escape, n);
        run = text + step;
    }
    ar_buffer_bytes(buffer, run, (size_t)(text - run));
    ar_buffer_bytes(buffer, "\"", 1);
}

void ar_json_write_f64(ar_buffer *buffer, double value) {
    char text[32];
    if (isfinite(value))
        ar_print_f64(text, value);
    else
        ar_copy_text(text, sizeof(text), "null");
    ar_buffer_bytes(buffer, text, strlen(text));
}

void ar_json_quote(char *buffer, size_t size, const char *text) {
    static const char cut[] = "...\"";
    if (size < sizeof(cut) + 1) {
        if (size > 0) buffer[0] = 0;
        return;
    }
    size_t room = size - sizeof(cut), at = 1; /* always room for the end */
    buffer[0] = '"';
    while (*text) {
        char escape[8];
        size_t n = escape_byte((unsigned char)*text, escape), step = 1;
        if (n == 0) n = step = ar_utf8_length(text, strnlen(text, 4));
        if (n == 0) { /* not UTF-8 */
            n = step = 1;
            escape[0] = '?';
        } else if (step > 1 || escape_byte((unsigned char)*text, escape) == 0) {
            memcpy(escape, text, n);
        }
        if (at + n > room) break;
        memcpy(buffer + at, escape, n);
        at += n;
        text += step;
    }
    memcpy(buffer + at, *text ? cut : "\"", *text ? sizeof(cut) : 2);
}
