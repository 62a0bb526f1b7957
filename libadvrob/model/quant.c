/* Quantization records: how values and weights are simulated in low precision. */
#include <math.h>
#include <string.h>

#include "model.h"

int32_t ar_quant_set(advrob_model *model, ar_quant *record, int32_t bits, double low, double high,
                     double zero, const ar_real *scales, int32_t count) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    if (bits < 1 || bits > 16 || !(low < high) || !(zero >= low && zero <= high) || count < 1 ||
        fabs(low) > 65536 || fabs(high) > 65536)
        AR_FAIL(ADVROB_E_RANGE,
                "quantization: %d bits, codes %g to %g, zero point %g, %d scales; expected 1 to 16 "
                "bits and the zero point within the codes",
                bits, low, high, zero, count);
    for (int32_t i = 0; i < count; i++)
        if (!isfinite(scales[i]) || scales[i] <= 0)
            AR_FAIL(ADVROB_E_RANGE, "quantization: scale %d is %g, expected a positive number", i,
                    (double)scales[i]);
    AR_TRY(ar_calloc(&model->ctx->memory, (size_t)count, sizeof(ar_real), "scales", &block));
    memcpy(block, scales, sizeof(ar_real) * (size_t)count);
    ar_free(&model->ctx->memory, record->scales);
    *record = (ar_quant){bits, low, high, zero, count, block};
    ar_model_restructured(model);
out:
    return status;
}

void ar_quant_apply(const ar_quant *record, int64_t count, const ar_real *values, ar_real *out) {
    int64_t per = count / record->count;
    for (int64_t i = 0; i < count; i++) {
        ar_real scale = record->scales[i / per];
        if (record->bits == 1 && record->zero == 0 && record->low < 0) { /* a binary weight */
            out[i] = values[i] < 0 ? -scale : scale;
            continue;
        }
        double code = rint((double)(values[i] / scale)) + record->zero;
        code = fmin(fmax(code, record->low), record->high);
        out[i] = (ar_real)(code - record->zero) * scale;
    }
}
