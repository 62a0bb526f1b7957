/* What each layer of an integer engine costs beside the same layer in float32, direct and as the
 * library chooses (Winograd where it pays): us an image on one core, tiles of 16 images, weights
 * and images of chance.
 *
 *     bench_engine [net] [bits of the activations] [sparsity] [rounds]
 *
 * GOP/s count multiplications that exist: taps that fall on padding are neither done nor counted.
 * Each figure is the best of many rounds, in each of which everything runs in turn: a clock that
 * moves, or a neighbour, then meets all of them. */
#include <advrob/advrob.h>

#include "engine/engine.h"
#include "model/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, IMAGES = 32, MOST_LAYERS = 128, KINDS = 2 };
static const char *const winograd[KINDS] = {"off", "auto"};

typedef struct bench {
    advrob_context *ctx[KINDS];
    advrob_model *model[KINDS];
    advrob_engine *engine;
    float *x;
    double load, layer[MOST_LAYERS];
    ar_arena arena;
    ar_profile profile[KINDS]; /* the best of all rounds */
} bench;

static void must(int32_t status) {
    if (status >= 0) return;
    fprintf(stderr, "bench_engine: %s\n", advrob_last_message());
    exit(1);
}

static advrob_options *options(const char *name, const char *text) {
    advrob_options *o = NULL;
    must(advrob_options_create(&o));
    if (name != NULL) must(advrob_options_set_text(o, name, text));
    return o;
}

static void open_float(bench *b, int32_t kind, const char *net, const char *sparsity) {
    advrob_options *o = options("winograd", winograd[kind]);
    advrob_compressor *prune = NULL;
    advrob_model *model = NULL;
    must(advrob_options_set_i64(o, "threads", 1));
    must(advrob_context_create(o, &b->ctx[kind]));
    advrob_options_destroy(o);
    o = options("init", "he");
    must(advrob_model_build(b->ctx[kind], net, o, &model));
    advrob_options_destroy(o);
    o = options("sparsity", sparsity);
    must(advrob_compressor_create(b->ctx[kind], "prune_l1", o, &prune));
    if (atof(sparsity) > 0)
        must(advrob_compressor_run(prune, model, NULL, &b->model[kind]));
    else
        must(ar_model_clone(model, &b->model[kind]));
    advrob_options_destroy(o);
    advrob_compressor_destroy(prune);
    advrob_model_destroy(model);
}

static void open_engine(bench *b, const char *bits) {
    const ar_shape shape = b->model[0]->nodes[0].shape;
    const int64_t size = IMAGES * ar_shape_count(shape);
    int32_t y[IMAGES] = {0};
    advrob_options *o = options("activation_bits", bits);
    advrob_compressor *quant = NULL;
    advrob_model *quantized = NULL;
    advrob_dataset *data = NULL;
    b->x = malloc(sizeof(float) * (size_t)size);
    if (b->x == NULL) exit(1);
    for (int64_t i = 0; i < size; i++)
        b->x[i] = (float)((uint32_t)i * 2654435761u >> 24) / 255;
    must(advrob_dataset_from_memory(b->ctx[0], ADVROB_F32, b->x, y, IMAGES, shape.c, shape.h,
                                    shape.w, ar_model_classes(b->model[0]), &data));
    must(advrob_compressor_create(b->ctx[0], "quant_ptq", o, &quant));
    must(advrob_compressor_run(quant, b->model[0], data, &quantized));
    must(advrob_engine_create(quantized, NULL, &b->engine));
    advrob_options_destroy(o);
    advrob_compressor_destroy(quant);
    advrob_dataset_destroy(data);
    advrob_model_destroy(quantized);
}

static void least(double *best, double seconds) {
    if (*best == 0 || seconds < *best) *best = seconds;
}

