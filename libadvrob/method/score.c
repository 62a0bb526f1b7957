/* The score of a guarded quantization where the caller gives none: accuracy, clean or under PGD. */
#include "method.h"

int32_t ar_method_score(advrob_model *model, const advrob_dataset *data, double epsilon,
                        double *score) {
    enum { STEPS = 10, GROUP = 256 };
    int32_t status = ADVROB_OK;
    int64_t clean, robust;
    advrob_options *o = NULL;
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    if (epsilon > 0) {
        AR_TRY(ar_options_part(NULL, "", &model->ctx->memory, &o));
        AR_TRY(ar_options_set_f64(o, "epsilon", epsilon));
        AR_TRY(ar_options_set_f64(o, "step", 2.5 * epsilon / STEPS));
        AR_TRY(ar_options_set_i64(o, "steps", STEPS));
        AR_TRY(ar_options_set_i64(o, "early_stop", 1));
        AR_TRY(ar_attack_create(model->ctx, "pgd", o, &attack));
    }
    AR_TRY(ar_target_from_model(model, &target));
    AR_TRY(ar_evaluate(target, data, attack, GROUP, &clean, &robust));
    *score = (double)(attack == NULL ? clean : robust) / (double)data->count;
out:
    ar_target_release(target);
    ar_attack_release(attack);
    ar_options_destroy(o);
    return status;
}
