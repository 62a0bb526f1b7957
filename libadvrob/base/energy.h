/* The energy meter (include/advrob/energy.h). */
#ifndef AR_ENERGY_H
#define AR_ENERGY_H

#include <advrob/energy.h>

#include "context.h"

/* Zones that are looked for: intel-rapl:0 and so on. */
enum { AR_ENERGY_ZONES = 64 };

struct advrob_energy {
    advrob_context *ctx;
    int32_t count;
    int32_t zones[AR_ENERGY_ZONES];                         /* numbers of the packages' zones */
    uint64_t last[AR_ENERGY_ZONES], range[AR_ENERGY_ZONES]; /* microjoules */
    uint64_t total;
    char root[512];
};

int32_t ar_energy_open(advrob_context *ctx, const char *root, advrob_energy **out);
int32_t ar_energy_read(advrob_energy *meter, double *joules);
void ar_energy_close(advrob_energy *meter);

#endif
