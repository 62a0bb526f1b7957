/* Vectors and sums of 8 lanes, shared by the kernels in plain C. */
#ifndef AR_KERNEL_LANES_H
#define AR_KERNEL_LANES_H

#include "kernel/kernel.h"

typedef ar_real vector __attribute__((vector_size(4 * sizeof(ar_real))));

/* Sums over lanes are kept apart up to here; the order below is part of the result. */
static inline ar_real sum8(const ar_real *a) {
    return ((a[0] + a[2]) + (a[1] + a[3])) + ((a[4] + a[6]) + (a[5] + a[7]));
}

/* dy of output o, summed over all tiles. */
static inline ar_real bias_sum(const ar_wgrad *call, int32_t o) {
    ar_real sum = 0;
    for (int32_t tile = 0; tile < call->tiles; tile++) {
        ar_real part[8] = {0};
        for (int32_t p = 0; p < call->pixels; p++) {
            const ar_real *dy = call->dy[tile] + ((int64_t)p * call->outputs + o) * call->lanes;
            for (int32_t l = 0; l < call->lanes; l += 8)
                for (int32_t j = 0; j < 8; j++)
                    part[j] += dy[l + j];
        }
        sum += sum8(part);
    }
    return sum;
}

#endif
