/* The table of what quantization did to each layer (quant_table.h). Values are compared tile by
 * tile in order, the float net's and the quantized net's of the same images. */
#include "quant_table.h"

#include <math.h>
#include <string.h>

#include "model/program.h"
#include "quant.h"

void ar_sqnr_add(ar_sqnr *sum, double x, double q) {
    sum->signal += x * x;
    sum->noise += (x - q) * (x - q);
}

double ar_sqnr_decibels(const ar_sqnr *sum) {
    return sum->noise == 0 ? INFINITY : 10 * log10(sum->signal / sum->noise);
}

/* One value under a record whose scale number `scale` is its own. */
static void add_value(ar_quant_loss *loss, const ar_quant *record, int64_t scale, ar_real v) {
    const ar_quant one = {record->bits, record->low, record->high,
                          record->zero, 1,           record->scales + scale};
    ar_real q;
    ar_quant_apply(&one, 1, &v, &q);
    ar_sqnr_add(&loss->sqnr, (double)v, (double)q);
    loss->count++;
    if (record->bits == 1 && record->low < 0) return; /* binary weights have no ends */
    double code = rint((double)(v / *one.scales)) + record->zero;
    loss->clipped += code < record->low || code > record->high;
}

static void add_weights(const advrob_model *model, ar_quant_row *row) {
    const ar_node *node = &model->nodes[row->layer];
    if (node->weights.bits == 0) return;
    const ar_parameter *weight = &model->parameters[node->weight];
    const int64_t per = weight->count / node->weights.count;
    for (int64_t i = 0; i < weight->count; i++)
        add_value(&row->weights, &node->weights, i / per, model->slab[weight->offset + i]);
}

/* The float net with the nodes of the quantized one. */
static int32_t find_base(const advrob_model *model, const advrob_model *quantized,
                         advrob_model **out) {
    int32_t status = ADVROB_OK;
    advrob_model *folded = NULL;
    const size_t channels = (size_t)quantized->nodes[0].shape.c;
    AR_TRY(ar_model_fold(model, &folded));
    for (int32_t i = 0; i < folded->node_count || i < quantized->node_count; i++) {
        const ar_node *a = &folded->nodes[i], *b = &quantized->nodes[i];
        if (i < folded->node_count && i < quantized->node_count && strcmp(a->name, b->name) == 0 &&
            a->op == b->op && memcmp(&a->shape, &b->shape, sizeof a->shape) == 0)
            continue;
        AR_FAIL(ADVROB_E_INVALID,
                "quantization: node %s is not in both models; expected a model and what quant_ptq "
                "made of it",
                i < quantized->node_count ? b->name : a->name);
    }
    if (memcmp(folded->mean, quantized->mean, sizeof(ar_real) * channels) == 0 &&
        memcmp(folded->std, quantized->std, sizeof(ar_real) * channels) == 0) {
        *out = folded;
        folded = NULL;
    } else {
        AR_TRY(ar_model_fold_normalisation(folded, out));
    }
out:
    ar_model_release(folded);
    return status;
}

/* One row for the input, if it is quantized, and one for each group that computes something new. */
static int32_t find_rows(advrob_model *base, ar_quant_table *table) {
    int32_t status = ADVROB_OK;
    ar_program *program = NULL;
    void *block;
    AR_TRY(ar_program_create(base, ar_model_output(base), false, &program));
    AR_TRY(ar_arena_alloc(&table->arena, (size_t)program->count + 1, sizeof(ar_quant_row), "table",
                          &block));
    table->rows = block;
    if (table->quantized->nodes[0].output.bits > 0) table->count++; /* layer 0, value 0 */
    for (int32_t s = 0; s < program->count; s++) {
        const ar_step *step = &program->steps[s];
        if (!step->used || !ar_ptq_computes(&base->nodes[step->node])) continue;
        ar_quant_row *row = &table->rows[table->count++];
        row->layer = step->node;
        row->value = step->value;
        add_weights(table->quantized, row);
    }
out:
    ar_program_destroy(program);
    return status;
}

/* A model that runs, and what its values are handed to. */
typedef struct runner {
    ar_quant_table *table;
    int32_t *row;    /* [nodes]: the row of the group that ends there; -1: none */
    ar_real **saved; /* [rows]: the float net's values of the tile */
    ar_program *program;
    ar_workspace *workspace;
} runner;

static int64_t values_of(const runner *r, int32_t node) {
    return ar_shape_count(r->program->model->nodes[node].shape);
}

static void see_float(void *arg, int32_t node, const ar_real *tile, int32_t lanes, int32_t count) {
    const runner *r = arg;
    if (r->row[node] < 0) return;
    const ar_quant *record = &r->table->quantized->nodes[node].output;
    ar_quant_loss *loss = &r->table->rows[r->row[node]].output;
    const int64_t values = values_of(r, node);
    memcpy(r->saved[r->row[node]], tile, sizeof(ar_real) * (size_t)(values * lanes));
    for (int64_t i = 0; i < values && record->bits > 0; i++)
        for (int32_t l = 0; l < count; l++)
            add_value(loss, record, 0, tile[i * lanes + l]);
}

static void see_quantized(void *arg, int32_t node, const ar_real *tile, int32_t lanes,
                          int32_t count) {
    const runner *r = arg;
    if (r->row[node] < 0) return;
    const ar_real *saved = r->saved[r->row[node]];
    ar_sqnr *net = &r->table->rows[r->row[node]].net;
    for (int64_t i = 0; i < values_of(r, node); i++)
        for (int32_t l = 0; l < count; l++)
            ar_sqnr_add(net, (double)saved[i * lanes + l], (double)tile[i * lanes + l]);
}

