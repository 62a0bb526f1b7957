/* The depthwise slot of the weight gradient in AVX2 and FMA: sums of the 8 lanes are kept apart, a
 * few outputs side by side. An FMA needs two loads, so L1 is all that counts: some output pixels of
 * a few outputs, and the input that they meet, are copied side by side before all taps use them
 * (apart by a power of two they would share few sets of it).
 *
 * A gradient's value is fixed by its own chain: FMAs in the order (pair, vector) over the chunk of
 * a tile, chunks and then tiles in order. Chunks depend on the lists alone: the cut by outputs does
 * not change a bit. */
#include "kernel/x86/avx2.h"

#define OUTPUTS 4 /* at once */
#define CHUNK 32  /* output pixels, at most */
#define USED 320  /* from the first input pixel of a chunk to the last, at most */
#define TAPS 64   /* at most, of lists that are cut in chunks */

/* A pair as places in the copies. */
typedef struct step {
    uint16_t x, dy;
} step;

/* The output pixels [p, p + pixels) and their lists. */
typedef struct chunk {
    int32_t p, pixels;
    int32_t low, used; /* input pixels: the first one's offset, how many */
    int32_t first[TAPS + 1];
    step steps[TAPS * CHUNK];
} chunk;

/* Where a few outputs find x and dy: floats from pair to pair are x_pixel and dy_pixel. */
typedef struct source {
    const float *x, *dy;
    ptrdiff_t x_pixel, dy_pixel;
    ptrdiff_t channel[OUTPUTS]; /* of x, floats */
    bool first;                 /* dw is written instead of added to */
} source;

/* Sums of the 8 lanes, in the order of all levels. */
INLINE float sum8(__m256 a) {
    __m128 s = _mm256_castps256_ps128(a), t = _mm256_extractf128_ps(a, 1);
    s = _mm_add_ps(s, _mm_movehl_ps(s, s)); /* 0 + 2, 1 + 3 */
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return (_mm_cvtss_f32(s) + _mm_cvtss_f32(_mm_movehdup_ps(s))) +
           (_mm_cvtss_f32(t) + _mm_cvtss_f32(_mm_movehdup_ps(t)));
}

INLINE void add_pair(const source *from, ptrdiff_t x, ptrdiff_t dy, __m256 *a,
                     const int32_t outputs, const int32_t vectors) {
    const float *xs = from->x + x * from->x_pixel, *ds = from->dy + dy * from->dy_pixel;
    UNROLL
    for (int32_t u = 0; u < outputs * vectors; u++) {
        const int32_t j = u / vectors, v = u % vectors * 8;
        a[j] = _mm256_fmadd_ps(_mm256_loadu_ps(ds + j * vectors * 8 + v),
                               _mm256_loadu_ps(xs + from->channel[j] + v), a[j]);
    }
}

INLINE void finish(const source *from, const __m256 *a, float *to, ptrdiff_t stride,
                   const int32_t outputs) {
    UNROLL
    for (int32_t j = 0; j < outputs; j++)
        to[j * stride] = from->first ? sum8(a[j]) : to[j * stride] + sum8(a[j]);
}

INLINE void clear(__m256 *a, const int32_t outputs) {
    UNROLL
    for (int32_t j = 0; j < outputs; j++)
        a[j] = _mm256_setzero_ps();
}

INLINE void bias_do(const source *from, int32_t pixels, float *db, const int32_t outputs,
                    const int32_t vectors) {
    __m256 a[OUTPUTS];
    clear(a, outputs);
    for (int32_t p = 0; p < pixels; p++) {
        const float *dy = from->dy + p * from->dy_pixel;
        UNROLL
        for (int32_t u = 0; u < outputs * vectors; u++)
            a[u / vectors] = _mm256_add_ps(a[u / vectors], _mm256_loadu_ps(dy + u * 8));
    }
    finish(from, a, db, 1, outputs);
}

/* ---- lists of any kind ---- */

INLINE void outputs_do(const ar_wgrad *call, int32_t tile, int32_t o, const int32_t outputs,
                       const int32_t vectors) {
    const int32_t lanes = vectors * 8, multiple = call->outputs / call->channels;
    source from = {call->x[tile], call->dy[tile] + (ptrdiff_t)o * lanes, lanes,
                   (ptrdiff_t)call->outputs * lanes, .first = tile == 0};
    for (int32_t j = 0; j < outputs; j++)
        from.channel[j] = (ptrdiff_t)((o + j) / multiple) * lanes;
    for (int32_t t = 0; t < call->taps; t++) {
        __m256 a[OUTPUTS];
        clear(a, outputs);
        for (int32_t i = call->first[t]; i < call->first[t + 1]; i++)
            add_pair(&from, call->pairs[i].x, call->pairs[i].y, a, outputs, vectors);
        finish(&from, a, call->dw + (int64_t)o * call->taps + t, call->taps, outputs);
    }
    if (call->db != NULL) bias_do(&from, call->pixels, call->db + o, outputs, vectors);
}

INLINE void any_tile(const ar_wgrad *call, int32_t tile, const int32_t vectors) {
    int32_t o = call->begin;
    for (; o + OUTPUTS <= call->end; o += OUTPUTS)
        outputs_do(call, tile, o, OUTPUTS, vectors);
    for (; o < call->end; o++)
        outputs_do(call, tile, o, 1, vectors);
}

static void any_do(const ar_wgrad *call) {
    for (int32_t tile = 0; tile < call->tiles; tile++)
        if (call->lanes == 16)
            any_tile(call, tile, 2);
        else
            any_tile(call, tile, 1);
}

