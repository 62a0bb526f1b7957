/* Text: formatting, numbers and the growing buffer, all the same in every locale.
 *
 * The C library's printf and strtod follow the process's locale, which belongs to the program that
 * embeds this library; so the formatting is done here, and where the C library must help (strfromd
 * for digits, strtod_l for reading) its decimal point is put right. */
#include "text.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longest output of strfromd here: 309 digits before the point, MOST_DIGITS behind it. */
#define MOST_DIGITS 40
#define NUMBER_SIZE 400
/* Longest decimal number that is read: far more than any writer needs. */
#define LONGEST_NUMBER 1023
/* Of a name that is compared; what follows is left out. */
#define LONGEST_NAME 127

typedef struct sink {
    char *buffer;
    size_t size, length;
} sink;

typedef struct spec {
    bool left, zero;
    int width, precision; /* precision -1: not given */
    int longs;            /* number of l; 3 for z, j and t */
} spec;

static void put(sink *s, const char *text, size_t n) {
    if (s->size > 0 && s->length < s->size - 1) {
        size_t room = s->size - 1 - s->length;
        memcpy(s->buffer + s->length, text, n < room ? n : room);
    }
    s->length += n;
}

static void put_padded(sink *s, const spec *f, const char *text, size_t n) {
    size_t pad = f->width > 0 && (size_t)f->width > n ? (size_t)f->width - n : 0;
    bool zero = f->zero && !f->left;
    if (zero && n > 0 && *text == '-') {
        put(s, text++, 1);
        n--;
    }
    for (size_t i = 0; i < pad && !f->left; i++) {
        put(s, zero ? "0" : " ", 1);
    }
    put(s, text, n);
    for (size_t i = 0; i < pad && f->left; i++) {
        put(s, " ", 1);
    }
}

static void put_integer(sink *s, const spec *f, bool negative, uint64_t value, unsigned base) {
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative) digits[--at] = '-';
    put_padded(s, f, digits + at, sizeof digits - at);
}

/* The locale's decimal point may be any run of bytes: what is no part of a number becomes '.'. */
static void fix_point(char *text) {
    char *to = text;
    bool foreign = false;
    for (const char *from = text; *from; from++) {
        bool plain = (*from >= '0' && *from <= '9') || *from == '+' || *from == '-' || *from == 'e';
        if (plain) {
            *to++ = *from;
        } else if (!foreign) {
            *to++ = '.';
        }
        foreign = !plain;
    }
    *to = 0;
}

/* `value` by the conversion `kind` ('f' or 'g') with `precision` digits, into text[NUMBER_SIZE]. */
static void print_digits(char *text, double value, int precision, char kind) {
    if (isnan(value)) {
        memcpy(text, "nan", 4);
        return;
    }
    if (isinf(value)) {
        memcpy(text, value < 0 ? "-inf" : "inf", value < 0 ? 5 : 4);
        return;
    }
    char format[8];
    size_t n = 0;
    if (precision > MOST_DIGITS) precision = MOST_DIGITS;
    format[n++] = '%';
    format[n++] = '.';
    if (precision >= 10) format[n++] = (char)('0' + precision / 10);
    format[n++] = (char)('0' + precision % 10);
    format[n++] = kind;
    format[n] = 0;
    strfromd(text, NUMBER_SIZE, format, value);
    fix_point(text);
}

/* text is terminated and holds a decimal number: the value in the C locale. */
static bool read_f64(const char *text, double *value) {
    /* The C locale's object is static in the C library: no allocation, and this cannot fail. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) return false;
    *value = strtod_l(text, NULL, plain);
    freelocale(plain);
    return isfinite(*value);
}

void ar_print_f64(char *buffer, double value) {
    char text[NUMBER_SIZE];
    double back;
    int digits = isfinite(value) ? 1 : 17;
    for (; digits < 17; digits++) {
        print_digits(text, value, digits, 'g');
        if (read_f64(text, &back) && back == value) break;
    }
    /* "20", not "2e+01": up to 6 digits cost nothing, %g leaves out zeros at the end. */
    if (digits < 6 && fabs(value) >= 1 && fabs(value) < 1e6) digits = 6;
    print_digits(text, value, digits, 'g');
    ar_copy_text(buffer, 32, text);
}

static void put_f64(sink *s, const spec *f, double value, char kind) {
    char text[NUMBER_SIZE];
    if (kind == 'g' && f->precision < 0) {
        ar_print_f64(text, value);
    } else {
        print_digits(text, value, f->precision < 0 ? 6 : f->precision, kind);
    }
    put_padded(s, f, text, strlen(text));
}

