/* A net, images most of which it gets right, evaluations of it, and what they are expected to say:
 * attacks on one image at a time. Include support.h first. */
#ifndef TEST_EVALUATION_H
#define TEST_EVALUATION_H

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

/* Files of the tests. */
static char folder[256], path[320], other_path[320];

/* A net, and images most of which it gets right. */
typedef struct scene {
    advrob_context *ctx;
    advrob_model *model;
    advrob_target *target;
    advrob_dataset *data;
    advrob_report *report;
} scene;

static inline void open_scene(scene *s, int32_t threads) {
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

static inline void close_scene(scene *s) {
    advrob_report_destroy(s->report);
    ar_dataset_release(s->data);
    ar_target_release(s->target);
    ar_model_release(s->model);
    ar_context_release(s->ctx);
}

static inline double number(const scene *s, int32_t row, const char *column) {
    double value = NAN;
    test_ok(advrob_report_get_f64(s->report, row, column, &value));
    return value;
}

static const struct {
    const char *name, *text;
} attacks[ATTACKS] = {{"fgsm", "epsilon=0.01"},
                      {"pgd", "epsilon=0.02 step=0.005 steps=5 restarts=3 early_stop=1"},
                      {"pgd", "epsilon=0.04 step=0.01 steps=4 restarts=2"}};

static inline advrob_options *evaluation(const char *text, const char *records) {
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

static inline void evaluate(scene *s, const char *text, const char *records) {
    advrob_options *options = evaluation(text, records);
    test_ok(advrob_report_add_row(s->report));
    test_ok(advrob_report_evaluate(s->report, s->target, s->data, options));
    ar_options_destroy(options);
}

/* ---- One image at a time ---- */

/* The record of attack a on image i, all restarts at once; and the net's clean answer. */
static inline void attack_one(const scene *s, int32_t a, int64_t i, const char *more,
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

static inline int32_t clean_one(const scene *s, int64_t i, int32_t *y, double *loss) {
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

static inline void expect(const scene *s, bool cascade, expected *e) {
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

static inline void check_row(const scene *s, int32_t row, const expected *e) {
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

static inline advrob_report *read_records(const scene *s, const char *file) {
    advrob_report *records = NULL;
    test_ok(advrob_report_create(s->ctx, &records));
    test_ok(advrob_report_read_csv(records, file));
    return records;
}

static inline double cell(const advrob_report *r, int32_t row, const char *column) {
    double value = NAN;
    test_ok(advrob_report_get_f64(r, row, column, &value));
    return value;
}

static inline int make_folder(void **state) {
    (void)state;
    test_folder_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/records.csv", folder);
    snprintf(other_path, sizeof other_path, "%s/other.csv", folder);
    return 0;
}

static inline int remove_folder(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

#endif
