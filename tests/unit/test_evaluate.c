/* What an evaluation keeps of each image, against attacks on one image at a time: cascades, passes,
 * budgets, curves; and its file, from which a run that was stopped goes on to the same bytes. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/report.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"

enum { N = 61, SIZE = 64, CLASSES = 10, ATTACKS = 3 };

static char folder[256], path[320], other_path[320];

/* A net, and images most of which it gets right. */
typedef struct scene {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *target;
    advrob_dataset *data;
    advrob_report *report;
} scene;

static void open_scene(scene *s, int32_t threads) {
    float *x = draw_images(N, SIZE, 5), logits[N * CLASSES];
    int32_t y[N];
    memset(s, 0, sizeof *s);
    s->ctx = test_context_at(NULL, threads, ar_kernels_get(ar_cpu_detect(), false));
    s->model = test_zoo(s->ctx, "tiny");
    test_ok(ar_target_from_model(s->model, &s->target));
    test_ok(ar_target_forward(s->target, N, x, logits));
    for (int32_t i = 0; i < N; i++) {
        y[i] = ar_argmax(CLASSES, logits + i * CLASSES);
        if (i % 7 == 3) y[i] = (y[i] + 1) % CLASSES;
    }
    s->data = test_dataset_of(s->ctx, N, (ar_shape){1, 8, 8}, CLASSES, x, y);
    test_ok(advrob_report_create(s->ctx, &s->report));
    free(x);
}

static void close_scene(scene *s) {
    advrob_report_destroy(s->report);
    ar_dataset_release(s->data);
    ar_target_release(s->target);
    ar_model_release(s->model);
    ar_context_release(s->ctx);
}

static double number(const scene *s, int32_t row, const char *column) {
    double value = NAN;
    test_ok(advrob_report_get_f64(s->report, row, column, &value));
    return value;
}

static const struct {
    const char *name, *text;
} attacks[ATTACKS] = {{"fgsm", "epsilon=0.01"},
                      {"pgd", "epsilon=0.02 step=0.005 steps=5 restarts=3 early_stop=1"},
                      {"pgd", "epsilon=0.04 step=0.01 steps=4 restarts=2"}};

static advrob_options *evaluation(const char *text, const char *records) {
    advrob_options *options = test_options(text);
    test_ok(ar_options_set_str(options, "labels", "a,b,c"));
    if (records != NULL) test_ok(ar_options_set_str(options, "records", records));
    for (int32_t i = 0; i < ATTACKS; i++) {
        advrob_options *sub = test_options(attacks[i].text);
        test_ok(ar_options_append(options, "attacks", attacks[i].name, sub));
        ar_options_destroy(sub);
    }
    return options;
}

static void evaluate(scene *s, const char *text, const char *records) {
    advrob_options *options = evaluation(text, records);
    test_ok(advrob_report_add_row(s->report));
    test_ok(advrob_report_evaluate(s->report, s->target, s->data, options));
    ar_options_destroy(options);
}

/* ---- One image at a time ---- */

/* The record of attack a on image i, all restarts at once; and the net's clean answer. */
static void attack_one(const scene *s, int32_t a, int64_t i, const char *more,
                       ar_attack_record *record) {
    float x[SIZE];
    int32_t y;
    char text[160];
    snprintf(text, sizeof text, "%s%s", attacks[a].text, more);
    advrob_options *options = test_options(text);
    advrob_attack *attack = NULL;
    test_ok(ar_dataset_gather(s->data, i, NULL, 1, x, &y));
    test_ok(ar_attack_create(s->ctx, attacks[a].name, options, &attack));
    ar_attack_call call = {
        .n = 1, .x = x, .y = &y, .ids = &i, .loss = ar_loss_find("ce"), .records = record};
    test_ok(ar_attack_run(attack, s->target, NULL, &call));
    ar_attack_release(attack);
    ar_options_destroy(options);
}

static int32_t clean_one(const scene *s, int64_t i, int32_t *y, double *loss) {
    float x[SIZE], z[CLASSES];
    test_ok(ar_dataset_gather(s->data, i, NULL, 1, x, y));
    test_ok(ar_target_forward(s->target, 1, x, z));
    *loss = ar_loss_find("ce")->sample(CLASSES, z, *y, -1, NULL);
    return ar_argmax(CLASSES, z);
}

/* What is expected of all images. */
typedef struct expected {
    int32_t y[N], clean[N];
    double clean_loss[N];
    ar_attack_record one[ATTACKS][N];
    bool right[N], asked[ATTACKS][N];
    int64_t held[ATTACKS], rights, withstood, forwards[ATTACKS], backwards[ATTACKS];
} expected;

