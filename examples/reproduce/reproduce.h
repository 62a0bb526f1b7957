/* What the files of this program share. settings: what is asked for; presets: their table; points:
 * the list of nets to score; folder: the files under --out; job: one context with data, results and
 * progress; estimate, work, progress: what it takes; run: computes one point, with score, integers,
 * cost and efficiency; records, curves, transfer: what is kept beside the results; summary: figures
 * over seeds; table, page, plots, shipped, strip, paper: what a person reads at the end.
 *
 * Functions that can fail return 0, a negative status of the library (its message is still to be
 * printed) or one of the positive codes below (the message is already on stderr). */
#ifndef REPRODUCE_H
#define REPRODUCE_H

#include <stdbool.h>

#include <advrob/advrob.h>

enum { FAILED = 1, USAGE = 2 };

#define TRY(call) \
    do { \
        status = (call); \
        if (status != 0) goto out; \
    } while (0)

/* So that no digest is taken for a number by a reader of the CSV file. */
#define DIGEST_PREFIX "fnv1a:"

/* Prints one line "reproduce: ..." and returns `code`. */
int32_t complain(int32_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Of `n` names the one nearest to `word`. */
const char *nearest(const char *word, const char *const *names, int32_t n);

/* The training settings and sizes of one preset. Texts are options of the library's components,
 * "name=value name=value". */
typedef struct preset {
    const char *name, *help;
    const char *dataset; /* NULL: all that no other preset of this name is for */
    const char *model;   /* the net, unless --model names another */
    const char *model_options;
    const char *base[2];    /* options of the training of the standard, the adversarial base */
    int64_t base_images[2]; /* how many training images each sees, from the first on */
    const char *finetune;   /* options of both fine-tunings */
    const char *epsilon;    /* in pixels of [0, 1], "0.05" or "4/255" */
    const char *attack;     /* attack inside adversarial training and fine-tuning */
    int64_t finetune_images;
    int64_t calibration_images; /* training images too */
    const char *quantize;
    const char *sparsities, *bits; /* levels, separated by spaces */
    int64_t test_images;
    int64_t integer_images; /* of them, the first, for PGD-20 on nets in integers */
    int64_t
        strong_images;  /* the same, for strong_attack, transfer, the check for masked gradients */
    const char *strong; /* options of the attack */
    const char *check;  /* options of the check */
    int64_t repeats;
    int32_t latency_repeats;
    const char *epsilons; /* of the accuracy against epsilon, separated by spaces */
    int64_t curve_images; /* of the test images, the first */
    bool standard_alone;  /* no adversarial base unless --base asks for it */
} preset;

typedef struct settings {
    char *dataset, *model, *data, *out, *only; /* `only` may be NULL */
    const char *preset_name;
    const preset *preset;
    bool clip;        /* protocol "pixel"; without: "paper" */
    bool base[2];     /* standard, adversarial */
    bool base_chosen; /* by --base */
    bool finetune[2]; /* the same */
    bool order[2];    /* of order_names */
    bool resume, fresh, list, help;
    int64_t threads, seed, repeats;
} settings;

extern const char *const base_names[2];  /* of fine-tunings too */
extern const char *const prune_order;    /* "prune_then_finetune" */
extern const char *const order_names[2]; /* of quantization: fine-tuned before, through */
/* The name of the chosen ones of two: "both" if there are two. */
const char *chosen_name(const bool chosen[2], const char *const names[2]);
extern const char *const score_attack;  /* options of PGD-20 */
extern const char *const strong_attack; /* that also scores, fewer images */
double epsilon_of(const settings *s);
const char *protocol_name(const settings *s);
/* The ball of both protocols, as options under `prefix` ("" or "attack."). */
int32_t set_ball(const settings *s, advrob_options *o, const char *prefix);
int32_t parse_arguments(settings *s, int argc, char **argv);
void free_settings(settings *s);
void print_help(void);
/* The settings as "name = value\n". malloc'd; NULL: no memory. */
char *settings_text(const settings *s);
/* Puts "name=value name=value" into `o`; `prefix` is set before each name. */
int32_t set_options(advrob_options *o, const char *prefix, const char *text);
/* A number as such texts have it, "0.05" or "4/255"; *end as strtod's. */
double read_number(const char *text, char **end);
/* The value of `name` in such a text. */
double option_number(const char *text, const char *name, double otherwise);

/* One net to score. */
typedef struct point {
    int32_t base;            /* index of base_names */
    const char *compression; /* "none", "prune", "quant" */
    char level[16];          /* "none", "0.5", "int8" */
    const char *order;       /* "none", prune_order or of order_names */
    const char *finetune;    /* "none", "standard", "adversarial" */
    int64_t seed;
    bool integers; /* its row of the engine; without: of the float or simulated net */
} point;

typedef struct point_list {
    point *points;
    int32_t count;
} point_list;

int32_t add_point(point_list *list, point p);
int32_t list_points(const settings *s, point_list *out);
void free_points(point_list *list);
bool is_quantized_last(const point *p); /* fine-tuned as a float net, quantized then */
/* "standard base, prune 0.5, adversarial fine-tuning"; seed only where there are several. */
void describe_point(const point *p, bool seed, char *text, size_t size);
/* Name of the point's model: "standard-prune-0.5-adversarial-seed1". */
void name_point(const point *p, char *text, size_t size);
void name_base(int32_t base, int64_t seed, char *text, size_t size);
/* Of its fine-tuned net; where quantization comes last that is a float net, one for all bits. */
void name_finetuned(const point *p, char *text, size_t size);

typedef struct progress {
    bool terminal;
    int32_t number, total; /* of the point */
    char phase[160];
    double phase_start, phase_work, phase_done;
    double work_left, work_done, seconds; /* of the whole run; work_left without this phase's */
    double work_known, seconds_known;     /* of the estimate's measurement */
    double last_shown;
} progress;

void progress_init(progress *p);
void progress_begin(progress *p, int32_t number, int32_t total, const char *phase, double work);
void progress_end(progress *p);
int32_t progress_hook(void *user, const char *what, int64_t done, int64_t total, double value);
/* Prints a line that stays. */
void progress_say(progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "1:05"; what the rest of the run is thought to take. */
void progress_left(const progress *p, char *text, size_t size);
double now(void);

/* What a phase costs; NAN where it is not known. */
typedef struct cost {
    double seconds, cpu_seconds, joules;
} cost;

typedef struct meter {
    advrob_energy *energy; /* NULL: unavailable */
    char reason[300];      /* why */
    double looked;
} meter;

int32_t meter_open(meter *m, advrob_context *ctx);
void meter_close(meter *m);
void meter_look(meter *m); /* now and then: counters wrap around */
cost cost_begin(meter *m);
cost cost_since(meter *m, cost start);
/* Columns <prefix>seconds, <prefix>cpu_seconds, <prefix>joules. */
cost get_cost(const advrob_report *r, int32_t row, const char *prefix);
int32_t put_cost(advrob_report *r, const char *prefix, cost c);

/* A finished training. */
typedef struct step {
    cost cost;
    char note[256];
} step;

typedef struct job {
    const settings *settings;
    point_list plan;
    advrob_context *ctx;
    advrob_dataset *train, *test, *strong, *calibration, *finetune_images; /* strong: of test */
    advrob_report *results;
    advrob_report *steps, *history, *classes, *curves, *transfer; /* files of those names */
    progress progress;
    meter meter;
    advrob_model *base; /* the base last used */
    char base_name[96];
    int32_t number;      /* of the point at work */
    double train_passes; /* a training step of an image, in passes of an attack */
    bool opened;
} job;

/* The net of the settings with the initial weights of `seed`. */
int32_t build_net(const job *j, int64_t seed, advrob_model **out);
/* The list of points and the context; then the data and what is on disk. */
int32_t job_create(job *j, const settings *s);
int32_t job_open(job *j);
void job_close(job *j);
int32_t write_report(job *j, const advrob_report *report, const char *name);
int32_t write_results(job *j);
int32_t put_settings(const job *j, advrob_report *report);
/* All that a number in the results depends on, with the data and the CPU, a line each:
 * "name = value\n". malloc'd. */
int32_t job_text(const job *j, char **out);
int32_t save_model(job *j, const char *name, const advrob_model *model);
int32_t load_model(job *j, const char *name, advrob_model **out);

/* Whether the training `name` is finished; `out` may be NULL. */
bool step_done(const job *j, const char *name, step *out);
/* Saves the model and the row, and removes the checkpoint. */
int32_t step_keep(job *j, const char *name, const advrob_model *model, const step *s);
int32_t history_declare(advrob_report *history);
int32_t history_keep(job *j, const char *name, const advrob_history *h);
int32_t classes_keep(job *j, const char *name, const advrob_report *score);
double class_accuracy(const job *j, const char *name, int32_t k, const char *column);

/* Work, in forward passes of the whole net: for the time left. */
double point_work(const job *j, int32_t index);
double train_work(const job *j, const char *options, bool adversarial, int64_t images);
double attack_work(const char *attack, int64_t images);
double score_work(const job *j, const point *p, bool strongly);
double integers_work(const job *j, const point *p);
double point_scale(const point *p);
int32_t estimate(job *j);
/* "9.8 s", "12 min", "1.5 h" */
void name_duration(double seconds, char *text, size_t size);

int32_t run_point(job *j, int32_t index);
/* For progress: a part of the point's work. */
void begin_phase(job *j, const point *p, const char *task, double work);
/* Adds the row of `score`: clean accuracy on all test images, under PGD-20 on `attacked`, which are
 * all or the first of them, and `strongly` under strong_attack too. */
int32_t score_target(job *j, advrob_target *target, const advrob_dataset *attacked, bool strongly,
                     advrob_report *score);
/* Puts what tells which net it is; execution: "float", "simulated", "integer". */
int32_t describe_net(const advrob_model *model, const char *name, const char *execution,
                     advrob_report *score);

/* The engine of a quantized net, and its file; NULL where the net has no integer form, and
 * `refused` says why. */
int32_t lower_net(job *j, const char *name, advrob_model *model, advrob_engine **out, char *refused,
                  size_t size);
/* Adds the row of `score`: accuracies in integers, verdict, size and speed. */
int32_t score_integers(job *j, const point *p, const char *name, advrob_model *model,
                       advrob_engine *engine, advrob_report *score);

/* What is timed: an engine, or a float net where that is NULL. */
typedef struct runner {
    advrob_model *model;
    advrob_engine *engine;
} runner;

int32_t measure_efficiency(job *j, const char *path, const runner *net, advrob_report *score);

enum { MAX_CURVES = 4, MAX_EPSILONS = 16 };
bool curve_done(const job *j, const char *name);
double curve_work(const job *j, const point *p);
double curves_work(const job *j); /* of those that are missing */
int32_t run_curves(job *j);

/* Nets between which images are tried. */
enum { MAX_GROUP = 64, GROUPS = 2 };
typedef struct group_net {
    char name[128], label[64];
    const point *point; /* of the list; NULL: the float net that was fine-tuned to be quantized */
} group_net;
typedef struct net_group {
    int32_t base;
    const char *finetune;
    group_net nets[MAX_GROUP];
    int32_t count;
} net_group;

/* Group `index` of a list's nets, first seed: not fine-tuned, adversarially fine-tuned. */
void find_group(const job *j, const point_list *list, int32_t index, net_group *g);
bool runs_in_integers(const job *j, const char *name);
/* NAN: not there. */
double transfer_cell(const job *j, const char *source, const char *target, const char *column);
double transfer_work(const job *j); /* of what is missing */
int32_t run_transfer(job *j);

/* Cells of a report; what is not there is `otherwise`, "". */
double number_cell(const advrob_report *r, int32_t row, const char *column, double otherwise);
const char *text_cell(const advrob_report *r, int32_t row, const char *column);

/* Mean over the seeds that are there, and how sure it is: the standard deviation over several
 * seeds, the 95 % interval of one. */
typedef struct summary {
    int32_t seeds;
    double mean, low, high, spread; /* spread: half of high - low */
} summary;

/* `low`, `high`: columns of the interval, or NULL. */
summary summarise(const job *j, const point *p, const char *column, const char *low,
                  const char *high);
summary clean_of(const job *j, const point *p);
summary pgd_of(const job *j, const point *p);
summary strong_of(const job *j, const point *p);
/* The same in integers where the net runs in them and the simulation was spared. */
summary strong_shipped(const job *j, const point *p);
bool has_seeds(const job *j);
/* The row of a finished point, or -1. */
int32_t find_row(const advrob_report *results, const point *p);
/* The same net in integers; it has no row where the engine refused it. */
point in_integers(const point *p);
/* The verdict of the check: may the accuracies under attack be believed? Of any seed. */
bool is_unreliable(const job *j, const point *p);
/* The points that have rows, in integers or not; their texts are those of the results. */
int32_t finished_points(const job *j, point_list *out);
/* The first point of that base, compression and fine-tuning, of level `wanted` if there is one; not
 * one that is quantized after fine-tuning. NULL: none. */
const point *choose_point(const point_list *list, int32_t base, const char *compression,
                          const char *finetune, const char *wanted);
/* The pruned standard net after that fine-tuning, not of a level that lacks one of the three: of
 * 0.5, else of the first level. Three calls give nets of one level. NULL: none. */
const point *choose_pruned(const point_list *list, const char *finetune);

/* Where the paper's figures on a dataset come from. */
typedef struct paper_source {
    const char *dataset, *net, *images;
} paper_source;
/* A point of its Figure 1, adversarially fine-tuned; level: sparsity or bits. */
typedef struct paper_point {
    const paper_source *source;
    int32_t base;
    const char *compression;
    double level, clean, pgd;
} paper_point;
extern const paper_point paper_points[];
extern const int32_t paper_count;
const paper_source *find_paper(const settings *s); /* NULL: it has nothing on this dataset */

int32_t print_table(const job *j);
void print_findings(const job *j);
int32_t write_page(job *j);
/* What runs in integers, and images that one net's attack made tried on the others. */
int32_t add_shipped(const job *j, const point_list *list, advrob_report *r);
int32_t plot_glances(const job *j, const point_list *list, advrob_report *r);
int32_t plot_compressions(const job *j, const point_list *list, advrob_report *r);
int32_t plot_curves(const job *j, const point_list *list, advrob_report *r);
int32_t plot_needs(const job *j, const point_list *list, advrob_report *r);
int32_t plot_training(const job *j, const point_list *list, advrob_report *r);
int32_t add_strip(job *j, const point_list *list, advrob_report *r);
void name_class(const settings *s, int32_t k, char *text, size_t size);

/* Files under --out. */
void out_path(const settings *s, const char *name, char *path, size_t size);
void model_path(const settings *s, const char *name, char *path, size_t size);
void engine_path(const settings *s, const char *name, char *path, size_t size);
void checkpoint_path(const settings *s, const char *name, char *path, size_t size);
bool has_checkpoint(const settings *s, const char *name);
int32_t remove_checkpoint(const settings *s, const char *name);
bool file_exists(const char *path);
/* Makes the folder, clears it with --fresh, compares `text` with settings.txt or writes it there.
 */
int32_t prepare_folder(const settings *s, const char *text);

#endif
