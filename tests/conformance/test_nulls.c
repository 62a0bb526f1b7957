/* NULL for every pointer of every exported function: E_INVALID with a message that says so, or a
 * harmless 0 or NULL from functions without a status. Never a crash. The calls stand in one place,
 * so that a new function is missed only by leaving it out here: the test counts the names against
 * the list of exports. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <stdio.h>
#include <string.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE };

static advrob_context *ctx;
static advrob_options *options;
static advrob_tensor *tensor;
static advrob_dataset *data;
static advrob_model *model;
static advrob_target *target;
static advrob_attack *attack;
static advrob_compressor *prune;
static advrob_finetune *finetune;
static advrob_history *history;
static advrob_report *report;
static float x[PIXELS], out[PIXELS], logits[10];
static int32_t y[1], shape[3];
static int64_t extents[1] = {1};
static char
    called[16384]; /* names of the functions that were called, each with a blank behind it */

static void note(const char *call) {
    char name[128];
    size_t length = strcspn(call, "(");
    snprintf(name, sizeof name, "%.*s ", (int)length, call);
    if (strstr(called, name) != NULL) return;
    assert_true(strlen(called) + strlen(name) < sizeof called);
    memcpy(called + strlen(called), name, strlen(name) + 1);
}

static void refused(int32_t status, const char *call) {
    note(call);
    if (status != ADVROB_E_INVALID || strstr(advrob_last_message(), "NULL") == NULL)
        fail_msg("%s: %d, %s", call, status, advrob_last_message());
}

static void holds(bool true_or_not, const char *call) {
    note(call);
    if (!true_or_not) fail_msg("%s", call);
}

#define NO(call) refused(call, #call)           /* E_INVALID */
#define ZERO(call) holds((call) == 0, #call)    /* 0 or NULL, and OK where NULL is allowed */
#define RUNS(call) ((call), holds(true, #call)) /* returns nothing */
#define IS(call, wanted) holds((call) == (wanted), #call)

