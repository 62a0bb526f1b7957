/* A gate for continuous integration: is a net as robust as it has to be, and can the number be
 * believed?
 *
 *     evaluate --model net.safetensors --data DIR --attack autoattack_lite --epsilon 8/255
 *              --min-robust 0.45 [--dataset NAME] [--norm linf|l2] [--images N] [--options TEXT]
 *              [--records FILE] [--json FILE] [--check 0] [--name TEXT] [--threads N]
 *              [--source FILE]
 *
 * Exit status: 0 the share is met, 1 it is not met or the number is unreliable, 2 bad use or an
 * error. --attack may be given several times: an image has to withstand all. --options has further
 * options of the attacks ("steps=50 restarts=2"). With --records FILE an evaluation that was killed
 * goes on when the same command is given again. --json writes the figures under RobustBench's
 * names. --check 0 leaves out the checks for masked gradients. --source FILE is a net of the same
 * images: attacks with transfer=1 run on it, and the checks try its images too. */
#include "common.h"

#include <math.h>
#include <stdbool.h>
#include <unistd.h>

enum { MOST_ATTACKS = 8, NAMES = 14 };
enum {
    MODEL,
    SOURCE,
    DATA,
    DATASET,
    EPSILON,
    NORM,
    IMAGES,
    MIN_ROBUST,
    OPTIONS,
    RECORDS,
    JSON,
    CHECK,
    NAME,
    THREADS
};
static const char *const names[NAMES] = {"model", "source", "data",       "dataset", "epsilon",
                                         "norm",  "images", "min-robust", "options", "records",
                                         "json",  "check",  "name",       "threads"};

typedef struct job {
    const char *value[NAMES];
    const char *attacks[MOST_ATTACKS];
    int attack_count;
    advrob_context *ctx;
    advrob_dataset *test;
    advrob_model *model;
    advrob_target *target;
    advrob_report *report;
} job;

/* A gate that could not measure has not passed, and says so by a status of its own. */
static void need(int32_t status) {
    if (status == ADVROB_OK) return;
    fprintf(stderr, "evaluate: %s\n", advrob_last_message());
    exit(2);
}

static void refuse(const char *what, const char *which) {
    fprintf(stderr, "evaluate: %s%s\n", what, which);
    fprintf(stderr,
            "usage: evaluate --model FILE --data DIR --attack NAME --epsilon E --min-robust SHARE\n"
            "                [--dataset NAME] [--norm linf|l2] [--images N] [--options TEXT]\n"
            "                [--records FILE] [--json FILE] [--check 0] [--name TEXT] "
            "[--threads N] [--source FILE]\n");
    exit(2);
}

/* "0.45" or "9/20". */
static double share_of(const char *text) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (*end == '/') value /= strtod(end + 1, &end);
    if (*text == 0 || *end != 0 || !(value >= 0 && value <= 1))
        refuse("--min-robust is no share from 0 to 1: ", text);
    return value;
}

static void parse(job *j, int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        int k = 0;
        if (strncmp(argv[i], "--", 2) != 0) refuse("no option: ", argv[i]);
        if (i + 1 == argc) refuse("no value after ", argv[i]);
        if (strcmp(argv[i], "--attack") == 0) {
            if (j->attack_count == MOST_ATTACKS) refuse("too many times ", argv[i]);
            j->attacks[j->attack_count++] = argv[i + 1];
            continue;
        }
        while (k < NAMES && strcmp(argv[i] + 2, names[k]) != 0)
            k++;
        if (k == NAMES) refuse("unknown option ", argv[i]);
        j->value[k] = argv[i + 1];
    }
    if (j->value[MODEL] == NULL || j->value[DATA] == NULL)
        refuse("--model and --data are needed", "");
    if (j->attack_count == 0 || j->value[EPSILON] == NULL || j->value[MIN_ROBUST] == NULL)
        refuse("--attack, --epsilon and --min-robust are needed", "");
    if (j->value[NORM] == NULL) j->value[NORM] = "linf";
    if (j->value[IMAGES] == NULL) j->value[IMAGES] = "0";
    if (j->value[CHECK] == NULL) j->value[CHECK] = "1";
    if (strcmp(j->value[CHECK], "0") != 0 && strcmp(j->value[CHECK], "1") != 0)
        refuse("--check is 0 or 1, not ", j->value[CHECK]);
    if (j->value[DATASET] == NULL)
        j->value[DATASET] = strstr(j->value[DATA], "fashion") != NULL ? "fashion-mnist"
                            : strstr(j->value[DATA], "cifar") != NULL ? "cifar10"
                                                                      : "mnist";
    if (j->value[NAME] == NULL) {
        const char *slash = strrchr(j->value[MODEL], '/');
        j->value[NAME] = slash != NULL ? slash + 1 : j->value[MODEL];
    }
    (void)share_of(j->value[MIN_ROBUST]);
}

