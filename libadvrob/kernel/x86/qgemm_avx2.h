/* Packed weights of the qgemm slot in AVX2: what packing writes and the kernel reads.
 *
 * The kinds of all blocks, then the blocks, of equal sizes. A block of bytes is [row][output][4].
 * Where a row's products would not fit 16 bits beside their neighbours', it is the sum of two that
 * do: the second ones lie behind the block. A block of words is [row][output][2][2], channels 0 and
 * 2, then 1 and 3, as even and odd bytes of the codes are widened. */
#ifndef AR_QGEMM_AVX2_H
#define AR_QGEMM_AVX2_H

#include "kernel/levels.h"

enum { AR_QGEMM_BLOCK = 4 }; /* outputs of a block, channels of a quad */

/* Of a block: how many sums of two products fit 16 bits together (1, 2 or 4), or words. */
enum { AR_QGEMM_WORDS = 0 };

/* Where a block's second rows lie, in bytes from its begin: those of rows [r, s) are [start[r],
 * start[s]). */
typedef struct ar_qgemm_seconds {
    ptrdiff_t start; /* int32_t[rows + 1] */
    ptrdiff_t row;   /* int32_t: whose second one */
    ptrdiff_t w;     /* [second][output][4] */
} ar_qgemm_seconds;

static inline int32_t ar_qgemm_blocks(int32_t outputs) {
    return outputs / AR_QGEMM_BLOCK + (outputs % AR_QGEMM_BLOCK != 0);
}

static inline ptrdiff_t ar_qgemm_kinds_size(int32_t outputs) {
    return ((ptrdiff_t)ar_qgemm_blocks(outputs) * (ptrdiff_t)sizeof(int32_t) + 63) / 64 * 64;
}

/* Whether codes up to `high` by any two weights fit 16 bits. */
static inline bool ar_qgemm_narrow(int32_t high) {
    return high * 2 * 128 <= INT16_MAX;
}

/* A block of bytes has at most so many second rows: with more, words would be faster. */
static inline int32_t ar_qgemm_most_seconds(int32_t rows, int32_t high) {
    return rows / (ar_qgemm_narrow(high) ? 8 : 4);
}

/* Of a block: with all its second rows, or of words. */
static inline ptrdiff_t ar_qgemm_block_size(int32_t rows, int32_t high) {
    const ptrdiff_t quads = (ptrdiff_t)rows + ar_qgemm_most_seconds(rows, high);
    const ptrdiff_t bytes = quads * (4 * AR_QGEMM_BLOCK + 4) + 4;
    const ptrdiff_t words = ar_qgemm_narrow(high) ? 0 : (ptrdiff_t)rows * 8 * AR_QGEMM_BLOCK;
    return ((bytes > words ? bytes : words) + 63) / 64 * 64;
}

static inline ar_qgemm_seconds ar_qgemm_seconds_of(int32_t rows, int32_t high) {
    const ptrdiff_t start = (ptrdiff_t)rows * 4 * AR_QGEMM_BLOCK;
    const ptrdiff_t row = start + ((ptrdiff_t)rows + 1) * (ptrdiff_t)sizeof(int32_t);
    const ptrdiff_t most = ar_qgemm_most_seconds(rows, high);
    return (ar_qgemm_seconds){start, row, row + most * (ptrdiff_t)sizeof(int32_t)};
}

#endif
