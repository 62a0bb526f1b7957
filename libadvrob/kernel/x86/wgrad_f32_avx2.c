/* The wgrad slot in AVX2 and FMA: outer products of 6 outputs by 2 vectors of 8 channels in 12
 * accumulators; a step is one pixel of one image: 2 loads of x, 6 broadcasts of dy, 12 FMAs.
 *
 * Tiles have the image innermost, outer products want the channel there. So the work is cut in
 * chunks, some output pixels of some images: dy of up to PANEL outputs, and then x of WIDE channels
 * at a time, are transposed to [image][pixel][channel] on the stack, which costs a few percent as
 * taps and outputs use them many times. A few images of that stay in L1 for all outputs and taps.
 *
 * A gradient's value is fixed by its own chain: FMAs in the order (image, pair) over a run of
 * images in a chunk, runs added up in order. Chunks and runs depend on the lists and on the number
 * of images alone: neither the cut by outputs nor the lanes of a tile change a bit.
 *
 * Layers with few channels, and lists that do not fit the buffers, go to ar_wgrad_lanes. */
#include "kernel/x86/avx2.h"

#include <string.h>

#define WIDE 16     /* channels of a panel of x */
#define PANEL 32    /* outputs of a panel of dy */
#define PAIR 16     /* images of a chunk are a multiple: both vectors of a tile's lines */
#define RUN 144     /* pairs of a tap in a run of images, about */
#define CHUNK 48    /* output pixels */
#define LAST_TAP 64 /* taps, at most */
#define STEPS 1024  /* pairs of a chunk, at most */
#define USED 142    /* input pixels of a chunk, at most */
#define SPAN 1024   /* from the first to the last of them, at most */
#define GAP 16      /* floats between images: apart by a power of two they share sets of L1 */
#define X_FLOATS (PAIR * (USED * WIDE + GAP))    /* 143 KB */
#define DY_FLOATS (PAIR * (CHUNK * PANEL + GAP)) /* 97 KB */

/* A pair as offsets into the buffers. */
typedef struct step {
    uint16_t x, dy;
} step;

/* The lists of a chunk. */
typedef struct part {
    int32_t p, pixels; /* of the output */
    int32_t used;      /* input pixels */
    int32_t x[USED];   /* their offsets in a tile, floats of one image */
    int32_t first[LAST_TAP + 1];
    step steps[STEPS];
} part;

/* A run of images on its way through outputs and taps. */
typedef struct run {
    int32_t images;
    int32_t x_image, dy_image; /* floats from one image to the next */
    int64_t stride;            /* of dw's outputs */
    bool first;                /* dw is written instead of added to */
    __m256i last;              /* channels of the last vector that exist */
} run;

/* ---- outer products ---- */

INLINE void block(const run *r, const step *steps, int32_t n, const float *x, const float *dy,
                  float *dw, const int32_t outputs, const int32_t vectors) {
    __m256 a[12];
    UNROLL
    for (int32_t i = 0; i < outputs * vectors; i++)
        a[i] = _mm256_setzero_ps();
    for (int32_t image = 0; image < r->images; image++) {
        for (int32_t i = 0; i < n; i++) {
            const float *xs = x + steps[i].x, *ds = dy + steps[i].dy;
            __m256 v[2];
            UNROLL
            for (int32_t j = 0; j < vectors; j++)
                v[j] = _mm256_load_ps(xs + j * 8);
            UNROLL
            for (int32_t j = 0; j < outputs * vectors; j++)
                a[j] = _mm256_fmadd_ps(_mm256_broadcast_ss(ds + j / vectors), v[j % vectors], a[j]);
        }
        x += r->x_image;
        dy += r->dy_image;
    }
    UNROLL
    for (int32_t i = 0; i < outputs; i++) {
        float *to = dw + i * r->stride;
        __m256 *sum = a + i * vectors;
        if (vectors == 2) {
            if (!r->first) sum[0] = _mm256_add_ps(_mm256_loadu_ps(to), sum[0]);
            _mm256_storeu_ps(to, sum[0]);
            to += 8;
        }
        __m256 *end = sum + vectors - 1;
        if (!r->first) *end = _mm256_add_ps(_mm256_maskload_ps(to, r->last), *end);
        _mm256_maskstore_ps(to, r->last, *end);
    }
}