static void test_basics(void **state) {
    (void)state;
    advrob_options *o = NULL;
    advrob_context *c = NULL;
    advrob_tensor *t = NULL;
    advrob_energy *meter = NULL;
    double joules;
    IS(advrob_version(), 100 * ADVROB_VERSION_MINOR + ADVROB_VERSION_PATCH);
    holds(strlen(advrob_version_text()) > 4, "advrob_version_text()");
    holds(strcmp(advrob_status_name(12345), "unknown") == 0, "advrob_status_name(12345)");
    holds(strcmp(advrob_status_text(12345), "unknown") == 0, "advrob_status_text(12345)");
    holds(advrob_last_message() != NULL, "advrob_last_message()");
    NO(advrob_context_create(NULL, NULL));
    RUNS(advrob_context_destroy(NULL));
    NO(advrob_context_set_log(NULL, NULL, NULL));
    NO(advrob_context_set_progress(NULL, NULL, NULL));
    NO(advrob_context_set_parallel(NULL, NULL, NULL));
    ZERO(advrob_context_set_log(ctx, NULL, NULL));
    ZERO(advrob_context_set_progress(ctx, NULL, NULL));
    ZERO(advrob_context_set_parallel(ctx, NULL, NULL));
    RUNS(advrob_context_cancel(NULL));
    RUNS(advrob_context_rearm(NULL));
    ZERO(advrob_context_threads(NULL));
    ZERO(advrob_context_seed(NULL));
    holds(strlen(advrob_context_cpu(NULL)) == 0, "advrob_context_cpu(NULL)");
    ZERO(advrob_context_memory(NULL));
    ZERO(advrob_context_memory_peak(NULL));
    NO(advrob_options_create(NULL));
    NO(advrob_options_create_with(NULL, NULL, &o));
    NO(advrob_options_create_with(test_alloc, NULL, NULL));
    RUNS(advrob_options_destroy(NULL));
    NO(advrob_options_set_f64(NULL, "a", 1));
    NO(advrob_options_set_f64(options, NULL, 1));
    NO(advrob_options_set_i64(NULL, "a", 1));
    NO(advrob_options_set_i64(options, NULL, 1));
    NO(advrob_options_set_str(NULL, "a", "b"));
    NO(advrob_options_set_str(options, NULL, "b"));
    NO(advrob_options_set_str(options, "a", NULL));
    NO(advrob_options_set_text(NULL, "a", "b"));
    NO(advrob_options_set_text(options, NULL, "b"));
    NO(advrob_options_set_text(options, "a", NULL));
    NO(advrob_options_set_f64_array(NULL, "a", NULL, 0));
    NO(advrob_options_set_f64_array(options, NULL, NULL, 0));
    NO(advrob_options_set_f64_array(options, "a", NULL, 1));
    NO(advrob_options_set_handle(NULL, "a", ctx));
    NO(advrob_options_set_handle(options, NULL, ctx));
    NO(advrob_options_append(NULL, "a", "b", NULL));
    NO(advrob_options_append(options, NULL, "b", NULL));
    NO(advrob_options_append(options, "a", NULL, NULL));
    ZERO(advrob_component_count(NULL));
    ZERO(advrob_component_name_at(NULL, 0));
    ZERO(advrob_component_help_at(NULL, 0));
    ZERO(advrob_option_count(NULL, "pgd"));
    ZERO(advrob_option_count("attack", NULL));
    IS(advrob_option_at(NULL, "pgd", 0, NULL, NULL, NULL, NULL, NULL), ADVROB_E_UNKNOWN);
    IS(advrob_option_at("attack", NULL, 0, NULL, NULL, NULL, NULL, NULL), ADVROB_E_UNKNOWN);
    NO(advrob_tensor_create(NULL, ADVROB_F32, 1, extents, &t));
    NO(advrob_tensor_create(ctx, ADVROB_F32, 1, NULL, &t));
    NO(advrob_tensor_create(ctx, ADVROB_F32, 1, extents, NULL));
    RUNS(advrob_tensor_destroy(NULL));
    ZERO(advrob_tensor_dtype(NULL));
    ZERO(advrob_tensor_rank(NULL));
    IS(advrob_tensor_dim(NULL, 0), -1);
    ZERO(advrob_tensor_count(NULL));
    ZERO(advrob_tensor_data(NULL));
    NO(advrob_energy_open(NULL, NULL, &meter));
    NO(advrob_energy_open(ctx, NULL, NULL));
    NO(advrob_energy_read(NULL, &joules));
    RUNS(advrob_energy_close(NULL));
    assert_true(o == NULL && c == NULL && t == NULL && meter == NULL);
}

static void test_datasets(void **state) {
    (void)state;
    advrob_dataset *d = NULL;
    char digest[17];
    NO(advrob_dataset_open(NULL, "mnist", "/", NULL, &d));
    NO(advrob_dataset_open(ctx, NULL, "/", NULL, &d));
    NO(advrob_dataset_open(ctx, "mnist", NULL, NULL, &d));
    NO(advrob_dataset_open(ctx, "mnist", "/", NULL, NULL));
    NO(advrob_dataset_from_memory(NULL, ADVROB_F32, x, y, 1, 1, SIDE, SIDE, 10, &d));
    NO(advrob_dataset_from_memory(ctx, ADVROB_F32, NULL, y, 1, 1, SIDE, SIDE, 10, &d));
    NO(advrob_dataset_from_memory(ctx, ADVROB_F32, x, NULL, 1, 1, SIDE, SIDE, 10, &d));
    NO(advrob_dataset_from_memory(ctx, ADVROB_F32, x, y, 1, 1, SIDE, SIDE, 10, NULL));
    RUNS(advrob_dataset_destroy(NULL));
    ZERO(advrob_dataset_count(NULL));
    ZERO(advrob_dataset_classes(NULL));
    NO(advrob_dataset_shape(NULL, shape));
    NO(advrob_dataset_shape(data, NULL));
    NO(advrob_dataset_read(NULL, 0, 1, x, y));
    ZERO(advrob_dataset_read(data, 0, 1, NULL, NULL));
    NO(advrob_dataset_slice(NULL, 0, 1, &d));
    NO(advrob_dataset_slice(data, 0, 1, NULL));
    NO(advrob_dataset_split(NULL, 1, 0, &d, NULL));
    NO(advrob_dataset_split(data, 1, 0, NULL, NULL));
    NO(advrob_dataset_digest(NULL, digest, sizeof digest));
    NO(advrob_dataset_digest(data, NULL, 17));
    assert_null(d);
}