static void round_engine(bench *b) {
    ar_engine_room *room = NULL;
    advrob_engine *e = b->engine;
    must(ar_engine_room_take(e, &room));
    double t = ar_clock(), next;
    e->ctx->kernels->qload(LANES, LANES, e->shape.c, ar_shape_pixels(e->shape), b->x,
                           e->input_scale, e->input_zero, room->memory + e->values[0].offset);
    least(&b->load, (next = ar_clock()) - t);
    for (int32_t i = 0; i < e->layer_count; i++) {
        t = next;
        ar_engine_run_layer(e, room, i, LANES);
        least(&b->layer[i], (next = ar_clock()) - t);
    }
    ar_engine_room_give(e, room);
}

static void round_float(bench *b, int32_t kind) {
    ar_profile profile, *best = &b->profile[kind];
    must(ar_profile_run(b->model[kind], 1, LANES, 1, &b->arena, &profile));
    if (best->program == NULL) {
        *best = profile;
        return;
    }
    for (int32_t s = 0; s < profile.program->count; s++)
        least(&best->seconds[0][s], profile.seconds[0][s]);
    least(&best->total[0], profile.total[0]);
}

/* The step of the float net that a layer stands for; -1: none. */
static int32_t step_of(const bench *b, int32_t kind, const char *name) {
    const ar_program *program = b->profile[kind].program;
    for (int32_t s = 0; s < program->count; s++)
        if (program->steps[s].used &&
            strcmp(program->model->nodes[program->steps[s].node].name, name) == 0)
            return s;
    return -1;
}

static void print(const bench *b) {
    const double us = 1e6 / LANES;
    double total = b->load;
    printf("%-34s %9s %7s %9s %9s %8s %8s\n", "layer, us an image", "integer", "GOP/s", "direct",
           "chosen", "direct/", "chosen/");
    printf("%-34s %9.2f\n", "pixels to codes", b->load * us);
    for (int32_t i = 0; i < b->engine->layer_count; i++) {
        const ar_engine_layer *layer = &b->engine->layers[i];
        char title[128];
        double other[KINDS] = {0};
        int64_t products = 0;
        for (int32_t k = 0; k < KINDS; k++) {
            const int32_t s = step_of(b, k, layer->name);
            ar_op_work work = {0};
            if (s < 0 || !ar_profile_work(&b->profile[k], s, 0, &work)) continue;
            other[k] = b->profile[k].seconds[0][s];
            products = work.multiply_adds;
        }
        snprintf(title, sizeof title, "%s %d>%d %dx%d%s", layer->name, layer->in.c, layer->out.c,
                 layer->in.h, layer->in.w, layer->kind == AR_LAYER_GEMM ? "" : ", no gemm");
        printf("%-34s %9.2f %7.1f %9.2f %9.2f %8.2f %8.2f\n", title, b->layer[i] * us,
               2e-9 * (double)products * LANES / b->layer[i], other[0] * us, other[1] * us,
               other[0] / b->layer[i], other[1] / b->layer[i]);
        total += b->layer[i];
    }
    printf("%-34s %9.2f %7s %9.2f %9.2f %8.2f %8.2f\n", "all", total * us, "",
           b->profile[0].total[0] * us, b->profile[1].total[0] * us, b->profile[0].total[0] / total,
           b->profile[1].total[0] / total);
}

int main(int argc, char **argv) {
    bench b = {0};
    const char *net = argc > 1 ? argv[1] : "eight_layer_conv";
    const char *sparsity = argc > 3 ? argv[3] : "0";
    const int32_t rounds = argc > 4 ? atoi(argv[4]) : 100;
    for (int32_t k = 0; k < KINDS; k++)
        open_float(&b, k, net, sparsity);
    open_engine(&b, argc > 2 ? argv[2] : "7");
    if (b.engine->layer_count > MOST_LAYERS) return 1;
    ar_arena_init(&b.arena, &b.ctx[0]->memory);
    for (int32_t i = 0; i < rounds; i++) {
        round_engine(&b);
        for (int32_t k = 0; k < KINDS; k++)
            round_float(&b, k);
    }
    print(&b);
    ar_arena_free(&b.arena);
    advrob_engine_destroy(b.engine);
    for (int32_t k = 0; k < KINDS; k++) {
        advrob_model_destroy(b.model[k]);
        advrob_context_destroy(b.ctx[k]);
    }
    free(b.x);
    return 0;
}
