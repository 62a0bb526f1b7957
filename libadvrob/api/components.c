/* What exists: every component of every kind, with its options, read from the registries. */
#include <string.h>

#include "api.h"

/* One kind of component. */
typedef struct kind {
    const char *name;
    int32_t (*count)(void);
    void (*at)(int32_t index, const char **name, const char **help);
    /* Option table number `part` of component `index` and the prefix that reaches it; NULL: no
     * more. */
    const ar_option_table *(*table)(int32_t index, int32_t part, const char **prefix);
} kind;

static void attack_at(int32_t i, const char **name, const char **help) {
    *name = ar_attack_at(i)->name;
    *help = ar_attack_at(i)->help;
}

static const ar_option_table *attack_table(int32_t i, int32_t part, const char **prefix) {
    *prefix = "";
    return part == 0 ? ar_attack_at(i)->options : NULL;
}

static void compressor_at(int32_t i, const char **name, const char **help) {
    *name = ar_compressor_at(i)->name;
    *help = ar_compressor_at(i)->help;
}

static const ar_option_table *compressor_table(int32_t i, int32_t part, const char **prefix) {
    *prefix = "";
    return part == 0 ? ar_compressor_at(i)->options : NULL;
}

static void method_at(int32_t i, const char **name, const char **help) {
    *name = ar_method_at(i)->name;
    *help = ar_method_at(i)->help;
}

static const ar_option_table *method_table(int32_t i, int32_t part, const char **prefix) {
    static const char *const prefixes[] = {"", "augment.", "valid.", "attack."};
    const ar_attack *attack = NULL;
    if (part > 3) return NULL;
    *prefix = prefixes[part];
    if (part == 0) return &ar_finetune_options;
    if (part == 1) return &ar_augment_options;
    const char *name = part == 2 ? AR_VALID_ATTACK : ar_method_at(i)->attack;
    if (name == NULL || ar_attack_find(name, &attack) < 0) return NULL;
    return attack->options;
}

static void model_at(int32_t i, const char **name, const char **help) {
    *name = ar_zoo_at(i)->name;
    *help = ar_zoo_at(i)->help;
}

static const ar_option_table *model_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_frame_table : part == 1 ? &ar_zoo_options : NULL;
}

static void dataset_at(int32_t i, const char **name, const char **help) {
    *name = ar_dataset_format_at(i)->name;
    *help = ar_dataset_format_at(i)->help;
}

static const ar_option_table *dataset_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_dataset_options : NULL;
}

static void op_at(int32_t i, const char **name, const char **help) {
    *name = ar_op_at(i)->name;
    *help = ar_op_at(i)->help;
}

static const ar_option_table *op_table(int32_t i, int32_t part, const char **prefix) {
    *prefix = "";
    return part == 0 ? ar_op_at(i)->options : NULL;
}

static void loss_at(int32_t i, const char **name, const char **help) {
    *name = ar_loss_at(i)->name;
    *help = ar_loss_at(i)->help;
}

static void optimizer_at(int32_t i, const char **name, const char **help) {
    *name = ar_optimizer_at(i)->name;
    *help = ar_optimizer_at(i)->help;
}

static void schedule_at(int32_t i, const char **name, const char **help) {
    *name = ar_schedule_at(i)->name;
    *help = ar_schedule_at(i)->help;
}

static const ar_option_table *no_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    (void)part;
    (void)prefix;
    return NULL;
}

static int32_t one(void) {
    return 1;
}

static void context_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "context";
    *help = "memory, threads, seed and hooks";
}

static const ar_option_table *context_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_context_options : NULL;
}

static void evaluation_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "evaluation";
    *help = "accuracies of a target, clean and under attacks";
}

static const ar_option_table *evaluation_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_evaluation_options : NULL;
}

static void curve_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "curve";
    *help = "accuracy of a target by epsilon";
}

static const ar_option_table *curve_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_curve_options : NULL;
}

static void check_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "check";
    *help = "whether accuracies under attack can be believed";
}

static const ar_option_table *check_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_check_options : NULL;
}

static void profile_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "profile";
    *help = "time, speed and kernel of each layer and pass of a model";
}

static const ar_option_table *profile_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_profile_options : NULL;
}

static void quantization_at(int32_t i, const char **name, const char **help) {
    (void)i;
    *name = "quantization";
    *help = "what quantization did to each layer of a model";
}

static const ar_option_table *quantization_table(int32_t i, int32_t part, const char **prefix) {
    (void)i;
    *prefix = "";
    return part == 0 ? &ar_quantization_options : NULL;
}

static int32_t report_count(void) {
    return 2;
}

static void report_at(int32_t i, const char **name, const char **help) {
    *name = i == 0 ? "plot" : "series";
    *help = i == 0 ? "a plot on a report's page" : "a curve or points of a plot";
}

static const ar_option_table *report_table(int32_t i, int32_t part, const char **prefix) {
    *prefix = "";
    return part > 0 ? NULL : i == 0 ? &ar_plot_options : &ar_series_options;
}

