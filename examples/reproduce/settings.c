/* The presets (one table), and the settings as text. Sizes and seeds are constants of a preset:
 * nothing here depends on the machine's speed or on a result. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "presets.h"

const char *const base_names[2] = {"standard", "adversarial"};
const char *const prune_order = "prune_then_finetune";
const char *const order_names[2] = {"finetune_then_quantize", "quantize_then_finetune"};

#define NORMALISATION "mean=0.5 std=0.5"
#define PAPER_TRAINING \
    "epochs=20 batch_size=64 lr=0.1 momentum=0 weight_decay=0 schedule=step milestones=5 " \
    "gamma=0.1"
/* The adversarial bases of quick and tiny start slowly (ssfd): at the full rate from the first step
 * they stay at chance. */
#define QUICK_ATTACK "step=0.0125 steps=7 random_start=0"
#define PER_TENSOR "weight_granularity=tensor weight_range=minmax range=minmax"

/* epsilon and "clip" come from the protocol. */
const char *const score_attack = "step=0.005 steps=20 random_start=0";
#define EPSILON "0.05" /* in pixels of [0, 1]: 0.1 in the paper's normalised space */
const char *const score_epsilon = "epsilon=" EPSILON;

const preset presets[] = {
    {
        .name = "quick",
        .help = "pruning 0.5 and int8 only, smaller subsets, 1,000 test images",
        .model = NORMALISATION " init=he",
        .base = {"epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=cosine",
                 "epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=ssfd"},
        .base_images = {16000, 6000},
        .finetune = "epochs=2 batch_size=64 lr=0.01 momentum=0.9",
        .attack = QUICK_ATTACK,
        .finetune_images = 3200,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 1000,
        .repeats = 1,
        .latency_repeats = 20,
        .epsilons = "0.0125 0.025 0.05 0.1 0.2",
        .curve_images = 100,
    },
    {
        .name = "paper",
        .help = "the paper's grid: pruning 0.1 to 0.9, int16 to int1, 60,000 images, 3 repeats",
        .model = NORMALISATION " init=pytorch",
        .base = {PAPER_TRAINING, PAPER_TRAINING},
        .base_images = {60000, 60000},
        .finetune = "epochs=3 batch_size=64 lr=0.01 momentum=0.9",
        .attack = "step=0.005 steps=20 random_start=0",
        .finetune_images = 60000,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9",
        .bits = "16 8 4 2 1",
        .test_images = 10000,
        .repeats = 3,
        .latency_repeats = 50,
        .epsilons = "0.0125 0.025 0.05 0.1 0.2",
        .curve_images = 1000,
    },
    {
        .name = "tiny",
        .help = "a small part of quick, for tests; its figures say nothing about the paper",
        .model = NORMALISATION " init=he",
        .base = {"epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=cosine",
                 "epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=ssfd"},
        .base_images = {1600, 600},
        .finetune = "epochs=2 batch_size=64 lr=0.01 momentum=0.9",
        .attack = QUICK_ATTACK,
        .finetune_images = 400,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 200,
        .repeats = 1,
        .latency_repeats = 3,
        .epsilons = "0.025 0.05 0.1",
        .curve_images = 20,
    },
};
const int32_t preset_count = (int32_t)(sizeof presets / sizeof presets[0]);

const char *chosen_name(const bool chosen[2], const char *const names[2]) {
    return chosen[0] && chosen[1] ? "both" : names[chosen[1]];
}

const char *protocol_name(const settings *s) {
    return s->clip ? "pixel" : "paper";
}

int32_t set_ball(const settings *s, advrob_options *o, const char *prefix) {
    char text[64];
    snprintf(text, sizeof text, "%s clip=%d", score_epsilon, s->clip ? 1 : 0);
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

double option_number(const char *text, const char *name, double otherwise) {
    size_t length = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, length) == 0 && at[length] == '=') return atof(at + length + 1);
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
             "model = eight_layer_conv\n"
             "model_options = %s\n"
             "standard_base = %s\n"
             "standard_base_images = %lld\n"
             "adversarial_base = %s\n"
             "adversarial_base_images = %lld\n"
             "finetune = %s\n"
             "finetune_images = %lld\n"
             "training_attack = %s clip=%d %s\n"
             "scoring_attack = %s clip=%d %s\n"
             "quantize = %s\n"
             "calibration_images = %lld\n"
             "test_images = %lld\n"
             "latency_repeats = %d\n"
             "curve_epsilons = %s\n"
             "curve_images = %lld\n",
             advrob_version_text(), s->dataset, p->name, protocol_name(s), (long long)s->seed,
             p->model, p->base[0], (long long)p->base_images[0], p->base[1],
             (long long)p->base_images[1], p->finetune, (long long)p->finetune_images,
             score_epsilon, s->clip, p->attack, score_epsilon, s->clip, score_attack, p->quantize,
             (long long)p->calibration_images, (long long)p->test_images, (int)p->latency_repeats,
             p->epsilons, (long long)p->curve_images);
    return text;
}
