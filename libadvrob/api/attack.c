/* Targets and attacks. */
#include <string.h>

#include "api.h"

int32_t advrob_target_from_model(advrob_model *model, advrob_target **out) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(out);
    AR_API(model->ctx, ar_target_from_model(model, out));
}

int32_t advrob_target_from_callbacks(advrob_context *ctx, int32_t channels, int32_t height,
                                     int32_t width, int32_t classes, double low, double high,
                                     advrob_forward_fn forward, advrob_backward_fn backward,
                                     void *user, advrob_target **out) {
    ar_shape shape = {channels, height, width};
    AR_API_PRESENT(out);
    AR_API(ctx,
           ar_target_from_callbacks(ctx, shape, classes, low, high, forward, backward, user, out));
}

int32_t advrob_target_set_box(advrob_target *target, const double *low, const double *high,
                              const double *unit) {
    AR_API_PRESENT(target);
    AR_API_PRESENT(low);
    AR_API_PRESENT(high);
    AR_API_PRESENT(unit);
    AR_API(target->ctx, ar_target_set_box(target, low, high, unit));
}

int32_t advrob_target_set_lattice(advrob_target *target, int32_t steps) {
    AR_API_PRESENT(target);
    AR_API(target->ctx, ar_target_set_lattice(target, steps));
}

int32_t advrob_target_set_source(advrob_target *target, advrob_target *source) {
    AR_API_PRESENT(target);
    AR_API(target->ctx, ar_target_set_source(target, source));
}

void advrob_target_destroy(advrob_target *target) {
    ar_target_release(target);
}

int32_t advrob_target_shape(const advrob_target *target, int32_t *shape) {
    AR_API_PRESENT(target);
    AR_API_PRESENT(shape);
    shape[0] = target->shape.c;
    shape[1] = target->shape.h;
    shape[2] = target->shape.w;
    return ADVROB_OK;
}

int32_t advrob_target_box(const advrob_target *target, double *low, double *high, double *unit) {
    AR_API_PRESENT(target);
    const size_t bytes = sizeof(double) * (size_t)target->shape.c;
    if (low != NULL) memcpy(low, target->low, bytes);
    if (high != NULL) memcpy(high, target->high, bytes);
    if (unit != NULL) memcpy(unit, target->unit, bytes);
    return ADVROB_OK;
}

int32_t advrob_target_classes(const advrob_target *target) {
    return target == NULL ? 0 : target->classes;
}

static int32_t check_count(int64_t n) {
    if (n < 1) return ar_error(ADVROB_E_RANGE, "%lld images, expected at least 1", (long long)n);
    return ADVROB_OK;
}

static int32_t target_forward(advrob_target *target, int64_t n, const float *x, float *logits) {
    int32_t status = check_count(n);
    return status < 0 ? status : ar_target_forward(target, n, x, logits);
}

int32_t advrob_target_forward(advrob_target *target, int64_t n, const float *x, float *logits) {
    AR_API_PRESENT(target);
    AR_API_PRESENT(x);
    AR_API_PRESENT(logits);
    AR_API(target->ctx, target_forward(target, n, x, logits));
}

static int32_t loss_gradient(advrob_target *target, const char *loss, int64_t n, const float *x,
                             const int32_t *y, double *losses, float *dx) {
    int32_t status = check_count(n);
    return status < 0 ? status : ar_target_loss_gradient(target, loss, n, x, y, losses, dx);
}

int32_t advrob_target_loss_gradient(advrob_target *target, const char *loss, int64_t n,
                                    const float *x, const int32_t *y, double *losses, float *dx) {
    AR_API_PRESENT(target);
    AR_API_PRESENT(loss);
    AR_API_PRESENT(x);
    AR_API_PRESENT(y);
    AR_API(target->ctx, loss_gradient(target, loss, n, x, y, losses, dx));
}

int32_t advrob_attack_create(advrob_context *ctx, const char *name, const advrob_options *options,
                             advrob_attack **out) {
    AR_API_PRESENT(name);
    AR_API_PRESENT(out);
    AR_API(ctx, ar_attack_create(ctx, name, options, out));
}

void advrob_attack_destroy(advrob_attack *attack) {
    ar_attack_release(attack);
}

static int32_t run(const advrob_attack *attack, advrob_target *target, const ar_attack_call *call) {
    int32_t status = ADVROB_OK;
    uintptr_t a = (uintptr_t)call->adversarial, b = (uintptr_t)call->x;
    AR_TRY(check_count(call->n));
    size_t bytes = sizeof(float) * (size_t)(call->n * ar_shape_count(target->shape));
    if (call->adversarial != NULL && a < b + bytes && b < a + bytes)
        AR_FAIL(ADVROB_E_INVALID, "the images and the adversarial images overlap in memory");
    AR_TRY(ar_attack_run(attack, target, NULL, call));
out:
    return status;
}

int32_t advrob_attack_run(const advrob_attack *attack, advrob_target *target, int64_t n,
                          const float *x, const int32_t *y, float *adversarial,
                          int32_t *predictions, double *losses) {
    AR_API_PRESENT(attack);
    AR_API_PRESENT(target);
    AR_API_PRESENT(x);
    AR_API_PRESENT(y);
    ar_attack_call call = {.what = "attack",
                           .n = n,
                           .x = x,
                           .y = y,
                           .adversarial = adversarial,
                           .predictions = predictions,
                           .losses = losses};
    AR_API(target->ctx, run(attack, target, &call));
}

int32_t advrob_attack_run_targeted(const advrob_attack *attack, advrob_target *target, int64_t n,
                                   const float *x, const int32_t *y, const int32_t *targets,
                                   float *adversarial, int32_t *predictions, double *losses) {
    AR_API_PRESENT(attack);
    AR_API_PRESENT(target);
    AR_API_PRESENT(x);
    AR_API_PRESENT(y);
    AR_API_PRESENT(targets);
    ar_attack_call call = {.what = "attack",
                           .n = n,
                           .x = x,
                           .y = y,
                           .targets = targets,
                           .adversarial = adversarial,
                           .predictions = predictions,
                           .losses = losses};
    AR_API(target->ctx, run(attack, target, &call));
}