static void test_models(void **state) {
    (void)state;
    advrob_model *m = NULL;
    advrob_tensor *t = NULL;
    const char *text = NULL;
    char digest[17];
    double ms;
    NO(advrob_model_build(NULL, "tiny", NULL, &m));
    NO(advrob_model_build(ctx, NULL, NULL, &m));
    NO(advrob_model_build(ctx, "tiny", NULL, NULL));
    const char *none[] = {NULL}, *input[] = {"input"};
    NO(advrob_model_begin(NULL, 1, SIDE, SIDE, NULL, &m));
    NO(advrob_model_begin(ctx, 1, SIDE, SIDE, NULL, NULL));
    NO(advrob_model_add(NULL, "relu", "a", input, 1, NULL));
    NO(advrob_model_add(model, NULL, "a", input, 1, NULL));
    NO(advrob_model_add(model, "relu", NULL, input, 1, NULL));
    NO(advrob_model_add(model, "relu", "a", NULL, 1, NULL));
    NO(advrob_model_add(model, "relu", "a", none, 1, NULL));
    NO(advrob_model_initialise(NULL, "he", 0));
    NO(advrob_model_initialise(model, NULL, 0));
    NO(advrob_model_load(NULL, "/", NULL, &m));
    NO(advrob_model_load(ctx, NULL, NULL, &m));
    NO(advrob_model_load(ctx, "/", NULL, NULL));
    NO(advrob_model_save(NULL, "/"));
    NO(advrob_model_save(model, NULL));
    NO(advrob_model_load_weights(NULL, "/"));
    NO(advrob_model_load_weights(model, NULL));
    NO(advrob_model_clone(NULL, &m));
    NO(advrob_model_clone(model, NULL));
    RUNS(advrob_model_destroy(NULL));
    NO(advrob_model_input_shape(NULL, shape));
    NO(advrob_model_input_shape(model, NULL));
    NO(advrob_model_box(NULL, NULL, NULL, NULL));
    assert_int_equal(advrob_model_box(model, NULL, NULL, NULL), ADVROB_OK);
    ZERO(advrob_model_classes(NULL));
    ZERO(advrob_model_parameter_total(NULL));
    ZERO(advrob_model_macs(NULL));
    ZERO(advrob_model_bytes(NULL));
    ZERO(advrob_model_parameter_count(NULL));
    ZERO(advrob_model_parameter_name_at(NULL, 0));
    NO(advrob_model_get_parameter(NULL, "a", &t));
    NO(advrob_model_get_parameter(model, NULL, &t));
    NO(advrob_model_get_parameter(model, "a", NULL));
    NO(advrob_model_set_parameter(NULL, "a", tensor));
    NO(advrob_model_set_parameter(model, NULL, tensor));
    NO(advrob_model_set_parameter(model, "a", NULL));
    ZERO(advrob_model_node_count(NULL));
    ZERO(advrob_model_node_name_at(NULL, 0));
    NO(advrob_model_forward(NULL, 1, x, logits));
    NO(advrob_model_forward(model, 1, NULL, logits));
    NO(advrob_model_forward(model, 1, x, NULL));
    NO(advrob_model_node_output(NULL, "relu1", 1, x, &t));
    NO(advrob_model_node_output(model, NULL, 1, x, &t));
    NO(advrob_model_node_output(model, "relu1", 1, NULL, &t));
    NO(advrob_model_node_output(model, "relu1", 1, x, NULL));
    NO(advrob_model_summary(NULL, &text));
    NO(advrob_model_summary(model, NULL));
    NO(advrob_model_digest(NULL, digest, sizeof digest));
    NO(advrob_model_digest(model, NULL, 17));
    NO(advrob_model_latency(NULL, 1, 1, &ms));
    NO(advrob_model_latency(model, 1, 1, NULL));
    assert_true(m == NULL && t == NULL && text == NULL);
}

