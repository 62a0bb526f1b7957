/* One run of a scenario in which an allocation fails: its handles, and the calls under test. */
#ifndef TEST_OOM_SWEEP_H
#define TEST_OOM_SWEEP_H

#include "support/support.h"

#include <advrob/advrob.h>

#include <string.h>

enum { ONCE, RELIEVED, GIVEN_UP, MODES }; /* one refusal; all until one shows; all to the end */
enum { SLOTS = 6 };

/* One run of a scenario: its handles stand here, so that a run can be given up anywhere. */
typedef struct run {
    test_allocator memory;
    int32_t mode, refusals;
    bool over;     /* given up */
    uint64_t seen; /* a hash of all results */
    advrob_context *ctx;
    advrob_options *options[SLOTS];
    advrob_tensor *tensors[SLOTS];
    advrob_dataset *data[SLOTS];
    advrob_model *models[SLOTS];
    advrob_target *targets[SLOTS];
    advrob_attack *attacks[SLOTS];
    advrob_compressor *compressors[SLOTS];
    advrob_finetune *finetunes[SLOTS];
    advrob_history *histories[SLOTS];
    advrob_report *reports[SLOTS];
    char *text;
} run;

static inline void look(run *r, const void *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        r->seen = (r->seen ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
}

static inline void look_at_text(run *r, const char *text) {
    look(r, text, strlen(text));
}

/* True if the call is to be made again. */
static inline bool refused(run *r, int32_t status, const char *call) {
    if (status >= 0) return false;
    if (status != ADVROB_E_NOMEM || r->memory.failed == 0)
        fail_msg("%s: %d, %s", call, status, advrob_last_message());
    if (strstr(advrob_last_message(), "memory") == NULL)
        fail_msg("%s: E_NOMEM with the message \"%s\"", call, advrob_last_message());
    r->refusals++;
    if (r->mode == GIVEN_UP) {
        r->over = true;
        return false;
    }
    if (r->refusals > 1) fail_msg("%s: refused again with enough memory", call);
    if (r->mode == RELIEVED) r->memory.fail_at = 0;
    return true;
}

#define CALL(r, call) \
    do { \
        while (refused(r, (call), #call)) \
            continue; \
        if ((r)->over) return; \
    } while (0)

/* A call that makes `out`: a refused one leaves it NULL. */
#define MAKE(r, out, call) \
    do { \
        (out) = NULL; \
        while (refused(r, (call), #call)) \
            if ((out) != NULL) fail_msg("%s: failed and gave one", #call); \
        if ((r)->over && (out) != NULL) fail_msg("%s: failed and gave one", #call); \
        if ((r)->over) return; \
    } while (0)

#endif
