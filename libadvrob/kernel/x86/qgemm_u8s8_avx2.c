/* The qgemm slot in AVX2: blocks of 4 outputs by vectors of 8 lanes, one int32 each.
 *
 * vpmaddubsw multiplies codes by weights and adds two products, but saturates at 16 bits; packing
 * (qgemm_pack_avx2.c) sees to it that it never does, and that several such sums can be added in 16
 * bits before they are widened. Where that is not possible codes are widened to 16 bits first.
 * Integers do not round, so the order of sums is free, and the epilogue rounds where the contract
 * does: the same bits. */
#include "kernel/x86/avx2.h"
#include "kernel/x86/qgemm_avx2.h"

enum { BLOCK = AR_QGEMM_BLOCK, WORDS = AR_QGEMM_WORDS };

typedef struct quad {
    int8_t w[4];
} quad;

/* Pixels that go through a panel's weights before the next panel: the weights then stay in L1 and
 * the pixels' input in L2. */
#define GROUP 14

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

/* What all panels of a group of pixels share: a copy of the call, which no byte of y can change. */
typedef struct panels {
    ar_qgemm call;
    const int8_t *w; /* of the first block */
    int32_t o;       /* its first output */
    int32_t padded;
    ptrdiff_t size; /* of a block */
    const int32_t *start, *whose;
    const int8_t *second;
} panels;

INLINE panels panels_of(const ar_qgemm *call, const int8_t *w, int32_t o) {
    const ar_qgemm_seconds more = ar_qgemm_seconds_of(call->rows, call->x_high);
    return (panels){.call = *call,
                    .w = w,
                    .o = o,
                    .padded = ar_qgemm_blocks(call->outputs) * BLOCK,
                    .size = ar_qgemm_block_size(call->rows, call->x_high),
                    .start = (const void *)(w + more.start),
                    .whose = (const void *)(w + more.row),
                    .second = w + more.w};
}

/* The codes of 4 outputs and 8 lanes as they lie in y. What is too large is clamped as a float,
 * which any value fits; high - zero is an integer, so the code is the same. What is too small, or a
 * NaN, becomes an int that saturates downwards from there on. */
INLINE __m256i requantise(const ar_qgemm *call, int32_t o, int64_t at, const __m256i *a,
                          const int32_t units) {
    const __m256 high = _mm256_set1_ps((float)(call->high - call->zero));
    const __m256i zero = _mm256_set1_epi16((int16_t)call->zero);
    const __m256i low = _mm256_set1_epi8((int8_t)call->low);
    const __m256i turn = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0,
                                          4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m256i q[BLOCK];
    __m256 v[BLOCK];
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++)
        v[j] = _mm256_mul_ps(_mm256_cvtepi32_ps(a[j * units]),
                             _mm256_broadcast_ss(call->scale + o + j));
    if (call->residual != NULL) {
        const __m256i other = load(call->residual + at), byte = _mm256_set1_epi32(255);
        const __m256i none = _mm256_set1_epi32(call->residual_zero);
        const __m256 scale = _mm256_set1_ps(call->residual_scale);
        UNROLL
        for (int32_t j = 0; j < BLOCK; j++) {
            __m256i r = _mm256_and_si256(_mm256_srli_epi32(other, 8 * j), byte);
            r = _mm256_sub_epi32(r, none);
            v[j] = _mm256_add_ps(v[j], _mm256_mul_ps(_mm256_cvtepi32_ps(r), scale));
        }
    }
    UNROLL
    for (int32_t j = 0; j < BLOCK; j++) /* of min's operands a NaN comes out if it is the second */
        q[j] = _mm256_cvtps_epi32(_mm256_min_ps(high, v[j]));
    const __m256i front = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), zero);
    const __m256i back = _mm256_adds_epi16(_mm256_packs_epi32(q[2], q[3]), zero);
    __m256i codes = _mm256_max_epu8(_mm256_packus_epi16(front, back), low);
    codes = _mm256_shuffle_epi8(codes, turn);
    if (o + BLOCK > call->outputs) {
        const uint32_t inside = UINT32_MAX >> 8 * (o + BLOCK - call->outputs);
        codes = _mm256_and_si256(codes, _mm256_set1_epi32((int32_t)inside));
    }
    return codes;
}

