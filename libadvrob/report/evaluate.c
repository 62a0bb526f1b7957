/* Evaluation into a row: accuracies with their 95 % intervals. */
#include <string.h>

#include "report.h"

typedef struct evaluation_options {
    ar_option_list attacks;
    const char *labels;
    int64_t batch_size;
    int64_t per_class;
} evaluation_options;

/* Of nets whose classes are counted one by one: columns that a CSV file can hold. */
enum { MOST_CLASSES = 256 };

static const ar_option entries[] = {
    AR_LIST(evaluation_options, attacks, "attacks, each with its own options"),
    AR_STR(evaluation_options, labels, "", NULL,
           "column labels of the attacks, comma-separated; empty: their names"),
    AR_I64(evaluation_options, batch_size, 1024, 1, 65536, "images in memory at a time"),
    AR_I64(evaluation_options, per_class, 0, 0, 1, "accuracies of each class too"),
};
const ar_option_table ar_evaluation_options = AR_TABLE(evaluation_options, entries);

/* Label number i of "a,b,c"; "" when the list is shorter. */
static void pick_label(const char *labels, int32_t i, char *out, size_t size) {
    for (; i > 0 && *labels != 0; labels++)
        if (*labels == ',') i--;
    size_t length = i > 0 ? 0 : strcspn(labels, ",");
    if (length >= size) length = size - 1;
    memcpy(out, labels, length);
    out[length] = 0;
}

/* The column label of attack i: its own, or its name. */
static void find_label(const evaluation_options *o, int32_t i, char *out, size_t size) {
    pick_label(o->labels, i, out, size);
    if (out[0] == 0) ar_copy_text(out, size, o->attacks.items[i].component);
}

/* Two attacks under one label, or one under a label of the library's, would hide each other. */
static int32_t check_labels(const evaluation_options *o) {
    char label[64], other[64];
    for (int32_t i = 0; i < (int32_t)o->attacks.count; i++) {
        find_label(o, i, label, sizeof label);
        bool taken = strcmp(label, "clean") == 0 || strcmp(label, "worst") == 0;
        for (int32_t k = 0; k < i && !taken; k++) {
            find_label(o, k, other, sizeof other);
            taken = strcmp(label, other) == 0;
        }
        if (taken)
            return ar_error(ADVROB_E_INVALID,
                            "evaluation: the label \"%s\" of attack %d is taken; set \"labels\"",
                            label, i + 1);
        if (o->per_class && strncmp(label, "class", strlen("class")) == 0)
            return ar_error(ADVROB_E_INVALID,
                            "evaluation: the label \"%s\" of attack %d begins like the columns of "
                            "per_class; set \"labels\"",
                            label, i + 1);
    }
    return ADVROB_OK;
}

/* room_only: makes the cells and leaves their values as they are. */
static int32_t put_share(advrob_report *report, const char *label, int64_t hits, int64_t n,
                         bool room_only) {
    static const char *const suffix[3] = {"accuracy", "low", "high"};
    int32_t status = ADVROB_OK;
    double values[3] = {(double)hits / (double)n};
    char column[96];
    ar_wilson(hits, n, &values[1], &values[2]);
    for (int32_t i = 0; i < 3; i++) {
        ar_format(column, sizeof column, "%s_%s", label, suffix[i]);
        AR_TRY(room_only ? ar_report_make_room(report, column)
                         : ar_report_put(report, column,
                                         (ar_cell){.kind = ADVROB_TYPE_F64, .number = values[i]}));
    }
out:
    return status;
}

/* Accuracies of the classes: `hits` and `images` are counts of each; a class without images has
 * none. */
static int32_t put_classes(advrob_report *report, const char *label, const int64_t *hits,
                           const int64_t *images, int32_t classes, bool room_only) {
    int32_t status = ADVROB_OK;
    char column[96];
    for (int32_t k = 0; k < classes; k++) {
        if (images[k] == 0) continue;
        ar_cell cell = {.kind = ADVROB_TYPE_F64, .number = (double)hits[k] / (double)images[k]};
        ar_format(column, sizeof column, "class%d%s%s_accuracy", k, label[0] != 0 ? "_" : "",
                  label);
        AR_TRY(room_only ? ar_report_make_room(report, column)
                         : ar_report_put(report, column, cell));
    }
out:
    return status;
}

