/* An evaluation's file, from which a run that was stopped goes on to the same bytes; files of other
 * runs and damaged ones; budgets in passes and minutes. */
#include "support/support.h"

#include "support/evaluation.h"

/* ---- A run that is stopped and goes on ---- */

static char *slurp(const char *file, size_t *size) {
    FILE *f = fopen(file, "rb");
    char *bytes = malloc(1 << 20);
    assert_non_null(f);
    *size = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static int32_t stop_after(void *user, const char *what, int64_t done, int64_t total, double value) {
    (void)total;
    (void)value;
    return strcmp(what, "evaluate") == 0 && done >= *(const int64_t *)user;
}

static void refused(scene *s, const char *text, const char *file, int32_t status,
                    const char *says) {
    advrob_options *options = evaluation(text, file);
    test_ok(advrob_report_add_row(s->report));
    int32_t got = advrob_report_evaluate(s->report, s->target, s->data, options);
    if (got != status || strstr(ar_message(), says) == NULL)
        fail_msg("%d, \"%s\", expected %d and \"%s\"", got, ar_message(), status, says);
    assert_null(ar_report_get(s->report, advrob_report_rows(s->report) - 1, "clean_accuracy"));
    ar_options_destroy(options);
}

static void test_resume(void **state) {
    (void)state;
    static const char *const texts[] = {"batch_size=8 cascade=1", "batch_size=8",
                                        "batch_size=8 budget_passes=30"};
    for (int32_t t = 0; t < 3; t++) {
        scene s;
        size_t size, again;
        open_scene(&s, 2);
        evaluate(&s, texts[t], path);
        char *calm = slurp(path, &size);
        for (int64_t limit = 8; limit < N; limit += 24) {
            unlink(path);
            test_ok(advrob_context_set_progress(s.ctx, stop_after, &limit));
            refused(&s, texts[t], path, ADVROB_E_CANCELLED, "cancelled");
            char *part = slurp(path, &again);
            assert_true(again < size && memcmp(part, calm, again) == 0);
            free(part);
            test_ok(advrob_context_set_progress(s.ctx, NULL, NULL));
            evaluate(&s, texts[t], path);
            part = slurp(path, &again);
            assert_true(again == size && memcmp(part, calm, size) == 0);
            free(part);
            int32_t last = advrob_report_rows(s.report) - 1;
            for (int32_t c = 0; c < s.report->column_count; c++) {
                const ar_cell *a = ar_report_get(s.report, 0, s.report->columns[c]);
                const ar_cell *b = ar_report_get(s.report, last, s.report->columns[c]);
                assert_true((a == NULL) == (b == NULL));
                if (a != NULL) assert_true(a->number == b->number && a->whole == b->whole);
            }
        }
        /* A finished file: nothing is asked of the target again. */
        int64_t never = 0;
        test_ok(advrob_context_set_progress(s.ctx, stop_after, &never));
        evaluate(&s, texts[t], path);
        free(calm);
        unlink(path);
        close_scene(&s);
    }
}

static void test_other_runs(void **state) {
    (void)state;
    scene s;
    size_t size, again;
    open_scene(&s, 1);
    evaluate(&s, "batch_size=8", path);
    char *bytes = slurp(path, &size);
    refused(&s, "batch_size=8 cascade=1", path, ADVROB_E_INVALID, "other attacks or options");
    refused(&s, "batch_size=9", path, ADVROB_E_INVALID, "other attacks or options");
    refused(&s, "batch_size=8 budget_passes=9", path, ADVROB_E_INVALID, "other attacks or options");
    advrob_options *options = evaluation("batch_size=8", path);
    test_ok(ar_options_set_str(options, "labels", "a,b,d"));
    assert_int_equal(advrob_report_evaluate(s.report, s.target, s.data, options), ADVROB_E_INVALID);
    ar_options_destroy(options);
    s.model->slab[3] += 0.125f;
    refused(&s, "batch_size=8", path, ADVROB_E_INVALID, "another net");
    s.model->slab[3] -= 0.125f;
    advrob_dataset *part = NULL, *all = s.data;
    test_ok(ar_dataset_slice(s.data, 0, N - 1, &part));
    s.data = part;
    refused(&s, "batch_size=8", path, ADVROB_E_INVALID, "other data");
    s.data = all;
    ar_dataset_release(part);
    char *left = slurp(path, &again);
    assert_true(again == size && memcmp(left, bytes, size) == 0);
    free(left);
    free(bytes);
    unlink(path);
    refused(&s, "", "/nowhere/records.csv", ADVROB_E_IO, "/nowhere/records.csv");
    close_scene(&s);
}

/* Any bytes in the file's place end in an answer or an error. */
static void test_damaged_files(void **state) {
    (void)state;
    scene s;
    size_t size;
    int32_t accepted = 0, errors = 0;
    open_scene(&s, 1);
    evaluate(&s, "batch_size=16 cascade=1", path);
    char *bytes = slurp(path, &size);
    advrob_options *options = evaluation("batch_size=16 cascade=1", other_path);
    for (size_t at = 0; at < size; at += size / 300) {
        for (int32_t way = 0; way < 2; way++) {
            FILE *f = fopen(other_path, "wb");
            char kept = bytes[at];
            bytes[at] = way == 0 ? (char)('0' + at % 75) : kept;
            assert_int_equal(fwrite(bytes, 1, way == 0 ? size : at, f), way == 0 ? size : at);
            bytes[at] = kept;
            fclose(f);
            int32_t status = advrob_report_evaluate(s.report, s.target, s.data, options);
            if (status != ADVROB_OK && status != ADVROB_E_FORMAT && status != ADVROB_E_INVALID)
                fail_msg("byte %d, way %d: %d, %s", (int)at, way, status, ar_message());
            accepted += status == ADVROB_OK;
            errors += status != ADVROB_OK;
        }
    }
    print_message("%d damaged files refused, %d taken\n", errors, accepted);
    assert_true(errors > 300);
    ar_options_destroy(options);
    free(bytes);
    unlink(path);
    unlink(other_path);
    close_scene(&s);
}

/* ---- Budgets ---- */

static void test_budget_passes(void **state) {
    (void)state;
    scene s;
    expected e;
    static const double budgets[] = {1, 10, 25, 40, 1e9};
    open_scene(&s, 2);
    expect(&s, true, &e);
    double all = 0, before = 2;
    for (int32_t a = 0; a < ATTACKS; a++)
        all += (double)(e.forwards[a] + e.backwards[a]) / N;
    for (int32_t b = 0; b < 5; b++) {
        char text[64];
        snprintf(text, sizeof text, "cascade=1 batch_size=16 budget_passes=%g", budgets[b]);
        evaluate(&s, text, path);
        double spent = (number(&s, b, "forwards") + number(&s, b, "backwards")) / N;
        double robust = number(&s, b, "worst_accuracy");
        double unfinished = number(&s, b, "unfinished_images");
        /* No run begins when it is spent; the one that does is of 10 passes at most. */
        assert_true(spent <= budgets[b] + 10 && spent <= all);
        assert_true(robust <= before && robust >= (double)e.withstood / N);
        assert_true((unfinished > 0) == (robust > (double)e.withstood / N || spent < all));
        assert_true((unfinished > 0) == (number(&s, b, "unfinished_attacks") > 0));
        print_message("budget %g: %.1f passes, %.3f robust, %d unfinished\n", budgets[b], spent,
                      robust, (int)unfinished);
        before = robust;
        advrob_report *r = read_records(&s, path);
        int32_t marked = 0;
        for (int32_t i = 0; i < N; i++) {
            const ar_cell *c = ar_report_get(r, i, "c_prediction");
            marked += c != NULL && c->kind == ADVROB_TYPE_STR;
        }
        assert_true(marked == number(&s, b, "c_unfinished"));
        advrob_report_destroy(r);
        unlink(path);
    }
    assert_true(number(&s, 4, "unfinished_images") == 0 && number(&s, 0, "unfinished_images") > 0);
    close_scene(&s);
}

/* Minutes that are over at once: nothing is attacked. The same file without a limit is then brought
 * to its end, to the bytes of a run that had all its time. */
static void test_budget_minutes(void **state) {
    (void)state;
    scene s;
    expected e;
    size_t size, again;
    open_scene(&s, 1);
    expect(&s, true, &e);
    evaluate(&s, "cascade=1 batch_size=16", other_path);
    evaluate(&s, "cascade=1 batch_size=16 budget_minutes=1e-12", path);
    assert_true(number(&s, 1, "forwards") == 0);
    assert_true(number(&s, 1, "unfinished_images") == (double)e.rights);
    assert_true(number(&s, 1, "unfinished_attacks") == ATTACKS);
    assert_true(number(&s, 1, "worst_accuracy") == number(&s, 1, "clean_accuracy"));
    evaluate(&s, "cascade=1 batch_size=16 budget_minutes=1000", path);
    assert_true(number(&s, 2, "unfinished_images") == 0);
    check_row(&s, 2, &e);
    char *calm = slurp(other_path, &size), *bytes = slurp(path, &again);
    assert_true(size == again && memcmp(calm, bytes, size) == 0);
    free(calm);
    free(bytes);
    unlink(path);
    unlink(other_path);
    close_scene(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_other_runs),
        cmocka_unit_test(test_damaged_files),  cmocka_unit_test(test_budget_passes),
        cmocka_unit_test(test_budget_minutes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
