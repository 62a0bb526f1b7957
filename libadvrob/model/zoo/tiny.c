/* A net of a few hundred parameters on 8x8 images, for tests and first steps. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0;
    AR_TRY(ar_zoo_conv(model, "conv1", 4, 3, 1, 1, &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    AR_TRY(ar_zoo_conv(model, "conv2", 6, 3, 2, 1, &at));
    AR_TRY(ar_zoo_relu(model, "relu2", &at));
    AR_TRY(ar_zoo_plain(model, "flatten", "flatten", &at));
    AR_TRY(ar_zoo_linear(model, "fc", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_tiny = {
    "tiny", "2 convolutions and a linear layer on 8 x 8 images", {1, 8, 8}, 10, build};
