/* From models to engines, and from engines to targets of attacks.
 *
 *     advrob_compressor_create(ctx, "quant_ptq", NULL, &quant);
 *     advrob_compressor_run(quant, model, train, &quantized);
 *     advrob_engine_create(quantized, NULL, &engine);
 *     advrob_engine_save(engine, "net.advrob");
 */
#ifndef ADVROB_LOWER_H
#define ADVROB_LOWER_H

#include <advrob/engine.h>
#include <advrob/target.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lowers a quantized model (compressor "quant_ptq": weights of 2 to 8 bits, activations of up to 8,
 * the input among them). The model is not changed and no longer needed. Convolutions, linear
 * layers, sums, ReLU, max and average pooling, concatenation, zero channels, flatten and dropout
 * can be lowered. There are no options yet: `options` is NULL or empty. Errors: E_UNSUPPORTED names
 * the node that has no integer form or no quantization point, E_RANGE one whose sums do not fit 32
 * bits, E_UNKNOWN (an option), E_NOMEM. */
ADVROB_API int32_t advrob_engine_create(advrob_model *model, const advrob_options *options,
                                        advrob_engine **out);

/* What an attack sees: the engine's own answers. gradients: the quantized model that it was lowered
 * from, whose straight-through gradients are then used (it is frozen meanwhile); NULL: the target
 * gives none, and attacks by scores or by transfer remain. Errors: E_SHAPE, E_NOMEM. */
ADVROB_API int32_t advrob_target_from_engine(advrob_engine *engine, advrob_model *gradients,
                                             advrob_target **out);

#ifdef __cplusplus
}
#endif

#endif
