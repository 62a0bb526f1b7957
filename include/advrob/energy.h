/* Energy: what the processor's packages took, from Linux's powercap counters (intel-rapl; AMD's
 * processors show theirs there too).
 *
 *     if (advrob_energy_open(ctx, NULL, &meter) == ADVROB_OK) {
 *         ... work ...
 *         advrob_energy_read(meter, &joules);
 *     } else {
 *         ... advrob_last_message() says which counter is missing or may not be read
 *     }
 *
 * A meter counts the whole machine, not the process: measure on an idle one. It is not
 * thread-safe. */
#ifndef ADVROB_ENERGY_H
#define ADVROB_ENERGY_H

#include <advrob/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_energy advrob_energy;

/* Opens the counters of all packages: the zones <root>/intel-rapl:N whose name starts with
 * "package" (neither psys nor the parts inside a package). root NULL: "/sys/class/powercap".
 * Errors: E_UNSUPPORTED (no such counter, or it may not be read: most systems let only root;
 * the message names file and errno), E_FORMAT (a counter holds no number), E_NOMEM. */
ADVROB_API int32_t advrob_energy_open(advrob_context *ctx, const char *root, advrob_energy **out);

/* Joules since open, summed over the packages. Counters wrap around after some 10 minutes to
 * hours of full load: read once a minute, and nothing is lost. Errors: E_IO (a counter vanished),
 * E_FORMAT; the meter is then as before. */
ADVROB_API int32_t advrob_energy_read(advrob_energy *meter, double *joules);

/* NULL is fine. */
ADVROB_API void advrob_energy_close(advrob_energy *meter);

#ifdef __cplusplus
}
#endif

#endif
