/* What convolution and linear layers share: index lists, packing and the three passes. A linear
 * layer is a 1 x 1 convolution of a 1 x 1 image. Private to op. */
#ifndef AR_OP_GEMM_H
#define AR_OP_GEMM_H

#include "op.h"

int32_t ar_gemm_prepare(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out,
                        ar_arena *arena, const void **prepared);
void ar_gemm_pack(const ar_attributes *attributes, const ar_shape *in, const ar_kernels *kernels,
                  const ar_real *const parameters[AR_MAX_PARAMETERS], ar_real *forward,
                  ar_real *backward);
void ar_gemm_forward(const ar_op_call *call);
void ar_gemm_backward(const ar_op_call *call);
void ar_gemm_gradient(const ar_op_gradient *call);

#endif
