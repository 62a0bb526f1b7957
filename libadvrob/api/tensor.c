/* Tensors. */
#include "api.h"

int32_t advrob_tensor_create(advrob_context *ctx, int32_t dtype, int32_t rank, const int64_t *shape,
                             advrob_tensor **out) {
    AR_API_PRESENT(out);
    if (rank > 0) AR_API_PRESENT(shape);
    AR_API(ctx, ar_tensor_create(ctx, dtype, rank, shape, out));
}

void advrob_tensor_destroy(advrob_tensor *tensor) {
    ar_tensor_destroy(tensor);
}

int32_t advrob_tensor_dtype(const advrob_tensor *tensor) {
    return tensor == NULL ? 0 : tensor->dtype;
}

int32_t advrob_tensor_rank(const advrob_tensor *tensor) {
    return tensor == NULL ? 0 : tensor->rank;
}

int64_t advrob_tensor_dim(const advrob_tensor *tensor, int32_t axis) {
    return tensor == NULL || axis < 0 || axis >= tensor->rank ? -1 : tensor->shape[axis];
}

int64_t advrob_tensor_count(const advrob_tensor *tensor) {
    return tensor == NULL ? 0 : tensor->count;
}

void *advrob_tensor_data(advrob_tensor *tensor) {
    return tensor == NULL ? NULL : tensor->data;
}
