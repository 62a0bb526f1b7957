/* Structured pruning: which channels are coupled (channels.c), which of them go (select.c), the
 * smaller net without them (remove.c), steps and plans (prune.c). Private to compress.
 *
 * A criterion is a compressor of its own: one file with a function that rates channels, and a
 * descriptor whose run and plan hand it to prune.c. */
#ifndef AR_PRUNE_H
#define AR_PRUNE_H

#include "compress.h"

/* Coupled channels of a graph. A cell is one channel of one node's value; a class is a set of cells
 * that can only go together; a group is the classes whose filters belong to the same layers. */
typedef struct ar_channels {
    const advrob_model *model;
    int32_t cells, classes, groups;
    int32_t *first;    /* [nodes + 1]: channel c of node i is cell first[i] + c */
    int32_t *node_of;  /* [cells] */
    int32_t *class_of; /* [cells] */
    int32_t
        *class_first;  /* [classes + 1]: a class's cells are members[class_first ...], in order */
    int32_t *members;  /* [cells] */
    int32_t *group_of; /* [classes]; -1: it has to stay */
    int32_t *sample;   /* [groups]: the first class of the group */
    int32_t *size;     /* [groups]: classes */
    /* [cells]: what a cell holds in every pixel once its class is gone: filters give 0, but what
     * follows them may not. */
    double *constant;
} ar_channels;

/* linear: also linear layers lose outputs. Memory comes from `arena`. */
int32_t ar_channels_find(const advrob_model *model, bool linear, ar_arena *arena, ar_channels *out);
/* Whether the node has filters, one an output channel: a convolution or linear layer. */
bool ar_has_filters(const ar_node *node);
/* Whether two classes have filters of the same layers. */
bool ar_classes_alike(const ar_channels *a, int32_t class_a, const ar_channels *b, int32_t class_b);

/* Whether a channel of a node is gone. */
bool ar_channel_gone(const ar_channels *channels, const bool *gone, int32_t node, int32_t channel);

/* remove.c: the net without the classes that are gone. It computes what the net with their filters
 * and biases set to zero does. */
int32_t ar_channels_remove(const ar_channels *channels, const bool *gone, advrob_model **out);
/* Multiply-adds, and bytes of the parameters, of that net. */
int64_t ar_channels_macs(const ar_channels *channels, const bool *gone);
int64_t ar_channels_bytes(const ar_channels *channels, const bool *gone);

typedef struct ar_prune_options {
    double sparsity;
    const char *scope, *coupling, *target, *schedule, *layer_sparsity;
    int64_t linear, steps, least, seed, images, batch;
} ar_prune_options;

/* The entries of every criterion's table, whose struct is ar_prune_options. */
#define AR_PRUNE_ENTRIES \
    AR_F64(ar_prune_options, sparsity, 0.5, 0, 1, \
           "share that goes, of each layer's filters (rounded down) or of the target"), \
        AR_STR(ar_prune_options, scope, "layer", "layer|global", \
               "rank within each layer, or all layers together by mean over weights"), \
        AR_STR(ar_prune_options, coupling, "grouped", "grouped|union", \
               "channels that meet in a sum: ranked together, or gone if every layer alone would " \
               "drop them"), \
        AR_STR(ar_prune_options, target, "channels", "channels|macs|bytes", \
               "what sparsity is a share of: filters, multiply-adds, bytes of parameters"), \
        AR_STR(ar_prune_options, layer_sparsity, "", NULL, \
               "sparsity of single layers: conv1=0.2,conv2=0"), \
        AR_I64(ar_prune_options, linear, 0, 0, 1, "also linear layers lose outputs"), \
        AR_I64(ar_prune_options, least, 1, 1, 65536, "filters that every layer keeps"), \
        AR_I64(ar_prune_options, steps, 1, 1, 1000, "steps to the sparsity, each rated anew"), \
        AR_STR(ar_prune_options, schedule, "linear", "linear|cubic", \
               "sparsity after step k of n: k / n, or 1 - (1 - k / n)^3 of it")

/* Rates channels of `channels` for removal: scores [cells], NaN where it rates none; the lowest go
 * first. mean: so that layers of different sizes compare. */
typedef struct ar_rating {
    const ar_compression *job;
    const ar_channels *channels;
    bool mean;
    ar_arena *arena;
} ar_rating;
typedef int32_t (*ar_rate_fn)(const ar_rating *rating, double *scores);

/* A rating that sums a function of the weights of each filter. */
int32_t ar_rate_filters(const ar_rating *rating, double (*of)(double weight), double *scores);

/* select.c: marks what goes, so that together with what went before (`origin`: the net before any
 * step) the share `sparsity` is met. E_UNSUPPORTED names a layer that the criterion cannot rate,
 * E_RANGE a target that cannot be met. */
int32_t ar_prune_select(const ar_rating *rating, const ar_channels *origin, const double *scores,
                        double sparsity, bool *gone);

/* prune.c. */
int32_t ar_prune_run(const ar_compression *job, ar_rate_fn rate, advrob_model **out);
int32_t ar_prune_write_plan(const ar_compression *job, ar_rate_fn rate, ar_buffer *text);

/* The plan as text, and read again; prune.c says how it looks. */
int32_t ar_plan_print(const ar_channels *channels, const bool *gone, ar_buffer *text);
int32_t ar_plan_parse(const ar_channels *channels, const char *text, bool *gone);

#endif