static void expect(const scene *s, bool cascade, expected *e) {
    memset(e, 0, sizeof *e);
    for (int64_t i = 0; i < N; i++) {
        e->clean[i] = clean_one(s, i, &e->y[i], &e->clean_loss[i]);
        e->right[i] = e->clean[i] == e->y[i];
        bool holds = e->right[i];
        e->rights += holds;
        for (int32_t a = 0; a < ATTACKS && e->right[i]; a++) {
            e->asked[a][i] = holds || !cascade;
            if (!e->asked[a][i]) continue;
            attack_one(s, a, i, "", &e->one[a][i]);
            bool stands = e->one[a][i].prediction == e->y[i];
            e->held[a] += stands;
            e->forwards[a] += e->one[a][i].forwards;
            e->backwards[a] += e->one[a][i].backwards;
            holds = holds && stands;
        }
        e->withstood += holds;
    }
}

static void check_row(const scene *s, int32_t row, const expected *e) {
    static const char *const labels[ATTACKS] = {"a", "b", "c"};
    int64_t forwards = 0, backwards = 0;
    char column[64];
    assert_true(number(s, row, "clean_accuracy") == (double)e->rights / N);
    assert_true(number(s, row, "worst_accuracy") == (double)e->withstood / N);
    for (int32_t a = 0; a < ATTACKS; a++) {
        snprintf(column, sizeof column, "%s_accuracy", labels[a]);
        assert_true(number(s, row, column) == (double)e->held[a] / N);
        snprintf(column, sizeof column, "%s_forwards", labels[a]);
        assert_true(number(s, row, column) == (double)e->forwards[a]);
        snprintf(column, sizeof column, "%s_backwards", labels[a]);
        assert_true(number(s, row, column) == (double)e->backwards[a]);
        forwards += e->forwards[a];
        backwards += e->backwards[a];
    }
    assert_true(number(s, row, "forwards") == (double)forwards);
    assert_true(number(s, row, "backwards") == (double)backwards);
}

static void test_cascade(void **state) {
    (void)state;
    static const char *const texts[] = {"batch_size=7", "batch_size=64", "batch_size=1"};
    expected each, worst;
    for (int32_t threads = 1; threads <= 3; threads++) {
        scene s;
        char text[64];
        open_scene(&s, threads);
        if (threads == 1) expect(&s, false, &each);
        if (threads == 1) expect(&s, true, &worst);
        for (int32_t t = 0; t < 3; t++) {
            evaluate(&s, texts[t], NULL);
            check_row(&s, 2 * t, &each);
            snprintf(text, sizeof text, "%s cascade=1", texts[t]);
            evaluate(&s, text, NULL);
            check_row(&s, 2 * t + 1, &worst);
        }
        close_scene(&s);
    }
    print_message("%d right of %d; alone %d, %d and %d hold, one after the other %d, %d and %d\n",
                  (int)each.rights, N, (int)each.held[0], (int)each.held[1], (int)each.held[2],
                  (int)worst.held[0], (int)worst.held[1], (int)worst.held[2]);
    assert_true(each.rights < N && each.withstood > 0 && each.withstood == worst.withstood);
    assert_true(worst.held[2] < worst.held[1] && worst.held[1] < worst.held[0]);
    assert_true(worst.held[0] < each.rights && worst.forwards[2] < each.forwards[2]);
}

/* ---- Records ---- */

static advrob_report *read_records(const scene *s, const char *file) {
    advrob_report *records = NULL;
    test_ok(advrob_report_create(s->ctx, &records));
    test_ok(advrob_report_read_csv(records, file));
    return records;
}

static double cell(const advrob_report *r, int32_t row, const char *column) {
    double value = NAN;
    test_ok(advrob_report_get_f64(r, row, column, &value));
    return value;
}

/* The attack whose answer is kept: the first that an image fell to, else that of the highest loss.
 */
static int32_t winner(const expected *e, int64_t i) {
    int32_t best = -1;
    for (int32_t a = 0; a < ATTACKS; a++)
        if (e->asked[a][i] && e->one[a][i].prediction != e->y[i]) return a;
    for (int32_t a = 0; a < ATTACKS; a++)
        if (e->asked[a][i] && (best < 0 || e->one[a][i].loss > e->one[best][i].loss)) best = a;
    return best;
}

