/* Text: formatting, a growing buffer, numbers; nothing here looks at the locale. */
#ifndef AR_TEXT_H
#define AR_TEXT_H

#include "memory.h"

/* Formats into buffer[size] (cut, always terminated) and returns the untruncated length. Knows
 * %s %d %u %zu %lld %llu %c %% and %g (shortest text that reads back as the same double), with
 * %.Nf for N digits and a width for %s and numbers ("%-12s", "%6d"). Also %x, %.Ns, %.*s and the
 * length l, so that PRId64 and the like work. */
size_t ar_format(char *buffer, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t ar_vformat(char *buffer, size_t size, const char *format, va_list args);

/* The shortest decimal text that reads back as `value`; "nan", "inf", "-inf". buffer[32]. */
void ar_print_f64(char *buffer, double value);

/* Reads all of text[0, length): true for a decimal number ("1", "-0.5", "1e-3"), correctly rounded;
 * "nan" and "inf" are refused. i64: decimal digits with a sign, no overflow. */
bool ar_parse_f64(const char *text, size_t length, double *value);
bool ar_parse_i64(const char *text, size_t length, int64_t *value);

/* A growing text. Appends after a failure do nothing; ar_buffer_status tells at the end. */
typedef struct ar_buffer {
    ar_memory *memory;
    char *data; /* terminated when length > 0 */
    size_t length, capacity;
    int32_t status;
} ar_buffer;

void ar_buffer_init(ar_buffer *buffer, ar_memory *memory);
void ar_buffer_free(ar_buffer *buffer);
void ar_buffer_bytes(ar_buffer *buffer, const void *data, size_t size);
void ar_buffer_add(ar_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* OK or E_NOMEM; data is then never NULL. */
int32_t ar_buffer_status(ar_buffer *buffer);

/* 64-bit FNV-1a, continued from `hash` (start: AR_FNV_START). */
#define AR_FNV_START 0xcbf29ce484222325ull
uint64_t ar_fnv(uint64_t hash, const void *data, size_t size);

/* Length of the UTF-8 sequence at text (Unicode, table 3-7), 0 when there is none. left > 0 */
size_t ar_utf8_length(const char *text, size_t left);

/* Edit distance of two names: insertions, deletions, replacements and swaps of neighbours; and the
 * distance from which a name no longer counts as `name` with a slip of the pen. */
int32_t ar_distance(const char *a, const char *b);
int32_t ar_too_far(const char *name);

/* Copies up to size - 1 bytes and terminates. */
void ar_copy_text(char *buffer, size_t size, const char *text);

#endif
