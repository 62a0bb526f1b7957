/* A multilayer perceptron: three linear layers on the pixels. 235,146 parameters. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0;
    AR_TRY(ar_zoo_plain(model, "flatten", "flatten", &at));
    AR_TRY(ar_zoo_linear(model, "fc1", 256, &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    AR_TRY(ar_zoo_linear(model, "fc2", 128, &at));
    AR_TRY(ar_zoo_relu(model, "relu2", &at));
    AR_TRY(ar_zoo_linear(model, "fc3", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_mlp = {
    "mlp", "multilayer perceptron: 3 linear layers", {1, 28, 28}, 10, build};
