/* model: a graph of operators with its parameters, and what runs it. Others include this header,
 * program.h (compiled models) and oracle.h (what attacks see).
 *
 * Nodes stand in order of execution: a node's inputs are earlier nodes. Node 0 is the input; each
 * node makes one value, so a value has its node's number. */
#ifndef AR_MODEL_H
#define AR_MODEL_H

#include <advrob/model.h>

#include <pthread.h>

#include "op/op.h"

#define AR_NAME_SIZE 64
#define AR_MAX_NODES 4096

/* Simulated quantization of a value or of a weight. bits 0: float. Codes q in [low, high]; the
 * value is (q - zero) * scale. Weights are symmetric (zero 0); with 1 bit they are -scale or
 * +scale. `scales` has one entry, or one per output channel. */
typedef struct ar_quant {
    int32_t bits;
    double low, high, zero;
    int32_t count;
    ar_real *scales; /* owned by the model */
} ar_quant;

typedef struct ar_node {
    char name[AR_NAME_SIZE];
    const ar_op *op; /* NULL: the input */
    ar_attributes attributes;
    int32_t inputs[AR_MAX_INPUTS];
    union { /* parameter numbers by role; -1: none */
        int32_t parameters[AR_MAX_PARAMETERS];
        struct {
            int32_t weight, bias, running_mean, running_var, border_bias;
        };
    };
    ar_shape shape;  /* of the output */
    ar_quant output; /* quantization point at the end of a fused group (convolution + ReLU) */
    ar_quant weights;
} ar_node;

typedef struct ar_parameter {
    char name[AR_NAME_SIZE + 8]; /* the node's and ".running_mean" */
    int32_t rank, fan_in;
    int64_t shape[4];
    int64_t offset, count; /* in the slab */
    int32_t node;
    int32_t role;  /* AR_WEIGHT ... AR_BORDER_BIAS; from AR_RUNNING_MEAN on not trained */
    bool constant; /* begins as `initial` */
    ar_real initial;
} ar_parameter;

struct advrob_model {
    advrob_context *ctx;
    _Atomic int32_t references;
    _Atomic int32_t frozen; /* targets that live on it */
    char zoo[AR_NAME_SIZE]; /* the zoo name that it was built from; "" otherwise */
    ar_node *nodes;
    int32_t node_count;
    ar_parameter *parameters;
    int32_t parameter_count;
    ar_real *slab; /* all parameters, running statistics included */
    int64_t slab_count;
    ar_real *mean, *std; /* [channels]: a value is (pixel - mean) / std */
    /* [channels]: the box of valid values, and how much of a value is 1 of an attack's epsilon. */
    double *low, *high, *unit;
    bool exact;       /* what is quantized runs in integers (ar_integers in program.h) */
    uint64_t version; /* raised with every change of a parameter or quantization record */
    char *summary;
    pthread_mutex_t lock;           /* guards `programs` */
    struct ar_program *programs[2]; /* with running statistics, with the batch's */
};

/* An empty graph with its input node. mean and std 0 and 1, box [0, 1], units 1. */
int32_t ar_model_create(advrob_context *ctx, ar_shape input, advrob_model **out);
/* One with the input, normalisation, box and zoo name of `model`, and no further nodes yet. */
int32_t ar_model_begin_like(advrob_context *ctx, const advrob_model *model, advrob_model **out);
void ar_model_retain(advrob_model *model);
void ar_model_release(advrob_model *model); /* NULL is fine */

/* Adds a node; its number goes to *out. Parameters are created as zeros, or as their
 * constant. name: distinct, letters, digits, '.', '_', '-'. E_UNKNOWN (op), E_INVALID (name,
 * inputs), E_SHAPE, E_RANGE, E_LIMIT. */
int32_t ar_model_add(advrob_model *model, const char *op, const char *name,
                     const int32_t inputs[AR_MAX_INPUTS], const ar_attributes *attributes,
                     int32_t *out);

/* The same with the options of the operator, and inputs by name. */
int32_t ar_model_add_named(advrob_model *model, const char *op, const char *name,
                           const char *const *inputs, int32_t count, const advrob_options *options);

/* Normalisation: n values are 1 or the number of input channels. E_RANGE (std <= 0, not finite). */
int32_t ar_model_set_normalisation(advrob_model *model, const double *mean, size_t n_mean,
                                   const double *std, size_t n_std);

/* build.c: normalisation, box and units as options, and a graph that begins with them. */
extern const ar_option_table ar_frame_table;
int32_t ar_model_read_frame(advrob_model *model, const char *who, const advrob_options *options,
                            ar_arena *arena);
int32_t ar_model_begin(advrob_context *ctx, ar_shape input, const advrob_options *options,
                       advrob_model **out);
