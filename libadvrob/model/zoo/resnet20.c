/* The residual nets of He et al. 2016 (arXiv 1512.03385, section 4.2) for 32 x 32 images: three
 * stages of n blocks, 16, 32 and 64 channels wide, 6 n + 2 layers. Shortcuts that grow are padded
 * with zeros (the paper's option A) or, in the nets named _conv, made by a 1x1 convolution (option
 * B). Parameters bear the usual PyTorch names (layer1.0.conv1.weight, ..., linear.weight). */
#include "zoo.h"

static int32_t shortcut_by_padding(advrob_model *model, const char *block, int32_t channels,
                                   int32_t *at) {
    const ar_attributes every_second = {.kernel = {1, 1}, .stride = {2, 2}};
    const ar_attributes pad = {.before = channels / 2, .after = channels / 2};
    char name[AR_NAME_SIZE];
    int32_t status = ADVROB_OK, inputs[AR_MAX_INPUTS] = {*at};
    ar_zoo_join(name, block, "shortcut.stride");
    AR_TRY(ar_model_add(model, "avg_pool", name, inputs, &every_second, &inputs[0]));
    ar_zoo_join(name, block, "shortcut.pad");
    AR_TRY(ar_model_add(model, "pad_channels", name, inputs, &pad, at));
out:
    return status;
}

static int32_t shortcut_by_conv(advrob_model *model, const char *block, int32_t channels,
                                int32_t *at) {
    char name[AR_NAME_SIZE];
    int32_t status = ADVROB_OK;
    AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "shortcut.0"), 2 * channels, 1, 2, 0,
                             at));
    AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "shortcut.1"), at));
out:
    return status;
}

static int32_t block(advrob_model *model, const char *block, int32_t channels, bool grows,
                     bool padded, int32_t *at) {
    char name[AR_NAME_SIZE];
    int32_t status = ADVROB_OK, shortcut = *at, outputs = grows ? 2 * channels : channels;
    AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "conv1"), outputs, 3, grows ? 2 : 1, 1,
                             at));
    AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "bn1"), at));
    AR_TRY(ar_zoo_relu(model, ar_zoo_join(name, block, "relu1"), at));
    AR_TRY(ar_zoo_plain_conv(model, ar_zoo_join(name, block, "conv2"), outputs, 3, 1, 1, at));
    AR_TRY(ar_zoo_batch_norm(model, ar_zoo_join(name, block, "bn2"), at));
    if (grows && padded) AR_TRY(shortcut_by_padding(model, block, channels, &shortcut));
    if (grows && !padded) AR_TRY(shortcut_by_conv(model, block, channels, &shortcut));
    AR_TRY(ar_zoo_add(model, ar_zoo_join(name, block, "add"), shortcut, at));
    AR_TRY(ar_zoo_relu(model, ar_zoo_join(name, block, "relu2"), at));
out:
    return status;
}

static int32_t build(advrob_model *model, int32_t depth, bool padded, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0, channels = 16;
    char name[16];
    AR_TRY(ar_zoo_plain_conv(model, "conv1", channels, 3, 1, 1, &at));
    AR_TRY(ar_zoo_batch_norm(model, "bn1", &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    for (int32_t stage = 1; stage <= 3; stage++)
        for (int32_t i = 0; i < (depth - 2) / 6; i++) {
            bool grows = stage > 1 && i == 0;
            ar_format(name, sizeof name, "layer%d.%d", stage, i);
            AR_TRY(block(model, name, channels, grows, padded, &at));
            if (grows) channels *= 2;
        }
    AR_TRY(ar_zoo_plain(model, "global_avg_pool", "pool", &at));
    AR_TRY(ar_zoo_linear(model, "linear", classes, &at));
out:
    return status;
}

static int32_t build_20(advrob_model *model, int32_t classes) {
    return build(model, 20, true, classes);
}

static int32_t build_32(advrob_model *model, int32_t classes) {
    return build(model, 32, true, classes);
}

static int32_t build_44(advrob_model *model, int32_t classes) {
    return build(model, 44, true, classes);
}

static int32_t build_56(advrob_model *model, int32_t classes) {
    return build(model, 56, true, classes);
}

static int32_t build_20_conv(advrob_model *model, int32_t classes) {
    return build(model, 20, false, classes);
}

static int32_t build_32_conv(advrob_model *model, int32_t classes) {
    return build(model, 32, false, classes);
}

static int32_t build_44_conv(advrob_model *model, int32_t classes) {
    return build(model, 44, false, classes);
}

static int32_t build_56_conv(advrob_model *model, int32_t classes) {
    return build(model, 56, false, classes);
}

const ar_zoo_net ar_zoo_resnet20 = {
    "resnet20", "residual net of 20 layers for CIFAR-10, batch norm", {3, 32, 32}, 10, build_20};
const ar_zoo_net ar_zoo_resnet32 = {
    "resnet32", "residual net of 32 layers for CIFAR-10, batch norm", {3, 32, 32}, 10, build_32};
const ar_zoo_net ar_zoo_resnet44 = {
    "resnet44", "residual net of 44 layers for CIFAR-10, batch norm", {3, 32, 32}, 10, build_44};
const ar_zoo_net ar_zoo_resnet56 = {
    "resnet56", "residual net of 56 layers for CIFAR-10, batch norm", {3, 32, 32}, 10, build_56};
const ar_zoo_net ar_zoo_resnet20_conv = {
    "resnet20_conv", "resnet20 with shortcuts by convolution", {3, 32, 32}, 10, build_20_conv};
const ar_zoo_net ar_zoo_resnet32_conv = {
    "resnet32_conv", "resnet32 with shortcuts by convolution", {3, 32, 32}, 10, build_32_conv};
const ar_zoo_net ar_zoo_resnet44_conv = {
    "resnet44_conv", "resnet44 with shortcuts by convolution", {3, 32, 32}, 10, build_44_conv};
const ar_zoo_net ar_zoo_resnet56_conv = {
    "resnet56_conv", "resnet56 with shortcuts by convolution", {3, 32, 32}, 10, build_56_conv};
