/* The engine as attacks see it: its own logits, and the gradients of the quantized model that it
 * was lowered from, or none. */
#include "lower.h"

typedef struct engine_parts {
    advrob_engine *engine;
    advrob_target *gradients; /* NULL: none */
} engine_parts;

static const engine_parts *parts_of(const advrob_target *target) {
    return target->own;
}

typedef struct engine_session {
    ar_engine_room *room;
    void *gradients; /* a session of the model's target; NULL: none */
} engine_session;

static void engine_close(advrob_target *target, void *session) {
    engine_session *s = session;
    const engine_parts *parts = parts_of(target);
    if (s->gradients != NULL) parts->gradients->close(parts->gradients, s->gradients);
    ar_engine_room_give(parts->engine, s->room);
    ar_free(&target->ctx->memory, s);
}

static int32_t engine_open(advrob_target *target, void **session) {
    int32_t status = ADVROB_OK;
    const engine_parts *parts = parts_of(target);
    void *block = NULL;
    AR_TRY(ar_calloc(&target->ctx->memory, 1, sizeof(engine_session), "session", &block));
    engine_session *s = block;
    AR_TRY(ar_engine_room_take(parts->engine, &s->room));
    if (parts->gradients != NULL) AR_TRY(parts->gradients->open(parts->gradients, &s->gradients));
    *session = s;
    block = NULL;
out:
    if (block != NULL) engine_close(target, block);
    return status;
}

static int32_t engine_forward(advrob_target *target, void *session, int32_t n, const float *x,
                              float *logits) {
    const engine_session *s = session;
    ar_engine_run_tile(parts_of(target)->engine, s->room, n, x, logits);
    return ADVROB_OK;
}

/* The model goes forward for its masks alone. */
static int32_t engine_backward(advrob_target *target, void *session, int32_t n, const float *x,
                               const float *dlogits, float *dx) {
    const engine_session *s = session;
    advrob_target *model = parts_of(target)->gradients;
    int32_t status = model->forward(model, s->gradients, n, x, NULL);
    if (status < 0) return status;
    return model->backward(model, s->gradients, n, x, dlogits, dx);
}

static void engine_destroy(advrob_target *target) {
    engine_parts *parts = target->own;
    ar_target_release(parts->gradients);
    ar_engine_release(parts->engine);
    ar_free(&target->ctx->memory, parts);
}

static int32_t check_gradients(const advrob_engine *engine, const advrob_model *gradients) {
    const ar_shape a = engine->shape, b = gradients->nodes[0].shape;
    if (a.c == b.c && a.h == b.h && a.w == b.w && engine->classes == ar_model_classes(gradients))
        return ADVROB_OK;
    return ar_error(ADVROB_E_SHAPE,
                    "engine target: the model takes %d x %d x %d and has %d classes, the engine "
                    "%d x %d x %d and %d",
                    b.c, b.h, b.w, ar_model_classes(gradients), a.c, a.h, a.w, engine->classes);
}

int32_t ar_target_from_engine(advrob_engine *engine, advrob_model *gradients, advrob_target **out) {
    int32_t status = ADVROB_OK;
    advrob_target *target = NULL, *model = NULL;
    void *block = NULL;
    if (gradients != NULL) {
        AR_TRY(check_gradients(engine, gradients));
        AR_TRY(ar_target_from_model(gradients, &model));
    }
    AR_TRY(ar_calloc(&engine->ctx->memory, 1, sizeof(engine_parts), "target", &block));
    AR_TRY(ar_target_new(engine->ctx, &target));
    ar_engine_retain(engine);
    *(engine_parts *)block = (engine_parts){engine, model};
    target->own = block;
    target->shape = engine->shape;
    target->classes = engine->classes;
    target->low = engine->low;
    target->high = engine->high;
    target->unit = engine->unit;
    target->concurrent = true;
    target->has_backward = gradients != NULL;
    target->preferred_batch = AR_MAX_LANES;
    target->open = engine_open;
    target->close = engine_close;
    target->forward = engine_forward;
    target->backward = engine_backward;
    target->destroy = engine_destroy;
    *out = target;
    model = NULL;
    block = NULL;
out:
    ar_free(&engine->ctx->memory, block);
    ar_target_release(model);
    return status;
}
