/* The qgemm slot in AVX2: blocks of 4 outputs by vectors of 8 lanes, one int32 each.
 *
 * vpmaddubsw multiplies codes by weights and adds two products, but saturates at 16 bits. Where no
 * codes can make it so, it is the fastest way; with small weights several such sums are added in 16
 * bits before they are widened. Elsewhere codes are widened to 16 bits first. Integers do not
 * round, so the order of sums is free, and the epilogue rounds where the contract does: the same
 * bits. */
#include "kernel/x86/avx2.h"

#include <string.h>

enum { BLOCK = 4 }; /* outputs of a block, channels of a quad */

typedef struct quad {
    int8_t w[4];
} quad;

/* Pixels that go through a panel's weights before the next panel: the weights then stay in L1 and
 * the pixels' input in L2. */
#define GROUP 28

/* ---- packed weights ----
 *
 * The kinds of all blocks, then the blocks, of equal sizes. A block of bytes is [row][output][4].
 * Where only few of its rows could saturate, each of these is the sum of two that could not: the
 * second ones lie behind the block. A block of words is [row][output][2][2], channels 0 and 2, then
 * 1 and 3, as even and odd bytes of the codes are widened. */

/* Of a block: how many sums of two products fit 16 bits together (1, 2 or 4), or these. */
enum { WORDS = 0, SPLIT = -1 };

/* A split block's second rows: those of rows [r, s) are [start[r], start[s]). */
typedef struct seconds {
    const int8_t *rows; /* [row][output][4] */
    const int32_t *start, *row;
} seconds;

static int32_t blocks_of(int32_t outputs) {
    return outputs / BLOCK + (outputs % BLOCK != 0);
}

INLINE int64_t kinds_size(int32_t outputs) {
    return ((int64_t)blocks_of(outputs) * 4 + 63) / 64 * 64;
}

/* Of a block: words, which a split one does not fill, or bytes alone. */
INLINE int64_t block_size(int32_t rows, bool narrow) {
    return (int64_t)rows * BLOCK * (narrow ? 4 : 8);
}

/* A split block has at most this many second rows: its 16 bytes a row, 4 (rows + 1) of starts and
 * 20 for each of these fit the 32 a row of words. More would be slower than words. */
INLINE int32_t most_seconds(int32_t rows) {
    return rows / 4;
}

INLINE ptrdiff_t starts_at(int32_t rows) {
    return (ptrdiff_t)rows * BLOCK * 4;
}

INLINE seconds seconds_of(const int8_t *block, int32_t rows) {
    const int32_t *start = (const void *)(block + starts_at(rows)), *row = start + rows + 1;
    return (seconds){(const void *)(row + most_seconds(rows)), start, row};
}

size_t ar_qgemm_size_avx2(int32_t outputs, int32_t rows, bool narrow) {
    return (size_t)(kinds_size(outputs) + blocks_of(outputs) * block_size(rows, narrow));
}

/* The part of each of a pair of weights that no codes make saturate: 255 * 128 fits. What is left
 * is such a pair too. */
static void pair_split(const int8_t *w, int8_t *safe) {
    const int32_t sum = w[0] + w[1];
    const bool fits = (w[0] < 0) != (w[1] < 0) || (sum >= -128 && sum <= 128);
    safe[0] = (int8_t)(fits ? w[0] : w[0] / 2);
    safe[1] = (int8_t)(fits ? w[1] : w[1] / 2);
}

static void row_split(const int8_t *row, int8_t *safe) {
    for (int32_t i = 0; i < BLOCK * 4; i += 2)
        pair_split(row + i, safe + i);
}

/* Any `depth` rows that follow each other: the sums of their weights above 0 and of those below are
 * at most 128. */
static bool fits_depth(const int8_t *block, int32_t rows, int32_t depth) {
    for (int32_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < BLOCK * 4; i += 2) {
            int32_t above = 0, below = 0;
            for (int32_t j = 0; j < depth * 2 && r + j / 2 < rows; j++) {
                const int32_t w = block[(r + j / 2) * BLOCK * 4 + i + j % 2];
                above += w > 0 ? w : 0;
                below += w < 0 ? w : 0;
            }
            if (above > 128 || below < -128) return false;
        }
    return true;
}

