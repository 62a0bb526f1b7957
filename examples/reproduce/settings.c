/* The settings as text, and texts as options of the library. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const base_names[2] = {"standard", "adversarial"};
const char *const prune_order = "prune_then_finetune";
const char *const order_names[2] = {"finetune_then_quantize", "quantize_then_finetune"};

/* epsilon and "clip" come from the preset and the protocol. */
const char *const strong_attack = "autoattack_lite";
const char *const score_attack = "step=0.005 steps=20 random_start=0";

const char *chosen_name(const bool chosen[2], const char *const names[2]) {
    return chosen[0] && chosen[1] ? "both" : names[chosen[1]];
}

const char *protocol_name(const settings *s) {
    return s->clip ? "pixel" : "paper";
}

int32_t set_ball(const settings *s, advrob_options *o, const char *prefix) {
    char text[64];
    snprintf(text, sizeof text, "epsilon=%s clip=%d", s->preset->epsilon, s->clip ? 1 : 0);
    return set_options(o, prefix, text);
}

int32_t set_options(advrob_options *o, const char *prefix, const char *text) {
    char name[96], value[96];
    int used = 0;
    while (sscanf(text, " %63[^=]=%95s%n", name, value, &used) == 2) {
        char full[128];
        snprintf(full, sizeof full, "%s%s", prefix, name);
        int32_t status = advrob_options_set_text(o, full, value);
        if (status != ADVROB_OK) return status;
        text += used;
    }
    return ADVROB_OK;
}

double read_number(const char *text, char **end) {
    double value = strtod(text, end);
    if (*end == text || **end != '/') return value;
    return value / strtod(*end + 1, end);
}

double epsilon_of(const settings *s) {
    char *end = NULL;
    return read_number(s->preset->epsilon, &end);
}

double option_number(const char *text, const char *name, double otherwise) {
    size_t length = strlen(name);
    char *end = NULL;
    for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return read_number(at + length + 1, &end);
    }
    return otherwise;
}

char *settings_text(const settings *s) {
    const preset *p = s->preset;
    size_t size = 4096;
    char *text = malloc(size);
    if (text == NULL) return NULL;
    snprintf(text, size,
             "# Settings of a run of reproduce; results in this folder belong to them.\n"
             "library = %s\n"
             "dataset = %s\n"
             "preset = %s\n"
             "protocol = %s\n"
             "seed = %lld\n"
             "model = %s\n"
             "model_options = %s\n"
             "standard_base = %s\n"
             "standard_base_images = %lld\n"
             "adversarial_base = %s\n"
             "adversarial_base_images = %lld\n"
             "finetune = %s\n"
             "finetune_images = %lld\n"
             "training_attack = epsilon=%s clip=%d %s\n"
             "scoring_attack = epsilon=%s clip=%d %s\n"
             "quantize = %s\n"
             "calibration_images = %lld\n"
             "strong_attack = %s epsilon=%s%s%s\n"
             "check = epsilon=%s%s%s\n"
             "test_images = %lld\n"
             "integer_images = %lld\n"
             "strong_images = %lld\n"
             "latency_repeats = %d\n"
             "curve_epsilons = %s\n"
             "curve_images = %lld\n",
             advrob_version_text(), s->dataset, p->name, protocol_name(s), (long long)s->seed,
             s->model, p->model_options, p->base[0], (long long)p->base_images[0], p->base[1],
             (long long)p->base_images[1], p->finetune, (long long)p->finetune_images, p->epsilon,
             s->clip, p->attack, p->epsilon, s->clip, score_attack, p->quantize,
             (long long)p->calibration_images, strong_attack, p->epsilon,
             p->strong[0] != 0 ? " " : "", p->strong, p->epsilon, p->check[0] != 0 ? " " : "",
             p->check, (long long)p->test_images, (long long)p->integer_images,
             (long long)p->strong_images, (int)p->latency_repeats, p->epsilons,
             (long long)p->curve_images);
    return text;
}
