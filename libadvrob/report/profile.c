/* A model's profile as rows: one a pass and step, one a pass in total. */
#include <string.h>

#include "report.h"

typedef struct profile_options {
    const char *passes;
    int64_t batch_size;
    int64_t repeats;
    const char *label;
} profile_options;

static const ar_option entries[] = {
    AR_STR(profile_options, passes, "attack", "forward|attack|train",
           "forward; with the gradient by the input; with that by the weights, as in training"),
    AR_I64(profile_options, batch_size, 64, 1, 4096, "images that go through at a time"),
    AR_I64(profile_options, repeats, 10, 1, 1000, "runs of which the best time counts"),
    AR_STR(profile_options, label, "", NULL, "text for the column \"model\"; empty: no column"),
};
const ar_option_table ar_profile_options = AR_TABLE(profile_options, entries);

static const char *const pass_names[AR_PASSES] = {"forward", "input_gradient", "weight_gradient"};

typedef struct profile_rows {
    advrob_report *report;
    const profile_options *options;
    const ar_profile *profile;
    ar_buffer text; /* of the cell at work */
} profile_rows;

static int32_t put_text(advrob_report *report, const char *column, const char *text) {
    union {
        const char *in;
        char *out;
    } same = {text}; /* the report copies it */
    return ar_report_put(report, column, (ar_cell){.kind = ADVROB_TYPE_STR, .text = same.out});
}

static int32_t put_number(advrob_report *report, const char *column, double number) {
    return ar_report_put(report, column, (ar_cell){.kind = ADVROB_TYPE_F64, .number = number});
}

/* A step's operator with what was fused into it. */
static int32_t put_operator(profile_rows *rows, const ar_step *step, int32_t pass) {
    const ar_node *nodes = rows->profile->program->model->nodes;
    rows->text.length = 0;
    ar_buffer_add(&rows->text, "%s%s%s%s", nodes[step->node].op->name,
                  step->norm >= 0 ? " + batch_norm" : "", step->residual >= 0 ? " + add" : "",
                  step->relu ? " + relu" : "");
    if (step->band > 0 && pass == AR_PASS_FORWARD)
        ar_buffer_add(&rows->text, " + %s", nodes[step[1].node].op->name);
    int32_t status = ar_buffer_status(&rows->text);
    return status < 0 ? status : put_text(rows->report, "operator", rows->text.data);
}

static int32_t put_shape(profile_rows *rows, const ar_step *step) {
    const ar_shape *in = &step->setup.in[0], *out = &step->setup.out;
    rows->text.length = 0;
    ar_buffer_add(&rows->text, "%dx%dx%d > %dx%dx%d", in->c, in->h, in->w, out->c, out->h, out->w);
    int32_t status = ar_buffer_status(&rows->text);
    return status < 0 ? status : put_text(rows->report, "shape", rows->text.data);
}

/* Begins a row: what stands in a step's and in a total's alike. */
static int32_t add_row(profile_rows *rows, int32_t pass, const char *layer) {
    int32_t status = ADVROB_OK;
    advrob_report *report = rows->report;
    AR_TRY(ar_report_add_row(report));
    if (rows->options->label[0] != 0) AR_TRY(put_text(report, "model", rows->options->label));
    AR_TRY(put_text(report, "pass", pass_names[pass]));
    AR_TRY(put_text(report, "layer", layer));
out:
    return status;
}

static int32_t put_figures(profile_rows *rows, double seconds, int64_t multiply_adds) {
    int32_t status = ADVROB_OK;
    advrob_report *report = rows->report;
    double done = (double)multiply_adds * (double)rows->options->batch_size;
    ar_cell count = {.kind = ADVROB_TYPE_I64, .whole = multiply_adds};
    AR_TRY(put_number(report, "milliseconds", seconds * 1e3));
    if (multiply_adds == 0 || !(seconds > 0)) return ADVROB_OK;
    AR_TRY(ar_report_put(report, "multiply_adds", count));
    AR_TRY(put_number(report, "gflops", 2 * done / seconds * 1e-9));
    AR_TRY(put_number(report, "peak_share", done / seconds / rows->profile->peak));
out:
    return status;
}

static int32_t add_pass(profile_rows *rows, int32_t pass) {
    int32_t status = ADVROB_OK;
    const ar_profile *profile = rows->profile;
    const ar_program *program = profile->program;
    const ar_node *nodes = program->model->nodes;
    int64_t multiply_adds = 0;
    ar_op_work work;
    for (int32_t s = 0; s < program->count; s++) {
        const ar_step *step = &program->steps[s];
        if (!ar_profile_work(profile, s, pass, &work)) continue;
        AR_TRY(add_row(rows, pass, nodes[step->node].name));
        AR_TRY(put_operator(rows, step, pass));
        AR_TRY(put_text(rows->report, "kernel", work.kernel));
        AR_TRY(put_text(rows->report, "level", program->kernels->name));
        AR_TRY(put_shape(rows, step));
        AR_TRY(put_figures(rows, profile->seconds[pass][s], work.multiply_adds));
        multiply_adds += work.multiply_adds;
    }
    AR_TRY(add_row(rows, pass, "total"));
    AR_TRY(put_figures(rows, profile->total[pass], multiply_adds));
    AR_TRY(put_number(rows->report, "peak_gflops", 2 * profile->peak * 1e-9));
out:
    return status;
}

int32_t ar_report_profile(advrob_report *report, advrob_model *model,
                          const advrob_options *options) {
    int32_t status = ADVROB_OK, before = report->row_count;
    profile_options o;
    ar_profile profile;
    ar_arena arena;
    ar_option_scope scope = {"", &ar_profile_options};
    profile_rows rows = {.report = report, .options = &o, .profile = &profile};
    ar_arena_init(&arena, &report->ctx->memory);
    ar_buffer_init(&rows.text, &report->ctx->memory);
    AR_TRY(ar_options_check(options, "profile", &scope, 1));
    AR_TRY(ar_options_read(options, "profile", "", &ar_profile_options, &arena, &o));
    int32_t passes = strcmp(o.passes, "forward") == 0 ? 1 : strcmp(o.passes, "attack") == 0 ? 2 : 3;
    AR_TRY(ar_profile_run(model, passes, o.batch_size, (int32_t)o.repeats, &arena, &profile));
    for (int32_t pass = 0; pass < passes; pass++)
        AR_TRY(add_pass(&rows, pass));
out:
    if (status < 0) ar_report_drop_rows(report, before);
    ar_buffer_free(&rows.text);
    ar_arena_free(&arena);
    return status;
}
