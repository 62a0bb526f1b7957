/* op: one operator a file, with its descriptor at the end. Others include this header, loss.h and
 * norm.h.
 *
 * An operator sees one tile of images (kernel/kernel.h: [h][w][c][lanes]). A new operator is one
 * file and one line in ops.inc; the gradient check and the planner then know it. */
#ifndef AR_OP_H
#define AR_OP_H

#include "tensor/tensor.h"

#define AR_MAX_INPUTS 2
#define AR_MAX_PARAMETERS 5

/* What an operator's node is told. Kernel, stride, dilation and groups are 1 where nothing was
 * said (ar_op_attributes_fill), so that a linear layer is a convolution of one tap. */
typedef struct ar_attributes {
    int32_t kernel[2], stride[2], padding[2]; /* height, width */
    int32_t outputs;                          /* channels out of a convolution or linear layer */
    bool bias;
    double epsilon;        /* batch norm: added to the variance */
    double momentum;       /* batch norm: the batch's share in new running statistics */
    double rate;           /* dropout: share of the values that become 0 in training */
    int32_t before, after; /* pad_channels: channels of zeros */
    /* A convolution adds a constant to each output by where its window leaves the input: what a
     * removed input channel without variation left behind, which zero padding cuts off there. */
    bool border_bias;
    int32_t dilation[2]; /* from one tap of a window to the next */
    /* A convolution's channels and outputs, cut evenly: outputs see their own group's channels. */
    int32_t groups;
} ar_attributes;

/* How channels of inputs and output are tied when channels are removed. */
enum {
    AR_PRUNE_PRODUCES, /* makes channels of its own from all input channels */
    AR_PRUNE_KEEPS,    /* output channel i is input channel i */
    AR_PRUNE_SPREADS,  /* flatten: input channel i is outputs [i * hw, (i + 1) * hw) */
    AR_PRUNE_TIES,     /* all inputs and the output lose the same channels */
    AR_PRUNE_JOINS,    /* concatenation: the channels of the inputs one behind the other */
    AR_PRUNE_PADS      /* output channel before + i is input channel i; the others are 0 */
};

/* A parameter's shape; rank 0: the node has none. In this order, and under PyTorch's names; those
 * from AR_RUNNING_MEAN on are not trained. */
enum { AR_WEIGHT, AR_BIAS, AR_RUNNING_MEAN, AR_RUNNING_VAR, AR_BORDER_BIAS };
extern const char *const ar_parameter_suffix[AR_MAX_PARAMETERS]; /* ".weight", ... */

typedef struct ar_parameter_shape {
    int32_t rank;
    int64_t shape[4];
    int32_t fan_in;
    bool constant; /* begins as `initial`, whatever the initialisation */
    ar_real initial;
} ar_parameter_shape;

/* Batch norm by channel, [channels] each: y = (x - mean) * scale + shift. */
typedef struct ar_norm {
    const ar_real *mean, *scale, *shift;
    /* With batch statistics dx = (dy - dy_mean - (x - mean) * slope) * scale; NULL: frozen ones, dx
     * = dy * scale. */
    const ar_real *dy_mean, *slope;
} ar_norm;

/* What training draws at random: a pure function of these and the place in the net. */
typedef struct ar_draws {
    int64_t seed;
    const int64_t *ids; /* one an image: the number of the sample's visit */
} ar_draws;

/* The passes of a node, as profiles list them. */
enum { AR_PASS_FORWARD, AR_PASS_INPUT_GRADIENT, AR_PASS_WEIGHT_GRADIENT, AR_PASSES };

/* A pass of one image, for profiles. */
typedef struct ar_op_work {
    const char *kernel;    /* what it runs by */
    int64_t multiply_adds; /* that exist: taps on padding do not */
} ar_op_work;

/* What a node's preparation may depend on; `prepared` is made from it once. */
typedef struct ar_op_setup {
    const ar_attributes *attributes;
    ar_shape in[AR_MAX_INPUTS], out;
    const ar_kernels *kernels;
    int32_t winograd; /* the largest Winograd tile that is allowed: 0, 2 or 4 */
    bool first;       /* its input is the model's */
    ar_arena *arena;
} ar_op_setup;

