/* EightLayerConv (arXiv 2403.09441, published code, model.py): six 3x3 convolutions, every second
 * one with stride 2, then two linear layers; 549,994 parameters, 13,686,528 multiply-adds. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    static const int32_t channels[6] = {32, 32, 64, 64, 128, 128};
    int32_t status = ADVROB_OK, at = 0;
    char name[16];
    for (int32_t i = 0; i < 6; i++) {
        ar_format(name, sizeof name, "conv%d", i + 1);
        AR_TRY(ar_zoo_conv(model, name, channels[i], 3, i % 2 + 1, 1, &at));
        ar_format(name, sizeof name, "relu%d", i + 1);
        AR_TRY(ar_zoo_relu(model, name, &at));
    }
    AR_TRY(ar_zoo_plain(model, "flatten", "flatten", &at));
    AR_TRY(ar_zoo_linear(model, "fc1", 128, &at));
    AR_TRY(ar_zoo_relu(model, "relu7", &at));
    AR_TRY(ar_zoo_linear(model, "fc2", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_eight_layer_conv = {
    "eight_layer_conv",
    "the paper's Fashion-MNIST net: 6 convolutions, 2 linear layers",
    {1, 28, 28},
    10,
    build};