static int32_t kind_of(const int8_t *block, int32_t rows, bool narrow) {
    int32_t count = 0;
    for (int32_t depth = 4; depth > 0; depth /= 2)
        if (fits_depth(block, rows, depth)) return depth;
    if (narrow) return 1;
    for (int32_t r = 0; r < rows; r++) {
        int8_t safe[BLOCK * 4];
        row_split(block + r * BLOCK * 4, safe);
        count += memcmp(safe, block + r * BLOCK * 4, sizeof safe) != 0;
    }
    return count <= most_seconds(rows) ? SPLIT : WORDS;
}

static void split(int8_t *block, int32_t rows) {
    int32_t *start = (void *)(block + starts_at(rows));
    int32_t *row = start + rows + 1;
    int8_t *second = (void *)(row + most_seconds(rows));
    start[0] = 0;
    for (int32_t r = 0; r < rows; r++) {
        int8_t safe[BLOCK * 4], *w = block + r * BLOCK * 4;
        start[r + 1] = start[r];
        row_split(w, safe);
        if (memcmp(safe, w, sizeof safe) == 0) continue;
        row[start[r]] = r;
        for (int32_t i = 0; i < BLOCK * 4; i++)
            second[start[r] * BLOCK * 4 + i] = (int8_t)(w[i] - safe[i]);
        memcpy(w, safe, sizeof safe);
        start[r + 1]++;
    }
}

/* From bytes in place: from the last, as words take more room. */
static void widen(int8_t *block, int32_t rows) {
    for (int32_t i = rows * BLOCK - 1; i >= 0; i--) {
        int8_t w[4];
        memcpy(w, block + i * 4, sizeof w);
        const int16_t words[4] = {w[0], w[2], w[1], w[3]};
        memcpy(block + i * 8, words, sizeof words);
    }
}

void ar_qgemm_pack_avx2(int32_t outputs, int32_t rows, bool narrow, const int8_t *w, void *packed) {
    int32_t *kinds = packed;
    int8_t *block = (int8_t *)packed + kinds_size(outputs);
    memset(packed, 0, ar_qgemm_size_avx2(outputs, rows, narrow));
    for (int32_t b = 0; b < blocks_of(outputs); b++, block += block_size(rows, narrow)) {
        for (int32_t j = 0; j < BLOCK && b * BLOCK + j < outputs; j++)
            for (int32_t r = 0; r < rows; r++)
                memcpy(block + (r * BLOCK + j) * 4, w + ((int64_t)(b * BLOCK + j) * rows + r) * 4,
                       4);
        kinds[b] = kind_of(block, rows, narrow);
        if (kinds[b] == SPLIT) split(block, rows);
        if (kinds[b] == WORDS) widen(block, rows);
    }
}

/* ---- products ---- */

INLINE __m256i load(const uint8_t *x) {
    return _mm256_loadu_si256((const void *)x);
}

/* Instructions beside their operands and one or two registers: from intrinsics, compilers move
 * broadcasts away from their use and spill sums. */

/* Adds products by half a quad of words. */
INLINE __m256i add_words(__m256i a, __m256i x, const int8_t *w) {
    __m256i t;
    __asm__("vpbroadcastd %3, %1\n\tvpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0"
            : "+x"(a), "=&x"(t)
            : "x"(x), "m"(*(const quad *)w));
    return a;
}

/* Adds products of one or two vectors by a quad of bytes. */
INLINE void add_bytes(__m256i *a, const __m256i *x, const int8_t *w, __m256i ones,
                      const int32_t units) {
    __m256i t, u;
    if (units == 1)
        __asm__("vpbroadcastd %4, %1\n\tvpmaddubsw %1, %2, %1\n\tvpmaddwd %3, %1, %1\n\t"
                "vpaddd %1, %0, %0"
                : "+x"(a[0]), "=&x"(t)
                : "x"(x[0]), "x"(ones), "m"(*(const quad *)w));
    else
        __asm__("vpbroadcastd %7, %2\n\tvpmaddubsw %2, %4, %3\n\tvpmaddubsw %2, %5, %2\n\t"
                "vpmaddwd %6, %3, %3\n\tvpmaddwd %6, %2, %2\n\t"
                "vpaddd %3, %0, %0\n\tvpaddd %2, %1, %1"
                : "+x"(a[0]), "+x"(a[1]), "=&x"(t), "=&x"(u)
                : "x"(x[0]), "x"(x[1]), "x"(ones), "m"(*(const quad *)w));
}

