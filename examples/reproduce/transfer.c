/* transfer.csv: what PGD-20 images that were made on one net do to others, on the images of the
 * strong attack: nets of one base and one fine-tuning, from float to the engines of the quantized
 * ones. An image counts as robust if the net is right on it both before and after. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_net(net_group *g, const char *name, const char *label, const point *p) {
    if (g->count == MAX_GROUP) return;
    group_net *n = &g->nets[g->count++];
    snprintf(n->name, sizeof n->name, "%s", name);
    snprintf(n->label, sizeof n->label, "%s", label);
    n->point = p;
}

/* The float net: the base, or what the quantized nets were made of. */
static void add_float(const job *j, const point_list *list, net_group *g) {
    char name[128];
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        if (p->base != g->base || p->seed != j->settings->seed) continue;
        if (strcmp(p->finetune, g->finetune) != 0) continue;
        bool base = strcmp(p->compression, "none") == 0;
        if (!base && !is_quantized_last(p)) continue;
        name_finetuned(p, name, sizeof name);
        add_net(g, name, "float", base ? p : NULL);
        return;
    }
}

void find_group(const job *j, const point_list *list, int32_t index, net_group *g) {
    char name[128], label[64];
    *g = (net_group){.base = j->settings->base[0] ? 0 : 1,
                     .finetune = index == 0 ? "none" : "adversarial"};
    add_float(j, list, g);
    for (int32_t i = 0; i < list->count; i++) {
        const point *p = &list->points[i];
        bool prune = strcmp(p->compression, "prune") == 0;
        if (p->base != g->base || p->seed != j->settings->seed) continue;
        if (strcmp(p->finetune, g->finetune) != 0) continue;
        if (strcmp(p->compression, "none") == 0) continue;
        /* Where both orders are there, the nets that the float one became. */
        if (strcmp(p->order, order_names[1]) == 0 && j->settings->order[0]) continue;
        name_point(p, name, sizeof name);
        snprintf(label, sizeof label, "%s%s", prune ? "pruned " : "", p->level);
        add_net(g, name, label, p);
    }
}

static int32_t find_cell(const job *j, const char *source, const char *target) {
    for (int32_t row = 0; row < advrob_report_rows(j->transfer); row++) {
        if (strcmp(text_cell(j->transfer, row, "source"), source) == 0 &&
            strcmp(text_cell(j->transfer, row, "target"), target) == 0) {
            return row;
        }
    }
    return -1;
}

double transfer_cell(const job *j, const char *source, const char *target, const char *column) {
    int32_t row = find_cell(j, source, target);
    return row < 0 ? NAN : number_cell(j->transfer, row, column, NAN);
}

bool runs_in_integers(const job *j, const char *name) {
    char path[4096];
    engine_path(j->settings, name, path, sizeof path);
    return file_exists(path);
}

/* A net as it ships: a quantized one in integers, if it has that form. */
typedef struct shipped {
    advrob_model *model;
    advrob_engine *engine;
    advrob_target *target;
} shipped;

static int32_t open_net(job *j, const char *name, shipped *net) {
    char path[4096];
    int32_t status = 0;
    *net = (shipped){NULL, NULL, NULL};
    TRY(load_model(j, name, &net->model));
    if (!runs_in_integers(j, name)) return advrob_target_from_model(net->model, &net->target);
    engine_path(j->settings, name, path, sizeof path);
    TRY(advrob_engine_load(j->ctx, path, &net->engine));
    TRY(advrob_target_from_engine(net->engine, net->model, &net->target));
out:
    return status;
}

static void close_net(shipped *net) {
    advrob_target_destroy(net->target);
    advrob_engine_destroy(net->engine);
    advrob_model_destroy(net->model);
}

/* The images at work. */
typedef struct images {
    int64_t n, size, classes;
    float *x, *attacked, *logits;
    int32_t *y;
    bool *right; /* [n] */
} images;

static int32_t open_images(const job *j, images *im) {
    int32_t shape[3], status = 0;
    TRY(advrob_dataset_shape(j->strong, shape));
    im->n = advrob_dataset_count(j->strong);
    im->size = (int64_t)shape[0] * shape[1] * shape[2];
    im->classes = advrob_dataset_classes(j->strong);
    im->x = calloc((size_t)(im->n * im->size), sizeof *im->x);
    im->attacked = calloc((size_t)(im->n * im->size), sizeof *im->attacked);
    im->logits = calloc((size_t)(im->n * im->classes), sizeof *im->logits);
    im->y = calloc((size_t)im->n, sizeof *im->y);
    im->right = calloc((size_t)im->n, sizeof *im->right);
    if (im->x == NULL || im->attacked == NULL || im->logits == NULL || im->y == NULL ||
        im->right == NULL) {
        return complain(FAILED, "out of memory");
    }
    TRY(advrob_dataset_read(j->strong, 0, im->n, im->x, im->y));
out:
    return status;
}

