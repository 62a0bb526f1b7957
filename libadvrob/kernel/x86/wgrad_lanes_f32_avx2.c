/* The wgrad slot for few channels and for lists of any kind: 3 outputs by 4 channels in 12
 * accumulators that keep the sums of the 8 lanes apart, so a step is 7 loads and 12 FMAs, nothing
 * is transposed and no number of channels leaves a vector half empty.
 *
 * The work is cut in chunks of at most CHUNK pairs: those of a few rows of one tile, or of several
 * tiles where a tile has few. In a chunk all taps are done before the next, so its x and dy stay in
 * L2; a few channels of x at a time are copied side by side (apart by a power of two they would
 * share few sets of L1) and stay in L1, and dy streams past them.
 *
 * A gradient's value is fixed by its own chain: FMAs in the order (tile, pair, vector) within a
 * chunk, a lane sum in fixed order at its end. Chunks depend on the lists alone: neither the cut by
 * outputs nor the block that it falls in changes a bit. */
#include "kernel/x86/avx2.h"

#include <string.h>

#define CHUNK 64
#define OUTPUTS 3 /* of a block */
#define CHANNELS 4
#define AHEAD 6                           /* pairs, to prefetch */
#define PACKED (CHUNK * 6 * AR_MAX_LANES) /* floats of x, 24 KB */
#define THIN 64                           /* taps * channels of a layer with few channels */
#define CHUNK_THIN 32

typedef struct chunk {
    int32_t n;
    bool first;                     /* of its tap: dw is written instead of added to */
    const float *dy[CHUNK + AHEAD]; /* output 0 of the pair's pixel */
} chunk;

/* Sums of 8 lanes of 4 vectors; per vector ((0 + 2) + (1 + 3)) + ((4 + 6) + (5 + 7)). */
INLINE __m128 sum4(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    __m256 s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

/* dw[outputs][channels], rows `stride` apart, from output o of the chunk's dy and the packed x
 * [n][channels][lanes]. */
INLINE void block(const chunk *part, const float *x, float *dw, int64_t stride, int32_t o,
                  const int32_t outputs, const int32_t channels, const int32_t vectors) {
    const int32_t lanes = vectors * 8;
    const ptrdiff_t offset = (ptrdiff_t)o * lanes;
    __m256 a[12];
    UNROLL
    for (int32_t i = 0; i < outputs * channels; i++)
        a[i] = _mm256_setzero_ps();
    for (int32_t n = 0; n < part->n; n++, x += channels * lanes) {
        const float *dy = part->dy[n] + offset;
        const float *next = part->dy[n + AHEAD] + offset;
        UNROLL
        for (int32_t i = 0; i < outputs * vectors; i += 2)
            _mm_prefetch((const char *)(next + i * 8), _MM_HINT_T0);
        UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            __m256 d[3]; /* 12 sums, 3 of dy and one of x: all 16 registers */
            UNROLL
            for (int32_t i = 0; i < outputs; i++)
                d[i] = _mm256_loadu_ps(dy + i * lanes + v * 8);
            UNROLL
            for (int32_t j = 0; j < channels; j++) {
                __m256 value = _mm256_load_ps(x + j * lanes + v * 8);
                UNROLL
                for (int32_t i = 0; i < outputs; i++)
                    a[i * channels + j] = _mm256_fmadd_ps(d[i], value, a[i * channels + j]);
            }
        }
    }
    const __m256 zero = _mm256_setzero_ps();
    UNROLL
    for (int32_t i = 0; i < outputs; i++) {
        const __m256 *s = a + i * channels;
        float *out = dw + i * stride;
        __m128 sum = sum4(s[0], channels > 1 ? s[1] : zero, channels > 2 ? s[2] : zero,
                          channels > 3 ? s[3] : zero);
        if (channels == CHANNELS) {
            _mm_storeu_ps(out, part->first ? sum : _mm_add_ps(_mm_loadu_ps(out), sum));
        } else {
            float sums[4];
            _mm_storeu_ps(sums, sum);
            for (int32_t j = 0; j < channels; j++)
                out[j] = part->first ? sums[j] : out[j] + sums[j];
        }
    }
}