/* Called by the library now and then while it works. */
static int32_t show_progress(void *user, const char *what, int64_t done, int64_t total,
                             double value) {
    (void)user;
    fprintf(stderr, "\r\033[K%s %3lld %%", what, (long long)(total > 0 ? 100 * done / total : 0));
    if (!isnan(value)) fprintf(stderr, " (%.3f)", value);
    if (done == total) fprintf(stderr, "\r\033[K");
    return 0;
}

static void open_all(job *j) {
    advrob_options *settings = options(""), *o = options("split=test");
    if (j->value[THREADS] != NULL)
        need(advrob_options_set_text(settings, "threads", j->value[THREADS]));
    need(advrob_context_create(settings, &j->ctx));
    if (isatty(STDERR_FILENO)) need(advrob_context_set_progress(j->ctx, show_progress, NULL));
    need(advrob_options_set_text(o, "limit", j->value[IMAGES]));
    need(advrob_dataset_open(j->ctx, j->value[DATASET], j->value[DATA], o, &j->test));
    need(advrob_model_load(j->ctx, j->value[MODEL], NULL, &j->model));
    need(advrob_target_from_model(j->model, &j->target));
    need(advrob_report_create(j->ctx, &j->report));
    need(advrob_report_add_row(j->report));
    advrob_options_destroy(settings);
    advrob_options_destroy(o);
}

static void add_source(job *j) {
    advrob_model *model = NULL;
    advrob_target *source = NULL;
    if (j->value[SOURCE] == NULL) return;
    need(advrob_model_load(j->ctx, j->value[SOURCE], NULL, &model));
    need(advrob_target_from_model(model, &source));
    need(advrob_target_set_source(j->target, source));
    advrob_target_destroy(source);
    advrob_model_destroy(model);
}

/* Options of one attack; an attack that has no norm finds out what it is told itself. */
static advrob_options *attack_options(const job *j) {
    const char *further = j->value[OPTIONS];
    advrob_options *o = options(further != NULL ? further : "");
    need(advrob_options_set_text(o, "epsilon", j->value[EPSILON]));
    if (strcmp(j->value[NORM], "linf") != 0)
        need(advrob_options_set_str(o, "norm", j->value[NORM]));
    return o;
}

static void measure(job *j) {
    advrob_options *o = options("cascade=1 per_class=1 batch_size=256"),
                   *attack = attack_options(j);
    if (j->value[RECORDS] != NULL) need(advrob_options_set_str(o, "records", j->value[RECORDS]));
    for (int i = 0; i < j->attack_count; i++)
        need(advrob_options_append(o, "attacks", j->attacks[i], attack));
    need(advrob_report_evaluate(j->report, j->target, j->test, o));
    advrob_options_destroy(attack);
    advrob_options_destroy(o);
    if (strcmp(j->value[CHECK], "0") == 0) return;
    o = options("");
    need(advrob_options_set_text(o, "epsilon", j->value[EPSILON]));
    need(advrob_options_set_str(o, "norm", j->value[NORM]));
    need(advrob_report_check(j->report, j->target, j->test, o));
    advrob_options_destroy(o);
}

static double number(const job *j, const char *what, const char *suffix) {
    char column[128];
    double value;
    snprintf(column, sizeof column, "%s%s", what, suffix);
    need(advrob_report_get_f64(j->report, 0, column, &value));
    return value;
}

