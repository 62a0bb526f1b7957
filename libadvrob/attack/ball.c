/* Balls: bounds and projections that hold exactly in float, points drawn in them, steps within
 * them, and lattices of pixel values. */
#include <math.h>
#include <string.h>

#include "attack.h"

static void bounds(int64_t n, const float *x, double epsilon, float *lo, float *hi) {
    for (int64_t i = 0; i < n; i++) {
        /* The rounded sum may lie one step outside; differences of floats are exact in double. */
        float down = (float)((double)x[i] - epsilon), up = (float)((double)x[i] + epsilon);
        while ((double)x[i] - (double)down > epsilon)
            down = nextafterf(down, INFINITY);
        while ((double)up - (double)x[i] > epsilon)
            up = nextafterf(up, -INFINITY);
        lo[i] = down;
        hi[i] = up;
    }
}

/* Cut with the target's box. x itself stays in, also where it lies beside its bound by a rounding.
 */
static void cut(const advrob_target *target, const float *x, float *lo, float *hi) {
    int64_t pixels = ar_shape_pixels(target->shape);
    for (int64_t i = 0; i < target->shape.c * pixels; i++) {
        int64_t c = i / pixels;
        if (lo[i] < target->low[c]) lo[i] = fminf((float)target->low[c], x[i]);
        if (hi[i] > target->high[c]) hi[i] = fmaxf((float)target->high[c], x[i]);
    }
}

void ar_ball_bounds(const advrob_target *target, const float *x, double epsilon, bool clip,
                    float *lo, float *hi) {
    int64_t pixels = ar_shape_pixels(target->shape);
    for (int32_t c = 0; c < target->shape.c; c++) {
        int64_t first = c * pixels;
        bounds(pixels, x + first, epsilon * target->unit[c], lo + first, hi + first);
    }
    if (clip) cut(target, x, lo, hi);
}

void ar_ball_box(const advrob_target *target, const float *x, bool clip, float *lo, float *hi) {
    int64_t size = ar_shape_count(target->shape);
    for (int64_t i = 0; i < size; i++) {
        lo[i] = -INFINITY;
        hi[i] = INFINITY;
    }
    if (clip) cut(target, x, lo, hi);
}

void ar_ball_random(const advrob_target *target, ar_rng *rng, double epsilon, const float *lo,
                    const float *hi, float *x) {
    int64_t pixels = ar_shape_pixels(target->shape);
    for (int64_t i = 0; i < target->shape.c * pixels; i++) {
        double radius = epsilon * target->unit[i / pixels];
        float moved = (float)((double)x[i] + radius * (2 * (double)ar_rng_uniform(rng) - 1));
        x[i] = fminf(fmaxf(moved, lo[i]), hi[i]);
    }
}

/* Channels of one unit from `c` on. */
static int32_t alike(const advrob_target *target, int32_t c) {
    int32_t end = c + 1;
    while (end < target->shape.c && target->unit[end] == target->unit[c])
        end++;
    return end - c;
}

void ar_ball_step(const advrob_target *target, int64_t n, double step, const float *g,
                  const float *lo, const float *hi, float *x) {
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    bool uniform = alike(target, 0) == target->shape.c;
    for (int64_t i = 0; i < (uniform ? 1 : n); i++)
        for (int32_t c = 0; c < target->shape.c;) {
            int32_t channels = alike(target, c);
            int64_t first = i * size + c * pixels;
            ar_step_call call = {.n = uniform ? n * size : channels * pixels,
                                 .x = x + first,
                                 .g = g + first,
                                 .lo = lo + first,
                                 .hi = hi + first,
                                 .step = (float)(step * target->unit[c])};
            target->ctx->kernels->step(&call);
            c += channels;
        }
}

