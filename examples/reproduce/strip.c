/* A strip of test images on the page: as they are, what PGD-20 adds to them, and what comes out, on
 * the pruned net before and after adversarial fine-tuning. Computed anew from the models. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows: the image; then for each net the perturbation and the attacked image. */
enum { IMAGES = 8, ROWS = 5, NETS = 2, SEARCHED = 200 };

enum { CLASSES = 10 };
static const struct {
    const char *dataset, *classes[CLASSES];
} named[] = {
    {"fashion-mnist",
     {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
      "Ankle boot"}},
    {"cifar10",
     {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}}};

void name_class(const settings *s, int32_t k, char *text, size_t size) {
    snprintf(text, size, "%d", k);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (strcmp(s->dataset, named[i].dataset) == 0 && k < CLASSES)
            snprintf(text, size, "%s", named[i].classes[k]);
    }
}

typedef struct strip {
    advrob_model *models[NETS];
    advrob_target *targets[NETS];
    int32_t shape[3], classes;
    size_t size; /* pixels of an image */
    float *x, *logits, *cells;
    int32_t y[IMAGES];
    double sure[IMAGES][NETS]; /* of the clean image's class */
    int64_t found;
    char captions[IMAGES * ROWS * 48];
} strip;

static int32_t best_class(const float *logits, int32_t classes, double *confidence) {
    int32_t best = 0;
    double sum = 0;
    for (int32_t k = 1; k < classes; k++) {
        if (logits[k] > logits[best]) best = k;
    }
    for (int32_t k = 0; k < classes; k++)
        sum += exp((double)logits[k] - (double)logits[best]);
    *confidence = 1 / sum;
    return best;
}

/* The first images that all nets classify right. */
static int32_t choose_images(const job *j, strip *s) {
    int64_t searched = advrob_dataset_count(j->test);
    int32_t status = 0;
    if (searched > SEARCHED) searched = SEARCHED;
    for (int64_t i = 0; i < searched && s->found < IMAGES; i++) {
        float *x = s->x + (size_t)s->found * s->size;
        bool right = true;
        TRY(advrob_dataset_read(j->test, i, 1, x, &s->y[s->found]));
        for (int32_t n = 0; n < NETS && right; n++) {
            TRY(advrob_target_forward(s->targets[n], 1, x, s->logits));
            right = best_class(s->logits, s->classes, &s->sure[s->found][n]) == s->y[s->found];
        }
        s->found += right;
    }
out:
    return status;
}

static void add_caption(strip *s, const char *text) {
    size_t used = strlen(s->captions);
    snprintf(s->captions + used, sizeof s->captions - used, "%s%s", used == 0 ? "" : "\n", text);
}

static int32_t attack_images(const job *j, strip *s, int32_t n, double epsilon,
                             const advrob_attack *attack) {
    size_t pixels = (size_t)s->found * s->size;
    float *added = s->cells + (size_t)(1 + 2 * n) * pixels, *out = added + pixels;
    char text[48], name[20];
    double confidence;
    int32_t status = 0;
    TRY(advrob_attack_run(attack, s->targets[n], s->found, s->x, s->y, out, NULL, NULL));
    TRY(advrob_target_forward(s->targets[n], s->found, out, s->logits));
    for (size_t i = 0; i < pixels; i++)
        added[i] = (float)(0.5 + ((double)out[i] - (double)s->x[i]) / (2 * epsilon));
    for (int64_t i = 0; i < s->found; i++)
        add_caption(s, " ");
    for (int64_t i = 0; i < s->found; i++) {
        int32_t k = best_class(s->logits + i * s->classes, s->classes, &confidence);
        name_class(j->settings, k, name, sizeof name);
        snprintf(text, sizeof text, "%s %.0f\u00a0%%", name, 100 * confidence);
        add_caption(s, text);
    }
out:
    return status;
}

static int32_t draw_strip(const job *j, strip *s, const char *what, advrob_report *r) {
    char name[20], text[48], title[300];
    double epsilon = epsilon_of(j->settings);
    const char *ball = j->settings->preset->epsilon;
    bool color = s->shape[0] > 1;
    advrob_options *o = NULL;
    advrob_attack *attack = NULL;
    int32_t status = 0;
    TRY(advrob_options_create(&o));
    TRY(set_options(o, "", score_attack));
    TRY(set_ball(j->settings, o, ""));
    TRY(advrob_attack_create(j->ctx, "pgd", o, &attack));
    memcpy(s->cells, s->x, (size_t)s->found * s->size * sizeof *s->x);
    for (int64_t i = 0; i < s->found; i++) {
        name_class(j->settings, s->y[i], name, sizeof name);
        snprintf(text, sizeof text, "%s %.0f, %.0f\u00a0%%", name, 100 * s->sure[i][0],
                 100 * s->sure[i][1]);
        add_caption(s, text);
    }
    for (int32_t n = 0; n < NETS; n++) {
        TRY(attack_images(j, s, n, epsilon, attack));
    }
    snprintf(title, sizeof title, "%s, before and after adversarial fine-tuning", what);
    TRY(advrob_report_add_images(r, title, ROWS, s->found, s->shape, s->cells,
                                 "image\nbefore: added\nbefore: attacked\nafter: added\n"
                                 "after: attacked",
                                 s->captions));
    snprintf(
        title, sizeof title,
        "The first %lld test images that both nets classify right. Added: mid-grey is nothing, "
        "%s +%s and -%s. Captions: what the net sees, and how sure it is (of the images as they "
        "are: before, after).",
        (long long)s->found,
        color ? "the full value and 0 of red, green or blue are" : "white and black are", ball,
        ball);
    TRY(advrob_report_add_text(r, title));
out:
    advrob_attack_destroy(attack);
    advrob_options_destroy(o);
    return status;
}

static int32_t open_strip(job *j, const point *nets[NETS], strip *s) {
    char name[128];
    int32_t status = 0;
    for (int32_t n = 0; n < NETS; n++) {
        name_point(nets[n], name, sizeof name);
        TRY(load_model(j, name, &s->models[n]));
        TRY(advrob_target_from_model(s->models[n], &s->targets[n]));
    }
    TRY(advrob_dataset_shape(j->test, s->shape));
    s->classes = advrob_dataset_classes(j->test);
    s->size = (size_t)s->shape[0] * (size_t)s->shape[1] * (size_t)s->shape[2];
    s->x = calloc(IMAGES * s->size, sizeof *s->x);
    s->cells = calloc(ROWS * IMAGES * s->size, sizeof *s->cells);
    s->logits = calloc((size_t)(IMAGES * s->classes), sizeof *s->logits);
    if (s->x == NULL || s->cells == NULL || s->logits == NULL) {
        status = complain(FAILED, "out of memory");
    }
out:
    return status;
}

int32_t add_strip(job *j, const point_list *list, advrob_report *r) {
    const point *nets[NETS] = {choose_pruned(list, "none"), choose_pruned(list, "adversarial")};
    strip s = {.found = 0};
    char what[128];
    int32_t status = 0;
    if (nets[0] == NULL || nets[1] == NULL) return 0;
    TRY(open_strip(j, nets, &s));
    TRY(choose_images(j, &s));
    if (s.found == 0) goto out;
    describe_point(nets[0], false, what, sizeof what);
    TRY(draw_strip(j, &s, what, r));
out:
    for (int32_t n = 0; n < NETS; n++) {
        advrob_target_destroy(s.targets[n]);
        advrob_model_destroy(s.models[n]);
    }
    free(s.x);
    free(s.cells);
    free(s.logits);
    return status;
}
