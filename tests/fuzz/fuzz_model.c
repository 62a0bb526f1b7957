/* Any bytes are refused with a message or make a model that holds together. */
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "io/io.h"
#include "model/model.h"

static void check_record(const ar_quant *record, int64_t channels) {
    if (record->bits == 0) return;
    HOLDS(record->count == 1 || record->count == channels);
    HOLDS(record->low < record->high && record->zero >= record->low &&
          record->zero <= record->high);
}

static void check_model(const advrob_model *m) {
    HOLDS(m->node_count >= 2 && m->low[0] < m->high[0]);
    for (int32_t i = 0; i < m->node_count; i++) {
        const ar_node *node = &m->nodes[i];
        HOLDS((i == 0) == (node->op == NULL) && ar_model_find_node(m, node->name) == i);
        HOLDS(ar_shape_check(node->name, node->shape) == ADVROB_OK);
        for (int32_t k = 0; k < ar_node_inputs(node); k++)
            HOLDS(node->inputs[k] >= 0 && node->inputs[k] < i);
        check_record(&node->output, 1);
        check_record(&node->weights, node->weight < 0 ? 0 : m->parameters[node->weight].shape[0]);
    }
    for (int32_t c = 0; c < m->nodes[0].shape.c; c++)
        HOLDS(isfinite(m->mean[c]) && isfinite(m->std[c]) && m->std[c] > 0);
    HOLDS(ar_model_check_finite(m) == ADVROB_OK);
    HOLDS(ar_model_macs(m) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    uint64_t before = ctx->memory.used;
    advrob_model *m = NULL;
    int32_t status = ar_model_file_parse(ctx, "fuzz", data, size, &m);
    HOLDS((status == ADVROB_OK) == (m != NULL));
    HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_LIMIT ||
          status == ADVROB_E_NONFINITE || status == ADVROB_E_UNSUPPORTED);
    if (m != NULL)
        check_model(m);
    else
        HOLDS(strlen(ar_message()) > 0);
    ar_model_release(m);
    HOLDS(ctx->memory.used == before);
    return 0;
}