/* `width` blocks of a kind by `units` vectors of 8 lanes, from vector `from` on, of pixel p. */
INLINE void panel(const panels *all, int32_t p, int32_t from, const int32_t width,
                  const int32_t units, const int32_t kind) {
    const ar_qgemm *call = &all->call;
    const int32_t lanes = kind == WORDS ? call->lanes : units * 8, step = lanes * 4;
    const int32_t row_size = BLOCK * (kind == WORDS ? 8 : 4);
    const int32_t *bias = call->bias + all->o;
    __m256i a[12];

    if (call->bias_class != NULL) bias += (ptrdiff_t)call->bias_class[p] * all->padded;
    UNROLL
    for (int32_t i = 0; i < width * BLOCK * units; i++)
        a[i] = _mm256_set1_epi32(bias[i / units]);
    for (int32_t i = call->first[p]; i < call->first[p + 1]; i++) {
        const ar_segment s = call->segments[i];
        const uint8_t *begin = call->x + (ptrdiff_t)s.x * step + from * 32, *x = begin;
        const int8_t *row = all->w + (ptrdiff_t)s.w * row_size;
        int32_t k = s.k;
        if (kind != WORDS)
            for (; k >= 4; k -= 4, x += 4 * units * 32, row += 4 * row_size)
                add_4_rows(a, x, row, units, kind);
        for (; k > 0; k--, x += step, row += row_size)
            if (kind == WORDS)
                add_word_rows(a, x, row, all->size, width);
            else
                add_row(a, x, row, units);
        if (kind != WORDS)
            for (int32_t r = all->start[s.w]; r < all->start[s.w + s.k]; r++)
                add_row(a, begin + (ptrdiff_t)(all->whose[r] - s.w) * step,
                        all->second + (ptrdiff_t)r * row_size, units);
    }
    UNROLL
    for (int32_t i = 0; i < width * units; i++) {
        const __m256i *own = a + i / units * BLOCK * units + i % units;
        const int32_t o = all->o + i / units * BLOCK, lane = (from + i % units) * 8;
        const int64_t first = (int64_t)p * all->padded + o, at = first * lanes + lane * 4;
        if (call->sums == NULL) {
            _mm256_storeu_si256((void *)(call->y + at), requantise(call, o, at, own, units));
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
    const panels all = panels_of(call, w, o);
    if (call->lanes == 16)
        for (int32_t p = pixels.begin; p < pixels.end; p++)
            panel(&all, p, 0, 1, 2, kind);
    else
        for (int32_t p = pixels.begin; p < pixels.end; p++)
            panel(&all, p, 0, 1, 1, kind);
}

/* By blocks of words: several at once, since each widens the codes. */
INLINE void words(const ar_qgemm *call, const int8_t *w, int32_t o, ar_span pixels,
                  const int32_t width) {
    const panels all = panels_of(call, w, o);
    for (int32_t p = pixels.begin; p < pixels.end; p++)
        for (int32_t from = 0; from < all.call.lanes / 8; from++)
            panel(&all, p, from, width, 1, WORDS);
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

void ar_qgemm_avx2(const ar_qgemm *call) {
    const ar_span blocks = ar_span_of(call->blocks, ar_qgemm_blocks(call->outputs));
    const ptrdiff_t size = ar_qgemm_block_size(call->rows, call->x_high);
    const int32_t *kinds = call->w;
    const int8_t *first = (const int8_t *)call->w + ar_qgemm_kinds_size(call->outputs);
    for (int32_t p = 0; p < call->pixels; p += GROUP) {
        const ar_span pixels = {p, call->pixels - p < GROUP ? call->pixels : p + GROUP};
        for (int32_t b = blocks.begin, n; b < blocks.end; b += n) {
            const int8_t *w = first + b * size;
            const int32_t kind = kinds[b];
            for (n = 1; kind == WORDS && n < 3 && b + n < blocks.end && kinds[b + n] == WORDS;)
                n++;
            if (kind == WORDS)
                (n == 3 ? words3 : n == 2 ? words2 : words1)(call, w, b * BLOCK, pixels);
            else
                (kind == 4 ? bytes4 : kind == 2 ? bytes2 : bytes1)(call, w, b * BLOCK, pixels);
        }
    }
}
