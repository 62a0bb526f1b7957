/* Stochastic gradient descent with momentum and weight decay, in PyTorch's form:
 * g += decay * w; v = momentum * v + g; w -= lr * v. */
#include "train.h"

static void update(const ar_kernels *kernels, const ar_optimizer_settings *settings, int64_t n,
                   ar_real *weights, ar_real *state, const ar_real *gradient) {
    kernels->sgd(n, weights, state, gradient, (ar_real)settings->lr, (ar_real)settings->momentum,
                 (ar_real)settings->weight_decay);
}

/* A value times 0 is 0 only if it is finite; 16 sums so that they are made side by side. */
static bool stays_finite(const ar_optimizer_settings *settings, int64_t n, const ar_real *weights,
                         const ar_real *state, const ar_real *gradient) {
    enum { SUMS = 16 };
    const ar_real rate = (ar_real)settings->lr, momentum = (ar_real)settings->momentum;
    const ar_real decay = (ar_real)settings->weight_decay;
    ar_real sums[SUMS] = {0}, all = 0;
    for (int64_t i = 0; i < n; i += SUMS) {
        int32_t count = n - i < SUMS ? (int32_t)(n - i) : SUMS;
        const ar_real *w = weights + i, *v = state + i, *g = gradient + i;
        for (int32_t k = 0; k < count; k++) {
            ar_real step = momentum * v[k] + (g[k] + decay * w[k]);
            sums[k] += (w[k] - rate * step) * 0 + step * 0;
        }
    }
    for (int32_t k = 0; k < SUMS; k++)
        all += sums[k];
    return all == 0;
}

const ar_optimizer ar_optimizer_sgd = {
    .name = "sgd",
    .help = "gradient descent with momentum and weight decay",
    .state = 1,
    .update = update,
    .stays_finite = stays_finite,
};