void ar_ball_step_l2(const advrob_target *target, double step, const float *g, const float *lo,
                     const float *hi, float *x) {
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    double squares = 0;
    for (int64_t i = 0; i < size; i++) {
        double slope = (double)g[i] * target->unit[i / pixels]; /* of the loss, by the pixel */
        squares += slope * slope;
    }
    if (!(squares > 0)) return;
    double factor = step / sqrt(squares);
    for (int64_t i = 0; i < size; i++) {
        double unit = target->unit[i / pixels];
        float moved = (float)((double)x[i] + factor * (double)g[i] * unit * unit);
        x[i] = fminf(fmaxf(moved, lo[i]), hi[i]);
    }
}

void ar_ball_random_l2(const advrob_target *target, ar_rng *rng, double epsilon, const float *lo,
                       const float *hi, float *x) {
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    ar_rng again = *rng; /* the direction is drawn twice, so that it needs no room */
    double squares = 0;
    for (int64_t i = 0; i < size; i++) {
        double d = ar_rng_normal(rng);
        squares += d * d;
    }
    double radius = epsilon * pow((double)ar_rng_uniform(rng), 1 / (double)size);
    for (int64_t i = 0; i < size; i++) {
        double d = ar_rng_normal(&again) / sqrt(squares) * radius * target->unit[i / pixels];
        x[i] = fminf(fmaxf((float)((double)x[i] + d), lo[i]), hi[i]);
    }
}

double ar_ball_distance(const advrob_target *target, int32_t norm, const float *from,
                        const float *x) {
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    double most = 0, squares = 0;
    for (int64_t i = 0; i < size; i++) {
        double d = ((double)x[i] - (double)from[i]) / target->unit[i / pixels];
        most = fmax(most, fabs(d));
        squares += d * d;
    }
    return norm == AR_NORM_LINF ? most : sqrt(squares);
}

void ar_ball_project(const advrob_target *target, int32_t norm, double epsilon, const float *from,
                     const float *lo, const float *hi, float *x) {
    int64_t size = ar_shape_count(target->shape);
    for (int64_t i = 0; i < size; i++)
        x[i] = fminf(fmaxf(x[i], lo[i]), hi[i]);
    if (norm == AR_NORM_LINF) return; /* lo and hi are the ball */
    /* A rounding may leave it outside by a little: then once more, by a little more. */
    for (double margin = 1;; margin -= 1e-7) {
        double distance = ar_ball_distance(target, norm, from, x);
        if (distance <= epsilon) return;
        double factor = margin * epsilon / distance;
        if (!(factor > 0) || margin < 1 - 1e-5) {
            memcpy(x, from, sizeof(float) * (size_t)size);
            return;
        }
        for (int64_t i = 0; i < size; i++)
            x[i] = (float)((double)from[i] + factor * ((double)x[i] - (double)from[i]));
    }
}

void ar_ball_snap(const advrob_target *target, int32_t norm, const float *from, const float *lo,
                  const float *hi, float *x) {
    int64_t pixels = ar_shape_pixels(target->shape), size = ar_shape_count(target->shape);
    const double levels = target->lattice;
    if (levels == 0) return;
    for (int64_t i = 0; i < size; i++) {
        double low = target->low[i / pixels], range = target->high[i / pixels] - low;
        double at = ((double)x[i] - low) / range * levels;
        double home = rint(((double)from[i] - low) / range * levels), k = rint(at);
        if (norm != AR_NORM_LINF) k = k > home ? floor(at + 1e-4) : ceil(at - 1e-4);
        float value = from[i];
        for (;; k += k > home ? -1 : 1) {
            float there = (float)(low + k / levels * range);
            /* Where the image lies on the lattice but for a rounding, it is the lattice. */
            bool same = k == home && fabs((double)there - (double)from[i]) < 1e-6 * range;
            bool nearer = fabsf(there - from[i]) <= fabsf(x[i] - from[i]);
            if (!same && there >= lo[i] && there <= hi[i] && (nearer || norm == AR_NORM_LINF))
                value = there;
            if (value != from[i] || k == home) break;
        }
        x[i] = value;
    }
}
