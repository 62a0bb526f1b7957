/* The l-inf ball: bounds that hold exactly in float, points drawn in it, steps within it. */
#include <math.h>

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

void ar_ball_bounds(const advrob_target *target, const float *x, double epsilon, bool clip,
                    float *lo, float *hi) {
    int64_t pixels = ar_shape_pixels(target->shape);
    for (int32_t c = 0; c < target->shape.c; c++) {
        int64_t first = c * pixels;
        bounds(pixels, x + first, epsilon * target->unit[c], lo + first, hi + first);
        for (int64_t i = first; i < first + pixels && clip; i++) {
            /* x itself stays in, also where it lies beside its bound by a rounding. */
            if (lo[i] < target->low[c]) lo[i] = fminf((float)target->low[c], x[i]);
            if (hi[i] > target->high[c]) hi[i] = fmaxf((float)target->high[c], x[i]);
        }
    }
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
