/* The small MNIST net of Wong and Kolter 2018 (locuslab/convex_adversarial, mnist_model): two 4x4
 * convolutions of stride 2 and two linear layers. Nodes bear PyTorch's Sequential indices. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0;
    AR_TRY(ar_zoo_conv(model, "0", 16, 4, 2, 1, &at));
    AR_TRY(ar_zoo_relu(model, "1", &at));
    AR_TRY(ar_zoo_conv(model, "2", 32, 4, 2, 1, &at));
    AR_TRY(ar_zoo_relu(model, "3", &at));
    AR_TRY(ar_zoo_plain(model, "flatten", "4", &at));
    AR_TRY(ar_zoo_linear(model, "5", 100, &at));
    AR_TRY(ar_zoo_relu(model, "6", &at));
    AR_TRY(ar_zoo_linear(model, "7", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_conv_small = {
    "conv_small",
    "small MNIST net of Wong and Kolter: 2 convolutions, 2 linear layers",
    {1, 28, 28},
    10,
    build};
