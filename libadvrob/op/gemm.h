/* What convolution and linear layers share: index lists, packing and the three passes. A linear
 * layer is a 1 x 1 convolution of a 1 x 1 image. Private to op. */
#ifndef AR_OP_GEMM_H
#define AR_OP_GEMM_H

#include "op.h"

/* Lists of the passes that run as a gemm (the weight gradient always has its own), and packing for
 * them. */
int32_t ar_gemm_prepare(const ar_op_setup *setup, bool forward, bool backward,
                        const void **prepared);
void ar_gemm_pack_forward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed);
void ar_gemm_pack_backward(const ar_op_setup *setup, const ar_real *weight, ar_real *packed);
void ar_gemm_forward(const ar_op_call *call);
void ar_gemm_backward(const ar_op_call *call);
void ar_gemm_gradient(const ar_op_gradient *call);
ar_op_work ar_gemm_work(const ar_op_setup *setup, const void *prepared, int32_t pass);

#endif
