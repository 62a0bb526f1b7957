/* Every allocation of the public API fails once.
 *
 * Each scenario runs over and over; in the n-th run its n-th allocation is refused, until a run
 * needs no more than n. A refused call answers E_NOMEM, leaves its out-parameter alone and its
 * inputs usable: the same call succeeds right after, and the scenario ends with the results of an
 * undisturbed run. Or it is given up there, with memory still short, and everything can be freed.
 * Nothing is leaked. */
#include "sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "model/model.h"

static char folder[256];

/* ---- What scenarios start from ---- */

static void new_model(run *r, int32_t slot) {
    MAKE(r, r->models[slot], advrob_model_build(r->ctx, "tiny", NULL, &r->models[slot]));
}

static void new_target(run *r, int32_t slot) {
    new_model(r, slot);
    if (r->over) return;
    MAKE(r, r->targets[slot], advrob_target_from_model(r->models[slot], &r->targets[slot]));
}

static void look_at_data(run *r, const advrob_dataset *data) {
    char digest[17];
    assert_int_equal(advrob_dataset_digest(data, digest, sizeof digest), ADVROB_OK);
    look(r, digest, sizeof digest);
}

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* ---- Scenarios ---- */

static void scenario_options(run *r) {
    const double values[3] = {0.1, 0.2, 0.3};
    const int64_t shape[2] = {3, 4};
    new_options(r, 0);
    if (r->over) return;
    for (int32_t i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof name, "number%d", i);
        CALL(r, advrob_options_set_f64(r->options[0], name, i));
    }
    CALL(r, advrob_options_set_f64_array(r->options[0], "mean", values, 3));
    CALL(r, advrob_options_set_str(r->options[0], "mean", "a text in its place"));
    CALL(r, advrob_options_set_text(r->options[0], "steps", "20"));
    CALL(r, advrob_options_set_handle(r->options[0], "handle", r));
    new_options(r, 1);
    if (r->over) return;
    for (int32_t i = 0; i < 3; i++)
        CALL(r, advrob_options_append(r->options[1], "attacks", "pgd", r->options[0]));
    new_options(r, 2);
    if (r->over) return;
    CALL(r, advrob_options_set_i64(r->options[2], "seed", 9));
    CALL(r, advrob_options_set_i64(r->options[2], "threads", 3));
    CALL(r, advrob_options_set_str(r->options[2], "cpu", "portable"));
    advrob_context *second = NULL;
    while (refused(r, advrob_context_create(r->options[2], &second), "advrob_context_create"))
        assert_null(second);
    if (r->over) return;
    int64_t seed = advrob_context_seed(second);
    look(r, &seed, sizeof seed);
    advrob_context_destroy(second);
    MAKE(r, r->tensors[0], advrob_tensor_create(r->ctx, ADVROB_F32, 2, shape, &r->tensors[0]));
}

static void scenario_dataset(run *r) {
    uint8_t bytes[IMAGES * PIXELS];
    for (int32_t i = 0; i < IMAGES * PIXELS; i++)
        bytes[i] = (uint8_t)(i * 7);
    new_dataset(r, 0);
    if (r->over) return;
    MAKE(r, r->data[1],
         advrob_dataset_from_memory(r->ctx, ADVROB_U8, bytes, labels, IMAGES, 1, SIDE, SIDE,
                                    CLASSES, &r->data[1]));
    MAKE(r, r->data[2], advrob_dataset_slice(r->data[0], 3, 9, &r->data[2]));
    MAKE(r, r->data[3], advrob_dataset_split(r->data[1], 7, 3, &r->data[3], &r->data[4]));
    MAKE(r, r->data[5], advrob_dataset_slice(r->data[3], 1, 4, &r->data[5]));
    for (int32_t i = 0; i < SLOTS; i++)
        look_at_data(r, r->data[i]);
}