static void close_images(images *im) {
    free(im->x);
    free(im->attacked);
    free(im->logits);
    free(im->y);
    free(im->right);
}

static int32_t make_images(job *j, const char *source, images *im) {
    advrob_options *o = NULL;
    advrob_attack *attack = NULL;
    shipped net;
    int32_t status = 0;
    TRY(open_net(j, source, &net));
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", score_attack));
    TRY(set_ball(j->settings, o, ""));
    TRY(advrob_attack_create(j->ctx, "pgd", o, &attack));
    TRY(advrob_attack_run(attack, net.target, im->n, im->x, im->y, im->attacked, NULL, NULL));
out:
    advrob_attack_destroy(attack);
    advrob_options_destroy(o);
    close_net(&net);
    return status;
}

/* Keeps in im->right which images the net gets right; returns how many. */
static int64_t count_right(images *im) {
    int64_t count = 0;
    for (int64_t i = 0; i < im->n; i++) {
        const float *z = im->logits + i * im->classes;
        int32_t best = 0;
        for (int32_t k = 1; k < im->classes; k++) {
            if (z[k] > z[best]) best = k;
        }
        im->right[i] = im->right[i] && best == im->y[i];
        count += im->right[i];
    }
    return count;
}

/* Wilson's interval of 95 %, as the other shares have it. */
static void wilson(double share, double n, double *low, double *high) {
    const double z = 1.959963984540054, weight = 1 + z * z / n;
    double middle = (share + z * z / (2 * n)) / weight;
    double half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / weight;
    *low = fmax(0, middle - half);
    *high = fmin(1, middle + half);
}

static int32_t try_images(job *j, const char *source, const char *target, images *im) {
    advrob_report *r = j->transfer;
    shipped net;
    double low, high, share;
    int32_t status = 0;
    TRY(open_net(j, target, &net));
    for (int64_t i = 0; i < im->n; i++)
        im->right[i] = true;
    TRY(advrob_target_forward(net.target, im->n, im->x, im->logits));
    double clean = (double)count_right(im) / (double)im->n;
    TRY(advrob_target_forward(net.target, im->n, im->attacked, im->logits));
    share = (double)count_right(im) / (double)im->n;
    wilson(share, (double)im->n, &low, &high);
    TRY(advrob_report_add_row(r));
    TRY(advrob_report_put_str(r, "source", source));
    TRY(advrob_report_put_str(r, "target", target));
    TRY(advrob_report_put_i64(r, "images", im->n));
    TRY(advrob_report_put_f64(r, "clean_accuracy", clean));
    TRY(advrob_report_put_f64(r, "accuracy", share));
    TRY(advrob_report_put_f64(r, "low", low));
    TRY(advrob_report_put_f64(r, "high", high));
out:
    close_net(&net);
    return status;
}

static int32_t missing_cells(const job *j, const net_group *g, const char *source) {
    int32_t missing = 0;
    for (int32_t t = 0; t < g->count; t++)
        missing += find_cell(j, source, g->nets[t].name) < 0;
    return missing;
}

static double source_work(const job *j, const net_group *g) {
    double n = (double)j->settings->preset->strong_images;
    return 2 * attack_work(score_attack, (int64_t)n) + 2 * n * g->count;
}

static int32_t run_source(job *j, const net_group *g, const group_net *source, images *im) {
    char phase[160];
    int32_t status = 0;
    if (missing_cells(j, g, source->name) == 0) return 0;
    snprintf(phase, sizeof phase, "%s base, %s fine-tuning: transfer from %s", base_names[g->base],
             strcmp(g->finetune, "none") == 0 ? "without" : g->finetune, source->label);
    progress_begin(&j->progress, j->plan.count, j->plan.count, phase, source_work(j, g));
    TRY(make_images(j, source->name, im));
    for (int32_t t = 0; t < g->count; t++) {
        const char *target = g->nets[t].name;
        if (find_cell(j, source->name, target) < 0) TRY(try_images(j, source->name, target, im));
    }
    TRY(write_report(j, j->transfer, "transfer.csv"));
    progress_end(&j->progress);
out:
    return status;
}

double transfer_work(const job *j) {
    net_group g;
    double work = 0;
    for (int32_t k = 0; k < GROUPS; k++) {
        find_group(j, &j->plan, k, &g);
        for (int32_t i = 0; g.count > 1 && i < g.count; i++)
            if (missing_cells(j, &g, g.nets[i].name) > 0) work += source_work(j, &g);
    }
    return work;
}

int32_t run_transfer(job *j) {
    images im = {.n = 0};
    net_group g;
    int32_t status = 0;
    TRY(open_images(j, &im));
    for (int32_t k = 0; k < GROUPS; k++) {
        find_group(j, &j->plan, k, &g);
        for (int32_t i = 0; g.count > 1 && i < g.count; i++)
            TRY(run_source(j, &g, &g.nets[i], &im));
    }
out:
    close_images(&im);
    return status;
}
