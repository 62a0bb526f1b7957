/* Engines: a quantized model as the integer program that is deployed. lower.h makes one of a model;
 * what is declared here needs none, and is what the inference-only library has
 * (-Dcomponents=engine).
 *
 *     advrob_context_create(NULL, &ctx);
 *     advrob_engine_load(ctx, "net.advrob", &engine);
 *     advrob_engine_run_u8(engine, n, bytes, logits);
 *
 * Between pixels and logits everything is integers, but for the one rule of requantisation: a code
 * is rint((float)sum * scale) + zero, clamped (kernel/kernel.h; Jacob et al. 2018, arXiv
 * 1712.05877, section 2, with a float for the multiplier). The same bits at every CPU level, for
 * any number of threads and any batch. An engine is immutable and may be shared by threads. */
#ifndef ADVROB_ENGINE_H
#define ADVROB_ENGINE_H

#include <advrob/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_engine advrob_engine;

/* An engine's file (docs/file-format.md): flat, with a checksum, the same for all CPUs; written
 * whole or not at all. Any bytes are safe to load. Errors: E_IO, E_FORMAT (cut, damaged, of a later
 * version), E_RANGE (sums that would not fit), E_NOMEM. */
ADVROB_API int32_t advrob_engine_save(const advrob_engine *engine, const char *path);
ADVROB_API int32_t advrob_engine_load(advrob_context *ctx, const char *path, advrob_engine **out);
ADVROB_API void advrob_engine_destroy(advrob_engine *engine); /* NULL is fine */

/* shape: [3], channels, height, width. */
ADVROB_API int32_t advrob_engine_shape(const advrob_engine *engine, int32_t *shape);
ADVROB_API int32_t advrob_engine_classes(const advrob_engine *engine);

/* Bytes of what is made once, and of one workspace: each thread that runs has one, which is made at
 * its first run and kept. Errors: E_INVALID. */
ADVROB_API int32_t advrob_engine_memory(const advrob_engine *engine, int64_t *fixed,
                                        int64_t *workspace);

/* logits [n, classes] for pixels x [n, c, h, w] as the model takes them; they become codes first:
 * of 256 for the box when the model came from quant_ptq, so that 8-bit pixels stay what they are.
 * Errors: E_RANGE (n), E_NOMEM. */
ADVROB_API int32_t advrob_engine_run(advrob_engine *engine, int64_t n, const float *x,
                                     float *logits);

/* The same for images of bytes [n, c, h, w], as they come from a camera or a file: k is the pixel
 * low + k / 255 * (high - low) of the model's box, so k / 255 for most. No float is made of it. */
ADVROB_API int32_t advrob_engine_run_u8(advrob_engine *engine, int64_t n, const uint8_t *x,
                                        float *logits);

#ifdef __cplusplus
}
#endif

#endif
