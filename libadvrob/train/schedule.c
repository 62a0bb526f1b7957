/* Learning rate schedules, and the registry of optimizers. */
#include <math.h>
#include <string.h>

#include "train.h"

static double constant(const ar_schedule_settings *s, double position) {
    (void)position;
    return s->lr;
}

/* Multiplied by gamma at the start of each milestone epoch. */
static double step(const ar_schedule_settings *s, double position) {
    double rate = s->lr;
    for (size_t i = 0; i < s->milestones.count; i++)
        if (position >= s->milestones.values[i]) rate *= s->gamma;
    return rate;
}

/* Half a cosine from lr to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, one cycle).
 */
static double cosine(const ar_schedule_settings *s, double position) {
    const double pi = 3.14159265358979323846;
    return s->lr * 0.5 * (1 + cos(pi * fmin(position / s->epochs, 1)));
}

/* Slow start, fast decay (Jeddi et al. 2020, arXiv 2012.13628): the paper gives the shape, not the
 * constants. Ours: a linear rise from lr / 10 to lr over `warmup` of the run, then a quadratic fall
 * to lr / 100. */
static double ssfd(const ar_schedule_settings *s, double position) {
    double t = fmin(position / s->epochs, 1);
    if (t < s->warmup) return s->lr * (0.1 + 0.9 * t / s->warmup);
    double rest = (1 - t) / (1 - s->warmup);
    return s->lr * (0.01 + 0.99 * rest * rest);
}

static const ar_schedule schedules[] = {
    {"constant", "the same rate throughout", constant},
    {"step", "times gamma at each milestone epoch", step},
    {"cosine", "half a cosine down to 0", cosine},
    {"ssfd", "slow start, fast decay", ssfd},
};

int32_t ar_schedule_count(void) {
    return (int32_t)(sizeof schedules / sizeof schedules[0]);
}

const ar_schedule *ar_schedule_at(int32_t index) {
    return index >= 0 && index < ar_schedule_count() ? &schedules[index] : NULL;
}

const ar_schedule *ar_schedule_find(const char *name) {
    for (int32_t i = 0; i < ar_schedule_count(); i++)
        if (strcmp(schedules[i].name, name) == 0) return &schedules[i];
    return NULL;
}

#define AR_OPTIMIZER(name) &ar_optimizer_##name,
static const ar_optimizer *const optimizers[] = {
#include "optimizers.inc"
};
#undef AR_OPTIMIZER

int32_t ar_optimizer_count(void) {
    return (int32_t)(sizeof optimizers / sizeof optimizers[0]);
}

const ar_optimizer *ar_optimizer_at(int32_t index) {
    return index >= 0 && index < ar_optimizer_count() ? optimizers[index] : NULL;
}

const ar_optimizer *ar_optimizer_find(const char *name) {
    for (int32_t i = 0; i < ar_optimizer_count(); i++)
        if (strcmp(optimizers[i]->name, name) == 0) return optimizers[i];
    return NULL;
}
