/* 3x3 convolutions of stride 1 by Winograd's way (kernel/kernel.h). Private to op. */
#ifndef AR_OP_WINOGRAD_H
#define AR_OP_WINOGRAD_H

#include "op.h"

/* The tile with which a layer's forward pass or its input gradient runs; 0: it runs as a gemm. A
 * function of shapes, kernel table and option alone. */
int32_t ar_winograd_tile(const ar_op_setup *setup, bool backward);
void ar_winograd_pack_weight(const ar_op_setup *setup, int32_t tile, bool backward,
                             const ar_real *weight, ar_real *packed);
size_t ar_winograd_scratch_size(const ar_op_setup *setup, int32_t tile, int32_t lanes,
                                bool backward);
void ar_winograd_forward(const ar_op_call *call, int32_t tile);
void ar_winograd_backward(const ar_op_call *call, int32_t tile);

#endif
