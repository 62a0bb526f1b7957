/* Reading golden files, and comparing with them. Include support.h first. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "kernel/kernel.h"

#ifndef SOURCE_ROOT
#define SOURCE_ROOT "."
#endif
#define GOLDEN_FOLDER SOURCE_ROOT "/tests/golden"

/* Fails with the library's message. */
#define test_ok(call) \
    do { \
        if ((call) < 0) fail_msg("%s: %s", #call, ar_message()); \
    } while (0)

/* Kernel tables of this machine: every level, and the portable one with BLAS where it was built. */
static inline int32_t test_kernels(const ar_kernels *tables[AR_CPU_COUNT + 1]) {
    int32_t count = 0;
    for (int32_t level = AR_CPU_PORTABLE; level <= ar_cpu_detect(); level++)
        for (int32_t blas = 0; blas < 2; blas++) {
            const ar_kernels *one = ar_kernels_get(level, blas != 0);
            bool known = false;
            for (int32_t i = 0; i < count; i++)
                known = known || tables[i] == one;
            if (!known) tables[count++] = one;
        }
    return count;
}

static inline void golden_open(advrob_context *ctx, const char *folder, const char *name,
                               ar_safetensors *file) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", GOLDEN_FOLDER, folder, name);
    test_ok(ar_safetensors_read(ctx, path, file));
}

/* NULL when the file has no such tensor. Freed by the caller. */
static inline ar_real *golden_try(const ar_safetensors *file, const char *name, int64_t *count) {
    const ar_stored *stored = ar_safetensors_find(file, name);
    if (stored == NULL) return NULL;
    ar_real *values = malloc(sizeof(ar_real) * (size_t)(stored->count + 1));
    assert_non_null(values);
    test_ok(ar_stored_copy(stored, "golden", values));
    if (count != NULL) *count = stored->count;
    return values;
}

static inline ar_real *golden_get(const ar_safetensors *file, const char *name, int64_t *count) {
    ar_real *values = golden_try(file, name, count);
    if (values == NULL) fail_msg("golden file without %s", name);
    return values;
}

/* I64 tensors, as labels. */
static inline int32_t *golden_labels(const ar_safetensors *file, const char *name, int64_t *count) {
    const ar_stored *stored = ar_safetensors_find(file, name);
    if (stored == NULL || strcmp(stored->dtype, "I64") != 0) fail_msg("no I64 tensor %s", name);
    int32_t *labels = malloc(sizeof(int32_t) * (size_t)(stored->count + 1));
    assert_non_null(labels);
    for (int64_t i = 0; i < stored->count; i++) {
        int64_t value;
        memcpy(&value, stored->data + 8 * i, sizeof value);
        labels[i] = (int32_t)value;
    }
    if (count != NULL) *count = stored->count;
    return labels;
}

static inline int32_t golden_int(const ar_safetensors *file, const char *key, int32_t missing) {
    const char *text = ar_safetensors_metadata(file, key);
    return text == NULL ? missing : atoi(text);
}

/* Largest difference as a part of the largest expected value; infinite where something is not a
 * number. */
static inline double test_deviation(int64_t n, const ar_real *got, const ar_real *expected) {
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - (double)expected[i]);
        if (isnan(off)) return INFINITY;
        worst = fmax(worst, off);
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return worst == 0 ? 0 : worst / largest;
}

/* Checks a deviation against its tolerance and keeps the largest in *worst. */
static inline void test_within(const char *where, const char *what, double deviation,
                               double tolerance, double *worst) {
    if (!(deviation <= tolerance))
        fail_msg("%s: %s is off by %g of the largest, allowed %g", where, what, deviation,
                 tolerance);
    if (worst != NULL && deviation > *worst) *worst = deviation;
}

#endif