static void check_records(const scene *s, const char *file, const expected *e) {
    static const char *const labels[ATTACKS] = {"a", "b", "c"};
    advrob_report *r = read_records(s, file);
    assert_int_equal(advrob_report_rows(r), N);
    for (int32_t i = 0; i < N; i++) {
        const char *text = NULL;
        int32_t w = winner(e, i);
        int64_t forwards = 0;
        const ar_attack_record *one = w >= 0 ? &e->one[w][i] : NULL;
        assert_true(cell(r, i, "image") == i && cell(r, i, "label") == e->y[i]);
        assert_true(cell(r, i, "clean_prediction") == e->clean[i]);
        assert_true(cell(r, i, "clean_loss") == e->clean_loss[i]);
        assert_true(cell(r, i, "prediction") == (one != NULL ? one->prediction : e->clean[i]));
        assert_true(cell(r, i, "loss") == (one != NULL ? one->loss : e->clean_loss[i]));
        assert_true(cell(r, i, "linf") == (one != NULL ? one->linf : 0));
        assert_true(cell(r, i, "l2") == (one != NULL ? one->l2 : 0));
        if (one != NULL) {
            test_ok(advrob_report_get_str(r, i, "attack", &text));
            assert_string_equal(text, labels[w]);
            assert_true(cell(r, i, "run") == one->run + 1 && one->linf <= 0.04);
        } else {
            assert_null(ar_report_get(r, i, "attack"));
        }
        for (int32_t a = 0; a < ATTACKS; a++) {
            char column[32];
            snprintf(column, sizeof column, "%s_prediction", labels[a]);
            if (e->asked[a][i])
                assert_true(cell(r, i, column) == e->one[a][i].prediction);
            else
                assert_null(ar_report_get(r, i, column));
            forwards += e->one[a][i].forwards;
        }
        assert_true(cell(r, i, "forwards") == (double)forwards);
    }
    advrob_report_destroy(r);
}

static void test_records(void **state) {
    (void)state;
    scene s;
    expected e;
    open_scene(&s, 2);
    for (int32_t cascade = 0; cascade <= 1; cascade++) {
        expect(&s, cascade, &e);
        evaluate(&s, cascade ? "batch_size=9 cascade=1" : "batch_size=9", path);
        check_row(&s, cascade, &e);
        check_records(&s, path, &e);
        unlink(path);
    }
    close_scene(&s);
}

/* After each run of an attack, against attacks with fewer restarts. */
static void test_steps(void **state) {
    (void)state;
    scene s;
    char column[64];
    const char *name = NULL;
    static const char *const names[] = {"a", "b 1 pgd", "b 2 pgd", "b 3 pgd", "c 1 pgd", "c 2 pgd"};
    open_scene(&s, 1);
    evaluate(&s, "cascade=1 steps=1", NULL);
    double passes = 0;
    int64_t right = 0;
    bool fell[N] = {false};
    int32_t step = 0;
    for (int32_t a = 0; a < ATTACKS; a++)
        for (int32_t run = 1; run <= (a == 0 ? 1 : a == 1 ? 3 : 2); run++) {
            right = 0;
            double now = passes;
            for (int64_t i = 0; i < N; i++) {
                ar_attack_record record;
                char more[32] = "";
                int32_t y;
                double loss;
                if (a > 0) snprintf(more, sizeof more, " restarts=%d", run);
                if (clean_one(&s, i, &y, &loss) != y || fell[i]) continue;
                attack_one(&s, a, i, more, &record);
                now += (double)(record.forwards + record.backwards) / N;
                right += record.prediction == y;
            }
            step++;
            snprintf(column, sizeof column, "step%d", step);
            test_ok(advrob_report_get_str(s.report, 0, column, &name));
            assert_string_equal(name, names[step - 1]);
            snprintf(column, sizeof column, "step%d_passes", step);
            assert_true(fabs(number(&s, 0, column) - now) < 1e-9);
            snprintf(column, sizeof column, "step%d_accuracy", step);
            assert_true(number(&s, 0, column) == (double)right / N);
            if (run < (a == 0 ? 1 : a == 1 ? 3 : 2)) continue;
            passes = now;
            for (int64_t i = 0; i < N; i++) {
                ar_attack_record record;
                int32_t y;
                double loss;
                if (clean_one(&s, i, &y, &loss) != y || fell[i]) continue;
                attack_one(&s, a, i, "", &record);
                fell[i] = record.prediction != y;
            }
        }
    assert_null(ar_report_get(s.report, 0, "step7"));
    assert_true(number(&s, 0, "step6_accuracy") == number(&s, 0, "worst_accuracy"));
    close_scene(&s);
}

