/* Losses on logits, per sample: never a mean over a batch. */
#ifndef AR_LOSS_H
#define AR_LOSS_H

#include "base/base.h"

/* One sample: logits z [classes], label y. Returns the loss, which an attack raises; with a target
 * class (-1: none) it rises as the target wins. dlogits [classes] may be NULL. Computed in double,
 * so that a saturated softmax still has a gradient. */
typedef double (*ar_loss_fn)(int32_t classes, const float *z, int32_t y, int32_t target,
                             double *dlogits);

typedef struct ar_loss {
    const char *name, *help;
    ar_loss_fn sample;
} ar_loss;

int32_t ar_loss_count(void);
const ar_loss *ar_loss_at(int32_t index);
const ar_loss *ar_loss_find(const char *name);

/* n samples: targets [n], losses [n] and dlogits [n, classes] may be NULL; scratch [classes].
 * dlogits are multiplied by `factor`; with `scaled` instead by each sample's own power of two that
 * brings its largest to [0.5, 1): the direction is what an attack needs, and tiny gradients do not
 * drown among subnormals on their way down. What is below 2^-90 becomes 0. */
void ar_loss_batch(const ar_loss *loss, int64_t n, int32_t classes, const float *logits,
                   const int32_t *y, const int32_t *targets, double *scratch, double *losses,
                   float *dlogits, bool scaled, double factor);

/* Index of the largest logit, the first of equal ones; -1 if one is NaN. */
int32_t ar_argmax(int32_t classes, const float *z);

#define AR_LOSS(name) extern const ar_loss ar_loss_##name;
#include "losses.inc"
#undef AR_LOSS

#endif
