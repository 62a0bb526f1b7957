/* Weights for the qgemm slot in AVX2: each block of outputs as bytes whose products are added in 16
 * bits as far as they fit, or as words, whatever costs less. */
#include "kernel/x86/qgemm_avx2.h"

#include <string.h>

enum { BLOCK = AR_QGEMM_BLOCK, ROW = BLOCK * 4, DEEPEST = 4 };

/* What a row costs by the sums that are added in 16 bits, as a second one, and of words: measured
 * on layers of 32 to 128 channels. */
enum { COST_1 = 12, COST_2 = 10, COST_4 = 9, COST_SECOND = 16, COST_WORDS = 18 };

/* Of the last few rows, what the block itself keeps. */
typedef struct kept {
    int8_t rows[DEEPEST][ROW];
} kept;

size_t ar_qgemm_size_avx2(int32_t outputs, int32_t rows, int32_t high) {
    return (size_t)(ar_qgemm_kinds_size(outputs) +
                    ar_qgemm_blocks(outputs) * ar_qgemm_block_size(rows, high));
}

/* Takes a pair of weights' sums, above 0 and below, from what fits. */
static void spend(const int8_t *pair, int32_t *above, int32_t *below) {
    for (int32_t i = 0; i < 2; i++)
        if (pair[i] > 0)
            *above -= pair[i];
        else
            *below += pair[i];
}

/* Keeps of row r what fits 16 bits beside the `depth` - 1 rows before it: the kernel adds any
 * `depth` rows that follow each other, so that of each pair's weights those above 0 and those below
 * may reach `room`. False if what is left of it would not fit by itself. */
static bool keep(kept *k, const int8_t *row, int32_t r, int32_t depth, int32_t room) {
    int8_t *own = k->rows[r % DEEPEST];
    for (int32_t i = 0; i < ROW; i += 2) {
        int32_t above = room, below = room, left_above = room, left_below = room;
        int8_t left[2];
        for (int32_t d = 1; d < depth && d <= r; d++)
            spend(k->rows[(r - d) % DEEPEST] + i, &above, &below);
        for (int32_t j = i; j < i + 2; j++) {
            const int32_t w = row[j];
            own[j] = (int8_t)(w > above ? above : w < -below ? -below : w);
            left[j - i] = (int8_t)(w - own[j]);
            if (w > 0)
                above -= own[j];
            else
                below += own[j];
        }
        spend(left, &left_above, &left_below);
        if (left_above < 0 || left_below < 0) return false;
    }
    return true;
}

/* Second rows of a block; -1: it cannot be split so. */
static int32_t count_seconds(const int8_t *block, int32_t rows, int32_t depth, int32_t room) {
    int32_t count = 0;
    kept k;
    for (int32_t r = 0; r < rows; r++) {
        if (!keep(&k, block + (ptrdiff_t)r * ROW, r, depth, room)) return -1;
        count += memcmp(k.rows[r % DEEPEST], block + (ptrdiff_t)r * ROW, ROW) != 0;
    }
    return count;
}

static int32_t kind_of(const int8_t *block, int32_t rows, int32_t high) {
    static const int32_t costs[][2] = {{4, COST_4}, {2, COST_2}, {1, COST_1}};
    const int32_t most = ar_qgemm_most_seconds(rows, high);
    int64_t least = (int64_t)rows * COST_WORDS;
    int32_t kind = AR_QGEMM_WORDS;
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        const int32_t count = count_seconds(block, rows, costs[i][0], INT16_MAX / high);
        const int64_t cost = (int64_t)rows * costs[i][1] + (int64_t)count * COST_SECOND;
        if (count < 0 || count > most || cost >= least) continue;
        least = cost;
        kind = costs[i][0];
    }
    return kind;
}

static void split(int8_t *block, int32_t rows, int32_t high, int32_t depth) {
    const ar_qgemm_seconds more = ar_qgemm_seconds_of(rows, high);
    int32_t *start = (void *)(block + more.start), *whose = (void *)(block + more.row);
    int8_t *second = block + more.w;
    kept k;
    start[0] = 0;
    for (int32_t r = 0; r < rows; r++) {
        int8_t *w = block + (ptrdiff_t)r * ROW, *own = k.rows[r % DEEPEST];
        (void)keep(&k, w, r, depth, INT16_MAX / high);
        start[r + 1] = start[r];
        if (memcmp(own, w, ROW) == 0) continue;
        whose[start[r + 1]++] = r;
        for (int32_t i = 0; i < ROW; i++)
            *second++ = (int8_t)(w[i] - own[i]);
        memcpy(w, own, ROW);
    }
}

/* From bytes in place: from the last, as words take more room. */
static void widen(int8_t *block, int32_t rows) {
    for (ptrdiff_t i = (ptrdiff_t)rows * BLOCK - 1; i >= 0; i--) {
        int8_t w[4];
        memcpy(w, block + i * 4, sizeof w);
        const int16_t words[4] = {w[0], w[2], w[1], w[3]};
        memcpy(block + i * 8, words, sizeof words);
    }
}

void ar_qgemm_pack_avx2(int32_t outputs, int32_t rows, int32_t high, const int8_t *w,
                        void *packed) {
    const ptrdiff_t size = ar_qgemm_block_size(rows, high);
    int32_t *kinds = packed;
    int8_t *block = (int8_t *)packed + ar_qgemm_kinds_size(outputs);
    memset(packed, 0, ar_qgemm_size_avx2(outputs, rows, high));
    for (int32_t b = 0; b < ar_qgemm_blocks(outputs); b++, block += size) {
        for (int32_t j = 0; j < BLOCK && b * BLOCK + j < outputs; j++)
            for (int32_t r = 0; r < rows; r++)
                memcpy(block + ((ptrdiff_t)r * BLOCK + j) * 4,
                       w + ((int64_t)(b * BLOCK + j) * rows + r) * 4, 4);
        kinds[b] = kind_of(block, rows, high);
        if (kinds[b] == AR_QGEMM_WORDS)
            widen(block, rows);
        else
            split(block, rows, high, kinds[b]);
    }
}