static int32_t forward(void *user, int64_t n, const float *in, float *answer) {
    (void)user;
    (void)in;
    memset(answer, 0, sizeof(float) * 2 * (size_t)n);
    return 0;
}

static void test_engines(void **state) {
    (void)state;
    advrob_engine *e = NULL;
    advrob_target *t = NULL;
    int64_t bytes = 0;
    NO(advrob_engine_create(NULL, NULL, &e));
    NO(advrob_engine_create(model, NULL, NULL));
    NO(advrob_engine_save(NULL, "/"));
    NO(advrob_engine_load(NULL, "/", &e));
    NO(advrob_engine_load(ctx, NULL, &e));
    NO(advrob_engine_load(ctx, "/", NULL));
    RUNS(advrob_engine_destroy(NULL));
    NO(advrob_engine_shape(NULL, shape));
    ZERO(advrob_engine_classes(NULL));
    NO(advrob_engine_memory(NULL, &bytes, &bytes));
    NO(advrob_engine_run(NULL, 1, x, logits));
    NO(advrob_engine_run_u8(NULL, 1, (const uint8_t *)"", logits));
    NO(advrob_target_from_engine(NULL, model, &t));
}

static void test_targets(void **state) {
    (void)state;
    advrob_target *t = NULL;
    advrob_attack *a = NULL;
    NO(advrob_target_from_model(NULL, &t));
    NO(advrob_target_from_model(model, NULL));
    NO(advrob_target_from_callbacks(NULL, 1, 8, 8, 2, 0, 1, forward, NULL, NULL, &t));
    NO(advrob_target_from_callbacks(ctx, 1, 8, 8, 2, 0, 1, NULL, NULL, NULL, &t));
    NO(advrob_target_from_callbacks(ctx, 1, 8, 8, 2, 0, 1, forward, NULL, NULL, NULL));
    const double low = 0, high = 1, unit = 1;
    NO(advrob_target_set_box(NULL, &low, &high, &unit));
    NO(advrob_target_set_box(target, NULL, &high, &unit));
    NO(advrob_target_set_box(target, &low, NULL, &unit));
    NO(advrob_target_set_box(target, &low, &high, NULL));
    NO(advrob_target_set_source(NULL, NULL));
    NO(advrob_target_set_lattice(NULL, 255));
    RUNS(advrob_target_destroy(NULL));
    NO(advrob_target_shape(NULL, shape));
    NO(advrob_target_shape(target, NULL));
    NO(advrob_target_box(NULL, NULL, NULL, NULL));
    assert_int_equal(advrob_target_box(target, NULL, NULL, NULL), ADVROB_OK);
    ZERO(advrob_target_classes(NULL));
    NO(advrob_target_forward(NULL, 1, x, logits));
    NO(advrob_target_forward(target, 1, NULL, logits));
    NO(advrob_target_forward(target, 1, x, NULL));
    NO(advrob_target_loss_gradient(NULL, "ce", 1, x, y, NULL, out));
    NO(advrob_target_loss_gradient(target, NULL, 1, x, y, NULL, out));
    NO(advrob_target_loss_gradient(target, "ce", 1, NULL, y, NULL, out));
    NO(advrob_target_loss_gradient(target, "ce", 1, x, NULL, NULL, out));
    ZERO(advrob_target_loss_gradient(target, "ce", 1, x, y, NULL, NULL));
    NO(advrob_attack_create(NULL, "pgd", NULL, &a));
    NO(advrob_attack_create(ctx, NULL, NULL, &a));
    NO(advrob_attack_create(ctx, "pgd", NULL, NULL));
    RUNS(advrob_attack_destroy(NULL));
    NO(advrob_attack_run(NULL, target, 1, x, y, out, NULL, NULL));
    NO(advrob_attack_run(attack, NULL, 1, x, y, out, NULL, NULL));
    NO(advrob_attack_run(attack, target, 1, NULL, y, out, NULL, NULL));
    NO(advrob_attack_run(attack, target, 1, x, NULL, out, NULL, NULL));
    NO(advrob_attack_run_targeted(NULL, target, 1, x, y, y, out, NULL, NULL));
    NO(advrob_attack_run_targeted(attack, NULL, 1, x, y, y, out, NULL, NULL));
    NO(advrob_attack_run_targeted(attack, target, 1, NULL, y, y, out, NULL, NULL));
    NO(advrob_attack_run_targeted(attack, target, 1, x, NULL, y, out, NULL, NULL));
    NO(advrob_attack_run_targeted(attack, target, 1, x, y, NULL, out, NULL, NULL));
    ZERO(advrob_attack_run(attack, target, 1, x, y, NULL, NULL, NULL));
    assert_true(t == NULL && a == NULL);
}

