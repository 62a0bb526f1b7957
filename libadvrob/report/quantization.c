/* What quantization did to each layer, as rows. */
#include <math.h>

#include "compress/quant_table.h"
#include "report.h"

typedef struct quantization_options {
    int64_t images;
    const char *label;
} quantization_options;

static const ar_option entries[] = {
    AR_I64(quantization_options, images, 512, 1, 1000000, "images, the first of the dataset"),
    AR_STR(quantization_options, label, "", NULL,
           "text for the column \"model\"; empty: no column"),
};
const ar_option_table ar_quantization_options = AR_TABLE(quantization_options, entries);

/* An infinite ratio has no cell. */
static void put_ratio(ar_puts *puts, const ar_sqnr *sqnr, const char *column) {
    const double decibels = ar_sqnr_decibels(sqnr);
    if (isfinite(decibels)) ar_puts_f64(puts, decibels, "%s", column);
}

static void put_clipped(ar_puts *puts, const ar_quant_loss *loss, const char *column) {
    ar_puts_f64(puts, (double)loss->clipped / (double)loss->count, "%s", column);
}

static void put_weights(ar_puts *puts, const ar_quant *record, const ar_quant_loss *loss) {
    double least = INFINITY, most = 0;
    ar_puts_i64(puts, record->bits, "weight_bits");
    if (record->bits == 0) return;
    for (int32_t i = 0; i < record->count; i++) {
        least = fmin(least, (double)record->scales[i]);
        most = fmax(most, (double)record->scales[i]);
    }
    put_ratio(puts, &loss->sqnr, "weight_sqnr");
    put_clipped(puts, loss, "weight_clipped");
    ar_puts_i64(puts, record->count, "weight_scales");
    ar_puts_f64(puts, least, "weight_scale_low");
    ar_puts_f64(puts, most, "weight_scale_high");
}

static void put_output(ar_puts *puts, const ar_quant *record, const ar_quant_loss *loss) {
    ar_puts_i64(puts, record->bits, "output_bits");
    if (record->bits == 0) return;
    const double scale = (double)record->scales[0];
    put_ratio(puts, &loss->sqnr, "output_sqnr");
    put_clipped(puts, loss, "output_clipped");
    ar_puts_f64(puts, (record->low - record->zero) * scale, "output_low");
    ar_puts_f64(puts, (record->high - record->zero) * scale, "output_high");
    ar_puts_f64(puts, scale, "output_scale");
    ar_puts_f64(puts, record->zero, "output_zero_point");
}

static int32_t add_row(advrob_report *report, const quantization_options *o,
                       const ar_quant_table *table, const ar_quant_row *row) {
    int32_t status = ADVROB_OK;
    const ar_node *layer = &table->quantized->nodes[row->layer];
    const ar_node *value = &table->quantized->nodes[row->value];
    ar_puts puts;
    ar_puts_init(&puts, &report->ctx->memory);
    if (o->label[0] != 0) ar_puts_str(&puts, o->label, "model");
    ar_puts_str(&puts, layer->name, "layer");
    ar_puts_str(&puts, layer->op == NULL ? "input" : layer->op->name, "operator");
    ar_puts_str(&puts, value->name, "value");
    if (layer->weight >= 0 && !layer->op->whole_batch)
        put_weights(&puts, &layer->weights, &row->weights);
    put_output(&puts, &value->output, &row->output);
    put_ratio(&puts, &row->net, "net_sqnr");
    AR_TRY(ar_report_add_row(report));
    AR_TRY(ar_report_put_all(report, &puts));
out:
    ar_puts_free(&puts);
    return status;
}

int32_t ar_report_quantization(advrob_report *report, const advrob_model *model,
                               advrob_model *quantized, const advrob_dataset *data,
                               const advrob_options *options) {
    int32_t status = ADVROB_OK, before = report->row_count;
    const ar_shape in = quantized->nodes[0].shape;
    quantization_options o;
    ar_quant_table table = {NULL};
    ar_arena arena;
    ar_option_scope scope = {"", &ar_quantization_options};
    ar_arena_init(&arena, &report->ctx->memory);
    ar_arena_init(&table.arena, &report->ctx->memory);
    AR_TRY(ar_options_check(options, "quantization", &scope, 1));
    AR_TRY(ar_options_read(options, "quantization", "", &ar_quantization_options, &arena, &o));
    AR_TRY(ar_dataset_check(data, "calibration", "the model", (int32_t[]){in.c, in.h, in.w}, 0));
    AR_TRY(ar_quant_table_make(model, quantized, data, o.images, &table));
    for (int32_t k = 0; k < table.count; k++)
        AR_TRY(add_row(report, &o, &table, &table.rows[k]));
out:
    if (status < 0) ar_report_drop_rows(report, before);
    ar_quant_table_free(&table);
    ar_arena_free(&arena);
    return status;
}