static int read_count(const char **at) {
    int value = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (value < 100000) value = value * 10 + (**at - '0');
    }
    return value;
}

/* Reads flags, width, precision and length; *at then stands at the conversion. A `*` takes its
 * value from `star`. */
static spec read_spec(const char **at, int star) {
    spec f = {false, false, 0, -1, 0};
    for (; **at == '-' || **at == '0'; (*at)++) {
        if (**at == '-') f.left = true;
        if (**at == '0') f.zero = true;
    }
    f.width = read_count(at);
    if (**at == '.') {
        (*at)++;
        if (**at == '*') {
            (*at)++;
            f.precision = star;
        } else {
            f.precision = read_count(at);
        }
    }
    for (; **at == 'l' || **at == 'z' || **at == 'j' || **at == 't'; (*at)++) {
        f.longs = **at == 'l' ? f.longs + 1 : 3;
    }
    return f;
}

/* Whether the conversion that starts at `at` has ".*". */
static bool has_star(const char *at) {
    while (*at == '-' || (*at >= '0' && *at <= '9')) {
        at++;
    }
    return at[0] == '.' && at[1] == '*';
}

static size_t text_length(const char *text, int precision) {
    return precision < 0 ? strlen(text) : strnlen(text, (size_t)precision);
}

size_t ar_vformat(char *buffer, size_t size, const char *format, va_list args) {
    sink s = {buffer, size, 0};
    const char *at = format;
    bool known = true;
    while (*at && known) {
        size_t plain = strcspn(at, "%");
        put(&s, at, plain);
        at += plain;
        if (*at == 0) break;
        const char *start = at++;
        spec f = read_spec(&at, has_star(at) ? va_arg(args, int) : 0);
        if (*at == 's') {
            const char *text = va_arg(args, const char *);
            if (!text) text = "(null)";
            put_padded(&s, &f, text, text_length(text, f.precision));
        } else if (*at == 'c') {
            char c = (char)va_arg(args, int);
            put_padded(&s, &f, &c, 1);
        } else if (*at == 'd' || *at == 'i') {
            int64_t v = f.longs == 0   ? va_arg(args, int)
                        : f.longs == 1 ? va_arg(args, long)
                        : f.longs == 2 ? va_arg(args, long long)
                                       : va_arg(args, ptrdiff_t);
            put_integer(&s, &f, v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10);
        } else if (*at == 'u' || *at == 'x') {
            uint64_t v = f.longs == 0   ? va_arg(args, unsigned)
                         : f.longs == 1 ? va_arg(args, unsigned long)
                         : f.longs == 2 ? va_arg(args, unsigned long long)
                                        : va_arg(args, size_t);
            put_integer(&s, &f, false, v, *at == 'x' ? 16 : 10);
        } else if (*at == 'f' || *at == 'g') {
            put_f64(&s, &f, va_arg(args, double), *at);
        } else if (*at == '%') {
            put(&s, "%", 1);
        } else { /* the type of the argument is unknown, and so are those behind it */
            put(&s, start, strlen(start));
            known = false;
        }
        if (known) at++;
    }
    if (size > 0) buffer[s.length < size ? s.length : size - 1] = 0;
    return s.length;
}

size_t ar_format(char *buffer, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t length = ar_vformat(buffer, size, format, args);
    va_end(args);
    return length;
}

static size_t count_digits(const char *text, size_t length) {
    size_t n = 0;
    while (n < length && text[n] >= '0' && text[n] <= '9') {
        n++;
    }
    return n;
}

bool ar_parse_f64(const char *text, size_t length, double *value) {
    char copy[LONGEST_NUMBER + 1]; /* the text need not be terminated */
    size_t at = 0;
    if (length > LONGEST_NUMBER) return false;
    if (at < length && (text[at] == '+' || text[at] == '-')) at++;
    size_t whole = count_digits(text + at, length - at), part = 0;
    at += whole;
    if (at < length && text[at] == '.') {
        at++;
        part = count_digits(text + at, length - at);
        at += part;
    }
    if (whole + part == 0) return false;
    if (at < length && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < length && (text[at] == '+' || text[at] == '-')) at++;
        size_t exponent = count_digits(text + at, length - at);
        if (exponent == 0) return false;
        at += exponent;
    }
    if (at != length) return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    double number;
    if (!read_f64(copy, &number)) return false; /* too large */
    *value = number;
    return true;
}

