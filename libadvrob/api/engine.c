/* Engines from their files, and what runs them: all that needs no model. */
#include "engine/engine.h"
#include "entry.h"

int32_t advrob_engine_save(const advrob_engine *engine, const char *path) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(path);
    AR_API(engine->ctx, ar_engine_save(engine, path));
}

int32_t advrob_engine_load(advrob_context *ctx, const char *path, advrob_engine **out) {
    AR_API_PRESENT(path);
    AR_API_PRESENT(out);
    AR_API(ctx, ar_engine_load(ctx, path, out));
}

void advrob_engine_destroy(advrob_engine *engine) {
    ar_engine_release(engine);
}

int32_t advrob_engine_shape(const advrob_engine *engine, int32_t *shape) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(shape);
    shape[0] = engine->shape.c;
    shape[1] = engine->shape.h;
    shape[2] = engine->shape.w;
    return ADVROB_OK;
}

int32_t advrob_engine_classes(const advrob_engine *engine) {
    return engine == NULL ? 0 : engine->classes;
}

int32_t advrob_engine_memory(const advrob_engine *engine, int64_t *fixed, int64_t *workspace) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(fixed);
    AR_API_PRESENT(workspace);
    *fixed = (int64_t)ar_arena_bytes(&engine->arena);
    *workspace = (int64_t)engine->room;
    return ADVROB_OK;
}

static int32_t check_count(int64_t n) {
    if (n < 1) return ar_error(ADVROB_E_RANGE, "%lld images, expected at least 1", (long long)n);
    return ADVROB_OK;
}

static int32_t run(advrob_engine *engine, int64_t n, const float *x, float *logits) {
    int32_t status = check_count(n);
    return status < 0 ? status : ar_engine_run(engine, n, x, logits);
}

static int32_t run_bytes(advrob_engine *engine, int64_t n, const uint8_t *x, float *logits) {
    int32_t status = check_count(n);
    return status < 0 ? status : ar_engine_run_bytes(engine, n, x, logits);
}

int32_t advrob_engine_run(advrob_engine *engine, int64_t n, const float *x, float *logits) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(x);
    AR_API_PRESENT(logits);
    AR_API(engine->ctx, run(engine, n, x, logits));
}

int32_t advrob_engine_run_u8(advrob_engine *engine, int64_t n, const uint8_t *x, float *logits) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(x);
    AR_API_PRESENT(logits);
    AR_API(engine->ctx, run_bytes(engine, n, x, logits));
}
