/* Compressors: registry and creation. */
#include "prune.h"

#include <string.h>

#define AR_COMPRESSOR(name) &ar_compressor_##name,
static const ar_compressor *const compressors[] = {
#include "compressors.inc"
};
#undef AR_COMPRESSOR

int32_t ar_compressor_count(void) {
    return (int32_t)(sizeof compressors / sizeof compressors[0]);
}

const ar_compressor *ar_compressor_at(int32_t index) {
    return index >= 0 && index < ar_compressor_count() ? compressors[index] : NULL;
}

static const char *name_at(int32_t index) {
    return compressors[index]->name;
}

static int32_t find(const char *name, const ar_compressor **out) {
    int32_t index;
    int32_t status = ar_find_name("compressor", name, ar_compressor_count(), name_at, &index);
    if (status >= 0) *out = compressors[index];
    return status;
}

int32_t ar_compressor_create(advrob_context *ctx, const char *name, const advrob_options *options,
                             ar_gradients_fn gradients, ar_accuracy_fn accuracy,
                             advrob_compressor **out) {
    int32_t status = ADVROB_OK;
    advrob_compressor *compressor = NULL;
    const ar_compressor *kind = NULL;
    void *block = NULL;
    char who[80];
    AR_TRY(find(name, &kind));
    ar_format(who, sizeof who, "compressor %s", kind->name);
    ar_option_scope scope = {"", kind->options};
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *compressor, "compressor", &block));
    compressor = block;
    compressor->ctx = ctx;
    compressor->references = 1;
    compressor->kind = kind;
    compressor->gradients = gradients;
    compressor->accuracy = accuracy;
    ar_context_retain(ctx);
    ar_arena_init(&compressor->arena, &ctx->memory);
    AR_TRY(ar_arena_alloc(&compressor->arena, 1, kind->options->size, "compressor",
                          &compressor->options));
    AR_TRY(
        ar_options_read(options, who, "", kind->options, &compressor->arena, compressor->options));
    *out = compressor;
    compressor = NULL;
out:
    ar_compressor_release(compressor);
    return status;
}

void ar_compressor_release(advrob_compressor *compressor) {
    if (compressor == NULL || --compressor->references > 0) return;
    advrob_context *ctx = compressor->ctx;
    ar_arena_free(&compressor->arena);
    ar_free(&ctx->memory, compressor);
    ar_context_release(ctx);
}

static int32_t check(const advrob_compressor *compressor, const advrob_model *model,
                     const advrob_dataset *calibration) {
    if (compressor->kind->needs_calibration && calibration == NULL)
        return ar_error(ADVROB_E_INVALID, "compressor %s needs calibration images, got none",
                        compressor->kind->name);
    ar_shape in = model->nodes[0].shape;
    const int32_t shape[3] = {in.c, in.h, in.w};
    int32_t status = calibration == NULL
                         ? ADVROB_OK
                         : ar_dataset_check(calibration, "calibration", "the model", shape, 0);
    if (status < 0) return status;
    return ar_model_check_finite(model);
}

static ar_compression make_job(const advrob_compressor *compressor, const advrob_model *model,
                               const advrob_dataset *calibration) {
    return (ar_compression){.ctx = compressor->ctx,
                            .options = compressor->options,
                            .model = model,
                            .calibration = calibration,
                            .gradients = compressor->gradients,
                            .accuracy = compressor->accuracy,
                            .step = compressor->step,
                            .step_user = compressor->step_user,
                            .score = compressor->score,
                            .score_user = compressor->score_user};
}

int32_t ar_compressor_run(const advrob_compressor *compressor, const advrob_model *model,
                          const advrob_dataset *calibration, advrob_model **out) {
    int32_t status = check(compressor, model, calibration);
    ar_compression job = make_job(compressor, model, calibration);
    if (status < 0) return status;
    if (compressor->kind->rate != NULL) return ar_prune_run(&job, compressor->kind->rate, out);
    return compressor->kind->run(&job, out);
}

int32_t ar_compressor_plan(const advrob_compressor *compressor, const advrob_model *model,
                           const advrob_dataset *calibration, ar_buffer *text) {
    int32_t status = check(compressor, model, calibration);
    ar_compression job = make_job(compressor, model, calibration);
    if (status < 0) return status;
    if (compressor->kind->rate != NULL)
        return ar_prune_write_plan(&job, compressor->kind->rate, text);
    return compressor->kind->plan(&job, text);
}