static void test_recipes(void **state) {
    (void)state;
    advrob_compressor *c = NULL;
    advrob_finetune *f = NULL;
    advrob_model *m = NULL;
    char *text = NULL;
    const char *word = NULL;
    double value;
    NO(advrob_compressor_create(NULL, "prune_l1", NULL, &c));
    NO(advrob_compressor_create(ctx, NULL, NULL, &c));
    NO(advrob_compressor_create(ctx, "prune_l1", NULL, NULL));
    NO(advrob_compressor_on_step(NULL, NULL, NULL));
    ZERO(advrob_compressor_on_step(prune, NULL, NULL));
    NO(advrob_compressor_on_score(NULL, NULL, NULL));
    ZERO(advrob_compressor_on_score(prune, NULL, NULL));
    RUNS(advrob_compressor_destroy(NULL));
    NO(advrob_compressor_run(NULL, model, NULL, &m));
    NO(advrob_compressor_run(prune, NULL, NULL, &m));
    NO(advrob_compressor_run(prune, model, NULL, NULL));
    NO(advrob_compressor_plan(NULL, model, NULL, &text));
    NO(advrob_compressor_plan(prune, NULL, NULL, &text));
    NO(advrob_compressor_plan(prune, model, NULL, NULL));
    RUNS(advrob_text_destroy(NULL, NULL));
    RUNS(advrob_text_destroy(ctx, NULL));
    NO(advrob_finetune_create(NULL, "standard", NULL, &f));
    NO(advrob_finetune_create(ctx, NULL, NULL, &f));
    NO(advrob_finetune_create(ctx, "standard", NULL, NULL));
    RUNS(advrob_finetune_destroy(NULL));
    NO(advrob_finetune_run(NULL, model, data, NULL, NULL));
    NO(advrob_finetune_run(finetune, NULL, data, NULL, NULL));
    NO(advrob_finetune_run(finetune, model, NULL, NULL, NULL));
    ZERO(advrob_history_rows(NULL));
    NO(advrob_history_get(NULL, 0, "loss", &value));
    NO(advrob_history_get(history, 0, NULL, &value));
    NO(advrob_history_get(history, 0, "loss", NULL));
    NO(advrob_history_get_str(NULL, "ended", &word));
    NO(advrob_history_get_str(history, NULL, &word));
    NO(advrob_history_get_str(history, "ended", NULL));
    RUNS(advrob_history_destroy(NULL));
    assert_true(c == NULL && f == NULL && m == NULL && text == NULL);
}

