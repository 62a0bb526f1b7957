/* Winograd in AVX2: what its files share.
 *
 * Tiles of 4 outputs an axis need 6 points (0, 1, -1, infinity, 2, -2), of 3 the first 5, of 2 the
 * first 4. With the denominators of the interpolation in A, a weight's value at a point is the same
 * for all of them: one set of packed weights serves tiles of every size, and an axis that is no
 * multiple of 4 ends with smaller tiles instead of overhanging ones. */
#ifndef AR_KERNEL_WINOGRAD_AVX2_H
#define AR_KERNEL_WINOGRAD_AVX2_H

#include "kernel/x86/avx2.h"

#define WINOGRAD_POINTS 6 /* at most, an axis */

/* Outputs [at, at + points - 2) of each axis; of these `valid` exist. */
typedef struct winograd_tile {
    int32_t at[2], points[2], valid[2];
} winograd_tile;

/* Points by tile: value (i, j) of channel c is at v[(i * points + j) * plane + c * 16], 8 or 16
 * lanes of it. */
void ar_winograd_input_avx2(const ar_winograd *call, const winograd_tile *tile, float *v,
                            ptrdiff_t plane);
/* The tile's outputs [o, o + width) from products m[i * points + j][width][16]. */
void ar_winograd_output_avx2(const ar_winograd *call, const winograd_tile *tile, int32_t o,
                             int32_t width, const float *m);

#endif