/* ---- chunks ---- */

/* The lists of some output pixels; from: each tap's first pair there, moved on. False if they do
 * not fit. */
static bool chunk_make(const ar_wgrad *call, int32_t p, int32_t pixels, int32_t *from,
                       chunk *list) {
    int32_t low = INT32_MAX, high = 0, n = 0;
    list->p = p;
    list->pixels = pixels;
    list->first[0] = list->used = list->low = 0;
    for (int32_t t = 0; t < call->taps; t++) {
        int32_t i = from[t];
        for (; i < call->first[t + 1] && call->pairs[i].y < p + pixels; i++, n++) {
            if (call->pairs[i].x < low) low = call->pairs[i].x;
            if (call->pairs[i].x > high) high = call->pairs[i].x;
        }
        list->first[t + 1] = n;
    }
    if (n == 0) return true;
    list->low = low;
    list->used = (high - low) / call->channels + 1;
    if (list->used > USED) return false;
    for (int32_t t = 0; t < call->taps; t++)
        for (int32_t i = list->first[t]; i < list->first[t + 1]; i++) {
            ar_pair pair = call->pairs[from[t]++];
            list->steps[i] =
                (step){(uint16_t)((pair.x - low) / call->channels), (uint16_t)(pair.y - p)};
        }
    return true;
}

/* Output pixels of a chunk; 0: the lists cannot be cut. */
static int32_t chunk_size(const ar_wgrad *call) {
    chunk list;
    int32_t from[TAPS];
    if (call->taps > TAPS) return 0;
    for (int32_t t = 0; t < call->taps; t++)
        for (int32_t i = call->first[t] + 1; i < call->first[t + 1]; i++)
            if (call->pairs[i].y <= call->pairs[i - 1].y) return 0;
    for (int32_t size = CHUNK; size > 0; size /= 2) {
        int32_t p = 0;
        for (int32_t t = 0; t < call->taps; t++)
            from[t] = call->first[t];
        for (; p < call->pixels; p += size)
            if (!chunk_make(call, p, call->pixels - p < size ? call->pixels - p : size, from,
                            &list))
                break;
        if (p >= call->pixels) return size;
    }
    return 0;
}

INLINE void copy(float *to, const float *from, const int32_t vectors) {
    UNROLL
    for (int32_t v = 0; v < vectors; v++)
        _mm256_store_ps(to + v * 8, _mm256_loadu_ps(from + v * 8));
}

/* A few outputs of a tile's chunk. */
INLINE void part_do(const ar_wgrad *call, const chunk *list, int32_t tile, int32_t o,
                    const int32_t outputs, const int32_t vectors) {
    _Alignas(64) float x[USED * OUTPUTS * AR_MAX_LANES], dy[CHUNK * OUTPUTS * AR_MAX_LANES];
    const int32_t lanes = vectors * 8, multiple = call->outputs / call->channels;
    source from = {x, dy, outputs * lanes, outputs * lanes, .first = tile == 0 && list->p == 0};
    for (int32_t j = 0; j < outputs; j++)
        from.channel[j] = (ptrdiff_t)j * lanes;
    for (int32_t i = 0; i < list->used; i++) {
        ptrdiff_t pixel = list->low + (ptrdiff_t)i * call->channels;
        for (int32_t j = 0; j < outputs; j++)
            copy(x + (i * outputs + j) * lanes,
                 call->x[tile] + (pixel + (o + j) / multiple) * lanes, vectors);
    }
    for (int32_t i = 0; i < list->pixels; i++) {
        ptrdiff_t pixel = (ptrdiff_t)(list->p + i) * call->outputs;
        for (int32_t j = 0; j < outputs; j++)
            copy(dy + (i * outputs + j) * lanes, call->dy[tile] + (pixel + o + j) * lanes, vectors);
    }
    for (int32_t t = 0; t < call->taps; t++) {
        __m256 a[OUTPUTS];
        clear(a, outputs);
        for (int32_t i = list->first[t]; i < list->first[t + 1]; i++)
            add_pair(&from, list->steps[i].x, list->steps[i].dy, a, outputs, vectors);
        finish(&from, a, call->dw + (int64_t)o * call->taps + t, call->taps, outputs);
    }
    if (call->db != NULL) bias_do(&from, list->pixels, call->db + o, outputs, vectors);
}

INLINE void tile_do(const ar_wgrad *call, const chunk *list, int32_t tile, const int32_t vectors) {
    int32_t o = call->begin;
    for (; o + OUTPUTS <= call->end; o += OUTPUTS)
        part_do(call, list, tile, o, OUTPUTS, vectors);
    for (; o < call->end; o++)
        part_do(call, list, tile, o, 1, vectors);
}

void ar_depthwise_wgrad_f32_avx2(const ar_wgrad *call) {
    chunk list;
    int32_t from[TAPS];
    const int32_t size = chunk_size(call);
    if (size == 0) {
        any_do(call);
        return;
    }
    for (int32_t tile = 0; tile < call->tiles; tile++) {
        for (int32_t t = 0; t < call->taps; t++)
            from[t] = call->first[t];
        for (int32_t p = 0; p < call->pixels; p += size) {
            (void)chunk_make(call, p, call->pixels - p < size ? call->pixels - p : size, from,
                             &list);
            if (call->lanes == 16)
                tile_do(call, &list, tile, 2);
            else
                tile_do(call, &list, tile, 1);
        }
    }
}