/* The same in 16 bits. */
INLINE void add_pairs(__m256i *a, const __m256i *x, const int8_t *w, const int32_t units) {
    __m256i t, u;
    if (units == 1)
        __asm__("vpbroadcastd %3, %1\n\tvpmaddubsw %1, %2, %1\n\tvpaddw %1, %0, %0"
                : "+x"(a[0]), "=&x"(t)
                : "x"(x[0]), "m"(*(const quad *)w));
    else
        __asm__("vpbroadcastd %6, %2\n\tvpmaddubsw %2, %4, %3\n\tvpmaddubsw %2, %5, %2\n\t"
                "vpaddw %3, %0, %0\n\tvpaddw %2, %1, %1"
                : "+x"(a[0]), "+x"(a[1]), "=&x"(t), "=&x"(u)
                : "x"(x[0]), "x"(x[1]), "m"(*(const quad *)w));
}

/* The first of such sums. */
INLINE void set_pairs(__m256i *a, const __m256i *x, const int8_t *w, const int32_t units) {
    if (units == 1)
        __asm__("vpbroadcastd %2, %0\n\tvpmaddubsw %0, %1, %0"
                : "=&x"(a[0])
                : "x"(x[0]), "m"(*(const quad *)w));
    else
        __asm__("vpbroadcastd %4, %0\n\tvpmaddubsw %0, %3, %1\n\tvpmaddubsw %0, %2, %0"
                : "=&x"(a[0]), "=&x"(a[1])
                : "x"(x[0]), "x"(x[1]), "m"(*(const quad *)w));
}

/* A row of bytes: 4 outputs by `units` vectors from x on. */
INLINE void add_row(__m256i *a, const uint8_t *x, const int8_t *row, const int32_t units) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i v[2];
    UNROLL
    for (int32_t u = 0; u < units; u++)
        v[u] = load(x + u * 32);
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++)
        add_bytes(a + j * units, v, row + j * 4, ones, units);
}

/* `depth` rows, of which the sums are widened but once: as many outputs at a time as there are
 * registers for. */
INLINE void add_rows(__m256i *a, const uint8_t *x, const int8_t *row, const int32_t units,
                     const int32_t depth) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int32_t some = BLOCK / units;
    UNROLL
    for (int32_t o = 0; o < BLOCK; o += some) {
        __m256i t[4];
        UNROLL
        for (int32_t d = 0; d < depth; d++) {
            __m256i v[2];
            UNROLL
            for (int32_t u = 0; u < units; u++)
                v[u] = load(x + (d * units + u) * 32);
            UNROLL
            for (int32_t j = 0; j < some; j++) {
                const int8_t *w = row + (d * BLOCK + o + j) * 4;
                if (d == 0)
                    set_pairs(t + j * units, v, w, units);
                else
                    add_pairs(t + j * units, v, w, units);
            }
        }
        UNROLL
        for (int32_t j = 0; j < some * units; j++)
            a[o * units + j] = _mm256_add_epi32(a[o * units + j], _mm256_madd_epi16(t[j], ones));
    }
}

/* A row of each of `width` blocks of words by a vector of x. */
INLINE void add_word_rows(__m256i *a, const uint8_t *x, const int8_t *row, ptrdiff_t size,
                          const int32_t width) {
    const __m256i even = _mm256_and_si256(load(x), _mm256_set1_epi16(255));
    const __m256i odd = _mm256_srli_epi16(load(x), 8);
    UNROLL
    for (int32_t j = 0; j < width * BLOCK; j++) {
        const int8_t *w = row + j / BLOCK * size + j % BLOCK * 8;
        a[j] = add_words(a[j], even, w);
        a[j] = add_words(a[j], odd, w + 4);
    }
}

