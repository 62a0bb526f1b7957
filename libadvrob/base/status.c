/* Status codes: their names and texts, and the calling thread's message.
 *
 * The message is the only state that belongs to a thread instead of a handle: a failing call may
 * have no handle to put it in. */
#include "status.h"

#include "text.h"

#include <string.h>

static _Thread_local char last_message[AR_MESSAGE_SIZE];

/* Messages carry names and paths that the caller gave: keep them to one line of valid UTF-8. */
static void set_message(const char *text) {
    const unsigned char *from = (const unsigned char *)text;
    size_t used = 0;
    while (*from) {
        size_t n = ar_utf8_length((const char *)from, strnlen((const char *)from, 4));
        if (used + (n ? n : 1) >= sizeof last_message) break;
        if (n == 0 || *from < 0x20 || *from == 0x7f) {
            last_message[used++] = '?';
            from++;
            continue;
        }
        memcpy(last_message + used, from, n);
        used += n;
        from += n;
    }
    last_message[used] = 0;
}

int32_t ar_error(int32_t code, const char *format, ...) {
    char text[AR_MESSAGE_SIZE]; /* an argument may be the old message */
    va_list args;
    va_start(args, format);
    size_t length = ar_vformat(text, sizeof text, format, args);
    va_end(args);
    if (length >= sizeof text) { /* a character that was cut in two is dropped, not marked */
        size_t end = sizeof text - 1;
        while (end > 0 && ((unsigned char)text[end - 1] & 0xc0) == 0x80) {
            end--;
        }
        if (end > 0 && ar_utf8_length(text + end - 1, sizeof text - end) == 0) text[end - 1] = 0;
    }
    set_message(text);
    return code;
}

const char *ar_message(void) {
    return last_message;
}

int32_t ar_error_restore(int32_t code, const char *message) {
    if (message != last_message) ar_copy_text(last_message, sizeof last_message, message);
    return code;
}

const char *ar_status_name(int32_t status) {
    switch (status) {
#define STATUS_NAME(name, code, text) \
    case code: \
        return #name;
        ADVROB_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    default:
        return "unknown";
    }
}

const char *ar_status_text(int32_t status) {
    switch (status) {
#define STATUS_TEXT(name, code, text) \
    case code: \
        return text;
        ADVROB_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    default:
        return "unknown";
    }
}
