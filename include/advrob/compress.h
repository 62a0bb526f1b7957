/* Compressors: a model in, a new smaller model out. The given model is never changed.
 *
 *     advrob_options_set_f64(o, "sparsity", 0.5);
 *     advrob_compressor_create(ctx, "prune_l1", o, &prune);
 *     advrob_compressor_run(prune, base, NULL, &small);
 */
#ifndef ADVROB_COMPRESS_H
#define ADVROB_COMPRESS_H

#include <advrob/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_compressor advrob_compressor;

/* Errors: E_UNKNOWN, E_RANGE. */
ADVROB_API int32_t advrob_compressor_create(advrob_context *ctx, const char *name,
                                            const advrob_options *options, advrob_compressor **out);
ADVROB_API void advrob_compressor_destroy(advrob_compressor *compressor);

/* Called by advrob_compressor_run of a pruning compressor after each of its "steps", on the calling
 * thread, with the net as it is: fine-tune it here, in place, so that the next step rates what was
 * learned. Return 0, or any other number to stop with E_CALLBACK. */
typedef int32_t (*advrob_compress_step_fn)(void *user, int64_t step, int64_t steps,
                                           advrob_model *model);

/* Sets it; NULL: none. Not while the compressor runs. */
ADVROB_API int32_t advrob_compressor_on_step(advrob_compressor *compressor,
                                             advrob_compress_step_fn step, void *user);

/* How good a net is, the higher the better: accuracy on images of its own, clean or attacked, or
 * anything else. Called by advrob_compressor_run and _plan of a compressor with the option
 * "max_drop" (quant_ptq) on the calling thread, first with the float model, then with candidates.
 * The model is the library's, valid during the call: targets on it are fine if they are destroyed
 * before it ends; do not change it. Return 0, or any other number to stop with E_CALLBACK. */
typedef int32_t (*advrob_compress_score_fn)(void *user, advrob_model *model, double *score);

/* Sets it; NULL, the default: accuracy, as the compressor's options say. Not while it runs. */
ADVROB_API int32_t advrob_compressor_on_score(advrob_compressor *compressor,
                                              advrob_compress_score_fn score, void *user);

/* Compresses `model`; `calibration` are training images for compressors that need them (quant_ptq)
 * and may be NULL for others. *out is owned by the caller. Errors: E_INVALID (no calibration, no
 * images to score by), E_SHAPE (calibration images of another shape), E_UNSUPPORTED (a graph that
 * it cannot handle; nothing was cut), E_UNKNOWN (a layer named in an option), E_CALLBACK,
 * E_NONFINITE, E_NOMEM. */
ADVROB_API int32_t advrob_compressor_run(const advrob_compressor *compressor,
                                         const advrob_model *model,
                                         const advrob_dataset *calibration, advrob_model **out);

/* What `run` would do, as text, one line a layer, before anything is cut. That of a pruning
 * compressor can be edited, kept and replayed: it is the option "plan" of compressor prune_plan.
 * That of quant_ptq is a table of what each layer loses (advrob_report_quantization has the same
 * figures as rows).
 * The caller frees *text with advrob_text_destroy(ctx, text). */
ADVROB_API int32_t advrob_compressor_plan(const advrob_compressor *compressor,
                                          const advrob_model *model,
                                          const advrob_dataset *calibration, char **text);
ADVROB_API void advrob_text_destroy(advrob_context *ctx, char *text);

#ifdef __cplusplus
}
#endif

#endif