/* 4 rows of bytes: many, since with few outputs a row is soon done. */
INLINE void add_4_rows(__m256i *a, const uint8_t *x, const int8_t *row, const int32_t units,
                       const int32_t kind) {
    if (kind == 4)
        add_rows(a, x, row, units, 4);
    else if (kind == 2) {
        add_rows(a, x, row, units, 2);
        add_rows(a, x + 2 * units * 32, row + 2 * BLOCK * 4, units, 2);
    } else {
        UNROLL
        for (int32_t i = 0; i < 4; i++)
            add_row(a, x + i * units * 32, row + i * BLOCK * 4, units);
    }
}

/* ---- panels ---- */

/* The codes of 4 outputs and 8 lanes as they lie in y. Clamped before they are rounded, as floats,
 * which any value fits; low - zero and high - zero are integers, so the code is the same. A NaN is
 * low. The zero point is then added to all 4 bytes at once. */
INLINE __m256i requantise(const ar_qgemm *call, int32_t o, int64_t at, const __m256i *a,
                          const int32_t units) {
    const __m256 low = _mm256_set1_ps((float)(call->low - call->zero));
    const __m256 high = _mm256_set1_ps((float)(call->high - call->zero));
    __m256i codes = _mm256_set1_epi32((int32_t)(0x01010101u * (uint32_t)call->zero));
    __m256 v[BLOCK];
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++)
        v[j] = _mm256_mul_ps(_mm256_cvtepi32_ps(a[j * units]),
                             _mm256_broadcast_ss(call->scale + o + j));
    if (call->residual != NULL) {
        const __m256i other = load(call->residual + at), byte = _mm256_set1_epi32(255);
        const __m256i zero = _mm256_set1_epi32(call->residual_zero);
        const __m256 scale = _mm256_set1_ps(call->residual_scale);
        UNROLL
        for (int32_t j = 0; j < BLOCK; j++) {
            __m256i r = _mm256_and_si256(_mm256_srli_epi32(other, 8 * j), byte);
            r = _mm256_sub_epi32(r, zero);
            v[j] = _mm256_add_ps(v[j], _mm256_mul_ps(_mm256_cvtepi32_ps(r), scale));
        }
    }
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++) {
        const __m256i q = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v[j], low), high));
        codes = _mm256_add_epi32(codes, _mm256_slli_epi32(q, 8 * j));
    }
    if (o + BLOCK > call->outputs) {
        const uint32_t inside = UINT32_MAX >> 8 * (o + BLOCK - call->outputs);
        codes = _mm256_and_si256(codes, _mm256_set1_epi32((int32_t)inside));
    }
    return codes;
}

/* `width` blocks of a kind, outputs from o, by `units` vectors of 8 lanes, from vector `from` on,
 * of pixel p. */
INLINE void panel(const ar_qgemm *given, const int8_t *w, int32_t o, int32_t p, int32_t from,
                  const int32_t width, const int32_t units, const int32_t kind) {
    const ar_qgemm copy = *given, *call = &copy; /* whose fields a byte of y cannot change */
    const int32_t lanes = kind == WORDS ? call->lanes : units * 8;
    const int32_t padded = blocks_of(call->outputs) * BLOCK, step = lanes * 4;
    const ptrdiff_t size = (ptrdiff_t)block_size(call->rows, call->narrow);
    const int32_t row_size = BLOCK * (kind == WORDS ? 8 : 4);
    seconds more = {0};
    const int32_t *bias = call->bias + o;
    __m256i a[12];

    if (kind == SPLIT) more = seconds_of(w, call->rows);
    if (call->bias_class != NULL) bias += (ptrdiff_t)call->bias_class[p] * padded;
    UNROLL
    for (int32_t i = 0; i < width * BLOCK * units; i++)
        a[i] = _mm256_set1_epi32(bias[i / units]);
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
        const ar_segment s = call->segments[i];
        const uint8_t *begin = call->x + (ptrdiff_t)s.x * step + from * 32, *x = begin;
        const int8_t *row = w + (ptrdiff_t)s.w * row_size;
        int32_t k = s.k;
        if (kind != WORDS)
            for (; k >= 4; k -= 4, x += 4 * units * 32, row += 4 * row_size)
                add_4_rows(a, x, row, units, kind);
        for (; k > 0; k--, x += step, row += row_size)
            if (kind == WORDS)
                add_word_rows(a, x, row, size, width);
            else
                add_row(a, x, row, units);
        if (kind == SPLIT)
            for (int32_t r = more.start[s.w]; r < more.start[s.w + s.k]; r++)
                add_row(a, begin + (ptrdiff_t)(more.row[r] - s.w) * step,
                        more.rows + (ptrdiff_t)r * row_size, units);
    }
    UNROLL
    for (int32_t i = 0; i < width * units; i++) {
        const __m256i *own = a + i / units * BLOCK * units + i % units;
        const int64_t first = (int64_t)p * padded + o + i / units * BLOCK;
        const int32_t lane = (from + i % units) * 8;
        if (call->sums == NULL) {
            const int64_t at = first * lanes + lane * 4;
            _mm256_storeu_si256((void *)(call->y + at),
                                requantise(call, o + i / units * BLOCK, at, own, units));
            continue;
        }
        UNROLL
        for (int32_t j = 0; j < BLOCK; j++)
            _mm256_storeu_si256((void *)(call->sums + (first + j) * lanes + lane), own[j * units]);
    }
}