typedef void block_fn(const run *r, const step *steps, int32_t n, const float *x, const float *dy,
                      float *dw);

#define BLOCK(outputs, vectors) \
    static void block_##outputs##_##vectors(const run *r, const step *steps, int32_t n, \
                                            const float *x, const float *dy, float *dw) { \
        block(r, steps, n, x, dy, dw, outputs, vectors); \
    }
BLOCK(1, 2)
BLOCK(2, 2)
BLOCK(3, 2)
BLOCK(4, 2)
BLOCK(5, 2)
BLOCK(6, 2)
BLOCK(1, 1)
BLOCK(2, 1)
BLOCK(3, 1)
BLOCK(4, 1)
BLOCK(5, 1)
BLOCK(6, 1)
BLOCK(7, 1)
BLOCK(8, 1)
BLOCK(9, 1)
BLOCK(10, 1)
BLOCK(11, 1)
BLOCK(12, 1)

static block_fn *const wide[] = {block_1_2, block_2_2, block_3_2, block_4_2, block_5_2, block_6_2};
static block_fn *const slim[] = {block_1_1, block_2_1,  block_3_1,  block_4_1,
                                 block_5_1, block_6_1,  block_7_1,  block_8_1,
                                 block_9_1, block_10_1, block_11_1, block_12_1};

/* All taps and the `outputs` of a panel for a run and the panel of x of `width` channels. */
static void run_do(const run *r, const part *list, int32_t taps, int32_t channels, int32_t outputs,
                   int32_t width, const float *x, const float *dy, float *dw) {
    const int32_t most = width > 8 ? 6 : 12, blocks = ar_block_count(outputs, most);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t o = ar_block_first(outputs, most, b);
        int32_t count = ar_block_first(outputs, most, b + 1) - o;
        block_fn *fn = (width > 8 ? wide : slim)[count - 1];
        for (int32_t t = 0; t < taps; t++) {
            int32_t n = list->first[t + 1] - list->first[t];
            if (n > 0 || r->first)
                fn(r, list->steps + list->first[t], n, x, dy + o,
                   dw + o * r->stride + (int64_t)t * channels);
        }
    }
}

/* ---- transposing ---- */

/* 8 vectors at from, from + step ..., those from `count` on zero; transposed to to, to + gap ... */
INLINE void transpose(const float *from, const int32_t step, const int32_t count, float *to,
                      int32_t gap) {
    __m256 a[8], b[8];
    UNROLL
    for (int32_t i = 0; i < 8; i++) { /* halves of rows i % 4 and i % 4 + 4 */
        const float *low = from + i % 4 * step + i / 4 * 4, *high = low + 4 * step;
        __m128 l = i % 4 < count ? _mm_loadu_ps(low) : _mm_setzero_ps();
        __m128 h = i % 4 + 4 < count ? _mm_loadu_ps(high) : _mm_setzero_ps();
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(l), h, 1);
    }
    UNROLL
    for (int32_t i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    UNROLL
    for (int32_t i = 0; i < 8; i += 4) {
        _mm256_store_ps(to + i * gap, _mm256_shuffle_ps(b[i], b[i + 2], 0x44));
        _mm256_store_ps(to + (i + 1) * gap, _mm256_shuffle_ps(b[i], b[i + 2], 0xee));
        _mm256_store_ps(to + (i + 2) * gap, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44));
        _mm256_store_ps(to + (i + 3) * gap, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee));
    }
}

/* `count` channels of one pixel of a tile to its images, `gap` apart; zeros up to a multiple of 8.
 */
INLINE void spread(const float *from, int32_t count, float *to, int32_t gap, const int32_t lanes) {
    for (; count >= 8; count -= 8, from += 8 * lanes, to += 8)
        for (int32_t l = 0; l < lanes; l += 8)
            transpose(from + l, lanes, 8, to + l * gap, gap);
    if (count > 0)
        for (int32_t l = 0; l < lanes; l += 8)
            transpose(from + l, lanes, count, to + l * gap, gap);
}

