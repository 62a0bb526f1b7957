/* Scenarios in which every allocation fails once: a run's handles, the calls under test, what runs
 * start from, and the sweep over all allocations. */
#ifndef TEST_OOM_SWEEP_H
#define TEST_OOM_SWEEP_H

#include "support/support.h"

#include <advrob/advrob.h>

#include <string.h>

enum { ONCE, RELIEVED, GIVEN_UP }; /* one refusal; all until one shows; all to the end */
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
    advrob_engine *engines[SLOTS];
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

/* ---- What runs start from ---- */

enum { SIDE = 8, PIXELS = SIDE * SIDE, IMAGES = 20, CLASSES = 10 };

static float images[IMAGES * PIXELS];
static int32_t labels[IMAGES];

static inline void fill_images(void) {
    for (int32_t i = 0; i < IMAGES; i++)
        labels[i] = i % CLASSES;
    for (int32_t i = 0; i < IMAGES * PIXELS; i++)
        images[i] = (float)(i * 37 % 101) / 101.0f;
}

static inline void new_options(run *r, int32_t slot) {
    MAKE(r, r->options[slot],
         advrob_options_create_with(test_alloc, &r->memory, &r->options[slot]));
}

static inline void new_dataset(run *r, int32_t slot) {
    MAKE(r, r->data[slot],
         advrob_dataset_from_memory(r->ctx, ADVROB_F32, images, labels, IMAGES, 1, SIDE, SIDE,
                                    CLASSES, &r->data[slot]));
}

static inline void open_run(run *r, int32_t threads) {
    memset(r, 0, sizeof *r);
    advrob_options *options = NULL;
    assert_int_equal(advrob_options_create_with(test_alloc, &r->memory, &options), ADVROB_OK);
    advrob_options_set_i64(options, "threads", threads);
    advrob_options_set_i64(options, "seed", 5);
    assert_int_equal(advrob_context_create(options, &r->ctx), ADVROB_OK);
    advrob_options_destroy(options);
}

static inline void close_run(run *r) {
    advrob_text_destroy(r->ctx, r->text);
    advrob_context_destroy(r->ctx); /* what still lives keeps it */
    for (int32_t i = 0; i < SLOTS; i++) {
        advrob_options_destroy(r->options[i]);
        advrob_tensor_destroy(r->tensors[i]);
        advrob_dataset_destroy(r->data[i]);
        advrob_model_destroy(r->models[i]);
        advrob_target_destroy(r->targets[i]);
        advrob_attack_destroy(r->attacks[i]);
        advrob_compressor_destroy(r->compressors[i]);
        advrob_finetune_destroy(r->finetunes[i]);
        advrob_history_destroy(r->histories[i]);
        advrob_report_destroy(r->reports[i]);
        advrob_engine_destroy(r->engines[i]);
    }
}

static inline void look_at_model(run *r, const advrob_model *model) {
    char digest[17];
    assert_int_equal(advrob_model_digest(model, digest, sizeof digest), ADVROB_OK);
    look(r, digest, sizeof digest);
}

static inline void make_smaller(run *r, int32_t slot, const char *name, const char *option,
                                const char *value) {
    new_options(r, slot);
    if (r->over) return;
    CALL(r, advrob_options_set_text(r->options[slot], option, value));
    MAKE(r, r->compressors[slot],
         advrob_compressor_create(r->ctx, name, r->options[slot], &r->compressors[slot]));
    MAKE(r, r->models[slot],
         advrob_compressor_run(r->compressors[slot], r->models[0], r->data[0], &r->models[slot]));
    look_at_model(r, r->models[slot]);
    advrob_text_destroy(r->ctx, r->text);
    MAKE(r, r->text,
         advrob_compressor_plan(r->compressors[slot], r->models[0], r->data[0], &r->text));
    look_at_text(r, r->text);
}

/* ---- The sweep ---- */

static int64_t sweep_faults; /* so far */

static inline uint64_t undisturbed(void (*scenario)(run *r), int32_t threads) {
    run r;
    open_run(&r, threads);
    scenario(&r);
    close_run(&r);
    test_allocator_check(&r.memory);
    return r.seen;
}

/* The number of refused allocations. */
static inline int64_t sweep(void (*scenario)(run *r), int32_t threads, int32_t mode,
                            uint64_t wanted) {
    int64_t count = 0;
    for (int64_t n = 1;; n++) {
        run r;
        open_run(&r, threads);
        r.mode = mode;
        test_allocator_arm(&r.memory, n, mode != ONCE);
        scenario(&r);
        int64_t refused_now = r.memory.failed;
        close_run(&r);
        test_allocator_check(&r.memory);
        if (!r.over) assert_true(r.seen == wanted);
        if (refused_now == 0) return count;
        count++;
    }
}

static inline void sweep_all(void (*scenario)(run *r)) {
    test_guard guard = test_guard_begin();
    uint64_t wanted = undisturbed(scenario, 1);
    assert_true(wanted != 0 && wanted == undisturbed(scenario, 2));
    sweep_faults += sweep(scenario, 1, ONCE, wanted);
    sweep_faults += sweep(scenario, 1, GIVEN_UP, wanted);
    if (!TEST_SANITIZED) { /* which see the same ways through the code in the two above */
        sweep_faults += sweep(scenario, 1, RELIEVED, wanted);
        sweep_faults += sweep(scenario, 2, ONCE, wanted);
        sweep_faults += sweep(scenario, 2, GIVEN_UP, wanted);
    }
    test_guard_check(&guard);
}

#endif
