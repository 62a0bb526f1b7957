/* Oracles: what an attack sees of a model: logits and vector-Jacobian products on tiles of images,
 * and what the images may look like. A float model, a fake-quantized one and the caller's callbacks
 * each give one, so no attack knows what it attacks. */
#ifndef AR_ORACLE_H
#define AR_ORACLE_H

#include <advrob/target.h>

#include "model.h"

struct advrob_target {
    advrob_context *ctx;
    _Atomic int32_t references;
    ar_shape shape;
    int32_t classes;
    double *low, *high, *unit; /* [channels], as a model's */
    bool concurrent; /* tiles may run at the same time; otherwise whole batches, serially, on
                      * the caller's thread */
    bool has_backward;
    int32_t preferred_batch; /* images of one tile */
    int32_t
        lattice; /* steps from low to high of a channel that an attacked image may have; 0: any */
    struct advrob_target
        *source; /* of the same images and classes, for attacks by transfer, or NULL */
    /* A session is one worker's room. forward keeps in it what backward needs, as often as it is
     * called. */
    int32_t (*open)(advrob_target *target, void **session);
    void (*close)(advrob_target *target, void *session);
    int32_t (*forward)(advrob_target *target, void *session, int32_t n, const float *x,
                       float *logits);
    int32_t (*backward)(advrob_target *target, void *session, int32_t n, const float *x,
                        const float *dlogits, float *dx);
    void (*destroy)(advrob_target *target);
    /* What the target stands on. */
    advrob_model *model;
    struct ar_program *program;
    struct ar_tiles *tiles; /* with batch statistics */
    advrob_forward_fn callback_forward;
    advrob_backward_fn callback_backward;
    void *user;
    void *own; /* of a target that another folder makes */
};

/* An empty target, for who fills in the rest. */
int32_t ar_target_new(advrob_context *ctx, advrob_target **out);

int32_t ar_target_from_model(advrob_model *model, advrob_target **out);
/* The same, but batch norms normalise by the batch, of at most `batch` images: such a target is not
 * concurrent, gets whole batches, and an image's logits depend on its batch mates. The model's
 * running statistics stay as they are. */
int32_t ar_target_from_model_batch(advrob_model *model, int64_t batch, advrob_target **out);
int32_t ar_target_from_callbacks(advrob_context *ctx, ar_shape shape, int32_t classes, double low,
                                 double high, advrob_forward_fn forward,
                                 advrob_backward_fn backward, void *user, advrob_target **out);
/* Box and units of a target on callbacks; a model's are its own (E_INVALID). E_RANGE. */
int32_t ar_target_set_box(advrob_target *target, const double *low, const double *high,
                          const double *unit);
/* Steps of the lattice of pixel values; 0: none. E_RANGE. */
int32_t ar_target_set_lattice(advrob_target *target, int32_t steps);
/* Keeps `source`, which must not have a source itself; NULL: none. E_SHAPE, E_INVALID. */
int32_t ar_target_set_source(advrob_target *target, advrob_target *source);
void ar_target_retain(advrob_target *target);
void ar_target_release(advrob_target *target); /* NULL is fine */

/* n images, cut into tiles that run in parallel where the target allows. */
int32_t ar_target_forward(advrob_target *target, int64_t n, const float *x, float *logits);
int32_t ar_target_loss_gradient(advrob_target *target, const char *loss, int64_t n, const float *x,
                                const int32_t *y, double *losses, float *dx);

/* Images per tile and number of tiles for n images. */
int32_t ar_target_tile(const advrob_target *target, int64_t n);
/* Runs pieces in parallel where the target allows, otherwise in order on the caller's thread. */
int32_t ar_target_parallel(advrob_target *target, int64_t pieces, ar_piece_fn piece,
                           ar_poll_fn poll, void *arg);

/* E_RANGE names the first label outside [0, classes) or the first pixel outside the box;
 * E_NONFINITE. */
int32_t ar_target_check_labels(const advrob_target *target, int64_t n, const int32_t *y);
int32_t ar_target_check_pixels(const advrob_target *target, int64_t n, const float *x);

#endif
