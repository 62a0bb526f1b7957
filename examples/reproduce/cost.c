/* What a phase costs: time, CPU time of all threads, energy of the processor's packages. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The counters wrap around: a long training must look at them in between. */
static const double energy_seconds = 20;

static double cpu_now(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0) return NAN;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int32_t meter_open(meter *m, advrob_context *ctx) {
    *m = (meter){.energy = NULL};
    int32_t status = advrob_energy_open(ctx, NULL, &m->energy);
    if (status == ADVROB_OK || status == ADVROB_E_NOMEM) return status;
    snprintf(m->reason, sizeof m->reason, "%s", advrob_last_message());
    return 0;
}

void meter_close(meter *m) {
    advrob_energy_close(m->energy);
    m->energy = NULL;
}

/* A counter that fails later ends the measurement of energy, not the run. */
static double joules_now(meter *m) {
    double joules = NAN;
    if (m->energy == NULL) return NAN;
    m->looked = now();
    if (advrob_energy_read(m->energy, &joules) == ADVROB_OK) return joules;
    snprintf(m->reason, sizeof m->reason, "%s", advrob_last_message());
    meter_close(m);
    return NAN;
}

void meter_look(meter *m) {
    if (m->energy != NULL && now() - m->looked > energy_seconds) joules_now(m);
}

cost cost_begin(meter *m) {
    return (cost){now(), cpu_now(), joules_now(m)};
}

cost cost_since(meter *m, cost start) {
    cost end = cost_begin(m);
    return (cost){end.seconds - start.seconds, end.cpu_seconds - start.cpu_seconds,
                  end.joules - start.joules};
}

cost get_cost(const advrob_report *r, int32_t row, const char *prefix) {
    static const char *const names[] = {"seconds", "cpu_seconds", "joules"};
    double values[3];
    char column[64];
    for (int32_t i = 0; i < 3; i++) {
        snprintf(column, sizeof column, "%s%s", prefix, names[i]);
        values[i] = number_cell(r, row, column, NAN);
    }
    return (cost){values[0], values[1], values[2]};
}

int32_t put_cost(advrob_report *r, const char *prefix, cost c) {
    int32_t status = 0;
    char column[64];
    snprintf(column, sizeof column, "%sseconds", prefix);
    TRY(advrob_report_put_f64(r, column, c.seconds));
    snprintf(column, sizeof column, "%scpu_seconds", prefix);
    TRY(advrob_report_put_f64(r, column, c.cpu_seconds));
    snprintf(column, sizeof column, "%sjoules", prefix);
    if (isnan(c.joules)) {
        TRY(advrob_report_put_str(r, column, "unavailable"));
    } else {
        TRY(advrob_report_put_f64(r, column, c.joules));
    }
out:
    return status;
}