/* One tile through one node, forward or backward. */
typedef struct ar_op_call {
    const ar_kernels *kernels;
    const ar_attributes *attributes;
    const void *prepared; /* what `prepare` made */
    int32_t lanes, count; /* count: images; the lanes past it hold no image */
    ar_shape in[AR_MAX_INPUTS], out;
    const ar_real *x[AR_MAX_INPUTS]; /* backward: of a `whole_batch` operator only */
    ar_real *y;
    const ar_real *weight, *bias; /* packed for this direction; bias NULL when there is none */
    const int32_t *bias_class;    /* conv2d's own: the row of bias that a pixel takes */
    const ar_real *residual;      /* forward: of y's shape, added before the ReLU; NULL: none */
    ar_real *scratch;             /* of scratch_size bytes */
    const ar_norm *norm;          /* of an operator that is `whole_batch` */
    const ar_draws *draws;        /* NULL outside training */
    int32_t node;                 /* its number in the graph: for draws */
    bool relu;                    /* fused: only if the descriptor says `fuses_relu` */
    uint8_t *state;               /* what backward needs; NULL when there is no backward */
    int32_t part, parts;          /* forward: the share to make, of an operator that `shares` */
    ar_span rows;                 /* forward: the rows of the output to make; end 0: all */
    int32_t x_top, y_top;         /* with rows: those that x[0] and y begin with; state is whole */
    const ar_real *dy;
    ar_real *dx[AR_MAX_INPUTS];         /* NULL: not wanted */
    bool accumulate[AR_MAX_INPUTS];     /* add to dx[i] instead of writing it */
    const uint8_t *gate[AR_MAX_INPUTS]; /* bits to gate dx[i] by; only if `fuses_gate` */
} ar_op_call;

/* Parameter gradients of one node over all tiles of a batch, outputs [begin, end). */
typedef struct ar_op_gradient {
    const ar_kernels *kernels;
    const ar_attributes *attributes;
    const void *prepared;
    int32_t lanes, tiles;
    ar_shape in, out;
    const ar_real *const *x;  /* [tiles] */
    const ar_real *const *dy; /* [tiles] */
    int32_t begin, end;
    ar_real *scratch;         /* as many values as one output's weights */
    ar_real *dweight, *dbias; /* in the parameters' own layout; dbias may be NULL */
    ar_real *dborder;         /* of a border bias, for the norm behind it; NULL: not wanted */
} ar_op_gradient;

