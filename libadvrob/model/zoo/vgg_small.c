/* A small net in the manner of VGG (Simonyan and Zisserman 2015, arXiv 1409.1556) for 32 x 32
 * images: three stages of two 3x3 convolutions with batch norm and a max pooling, two linear
 * layers. 551,466 trained parameters. Nodes bear the indices of PyTorch's `features` and
 * `classifier`. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    static const int32_t widths[3] = {32, 64, 128};
    int32_t status = ADVROB_OK, at = 0, index = 0;
    char name[AR_NAME_SIZE];
    for (int32_t i = 0; i < 3; i++) {
        for (int32_t k = 0; k < 2; k++) {
            ar_format(name, sizeof name, "features.%d", index++);
            AR_TRY(ar_zoo_conv(model, name, widths[i], 3, 1, 1, &at));
            ar_format(name, sizeof name, "features.%d", index++);
            AR_TRY(ar_zoo_batch_norm(model, name, &at));
            ar_format(name, sizeof name, "features.%d", index++);
            AR_TRY(ar_zoo_relu(model, name, &at));
        }
        ar_format(name, sizeof name, "features.%d", index++);
        AR_TRY(ar_zoo_max_pool(model, name, 2, &at));
    }
    AR_TRY(ar_zoo_plain(model, "flatten", "flatten", &at));
    AR_TRY(ar_zoo_linear(model, "classifier.0", 128, &at));
    AR_TRY(ar_zoo_relu(model, "classifier.1", &at));
    AR_TRY(ar_zoo_linear(model, "classifier.2", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_vgg_small = {
    "vgg_small",
    "small VGG for CIFAR-10: 6 convolutions with batch norm, 2 linear layers",
    {3, 32, 32},
    10,
    build};
