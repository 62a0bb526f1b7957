/* The paper's own figures, to be drawn beside ours: read off Figure 1 of arXiv 2403.09441,
 * adversarial fine-tuning after compression, to about half a point in a hundred. Its protocol: all
 * training images, three epochs with PGD-20 examples, attacked images not clipped; its standard
 * ResNet-18 was a published one, trained longer than ours. */
#include "reproduce.h"

#include <string.h>

static const paper_source sources[] = {{"fashion-mnist", "EightLayerConv", "60,000"},
                                       {"cifar10", "ResNet-18", "50,000"}};
#define FASHION &sources[0]
#define CIFAR &sources[1]

const paper_point paper_points[] = {
    {FASHION, 0, "prune", 0.5, 0.848, 0.772}, {FASHION, 0, "prune", 0.9, 0.807, 0.726},
    {FASHION, 0, "quant", 8, 0.855, 0.795},   {FASHION, 0, "quant", 4, 0.16, 0.14},
    {FASHION, 0, "quant", 2, 0.10, 0.10},     {FASHION, 0, "quant", 1, 0.10, 0.10},
    {FASHION, 1, "prune", 0.5, 0.866, 0.811}, {FASHION, 1, "prune", 0.9, 0.815, 0.746},
    {FASHION, 1, "quant", 8, 0.875, 0.825},   {FASHION, 1, "quant", 4, 0.48, 0.45},
    {FASHION, 1, "quant", 2, 0.10, 0.10},     {FASHION, 1, "quant", 1, 0.10, 0.10},
    {CIFAR, 0, "prune", 0.5, 0.82, 0.57},     {CIFAR, 0, "prune", 0.8, 0.56, 0.41},
    {CIFAR, 0, "prune", 0.9, 0.50, 0.375},    {CIFAR, 0, "quant", 8, 0.84, 0.60},
    {CIFAR, 0, "quant", 4, 0.10, 0.10},       {CIFAR, 0, "quant", 2, 0.10, 0.10},
    {CIFAR, 0, "quant", 1, 0.10, 0.10},       {CIFAR, 1, "prune", 0.5, 0.83, 0.572},
    {CIFAR, 1, "prune", 0.8, 0.76, 0.525},    {CIFAR, 1, "prune", 0.9, 0.575, 0.41},
    {CIFAR, 1, "quant", 8, 0.84, 0.575},      {CIFAR, 1, "quant", 4, 0.10, 0.10},
    {CIFAR, 1, "quant", 2, 0.10, 0.10},       {CIFAR, 1, "quant", 1, 0.10, 0.10},
};
const int32_t paper_count = (int32_t)(sizeof paper_points / sizeof paper_points[0]);

const paper_source *find_paper(const settings *s) {
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (strcmp(s->dataset, sources[i].dataset) == 0) return &sources[i];
    return NULL;
}
