/* kernel: number crunching on raw pointers. Others include this header alone.
 *
 * A tile holds `lanes` (8 or 16) images with the image innermost: [h][w][c][lanes]. So a vector is
 * one channel of 8 images: no tails in space or channels, and each image's numbers are the same
 * whatever the tile size. Offsets below count floats of one image; kernels multiply by lanes.
 *
 * The table is filled in a cascade: reference C first, then CBLAS where it was built in, then the
 * vector levels of the CPU. Contract of every slot: pointers to tiles and packed weights are
 * aligned to 64 bytes, save a gemm's, which may point at any channel or output; no slot allocates;
 * no slot reads or writes past the sizes it is given.
 * Elementwise slots give the same bits at all levels; gemm, winograd, depthwise and wgrad stay
 * within the bound of tests/tolerance.h of each other. */
#ifndef AR_KERNEL_H
#define AR_KERNEL_H

#include "base/base.h"

#define AR_MAX_LANES 16

/* Sum of products over one run: output += sum_k w[(w + k)][..] * x[(x + k)]. */
typedef struct ar_segment {
    int32_t x; /* offset into the input tile, in floats of one image */
    int32_t w; /* first row of the packed weights */
    int32_t k; /* length */
} ar_segment;

/* What a call does of a whole that threads share: items [begin, end), or with end 0 all of them.
 * Calls of one whole that share nothing may run side by side; together they give its bits. */
typedef struct ar_span {
    int32_t begin, end;
} ar_span;

/* A batch-reduce GEMM over lists of segments: convolution forward, backward with respect to the
 * input, and linear layers are this with different lists.
 *
 *   for each pixel p, output o, lane l:
 *     a = residual[p][o][l] + bias[o] (each NULL: 0; bias_class: bias[bias_class[p]][o])
 *     for each segment s of p, for k in s, in order: a = fma(w[s.w + k][o], x[s.x + k][l], a)
 *     relu: mask bit = a > 0, a = max(a, 0);  gate: a = gate bit ? a : 0
 *     y[p][o][l] = a
 *
 * Packed weights: outputs in blocks of at most table->gemm_block, cut nearly equal
 * (ar_block_first); block b starts at w + rows * ar_block_first(b), and is [rows][width of b].
 * Masks: one bit per float of the tile, bit (i & 7) of byte i / 8. A group of a convolution's
 * channels is a gemm of its own: its outputs lie among others, `stride` from pixel to pixel; rows
 * of bias by class lie as far apart. */
typedef struct ar_gemm {
    int32_t lanes, pixels, outputs, rows;
    int32_t stride; /* outputs of a whole pixel of y, residual, mask and gate; 0: outputs */
    const ar_real *x, *w, *bias;
    const ar_real *residual; /* of y's shape; y itself: to add to it */
    ar_real *y;              /* [pixels][stride][lanes], at the first output */
    const int32_t *first;    /* [pixels + 1]: segments of pixel p are [first[p], first[p+1]) */
    const ar_segment *segments;
    const int32_t *bias_class; /* [pixels]: rows of bias; NULL: it has one */
    bool relu;
    uint8_t *mask;       /* relu: bits out (NULL: not wanted) */
    const uint8_t *gate; /* bits in, of y's shape; NULL: none */
    ar_span blocks;      /* of outputs, as the weights are packed */
} ar_gemm;

/* A convolution whose groups have one channel or one output each, all in one sweep: as a gemm for
 * every group g, with the same chains,
 *   x[s.x + g * channels + k] by w[s.w + k][o] for o in [g * outputs, (g + 1) * outputs)
 * where `channels` and `outputs` are a group's, and gemm.outputs those of all. Its w is not packed
 * in blocks but [rows][gemm.outputs], and `blocks` is not read. */
typedef struct ar_depthwise {
    ar_gemm gemm;
    int32_t channels, outputs;
} ar_depthwise;