static void test_reports(void **state) {
    (void)state;
    advrob_report *r = NULL;
    const char *text = NULL;
    double value;
    NO(advrob_report_create(NULL, &r));
    NO(advrob_report_create(ctx, NULL));
    RUNS(advrob_report_destroy(NULL));
    NO(advrob_report_add_column(NULL, "a"));
    NO(advrob_report_add_column(report, NULL));
    NO(advrob_report_set_str(NULL, "a", "b"));
    NO(advrob_report_set_str(report, NULL, "b"));
    NO(advrob_report_set_str(report, "a", NULL));
    NO(advrob_report_set_f64(NULL, "a", 1));
    NO(advrob_report_set_f64(report, NULL, 1));
    NO(advrob_report_add_row(NULL));
    NO(advrob_report_put_str(NULL, "a", "b"));
    NO(advrob_report_put_str(report, NULL, "b"));
    NO(advrob_report_put_str(report, "a", NULL));
    NO(advrob_report_put_f64(NULL, "a", 1));
    NO(advrob_report_put_f64(report, NULL, 1));
    NO(advrob_report_put_i64(NULL, "a", 1));
    NO(advrob_report_put_i64(report, NULL, 1));
    ZERO(advrob_report_rows(NULL));
    NO(advrob_report_get_f64(NULL, 0, "a", &value));
    NO(advrob_report_get_f64(report, 0, NULL, &value));
    NO(advrob_report_get_f64(report, 0, "a", NULL));
    NO(advrob_report_get_str(NULL, 0, "a", &text));
    NO(advrob_report_get_str(report, 0, NULL, &text));
    NO(advrob_report_get_str(report, 0, "a", NULL));
    NO(advrob_report_evaluate(NULL, target, data, NULL));
    NO(advrob_report_evaluate(report, NULL, data, NULL));
    NO(advrob_report_evaluate(report, target, NULL, NULL));
    NO(advrob_report_curve(NULL, target, data, NULL));
    NO(advrob_report_curve(report, NULL, data, NULL));
    NO(advrob_report_curve(report, target, NULL, NULL));
    NO(advrob_report_check(NULL, target, data, NULL));
    NO(advrob_report_check(report, NULL, data, NULL));
    NO(advrob_report_check(report, target, NULL, NULL));
    NO(advrob_report_profile(NULL, model, NULL));
    NO(advrob_report_profile(report, NULL, NULL));
    NO(advrob_report_quantization(NULL, model, model, data, NULL));
    NO(advrob_report_quantization(report, NULL, model, data, NULL));
    NO(advrob_report_quantization(report, model, NULL, data, NULL));
    NO(advrob_report_quantization(report, model, model, NULL, NULL));
    NO(advrob_report_write(NULL, "/"));
    NO(advrob_report_write(report, NULL));
    NO(advrob_report_read_csv(NULL, "/"));
    NO(advrob_report_read_csv(report, NULL));
    assert_true(r == NULL && text == NULL);
}

