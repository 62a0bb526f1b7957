/* Every component that the library lists, against what its listing says: it can be made with its
 * defaults, takes its options at the ends of their ranges, and refuses what lies outside, what is
 * of another type and what is misspelled, with a message that names it. Texts and typed values mean
 * the same. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, IMAGES = 40, CLASSES = 10 };

static char folder[256];
static float images[IMAGES * PIXELS];
static int32_t labels[IMAGES];
static advrob_context *ctx;
static advrob_model *model;
static advrob_dataset *data;
static int64_t options_seen;

#define OK(call) \
    do { \
        int32_t ok_ = (call); \
        if (ok_ != ADVROB_OK) fail_msg("%s: %d, %s", #call, ok_, advrob_last_message()); \
    } while (0)

/* ---- One call for all kinds ---- */

static int32_t evaluate_with(const char *kind, const advrob_options *options) {
    advrob_report *report = NULL;
    advrob_target *target = NULL;
    advrob_dataset *few = NULL; /* a check makes many passes of each */
    int32_t status;
    OK(advrob_dataset_slice(data, 0, 1, &few));
    OK(advrob_report_create(ctx, &report));
    OK(advrob_report_add_row(report));
    OK(advrob_target_from_model(model, &target));
    if (strcmp(kind, "curve") == 0)
        status = advrob_report_curve(report, target, data, options);
    else if (strcmp(kind, "check") == 0)
        status = advrob_report_check(report, target, few, options);
    else
        status = advrob_report_evaluate(report, target, data, options);
    advrob_dataset_destroy(few);
    advrob_target_destroy(target);
    advrob_report_destroy(report);
    return status;
}

static int32_t profile_with(const advrob_options *options) {
    advrob_report *report = NULL;
    OK(advrob_report_create(ctx, &report));
    int32_t status = advrob_report_profile(report, model, options);
    assert_int_equal(advrob_report_rows(report) > 0, status == ADVROB_OK);
    advrob_report_destroy(report);
    return status;
}

static int32_t quantization_with(const advrob_options *options) {
    advrob_report *report = NULL;
    advrob_compressor *quant = NULL;
    advrob_model *quantized = NULL;
    OK(advrob_report_create(ctx, &report));
    OK(advrob_compressor_create(ctx, "quant_ptq", NULL, &quant));
    OK(advrob_compressor_run(quant, model, data, &quantized));
    int32_t status = advrob_report_quantization(report, model, quantized, data, options);
    assert_int_equal(advrob_report_rows(report) > 0, status == ADVROB_OK);
    advrob_model_destroy(quantized);
    advrob_compressor_destroy(quant);
    advrob_report_destroy(report);
    return status;
}

/* A loss has no object of its own: it is used. */
static int32_t use_loss(const char *name) {
    double losses[IMAGES];
    advrob_target *target = NULL;
    OK(advrob_target_from_model(model, &target));
    int32_t status =
        advrob_target_loss_gradient(target, name, IMAGES, images, labels, losses, NULL);
    advrob_target_destroy(target);
    return status;
}

/* Nor have optimizers and schedules: a fine-tune method takes them by name. */
static int32_t use_part(const char *option, const char *name) {
    advrob_options *options = NULL;
    advrob_finetune *finetune = NULL;
    OK(advrob_options_create(&options));
    OK(advrob_options_set_str(options, option, name));
    int32_t status = advrob_finetune_create(ctx, "standard", options, &finetune);
    advrob_options_destroy(options);
    advrob_finetune_destroy(finetune);
    return status;
}