/* Box and units: each has as many values as there are channels, or one, or none (it stays).
 * E_RANGE. */
int32_t ar_model_set_box(advrob_model *model, const ar_f64_array *low, const ar_f64_array *high,
                         const ar_f64_array *unit);
/* Whether all channels have one box, and units of 1. */
bool ar_model_one_box(const advrob_model *model);

/* Draws all parameters: "he" (He et al. 2015: normal, variance 2 / fan_in, biases 0) or "pytorch"
 * (its layers' default: uniform in +-1 / sqrt(fan_in), weights and biases). */
int32_t ar_model_initialise(advrob_model *model, const char *how, int64_t seed);

int32_t ar_model_clone(const advrob_model *model, advrob_model **out);
/* Into another context, of which the copy is then a part. */
int32_t ar_model_copy(advrob_context *ctx, const advrob_model *model, advrob_model **out);
/* fold.c: a copy in which batch norms with their running statistics have become part of the
 * convolutions and linear layers before them, where those have no other user. */
int32_t ar_model_fold(const advrob_model *model, advrob_model **out);
/* A copy that reads pixels as they are: mean 0 and std 1, the normalisation being part of the
 * layers behind the input, exactly, also where their windows leave it. A plain copy where anything
 * else reads the input. */
int32_t ar_model_fold_normalisation(const advrob_model *model, advrob_model **out);
/* The batch norm that goes into node i, or -1. */
int32_t ar_model_folded_norm(const advrob_model *model, int32_t i);
/* E_BUSY while a target lives on it. Every change of parameters calls this before and
 * ar_model_changed after. */
int32_t ar_model_check_unfrozen(const advrob_model *model);
void ar_model_changed(advrob_model *model);
/* The same after a change of more than values (nodes, normalisation, quantization records): what
 * was compiled is thrown away. */
void ar_model_restructured(advrob_model *model);

/* Fills x [n, c, h, w] with valid pixels at random, for timings: the same ones every time. */
void ar_model_noise(const advrob_model *model, int64_t n, float *x);

int32_t ar_model_output(const advrob_model *model); /* the last node */
int32_t ar_model_classes(const advrob_model *model);
int32_t ar_model_find_node(const advrob_model *model, const char *name);      /* or -1 */
int32_t ar_model_find_parameter(const advrob_model *model, const char *name); /* or -1 */
int32_t ar_node_inputs(const ar_node *node);         /* number of inputs; 0 for the input node */
int64_t ar_model_trained(const advrob_model *model); /* parameters less running statistics */
int64_t ar_model_macs(const advrob_model *model);
bool ar_model_quantized(const advrob_model *model);
/* E_NONFINITE names a parameter with a value that is not finite, E_RANGE one with a negative
 * variance: value k of a parameter, or all of a model. */
int32_t ar_parameter_check(const ar_parameter *parameter, int64_t k, double value);
int32_t ar_model_check_finite(const advrob_model *model);
uint64_t ar_model_digest(const advrob_model *model);
int32_t ar_model_write_summary(advrob_model *model);

/* Numbers of a node that uses value `node`, or -1 if there is none or more than one. */
int32_t ar_model_only_user(const advrob_model *model, int32_t node);

bool ar_model_has_batch_norm(const advrob_model *model);

/* The ReLU that is fused into `node`, or -1: its only user, if its op can fuse one. Where a fused
 * group ends is where its quantization point lies: at the ReLU if there is one. */
int32_t ar_model_fused_relu(const advrob_model *model, int32_t node);

/* Sets a quantization record (scales are copied). */
int32_t ar_quant_set(advrob_model *model, ar_quant *record, int32_t bits, double low, double high,
                     double zero, const ar_real *scales, int32_t count);
/* values -> simulated quantized values, `per` values a channel when the record has several scales.
 */
void ar_quant_apply(const ar_quant *record, int64_t count, const ar_real *values, ar_real *out);

/* Zoo: one net a file in zoo/, one line in zoo/zoo.inc. */
typedef struct ar_zoo_net {
    const char *name, *help;
    ar_shape input;
    int32_t classes;
    int32_t (*build)(advrob_model *model, int32_t classes);
} ar_zoo_net;

int32_t ar_zoo_count(void);
const ar_zoo_net *ar_zoo_at(int32_t index);
extern const ar_option_table ar_zoo_options;
/* Builds and initialises. The option "weights" is the caller's business (it reads a file). */
int32_t ar_zoo_build(advrob_context *ctx, const char *name, const advrob_options *options,
                     advrob_model **out);
/* The value of "weights"; "" when it is not set. */
int32_t ar_zoo_weights(const advrob_options *options, ar_arena *arena, const char **path);

#endif
