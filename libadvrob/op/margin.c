/* Margin loss: the largest wrong logit minus the true one (Carlini and Wagner 2017, f6 without the
 * hinge), positive exactly when the sample is misclassified; with a target, the target's logit
 * minus the largest other one. */
#include "loss.h"

static double sample(int32_t classes, const float *z, int32_t y, int32_t target, double *dlogits) {
    const int32_t at = target >= 0 ? target : y;
    int32_t best = at == 0 && classes > 1 ? 1 : 0;
    for (int32_t k = 0; k < classes; k++)
        if (k != at && z[k] > z[best]) best = k;
    const double sign = target >= 0 ? -1 : 1;
    if (dlogits != NULL) {
        for (int32_t k = 0; k < classes; k++)
            dlogits[k] = 0;
        dlogits[best] += sign;
        dlogits[at] -= sign;
    }
    return sign * ((double)z[best] - z[at]);
}

const ar_loss ar_loss_margin = {"margin", "largest wrong logit minus the true one", sample};