static const char *text(const job *j, const char *column) {
    const char *value = "";
    need(advrob_report_get_str(j->report, 0, column, &value));
    return value;
}

static void print_share(const job *j, const char *name, const char *column) {
    printf("%-16s %6.2f %%   (95 %%: %.2f to %.2f)\n", name, 100 * number(j, column, "_accuracy"),
           100 * number(j, column, "_low"), 100 * number(j, column, "_high"));
}

/* The column of the images that withstand all attacks. */
static const char *worst(const job *j) {
    return j->attack_count > 1 ? "worst" : j->attacks[0];
}

/* 0: met. A number that the checks do not believe is not called robust, however large it is. */
static int print_all(const job *j) {
    const bool checked = strcmp(j->value[CHECK], "1") == 0;
    const bool doubted = checked && strcmp(text(j, "verdict"), "unreliable") == 0;
    const double robust = number(j, worst(j), "_accuracy"), wanted = share_of(j->value[MIN_ROBUST]);
    const double images = number(j, "test_images", "");
    char class[64];
    printf("%s, %.0f images of %s, epsilon %s (%s)\n", j->value[NAME], images, j->value[DATASET],
           j->value[EPSILON], j->value[NORM]);
    print_share(j, "clean", "clean");
    for (int i = 0; i < j->attack_count && j->attack_count > 1; i++)
        printf("  after %-14s %6.2f %%\n", j->attacks[i],
               100 * number(j, j->attacks[i], "_accuracy"));
    print_share(j, doubted ? "unreliable" : "robust", worst(j));
    snprintf(class, sizeof class, "%s_worst_class", worst(j));
    printf("worst class      %6.2f %%   (class %.0f)\n", 100 * number(j, class, "_accuracy"),
           number(j, class, ""));
    printf("passes           %.1f forwards and %.1f backwards an image\n",
           number(j, "forwards", "") / images, number(j, "backwards", "") / images);
    printf("verdict          %s%s%s\n", !checked ? "not checked" : text(j, "verdict"),
           doubted ? ": " : "", doubted ? text(j, "reasons") : "");
    const bool met = robust >= wanted && !doubted;
    printf("%s: %.2f %% are wanted\n", met ? "met" : "not met", 100 * wanted);
    return met ? 0 : 1;
}

/* Figures under the names that RobustBench's model_info files have, as texts like theirs.
 * "autoattack_acc" is AutoAttack's alone. */
static void write_json(const job *j) {
    char percent[32], key[96];
    const struct {
        const char *key, *value;
    } settings[] = {
        {"name", j->value[NAME]},
        {"dataset", j->value[DATASET]},
        {"threat_model", strcmp(j->value[NORM], "l2") == 0 ? "L2" : "Linf"},
        {"eps", j->value[EPSILON]},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        need(advrob_report_set_str(j->report, settings[i].key, settings[i].value));
    snprintf(percent, sizeof percent, "%.2f", 100 * number(j, "clean", "_accuracy"));
    need(advrob_report_set_str(j->report, "clean_acc", percent));
    snprintf(percent, sizeof percent, "%.2f", 100 * number(j, worst(j), "_accuracy"));
    snprintf(key, sizeof key, "%s_acc", worst(j));
    need(advrob_report_set_str(j->report, key, percent));
    if (strcmp(j->value[CHECK], "1") == 0)
        need(advrob_report_set_f64(j->report, "unreliable",
                                   strcmp(text(j, "verdict"), "unreliable") == 0));
    need(advrob_report_write(j->report, j->value[JSON]));
}

int main(int argc, char **argv) {
    job j = {.attack_count = 0};
    parse(&j, argc, argv);
    open_all(&j);
    add_source(&j);
    measure(&j);
    int status = print_all(&j);
    if (j.value[JSON] != NULL) write_json(&j);
    advrob_report_destroy(j.report);
    advrob_target_destroy(j.target);
    advrob_model_destroy(j.model);
    advrob_dataset_destroy(j.test);
    advrob_context_destroy(j.ctx);
    return status;
}