/* A 3x3 convolution of stride 1 by Winograd's minimal filtering F(m x m, 3 x 3), m 2 or 4 (Lavin
 * and Gray 2016, arXiv 1509.09308; points 0, 1, -1, 2, -2 and infinity): tiles of m x m output
 * pixels, the first at pixel 0, each A' [sum over channels of U * (B' x B)] A. Same results as the
 * gemm with such lists, but for rounding; residual, bias and its classes, relu, mask and gate as
 * there. The packed weights are (m + 2)^2 * channels * outputs values in an order that is the
 * level's own. Tiles count row by row, ar_winograd_tiles of them; the last ones of an axis may be
 * cut smaller. */
typedef struct ar_winograd {
    int32_t m, lanes, channels, outputs;
    int32_t h, w, padding[2]; /* of the input */
    const ar_real *x, *weights, *bias, *residual;
    const int32_t *bias_class; /* [output pixels] */
    ar_real *y;
    bool relu;
    uint8_t *mask;
    const uint8_t *gate;
    ar_real *scratch; /* of table->winograd_scratch bytes, aligned as a tile */
    int32_t top;      /* the output row that y begins with; the other arrays are whole */
    ar_span tiles;
    ar_span blocks; /* of outputs, as a gemm's */
} ar_winograd;

/* Transforms weights to U; the 3x3 taps of output o and channel c start at
 * weights[o * output_stride + c * channel_stride], turned by 180 degrees with `turn`. */
typedef struct ar_winograd_pack {
    int32_t m, channels, outputs;
    const ar_real *weights;
    int64_t output_stride, channel_stride;
    bool turn;
    ar_real *packed;
} ar_winograd_pack;

/* Weight gradient of the same operation, over the tiles of a batch in order.
 *   dw[o][t][c] += sum over tiles, pairs of tap t, lanes of
 *                  dy[pair.y][o][l] * x[pair.x + x_first + c][l]
 * for o in [begin, end). dw is [outputs][taps][channels] and is written, not added to. */
typedef struct ar_pair {
    int32_t x; /* offset into the input tile: pixel * its channels, a multiple of `channels` */
    int32_t y; /* output pixel */
} ar_pair;

typedef struct ar_wgrad {
    int32_t lanes, tiles, taps, channels, outputs, pixels; /* pixels: of the output */
    int32_t begin, end;                                    /* outputs to do */
    int32_t x_first;          /* the channel of a pixel of x with which `channels` begin */
    const ar_real *const *x;  /* [tiles] */
    const ar_real *const *dy; /* [tiles], [pixels][outputs][lanes] */
    const int32_t *first;     /* [taps + 1] */
    const ar_pair *pairs;
    ar_real *dw; /* [outputs][taps][channels] */
    ar_real *db; /* [outputs], or NULL */
} ar_wgrad;

/* A pooling window list: output pixel p covers input pixels index[first[p] .. first[p+1]), of which
 * x may lack the first ones. */
typedef struct ar_pool_call {
    int32_t lanes, channels, pixels_in, pixels_out;
    const int32_t *first, *index;
    const ar_real *scale; /* [pixels_out], average: one over the window's divisor */
    ar_span range;        /* forward: output pixels to do */
    int32_t origin;       /* forward: the input pixel that x begins with */
    const ar_real *x;
    ar_real *y;
    uint8_t *choice; /* max: position in the window, [pixels_out][channels][lanes] */
    const ar_real *dy;
    ar_real *dx;
    bool accumulate; /* backward: add to dx instead of writing it */
} ar_pool_call;

/* Simulated quantization of n floats: q = clamp(rint(x / scale) + zero, low, high),
 * y = (q - zero) * scale, ties to even. mask (may be NULL): its bit is kept where the code was not
 * clamped and cleared elsewhere (fresh: it is set or cleared). In place is fine. */
typedef struct ar_quant_call {
    int64_t n;
    ar_real scale, zero, low, high;
    const ar_real *x;
    ar_real *y;
    uint8_t *mask;
    bool fresh;
} ar_quant_call;

