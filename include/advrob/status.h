/* Status codes: every function that can fail returns one. 0 is success, failures are negative.
 *
 * Codes are pinned and never change their value. What exactly went wrong stands in
 * advrob_last_message(): one line that says what was got and what was wanted. */
#ifndef ADVROB_STATUS_H
#define ADVROB_STATUS_H

#include <stdint.h>

#include <advrob/version.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, code, text): the one list of all codes. */
#define ADVROB_STATUS_LIST(X) \
    X(OK, 0, "success") \
    X(E_INVALID, -1, "invalid argument") \
    X(E_NOMEM, -2, "out of memory") \
    X(E_IO, -3, "input or output failed") \
    X(E_FORMAT, -4, "malformed file") \
    X(E_OVERFLOW, -5, "a size does not fit") \
    X(E_SHAPE, -6, "shapes do not fit together") \
    X(E_RANGE, -7, "value out of range") \
    X(E_UNKNOWN, -8, "unknown name") \
    X(E_UNSUPPORTED, -9, "not supported") \
    X(E_NONFINITE, -10, "not a finite number") \
    X(E_CANCELLED, -11, "cancelled") \
    X(E_FORKED, -12, "the context belongs to the parent process") \
    X(E_CALLBACK, -13, "a callback failed") \
    X(E_LIMIT, -14, "a limit was reached") \
    X(E_BUSY, -15, "the object is in use") \
    X(E_INTERNAL, -16, "a fault of the library")

enum {
#define ADVROB_STATUS_ENUM(name, code, text) ADVROB_##name = code,
    ADVROB_STATUS_LIST(ADVROB_STATUS_ENUM)
#undef ADVROB_STATUS_ENUM
        ADVROB_STATUS_END_ = 1
};

/* "E_RANGE" for ADVROB_E_RANGE; "unknown" for a number that is no code. Static storage. */
ADVROB_API const char *advrob_status_name(int32_t status);

/* A short general text for the code. Static storage. */
ADVROB_API const char *advrob_status_text(int32_t status);

/* The message of the last failure on the calling thread: one line, UTF-8, never NULL.
 * Valid until the next failing call on this thread. Successful calls leave it alone. */
ADVROB_API const char *advrob_last_message(void);

#ifdef __cplusplus
}
#endif

#endif