static void scenario_open(run *r) {
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_str(r->options[0], "split", "test"));
    CALL(r, advrob_options_set_i64(r->options[0], "limit", 9));
    MAKE(r, r->data[0], advrob_dataset_open(r->ctx, "mnist", folder, NULL, &r->data[0]));
    MAKE(r, r->data[1],
         advrob_dataset_open(r->ctx, "fashion-mnist", folder, r->options[0], &r->data[1]));
    look_at_data(r, r->data[0]);
    look_at_data(r, r->data[1]);
}

static void scenario_model(run *r) {
    const double mean[1] = {0.3}, std[1] = {0.4};
    float logits[IMAGES * CLASSES];
    const char *text = NULL;
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_f64_array(r->options[0], "mean", mean, 1));
    CALL(r, advrob_options_set_f64_array(r->options[0], "std", std, 1));
    CALL(r, advrob_options_set_str(r->options[0], "init", "pytorch"));
    MAKE(r, r->models[0], advrob_model_build(r->ctx, "tiny", r->options[0], &r->models[0]));
    MAKE(r, r->models[1], advrob_model_build(r->ctx, "tiny_residual", NULL, &r->models[1]));
    MAKE(r, r->models[2], advrob_model_clone(r->models[0], &r->models[2]));
    MAKE(r, r->tensors[0],
         advrob_model_get_parameter(r->models[0], "conv1.weight", &r->tensors[0]));
    ((float *)advrob_tensor_data(r->tensors[0]))[0] = 0.5f;
    CALL(r, advrob_model_set_parameter(r->models[2], "conv1.weight", r->tensors[0]));
    MAKE(r, r->tensors[1],
         advrob_model_node_output(r->models[2], "relu1", 3, images, &r->tensors[1]));
    look(r, advrob_tensor_data(r->tensors[1]),
         sizeof(float) * (size_t)advrob_tensor_count(r->tensors[1]));
    CALL(r, advrob_model_forward(r->models[2], IMAGES, images, logits));
    look(r, logits, sizeof logits);
    CALL(r, advrob_model_summary(r->models[1], &text));
    look_at_text(r, text);
    CALL(r, advrob_model_summary(r->models[1], &text));
    for (int32_t i = 0; i < 3; i++)
        look_at_model(r, r->models[i]);
    double milliseconds = 0;
    CALL(r, advrob_model_latency(r->models[0], 5, 1, &milliseconds));
    assert_true(milliseconds > 0);
}

static void scenario_files(run *r) {
    new_model(r, 0);
    if (r->over) return;
    CALL(r, advrob_model_save(r->models[0], path_of("net.safetensors")));
    MAKE(r, r->models[1],
         advrob_model_load(r->ctx, path_of("net.safetensors"), NULL, &r->models[1]));
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_i64(r->options[0], "seed", 77));
    MAKE(r, r->models[2], advrob_model_build(r->ctx, "tiny", r->options[0], &r->models[2]));
    look_at_model(r, r->models[2]);
    CALL(r, advrob_model_load_weights(r->models[2], path_of("net.safetensors")));
    CALL(r, advrob_options_set_str(r->options[0], "weights", path_of("net.safetensors")));
    MAKE(r, r->models[3], advrob_model_build(r->ctx, "tiny", r->options[0], &r->models[3]));
    for (int32_t i = 0; i < 4; i++)
        look_at_model(r, r->models[i]);
    MAKE(r, r->models[4],
         advrob_model_load(r->ctx, path_of("small.safetensors"), NULL, &r->models[4]));
    look_at_model(r, r->models[4]);
}

static int32_t own_forward(void *user, int64_t n, const float *x, float *logits) {
    (void)user;
    for (int64_t i = 0; i < n; i++) {
        logits[2 * i] = x[i * PIXELS];
        logits[2 * i + 1] = 1 - x[i * PIXELS];
    }
    return 0;
}

static int32_t own_backward(void *user, int64_t n, const float *x, const float *dlogits,
                            float *dx) {
    (void)user;
    (void)x;
    memset(dx, 0, sizeof(float) * (size_t)n * PIXELS);
    for (int64_t i = 0; i < n; i++)
        dx[i * PIXELS] = dlogits[2 * i] - dlogits[2 * i + 1];
    return 0;
}

