/* Targets: what is attacked or evaluated: a model of this library, or any other program behind two
 * callbacks. */
#ifndef ADVROB_TARGET_H
#define ADVROB_TARGET_H

#include <advrob/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_target advrob_target;

/* x [n, c, h, w] -> logits [n, classes]. Return 0, or any other number to stop the call with
 * E_CALLBACK. Called only on the thread that made the library call. */
typedef int32_t (*advrob_forward_fn)(void *user, int64_t n, const float *x, float *logits);

/* For the same x: dlogits [n, classes] -> dx [n, c, h, w], the vector-Jacobian product. */
typedef int32_t (*advrob_backward_fn)(void *user, int64_t n, const float *x, const float *dlogits,
                                      float *dx);

/* A target on a model, which is frozen while the target lives (a quantized one gives
 * straight-through gradients). Errors: E_NOMEM. */
ADVROB_API int32_t advrob_target_from_model(advrob_model *model, advrob_target **out);

/* A target on the caller's functions. `backward` may be NULL: gradient attacks then answer
 * E_UNSUPPORTED. Pixels are clipped to [low, high]. */
ADVROB_API int32_t advrob_target_from_callbacks(advrob_context *ctx, int32_t channels,
                                                int32_t height, int32_t width, int32_t classes,
                                                double low, double high, advrob_forward_fn forward,
                                                advrob_backward_fn backward, void *user,
                                                advrob_target **out);

/* The box of valid values and the units of a target on callbacks, by channel, [channels] each: a
 * radius or step of 1 is unit[c] in channel c. For a program that takes normalised images,
 * (pixel - mean) / std: low = (0 - mean) / std, high = (1 - mean) / std, unit = 1 / std. Not while
 * the target is attacked. Errors: E_RANGE, E_INVALID (a target on a model: give the box to the
 * model). */
ADVROB_API int32_t advrob_target_set_box(advrob_target *target, const double *low,
                                         const double *high, const double *unit);

/* What it is: [channels] each, any may be NULL. */
ADVROB_API int32_t advrob_target_box(const advrob_target *target, double *low, double *high,
                                     double *unit);

/* Images under attack hold only values low + k / steps * (high - low), k from 0 to `steps`, of each
 * channel: 255 for what is stored as 8 bits, so that an adversarial image stays one as a file.
 * Every iterate of every attack keeps to it. Pixels of the image itself that lie beside the lattice
 * move onto it where the ball allows. 0, the default: any value. Not while the target is attacked.
 * Errors: E_RANGE (0 to 65535). */
ADVROB_API int32_t advrob_target_set_lattice(advrob_target *target, int32_t steps);

/* Attacks with the option "transfer" run on `source`, a target of the same images, classes, box and
 * units (a float net for its quantized one, a net of one's own for a program that gives no
 * gradients), and only their answers are tried on `target`. The target keeps the source; NULL takes
 * it away. Not while the target is attacked. Errors: E_SHAPE, E_INVALID (another box; a source that
 * has a source). */
ADVROB_API int32_t advrob_target_set_source(advrob_target *target, advrob_target *source);

/* Gives up the target; its model thaws with the last one on it. NULL is fine. */
ADVROB_API void advrob_target_destroy(advrob_target *target);

/* shape: [3]. */
ADVROB_API int32_t advrob_target_shape(const advrob_target *target, int32_t *shape);
ADVROB_API int32_t advrob_target_classes(const advrob_target *target);

/* logits [n, classes] for pixels x [n, c, h, w]. Errors: E_RANGE (n), E_CALLBACK, E_NOMEM. */
ADVROB_API int32_t advrob_target_forward(advrob_target *target, int64_t n, const float *x,
                                         float *logits);

/* Per-sample loss ("ce", "dlr", "margin") [n] and its gradient with respect to the pixels
 * [n, c, h, w]; each may be NULL. Errors: E_UNKNOWN (loss), E_RANGE (label), E_UNSUPPORTED. */
ADVROB_API int32_t advrob_target_loss_gradient(advrob_target *target, const char *loss, int64_t n,
                                               const float *x, const int32_t *y, double *losses,
                                               float *dx);

#ifdef __cplusplus
}
#endif

#endif
