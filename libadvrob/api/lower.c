/* Engines and models: lowering, and targets on engines. */
#include "engine/lower.h"
#include "api.h"

int32_t advrob_engine_create(advrob_model *model, const advrob_options *options,
                             advrob_engine **out) {
    AR_API_PRESENT(model);
    AR_API_PRESENT(out);
    AR_API(model->ctx, ar_engine_create(model, options, out));
}

int32_t advrob_target_from_engine(advrob_engine *engine, advrob_model *gradients,
                                  advrob_target **out) {
    AR_API_PRESENT(engine);
    AR_API_PRESENT(out);
    AR_API(engine->ctx, ar_target_from_engine(engine, gradients, out));
}
