/* LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section
 * II.B) as it is used today: ReLU and max pooling, 28 x 28 images padded to 32 x 32. 61,706
 * parameters. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0;
    AR_TRY(ar_zoo_conv(model, "conv1", 6, 5, 1, 2, &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    AR_TRY(ar_zoo_max_pool(model, "pool1", 2, &at));
    AR_TRY(ar_zoo_conv(model, "conv2", 16, 5, 1, 0, &at));
    AR_TRY(ar_zoo_relu(model, "relu2", &at));
    AR_TRY(ar_zoo_max_pool(model, "pool2", 2, &at));
    AR_TRY(ar_zoo_plain(model, "flatten", "flatten", &at));
    AR_TRY(ar_zoo_linear(model, "fc1", 120, &at));
    AR_TRY(ar_zoo_relu(model, "relu3", &at));
    AR_TRY(ar_zoo_linear(model, "fc2", 84, &at));
    AR_TRY(ar_zoo_relu(model, "relu4", &at));
    AR_TRY(ar_zoo_linear(model, "fc3", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_lenet5 = {
    "lenet5", "LeNet-5: 2 convolutions, 3 linear layers, max pooling", {1, 28, 28}, 10, build};