/* One step of an l-inf attack on n floats in plain (not tile) order:
 *   x = min(max(x + step * sign(g), lo), hi), sign(0) = 0. */
typedef struct ar_step_call {
    int64_t n;
    float *x;
    const float *g, *lo, *hi;
    float step;
} ar_step_call;

/* n pixels of an image between a box and a plane of gradient g. On the way from x by `multiplier`
 * to the plane, pixel i moves by change_i = side * sign(g_i) * min(multiplier * (pace + pace_slope
 * * |g_i|), room_i), where room_i is what the box leaves and sign(0) = 0. The sums are double, in 8
 * lanes. */
typedef struct ar_plane {
    int64_t n;
    const float *g, *low, *high;
    double pace, pace_slope;
} ar_plane;
typedef struct ar_plane_way {
    const float *x;
    double side, multiplier; /* side: 1 or -1 */
} ar_plane_way;

/* Batch norm of a tile, by channel; products and sums are rounded one by one, in the order written.
 *   forward:  y = (x - mean[c]) * scale[c] + shift[c]; relu: then as the slot relu, with its mask
 *   backward: dx = (dy - dy_mean[c] - (x - mean[c]) * slope[c]) * scale[c]; with dy_mean NULL
 *             (frozen statistics) dx = dy * scale[c], and x, mean and slope are not read
 * The arrays by channel are not aligned. */
typedef struct ar_norm_call {
    int32_t lanes, channels, pixels;
    const ar_real *mean, *scale, *shift, *dy_mean, *slope; /* [channels] */
    const ar_real *x;                                      /* [pixels][channels][lanes] */
    ar_real *y;
    bool relu;
    uint8_t *mask; /* relu: bits out (NULL: not wanted) */
    const ar_real *dy;
    ar_real *dx;
    bool accumulate; /* backward: add to dx instead of writing it */
} ar_norm_call;

/* Integers. A tile of codes is [pixels][quads][lanes][4] bytes: 4 channels of an image side by
 * side, a quad; those past the last channel are 0. */

/* A gemm over segments on codes, of which x, w and k count quads:
 *
 *   for each pixel p, output o, lane l:
 *     a = bias[bias_class[p]][o] + sum over segments s of p, k in s, j < 4 of
 *         w[o][s.w + k][j] * x[s.x + k][l][j]                     in int32, which does not overflow
 *     sums: sums[p][o][l] = a.  Otherwise
 *     v = (float)a * scale[o]
 *     residual: v = v + (float)(residual[p][o][l] - residual_zero) * residual_scale
 *     y[p][o][l] = clamp(rint(v) + zero, low, high)
 *
 * Each operation on floats is rounded once, in the order written, and rint takes ties to even: the
 * same bits at all levels. low <= high are codes, |zero| is at most 255. Outputs are cut into
 * blocks of 4, the last filled up with weights of 0; bias (each of its rows), scale and sums have
 * as many; y's channels past the last are 0. */
typedef struct ar_qgemm {
    int32_t lanes, pixels, outputs, rows; /* rows: quads of one output's weights */
    int32_t x_high;                       /* x's codes are 0 to this, 1 to 255 */
    const uint8_t *x;
    const void *w;        /* packed by table->qgemm_pack */
    const int32_t *first; /* [pixels + 1] */
    const ar_segment *segments;
    const int32_t *bias, *bias_class; /* [classes][outputs]; bias_class NULL: 1 class */
    const float *scale;
    const uint8_t *residual; /* of y's shape; NULL: none */
    int32_t residual_zero;
    float residual_scale;
    int32_t zero, low, high;
    uint8_t *y;
    int32_t *sums;  /* [pixels][outputs][lanes], instead of y; NULL: y */
    ar_span blocks; /* of outputs */
} ar_qgemm;

/* The largest of a window's codes: output pixel p covers input pixels index[first[p]...]. */
typedef struct ar_qpool {
    int32_t lanes, quads, pixels_out;
    const int32_t *first, *index;
    const uint8_t *x;
    uint8_t *y;
} ar_qpool;