static void test_pages(void **state) {
    (void)state;
    const double at[1] = {0};
    NO(advrob_report_set_title(NULL, "a"));
    NO(advrob_report_set_title(report, NULL));
    NO(advrob_report_add_figure(NULL, "a", "b"));
    NO(advrob_report_add_figure(report, NULL, "b"));
    NO(advrob_report_add_figure(report, "a", NULL));
    NO(advrob_report_add_heading(NULL, "a"));
    NO(advrob_report_add_heading(report, NULL));
    NO(advrob_report_add_text(NULL, "a"));
    NO(advrob_report_add_text(report, NULL));
    NO(advrob_report_add_plot(NULL, "a", "b", "c", NULL));
    NO(advrob_report_add_plot(report, NULL, "b", "c", NULL));
    NO(advrob_report_add_plot(report, "a", NULL, "c", NULL));
    NO(advrob_report_add_plot(report, "a", "b", NULL, NULL));
    ZERO(advrob_report_add_plot(report, "a", "b", "c", NULL));
    NO(advrob_report_add_series(NULL, "a", 1, at, at, NULL, NULL, NULL));
    NO(advrob_report_add_series(report, NULL, 1, at, at, NULL, NULL, NULL));
    NO(advrob_report_add_series(report, "a", 1, NULL, at, NULL, NULL, NULL));
    NO(advrob_report_add_series(report, "a", 1, at, NULL, NULL, NULL, NULL));
    NO(advrob_report_add_series(report, "a", 1, at, at, NULL, at, NULL));
    NO(advrob_report_add_series(report, "a", 1, at, at, at, NULL, NULL));
    ZERO(advrob_report_add_series(report, "a", 0, NULL, NULL, NULL, NULL, NULL));
    NO(advrob_report_add_images(NULL, "a", 1, 1, shape, x, NULL, NULL));
    NO(advrob_report_add_images(report, NULL, 1, 1, shape, x, NULL, NULL));
    NO(advrob_report_add_images(report, "a", 1, 1, NULL, x, NULL, NULL));
    NO(advrob_report_add_images(report, "a", 1, 1, shape, NULL, NULL, NULL));
    NO(advrob_report_add_table(NULL, "a", "b"));
    NO(advrob_report_add_table(report, NULL, "b"));
    NO(advrob_report_add_table(report, "a", NULL));
    NO(advrob_report_add_table_row(NULL, "a"));
    NO(advrob_report_add_table_row(report, NULL));
    NO(advrob_report_shade_table(NULL, 0, 1));
    NO(advrob_report_write_plots(NULL, "/"));
    NO(advrob_report_write_plots(report, NULL));
}

/* Every exported function was called above. */
static void test_all_called(void **state) {
    (void)state;
    char line[128];
    int32_t count = 0;
    FILE *file = fopen(SOURCE_ROOT "/tests/abi/exports.txt", "r");
    if (file == NULL) test_skip_or_fail("tests/abi/exports.txt");
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, " @\n")] = 0;
        if (strncmp(line, "advrob_", 7) != 0) continue;
        count++;
        size_t length = strlen(line);
        line[length] = ' ';
        line[length + 1] = 0;
        if (strstr(called, line) == NULL) fail_msg("%sis not called by this test", line);
    }
    fclose(file);
    assert_true(count >= 100);
}

static int set_up(void **state) {
    (void)state;
    int32_t failed = 0;
    failed |= advrob_context_create(NULL, &ctx);
    failed |= advrob_options_create(&options);
    failed |= advrob_tensor_create(ctx, ADVROB_F32, 1, extents, &tensor);
    failed |= advrob_dataset_from_memory(ctx, ADVROB_F32, x, y, 1, 1, SIDE, SIDE, 10, &data);
    failed |= advrob_model_build(ctx, "tiny", NULL, &model);
    failed |= advrob_attack_create(ctx, "pgd", NULL, &attack);
    failed |= advrob_compressor_create(ctx, "prune_l1", NULL, &prune);
    failed |= advrob_finetune_create(ctx, "standard", NULL, &finetune);
    failed |= advrob_finetune_run(finetune, model, data, NULL, &history);
    failed |= advrob_target_from_model(model, &target);
    failed |= advrob_report_create(ctx, &report);
    failed |= advrob_report_add_row(report);
    return failed;
}

static int tear_down(void **state) {
    (void)state;
    advrob_context_destroy(ctx);
    advrob_options_destroy(options);
    advrob_tensor_destroy(tensor);
    advrob_dataset_destroy(data);
    advrob_model_destroy(model);
    advrob_target_destroy(target);
    advrob_attack_destroy(attack);
    advrob_compressor_destroy(prune);
    advrob_finetune_destroy(finetune);
    advrob_history_destroy(history);
    advrob_report_destroy(report);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),     cmocka_unit_test(test_datasets),
        cmocka_unit_test(test_models),     cmocka_unit_test(test_engines),
        cmocka_unit_test(test_targets),    cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_reports),    cmocka_unit_test(test_pages),
        cmocka_unit_test(test_all_called),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
