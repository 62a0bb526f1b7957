/* The list of points: which nets are made and scored, in which order. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEVELS = 64 };

typedef struct levels {
    char texts[MAX_LEVELS][16];
    int32_t count;
} levels;

static void add_level(levels *l, const char *text) {
    for (int32_t i = 0; i < l->count; i++) {
        if (strcmp(l->texts[i], text) == 0) return;
    }
    if (l->count < MAX_LEVELS) snprintf(l->texts[l->count++], sizeof l->texts[0], "%s", text);
}

static bool add_sparsity(levels *l, const char *text) {
    char *end = NULL, level[16];
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0 && value < 1)) return false;
    snprintf(level, sizeof level, "%.4g", value);
    add_level(l, level);
    return true;
}

static bool add_bits(levels *l, const char *text) {
    char *end = NULL, level[16];
    if (strncmp(text, "int", 3) == 0) text += 3;
    long bits = strtol(text, &end, 10);
    if (end == text || *end != '\0' || bits < 1 || bits > 16) return false;
    snprintf(level, sizeof level, "int%ld", bits);
    add_level(l, level);
    return true;
}

static void add_all(levels *l, const char *texts, bool (*add)(levels *, const char *)) {
    char word[16];
    int used = 0;
    while (sscanf(texts, " %15s%n", word, &used) == 1) {
        add(l, word);
        texts += used;
    }
}

/* One item of --only. */
static int32_t add_item(const settings *s, const char *item, levels *prune, levels *quant) {
    if (strcmp(item, "base") == 0) return 0;
    if (strcmp(item, "prune") == 0) {
        add_all(prune, s->preset->sparsities, add_sparsity);
    } else if (strcmp(item, "quant") == 0) {
        add_all(quant, s->preset->bits, add_bits);
    } else if (strncmp(item, "prune:", 6) == 0) {
        if (!add_sparsity(prune, item + 6)) {
            return complain(
                USAGE, "--only \"%s\": a sparsity lies between 0 and 1, as in prune:0.5", item);
        }
    } else if (strncmp(item, "quant:", 6) == 0) {
        if (!add_bits(quant, item + 6)) {
            return complain(USAGE, "--only \"%s\": int1 to int16 are meant, as in quant:int8",
                            item);
        }
    } else {
        static const char *const kinds[] = {"base", "prune", "quant", "prune:0.5", "quant:int8"};
        return complain(USAGE, "--only \"%s\" is unknown; did you mean \"%s\"?", item,
                        nearest(item, kinds, 5));
    }
    return 0;
}

static int32_t choose_levels(const settings *s, levels *prune, levels *quant) {
    int32_t status = 0;
    if (s->only == NULL) {
        add_all(prune, s->preset->sparsities, add_sparsity);
        add_all(quant, s->preset->bits, add_bits);
        return 0;
    }
    char *items = strdup(s->only), *rest = NULL;
    if (items == NULL) return complain(FAILED, "out of memory");
    for (char *item = strtok_r(items, ", ", &rest); item != NULL && status == 0;
         item = strtok_r(NULL, ", ", &rest)) {
        status = add_item(s, item, prune, quant);
    }
    free(items);
    if (status == 0 && prune->count == MAX_LEVELS) {
        return complain(USAGE, "--only names more than %d sparsities", MAX_LEVELS - 1);
    }
    return status;
}

int32_t add_point(point_list *list, point p) {
    point *grown = realloc(list->points, (size_t)(list->count + 1) * sizeof *grown);
    if (grown == NULL) return complain(FAILED, "out of memory");
    list->points = grown;
    list->points[list->count++] = p;
    return 0;
}

/* Each level of a compression: without fine-tuning, and each fine-tuning in each order. */
static int32_t add_compressed(const settings *s, point_list *list, point p, const levels *l,
                              const char *const *orders) {
    int32_t status = 0;
    for (int32_t level = 0; level < l->count; level++) {
        point tuned = p;
        snprintf(tuned.level, sizeof tuned.level, "%s", l->texts[level]);
        TRY(add_point(list, tuned));
        for (const char *const *order = orders; *order != NULL; order++) {
            tuned.order = *order;
            for (int32_t i = 0; i < 2; i++) {
                tuned.finetune = base_names[i];
                if (s->finetune[i]) TRY(add_point(list, tuned));
            }
        }
    }
out:
    return status;
}

int32_t list_points(const settings *s, point_list *out) {
    const char *const prune_orders[] = {prune_order, NULL};
    const char *quant_orders[3] = {NULL};
    levels prune = {.count = 0}, quant = {.count = 0};
    int32_t status = 0;
    for (int32_t i = 0, n = 0; i < 2; i++) {
        if (s->order[i]) quant_orders[n++] = order_names[i];
    }
    TRY(choose_levels(s, &prune, &quant));
    for (int64_t repeat = 0; repeat < s->repeats; repeat++) {
        for (int32_t base = 0; base < 2; base++) {
            if (!s->base[base]) continue;
            point p = {base, "none", "none", "none", "none", s->seed + repeat};
            TRY(add_point(out, p));
            p.compression = "prune";
            TRY(add_compressed(s, out, p, &prune, prune_orders));
            p.compression = "quant";
            TRY(add_compressed(s, out, p, &quant, quant_orders));
        }
    }
out:
    return status;
}

void free_points(point_list *list) {
    free(list->points);
    *list = (point_list){NULL, 0};
}

bool is_quantized_last(const point *p) {
    return strcmp(p->order, order_names[0]) == 0;
}

void describe_point(const point *p, bool seed, char *text, size_t size) {
    char compression[48] = "", finetune[48] = "", repeat[32] = "";
    if (strcmp(p->compression, "prune") == 0) {
        snprintf(compression, sizeof compression, ", prune %s", p->level);
    } else if (strcmp(p->compression, "quant") == 0) {
        snprintf(compression, sizeof compression, ", %s", p->level);
    }
    if (strcmp(p->finetune, "none") != 0) {
        snprintf(finetune, sizeof finetune, "%s %s fine-tuning",
                 is_quantized_last(p) ? " after" : ",", p->finetune);
    }
    if (seed) snprintf(repeat, sizeof repeat, ", seed %lld", (long long)p->seed);
    snprintf(text, size, "%s base%s%s%s%s", base_names[p->base], compression, finetune,
             p->integers ? ", in integers" : "", repeat);
}

void name_base(int32_t base, int64_t seed, char *text, size_t size) {
    snprintf(text, size, "%s-seed%lld", base_names[base], (long long)seed);
}

void name_point(const point *p, char *text, size_t size) {
    if (strcmp(p->compression, "none") == 0) {
        name_base(p->base, p->seed, text, size);
    } else if (strcmp(p->finetune, "none") == 0) {
        snprintf(text, size, "%s-%s-%s-seed%lld", base_names[p->base], p->compression, p->level,
                 (long long)p->seed);
    } else {
        snprintf(text, size, "%s-%s-%s-%s-%s-seed%lld", base_names[p->base], p->compression,
                 p->level, p->order, p->finetune, (long long)p->seed);
    }
}

void name_finetuned(const point *p, char *text, size_t size) {
    if (!is_quantized_last(p)) {
        name_point(p, text, size);
    } else {
        snprintf(text, size, "%s-float-%s-seed%lld", base_names[p->base], p->finetune,
                 (long long)p->seed);
    }
}