static void spread_any(const float *from, int32_t count, float *to, int32_t gap, int32_t lanes) {
    if (lanes == 16)
        spread(from, count, to, gap, 16);
    else
        spread(from, count, to, gap, 8);
}

/* ---- chunks ---- */

/* The lists of the output pixels [p, p + pixels); from: each tap's first pair there, moved on.
 * `row` is the width of dy's rows. False if they do not fit. */
static bool part_make(const ar_wgrad *call, int32_t p, int32_t pixels, int32_t row, int32_t *from,
                      part *list) {
    int32_t low = INT32_MAX, high = 0, n = 0;
    int16_t place[SPAN];

    list->p = p;
    list->pixels = pixels;
    list->used = list->first[0] = 0;
    for (int32_t t = 0; t < call->taps; t++) {
        const ar_pair *pair = call->pairs + from[t], *end = call->pairs + call->first[t + 1];
        for (; pair < end && pair->y < p + pixels; pair++, n++) {
            if (pair->x < low) low = pair->x;
            if (pair->x > high) high = pair->x;
        }
        list->first[t + 1] = n;
    }
    if (n == 0) return true;
    const int32_t span = (high - low) / call->channels + 1;
    if (n > STEPS || span > SPAN) return false;
    const double scale = 1.0 / call->channels;
    memset(place, 0, sizeof *place * (size_t)span);
    for (int32_t t = 0; t < call->taps; t++)
        for (int32_t i = list->first[t]; i < list->first[t + 1]; i++) {
            ar_pair pair = call->pairs[from[t]++];
            int32_t at = (int32_t)((pair.x - low) * scale + 0.5);
            place[at] = 1;
            list->steps[i] = (step){(uint16_t)at, (uint16_t)((pair.y - p) * row)};
        }
    for (int32_t i = 0; i < span; i++)
        if (place[i] != 0) {
            if (list->used == USED) return false;
            list->x[list->used] = low + i * call->channels;
            place[i] = (int16_t)(list->used++ * WIDE);
        }
    for (int32_t i = 0; i < n; i++)
        list->steps[i].x = (uint16_t)place[list->steps[i].x];
    return true;
}

/* Output pixels of a chunk; 0 if no cut fits the buffers. *used: input pixels, at most. */
static int32_t chunk_size(const ar_wgrad *call, int32_t *used) {
    part list;
    int32_t from[LAST_TAP], size = call->pixels < CHUNK ? call->pixels : CHUNK;
    for (; size > 0; size /= 2) {
        int32_t chunks = ar_block_count(call->pixels, size), k = 0;
        *used = 1;
        memcpy(from, call->first, sizeof *from * (size_t)call->taps);
        for (; k < chunks; k++) {
            int32_t p = ar_block_first(call->pixels, size, k);
            int32_t next = ar_block_first(call->pixels, size, k + 1);
            if (!part_make(call, p, next - p, PANEL, from, &list)) break;
            if (list.used > *used) *used = list.used;
        }
        if (k == chunks) return size;
    }
    return 0;
}

static void bias_do(float *db, int32_t outputs, bool first, const float *dy, int32_t gap,
                    int32_t row, int32_t images, int32_t pixels) {
    for (int32_t o = 0; o < outputs; o += 8) {
        float sums[8];
        __m256 sum = _mm256_setzero_ps();
        for (int32_t i = 0; i < images; i++)
            for (int32_t p = 0; p < pixels; p++)
                sum = _mm256_add_ps(sum, _mm256_load_ps(dy + i * gap + p * row + o));
        _mm256_storeu_ps(sums, sum);
        for (int32_t j = 0; j < 8 && o + j < outputs; j++)
            db[o + j] = first ? sums[j] : db[o + j] + sums[j];
    }
}

