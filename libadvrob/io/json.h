/* JSON: a reader into an arena with limits, and a writer on ar_buffer. */
#ifndef AR_JSON_H
#define AR_JSON_H

#include "base/base.h"

enum { AR_JSON_NULL, AR_JSON_BOOL, AR_JSON_NUMBER, AR_JSON_STRING, AR_JSON_ARRAY, AR_JSON_OBJECT };

typedef struct ar_json {
    int32_t kind;
    bool truth;
    double number;
    bool integer; /* the number was written without point and exponent and fits int64 */
    int64_t whole;
    const char *text; /* string: UTF-8, no zero byte inside, terminated */
    size_t length;
    struct ar_json *items; /* array items, object values */
    const char **keys;     /* object */
    size_t count;
} ar_json;

/* Parses all of text[0, size) strictly (RFC 8259): UTF-8 is checked, duplicate keys, a zero in a
 * string, nesting over 32 and more than `max_values` values are refused. E_FORMAT with the byte
 * offset; `name` starts the message. The tree lives in `arena`. Time is O(n log n). */
int32_t ar_json_parse(const char *name, const char *text, size_t size, size_t max_values,
                      ar_arena *arena, ar_json **out);

/* The members of the object text[0, size) one after the other, each with a tree of its own, so that
 * a big object needs little memory. Checks as ar_json_parse, but for duplicate keys of the outer
 * object: these are the caller's. After the last member *key is NULL. Start with
 * {name, text, size}. */
typedef struct ar_json_walk {
    const char *name, *text;
    size_t size, at;
    bool started;
} ar_json_walk;
int32_t ar_json_walk_next(ar_json_walk *walk, size_t max_values, ar_arena *arena, const char **key,
                          ar_json **value);

/* Member of an object or NULL. */
const ar_json *ar_json_get(const ar_json *object, const char *key);

/* Appends a quoted and escaped string. */
void ar_json_write_string(ar_buffer *buffer, const char *text);
/* Text from a file for a one-line message: quoted, control characters escaped, cut to fit. */
void ar_json_quote(char *buffer, size_t size, const char *text);
/* A number; null for a value that is not finite. */
void ar_json_write_f64(ar_buffer *buffer, double value);

#endif
