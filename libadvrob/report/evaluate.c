/* Evaluation into a row: accuracies with their 95 % intervals, passes, and what they rest on. */
#include <string.h>

#include "report.h"

typedef struct evaluation_options {
    ar_option_list attacks;
    const char *labels;
    int64_t batch_size, per_class, cascade;
    const char *records;
    double budget_passes, budget_minutes;
    int64_t steps;
} evaluation_options;

/* Of nets whose classes are counted one by one: columns that a CSV file can hold. */
enum { MOST_CLASSES = 256, MOST_ATTACKS = 32 };

static const ar_option entries[] = {
    AR_LIST(evaluation_options, attacks, "attacks, each with its own options"),
    AR_STR(evaluation_options, labels, "", NULL,
           "column labels of the attacks, comma-separated; empty: their names"),
    AR_I64(evaluation_options, batch_size, 1024, 1, 65536, "images in memory at a time"),
    AR_I64(evaluation_options, per_class, 0, 0, 1, "accuracies of each class too"),
    AR_I64(evaluation_options, cascade, 0, 0, 1,
           "an image that fell goes into no further attack; columns are of all attacks so far"),
    AR_STR(evaluation_options, records, "", NULL,
           "CSV file of what became of each image, from which the evaluation goes on"),
    AR_F64(evaluation_options, budget_passes, 0, 0, 1e15,
           "forwards and backwards of attacks for an image on average; 0: as many as it takes"),
    AR_F64(evaluation_options, budget_minutes, 0, 0, 1e9, "of attacks; 0: as long as it takes"),
    AR_I64(evaluation_options, steps, 0, 0, 1, "passes and accuracy after each run of an attack"),
};
const ar_option_table ar_evaluation_options = AR_TABLE(evaluation_options, entries);

/* An evaluation and all that it needs. */
typedef struct scoring {
    advrob_report *report;
    evaluation_options o;
    ar_evaluate_call call;
    advrob_attack *attacks[MOST_ATTACKS];
    char labels[MOST_ATTACKS][AR_LABEL];
    ar_evaluation e;
    ar_records records;
    ar_puts puts;
    ar_arena arena;
} scoring;

/* ---- Labels ---- */

/* Label number i of "a,b,c"; "" when the list is shorter. */
static void pick_label(const char *labels, int32_t i, char *out, size_t size) {
    for (; i > 0 && *labels != 0; labels++)
        if (*labels == ',') i--;
    size_t length = i > 0 ? 0 : strcspn(labels, ",");
    if (length >= size) length = size - 1;
    memcpy(out, labels, length);
    out[length] = 0;
}

/* The columns' labels: the attacks' own, or their names. Two attacks under one label, or one under
 * a label of the library's, would hide each other. */
static int32_t find_labels(scoring *s) {
    const evaluation_options *o = &s->o;
    for (int32_t i = 0; i < s->call.count; i++) {
        char *label = s->labels[i];
        pick_label(o->labels, i, label, AR_LABEL);
        if (label[0] == 0) ar_copy_text(label, AR_LABEL, o->attacks.items[i].component);
        bool taken = strcmp(label, "clean") == 0 || strcmp(label, "worst") == 0;
        for (int32_t k = 0; k < i && !taken; k++)
            taken = strcmp(label, s->labels[k]) == 0;
        if (taken)
            return ar_error(ADVROB_E_INVALID,
                            "evaluation: the label \"%s\" of attack %d is taken; set \"labels\"",
                            label, i + 1);
        if ((o->per_class && strncmp(label, "class", strlen("class")) == 0) ||
            (o->steps && strncmp(label, "step", strlen("step")) == 0))
            return ar_error(ADVROB_E_INVALID,
                            "evaluation: the label \"%s\" of attack %d begins like the columns of "
                            "%s; set \"labels\"",
                            label, i + 1, label[0] == 'c' ? "per_class" : "steps");
    }
    return ADVROB_OK;
}

/* ---- Columns ---- */

/* What is counted: clean answers, those under attack a, those under all. */
enum { CLEAN = -1, WORST = -2 };

static bool is_right(const ar_evaluation *e, int64_t i, int32_t what) {
    if (what == CLEAN) return ar_evaluation_clean(e, i);
    return what == WORST ? ar_evaluation_withstands(e, i) : ar_evaluation_holds(e, i, what);
}

static void put_share(scoring *s, const char *label, int32_t what) {
    int64_t right = 0;
    for (int64_t i = 0; i < s->e.images; i++)
        right += is_right(&s->e, i, what);
    ar_puts_share(&s->puts, label, right, s->e.images);
}