/* The sum of a window's codes, each less x_zero, so that padding adds nothing, by the rule of
 * ar_qgemm:
 *   a = sum of (x - x_zero)                                   in int32, which does not overflow
 *   y = clamp(rint((float)a * scale) + zero, low, high)
 * `scale` holds the window's divisor. y's channels past the last are 0. */
typedef struct ar_qmean {
    ar_qpool pool;
    int32_t channels, x_zero, zero, low, high;
    float scale;
} ar_qmean;

/* Two tiles as one: the channels of x[0], then those of x[1], each code by its tile's table. y's
 * channels past the last are 0. */
typedef struct ar_qjoin {
    int32_t lanes, pixels, channels[2];
    const uint8_t *x[2], *table[2]; /* table: [256] */
    uint8_t *y;
} ar_qjoin;

/* The sum of two tiles of n bytes, a multiple of 32, by the rule of a gemm's residual:
 * v = (float)(a - a_zero) * a_scale, v = v + (float)(b - b_zero) * b_scale,
 * y = clamp(rint(v) + zero, low, high). */
typedef struct ar_qadd {
    int64_t n;
    const uint8_t *a, *b;
    int32_t a_zero, b_zero;
    float a_scale, b_scale;
    int32_t zero, low, high;
    uint8_t *y;
} ar_qadd;

/* y's channels are `before` channels of code `fill`, x's, and more of `fill`. */
typedef struct ar_qpad {
    int32_t lanes, pixels, channels, before, channels_out, fill;
    const uint8_t *x;
    uint8_t *y;
} ar_qpad;

/* The taps of a window's row side by side, for each place of the window along a row of x [h][w]:
 * y is [places][h][quads][lanes][4], of which byte tap * channels + c is x's channel c at column
 * place * stride - padding + tap, 0 outside x and past the last tap. */
typedef struct ar_qrows {
    int32_t lanes, channels, h, w, places, taps, stride, padding, quads;
    const uint8_t *x;
    uint8_t *y;
} ar_qrows;