bool ar_parse_i64(const char *text, size_t length, int64_t *value) {
    size_t at = 0;
    bool negative = length > 0 && text[0] == '-';
    if (length > 0 && (text[0] == '-' || text[0] == '+')) at++;
    if (at == length || count_digits(text + at, length - at) != length - at) return false;
    uint64_t most = (uint64_t)INT64_MAX + (negative ? 1 : 0), number = 0;
    for (; at < length; at++) {
        uint64_t digit = (uint64_t)(text[at] - '0');
        if (number > (most - digit) / 10) return false;
        number = number * 10 + digit;
    }
    /* -2^63 has no positive twin to negate. */
    *value =
        negative ? (number > (uint64_t)INT64_MAX ? INT64_MIN : -(int64_t)number) : (int64_t)number;
    return true;
}

void ar_buffer_init(ar_buffer *buffer, ar_memory *memory) {
    memset(buffer, 0, sizeof *buffer);
    buffer->memory = memory;
}

void ar_buffer_free(ar_buffer *buffer) {
    ar_free(buffer->memory, buffer->data);
    ar_buffer_init(buffer, buffer->memory);
}

/* Makes room for `size` more bytes and the terminating zero. */
static bool make_room(ar_buffer *buffer, size_t size) {
    size_t need;
    if (buffer->status < 0) return false;
    if (!ar_add(buffer->length, size, &need) || !ar_add(need, 1, &need)) {
        buffer->status = ar_error(ADVROB_E_NOMEM, "out of memory: a text of %zu and %zu bytes",
                                  buffer->length, size);
        return false;
    }
    if (need <= buffer->capacity) return true;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    if (capacity <= SIZE_MAX / 2) capacity *= 2;
    if (capacity < need) capacity = need;
    void *data = buffer->data;
    buffer->status = ar_regrow(buffer->memory, &data, capacity, 1, "a text");
    if (buffer->status < 0) {
        buffer->status = ADVROB_E_NOMEM;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void ar_buffer_bytes(ar_buffer *buffer, const void *data, size_t size) {
    if (!make_room(buffer, size)) return;
    if (size > 0) memcpy(buffer->data + buffer->length, data, size);
    buffer->length += size;
    buffer->data[buffer->length] = 0;
}

void ar_buffer_add(ar_buffer *buffer, const char *format, ...) {
    char text[256]; /* most appends are short: one pass */
    va_list args;
    va_start(args, format);
    size_t length = ar_vformat(text, sizeof text, format, args);
    va_end(args);
    if (length < sizeof text) {
        ar_buffer_bytes(buffer, text, length);
        return;
    }
    if (!make_room(buffer, length)) return;
    va_start(args, format);
    ar_vformat(buffer->data + buffer->length, length + 1, format, args);
    va_end(args);
    buffer->length += length;
}

int32_t ar_buffer_status(ar_buffer *buffer) {
    if (buffer->status == ADVROB_OK && !buffer->data && make_room(buffer, 0)) buffer->data[0] = 0;
    return buffer->status;
}

uint64_t ar_fnv(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    }
    return hash;
}

size_t ar_utf8_length(const char *text, size_t left) {
    const unsigned char *s = (const unsigned char *)text;
    unsigned c = s[0], low = 0x80, high = 0xbf;
    size_t length;
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    length = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c == 0xe0) low = 0xa0;  /* overlong */
    if (c == 0xed) high = 0x9f; /* surrogates */
    if (c == 0xf0) low = 0x90;  /* overlong */
    if (c == 0xf4) high = 0x8f; /* past U+10FFFF */
    if (length > left || s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    return length;
}

void ar_copy_text(char *buffer, size_t size, const char *text) {
    if (size == 0) return;
    size_t n = strnlen(text, size - 1);
    memcpy(buffer, text, n);
    buffer[n] = 0;
}

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

int32_t ar_distance(const char *a, const char *b) {
    int32_t rows[3][LONGEST_NAME + 1];
    int32_t n = (int32_t)strnlen(a, LONGEST_NAME), m = (int32_t)strnlen(b, LONGEST_NAME);
    for (int32_t j = 0; j <= m; j++) {
        rows[0][j] = j;
    }
    for (int32_t i = 1; i <= n; i++) {
        int32_t *now = rows[i % 3];
        const int32_t *last = rows[(i + 2) % 3], *older = rows[(i + 1) % 3];
        now[0] = i;
        for (int32_t j = 1; j <= m; j++) {
            now[j] = least(last[j] + 1, now[j - 1] + 1);
            now[j] = least(now[j], last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = least(now[j], older[j - 2] + 1);
            }
        }
    }
    return rows[n % 3][m];
}

int32_t ar_too_far(const char *name) {
    int32_t length = (int32_t)strnlen(name, LONGEST_NAME);
    return length <= 2 ? 2 : length <= 8 ? 3 : length / 3 + 1;
}
