/* Accuracy by epsilon, as rows. Monotone by construction: an image that fell at a smaller epsilon
 * counts as fallen at the larger ones and is not attacked again. */
#include <math.h>
#include <string.h>

#include "report.h"

typedef struct curve_options {
    ar_option_list attacks;
    ar_f64_array epsilons;
    int64_t scale_step, batch_size;
} curve_options;

static const ar_option entries[] = {
    AR_LIST(curve_options, attacks, "attacks of each epsilon, one after another; default pgd"),
    AR_F64_ARRAY(curve_options, epsilons, 0, 1e6, "default 1/255, 2/255, 4/255, 8/255, 16/255"),
    AR_I64(curve_options, scale_step, 1, 0, 1,
           "an attack's \"step\" grows and shrinks with its epsilon"),
    AR_I64(curve_options, batch_size, 1024, 1, 65536, "images in memory at a time"),
};
const ar_option_table ar_curve_options = AR_TABLE(curve_options, entries);

enum { MOST_RUNS = 1024 }; /* epsilons times attacks */

typedef struct curve {
    curve_options o;
    int32_t epsilons, attacks; /* attacks: of each epsilon */
    double *epsilon;           /* rising */
    advrob_attack **list;      /* [epsilons][attacks] */
    ar_evaluation e;
    ar_arena arena;
} curve;

static const double usual[] = {1.0 / 255, 2.0 / 255, 4.0 / 255, 8.0 / 255, 16.0 / 255};
static const ar_list_item pgd = {.component = "pgd"};

static int32_t sort_epsilons(curve *c) {
    void *block = NULL;
    const double *values = c->o.epsilons.count > 0 ? c->o.epsilons.values : usual;
    size_t count = c->o.epsilons.count > 0 ? c->o.epsilons.count : sizeof usual / sizeof usual[0];
    if (c->o.attacks.count == 0) c->o.attacks = (ar_option_list){&pgd, 1};
    if (c->o.attacks.count > MOST_RUNS || count > MOST_RUNS / c->o.attacks.count)
        return ar_error(ADVROB_E_LIMIT, "curve: %zu epsilons for %zu attacks, expected %d at most",
                        count, c->o.attacks.count, MOST_RUNS / (int32_t)c->o.attacks.count);
    c->attacks = (int32_t)c->o.attacks.count;
    int32_t status = ar_arena_alloc(&c->arena, count, sizeof(double), "epsilons", &block);
    c->epsilon = block;
    for (size_t i = 0; i < count && status >= 0; i++, c->epsilons++) {
        size_t at = i;
        for (; at > 0 && c->epsilon[at - 1] > values[i]; at--)
            c->epsilon[at] = c->epsilon[at - 1];
        c->epsilon[at] = values[i];
    }
    return status;
}

/* The option "step" of an attack, if it has one. */
static const double *find_step(const advrob_attack *attack) {
    const ar_option_table *table = attack->kind->options;
    for (int32_t i = 0; i < table->count; i++)
        if (strcmp(table->options[i].name, "step") == 0 &&
            table->options[i].type == ADVROB_TYPE_F64)
            return (const void *)((const char *)attack->options + table->options[i].offset);
    return NULL;
}

/* The attack as it was asked for, with another epsilon. */
static int32_t create(const curve *c, advrob_context *ctx, const ar_list_item *item, double epsilon,
                      advrob_attack **out) {
    int32_t status = ADVROB_OK;
    advrob_attack *asked = NULL;
    advrob_options *options = NULL;
    AR_TRY(ar_attack_create(ctx, item->component, item->options, &asked));
    AR_TRY(ar_options_part(item->options, "", &ctx->memory, &options));
    const double *step = find_step(asked);
    if (c->o.scale_step && step != NULL) {
        if (asked->common->epsilon == 0)
            AR_FAIL(ADVROB_E_INVALID,
                    "curve: steps of attack %s cannot grow from epsilon 0; set \"epsilon\" and "
                    "\"step\" in its options, or \"scale_step\" to 0",
                    item->component);
        AR_TRY(ar_options_set_f64(options, "step",
                                  fmin(*step * (epsilon / asked->common->epsilon), 1e6)));
    }
    AR_TRY(ar_options_set_f64(options, "epsilon", epsilon));
    AR_TRY(ar_attack_create(ctx, item->component, options, out));
out:
    ar_options_destroy(options);
    ar_attack_release(asked);
    return status;
}

