/* Status, version, context. */
#include "entry.h"
#include "kernel/kernel.h"
#ifndef AR_ENGINE_ALONE
#include "engine/lower.h"
#endif

int32_t ar_api_enter(advrob_context *ctx, uint64_t *state) {
    int32_t status = ar_context_check(ctx);
    if (status < 0) return status;
    *state = ar_fp_enter();
    return ADVROB_OK;
}

int32_t ar_api_present(const void *pointer, const char *name) {
    return pointer == NULL ? ar_error(ADVROB_E_INVALID, "argument %s is NULL", name) : ADVROB_OK;
}

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

int32_t advrob_version(void) {
    return 10000 * ADVROB_VERSION_MAJOR + 100 * ADVROB_VERSION_MINOR + ADVROB_VERSION_PATCH;
}

const char *advrob_version_text(void) {
    return TEXT(ADVROB_VERSION_MAJOR) "." TEXT(ADVROB_VERSION_MINOR) "." TEXT(ADVROB_VERSION_PATCH);
}

const char *advrob_status_name(int32_t status) {
    return ar_status_name(status);
}

const char *advrob_status_text(int32_t status) {
    return ar_status_text(status);
}

const char *advrob_last_message(void) {
    return ar_message();
}

int32_t advrob_context_create(const advrob_options *options, advrob_context **out) {
    AR_API_PRESENT(out);
    int before = errno;
    uint64_t state = ar_fp_enter();
    int32_t status = ar_context_create(options, out);
    if (status >= 0) {
        (*out)->kernels = ar_kernels_get((*out)->cpu, true);
#ifndef AR_ENGINE_ALONE
        (*out)->integers = &ar_engine_integers;
#endif
    }
    ar_fp_leave(state);
    errno = before;
    return status;
}

void advrob_context_destroy(advrob_context *ctx) {
    ar_context_release(ctx);
}

int32_t advrob_context_set_log(advrob_context *ctx, advrob_log_fn fn, void *user) {
    AR_API_PRESENT(ctx);
    ctx->log = fn;
    ctx->log_user = user;
    return ADVROB_OK;
}

int32_t advrob_context_set_progress(advrob_context *ctx, advrob_progress_fn fn, void *user) {
    AR_API_PRESENT(ctx);
    ctx->progress = fn;
    ctx->progress_user = user;
    return ADVROB_OK;
}

int32_t advrob_context_set_parallel(advrob_context *ctx, advrob_parallel_fn fn, void *user) {
    AR_API_PRESENT(ctx);
    ctx->parallel = fn;
    ctx->parallel_user = user;
    return ADVROB_OK;
}

void advrob_context_cancel(advrob_context *ctx) {
    if (ctx != NULL) ctx->cancelled = 1;
}

void advrob_context_rearm(advrob_context *ctx) {
    if (ctx != NULL) ctx->cancelled = 0;
}

int32_t advrob_context_threads(const advrob_context *ctx) {
    return ctx == NULL ? 0 : ar_workers(ctx);
}

int64_t advrob_context_seed(const advrob_context *ctx) {
    return ctx == NULL ? 0 : ctx->seed;
}

const char *advrob_context_cpu(const advrob_context *ctx) {
    return ctx == NULL ? "" : ctx->kernels->name;
}

uint64_t advrob_context_memory(const advrob_context *ctx) {
    return ctx == NULL ? 0 : ctx->memory.used;
}

uint64_t advrob_context_memory_peak(const advrob_context *ctx) {
    return ctx == NULL ? 0 : ctx->memory.peak;
}
