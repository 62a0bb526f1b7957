/* The energy meter. */
#include "api.h"

int32_t advrob_energy_open(advrob_context *ctx, const char *root, advrob_energy **out) {
    AR_API_PRESENT(out);
    AR_API(ctx, ar_energy_open(ctx, root, out));
}

int32_t advrob_energy_read(advrob_energy *meter, double *joules) {
    AR_API_PRESENT(meter);
    AR_API_PRESENT(joules);
    AR_API(meter->ctx, ar_energy_read(meter, joules));
}

void advrob_energy_close(advrob_energy *meter) {
    ar_energy_close(meter);
}
