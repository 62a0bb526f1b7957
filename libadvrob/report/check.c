/* The masking check into a row: what was measured, flags, verdict and reasons. */
#include "report.h"

typedef struct check_options {
    double epsilon;
    const char *norm;
    int64_t images, steps, queries, seed, batch_size;
} check_options;

static const ar_option entries[] = {
    AR_F64(check_options, epsilon, 8.0 / 255, 0, 1e6, "radius of the ball, in pixels"),
    AR_STR(check_options, norm, "linf", "linf|l2", "norm of the ball"),
    AR_I64(check_options, images, 1000, 0, 1000000000, "the first images; 0: all"),
    AR_I64(check_options, steps, 50, 1, 1000, "gradient steps of PGD"),
    AR_I64(check_options, queries, 1000, 0, 10000, "squares that Square tries; 0: no Square"),
    AR_I64(check_options, seed, -1, -1, 9e15, "seed; -1: the context's"),
    AR_I64(check_options, batch_size, 512, 1, 65536, "images in memory at a time"),
};
const ar_option_table ar_check_options = AR_TABLE(check_options, entries);

static void put_measured(ar_puts *puts, const ar_masking *m) {
    static const char *const trials[AR_TRIALS] = {"clean",  "fgsm",     "pgd",
                                                  "square", "transfer", "large"};
    const double n = (double)m->images;
    ar_puts_i64(puts, m->images, "check_images");
    for (int32_t t = 0; t < AR_TRIALS; t++)
        if (m->ran[t]) ar_puts_f64(puts, (double)m->right[t] / n, "check_%s_accuracy", trials[t]);
    if (m->ran[AR_TRIAL_PGD]) {
        ar_puts_f64(puts, m->large_epsilon, "check_large_epsilon");
        ar_puts_f64(puts, m->chance, "check_chance");
        ar_puts_f64(puts, (double)m->raw / n, "check_pgd_raw_accuracy");
        ar_puts_f64(puts, (double)m->zero / n, "check_zero_gradients");
    }
    ar_puts_f64(puts, m->noise, "check_noise");
    ar_puts_f64(puts, (double)m->unsteady / n, "check_unsteady");
}

static int32_t put_verdict(ar_puts *puts, const ar_masking *m) {
    int32_t status = ADVROB_OK;
    ar_buffer reasons;
    char text[160];
    ar_buffer_init(&reasons, puts->arena.memory);
    for (int32_t i = 0; i < AR_MASKINGS; i++) {
        ar_puts_i64(puts, m->flag[i], "flag_%s", ar_masking_name(i));
        if (!m->flag[i]) continue;
        ar_masking_reason(m, i, text, sizeof text);
        ar_buffer_add(&reasons, "%s%s", reasons.length > 0 ? "; " : "", text);
    }
    ar_puts_str(puts, reasons.length > 0 ? "unreliable" : "reliable", "verdict");
    ar_buffer_add(&reasons, "%s", "");
    AR_TRY(ar_buffer_status(&reasons));
    ar_puts_str(puts, reasons.data, "reasons");
out:
    ar_buffer_free(&reasons);
    return status;
}

int32_t ar_report_check(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                        const advrob_options *options) {
    int32_t status = ADVROB_OK;
    const int32_t shape[3] = {target->shape.c, target->shape.h, target->shape.w};
    check_options o;
    ar_masking masking;
    ar_puts puts;
    ar_arena arena;
    ar_option_scope scope = {"", &ar_check_options};
    ar_arena_init(&arena, &report->ctx->memory);
    ar_puts_init(&puts, &report->ctx->memory);
    AR_TRY(ar_options_check(options, "check", &scope, 1));
    AR_TRY(ar_options_read(options, "check", "", &ar_check_options, &arena, &o));
    if (report->row_count == 0)
        AR_FAIL(ADVROB_E_INVALID, "report: no row yet; call advrob_report_add_row first");
    AR_TRY(ar_dataset_check(test, "evaluation", "the target", shape, target->classes));
    ar_masking_call call = {.target = target,
                            .data = test,
                            .epsilon = o.epsilon,
                            .norm = o.norm,
                            .images = o.images,
                            .group = o.batch_size,
                            .steps = o.steps,
                            .queries = o.queries,
                            .seed = o.seed};
    AR_TRY(ar_masking_check(&call, &masking));
    put_measured(&puts, &masking);
    AR_TRY(put_verdict(&puts, &masking));
    AR_TRY(ar_report_put_all(report, &puts));
out:
    ar_puts_free(&puts);
    ar_arena_free(&arena);
    return status;
}
