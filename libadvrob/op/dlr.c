/* Difference of logits ratio (Croce and Hein 2020, arXiv 2003.01690, equations 6 and 7):
 *   -(z_y - max of the others) / (z_1 - z_3), with a target -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2),
 * z_1 >= z_2 >= ... being the sorted logits. Neither a shift nor a positive factor of the logits
 * changes it. With too few classes for z_3 or z_4 the denominator is 1. */
#include "loss.h"

static const double TINY = 1e-12; /* as published: equal logits divide by no zero */

/* The n largest logits' indices, of equal ones the first. */
static void largest(int32_t classes, const float *z, int32_t n, int32_t *index) {
    for (int32_t i = 0; i < n; i++) {
        index[i] = -1;
        for (int32_t k = 0; k < classes; k++) {
            bool taken = false;
            for (int32_t j = 0; j < i; j++)
                taken = taken || index[j] == k;
            if (!taken && (index[i] < 0 || z[k] > z[index[i]])) index[i] = k;
        }
    }
}

static double sample(int32_t classes, const float *z, int32_t y, int32_t target, double *dlogits) {
    const int32_t needed = target >= 0 ? 4 : 3;
    int32_t top[4] = {0, 0, 0, 0};
    largest(classes, z, classes < needed ? classes : needed, top);
    const int32_t other = target >= 0 ? target : top[0] != y ? top[0] : top[1];
    const int32_t low[2] = {top[2], top[needed - 1]};
    double up = (double)z[other] - z[y], down = 1;
    if (classes >= needed) down = (double)z[top[0]] - ((double)z[low[0]] + z[low[1]]) / 2 + TINY;
    if (dlogits != NULL) {
        for (int32_t k = 0; k < classes; k++)
            dlogits[k] = 0;
        dlogits[other] += 1 / down;
        dlogits[y] -= 1 / down;
        if (classes < needed) return up;
        dlogits[top[0]] -= up / down / down;
        dlogits[low[0]] += up / down / down / 2;
        dlogits[low[1]] += up / down / down / 2;
    }
    return up / down;
}

const ar_loss ar_loss_dlr = {"dlr", "difference of logits ratio", sample};
