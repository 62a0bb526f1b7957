/* engine: integer programs, lowered from a quantized model: what is deployed. Others include this
 * header and lower.h. What is declared here needs no model: it is all that the inference-only
 * library has (-Dcomponents=engine).
 *
 * Pixels become codes of the input's quantization point, every layer makes codes from codes by the
 * integer slots of kernel/kernel.h, and the last one's sums, times one float an output, are the
 * logits. A layer ends where a fused group of the model ends, so its requantisation is the group's
 * quantization point. */
#ifndef AR_ENGINE_H
#define AR_ENGINE_H

#include <advrob/engine.h>

#include <pthread.h>

#include "op/op.h"

#define AR_LAYER_NAME 64

enum {
    AR_LAYER_GEMM,
    AR_LAYER_MAX_POOL,
    AR_LAYER_PAD,
    AR_LAYER_ADD,
    AR_LAYER_AVG_POOL,
    AR_LAYER_CONCAT,
    AR_LAYER_KINDS
};

/* A tensor of codes q, each worth (q - zero) * scale. */
typedef struct ar_engine_value {
    ar_shape shape;
    int32_t zero, high; /* codes are 0 to high */
    float scale;
    int32_t first, last;  /* the layers that make and last read it; -1: the input */
    size_t offset, bytes; /* in a workspace, for a lane */
} ar_engine_value;

typedef struct ar_engine_layer {
    char name[AR_LAYER_NAME]; /* of the operator's node */
    int32_t kind;
    /* Values. residual: what is added, or joined behind the input; -1: none; output -1: the logits.
     */
    int32_t input, residual, output;
    ar_attributes window; /* kernel, stride, padding, dilation; pad: before, after */
    ar_shape in, out;
    /* A gemm's. All groups' weights: those between a channel and another group's outputs are 0. */
    int8_t *weights;   /* [outputs][channels][taps] */
    int32_t *bias;     /* [classes][outputs], in units of the sums; the input's zero in it */
    int32_t classes;   /* of pixels, as a border bias has them; or 1 */
    float *scale;      /* [outputs]: code, or logit, of a sum */
    int32_t low, high; /* codes that come out */
    /* What is made of it for this machine. */
    void *packed;
    int32_t stem; /* quads of a window's row side by side; 0: a tap has quads of its own */
    int32_t *first, *bias_class, *bias_padded;
    float *scale_padded;
    ar_segment *segments;
    int32_t *pool_index;
    uint8_t *tables; /* [2][256]: a concatenation's, the output's code of an input's */
} ar_engine_layer;

typedef struct ar_engine_room {
    struct ar_engine_room *next;
    uint8_t *memory;
} ar_engine_room;

struct advrob_engine {
    advrob_context *ctx;
    _Atomic int32_t references;
    ar_arena arena; /* all that follows */
    ar_shape shape;
    int32_t classes;                  /* numbers of the result */
    double *low, *high, *unit;        /* the model's box and units, [channels] */
    double *input_scale, *input_zero; /* [channels]: the same in all */
    uint8_t *byte_codes;              /* [channels][256]: of a pixel that 8 bits hold */
    ar_engine_value *values;
    int32_t value_count; /* value 0 is the input */
    ar_engine_layer *layers;
    int32_t layer_count;
    bool keep;            /* no value takes another's room: all can be read after a run */
    size_t room, sums;    /* bytes of a workspace for 16 images; where the logits' sums lie in it */
    size_t stem;          /* and the rows of a first layer's windows */
    pthread_mutex_t lock; /* guards `spare` */
    ar_engine_room *spare;
};

void ar_engine_retain(advrob_engine *engine);
void ar_engine_release(advrob_engine *engine); /* NULL is fine */

/* prepare.c: an empty engine; memory plan, lists and packed weights of a lowered or loaded one. */
int32_t ar_engine_new(advrob_context *ctx, ar_shape shape, advrob_engine **out);
int32_t ar_engine_prepare(advrob_engine *engine);

/* stem.c: quads of a window's row side by side, 0 where that is no gain; their bytes for 16 images;
 * the segments of an output pixel (into NULL: none), returns how many; the tile of them. */
int32_t ar_stem_quads(const ar_engine_layer *layer);
size_t ar_stem_bytes(const ar_engine_layer *layer);
int32_t ar_stem_list(const ar_engine_layer *layer, int32_t y, int32_t x, ar_segment *out);
void ar_stem_gather(const ar_engine_layer *layer, const ar_kernels *kernels, int32_t lanes,
                    const uint8_t *x, uint8_t *y);

/* Whether no sum of a gemm can leave int32; E_RANGE names layer and output. */
int32_t ar_engine_check_sums(const advrob_engine *engine, const ar_engine_layer *layer);

/* file.c: E_FORMAT for any bytes that are no engine of this version, E_RANGE for one whose sums do
 * not fit; E_IO. */
#define AR_ENGINE_LARGEST ((uint64_t)1 << 31)
int32_t ar_engine_save(const advrob_engine *engine, const char *path);
int32_t ar_engine_load(advrob_context *ctx, const char *path, advrob_engine **out);
int32_t ar_engine_parse(advrob_context *ctx, const char *name, const uint8_t *data, size_t size,
                        advrob_engine **out);

/* run.c: pixels x [n, c, h, w] to logits [n, classes]; of a tile, in a room of one's own. */
int32_t ar_engine_run(advrob_engine *engine, int64_t n, const float *x, float *logits);
/* The same of bytes: k is the pixel low + k / 255 * (high - low). */
int32_t ar_engine_run_bytes(advrob_engine *engine, int64_t n, const uint8_t *x, float *logits);
int32_t ar_engine_room_take(advrob_engine *engine, ar_engine_room **out);
void ar_engine_room_give(advrob_engine *engine, ar_engine_room *room); /* NULL is fine */
void ar_engine_run_tile(const advrob_engine *engine, ar_engine_room *room, int32_t count,
                        const float *x, float *logits);
/* Layer i alone, of `lanes` (8 or 16) images whose codes lie in the room. */
void ar_engine_run_layer(const advrob_engine *engine, ar_engine_room *room, int32_t i,
                         int32_t lanes);

/* The layers alone, in a tile of 8 or 16 lanes. */
void ar_engine_run_layers(const advrob_engine *engine, uint8_t *memory, int32_t lanes,
                          int32_t count, const float *x);

#endif