static void scenario_target(run *r) {
    static const int32_t zeros[IMAGES];
    static float dx[IMAGES * PIXELS];
    float logits[IMAGES * CLASSES];
    double losses[IMAGES];
    new_target(r, 0);
    if (r->over) return;
    MAKE(r, r->targets[1],
         advrob_target_from_callbacks(r->ctx, 1, SIDE, SIDE, 2, 0, 1, own_forward, own_backward,
                                      NULL, &r->targets[1]));
    CALL(r, advrob_target_forward(r->targets[0], IMAGES, images, logits));
    look(r, logits, sizeof logits);
    CALL(r,
         advrob_target_loss_gradient(r->targets[0], "margin", IMAGES, images, labels, losses, dx));
    look(r, dx, sizeof dx);
    CALL(r, advrob_target_loss_gradient(r->targets[1], "ce", IMAGES, images, zeros, losses, dx));
    look(r, losses, sizeof losses);
}

static void scenario_attack(run *r) {
    static const int32_t zeros[IMAGES];
    static float out[IMAGES * PIXELS];
    int32_t predictions[IMAGES];
    double losses[IMAGES];
    new_target(r, 0);
    if (r->over) return;
    MAKE(r, r->targets[1],
         advrob_target_from_callbacks(r->ctx, 1, SIDE, SIDE, 2, 0, 1, own_forward, own_backward,
                                      NULL, &r->targets[1]));
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_f64(r->options[0], "epsilon", 0.1));
    MAKE(r, r->attacks[0], advrob_attack_create(r->ctx, "fgsm", r->options[0], &r->attacks[0]));
    CALL(r, advrob_options_set_i64(r->options[0], "steps", 2));
    CALL(r, advrob_options_set_i64(r->options[0], "restarts", 2));
    CALL(r, advrob_options_set_i64(r->options[0], "early_stop", 1));
    CALL(r, advrob_options_set_str(r->options[0], "loss", "margin"));
    MAKE(r, r->attacks[1], advrob_attack_create(r->ctx, "pgd", r->options[0], &r->attacks[1]));
    for (int32_t i = 0; i < 2; i++) {
        CALL(r, advrob_attack_run(r->attacks[i], r->targets[0], IMAGES, images, labels, out,
                                  predictions, losses));
        look(r, out, sizeof out);
        look(r, predictions, sizeof predictions);
    }
    CALL(r, advrob_attack_run(r->attacks[1], r->targets[1], IMAGES, images, zeros, NULL, NULL,
                              losses));
    look(r, losses, sizeof losses);
}

static void scenario_quantize(run *r) {
    static const char *const ranges[2] = {"minmax", "mse"}; /* without and with histograms */
    new_model(r, 0);
    if (!r->over) new_dataset(r, 0);
    for (int32_t i = 0; i < 2 && !r->over; i++)
        make_smaller(r, i + 1, "quant_ptq", "range", ranges[i]);
    if (r->over) return;
    CALL(r, advrob_model_save(r->models[2], path_of("small.safetensors")));
    look_at_model(r, r->models[0]);
}

/* Worse by 1 with each quantized layer. */
static int32_t count_layers(void *user, advrob_model *model, double *score) {
    (void)user;
    *score = 0;
    for (int32_t i = 1; i < model->node_count; i++)
        *score -= model->nodes[i].weights.bits > 0;
    return 0;
}

/* One of three layers goes back to float; what the others lost. */
static void scenario_guard(run *r) {
    new_model(r, 0);
    if (!r->over) new_dataset(r, 0);
    if (!r->over) new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_text(r->options[0], "bias_correction", "1"));
    CALL(r, advrob_options_set_text(r->options[0], "range", "moving_average"));
    CALL(r, advrob_options_set_text(r->options[0], "max_drop", "2"));
    MAKE(r, r->compressors[0],
         advrob_compressor_create(r->ctx, "quant_ptq", r->options[0], &r->compressors[0]));
    CALL(r, advrob_compressor_on_score(r->compressors[0], count_layers, NULL));
    MAKE(r, r->models[1],
         advrob_compressor_run(r->compressors[0], r->models[0], r->data[0], &r->models[1]));
    look_at_model(r, r->models[1]);
    MAKE(r, r->reports[0], advrob_report_create(r->ctx, &r->reports[0]));
    while (refused(
        r, advrob_report_quantization(r->reports[0], r->models[0], r->models[1], r->data[0], NULL),
        "advrob_report_quantization"))
        assert_int_equal(advrob_report_rows(r->reports[0]), 0);
}

