/* The table of presets: what each name means on each dataset. Sizes and seeds are constants:
 * nothing here depends on the machine's speed or on a result. */
#include "presets.h"

#include <string.h>

#define NORMALISATION "mean=0.5 std=0.5"
#define PAPER_TRAINING \
    "epochs=20 batch_size=64 lr=0.1 momentum=0 weight_decay=0 schedule=step milestones=5 " \
    "gamma=0.1"
#define QUICK_ATTACK "step=0.0125 steps=7 random_start=0"
#define PER_TENSOR "weight_granularity=tensor weight_range=minmax range=minmax"
#define CIFAR_ATTACK "step=1/255 steps=7 random_start=0" /* a quarter of epsilon, too */
/* Batches, weight decay and augmentation as is usual for residual nets. */
#define CIFAR_TRAINING \
    "batch_size=64 lr=0.05 momentum=0.9 weight_decay=0.0005 augment.crop=4 augment.flip=1"

/* The adversarial bases of quick and tiny start slowly (ssfd): at the full rate from the first step
 * they stay at chance. The paper's epsilon is 0.1 and 8/255 in its normalised space, half of that
 * in pixels of [0, 1]. */
const preset presets[] = {
    {
        .name = "quick",
        .help = "pruning 0.5 and int8 only, smaller subsets, 1,000 test images",
        .model = "eight_layer_conv",
        .model_options = NORMALISATION " init=he",
        .base = {"epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=cosine",
                 "epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=ssfd"},
        .base_images = {16000, 5600},
        .finetune = "epochs=2 batch_size=64 lr=0.01 momentum=0.9",
        .epsilon = "0.05",
        .attack = QUICK_ATTACK,
        .finetune_images = 2880,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 1000,
        .integer_images = 250,
        .strong_images = 100,
        .strong = "",
        .check = "steps=20 queries=100",
        .repeats = 1,
        .latency_repeats = 20,
        .epsilons = "0.0125 0.025 0.05 0.1 0.2",
        .curve_images = 100,
    },
    {
        .name = "paper",
        .help = "the paper's grid: pruning 0.1 to 0.9, int16 to int1, 60,000 images, 3 repeats",
        .model = "eight_layer_conv",
        .model_options = NORMALISATION " init=pytorch",
        .base = {PAPER_TRAINING, PAPER_TRAINING},
        .base_images = {60000, 60000},
        .finetune = "epochs=3 batch_size=64 lr=0.01 momentum=0.9",
        .epsilon = "0.05",
        .attack = "step=0.005 steps=20 random_start=0",
        .finetune_images = 60000,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9",
        .bits = "16 8 4 2 1",
        .test_images = 10000,
        .integer_images = 10000,
        .strong_images = 1000,
        .strong = "",
        .check = "",
        .repeats = 3,
        .latency_repeats = 50,
        .epsilons = "0.0125 0.025 0.05 0.1 0.2",
        .curve_images = 1000,
    },
    {
        .name = "tiny",
        .help = "a small part of quick, for tests; its figures say nothing about the paper",
        .model = "eight_layer_conv",
        .model_options = NORMALISATION " init=he",
        .base = {"epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=cosine",
                 "epochs=4 batch_size=64 lr=0.05 momentum=0.9 schedule=ssfd"},
        .base_images = {1600, 600},
        .finetune = "epochs=2 batch_size=64 lr=0.01 momentum=0.9",
        .epsilon = "0.05",
        .attack = QUICK_ATTACK,
        .finetune_images = 400,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 200,
        .integer_images = 10,
        .strong_images = 10,
        .strong = "steps=5 queries=20",
        .check = "steps=5 queries=20",
        .repeats = 1,
        .latency_repeats = 3,
        .epsilons = "0.025 0.05 0.1",
        .curve_images = 10,
    },
    {
        .name = "quick",
        .dataset = "cifar10",
        .help =
            "resnet20, pruning 0.5 and int8 of the standard base, smaller subsets, 500 test images",
        .model = "resnet20",
        .model_options = NORMALISATION " init=he",
        .base = {CIFAR_TRAINING " epochs=6 schedule=cosine",
                 CIFAR_TRAINING " epochs=6 schedule=ssfd"},
        .base_images = {15000, 6000},
        .finetune = "epochs=2 batch_size=64 lr=0.01 momentum=0.9",
        .epsilon = "4/255",
        .attack = CIFAR_ATTACK,
        .finetune_images = 3200,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 500,
        .integer_images = 250,
        .strong_images = 100,
        .strong = "",
        .check = "steps=20 queries=100",
        .repeats = 1,
        .latency_repeats = 5,
        .epsilons = "1/255 2/255 4/255 8/255 16/255",
        .curve_images = 100,
        .standard_alone = true,
    },
    {
        .name = "paper",
        .dataset = "cifar10",
        .help = "the paper's grid on its ResNet-18: 50,000 images, 3 repeats",
        .model = "resnet18_cifar10",
        .model_options = NORMALISATION " init=pytorch",
        .base = {PAPER_TRAINING, PAPER_TRAINING},
        .base_images = {50000, 50000},
        .finetune = "epochs=3 batch_size=64 lr=0.01 momentum=0.9",
        .epsilon = "4/255",
        .attack = "step=0.005 steps=20 random_start=0",
        .finetune_images = 50000,
        .calibration_images = 512,
        .quantize = PER_TENSOR,
        .sparsities = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9",
        .bits = "16 8 4 2 1",
        .test_images = 10000,
        .integer_images = 10000,
        .strong_images = 1000,
        .strong = "",
        .check = "",
        .repeats = 3,
        .latency_repeats = 20,
        .epsilons = "1/255 2/255 4/255 8/255 16/255",
        .curve_images = 1000,
    },
    {
        .name = "tiny",
        .dataset = "cifar10",
        .help = "a few images of it, for tests",
        .model = "resnet20",
        .model_options = NORMALISATION " init=he",
        .base = {"epochs=4 batch_size=16 lr=0.05 augment.crop=4 augment.flip=1",
                 "epochs=4 batch_size=16 lr=0.05 augment.crop=4 augment.flip=1"},
        .base_images = {64, 32},
        .finetune = "epochs=1 batch_size=16 lr=0.01 momentum=0.9",
        .epsilon = "4/255",
        .attack = "step=2/255 steps=2 random_start=0",
        .finetune_images = 16,
        .calibration_images = 16,
        .quantize = PER_TENSOR,
        .sparsities = "0.5",
        .bits = "8",
        .test_images = 8,
        .integer_images = 8,
        .strong_images = 4,
        .strong = "steps=5 queries=20",
        .check = "steps=2 queries=5",
        .repeats = 1,
        .latency_repeats = 1,
        .epsilons = "4/255",
        .curve_images = 4,
        .standard_alone = true,
    },
};
const int32_t preset_count = (int32_t)(sizeof presets / sizeof presets[0]);

const preset *find_preset(const char *name, const char *dataset) {
    const preset *found = NULL;
    for (int32_t i = 0; i < preset_count; i++) {
        const preset *p = &presets[i];
        if (strcmp(p->name, name) != 0) continue;
        if (p->dataset == NULL && found == NULL) found = p;
        if (p->dataset != NULL && strcmp(p->dataset, dataset) == 0) found = p;
    }
    return found;
}