typedef struct ar_kernels {
    const char *name;
    int32_t gemm_block; /* outputs per block of packed weights */
    void (*gemm)(const ar_gemm *call);
    int32_t winograd_channels; /* channels, in and out, from which it pays; 0: it never does */
    void (*winograd)(const ar_winograd *call);
    size_t (*winograd_scratch)(const ar_winograd *call); /* bytes; pointers are not read */
    void (*winograd_pack)(const ar_winograd_pack *call);
    void (*wgrad)(const ar_wgrad *call);
    void (*depthwise)(const ar_depthwise *call);
    /* outputs / channels outputs see one channel each: dw [outputs][taps],
     * dw[o][t] = sum over tiles, pairs of tap t, lanes of
     *            dy[pair.y][o][l] * x[pair.x + o / (outputs / channels)][l]. */
    void (*depthwise_wgrad)(const ar_wgrad *call);
    void (*max_pool)(const ar_pool_call *call);
    void (*max_pool_backward)(const ar_pool_call *call);
    void (*avg_pool)(const ar_pool_call *call);
    void (*avg_pool_backward)(const ar_pool_call *call);
    /* y = max(x, 0), mask bits x > 0 (mask may be NULL). n is a multiple of 8. */
    void (*relu)(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask);
    /* y = bit ? x : 0; with accumulate y += (bit ? x : 0). In place is fine. */
    void (*gate)(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y, bool accumulate);
    void (*add)(int64_t n, const ar_real *a, const ar_real *b, ar_real *y);
    void (*norm)(const ar_norm_call *call);
    void (*norm_backward)(const ar_norm_call *call);
    /* For each channel and lane, in double, over the pixels in order:
     * sums[c][0][l] = sum of a, sums[c][1][l] = sum of a * b. a and b are
     * [pixels][channels][lanes].
     */
    void (*channel_sums)(int32_t lanes, int32_t channels, int32_t pixels, const ar_real *a,
                         const ar_real *b, double *sums);
    void (*quantize)(const ar_quant_call *call);
    void (*step)(const ar_step_call *call);
    /* Adds to *won the height g * change that pixels at the end of their room give, and to *rate
     * what the others give for a multiplier of 1. */
    void (*plane_height)(const ar_plane *plane, const ar_plane_way *way, double *won, double *rate);
    /* The largest change, if it is more than *largest, and the sum of squares, added to *squares.
     */
    void (*plane_length)(const ar_plane *plane, const ar_plane_way *way, double *largest,
                         double *squares);
    /* x = (1 - share) * (a.x + past * change of a) + share * (b.x + past * change of b), in the
     * box; x may be a.x. */
    void (*plane_step)(const ar_plane *plane, const ar_plane_way *a, const ar_plane_way *b,
                       double past, double share, float *x);
    /* Tile in and out: plain [count][channels][pixels] floats, count <= lanes.
     * load: tile[p][c][l] = x[l][c][p] * scale[c] + shift[c] (each NULL: 1 and 0); lanes past count
     * are 0.
     * store: x[l][c][p] = tile[p][c][l] * scale[c] (scale NULL: 1). */
    void (*load)(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                 const ar_real *scale, const ar_real *shift, ar_real *tile);
    void (*store)(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                  const ar_real *tile, const ar_real *scale, float *x);
    /* SGD with momentum, as PyTorch: g += decay * w; v = momentum * v + g; w -= rate * v. */
    void (*sgd)(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate, ar_real momentum,
                ar_real decay);
    /* Integers, the same bits at all levels. Weights [outputs][rows][4] to what qgemm takes, of
     * qgemm_size bytes; x_high as there. */
    size_t (*qgemm_size)(int32_t outputs, int32_t rows, int32_t x_high);
    void (*qgemm_pack)(int32_t outputs, int32_t rows, int32_t x_high, const int8_t *w,
                       void *packed);
    void (*qgemm)(const ar_qgemm *call);
    void (*qmax_pool)(const ar_qpool *call);
    void (*qavg_pool)(const ar_qmean *call);
    void (*qconcat)(const ar_qjoin *call);
    void (*qadd)(const ar_qadd *call);
    void (*qpad)(const ar_qpad *call);
    void (*qrows)(const ar_qrows *call);
    /* A tile of codes from floats [count][channels][pixels]: clamp(rint(x / scale[c]) + zero[c], 0,
     * 255), in double; lanes past count are 0. */
    void (*qload)(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                  const double *scale, const double *zero, uint8_t *tile);
    /* How fast a core can be: chains of multiply-adds a = a * 1/2 + 1 in registers alone, from
     * different starts, `rounds` links each. Returns how many multiply-adds that were; *sum gets
     * the sum of the chains' ends, so that no compiler leaves one out. */
    int64_t (*fma)(int64_t rounds, ar_real *sum);
} ar_kernels;

/* The table of a level (AR_CPU_*); of the highest one that was built, if that is lower. `blas`:
 * with CBLAS where it was built in (the portable level only). */
const ar_kernels *ar_kernels_get(int32_t level, bool blas);

/* Cut of n outputs into blocks of at most `block`: how many, and the first output of block b. */
int32_t ar_block_count(int32_t n, int32_t block);
int32_t ar_block_first(int32_t n, int32_t block, int32_t b);

/* Outputs from one pixel of a gemm's y to the next. */
int32_t ar_gemm_stride(const ar_gemm *call);

/* A range of n items with its end filled in. */
ar_span ar_span_of(ar_span range, int32_t n);

/* Output pixels of an axis (0: rows, 1: columns), and tiles of both. */
int32_t ar_winograd_out(const ar_winograd *call, int32_t axis);
int32_t ar_winograd_tiles(const ar_winograd *call);

#endif
