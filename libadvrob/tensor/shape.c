/* Shapes: extents of one image's value in a node; and the box that an image's pixels lie in. */
#include <math.h>

#include "tensor.h"

int64_t ar_shape_count(ar_shape shape) {
    return (int64_t)shape.c * shape.h * shape.w;
}

int32_t ar_shape_pixels(ar_shape shape) {
    return shape.h * shape.w;
}

bool ar_shape_equal(ar_shape a, ar_shape b) {
    return a.c == b.c && a.h == b.h && a.w == b.w;
}

int32_t ar_shape_check(const char *what, ar_shape shape) {
    bool fits = shape.c >= 1 && shape.h >= 1 && shape.w >= 1 && shape.c <= AR_MAX_DIM &&
                shape.h <= AR_MAX_DIM && shape.w <= AR_MAX_DIM;
    if (fits && (int64_t)shape.h * shape.w <= AR_MAX_VALUES)
        if (ar_shape_count(shape) <= AR_MAX_VALUES) return ADVROB_OK;
    return ar_error(ADVROB_E_SHAPE,
                    "%s: shape %d x %d x %d, expected extents of 1 to %d and at most %d values",
                    what, shape.c, shape.h, shape.w, AR_MAX_DIM, AR_MAX_VALUES);
}

int32_t ar_check_box(size_t channels, const double *low, const double *high, const double *unit) {
    for (size_t c = 0; c < channels; c++) {
        if (!(low[c] < high[c]) || !isfinite((float)low[c]) || !isfinite((float)high[c]))
            return ar_error(ADVROB_E_RANGE,
                            "box [%g, %g] of channel %zu, expected finite low < high", low[c],
                            high[c], c);
        if (!(unit[c] > 0) || !isfinite((float)unit[c]))
            return ar_error(ADVROB_E_RANGE, "unit %g of channel %zu, expected a positive number",
                            unit[c], c);
    }
    return ADVROB_OK;
}