/* Pixels of a group by a block of bytes. */
INLINE void bytes(const ar_qgemm *call, const int8_t *w, int32_t o, ar_span pixels,
                  const int32_t kind) {
    if (call->lanes == 16)
        for (int32_t p = pixels.begin; p < pixels.end; p++)
            panel(call, w, o, p, 0, 1, 2, kind);
    else
        for (int32_t p = pixels.begin; p < pixels.end; p++)
            panel(call, w, o, p, 0, 1, 1, kind);
}

/* By blocks of words: several at once, since each widens the codes. */
INLINE void words(const ar_qgemm *call, const int8_t *w, int32_t o, ar_span pixels,
                  const int32_t width) {
    for (int32_t p = pixels.begin; p < pixels.end; p++)
        for (int32_t from = 0; from < call->lanes / 8; from++)
            panel(call, w, o, p, from, width, 1, WORDS);
}

/* One function for each of these, or else they share their registers' allocation. */
static __attribute__((noinline)) void words1(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    words(call, w, o, pixels, 1);
}

static __attribute__((noinline)) void words2(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    words(call, w, o, pixels, 2);
}

static __attribute__((noinline)) void words3(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    words(call, w, o, pixels, 3);
}

static __attribute__((noinline)) void bytes1(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    bytes(call, w, o, pixels, 1);
}

static __attribute__((noinline)) void bytes2(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    bytes(call, w, o, pixels, 2);
}

static __attribute__((noinline)) void bytes4(const ar_qgemm *call, const int8_t *w, int32_t o,
                                             ar_span pixels) {
    bytes(call, w, o, pixels, 4);
}

static __attribute__((noinline)) void bytes_split(const ar_qgemm *call, const int8_t *w, int32_t o,
                                                  ar_span pixels) {
    bytes(call, w, o, pixels, SPLIT);
}

void ar_qgemm_avx2(const ar_qgemm *call) {
    const ar_span blocks = ar_span_of(call->blocks, blocks_of(call->outputs));
    const int64_t size = block_size(call->rows, call->narrow);
    const int32_t *kinds = call->w;
    const int8_t *first = (const int8_t *)call->w + kinds_size(call->outputs);
    for (int32_t p = 0; p < call->pixels; p += GROUP) {
        const ar_span pixels = {p, call->pixels - p < GROUP ? call->pixels : p + GROUP};
        for (int32_t b = blocks.begin, n; b < blocks.end; b += n) {
            const int8_t *w = first + b * size;
            const int32_t kind = kinds[b];
            for (n = 1; kind == WORDS && n < 3 && b + n < blocks.end && kinds[b + n] == WORDS;)
                n++;
            if (kind == WORDS)
                (n == 3 ? words3 : n == 2 ? words2 : words1)(call, w, b * BLOCK, pixels);
            else if (kind == SPLIT)
                bytes_split(call, w, b * BLOCK, pixels);
            else
                (kind == 4 ? bytes4 : kind == 2 ? bytes2 : bytes1)(call, w, b * BLOCK, pixels);
        }
    }
}
