/* Winograd convolution in plain C: the definition that vector levels are tested against. It takes
 * one image and one tile at a time and is not built for speed; this level never chooses it. */
#include "kernel/c/elementwise.h"
#include "kernel/levels.h"

#define MOST_POINTS 6

/* Rows of G, one a point: the polynomial of the weights there. Interpolation's denominators are in
 * G, so that B and A have small integers. */
static const double g2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
static const double g4[6][3] = {{1.0 / 4, 0, 0},
                                {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                {0, 0, 1}};
static const ar_real b2[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static const ar_real b4[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                 {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
static const ar_real a2[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
static const ar_real a4[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

void ar_winograd_pack_f32_c(const ar_winograd_pack *call) {
    const int32_t n = call->m + 2;
    const double(*g)[3] = call->m == 2 ? g2 : g4;
    int32_t block = AR_GEMM_BLOCK_C, blocks = ar_block_count(call->outputs, block);
    for (int32_t b = 0; b < blocks; b++) {
        int32_t first = ar_block_first(call->outputs, block, b);
        int32_t width = ar_block_first(call->outputs, block, b + 1) - first;
        ar_real *to = call->packed + (int64_t)n * n * call->channels * first;
        for (int32_t c = 0; c < call->channels; c++)
            for (int32_t j = 0; j < width; j++) {
                const ar_real *w =
                    call->weights + (first + j) * call->output_stride + c * call->channel_stride;
                for (int32_t i = 0; i < n * n; i++) {
                    double sum = 0;
                    for (int32_t t = 0; t < 9; t++)
                        sum +=
                            g[i / n][t / 3] * g[i % n][t % 3] * (double)w[call->turn ? 8 - t : t];
                    to[((int64_t)i * call->channels + c) * width + j] = (ar_real)sum;
                }
            }
    }
}

size_t ar_winograd_scratch_f32_c(const ar_winograd *call) {
    size_t n = (size_t)call->m + 2;
    return n * n * (size_t)call->channels * sizeof(ar_real);
}

/* The transformed input of one image and one tile, [(m + 2)^2][channels]. */
static void transform_input(const ar_winograd *call, int32_t top, int32_t left, int32_t lane) {
    const int32_t n = call->m + 2;
    for (int32_t c = 0; c < call->channels; c++) {
        ar_real d[MOST_POINTS][MOST_POINTS], e[MOST_POINTS][MOST_POINTS];
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < n; j++) {
                int32_t y = top + i, x = left + j;
                bool inside = y >= 0 && y < call->h && x >= 0 && x < call->w;
                int64_t at = (((int64_t)y * call->w + x) * call->channels + c) * call->lanes + lane;
                d[i][j] = inside ? call->x[at] : 0;
            }
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < n; j++) {
                e[i][j] = 0;
                for (int32_t k = 0; k < n; k++)
                    e[i][j] += (n == 4 ? b2[i][k] : b4[i][k]) * d[k][j];
            }
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < n; j++) {
                ar_real sum = 0;
                for (int32_t k = 0; k < n; k++)
                    sum += e[i][k] * (n == 4 ? b2[j][k] : b4[j][k]);
                call->scratch[((int64_t)i * n + j) * call->channels + c] = sum;
            }
    }
}

/* Output pixel (i, j) of the tile from the products at all points. */
static ar_real transform_output(int32_t n, const ar_real *products, int32_t i, int32_t j) {
    ar_real sum = 0;
    for (int32_t k = 0; k < n; k++) {
        ar_real row = 0;
        for (int32_t l = 0; l < n; l++)
            row += products[k * n + l] * (n == 4 ? a2[j][l] : a4[j][l]);
        sum += (n == 4 ? a2[i][k] : a4[i][k]) * row;
    }
    return sum;
}

/* Values of y that are left out. */
static int64_t above(const ar_winograd *call) {
    return (int64_t)call->top * ar_winograd_out(call, 1) * call->outputs * call->lanes;
}

static int64_t bias_row(const ar_winograd *call, int64_t pixel) {
    return call->bias_class == NULL ? 0 : (int64_t)call->bias_class[pixel] * call->outputs;
}

static void finish(const ar_winograd *call, int64_t at, int32_t o, ar_real value) {
    ar_real sum = call->residual != NULL ? call->residual[at] : 0;
    if (call->bias != NULL) sum += call->bias[bias_row(call, at / call->lanes / call->outputs) + o];
    sum += value;
    if (call->relu) {
        if (call->mask != NULL) {
            uint8_t bit = (uint8_t)(1 << (at & 7));
            call->mask[at / 8] = (uint8_t)((call->mask[at / 8] & ~bit) | (sum > 0 ? bit : 0));
        }
        sum = sum < 0 ? 0 : sum; /* NaN passes */
    }
    if (call->gate != NULL && (call->gate[at / 8] >> (at & 7) & 1) == 0) sum = 0;
    call->y[at - above(call)] = sum;
}

static void output_tile(const ar_winograd *call, int32_t top, int32_t left, int32_t lane,
                        int32_t o) {
    const int32_t n = call->m + 2, block = AR_GEMM_BLOCK_C;
    const int32_t out_h = ar_winograd_out(call, 0);
    const int32_t out_w = ar_winograd_out(call, 1);
    int32_t b = 0;
    while (ar_block_first(call->outputs, block, b + 1) <= o)
        b++;
    int32_t first = ar_block_first(call->outputs, block, b);
    int32_t width = ar_block_first(call->outputs, block, b + 1) - first;
    const ar_real *u = call->weights + (int64_t)n * n * call->channels * first + (o - first);
    ar_real products[MOST_POINTS * MOST_POINTS];
    for (int32_t i = 0; i < n * n; i++) {
        products[i] = 0;
        for (int32_t c = 0; c < call->channels; c++) {
            int64_t at = (int64_t)i * call->channels + c;
            products[i] += u[at * width] * call->scratch[at];
        }
    }
    for (int32_t i = 0; i < call->m && top + i < out_h; i++)
        for (int32_t j = 0; j < call->m && left + j < out_w; j++) {
            int64_t pixel = (int64_t)(top + i) * out_w + left + j;
            finish(call, (pixel * call->outputs + o) * call->lanes + lane, o,
                   transform_output(n, products, i, j));
        }
}

void ar_winograd_f32_c(const ar_winograd *call) {
    const int32_t columns = ar_block_count(ar_winograd_out(call, 1), call->m);
    const ar_span tiles = ar_span_of(call->tiles, ar_winograd_tiles(call));
    const ar_span blocks = ar_span_of(call->blocks, ar_block_count(call->outputs, AR_GEMM_BLOCK_C));
    const int32_t begin = ar_block_first(call->outputs, AR_GEMM_BLOCK_C, blocks.begin);
    const int32_t end = ar_block_first(call->outputs, AR_GEMM_BLOCK_C, blocks.end);
    for (int32_t tile = tiles.begin; tile < tiles.end; tile++) {
        int32_t top = tile / columns * call->m, left = tile % columns * call->m;
        for (int32_t lane = 0; lane < call->lanes; lane++) {
            transform_input(call, top - call->padding[0], left - call->padding[1], lane);
            for (int32_t o = begin; o < end; o++)
                output_tile(call, top, left, lane, o);
        }
    }
}
