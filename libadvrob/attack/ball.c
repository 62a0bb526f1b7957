/* The l-inf ball: bounds that hold exactly in float, and points drawn in it. */
#include <math.h>

#include "attack.h"

void ar_ball_bounds(int64_t n, const float *x, double epsilon, bool clip, double low, double high,
                    float *lo, float *hi) {
    for (int64_t i = 0; i < n; i++) {
        /* The rounded sum may lie one step outside; differences of floats are exact in double. */
        float down = (float)((double)x[i] - epsilon), up = (float)((double)x[i] + epsilon);
        while ((double)x[i] - (double)down > epsilon)
            down = nextafterf(down, INFINITY);
        while ((double)up - (double)x[i] > epsilon)
            up = nextafterf(up, -INFINITY);
        if (clip && down < low) down = (float)low;
        if (clip && up > high) up = (float)high;
        lo[i] = down;
        hi[i] = up;
    }
}

void ar_ball_random(ar_rng *rng, int64_t n, double epsilon, const float *lo, const float *hi,
                    float *x) {
    for (int64_t i = 0; i < n; i++) {
        float moved = (float)((double)x[i] + epsilon * (2 * (double)ar_rng_uniform(rng) - 1));
        x[i] = fminf(fmaxf(moved, lo[i]), hi[i]);
    }
}