static int32_t prepare(curve *c, advrob_target *target, const advrob_dataset *test,
                       const advrob_options *options) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    const int32_t shape[3] = {target->shape.c, target->shape.h, target->shape.w};
    ar_option_scope scope = {"", &ar_curve_options};
    AR_TRY(ar_options_check(options, "curve", &scope, 1));
    AR_TRY(ar_options_read(options, "curve", "", &ar_curve_options, &c->arena, &c->o));
    AR_TRY(ar_dataset_check(test, "evaluation", "the target", shape, target->classes));
    AR_TRY(sort_epsilons(c));
    AR_TRY(ar_arena_alloc(&c->arena, (size_t)(c->epsilons * c->attacks), sizeof(advrob_attack *),
                          "attacks", &block));
    c->list = block;
    for (int32_t i = 0; i < c->epsilons * c->attacks; i++)
        AR_TRY(create(c, target->ctx, &c->o.attacks.items[i % c->attacks],
                      c->epsilon[i / c->attacks], &c->list[i]));
out:
    return status;
}

static int32_t put_row(advrob_report *report, const curve *c, int32_t k) {
    int32_t status = ADVROB_OK, first = k * c->attacks, end = first + c->attacks;
    const ar_evaluation *e = &c->e;
    ar_puts puts;
    ar_passes sum = {0};
    int64_t clean = 0, right = 0, attacked = 0;
    ar_puts_init(&puts, &report->ctx->memory);
    AR_TRY(ar_report_add_row(report));
    for (int64_t i = 0; i < e->images; i++) {
        clean += ar_evaluation_clean(e, i);
        right += ar_evaluation_holds(e, i, end - 1);
        attacked += e->predictions[i * e->attacks + first] != AR_UNTOUCHED;
        for (int32_t s = e->first_step[first]; s < e->first_step[end]; s++) {
            sum.forwards += e->passes[i * e->steps + s].forwards;
            sum.backwards += e->passes[i * e->steps + s].backwards;
        }
    }
    ar_puts_f64(&puts, c->epsilon[k], "epsilon");
    ar_puts_i64(&puts, e->images, "test_images");
    ar_puts_share(&puts, "clean", clean, e->images);
    ar_puts_share(&puts, "robust", right, e->images);
    ar_puts_i64(&puts, attacked, "attacked_images");
    ar_puts_i64(&puts, sum.forwards, "forwards");
    ar_puts_i64(&puts, sum.backwards, "backwards");
    AR_TRY(ar_report_put_all(report, &puts));
out:
    ar_puts_free(&puts);
    return status;
}

int32_t ar_report_curve(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                        const advrob_options *options) {
    int32_t status = ADVROB_OK, rows = report->row_count;
    curve c = {.epsilons = 0};
    ar_arena_init(&c.arena, &report->ctx->memory);
    AR_TRY(prepare(&c, target, test, options));
    ar_evaluate_call call = {.target = target,
                             .data = test,
                             .attacks = (const advrob_attack *const *)c.list,
                             .count = c.epsilons * c.attacks,
                             .group = c.o.batch_size,
                             .cascade = true};
    AR_TRY(ar_evaluation_create(&call, &c.e));
    AR_TRY(ar_evaluation_run(&call, &c.e));
    for (int32_t k = 0; k < c.epsilons; k++)
        AR_TRY(put_row(report, &c, k));
out:
    if (status < 0) ar_report_drop_rows(report, rows);
    ar_evaluation_free(&c.e);
    for (int32_t i = 0; c.list != NULL && i < c.epsilons * c.attacks; i++)
        ar_attack_release(c.list[i]);
    ar_arena_free(&c.arena);
    return status;
}