static void test_worst_class(void **state) {
    (void)state;
    scene s;
    expected e;
    open_scene(&s, 1);
    expect(&s, false, &e);
    evaluate(&s, "per_class=1", NULL);
    double least[2] = {2, 2};
    int32_t lowest[2] = {-1, -1};
    for (int32_t k = 0; k < CLASSES; k++) {
        int64_t images = 0, hits[2] = {0};
        for (int64_t i = 0; i < N; i++) {
            bool all = e.right[i];
            for (int32_t a = 0; a < ATTACKS && e.right[i]; a++)
                all = all && e.one[a][i].prediction == e.y[i];
            images += e.y[i] == k;
            hits[0] += e.y[i] == k && e.right[i];
            hits[1] += e.y[i] == k && all;
        }
        for (int32_t w = 0; w < 2 && images > 0; w++) {
            if ((double)hits[w] / (double)images < least[w]) lowest[w] = k;
            least[w] = fmin(least[w], (double)hits[w] / (double)images);
        }
    }
    assert_true(number(&s, 0, "clean_worst_class") == lowest[0]);
    assert_true(number(&s, 0, "clean_worst_class_accuracy") == least[0]);
    assert_true(number(&s, 0, "worst_worst_class") == lowest[1]);
    assert_true(number(&s, 0, "worst_worst_class_accuracy") == least[1]);
    assert_true(lowest[0] >= 0 && least[1] <= least[0] && least[0] < 1);
    close_scene(&s);
}

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

/* ---- Curves ---- */

static void test_curve(void **state) {
    (void)state;
    static const double epsilons[] = {0.05, 0, 0.01, 0.02, 0.01}; /* sorted by the call */
    static const double sorted[] = {0, 0.01, 0.01, 0.02, 0.05};
    scene s;
    open_scene(&s, 2);
    advrob_options *options = test_options("batch_size=10");
    advrob_options *sub = test_options("epsilon=0.02 step=0.005 steps=5");
    test_ok(ar_options_append(options, "attacks", "pgd", sub));
    test_ok(ar_options_set_f64_array(options, "epsilons", epsilons, 5));
    test_ok(advrob_report_add_row(s.report));
    test_ok(advrob_report_curve(s.report, s.target, s.data, options));
    assert_int_equal(advrob_report_rows(s.report), 6);
    bool fell[N] = {false};
    for (int32_t k = 0; k < 5; k++) {
        int64_t right = 0, attacked = 0;
        for (int64_t i = 0; i < N; i++) {
            float x[SIZE];
            int32_t y, prediction;
            double loss;
            char text[128];
            advrob_attack *attack = NULL;
            if (clean_one(&s, i, &y, &loss) != y || fell[i]) continue;
            attacked++;
            snprintf(text, sizeof text, "epsilon=%.17g step=%.17g steps=5 first_sample=%d",
                     sorted[k], 0.005 * (sorted[k] / 0.02), (int)i);
            advrob_options *one = test_options(text);
            test_ok(ar_dataset_gather(s.data, i, NULL, 1, x, NULL));
            test_ok(ar_attack_create(s.ctx, "pgd", one, &attack));
            test_ok(advrob_attack_run(attack, s.target, 1, x, &y, NULL, &prediction, NULL));
            ar_attack_release(attack);
            ar_options_destroy(one);
            fell[i] = prediction != y;
            right += !fell[i];
        }
        assert_true(number(&s, k + 1, "epsilon") == sorted[k]);
        assert_true(number(&s, k + 1, "robust_accuracy") == (double)right / N);
        assert_true(number(&s, k + 1, "attacked_images") == (double)attacked);
        assert_true(number(&s, k + 1, "backwards") == 5 * (double)attacked);
        if (k > 0)
            assert_true(number(&s, k + 1, "robust_accuracy") <= number(&s, k, "robust_accuracy"));
    }
    assert_true(number(&s, 1, "robust_accuracy") == number(&s, 1, "clean_accuracy"));
    assert_true(number(&s, 5, "robust_accuracy") < number(&s, 2, "robust_accuracy"));
    ar_options_destroy(sub);
    sub = test_options("epsilon=0");
    test_ok(ar_options_append(options, "attacks", "pgd", sub));
    assert_int_equal(advrob_report_curve(s.report, s.target, s.data, options), ADVROB_E_INVALID);
    assert_non_null(strstr(ar_message(), "epsilon 0"));
    assert_int_equal(advrob_report_rows(s.report), 6);
    ar_options_destroy(sub);
    ar_options_destroy(options);
    close_scene(&s);
}

static int set_up(void **state) {
    (void)state;
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/records.csv", folder);
    snprintf(other_path, sizeof other_path, "%s/other.csv", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cascade),        cmocka_unit_test(test_records),
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_worst_class),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_other_runs),
        cmocka_unit_test(test_damaged_files),  cmocka_unit_test(test_budget_passes),
        cmocka_unit_test(test_budget_minutes), cmocka_unit_test(test_curve),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