/* Outputs [o, o + outputs) of a chunk: `images` from `image` on. */
static void part_do(const ar_wgrad *call, const part *list, int32_t o, int32_t outputs, int32_t row,
                    int32_t image, int32_t images) {
    _Alignas(64) float x[X_FLOATS], dy[DY_FLOATS];
    const int32_t lanes = call->lanes, tile = image / lanes, tiles = images / lanes;
    const int32_t pairs = list->pixels < RUN ? RUN / list->pixels : 1; /* images of a run */
    run r = {.x_image = list->used * WIDE + GAP,
             .dy_image = list->pixels * row + GAP,
             .stride = (int64_t)call->taps * call->channels};

    for (int32_t t = 0; t < tiles; t++)
        for (int32_t p = 0; p < list->pixels; p++)
            spread_any(call->dy[tile + t] + ((int64_t)(list->p + p) * call->outputs + o) * lanes,
                       outputs, dy + t * lanes * r.dy_image + p * row, r.dy_image, lanes);
    if (call->db != NULL)
        bias_do(call->db + o, outputs, image == 0 && list->p == 0, dy, r.dy_image, row, images,
                list->pixels);
    for (int32_t c = 0, width; c < call->channels; c += width) {
        width = call->channels - c < WIDE ? call->channels - c : WIDE;
        const int32_t rest = (width - 1) % 8 + 1;
        r.last =
            _mm256_cmpgt_epi32(_mm256_set1_epi32(rest), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        for (int32_t t = 0; t < tiles; t++)
            for (int32_t i = 0; i < list->used; i++)
                spread_any(call->x[tile + t] + (int64_t)(list->x[i] + c) * lanes, width,
                           x + t * lanes * r.x_image + i * WIDE, r.x_image, lanes);
        for (int32_t i = 0; i < images; i += pairs) {
            r.first = image == 0 && list->p == 0 && i == 0;
            r.images = images - i < pairs ? images - i : pairs;
            run_do(&r, list, call->taps, call->channels, outputs, width, x + i * r.x_image,
                   dy + i * r.dy_image, call->dw + o * r.stride + c);
        }
    }
}

static bool panels_do(const ar_wgrad *call) {
    part list;
    int32_t from[LAST_TAP], used;
    const int32_t size = chunk_size(call, &used);
    if (size == 0) return false;
    const int32_t all = call->tiles * call->lanes, chunks = ar_block_count(call->pixels, size);
    int32_t most = X_FLOATS / (used * WIDE + GAP), other = DY_FLOATS / (size * PANEL + GAP);
    most = (most < other ? most : other) / PAIR * PAIR;

    for (int32_t o = call->begin; o < call->end; o += PANEL) {
        int32_t outputs = call->end - o < PANEL ? call->end - o : PANEL;
        int32_t row = (outputs + 7) / 8 * 8;
        for (int32_t image = 0; image < all; image += most) {
            memcpy(from, call->first, sizeof *from * (size_t)call->taps);
            for (int32_t k = 0; k < chunks; k++) {
                int32_t p = ar_block_first(call->pixels, size, k);
                int32_t next = ar_block_first(call->pixels, size, k + 1);
                part_make(call, p, next - p, row, from, &list);
                part_do(call, &list, o, outputs, row, image,
                        all - image < most ? all - image : most);
            }
        }
    }
    return true;
}

/* A linear layer: one tap, whose channels are all inputs. */
static bool is_linear(const ar_wgrad *call) {
    if (call->pixels != 1 || call->first[call->taps] != call->taps) return false;
    for (int32_t t = 0; t < call->taps; t++)
        if (call->first[t] != t || call->pairs[t].x != t * call->channels) return false;
    return true;
}

/* Vectors are filled well, and the lists can be cut by output pixels. */
static bool is_wide(const ar_wgrad *call) {
    if ((call->channels + 7) / 8 * 8 * 4 > call->channels * 5 || call->taps > LAST_TAP)
        return false;
    for (int32_t t = 0; t < call->taps; t++)
        for (int32_t i = call->first[t] + 1; i < call->first[t + 1]; i++)
            if (call->pairs[i].y <= call->pairs[i - 1].y) return false;
    return true;
}

void ar_wgrad_f32_avx2(const ar_wgrad *call) {
    const int32_t first[2] = {0, 1};
    ar_wgrad linear = *call;
    if (call->taps > 0 && is_linear(call)) {
        linear.channels *= call->taps;
        linear.taps = 1;
        linear.first = first;
        call = &linear;
    }
    if (call->tiles < 1 || call->pixels < 1 || !is_wide(call) || !panels_do(call))
        ar_wgrad_lanes_f32_avx2(call);
}