INLINE void block_any(const chunk *part, const float *x, float *dw, int64_t stride, int32_t o,
                      int32_t outputs, int32_t channels, const int32_t vectors) {
    switch ((outputs - 1) * CHANNELS + channels) {
    case 1:
        block(part, x, dw, stride, o, 1, 1, vectors);
        break;
    case 2:
        block(part, x, dw, stride, o, 1, 2, vectors);
        break;
    case 3:
        block(part, x, dw, stride, o, 1, 3, vectors);
        break;
    case 4:
        block(part, x, dw, stride, o, 1, 4, vectors);
        break;
    case 5:
        block(part, x, dw, stride, o, 2, 1, vectors);
        break;
    case 6:
        block(part, x, dw, stride, o, 2, 2, vectors);
        break;
    case 7:
        block(part, x, dw, stride, o, 2, 3, vectors);
        break;
    case 8:
        block(part, x, dw, stride, o, 2, 4, vectors);
        break;
    case 9:
        block(part, x, dw, stride, o, 3, 1, vectors);
        break;
    case 10:
        block(part, x, dw, stride, o, 3, 2, vectors);
        break;
    case 11:
        block(part, x, dw, stride, o, 3, 3, vectors);
        break;
    default:
        block(part, x, dw, stride, o, 3, 4, vectors);
        break;
    }
}

/* Blocks [b, stop) of `channels` channels, packed one after the other, by all outputs. dw: at
 * output 0 and channel 0. Outputs outside: their dy is read from L1 by the second block on, and
 * lines of dw are finished soon where rows of dw are a power of two apart. */
static void blocks_do(const ar_wgrad *call, const chunk *part, const float *x, float *dw,
                      int32_t channels, int32_t b, int32_t stop) {
    const int64_t stride = (int64_t)call->taps * call->channels;
    const int32_t all = call->end - call->begin, count = ar_block_count(all, OUTPUTS);
    for (int32_t i = 0; i < count; i++) {
        int32_t o = call->begin + ar_block_first(all, OUTPUTS, i);
        int32_t outputs = call->begin + ar_block_first(all, OUTPUTS, i + 1) - o;
        const float *from = x;
        int32_t c = ar_block_first(channels, CHANNELS, b);
        for (int32_t j = b; j < stop; j++) {
            int32_t next = ar_block_first(channels, CHANNELS, j + 1), width = next - c;
            if (call->lanes == 16)
                block_any(part, from, dw + o * stride + c, stride, o, outputs, width, 2);
            else
                block_any(part, from, dw + o * stride + c, stride, o, outputs, width, 1);
            from += part->n * width * call->lanes;
            c = next;
        }
    }
}

/* The end of the blocks from b on that fit the packed buffer for n pairs. */
static int32_t blocks_fit(int32_t n, int32_t b, int32_t count) {
    int32_t fit = PACKED / ((n > 0 ? n : 1) * CHANNELS * AR_MAX_LANES);
    return count - b < fit ? count : b + fit;
}

/* The rows to prefetch at the end are the first: of the next block of outputs, nearly. */
static void wrap(chunk *part) {
    for (int32_t i = 0; i < AHEAD; i++)
        part->dy[part->n + i] = part->n > 0 ? part->dy[i % part->n] : NULL;
}

INLINE void copy(float *to, const float *from, int32_t floats) {
    for (int32_t i = 0; i < floats; i += 8)
        _mm256_store_ps(to + i, _mm256_loadu_ps(from + i));
}

/* ---- bias ---- */

