/* Margin loss: the largest wrong logit minus the true one (Carlini and Wagner 2017, f6 without the
 * hinge). Positive exactly when the sample is misclassified. */
#include "loss.h"

static double sample(int32_t classes, const float *z, int32_t y, double *dlogits) {
    int32_t best = y == 0 && classes > 1 ? 1 : 0;
    for (int32_t k = 0; k < classes; k++)
        if (k != y && z[k] > z[best]) best = k;
    if (dlogits != NULL) {
        for (int32_t k = 0; k < classes; k++)
            dlogits[k] = 0;
        dlogits[best] += 1;
        dlogits[y] -= 1;
    }
    return (double)z[best] - z[y];
}

const ar_loss ar_loss_margin = {"margin", "largest wrong logit minus the true one", sample};
