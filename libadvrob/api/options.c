/* Options as the caller sets them. */
#include "entry.h"

int32_t advrob_options_create(advrob_options **out) {
    AR_API_PRESENT(out);
    return ar_options_create(NULL, NULL, out);
}

int32_t advrob_options_create_with(advrob_alloc_fn alloc, void *user, advrob_options **out) {
    AR_API_PRESENT(alloc);
    AR_API_PRESENT(out);
    return ar_options_create(alloc, user, out);
}

void advrob_options_destroy(advrob_options *options) {
    ar_options_destroy(options);
}

int32_t advrob_options_set_f64(advrob_options *options, const char *name, double value) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    return ar_options_set_f64(options, name, value);
}

int32_t advrob_options_set_i64(advrob_options *options, const char *name, int64_t value) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    return ar_options_set_i64(options, name, value);
}

int32_t advrob_options_set_str(advrob_options *options, const char *name, const char *value) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    AR_API_PRESENT(value);
    return ar_options_set_str(options, name, value);
}

int32_t advrob_options_set_f64_array(advrob_options *options, const char *name,
                                     const double *values, size_t count) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    if (count > 0) AR_API_PRESENT(values);
    return ar_options_set_f64_array(options, name, values, count);
}

int32_t advrob_options_set_handle(advrob_options *options, const char *name, void *handle) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    return ar_options_set_handle(options, name, handle);
}

int32_t advrob_options_append(advrob_options *options, const char *name, const char *component,
                              const advrob_options *sub) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    AR_API_PRESENT(component);
    return ar_options_append(options, name, component, sub);
}

int32_t advrob_options_set_text(advrob_options *options, const char *name, const char *text) {
    AR_API_PRESENT(options);
    AR_API_PRESENT(name);
    AR_API_PRESENT(text);
    return ar_options_set_text(options, name, text);
}
