/* The paper's own figures on Fashion-MNIST, to be drawn beside ours: read off Figure 1 of
 * arXiv 2403.09441, adversarial fine-tuning after compression, to about half a point in a hundred.
 * Its protocol: all 60,000 images, three epochs with PGD-20 examples, attacked images not clipped.
 */
#include "reproduce.h"

#include <string.h>

const paper_point paper_points[] = {
    {0, "prune", 0.5, 0.848, 0.772}, {0, "prune", 0.9, 0.807, 0.726}, {0, "quant", 8, 0.855, 0.795},
    {0, "quant", 4, 0.16, 0.14},     {0, "quant", 2, 0.10, 0.10},     {0, "quant", 1, 0.10, 0.10},
    {1, "prune", 0.5, 0.866, 0.811}, {1, "prune", 0.9, 0.815, 0.746}, {1, "quant", 8, 0.875, 0.825},
    {1, "quant", 4, 0.48, 0.45},     {1, "quant", 2, 0.10, 0.10},     {1, "quant", 1, 0.10, 0.10},
};
const int32_t paper_count = (int32_t)(sizeof paper_points / sizeof paper_points[0]);

bool in_paper(const settings *s) {
    return strcmp(s->dataset, "fashion-mnist") == 0;
}