static int32_t put_all_classes(advrob_report *report, const evaluation_options *o,
                               const int64_t *images, int32_t classes, bool room_only) {
    int32_t status = ADVROB_OK;
    char label[64];
    AR_TRY(put_classes(report, "", images + classes, images, classes, room_only));
    for (int32_t i = 0; i < (int32_t)o->attacks.count; i++) {
        find_label(o, i, label, sizeof label);
        AR_TRY(put_classes(report, label, images + (int64_t)(2 + i) * classes, images, classes,
                           room_only));
    }
out:
    return status;
}

static int32_t put_all(advrob_report *report, const evaluation_options *o,
                       const ar_evaluation *result, bool room_only) {
    int32_t status = ADVROB_OK;
    char label[64];
    AR_TRY(room_only ? ar_report_make_room(report, "test_images")
                     : ar_report_put(report, "test_images",
                                     (ar_cell){.kind = ADVROB_TYPE_I64, .whole = result->images}));
    AR_TRY(put_share(report, "clean", result->clean, result->images, room_only));
    for (int32_t i = 0; i < result->attacks; i++) {
        find_label(o, i, label, sizeof label);
        AR_TRY(put_share(report, label, result->robust[i], result->images, room_only));
    }
    if (result->attacks > 1)
        AR_TRY(put_share(report, "worst", result->worst, result->images, room_only));
out:
    return status;
}

int32_t ar_report_evaluate(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                           const advrob_options *options) {
    int32_t status = ADVROB_OK, made = 0;
    evaluation_options o;
    advrob_attack *attacks[AR_MAX_ATTACKS];
    ar_evaluation result;
    void *block = NULL; /* counts of the classes */
    ar_arena arena;
    const int32_t shape[3] = {target->shape.c, target->shape.h, target->shape.w};
    ar_option_scope scope = {"", &ar_evaluation_options};
    ar_arena_init(&arena, &report->ctx->memory);
    AR_TRY(ar_options_check(options, "evaluation", &scope, 1));
    AR_TRY(ar_options_read(options, "evaluation", "", &ar_evaluation_options, &arena, &o));
    if (report->row_count == 0)
        AR_FAIL(ADVROB_E_INVALID, "report: no row yet; call advrob_report_add_row first");
    if (o.attacks.count > AR_MAX_ATTACKS)
        AR_FAIL(ADVROB_E_LIMIT, "evaluation: %zu attacks, expected at most %d", o.attacks.count,
                AR_MAX_ATTACKS);
    AR_TRY(check_labels(&o));
    AR_TRY(ar_dataset_check(test, "evaluation", "the target", shape, target->classes));
    if (o.per_class) {
        if (target->classes > MOST_CLASSES)
            AR_FAIL(ADVROB_E_LIMIT, "evaluation: per_class with %d classes, expected at most %d",
                    target->classes, MOST_CLASSES);
        AR_TRY(ar_arena_alloc(&arena, (2 + o.attacks.count) * (size_t)target->classes,
                              sizeof(int64_t), "counts of the classes", &block));
    }
    for (size_t i = 0; i < o.attacks.count; i++, made++)
        AR_TRY(ar_attack_create(report->ctx, o.attacks.items[i].component,
                                o.attacks.items[i].options, &attacks[i]));
    AR_TRY(ar_evaluate_classes(target, test, (const advrob_attack *const *)attacks, made,
                               o.batch_size, block, &result));
    /* All room first: numbers then need no memory, and a failure leaves the row as it was. */
    AR_TRY(put_all(report, &o, &result, true));
    if (block != NULL) AR_TRY(put_all_classes(report, &o, block, target->classes, true));
    AR_TRY(put_all(report, &o, &result, false));
    if (block != NULL) AR_TRY(put_all_classes(report, &o, block, target->classes, false));
out:
    for (int32_t i = 0; i < made; i++)
        ar_attack_release(attacks[i]);
    ar_arena_free(&arena);
    return status;
}
