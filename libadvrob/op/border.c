/* Border bias: classes of pixels, the table of sums that kernels read, sums by class. */
#include "border.h"

#include "window.h"

/* The class of each of `out` positions of an axis (NULL: not wanted); returns how many there are.
 */
static int32_t axis_classes(const ar_attributes *a, int32_t axis, int32_t in, int32_t out,
                            int32_t *of) {
    int32_t count = 0, begin = 0, end = 0;
    for (int32_t o = 0; o < out; o++) {
        int32_t from, to;
        ar_window_range(a, axis, o, in, &from, &to);
        if (o == 0 || from != begin || to != end) count++;
        begin = from;
        end = to;
        if (of != NULL) of[o] = count - 1;
    }
    return count;
}

void ar_border_count(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                     int32_t count[2]) {
    count[0] = axis_classes(a, 0, in->h, out->h, NULL);
    count[1] = axis_classes(a, 1, in->w, out->w, NULL);
}

int32_t ar_border_prepare(const ar_op_setup *setup, ar_border *border) {
    int32_t status = ADVROB_OK;
    const ar_shape *out = &setup->out;
    void *block;
    size_t extent = (size_t)out->h + (size_t)out->w, pixels = (size_t)ar_shape_pixels(*out);
    AR_TRY(ar_arena_alloc(setup->arena, extent, sizeof(int32_t), "border bias", &block));
    int32_t *rows = block, *columns = rows + out->h;
    AR_TRY(ar_arena_alloc(setup->arena, pixels, sizeof(int32_t), "border bias", &block));
    border->of = block;
    int32_t count = axis_classes(setup->attributes, 0, setup->in[0].h, out->h, rows);
    int32_t across = axis_classes(setup->attributes, 1, setup->in[0].w, out->w, columns);
    border->classes = count * across;
    for (int32_t y = 0; y < out->h; y++)
        for (int32_t x = 0; x < out->w; x++)
            border->of[y * out->w + x] = rows[y] * across + columns[x];
out:
    return status;
}

int32_t ar_border_classes(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                          int32_t *of) {
    int32_t count[2];
    ar_border_count(a, in, out, count);
    if (of == NULL) return count[0] * count[1];
    /* The first row holds the columns' classes until the rows', last to first, are known. */
    axis_classes(a, 1, in->w, out->w, of);
    int32_t row = count[0] - 1, from, to, below[2] = {0, 0};
    for (int32_t y = out->h - 1; y >= 0; y--) {
        ar_window_range(a, 0, y, in->h, &from, &to);
        if (y < out->h - 1 && (from != below[0] || to != below[1])) row--;
        below[0] = from;
        below[1] = to;
        for (int32_t x = 0; x < out->w; x++)
            of[y * out->w + x] = row * count[1] + of[x];
    }
    return count[0] * count[1];
}

void ar_border_pack(const ar_border *border, int32_t outputs, const ar_real *bias,
                    const ar_real *border_bias, ar_real *table) {
    for (int32_t k = 0; k < border->classes; k++)
        for (int32_t o = 0; o < outputs; o++)
            *table++ = (bias == NULL ? 0 : bias[o]) + border_bias[(int64_t)o * border->classes + k];
}

/* In the order (tile, pixel), the lanes of each added up in double. */
void ar_border_gradient(const ar_border *border, const ar_op_gradient *call) {
    int32_t pixels = ar_shape_pixels(call->out);
    for (int32_t o = call->begin; o < call->end; o++) {
        ar_real *sums = call->dborder + (int64_t)o * border->classes;
        for (int32_t k = 0; k < border->classes; k++)
            sums[k] = 0;
        for (int32_t t = 0; t < call->tiles; t++)
            for (int32_t p = 0; p < pixels; p++) {
                const ar_real *dy = call->dy[t] + ((int64_t)p * call->out.c + o) * call->lanes;
                double sum = 0;
                for (int32_t l = 0; l < call->lanes; l++)
                    sum += (double)dy[l];
                sums[border->of[p]] += (ar_real)sum;
            }
    }
}

/* The first position of a class on an axis. */
static int32_t class_start(const ar_attributes *a, int32_t axis, int32_t in, int32_t out,
                           int32_t class) {
    int32_t o = 0;
    while (axis_classes(a, axis, in, o + 1, NULL) <= class && o + 1 < out)
        o++;
    return o;
}

/* Of the sums by tap, those of taps that fall on padding in a class. */
static double missing(const ar_attributes *a, const ar_shape *in, const ar_shape *out,
                      const ar_real *taps, int32_t row, int32_t column) {
    int32_t y0, y1, x0, x1;
    double sum = 0;
    ar_window_range(a, 0, class_start(a, 0, in->h, out->h, row), in->h, &y0, &y1);
    ar_window_range(a, 1, class_start(a, 1, in->w, out->w, column), in->w, &x0, &x1);
    for (int32_t ky = 0; ky < a->kernel[0]; ky++)
        for (int32_t kx = 0; kx < a->kernel[1]; kx++)
            if (ky < y0 || ky >= y1 || kx < x0 || kx >= x1)
                sum += (double)taps[ky * a->kernel[1] + kx];
    return sum;
}

void ar_border_absorb(const ar_attributes *a, const ar_shape *in, const ar_real *weight,
                      const double *constant, double *bias, double *border) {
    int32_t per = in->c / a->groups, outputs = a->outputs / a->groups;
    int32_t taps = a->kernel[0] * a->kernel[1], count[2];
    ar_shape out = {a->outputs};
    (void)ar_window_infer("conv2d", a, in, &out); /* which has passed before */
    ar_border_count(a, in, &out, count);
    for (int32_t o = 0; o < a->outputs; o++)
        for (int32_t c = 0; c < per; c++) {
            double value = constant[o / outputs * per + c];
            const ar_real *w = weight + ((int64_t)o * per + c) * taps;
            if (value == 0) continue;
            for (int32_t t = 0; t < taps; t++)
                bias[o] += value * (double)w[t];
            for (int32_t k = 0; border != NULL && k < count[0] * count[1]; k++)
                border[o * count[0] * count[1] + k] -=
                    value * missing(a, in, &out, w, k / count[1], k % count[1]);
        }
}