/* Lowered, saved, loaded, run and attacked. */
static void scenario_engine(run *r) {
    float logits[IMAGES * 10];
    int32_t predictions[IMAGES];
    new_model(r, 0);
    if (!r->over) new_dataset(r, 0);
    if (!r->over) make_smaller(r, 1, "quant_ptq", "range", "minmax");
    if (r->over) return;
    MAKE(r, r->engines[0], advrob_engine_create(r->models[1], NULL, &r->engines[0]));
    CALL(r, advrob_engine_save(r->engines[0], path_of("engine")));
    MAKE(r, r->engines[1], advrob_engine_load(r->ctx, path_of("engine"), &r->engines[1]));
    CALL(r, advrob_engine_run(r->engines[1], IMAGES, images, logits));
    look(r, logits, sizeof logits);
    MAKE(r, r->targets[0], advrob_target_from_engine(r->engines[1], r->models[1], &r->targets[0]));
    MAKE(r, r->attacks[0], advrob_attack_create(r->ctx, "fgsm", NULL, &r->attacks[0]));
    CALL(r, advrob_attack_run(r->attacks[0], r->targets[0], IMAGES, images, labels, NULL,
                              predictions, NULL));
    look(r, predictions, sizeof predictions);
}

/* Batch norm: made anew, folded, quantized. */
static void scenario_batch_norm(run *r) {
    MAKE(r, r->models[0], advrob_model_build(r->ctx, "tiny_batch_norm", NULL, &r->models[0]));
    if (!r->over) new_dataset(r, 0);
    if (!r->over) make_smaller(r, 1, "reestimate_batch_norm", "batch_size", "16");
    if (r->over) return;
    new_options(r, 2);
    if (r->over) return;
    MAKE(r, r->compressors[2],
         advrob_compressor_create(r->ctx, "fold_batch_norm", NULL, &r->compressors[2]));
    MAKE(r, r->models[2],
         advrob_compressor_run(r->compressors[2], r->models[0], NULL, &r->models[2]));
    look_at_model(r, r->models[2]);
    if (!r->over) make_smaller(r, 3, "quant_ptq", "range", "minmax");
}

/* Trains a copy; a refused run may have taken whole steps, so it starts again from a fresh copy. */
static void train(run *r, int32_t slot, const char *name) {
    int32_t status;
    do {
        advrob_model_destroy(r->models[slot]);
        MAKE(r, r->models[slot], advrob_model_clone(r->models[0], &r->models[slot]));
        status = advrob_finetune_run(r->finetunes[slot], r->models[slot], r->data[0], r->data[1],
                                     &r->histories[slot]);
        if (status < 0) assert_null(r->histories[slot]);
    } while (refused(r, status, name));
    if (r->over) return;
    look_at_model(r, r->models[slot]);
    for (int32_t i = 0; i < advrob_history_rows(r->histories[slot]); i++) {
        double loss = 0;
        assert_int_equal(advrob_history_get(r->histories[slot], i, "loss", &loss), ADVROB_OK);
        look(r, &loss, sizeof loss);
    }
}

static void scenario_finetune(run *r) {
    new_model(r, 0);
    if (!r->over) new_dataset(r, 0);
    if (r->over) return;
    MAKE(r, r->data[1], advrob_dataset_slice(r->data[0], 0, 10, &r->data[1]));
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_i64(r->options[0], "epochs", 2));
    CALL(r, advrob_options_set_i64(r->options[0], "batch_size", 12));
    CALL(r, advrob_options_set_text(r->options[0], "milestones", "1"));
    CALL(r, advrob_options_set_str(r->options[0], "schedule", "step"));
    MAKE(r, r->finetunes[1],
         advrob_finetune_create(r->ctx, "standard", r->options[0], &r->finetunes[1]));
    CALL(r, advrob_options_set_i64(r->options[0], "attack.steps", 2));
    MAKE(r, r->finetunes[2],
         advrob_finetune_create(r->ctx, "pgd_at", r->options[0], &r->finetunes[2]));
    train(r, 1, "standard");
    if (!r->over) train(r, 2, "pgd_at");
}