static int32_t open_runner(advrob_model *model, const runner *shared, bool quantized, runner *out) {
    int32_t status = ADVROB_OK;
    *out = *shared;
    AR_TRY(ar_program_create(model, ar_model_output(model), true, &out->program));
    AR_TRY(ar_workspace_take(out->program, AR_RUN_FORWARD, AR_MAX_LANES, &out->workspace));
    out->workspace->observe = quantized ? see_quantized : see_float;
    out->workspace->observe_arg = out;
out:
    return status;
}

static void close_runner(runner *r) {
    if (r->workspace != NULL) r->workspace->observe = NULL;
    ar_workspace_give(r->workspace);
    ar_program_destroy(r->program);
}

static int32_t compare(advrob_model *base, advrob_model *quantized, const advrob_dataset *data,
                       ar_quant_table *table) {
    int32_t status = ADVROB_OK;
    const int64_t size = ar_shape_count(base->nodes[0].shape);
    runner shared = {.table = table}, runners[2] = {{NULL}, {NULL}};
    void *block, *x;
    AR_TRY(
        ar_arena_alloc(&table->arena, (size_t)(size * AR_MAX_LANES), sizeof(float), "images", &x));
    AR_TRY(
        ar_arena_alloc(&table->arena, (size_t)base->node_count, sizeof(int32_t), "table", &block));
    shared.row = block;
    AR_TRY(ar_arena_alloc(&table->arena, (size_t)table->count + 1, sizeof(ar_real *), "table",
                          &block));
    shared.saved = block;
    for (int32_t i = 0; i < base->node_count; i++)
        shared.row[i] = -1;
    for (int32_t k = 0; k < table->count; k++) {
        const int32_t value = table->rows[k].value;
        const int64_t count = ar_shape_count(base->nodes[value].shape);
        shared.row[value] = k;
        AR_TRY(ar_arena_alloc(&table->arena, (size_t)(count * AR_MAX_LANES), sizeof(ar_real),
                              "values", &block));
        shared.saved[k] = block;
    }
    AR_TRY(open_runner(base, &shared, false, &runners[0]));
    AR_TRY(open_runner(quantized, &shared, true, &runners[1]));
    for (int64_t first = 0; first < table->images; first += AR_MAX_LANES) {
        const int64_t left = table->images - first, n = left < AR_MAX_LANES ? left : AR_MAX_LANES;
        AR_TRY(ar_cancelled(base->ctx));
        AR_TRY(ar_dataset_gather(data, first, NULL, n, x, NULL));
        for (int32_t k = 0; k < 2; k++)
            ar_run_forward(runners[k].workspace, (int32_t)n, x, NULL);
    }
out:
    close_runner(&runners[0]);
    close_runner(&runners[1]);
    return status;
}

int32_t ar_quant_table_make(const advrob_model *model, advrob_model *quantized,
                            const advrob_dataset *data, int64_t images, ar_quant_table *out) {
    int32_t status = ADVROB_OK;
    advrob_model *base = NULL;
    *out = (ar_quant_table){.quantized = quantized,
                            .images = images < data->count ? images : data->count};
    ar_arena_init(&out->arena, &quantized->ctx->memory);
    AR_TRY(find_base(model, quantized, &base));
    AR_TRY(find_rows(base, out));
    AR_TRY(compare(base, quantized, data, out));
out:
    ar_model_release(base);
    return status;
}

void ar_quant_table_free(ar_quant_table *table) {
    ar_arena_free(&table->arena);
}

/* A figure with `digits` digits, right in `width` columns. */
static void add_number(ar_buffer *text, int32_t width, int32_t digits, double value) {
    char word[32];
    if (isinf(value))
        ar_format(word, sizeof word, value > 0 ? "exact" : "noise");
    else
        ar_format(word, sizeof word, digits == 1 ? "%.1f" : "%.3f", value);
    ar_buffer_add(text, width == 8 ? " %8s" : " %9s", word);
}

static void print_loss(ar_buffer *text, const ar_quant *record, const ar_quant_loss *loss) {
    if (record->bits == 0) {
        ar_buffer_add(text, " %5s %8s %9s", "float", "", "");
        return;
    }
    ar_buffer_add(text, " %5d", record->bits);
    add_number(text, 8, 1, ar_sqnr_decibels(&loss->sqnr));
    add_number(text, 9, 3, 100 * (double)loss->clipped / (double)loss->count);
}

void ar_quant_table_print(const ar_quant_table *table, ar_buffer *text) {
    ar_buffer_add(text, "# of %lld images; SQNR in dB, clipped in %%; net: with all noise so far\n",
                  (long long)table->images);
    ar_buffer_add(text, "%-20s %5s %8s %9s %5s %8s %9s %8s %s\n", "layer", "bits", "weights",
                  "clipped", "bits", "output", "clipped", "net", "output's codes");
    for (int32_t k = 0; k < table->count; k++) {
        const ar_quant_row *row = &table->rows[k];
        const ar_node *layer = &table->quantized->nodes[row->layer];
        const ar_quant *point = &table->quantized->nodes[row->value].output;
        ar_buffer_add(text, "%-20s", layer->name);
        if (ar_ptq_layer(layer))
            print_loss(text, &layer->weights, &row->weights);
        else
            ar_buffer_add(text, " %5s %8s %9s", "", "", "");
        print_loss(text, point, &row->output);
        add_number(text, 8, 1, ar_sqnr_decibels(&row->net));
        if (point->bits > 0) {
            const double scale = (double)point->scales[0];
            ar_buffer_add(text, " %s: %.6f to %.6f, scale %.6f, zero point %.0f",
                          table->quantized->nodes[row->value].name,
                          (point->low - point->zero) * scale, (point->high - point->zero) * scale,
                          scale, point->zero);
        }
        ar_buffer_add(text, "\n");
    }
}