/* Passes of steps [first, end), and how many images with attack a unfinished. */
static void put_passes(scoring *s, const char *prefix, int32_t first, int32_t end) {
    const ar_evaluation *e = &s->e;
    ar_passes sum = {0};
    for (int64_t i = 0; i < e->images; i++)
        for (int32_t k = first; k < end; k++) {
            sum.forwards += e->passes[i * e->steps + k].forwards;
            sum.backwards += e->passes[i * e->steps + k].backwards;
        }
    ar_puts_i64(&s->puts, sum.forwards, "%sforwards", prefix);
    ar_puts_i64(&s->puts, sum.backwards, "%sbackwards", prefix);
}

static void put_costs(scoring *s) {
    const ar_evaluation *e = &s->e;
    char prefix[AR_LABEL + 1];
    int64_t images = 0;
    int32_t attacks = 0;
    for (int32_t a = 0; a < e->attacks; a++) {
        ar_format(prefix, sizeof prefix, "%s_", s->labels[a]);
        put_passes(s, prefix, e->first_step[a], e->first_step[a + 1]);
    }
    if (e->attacks > 0) put_passes(s, "", 0, e->steps);
    if (s->o.budget_passes == 0 && s->o.budget_minutes == 0) return;
    for (int32_t a = 0; a < e->attacks; a++) {
        int64_t unfinished = 0;
        for (int64_t i = 0; i < e->images; i++)
            unfinished += e->predictions[i * e->attacks + a] == AR_UNFINISHED;
        ar_puts_i64(&s->puts, unfinished, "%s_unfinished", s->labels[a]);
        attacks += unfinished > 0;
    }
    for (int64_t i = 0; i < e->images; i++)
        images += ar_evaluation_unfinished(e, i);
    ar_puts_i64(&s->puts, images, "unfinished_images");
    ar_puts_i64(&s->puts, attacks, "unfinished_attacks");
}

/* Accuracies of the classes, and the lowest; a class without images has none. */
static int32_t put_classes(scoring *s, const char *label, int32_t what, bool each) {
    int32_t status = ADVROB_OK, classes = s->e.classes, lowest = -1;
    void *block = NULL;
    double least = 2;
    AR_TRY(ar_arena_alloc(&s->arena, 2 * (size_t)classes, sizeof(int64_t), "counts", &block));
    int64_t *right = block, *images = right + classes;
    for (int64_t i = 0; i < s->e.images; i++) {
        images[s->e.samples[i].label]++;
        right[s->e.samples[i].label] += is_right(&s->e, i, what);
    }
    for (int32_t k = 0; k < classes; k++) {
        if (images[k] == 0) continue;
        double share = (double)right[k] / (double)images[k];
        if (share < least) lowest = k;
        least = share < least ? share : least;
        if (each && what == CLEAN) ar_puts_f64(&s->puts, share, "class%d_accuracy", k);
        if (each && what != CLEAN) ar_puts_f64(&s->puts, share, "class%d_%s_accuracy", k, label);
    }
    if (!each) {
        ar_puts_i64(&s->puts, lowest, "%s_worst_class", label);
        ar_puts_f64(&s->puts, least, "%s_worst_class_accuracy", label);
    }
out:
    return status;
}

static int32_t put_all_classes(scoring *s) {
    int32_t status = ADVROB_OK;
    for (int32_t each = 1; each >= 0; each--) {
        AR_TRY(put_classes(s, "clean", CLEAN, each));
        for (int32_t a = 0; a < s->e.attacks; a++)
            AR_TRY(put_classes(s, s->labels[a], a, each));
        if (s->e.attacks > 1) AR_TRY(put_classes(s, "worst", WORST, each));
    }
out:
    return status;
}

/* The way down: after each run its name, passes of an image on average so far, accuracy. */
static int32_t put_steps(scoring *s) {
    int32_t status = ADVROB_OK;
    const ar_evaluation *e = &s->e;
    double passes = 0;
    for (int32_t a = 0; a < e->attacks; a++)
        for (int32_t k = e->first_step[a]; k < e->first_step[a + 1]; k++) {
            char name[2 * AR_LABEL];
            const char *member = "";
            int64_t right = 0;
            int32_t run = k - e->first_step[a];
            for (int64_t i = 0; i < e->images; i++) {
                const ar_passes *p = &e->passes[i * e->steps + k];
                passes += (double)(p->forwards + p->backwards) / (double)e->images;
                right +=
                    ar_evaluation_clean(e, i) && (e->samples[i].step < 0 || e->samples[i].step > k);
            }
            AR_TRY(ar_attack_run_name(s->attacks[a], e->classes, run, &member));
            if (e->first_step[a + 1] - e->first_step[a] == 1)
                ar_copy_text(name, sizeof name, s->labels[a]);
            else
                ar_format(name, sizeof name, "%s %d %s", s->labels[a], run + 1, member);
            ar_puts_str(&s->puts, name, "step%d", k + 1);
            ar_puts_f64(&s->puts, passes, "step%d_passes", k + 1);
            ar_puts_f64(&s->puts, (double)right / (double)e->images, "step%d_accuracy", k + 1);
        }
out:
    return status;
}

