/* Compressors. */
#include "api.h"

int32_t advrob_compressor_create(advrob_context *ctx, const char *name,
                                 const advrob_options *options, advrob_compressor **out) {
    AR_API_PRESENT(name);
    AR_API_PRESENT(out);
    AR_API(ctx,
           ar_compressor_create(ctx, name, options, ar_method_gradients, ar_method_score, out));
}

void advrob_compressor_destroy(advrob_compressor *compressor) {
    ar_compressor_release(compressor);
}

int32_t advrob_compressor_on_step(advrob_compressor *compressor, advrob_compress_step_fn step,
                                  void *user) {
    AR_API_PRESENT(compressor);
    compressor->step = step;
    compressor->step_user = user;
    return ADVROB_OK;
}

int32_t advrob_compressor_on_score(advrob_compressor *compressor, advrob_compress_score_fn score,
                                   void *user) {
    AR_API_PRESENT(compressor);
    compressor->score = score;
    compressor->score_user = user;
    return ADVROB_OK;
}

int32_t advrob_compressor_run(const advrob_compressor *compressor, const advrob_model *model,
                              const advrob_dataset *calibration, advrob_model **out) {
    AR_API_PRESENT(compressor);
    AR_API_PRESENT(model);
    AR_API_PRESENT(out);
    AR_API(compressor->ctx, ar_compressor_run(compressor, model, calibration, out));
}

static int32_t plan(const advrob_compressor *compressor, const advrob_model *model,
                    const advrob_dataset *calibration, char **text) {
    ar_buffer buffer;
    ar_buffer_init(&buffer, &compressor->ctx->memory);
    int32_t status = ar_compressor_plan(compressor, model, calibration, &buffer);
    if (status < 0)
        ar_buffer_free(&buffer);
    else
        *text = buffer.data;
    return status;
}

int32_t advrob_compressor_plan(const advrob_compressor *compressor, const advrob_model *model,
                               const advrob_dataset *calibration, char **text) {
    AR_API_PRESENT(compressor);
    AR_API_PRESENT(model);
    AR_API_PRESENT(text);
    AR_API(compressor->ctx, plan(compressor, model, calibration, text));
}

void advrob_text_destroy(advrob_context *ctx, char *text) {
    if (ctx != NULL) ar_free(&ctx->memory, text);
}
