/* Stochastic gradient descent with momentum and weight decay, in PyTorch's form:
 * g += decay * w; v = momentum * v + g; w -= lr * v. */
#include "train.h"

static void update(const ar_kernels *kernels, const ar_optimizer_settings *settings, int64_t n,
                   ar_real *weights, ar_real *state, const ar_real *gradient) {
    kernels->sgd(n, weights, state, gradient, (ar_real)settings->lr, (ar_real)settings->momentum,
                 (ar_real)settings->weight_decay);
}

const ar_optimizer ar_optimizer_sgd = {"sgd", "gradient descent with momentum and weight decay", 1,
                                       update};
