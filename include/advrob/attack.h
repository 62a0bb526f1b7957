/* Attacks: find images near the given ones that the target gets wrong.
 *
 *     advrob_options_set_f64(o, "epsilon", 0.05);
 *     advrob_attack_create(ctx, "pgd", o, &pgd);
 *     advrob_attack_run(pgd, target, n, x, y, adversarial, predictions, NULL);
 *
 * Every sample's result is a function of (seed, sample, options) alone: not of its batch, of the
 * number of threads or of the machine's load. An attack is immutable and may be shared. */
#ifndef ADVROB_ATTACK_H
#define ADVROB_ATTACK_H

#include <advrob/target.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_attack advrob_attack;

/* Creates attack `name` (advrob_component_name_at("attack", i)). Errors: E_UNKNOWN, E_RANGE. */
ADVROB_API int32_t advrob_attack_create(advrob_context *ctx, const char *name,
                                        const advrob_options *options, advrob_attack **out);
ADVROB_API void advrob_attack_destroy(advrob_attack *attack);

/* Attacks n samples: pixels x [n, c, h, w] with true labels y [n].
 * adversarial [n, c, h, w]: |adversarial - x| <= epsilon holds exactly in float32 and, with
 * "clip", all pixels are in the target's box. May be NULL when only the verdicts matter; may not
 * overlap x otherwise.
 * predictions [n] (or NULL): the target's answer to exactly the returned images; sample i was
 * fooled if predictions[i] != y[i]. losses [n] (or NULL): the attack's loss there.
 * Sample i draws its random numbers by its index i plus the option "first_sample".
 * Errors: E_RANGE (label, pixel out of the box), E_NONFINITE, E_UNSUPPORTED (no gradient),
 * E_CANCELLED, E_CALLBACK, E_NOMEM. On error the outputs are undefined. */
ADVROB_API int32_t advrob_attack_run(const advrob_attack *attack, advrob_target *target, int64_t n,
                                     const float *x, const int32_t *y, float *adversarial,
                                     int32_t *predictions, double *losses);

/* The same towards the classes targets [n]: sample i is fooled if predictions[i] == targets[i]. The
 * attack must have been created with its option "targeted". Errors also: E_INVALID (it was not),
 * E_RANGE (no class, or the label itself). */
ADVROB_API int32_t advrob_attack_run_targeted(const advrob_attack *attack, advrob_target *target,
                                              int64_t n, const float *x, const int32_t *y,
                                              const int32_t *targets, float *adversarial,
                                              int32_t *predictions, double *losses);

#ifdef __cplusplus
}
#endif

#endif
