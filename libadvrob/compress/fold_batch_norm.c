/* Folds batch norms into the layers before them: the net that is deployed. */
#include "compress.h"

static const ar_option_table table = {NULL, 0, 0};

static int32_t run(const ar_compression *job, advrob_model **out) {
    return ar_model_fold(job->model, out);
}

static int32_t write_plan(const ar_compression *job, ar_buffer *text) {
    advrob_model *folded = NULL;
    int32_t status = ar_model_fold(job->model, &folded);
    if (status < 0) return status;
    for (int32_t i = 1; i < job->model->node_count; i++) {
        const ar_node *node = &job->model->nodes[i];
        if (!node->op->whole_batch) continue;
        bool gone = ar_model_find_node(folded, node->name) < 0;
        ar_buffer_add(text, "%-24s %s %s\n", node->name, gone ? "folded into" : "stays after",
                      job->model->nodes[node->inputs[0]].name);
    }
    ar_model_release(folded);
    return ar_buffer_status(text);
}

const ar_compressor ar_compressor_fold_batch_norm = {
    .name = "fold_batch_norm",
    .help = "makes batch norms part of the convolutions and linear layers before them",
    .options = &table,
    .run = run,
    .plan = write_plan,
};