static void fill_report(run *r) {
    CALL(r, advrob_report_set_str(r->reports[0], "dataset", "noise"));
    CALL(r, advrob_report_set_f64(r->reports[0], "epsilon", 0.1));
    CALL(r, advrob_report_add_column(r->reports[0], "first"));
    for (int32_t i = 0; i < 2; i++) {
        CALL(r, advrob_report_add_row(r->reports[0]));
        CALL(r, advrob_report_put_str(r->reports[0], "model", "a, \"quoted\""));
        CALL(r, advrob_report_put_f64(r->reports[0], "sparsity", 0.25));
        CALL(r, advrob_report_put_i64(r->reports[0], "number", i));
    }
}

static void scenario_report(run *r) {
    new_target(r, 0);
    if (!r->over) new_dataset(r, 0);
    if (!r->over) new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_append(r->options[0], "attacks", "fgsm", NULL));
    new_options(r, 1);
    if (r->over) return;
    CALL(r, advrob_options_set_i64(r->options[1], "steps", 2));
    CALL(r, advrob_options_append(r->options[0], "attacks", "pgd", r->options[1]));
    CALL(r, advrob_options_set_str(r->options[0], "labels", "one,two"));
    MAKE(r, r->reports[0], advrob_report_create(r->ctx, &r->reports[0]));
    fill_report(r);
    if (r->over) return;
    CALL(r, advrob_options_set_str(r->options[0], "records", path_of("records.csv")));
    CALL(r, advrob_options_set_i64(r->options[0], "steps", 1));
    CALL(r, advrob_options_set_i64(r->options[0], "per_class", 1));
    (void)remove(path_of("records.csv"));
    CALL(r, advrob_report_evaluate(r->reports[0], r->targets[0], r->data[0], r->options[0]));
    CALL(r, advrob_report_evaluate(r->reports[0], r->targets[0], r->data[0], r->options[0]));
    CALL(r, advrob_options_set_i64(r->options[1], "queries", 2));
    CALL(r, advrob_options_set_i64(r->options[1], "images", 5));
    new_target(r, 1);
    if (r->over) return;
    CALL(r, advrob_target_set_source(r->targets[0], r->targets[1]));
    CALL(r, advrob_report_check(r->reports[0], r->targets[0], r->data[0], r->options[1]));
    const char *verdict = NULL;
    CALL(r, advrob_report_get_str(r->reports[0], 1, "verdict", &verdict));
    look_at_text(r, verdict);
    new_options(r, 2);
    if (r->over) return;
    CALL(r, advrob_options_append(r->options[2], "attacks", "fgsm", NULL));
    CALL(r, advrob_report_curve(r->reports[0], r->targets[0], r->data[0], r->options[2]));
    CALL(r, advrob_report_write(r->reports[0], path_of("report.json")));
    CALL(r, advrob_report_write(r->reports[0], path_of("report.csv")));
    MAKE(r, r->reports[1], advrob_report_create(r->ctx, &r->reports[1]));
    CALL(r, advrob_report_read_csv(r->reports[1], path_of("report.csv")));
    int32_t rows = advrob_report_rows(r->reports[1]);
    assert_int_equal(rows, 2 + 5);
    double accuracy = -1;
    const char *text = NULL;
    assert_int_equal(advrob_report_get_f64(r->reports[1], 1, "worst_accuracy", &accuracy),
                     ADVROB_OK);
    assert_int_equal(advrob_report_get_str(r->reports[1], 0, "model", &text), ADVROB_OK);
    look(r, &accuracy, sizeof accuracy);
    look_at_text(r, text);
}

