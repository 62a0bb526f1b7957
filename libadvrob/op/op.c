/* The operators' and losses' registries, and what losses share. */
#include "op.h"

#include <math.h>
#include <string.h>

#include "loss.h"

#define AR_OP(name) &ar_op_##name,
static const ar_op *const ops[] = {
#include "ops.inc"
};
#undef AR_OP

#define AR_LOSS(name) &ar_loss_##name,
static const ar_loss *const losses[] = {
#include "losses.inc"
};
#undef AR_LOSS

const char *const ar_parameter_suffix[AR_MAX_PARAMETERS] = {".weight", ".bias", ".running_mean",
                                                            ".running_var", ".border_bias"};

void ar_op_attributes_fill(ar_attributes *a) {
    for (int32_t axis = 0; axis < 2; axis++) {
        if (a->kernel[axis] == 0) a->kernel[axis] = 1;
        if (a->stride[axis] == 0) a->stride[axis] = 1;
        if (a->dilation[axis] == 0) a->dilation[axis] = 1;
    }
    if (a->groups == 0) a->groups = 1;
}

void ar_op_hand_on(const ar_kernels *kernels, int64_t n, const ar_real *dy, ar_real *dx,
                   bool accumulate) {
    if (accumulate)
        kernels->add(n, dx, dy, dx);
    else
        memcpy(dx, dy, sizeof(ar_real) * (size_t)n);
}

bool ar_op_share(const ar_op_call *call, int32_t n, ar_span *out) {
    int32_t parts = call->parts > 1 ? call->parts : 1;
    out->begin = (int32_t)((int64_t)n * call->part / parts);
    out->end = (int32_t)((int64_t)n * (call->part + 1) / parts);
    return out->begin < out->end;
}

int32_t ar_op_count(void) {
    return (int32_t)(sizeof ops / sizeof ops[0]);
}

const ar_op *ar_op_at(int32_t index) {
    return index >= 0 && index < ar_op_count() ? ops[index] : NULL;
}

const ar_op *ar_op_find(const char *name) {
    for (int32_t i = 0; i < ar_op_count(); i++)
        if (strcmp(ops[i]->name, name) == 0) return ops[i];
    return NULL;
}

int32_t ar_loss_count(void) {
    return (int32_t)(sizeof losses / sizeof losses[0]);
}

const ar_loss *ar_loss_at(int32_t index) {
    return index >= 0 && index < ar_loss_count() ? losses[index] : NULL;
}

const ar_loss *ar_loss_find(const char *name) {
    for (int32_t i = 0; i < ar_loss_count(); i++)
        if (strcmp(losses[i]->name, name) == 0) return losses[i];
    return NULL;
}

int32_t ar_argmax(int32_t classes, const float *z) {
    int32_t best = 0;
    for (int32_t i = 0; i < classes; i++) {
        if (isnan(z[i])) return -1;
        if (z[i] > z[best]) best = i;
    }
    return best;
}

/* What is smaller moves no weight, but its way back through the net would be among subnormals,
 * which take a hundred times as long: a sure net's whole gradient may lie there. */
#define LEAST_GRADIENT 0x1p-90

void ar_loss_batch(const ar_loss *loss, int64_t n, int32_t classes, const float *logits,
                   const int32_t *y, const int32_t *targets, double *scratch, double *losses_out,
                   float *dlogits, bool scaled, double factor) {
    for (int64_t i = 0; i < n; i++) {
        double value = loss->sample(classes, logits + i * classes, y[i],
                                    targets != NULL ? targets[i] : -1, scratch);
        if (losses_out != NULL) losses_out[i] = value;
        if (dlogits == NULL) continue;
        double largest = 0;
        int exponent = 0;
        for (int32_t k = 0; k < classes; k++)
            largest = fmax(largest, fabs(scratch[k]));
        if (largest > 0) frexp(largest, &exponent);
        for (int32_t k = 0; k < classes; k++) {
            /* ldexp: the power itself may be no double */
            double d = scaled ? ldexp(scratch[k], -exponent) : scratch[k] * factor;
            dlogits[i * classes + k] = fabs(d) < LEAST_GRADIENT ? 0 : (float)d;
        }
    }
}