/* Makes component `name` of `kind` and destroys it. */
static int32_t make(const char *kind, const char *name, const advrob_options *options) {
    int32_t status = ADVROB_E_INTERNAL;
    if (strcmp(kind, "attack") == 0) {
        advrob_attack *made = NULL;
        status = advrob_attack_create(ctx, name, options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_attack_destroy(made);
    } else if (strcmp(kind, "compressor") == 0) {
        advrob_compressor *made = NULL;
        status = advrob_compressor_create(ctx, name, options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_compressor_destroy(made);
    } else if (strcmp(kind, "finetune") == 0) {
        advrob_finetune *made = NULL;
        status = advrob_finetune_create(ctx, name, options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_finetune_destroy(made);
    } else if (strcmp(kind, "model") == 0) {
        advrob_model *made = NULL;
        status = advrob_model_build(ctx, name, options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_model_destroy(made);
    } else if (strcmp(kind, "dataset") == 0) {
        advrob_dataset *made = NULL;
        status = advrob_dataset_open(ctx, name, folder, options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_dataset_destroy(made);
    } else if (strcmp(kind, "context") == 0) {
        advrob_context *made = NULL;
        status = advrob_context_create(options, &made);
        assert_int_equal(made != NULL, status == ADVROB_OK);
        advrob_context_destroy(made);
        if (status == ADVROB_E_UNSUPPORTED)
            status = ADVROB_OK; /* a level that this machine lacks */
    } else if (strcmp(kind, "evaluation") == 0 || strcmp(kind, "curve") == 0 ||
               strcmp(kind, "check") == 0) {
        status = evaluate_with(kind, options);
    } else if (strcmp(kind, "profile") == 0) {
        status = profile_with(options);
    } else if (strcmp(kind, "quantization") == 0) {
        status = quantization_with(options);
    } else if (strcmp(kind, "loss") == 0) {
        status = use_loss(name);
    } else {
        status = use_part(kind, name);
    }
    return status;
}

static const char *const kinds[] = {"attack", "compressor", "finetune", "model",       "dataset",
                                    "loss",   "optimizer",  "schedule", "context",     "evaluation",
                                    "curve",  "check",      "profile",  "quantization"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- One option ---- */

typedef struct option {
    const char *kind, *component;
    char name[128], initial[128], range[128];
    int32_t type;
    double low, high;
} option;

static void get_option(option *o, const char *kind, const char *component, int32_t index) {
    const char *name = NULL, *initial = NULL, *range = NULL, *help = NULL;
    *o = (option){kind, component, "", "", "", 0, 0, 0};
    OK(advrob_option_at(kind, component, index, &name, &o->type, &initial, &range, &help));
    OK(advrob_option_at(kind, component, index, NULL, NULL, NULL, NULL, NULL));
    snprintf(o->name, sizeof o->name, "%s", name);
    snprintf(o->initial, sizeof o->initial, "%s", initial);
    snprintf(o->range, sizeof o->range, "%s", range);
    if (strlen(name) == 0 || strlen(help) < 3)
        fail_msg("%s %s: option %d, \"%s\", help \"%s\"", kind, component, index, name, help);
    const char *bracket = strchr(range, '[');
    if (o->type == ADVROB_TYPE_F64 || o->type == ADVROB_TYPE_I64 ||
        o->type == ADVROB_TYPE_F64_ARRAY) {
        if (bracket == NULL || sscanf(bracket, "[%lf, %lf]", &o->low, &o->high) != 2)
            fail_msg("%s %s: option %s has no range: \"%s\"", kind, component, name, range);
        assert_true(o->low <= o->high);
    }
}

/* A set with one value; `how` chooses the setter: a type, or 0 for text. */
static int32_t make_with(const option *o, int32_t how, double number, const char *text) {
    advrob_options *options = NULL;
    OK(advrob_options_create(&options));
    if (how == ADVROB_TYPE_F64)
        OK(advrob_options_set_f64(options, o->name, number));
    else if (how == ADVROB_TYPE_I64)
        OK(advrob_options_set_i64(options, o->name, (int64_t)number));
    else if (how == ADVROB_TYPE_STR)
        OK(advrob_options_set_str(options, o->name, text));
    else if (how == ADVROB_TYPE_F64_ARRAY)
        OK(advrob_options_set_f64_array(options, o->name, &number, 1));
    else if (how == ADVROB_TYPE_LIST)
        OK(advrob_options_append(options, o->name, text, NULL));
    else if (how == ADVROB_TYPE_HANDLE)
        OK(advrob_options_set_handle(options, o->name, options));
    else
        OK(advrob_options_set_text(options, o->name, text));
    int32_t status = make(o->kind, o->component, options);
    advrob_options_destroy(options);
    return status;
}

static void accepts(const option *o, int32_t how, double number, const char *text) {
    int32_t status = make_with(o, how, number, text);
    if (status != ADVROB_OK)
        fail_msg("%s %s: %s = %.17g \"%s\": %s", o->kind, o->component, o->name, number,
                 text ? text : "", advrob_last_message());
}

static void refuses(const option *o, int32_t how, double number, const char *text, int32_t code) {
    int32_t status = make_with(o, how, number, text);
    if (status != code)
        fail_msg("%s %s: %s = %.17g \"%s\": %d, expected %d", o->kind, o->component, o->name,
                 number, text ? text : "", status, code);
    const char *dot = strrchr(o->name, '.'); /* a part names its option without the prefix */
    if (strstr(advrob_last_message(), dot != NULL ? dot + 1 : o->name) == NULL)
        fail_msg("%s %s: %s is not named: %s", o->kind, o->component, o->name,
                 advrob_last_message());
}

static void check_number(const option *o) {
    double initial = strtod(o->initial, NULL);
    assert_true(initial >= o->low && initial <= o->high);
    accepts(o, 0, 0, o->initial);
    accepts(o, ADVROB_TYPE_F64, o->low, NULL);
    accepts(o, ADVROB_TYPE_F64, o->high, NULL);
    refuses(o, ADVROB_TYPE_F64, nextafter(o->low, -INFINITY), NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64, nextafter(o->high, INFINITY), NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64, NAN, NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64, INFINITY, NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_STR, 0, "0.5", ADVROB_E_INVALID);
    refuses(o, 0, 0, "0.5x", ADVROB_E_INVALID);
    refuses(o, 0, 0, "nan", ADVROB_E_INVALID);
}

/* Integers: the listing prints them whole. */
static void check_whole(const option *o) {
    char *end = NULL;
    const char *comma = strchr(o->range, ',');
    int64_t low = strtoll(o->range + 1, &end, 10), high = strtoll(comma + 1, NULL, 10);
    int64_t initial = strtoll(o->initial, NULL, 10);
    char text[32];
    assert_true(*end == ',' && initial >= low && initial <= high);
    accepts(o, 0, 0, o->initial);
    snprintf(text, sizeof text, "%" PRId64, low);
    accepts(o, 0, 0, text);
    snprintf(text, sizeof text, "%" PRId64, high);
    accepts(o, 0, 0, text);
    snprintf(text, sizeof text, "%" PRId64, low == INT64_MIN ? low : low - 1);
    if (low > INT64_MIN) refuses(o, 0, 0, text, ADVROB_E_RANGE);
    snprintf(text, sizeof text, "%" PRId64, high == INT64_MAX ? high : high + 1);
    if (high < INT64_MAX) refuses(o, 0, 0, text, ADVROB_E_RANGE);
    if (low > -1000) refuses(o, ADVROB_TYPE_I64, (double)low - 1, NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64, (double)initial, NULL, ADVROB_E_INVALID);
    refuses(o, ADVROB_TYPE_F64, NAN, NULL, ADVROB_E_INVALID);
    refuses(o, ADVROB_TYPE_STR, 0, "1", ADVROB_E_INVALID);
    refuses(o, 0, 0, "1.5", ADVROB_E_INVALID);
    refuses(o, 0, 0, "99999999999999999999", ADVROB_E_INVALID);
}

/* A word that differs in its first letter. */
static void misspell(const char *word, char *out, size_t size) {
    snprintf(out, size, "%s", word);
    out[0] = out[0] == 'q' ? 'x' : 'q';
}

static void check_text(const option *o) {
    char choices[128], wrong[128];
    refuses(o, ADVROB_TYPE_I64, 1, NULL, ADVROB_E_INVALID);
    refuses(o, ADVROB_TYPE_F64, NAN, NULL, ADVROB_E_INVALID);
    if (strcmp(o->range, "any text") == 0) {
        accepts(o, ADVROB_TYPE_STR, 0, o->initial);
        accepts(o, 0, 0, o->initial);
        return;
    }
    bool listed = false;
    snprintf(choices, sizeof choices, "%s", o->range);
    for (char *rest = choices, *word = strtok_r(rest, "|", &rest); word != NULL;
         word = strtok_r(NULL, "|", &rest)) {
        listed = listed || strcmp(word, o->initial) == 0;
        accepts(o, ADVROB_TYPE_STR, 0, word);
        accepts(o, 0, 0, word);
        misspell(word, wrong, sizeof wrong);
        refuses(o, ADVROB_TYPE_STR, 0, wrong, ADVROB_E_RANGE);
        if (strstr(advrob_last_message(), word) == NULL)
            fail_msg("\"%s\" is not offered: %s", word, advrob_last_message());
    }
    assert_true(listed);
    refuses(o, ADVROB_TYPE_STR, 0, "", ADVROB_E_RANGE);
}

static void check_array(const option *o) {
    accepts(o, ADVROB_TYPE_F64_ARRAY, o->low, NULL);
    accepts(o, ADVROB_TYPE_F64_ARRAY, o->high, NULL);
    refuses(o, ADVROB_TYPE_F64_ARRAY, nextafter(o->low, -INFINITY), NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64_ARRAY, nextafter(o->high, INFINITY), NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_F64_ARRAY, NAN, NULL, ADVROB_E_RANGE);
    refuses(o, ADVROB_TYPE_STR, 0, "1", ADVROB_E_INVALID);
    refuses(o, 0, 0, "1,,2", ADVROB_E_INVALID);
}

static void check_list(const option *o) {
    accepts(o, ADVROB_TYPE_LIST, 0, "fgsm");
    refuses(o, ADVROB_TYPE_F64, 1, NULL, ADVROB_E_INVALID);
    refuses(o, 0, 0, "fgsm", ADVROB_E_INVALID);
    assert_int_equal(make_with(o, ADVROB_TYPE_LIST, 0, "fgsn"), ADVROB_E_UNKNOWN);
    assert_non_null(strstr(advrob_last_message(), "\"fgsm\""));
}

static void check_option(const option *o) {
    char wrong[128];
    option misspelled = *o;
    options_seen++;
    if (o->type == ADVROB_TYPE_F64)
        check_number(o);
    else if (o->type == ADVROB_TYPE_I64)
        check_whole(o);
    else if (o->type == ADVROB_TYPE_STR)
        check_text(o);
    else if (o->type == ADVROB_TYPE_F64_ARRAY)
        check_array(o);
    else if (o->type == ADVROB_TYPE_LIST)
        check_list(o);
    else
        fail_msg("%s %s: %s has type %d", o->kind, o->component, o->name, o->type);
    refuses(o, ADVROB_TYPE_HANDLE, 0, NULL, ADVROB_E_INVALID);
    misspell(o->name, wrong, sizeof wrong);
    snprintf(misspelled.name, sizeof misspelled.name, "%s", wrong);
    refuses(&misspelled, 0, 0, "1", ADVROB_E_UNKNOWN);
    char nearest[160];
    snprintf(nearest, sizeof nearest, "did you mean \"%s\"", o->name);
    if (strstr(advrob_last_message(), nearest) == NULL)
        fail_msg("%s is not offered: %s", o->name, advrob_last_message());
}

/* ---- All components ---- */

/* The nets' options are the same for all: the large ones would draw weights for long. */
static bool is_large(const char *kind, const char *name) {
    advrob_model *net = NULL;
    if (strcmp(kind, "model") != 0) return false;
    OK(advrob_model_build(ctx, name, NULL, &net));
    bool large = advrob_model_parameter_total(net) > 250000;
    advrob_model_destroy(net);
    return large;
}

static void check_component(const char *kind, const char *name) {
    char wrong[128];
    option o;
    if (make(kind, name, NULL) != ADVROB_OK)
        fail_msg("%s %s: %s", kind, name, advrob_last_message());
    int32_t count = advrob_option_count(kind, name);
    for (int32_t i = 0; i < count && !is_large(kind, name); i++) {
        get_option(&o, kind, name, i);
        for (int32_t k = 0; k < i; k++) {
            option other;
            get_option(&other, kind, name, k);
            assert_string_not_equal(other.name, o.name);
        }
        check_option(&o);
    }
    assert_int_equal(advrob_option_at(kind, name, count, NULL, NULL, NULL, NULL, NULL),
                     ADVROB_E_UNKNOWN);
    assert_int_equal(advrob_option_at(kind, name, -1, NULL, NULL, NULL, NULL, NULL),
                     ADVROB_E_UNKNOWN);
    if (strcmp(kind, "context") == 0 || strcmp(kind, "evaluation") == 0 ||
        strcmp(kind, "curve") == 0 || strcmp(kind, "check") == 0 || strcmp(kind, "profile") == 0 ||
        strcmp(kind, "quantization") == 0)
        return; /* no name given */
    misspell(name, wrong, sizeof wrong);
    int32_t status = make(kind, wrong, NULL);
    if ((status != ADVROB_E_UNKNOWN && status != ADVROB_E_RANGE) ||
        strstr(advrob_last_message(), wrong) == NULL || strstr(advrob_last_message(), name) == NULL)
        fail_msg("%s %s: %d, %s", kind, wrong, status, advrob_last_message());
    assert_int_equal(advrob_option_count(kind, wrong), 0);
}

static void test_components(void **state) {
    (void)state;
    int32_t components = 0;
    for (int32_t k = 0; k < KINDS; k++) {
        int32_t count = advrob_component_count(kinds[k]);
        assert_true(count > 0);
        for (int32_t i = 0; i < count; i++, components++) {
            const char *name = advrob_component_name_at(kinds[k], i);
            const char *help = advrob_component_help_at(kinds[k], i);
            assert_true(name != NULL && name[0] != 0 && help != NULL && strlen(help) > 3);
            assert_ptr_equal(name, advrob_component_name_at(kinds[k], i)); /* static */
            for (int32_t j = 0; j < i; j++)
                assert_string_not_equal(name, advrob_component_name_at(kinds[k], j));
            check_component(kinds[k], name);
        }
        assert_null(advrob_component_name_at(kinds[k], count));
        assert_null(advrob_component_help_at(kinds[k], -1));
    }
    assert_int_equal(advrob_component_count("attac"), 0);
    print_message("%d components, %d options\n", components, (int)options_seen);
    assert_true(components >= 18 && options_seen >= 60);
}

/* ---- Texts mean what typed values mean ---- */

/* Words name=value; typed: as F (8 / 255 = 0.03...), I or S by the letter in front. */
static advrob_options *options_of(const char *words, bool typed) {
    char copy[256], *rest = copy;
    advrob_options *options = NULL;
    OK(advrob_options_create(&options));
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=') + 1;
        value[-1] = 0;
        double over = 0, under = 1;
        (void)sscanf(value, "%lf/%lf", &over, &under);
        if (!typed)
            OK(advrob_options_set_text(options, word + 1, value));
        else if (word[0] == 'F')
            OK(advrob_options_set_f64(options, word + 1, over / under));
        else if (word[0] == 'I')
            OK(advrob_options_set_i64(options, word + 1, strtoll(value, NULL, 10)));
        else if (word[0] == 'A')
            OK(advrob_options_set_f64_array(options, word + 1, &over, 1));
        else
            OK(advrob_options_set_str(options, word + 1, value));
    }
    return options;
}

static void attack_bits(advrob_options *options, float *out) {
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    OK(advrob_attack_create(ctx, "pgd", options, &attack));
    OK(advrob_target_from_model(model, &target));
    OK(advrob_attack_run(attack, target, IMAGES, images, labels, out, NULL, NULL));
    advrob_target_destroy(target);
    advrob_attack_destroy(attack);
}

static void finetune_digest(const char *words, bool typed, char digest[17]) {
    advrob_options *options = options_of(words, typed);
    advrob_finetune *finetune = NULL;
    advrob_model *trained = NULL;
    OK(advrob_finetune_create(ctx, "pgd_at", options, &finetune));
    OK(advrob_model_clone(model, &trained));
    OK(advrob_finetune_run(finetune, trained, data, NULL, NULL));
    OK(advrob_model_digest(trained, digest, 17));
    advrob_model_destroy(trained);
    advrob_finetune_destroy(finetune);
    advrob_options_destroy(options);
}

static void compress_digest(const char *name, const char *words, bool typed, char digest[17]) {
    advrob_options *options = options_of(words, typed);
    advrob_compressor *compressor = NULL;
    advrob_model *small = NULL;
    OK(advrob_compressor_create(ctx, name, options, &compressor));
    OK(advrob_compressor_run(compressor, model, data, &small));
    OK(advrob_model_digest(small, digest, 17));
    advrob_model_destroy(small);
    advrob_compressor_destroy(compressor);
    advrob_options_destroy(options);
}

static void model_digest(const char *words, bool typed, char digest[17]) {
    advrob_options *options = options_of(words, typed);
    advrob_model *made = NULL;
    OK(advrob_model_build(ctx, "tiny", options, &made));
    OK(advrob_model_digest(made, digest, 17));
    advrob_model_destroy(made);
    advrob_options_destroy(options);
}

static void test_texts(void **state) {
    (void)state;
    static float out[3][IMAGES * PIXELS];
    char typed[17], text[17];
    advrob_options *options[3] = {
        options_of("Fepsilon=12/255 Fstep=1/100 Isteps=3 Sloss=margin Irestarts=2", true),
        options_of("Fepsilon=12/255 Fstep=1/100 Isteps=3 Sloss=margin Irestarts=2", false),
        options_of("Fepsilon=12/255 Fstep=1/100 Isteps=4 Sloss=margin Irestarts=2", false)};
    for (int32_t i = 0; i < 3; i++) {
        attack_bits(options[i], out[i]);
        advrob_options_destroy(options[i]);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_memory_not_equal(out[0], out[2], sizeof out[0]);

    const char *fit = "Iepochs=2 Ibatch_size=16 Flr=1/20 Amilestones=1 Sschedule=step "
                      "Iattack.steps=2 Fattack.epsilon=16/255";
    finetune_digest(fit, true, typed);
    finetune_digest(fit, false, text);
    assert_string_equal(typed, text);
    compress_digest("prune_l1", "Fsparsity=1/4 Sscope=global", true, typed);
    compress_digest("prune_l1", "Fsparsity=1/4 Sscope=global", false, text);
    assert_string_equal(typed, text);
    compress_digest("quant_ptq", "Iweight_bits=4 Srange=percentile Fpercentile=99", true, typed);
    compress_digest("quant_ptq", "Iweight_bits=4 Srange=percentile Fpercentile=99", false, text);
    assert_string_equal(typed, text);
    model_digest("Amean=0.25 Astd=0.5 Iseed=11 Sinit=pytorch Iclasses=4", true, typed);
    model_digest("Amean=0.25 Astd=0.5 Iseed=11 Sinit=pytorch Iclasses=4", false, text);
    assert_string_equal(typed, text);
}

/* ---- Shared by threads ---- */

typedef struct shared {
    const advrob_attack *attack;
    advrob_target *target;
    const float *wanted;
    int32_t times, wrong;
} shared;

static void *attack_again(void *arg) {
    shared *s = arg;
    float *out = malloc(sizeof(float) * IMAGES * PIXELS);
    for (int32_t i = 0; i < s->times; i++) {
        memset(out, 0, sizeof(float) * IMAGES * PIXELS);
        if (advrob_attack_run(s->attack, s->target, IMAGES, images, labels, out, NULL, NULL) < 0)
            s->wrong++;
        s->wrong += memcmp(out, s->wanted, sizeof(float) * IMAGES * PIXELS) != 0;
    }
    free(out);
    return NULL;
}

/* Attack i with less work, where it has options for that: *less says whether. */
static advrob_attack *light_attack(int32_t i, bool *less) {
    static const char *const names[] = {"steps", "queries", "targets", "restarts"};
    static const int64_t values[] = {5, 30, 2, 1};
    const char *attack = advrob_component_name_at("attack", i), *name;
    advrob_attack *made = NULL;
    advrob_options *options = NULL;
    *less = false;
    OK(advrob_options_create(&options));
    for (int32_t k = 0; k < advrob_option_count("attack", attack); k++) {
        OK(advrob_option_at("attack", attack, k, &name, NULL, NULL, NULL, NULL));
        for (size_t j = 0; j < sizeof values / sizeof values[0]; j++)
            if (strcmp(name, names[j]) == 0) {
                OK(advrob_options_set_i64(options, name, values[j]));
                *less = true;
            }
    }
    OK(advrob_attack_create(ctx, attack, options, &made));
    advrob_options_destroy(options);
    return made;
}

/* One attack on one frozen model from four threads at a time. */
static void test_shared(void **state) {
    (void)state;
    enum { THREADS = 4 };
    static float wanted[IMAGES * PIXELS];
    for (int32_t i = 0; i < advrob_component_count("attack"); i++) {
        bool less;
        advrob_attack *attack = light_attack(i, &less);
        advrob_target *target = NULL;
        pthread_t threads[THREADS];
        shared all[THREADS];
        OK(advrob_target_from_model(model, &target));
        OK(advrob_attack_run(attack, target, IMAGES, images, labels, wanted, NULL, NULL));
        for (int32_t t = 0; t < THREADS; t++) {
            all[t] = (shared){attack, target, wanted, less ? 20 : 1, 0};
            assert_int_equal(pthread_create(&threads[t], NULL, attack_again, &all[t]), 0);
        }
        for (int32_t t = 0; t < THREADS; t++) {
            pthread_join(threads[t], NULL);
            assert_int_equal(all[t].wrong, 0);
        }
        advrob_target_destroy(target);
        advrob_attack_destroy(attack);
    }
}

/* ---- What they stand on ---- */

static void write_idx(const char *stem, int32_t rank) {
    char path[512];
    unsigned char head[16] = {0, 0, 8, (unsigned char)rank};
    head[7] = IMAGES;
    head[11] = head[15] = SIDE;
    snprintf(path, sizeof path, "%s/%s-idx%d-ubyte", folder, stem, rank);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, 4 + 4 * (size_t)rank, 1, file), 1);
    for (int32_t i = 0; i < (rank == 1 ? IMAGES : IMAGES * PIXELS); i++)
        putc(i % 10, file);
    assert_int_equal(fclose(file), 0);
}

/* Two images of CIFAR-10. */
static void write_cifar10(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.bin", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int32_t i = 0; i < 2 * 3073; i++)
        putc(i % 3073 % 10, file);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state) {
    (void)state;
    char name[32];
    test_folder_make(folder, sizeof folder);
    write_cifar10("test_batch");
    for (int32_t i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "data_batch_%d", i);
        write_cifar10(name);
    }
    write_idx("train-images", 3);
    write_idx("train-labels", 1);
    write_idx("t10k-images", 3);
    write_idx("t10k-labels", 1);
    for (int32_t i = 0; i < IMAGES; i++)
        labels[i] = i % CLASSES;
    for (int32_t i = 0; i < IMAGES * PIXELS; i++)
        images[i] = (float)(i * 37 % 101) / 101.0f;
    advrob_options *options = NULL;
    OK(advrob_options_create(&options));
    OK(advrob_options_set_i64(options, "threads", 2));
    OK(advrob_context_create(options, &ctx));
    advrob_options_destroy(options);
    OK(advrob_model_build(ctx, "tiny", NULL, &model));
    OK(advrob_dataset_from_memory(ctx, ADVROB_F32, images, labels, IMAGES, 1, SIDE, SIDE, CLASSES,
                                  &data));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    advrob_context_destroy(ctx);
    advrob_model_destroy(model);
    advrob_dataset_destroy(data);
    test_folder_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_components),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