/* dy of outputs o .. o + outputs - 1, summed over the pixels [p, end) of the tiles [tile, last). */
INLINE void bias(const ar_wgrad *call, int32_t tile, int32_t last, int32_t p, int32_t end,
                 int32_t o, const int32_t outputs, const int32_t vectors) {
    const __m256 zero = _mm256_setzero_ps();
    const bool first = tile == 0 && p == 0;
    const ptrdiff_t step = (ptrdiff_t)call->outputs * vectors * 8;
    __m256 a[8];
    UNROLL
    for (int32_t j = 0; j < outputs; j++)
        a[j] = zero;
    for (; tile < last; tile++) {
        const float *dy = call->dy[tile] + p * step + (ptrdiff_t)o * vectors * 8;
        for (int32_t i = p; i < end; i++, dy += step)
            UNROLL
        for (int32_t v = 0; v < vectors; v++)
            UNROLL
        for (int32_t j = 0; j < outputs; j++)
            a[j] = _mm256_add_ps(a[j], _mm256_loadu_ps(dy + (j * vectors + v) * 8));
    }
    UNROLL
    for (int32_t j = 0; j < outputs; j++) {
        float sum = _mm_cvtss_f32(sum4(a[j], zero, zero, zero));
        call->db[o + j] = first ? sum : call->db[o + j] + sum;
    }
}

/* Done with each chunk, while its dy is in the cache. */
static void bias_do(const ar_wgrad *call, int32_t tile, int32_t last, int32_t p, int32_t end) {
    if (call->db == NULL) return;
    int32_t o = call->begin;
    if (call->lanes == 16) {
        for (; o + 8 <= call->end; o += 8)
            bias(call, tile, last, p, end, o, 8, 2);
        for (; o < call->end; o++)
            bias(call, tile, last, p, end, o, 1, 2);
    } else {
        for (; o + 8 <= call->end; o += 8)
            bias(call, tile, last, p, end, o, 8, 1);
        for (; o < call->end; o++)
            bias(call, tile, last, p, end, o, 1, 1);
    }
}

/* ---- any layer ---- */

/* Piece `piece` of `pieces` of a tap's pairs, in the tiles [tile, last). */
static void tap_do(const ar_wgrad *call, int32_t tap, int32_t tile, int32_t last, int32_t piece,
                   int32_t pieces) {
    _Alignas(64) float buffer[PACKED];
    const float *x[CHUNK];
    const int32_t lanes = call->lanes, m = call->first[tap + 1] - call->first[tap];
    const int32_t begin = call->first[tap] + (int32_t)((int64_t)m * piece / pieces);
    const int32_t end = call->first[tap] + (int32_t)((int64_t)m * (piece + 1) / pieces);
    chunk part;

    part.n = 0;
    part.first = tile == 0 && piece == 0;
    for (; tile < last; tile++)
        for (int32_t i = begin; i < end; i++, part.n++) {
            ptrdiff_t y = (ptrdiff_t)call->pairs[i].y * call->outputs;
            x[part.n] = call->x[tile] + (ptrdiff_t)(call->pairs[i].x + call->x_first) * lanes;
            part.dy[part.n] = call->dy[tile] + y * lanes;
        }
    if (part.n == 0 && !part.first) return;
    wrap(&part);
    float *dw = call->dw + (int64_t)tap * call->channels;
    int32_t count = ar_block_count(call->channels, CHANNELS);
    for (int32_t b = 0, stop; b < count; b = stop) {
        stop = blocks_fit(part.n, b, count);
        float *to = buffer;
        for (int32_t j = b; j < stop; j++) {
            int32_t c = ar_block_first(call->channels, CHANNELS, j);
            int32_t floats = (ar_block_first(call->channels, CHANNELS, j + 1) - c) * lanes;
            for (int32_t n = 0; n < part.n; n++, to += floats)
                copy(to, x[n] + (ptrdiff_t)c * lanes, floats);
        }
        blocks_do(call, &part, buffer, dw, call->channels, b, stop);
    }
}

