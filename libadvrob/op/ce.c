/* Softmax cross entropy: -log softmax(z)[y] (Goodfellow et al. 2016, 6.2.2.3); with a target minus
 * that of the target. */
#include <math.h>

#include "loss.h"

static double sample(int32_t classes, const float *z, int32_t y, int32_t target, double *dlogits) {
    const int32_t at = target >= 0 ? target : y;
    const double sign = target >= 0 ? -1 : 1;
    double largest = z[0], sum = 0;
    for (int32_t k = 1; k < classes; k++)
        largest = fmax(largest, z[k]);
    for (int32_t k = 0; k < classes; k++)
        sum += exp(z[k] - largest);
    double log_sum = log(sum);
    if (dlogits != NULL) {
        /* p - 1 at the true class is minus the sum of the others: no cancellation when p is near 1.
         */
        double others = 0;
        for (int32_t k = 0; k < classes; k++) {
            dlogits[k] = sign * exp(z[k] - largest - log_sum);
            if (k != at) others += dlogits[k];
        }
        dlogits[at] = -others;
    }
    return sign * (log_sum - (z[at] - largest));
}

const ar_loss ar_loss_ce = {"ce", "softmax cross entropy", sample};
