/* Engines and models: what an engine is made from, and how attacks see it. */
#ifndef AR_LOWER_H
#define AR_LOWER_H

#include <advrob/lower.h>

#include "engine.h"
#include "model/oracle.h"

/* lower.c: there are no options yet. E_UNSUPPORTED names the node that has no integer form, E_RANGE
 * one whose sums do not fit 32 bits; E_UNKNOWN. */
int32_t ar_engine_create(advrob_model *model, const advrob_options *options, advrob_engine **out);
/* From a program of the whole model. value [nodes]: gets the values that quantization points make,
 * -1 where there is none, and the engine keeps them all; NULL: not wanted. */
int32_t ar_engine_lower(const struct ar_program *program, int32_t *value, advrob_engine **out);

/* exact.c: the engine inside a fake-quantized model (simulate = exact). */
extern const struct ar_integers ar_engine_integers;

/* target.c: what an attack sees. `gradients`: the quantized model that the engine was lowered from,
 * for straight-through gradients; NULL: none. */
int32_t ar_target_from_engine(advrob_engine *engine, advrob_model *gradients, advrob_target **out);

#endif
