/* Tensors that own their elements, for what crosses the public border. */
#include "tensor.h"

size_t ar_dtype_size(int32_t dtype) {
    switch (dtype) {
    case ADVROB_F32:
    case ADVROB_I32:
        return 4;
    case ADVROB_U8:
        return 1;
    case ADVROB_I64:
        return 8;
    default:
        return 0;
    }
}

int32_t ar_tensor_create(advrob_context *ctx, int32_t dtype, int32_t rank, const int64_t *shape,
                         advrob_tensor **out) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    advrob_tensor *tensor = NULL;
    size_t element = ar_dtype_size(dtype), bytes;
    int64_t count;
    if (element == 0) AR_FAIL(ADVROB_E_INVALID, "tensor: dtype %d, expected 1 to 4", dtype);
    if (rank < 0 || rank > 8 || (rank > 0 && shape == NULL))
        AR_FAIL(ADVROB_E_SHAPE, "tensor: rank %d, expected 0 to 8 and a shape", rank);
    if (!ar_product(shape, rank, &count) || !ar_mul((size_t)count, element, &bytes))
        AR_FAIL(ADVROB_E_OVERFLOW, "tensor: a negative extent, or more elements than fit");
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *tensor, "tensor", &block));
    tensor = block;
    AR_TRY(ar_calloc(&ctx->memory, (size_t)count, element, "tensor data", &tensor->data));
    ar_context_retain(ctx);
    tensor->ctx = ctx;
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (int32_t i = 0; i < rank; i++)
        tensor->shape[i] = shape[i];
    tensor->count = count;
    *out = tensor;
    tensor = NULL;
out:
    if (tensor != NULL) ar_free(&ctx->memory, tensor);
    return status;
}

void ar_tensor_destroy(advrob_tensor *tensor) {
    if (tensor == NULL) return;
    advrob_context *ctx = tensor->ctx;
    ar_free(&ctx->memory, tensor->data);
    ar_free(&ctx->memory, tensor);
    ar_context_release(ctx);
}
