/* What an evaluation keeps of each image, against attacks on one image at a time: cascades, passes,
 * records, runs of an attack, the worst class; and accuracy by epsilon. */
#include "support/support.h"

#include "support/evaluation.h"

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

/* Members of a list are steps, too. */
static void test_members(void **state) {
    (void)state;
    static const char *const names[] = {"x 1 apgd", "x 2 apgd_t", "x 3 square"};
    static const char text[] = "epsilon=0.02 steps=5 queries=20";
    scene s;
    int64_t right = 0, passes = 0;
    const char *name = NULL;
    open_scene(&s, 2);
    advrob_options *options = test_options("labels=x steps=1 batch_size=16");
    advrob_options *sub = test_options(text);
    test_ok(ar_options_append(options, "attacks", "autoattack_lite", sub));
    test_ok(ar_options_set_str(options, "records", path));
    test_ok(advrob_report_add_row(s.report));
    test_ok(advrob_report_evaluate(s.report, s.target, s.data, options));
    advrob_report *r = read_records(&s, path);
    for (int64_t i = 0; i < N; i++) {
        float x[SIZE];
        int32_t y;
        ar_attack_record record;
        advrob_attack *attack = NULL;
        double loss;
        if (clean_one(&s, i, &y, &loss) != y) continue;
        test_ok(ar_dataset_gather(s.data, i, NULL, 1, x, NULL));
        test_ok(ar_attack_create(s.ctx, "autoattack_lite", sub, &attack));
        ar_attack_call call = {
            .n = 1, .x = x, .y = &y, .ids = &i, .loss = ar_loss_find("ce"), .records = &record};
        test_ok(ar_attack_run(attack, s.target, NULL, &call));
        ar_attack_release(attack);
        right += record.prediction == y;
        passes += record.forwards + record.backwards;
        assert_true(cell(r, (int32_t)i, "member") == record.member + 1);
        assert_true(cell(r, (int32_t)i, "run") == record.run + 1);
        if (record.prediction != y)
            assert_true(cell(r, (int32_t)i, "step") == record.member + 1);
        else
            assert_null(ar_report_get(r, (int32_t)i, "step"));
    }
    assert_true(right > 0 && number(&s, 0, "step1_accuracy") < number(&s, 0, "clean_accuracy"));
    for (int32_t k = 0; k < 3; k++) {
        char column[32];
        snprintf(column, sizeof column, "step%d", k + 1);
        test_ok(advrob_report_get_str(s.report, 0, column, &name));
        assert_string_equal(name, names[k]);
    }
    assert_null(ar_report_get(s.report, 0, "step4"));
    assert_true(number(&s, 0, "step3_accuracy") == (double)right / N);
    assert_true(number(&s, 0, "x_accuracy") == (double)right / N);
    assert_true(fabs(number(&s, 0, "step3_passes") - (double)passes / N) < 1e-9);
    ar_options_destroy(sub);
    ar_options_destroy(options);
    advrob_report_destroy(r);
    unlink(path);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cascade),     cmocka_unit_test(test_records),
        cmocka_unit_test(test_steps),       cmocka_unit_test(test_members),
        cmocka_unit_test(test_worst_class), cmocka_unit_test(test_curve),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
