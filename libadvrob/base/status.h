/* Status codes inside the library: one-line messages and the way errors travel.
 *
 * A function that can fail returns int32_t: ADVROB_OK or a negative code whose message it has set.
 * Functions with something to release keep `int32_t status = ADVROB_OK;` and one `out:` label. */
#ifndef AR_STATUS_H
#define AR_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <advrob/context.h>

#define AR_MESSAGE_SIZE 512

/* Sets the calling thread's message and returns `code`. Formats as ar_format (text.h). */
int32_t ar_error(int32_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The calling thread's message; and a way to put one back (a job's error on the caller's thread).
 */
const char *ar_message(void);
int32_t ar_error_restore(int32_t code, const char *message);

/* "E_RANGE" for ADVROB_E_RANGE and a short general text; "unknown" for what is no code. */
const char *ar_status_name(int32_t status);
const char *ar_status_text(int32_t status);

/* Runs `call`; on failure keeps its code in `status` and goes to `out`. */
#define AR_TRY(call) \
    do { \
        status = (call); \
        if (status < 0) goto out; \
    } while (0)

/* Fails with a code and a message. */
#define AR_FAIL(...) \
    do { \
        status = ar_error(__VA_ARGS__); \
        goto out; \
    } while (0)

#endif