typedef struct ar_op {
    const char *name, *help;
    const ar_option_table *options; /* one of those below: what its node can be told */
    int32_t inputs;
    int32_t prune; /* AR_PRUNE_* */
    bool fuses_relu, fuses_gate, fuses_residual;
    /* Forward makes the share call->part of call->parts (0: all there is), with scratch of its own;
     * shares may run side by side, and together they give the bits of a whole call. */
    bool shares;
    bool pools; /* by its attributes' window, channel by channel; forward can make some rows */
    /* Batch norm: with batch statistics the graph is cut here, its tiles wait for each other
     * (model/tiles.c), and backward reads the input. Its parameter gradients come from the sums at
     * the cut. */
    bool whole_batch;
    /* Adds to bias [outputs] what input channels that hold the same in every pixel (constant
     * [in.c]; 0: nothing) add to each output whose window lies inside, and to border
     * [outputs][classes], as the border bias has them, what is different where taps fall on
     * padding. NULL: no weights. */
    void (*absorb)(const ar_attributes *attributes, const ar_shape *in, const ar_real *weight,
                   const double *constant, double *bias, double *border);
    /* The shape of the output; E_SHAPE or E_RANGE names the attribute. */
    int32_t (*infer)(const ar_attributes *attributes, const ar_shape *in, ar_shape *out);
    /* Weight, bias, statistics; NULL: no parameters. */
    void (*parameters)(const ar_attributes *attributes, const ar_shape *in,
                       ar_parameter_shape shapes[AR_MAX_PARAMETERS]);
    /* Multiply-adds of one image, padding counted; NULL: none. */
    int64_t (*macs)(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out);
    /* What depends on shapes alone: the way of computing, index lists. NULL: nothing does. */
    int32_t (*prepare)(const ar_op_setup *setup, const void **prepared);
    /* Values of the packed parameters, forward and backward; NULL: each as the weight. */
    void (*packed_count)(const ar_op_setup *setup, const void *prepared, int64_t count[2]);
    void (*pack)(const ar_op_setup *setup, const void *prepared,
                 const ar_real *const parameters[AR_MAX_PARAMETERS], ar_real *forward,
                 ar_real *backward);
    /* Forward can make rows of its output from a multiple of this to the end, or to a multiple that
     * leaves at least as many; together they give the bits of a whole call. NULL: it cannot. */
    int32_t (*row_step)(const ar_op_setup *setup, const void *prepared);
    /* Bytes of state of a tile; NULL: none. A fused ReLU's bits are the planner's. */
    size_t (*state_size)(const ar_shape *out, int32_t lanes);
    /* Bytes that a pass needs for itself; NULL: none. */
    size_t (*scratch_size)(const ar_op_setup *setup, const void *prepared, int32_t lanes,
                           bool backward);
    void (*forward)(const ar_op_call *call);
    void (*backward)(const ar_op_call *call);
    void (*gradient)(const ar_op_gradient *call); /* NULL: no parameters */
    /* What a pass (AR_PASS_*) does; NULL: nothing to count, by a kernel of the operator's name. */
    ar_op_work (*work)(const ar_op_setup *setup, const void *prepared, int32_t pass);
} ar_op;

/* 1 for what must be there and was not said. */
void ar_op_attributes_fill(ar_attributes *attributes);

/* The gradient of a term of a sum: dx is dy, n values of it, or what it was and dy. */
void ar_op_hand_on(const ar_kernels *kernels, int64_t n, const ar_real *dy, ar_real *dx,
                   bool accumulate);

/* Output extent of a window operator; checks kernel, stride, padding and dilation. */
int32_t ar_window_infer(const char *what, const ar_attributes *attributes, const ar_shape *in,
                        ar_shape *out);
/* E_LIMIT if the index lists of all output pixels would pass what an int32_t can count. */
int32_t ar_window_check_lists(const ar_attributes *attributes, const ar_shape *out);

/* The taps of a window that lie inside the input of this extent: [*begin, *end) for position o of
 * the output on an axis (0: rows, 1: columns); both 0 where there are none. */
void ar_window_range(const ar_attributes *attributes, int32_t axis, int32_t o, int32_t extent,
                     int32_t *begin, int32_t *end);
/* How many classes of output pixels there are, of those whose windows have the same taps inside the
 * input, and the class of each (of [output pixels]; NULL: not wanted): those of a border bias. */
int32_t ar_border_classes(const ar_attributes *attributes, const ar_shape *in, const ar_shape *out,
                          int32_t *of);

/* The call's share of n items; false: there is none for it. */
bool ar_op_share(const ar_op_call *call, int32_t n, ar_span *out);

/* attributes.c: the options of nodes, and a node's attributes as its options say. E_UNKNOWN,
 * E_RANGE and E_INVALID name `who` and the option. */
extern const ar_option_table ar_op_conv_options, ar_op_pool_options, ar_op_linear_options,
    ar_op_norm_options, ar_op_dropout_options, ar_op_pad_options, ar_op_no_options;
int32_t ar_op_read_options(const ar_op *op, const char *who, const advrob_options *options,
                           ar_arena *arena, ar_attributes *out);

/* Registry. */
int32_t ar_op_count(void);
const ar_op *ar_op_at(int32_t index);
const ar_op *ar_op_find(const char *name); /* NULL when there is none */

#define AR_OP(name) extern const ar_op ar_op_##name;
#include "ops.inc"
#undef AR_OP

#endif
