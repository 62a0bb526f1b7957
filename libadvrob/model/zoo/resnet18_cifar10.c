/* ResNet-18 (He et al. 2016, arXiv 1512.03385) in its form for 32 x 32 images, as timm's
 * resnet18_cifar10 and arXiv 2403.09441 use it: a 3x3 stem of stride 1 and no max-pool. 11,173,962
 * trained parameters. Nodes bear timm's module names, so parameters have PyTorch's. */
#include "zoo.h"

/* relu(bn2(conv2(relu(bn1(conv1(x))))) + x), x through `downsample` where the shape changes. */
static int32_t basic_block(advrob_model *model, const char *block, int32_t outputs, int32_t stride,
                           bool downsample, int32_t *at) {
    char name[AR_NAME_SIZE];
    int32_t status = ADVROB_OK, shortcut = *at;
    AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "conv1"), outputs, 3, stride, 1, at));
    AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "bn1"), at));
    AR_TRY(ar_zoo_relu(model, ar_zoo_join(name, block, "act1"), at));
    AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "conv2"), outputs, 3, 1, 1, at));
    AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "bn2"), at));
    if (downsample) {
        AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "downsample.0"), outputs, 1,
                                 stride, 0, &shortcut));
        AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "downsample.1"), &shortcut));
    }
    AR_TRY(ar_zoo_add(model, ar_zoo_join(name, block, "add"), shortcut, at));
    AR_TRY(ar_zoo_relu(model, ar_zoo_join(name, block, "act2"), at));
out:
    return status;
}

static int32_t build(advrob_model *model, int32_t classes) {
    static const int32_t widths[4] = {64, 128, 256, 512};
    int32_t status = ADVROB_OK, at = 0;
    char block[16];
    AR_TRY(ar_zoo_plain_conv(model, "conv1", widths[0], 3, 1, 1, &at));
    AR_TRY(ar_zoo_batch_norm(model, "bn1", &at));
    AR_TRY(ar_zoo_relu(model, "act1", &at));
    for (int32_t i = 0; i < 4; i++)
        for (int32_t k = 0; k < 2; k++) {
            bool halves = i > 0 && k == 0;
            ar_format(block, sizeof block, "layer%d.%d", i + 1, k);
            AR_TRY(basic_block(model, block, widths[i], halves ? 2 : 1, halves, &at));
        }
    AR_TRY(ar_zoo_plain(model, "global_avg_pool", "global_pool", &at));
    AR_TRY(ar_zoo_linear(model, "fc", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_resnet18_cifar10 = {
    "resnet18_cifar10",
    "ResNet-18 for CIFAR-10: a 3 x 3 stem, 8 basic blocks, batch norm",
    {3, 32, 32},
    10,
    build};