static void any_do(const ar_wgrad *call) {
    int32_t most = 1; /* pairs of a tap */
    for (int32_t t = 0; t < call->taps; t++)
        if (call->first[t + 1] - call->first[t] > most) most = call->first[t + 1] - call->first[t];
    int32_t pieces = ar_block_count(most, CHUNK), tiles = CHUNK / most;
    if (tiles < 1) tiles = 1;
    for (int32_t tile = 0; tile == 0 || tile < call->tiles; tile += tiles) {
        int32_t last = call->tiles - tile < tiles ? call->tiles : tile + tiles;
        for (int32_t piece = 0; piece < pieces; piece++) {
            for (int32_t tap = 0; tap < call->taps; tap++)
                tap_do(call, tap, tile, last, piece, pieces);
            bias_do(call, tile, last, (int32_t)((int64_t)call->pixels * piece / pieces),
                    (int32_t)((int64_t)call->pixels * (piece + 1) / pieces));
        }
    }
}

/* ---- layers with few channels ---- */

/* One block of channels would leave registers empty and read dy once per tap: take a pixel's taps
 * times channels as its channels, which is dw's order too, with zeros where a tap has no pair. */
static bool is_thin(const ar_wgrad *call) {
    if (call->channels >= CHANNELS || call->taps > THIN / call->channels) return false;
    for (int32_t t = 0; t < call->taps; t++)
        for (int32_t i = call->first[t] + 1; i < call->first[t + 1]; i++)
            if (call->pairs[i].y <= call->pairs[i - 1].y) return false;
    return true;
}

/* x of the taps * channels [c, c + width) of the pixels [p, p + n); from: each tap's first pair
 * at or after p. */
static void thin_pack(const ar_wgrad *call, int32_t tile, int32_t p, int32_t n, const int32_t *from,
                      int32_t c, int32_t width, float *buffer) {
    const int32_t lanes = call->lanes;
    memset(buffer, 0, sizeof *buffer * (size_t)(n * width * lanes));
    for (int32_t j = 0; j < width; j++) {
        int32_t tap = (c + j) / call->channels, channel = (c + j) % call->channels;
        for (int32_t i = from[tap]; i < call->first[tap + 1]; i++) {
            int32_t at = call->pairs[i].y - p;
            if (at >= n) break;
            copy(buffer + (at * width + j) * lanes,
                 call->x[tile] + ((ptrdiff_t)call->pairs[i].x + call->x_first + channel) * lanes,
                 lanes);
        }
    }
}

static void thin_do(const ar_wgrad *call) {
    _Alignas(64) float buffer[PACKED];
    int32_t from[THIN];
    const int32_t channels = call->taps * call->channels;
    const int32_t count = ar_block_count(channels, CHANNELS);
    const int32_t chunks = ar_block_count(call->pixels, CHUNK_THIN);
    chunk part;

    for (int32_t tile = 0; tile < call->tiles; tile++) {
        memcpy(from, call->first, sizeof *from * (size_t)call->taps);
        for (int32_t k = 0; k < chunks; k++) {
            int32_t p = ar_block_first(call->pixels, CHUNK_THIN, k);
            part.n = ar_block_first(call->pixels, CHUNK_THIN, k + 1) - p;
            part.first = tile == 0 && k == 0;
            for (int32_t i = 0; i < part.n; i++)
                part.dy[i] = call->dy[tile] + (ptrdiff_t)(p + i) * call->outputs * call->lanes;
            wrap(&part);
            for (int32_t t = 0; t < call->taps; t++)
                while (from[t] < call->first[t + 1] && call->pairs[from[t]].y < p)
                    from[t]++;
            for (int32_t b = 0, stop; b < count; b = stop) {
                stop = blocks_fit(part.n, b, count);
                float *to = buffer;
                for (int32_t j = b; j < stop; j++) {
                    int32_t c = ar_block_first(channels, CHANNELS, j);
                    int32_t width = ar_block_first(channels, CHANNELS, j + 1) - c;
                    thin_pack(call, tile, p, part.n, from, c, width, to);
                    to += part.n * width * call->lanes;
                }
                blocks_do(call, &part, buffer, call->dw, channels, b, stop);
            }
            bias_do(call, tile, tile + 1, p, p + part.n);
        }
    }
}

void ar_wgrad_lanes_f32_avx2(const ar_wgrad *call) {
    if (call->tiles > 0 && call->pixels > 0 && is_thin(call))
        thin_do(call);
    else
        any_do(call);
}
