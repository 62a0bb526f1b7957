/* A small residual net with batch norms, fused and alone, and dropout. */
#include "zoo.h"

static int32_t build(advrob_model *model, int32_t classes) {
    int32_t status = ADVROB_OK, at = 0, a;
    AR_TRY(ar_zoo_plain_conv(model, "conv1", 4, 3, 1, 1, &at));
    AR_TRY(ar_zoo_batch_norm(model, "bn1", &at));
    AR_TRY(ar_zoo_relu(model, "relu1", &at));
    a = at;
    AR_TRY(ar_zoo_plain_conv(model, "conv2", 4, 3, 1, 1, &at));
    AR_TRY(ar_zoo_batch_norm(model, "bn2", &at));
    AR_TRY(ar_zoo_add(model, "add", a, &at));
    AR_TRY(ar_zoo_relu(model, "relu2", &at));
    AR_TRY(ar_zoo_conv(model, "conv3", 6, 3, 2, 1, &at));
    AR_TRY(ar_zoo_relu(model, "relu3", &at));
    AR_TRY(ar_zoo_batch_norm(model, "bn3", &at));
    AR_TRY(ar_zoo_dropout(model, "dropout", 0.2, &at));
    AR_TRY(ar_zoo_plain(model, "global_avg_pool", "pool", &at));
    AR_TRY(ar_zoo_linear(model, "fc", classes, &at));
out:
    return status;
}

const ar_zoo_net ar_zoo_tiny_batch_norm = {
    "tiny_batch_norm",
    "a residual net of 3 convolutions with batch norms and dropout, on 8 x 8 images",
    {1, 8, 8},
    10,
    build};