static const kind kinds[] = {
    {"attack", ar_attack_count, attack_at, attack_table},
    {"compressor", ar_compressor_count, compressor_at, compressor_table},
    {"finetune", ar_method_count, method_at, method_table},
    {"model", ar_zoo_count, model_at, model_table},
    {"operator", ar_op_count, op_at, op_table},
    {"dataset", ar_dataset_format_count, dataset_at, dataset_table},
    {"loss", ar_loss_count, loss_at, no_table},
    {"optimizer", ar_optimizer_count, optimizer_at, no_table},
    {"schedule", ar_schedule_count, schedule_at, no_table},
    {"context", one, context_at, context_table},
    {"evaluation", one, evaluation_at, evaluation_table},
    {"curve", one, curve_at, curve_table},
    {"check", one, check_at, check_table},
    {"profile", one, profile_at, profile_table},
    {"quantization", one, quantization_at, quantization_table},
    {"report", report_count, report_at, report_table},
};

static const kind *find_kind(const char *name) {
    for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    return NULL;
}

static int32_t find_component(const kind *k, const char *name) {
    const char *known, *help;
    for (int32_t i = 0; k != NULL && name != NULL && i < k->count(); i++) {
        k->at(i, &known, &help);
        if (strcmp(known, name) == 0) return i;
    }
    return -1;
}

int32_t advrob_component_count(const char *kind_name) {
    const kind *k = find_kind(kind_name);
    return k == NULL ? 0 : k->count();
}

const char *advrob_component_name_at(const char *kind_name, int32_t index) {
    const kind *k = find_kind(kind_name);
    const char *name, *help;
    if (k == NULL || index < 0 || index >= k->count()) return NULL;
    k->at(index, &name, &help);
    return name;
}

const char *advrob_component_help_at(const char *kind_name, int32_t index) {
    const kind *k = find_kind(kind_name);
    const char *name, *help;
    if (k == NULL || index < 0 || index >= k->count()) return NULL;
    k->at(index, &name, &help);
    return help;
}

/* Option `index` of a component over all its tables; NULL past the end. */
static const ar_option *find_option(const kind *k, int32_t component, int32_t index,
                                    const char **prefix, int32_t *count) {
    const ar_option_table *table;
    *count = 0;
    for (int32_t part = 0; (table = k->table(component, part, prefix)) != NULL; part++) {
        if (index >= *count && index < *count + table->count)
            return &table->options[index - *count];
        *count += table->count;
    }
    return NULL;
}

int32_t advrob_option_count(const char *kind_name, const char *name) {
    const kind *k = find_kind(kind_name);
    int32_t component = find_component(k, name), count;
    const char *prefix;
    if (component < 0) return 0;
    (void)find_option(k, component, INT32_MAX, &prefix, &count);
    return count;
}

static void describe(const ar_option *option, char *initial, char *range, size_t size) {
    initial[0] = range[0] = 0;
    switch (option->type) {
    case ADVROB_TYPE_I64:
        ar_format(initial, size, "%lld", ar_option_whole(option->initial));
        ar_format(range, size, "[%lld, %lld]", ar_option_whole(option->low),
                  ar_option_whole(option->high));
        break;
    case ADVROB_TYPE_F64:
        ar_format(initial, size, "%g", option->initial);
        ar_format(range, size, "[%g, %g]", option->low, option->high);
        break;
    case ADVROB_TYPE_F64_ARRAY:
        ar_format(range, size, "numbers in [%g, %g]", option->low, option->high);
        break;
    case ADVROB_TYPE_STR:
        ar_copy_text(initial, size, option->text != NULL ? option->text : "");
        ar_copy_text(range, size, option->choices != NULL ? option->choices : "any text");
        break;
    default:
        break;
    }
}

int32_t advrob_option_at(const char *kind_name, const char *name, int32_t index,
                         const char **option, int32_t *type, const char **initial,
                         const char **range, const char **help) {
    static _Thread_local char full[128], initial_text[128], range_text[128];
    const kind *k = find_kind(kind_name);
    int32_t component = find_component(k, name), count;
    const char *prefix = "";
    const ar_option *o =
        component < 0 || index < 0 ? NULL : find_option(k, component, index, &prefix, &count);
    if (o == NULL)
        return ar_error(ADVROB_E_UNKNOWN, "no option %d of %s \"%s\"", index,
                        kind_name != NULL ? kind_name : "NULL", name != NULL ? name : "NULL");
    ar_format(full, sizeof full, "%s%s", prefix, o->name);
    describe(o, initial_text, range_text, sizeof initial_text);
    if (option != NULL) *option = full;
    if (type != NULL) *type = o->type;
    if (initial != NULL) *initial = initial_text;
    if (range != NULL) *range = range_text;
    if (help != NULL) *help = o->help;
    return ADVROB_OK;
}
