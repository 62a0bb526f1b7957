/* The Winograd slot in AVX2 and FMA. A unit is 16 lanes of one tile of outputs, or 8 lanes of two
 * tiles: its products are blocks of up to 6 outputs by 2 vectors, as in the gemm.
 *
 *   for each group of units:
 *     V[unit][point][channel][16] = input's transform
 *     for each block of outputs:
 *       for each point: M[unit][point][output][16] = weights by V, a chain of FMAs over channels
 *       outputs' transform, straight to y
 *
 * A value depends on its tile and its lane alone: not on the group, or on what shares the unit. */
#include "kernel/x86/winograd_avx2.h"

#define BLOCK AR_GEMM_BLOCK_AVX2
#define STEP 8            /* channels between fetches */
#define MOST_UNITS 4      /* of a group: they share the weights of a point in L1 */
#define ROOM (512 * 1024) /* bytes of V, half of a common L2 */

typedef struct plan {
    int32_t out[2], count[2]; /* outputs and tiles an axis */
    int32_t points, units;    /* an axis; a group */
    int32_t shared;           /* tiles a unit */
    ptrdiff_t plane, unit;    /* floats of V: a point, a unit */
} plan;

static plan plan_make(const ar_winograd *call) {
    plan a = {.points = call->m + 2, .shared = AR_MAX_LANES / call->lanes};
    for (int32_t i = 0; i < 2; i++) {
        a.out[i] = ar_winograd_out(call, i);
        a.count[i] = ar_block_count(a.out[i], call->m);
    }
    /* An odd number of cache lines: planes a power of two apart would share a few sets of L1. */
    a.plane = (ptrdiff_t)(call->channels | 1) * AR_MAX_LANES;
    a.unit = a.plane * a.points * a.points;
    int64_t fit = ROOM / (int64_t)sizeof(float) / a.unit;
    int64_t all = ((int64_t)a.count[0] * a.count[1] + a.shared - 1) / a.shared;
    if (fit > MOST_UNITS) fit = MOST_UNITS;
    if (fit > all) fit = all;
    a.units = fit > 1 ? (int32_t)fit : 1;
    return a;
}

/* Tile i of an axis. The rest of a division by 4 makes a last tile of 2 or 3, or of 3 and 2 when it
 * is 1; F(2) overhangs. */
static void cut(int32_t m, int32_t out, int32_t count, int32_t i, winograd_tile *tile,
                int32_t axis) {
    int32_t at = i * m, size = m;
    if (m == 4 && out % 4 == 1 && count > 1 && i >= count - 2) {
        size = i == count - 2 ? 3 : 2;
        at = i == count - 2 ? at : at - 1;
    } else if (m == 4 && out - at < m) {
        size = out - at < 2 ? 2 : out - at;
    }
    tile->at[axis] = at;
    tile->points[axis] = size + 2;
    tile->valid[axis] = out - at < size ? out - at : size;
}

/* Adds `count` channels' products. */
INLINE void add(const int32_t width, int32_t count, const float *w, const float *v, __m256 *a) {
    UNROLL
    for (int32_t k = 0; k < count; k++, w += width, v += AR_MAX_LANES) {
        __m256 low = _mm256_loadu_ps(v), high = _mm256_loadu_ps(v + 8);
        UNROLL
        for (int32_t j = 0; j < width; j++) {
            __m256 weight = _mm256_broadcast_ss(w + j);
            a[2 * j] = _mm256_fmadd_ps(weight, low, a[2 * j]);
            a[2 * j + 1] = _mm256_fmadd_ps(weight, high, a[2 * j + 1]);
        }
    }
}

/* One point of a block and a unit. Wide layers' weights come from beyond L2 for every group: those
 * of the next point are fetched into it meanwhile. */
INLINE void product(const int32_t width, int32_t channels, const float *w, const float *v,
                    float *m) {
    const float *next = w + (ptrdiff_t)(channels)*width;
    __m256 a[2 * BLOCK];
    UNROLL
    for (int32_t i = 0; i < width * 2; i++)
        a[i] = _mm256_setzero_ps();
    for (; channels >= STEP; channels -= STEP, v += STEP * AR_MAX_LANES) {
        for (int32_t i = 0; i < width * STEP; i += 16)
            _mm_prefetch((const char *)(next + i), _MM_HINT_T1);
        add(width, STEP, w, v, a);
        w += STEP * width;
        next += STEP * width;
    }
    for (; channels > 0; channels--, w += width, v += AR_MAX_LANES)
        add(width, 1, w, v, a);
    UNROLL
    for (int32_t i = 0; i < width * 2; i++)
        _mm256_storeu_ps(m + i * 8, a[i]);
}

/* Points each unit of a group needs, an axis: the most of its tiles. */
typedef struct need {
    int32_t points[2];
} need;

/* One block of outputs at all points, for `units` units. */
INLINE void panel(const plan *a, const need *needs, int32_t units, const int32_t width,
                  int32_t channels, const float *w, const float *v, float *m) {
    const ptrdiff_t column = (ptrdiff_t)width * AR_MAX_LANES;
    for (int32_t i = 0; i < a->points; i++)
        for (int32_t j = 0; j < a->points; j++, w += (ptrdiff_t)channels * width) {
            int32_t point = i * a->points + j;
            for (int32_t u = 0; u < units; u++)
                if (i < needs[u].points[0] && j < needs[u].points[1])
                    product(width, channels, w, v + u * a->unit + point * a->plane,
                            m + (u * a->points * a->points + point) * column);
        }
}

static void panels(const plan *a, const need *needs, int32_t units, int32_t width, int32_t channels,
                   const float *w, const float *v, float *m) {
    switch (width) {
    case 1:
        panel(a, needs, units, 1, channels, w, v, m);
        break;
    case 2:
        panel(a, needs, units, 2, channels, w, v, m);
        break;
    case 3:
        panel(a, needs, units, 3, channels, w, v, m);
        break;
    case 4:
        panel(a, needs, units, 4, channels, w, v, m);
        break;
    case 5:
        panel(a, needs, units, 5, channels, w, v, m);
        break;
    default:
        panel(a, needs, units, 6, channels, w, v, m);
        break;
    }
}

/* n tiles whose points lie in V: their outputs. */
static void group(const ar_winograd *call, const plan *a, const winograd_tile *tiles, int32_t n) {
    const float *v = call->scratch;
    const int32_t units = (n + a->shared - 1) / a->shared;
    const ar_span blocks = ar_span_of(call->blocks, ar_block_count(call->outputs, BLOCK));
    float *m = call->scratch + a->units * a->unit;
    need needs[MOST_UNITS] = {{{0, 0}}};
    for (int32_t i = 0; i < n; i++)
        for (int32_t axis = 0; axis < 2; axis++) {
            int32_t *most = &needs[i / a->shared].points[axis];
            if (*most < tiles[i].points[axis]) *most = tiles[i].points[axis];
        }
    for (int32_t b = blocks.begin; b < blocks.end; b++) {
        int32_t o = ar_block_first(call->outputs, BLOCK, b);
        int32_t width = ar_block_first(call->outputs, BLOCK, b + 1) - o;
        const float *w = call->weights + (ptrdiff_t)a->points * a->points * call->channels * o;
        panels(a, needs, units, width, call->channels, w, v, m);
        for (int32_t i = 0; i < n; i++) {
            ptrdiff_t unit = i / a->shared * a->points * a->points * width * AR_MAX_LANES;
            ar_winograd_output_avx2(call, tiles + i, o, width, m + unit + i % a->shared * 8);
        }
    }
}

size_t ar_winograd_scratch_f32_avx2(const ar_winograd *call) {
    plan a = plan_make(call);
    ptrdiff_t products = (ptrdiff_t)a.points * a.points * BLOCK * AR_MAX_LANES;
    return (size_t)(a.units * (a.unit + products)) * sizeof(float);
}

void ar_winograd_f32_avx2(const ar_winograd *call) {
    const plan a = plan_make(call);
    const ar_span range = ar_span_of(call->tiles, ar_winograd_tiles(call));
    const int32_t most = a.units * a.shared;
    winograd_tile tiles[MOST_UNITS * 2];
    for (int32_t first = range.begin; first < range.end; first += most) {
        int32_t n = range.end - first < most ? range.end - first : most;
        for (int32_t i = 0; i < n; i++) {
            int32_t row = (first + i) / a.count[1], column = (first + i) % a.count[1];
            cut(call->m, a.out[0], a.count[0], row, tiles + i, 0);
            cut(call->m, a.out[1], a.count[1], column, tiles + i, 1);
            ar_winograd_input_avx2(
                call, tiles + i, call->scratch + i / a.shared * a.unit + i % a.shared * 8, a.plane);
        }
        group(call, &a, tiles, n);
    }
}
