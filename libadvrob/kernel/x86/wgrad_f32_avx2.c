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
 * of images alone: the cut by outputs does not change a bit.
 *
 * Layers with few channels, and lists that do not fit the buffers, go to
 * ar_wgrad_lanes_f32_avx2. */
#include "kernel/x86/avx2.h"

#include <string.h>

#define WIDE 16    /* channels of a panel of x */
#define PANEL 32   /* outputs of a panel of dy */
#define RUN 144    /* pairs of a tap in a run of images, about */
#define CHUNK 64   /* output pixels, at most */
#define TAPS 64    /* at most */
#define PAIRS 1024 /* of a chunk, at most */
#define USED 192   /* input pixels of a chunk, at most */
#define SPAN 1024  /* from the first to the last of them, at most */
#define GAP 16     /* floats between images: apart by a power of two they share sets of L1 */
#define ROOM 61440 /* floats of both buffers, 240 KB */

/* Floats of an image in a chunk. */
#define IMAGE(used, pixels) ((used)*WIDE + GAP + (pixels)*PANEL + GAP)

/* A pair as offsets into the buffers. */
typedef struct step {
    uint16_t x, dy;
} step;

/* A chunk and its lists. */
typedef struct part {
    int32_t image, images; /* counted through the tiles */
    int32_t p, pixels;     /* of the output */
    int32_t used;          /* input pixels */
    int32_t x[USED];       /* their offsets in a tile, floats of one image */
    int32_t dy[CHUNK];     /* and those of the output pixels */
    int32_t first[TAPS + 1];
    step steps[PAIRS];
} part;

/* A run of images on its way through outputs and taps. */
typedef struct run {
    int32_t images;
    int32_t x_image, dy_image; /* floats from one image to the next */
    int64_t stride;            /* of dw's outputs */
    bool first;                /* dw is written instead of added to */
    __m256i last;              /* channels of the last vector that exist */
} run;

/* Some channels of some pixels of some tiles. */
typedef struct source {
    const ar_real *const *tiles;
    const int32_t *at;                         /* of the pixels, floats of one image */
    int32_t count, pixels, lanes, c, channels; /* count: of tiles */
} source;

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

#define ROWS_WIDE 6  /* most outputs of a block with two vectors of channels */
#define ROWS_SLIM 12 /* and with one */

/* Two vectors of channels, at most ROWS_WIDE outputs. */
static void block_wide(const run *r, const step *steps, int32_t n, const float *x, const float *dy,
                       float *dw, int32_t outputs) {
    switch (outputs) {
    case 1:
        block(r, steps, n, x, dy, dw, 1, 2);
        break;
    case 2:
        block(r, steps, n, x, dy, dw, 2, 2);
        break;
    case 3:
        block(r, steps, n, x, dy, dw, 3, 2);
        break;
    case 4:
        block(r, steps, n, x, dy, dw, 4, 2);
        break;
    case 5:
        block(r, steps, n, x, dy, dw, 5, 2);
        break;
    default:
        block(r, steps, n, x, dy, dw, 6, 2);
        break;
    }
}

/* One vector of channels, at most ROWS_SLIM outputs. */
static void block_slim(const run *r, const step *steps, int32_t n, const float *x, const float *dy,
                       float *dw, int32_t outputs) {
    switch (outputs) {
    case 1:
        block(r, steps, n, x, dy, dw, 1, 1);
        break;
    case 2:
        block(r, steps, n, x, dy, dw, 2, 1);
        break;
    case 3:
        block(r, steps, n, x, dy, dw, 3, 1);
        break;
    case 4:
        block(r, steps, n, x, dy, dw, 4, 1);
        break;
    case 5:
        block(r, steps, n, x, dy, dw, 5, 1);
        break;
    case 6:
        block(r, steps, n, x, dy, dw, 6, 1);
        break;
    case 7:
        block(r, steps, n, x, dy, dw, 7, 1);
        break;
    case 8:
        block(r, steps, n, x, dy, dw, 8, 1);
        break;
    case 9:
        block(r, steps, n, x, dy, dw, 9, 1);
        break;
    case 10:
        block(r, steps, n, x, dy, dw, 10, 1);
        break;
    case 11:
        block(r, steps, n, x, dy, dw, 11, 1);
        break;
    default:
        block(r, steps, n, x, dy, dw, 12, 1);
        break;
    }
}

/* All taps and the `outputs` of a panel for a run and the panel of x of `width` channels. */
static void run_do(const run *r, const part *list, int32_t taps, int32_t channels, int32_t outputs,
                   int32_t width, const float *x, const float *dy, float *dw) {
    const int32_t most = width > 8 ? ROWS_WIDE : ROWS_SLIM, blocks = ar_block_count(outputs, most);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t o = ar_block_first(outputs, most, b);
        int32_t count = ar_block_first(outputs, most, b + 1) - o;
        for (int32_t t = 0; t < taps; t++) {
            int32_t n = list->first[t + 1] - list->first[t];
            const step *steps = list->steps + list->first[t];
            float *to = dw + o * r->stride + (int64_t)t * channels;
            if (n == 0 && !r->first) continue;
            if (width > 8)
                block_wide(r, steps, n, x, dy + o, to, count);
            else
                block_slim(r, steps, n, x, dy + o, to, count);
        }
    }
}

/* ---- transposing ---- */

/* 8 vectors at from, from + stride ..., those from `count` on zero; transposed to to, to + gap ...
 */
INLINE void transpose(const float *from, const int32_t stride, const int32_t count, float *to,
                      int32_t gap) {
    __m256 a[8], b[8];
    UNROLL
    for (int32_t i = 0; i < 8; i++) { /* halves of rows i % 4 and i % 4 + 4 */
        const float *low = from + i % 4 * stride + i / 4 * 4, *high = low + 4 * stride;
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

/* `count` channels of one pixel to its images, `gap` apart; zeros up to a multiple of 8. */
INLINE void spread(const float *from, int32_t count, float *to, int32_t gap, const int32_t lanes) {
    for (; count >= 8; count -= 8, from += 8 * lanes, to += 8)
        for (int32_t l = 0; l < lanes; l += 8)
            transpose(from + l, lanes, 8, to + l * gap, gap);
    if (count > 0)
        for (int32_t l = 0; l < lanes; l += 8)
            transpose(from + l, lanes, count, to + l * gap, gap);
}

/* To rows of `row` floats, images `gap` apart. */
static void spread_all(const source *s, float *to, int32_t row, int32_t gap) {
    for (int32_t t = 0; t < s->count; t++, to += s->lanes * gap)
        for (int32_t i = 0; i < s->pixels; i++) {
            const float *from = s->tiles[t] + (int64_t)(s->at[i] + s->c) * s->lanes;
            if (s->lanes == 16)
                spread(from, s->channels, to + i * row, gap, 16);
            else
                spread(from, s->channels, to + i * row, gap, 8);
        }
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
    for (int32_t i = 0; i < pixels; i++)
        list->dy[i] = (p + i) * call->outputs;
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
    if (n > PAIRS || span > SPAN) return false;
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
            list->x[list->used] = low + i * call->channels + call->x_first;
            place[i] = (int16_t)(list->used++ * WIDE);
        }
    for (int32_t i = 0; i < n; i++)
        list->steps[i].x = (uint16_t)place[list->steps[i].x];
    return true;
}

/* Pixels of a row of the output as far as it matters: whole rows share most input pixels. */
static int32_t row_length(const ar_wgrad *call) {
    const ar_pair *pair = call->pairs;
    for (int32_t i = 1; i + 1 < call->first[1]; i++)
        if (pair[i + 1].x - pair[i].x != pair[1].x - pair[0].x || pair[i + 1].y != pair[i].y + 1)
            return pair[i + 1].y - pair[0].y;
    return call->pixels;
}

/* Output pixels of a chunk; 0 if no cut fits the buffers. *used: input pixels, at most. */
static int32_t chunk_size(const ar_wgrad *call, int32_t *used) {
    part list;
    int32_t from[TAPS], row = row_length(call);
    int32_t size = call->pixels < CHUNK ? call->pixels : CHUNK;
    if (size > row) size = size / row * row;
    for (; size > 0; size = size > row ? size - row : size / 2) {
        int32_t p = 0;
        *used = 1;
        memcpy(from, call->first, sizeof *from * (size_t)call->taps);
        for (; p < call->pixels; p += size) {
            int32_t n = call->pixels - p < size ? call->pixels - p : size;
            if (!part_make(call, p, n, PANEL, from, &list)) break;
            if (list.used > *used) *used = list.used;
        }
        if (p >= call->pixels && 16 * IMAGE(*used, size) <= ROOM) return size;
    }
    return 0;
}

/* Rows of dy added up, 4 vectors side by side. */
static void bias_do(float *db, int32_t outputs, bool first, const float *dy, int32_t gap,
                    int32_t row, int32_t images, int32_t pixels) {
    __m256 sum[PANEL / 8];
    float sums[PANEL];
    for (int32_t j = 0; j < PANEL / 8; j++)
        sum[j] = _mm256_setzero_ps();
    for (int32_t i = 0; i < images; i++)
        for (int32_t p = 0; p < pixels; p++)
            for (int32_t j = 0; j < row / 8; j++)
                sum[j] = _mm256_add_ps(sum[j], _mm256_load_ps(dy + i * gap + p * row + j * 8));
    memcpy(sums, sum, sizeof sums);
    for (int32_t o = 0; o < outputs; o++)
        db[o] = first ? sums[o] : db[o] + sums[o];
}

/* Outputs [o, o + outputs) of a chunk. */
static void part_do(const ar_wgrad *call, const part *list, int32_t o, int32_t outputs,
                    int32_t row) {
    _Alignas(64) float room[ROOM];
    const int32_t lanes = call->lanes, tile = list->image / lanes, tiles = list->images / lanes;
    const int32_t most = list->pixels < RUN ? RUN / list->pixels : 1; /* images of a run */
    const bool first = list->image == 0 && list->p == 0;
    run r = {.x_image = list->used * WIDE + GAP,
             .dy_image = list->pixels * row + GAP,
             .stride = (int64_t)call->taps * call->channels};
    float *dy = room, *x = room + list->images * r.dy_image;
    source from = {call->dy + tile, list->dy, tiles, list->pixels, lanes, o, outputs};

    spread_all(&from, dy, row, r.dy_image);
    if (call->db != NULL)
        bias_do(call->db + o, outputs, first, dy, r.dy_image, row, list->images, list->pixels);
    for (int32_t c = 0; c < call->channels; c += WIDE) {
        const int32_t width = call->channels - c < WIDE ? call->channels - c : WIDE;
        r.last = _mm256_cmpgt_epi32(_mm256_set1_epi32((width - 1) % 8 + 1),
                                    _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        from = (source){call->x + tile, list->x, tiles, list->used, lanes, c, width};
        spread_all(&from, x, WIDE, r.x_image);
        for (int32_t i = 0; i < list->images; i += most) {
            r.first = first && i == 0;
            r.images = list->images - i < most ? list->images - i : most;
            run_do(&r, list, call->taps, call->channels, outputs, width, x + i * r.x_image,
                   dy + i * r.dy_image, call->dw + o * r.stride + c);
        }
    }
}

static bool panels_do(const ar_wgrad *call) {
    part list;
    int32_t from[TAPS], used;
    const int32_t size = chunk_size(call, &used), all = call->tiles * call->lanes;
    if (size == 0) return false;
    const int32_t most = ROOM / IMAGE(used, size) / 16 * 16;

    for (int32_t o = call->begin; o < call->end; o += PANEL) {
        const int32_t outputs = call->end - o < PANEL ? call->end - o : PANEL;
        const int32_t row = (outputs + 7) / 8 * 8;
        for (list.image = 0; list.image < all; list.image += most) {
            list.images = all - list.image < most ? all - list.image : most;
            memcpy(from, call->first, sizeof *from * (size_t)call->taps);
            for (int32_t p = 0; p < call->pixels; p += size) {
                part_make(call, p, call->pixels - p < size ? call->pixels - p : size, row, from,
                          &list);
                part_do(call, &list, o, outputs, row);
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
    if ((call->channels + 7) / 8 * 8 * 4 > call->channels * 5 || call->taps > TAPS) return false;
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