/* The page's parts; each is added once, whatever was refused before. */
static void fill_page(run *r, advrob_report *report) {
    static const double v[3] = {1, 2, 4};
    static const int32_t shape[3] = {1, SIDE, SIDE};
    CALL(r, advrob_report_set_title(report, "title"));
    CALL(r, advrob_report_add_figure(report, "1 %", "label"));
    CALL(r, advrob_report_add_heading(report, "heading"));
    CALL(r, advrob_report_add_text(report, "text"));
    CALL(r, advrob_options_set_str(r->options[0], "x_scale", "log"));
    CALL(r, advrob_options_set_f64_array(r->options[0], "x_ticks", v, 3));
    CALL(r, advrob_report_add_plot(report, "plot", "x", "y", r->options[0]));
    CALL(r, advrob_options_set_str(r->options[1], "labels", "a\nb\nc"));
    CALL(r, advrob_report_add_series(report, "series", 3, v, v, v, v, r->options[1]));
    CALL(r, advrob_report_add_images(report, "images", 2, 1, shape, images, "a\nb", "c\nd"));
    CALL(r, advrob_report_add_table(report, "table", "a\nb"));
    CALL(r, advrob_report_add_table_row(report, "1\n2"));
    CALL(r, advrob_report_shade_table(report, 0, 2));
    CALL(r, advrob_report_add_row(report));
    CALL(r, advrob_report_put_f64(report, "share", 0.5));
    CALL(r, advrob_report_set_str(report, "command", "again"));
}

static void look_at_file(run *r, const char *name) {
    static char text[65536];
    FILE *file = fopen(path_of(name), "rb");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_true(size > 0 && size < sizeof text);
    look(r, text, size);
}

static void scenario_page(run *r) {
    MAKE(r, r->reports[0], advrob_report_create(r->ctx, &r->reports[0]));
    new_options(r, 0);
    if (!r->over) new_options(r, 1);
    if (!r->over) fill_page(r, r->reports[0]);
    if (r->over) return;
    CALL(r, advrob_report_write(r->reports[0], path_of("page.html")));
    CALL(r, advrob_report_write(r->reports[0], path_of("page.json")));
    CALL(r, advrob_report_write_plots(r->reports[0], path_of("plots.csv")));
    look_at_file(r, "page.html");
    look_at_file(r, "page.json");
    look_at_file(r, "plots.csv");
}

/* ---- The sweep ---- */

static bool file_contains(const char *name, const char *word) {
    char text[4096] = "";
    FILE *file = fopen(path_of(name), "rb");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    return strstr(text, word) != NULL;
}

/* A report row that cannot be filled stays as it is, whatever allocation of the evaluation fails.
 */
static void scenario_row(run *r) {
    new_target(r, 0);
    if (!r->over) new_dataset(r, 0);
    if (r->over) return;
    MAKE(r, r->reports[0], advrob_report_create(r->ctx, &r->reports[0]));
    CALL(r, advrob_report_add_row(r->reports[0]));
    CALL(r, advrob_report_put_f64(r->reports[0], "clean_accuracy", -5));
    while (
        refused(r, advrob_report_set_str(r->reports[0], "secret", "x"), "advrob_report_set_str")) {
        assert_int_equal(advrob_report_write(r->reports[0], path_of("row.json")), ADVROB_OK);
        assert_false(file_contains("row.json", "secret"));
    }
    if (r->over) return;
    double value = 0;
    while (refused(r, advrob_report_evaluate(r->reports[0], r->targets[0], r->data[0], NULL),
                   "advrob_report_evaluate")) {
        assert_true(advrob_report_get_f64(r->reports[0], 0, "test_images", &value) < 0);
        assert_int_equal(advrob_report_get_f64(r->reports[0], 0, "clean_accuracy", &value), 0);
        assert_true(value == -5);
    }
    if (r->over) return;
    assert_int_equal(advrob_report_get_f64(r->reports[0], 0, "clean_accuracy", &value), ADVROB_OK);
    look(r, &value, sizeof value);
}

