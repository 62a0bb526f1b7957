/* Tensors: dense row-major arrays that cross the border with their shape: a model's parameters, a
 * node's output. */
#ifndef ADVROB_TENSOR_H
#define ADVROB_TENSOR_H

#include <advrob/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_tensor advrob_tensor;

/* Element types. */
enum { ADVROB_F32 = 1, ADVROB_U8 = 2, ADVROB_I32 = 3, ADVROB_I64 = 4 };

/* A new tensor of zeros, owned by the caller. 0 <= rank <= 8. Errors: E_SHAPE, E_OVERFLOW,
 * E_NOMEM. */
ADVROB_API int32_t advrob_tensor_create(advrob_context *ctx, int32_t dtype, int32_t rank,
                                        const int64_t *shape, advrob_tensor **out);
ADVROB_API void advrob_tensor_destroy(advrob_tensor *tensor);

/* Element type and number of dimensions; 0 for NULL. */
ADVROB_API int32_t advrob_tensor_dtype(const advrob_tensor *tensor);
ADVROB_API int32_t advrob_tensor_rank(const advrob_tensor *tensor);
/* Length of dimension `axis`; -1 past the rank. */
ADVROB_API int64_t advrob_tensor_dim(const advrob_tensor *tensor, int32_t axis);
/* Number of elements. */
ADVROB_API int64_t advrob_tensor_count(const advrob_tensor *tensor);
/* The elements; valid as long as the tensor. */
ADVROB_API void *advrob_tensor_data(advrob_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif
