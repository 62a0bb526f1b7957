/* Bodies of the elementwise slots, included by every level's file and compiled with its flags: no
 * sum is contracted (-ffp-contract=off), so all levels give the same bits. Loops are written for
 * the compiler's vectoriser: 8 floats, the byte of a mask, at a time. */
#ifndef AR_KERNEL_ELEMENTWISE_H
#define AR_KERNEL_ELEMENTWISE_H

#include "kernel/kernel.h"

#include <string.h>

/* Arrays of a loop are either the same or do not overlap at all. */
#if defined(__clang__)
#define AR_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define AR_IVDEP _Pragma("GCC ivdep")
#else
#define AR_IVDEP
#endif

/* From this magnitude on, every ar_real is an integer. */
#ifdef AR_REAL_IS_DOUBLE
#define AR_ALL_INTEGER 4503599627370496.0
#else
#define AR_ALL_INTEGER 8388608.0f
#endif

/* Ties to even, as rint, which without SSE4.1 is a call and keeps loops scalar. */
static inline ar_real ar_ew_rint(ar_real x) {
    ar_real a = x < 0 ? -x : x;
    ar_real r = (a + (ar_real)AR_ALL_INTEGER) - (ar_real)AR_ALL_INTEGER;
    r = x < 0 ? -r : r;
    return a < (ar_real)AR_ALL_INTEGER ? r : x;
}

/* Loops that make mask bits run over this many numbers: shorter ones would be unrolled instead of
 * vectorised. */
#define AR_EW_RUN 64

/* 8 flags, 0 or 1, to bits. */
static inline int32_t ar_ew_byte(const int32_t f[8]) {
    return ((f[0] | f[1] << 1) | (f[2] << 2 | f[3] << 3)) |
           ((f[4] << 4 | f[5] << 5) | (f[6] << 6 | f[7] << 7));
}

/* ---- activations ---- */

/* NaN passes, so that a broken net is noticed at its loss. */
static inline ar_real ar_ew_relu1(ar_real x) {
    return 0 > x ? 0 : x;
}

static inline void ar_ew_relu(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask) {
    if (mask == NULL) {
        AR_IVDEP
        for (int64_t i = 0; i < n; i++)
            y[i] = ar_ew_relu1(x[i]);
        return;
    }
    for (int64_t i = 0; i < n; i += AR_EW_RUN) {
        int32_t flags[AR_EW_RUN];
        int32_t run = n - i < AR_EW_RUN ? (int32_t)(n - i) : AR_EW_RUN;
        AR_IVDEP
        for (int32_t j = 0; j < run; j++) {
            ar_real v = x[i + j];
            flags[j] = v > 0;
            y[i + j] = ar_ew_relu1(v);
        }
        for (int32_t j = 0; j < run; j += 8)
            mask[(i + j) / 8] = (uint8_t)ar_ew_byte(flags + j);
    }
}

/* i is a multiple of 8 and at most 8 numbers follow. */
static inline void ar_ew_gate8(int64_t i, int32_t n, const ar_real *x, const uint8_t *mask,
                               ar_real *y, bool accumulate) {
    static const int32_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    int32_t bits = mask[i / 8];
    if (accumulate) {
        for (int32_t j = 0; j < n; j++)
            y[i + j] = y[i + j] + ((bits & bit[j]) ? x[i + j] : 0);
    } else {
        for (int32_t j = 0; j < n; j++)
            y[i + j] = (bits & bit[j]) ? x[i + j] : 0;
    }
}

static inline void ar_ew_gate(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y,
                              bool accumulate) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        ar_ew_gate8(i, 8, x, mask, y, accumulate);
    if (i < n) ar_ew_gate8(i, (int32_t)(n - i), x, mask, y, accumulate);
}

static inline void ar_ew_add(int64_t n, const ar_real *a, const ar_real *b, ar_real *y) {
    AR_IVDEP
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

/* ---- batch norm ---- */

static inline void ar_ew_norm(const ar_norm_call *call) {
    const int32_t lanes = call->lanes;
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t c = 0; c < call->channels; c++) {
            const int64_t at = ((int64_t)p * call->channels + c) * lanes;
            const ar_real mean = call->mean[c], scale = call->scale[c], shift = call->shift[c];
            const ar_real *x = call->x + at;
            ar_real *y = call->y + at;
            AR_IVDEP
            for (int32_t l = 0; l < lanes; l++)
                y[l] = (x[l] - mean) * scale + shift;
        }
    if (!call->relu) return;
    int64_t n = (int64_t)call->pixels * call->channels * lanes;
    ar_ew_relu(n, call->y, call->y, call->mask);
}

static inline void ar_ew_norm_backward(const ar_norm_call *call) {
    const int32_t lanes = call->lanes;
    const bool whole = call->dy_mean != NULL;
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t c = 0; c < call->channels; c++) {
            const int64_t at = ((int64_t)p * call->channels + c) * lanes;
            const ar_real scale = call->scale[c], mean = whole ? call->mean[c] : 0;
            const ar_real dy_mean = whole ? call->dy_mean[c] : 0;
            const ar_real slope = whole ? call->slope[c] : 0;
            const ar_real *dy = call->dy + at, *x = call->x + at;
            ar_real *dx = call->dx + at, out[AR_MAX_LANES];
            AR_IVDEP
            for (int32_t l = 0; l < lanes; l++)
                out[l] = whole ? (dy[l] - dy_mean - (x[l] - mean) * slope) * scale : dy[l] * scale;
            AR_IVDEP
            for (int32_t l = 0; l < lanes; l++)
                dx[l] = call->accumulate ? dx[l] + out[l] : out[l];
        }
}

static inline void ar_ew_channel_sums(int32_t lanes, int32_t channels, int32_t pixels,
                                      const ar_real *a, const ar_real *b, double *sums) {
    for (int32_t c = 0; c < channels; c++) {
        double first[AR_MAX_LANES] = {0}, second[AR_MAX_LANES] = {0};
        for (int32_t p = 0; p < pixels; p++) {
            const int64_t at = ((int64_t)p * channels + c) * lanes;
            for (int32_t l = 0; l < lanes; l++) {
                first[l] += (double)a[at + l];
                second[l] += (double)a[at + l] * (double)b[at + l];
            }
        }
        memcpy(sums + (int64_t)c * 2 * lanes, first, sizeof(double) * (size_t)lanes);
        memcpy(sums + ((int64_t)c * 2 + 1) * lanes, second, sizeof(double) * (size_t)lanes);
    }
}

/* ---- quantization ---- */

/* The numbers [i, i + n), n at most AR_EW_RUN, i a multiple of 8. A NaN stays one and counts as not
 * clamped. By value: y could alias the numbers behind a pointer. */
static inline void ar_ew_quantize_run(const ar_quant_call q, int64_t i, int32_t n) {
    int32_t kept[AR_EW_RUN + 8] = {0};
    AR_IVDEP
    for (int32_t j = 0; j < n; j++) {
        ar_real code = ar_ew_rint(q.x[i + j] / q.scale) + q.zero;
        int32_t lower = q.low > code, upper = q.high < code;
        kept[j] = 1 - (lower | upper);
        code = q.low > code ? q.low : code;
        code = q.high < code ? q.high : code;
        q.y[i + j] = (code - q.zero) * q.scale;
    }
    if (q.mask == NULL) return;
    for (int32_t j = 0; j < n; j += 8) {
        int32_t own = n - j < 8 ? (1 << (n - j)) - 1 : 255; /* bits of a last byte past n stay */
        int32_t old = q.fresh ? q.mask[(i + j) / 8] | own : q.mask[(i + j) / 8];
        q.mask[(i + j) / 8] = (uint8_t)(old & (ar_ew_byte(kept + j) | ~own));
    }
}

static inline void ar_ew_quantize(const ar_quant_call *call) {
    for (int64_t i = 0; i < call->n; i += AR_EW_RUN)
        ar_ew_quantize_run(*call, i, call->n - i < AR_EW_RUN ? (int32_t)(call->n - i) : AR_EW_RUN);
}

/* ---- attack step, optimizer ---- */

static inline void ar_ew_step(const ar_step_call *call) {
    float *x = call->x;
    const float *g = call->g, *lo = call->lo, *hi = call->hi;
    float up = call->step, down = -call->step;
    AR_IVDEP
    for (int64_t i = 0; i < call->n; i++) {
        float a = g[i] > 0 ? up : 0.0f;
        float b = g[i] < 0 ? down : 0.0f;
        float v = x[i] + (a + b);
        v = lo[i] > v ? lo[i] : v;
        x[i] = hi[i] < v ? hi[i] : v;
    }
}

/* ---- planes ---- */

enum { AR_EW_LANES = 8 };

static inline double ar_ew_plane_room(const ar_plane *p, const ar_plane_way *w, int64_t i) {
    double above = (double)p->high[i] - (double)w->x[i],
           below = (double)w->x[i] - (double)p->low[i];
    return w->side * (double)p->g[i] > 0 ? above : below;
}

static inline double ar_ew_slope(const ar_plane *p, int64_t i) {
    double g = p->g[i];
    return g < 0 ? -g : g;
}

/* |change_i| */
static inline double ar_ew_plane_length1(const ar_plane *p, const ar_plane_way *w, int64_t i) {
    double slope = ar_ew_slope(p, i), room = ar_ew_plane_room(p, w, i);
    double way = w->multiplier * (p->pace + p->pace_slope * slope);
    double length = way < room ? way : room;
    return slope > 0 ? length : 0;
}

/* Pixels [i, i + run), a lane each. */
static inline void ar_ew_plane_height_run(const ar_plane *p, const ar_plane_way *w, int64_t i,
                                          int32_t run, double *ends, double *rates) {
    for (int32_t l = 0; l < run; l++) {
        double slope = ar_ew_slope(p, i + l), room = ar_ew_plane_room(p, w, i + l);
        double step = p->pace + p->pace_slope * slope;
        bool full = w->multiplier * step >= room;
        ends[l] += full ? slope * room : 0;
        rates[l] += full ? 0 : slope * step;
    }
}

static inline void ar_ew_plane_sum(const double *lanes, double *sum) {
    for (int32_t l = 0; l < AR_EW_LANES; l++)
        *sum += lanes[l];
}

static inline void ar_ew_plane_height(const ar_plane *plane, const ar_plane_way *way, double *won,
                                      double *rate) {
    const ar_plane p = *plane;
    const ar_plane_way w = *way;
    double ends[AR_EW_LANES] = {0}, rates[AR_EW_LANES] = {0};
    int64_t i = 0;
    for (; i + AR_EW_LANES <= p.n; i += AR_EW_LANES)
        ar_ew_plane_height_run(&p, &w, i, AR_EW_LANES, ends, rates);
    ar_ew_plane_height_run(&p, &w, i, (int32_t)(p.n - i), ends, rates);
    ar_ew_plane_sum(ends, won);
    ar_ew_plane_sum(rates, rate);
}

static inline void ar_ew_plane_length_run(const ar_plane *p, const ar_plane_way *w, int64_t i,
                                          int32_t run, double *most, double *sums) {
    for (int32_t l = 0; l < run; l++) {
        double d = ar_ew_plane_length1(p, w, i + l);
        most[l] = d > most[l] ? d : most[l];
        sums[l] += d * d;
    }
}

static inline void ar_ew_plane_length(const ar_plane *plane, const ar_plane_way *way,
                                      double *largest, double *squares) {
    const ar_plane p = *plane;
    const ar_plane_way w = *way;
    double most[AR_EW_LANES] = {0}, sums[AR_EW_LANES] = {0};
    int64_t i = 0;
    for (; i + AR_EW_LANES <= p.n; i += AR_EW_LANES)
        ar_ew_plane_length_run(&p, &w, i, AR_EW_LANES, most, sums);
    ar_ew_plane_length_run(&p, &w, i, (int32_t)(p.n - i), most, sums);
    for (int32_t l = 0; l < AR_EW_LANES; l++) {
        *largest = most[l] > *largest ? most[l] : *largest;
        *squares += sums[l];
    }
}

static inline double ar_ew_plane_end(const ar_plane *p, const ar_plane_way *w, double past,
                                     int64_t i) {
    double length = past * ar_ew_plane_length1(p, w, i);
    return (double)w->x[i] + (w->side * (double)p->g[i] > 0 ? length : -length);
}

static inline void ar_ew_plane_step(const ar_plane *plane, const ar_plane_way *a,
                                    const ar_plane_way *b, double past, double share, float *x) {
    const ar_plane p = *plane;
    const ar_plane_way from = *a, to = *b;
    AR_IVDEP
    for (int64_t i = 0; i < p.n; i++) {
        float v = (float)((1 - share) * ar_ew_plane_end(&p, &from, past, i) +
                          share * ar_ew_plane_end(&p, &to, past, i));
        v = p.low[i] > v ? p.low[i] : v;
        x[i] = p.high[i] < v ? p.high[i] : v;
    }
}

static inline void ar_ew_sgd(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                             ar_real momentum, ar_real decay) {
    AR_IVDEP
    for (int64_t i = 0; i < n; i++) {
        ar_real step = momentum * v[i] + (g[i] + decay * w[i]);
        v[i] = step;
        w[i] = w[i] - rate * step;
    }
}

/* ---- pools: windows of rows of channels * lanes floats ---- */

/* The first of equals wins and NaN wins over all, as in PyTorch. An empty window gives 0. */
static inline void ar_ew_max_pool(const ar_pool_call *call) {
    const int64_t row = (int64_t)call->channels * call->lanes;
    const ar_span range = ar_span_of(call->range, call->pixels_out);
    for (int32_t p = range.begin; p < range.end; p++) {
        const int32_t *index = call->index + call->first[p];
        int32_t size = call->first[p + 1] - call->first[p];
        ar_real *y = call->y + p * row;
        uint8_t *choice = call->choice == NULL ? NULL : call->choice + p * row;
        for (int64_t i = 0; i < row; i += 8) {
            ar_real best[8] = {0};
            int32_t where[8] = {0};
            if (size > 0) memcpy(best, call->x + (index[0] - call->origin) * row + i, sizeof best);
            for (int32_t s = 1; s < size; s++) {
                const ar_real *x = call->x + (index[s] - call->origin) * row + i;
                for (int32_t j = 0; j < 8; j++) {
                    bool wins = !(x[j] <= best[j]) & (best[j] == best[j]);
                    best[j] = wins ? x[j] : best[j];
                    where[j] = wins ? s : where[j];
                }
            }
            memcpy(y + i, best, sizeof best);
            if (choice == NULL) continue;
            for (int32_t j = 0; j < 8; j++)
                choice[i + j] = (uint8_t)where[j];
        }
    }
}

static inline void ar_ew_pool_clear(const ar_pool_call *call) {
    if (call->accumulate) return;
    size_t floats = (size_t)call->pixels_in * (size_t)call->channels * (size_t)call->lanes;
    memset(call->dx, 0, floats * sizeof *call->dx);
}

static inline void ar_ew_max_pool_backward(const ar_pool_call *call) {
    const int64_t row = (int64_t)call->channels * call->lanes;
    ar_ew_pool_clear(call);
    for (int32_t p = 0; p < call->pixels_out; p++) {
        const int32_t *index = call->index + call->first[p];
        int32_t size = call->first[p + 1] - call->first[p];
        const ar_real *dy = call->dy + p * row;
        const uint8_t *choice = call->choice + p * row;
        for (int32_t s = 0; s < size; s++) {
            ar_real *dx = call->dx + index[s] * row;
            AR_IVDEP
            for (int64_t i = 0; i < row; i++) {
                int32_t where = choice[i];
                dx[i] += where == s ? dy[i] : 0;
            }
        }
    }
}

static inline void ar_ew_avg_pool(const ar_pool_call *call) {
    const int64_t row = (int64_t)call->channels * call->lanes;
    const ar_span range = ar_span_of(call->range, call->pixels_out);
    for (int32_t p = range.begin; p < range.end; p++) {
        const int32_t *index = call->index + call->first[p];
        int32_t size = call->first[p + 1] - call->first[p];
        ar_real *y = call->y + p * row;
        for (int64_t i = 0; i < row; i += 8) {
            ar_real sum[8] = {0};
            for (int32_t s = 0; s < size; s++) {
                const ar_real *x = call->x + (index[s] - call->origin) * row + i;
                for (int32_t j = 0; j < 8; j++)
                    sum[j] += x[j];
            }
            for (int32_t j = 0; j < 8; j++)
                y[i + j] = sum[j] * call->scale[p];
        }
    }
}

static inline void ar_ew_avg_pool_backward(const ar_pool_call *call) {
    const int64_t row = (int64_t)call->channels * call->lanes;
    ar_ew_pool_clear(call);
    for (int32_t p = 0; p < call->pixels_out; p++) {
        ar_real scale = call->scale[p];
        const ar_real *dy = call->dy + p * row;
        for (int32_t s = call->first[p]; s < call->first[p + 1]; s++) {
            ar_real *dx = call->dx + call->index[s] * row;
            AR_IVDEP
            for (int64_t i = 0; i < row; i++)
                dx[i] += dy[i] * scale;
        }
    }
}

/* ---- tiles in and out ---- */

static inline void ar_ew_load(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                              const float *x, const ar_real *scale, const ar_real *shift,
                              ar_real *tile) {
    const int64_t image = (int64_t)channels * pixels;
    for (int32_t c = 0; c < channels; c++) {
        ar_real factor = scale == NULL ? 1 : scale[c], add = shift == NULL ? 0 : shift[c];
        for (int32_t p = 0; p < pixels; p++) {
            ar_real *out = tile + ((int64_t)p * channels + c) * lanes;
            const float *in = x + (int64_t)c * pixels + p;
            for (int32_t l = 0; l < count; l++)
                out[l] = (ar_real)in[l * image] * factor + add;
            for (int32_t l = count; l < lanes; l++)
                out[l] = 0;
        }
    }
}

static inline void ar_ew_store(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                               const ar_real *tile, const ar_real *scale, float *x) {
    const int64_t image = (int64_t)channels * pixels;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t p = 0; p < pixels; p++) {
            const ar_real *in = tile + ((int64_t)p * channels + c) * lanes;
            float *out = x + (int64_t)c * pixels + p;
            ar_real factor = scale == NULL ? 1 : scale[c];
            for (int32_t l = 0; l < count; l++)
                out[l * image] = (float)(in[l] * factor);
        }
}

#endif
