/* A small residual net: a value used twice, an identity join and a projection shortcut. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0, a, shortcut;
    AR_TRY(ar_zoo_conv(model, "conv1", 4, 3, 1, 1, &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    a = at;
    AR_TRY(ar_zoo_conv(model, "conv2", 4, 3, 1, 1, &at));
    AR_TRY(ar_zoo_add(model, "add1", a, &at));
    AR_TRY(ar_zoo_relu(model, "relu2", &at));
    shortcut = at;
    AR_TRY(ar_zoo_conv(model, "conv3", 6, 3, 2, 1, &at));
    AR_TRY(ar_zoo_conv(model, "shortcut", 6, 1, 2, 0, &shortcut));
    AR_TRY(ar_zoo_add(model, "add2", shortcut, &at));
    AR_TRY(ar_zoo_relu(model, "relu3", &at));
    AR_TRY(ar_zoo_plain(model, "global_avg_pool", "pool", &at));
    AR_TRY(ar_zoo_linear(model, "fc", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_tiny_residual = {
    "tiny_residual",
    "a residual net of 3 convolutions and a projection, on 6 x 6 images",
    {2, 6, 6},
    3,
    build};