static int32_t put_all(scoring *s) {
    int32_t status = ADVROB_OK;
    ar_puts_i64(&s->puts, s->e.images, "test_images");
    put_share(s, "clean", CLEAN);
    for (int32_t a = 0; a < s->e.attacks; a++)
        put_share(s, s->labels[a], a);
    if (s->e.attacks > 1) put_share(s, "worst", WORST);
    put_costs(s);
    if (s->o.per_class) AR_TRY(put_all_classes(s));
    if (s->o.steps) AR_TRY(put_steps(s));
    AR_TRY(ar_report_put_all(s->report, &s->puts));
out:
    return status;
}

/* ---- One evaluation ---- */

/* Of what the answers depend on beside net and data: attacks and options. */
static int32_t digest_options(const scoring *s, uint64_t *digest) {
    ar_buffer text;
    ar_buffer_init(&text, &s->report->ctx->memory);
    ar_buffer_add(&text, "batch_size=%lld cascade=%lld budget_passes=%g",
                  (long long)s->o.batch_size, (long long)s->o.cascade, s->o.budget_passes);
    for (int32_t a = 0; a < s->call.count; a++) {
        const advrob_attack *attack = s->attacks[a];
        ar_buffer_add(&text, "\n%s: %s", s->labels[a], attack->kind->name);
        ar_options_print(&text, "", attack->kind->options, attack->options, attack->seed, NULL);
    }
    int32_t status = ar_buffer_status(&text);
    if (status >= 0) *digest = ar_fnv(AR_FNV_START, text.data, text.length);
    ar_buffer_free(&text);
    return status;
}

static int32_t prepare(scoring *s, advrob_target *target, const advrob_dataset *test,
                       const advrob_options *options) {
    int32_t status = ADVROB_OK;
    const int32_t shape[3] = {target->shape.c, target->shape.h, target->shape.w};
    ar_option_scope scope = {"", &ar_evaluation_options};
    evaluation_options *o = &s->o;
    AR_TRY(ar_options_check(options, "evaluation", &scope, 1));
    AR_TRY(ar_options_read(options, "evaluation", "", &ar_evaluation_options, &s->arena, o));
    if (s->report->row_count == 0)
        AR_FAIL(ADVROB_E_INVALID, "report: no row yet; call advrob_report_add_row first");
    if (o->attacks.count > MOST_ATTACKS)
        AR_FAIL(ADVROB_E_LIMIT, "evaluation: %zu attacks, expected at most %d", o->attacks.count,
                MOST_ATTACKS);
    s->call = (ar_evaluate_call){.target = target,
                                 .data = test,
                                 .attacks = (const advrob_attack *const *)s->attacks,
                                 .count = (int32_t)o->attacks.count,
                                 .group = o->batch_size,
                                 .cascade = o->cascade != 0,
                                 .budget_passes = o->budget_passes,
                                 .budget_minutes = o->budget_minutes};
    AR_TRY(find_labels(s));
    AR_TRY(ar_dataset_check(test, "evaluation", "the target", shape, target->classes));
    if (o->per_class && target->classes > MOST_CLASSES)
        AR_FAIL(ADVROB_E_LIMIT, "evaluation: per_class with %d classes, expected at most %d",
                target->classes, MOST_CLASSES);
    for (int32_t a = 0; a < s->call.count; a++)
        AR_TRY(ar_attack_create(s->report->ctx, o->attacks.items[a].component,
                                o->attacks.items[a].options, &s->attacks[a]));
out:
    return status;
}

int32_t ar_report_evaluate(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                           const advrob_options *options) {
    int32_t status = ADVROB_OK;
    scoring s = {.report = report};
    uint64_t digest = 0;
    ar_arena_init(&s.arena, &report->ctx->memory);
    ar_puts_init(&s.puts, &report->ctx->memory);
    AR_TRY(prepare(&s, target, test, options));
    AR_TRY(ar_evaluation_create(&s.call, &s.e));
    if (s.o.records[0] != 0) {
        AR_TRY(digest_options(&s, &digest));
        AR_TRY(ar_records_open(&s.records, &s.call, s.o.records, (const char(*)[AR_LABEL])s.labels,
                               digest, &s.e));
        s.call.after_group = ar_records_write;
        s.call.arg = &s.records;
    }
    AR_TRY(ar_evaluation_run(&s.call, &s.e));
    AR_TRY(put_all(&s));
out:
    ar_records_close(&s.records);
    ar_evaluation_free(&s.e);
    for (int32_t a = 0; a < MOST_ATTACKS; a++)
        ar_attack_release(s.attacks[a]);
    ar_puts_free(&s.puts);
    ar_arena_free(&s.arena);
    return status;
}
