/* What every public function does before and after its one call in. */
#ifndef AR_ENTRY_H
#define AR_ENTRY_H

#include <errno.h>

#include "base/base.h"

/* At each entry: the context is there and of this process, and the floating-point state is the
 * library's until ar_api_leave. */
int32_t ar_api_enter(advrob_context *ctx, uint64_t *state);

/* E_INVALID that names the argument, if `pointer` is NULL. */
int32_t ar_api_present(const void *pointer, const char *name);

/* The body of a public function that can fail: CALL runs between enter and leave. errno stays the
 * caller's. */
#define AR_API(ctx, call) \
    do { \
        uint64_t ar_state; \
        int ar_errno = errno; \
        int32_t ar_status = ar_api_enter(ctx, &ar_state); \
        if (ar_status < 0) return ar_status; \
        ar_status = (call); \
        ar_fp_leave(ar_state); \
        errno = ar_errno; \
        return ar_status; \
    } while (0)

/* Returns E_INVALID from the function if a pointer argument is NULL. */
#define AR_API_PRESENT(pointer) \
    do { \
        if ((pointer) == NULL) return ar_api_present(pointer, #pointer); \
    } while (0)

#endif