/* Nor does a profile that cannot be finished leave rows. */
static void scenario_profile(run *r) {
    const char *text = NULL;
    new_options(r, 0);
    if (r->over) return;
    CALL(r, advrob_options_set_i64(r->options[0], "repeats", 1));
    CALL(r, advrob_options_set_i64(r->options[0], "batch_size", 9));
    CALL(r, advrob_options_set_str(r->options[0], "passes", "train"));
    CALL(r, advrob_options_set_str(r->options[0], "label", "tiny"));
    MAKE(r, r->models[0], advrob_model_build(r->ctx, "tiny_batch_norm", NULL, &r->models[0]));
    MAKE(r, r->reports[0], advrob_report_create(r->ctx, &r->reports[0]));
    while (refused(r, advrob_report_profile(r->reports[0], r->models[0], r->options[0]),
                   "advrob_report_profile"))
        assert_int_equal(advrob_report_rows(r->reports[0]), 0);
    if (r->over) return;
    int32_t rows = advrob_report_rows(r->reports[0]);
    for (int32_t i = 0; i < rows; i++) {
        assert_int_equal(advrob_report_get_str(r->reports[0], i, "layer", &text), ADVROB_OK);
        look_at_text(r, text);
    }
}

/* ---- Files and tests ---- */

/* An IDX file of bytes, plain or packed by its name. */
static void write_idx(const char *name, int32_t rank, bool packed) {
    unsigned char head[16] = {0, 0, 8, (unsigned char)rank};
    head[7] = IMAGES;
    head[11] = head[15] = SIDE;
    gzFile file = gzopen(path_of(name), packed ? "wb" : "wbT");
    assert_non_null(file);
    gzwrite(file, head, 4 + 4 * (unsigned)rank);
    for (int32_t i = 0; i < (rank == 1 ? IMAGES : IMAGES * PIXELS); i++)
        gzputc(file, rank == 1 ? i % CLASSES : i * 31 % 256);
    assert_int_equal(gzclose(file), Z_OK);
}

static int set_up(void **state) {
    (void)state;
    /* In memory where there is such a place: thousands of files are synced. */
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    test_folder_make(folder, sizeof folder);
    fill_images();
    write_idx("train-images-idx3-ubyte", 3, false);
    write_idx("train-labels-idx1-ubyte", 1, false);
    write_idx("t10k-images-idx3-ubyte.gz", 3, true);
    write_idx("t10k-labels-idx1-ubyte.gz", 1, true);
    run r;
    open_run(&r, 1);
    scenario_quantize(&r); /* leaves a quantized model's file */
    close_run(&r);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static const struct {
    const char *name;
    void (*run)(run *r);
} scenarios[] = {
    {"options", scenario_options},   {"dataset", scenario_dataset},
    {"open", scenario_open},         {"model", scenario_model},
    {"files", scenario_files},       {"target", scenario_target},
    {"attack", scenario_attack},     {"quantize", scenario_quantize},
    {"finetune", scenario_finetune}, {"batch_norm", scenario_batch_norm},
    {"report", scenario_report},     {"page", scenario_page},
    {"row", scenario_row},           {"profile", scenario_profile},
    {"engine", scenario_engine},     {"guard", scenario_guard},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

static void test_sweep(void **state) {
    const int32_t *number = *state;
    int64_t before = sweep_faults;
    sweep_all(scenarios[*number].run);
    print_message("%lld faults\n", (long long)(sweep_faults - before));
}

static void test_enough(void **state) {
    (void)state;
    print_message("%lld faults injected\n", (long long)sweep_faults);
    assert_true(sweep_faults >= 1000);
}

int main(void) {
    static int32_t numbers[SCENARIOS];
    struct CMUnitTest tests[SCENARIOS + 1];
    for (int32_t i = 0; i < SCENARIOS; i++) {
        numbers[i] = i;
        tests[i] = (struct CMUnitTest){scenarios[i].name, test_sweep, NULL, NULL, &numbers[i]};
    }
    tests[SCENARIOS] = (struct CMUnitTest)cmocka_unit_test(test_enough);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
